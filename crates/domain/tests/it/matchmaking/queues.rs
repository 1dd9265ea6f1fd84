use std::time::Duration;

use sortie_domain::matchmaking::model::Status;
use sortie_domain::matchmaking::settings::{ExpirationAction, Queue};
use sortie_domain::matchmaking::{Command, Settings};

use super::table::{Table, ids, secs, settings, spec};

fn teams(teams: u32, most: u32, least: u32) -> Queue {
    Queue {
        teams,
        players_per_team: most,
        min_players_per_team: least,
        ticket_expiration: secs(60),
        ..Queue::default()
    }
}

#[test]
fn players_of_a_ticket_land_on_one_team() {
    let mut table = Table::with(teams(2, 3, 3));
    table.start("trio", spec(&["a", "b", "c"]));
    table.start("duo", spec(&["d", "e"]));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.solo("solo");
    table.tick();
    let formed = table.formed();
    let mut formed: Vec<Vec<String>> = formed[0].clone();
    formed.iter_mut().for_each(|team| team.sort());
    formed.sort();
    assert_eq!(formed, [vec!["duo".to_string(), "solo".into()], vec!["trio".into()]]);
}

#[test]
fn parties_that_cannot_fill_the_teams_wait_for_those_who_can() {
    let mut table = Table::with(teams(2, 5, 5));
    for trio in ["t1", "t2", "t3", "t4"] {
        let players: Vec<String> = (0..3).map(|n| format!("{trio}-{n}")).collect();
        table.start(trio, spec(&players.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    table.tick();
    assert_eq!(table.formed().len(), 0, "3 + 3 is no team of five");
    table.start("duo", spec(&["a", "b"]));
    table.solo("c");
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.solo("d");
    table.tick();
    assert_eq!(table.together(), [ids(&["t1", "t2", "duo", "c", "d"])]);
}

#[test]
fn the_size_asked_for_sinks_as_a_ticket_nears_expiry() {
    // From five to three in two steps: after 20 and after 40 of 60 seconds.
    let mut table = Table::with(teams(2, 5, 3));
    for n in 0..6 {
        table.solo(&format!("p{n}"));
    }
    table.advance(Duration::from_millis(39_900));
    assert_eq!(table.formed().len(), 0);
    table.advance(secs(1));
    assert_eq!(table.formed().len(), 1);
    assert!(table.formed()[0].iter().all(|team| team.len() == 3));
}

#[test]
fn larger_teams_come_before_smaller_ones() {
    let mut table = Table::with(teams(2, 2, 1));
    for n in 0..4 {
        table.solo(&format!("p{n}"));
    }
    table.tick();
    assert!(table.formed()[0].iter().all(|team| team.len() == 2), "{:?}", table.formed());
}

#[test]
fn a_ticket_that_expires_gets_whoever_is_there_where_the_queue_says_so() {
    let queue = |action| Queue { expiration_action: action, ..teams(2, 4, 1) };
    for (action, formed) in [(ExpirationAction::Drop, 0), (ExpirationAction::Minimum, 1)] {
        let mut table = Table::with(queue(action));
        table.start("trio", spec(&["a", "b", "c"]));
        table.advance(secs(30));
        table.solo("d");
        table.advance(secs(31));
        // Three against one: teams of equal size are impossible.
        assert_eq!(table.formed().len(), formed, "{action:?}");
        let status = if formed == 1 { Status::FindingServer } else { Status::TimedOut };
        assert_eq!(table.status("trio"), status);
    }
}

#[test]
fn without_teams_whoever_is_there_plays_at_the_deadline() {
    let mut table = Table::with(Queue { expiration_action: ExpirationAction::Minimum, ..teams(0, 0, 0) });
    table.solo("a");
    table.advance(secs(10));
    table.start("duo", spec(&["b", "c"]));
    table.advance(secs(49));
    assert_eq!(table.formed().len(), 0);
    table.advance(secs(2));
    assert_eq!(table.together(), [ids(&["a", "duo"])]);
    let mut table = Table::with(Queue { expiration_action: ExpirationAction::Minimum, ..teams(0, 2, 2) });
    table.solo("alone");
    table.advance(secs(61));
    assert_eq!(table.status("alone"), Status::TimedOut, "the queue wants two");
}

#[test]
fn one_team_is_a_match_without_teams() {
    let mut table = Table::with(teams(1, 4, 4));
    table.start("duo", spec(&["a", "b"]));
    table.solo("c");
    table.solo("d");
    table.tick();
    assert_eq!(table.formed()[0].len(), 1);
    assert_eq!(table.together(), [ids(&["duo", "c", "d"])]);
}

#[test]
fn the_oldest_are_matched_first() {
    let mut table = Table::with(teams(2, 1, 1));
    for n in 0..5 {
        table.solo(&format!("p{n}"));
    }
    table.tick();
    assert_eq!(table.together(), [ids(&["p0", "p1"]), ids(&["p2", "p3"])]);
}

#[test]
fn settings_that_make_no_sense_are_refused_with_the_reason() {
    let mut table = Table::with(Queue::default());
    let mut refuse = |queue: Queue, expected: &str| {
        let text =
            table.refused("invalid_field", Command::Configure { settings: settings([("bad", queue)]) });
        assert!(text.contains("queue bad") && text.contains(expected), "{text}");
    };
    refuse(teams(2, 0, 0), "players_per_team");
    refuse(teams(2, 2, 3), "min_players_per_team");
    refuse(teams(2, 2, 0), "min_players_per_team");
    refuse(teams(100, 100, 1), "10000 players");
    refuse(Queue { ticket_expiration: Duration::ZERO, ..Queue::default() }, "ticket_expiration");
    refuse(Queue { accept: Some(Duration::ZERO), ..Queue::default() }, "accept");
    let text = table.refused(
        "invalid_field",
        Command::Configure { settings: Settings { tick: secs(61), ..Settings::default() } },
    );
    assert!(text.contains("`tick`"), "{text}");
}

#[test]
fn a_party_larger_than_a_team_is_refused() {
    let mut table = Table::with(teams(2, 2, 2));
    let text = table.refused("invalid_field", Command::Start { id: None, spec: spec(&["a", "b", "c"]) });
    assert!(text.contains("at most 2"), "{text}");
}
