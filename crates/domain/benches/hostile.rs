//! The worst step of both machines for hostile inputs: `cargo bench -p sortie-domain --bench hostile`.
//!
//! A machine does one thing after the other, so everybody else may have to wait for the longest step. Each row has the
//! worst step for a hostile input, until nothing is left to be done, the same for a benign input of the same kind in
//! the same run, and their ratio. Times are CPU times, which other work on the machine affects little. No row may be
//! above 20 ms.
//!
//! `-- --queued 100000` is for machines with little memory; a row's name runs only that row.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

use std::time::Duration;

use sortie_domain::broker::model::{FastSchedule, Fleet, Settings};
use sortie_domain::broker::{Broker, Command, Hints, SeatsElsewhere};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{FleetId, MatchId, PlayerId, ServerId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::match_spec::{MAX_CAPACITY, MatchSpec};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;
use sortie_load::hostile::{self, Hostile};
use sortie_load::times::{millis, processor};
use sortie_load::{Case, rare};

/// Maximum acceptable duration of a step.
const GOAL: Duration = Duration::from_millis(20);
const WAIT: Hints = Hints::WILLING_TO_WAIT;

struct Bench {
    broker: Broker,
    calls: u64,
    worst: Duration,
}

impl Bench {
    fn new(fleets: Vec<Fleet>) -> Self {
        let year = Duration::from_secs(365 * 24 * 3600);
        let settings = Settings {
            match_pickup_time: year,
            wait: year,
            server_max_lifetime: year,
            schedule_frequency: year,
            fast_schedule: FastSchedule::UnlessFree,
            ..Settings::default()
        };
        let mut bench = Self { broker: Broker::new(), calls: 0, worst: Duration::ZERO };
        bench.call(Command::Configure { settings, fleets });
        bench
    }

    /// One step, and its duration.
    fn step(&mut self, work: impl FnOnce(&mut Broker, Moment, CallId, &mut Step<Broker>)) {
        self.calls += 1;
        let entropy = [self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.calls];
        let at = Moment { now: Timestamp::from_millis(1_700_000_000_000), entropy };
        let mut step = Step::new();
        let began = processor();
        work(&mut self.broker, at, CallId(self.calls), &mut step);
        self.worst = self.worst.max(processor() - began);
    }

    fn call(&mut self, command: Command) {
        self.step(|broker, at, call, step| broker.handle(at, call, command, step));
    }

    /// Ticks until nothing is due.
    fn settle(&mut self) {
        let now = Timestamp::from_millis(1_700_000_000_000);
        while self.broker.next_deadline().is_some_and(|due| due <= now) {
            self.step(|broker, at, _, step| broker.tick(at, step));
        }
    }

    fn submit(&mut self, n: usize, spec: MatchSpec) {
        self.call(Command::SubmitMatch { id: Some(game(n)), spec });
    }

    fn request(&mut self, n: usize, requirements: &str, hints: Hints) {
        let server = server(n);
        self.call(Command::RequestMatch {
            server,
            requirements: requirements.to_owned(),
            hints,
            most: 1,
            wait: None,
        });
    }

    /// The worst of the steps that `work` takes, including those that are left for later.
    fn worst_of(&mut self, work: impl FnOnce(&mut Self)) -> Duration {
        self.settle();
        self.worst = Duration::ZERO;
        work(self);
        self.settle();
        self.worst
    }
}

fn game(n: usize) -> MatchId {
    MatchId::new(&format!("m{n}")).unwrap()
}

fn server(n: usize) -> ServerId {
    ServerId::new(&format!("s{n}")).unwrap()
}

fn player(n: usize) -> PlayerId {
    PlayerId::new(&format!("p{n}")).unwrap()
}

fn with(properties: &str) -> MatchSpec {
    MatchSpec { properties: Properties::parse(properties).unwrap(), ..MatchSpec::default() }
}

fn small() -> MatchSpec {
    with(r#"{"mode":"duel","tags":["a","b"],"n":1}"#)
}

/// About 970 KB: as many values as fit, or one text.
fn large(values: bool) -> MatchSpec {
    let text =
        if values { format!("[{}1]", "1,".repeat(32_000)) } else { format!("\"{}\"", "x".repeat(64_000)) };
    let properties = Properties::parse(&format!(r#"{{"x":{text}}}"#)).unwrap();
    let players: Vec<_> = (0..15).map(player).collect();
    let player_properties = players.iter().map(|id| (id.clone(), properties.clone())).collect();
    MatchSpec { players, player_properties, properties, ..MatchSpec::default() }
}

fn fleet(n: usize, requirements: String) -> Fleet {
    Fleet {
        id: FleetId::new(&format!("f{n}")).unwrap(),
        game: None,
        is_default: false,
        requirements,
        preference: 0,
        max: 10,
        warm: 0,
        ready_deadline: Duration::from_secs(60),
        max_run_time: None,
    }
}

/// A name, and the worst steps with hostile and with benign input.
type Row = (&'static str, fn(usize) -> (Duration, Duration));

const ROWS: &[Row] = &[
    ("60 matches of 970 KB, to_string and reverse 100 times", |_| large_matches(false)),
    ("60 matches of 970 KB, all numbers", |_| large_matches(true)),
    ("contains() over a long queue", |queued| long_queue(queued, "contains(MatchProperties.tags, 'x')")),
    ("other paths over a long queue", |queued| long_queue(queued, "MatchProperties.tags == `[\"x\"]`")),
    ("matches filed where they do not fit", misfiled),
    ("a match for 2,000 servers with costly expressions", |_| costly_servers()),
    ("matches for 100 fleets with costly expressions", |_| costly_fleets()),
    ("explaining a match to 100 costly fleets", |_| explained()),
    ("the last seats of a match of 10,000", |_| seats()),
    ("a server with 4,096 matches goes", |_| many_matches()),
    ("a snapshot of a long queue", snapshot),
];

fn large_matches(values: bool) -> (Duration, Duration) {
    let costly = format!("[{}]|[0]=='x'", vec!["reverse(to_string(@))"; 100].join(","));
    let worst = |requirements: &str| {
        let mut bench = Bench::new(Vec::new());
        (0..60).for_each(|n| bench.submit(n, large(values)));
        bench.worst_of(|bench| bench.request(0, requirements, WAIT))
    };
    (worst(&costly), worst("MatchProperties.mode == 'duel'"))
}

fn long_queue(queued: usize, requirements: &str) -> (Duration, Duration) {
    let mut bench = Bench::new(Vec::new());
    (0..queued).for_each(|n| bench.submit(n, small()));
    let benign = bench.worst_of(|bench| bench.request(0, "MatchId == 'none'", WAIT));
    (bench.worst_of(|bench| bench.request(1, requirements, WAIT)), benign)
}

fn misfiled(queued: usize) -> (Duration, Duration) {
    let worst = |neighbours: u64| {
        let near = f64::from_bits(1.0_f64.to_bits() + neighbours);
        let mut bench = Bench::new(Vec::new());
        (0..queued).for_each(|n| bench.submit(n, with(&format!(r#"{{"n":{near}}}"#))));
        bench.worst_of(|bench| bench.request(0, "MatchProperties.n == `1`", WAIT))
    };
    (worst(20), worst(1 << 20))
}

fn sorted(n: usize) -> String {
    format!("sort(MatchProperties.list)[0] == `{}`", n + 1)
}

fn listed() -> MatchSpec {
    let list: Vec<_> = (0..4_000).map(|n| (n * 7_919 % 4_000).to_string()).collect();
    with(&format!(r#"{{"list":[{}]}}"#, list.join(",")))
}

fn costly_servers() -> (Duration, Duration) {
    let mut bench = Bench::new(Vec::new());
    (0..2_000).for_each(|n| bench.request(n, &sorted(n), WAIT));
    let benign = bench.worst_of(|bench| bench.submit(0, small()));
    (bench.worst_of(|bench| bench.submit(1, listed())), benign)
}

fn costly_fleets() -> (Duration, Duration) {
    let mut bench = Bench::new((0..100).map(|n| fleet(n, sorted(n))).collect());
    let benign = bench.worst_of(|bench| (0..20).for_each(|n| bench.submit(n, small())));
    (bench.worst_of(|bench| (20..40).for_each(|n| bench.submit(n, listed()))), benign)
}

fn explained() -> (Duration, Duration) {
    let mut bench = Bench::new((0..100).map(|n| fleet(n, sorted(n))).collect());
    bench.submit(0, small());
    bench.submit(1, listed());
    let explain = |bench: &mut Bench, n: usize| {
        bench.worst_of(|bench| bench.step(|broker, _, _, _| drop(broker.explain(&game(n)).unwrap())))
    };
    let benign = explain(&mut bench, 0);
    (explain(&mut bench, 1), benign)
}

fn seats() -> (Duration, Duration) {
    let mut bench = Bench::new(Vec::new());
    bench.submit(0, MatchSpec { capacity: Some(MAX_CAPACITY), ..small() });
    bench.request(0, "", Hints::NONE);
    let connection = Connection { details: "203.0.113.7:7777".into(), ..Connection::default() };
    let ready = Command::MatchReady { server: server(0), match_id: game(0), connection, hints: Hints::NONE };
    bench.call(ready);
    let mut reserve = |from: usize, to: usize| {
        bench.worst_of(|bench| {
            for n in from..to {
                let ttl = Duration::from_secs(60);
                bench.call(Command::ReserveSeat {
                    match_id: game(0),
                    player: player(n),
                    ttl,
                    elsewhere: SeatsElsewhere::Ignored,
                });
            }
        })
    };
    let benign = reserve(0, 100);
    reserve(100, 9_900);
    (reserve(9_900, 10_000), benign)
}

fn many_matches() -> (Duration, Duration) {
    let mut bench = Bench::new(Vec::new());
    bench.request(0, "MatchId == 'none'", Hints::NONE);
    (0..4_096).for_each(|n| bench.submit(n, small()));
    for _ in 0..4_096 {
        bench.request(1, "", Hints::NONE);
    }
    let mut go = |n| bench.worst_of(|bench| bench.call(Command::DeallocateServer { server: server(n) }));
    let benign = go(0);
    (go(1), benign)
}

fn snapshot(queued: usize) -> (Duration, Duration) {
    let worst = |matches: usize| {
        let mut bench = Bench::new(Vec::new());
        (0..matches).for_each(|n| bench.submit(n, small()));
        let mut taken = None;
        bench.worst_of(|bench| bench.step(|broker, _, _, _| taken = Some(broker.snapshot())))
    };
    (worst(queued), worst(100))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let at = arguments.iter().position(|argument| argument == "--queued");
    let queued = at.map_or(1_000_000, |at| {
        arguments
            .get(at + 1)
            .and_then(|number| number.parse().ok())
            .unwrap_or_else(|| panic!("--queued: a number"))
    });
    let named = arguments.iter().find(|argument| ROWS.iter().any(|(name, _)| name == argument));
    let title = format!("the worst step, with up to {queued} queued");
    println!("{title:55} {:>11} {:>11} {:>7}", "hostile", "benign", "ratio");
    for (name, run) in ROWS.iter().filter(|(name, _)| named.is_none_or(|named| named == name)) {
        let (hostile, benign) = run(queued);
        print(name, hostile, benign);
    }
    if named.is_none() {
        matchmaker(u32::try_from(queued).unwrap_or(u32::MAX));
    }
}

fn print(name: &str, hostile: Duration, benign: Duration) {
    let ratio = hostile.as_secs_f64() / benign.as_secs_f64().max(1e-6);
    let verdict = if hostile > GOAL { "  above the goal" } else { "" };
    println!("{name:55} {:8.2} ms {:8.2} ms {ratio:7.1}{verdict}", millis(hostile), millis(benign));
}

/// The same steps with many tickets and with a thousand.
fn matchmaker(tickets: u32) {
    let [hostile, benign] = [tickets, 1_000]
        .map(|tickets| rare::run(Case::Skill, tickets).unwrap_or_else(|error| panic!("{error}")));
    print("the matchmaker's snapshot", hostile.snapshot, benign.snapshot);
    print("a hook's answer with as many matches as it may name", hostile.formed, benign.formed);
    let longest = |rare: &rare::Rare| rare.after_formed.processor(1_000);
    print("the ticks after that", longest(&hostile), longest(&benign));
    print("other rules for all who wait", hostile.configure, benign.configure);
    let longest = |rare: &rare::Rare| rare.after_configure.processor(1_000);
    print("the ticks after that", longest(&hostile), longest(&benign));
    for input in Hostile::ALL {
        let [hostile, benign] = [tickets, 1_000]
            .map(|tickets| hostile::run(input, tickets).unwrap_or_else(|error| panic!("{error}")).longest());
        print(&format!("the matchmaker: {}", input.name()), hostile, benign);
    }
}
