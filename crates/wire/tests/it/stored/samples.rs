//! One of each event and a snapshot with everything in it, always the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use sortie_domain::broker::model::{
    Allocation, AllocationState, CancelCause, EndCause, FailReason, FastSchedule, Fleet, FleetHealth, Gone,
    GoneCause, Match, MatchState, Seat, SeatEnd, SeatState, Seats, Server, ServerState, Settings,
};
use sortie_domain::broker::{Configured, Event, PastOrder, Snapshot};
use sortie_domain::connection::Connection;
use sortie_domain::content::Digest;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

fn match_id(text: &str) -> MatchId {
    MatchId::new(text).unwrap()
}

fn server_id(text: &str) -> ServerId {
    ServerId::new(text).unwrap()
}

fn seat_id(text: &str) -> SeatId {
    SeatId::new(text).unwrap()
}

fn allocation_id(text: &str) -> AllocationId {
    AllocationId::new(text).unwrap()
}

fn fleet_id() -> FleetId {
    FleetId::new("eu").unwrap()
}

fn player(text: &str) -> PlayerId {
    PlayerId::new(text).unwrap()
}

fn players() -> Vec<PlayerId> {
    vec![player("ann"), player("ben")]
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + second * 1_000)
}

/// A server that is ten minutes old has failed.
fn configured_settings() -> Settings {
    let lifetime = Duration::from_secs(10 * 60);
    Settings { server_max_lifetime: lifetime, lifetime_ends_matches: true, ..Settings::default() }
}

fn settings() -> Settings {
    Settings {
        fast_schedule: FastSchedule::Always,
        wait: Duration::from_millis(1_500),
        ..configured_settings()
    }
}

fn fleet() -> Fleet {
    Fleet {
        id: fleet_id(),
        game: Some(GameVersion { name: "arena".to_owned(), version: "1.0".to_owned() }),
        is_default: true,
        requirements: "MatchProperties.region == 'eu'".to_owned(),
        max: 300,
        warm: 2,
        ready_deadline: Duration::from_secs(60),
        max_run_time: None,
        preference: -1,
    }
}

fn spec() -> MatchSpec {
    MatchSpec {
        players: players(),
        properties: Properties::parse(r#"{"region": "eu", "ranked": true}"#).unwrap(),
        player_properties: BTreeMap::from([
            (player("ann"), Properties::parse(r#"{"mmr": 1500.5}"#).unwrap()),
            (player("ben"), Properties::default()),
        ]),
        capacity: Some(4),
        fleet: Some(fleet_id()),
        idempotency_key: Some(IdempotencyKey::new("order 7").unwrap()),
    }
}

fn connection() -> Connection {
    Connection {
        details: Arc::from("203.0.113.7:7777"),
        per_player: BTreeMap::from([(player("ben"), Arc::from("[2001:db8::7]:7777"))]),
    }
}

pub(super) fn events() -> Vec<Event> {
    let mut events = match_events();
    events.extend(seat_events());
    events.extend(server_events());
    events.extend(allocation_events());
    events.push(Event::MatchPlacesReported { id: match_id("match-1"), free: 3 });
    events.push(Event::SeatRenewed { seat: seat_id("seat-1"), match_id: match_id("match-1") });
    events
}

fn match_events() -> Vec<Event> {
    let (id, server) = (match_id("match-1"), server_id("server-1"));
    vec![
        Event::Configured { settings: settings(), fleets: vec![fleet()] },
        Event::Reconfigured { settings: settings() },
        Event::MatchQueued { id: id.clone(), spec: Arc::new(spec()) },
        Event::MatchPickedUp { id: id.clone(), server: server.clone() },
        Event::MatchReturned { id: id.clone(), server: server.clone(), reason: None },
        Event::MatchReady { id: id.clone(), server, players: players(), connection: Arc::new(connection()) },
        Event::MatchEnded { id: id.clone(), players: players(), cause: EndCause::MaxRunTime },
        Event::MatchFailed { id: id.clone(), players: players(), reason: FailReason::ServerExited },
        Event::MatchCancelled { id, players: players(), cause: CancelCause::Abandoned },
    ]
}

fn seat_events() -> Vec<Event> {
    let (seat, match_id) = (seat_id("seat-1"), match_id("match-1"));
    vec![
        Event::SeatReserved {
            seat: seat.clone(),
            match_id: match_id.clone(),
            player: player("cleo"),
            client_id: u64::MAX,
            ttl: Duration::from_secs(30),
        },
        Event::SeatClaimed { seat: seat.clone(), match_id: match_id.clone() },
        Event::SeatClosed { seat, match_id, end: SeatEnd::Expired },
    ]
}

fn server_events() -> Vec<Event> {
    let server = server_id("server-1");
    vec![
        Event::ServerRegistered { server: server.clone() },
        Event::ServerAvailable { server: server.clone() },
        Event::ServerFull { server: server.clone() },
        Event::ServerNotFull { server: server.clone() },
        Event::ServerDraining { server: server.clone(), cause: GoneCause::Surplus },
        Event::ServerGone { server, cause: GoneCause::FleetRemoved },
    ]
}

fn allocation_events() -> Vec<Event> {
    let allocation = allocation_id("allocation-1");
    vec![
        Event::AllocationOrdered {
            allocation: allocation.clone(),
            server: server_id("server-2"),
            fleet: fleet_id(),
            for_match: Some(match_id("match-1")),
        },
        Event::AllocationAssigned { allocation: allocation.clone(), for_match: match_id("match-2") },
        Event::AllocationStarted { allocation: allocation.clone() },
        Event::AllocationStopOrdered { allocation: allocation.clone(), fleet: fleet_id(), error: None },
        Event::AllocationEnded { allocation, fleet: fleet_id(), error: Some(Arc::from("no capacity")) },
    ]
}

pub(super) fn snapshot() -> Snapshot {
    Snapshot {
        seq: 300,
        settings: settings(),
        configured: Some(Arc::new(Configured { settings: configured_settings(), fleets: vec![fleet()] })),
        health: OrdMap::from(vec![(
            fleet_id(),
            FleetHealth { failures: 3, backoff_until: at(9), last_error: Some(Arc::from("no capacity")) },
        )]),
        matches: by_id([
            one_match("match-1", MatchState::Queued, &[]),
            one_match("match-2", MatchState::PickedUp { at: at(2) }, &[]),
            Match {
                reported_free: Some(0),
                ..one_match(
                    "match-3",
                    MatchState::Ready { at: at(3), connection: Arc::new(connection()) },
                    &["ben"],
                )
            },
        ]),
        finished: by_id([
            Match {
                stripped: true,
                ..one_match("match-4", MatchState::Ended { at: at(4), cause: EndCause::Server }, &[])
            },
            one_match("match-5", MatchState::Failed { at: at(5), reason: FailReason::PickupTimeout }, &[]),
            one_match("match-6", MatchState::Cancelled { at: at(6), cause: CancelCause::Requested }, &[]),
        ]),
        servers: [
            one_server("server-1", ServerState::Pending),
            one_server("server-2", ServerState::Available),
            one_server("server-3", ServerState::Full),
            one_server("server-4", ServerState::Draining { cause: GoneCause::ShutDown }),
        ]
        .map(|server| (server.id.clone(), server))
        .into_iter()
        .collect(),
        gone: [(server_id("server-5"), Gone { cause: GoneCause::Exited, at: at(6), ordered: true })]
            .into_iter()
            .collect(),
        allocations: [
            one_allocation("allocation-1", AllocationState::Ordered),
            one_allocation("allocation-2", AllocationState::Started),
            one_allocation("allocation-3", AllocationState::Live),
            one_allocation("allocation-4", AllocationState::Leaving { since: at(7) }),
            one_allocation("allocation-5", AllocationState::Stopping),
        ]
        .map(|order| (order.id.clone(), order))
        .into_iter()
        .collect(),
        closed_seats: [(seat_id("seat-3"), SeatEnd::MatchOver)].into_iter().collect(),
        ended_seats: [(match_id("match-4"), Arc::from([seat_id("seat-4"), seat_id("seat-5")]))]
            .into_iter()
            .collect(),
        orders: [(
            match_id("match-4"),
            PastOrder {
                key: Some(IdempotencyKey::new("order 66").unwrap()),
                content: Digest::from_bytes(*b"0123456789abcdef"),
                over_at: at(4),
            },
        )]
        .into_iter()
        .collect(),
    }
}

fn by_id<All: FromIterator<(MatchId, Arc<Match>)>>(matches: impl IntoIterator<Item = Match>) -> All {
    matches.into_iter().map(|game| (game.id.clone(), Arc::new(game))).collect()
}

fn one_match(id: &str, state: MatchState, left: &[&str]) -> Match {
    let seats = [
        one_seat("seat-1", id, "cleo", SeatState::Reserved { expires_at: Some(at(8)) }),
        one_seat("seat-2", id, "dora", SeatState::Claimed { at: at(1), again_until: None }),
    ];
    let spec = Arc::new(spec());
    Match {
        id: match_id(id),
        seats: Seats::of(&spec.players, seats, left.iter().map(|name| player(name))),
        spec,
        state,
        queued_seq: 12,
        queued_at: at(0),
        changed_seq: 299,
        pickups: 1,
        server: Some(server_id("server-2")),
        lost: None,
        reported_free: None,
        stripped: false,
    }
}

fn one_seat(id: &str, of_match: &str, name: &str, state: SeatState) -> Seat {
    Seat {
        id: seat_id(id),
        match_id: match_id(of_match),
        player: player(name),
        client_id: u64::MAX,
        ttl: Duration::from_secs(30),
        state,
    }
}

fn one_server(id: &str, state: ServerState) -> Server {
    Server {
        id: server_id(id),
        fleet: Some(fleet_id()),
        state,
        born_at: at(0),
        matches: [match_id("match-2"), match_id("match-3")].into_iter().collect(),
    }
}

fn one_allocation(id: &str, state: AllocationState) -> Allocation {
    Allocation {
        id: allocation_id(id),
        server: server_id("server-1"),
        fleet: fleet_id(),
        for_match: Some(match_id("match-1")),
        ordered_at: at(0),
        state,
    }
}
