//! Limits: the last accepted value, and the first refused one.

use std::time::Duration;

use sortie_domain::broker::model::{Fleet, Settings, SettingsChange};
use sortie_domain::broker::{
    CLOSED_SEATS_KEPT, Command, FINISHED_KEPT, GONE_KEPT, Hints, MAX_WAITERS_OF_SERVER,
    MAX_WATCHERS_OF_MATCH, Refusal, Reply, SeatsElsewhere,
};
use sortie_domain::connection::{Connection, MAX_CONNECTION_BYTES};
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::match_spec::{MAX_CAPACITY, MAX_PLAYERS, MatchSpec};
use sortie_domain::page::PAGE_BYTES;
use sortie_domain::properties::{MAX_PROPERTIES_BYTES, Properties};
use sortie_domain::refusal::RefusalKind;
use sortie_domain::requirements::{MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_OPERATORS};
use sortie_domain::size::Size;

use crate::table::{
    MS, Table, at, fleet, fleet_id, game, key, player, request, secs, server, spec, submit, with_properties,
};

const YEAR: Duration = secs(366 * 24 * 3600);

/// Refused because of that field.
fn wrong(table: &mut Table, field: &str, command: Command) {
    match table.refused("invalid_field", command) {
        Refusal::InvalidField { field: found, problem } => {
            assert_eq!(found, field);
            assert!(!problem.is_empty());
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_match_names_each_of_at_most_so_many_players() {
    let many = |count: usize| -> MatchSpec {
        MatchSpec { players: (0..count).map(|n| player(&n.to_string())).collect(), ..MatchSpec::default() }
    };
    let mut table = Table::new();
    table.submit("most", many(MAX_PLAYERS));
    wrong(&mut table, "players", submit(&game("more"), many(MAX_PLAYERS + 1)));
    wrong(&mut table, "players", submit(&game("twice"), spec(&["ann", "bob", "ann"])));
}

#[test]
fn a_match_has_room_for_its_players_and_no_more_than_so_many_seats() {
    let with = |capacity| MatchSpec { capacity: Some(capacity), ..spec(&["ann", "bob"]) };
    let mut table = Table::new();
    table.submit("least", with(2));
    table.submit("most", with(MAX_CAPACITY));
    for capacity in [0, 1, MAX_CAPACITY + 1, u32::MAX] {
        wrong(&mut table, "capacity", submit(&game("wrong"), with(capacity)));
    }
}

#[test]
fn whoever_joins_asks_for_a_possible_capacity_and_time() {
    let join = |capacity, ttl| Command::Join {
        fleet: fleet_id("eu"),
        player: player("ann"),
        capacity,
        ttl,
        properties: Properties::default(),
        beside: [].into(),
        rejoin: true,
    };
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    for capacity in [0, MAX_CAPACITY + 1] {
        wrong(&mut table, "capacity", join(capacity, secs(10)));
    }
    for ttl in [Duration::ZERO, secs(1) - MS, secs(3600) + MS] {
        wrong(&mut table, "ttl", join(2, ttl));
    }
    let Reply::Seated { game: found, .. } = table.ok(join(MAX_CAPACITY, secs(3600))) else { panic!() };
    let reserve = |ttl| Command::ReserveSeat {
        match_id: found.id.clone(),
        player: player("bob"),
        ttl,
        elsewhere: SeatsElsewhere::Ignored,
    };
    wrong(&mut table, "ttl", reserve(secs(1) - MS));
    table.ok(reserve(secs(1)));
}

fn ready_with(host: &ServerId, id: &MatchId, connection: Connection) -> Command {
    Command::MatchReady { server: host.clone(), match_id: id.clone(), connection, hints: Hints::NONE }
}

fn for_ann(details: &str) -> Connection {
    Connection { per_player: [(player("ann"), details.into())].into(), ..at("203.0.113.7:7777") }
}

#[test]
fn connection_details_have_a_longest_length() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    let with = |connection| ready_with(&host, &id, connection);
    let (most, more) = ("x".repeat(MAX_CONNECTION_BYTES), "x".repeat(MAX_CONNECTION_BYTES + 1));
    wrong(&mut table, "connection_details", with(at(&more)));
    wrong(&mut table, "per_player_connection_details", with(for_ann(&more)));
    table.noted(with(Connection { details: most.as_str().into(), ..for_ann(&most) }));
}

#[test]
fn connection_details_hold_nothing_that_deceives_a_terminal() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    let with = |connection| ready_with(&host, &id, connection);
    for bad in
        ['\u{1b}', '\u{7}', '\r', '\n', '\t', '\0', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{200f}']
    {
        let details = format!("203.0.113.7:7777{bad}[2J");
        wrong(&mut table, "connection_details", with(at(&details)));
        wrong(&mut table, "per_player_connection_details", with(for_ann(&details)));
    }
    table.noted(with(for_ann("zażółć 日本 wss://[2001:db8::1]:7777/?a=b c")));
}

#[test]
fn properties_are_json_objects_of_limited_size() {
    let object = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - r#"{"a":""}"#.len()));
    assert!(Properties::parse(&object(MAX_PROPERTIES_BYTES)).is_ok());
    assert!(Properties::parse(&object(MAX_PROPERTIES_BYTES + 1)).is_err());
    for wrong in ["[]", "1", "null", "\"text\"", "{", "{}{}", "{'a':1}"] {
        assert!(Properties::parse(wrong).is_err(), "{wrong}");
    }
    for nothing in ["", "  \n"] {
        assert_eq!(Properties::parse(nothing).unwrap().text(), None);
    }
    assert_eq!(Properties::parse(r#"{ "b" : 1 }"#).unwrap().text(), Some(r#"{ "b" : 1 }"#), "kept as sent");
}

#[test]
fn expressions_have_a_longest_length_a_deepest_nesting_and_most_operators() {
    let mut table = Table::new();
    let host = server("host");
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    let chained = |operators: usize| format!("a{}", ".a".repeat(operators));
    let long = |bytes: usize| format!("'{}'", "x".repeat(bytes - 2));
    for (most, more) in [
        (long(MAX_EXPRESSION_BYTES), long(MAX_EXPRESSION_BYTES + 1)),
        (nested(MAX_EXPRESSION_DEPTH), nested(MAX_EXPRESSION_DEPTH + 1)),
        (chained(MAX_EXPRESSION_OPERATORS), chained(MAX_EXPRESSION_OPERATORS + 1)),
    ] {
        table.refused("invalid_requirements", request(&host, &more, Hints::NONE));
        assert_eq!(table.request(&host, &most, Hints::NONE), (None, Hints::NONE));
    }
    let configure = |requirements: &str| Command::Configure {
        settings: Settings::default(),
        fleets: vec![Fleet { requirements: requirements.into(), ..fleet("eu") }],
    };
    table.refused("invalid_requirements", configure("a =="));
}

#[test]
fn one_server_waits_in_so_many_calls_at_most() {
    let mut table = Table::new();
    let host = server("host");
    let wait = || request(&server("host"), "", Hints::WILLING_TO_WAIT);
    let calls: Vec<_> = (0..MAX_WAITERS_OF_SERVER).map(|_| table.kept(wait())).collect();
    let refusal = table.refused("too_many", wait());
    assert_eq!(refusal.kind(), RefusalKind::Exhausted);
    assert!(refusal.to_string().contains(&MAX_WAITERS_OF_SERVER.to_string()), "{refusal}");
    table.kept(request(&server("other"), "", Hints::WILLING_TO_WAIT));
    table.abandon(calls[0]);
    table.kept(wait());
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn settings_out_of_range_are_refused_and_nothing_of_them_is_kept() {
    type Set = fn(&mut SettingsChange, Duration);
    let timers: [(&str, Duration, Set); 7] = [
        ("server_max_lifetime", secs(1), |change, to| change.server_max_lifetime = Some(to)),
        ("match_pickup_time", secs(1), |change, to| change.match_pickup_time = Some(to)),
        ("match_ready_time", secs(1), |change, to| change.match_ready_time = Some(to)),
        ("match_max_run_time", secs(1), |change, to| change.match_max_run_time = Some(to)),
        ("schedule_frequency", secs(1), |change, to| change.schedule_frequency = Some(to)),
        ("delay_allocation", Duration::ZERO, |change, to| change.delay_allocation = Some(to)),
        ("wait", Duration::ZERO, |change, to| change.wait = Some(to)),
    ];
    let mut table = Table::new();
    for (field, least, set) in timers {
        let change = |to| {
            let mut change = SettingsChange::default();
            set(&mut change, to);
            change
        };
        let before = table.broker.settings().clone();
        for to in [least.checked_sub(MS), Some(YEAR + MS), Some(Duration::MAX)].into_iter().flatten() {
            wrong(&mut table, field, Command::Reconfigure { change: change(to) });
            let settings = before.with(&change(to));
            wrong(&mut table, field, Command::Configure { settings, fleets: Vec::new() });
        }
        assert_eq!(table.broker.settings(), &before);
        for to in [least, YEAR] {
            table.change(change(to));
            assert_eq!(table.broker.settings(), &before.with(&change(to)));
        }
    }
    let mark = table.mark();
    table.change(SettingsChange { wait: Some(YEAR), ..SettingsChange::default() });
    table.change(SettingsChange::default());
    assert_eq!(table.kinds_since(mark), [""; 0], "an empty change has no event");
}

/// Plays and ends a match under its own key.
fn play(table: &mut Table, id: &MatchId, at_key: &str) {
    table.ok(submit(id, MatchSpec { idempotency_key: key(at_key), ..spec(&[]) }));
    table.ok(Command::CancelMatch { id: id.clone() });
}

#[test]
fn only_the_newest_matches_that_are_over_are_remembered() {
    let mut table = Table::new();
    let id = |n: usize| game(&format!("m{n:06}"));
    for n in 0..=FINISHED_KEPT {
        play(&mut table, &id(n), &format!("key {n}"));
    }
    assert!(table.broker.find_match(&id(0)).is_none());
    assert_eq!(table.state(&id(1)), "cancelled: requested");
    assert_eq!(table.all_matches().len(), FINISHED_KEPT);
}

#[test]
fn so_many_calls_wait_for_news_of_one_match_at_most() {
    let mut table = Table::new();
    let (one, other) = (table.submit("one", spec(&[])), table.submit("other", spec(&[])));
    let watch = |table: &Table, id: &MatchId| Command::WatchMatch {
        id: id.clone(),
        seen: table.find(id).changed_seq,
    };
    for _ in 0..MAX_WATCHERS_OF_MATCH {
        let command = watch(&table, &one);
        table.kept(command);
    }
    let (refused, kept) = (watch(&table, &one), watch(&table, &other));
    table.refused("too_many", refused);
    table.kept(kept);
    table.ok(Command::CancelMatch { id: one });
}

#[test]
fn only_the_newest_servers_that_are_gone_are_remembered() {
    let mut table = Table::new();
    let id = |n: usize| server(&format!("s{n:06}"));
    for n in 0..=GONE_KEPT {
        table.poll(&id(n));
        table.ok(Command::DeallocateServer { server: id(n) });
    }
    assert_eq!(table.sent_away(&id(1)), Hints::SHUTDOWN);
    assert_eq!(table.poll(&id(0)), None, "it is a stranger again");
}

#[test]
fn only_the_newest_seats_that_are_over_are_remembered() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let spec = MatchSpec { capacity: Some(2), fleet: Some(fleet_id("eu")), ..spec(&["ann"]) };
    let id = table.submit("m", spec);
    let mut seats = Vec::new();
    for _ in 0..=CLOSED_SEATS_KEPT {
        let (match_id, ttl) = (id.clone(), secs(10));
        let Reply::Seated { seat, .. } = table.ok(Command::ReserveSeat {
            match_id,
            player: player("bob"),
            ttl,
            elsewhere: SeatsElsewhere::Ignored,
        }) else {
            panic!()
        };
        table.done(Command::ReleaseSeat { seat: seat.id.clone() });
        seats.push(seat.id);
    }
    table.done(Command::ReleaseSeat { seat: seats[1].clone() });
    table.refused("seat_not_found", Command::ReleaseSeat { seat: seats[0].clone() });
}

#[test]
fn a_page_ends_once_it_is_large() {
    let mut table = Table::new();
    let large = format!(r#"{{"a": "{}"}}"#, "x".repeat(60_000));
    for n in 0..40 {
        table.submit(&format!("m{n:02}"), with_properties(&large));
    }
    let (mut pages, mut seen, mut after) = (0, 0, None);
    loop {
        let page = table.broker.matches(&[], after.as_ref(), 100);
        let bytes: usize = page.items.iter().map(Size::byte_size).sum();
        assert!(!page.items.is_empty() && bytes < PAGE_BYTES + 100_000, "{bytes} bytes");
        (pages, seen, after) =
            (pages + 1, seen + page.items.len(), page.items.last().map(|game| game.id.clone()));
        if !page.more {
            break;
        }
    }
    assert_eq!((pages, seen), (3, 40));
}
