//! Tickets that are cancelled unless their clients renew them.

use core::time::Duration;

use sortie_domain::ids::IdempotencyKey;
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{CancelCause, Status, TicketEnd, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::Queue;
use sortie_domain::matchmaking::{Command, Event, MAX_TTL};

use super::table::{Table, player_id, secs, spec, ticket_id};

const MILLISECOND: Duration = Duration::from_millis(1);

fn kept_alive(ttl: u64, who: &str) -> TicketSpec {
    TicketSpec { ttl: Some(secs(ttl)), ..spec(&[who]) }
}

fn renew(table: &mut Table, id: &str) {
    table.ok(Command::Renew { id: ticket_id(id) });
}

fn is_abandoned(table: &Table, id: &str) -> bool {
    matches!(
        table.find(id).state,
        TicketState::Over { end: TicketEnd::Cancelled(CancelCause::Abandoned), .. }
    )
}

/// Advances time to right before `ttl` is over, checks that the ticket is alive, and then that it is not.
fn lives_for(table: &mut Table, id: &str, ttl: Duration) {
    table.advance(ttl - MILLISECOND);
    assert!(!table.find(id).is_over(), "{id} lives");
    table.advance(MILLISECOND);
    assert!(is_abandoned(table, id), "{:?}", table.find(id).state);
}

#[test]
fn a_ticket_that_nobody_renews_is_called_off_and_one_without_ttl_waits() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    table.start("ann", kept_alive(10, "ann"));
    table.solo("bob");
    lives_for(&mut table, "ann", secs(10));
    assert_eq!(table.heard("ann"), [Status::InProgress, Status::Cancelled]);
    table.advance(secs(20));
    assert_eq!(table.status("bob"), Status::InProgress);
    table.start("again", kept_alive(10, "ann"));
}

#[test]
fn each_renewal_gives_the_whole_time_again_and_keeps_the_place() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    table.start("ann", kept_alive(10, "ann"));
    let before = table.find("ann").clone();
    for _ in 0..3 {
        table.advance(secs(9));
        renew(&mut table, "ann");
    }
    let after = table.find("ann");
    assert_eq!((after.place, after.waits_since), (before.place, before.waits_since));
    assert_eq!(table.maker.renew_by(after), Some(table.time() + secs(10)));
    let renewals = table.log.iter().filter(|record| matches!(&record.event, Event::TicketRenewed { .. }));
    assert_eq!(renewals.count(), 3);
    lives_for(&mut table, "ann", secs(10));
    assert_eq!(table.maker.renew_by(table.find("ann")), None);
}

#[test]
fn to_renew_a_ticket_without_ttl_leaves_no_trace_and_one_that_is_over_is_refused() {
    let mut table = Table::with(Queue::default());
    table.solo("ann");
    let before = table.log.len();
    renew(&mut table, "ann");
    assert_eq!(table.log.len(), before);
    table.cancel("ann");
    table.refused("ticket_over", Command::Renew { id: ticket_id("ann") });
    table.refused("ticket_not_found", Command::Renew { id: ticket_id("nobody") });
}

#[test]
fn the_same_order_again_renews_and_one_with_another_ttl_is_another() {
    let mut table = Table::with(Queue::default());
    let keyed = |ttl| TicketSpec { idempotency_key: IdempotencyKey::new("k").ok(), ..kept_alive(ttl, "ann") };
    table.start("ann", keyed(10));
    table.advance(secs(9));
    table.start("ann", keyed(10));
    table.refused("idempotency_key_reused", Command::Start { id: None, spec: keyed(11) });
    lives_for(&mut table, "ann", secs(10));
}

#[test]
fn to_agree_to_a_match_renews_and_a_match_of_an_abandoned_ticket_comes_to_nothing() {
    let mut table = Table::with(Queue { accept: Some(secs(60)), ..Queue::default() });
    table.start("ann", kept_alive(10, "ann"));
    table.solo("bob");
    table.tick();
    let match_id = table.match_of("ann");
    table.advance(secs(9));
    table.ok(Command::Accept { match_id, player: player_id("ann") });
    lives_for(&mut table, "ann", secs(10));
    assert!(table.maker.formations().next().is_none());
    assert_eq!(table.find("bob").state, TicketState::Waiting);
}

#[test]
fn a_match_that_waits_for_a_server_comes_to_nothing_too() {
    let mut table = Table::with(Queue::default());
    table.start("ann", kept_alive(10, "ann"));
    table.solo("bob");
    table.advance(secs(9));
    assert_eq!(table.status("ann"), Status::FindingServer);
    table.advance(secs(1));
    assert!(is_abandoned(&table, "ann"));
    assert_eq!(table.status("bob"), Status::InProgress);
}

#[test]
fn players_who_can_connect_need_not_renew() {
    let mut table = Table::with(Queue::default());
    table.start("ann", kept_alive(10, "ann"));
    table.solo("bob");
    table.tick();
    let match_id = table.match_of("ann");
    table.ready(&match_id);
    table.advance(secs(30));
    assert_eq!(table.status("ann"), Status::Completed);
}

#[test]
fn an_outage_calls_nobody_off() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    table.start("ann", kept_alive(10, "ann"));
    table.advance(secs(9));
    table.restart();
    table.now += 15_000;
    // The first input after a restart wakes the machine.
    table.advance(Duration::ZERO);
    lives_for(&mut table, "ann", secs(10));
}

#[test]
fn how_long_a_ticket_lives_is_bounded() {
    let mut table = Table::with(Queue::default());
    for ttl in [Duration::ZERO, Duration::from_millis(1_500), MAX_TTL + secs(1)] {
        let spec = TicketSpec { ttl: Some(ttl), ..spec(&["ann"]) };
        let text = table.refused("invalid_field", Command::Start { id: None, spec });
        assert_eq!(text, "ttl: must be a whole number of seconds from 1 to 600");
    }
    table.start("ann", TicketSpec { ttl: Some(MAX_TTL), ..spec(&["ann"]) });
}

#[test]
fn many_abandoned_tickets_end_within_bounded_steps() {
    let mut table = Table::with(Queue { players_per_team: 500, ..Queue::default() });
    for number in 0..300_u64 {
        let who = format!("p{number}");
        table.start(&who, kept_alive(1 + number % 7, &who));
    }
    table.advance(secs(7));
    assert!((0..300).all(|number| is_abandoned(&table, &format!("p{number}"))));
    assert_eq!(table.maker.next_deadline(), None);
}
