//! One run of the matchmaker in a simulated world. See [`run`].
//!
//! | file | contents |
//! |---|---|
//! | `world` | the agenda, the log with its crashes, delivery of answers |
//! | `outside` | hooks, the broker, seats of running matches: late, twice, or not at all |
//! | `clients` | parties who come, go, accept and decline; administrators |
//! | `checks` | the invariants, after every step |
//! | `crowds` | pools that this world does not have, and the matches that have to form |
//! | `neighbours` | a queue beside one with a backlog |
//! | `fair_turns` | deadlines that are postponed, tickets that hooks are not asked about |

mod checks;
mod clients;
mod crowds;
mod fair_turns;
mod neighbours;
mod outside;
mod world;

use std::fmt;
use std::ops::AddAssign;

pub use sortie_domain::matchmaking::BrokenRule;

use crate::sim::Failure;

/// Statistics of a run.
#[derive(Clone, Copy, Default, Debug)]
pub struct Report {
    /// Inputs to the matchmaker.
    pub inputs: u64,
    /// Events in the log at the end.
    pub events: u64,
    /// How often the process was killed.
    pub crashes: u64,
    /// Tickets that were accepted.
    pub tickets: u64,
    /// Matches that were formed.
    pub matches: u64,
    /// Tickets whose players could connect to a new match.
    pub completed: u64,
    /// Tickets whose players got free seats.
    pub seated: u64,
    /// How often the exhaustive search was compared with the formed matches.
    pub compared: u64,
    /// Tickets that were not renewed in time.
    pub abandoned: u64,
    /// Tickets whose players got a match in another queue.
    pub elsewhere: u64,
    /// Tickets that were replaced by others.
    pub replaced: u64,
    /// Matches that were formed of crowds.
    pub of_crowds: u64,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        let Self {
            inputs,
            events,
            crashes,
            tickets,
            matches,
            completed,
            seated,
            abandoned,
            compared,
            elsewhere,
            replaced,
            of_crowds,
        } = other;
        self.inputs += inputs;
        self.events += events;
        self.crashes += crashes;
        self.tickets += tickets;
        self.matches += matches;
        self.completed += completed;
        self.seated += seated;
        self.abandoned += abandoned;
        self.compared += compared;
        self.elsewhere += elsewhere;
        self.replaced += replaced;
        self.of_crowds += of_crowds;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            inputs,
            events,
            crashes,
            tickets,
            matches,
            completed,
            seated,
            abandoned,
            compared,
            elsewhere,
            replaced,
            of_crowds,
        } = self;
        write!(
            f,
            "{inputs} inputs, {events} events, {crashes} crashes, {tickets} tickets, {completed} of them completed, {seated} seated, {abandoned} abandoned, {elsewhere} matched elsewhere and {replaced} replaced, \
             {matches} matches formed and {of_crowds} of crowds, {compared} comparisons with trying everything"
        )
    }
}

/// Runs the schedule of `seed`, with the rule `broken` disabled on purpose if there is one.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, broken: Option<BrokenRule>) -> Result<Report, Failure> {
    let mut report = world::World::new(seed, broken).run()?;
    report.of_crowds = crowds::run(seed, broken)?;
    neighbours::run(seed, broken)?;
    Ok(report)
}
