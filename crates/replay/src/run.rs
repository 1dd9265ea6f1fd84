//! Runs recorded tickets through the matchmaker itself, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, QueueId, RegionId, TicketId};
use sortie_domain::machine::{CallId, Machine, Moment, Step};
use sortie_domain::matchmaking::model::{CancelCause, Named, Ticket, TicketEnd, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::Hook;
use sortie_domain::matchmaking::{Command, Effect, Event, MatchVerdict, Matchmaker, Refusal, Settings};
use sortie_domain::time::Timestamp;

use crate::quality::Measure;
use crate::recording::Arrival;
use crate::report::{Counts, Report};

/// Maximum number of ticks at one point in time; beyond it the matchmaker counts as stuck.
const MAX_TICKS: usize = 1_000_000;

/// A named set of rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Name in the report.
    pub name: String,
    /// The settings, each with its start time; at least one.
    pub settings: Vec<(Timestamp, Arc<Settings>)>,
}

impl Rules {
    /// The same settings from beginning to end.
    #[must_use]
    pub fn fixed(name: &str, settings: Settings) -> Self {
        Self { name: name.to_owned(), settings: vec![(Timestamp::ZERO, Arc::new(settings))] }
    }
}

/// Why there is no report.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ReplayError {
    /// There are no rules.
    #[error(
        "there are no rules to replay the tickets with: name a configuration with a section `matchmaker`"
    )]
    NoRules,
    /// The matchmaker refuses the settings.
    #[error("the matchmaker refuses the settings: {0}")]
    Settings(Refusal),
    /// The matchmaker never runs out of work at one point in time, which is a bug in it.
    #[error("the matchmaker never runs out of work at {} ms since 1970: this is a bug in the program", .0.as_millis())]
    Stuck(Timestamp),
}

/// Replays the tickets with these rules. `arrivals` are sorted by time.
///
/// # Errors
/// [`ReplayError`]
pub fn replay(arrivals: &[Arrival], rules: &Rules, measures: &[Measure]) -> Result<Report, ReplayError> {
    if rules.settings.is_empty() {
        return Err(ReplayError::NoRules);
    }
    let mut run = Run::new(measures);
    for input in inputs(arrivals, rules) {
        run.pass_time(input.at)?;
        match input.what {
            What::Configure(settings) => {
                let command = Command::Configure { settings: without_hooks(settings) };
                run.call(command).map_err(ReplayError::Settings)?;
            }
            What::Arrive(arrival) => run.arrive(arrival),
            What::Leave(id) => run.leave(id),
        }
    }
    run.rest()?;
    Ok(run.report(&rules.name))
}

/// Something that happens at a point in time.
struct Input<'a> {
    at: Timestamp,
    /// Its rank among everything that happens at that time.
    rank: (u8, usize, u8),
    what: What<'a>,
}

enum What<'a> {
    Configure(&'a Settings),
    Arrive(&'a Arrival),
    Leave(&'a TicketId),
}

/// Everything that happens, by time. At equal times, settings come first, so that there are some before any ticket;
/// then the tickets of earlier times leave, because a player who starts a new one at once may wait with only one; then
/// tickets come, each followed by its own end if that is at the same time.
fn inputs<'a>(arrivals: &'a [Arrival], rules: &'a Rules) -> Vec<Input<'a>> {
    let first = arrivals.first().map_or(Timestamp::ZERO, |arrival| arrival.at);
    let settings = rules.settings.iter().enumerate().map(|(place, (from, settings))| Input {
        at: (*from).max(first),
        rank: (0, place, 0),
        what: What::Configure(settings),
    });
    let arriving = arrivals.iter().enumerate().map(|(place, arrival)| Input {
        at: arrival.at,
        rank: (2, place, 0),
        what: What::Arrive(arrival),
    });
    let leaving = arrivals.iter().enumerate().filter_map(|(place, arrival)| {
        let at = arrival.left_at?;
        let rank = if at > arrival.at { (1, place, 0) } else { (2, place, 1) };
        Some(Input { at: at.max(arrival.at), rank, what: What::Leave(&arrival.id) })
    });
    let mut inputs: Vec<Input<'_>> = settings.chain(arriving).chain(leaving).collect();
    inputs.sort_by_key(|input| (input.at, input.rank));
    inputs
}

/// External hooks cannot be asked about something that never happened.
fn without_hooks(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    let is_here = |hook: &Hook| !matches!(hook, Hook::Outside(_));
    settings.hooks.retain(is_here);
    for queue in settings.queues.values_mut() {
        queue.hooks.retain(is_here);
    }
    settings
}

struct Run<'a> {
    maker: Matchmaker,
    now: Timestamp,
    inputs: u64,
    measures: &'a [Measure],
    /// Tickets that are not over, with their start time and queue.
    live: BTreeMap<TicketId, Live<'a>>,
    queues: BTreeMap<QueueId, Counts>,
    /// Tickets that did not come, because their players had a match by then.
    left_out: BTreeSet<TicketId>,
}

struct Live<'a> {
    at: Timestamp,
    spec: &'a TicketSpec,
    queue: QueueId,
}

impl<'a> Run<'a> {
    fn new(measures: &'a [Measure]) -> Self {
        Self {
            maker: Matchmaker::new(),
            now: Timestamp::ZERO,
            inputs: 0,
            measures,
            live: BTreeMap::new(),
            queues: BTreeMap::new(),
            left_out: BTreeSet::new(),
        }
    }

    /// The same random bits in every run.
    const fn moment(&mut self) -> Moment {
        self.inputs += 1;
        let entropy = [self.inputs.wrapping_mul(0x9e37_79b9_7f4a_7c15), !self.inputs];
        Moment { now: self.now, entropy }
    }

    fn call(&mut self, command: Command) -> Result<(), Refusal> {
        let (at, mut step) = (self.moment(), Step::new());
        self.maker.handle(at, CallId(self.inputs), command, &mut step);
        let refused = step.answers.iter().find_map(|(_, answer)| answer.clone().err());
        self.take(&step);
        refused.map_or(Ok(()), Err)
    }

    fn counts(&mut self, queue: &QueueId) -> &mut Counts {
        self.queues.entry(queue.clone()).or_default()
    }

    fn arrive(&mut self, arrival: &'a Arrival) {
        let mut spec = TicketSpec::clone(&arrival.spec);
        // Each line is a ticket of its own here.
        spec.idempotency_key = None;
        // Nobody renews it here: the recording says when its players left.
        spec.ttl = None;
        let asked = &arrival.spec.queue;
        if spec.replaces.as_ref().is_some_and(|old| self.plays(old)) {
            // Its players are in a match by then, so nobody left or joined them.
            self.left_out.insert(arrival.id.clone());
            return;
        }
        spec.replaces = spec.replaces.filter(|id| self.live.contains_key(id));
        // A party whose members changed has waited since it came.
        let at = spec.replaces.as_ref().and_then(|id| self.live.get(id)).map_or(arrival.at, |old| old.at);
        // Before the call, because the call may already form a match.
        let live = Live { at, spec: &arrival.spec, queue: asked.clone() };
        self.live.insert(arrival.id.clone(), live);
        if self.call(Command::Start { id: Some(arrival.id.clone()), spec }).is_err() {
            self.live.remove(&arrival.id);
            let counts = self.counts(asked);
            counts.report.tickets += 1;
            counts.report.refused += 1;
            return;
        }
        // A hook may have moved it to another queue.
        let queue =
            self.maker.ticket(&arrival.id).map_or_else(|| asked.clone(), |ticket| ticket.queue.clone());
        if let Some(live) = self.live.get_mut(&arrival.id) {
            live.queue = queue.clone();
        }
        self.counts(&queue).report.tickets += 1;
    }

    /// Whether the players of a ticket have a match by now: by it, by another one of theirs, or by the one that it would have
    /// replaced.
    fn plays(&self, id: &TicketId) -> bool {
        let elsewhere = TicketEnd::Cancelled(CancelCause::MatchedElsewhere);
        let plays = |ticket: &Ticket| match &ticket.state {
            TicketState::Over { end, .. } => matches!(end, TicketEnd::Completed { .. }) || *end == elsewhere,
            TicketState::OnHold { .. } => true,
            _ => ticket.is_in_match(),
        };
        self.left_out.contains(id) || self.maker.ticket(id).is_some_and(plays)
    }

    fn leave(&mut self, id: &TicketId) {
        // Refused if the ticket is over: there was a match for it.
        let _was_over = self.call(Command::Cancel { id: id.clone() });
    }

    /// Ticks at every deadline until `until`, like a host.
    fn pass_time(&mut self, until: Timestamp) -> Result<(), ReplayError> {
        let mut ticks = 0;
        while let Some(due) = self.maker.next_deadline().filter(|due| *due <= until) {
            ticks = if due > self.now { 0 } else { ticks + 1 };
            if ticks == MAX_TICKS {
                return Err(ReplayError::Stuck(self.now));
            }
            self.now = self.now.max(due);
            let (at, mut step) = (self.moment(), Step::new());
            self.maker.tick(at, &mut step);
            self.take(&step);
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// Runs until every ticket is over: each of them expires eventually.
    fn rest(&mut self) -> Result<(), ReplayError> {
        while !self.live.is_empty()
            && let Some(due) = self.maker.next_deadline()
        {
            self.pass_time(due.max(self.now))?;
        }
        Ok(())
    }

    /// Counts what was decided, and answers as the world outside would.
    fn take(&mut self, step: &Step<Matchmaker>) {
        let mut answers = Vec::new();
        for record in &step.records {
            self.note(&record.event);
            if let Event::MatchProposed { id, teams, accept_until: Some(_), .. } = &record.event {
                let players = teams.iter().flatten().flat_map(|named| named.players.clone());
                answers.extend(players.map(|player| Command::Accept { match_id: id.clone(), player }));
            }
            answers.extend(self.maker.effect(&record.event).into_iter().flat_map(answer));
        }
        for command in answers {
            // Refused if it is no longer needed.
            let _of_no_use = self.call(command);
        }
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::MatchFormed { queue, teams, region, .. } => self.formed(queue, teams, region.as_ref()),
            Event::TicketTimedOut { ticket } => self.over(ticket, |counts| counts.report.timed_out += 1),
            Event::TicketCancelled {
                ticket,
                cause: CancelCause::Requested | CancelCause::MatchedElsewhere,
            } => self.over(ticket, |counts| counts.report.left += 1),
            // Its replacement counts instead.
            Event::TicketCancelled { ticket, cause: CancelCause::Replaced } => {
                self.over(ticket, |counts| counts.report.tickets -= 1);
            }
            Event::TicketCancelled { ticket, .. } | Event::TicketFailed { ticket, .. } => {
                self.over(ticket, |counts| counts.report.failed += 1);
            }
            _ => {}
        }
    }

    fn over(&mut self, ticket: &Named, count: impl FnOnce(&mut Counts)) {
        if let Some(live) = self.live.remove(&ticket.ticket) {
            count(self.counts(&live.queue));
        }
    }

    fn formed(&mut self, queue: &QueueId, teams: &[Vec<Named>], region: Option<&RegionId>) {
        let now = self.now;
        let mut waits = Vec::new();
        let mut specs: Vec<Vec<&TicketSpec>> = Vec::new();
        for team in teams {
            let live = team.iter().filter_map(|named| self.live.remove(&named.ticket));
            let live: Vec<Live<'a>> = live.collect();
            waits.extend(live.iter().map(|live| now.since(live.at)));
            specs.push(live.iter().map(|live| live.spec).collect());
        }
        let measured: Vec<Option<f64>> =
            self.measures.iter().map(|measure| measure.of(&specs, region)).collect();
        let players = specs.iter().flatten().map(|spec| spec.size()).sum::<usize>();
        let counts = self.counts(queue);
        counts.report.matches += 1;
        counts.report.matched += waits.len();
        counts.players += players;
        counts.waits.extend(waits);
        counts.quality.resize(measured.len(), Vec::new());
        for (numbers, found) in counts.quality.iter_mut().zip(measured) {
            numbers.extend(found);
        }
    }

    fn report(self, name: &str) -> Report {
        let names: Vec<String> = self.measures.iter().map(ToString::to_string).collect();
        let queues = self.queues.into_iter().map(|(id, counts)| (id.to_string(), counts.finish(&names)));
        Report { rules: name.to_owned(), queues: queues.collect() }
    }
}

/// The outside world's answer to an effect: a server is there at once.
fn answer(effect: Effect) -> Vec<Command> {
    let ready = |match_id: MatchId| {
        let connection = Connection::default();
        vec![Command::Submitted { match_id: match_id.clone() }, Command::MatchReady { match_id, connection }]
    };
    match effect {
        Effect::Submit { match_id, .. } => ready(match_id),
        Effect::Withdraw { match_id } => vec![Command::Withdrawn { match_id }],
        // There are no hooks, and no seats are on offer.
        Effect::CheckMatch { hook, match_id, .. } => {
            vec![Command::MatchChecked { match_id, hook, outcome: MatchVerdict::Failed }]
        }
        Effect::ValidateTicket { .. } | Effect::FormMatches { .. } | Effect::Seat { .. } => Vec::new(),
    }
}
