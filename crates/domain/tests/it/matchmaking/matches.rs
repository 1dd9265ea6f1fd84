use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{Stage, Status};
use sortie_domain::matchmaking::settings::Queue;
use sortie_domain::matchmaking::{Command, Effect};
use sortie_domain::properties::Properties;

use super::table::{Table, ids, player_id, secs, spec, with_properties};

fn accepting() -> Table {
    let mut table = Table::with(Queue { accept: Some(secs(10)), ..Queue::default() });
    for who in ["ann", "bob", "cat"] {
        table.solo(who);
    }
    table.tick();
    table
}

#[test]
fn a_match_is_formed_when_all_players_have_accepted_it() {
    let mut table = accepting();
    assert_eq!(table.formed().len(), 0);
    assert_eq!(table.status("ann"), Status::InProgress);
    let id = table.formation().id;
    let accept = |who: &str| Command::Accept { match_id: id.clone(), player: player_id(who) };
    table.ok(accept("ann"));
    table.ok(accept("ann"));
    table.refused("not_in_match", accept("cat"));
    assert_eq!(table.formed().len(), 0);
    table.ok(accept("bob"));
    assert_eq!(table.together(), [ids(&["ann", "bob"])]);
    table.refused("nothing_to_accept", accept("bob"));
    assert!(matches!(table.effects.last(), Some(Effect::Submit { .. })));
}

#[test]
fn every_match_of_a_queue_has_its_properties() {
    let properties = Properties::parse(r#"{"game":"arena","version":"1"}"#).unwrap();
    let mut table = Table::with(Queue { properties, ..Queue::default() });
    table.start("ann", with_properties(r#"{"game":"other","map":"cave"}"#, spec(&["ann"])));
    table.start("bob", with_properties(r#"{"map":"cave"}"#, spec(&["bob"])));
    table.tick();
    let found = table.formation().spec.properties.clone();
    assert_eq!(found.text(), Some(r#"{"game":"arena","map":"cave","queue_name":"q","version":"1"}"#));
}

#[test]
fn who_declines_leaves_and_the_others_go_back_to_their_places() {
    let mut table = accepting();
    let id = table.formation().id;
    table.ok(Command::Decline { match_id: id.clone(), player: player_id("ann") });
    assert_eq!(table.status("ann"), Status::Cancelled);
    table.tick();
    let next = table.formation();
    assert_eq!(next.teams[0][0].ticket.as_str(), "bob", "bob is the oldest now");
    table.refused("match_not_found", Command::Accept { match_id: id, player: player_id("bob") });
    assert_eq!(table.heard("bob"), [Status::InProgress], "there was nothing to tell bob");
}

#[test]
fn who_does_not_answer_in_time_leaves_too() {
    let mut table = accepting();
    let id = table.formation().id;
    table.ok(Command::Accept { match_id: id.clone(), player: player_id("bob") });
    table.restart();
    table.advance(secs(11));
    assert_eq!(table.status("ann"), Status::Cancelled);
    assert_eq!(table.status("bob"), Status::InProgress);
    let next = table.formation();
    assert!(matches!(next.stage, Stage::Accepting { .. }));
    assert_eq!(next.tickets().count(), 2);
}

#[test]
fn a_match_that_ends_before_it_is_ready_counts_as_one_without_a_server() {
    let mut table = Table::with(Queue { max_requeues: 0, ..Queue::default() });
    table.solo("ann");
    table.start("duo", spec(&["bob"]));
    table.tick();
    let match_id = table.match_of("ann");
    table.done(Command::MatchEnded { match_id, reason: "the server exited".into() });
    assert_eq!((table.status("ann"), table.status("duo")), (Status::Failed, Status::Failed));
    assert!(format!("{:?}", table.find("ann").state).contains("MatchFailed"));
    assert_eq!(table.maker.formations().count(), 0);
}

#[test]
fn what_is_outstanding_is_listed_until_its_outcome_comes_back() {
    let mut table = accepting();
    assert_eq!(table.maker.outstanding().len(), 0, "nothing but players is waited for");
    let id = table.formation().id;
    for who in ["ann", "bob"] {
        table.ok(Command::Accept { match_id: id.clone(), player: player_id(who) });
    }
    table.restart();
    assert!(matches!(table.maker.outstanding()[..], [Effect::Submit { .. }]));
    table.done(Command::Submitted { match_id: id.clone() });
    assert_eq!(table.maker.outstanding().len(), 0);
    table.cancel("ann");
    assert!(matches!(table.maker.outstanding()[..], [Effect::Withdraw { .. }]));
    table.done(Command::Withdrawn { match_id: id });
    assert_eq!(table.maker.outstanding().len(), 0);
}
