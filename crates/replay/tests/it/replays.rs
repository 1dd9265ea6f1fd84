//! The same tickets with several rules, with known outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::ids::{HookId, PlayerId, QueueId, RegionId, TicketId};
use sortie_domain::matchmaking::Settings;
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{
    Hook, HookPoint, Measure, OnFailure, OutsideHook, Queue, Rule, RuleKind, WidenStep,
};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_replay::quality::measures;
use sortie_replay::{Arrival, Percentiles, QueueReport, ReplayError, Report, Rules, replay};

const BEGIN: u64 = 1_700_000_000_000;

/// A ticket of one player with this name and rating, in the queue `q`.
pub(crate) fn ticket(player: &str, rating: f64) -> TicketSpec {
    let mut player = Player::new(PlayerId::new(player).unwrap());
    player.ratings.insert("mmr".into(), rating);
    TicketSpec {
        queue: QueueId::new("q").unwrap(),
        parties: vec![Party { id: None, players: vec![player] }],
        leader: None,
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    }
}

/// A ticket that comes this many milliseconds after the beginning.
fn at(millis: u64, spec: TicketSpec) -> Arrival {
    let id = spec.players().next().unwrap().id.to_string();
    let at = Timestamp::from_millis(BEGIN + millis);
    Arrival { id: TicketId::new(&id).unwrap(), at, spec: Arc::new(spec), left_at: None }
}

/// The same player's next ticket.
fn again(millis: u64, number: u32, player: &str) -> Arrival {
    let id = TicketId::new(&format!("{player}-{number}")).unwrap();
    Arrival { id, ..at(millis, ticket(player, 1_000.0)) }
}

fn leaving(millis: u64, arrival: Arrival) -> Arrival {
    Arrival { left_at: Some(Timestamp::from_millis(BEGIN + millis)), ..arrival }
}

fn skill(most: f64, widen: &[(u64, f64)]) -> Rule {
    let measure = Measure::Average;
    let kind = RuleKind::Distance { property: "mmr".into(), measure, most, missing: 0.0 };
    let steps =
        widen.iter().map(|(after, value)| WidenStep { after: Duration::from_secs(*after), value: *value });
    Rule { widen: steps.collect(), ..Rule::new("skill", kind) }
}

fn settings(queue: Queue) -> Settings {
    Settings { queues: BTreeMap::from([(QueueId::new("q").unwrap(), queue)]), ..Settings::default() }
}

fn duel(rules: Vec<Rule>) -> Settings {
    settings(Queue { rules, ticket_expiration: Duration::from_secs(60), ..Queue::default() })
}

fn run(arrivals: &[Arrival], settings: Settings) -> QueueReport {
    let measures = measures([&settings]);
    let report = replay(arrivals, &Rules::fixed("new", settings), &measures).unwrap();
    report.queues["q"].clone()
}

/// Four players in two pairs of similar rating, and one far from all others.
fn five() -> Vec<Arrival> {
    vec![
        at(0, ticket("ann", 1_000.0)),
        at(500, ticket("bob", 1_400.0)),
        at(1_000, ticket("cid", 1_020.0)),
        at(1_500, ticket("dee", 1_410.0)),
        at(2_000, ticket("eve", 3_000.0)),
    ]
}

/// A player may wait with only one ticket, so the order within a millisecond matters.
#[test]
fn a_player_who_leaves_and_comes_again_within_a_millisecond_waits_with_the_new_ticket() {
    let arrivals = [
        leaving(500, again(0, 1, "ann")),
        // Comes and leaves at once, then comes again.
        leaving(500, again(500, 2, "ann")),
        again(500, 3, "ann"),
        at(900, ticket("bob", 1_000.0)),
    ];
    let found = run(&arrivals, duel(vec![]));
    assert_eq!((found.tickets, found.refused, found.left), (4, 0, 2));
    assert_eq!((found.matches, found.matched), (1, 2));
}

#[test]
fn stricter_rules_make_better_matches_and_longer_waits() {
    let strict = run(&five(), duel(vec![skill(50.0, &[])]));
    assert_eq!((strict.tickets, strict.matched, strict.timed_out, strict.matches), (5, 4, 1, 2));
    assert_eq!((strict.unmatched(), strict.left, strict.players_per_match), (1, 0, Some(2.0)));
    // Each of the older tickets waited one second, and the tick after it.
    let wait = strict.wait_ms.unwrap();
    assert!((1_000.0..=1_200.0).contains(&wait.p95) && wait.p50 <= 200.0, "{wait:?}");
    let spread = strict.quality["spread of averages, mmr"].unwrap();
    assert_eq!(spread, Percentiles { p50: 10.0, p95: 20.0, max: 20.0 });

    // If any rating is allowed, the two oldest play each other, and so on.
    let loose = run(&five(), duel(vec![skill(10_000.0, &[])]));
    assert_eq!((loose.matched, loose.timed_out), (4, 1));
    assert_eq!(loose.quality["spread of averages, mmr"].unwrap().max, 400.0);
    assert!(loose.wait_ms.unwrap().p95 < wait.p95);
}

#[test]
fn rules_widen_in_virtual_time() {
    let widening = run(&five(), duel(vec![skill(5.0, &[(10, 50.0), (20, 5_000.0)])]));
    assert_eq!(widening.matched, 4);
    let wait = widening.wait_ms.unwrap();
    assert!((10_000.0..=11_200.0).contains(&wait.max), "{wait:?}");
}

#[test]
fn leaving_counts_only_before_a_match() {
    let arrivals = [
        leaving(300, at(0, ticket("ann", 0.0))),
        at(1_000, ticket("bob", 0.0)),
        leaving(9_000, at(2_000, ticket("cid", 0.0))),
    ];
    let found = run(&arrivals, duel(Vec::new()));
    assert_eq!((found.tickets, found.left, found.matched, found.matches), (3, 1, 2, 1));
}

#[test]
fn tickets_that_no_queue_takes_are_counted_and_not_lost() {
    let mut elsewhere = ticket("ann", 0.0);
    elsewhere.queue = QueueId::new("gone").unwrap();
    let rules = Rules::fixed("new", duel(Vec::new()));
    let report = replay(&[at(0, elsewhere)], &rules, &[]).unwrap();
    let gone = &report.queues["gone"];
    assert_eq!((gone.tickets, gone.refused, gone.unmatched(), gone.wait_ms), (1, 1, 1, None));
}

#[test]
fn settings_change_when_they_did() {
    let first = duel(vec![skill(50.0, &[])]);
    let arrivals = [at(0, ticket("ann", 0.0)), at(1_000, ticket("bob", 100.0))];
    let later = Timestamp::from_millis(BEGIN + 30_000);
    let settings = vec![(Timestamp::ZERO, Arc::new(first)), (later, Arc::new(duel(vec![skill(200.0, &[])])))];
    let report = replay(&arrivals, &Rules { name: "as recorded".to_owned(), settings }, &[]).unwrap();
    let wait = report.queues["q"].wait_ms.unwrap();
    assert!((30_000.0..=30_200.0).contains(&wait.max), "{wait:?}");
}

#[test]
fn latency_and_balance_are_measured_of_teams() {
    let queue = Queue {
        players_per_team: 2,
        min_players_per_team: 2,
        rules: vec![
            Rule::new("ping", RuleKind::Latency { most: 100.0 }),
            Rule::new(
                "fair",
                RuleKind::Balance { property: "mmr".into(), most: f64::INFINITY, missing: 0.0 },
            ),
        ],
        ..Queue::default()
    };
    let ratings = [1_000.0, 1_100.0, 1_200.0, 1_300.0];
    let arrivals: Vec<Arrival> = ["ann", "bob", "cid", "dee"]
        .into_iter()
        .zip(ratings)
        .zip([20, 30, 90, 40])
        .map(|((player, rating), latency)| {
            let latencies = BTreeMap::from([(RegionId::new("eu").unwrap(), latency)]);
            at(0, TicketSpec { latencies, ..ticket(player, rating) })
        })
        .collect();
    let found = run(&arrivals, settings(queue));
    assert_eq!(found.matches, 1);
    assert_eq!(found.quality["worst latency, ms"].unwrap().max, 90.0);
    assert_eq!(found.quality["teams apart, mmr"].unwrap().max, 0.0);
}

#[test]
fn everybody_accepts_and_hooks_elsewhere_are_not_asked() {
    let hook = |id: &str, about| {
        let (id, timeout) = (HookId::new(id).unwrap(), Duration::from_secs(1));
        Hook::Outside(OutsideHook {
            id,
            about,
            timeout,
            on_failure: OnFailure::Refuse,
            interval: None,
            address: None,
        })
    };
    let queue = Queue {
        accept: Some(Duration::from_secs(20)),
        hooks: vec![hook("former", HookPoint::FormMatch), hook("checks", HookPoint::NewMatch)],
        ..Queue::default()
    };
    let settings = Settings { hooks: vec![hook("bans", HookPoint::ValidateTicket)], ..settings(queue) };
    let found = run(&[at(0, ticket("ann", 0.0)), at(0, ticket("bob", 0.0))], settings);
    assert_eq!((found.matched, found.failed), (2, 0));
}

/// Many tickets from a small generator (xorshift64), so that every run has the same.
fn many(count: u64) -> Vec<Arrival> {
    let mut state: u64 = 42;
    let mut draw = move |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    let mut now = 0;
    let mut arrivals = Vec::new();
    for number in 0..count {
        now += draw(300);
        let arrival = at(now, ticket(&format!("player-{number}"), draw(2_000) as f64));
        let leaves = draw(10) == 0;
        arrivals.push(if leaves { leaving(now + draw(60_000), arrival) } else { arrival });
    }
    arrivals
}

#[test]
fn no_ticket_is_lost_and_every_run_has_the_same_report() {
    let arrivals = many(1_000);
    let queue = Queue {
        players_per_team: 2,
        min_players_per_team: 1,
        ticket_expiration: Duration::from_secs(30),
        rules: vec![skill(30.0, &[(5, 60.0), (15, 200.0)])],
        ..Queue::default()
    };
    let rules = Rules::fixed("new", settings(queue.clone()));
    let measures = measures([&settings(queue)]);
    let once = || -> Report { replay(&arrivals, &rules, &measures).unwrap() };
    let found = once();
    let of = &found.queues["q"];
    assert_eq!(of.tickets, 1_000);
    assert_eq!(of.matched + of.unmatched() + of.left, 1_000);
    assert!(of.matched > 500 && of.left > 10, "{of:?}");
    assert_eq!(found, once());
}

#[test]
fn missing_and_invalid_rules_are_errors() {
    let none = Rules { name: String::new(), settings: Vec::new() };
    assert_eq!(replay(&five(), &none, &[]), Err(ReplayError::NoRules));
    let bad = settings(Queue { players_per_team: 0, ..Queue::default() });
    let refused = replay(&five(), &Rules::fixed("bad", bad), &[]).unwrap_err();
    assert!(refused.to_string().contains("players_per_team"), "{refused}");
}

/// The next ticket of this player, in the place of the one before.
fn instead(millis: u64, number: u32, player: &str, old: &str) -> Arrival {
    let next = again(millis, number, player);
    let spec = TicketSpec {
        replaces: TicketId::new(old).ok(),
        leader: PlayerId::new(player).ok(),
        ..TicketSpec::clone(&next.spec)
    };
    Arrival { spec: Arc::new(spec), ..next }
}

#[test]
fn a_ticket_that_replaces_another_one_has_waited_since_that_came_and_counts_once() {
    let arrivals = [
        at(0, ticket("ann", 1_000.0)),
        instead(5_000, 2, "ann", "ann"),
        instead(6_000, 3, "ann", "ann-2"),
        at(10_000, ticket("bob", 1_000.0)),
    ];
    let found = run(&arrivals, duel(vec![]));
    assert_eq!((found.tickets, found.matched, found.left, found.refused), (2, 2, 0, 0));
    let waits = found.wait_ms.unwrap();
    assert!((10_000.0..10_200.0).contains(&waits.max), "{waits:?}");
}

/// Under other rules the first of them has a match before the others come: nobody leaves a party that plays.
#[test]
fn a_ticket_whose_players_have_a_match_by_then_is_not_replaced() {
    let arrivals = [
        at(0, ticket("ann", 1_000.0)),
        at(1_000, ticket("bob", 1_000.0)),
        instead(5_000, 2, "ann", "ann"),
        instead(6_000, 3, "ann", "ann-2"),
    ];
    let found = run(&arrivals, duel(vec![]));
    assert_eq!((found.tickets, found.matched, found.timed_out, found.refused), (2, 2, 0, 0));
}

#[test]
fn of_a_players_tickets_in_two_queues_one_is_matched() {
    let other = |millis: u64, id: &str, player: &str| {
        let spec = TicketSpec { queue: QueueId::new("r").unwrap(), ..ticket(player, 1_000.0) };
        Arrival { id: TicketId::new(id).unwrap(), ..at(millis, spec) }
    };
    let mut replacing = other(5_000, "ann-r2", "ann");
    Arc::make_mut(&mut replacing.spec).replaces = TicketId::new("ann-r").ok();
    let arrivals = [
        at(0, ticket("ann", 1_000.0)),
        other(0, "ann-r", "ann"),
        at(1_000, ticket("bob", 1_400.0)),
        replacing,
        other(7_000, "cid-r", "cid"),
    ];
    let report = |most: f64| {
        let queue = Queue { ticket_expiration: Duration::from_secs(60), ..Queue::default() };
        let near = Queue { rules: vec![skill(most, &[])], ..queue.clone() };
        let queues = [("q", near), ("r", queue)].map(|(id, queue)| (QueueId::new(id).unwrap(), queue));
        let settings = Settings { queues: queues.into(), queues_per_player: 2, ..Settings::default() };
        replay(&arrivals, &Rules::fixed("new", settings), &[]).unwrap().queues
    };
    let counts =
        |queue: &QueueReport| (queue.tickets, queue.matched, queue.left, queue.timed_out, queue.refused);
    // With bob in the one queue; then what was changed in the other one is of no use, and cid finds nobody.
    let queues = report(500.0);
    assert_eq!((counts(&queues["q"]), counts(&queues["r"])), ((2, 2, 0, 0, 0), (2, 0, 1, 1, 0)));
    // With nobody there: then with cid in the other one.
    let queues = report(100.0);
    assert_eq!((counts(&queues["q"]), counts(&queues["r"])), ((2, 0, 1, 1, 0), (2, 2, 0, 0, 0)));
}
