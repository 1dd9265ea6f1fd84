//! Tickets that replace others: a party that a player leaves or joins keeps its place.

use sortie_domain::ids::IdempotencyKey;
use sortie_domain::machine::Machine as _;
use sortie_domain::matchmaking::model::{CancelCause, Status, Ticket, TicketEnd, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{
    About, Hook, HookPoint, Measure, Need, OnFailure, Queue, Rule, RuleKind, Settings, WidenStep,
};
use sortie_domain::matchmaking::{Command, Effect, MAX_REPLACED, Reply, TicketVerdict};

use super::rules::equal;
use super::table::{
    Table, hook_id, ids, outside, player_id, queue_id, rated, secs, settings, spec, ticket_id,
    with_properties,
};

/// Replaces `old`, in queue `q`, led by the first of them.
fn instead(old: &str, players: &[&str]) -> TicketSpec {
    let leader = players.first().map(|id| player_id(id));
    TicketSpec { replaces: Some(ticket_id(old)), leader, ..spec(players) }
}

fn party(players: &[&str]) -> TicketSpec {
    TicketSpec { leader: players.first().map(|id| player_id(id)), ..spec(players) }
}

fn order(spec: TicketSpec) -> Command {
    Command::Start { id: None, spec }
}

fn was_replaced(table: &Table, id: &str) -> bool {
    let end = TicketEnd::Cancelled(CancelCause::Replaced);
    matches!(&table.find(id).state, TicketState::Over { end: of, .. } if *of == end)
}

fn age(ticket: &Ticket) -> (u64, u64, u64) {
    (ticket.place, ticket.started_at.as_millis(), ticket.waits_since.as_millis())
}

#[test]
fn a_party_that_somebody_leaves_keeps_its_place_and_its_age() {
    let mut table = Table::with(Queue {
        players_per_team: 3,
        min_players_per_team: 3,
        ticket_expiration: secs(60),
        ..Queue::default()
    });
    table.start("first", party(&["ann", "bob", "cat"]));
    let before = age(table.find("first"));
    table.advance(secs(20));
    table.start("other", spec(&["dan", "eve"]));
    table.advance(secs(20));
    let records = table.log.len();
    table.start("second", instead("first", &["ann", "bob"]));
    assert_eq!(table.log.len(), records + 2, "in one step");
    assert_eq!(age(table.find("second")), before);
    assert!(was_replaced(&table, "first"));
    assert_eq!(table.heard("first"), [Status::InProgress, Status::Cancelled]);
    assert_eq!(table.heard("second"), [Status::InProgress]);
    let told = table.maker.explain(&ticket_id("second"), table.time()).unwrap();
    assert_eq!((told.ahead, told.waited), (Some(0), secs(40)));
    assert!(table.maker.tickets_of(&player_id("cat")).next().is_none(), "who has left is free");
    let listed: Vec<_> =
        table.maker.tickets(0, 10).items.into_iter().map(|ticket| ticket.id.to_string()).collect();
    assert_eq!(listed, ["second", "other"]);
    table.restart();
    assert_eq!(age(table.find("second")), before);
    assert!(was_replaced(&table, "first"));
    table.advance(secs(21));
    assert_eq!((table.status("second"), table.status("other")), (Status::TimedOut, Status::InProgress));
}

#[test]
fn a_party_that_somebody_joins_is_matched_before_those_who_came_after_it() {
    let mut table = Table::with(Queue { players_per_team: 2, min_players_per_team: 2, ..Queue::default() });
    table.start("first", party(&["ann"]));
    for who in ["bob", "cat"] {
        table.start(who, spec(&[who, &format!("{who} 2")]));
        table.cancel(who);
    }
    table.start("young", spec(&["dan"]));
    table.start("two", spec(&["eve", "fay"]));
    table.start("three", spec(&["gus", "hal"]));
    table.start("second", instead("first", &["ann", "new"]));
    table.tick();
    assert_eq!(table.together(), [ids(&["second", "two"])]);
}

/// Its demands continue from the wait of the old ticket, immediately.
#[test]
fn widening_goes_on() {
    let skill =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most: 10.0, missing: 0.0 };
    let widen = vec![WidenStep { after: secs(30), value: 500.0 }];
    let rules = vec![Rule { widen, ..Rule::new("skill", skill) }];
    let mut table = Table::with(Queue {
        rules,
        ticket_expiration: secs(300),
        players_per_team: 2,
        min_players_per_team: 1,
        ..Queue::default()
    });
    table.start("first", rated(1_000.0, party(&["ann", "bob"])));
    table.start("other", rated(1_400.0, spec(&["cat", "dan"])));
    table.advance(secs(20));
    table.start("second", rated(1_000.0, instead("first", &["bob", "new"])));
    table.advance(secs(9));
    assert_eq!(table.formed().len(), 0);
    table.advance(secs(2));
    assert_eq!(table.together(), [ids(&["second", "other"])]);
}

#[test]
fn only_a_ticket_that_waits_is_replaced() {
    let mut table = Table::with(Queue { accept: Some(secs(20)), ..Queue::default() });
    table.refused("ticket_not_found", order(instead("nothing", &["ann"])));
    table.solo("ann");
    table.solo("bob");
    table.tick();
    let text = table.refused("ticket_not_waiting", order(instead("ann", &["ann"])));
    assert_eq!(text, "ticket ann is in a match, so no other ticket can take its place");
    for who in ["ann", "bob"] {
        let match_id = table.match_of(who);
        table.ok(Command::Accept { match_id, player: player_id(who) });
    }
    table.refused("ticket_not_waiting", order(instead("ann", &["ann"])));
    let id = table.match_of("ann");
    table.ready(&id);
    let text = table.refused("ticket_not_waiting", order(instead("ann", &["ann"])));
    assert_eq!(text, "ticket ann is over, so no other ticket can take its place");
    table.solo("cat");
    table.start("once", instead("cat", &["cat"]));
    table.refused("ticket_not_waiting", order(instead("cat", &["cat"])));
    table.start("twice", instead("once", &["cat"]));
    assert_eq!(table.find("twice").place, table.find("cat").place.min(table.find("twice").place));
}

#[test]
fn a_place_goes_on_with_the_leader_or_half_of_the_players() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    table.start("five", party(&["a", "b", "c", "d", "e"]));
    let text = table.refused("invalid_field", order(instead("five", &["d", "e", "x"])));
    assert!(text.contains("replaces: the leader of ticket five, or at least half"), "{text}");
    table.refused("invalid_field", order(instead("five", &["x"])));
    table.start("three", instead("five", &["x", "c", "d", "e"]));
    assert!(was_replaced(&table, "five"), "three of five are more than half");
    table.start("leader", instead("three", &["y", "x"]));
    assert!(was_replaced(&table, "three"));
    // A ticket without a leader continues with half of its players.
    table.start("pair", spec(&["m", "n"]));
    table.start("half", instead("pair", &["n"]));
    assert!(was_replaced(&table, "pair"));
}

#[test]
fn who_joins_must_be_free_and_the_queue_is_the_same() {
    let queue = || Queue { players_per_team: 5, ..Queue::default() };
    let mut table = Table::configured(settings([("q", queue()), ("r", queue())]));
    table.start("old", party(&["ann", "bob"]));
    table.solo("cat");
    let text = table.refused("player_waits", order(instead("old", &["ann", "bob", "cat"])));
    assert!(text.contains("player cat is in ticket cat"), "{text}");
    let elsewhere = TicketSpec { queue: queue_id("r"), ..instead("old", &["ann", "bob"]) };
    let text = table.refused("invalid_field", order(elsewhere));
    assert!(text.contains("replaces: ticket old waits in queue q"), "{text}");
    let large = TicketSpec { replaces: Some(ticket_id("old")), ..party(&["ann", "b", "c", "d", "e", "f"]) };
    table.refused("invalid_field", order(large));
    assert_eq!(table.status("old"), Status::InProgress, "what is refused ends nothing");
}

#[test]
fn the_same_order_under_the_same_key_replaces_once() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    table.start("old", party(&["ann", "bob"]));
    let keyed =
        |old: &str| TicketSpec { idempotency_key: IdempotencyKey::new("k").ok(), ..instead(old, &["ann"]) };
    let first = table.ok(order(keyed("old")));
    let records = table.log.len();
    assert_eq!(table.ok(order(keyed("old"))), first);
    assert_eq!(table.log.len(), records);
    table.solo("cat");
    table.refused("idempotency_key_reused", order(keyed("cat")));
    let Reply::Started { ticket } = first.clone() else { panic!("{first:?}") };
    table.ok(Command::Cancel { id: ticket });
    assert_eq!(table.ok(order(keyed("old"))), first, "also when it is over");
}

#[test]
fn hooks_look_at_the_new_ticket_and_the_place_waits_for_them() {
    let hooks = vec![outside("v", HookPoint::ValidateTicket, OnFailure::Accept)];
    let mut table = Table::with(Queue { hooks, players_per_team: 3, ..Queue::default() });
    let agree = |table: &mut Table, id: &str| {
        let (ticket, hook) = (ticket_id(id), hook_id("v"));
        table.done(Command::TicketValidated { ticket, hook, outcome: TicketVerdict::ACCEPT });
    };
    table.start("old", party(&["ann", "bob"]));
    agree(&mut table, "old");
    table.start("young", spec(&["cat"]));
    agree(&mut table, "young");
    table.advance(secs(3));
    table.start("new", instead("old", &["ann"]));
    // The hook is no longer asked about the old one.
    agree(&mut table, "old");
    assert!(matches!(table.find("new").state, TicketState::Validating(_)));
    let asked = table.maker.outstanding();
    assert!(
        matches!(&asked[..], [Effect::ValidateTicket { ticket, .. }] if *ticket == ticket_id("new")),
        "{asked:?}"
    );
    agree(&mut table, "new");
    let told = table.maker.explain(&ticket_id("new"), table.time()).unwrap();
    assert_eq!((told.ahead, told.waited), (Some(0), secs(3)));
    // A ticket that a hook is checking can be replaced as well.
    table.start("newer", instead("new", &["ann", "dan"]));
    table.start("newest", instead("newer", &["ann"]));
    agree(&mut table, "newest");
    assert_eq!(table.find("newest").replaced, 3);
}

#[test]
fn a_larger_party_goes_on_in_the_queue_of_its_size() {
    let routes = Hook::QueueByPartySize([(1, queue_id("one")), (2, queue_id("two"))].into());
    let queue = || Queue { players_per_team: 2, min_players_per_team: 2, ..Queue::default() };
    let routing = Queue { hooks: vec![routes], ..queue() };
    let mut table = Table::configured(settings([("q", routing), ("one", queue()), ("two", queue())]));
    table.start("old", party(&["ann"]));
    let before = age(table.find("old"));
    table.advance(secs(5));
    table.start("new", instead("old", &["ann", "bob"]));
    assert_eq!((table.find("new").queue.as_str(), age(table.find("new"))), ("two", before));
}

/// In several queues, each ticket is replaced on its own, even while it is on hold.
#[test]
fn a_ticket_on_hold_is_replaced_and_the_time_on_hold_does_not_count() {
    let queue =
        || Queue { players_per_team: 2, min_players_per_team: 1, max_requeues: 9, ..Queue::default() };
    let settings = settings([("q", queue()), ("r", Queue::default())]);
    let mut table = Table::configured(Settings { queues_per_player: 2, ..settings });
    table.start("party", party(&["ann", "bob"]));
    table.start("ann in r", TicketSpec { queue: queue_id("r"), ..spec(&["ann"]) });
    table.start("cat in r", TicketSpec { queue: queue_id("r"), ..spec(&["cat"]) });
    table.advance(secs(1));
    let started = table.find("party").started_at;
    assert!(matches!(table.find("party").state, TicketState::OnHold { .. }));
    table.advance(secs(9));
    table.start("with dan", instead("party", &["ann", "dan"]));
    assert!(matches!(table.find("with dan").state, TicketState::OnHold { .. }));
    table.advance(secs(10));
    table.start("dan alone", TicketSpec { leader: None, ..instead("with dan", &["dan"]) });
    let alone = table.find("dan alone");
    assert_eq!((&alone.state, alone.started_at), (&TicketState::Waiting, started));
    assert!(table.time().since(alone.waits_since) < secs(1), "all but a tick was on hold");
}

#[test]
fn places_are_taken_over_a_limited_number_of_times() {
    let mut table = Table::with(Queue { players_per_team: 5, ..Queue::default() });
    let mut last = table.solo("ann");
    for number in 0..MAX_REPLACED {
        last = table.start(&format!("t{number}"), instead(last.as_str(), &["ann"]));
    }
    table.refused("too_many", order(instead(last.as_str(), &["ann"])));
}

/// Cached expression results of the old ticket are not used for the new one, though they share a place.
#[test]
fn the_new_ticket_is_judged_anew() {
    let expression = "candidate.properties.level < `5` || ticket.properties.level > `90`".to_owned();
    let kind = RuleKind::Expression { expression, about: About::Pair, need: Need::Required };
    let mut table =
        Table::with(Queue { rules: vec![Rule::new("level", kind), equal("map")], ..Queue::default() });
    let level = |level: u32, spec| with_properties(&format!(r#"{{"level":{level}}}"#), spec);
    table.start("old", level(9, party(&["ann"])));
    table.start("bob", level(3, spec(&["bob"])));
    table.tick();
    assert_eq!(table.formed().len(), 0);
    table.start("new", level(4, instead("old", &["ann"])));
    table.tick();
    assert_eq!(table.together(), [ids(&["new", "bob"])]);
}

/// A party that returned from a match and then lost a member still hears why it is back.
#[test]
fn a_ticket_that_replaces_one_that_came_back_knows_from_which_match() {
    let mut table = Table::with(Queue { players_per_team: 2, ..Queue::default() });
    table.start("old", party(&["ann", "bob"]));
    table.start("other", spec(&["cat", "dan"]));
    table.tick();
    let id = table.match_of("old");
    table.no_server(&id);
    table.cancel("other");
    table.start("new", instead("old", &["ann"]));
    let lost = |table: &Table, ticket: &str| {
        let told = table.maker.explain(&ticket_id(ticket), table.time()).unwrap();
        told.lost.map(|lost| (lost.match_id.clone(), lost.reason.to_string(), told.requeues))
    };
    let expected = Some((id, "all fleets are full".to_owned(), 1));
    assert_eq!(lost(&table, "new"), expected);
    table.restart();
    table.start("newer", instead("new", &["ann", "eve"]));
    assert_eq!(lost(&table, "newer"), expected);
}
