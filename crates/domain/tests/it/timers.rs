//! The four fail-safe timers and the two of the platform: nothing a millisecond before, and what follows after.

use sortie_domain::broker::model::{FailReason, Fleet, Settings, SettingsChange};
use sortie_domain::broker::{Event, Hints, LEAVE_TIME};

use crate::table::{MS, Table, end, fleet, players, ready, secs, server, spec};

/// The matches that failed since `mark`, with the players who heard about it.
fn failed_since(table: &Table, mark: usize) -> Vec<(String, usize, FailReason)> {
    let failed = table.since(mark).filter_map(|event| match event {
        Event::MatchFailed { id, players, reason } => Some((id.to_string(), players.len(), *reason)),
        _ => None,
    });
    failed.collect()
}

/// Servers are stopped with the matches on them when they are ten minutes old.
fn literal_lifetime() -> Settings {
    Settings { server_max_lifetime: secs(10 * 60), lifetime_ends_matches: true, ..Settings::default() }
}

#[test]
fn a_match_that_no_server_takes_in_time_fails_and_its_players_hear_so() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&["ann", "bob"]));
    table.advance(secs(90) - MS);
    assert_eq!(table.state(&id), "queued");
    let mark = table.mark();
    table.advance(MS);
    assert_eq!(failed_since(&table, mark), [("m".into(), 2, FailReason::PickupTimeout)]);
    assert_eq!(FailReason::PickupTimeout.text(), "no server could be obtained in time");
    assert_eq!(table.poll(&server("late")), None);
}

#[test]
fn a_match_that_was_returned_has_waited_since_it_was_submitted() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    let id = table.submit("m", spec(&[]));
    table.advance(secs(59));
    assert_eq!(table.poll(&order.server), Some(id.clone()));
    table.advance(secs(1));
    table.exited(&order);
    assert_eq!(table.state(&id), "queued");
    table.advance(secs(30) - MS);
    assert_eq!(table.state(&id), "queued");
    table.advance(MS);
    assert_eq!(table.state(&id), "failed: pickup_timeout");
}

#[test]
fn a_match_that_is_not_ready_in_time_fails_and_its_server_is_treated_as_failing() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.picked_up("m", &host);
    table.advance(secs(30) - MS);
    assert_eq!((table.state(&id), table.server_state(&host)), ("picked_up".into(), "available"));
    let mark = table.mark();
    table.advance(MS);
    assert_eq!(failed_since(&table, mark), [("m".into(), 1, FailReason::ReadyTimeout)]);
    assert_eq!(table.kinds_since(mark), ["match.failed", "server.gone", "allocation.stop_ordered"]);
    assert_eq!((table.server_state(&host), table.stops(&host)), ("gone", 1));
}

#[test]
fn ready_at_the_last_millisecond_counts_and_a_millisecond_later_does_not() {
    let mut table = Table::new();
    let (punctual, late) = (server("punctual"), server("late"));
    let (first, second) = (table.picked_up("first", &punctual), table.picked_up("second", &late));
    table.advance(secs(30) - MS);
    table.ready(&punctual, &first);
    table.advance(MS);
    table.refused("match_not_held", ready(&late, &second, "203.0.113.7:7777", Hints::NONE));
    assert_eq!([table.state(&first), table.state(&second)], ["ready", "failed: ready_timeout"]);
}

#[test]
fn a_failing_server_keeps_the_matches_that_run_on_it_and_goes_after_them() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let running = table.running("running", &host);
    let stuck = table.picked_up("stuck", &host);
    table.advance(secs(30));
    assert_eq!(table.state(&stuck), "failed: ready_timeout");
    assert_eq!((table.state(&running), table.server_state(&host)), ("ready".into(), "draining"));
    table.submit("next", spec(&[]));
    assert_eq!(table.sent_away(&host), Hints::NONE, "it gets no further match, and has one to end");
    assert_eq!((table.state(&running), table.stops(&host)), ("ready".into(), 0));
    assert_eq!(table.end(&host, &running), Hints::SHUTDOWN);
    assert_eq!((table.server_state(&host), table.stops(&host)), ("gone", 1));
}

#[test]
fn a_match_that_runs_too_long_is_over_and_its_server_goes() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    table.change(SettingsChange { server_max_lifetime: Some(secs(86_400)), ..SettingsChange::default() });
    let host = table.idle_server();
    let id = table.picked_up("m", &host);
    table.advance(secs(10));
    table.ready(&host, &id);
    table.advance(secs(120 * 60) - MS);
    assert_eq!(table.state(&id), "ready");
    let mark = table.mark();
    table.advance(MS);
    assert_eq!(table.state(&id), "ended: max_run_time");
    assert_eq!(table.kinds_since(mark), ["match.ended", "server.gone", "allocation.stop_ordered"]);
    let Event::MatchEnded { players: told, .. } = &table.log[mark].event else { panic!() };
    assert_eq!(told, &players(&["player of m"]), "players hear that the match is over");
    assert_eq!(table.noted(end(&host, &id, Hints::NONE)), Hints::SHUTDOWN);
}

#[test]
fn as_in_catena_a_server_older_than_servers_may_become_has_failed() {
    let mut table = Table::with(literal_lifetime(), vec![fleet("eu")]);
    let order = table.order();
    table.advance(secs(50));
    table.poll(&order.server);
    let running = table.running("running", &order.server);
    table.advance(secs(10 * 60 - 60));
    let picked_up = table.picked_up("picked up", &order.server);
    table.advance(secs(10) - MS);
    assert_eq!((table.state(&running), table.state(&picked_up)), ("ready".into(), "picked_up".into()));
    table.advance(MS);
    for id in [&running, &picked_up] {
        assert_eq!(table.state(id), "failed: server_lifetime", "it counts from the order");
    }
    assert_eq!((table.server_state(&order.server), table.stops(&order.server)), ("gone", 1));
}

#[test]
fn the_life_of_a_server_that_nobody_ordered_begins_with_its_first_call() {
    let mut table = Table::with(literal_lifetime(), Vec::new());
    let host = server("host");
    table.poll(&host);
    table.advance(secs(10 * 60) - MS);
    assert_eq!(table.poll(&host), None);
    table.advance(MS);
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
}

#[test]
fn a_changed_timer_counts_for_what_is_under_way() {
    let change = |table: &mut Table, of: fn(&mut SettingsChange)| {
        let mut change = SettingsChange::default();
        of(&mut change);
        table.change(change);
    };
    let mut table = Table::with(literal_lifetime(), Vec::new());
    let id = table.submit("queued", spec(&[]));
    table.advance(secs(60));
    change(&mut table, |change| change.match_pickup_time = Some(secs(61)));
    table.advance(secs(1) - MS);
    assert_eq!(table.state(&id), "queued");
    table.advance(MS);
    assert_eq!(table.state(&id), "failed: pickup_timeout");

    let (slow, long, old) = (server("slow"), server("long"), server("old"));
    let picked_up = table.picked_up("picked up", &slow);
    let running = table.running("running", &long);
    let aged = table.running("aged", &old);
    table.advance(secs(20));
    change(&mut table, |change| change.match_ready_time = Some(secs(25)));
    table.advance(secs(5) - MS);
    assert_eq!(table.state(&picked_up), "picked_up");
    table.advance(MS);
    assert_eq!(table.state(&picked_up), "failed: ready_timeout");

    table.advance(secs(35));
    // Over at once under the new value: all matches that ran this long end.
    change(&mut table, |change| change.match_max_run_time = Some(secs(60)));
    assert_eq!(table.state(&running), "ended: max_run_time");
    assert_eq!(table.state(&aged), "ended: max_run_time");

    let young = table.running("young", &server("young"));
    table.advance(secs(1));
    change(&mut table, |change| change.server_max_lifetime = Some(secs(2)));
    table.advance(secs(1) - MS);
    assert_eq!(table.state(&young), "ready");
    table.advance(MS);
    assert_eq!(table.state(&young), "failed: server_lifetime");
}

#[test]
fn a_longer_timer_spares_what_would_have_ended() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&[]));
    table.advance(secs(90) - MS);
    table.change(SettingsChange { match_pickup_time: Some(secs(100)), ..SettingsChange::default() });
    table.advance(secs(10));
    assert_eq!(table.state(&id), "queued");
    table.advance(MS);
    assert_eq!(table.state(&id), "failed: pickup_timeout");
}

#[test]
fn a_server_not_heard_of_by_the_ready_deadline_is_stopped_and_counts_against_its_fleet() {
    let mut table = Table::with_fleets(vec![Fleet { ready_deadline: secs(20), ..fleet("eu") }]);
    let (silent, prompt) = (table.order(), table.order());
    table.started(&silent);
    table.advance(secs(20) - MS);
    table.poll(&prompt.server);
    assert_eq!(table.server_state(&silent.server), "pending");
    table.advance(MS);
    assert_eq!((table.server_state(&silent.server), table.stops(&silent.server)), ("gone", 1));
    assert_eq!(table.server_state(&prompt.server), "available");
    assert_eq!(table.health("eu").failures, 1);
    assert_eq!(table.sent_away(&silent.server), Hints::SHUTDOWN);
}

#[test]
fn a_server_that_was_asked_to_exit_has_time_to_do_so() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (polite, lingering) = (table.idle_server(), table.idle_server());
    let orders = [&polite, &lingering].map(|host| table.allocation_of(host));
    for host in [&polite, &lingering] {
        assert_eq!(table.request(host, "", Hints::WILLING_TO_SHUTDOWN), (None, Hints::SHUTDOWN));
    }
    table.advance(LEAVE_TIME - MS);
    assert_eq!(orders.each_ref().map(|order| table.allocation_state(&order.id)), ["leaving"; 2]);
    table.exited(&orders[0]);
    table.advance(MS);
    assert_eq!(orders.each_ref().map(|order| table.allocation_state(&order.id)), ["ended", "stopping"]);
    assert_eq!((table.stops(&polite), table.stops(&lingering)), (0, 1));
    assert_eq!(table.health("eu").failures, 0, "a slow exit is not a failure of the fleet");
}

#[test]
fn a_server_that_said_shutdown_is_stopped_if_it_does_not_exit() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.running("m", &host);
    table.noted(end(&host, &id, Hints::SHUTDOWN));
    table.advance(LEAVE_TIME - MS);
    assert_eq!(table.stops(&host), 0);
    table.advance(MS);
    assert_eq!(table.stops(&host), 1);
}

#[test]
fn timers_go_on_over_a_restart() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let picked_up = table.picked_up("picked up", &host);
    let queued = table.submit("queued", spec(&[]));
    table.advance(secs(20));
    table.restart();
    table.advance(secs(10) - MS);
    assert_eq!(table.state(&picked_up), "picked_up");
    table.advance(MS);
    assert_eq!(table.state(&picked_up), "failed: ready_timeout");
    table.advance(secs(60) - MS);
    assert_eq!(table.state(&queued), "queued");
    table.advance(MS);
    assert_eq!(table.state(&queued), "failed: pickup_timeout");
}
