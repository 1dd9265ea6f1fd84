//! Steps are bounded: a step does a part of what is due at once, and the rest follows, also after a restart.
//!
//! The [`Table`] asserts of every step of every example that it is within its bounds.

use std::collections::{BTreeMap, BTreeSet};

use sortie_domain::broker::model::{FailReason, FastSchedule, Fleet, MatchState, Settings, SettingsChange};
use sortie_domain::broker::{Broker, Command, Event, Hints, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::machine::{Machine, STEP_RECORDS};
use sortie_domain::match_spec::{MAX_MATCH_BYTES, MAX_PLAYERS, MatchSpec};
use sortie_domain::properties::Properties;
use sortie_domain::refusal::RefusalKind;
use sortie_domain::size::Size;

use crate::table::{
    Table, at, bound_to, fleet, fleet_id, game, on, player, ready, request, secs, server, spec, submit,
};

/// More than one step takes.
const MANY: usize = STEP_RECORDS + STEP_RECORDS / 2;

/// This many players with ids of maximum length.
fn crowd(count: usize) -> MatchSpec {
    let players = (0..count).map(|n| player(&format!("{n:0>128}")));
    MatchSpec { players: players.collect(), ..MatchSpec::default() }
}

fn submit_many(table: &mut Table, count: usize, spec: &MatchSpec) -> Vec<MatchId> {
    (0..count).map(|n| table.submit(&format!("m{n:0>6}"), spec.clone())).collect()
}

/// Ticks while something is due, with a restart after the first; returns the number of ticks.
fn finish_with_a_restart(table: &mut Table) -> usize {
    assert!(table.tick(), "something is due");
    assert!(table.broker.next_deadline().is_some_and(|due| due <= table.now()), "one step is not enough");
    let durable = table.broker.snapshot();
    table.broker = Broker::restore(durable);
    let mut ticks = 1;
    while table.tick() {
        ticks += 1;
    }
    ticks
}

/// How many of these matches failed for that reason, by the log: the state keeps the newest only.
fn failed(table: &Table, why: FailReason, ids: &[MatchId]) -> usize {
    let ids: BTreeSet<_> = ids.iter().collect();
    let failed = table.since(0).filter_map(|event| match event {
        Event::MatchFailed { id, reason, .. } if *reason == why => Some(id),
        _ => None,
    });
    failed.filter(|id| ids.contains(id)).count()
}

/// One server of the fleet with this many matches, every second of them ready.
fn busy_server(table: &mut Table, fleet: &str, count: usize) -> (ServerId, Vec<MatchId>) {
    let reply = table.ok(Command::AllocateServer { id: None, spec: Some(bound_to(fleet)) });
    let Reply::Allocated { server, match_id: Some(first) } = reply else { panic!("{reply:?}") };
    let mut matches = vec![first];
    for n in 1..count {
        matches.push(table.submit(&format!("m{n:0>6}"), bound_to(fleet)));
    }
    for _ in 0..count {
        table.poll_new(&server);
    }
    for id in matches.iter().step_by(2) {
        table.ok(ready(&server, id, "here", Hints::NONE));
    }
    (server, matches)
}

#[test]
fn matches_of_a_thousand_players_that_nobody_picked_up_fail_step_by_step() {
    let mut table = Table::with(on(FastSchedule::OnSchedule), Vec::new());
    let ids = submit_many(&mut table, 140, &crowd(MAX_PLAYERS));
    table.stop_for(secs(3600));
    let ticks = finish_with_a_restart(&mut table);
    assert!(ticks > 20, "{ticks}");
    assert_eq!(failed(&table, FailReason::PickupTimeout, &ids), ids.len());
}

#[test]
fn many_small_matches_fail_step_by_step_when_a_timer_is_lowered() {
    let mut table = Table::with(on(FastSchedule::OnSchedule), Vec::new());
    let ids = submit_many(&mut table, MANY, &spec(&["ann"]));
    table.stop_for(secs(10));
    let change = SettingsChange { match_pickup_time: Some(secs(5)), ..SettingsChange::default() };
    table.input(Command::Reconfigure { change });
    finish_with_a_restart(&mut table);
    assert_eq!(failed(&table, FailReason::PickupTimeout, &ids), ids.len());
}

#[test]
fn an_input_does_not_wait_for_what_else_is_due() {
    let mut table = Table::with(on(FastSchedule::OnSchedule), Vec::new());
    submit_many(&mut table, MANY, &spec(&["ann"]));
    table.stop_for(secs(3600));
    assert!(table.tick());
    for n in 0..10 {
        let (_, count) = table.input(submit(&game(&format!("new {n}")), spec(&["bob"])));
        assert_eq!(count, 2, "one record and one answer");
    }
    while table.tick() {}
    let left = table.broker.snapshot().matches;
    assert_eq!(left.len(), 10);
}

#[test]
fn a_fleet_is_removed_step_by_step_and_its_servers_get_nothing_meanwhile() {
    let mut table = Table::with_fleets(vec![Fleet { max: 1, ..fleet("eu") }]);
    let (server, held) = busy_server(&mut table, "eu", MANY);
    let queued: Vec<_> = (0..MANY).map(|n| table.submit(&format!("q{n:0>6}"), bound_to("eu"))).collect();
    let waiting = table.kept(request(&server, "players == 'nobody'", Hints::WILLING_TO_WAIT));
    table.input(Command::Configure { settings: Settings::default(), fleets: Vec::new() });
    assert_eq!(table.server_state(&server), "draining");
    let anywhere = game("anywhere");
    table.input(submit(&anywhere, spec(&["ann"])));
    assert_eq!(table.state(&anywhere), "queued");
    let (call, _) = table.input(request(&server, "", Hints::NONE));
    assert_eq!(
        table.answer(call),
        Some(Ok(Reply::Requested { offer: None, more: Vec::new(), hints: Hints::SHUTDOWN }))
    );
    assert!(table.answer(waiting).is_some(), "its waiting call has been turned away");
    finish_with_a_restart(&mut table);
    assert_eq!(failed(&table, FailReason::FleetRemoved, &queued), queued.len());
    assert_eq!(failed(&table, FailReason::FleetRemoved, &held), held.len());
    assert_eq!(table.server_state(&server), "gone");
    assert_eq!(table.stops(&server), 1);
    assert_eq!(table.state(&anywhere), "queued");
}

#[test]
fn a_server_with_many_matches_that_exits_loses_them_step_by_step() {
    let mut table = Table::with_fleets(vec![Fleet { max: 1, ..fleet("eu") }]);
    let (server, held) = busy_server(&mut table, "eu", 2 * MANY);
    let allocation = table.allocations()[0].id.clone();
    let (call, _) = table.input(Command::ServerExited { allocation: allocation.clone(), status: "9".into() });
    assert_eq!(table.answer(call), Some(Ok(Reply::Done)));
    assert_eq!((table.server_state(&server), table.allocation_state(&allocation)), ("draining", "ended"));
    assert_eq!(table.health("eu").failures, 1);
    finish_with_a_restart(&mut table);
    assert_eq!(failed(&table, FailReason::ServerExited, &held), MANY);
    let queued = table.broker.snapshot().matches;
    assert_eq!(queued.len(), MANY, "those whose players know no server go back to the queue");
    assert!(queued.values().all(|game| game.state == MatchState::Queued));
    assert_eq!(table.server_state(&server), "gone");
    assert_eq!(table.health("eu").failures, 1);
}

#[test]
fn a_server_with_many_matches_is_deallocated_step_by_step() {
    let mut table = Table::with_fleets(vec![Fleet { max: 1, ..fleet("eu") }]);
    let (server, held) = busy_server(&mut table, "eu", 2 * MANY);
    let (call, _) = table.input(Command::DeallocateServer { server: server.clone() });
    let Some(Ok(Reply::Deallocated { matches, .. })) = table.answer(call) else { panic!("no reply") };
    assert_eq!(matches.len(), held.len());
    finish_with_a_restart(&mut table);
    assert_eq!(failed(&table, FailReason::ServerDeallocated, &held), held.len());
    assert_eq!((table.server_state(&server), table.stops(&server)), ("gone", 1));
}

#[test]
fn all_who_watch_a_match_are_told_step_by_step() {
    let mut table = Table::with(on(FastSchedule::OnSchedule), Vec::new());
    let id = table.submit("m", spec(&["ann"]));
    let seen = table.find(&id).changed_seq;
    let calls: Vec<_> =
        (0..2 * STEP_RECORDS).map(|_| table.input(Command::WatchMatch { id: id.clone(), seen }).0).collect();
    table.input(Command::CancelMatch { id: id.clone() });
    assert!(table.tick(), "some have yet to be told");
    while table.tick() {}
    for call in calls {
        let Some(Ok(Reply::Match(told))) = table.answer(call) else { panic!("{call:?} was not told") };
        assert_eq!(told.state.name(), "cancelled");
    }
}

#[test]
fn many_waits_that_end_at_once_end_step_by_step() {
    let mut table = Table::new();
    let calls: Vec<_> = (0..MANY)
        .map(|n| table.input(request(&server(&n.to_string()), "", Hints::WILLING_TO_WAIT)).0)
        .collect();
    table.stop_for(secs(60));
    let mut ticks = 0;
    while table.tick() {
        ticks += 1;
    }
    assert!(ticks > 1);
    for call in calls {
        assert_eq!(
            table.answer(call),
            Some(Ok(Reply::Requested { offer: None, more: Vec::new(), hints: Hints::NONE }))
        );
    }
}

#[test]
fn a_large_warm_pool_and_a_long_schedule_are_ordered_step_by_step() {
    let most = 3 * STEP_RECORDS;
    let settings = Settings { delay_allocation: secs(0), ..on(FastSchedule::OnSchedule) };
    let mut table = Table::with(settings.clone(), vec![Fleet { max: most as u32, ..fleet("eu") }]);
    submit_many(&mut table, MANY, &spec(&["ann"]));
    table.stop_for(secs(31));
    finish_with_a_restart(&mut table);
    assert_eq!(table.allocations().len(), MANY, "each has a server of its own");
    let warm = (most - MANY) as u32;
    table.input(Command::Configure {
        settings,
        fleets: vec![Fleet { max: most as u32, warm, ..fleet("eu") }],
    });
    while table.tick() {}
    assert_eq!(table.allocations().len(), most);
}

#[test]
fn a_match_that_is_too_large_is_refused_alone() {
    let with = |count: usize| {
        let text = format!(r#"{{"text": "{}"}}"#, "x".repeat(65_000));
        let each = Properties::parse(&text).unwrap();
        let players: Vec<PlayerId> = (0..count).map(|n| player(&n.to_string())).collect();
        let player_properties: BTreeMap<_, _> = players.iter().map(|id| (id.clone(), each.clone())).collect();
        MatchSpec { players, player_properties, ..MatchSpec::default() }
    };
    let (fits, too_large) = (with(64), with(65));
    assert!(fits.byte_size() <= MAX_MATCH_BYTES && too_large.byte_size() > MAX_MATCH_BYTES);
    let mut table = Table::new();
    let refusal = table.refused("too_large", submit(&game("m"), too_large.clone()));
    assert_eq!(refusal.kind(), RefusalKind::TooLarge);
    assert!(refusal.to_string().contains("4194304"), "{refusal}");
    table.refused("too_large", Command::AllocateServer { id: None, spec: Some(too_large) });
    table.submit("m", fits);
}

#[test]
fn connection_details_that_are_too_large_together_are_refused_alone() {
    let with = |count: usize| {
        let details = "x".repeat(4096);
        let each = (0..count).map(|n| (player(&n.to_string()), details.as_str().into()));
        Connection { per_player: each.collect(), ..at("everybody") }
    };
    let mut table = Table::new();
    let id = table.submit("m", spec(&["ann"]));
    let server = server("s");
    table.ok(request(&server, "", Hints::NONE));
    let told = |connection| Command::MatchReady {
        server: server.clone(),
        match_id: id.clone(),
        connection,
        hints: Hints::NONE,
    };
    table.refused("too_large", told(with(1_024)));
    table.ok(told(with(900)));
}

#[test]
fn so_many_fleets_can_be_configured() {
    let fleets = |count: usize| (0..count).map(|n| fleet(&format!("f{n}"))).collect();
    let command = |count| Command::Configure { settings: Settings::default(), fleets: fleets(count) };
    let mut table = Table::new();
    table.refused("too_many", command(1_001));
    table.done(command(1_000));
    assert!(table.broker.fleets(None, usize::MAX).items.iter().any(|view| view.fleet.id == fleet_id("f999")));
}
