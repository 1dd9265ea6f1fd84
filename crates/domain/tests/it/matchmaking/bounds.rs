//! No step is larger than a log accepts, for any tickets and hooks; what is too large on its own is refused alone.

use std::collections::BTreeMap;

use sortie_domain::machine::{Machine, STEP_BYTES};
use sortie_domain::match_spec::MAX_MATCH_BYTES;
use sortie_domain::matchmaking::model::{Player, Status, TicketSpec};
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, Queue, Settings};
use sortie_domain::matchmaking::{Command, Effect, Event, FormedMatch, MatchVerdict, Reply};
use sortie_domain::properties::Properties;
use sortie_domain::size::Size;

use super::table::{Table, hook_id, outside, player_id, queue_id, secs, settings, spec, ticket_id};

fn fives() -> Queue {
    Queue { teams: 2, players_per_team: 5, min_players_per_team: 5, ..Queue::default() }
}

/// A match of all players in one team.
fn crowd() -> Queue {
    Queue { teams: 1, players_per_team: 200, min_players_per_team: 200, ..Queue::default() }
}

fn filled(bytes: usize) -> Properties {
    Properties::parse(&format!(r#"{{"blob":"{}"}}"#, "x".repeat(bytes))).unwrap()
}

/// A ticket of this many players, each of whom brings this many bytes.
fn heavy(who: &str, players: usize, bytes: usize) -> TicketSpec {
    let names: Vec<String> = (0..players).map(|n| format!("{who}-{n}")).collect();
    let mut spec = spec(&names.iter().map(String::as_str).collect::<Vec<_>>());
    for player in &mut spec.parties[0].players {
        player.properties = filled(bytes);
    }
    spec
}

fn formed_bytes(table: &Table) -> Vec<usize> {
    let formed = table.log.iter().filter_map(|record| match &record.event {
        Event::MatchFormed { spec, .. } => Some(spec.byte_size()),
        _ => None,
    });
    formed.collect()
}

#[test]
fn a_tick_leaves_matches_to_the_next_once_its_step_is_full() {
    let mut table = Table::with(fives());
    for n in 0..68 {
        let who = format!("t{n:02}");
        table.start(&who, heavy(&who, 5, 62_000));
    }
    table.tick();
    let formed = formed_bytes(&table);
    assert_eq!(formed.len(), 34, "all of them play, the oldest first");
    assert!(formed.iter().sum::<usize>() > 16 << 20, "together more than a log takes at once");
    let first = table.match_of("t00");
    assert_eq!(table.match_of("t01"), first);
    assert!(table.largest_step <= STEP_BYTES + MAX_MATCH_BYTES, "{}", table.largest_step);
}

fn asked(table: &Table) -> Option<(u64, usize)> {
    table.maker.outstanding().into_iter().find_map(|effect| match effect {
        Effect::FormMatches { queue, round, .. } => {
            Some((round, table.maker.asked_about(&queue, round)?.len()))
        }
        _ => None,
    })
}

/// Tickets of five players, and a hook that is asked to pair them.
fn to_be_paired(count: usize) -> (Table, Vec<Result<FormedMatch, String>>) {
    let hooks = vec![outside("f", HookPoint::FormMatch, OnFailure::Refuse)];
    let mut table = Table::with(Queue { hooks, ..fives() });
    let names: Vec<String> = (0..count).map(|n| format!("t{n:03}")).collect();
    for who in &names {
        table.start(who, heavy(who, 5, 62_000));
    }
    table.tick();
    let pairs = names.chunks(2).map(|two| FormedMatch {
        teams: vec![vec![ticket_id(&two[0])], vec![ticket_id(&two[1])]],
        region: None,
    });
    let pairs = pairs.map(Ok).collect();
    (table, pairs)
}

#[test]
fn a_hooks_long_answer_is_taken_over_in_parts() {
    let (mut table, pairs) = to_be_paired(260);
    let (round, _) = asked(&table).expect("a round");
    let answer = Command::MatchesFormed { queue: queue_id("q"), round, matches: Some(pairs.clone()) };
    let Reply::Formed { taken, ignored, left } = table.ok(answer.clone()) else { panic!() };
    assert!(taken > 0 && ignored.is_empty() && taken + left == 130, "{taken} {ignored:?} {left}");
    // Repeating it counts only once.
    table.done(answer);
    table.advance(secs(0));
    assert_eq!(formed_bytes(&table).len(), 130);
    assert!(formed_bytes(&table).iter().sum::<usize>() > 16 << 20);
    assert!(table.largest_step <= STEP_BYTES + MAX_MATCH_BYTES, "{}", table.largest_step);
    assert_eq!(asked(&table), None, "the round is over");
}

#[test]
fn what_is_left_of_an_answer_is_asked_about_again_after_a_restart() {
    let (mut table, pairs) = to_be_paired(260);
    let (round, all) = asked(&table).expect("a round");
    let answer = Command::MatchesFormed { queue: queue_id("q"), round, matches: Some(pairs.clone()) };
    let Reply::Formed { taken, .. } = table.ok(answer.clone()) else { panic!() };
    table.restart();
    let (again, waiting) = asked(&table).expect("the round is open");
    assert_eq!(again, round);
    assert!(waiting <= all);
    table.ok(answer);
    table.advance(secs(0));
    assert!(taken > 0 && formed_bytes(&table).len() == 130);
}

#[test]
fn the_rest_of_an_answer_is_asked_about_again_when_the_time_of_its_round_is_over() {
    let (mut table, pairs) = to_be_paired(260);
    let (round, _) = asked(&table).expect("a round");
    let answer = Command::MatchesFormed { queue: queue_id("q"), round, matches: Some(pairs) };
    table.ok(answer);
    // The process sleeps for longer than the hook's timeout.
    table.now += 6_000;
    for _ in 0..200 {
        table.advance(secs(0));
    }
    let formed = formed_bytes(&table).len();
    assert!(formed > 0);
    if formed < 130 {
        table.tick();
        assert!(asked(&table).is_some_and(|(next, _)| next == round + 1), "the others are asked about again");
    }
}

#[test]
fn a_ticket_is_as_large_as_the_largest_match_of_its_queue_has_room_for() {
    let hooks = vec![Hook::TeamData, Hook::PartyMembership];
    let mut table = Table::with(Queue { hooks, ..crowd() });
    let text = table.refused("too_large", Command::Start { id: None, spec: heavy("big", 1, 62_000) });
    assert!(text.contains("queue q"), "{text}");
    let limit: usize =
        text.split("players may take ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((19_000..21_000).contains(&limit), "{text}");
    // Each brings as much as is allowed.
    let overhead = limit - 900;
    for n in 0..200 {
        let who = format!("p{n:04}");
        table.start(&who, heavy(&who, 1, overhead));
    }
    table.tick();
    let [bytes] = formed_bytes(&table)[..] else { panic!("one match") };
    assert!((MAX_MATCH_BYTES / 2..MAX_MATCH_BYTES).contains(&bytes), "{bytes}");
    let spec = table.formation().spec;
    assert!(spec.player_properties[&player_id("p0000-0")].text().unwrap().contains(r#""party":{"#));
}

#[test]
fn tickets_that_a_larger_match_has_no_room_for_fail_alone() {
    let mut table = Table::with(fives());
    table.start("big", heavy("big", 1, 62_000));
    table.start("small", heavy("small", 1, 100));
    table.done(Command::Reconfigure { settings: settings([("q", crowd())]) });
    table.tick();
    assert_eq!((table.status("big"), table.status("small")), (Status::Failed, Status::InProgress));
    assert!(format!("{:?}", table.find("big").state).contains("send less"));
}

#[test]
fn a_hook_that_makes_a_match_too_large_has_failed() {
    for (on_failure, status) in
        [(OnFailure::Accept, Status::FindingServer), (OnFailure::Refuse, Status::Failed)]
    {
        let hooks = vec![outside("n", HookPoint::NewMatch, on_failure)];
        let hundred =
            Queue { teams: 2, players_per_team: 50, min_players_per_team: 50, hooks, ..Queue::default() };
        let mut table = Table::with(hundred);
        let names: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
        let players: Vec<&str> = names.iter().map(String::as_str).collect();
        table.start("one", spec(&players));
        let others: Vec<Player> = (50..100).map(|n| Player::new(player_id(&format!("p{n}")))).collect();
        let mut other = spec(&["x"]);
        other.parties[0].players = others;
        table.start("other", other);
        table.tick();
        let id = table.formation().id;
        let player_properties: BTreeMap<_, _> =
            (0..100).map(|n| (player_id(&format!("p{n}")), filled(60_000))).collect();
        let outcome = MatchVerdict::Accept { properties: None, player_properties };
        table.done(Command::MatchChecked { match_id: id, hook: hook_id("n"), outcome });
        assert_eq!(table.status("one"), status);
        assert!(formed_bytes(&table).iter().all(|bytes| *bytes < 100_000));
    }
}

/// Names of ratings and of parties have no limit of their own.
#[test]
fn a_ticket_that_no_record_can_hold_is_refused() {
    let mut table = Table::with(Queue::default());
    let mut long = spec(&["ann"]);
    long.parties[0].players[0].ratings.insert("r".repeat(MAX_MATCH_BYTES).into(), 1.0);
    let text = table.refused("too_large", Command::Start { id: None, spec: long });
    assert!(text.contains("4194304"), "{text}");
}

#[test]
fn settings_that_can_never_be_written_down_are_refused() {
    let mut table = Table::with(Queue::default());
    let many = (0..100)
        .map(|n| (queue_id(&format!("q{n}")), Queue { properties: filled(60_000), ..Queue::default() }));
    let many = Settings { queues: many.collect(), ..Settings::default() };
    let text = table.refused("too_large", Command::Reconfigure { settings: many });
    assert!(text.contains("4194304"), "{text}");
}
