//! A steady state: many tickets wait, new ones arrive all the time, and about as many leave.
//!
//! First the pool is filled realistically: the tickets come over the time that they have waited, so that they widen and
//! expire one after another and not all at once. Six in ten arrivals find nobody; four in ten come to a *hot*
//! neighbourhood and eventually complete a match. Of those that find nobody, a third should expire. That determines the
//! age distribution of waiting tickets (exponential, truncated at expiry) and the lifetime of tickets that keeps the
//! pool at its size. From then on, an arrival is lonely if the pool is below its size, and a neighbour otherwise.

use std::fmt;
use std::time::Duration;

use crate::case::{Case, Wish};
use crate::host::{Failure, Host, Outcome};
use crate::scan::{self, Scans};
use crate::tickets::Random;
use crate::times::{Times, millis};

/// The share of arrivals that find a neighbourhood.
const MATCHING: f64 = 0.4;
/// Minimum lifetime of a ticket: beyond the last widening.
const MIN_LIFE: Duration = Duration::from_secs(60);
/// Number of arrivals that are remembered for the plain scan.
const SCANNED: usize = 1_000;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The queue.
    pub case: Case,
    /// Number of waiting tickets.
    pub waiting: u32,
    /// Arrivals per second.
    pub arrivals: u32,
    /// Seconds of virtual time before the measurement, with the same arrivals.
    pub warm_up: u32,
    /// Seconds of virtual time that are measured.
    pub seconds: u32,
}

impl Plan {
    /// With 10,000 arrivals per second, and 20 seconds measured after the last widening of the first tickets.
    #[must_use]
    pub const fn new(case: Case, waiting: u32) -> Self {
        Self { case, waiting, arrivals: 10_000, warm_up: 45, seconds: 20 }
    }

    /// Rate at which waiting tickets are matched: the share of them per second.
    fn hazard(&self) -> f64 {
        MATCHING * f64::from(self.arrivals) / f64::from(self.waiting.max(1))
    }

    /// The age at which a third of those who found nobody are left.
    fn expiration(&self) -> Duration {
        let life = 3.0_f64.ln() / self.hazard();
        MIN_LIFE.max(Duration::from_secs_f64(life))
    }

    /// How long the `at`-th of the initial tickets, oldest first, has waited, in milliseconds.
    fn age(&self, at: u32) -> u64 {
        let share = 1.0 - f64::from(at) / f64::from(self.waiting.max(1));
        let expiration = self.expiration().as_secs_f64();
        let left = (-self.hazard() * expiration).exp();
        let seconds = -(1.0 - share * (1.0 - left)).ln() / self.hazard();
        // If nobody is left to expire, the oldest would have come before time zero.
        (seconds.min(expiration) * 1e3) as u64
    }
}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Steady {
    /// The plan.
    pub plan: Plan,
    /// Minimum and maximum number of waiting tickets.
    pub waited: (usize, usize),
    /// Tickets that were matched, and matches.
    pub matched: (usize, usize),
    /// Tickets that expired.
    pub expired: usize,
    /// Maximum number of tickets still to be looked at when a tick ended.
    pub backlog: usize,
    /// The ticks.
    pub ticks: Times,
    /// The calls that start a ticket.
    pub starts: Times,
    /// The other calls: a server is requested, players can connect.
    pub others: Times,
    /// Resident memory per waiting ticket, in bytes.
    pub bytes: usize,
    /// A plain scan of the waiting tickets, per arrival.
    pub scan: Scans,
    /// Searches that hit a limit without a result.
    pub cut_searches: u64,
}

impl Steady {
    /// Tickets matched per second of CPU time of ticks.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.matched.0 as f64 / self.ticks.total().as_secs_f64().max(1e-9)
    }

    /// The share of one processor that the machine needs for this load.
    #[must_use]
    pub fn busy(&self) -> f64 {
        let all = self.ticks.total() + self.starts.total() + self.others.total();
        all.as_secs_f64() / f64::from(self.plan.seconds.max(1))
    }

    /// CPU time that a plain scan would take for the arrivals of one tick of 100 ms.
    #[must_use]
    pub fn scan_of_a_tick(&self) -> Duration {
        self.scan.each * (self.plan.arrivals / 10)
    }
}

/// Fills the pool, lets it settle, and measures.
///
/// # Errors
/// The matchmaker fails.
pub fn run(plan: Plan) -> Result<Steady, Failure> {
    let mut load = Load::new(plan)?;
    let before = resident();
    load.fill()?;
    let bytes = resident().saturating_sub(before) / plan.waiting.max(1) as usize;
    load.arrive(plan.warm_up)?;
    load.host.forget_times();
    load.forget_counts();
    let cut = load.host.maker.cut_searches();
    load.arrive(plan.seconds)?;
    let scan = load.scan();
    load.host.sort_times();
    let Load { host, waited, matched, expired, backlog, .. } = load;
    Ok(Steady {
        plan,
        waited,
        matched: (matched, host.matches),
        expired,
        backlog,
        cut_searches: host.maker.cut_searches() - cut,
        ticks: host.ticks,
        starts: host.starts,
        others: host.others,
        bytes,
        scan,
    })
}

struct Load {
    plan: Plan,
    host: Host,
    random: Random,
    /// The wishes of tickets that still wait, by number.
    wishes: Vec<Option<Wish>>,
    waiting: usize,
    /// The neighbourhood being filled, and the number of its tickets so far.
    opening: (u32, usize),
    /// Neighbourhoods that arrivals come to.
    hot: Vec<u32>,
    waited: (usize, usize),
    matched: usize,
    expired: usize,
    backlog: usize,
    arrived: Vec<Wish>,
}

impl Load {
    fn new(plan: Plan) -> Result<Self, Failure> {
        Ok(Self {
            plan,
            host: Host::new(plan.case, plan.expiration())?,
            random: Random(7),
            wishes: Vec::new(),
            waiting: 0,
            opening: (0, 0),
            hot: Vec::new(),
            waited: (usize::MAX, 0),
            matched: 0,
            expired: 0,
            backlog: 0,
            arrived: Vec::new(),
        })
    }

    const fn forget_counts(&mut self) {
        (self.matched, self.expired, self.backlog, self.waited) = (0, 0, 0, (usize::MAX, 0));
    }

    fn fill(&mut self) -> Result<(), Failure> {
        let end = self.host.now + self.plan.age(0);
        for at in 0..self.plan.waiting {
            self.pass_time(end - self.plan.age(at))?;
            let wish = self.lonely();
            self.start(wish)?;
        }
        self.pass_time(end)
    }

    /// This many seconds of arrivals, spread evenly.
    fn arrive(&mut self, seconds: u32) -> Result<(), Failure> {
        let (begun, each) = (self.host.now, u64::from(self.plan.arrivals.max(1)));
        for at in 0..u64::from(seconds) * each {
            self.pass_time(begun + at * 1_000 / each)?;
            let wish =
                if self.waiting < self.plan.waiting as usize { self.lonely() } else { self.neighbour() };
            self.start(wish)?;
            self.waited = (self.waited.0.min(self.waiting), self.waited.1.max(self.waiting));
        }
        self.pass_time(begun + u64::from(seconds) * 1_000)
    }

    /// Ticks whenever the machine asks for it, like a host.
    fn pass_time(&mut self, until: u64) -> Result<(), Failure> {
        while self.host.now < until {
            self.host.now += 1;
            if self.host.tick()? > 0 {
                self.backlog = self.backlog.max(self.host.maker.backlog());
            }
            self.note();
        }
        Ok(())
    }

    fn start(&mut self, wish: Wish) -> Result<(), Failure> {
        let number = self.host.start(&wish)?;
        debug_assert_eq!(number, self.wishes.len());
        self.wishes.push(Some(wish));
        self.waiting += 1;
        Ok(())
    }

    fn lonely(&mut self) -> Wish {
        loop {
            let (neighbourhood, at) = self.opening;
            if let Some(wish) = self.plan.case.lonely(neighbourhood, at, &mut self.random) {
                self.opening.1 += 1;
                return wish;
            }
            self.opening = (neighbourhood + 1, 0);
        }
    }

    /// An arrival in one of a thousand neighbourhoods, which is replaced as soon as it has made a match.
    fn neighbour(&mut self) -> Wish {
        let most = (self.plan.arrivals / 10).clamp(1, self.opening.0.max(1)) as usize;
        while self.hot.len() < most {
            let next = self.some_neighbourhood();
            self.hot.push(next);
        }
        let at = self.random.below(most as u32) as usize;
        let neighbourhood = self.hot.get(at).copied().unwrap_or_default();
        let wish = self.plan.case.neighbour(neighbourhood, &mut self.random);
        if self.arrived.len() < SCANNED {
            self.arrived.push(wish);
        }
        wish
    }

    /// A neighbourhood in which somebody waits.
    fn some_neighbourhood(&mut self) -> u32 {
        for _ in 0..1_000 {
            let number = self.random.below(u32::try_from(self.wishes.len()).unwrap_or(u32::MAX)) as usize;
            if let Some(Some(wish)) = self.wishes.get(number) {
                return wish.neighbourhood;
            }
        }
        self.opening.0
    }

    fn note(&mut self) {
        for (number, outcome) in std::mem::take(&mut self.host.outcomes) {
            let Some(wish) = self.wishes.get_mut(number).and_then(Option::take) else { continue };
            self.waiting -= 1;
            match outcome {
                Outcome::Matched => {
                    self.matched += 1;
                    if let Some(at) = self.hot.iter().position(|hot| *hot == wish.neighbourhood) {
                        let next = self.some_neighbourhood();
                        if let Some(hot) = self.hot.get_mut(at) {
                            *hot = next;
                        }
                    }
                }
                Outcome::TimedOut => self.expired += 1,
            }
        }
    }

    fn scan(&self) -> Scans {
        let waiting: Vec<Wish> = self.wishes.iter().copied().flatten().collect();
        scan::for_arrivals(self.plan.case, &waiting, &self.arrived)
    }
}

/// Resident memory of this process, in bytes; 0 if the system does not say.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or_default() * 1024
}

impl fmt::Display for Steady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = f64::from(self.plan.seconds.max(1));
        writeln!(
            f,
            "{}: {} to {} waiting, {} arrivals/s: {:.0} tickets matched/s and {:.0} expired/s of virtual time; {:.0} matched/s \
             of ticking; {:.0} % of one processor",
            self.plan.case.name(),
            self.waited.0,
            self.waited.1,
            self.plan.arrivals,
            self.matched.0 as f64 / seconds,
            self.expired as f64 / seconds,
            self.rate(),
            self.busy() * 100.0,
        )?;
        writeln!(f, "  {} ticks: {}", self.ticks.count(), self.ticks)?;
        writeln!(
            f,
            "  a ticket: {:.1} µs to start (p99 {:.1} µs, longest {:.2} ms), {:.1} µs of ticks; {} bytes; backlog at most {}, \
             {} searches cut",
            self.starts.total().as_secs_f64() * 1e6 / self.starts.count().max(1) as f64,
            self.starts.processor(990).as_secs_f64() * 1e6,
            millis(self.starts.processor(1_000)),
            self.ticks.total().as_secs_f64() * 1e6 / self.starts.count().max(1) as f64,
            self.bytes,
            self.backlog,
            self.cut_searches,
        )?;
        write!(
            f,
            "  a plain scan: {:.3} ms for an arrival ({} measured), {:.0} ms for those of one tick",
            millis(self.scan.each),
            self.scan.tickets,
            millis(self.scan_of_a_tick()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_its_size_and_turns_over() {
        for case in Case::ALL {
            let plan = Plan { arrivals: 200, warm_up: 45, seconds: 20, ..Plan::new(case, 2_000) };
            let steady = run(plan).unwrap();
            assert!(steady.waited.0 > 1_800 && steady.waited.1 < 2_200, "{steady}");
            assert!(steady.matched.0 > 500, "{steady}");
            assert!(steady.ticks.count() >= 180 && steady.scan.tickets > 0, "{steady}");
        }
    }

    #[test]
    fn ages_are_those_of_a_pool_that_a_third_leaves_by_expiry() {
        let plan = Plan::new(Case::Skill, 1_000_000);
        let life = plan.expiration().as_secs_f64();
        assert!((274.0..275.0).contains(&life), "{life}");
        assert!((plan.age(0) as f64 / 1e3 - life).abs() < 0.1);
        assert_eq!(plan.age(1_000_000), 0);
        let small = Plan::new(Case::Skill, 1_000);
        assert_eq!(small.age(0), MIN_LIFE.as_secs() * 1_000);
        assert!(plan.age(500_000) < 137_000, "more than half are younger than half the age");
    }
}
