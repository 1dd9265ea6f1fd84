//! What one player sends costs the others next to nothing: work is counted, and excess work is left for later.

use sortie_domain::ids::MatchId;
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{MAX_BLOCKED, SeatOffer, Status, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Backfill, Need, Queue, Rule, RuleKind};
use sortie_domain::properties::Properties;

use super::rules::equal;
use super::table::{Table, ids, player_id, queue_id, spec, with_properties};

fn expression(expression: &str) -> Rule {
    let kind =
        RuleKind::Expression { expression: expression.into(), about: About::Pair, need: Need::Required };
    Rule::new("expression", kind)
}

/// An array of this many bytes, which takes far more as a tree.
fn array(bytes: usize) -> String {
    format!("[{}1]", "1,".repeat(bytes / 2 - 2))
}

#[test]
fn where_expressions_look_at_tickets_these_are_small() {
    let queue = Queue { rules: vec![expression("ticket.size == candidate.size")], ..Queue::default() };
    let mut table = Table::with(queue);
    let large = with_properties(&format!(r#"{{"a":{}}}"#, array(17_000)), spec(&["ann"]));
    let text = table.refused("too_large", Command::Start { id: None, spec: large });
    assert!(text.contains("16384"), "{text}");
    let mut of_player = spec(&["ann"]);
    of_player.parties[0].players[0].properties =
        Properties::parse(&format!(r#"{{"a":{}}}"#, array(17_000))).unwrap();
    table.refused("too_large", Command::Start { id: None, spec: of_player });
    for who in ["bob", "cat"] {
        table.start(who, with_properties(&format!(r#"{{"a":{}}}"#, array(15_000)), spec(&[who])));
    }
    table.tick();
    assert_eq!(table.together(), [ids(&["bob", "cat"])]);
}

#[test]
fn equal_values_of_any_length_are_told_by_what_they_are() {
    let mut table = Table::with(Queue { rules: vec![equal("map")], ..Queue::default() });
    let long = |what: &str| format!(r#"{{"map":"{}{what}"}}"#, "x".repeat(60_000));
    for (who, json) in [
        ("a", long("a")),
        ("b", long("b")),
        ("c", long("a")),
        ("d", r#"{"map":{"x":[1],"y":2}}"#.into()),
        ("e", r#"{ "map" : {"y":2, "x":[ 1 ]} }"#.into()),
        ("f", r#"{"map":1}"#.into()),
        ("g", r#"{"m\u0061p":1.0}"#.into()),
        ("h", r#"{"map":null}"#.into()),
        ("i", "{}".into()),
    ] {
        table.start(who, with_properties(&json, spec(&[who])));
    }
    table.tick();
    let found: std::collections::BTreeSet<_> = table.together().into_iter().collect();
    let pairs = [["a", "c"], ["d", "e"], ["f", "g"], ["h", "i"]];
    assert_eq!(found, pairs.iter().map(|pair| ids(pair)).collect());
}

#[test]
fn blocked_players_are_kept_apart_however_long_the_lists() {
    let not_blocked = Rule::new("blocked", RuleKind::NotBlocked);
    let backfill = Backfill::First;
    let mut table = Table::with(Queue { rules: vec![not_blocked], backfill, ..Queue::default() });
    let blocking = |who: &str, whom: &str| {
        let mut spec = spec(&[who]);
        let others = (1..MAX_BLOCKED).map(|n| player_id(&format!("{who}-{n}")));
        spec.parties[0].players[0].blocked = others.chain([player_id(whom)]).collect();
        spec
    };
    table.start("ann", blocking("ann", "bob"));
    table.solo("bob");
    table.tick();
    assert_eq!(table.together().len(), 0);
    let offer = |id: &str, player: &str| SeatOffer {
        match_id: MatchId::new(id).unwrap(),
        queue: queue_id("q"),
        seats: 1,
        region: None,
        properties: Properties::default(),
        ratings: Default::default(),
        players: (0..999).map(|n| player_id(&format!("x{n}"))).chain([player_id(player)]).collect(),
    };
    // Neither where a blocked player plays, nor where she plays already.
    table.done(Command::OfferSeats { offer: offer("m1", "bob") });
    table.tick();
    assert_eq!(table.status("ann"), Status::InProgress);
    assert_eq!(table.status("bob"), Status::InProgress);
    table.done(Command::OfferSeats { offer: offer("m2", "zoe") });
    table.tick();
    assert_eq!(table.status("ann"), Status::FindingServer);
}

/// Looking at a ticket counts as work; tickets whose turn does not come are looked at in the next ticks.
#[test]
fn large_tickets_take_ticks_of_their_own_and_all_get_their_match() {
    let mut table = Table::with(Queue { rules: vec![equal("map")], ..Queue::default() });
    let large = |n: usize| {
        let json = format!(r#"{{"blob":{},"map":"{}"}}"#, array(60_000), n / 2);
        with_properties(&json, spec(&[&format!("p{n:03}")]))
    };
    for n in 0..100 {
        table.start(&format!("p{n:03}"), large(n));
    }
    for who in ["ann", "bob"] {
        table.start(who, TicketSpec { ..with_properties(r#"{"map":"small"}"#, spec(&[who])) });
    }
    table.now += 100;
    let mut steps = 0;
    while table.maker.backlog() > 0 {
        let before = table.formed().len();
        table.advance_once();
        steps += 1;
        assert!(table.formed().len() - before <= 50, "one tick bounds its work");
    }
    assert!(steps > 1, "{steps}");
    assert_eq!(table.formed().len(), 51);
    assert_eq!(table.together().last(), Some(&ids(&["ann", "bob"])));
}
