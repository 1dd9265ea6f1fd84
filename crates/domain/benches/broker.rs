//! How the broker's cost grows: the same commands on a small and on a large queue, in one run.
//!
//! `cargo bench -p sortie-domain --bench broker`
//!
//! Small is 100 queued matches, 10 requirements and 10 waiting servers; large is 100,000, 1,000 and 10,000. Nine in ten
//! requirements are conjunctions of equalities, one is an expression that has to be evaluated. No waiting server fits
//! any queued match, as in an idle broker; every command is undone by the next, so that sizes stay constant. Times
//! depend on the machine and its load, so only ratios within one run are meaningful. The naive approach, which
//! evaluates each expression on each match until one fits, is measured for comparison.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(missing_docs, reason = "nothing here is public")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use imbl::OrdMap;
use sortie_domain::broker::model::Settings;
use sortie_domain::broker::{Broker, Command, Event, Hints, Offer, Reply, SeatsElsewhere};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::machine::{CallId, Machine, Moment, Record, Step};
use sortie_domain::match_spec::{MAX_CAPACITY, MatchSpec};
use sortie_domain::properties::Properties;
use sortie_domain::requirements::{Document, Requirements};
use sortie_domain::time::Timestamp;

const ROUNDS: usize = 3_000;
const NAIVE_ROUNDS: usize = 20;
const REPLAYED_EVENTS: u64 = 1_000_000;
const FIELDS_PER_MATCH: usize = 3;

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

#[derive(Clone, Copy)]
struct Size {
    queued: usize,
    requirements: usize,
    waiting: usize,
}

const SMALL: Size = Size { queued: 100, requirements: 10, waiting: 10 };
const LARGE: Size = Size { queued: 100_000, requirements: 1_000, waiting: 10_000 };

/// The requirements of the `n`-th kind of server.
fn requirement(n: usize) -> String {
    match n % 10 {
        9 => format!("MatchProperties.mode == 'mode-{n}' && MatchProperties.skill >= `{}`", n % 7),
        _ => format!("MatchProperties.mode == 'mode-{n}' && MatchProperties.region == 'eu'"),
    }
}

fn spec(mode: usize) -> MatchSpec {
    let properties = format!(r#"{{"mode":"mode-{mode}","region":"eu","skill":{}}}"#, 7 + mode % 9);
    assert_eq!(properties.matches(':').count(), FIELDS_PER_MATCH);
    let players = (0..2).map(|n| PlayerId::new(&format!("player-{mode}-{n}")).unwrap());
    MatchSpec {
        players: players.collect(),
        properties: Properties::parse(&properties).unwrap(),
        ..MatchSpec::default()
    }
}

struct Bench {
    broker: Broker,
    size: Size,
    calls: u64,
    queued: Vec<MatchId>,
    bytes_per_match: usize,
}

impl Bench {
    fn new(size: Size) -> Self {
        let year = Duration::from_secs(365 * 24 * 3600);
        let settings = Settings {
            match_pickup_time: year,
            wait: year,
            server_max_lifetime: year,
            ..Settings::default()
        };
        let bytes = resident();
        let (broker, queued) = (Broker::new(), Vec::with_capacity(size.queued));
        let mut bench = Self { broker, size, calls: 0, queued, bytes_per_match: 0 };
        bench.call(Command::Configure { settings, fleets: Vec::new() });
        // Every kind of server has asked before, so that the data structures for its answer exist.
        for n in 0..size.requirements {
            bench.request(&format!("probe-{n}"), n, Hints::NONE);
        }
        for n in 0..size.queued {
            // Modes that no server asks for.
            bench.submit(size.requirements + n % size.requirements);
        }
        for n in 0..size.requirements {
            assert!(bench.request(&format!("probe-{n}"), n, Hints::NONE).is_none());
        }
        bench.bytes_per_match = resident().saturating_sub(bytes) / size.queued;
        for n in 0..size.waiting {
            let kept = bench.request(&format!("waiting-{n}"), n % size.requirements, Hints::WILLING_TO_WAIT);
            assert!(kept.is_none());
        }
        bench
    }

    fn moment(&mut self) -> Moment {
        self.calls += 1;
        let entropy = [self.calls.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.calls];
        Moment { now: Timestamp::from_millis(1_700_000_000_000 + self.calls / 100), entropy }
    }

    fn call(&mut self, command: Command) -> Option<Reply> {
        let (at, mut step) = (self.moment(), Step::new());
        let call = CallId(self.calls);
        self.broker.handle(at, call, command, &mut step);
        let mine = step.answers.into_iter().find(|(of, _)| *of == call);
        mine.map(|(_, answer)| answer.unwrap_or_else(|refusal| panic!("{refusal}")))
    }

    fn submit(&mut self, mode: usize) -> MatchId {
        match self.call(Command::SubmitMatch { id: None, spec: spec(mode) }) {
            Some(Reply::Submitted { match_id }) => {
                self.queued.push(match_id.clone());
                match_id
            }
            other => panic!("{other:?}"),
        }
    }

    fn request(&mut self, server: &str, kind: usize, hints: Hints) -> Option<Offer> {
        let server = ServerId::new(server).unwrap();
        match self.call(Command::RequestMatch {
            server,
            requirements: requirement(kind),
            hints,
            most: 1,
            wait: None,
        }) {
            Some(Reply::Requested { offer, .. }) => offer,
            None => None,
            other => panic!("{other:?}"),
        }
    }

    /// Durations of one kind of command, each prepared and undone outside the measured time.
    fn times(&mut self, mut command: impl FnMut(&mut Self, usize) -> Duration) -> Times {
        let mut times: Vec<Duration> = (0..ROUNDS).map(|round| command(self, round)).collect();
        times.sort_unstable();
        Times { p50: times[ROUNDS / 2], p99: times[ROUNDS * 99 / 100] }
    }

    fn measure(&mut self) -> Vec<(&'static str, Times)> {
        let kinds = self.size.requirements;
        vec![
            (
                "request, nothing fits",
                self.times(|bench, n| timed(|| bench.request("asker", n % kinds, Hints::NONE)).1),
            ),
            ("request, the oldest fits", self.times(Self::request_fitting)),
            ("submit, a server waits", self.times(Self::submit_to_waiting)),
            (
                "submit, then cancel",
                self.times(|bench, n| {
                    let ((), time) = timed(|| {
                        let id = bench.submit(kinds + n % kinds);
                        bench.call(Command::CancelMatch { id });
                    });
                    bench.queued.pop();
                    time
                }),
            ),
            ("ready, then end", self.times(Self::play)),
            ("take back", self.times(Self::take_back)),
            (
                "tick",
                self.times(|bench, _| {
                    let (at, mut step) = (bench.moment(), Step::new());
                    timed(|| bench.broker.tick(at, &mut step)).1
                }),
            ),
            (
                "place in queue",
                self.times(|bench, n| {
                    let at = n * 7_919 % bench.queued.len();
                    let (place, time) = timed(|| bench.broker.place_in_queue(&bench.queued[at]));
                    assert_eq!(place, Some(at));
                    time
                }),
            ),
            ("list 100 active", self.times(|bench, _| timed(|| bench.broker.active().take(100).count()).1)),
        ]
    }

    /// A queued match at the end of a long queue that the asker takes, and no waiting server.
    fn special(&mut self, round: usize) -> (ServerId, String) {
        let mode = format!("special-{round}");
        let properties = Properties::parse(&format!(r#"{{"mode":"{mode}","region":"eu"}}"#)).unwrap();
        self.call(Command::SubmitMatch { id: None, spec: MatchSpec { properties, ..MatchSpec::default() } });
        let requirements = format!("MatchProperties.mode == '{mode}' && MatchProperties.region == 'eu'");
        (ServerId::new("asker").unwrap(), requirements)
    }

    fn take_special(&mut self, round: usize) -> (Offer, Duration) {
        let (server, requirements) = self.special(round);
        let command = Command::RequestMatch { server, requirements, hints: Hints::NONE, most: 1, wait: None };
        match timed(|| self.call(command)) {
            (Some(Reply::Requested { offer: Some(offer), .. }), time) => (offer, time),
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, offer: &Offer) {
        let (server, match_id) = (offer.server.clone(), offer.match_id.clone());
        self.call(Command::EndMatch { server, match_id, hints: Hints::NONE });
    }

    fn request_fitting(&mut self, round: usize) -> Duration {
        let (offer, time) = self.take_special(round);
        self.end(&offer);
        time
    }

    fn play(&mut self, round: usize) -> Duration {
        let (offer, _) = self.take_special(round);
        let connection = Connection { details: "203.0.113.7:7777".into(), ..Connection::default() };
        let (server, match_id) = (offer.server.clone(), offer.match_id.clone());
        let ready = Command::MatchReady { server, match_id, connection, hints: Hints::NONE };
        timed(|| {
            self.call(ready);
            self.end(&offer);
        })
        .1
    }

    fn take_back(&mut self, round: usize) -> Duration {
        let (offer, _) = self.take_special(round);
        let id = offer.match_id.clone();
        let (at, mut step) = (self.moment(), Step::new());
        let reply = Reply::Requested { offer: Some(offer), more: Vec::new(), hints: Hints::NONE };
        let time = timed(|| self.broker.undelivered(at, &Ok(reply), &mut step)).1;
        self.call(Command::CancelMatch { id });
        time
    }

    fn submit_to_waiting(&mut self, round: usize) -> Duration {
        let mode = round % self.size.requirements;
        let (id, time) = timed(|| self.submit(mode));
        self.queued.pop();
        let server = self.broker.find_match(&id).unwrap().server.clone().unwrap();
        self.call(Command::EndMatch { server: server.clone(), match_id: id, hints: Hints::NONE });
        let again = self.request(server.as_str(), mode, Hints::WILLING_TO_WAIT);
        assert!(again.is_none());
        time
    }

    /// Answers a request by evaluating the expression on every match.
    fn naive(&self) -> Duration {
        let mut requirements = Requirements::new();
        let begun = Instant::now();
        for round in 0..NAIVE_ROUNDS {
            let asked = requirements.compile(&requirement(round)).unwrap();
            let found = self
                .broker
                .queued()
                .find(|game| requirements.fits(&asked, &Document::new(&game.id, &game.spec)));
            assert!(found.is_none());
        }
        begun.elapsed() / NAIVE_ROUNDS as u32
    }
}

struct Times {
    p50: Duration,
    p99: Duration,
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let done = work();
    (done, begun.elapsed())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Records of matches that are submitted, taken, ready and over, as a log would return them.
fn replay() -> Duration {
    let spec = std::sync::Arc::new(spec(0));
    let server = ServerId::new("server").unwrap();
    let connection = std::sync::Arc::new(Connection::default());
    let mut records = Vec::new();
    let mut push = |seq: u64, event| {
        records.push(Record { seq, time: Timestamp::from_millis(1_700_000_000_000 + seq), event });
    };
    push(1, Event::ServerRegistered { server: server.clone() });
    for n in 0..REPLAYED_EVENTS / 4 {
        let (id, seq, players) =
            (MatchId::new(&format!("match-{n:032}")).unwrap(), 4 * n + 2, spec.players.clone());
        push(seq, Event::MatchQueued { id: id.clone(), spec: spec.clone() });
        push(seq + 1, Event::MatchPickedUp { id: id.clone(), server: server.clone() });
        let (players, connection) = (players.clone(), connection.clone());
        let (of, host) = (id.clone(), server.clone());
        push(seq + 2, Event::MatchReady { id: of, server: host, players: players.clone(), connection });
        push(
            seq + 3,
            Event::MatchEnded { id, players, cause: sortie_domain::broker::model::EndCause::Server },
        );
    }
    let mut broker = Broker::new();
    timed(|| records.iter().for_each(|record| broker.apply(record))).1
}

/// Every seat of the largest match: the duration of the worst call of each kind.
fn seats() -> Vec<(&'static str, Duration)> {
    let mut bench = Bench::new(SMALL);
    let host = ServerId::new("host").unwrap();
    let open = MatchSpec { capacity: Some(MAX_CAPACITY), ..spec(0) };
    let open = MatchSpec { properties: Properties::parse(r#"{"mode":"open"}"#).unwrap(), ..open };
    bench.call(Command::SubmitMatch { id: Some(MatchId::new("open").unwrap()), spec: open });
    let id = MatchId::new("open").unwrap();
    let requirements = "MatchProperties.mode == 'open'".to_owned();
    bench.call(Command::RequestMatch {
        server: host.clone(),
        requirements,
        hints: Hints::NONE,
        most: 1,
        wait: None,
    });
    let (mut worst, mut ids) = (Vec::new(), Vec::new());
    // A snapshot that is being written, so that maps are shared with it.
    let _shared = bench.broker.snapshot();
    let each: Vec<Duration> = (0..MAX_CAPACITY - 2)
        .map(|n| {
            let player = PlayerId::new(&format!("guest-{n}")).unwrap();
            let ttl = Duration::from_secs(3600);
            let command = Command::ReserveSeat {
                match_id: id.clone(),
                player,
                ttl,
                elsewhere: SeatsElsewhere::Ignored,
            };
            let (reply, time) = timed(|| bench.call(command));
            let Some(Reply::Seated { seat, .. }) = reply else { panic!("{reply:?}") };
            ids.push(seat.id);
            time
        })
        .collect();
    worst.push(("reserve one of 10,000 seats", each.into_iter().max().unwrap()));
    let connection = Connection { details: "203.0.113.7:7777".into(), ..Connection::default() };
    let ready =
        Command::MatchReady { server: host.clone(), match_id: id.clone(), connection, hints: Hints::NONE };
    worst.push(("ready with 10,000 seats", timed(|| bench.call(ready)).1));
    let each = ids.iter().step_by(2).map(|seat| {
        let command = Command::ClaimSeat { seat: seat.clone(), server: None };
        timed(|| bench.call(command)).1
    });
    worst.push(("claim one of 10,000 seats", each.max().unwrap()));
    let explain = timed(|| bench.broker.explain(&id)).1;
    worst.push(("explain with 10,000 seats", explain));
    worst.push(("list its players", timed(|| bench.broker.find_match(&id).unwrap().expected_players()).1));
    let (server, match_id) = (host.clone(), id.clone());
    let end = Command::EndMatch { server, match_id, hints: Hints::NONE };
    worst.push(("end with 10,000 seats", timed(|| bench.call(end)).1));
    worst
}

/// Persistent maps compared with plain ones, with the ids of matches: look-up and replacement, 100,000 entries.
fn maps() {
    let ids: Vec<MatchId> = (0..100_000).map(|n| MatchId::new(&format!("match-{n:032}")).unwrap()).collect();
    let each = || (0..ids.len()).map(|n| &ids[n * 7_919 % ids.len()]);
    let mut plain: BTreeMap<_, _> = ids.iter().map(|id| (id.clone(), 0_u64)).collect();
    let mut persistent: OrdMap<_, _> = ids.iter().map(|id| (id.clone(), 0_u64)).collect();
    let nanos = |time: Duration| time.as_nanos() / ids.len() as u128;
    let found = [
        timed(|| each().filter(|id| plain.contains_key(*id)).count()),
        timed(|| each().filter(|id| persistent.contains_key(*id)).count()),
    ];
    assert!(found.iter().all(|(found, _)| *found == ids.len()));
    println!("look-up in a map: BTreeMap {} ns, OrdMap {} ns", nanos(found[0].1), nanos(found[1].1));
    let changed = [
        timed(|| each().for_each(|id| *plain.get_mut(id).unwrap() += 1)).1,
        timed(|| each().for_each(|id| *persistent.get_mut(id).unwrap() += 1_u64)).1,
    ];
    println!("change in a map: BTreeMap {} ns, OrdMap {} ns", nanos(changed[0]), nanos(changed[1]));
    let copy = persistent.clone();
    let after_copy = timed(|| each().for_each(|id| *persistent.get_mut(id).unwrap() += 1)).1;
    println!("change right after a copy: OrdMap {} ns, {} entries shared", nanos(after_copy), copy.len());
    let come_and_go = [
        timed(|| each().all(|id| plain.remove(id).is_some() && plain.insert(id.clone(), 1).is_none())).1,
        timed(|| {
            each().all(|id| persistent.remove(id).is_some() && persistent.insert(id.clone(), 1).is_none())
        })
        .1,
    ];
    println!("out and in again: BTreeMap {} ns, OrdMap {} ns", nanos(come_and_go[0]), nanos(come_and_go[1]));
}

fn main() {
    let (mut small, mut large) = (Bench::new(SMALL), Bench::new(LARGE));
    println!("µs                          small p50      p99    large p50      p99   ratio of p99");
    for ((name, few), (_, many)) in small.measure().into_iter().zip(large.measure()) {
        let ratio = many.p99.as_secs_f64() / few.p99.as_secs_f64();
        let [a, b, c, d] = [few.p50, few.p99, many.p50, many.p99].map(micros);
        println!("{name:<26} {a:>10.1} {b:>8.1}   {c:>10.1} {d:>8.1}   {ratio:>12.2}");
    }
    println!("naive request, large: {:.0} µs", micros(large.naive()));
    println!("snapshot, large: {:.0} µs", micros(timed(|| large.broker.snapshot()).1));
    let counted = large.broker.waiting_bytes() / large.size.queued;
    let resident = large.bytes_per_match;
    println!("memory, large: {resident} bytes a queued match, all indexes included; counted as {counted}");
    seats().into_iter().for_each(|(what, worst)| println!("{what}, the worst: {:.0} µs", micros(worst)));
    maps();
    println!("replay of {REPLAYED_EVENTS} events: {:.2} s", replay().as_secs_f64());
}
