//! A matchmaker in virtual time, driven as its host does, and how long its steps take.

use std::collections::VecDeque;
use std::fmt;

use sortie_domain::connection::Connection;
use sortie_domain::ids::{BadId, MatchId, TicketId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::TicketSpec;
use sortie_domain::matchmaking::{Command, Event, Matchmaker, Refusal};
use sortie_domain::time::Timestamp;

use crate::case::{Case, Wish};
use crate::times::{Times, Watch};

/// Start of the virtual time, in milliseconds since 1970.
const BEGIN: u64 = 1_700_000_000_000;
/// Maximum number of ticks at one virtual time; beyond it the matchmaker counts as stuck.
const MAX_TICKS: usize = 1_000_000;

/// Why a run was aborted.
#[derive(Clone, PartialEq, Debug)]
pub enum Failure {
    /// An id that was generated here is invalid.
    Id(BadId),
    /// The matchmaker wrongly refused something.
    Refused(Refusal),
    /// It never becomes idle at one point in time.
    Stuck,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(problem) => write!(f, "a name of the load {problem}"),
            Self::Refused(refusal) => write!(f, "the matchmaker refused the load: {refusal}"),
            Self::Stuck => {
                write!(f, "the matchmaker did not run out of work within {MAX_TICKS} ticks at one time")
            }
        }
    }
}

impl std::error::Error for Failure {}

impl From<BadId> for Failure {
    fn from(problem: BadId) -> Self {
        Self::Id(problem)
    }
}

/// The fate of a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    Matched,
    TimedOut,
}

pub(crate) struct Host {
    pub(crate) maker: Matchmaker,
    case: Case,
    /// Milliseconds since [`BEGIN`].
    pub(crate) now: u64,
    inputs: u64,
    pub(crate) started: usize,
    /// Matches whose players can connect soon.
    formed: VecDeque<MatchId>,
    pub(crate) matches: usize,
    /// Tickets that stopped waiting since the last call, by number.
    pub(crate) outcomes: Vec<(usize, Outcome)>,
    pub(crate) ticks: Times,
    pub(crate) starts: Times,
    pub(crate) others: Times,
}

impl Host {
    pub(crate) fn new(case: Case, expiration: std::time::Duration) -> Result<Self, Failure> {
        let mut host = Self {
            maker: Matchmaker::new(),
            case,
            now: 0,
            inputs: 0,
            started: 0,
            formed: VecDeque::new(),
            matches: 0,
            outcomes: Vec::new(),
            ticks: Times::default(),
            starts: Times::default(),
            others: Times::default(),
        };
        host.call(Command::Configure { settings: case.settings(expiration)? })?;
        Ok(host)
    }

    const fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: Timestamp::from_millis(BEGIN + self.now), entropy }
    }

    pub(crate) fn call(
        &mut self,
        command: Command,
    ) -> Result<(std::time::Duration, std::time::Duration), Failure> {
        let (at, mut step) = (self.moment(), Step::new());
        let call = CallId(self.inputs);
        let watch = Watch::start();
        self.maker.handle(at, call, command, &mut step);
        let took = watch.stop();
        self.note(&step);
        let refused = step.answers.into_iter().find_map(|(_, answer)| answer.err());
        refused.map_or(Ok(took), |refusal| Err(Failure::Refused(refusal)))
    }

    /// Starts a ticket; returns its number, counted from 0.
    pub(crate) fn start(&mut self, wish: &Wish) -> Result<usize, Failure> {
        let number = self.started;
        let spec: TicketSpec = self.case.spec(number, wish)?;
        self.started += 1;
        let id = Some(TicketId::new(&number.to_string())?);
        let took = self.call(Command::Start { id, spec })?;
        self.starts.add(took);
        Ok(number)
    }

    /// Ticks until nothing is due; then finds servers for the matches.
    pub(crate) fn tick(&mut self) -> Result<usize, Failure> {
        let mut count = 0;
        while self.maker.next_deadline().is_some_and(|at| at.as_millis() <= BEGIN + self.now) {
            if count == MAX_TICKS {
                return Err(Failure::Stuck);
            }
            let (at, mut step) = (self.moment(), Step::new());
            let watch = Watch::start();
            self.maker.tick(at, &mut step);
            self.ticks.add(watch.stop());
            self.note(&step);
            count += 1;
        }
        while let Some(match_id) = self.formed.pop_front() {
            let took = self.call(Command::Submitted { match_id: match_id.clone() })?;
            self.others.add(took);
            let took = self.call(Command::MatchReady { match_id, connection: Connection::default() })?;
            self.others.add(took);
        }
        Ok(count)
    }

    fn note(&mut self, step: &Step<Matchmaker>) {
        let number = |id: &TicketId| id.as_str().parse().unwrap_or(usize::MAX);
        for record in &step.records {
            match &record.event {
                Event::MatchFormed { id, teams, .. } => {
                    self.formed.push_back(id.clone());
                    self.matches += 1;
                    let tickets = teams.iter().flatten();
                    self.outcomes.extend(tickets.map(|named| (number(&named.ticket), Outcome::Matched)));
                }
                Event::TicketTimedOut { ticket } => {
                    self.outcomes.push((number(&ticket.ticket), Outcome::TimedOut));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn forget_times(&mut self) {
        self.ticks.clear();
        self.starts.clear();
        self.others.clear();
        self.matches = 0;
    }

    pub(crate) fn sort_times(&mut self) {
        self.ticks.sort();
        self.starts.sort();
        self.others.sort();
    }
}
