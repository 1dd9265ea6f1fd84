//! One of each event and a snapshot with everything in it, always the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::connection::Connection;
use sortie_domain::content::Digest;
use sortie_domain::ids::{HookId, IdempotencyKey, MatchId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::{
    CancelCause, Check, DissolveCause, FailCause, Formation, Named, Offered, Party, Player, QueuePlace,
    Round, SeatOffer, Stage, Ticket, TicketEnd, TicketSpec, TicketState,
};
use sortie_domain::matchmaking::order::UsedKey;
use sortie_domain::matchmaking::settings::{
    About, Backfill, ExpirationAction, Hook, HookPoint, Measure, Need, OnFailure, OutsideHook, Queue, Rule,
    RuleKind, Settings, WidenStep,
};
use sortie_domain::matchmaking::{Event, Snapshot};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

pub(super) fn match_id(text: &str) -> MatchId {
    MatchId::new(text).unwrap()
}

fn ticket_id(text: &str) -> TicketId {
    TicketId::new(text).unwrap()
}

fn player_id(text: &str) -> PlayerId {
    PlayerId::new(text).unwrap()
}

fn queue_id() -> QueueId {
    QueueId::new("ranked").unwrap()
}

fn region() -> RegionId {
    RegionId::new("eu").unwrap()
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + second * 1_000)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn check() -> Check {
    Check { hook: HookId::new("bans").unwrap(), until: at(2) }
}

fn outside(about: HookPoint) -> Hook {
    let id = HookId::new("bans").unwrap();
    Hook::Outside(OutsideHook {
        id,
        about,
        timeout: seconds(2),
        on_failure: OnFailure::Refuse,
        interval: None,
        address: None,
    })
}

fn rules() -> Vec<Rule> {
    let expression = |about, need| RuleKind::Expression { expression: "ticket.size".to_owned(), about, need };
    let kinds = [
        RuleKind::Equal { property: "map".into() },
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Max, most: 100.5, missing: -1.0 },
        RuleKind::Latency { most: 60.0 },
        expression(About::Pair, Need::Required),
        expression(About::Pair, Need::Preferred),
        expression(About::Ticket, Need::Required),
        RuleKind::NotBlocked,
        RuleKind::Balance { property: "mmr".into(), most: f64::INFINITY, missing: 0.0 },
    ];
    let widen =
        vec![WidenStep { after: seconds(15), value: 200.0 }, WidenStep { after: seconds(30), value: 400.0 }];
    let mut rules: Vec<Rule> =
        kinds.into_iter().enumerate().map(|(at, kind)| Rule::new(&format!("rule {at}"), kind)).collect();
    rules[1].widen = widen;
    rules[1].relax_after = Some(seconds(60));
    rules
}

fn queue() -> Queue {
    Queue {
        teams: 2,
        players_per_team: 5,
        min_players_per_team: 4,
        ticket_expiration: seconds(120),
        expiration_action: ExpirationAction::Minimum,
        accept: Some(seconds(20)),
        backfill: Backfill::First,
        seat_timeout: seconds(30),
        max_requeues: 3,
        properties: Properties::parse(r#"{"game":"arena"}"#).unwrap(),
        hooks: vec![
            Hook::QueueByPartySize(BTreeMap::from([(1, queue_id())])),
            Hook::PartyMembership,
            Hook::TeamData,
            Hook::PeerToPeerHost("address".into()),
            outside(HookPoint::FormMatch),
        ],
        rules: rules(),
    }
}

fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        queues: BTreeMap::from([(queue_id(), queue())]),
        waiting_bytes: 3 << 30,
        kept_bytes: 200 << 20,
        queues_per_player: 3,
        status_expiration: seconds(600),
        tick: Duration::from_millis(100),
        hooks: vec![outside(HookPoint::ValidateTicket)],
    })
}

fn spec() -> Arc<TicketSpec> {
    let ann = Player {
        id: player_id("ann"),
        ratings: BTreeMap::from([("mmr".into(), 1500.5)]),
        latencies: BTreeMap::from([(region(), 40)]),
        blocked: vec![player_id("mallory")],
        properties: Properties::parse(r#"{"level": 3}"#).unwrap(),
    };
    Arc::new(TicketSpec {
        queue: queue_id(),
        parties: vec![
            Party { id: Some("party-1".into()), players: vec![ann] },
            Party { id: None, players: vec![Player::new(player_id("ben"))] },
        ],
        leader: Some(player_id("ann")),
        properties: Properties::parse(r#"{"map": "harbour"}"#).unwrap(),
        latencies: BTreeMap::from([(region(), 50)]),
        idempotency_key: Some(IdempotencyKey::new("order 7").unwrap()),
        ttl: None,
        replaces: None,
    })
}

fn named() -> Named {
    Named { ticket: ticket_id("ticket-1"), players: vec![player_id("ann"), player_id("ben")] }
}

fn teams() -> Arc<[Vec<Named>]> {
    let other = Named { ticket: ticket_id("ticket-2"), players: vec![player_id("cleo")] };
    vec![vec![named()], vec![other]].into()
}

fn match_spec() -> Arc<MatchSpec> {
    Arc::new(MatchSpec {
        players: vec![player_id("ann"), player_id("ben"), player_id("cleo")],
        properties: Properties::parse(r#"{"map": "harbour", "queue_name": "ranked", "region": "eu"}"#)
            .unwrap(),
        player_properties: BTreeMap::from([(player_id("ann"), Properties::parse(r#"{"team": 0}"#).unwrap())]),
        capacity: Some(10),
        ..MatchSpec::default()
    })
}

fn connection() -> Arc<Connection> {
    Arc::new(Connection {
        details: Arc::from("203.0.113.7:7777"),
        per_player: BTreeMap::from([(player_id("ben"), Arc::from("[2001:db8::7]:7777"))]),
    })
}

fn offer() -> Arc<SeatOffer> {
    Arc::new(SeatOffer {
        match_id: match_id("match-2"),
        queue: queue_id(),
        seats: 3,
        region: Some(region()),
        properties: Properties::parse(r#"{"map": "harbour"}"#).unwrap(),
        ratings: BTreeMap::from([("mmr".into(), 1400.0)]),
        players: vec![player_id("dora")],
    })
}

pub(super) fn events() -> Vec<Event> {
    let mut events = ticket_events();
    events.extend(match_events());
    events.extend(seat_events());
    // Golden documents contain sequence numbers, so new samples come last.
    events.push(Event::Reconfigured { settings: settings() });
    events.push(Event::TicketRenewed { id: ticket_id("ticket-1") });
    events
}

fn ticket_events() -> Vec<Event> {
    let (id, queue) = (ticket_id("ticket-1"), queue_id());
    vec![
        Event::Configured { settings: settings() },
        Event::TicketStarted {
            id: id.clone(),
            spec: spec(),
            queue: queue.clone(),
            check: Some(check()),
            place: Some(place()),
        },
        Event::TicketChecked { id, spec: spec(), queue: queue.clone(), check: None, moves: 0 },
        Event::TicketCancelled { ticket: named(), cause: CancelCause::Declined },
        Event::TicketFailed {
            ticket: named(),
            cause: FailCause::NoServer,
            detail: Arc::from("no capacity"),
            hook: None,
            match_id: None,
        },
        Event::TicketTimedOut { ticket: named() },
        Event::RoundBegun { queue: queue.clone(), number: 7, after: 12, check: check() },
        Event::RoundEnded { queue, after: 40 },
    ]
}

fn place() -> QueuePlace {
    QueuePlace { number: 3, started_at: at(0), waits_since: at(1), requeues: 1, replaced: 2, lost: None }
}

fn match_events() -> Vec<Event> {
    let (id, queue) = (match_id("match-1"), queue_id());
    vec![
        Event::MatchProposed {
            id: id.clone(),
            queue: queue.clone(),
            teams: teams(),
            region: Some(region()),
            spec: match_spec(),
            accept_until: Some(at(20)),
            check: None,
        },
        Event::MatchAccepted { id: id.clone(), player: player_id("ann") },
        Event::MatchChecked { id: id.clone(), spec: match_spec(), check: check() },
        Event::MatchFormed { id: id.clone(), queue, teams: teams(), region: None, spec: match_spec() },
        Event::MatchSubmitted { id: id.clone() },
        Event::MatchDissolved {
            id: id.clone(),
            cause: DissolveCause::Cancelled,
            returned: vec![named()],
            heard: true,
            withdraw: true,
            reason: Arc::default(),
        },
        Event::MatchWithdrawn { id: id.clone() },
        Event::MatchReady { id, tickets: vec![named()], connection: connection() },
    ]
}

fn seat_events() -> Vec<Event> {
    let match_id = match_id("match-2");
    vec![
        Event::SeatsOffered { offer: offer() },
        Event::SeatsWithdrawn { match_id: match_id.clone() },
        Event::SeatsTaken { match_id: match_id.clone(), ticket: named(), until: at(30) },
        Event::TicketSeated { match_id: match_id.clone(), ticket: named(), connection: connection() },
        Event::TicketReturned { match_id, ticket: named() },
    ]
}

fn ticket(number: u64, state: TicketState) -> Ticket {
    Ticket {
        id: ticket_id(&format!("ticket-{number}")),
        spec: spec(),
        asked: matches!(state, TicketState::Waiting).then(spec),
        queue: queue_id(),
        place: number,
        started_at: at(0),
        waits_since: at(1),
        renewed_at: None,
        changed_seq: 90 + number,
        requeues: 2,
        moves: 0,
        replaced: if number == 10 { 2 } else { 0 },
        lost: None,
        state,
    }
}

fn formation(number: u64, stage: Stage) -> Formation {
    let id = match_id(&format!("match-{number}"));
    Formation { id, queue: queue_id(), teams: teams(), region: Some(region()), spec: match_spec(), stage }
}

pub(super) fn snapshot() -> Snapshot {
    let (match_1, since) = (match_id("match-1"), at(3));
    let over = |end| TicketState::Over { at: at(4), end };
    let failed = TicketEnd::Failed {
        cause: FailCause::Refused,
        detail: Arc::from("banned"),
        hook: None,
        match_id: None,
    };
    let completed = TicketEnd::Completed { match_id: match_1.clone(), connection: connection() };
    Snapshot {
        seq: 300,
        settings: settings(),
        configured: Some(Arc::new(Settings::default())),
        closed: [(QueueId::new("closed").unwrap(), Queue::default())].into_iter().collect(),
        tickets: by_place([
            ticket(1, TicketState::Validating(check())),
            ticket(2, TicketState::Waiting),
            ticket(3, TicketState::Proposed { match_id: match_1.clone(), since }),
            ticket(4, TicketState::FindingServer { match_id: match_1.clone(), since }),
            ticket(5, TicketState::Seating { match_id: match_id("match-9"), since }),
            ticket(10, TicketState::OnHold { since }),
        ]),
        over: by_place([
            ticket(6, over(completed)),
            ticket(7, over(failed)),
            ticket(8, over(TicketEnd::Cancelled(CancelCause::NotAccepted))),
            ticket(9, over(TicketEnd::TimedOut)),
        ]),
        formations: [
            formation(1, Stage::Accepting { until: at(9), accepted: BTreeSet::from([player_id("ann")]) }),
            formation(2, Stage::Checking(check())),
            formation(3, Stage::FindingServer { submitted: true }),
        ]
        .into_iter()
        .map(|formation| (formation.id.clone(), Arc::new(formation)))
        .collect(),
        withdrawing: [match_id("match-8")].into_iter().collect(),
        offers: [Offered {
            offer: offer(),
            place: 33,
            seating: BTreeMap::from([(ticket_id("ticket-5"), (2, at(30)))]),
            free: 1,
        }]
        .into_iter()
        .map(|offered| (offered.offer.match_id.clone(), Arc::new(offered)))
        .collect(),
        rounds: [
            (QueueId::new("closed").unwrap(), Round { number: 1, after: 2, check: None }),
            (queue_id(), Round { number: 3, after: 4, check: Some(check()) }),
        ]
        .into_iter()
        .collect(),
        keys: [(IdempotencyKey::new("key-1").unwrap(), used_key())].into_iter().collect(),
    }
}

fn used_key() -> UsedKey {
    let content = Digest::from_bytes([7; 16]);
    UsedKey { ticket: ticket_id("ticket-0"), content, used_at: at(2) }
}

/// Tickets as a snapshot has them.
pub(super) fn by_place<All: FromIterator<(u64, Arc<Ticket>)>>(
    tickets: impl IntoIterator<Item = Ticket>,
) -> All {
    tickets.into_iter().map(|ticket| (ticket.place, Arc::new(ticket))).collect()
}
