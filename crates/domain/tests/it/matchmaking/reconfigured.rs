//! Queues that change while tickets wait, and a restarted process: how much one step does, and in which order.

use sortie_domain::ids::MatchId;
use sortie_domain::machine::{Machine, Moment, Step};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{SeatOffer, Status, TicketState};
use sortie_domain::matchmaking::settings::{Backfill, Queue};
use sortie_domain::properties::Properties;

use super::rules::equal;
use super::table::{Table, queue_id, secs, settings, spec, with_properties};

/// Number of waiting tickets, many times what one tick looks at.
const MANY: usize = 6_000;
/// More tickets than one tick looks at.
const MAX_OF_A_TICK: usize = 1_000;

/// Each on a different map, so that nobody plays.
fn maps() -> Queue {
    Queue { rules: vec![equal("map")], ticket_expiration: secs(3_600), ..Queue::default() }
}

/// The same, for tickets that wait longer.
fn patient() -> Queue {
    Queue { ticket_expiration: secs(7_200), ..maps() }
}

fn map_of(map: &str) -> String {
    format!(r#"{{"map":"{map}"}}"#)
}

fn alone(table: &mut Table, who: &str) {
    table.start(who, with_properties(&map_of(who), spec(&[who])));
}

fn crowd(queue: Queue) -> Table {
    let mut table = Table::configured(settings([("q", queue), ("other", Queue::default())]));
    for n in 0..MANY {
        alone(&mut table, &format!("p{n:04}"));
    }
    table.advance(secs(10));
    assert_eq!((table.maker.backlog(), table.formed().len()), (0, 0));
    table
}

/// Only one tick, though more is due.
fn one_tick(table: &mut Table) {
    let (at, mut step) = (Moment { now: table.time(), entropy: [7, table.log.len() as u64] }, Step::new());
    table.maker.tick(at, &mut step);
    table.log.append(&mut step.records);
}

/// The number of ticks until everything has been looked at; each must do some of it and none too much.
fn look_at_all(table: &mut Table) -> usize {
    let mut ticks = 0;
    while table.maker.backlog() > 0 {
        let before = table.maker.backlog();
        one_tick(table);
        let looked_at = before - table.maker.backlog();
        assert!((1..=MAX_OF_A_TICK).contains(&looked_at), "{looked_at} tickets in one tick");
        ticks += 1;
    }
    ticks
}

#[test]
fn other_rules_are_taken_over_tick_by_tick() {
    let mut table = crowd(maps());
    table.now += 100;
    let queues = settings([("q", patient()), ("other", Queue::default())]);
    table.done(Command::Reconfigure { settings: queues.clone() });
    assert_eq!(table.maker.backlog(), MANY, "the step itself looks at nobody");
    assert!(look_at_all(&mut table) > 5);
    table.done(Command::Reconfigure { settings: queues });
    assert_eq!(table.maker.backlog(), 0, "nothing is new");
}

#[test]
fn a_new_process_looks_at_everybody_tick_by_tick() {
    let mut table = crowd(maps());
    table.restart();
    table.now += 100;
    one_tick(&mut table);
    let left = table.maker.backlog();
    assert!((MANY - MAX_OF_A_TICK..MANY).contains(&left), "{left}");
    assert!(look_at_all(&mut table) > 4);
    // They are all found again.
    table.start("late", with_properties(&map_of("p0003"), spec(&["late"])));
    table.tick();
    assert_eq!(table.formed(), [[["p0003"], ["late"]]]);
}

#[test]
fn queues_whose_rules_are_the_same_are_left_alone() {
    let mut table = crowd(maps());
    let other = Queue { teams: 1, players_per_team: 2, ..Queue::default() };
    table.done(Command::Reconfigure { settings: settings([("q", maps()), ("other", other)]) });
    assert_eq!(table.maker.backlog(), 0);
    // Closing a queue makes no difference either.
    table.done(Command::Reconfigure { settings: settings([("other", Queue::default())]) });
    assert_eq!(table.maker.backlog(), 0);
}

#[test]
fn those_who_come_to_another_queue_do_not_wait_for_a_large_one() {
    let mut table = crowd(maps());
    let queues = settings([("q", patient()), ("other", Queue::default())]);
    table.done(Command::Reconfigure { settings: queues });
    for who in ["ann", "bob"] {
        let mut ticket = spec(&[who]);
        ticket.queue = queue_id("other");
        table.start(who, ticket);
    }
    table.now += 100;
    one_tick(&mut table);
    assert_eq!(table.formed(), [[["ann"], ["bob"]]]);
    assert!(table.maker.backlog() > MANY / 2);
}

#[test]
fn small_queues_are_looked_at_in_turns_with_a_large_one() {
    let mut table = crowd(maps());
    for who in ["ann", "bob"] {
        let mut ticket = spec(&[who]);
        ticket.queue = queue_id("other");
        table.start(who, ticket);
    }
    table.restart();
    table.now += 100;
    one_tick(&mut table);
    assert_eq!(table.formed(), [[["ann"], ["bob"]]], "the youngest of all, and not the last");
}

#[test]
fn under_other_rules_the_oldest_are_matched_first() {
    let mut table = crowd(maps());
    let open = Queue { rules: Vec::new(), ..maps() };
    table.done(Command::Reconfigure { settings: settings([("q", open)]) });
    alone(&mut table, "late");
    table.advance(secs(1));
    let formed: Vec<Vec<String>> = table.formed().into_iter().map(|teams| teams.concat()).collect();
    assert_eq!(formed.len(), MANY / 2);
    for (n, pair) in formed.iter().enumerate() {
        assert_eq!(pair, &[format!("p{:04}", 2 * n), format!("p{:04}", 2 * n + 1)]);
    }
    assert_eq!(table.status("late"), Status::InProgress);
}

/// Tickets that entered under the old rules are not found under the new ones before they have entered again.
#[test]
fn nobody_is_matched_by_rules_that_are_gone() {
    let mut table = Table::with(Queue { ticket_expiration: secs(3_600), ..Queue::default() });
    table.solo("solo");
    table.tick();
    table.done(Command::Reconfigure { settings: settings([("q", maps())]) });
    alone(&mut table, "other");
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.solo("same");
    table.tick();
    assert_eq!(table.formed(), [[["solo"], ["same"]]], "both have no map");
}

#[test]
fn free_seats_are_given_by_the_rules_in_force() {
    let queue = Queue { backfill: Backfill::First, ..maps() };
    let mut table = Table::with(queue.clone());
    let offer = SeatOffer {
        match_id: MatchId::new("running").unwrap(),
        queue: queue_id("q"),
        seats: 2,
        region: None,
        properties: Properties::parse(&map_of("forest")).unwrap(),
        ratings: std::collections::BTreeMap::new(),
        players: Vec::new(),
    };
    alone(&mut table, "desert");
    table.done(Command::OfferSeats { offer });
    table.tick();
    assert_eq!(table.find("desert").state, TicketState::Waiting);
    let open = Queue { rules: Vec::new(), ..queue };
    table.done(Command::Reconfigure { settings: settings([("q", open)]) });
    table.tick();
    assert!(matches!(table.find("desert").state, TicketState::Seating { .. }));
}

#[test]
fn what_was_changed_at_run_time_outlives_a_restart_but_not_an_edited_file() {
    let file = settings([("q", Queue::default())]);
    let mut table = Table::configured(file.clone());
    let changed = settings([("q", maps()), ("new", Queue::default())]);
    table.done(Command::Reconfigure { settings: changed.clone() });
    assert_eq!(table.log.last().unwrap().event.kind(), "sortie.matchmaker.reconfigured");
    table.restart();
    let events = table.log.len();
    table.done(Command::Configure { settings: file });
    assert_eq!((table.maker.settings(), table.log.len()), (&changed, events));
    let edited = settings([("q", patient())]);
    table.done(Command::Configure { settings: edited.clone() });
    assert_eq!(table.maker.settings(), &edited);
    table.refused(
        "invalid_field",
        Command::Reconfigure { settings: settings([("q", Queue { players_per_team: 0, ..maps() })]) },
    );
    let events = table.log.len();
    table.done(Command::Reconfigure { settings: edited });
    assert_eq!(table.log.len(), events, "nothing changed");
}
