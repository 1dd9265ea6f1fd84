use sortie_domain::ids::IdempotencyKey;
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{Status, TicketSpec};
use sortie_domain::matchmaking::settings::{ExpirationAction, Queue, Settings};
use sortie_domain::matchmaking::{Command, Reply};

use super::table::{Table, player_id, queue_id, secs, settings, spec, ticket_id};

#[test]
fn two_players_are_matched_and_hear_each_status_once_in_order() {
    let mut table = Table::with(Queue::default());
    table.solo("ann");
    table.tick();
    assert_eq!(table.status("ann"), Status::InProgress);
    table.solo("bob");
    table.tick();
    assert_eq!((table.status("ann"), table.status("bob")), (Status::FindingServer, Status::FindingServer));
    let id = table.match_of("ann");
    table.done(Command::Submitted { match_id: id.clone() });
    table.ready(&id);
    table.ready(&id);
    for who in ["ann", "bob"] {
        let heard = table.heard(who);
        assert_eq!(heard, [Status::InProgress, Status::FindingServer, Status::Completed], "{who}");
    }
}

#[test]
fn a_player_is_in_one_ticket_at_a_time() {
    let mut table = Table::with(Queue { players_per_team: 3, ..Queue::default() });
    let text = table.refused("invalid_field", Command::Start { id: None, spec: spec(&["ann", "ann"]) });
    assert!(text.contains("names player ann twice"), "{text}");
    table.start("one", spec(&["ann", "bob"]));
    let text = table.refused("player_waits", Command::Start { id: None, spec: spec(&["cat", "bob"]) });
    assert!(text.contains("bob") && text.contains("one"), "{text}");
    table.cancel("one");
    table.start("two", spec(&["cat", "bob"]));
}

#[test]
fn a_ticket_started_twice_under_one_key_is_one() {
    let mut table = Table::with(Queue::default());
    let keyed =
        |players: &[&str]| TicketSpec { idempotency_key: IdempotencyKey::new("k").ok(), ..spec(players) };
    let first = table.ok(Command::Start { id: None, spec: keyed(&["ann"]) });
    assert_eq!(table.ok(Command::Start { id: None, spec: keyed(&["ann"]) }), first);
    table.refused("idempotency_key_reused", Command::Start { id: None, spec: keyed(&["bob"]) });
    let Reply::Started { ticket } = first.clone() else { panic!("{first:?}") };
    table.ok(Command::Cancel { id: ticket });
    assert_eq!(
        table.ok(Command::Start { id: None, spec: keyed(&["ann"]) }),
        first,
        "its status is still known"
    );
    table.advance(secs(11 * 60));
    table.solo("bob");
    let again = Command::Start { id: None, spec: keyed(&["ann"]) };
    assert_eq!(table.ok(again.clone()), first, "its status is forgotten, and its key is not");
    table.advance(secs(24 * 3_600));
    assert_ne!(table.ok(again), first, "a day later it is");
}

#[test]
fn a_cancelled_ticket_leaves_and_a_ticket_that_is_over_cannot_be_cancelled() {
    let mut table = Table::with(Queue::default());
    table.solo("ann");
    table.cancel("ann");
    table.cancel("ann");
    assert_eq!(table.heard("ann"), [Status::InProgress, Status::Cancelled]);
    table.solo("bob");
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.solo("cat");
    table.tick();
    let id = table.match_of("bob");
    table.ready(&id);
    table.refused("ticket_over", Command::Cancel { id: ticket_id("bob") });
    table.refused("ticket_not_found", Command::Cancel { id: ticket_id("nobody") });
}

#[test]
fn a_cancelled_ticket_takes_its_match_with_it_and_the_others_keep_their_places() {
    let mut table = Table::with(Queue::default());
    for who in ["ann", "bob", "cat", "dan"] {
        table.solo(who);
    }
    table.tick();
    table.solo("eve");
    let id = table.match_of("ann");
    table.cancel("bob");
    assert_eq!(table.status("ann"), Status::InProgress);
    assert!(table.maker.outstanding().iter().any(|effect| {
        matches!(effect, sortie_domain::matchmaking::Effect::Withdraw { match_id } if *match_id == id)
    }));
    table.done(Command::Withdrawn { match_id: id.clone() });
    table.tick();
    assert_eq!(table.together().last().unwrap(), &super::table::ids(&["ann", "eve"]));
    // News about the dissolved match changes nothing.
    table.ready(&id);
    assert_eq!(table.status("ann"), Status::FindingServer);
    let heard = [Status::InProgress, Status::FindingServer, Status::InProgress, Status::FindingServer];
    assert_eq!(table.heard("ann"), heard);
}

#[test]
fn a_ticket_times_out_when_it_has_waited_long_enough() {
    let mut table = Table::with(Queue { ticket_expiration: secs(30), ..Queue::default() });
    table.solo("ann");
    table.advance(secs(29));
    assert_eq!(table.status("ann"), Status::InProgress);
    table.advance(secs(2));
    assert_eq!(table.status("ann"), Status::TimedOut);
    assert_eq!(table.heard("ann"), [Status::InProgress, Status::TimedOut]);
}

#[test]
fn statuses_are_kept_for_their_time() {
    let queues = settings([("q", Queue::default())]).queues;
    let mut table =
        Table::configured(Settings { queues, status_expiration: secs(60), ..Settings::default() });
    table.solo("ann");
    table.cancel("ann");
    table.advance(secs(59));
    table.solo("bob");
    assert_eq!(table.status("ann"), Status::Cancelled);
    table.advance(secs(2));
    table.cancel("bob");
    assert_eq!(table.maker.ticket(&ticket_id("ann")), None);
}

#[test]
fn no_server_sends_tickets_back_to_their_places_until_it_has_been_too_often() {
    let mut table = Table::with(Queue { max_requeues: 2, ..Queue::default() });
    table.solo("ann");
    table.solo("bob");
    for round in 0..2 {
        table.tick();
        let id = table.match_of("ann");
        table.solo(&format!("young {round}"));
        table.no_server(&id);
        table.tick();
        assert_eq!(table.together().last().unwrap(), &super::table::ids(&["ann", "bob"]), "the oldest again");
        if round == 0 {
            table.cancel("young 0");
        }
    }
    let id = table.match_of("ann");
    table.no_server(&id);
    assert_eq!(table.status("ann"), Status::Failed);
    let detail = format!("{:?}", table.find("ann").state);
    assert!(detail.contains("NoServer") && detail.contains("all fleets are full"), "{detail}");
}

#[test]
fn time_in_a_match_that_came_to_nothing_is_no_waiting() {
    let mut table = Table::with(Queue { ticket_expiration: secs(30), ..Queue::default() });
    table.solo("ann");
    table.advance(secs(20));
    table.solo("bob");
    table.tick();
    table.advance(secs(60));
    table.cancel("bob");
    table.advance(secs(9));
    assert_eq!(table.status("ann"), Status::InProgress);
    table.advance(secs(2));
    assert_eq!(table.status("ann"), Status::TimedOut);
}

#[test]
fn tickets_outlive_a_restart() {
    let mut table = Table::with(Queue::default());
    table.solo("ann");
    table.tick();
    table.restart();
    table.solo("bob");
    table.restart();
    table.tick();
    assert_eq!(table.formed().len(), 1);
    assert_eq!(table.maker.outstanding().len(), 1, "the match is still to be submitted");
}

#[test]
fn a_queue_that_is_taken_away_keeps_its_tickets_and_takes_no_new_ones() {
    let both = settings([("q", Queue::default()), ("other", Queue::default())]);
    let mut table = Table::configured(both);
    table.solo("ann");
    table.solo("bob");
    let queues = settings([("other", Queue::default())]);
    table.done(Command::Configure { settings: queues });
    let text = table.refused("queue_not_found", Command::Start { id: None, spec: spec(&["cat"]) });
    assert_eq!(text, "no queue q is configured");
    let near = TicketSpec { queue: queue_id("Othr"), ..spec(&["cat"]) };
    let text = table.refused("queue_not_found", Command::Start { id: None, spec: near });
    assert_eq!(text, "no queue Othr is configured; did you mean other?");
    table.tick();
    assert_eq!(table.formed().len(), 1);
    let id = table.match_of("ann");
    table.ready(&id);
    assert!(table.maker.snapshot().closed.is_empty(), "nothing keeps it any more");
}

#[test]
fn a_changed_queue_counts_for_those_who_wait() {
    let mut table = Table::with(Queue { players_per_team: 2, min_players_per_team: 2, ..Queue::default() });
    table.solo("ann");
    table.solo("bob");
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.done(Command::Configure { settings: settings([("q", Queue::default())]) });
    table.tick();
    assert_eq!(table.formed().len(), 1);
}

#[test]
fn a_list_and_look_ups_find_tickets() {
    let mut table = Table::with(Queue { expiration_action: ExpirationAction::Drop, ..Queue::default() });
    table.start("t1", TicketSpec { idempotency_key: IdempotencyKey::new("k").ok(), ..spec(&["ann"]) });
    let page = table.maker.tickets(0, 10);
    assert_eq!((page.items.len(), page.more), (1, false));
    assert_eq!(table.maker.tickets_of(&player_id("ann")).next().unwrap().id, ticket_id("t1"));
    assert_eq!(table.maker.ticket_of_key(&IdempotencyKey::new("k").unwrap()).unwrap().id, ticket_id("t1"));
    assert_eq!(table.maker.waiting(&queue_id("q")), 1);
    assert_eq!(table.maker.waiting(&queue_id("other")), 0);
}
