//! What waits and what is kept is bounded in bytes.

use sortie_domain::connection::Connection;
use sortie_domain::ids::{IdempotencyKey, PlayerId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{SeatOffer, Status, Ticket, TicketEnd, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{Backfill, Queue, Settings};
use sortie_domain::matchmaking::{Command, Matchmaker, Reply};
use sortie_domain::properties::Properties;
use sortie_domain::size::Size;

use super::table::{Table, player_id, queue_id, secs, settings, spec, ticket_id, with_properties};

const MIB: u64 = 1 << 20;

fn filled(who: &str, bytes: usize) -> TicketSpec {
    with_properties(&format!(r#"{{"blob":"{}"}}"#, "x".repeat(bytes)), spec(&[who]))
}

fn table(waiting_bytes: u64, kept_bytes: u64, queue: Queue) -> Table {
    Table::configured(Settings { waiting_bytes, kept_bytes, ..settings([("q", queue)]) })
}

#[test]
fn what_waits_beyond_the_budget_is_refused() {
    let mut table = table(MIB, MIB, Queue { teams: 2, players_per_team: 5, ..Queue::default() });
    let mut taken = 0;
    let text = loop {
        let who = format!("p{taken}");
        let start = Command::Start { id: Some(ticket_id(&who)), spec: filled(&who, 60_000) };
        let before = table.log.len();
        match table.ask(start) {
            Ok(_) => taken += 1,
            Err(refusal) => {
                assert_eq!((refusal.code(), table.log.len()), ("too_many", before));
                break refusal.to_string();
            }
        }
    };
    assert!(text.contains("1048576"), "{text}");
    assert_eq!(taken, 17, "17 of 60,000 bytes and what belongs to them are within a MiB");
    assert!(table.maker.bytes().0 <= MIB);
    // When one leaves, there is room for one.
    table.cancel("p0");
    table.start("late", filled("late", 60_000));
    let offer = SeatOffer {
        match_id: sortie_domain::ids::MatchId::new("m").unwrap(),
        queue: queue_id("q"),
        seats: 1,
        region: None,
        properties: Properties::parse(&format!(r#"{{"blob":"{}"}}"#, "x".repeat(60_000))).unwrap(),
        ratings: Default::default(),
        players: vec![player_id("someone")],
    };
    table.refused("too_many", Command::OfferSeats { offer });
}

/// A loop of starting and cancelling keeps no more than the budget; each status is available while there is room.
#[test]
fn of_what_is_over_the_properties_go_first_and_the_oldest_tickets_next() {
    let mut table = table(64 * MIB, MIB, Queue { backfill: Backfill::First, ..Queue::default() });
    for n in 0..4_000 {
        let who = format!("p{n:04}");
        table.start(&who, filled(&who, if n % 100 == 0 { 60_000 } else { 100 }));
        table.cancel(&who);
        let (waiting, kept) = table.maker.bytes();
        assert!(waiting == 0 && kept <= MIB, "{n}: {waiting} {kept}");
    }
    let kept = table.maker.over().count();
    assert!((1_500..4_000).contains(&kept), "{kept} statuses in a MiB");
    assert!(table.maker.ticket(&ticket_id("p0000")).is_none(), "the oldest has gone");
    let newest = table.find("p3999");
    assert_eq!((newest.status(), newest.spec.size()), (Status::Cancelled, 1));
    let oldest = table.maker.over().next().expect("some are kept");
    assert_eq!((oldest.spec.properties.text(), oldest.status()), (None, Status::Cancelled));
    assert_eq!(oldest.spec.players().next().map(|player| player.id.as_str()), Some(oldest.id.as_str()));
}

#[test]
fn a_smaller_budget_holds_from_the_next_events_on() {
    let mut table = table(64 * MIB, 64 * MIB, Queue::default());
    for n in 0..500 {
        let who = format!("p{n:03}");
        table.start(&who, filled(&who, 60_000));
        table.cancel(&who);
    }
    assert!(table.maker.bytes().1 > 25 * MIB);
    let smaller = Settings { kept_bytes: MIB, ..settings([("q", Queue::default())]) };
    table.done(Command::Reconfigure { settings: smaller });
    assert!(table.maker.bytes().1 > 16 * MIB, "one event does not take long");
    for n in 0..4 {
        let who = format!("late{n}");
        table.solo(&who);
        table.cancel(&who);
    }
    assert!(table.maker.bytes().1 <= MIB);
    assert_eq!(table.maker.over().count(), 504, "their properties were enough");
}

#[test]
fn bytes_are_counted_alike_by_replay_and_restart() {
    let queue = Queue { accept: Some(secs(10)), ..Queue::default() };
    let mut table = table(64 * MIB, 64 * MIB, queue);
    for who in ["ann", "bob", "cat"] {
        table.start(who, filled(who, 1_000));
    }
    table.tick();
    let match_id = table.match_of("ann");
    for who in ["ann", "bob"] {
        table.ok(Command::Accept { match_id: match_id.clone(), player: player_id(who) });
    }
    let before = table.maker.bytes();
    assert!(before.0 > 3_000 && before.1 == 0, "{before:?}");
    table.restart();
    assert_eq!(table.maker.bytes(), before);
    table.ready(&match_id);
    table.cancel("cat");
    let after = table.maker.bytes();
    assert!(after.0 == 0 && after.1 > 3_000, "{after:?}");
    let mut replayed = Matchmaker::new();
    table.log.iter().for_each(|record| replayed.apply(record));
    assert_eq!(replayed.bytes(), after);
}

/// A status holds the details of its own players only.
#[test]
fn a_ticket_keeps_the_connection_of_its_own_players() {
    let mut table = Table::with(Queue::default());
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let match_id = table.match_of("ann");
    let per_player = [("ann", "a"), ("bob", "b")].map(|(who, what)| (player_id(who), what.into()));
    let connection = Connection { details: "all".into(), per_player: per_player.into() };
    table.done(Command::MatchReady { match_id, connection });
    let TicketState::Over { end: TicketEnd::Completed { connection, .. }, .. } = &table.find("ann").state
    else {
        panic!()
    };
    assert_eq!(connection.per_player.keys().map(PlayerId::as_str).collect::<Vec<_>>(), ["ann"]);
    assert_eq!(&**connection.for_player(&player_id("ann")), "a");
}

/// A snapshot shares everything that waits, however much it is; later changes do not change the snapshot.
#[test]
fn a_snapshot_stays_as_it_was_taken() {
    let mut table = table(64 * MIB, 64 * MIB, Queue { teams: 2, players_per_team: 5, ..Queue::default() });
    for n in 0..200 {
        table.solo(&format!("p{n:03}"));
    }
    let snapshot = table.maker.snapshot();
    let (seq, waiting) = (snapshot.seq, snapshot.tickets.len());
    for n in 0..100 {
        table.cancel(&format!("p{n:03}"));
    }
    assert_eq!((snapshot.seq, snapshot.tickets.len(), snapshot.over.len()), (seq, waiting, 0));
    assert!(snapshot.tickets.values().all(|ticket| !ticket.is_over()));
    let restored = Matchmaker::restore(snapshot);
    assert_eq!(restored.ticket(&ticket_id("p000")).map(Ticket::status), Some(Status::InProgress));
    assert!(restored.ticket(&ticket_id("p000")).is_some_and(|ticket| ticket.byte_size() > 200));
}

fn keyed(key: &str, json: &str, who: &str) -> TicketSpec {
    TicketSpec { idempotency_key: IdempotencyKey::new(key).ok(), ..with_properties(json, spec(&[who])) }
}

/// The same order under one key is one ticket, however it is written, and even after the ticket is forgotten.
#[test]
fn keys_are_remembered_for_a_day_by_the_content_of_the_order() {
    let queues = settings([("q", Queue::default())]);
    let mut table = Table::configured(Settings { status_expiration: secs(60), ..queues });
    table.start("ann", keyed("k", r#"{"a":1,"b":{}}"#, "ann"));
    let again = |json: &str| Command::Start { id: None, spec: keyed("k", json, "ann") };
    let known = Reply::Started { ticket: ticket_id("ann") };
    assert_eq!(table.ok(again(r#"{ "b":{ },"a":1.0 }"#)), known);
    table.refused("idempotency_key_reused", again(r#"{"a":2,"b":{}}"#));
    table.refused("idempotency_key_reused", again(r#"{"a":1}"#));
    table.cancel("ann");
    table.now += 61_000;
    table.solo("later");
    assert!(table.maker.ticket(&ticket_id("ann")).is_none(), "its status is forgotten");
    table.restart();
    assert_eq!(table.ok(again(r#"{"b":{},"a":1e0}"#)), known);
    table.refused("idempotency_key_reused", again(r#"{"a":2,"b":{}}"#));
    table.now += 24 * 3_600_000;
    let Reply::Started { ticket } = table.ok(again(r#"{"a":2}"#)) else { panic!() };
    assert_ne!(ticket, ticket_id("ann"), "after a day it is a key like any other");
}

#[test]
fn what_is_left_out_is_the_same_as_nothing() {
    let mut table = Table::with(Queue::default());
    let mut bare = spec(&["ann"]);
    bare.idempotency_key = IdempotencyKey::new("k").ok();
    table.start("ann", bare.clone());
    let mut written = with_properties("{}", bare);
    written.parties[0].players[0].properties = Properties::parse(" { } ").unwrap();
    let again = table.ok(Command::Start { id: None, spec: written.clone() });
    assert_eq!(again, Reply::Started { ticket: ticket_id("ann") });
    // By its id as well.
    written.idempotency_key = None;
    table.refused("ticket_exists", Command::Start { id: Some(ticket_id("ann")), spec: written });
}

/// With a small budget, keys do not push out tickets that are over.
#[test]
fn keys_take_half_of_the_budget_at_most() {
    let mut table = table(64 * MIB, MIB, Queue::default());
    for n in 0..6_000 {
        let who = format!("p{n:04}");
        table.start(&who, keyed(&who, r#"{"a":1}"#, &who));
        table.cancel(&who);
        assert!(table.maker.bytes().1 <= MIB);
    }
    let (over, keys) = (table.maker.over().count(), table.maker.snapshot().keys.len());
    assert!(over > 500 && keys > 800, "{over} tickets, {keys} keys");
    let again = |who: &str| Command::Start { id: None, spec: keyed(who, r#"{"a":1.0}"#, who) };
    assert_eq!(table.ok(again("p5999")), Reply::Started { ticket: ticket_id("p5999") });
    assert_eq!(table.ok(again("p5000")), Reply::Started { ticket: ticket_id("p5000") });
}
