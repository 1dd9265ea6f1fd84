//! How the matchmaker's cost grows: the same arrivals into a small and into a large pool of waiting tickets.
//!
//! `cargo bench -p sortie-domain --bench matchmaker [-- <most tickets>]`
//!
//! Three queues: 1v1 with equality, 1v1 by skill that widens, 5v5 by skill and latency with parties. *At rest*, that
//! many tickets wait and none of them can play with another; then 10,000 tickets a second arrive for three seconds, each
//! near some that wait, and a tick runs every 100 ms. *At once*, that many arrive together. Times are of the processor,
//! so that what else the machine does counts little; the longest tick is given by the clock on the wall as well. The plain greedy scan, which
//! takes the oldest ticket and looks through all others, is measured where it ends within a minute.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark fails by panicking"
)]
#![allow(missing_docs, reason = "nothing here is public")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use sortie_domain::broker::model::Properties;
use sortie_domain::ids::{PlayerId, QueueId, RegionId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Measure, Queue, Rule, RuleKind, Settings, WidenStep};
use sortie_domain::matchmaking::{Command, Event, Matchmaker};
use sortie_domain::time::Timestamp;

const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];
const ARRIVALS_PER_TICK: usize = 1_000;
const TICK: u64 = 100;
const TICKS: usize = 30;
const BEGIN: u64 = 1_700_000_000_000;
/// The scan compares every two tickets; beyond this it takes minutes.
const LARGEST_SCAN: usize = 10_000;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Case {
    Equality,
    Skill,
    Parties,
}

/// A small generator, so that every run has the same tickets.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A ticket as the scan sees it, too.
#[derive(Clone)]
struct Wish {
    map: usize,
    rating: f64,
    size: usize,
    latencies: [u32; 3],
}

fn queue(case: Case) -> Queue {
    let equal = Rule::new("map", RuleKind::Equal { property: "map".into() });
    let kind = |measure| RuleKind::Distance { property: "mmr".into(), measure, most: 25.0, missing: 1500.0 };
    let steps = [(10, 50.0), (20, 100.0), (40, 200.0)];
    let widen = steps.map(|(after, value)| WidenStep { after: Duration::from_secs(after), value }).to_vec();
    let skill = |measure| Rule { widen: widen.clone(), ..Rule::new("skill", kind(measure)) };
    let latency = Rule::new("latency", RuleKind::Latency { most: 80.0 });
    let ticket_expiration = Duration::from_secs(3_600);
    let base = Queue { ticket_expiration, ..Queue::default() };
    match case {
        Case::Equality => Queue { rules: vec![equal], ..base },
        Case::Skill => Queue { rules: vec![equal, skill(Measure::Average)], ..base },
        Case::Parties => Queue {
            players_per_team: 5,
            min_players_per_team: 5,
            rules: vec![equal, skill(Measure::Average), latency],
            ..base
        },
    }
}

/// The `n`-th of tickets that cannot play with one another.
fn lonely(case: Case, n: usize, random: &mut Random) -> Wish {
    let latencies = [20 + random.below(40) as u32, 60 + random.below(60) as u32, 120];
    match case {
        Case::Equality => Wish { map: n, rating: 0.0, size: 1, latencies },
        // A hundred on each map, further apart than anybody's window gets.
        Case::Skill => Wish { map: n / 100, rating: (n % 100) as f64 * 500.0, size: 1, latencies },
        // Groups of three tickets with five players at most, in reach of one another.
        Case::Parties => {
            let rating = (n / 3 % 100) as f64 * 500.0;
            Wish { map: n / 300, rating, size: [1, 2, 2][n % 3], latencies }
        }
    }
}

/// One that can play with some who wait.
fn arrival(case: Case, waiting: usize, random: &mut Random) -> Wish {
    let near = random.below(waiting);
    let wish = lonely(case, near, random);
    let size = if case == Case::Parties { [1, 1, 2, 3][random.below(4)] } else { 1 };
    Wish { rating: wish.rating + random.below(10) as f64, size, ..wish }
}

/// Tickets of a crowd that comes together: most can play with many.
fn crowd(case: Case, n: usize, all: usize, random: &mut Random) -> Wish {
    let latencies = [20 + random.below(80) as u32, 20 + random.below(120) as u32, 120];
    let size = if case == Case::Parties { [1, 1, 2, 3][random.below(4)] } else { 1 };
    let map = match case {
        Case::Equality => random.below(all / 10),
        _ => n % 4,
    };
    Wish { map, rating: random.below(3_000) as f64, size, latencies }
}

fn spec(case: Case, n: usize, wish: &Wish) -> TicketSpec {
    let players = (0..wish.size).map(|of| {
        let mut player = Player::new(PlayerId::new(&format!("player-{n}-{of}")).unwrap());
        if case != Case::Equality {
            player.ratings.insert("mmr".into(), wish.rating);
        }
        player
    });
    let regions = ["eu", "us", "asia"].into_iter().zip(wish.latencies);
    let latencies = regions.map(|(region, latency)| (RegionId::new(region).unwrap(), latency));
    TicketSpec {
        queue: QueueId::new("q").unwrap(),
        parties: vec![Party { id: None, players: players.collect() }],
        leader: None,
        properties: Properties::parse(&format!(r#"{{"map":"map-{}"}}"#, wish.map)).unwrap(),
        latencies: if case == Case::Parties { latencies.collect() } else { BTreeMap::new() },
        idempotency_key: None,
    }
}

struct Bench {
    maker: Matchmaker,
    case: Case,
    now: u64,
    calls: u64,
    started: usize,
    matched: usize,
    matches: usize,
    starting: Duration,
    ticking: Duration,
    longest: Duration,
    longest_wall: Duration,
}

impl Bench {
    fn new(case: Case) -> Self {
        let mut bench = Self {
            maker: Matchmaker::new(),
            case,
            now: BEGIN,
            calls: 0,
            started: 0,
            matched: 0,
            matches: 0,
            starting: Duration::ZERO,
            ticking: Duration::ZERO,
            longest: Duration::ZERO,
            longest_wall: Duration::ZERO,
        };
        let queues = BTreeMap::from([(QueueId::new("q").unwrap(), queue(case))]);
        bench.call(Command::Configure { settings: Settings { queues, ..Settings::default() } });
        bench
    }

    fn moment(&mut self) -> Moment {
        self.calls += 1;
        let entropy = [self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.calls];
        Moment { now: Timestamp::from_millis(self.now), entropy }
    }

    fn call(&mut self, command: Command) {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.handle(at, CallId(self.calls), command, &mut step);
        for (_, answer) in step.answers {
            answer.unwrap_or_else(|refusal| panic!("{refusal}"));
        }
    }

    fn start(&mut self, wish: &Wish) {
        let spec = spec(self.case, self.started, wish);
        self.started += 1;
        let begun = processor();
        self.call(Command::Start { id: None, spec });
        self.starting += processor() - begun;
    }

    /// Ticks until nothing is left over.
    fn tick(&mut self) -> usize {
        let mut count = 0;
        while self.maker.next_deadline().is_some_and(|at| at.as_millis() <= self.now) {
            let (at, mut step) = (self.moment(), Step::new());
            let (begun, wall) = (processor(), Instant::now());
            self.maker.tick(at, &mut step);
            let took = processor() - begun;
            self.longest_wall = self.longest_wall.max(wall.elapsed());
            (self.ticking, self.longest) = (self.ticking + took, self.longest.max(took));
            for record in &step.records {
                if let Event::MatchFormed { teams, .. } = &record.event {
                    self.matched += teams.iter().flatten().count();
                    self.matches += 1;
                }
            }
            count += 1;
        }
        count
    }

    fn forget_times(&mut self) {
        (self.starting, self.ticking, self.longest, self.longest_wall) = Default::default();
        (self.matched, self.matches) = (0, 0);
    }
}

/// Many wait; some come.
fn at_rest(case: Case, waiting: usize) {
    let (mut bench, mut random) = (Bench::new(case), Random(7));
    let before = resident();
    for n in 0..waiting {
        let wish = lonely(case, n, &mut random);
        bench.start(&wish);
    }
    bench.now += TICK;
    bench.tick();
    assert_eq!(bench.matched, 0, "they cannot play with one another");
    let bytes = resident().saturating_sub(before) / waiting;
    bench.forget_times();
    let mut ticks = 0;
    for _ in 0..TICKS {
        for _ in 0..ARRIVALS_PER_TICK {
            let wish = arrival(case, waiting, &mut random);
            bench.start(&wish);
        }
        bench.now += TICK;
        ticks += bench.tick();
    }
    let arrived = (TICKS * ARRIVALS_PER_TICK) as f64;
    println!(
        "{case:<9?} at rest {waiting:>9}: {:>8.0} tickets matched/s of ticking, {:>5} ticks, longest {:>6.2} ms ({:.2} by the wall), \
         mean {:>5.2} ms; {:>5.1} µs a ticket to form, {:>5.1} µs to start; {bytes} bytes a ticket",
        bench.matched as f64 / bench.ticking.as_secs_f64(),
        ticks,
        millis(bench.longest),
        millis(bench.longest_wall),
        millis(bench.ticking) / ticks as f64,
        bench.ticking.as_secs_f64() * 1e6 / arrived,
        bench.starting.as_secs_f64() * 1e6 / arrived,
    );
}

/// All come together.
fn at_once(case: Case, count: usize) {
    let (mut bench, mut random) = (Bench::new(case), Random(11));
    let wishes: Vec<Wish> = (0..count).map(|n| crowd(case, n, count, &mut random)).collect();
    for wish in &wishes {
        bench.start(wish);
    }
    bench.now += TICK;
    let ticks = bench.tick();
    println!(
        "{case:<9?} at once {count:>9}: {:>8.0} tickets matched/s of ticking, {ticks:>5} ticks, longest {:>6.2} ms ({:.2} by the wall); \
         {:.1} % matched in {:.2} s",
        bench.matched as f64 / bench.ticking.as_secs_f64(),
        millis(bench.longest),
        millis(bench.longest_wall),
        bench.matched as f64 * 100.0 / count as f64,
        bench.ticking.as_secs_f64(),
    );
    if count <= LARGEST_SCAN {
        let begun = processor();
        let matched = scan(case, &wishes);
        let took = processor() - begun;
        println!(
            "{case:<9?} scan    {count:>9}: {:>8.0} tickets matched/s, one tick of {:.2} ms; {:.1} % matched",
            matched as f64 / took.as_secs_f64(),
            millis(took),
            matched as f64 * 100.0 / count as f64,
        );
        let mut random = Random(7);
        let lonely: Vec<Wish> = (0..count).map(|n| lonely(case, n, &mut random)).collect();
        let begun = processor();
        assert_eq!(scan(case, &lonely), 0);
        println!("{case:<9?} scan    {count:>9}: one tick at rest {:.2} ms", millis(processor() - begun));
    }
}

/// The plain way: for the oldest ticket, looks through all others for enough that go with all chosen so far.
fn scan(case: Case, wishes: &[Wish]) -> usize {
    let players = if case == Case::Parties { 10 } else { 2 };
    let goes = |a: &Wish, b: &Wish| {
        let near = case == Case::Equality || (a.rating - b.rating).abs() <= 25.0;
        let mut regions = a.latencies.iter().zip(&b.latencies);
        let region = case != Case::Parties || regions.any(|(a, b)| *a <= 80 && *b <= 80);
        a.map == b.map && near && region
    };
    let mut taken = vec![false; wishes.len()];
    let mut matched = 0;
    for at in 0..wishes.len() {
        if taken[at] {
            continue;
        }
        let (mut chosen, mut size) = (vec![at], wishes[at].size);
        for other in at + 1..wishes.len() {
            let next = &wishes[other];
            let fits = !taken[other] && size + next.size <= players;
            if fits && chosen.iter().all(|of| goes(&wishes[*of], next)) {
                chosen.push(other);
                size += next.size;
            }
            if size == players {
                break;
            }
        }
        if size == players {
            chosen.iter().for_each(|of| taken[*of] = true);
            matched += chosen.len();
        }
    }
    matched
}

/// Time that this thread has had of a processor.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Memory of this process that is in RAM, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    let most = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(usize::MAX);
    for case in [Case::Equality, Case::Skill, Case::Parties] {
        for size in SIZES.into_iter().filter(|size| *size <= most) {
            at_rest(case, size);
            at_once(case, size);
        }
    }
}
