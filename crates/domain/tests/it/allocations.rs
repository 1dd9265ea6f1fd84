//! Allocations: what the platform reports, in every state, and what an administrator orders.

use sortie_domain::broker::model::{Allocation, FastSchedule, Fleet};
use sortie_domain::broker::{Command, Effect, FIRST_BACKOFF, Hints, Reply};
use sortie_domain::machine::Machine;
use sortie_domain::match_spec::MatchSpec;

use crate::table::{Table, end, fleet, fleet_id, game, on, request, server, spec};

const STATES: [&str; 5] = ["ordered", "started", "live", "leaving", "stopping"];

/// An allocation in that state, of a fleet without other allocations.
fn allocation_in(state: &str) -> (Table, Allocation) {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    if state != "ordered" {
        table.started(&order);
    }
    match state {
        "live" => drop(table.poll(&order.server)),
        "leaving" => drop(table.request(&order.server, "", Hints::WILLING_TO_SHUTDOWN)),
        "stopping" => drop(table.ok(Command::DeallocateServer { server: order.server.clone() })),
        _ => {}
    }
    assert_eq!(table.allocation_state(&order.id), state);
    (table, order)
}

fn allocate(id: &str, spec: MatchSpec) -> Command {
    Command::AllocateServer { id: Some(game(id)), spec: Some(spec) }
}

#[test]
fn started_counts_once_and_only_for_an_order() {
    for state in STATES {
        let (mut table, order) = allocation_in(state);
        let mark = table.mark();
        table.started(&order);
        table.started(&order);
        let (after, events) = match state {
            "ordered" => ("started", vec!["allocation.started"]),
            other => (other, vec![]),
        };
        assert_eq!((table.allocation_state(&order.id), table.kinds_since(mark)), (after, events), "{state}");
    }
}

#[test]
fn failed_ends_an_allocation_in_every_state_and_counts_against_the_fleet_if_it_was_wanted() {
    for state in STATES {
        let (mut table, order) = allocation_in(state);
        let stops = table.stops(&order.server);
        table.start_failed(&order);
        assert_eq!(table.allocation_state(&order.id), "ended", "{state}");
        assert_eq!(table.server_state(&order.server), "gone", "{state}");
        let wanted = u32::from(!matches!(state, "leaving" | "stopping"));
        assert_eq!(table.health("eu").failures, wanted, "{state}");
        assert_eq!(table.stops(&order.server), stops, "{state}: there is nothing to stop");
    }
}

#[test]
fn stopped_ends_an_allocation_in_every_state_and_is_no_failure() {
    for state in STATES {
        let (mut table, order) = allocation_in(state);
        table.stopped(&order);
        assert_eq!(table.allocation_state(&order.id), "ended", "{state}");
        assert_eq!(table.server_state(&order.server), "gone", "{state}");
        assert_eq!(table.health("eu").failures, 0, "{state}");
    }
}

#[test]
fn an_exit_before_the_first_contact_counts_against_the_fleet() {
    for state in STATES {
        let (mut table, order) = allocation_in(state);
        table.exited(&order);
        let failures = u32::from(matches!(state, "ordered" | "started"));
        assert_eq!(table.allocation_state(&order.id), "ended", "{state}");
        assert_eq!(table.server_state(&order.server), "gone", "{state}");
        assert_eq!(table.health("eu").failures, failures, "{state}");
    }
}

#[test]
fn reports_of_an_allocation_that_has_ended_change_nothing() {
    let (mut table, order) = allocation_in("live");
    table.exited(&order);
    let mark = table.mark();
    table.started(&order);
    table.start_failed(&order);
    table.stopped(&order);
    table.exited(&order);
    assert_eq!(table.kinds_since(mark), [""; 0]);
}

#[test]
fn a_match_whose_server_exits_before_it_is_ready_is_given_to_another() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let first = table.submit("first", spec(&["ann"]));
    let second = table.submit("second", spec(&["bob"]));
    let order = table.allocation_for(&first).unwrap();
    assert_eq!(table.poll(&order.server), Some(first.clone()));
    let mark = table.mark();
    table.exited(&order);
    assert_eq!(table.kinds_since(mark)[..2], ["match.returned", "server.gone"]);
    assert_eq!((table.state(&first), table.broker.place_in_queue(&first)), ("queued".into(), Some(0)));
    assert_eq!(table.health("eu").failures, 1, "a server that crashes on a match has not worked");
    let host = server("host");
    assert_eq!(table.poll(&host), Some(first));
    assert_eq!(table.poll_new(&host), Some(second), "the older one came first");
}

#[test]
fn a_match_whose_server_exits_goes_to_one_that_waits() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", spec(&["ann"]));
    let order = table.allocation_for(&id).unwrap();
    table.poll(&order.server);
    let call = table.kept(request(&server("host"), "", Hints::WILLING_TO_WAIT));
    table.exited(&order);
    assert_eq!(table.offered(call).map(|offer| (offer.match_id, offer.pickup)), Some((id, 2)));
}

#[test]
fn a_match_that_costs_three_servers_fails() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", spec(&["ann"]));
    for pickup in 1..=3 {
        assert_eq!(table.state(&id), "queued", "pickup {pickup}");
        // The server's first call does not clear the failure: the backoff grows each time.
        assert_eq!(table.health("eu").failures, pickup - 1);
        table.advance(FIRST_BACKOFF * 2);
        let order = table.allocation_for(&id).unwrap();
        assert_eq!(table.poll(&order.server), Some(id.clone()));
        table.exited(&order);
    }
    assert_eq!(table.state(&id), "failed: server_exited");
}

#[test]
fn a_match_whose_players_know_the_server_fails_with_it() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let (running, picked_up) = (table.running("running", &host), table.picked_up("picked up", &host));
    let order = table.allocation_of(&host);
    table.exited(&order);
    assert_eq!(table.state(&running), "failed: server_exited");
    assert_eq!(table.state(&picked_up), "queued");
    table.refused("match_not_held", end(&host, &picked_up, Hints::NONE));
}

#[test]
fn an_administrator_orders_a_server_for_no_match() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    assert_eq!((order.fleet, order.for_match, order.state.name()), (fleet_id("eu"), None, "ordered"));
    let start = Effect::Start { allocation: order.id, server: order.server, fleet: fleet_id("eu") };
    assert_eq!(table.effects, [start]);

    let mut table = Table::new();
    let refusal = table.refused("no_fleet", Command::AllocateServer { id: None, spec: None });
    assert_eq!(refusal.to_string(), "no fleet is configured");
}

#[test]
fn an_administrator_orders_a_server_for_a_match() {
    for mode in [FastSchedule::OnSchedule, FastSchedule::UnlessFree, FastSchedule::Always] {
        let mut table = Table::with(on(mode), vec![fleet("eu")]);
        let mark = table.mark();
        let Reply::Allocated { server, match_id } = table.ok(allocate("m", spec(&["ann"]))) else { panic!() };
        assert_eq!(match_id, Some(game("m")));
        assert_eq!(table.orders_since(mark), [("eu".into(), Some(game("m")))], "{mode:?}: at once");
        assert_eq!(table.poll(&server), Some(game("m")));
    }
}

#[test]
fn an_order_for_a_match_that_a_waiting_server_takes_needs_no_fleet() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    let reply = table.ok(allocate("m", spec(&["ann"])));
    assert_eq!(reply, Reply::Allocated { server: host, match_id: Some(game("m")) });
    assert!(table.offered(call).is_some());
}

#[test]
fn an_order_for_a_match_is_refused_whole_if_no_fleet_can_serve_it() {
    let mut table = Table::with_fleets(vec![Fleet { max: 0, ..fleet("eu") }]);
    table.refused("no_fleet", allocate("m", spec(&["ann"])));
    assert!(table.broker.find_match(&game("m")).is_none(), "the match is not queued either");
}

#[test]
fn the_same_order_for_a_match_again_names_the_same_server() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let first = table.ok(allocate("m", spec(&["ann"])));
    let mark = table.mark();
    assert_eq!(table.ok(allocate("m", spec(&["ann"]))), first);
    let Reply::Allocated { server, .. } = first.clone() else { panic!("{first:?}") };
    table.poll(&server);
    assert_eq!(table.ok(allocate("m", spec(&["ann"]))), first);
    assert_eq!(table.orders_since(mark), []);
    table.refused("match_exists", allocate("m", spec(&["bob"])));
}

#[test]
fn what_is_outstanding_after_a_restart_follows_from_the_state() {
    for state in STATES {
        let (mut table, order) = allocation_in(state);
        table.restart();
        let (allocation, server) = (order.id, order.server);
        let expected = match state {
            "ordered" => vec![Effect::Start { allocation, server, fleet: fleet_id("eu") }],
            "stopping" => vec![Effect::Stop { allocation, server, fleet: fleet_id("eu") }],
            _ => vec![],
        };
        assert_eq!(table.broker.outstanding(), expected, "{state}");
    }
}

#[test]
fn a_start_that_was_called_off_is_stopped_whatever_the_platform_says_later() {
    let (mut table, order) = allocation_in("ordered");
    table.ok(Command::DeallocateServer { server: order.server.clone() });
    table.started(&order);
    assert_eq!((table.allocation_state(&order.id), table.stops(&order.server)), ("stopping", 1));
    table.stopped(&order);
    assert_eq!(table.allocation_state(&order.id), "ended");
}
