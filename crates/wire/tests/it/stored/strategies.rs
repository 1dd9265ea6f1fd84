//! Arbitrary events and snapshots, within what the types of the domain allow.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
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

/// Maximum number of elements of a list.
const MANY: usize = 4;

macro_rules! ids {
    ($($function:ident = $kind:ident;)*) => {$(
        fn $function() -> impl Strategy<Value = $kind> {
            "[ -~]{1,128}".prop_map(|text| $kind::new(&text).unwrap())
        }
    )*};
}

ids! {
    match_id = MatchId;
    player = PlayerId;
    server_id = ServerId;
    seat_id = SeatId;
    allocation_id = AllocationId;
    fleet_id = FleetId;
    key = IdempotencyKey;
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn text() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Arc::from)
}

fn players() -> impl Strategy<Value = Vec<PlayerId>> {
    vec(player(), 0..MANY)
}

fn properties() -> impl Strategy<Value = Properties> {
    let json = prop_oneof![
        Just(String::new()),
        Just("{}".to_owned()),
        Just(r#" {"deep": [[{"a": null}]], "n": -1.5e300, "ü": "\ud83d\ude00"} "#.to_owned()),
        any::<(String, i64)>().prop_map(|(name, number)| serde_json::json!({ name: number }).to_string()),
    ];
    json.prop_map(|text| Properties::parse(&text).unwrap())
}

fn settings() -> impl Strategy<Value = Settings> {
    let fast_schedule =
        select(vec![FastSchedule::OnSchedule, FastSchedule::UnlessFree, FastSchedule::Always]);
    let durations = [(); 8].map(|()| duration());
    let others = any::<(u64, u64, bool)>();
    (fast_schedule, durations, others).prop_map(|(fast_schedule, durations, others)| {
        let [lifetime, pickup, ready, run, frequency, delay, wait, suspect_time] = durations;
        let (waiting_bytes, kept_bytes, lifetime_ends_matches) = others;
        Settings {
            fast_schedule,
            server_max_lifetime: lifetime,
            match_pickup_time: pickup,
            match_ready_time: ready,
            match_max_run_time: run,
            schedule_frequency: frequency,
            delay_allocation: delay,
            waiting_bytes,
            kept_bytes,
            wait,
            lifetime_ends_matches,
            suspect_time,
        }
    })
}

fn fleet() -> impl Strategy<Value = Fleet> {
    let game = any::<(String, String)>().prop_map(|(name, version)| GameVersion { name, version });
    let game = (option::of(game), any::<bool>());
    let times = (duration(), option::of(duration()));
    (fleet_id(), any::<String>(), any::<(u32, u32, i32)>(), times, game).prop_map(
        |(id, requirements, (max, warm, preference), (ready_deadline, max_run_time), (game, is_default))| {
            Fleet { id, game, is_default, requirements, max, warm, ready_deadline, max_run_time, preference }
        },
    )
}

fn configured() -> impl Strategy<Value = Configured> {
    (settings(), vec(fleet(), 0..MANY)).prop_map(|(settings, fleets)| Configured { settings, fleets })
}

fn spec() -> impl Strategy<Value = Arc<MatchSpec>> {
    let all = (
        players(),
        properties(),
        btree_map(player(), properties(), 0..MANY),
        option::of(any::<u32>()),
        option::of(fleet_id()),
        option::of(key()),
    );
    all.prop_map(|(players, properties, player_properties, capacity, fleet, idempotency_key)| {
        Arc::new(MatchSpec { players, properties, player_properties, capacity, fleet, idempotency_key })
    })
}

fn connection() -> impl Strategy<Value = Arc<Connection>> {
    (text(), btree_map(player(), text(), 0..MANY))
        .prop_map(|(details, per_player)| Arc::new(Connection { details, per_player }))
}

fn end_cause() -> impl Strategy<Value = EndCause> {
    select(EndCause::ALL)
}

fn fail_reason() -> impl Strategy<Value = FailReason> {
    select(FailReason::ALL)
}

fn cancel_cause() -> impl Strategy<Value = CancelCause> {
    select(CancelCause::ALL)
}

fn seat_end() -> impl Strategy<Value = SeatEnd> {
    select(SeatEnd::ALL)
}

fn gone() -> impl Strategy<Value = Gone> {
    (gone_cause(), time(), any::<bool>()).prop_map(|(cause, at, ordered)| Gone { cause, at, ordered })
}

fn gone_cause() -> impl Strategy<Value = GoneCause> {
    select(GoneCause::ALL)
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => configuration_event(),
        8 => match_event(),
        3 => seat_event(),
        6 => server_event(),
        5 => allocation_event(),
    ]
}

fn configuration_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        configured().prop_map(|Configured { settings, fleets }| Event::Configured { settings, fleets }),
        settings().prop_map(|settings| Event::Reconfigured { settings }),
    ]
}

fn match_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (match_id(), spec()).prop_map(|(id, spec)| Event::MatchQueued { id, spec }),
        (match_id(), server_id()).prop_map(|(id, server)| Event::MatchPickedUp { id, server }),
        (match_id(), server_id(), option::of(fail_reason()))
            .prop_map(|(id, server, reason)| Event::MatchReturned { id, server, reason }),
        (match_id(), server_id(), players(), connection()).prop_map(|(id, server, players, connection)| {
            Event::MatchReady { id, server, players, connection }
        }),
        (match_id(), players(), end_cause()).prop_map(|(id, players, cause)| Event::MatchEnded {
            id,
            players,
            cause
        }),
        (match_id(), players(), fail_reason()).prop_map(|(id, players, reason)| Event::MatchFailed {
            id,
            players,
            reason
        }),
        (match_id(), players(), cancel_cause()).prop_map(|(id, players, cause)| Event::MatchCancelled {
            id,
            players,
            cause
        }),
        (match_id(), any::<u32>()).prop_map(|(id, free)| Event::MatchPlacesReported { id, free }),
    ]
}

fn seat_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (seat_id(), match_id(), player(), any::<u64>(), duration()).prop_map(
            |(seat, match_id, player, client_id, ttl)| Event::SeatReserved {
                seat,
                match_id,
                player,
                client_id,
                ttl
            }
        ),
        (seat_id(), match_id()).prop_map(|(seat, match_id)| Event::SeatRenewed { seat, match_id }),
        (seat_id(), match_id()).prop_map(|(seat, match_id)| Event::SeatClaimed { seat, match_id }),
        (seat_id(), match_id(), seat_end()).prop_map(|(seat, match_id, end)| Event::SeatClosed {
            seat,
            match_id,
            end
        }),
    ]
}

fn server_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        server_id().prop_map(|server| Event::ServerRegistered { server }),
        server_id().prop_map(|server| Event::ServerAvailable { server }),
        server_id().prop_map(|server| Event::ServerFull { server }),
        server_id().prop_map(|server| Event::ServerNotFull { server }),
        (server_id(), gone_cause()).prop_map(|(server, cause)| Event::ServerDraining { server, cause }),
        (server_id(), gone_cause()).prop_map(|(server, cause)| Event::ServerGone { server, cause }),
    ]
}

fn allocation_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (allocation_id(), server_id(), fleet_id(), option::of(match_id())).prop_map(
            |(allocation, server, fleet, for_match)| Event::AllocationOrdered {
                allocation,
                server,
                fleet,
                for_match
            }
        ),
        (allocation_id(), match_id())
            .prop_map(|(allocation, for_match)| Event::AllocationAssigned { allocation, for_match }),
        allocation_id().prop_map(|allocation| Event::AllocationStarted { allocation }),
        (allocation_id(), fleet_id(), option::of(text()))
            .prop_map(|(allocation, fleet, error)| Event::AllocationStopOrdered { allocation, fleet, error }),
        (allocation_id(), fleet_id(), option::of(text()))
            .prop_map(|(allocation, fleet, error)| Event::AllocationEnded { allocation, fleet, error }),
    ]
}

fn match_state() -> impl Strategy<Value = MatchState> {
    prop_oneof![
        Just(MatchState::Queued),
        time().prop_map(|at| MatchState::PickedUp { at }),
        (time(), connection()).prop_map(|(at, connection)| MatchState::Ready { at, connection }),
        (time(), end_cause()).prop_map(|(at, cause)| MatchState::Ended { at, cause }),
        (time(), fail_reason()).prop_map(|(at, reason)| MatchState::Failed { at, reason }),
        (time(), cancel_cause()).prop_map(|(at, cause)| MatchState::Cancelled { at, cause }),
    ]
}

fn seat() -> impl Strategy<Value = Seat> {
    let state = prop_oneof![
        option::of(time()).prop_map(|expires_at| SeatState::Reserved { expires_at }),
        (time(), option::of(time())).prop_map(|(at, again_until)| SeatState::Claimed { at, again_until }),
    ];
    (seat_id(), match_id(), player(), any::<u64>(), duration(), state).prop_map(
        |(id, match_id, player, client_id, ttl, state)| Seat { id, match_id, player, client_id, ttl, state },
    )
}

fn one_match() -> impl Strategy<Value = Match> {
    let numbers = any::<(u64, u64, u32)>();
    let places =
        (vec(seat(), 0..MANY), option::of(any::<u32>()), btree_set(player(), 0..MANY), any::<bool>());
    let servers = (option::of(server_id()), option::of(fail_reason()));
    (match_id(), spec(), match_state(), numbers, time(), servers, places).prop_map(
        |(
            id,
            spec,
            state,
            (queued_seq, changed_seq, pickups),
            queued_at,
            (server, lost),
            (seats, reported_free, left, stripped),
        )| {
            Match {
                id,
                seats: Seats::of(&spec.players, seats, left),
                spec,
                state,
                queued_seq,
                queued_at,
                changed_seq,
                pickups,
                server,
                lost,
                reported_free,
                stripped,
            }
        },
    )
}

fn server() -> impl Strategy<Value = Server> {
    let state = prop_oneof![
        Just(ServerState::Pending),
        Just(ServerState::Available),
        Just(ServerState::Full),
        gone_cause().prop_map(|cause| ServerState::Draining { cause }),
    ];
    (server_id(), option::of(fleet_id()), state, time(), btree_set(match_id(), 0..MANY)).prop_map(
        |(id, fleet, state, born_at, matches)| Server {
            id,
            fleet,
            state,
            born_at,
            matches: matches.into_iter().collect(),
        },
    )
}

fn allocation() -> impl Strategy<Value = Allocation> {
    let state = prop_oneof![
        Just(AllocationState::Ordered),
        Just(AllocationState::Started),
        Just(AllocationState::Live),
        time().prop_map(|since| AllocationState::Leaving { since }),
        Just(AllocationState::Stopping),
    ];
    (allocation_id(), server_id(), fleet_id(), option::of(match_id()), time(), state).prop_map(
        |(id, server, fleet, for_match, ordered_at, state)| Allocation {
            id,
            server,
            fleet,
            for_match,
            ordered_at,
            state,
        },
    )
}

fn health() -> impl Strategy<Value = FleetHealth> {
    (any::<u32>(), time(), option::of(text())).prop_map(|(failures, backoff_until, last_error)| FleetHealth {
        failures,
        backoff_until,
        last_error,
    })
}

fn by_id<All: FromIterator<(MatchId, Arc<Match>)>>(matches: Vec<Match>) -> All {
    matches.into_iter().map(|game| (game.id.clone(), Arc::new(game))).collect()
}

pub(super) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let head = (any::<u64>(), settings(), option::of(configured()));
    let matches = (vec(one_match(), 0..MANY), vec(one_match(), 0..MANY));
    let servers = (vec(server(), 0..MANY), vec((server_id(), gone()), 0..MANY));
    let fleets = (vec((fleet_id(), health()), 0..MANY), vec(allocation(), 0..MANY));
    let ended = vec(seat_id(), 0..MANY).prop_map(Arc::from);
    let seats = (vec((seat_id(), seat_end()), 0..MANY), vec((match_id(), ended), 0..MANY));
    let order = (option::of(key()), any::<[u8; 16]>(), time());
    let order = order.prop_map(|(key, content, over_at)| PastOrder {
        key,
        content: Digest::from_bytes(content),
        over_at,
    });
    let over = (seats, vec((match_id(), order), 0..MANY));
    (head, matches, servers, fleets, over).prop_map(
        |(
            (seq, settings, configured),
            (matches, finished),
            (servers, gone),
            (health, allocations),
            ((closed_seats, ended_seats), orders),
        )| {
            Snapshot {
                seq,
                settings,
                configured: configured.map(Arc::new),
                health: health.into_iter().collect(),
                matches: by_id(matches),
                finished: by_id(finished),
                servers: servers.into_iter().map(|server| (server.id.clone(), server)).collect(),
                gone: gone.into_iter().collect(),
                allocations: allocations.into_iter().map(|order| (order.id.clone(), order)).collect(),
                closed_seats: closed_seats.into_iter().collect(),
                ended_seats: ended_seats.into_iter().collect(),
                orders: orders.into_iter().collect(),
            }
        },
    )
}
