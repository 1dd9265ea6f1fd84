//! One run of the matchmaker in a simulated world. See [`run`].
//!
//! | file | what |
//! |---|---|
//! | `world` | the agenda, the log with its crashes, delivery of answers |
//! | `outside` | hooks, whoever finds servers, seats of running matches: late, twice, or not at all |
//! | `clients` | parties who come, go, accept and decline; administrators |
//! | `checks` | the invariants, after every step |
//! | `crowds` | pools that this world does not have, and what has to form of them |
//! | `fair_turns` | deadlines that are put off, tickets that hooks are not asked about |

mod checks;
mod clients;
mod crowds;
mod fair_turns;
mod outside;
mod world;

use std::fmt;
use std::ops::AddAssign;

pub use sortie_domain::matchmaking::BrokenRule;

use crate::sim::Failure;

/// What a run went through.
#[derive(Clone, Copy, Default, Debug)]
pub struct Report {
    /// Inputs given to the matchmaker.
    pub inputs: u64,
    /// Events in the log at the end.
    pub events: u64,
    /// Times the process was killed.
    pub crashes: u64,
    /// Tickets that were taken.
    pub tickets: u64,
    /// Matches that were formed.
    pub matches: u64,
    /// Tickets whose players could connect to a new match.
    pub completed: u64,
    /// Tickets whose players got free seats.
    pub seated: u64,
    /// Times that trying everything was compared with what was formed.
    pub compared: u64,
    /// Tickets that nobody renewed in time.
    pub abandoned: u64,
    /// Tickets whose players got a match in another queue.
    pub elsewhere: u64,
    /// Tickets whose places others have taken.
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

/// Runs the schedule of `seed`, with one rule broken on purpose if one is given.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, broken: Option<BrokenRule>) -> Result<Report, Failure> {
    let mut report = world::World::new(seed, broken).run()?;
    report.of_crowds = crowds::run(seed, broken)?;
    Ok(report)
}
