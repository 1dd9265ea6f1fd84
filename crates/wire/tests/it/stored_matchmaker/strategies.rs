//! Arbitrary events and snapshots, within what the types of the domain allow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sortie_domain::connection::Connection;
use sortie_domain::content::Digest;
use sortie_domain::ids::{HookId, IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::{
    CancelCause, Check, DissolveCause, FailCause, Formation, LostMatch, Named, Offered, Party, Player,
    QueuePlace, Round, SeatOffer, Stage, Ticket, TicketEnd, TicketSpec, TicketState,
};
use sortie_domain::matchmaking::order::UsedKey;
use sortie_domain::matchmaking::settings::{
    About, Backfill, ExpirationAction, Hook, HookAddress, HookPoint, Measure, Need, OnFailure, OutsideHook,
    Queue, Rule, RuleKind, Settings, WidenStep,
};
use sortie_domain::matchmaking::{Event, Snapshot};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use super::samples::by_place;

/// Maximum number of elements of a list.
const MANY: usize = 3;

macro_rules! ids {
    ($($function:ident = $kind:ident;)*) => {$(
        fn $function() -> impl Strategy<Value = $kind> {
            "[ -~]{1,20}".prop_map(|text| $kind::new(&text).unwrap())
        }
    )*};
}

ids! {
    match_id = MatchId;
    player_id = PlayerId;
    ticket_id = TicketId;
    queue_id = QueueId;
    region = RegionId;
    hook_id = HookId;
    key = IdempotencyKey;
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_millis)
}

fn duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_millis)
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}".prop_map(Arc::from)
}

fn name() -> impl Strategy<Value = Box<str>> {
    "\\PC{0,12}".prop_map(Box::from)
}

/// Any number except NaN, including infinities.
fn number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{INFINITE, NEGATIVE, NORMAL, POSITIVE, SUBNORMAL};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | INFINITE
}

fn properties() -> impl Strategy<Value = Properties> {
    let texts = vec!["", "{}", r#" {"deep": [[{"a": null}]], "n": -1.5e300} "#];
    select(texts).prop_map(|text| Properties::parse(text).unwrap())
}

fn check() -> impl Strategy<Value = Check> {
    (hook_id(), time()).prop_map(|(hook, until)| Check { hook, until })
}

fn named() -> impl Strategy<Value = Named> {
    (ticket_id(), vec(player_id(), 0..MANY)).prop_map(|(ticket, players)| Named { ticket, players })
}

fn teams() -> impl Strategy<Value = Arc<[Vec<Named>]>> {
    vec(vec(named(), 0..MANY), 0..MANY).prop_map(Arc::from)
}

fn ratings() -> impl Strategy<Value = BTreeMap<Box<str>, f64>> {
    btree_map(name(), number(), 0..MANY)
}

fn player() -> impl Strategy<Value = Player> {
    let latencies = btree_map(region(), any::<u32>(), 0..MANY);
    (player_id(), ratings(), latencies, vec(player_id(), 0..MANY), properties()).prop_map(
        |(id, ratings, latencies, blocked, properties)| Player {
            id,
            ratings,
            latencies,
            blocked,
            properties,
        },
    )
}

fn spec() -> impl Strategy<Value = Arc<TicketSpec>> {
    let party = (option::of(name()), vec(player(), 0..MANY)).prop_map(|(id, players)| Party { id, players });
    let latencies = btree_map(region(), any::<u32>(), 0..MANY);
    let all = (
        queue_id(),
        vec(party, 0..MANY),
        option::of(player_id()),
        properties(),
        latencies,
        option::of(key()),
        option::of(duration()),
        option::of(ticket_id()),
    );
    all.prop_map(|(queue, parties, leader, properties, latencies, idempotency_key, ttl, replaces)| {
        let spec =
            TicketSpec { queue, parties, leader, properties, latencies, idempotency_key, ttl, replaces };
        Arc::new(spec)
    })
}

fn match_spec() -> impl Strategy<Value = Arc<MatchSpec>> {
    let of_players = btree_map(player_id(), properties(), 0..MANY);
    (vec(player_id(), 0..MANY), properties(), of_players, option::of(any::<u32>())).prop_map(
        |(players, properties, player_properties, capacity)| {
            let spec = MatchSpec { players, properties, player_properties, capacity, ..MatchSpec::default() };
            Arc::new(spec)
        },
    )
}

fn connection() -> impl Strategy<Value = Arc<Connection>> {
    (text(), btree_map(player_id(), text(), 0..MANY))
        .prop_map(|(details, per_player)| Arc::new(Connection { details, per_player }))
}

fn offer() -> impl Strategy<Value = Arc<SeatOffer>> {
    let all = (
        match_id(),
        queue_id(),
        any::<u32>(),
        option::of(region()),
        properties(),
        ratings(),
        vec(player_id(), 0..MANY),
    );
    all.prop_map(|(match_id, queue, seats, region, properties, ratings, players)| {
        Arc::new(SeatOffer { match_id, queue, seats, region, properties, ratings, players })
    })
}

fn hook() -> impl Strategy<Value = Hook> {
    let points = vec![HookPoint::ValidateTicket, HookPoint::FormMatch, HookPoint::NewMatch];
    let failures = vec![OnFailure::Accept, OnFailure::Refuse];
    let address = (name(), any::<u32>(), any::<u32>(), duration(), option::of(name())).prop_map(
        |(url, concurrency, breaker_failures, breaker_pause, key_env)| HookAddress {
            url,
            concurrency,
            breaker_failures,
            breaker_pause,
            key_env,
        },
    );
    let times = (duration(), option::of(duration()));
    let outside = (hook_id(), select(points), times, select(failures), option::of(address)).prop_map(
        |(id, about, (timeout, interval), on_failure, address)| OutsideHook {
            id,
            about,
            timeout,
            on_failure,
            interval,
            address,
        },
    );
    prop_oneof![
        btree_map(any::<u32>(), queue_id(), 0..MANY).prop_map(Hook::QueueByPartySize),
        Just(Hook::PartyMembership),
        Just(Hook::TeamData),
        name().prop_map(Hook::PeerToPeerHost),
        outside.prop_map(Hook::Outside),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let measures = vec![Measure::Ticket, Measure::Average, Measure::Max];
    let kind = prop_oneof![
        name().prop_map(|property| RuleKind::Equal { property }),
        (name(), select(measures), number(), number()).prop_map(|(property, measure, most, missing)| {
            RuleKind::Distance { property, measure, most, missing }
        }),
        number().prop_map(|most| RuleKind::Latency { most }),
        (
            "\\PC{0,9}",
            select(&[About::Pair, About::Ticket][..]),
            select(&[Need::Required, Need::Preferred][..])
        )
            .prop_map(|(expression, about, need)| RuleKind::Expression { expression, about, need }),
        Just(RuleKind::NotBlocked),
        (name(), number(), number()).prop_map(|(property, most, missing)| RuleKind::Balance {
            property,
            most,
            missing
        }),
    ];
    let step = (duration(), number()).prop_map(|(after, value)| WidenStep { after, value });
    (name(), kind, vec(step, 0..MANY), option::of(duration()))
        .prop_map(|(name, kind, widen, relax_after)| Rule { name, kind, widen, relax_after })
}

fn queue() -> impl Strategy<Value = Queue> {
    let choices = (
        select(&[ExpirationAction::Drop, ExpirationAction::Minimum][..]),
        select(&[Backfill::Off, Backfill::First, Backfill::Last][..]),
    );
    let lists = (vec(hook(), 0..MANY), vec(rule(), 0..MANY));
    let durations = (duration(), option::of(duration()), duration());
    (any::<[u32; 4]>(), choices, durations, properties(), lists).prop_map(
        |(
            numbers,
            (expiration_action, backfill),
            (ticket_expiration, accept, seat_timeout),
            properties,
            (hooks, rules),
        )| {
            let [teams, players_per_team, min_players_per_team, max_requeues] = numbers;
            Queue {
                teams,
                players_per_team,
                min_players_per_team,
                ticket_expiration,
                expiration_action,
                accept,
                backfill,
                seat_timeout,
                max_requeues,
                properties,
                hooks,
                rules,
            }
        },
    )
}

fn settings() -> impl Strategy<Value = Arc<Settings>> {
    let durations = (duration(), duration());
    let budgets = any::<(u64, u64, u32)>();
    (btree_map(queue_id(), queue(), 0..MANY), durations, vec(hook(), 0..MANY), budgets).prop_map(
        |(queues, (status_expiration, tick), hooks, (waiting_bytes, kept_bytes, queues_per_player))| {
            Arc::new(Settings {
                queues,
                status_expiration,
                tick,
                hooks,
                waiting_bytes,
                kept_bytes,
                queues_per_player,
            })
        },
    )
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![7 => ticket_event(), 8 => match_event(), 7 => other_event()]
}

fn lost() -> impl Strategy<Value = Option<Arc<LostMatch>>> {
    let lost = (match_id(), text()).prop_map(|(match_id, reason)| Arc::new(LostMatch { match_id, reason }));
    option::of(lost)
}

fn place() -> impl Strategy<Value = QueuePlace> {
    (any::<(u64, u32, u32)>(), time(), time(), lost()).prop_map(
        |((number, requeues, replaced), started_at, waits_since, lost)| QueuePlace {
            number,
            started_at,
            waits_since,
            requeues,
            replaced,
            lost,
        },
    )
}

fn ticket_event() -> impl Strategy<Value = Event> {
    let content = || (ticket_id(), spec(), queue_id(), option::of(check()));
    prop_oneof![
        (content(), option::of(place())).prop_map(|((id, spec, queue, check), place)| Event::TicketStarted {
            id,
            spec,
            queue,
            check,
            place,
        }),
        (content(), any::<u32>()).prop_map(|((id, spec, queue, check), moves)| Event::TicketChecked {
            id,
            spec,
            queue,
            check,
            moves,
        }),
        (named(), select(CancelCause::ALL))
            .prop_map(|(ticket, cause)| Event::TicketCancelled { ticket, cause }),
        (named(), select(FailCause::ALL), text(), option::of(hook_id()), option::of(match_id())).prop_map(
            |(ticket, cause, detail, hook, match_id)| Event::TicketFailed {
                ticket,
                cause,
                detail,
                hook,
                match_id
            }
        ),
        named().prop_map(|ticket| Event::TicketTimedOut { ticket }),
        ticket_id().prop_map(|id| Event::TicketRenewed { id }),
    ]
}

fn match_event() -> impl Strategy<Value = Event> {
    let content = || (match_id(), queue_id(), teams(), option::of(region()), match_spec());
    prop_oneof![
        (content(), option::of(time()), option::of(check())).prop_map(
            |((id, queue, teams, region, spec), accept_until, check)| Event::MatchProposed {
                id,
                queue,
                teams,
                region,
                spec,
                accept_until,
                check
            }
        ),
        (match_id(), player_id()).prop_map(|(id, player)| Event::MatchAccepted { id, player }),
        (match_id(), match_spec(), check()).prop_map(|(id, spec, check)| Event::MatchChecked {
            id,
            spec,
            check
        }),
        content().prop_map(|(id, queue, teams, region, spec)| Event::MatchFormed {
            id,
            queue,
            teams,
            region,
            spec
        }),
        match_id().prop_map(|id| Event::MatchSubmitted { id }),
        (match_id(), select(DissolveCause::ALL), vec(named(), 0..MANY), any::<(bool, bool)>(), text())
            .prop_map(|(id, cause, returned, (heard, withdraw), reason)| Event::MatchDissolved {
                id,
                cause,
                returned,
                heard,
                withdraw,
                reason
            }),
        match_id().prop_map(|id| Event::MatchWithdrawn { id }),
        (match_id(), vec(named(), 0..MANY), connection())
            .prop_map(|(id, tickets, connection)| Event::MatchReady { id, tickets, connection }),
    ]
}

fn other_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        settings().prop_map(|settings| Event::Configured { settings }),
        settings().prop_map(|settings| Event::Reconfigured { settings }),
        offer().prop_map(|offer| Event::SeatsOffered { offer }),
        match_id().prop_map(|match_id| Event::SeatsWithdrawn { match_id }),
        (match_id(), named(), time()).prop_map(|(match_id, ticket, until)| Event::SeatsTaken {
            match_id,
            ticket,
            until
        }),
        (match_id(), named(), connection()).prop_map(|(match_id, ticket, connection)| Event::TicketSeated {
            match_id,
            ticket,
            connection
        }),
        (match_id(), named()).prop_map(|(match_id, ticket)| Event::TicketReturned { match_id, ticket }),
        (queue_id(), any::<(u64, u64)>(), check()).prop_map(|(queue, (number, after), check)| {
            Event::RoundBegun { queue, number, after, check }
        }),
        (queue_id(), any::<u64>()).prop_map(|(queue, after)| Event::RoundEnded { queue, after }),
    ]
}

fn ticket() -> impl Strategy<Value = Ticket> {
    let end = prop_oneof![
        (match_id(), connection())
            .prop_map(|(match_id, connection)| TicketEnd::Completed { match_id, connection }),
        (select(FailCause::ALL), text(), option::of(hook_id()), option::of(match_id()))
            .prop_map(|(cause, detail, hook, match_id)| TicketEnd::Failed { cause, detail, hook, match_id }),
        select(CancelCause::ALL).prop_map(TicketEnd::Cancelled),
        Just(TicketEnd::TimedOut),
    ];
    let state = prop_oneof![
        check().prop_map(TicketState::Validating),
        Just(TicketState::Waiting),
        (match_id(), time()).prop_map(|(match_id, since)| TicketState::Proposed { match_id, since }),
        (match_id(), time()).prop_map(|(match_id, since)| TicketState::FindingServer { match_id, since }),
        (match_id(), time()).prop_map(|(match_id, since)| TicketState::Seating { match_id, since }),
        time().prop_map(|since| TicketState::OnHold { since }),
        (time(), end).prop_map(|(at, end)| TicketState::Over { at, end }),
    ];
    let specs = (spec(), option::of(spec()));
    (
        ticket_id(),
        specs,
        queue_id(),
        any::<(u64, u64, u32, u32, u32)>(),
        (time(), time(), option::of(time())),
        state,
        lost(),
    )
        .prop_map(
            |(
                id,
                (spec, asked),
                queue,
                (place, changed_seq, requeues, moves, replaced),
                (started_at, waits_since, renewed_at),
                state,
                lost,
            )| {
                Ticket {
                    id,
                    spec,
                    asked,
                    queue,
                    place,
                    started_at,
                    waits_since,
                    renewed_at,
                    changed_seq,
                    requeues,
                    moves,
                    replaced,
                    lost,
                    state,
                }
            },
        )
}

fn formation() -> impl Strategy<Value = Formation> {
    let stage = prop_oneof![
        (time(), btree_set(player_id(), 0..MANY))
            .prop_map(|(until, accepted)| Stage::Accepting { until, accepted }),
        check().prop_map(Stage::Checking),
        any::<bool>().prop_map(|submitted| Stage::FindingServer { submitted }),
    ];
    (match_id(), queue_id(), teams(), option::of(region()), match_spec(), stage).prop_map(
        |(id, queue, teams, region, spec, stage)| Formation { id, queue, teams, region, spec, stage },
    )
}

fn offered() -> impl Strategy<Value = Offered> {
    let seating = btree_map(ticket_id(), (any::<u32>(), time()), 0..MANY);
    (offer(), any::<u64>(), seating, any::<u32>()).prop_map(|(offer, place, seating, free)| Offered {
        offer,
        place,
        seating,
        free,
    })
}

pub(super) fn snapshot() -> impl Strategy<Value = Snapshot> {
    let round = (any::<(u64, u64)>(), option::of(check())).prop_map(|((number, after), check)| Round {
        number,
        after,
        check,
    });
    let queues = (vec((queue_id(), queue()), 0..MANY), vec((queue_id(), round), 0..MANY));
    let tickets = (vec(ticket(), 0..MANY), vec(ticket(), 0..MANY));
    let matches = (vec(formation(), 0..MANY), vec(match_id(), 0..MANY), vec(offered(), 0..MANY));
    let settings = (settings(), option::of(settings()));
    let used = (ticket_id(), any::<[u8; 16]>(), time()).prop_map(|(ticket, content, used_at)| {
        let content = Digest::from_bytes(content);
        UsedKey { ticket, content, used_at }
    });
    let key = "[ -~]{1,128}".prop_map(|key| IdempotencyKey::new(&key).unwrap());
    let keys = btree_map(key, used, 0..MANY);
    (any::<u64>(), settings, queues, tickets, matches, keys).prop_map(
        |(
            seq,
            (settings, configured),
            (closed, rounds),
            (tickets, over),
            (formations, withdrawing, offers),
            keys,
        )| Snapshot {
            seq,
            settings,
            configured,
            closed: closed.into_iter().collect(),
            tickets: by_place(tickets),
            over: by_place(over),
            formations: formations.into_iter().map(|of| (of.id.clone(), Arc::new(of))).collect(),
            withdrawing: withdrawing.into_iter().collect(),
            offers: offers.into_iter().map(|of| (of.offer.match_id.clone(), Arc::new(of))).collect(),
            rounds: rounds.into_iter().collect(),
            keys: keys.into_iter().collect(),
        },
    )
}
