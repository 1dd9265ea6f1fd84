//! One run of the broker in a simulated world. See [`run`].
//!
//! | file | contents |
//! |---|---|
//! | `world` | the agenda, the log with its crashes, delivery of answers |
//! | `platform` | starts and stops processes, late, twice, or not at all |
//! | `actors` | game servers, well-behaved and hostile; clients; administrators |
//! | `checks` | the invariants of ARCHITECTURE.md, after every step |
//! | `placement` | which server may get which match, when servers are told to exit, lost answers |
//! | `setup` | fleets and settings |
//! | `steps` | full steps, and a log that refuses larger ones |
//! | `pool` | a warm pool in a calm world, which has to stay full |
//! | `places` | game servers that report free places, and the expected results |

mod actors;
mod checks;
mod placement;
mod places;
mod platform;
mod pool;
mod setup;
mod steps;
mod world;

use std::fmt;
use std::ops::AddAssign;

pub use sortie_domain::broker::BrokenRule;

/// Statistics of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Report {
    /// Inputs to the broker.
    pub inputs: u64,
    /// Events in the log at the end.
    pub events: u64,
    /// How often the process was killed.
    pub crashes: u64,
    /// Matches that were acknowledged.
    pub matches: u64,
    /// Matches that became ready.
    pub ready: u64,
    /// Server processes started.
    pub processes: u64,
    /// Seats claimed.
    pub claims: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        let Self { inputs, events, crashes, matches, ready, processes, claims } = other;
        self.inputs += inputs;
        self.events += events;
        self.crashes += crashes;
        self.matches += matches;
        self.ready += ready;
        self.processes += processes;
        self.claims += claims;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inputs, events, crashes, matches, ready, processes, claims } = self;
        write!(
            f,
            "{inputs} inputs, {events} events, {crashes} crashes, {matches} matches, {ready} of them ready, \
             {processes} server processes, {claims} seats claimed"
        )
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The machine that was simulated, as `cargo xtask sim --machine` calls it.
    pub machine: &'static str,
    /// The schedule in which it happened.
    pub seed: u64,
    /// Number of inputs before it.
    pub inputs: u64,
    /// The violated invariant.
    pub problem: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { machine, seed, inputs, problem } = self;
        let replay = format!("cargo xtask sim --machine {machine} --seed {seed}");
        write!(f, "seed {seed}, after {inputs} inputs: {problem}\nreplay: {replay}")
    }
}

impl std::error::Error for Failure {}

/// Runs the schedule of `seed`, with the rule `broken` disabled on purpose if there is one.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, broken: Option<BrokenRule>) -> Result<Report, Failure> {
    if let Some(Err((inputs, problem))) = pool::Pool::new(seed, broken).map(pool::Pool::run) {
        return Err(Failure { machine: "broker", seed, inputs, problem });
    }
    world::World::new(seed, broken).run()
}
