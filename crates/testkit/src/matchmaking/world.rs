//! The agenda of one run: inputs to the matchmaker, commits to the log, crashes, answers, and the next actions of all
//! participants.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use sortie_domain::ids::{MatchId, PlayerId, QueueId, TicketId};
use sortie_domain::machine::{Answer, CallId, Machine, Moment, Record, Step, StepLimits};
use sortie_domain::matchmaking::model::{CancelCause, TicketSpec};
use sortie_domain::matchmaking::{BrokenRule, Command, Effect, Event, Matchmaker, Reply, Settings, Snapshot};
use sortie_domain::time::Timestamp;

use super::Report;
use super::outside::Outside;
use crate::sim::Failure;

/// Virtual time during which clients come, in milliseconds.
const BUSY_TIME: u64 = 3 * 60 * 1000;
/// Virtual time after that, longer than any timer, in milliseconds.
const REST_TIME: u64 = 20 * 60 * 1000;
/// Maximum number of inputs; a run that exceeds it does not terminate.
const MAX_INPUTS: u64 = 20_000;
/// Maximum number of ticks at one time until nothing is due.
const MAX_TICKS: u32 = 200;
/// Small steps, so that schedules fill them.
const STEP: StepLimits = StepLimits { bytes: 8 << 10, records: 3 };
/// Maximum number of records and answers that the last piece of work adds to a full step. Other tickets of players who
/// can connect are not included.
const PIECE_RECORDS: usize = 6;

/// An entry of the agenda.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Task {
    /// A deadline of the matchmaker.
    Tick,
    /// The decisions become durable.
    Commit,
    /// The process is killed and started again.
    Crash,
    /// A client or an administrator does something.
    Client,
    /// Many clients come at once.
    Burst,
    /// A player thinks about a match.
    Consider(MatchId, PlayerId),
    /// An effect is performed.
    Perform(u64),
    /// The broker has news about a match.
    News(MatchId),
}

/// Who made a call, which determines what an answer to it means.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Caller {
    /// A client that wants to play.
    Starter(TicketSpec),
    /// A client that does not want to play any more.
    Canceller(TicketId),
    /// The host, with the outcome of an effect.
    Outcome(u64),
    /// The host, with news of a match.
    News(MatchId),
    /// Any other caller, whose answer is ignored.
    Other,
}

pub(super) struct World {
    seed: u64,
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) maker: Matchmaker,
    broken: Option<BrokenRule>,
    /// A step cancels one of the other tickets of players who can connect, and not all of them.
    one_at_a_time: bool,
    pub(super) log: Vec<Record<Event>>,
    snapshot: Option<Snapshot>,
    pub(super) step: Step<Matchmaker>,
    /// Records of the step after each input in it.
    ends: Vec<usize>,
    /// Effects of decisions that are not durable yet.
    decided: Vec<Effect>,
    /// Number of ticks in which nothing that was due has ended, by queue.
    pub(super) put_off: BTreeMap<QueueId, u32>,
    /// Ticks so far at this time.
    again: u32,
    agenda: BTreeMap<(u64, u64), Task>,
    pub(super) count: u64,
    calls: BTreeMap<CallId, Caller>,
    pub(super) effects: BTreeMap<u64, Effect>,
    pub(super) outside: Outside,
    /// The current settings, as far as clients know.
    pub(super) settings: Settings,
    /// The settings in the operator's file.
    pub(super) file: Settings,
    pub(super) specs: Vec<(Option<TicketId>, TicketSpec)>,
    pub(super) started: BTreeSet<TicketId>,
    pub(super) cancelled: BTreeSet<TicketId>,
    /// When the process was last started.
    pub(super) restarted_at: Timestamp,
    pub(super) busy: bool,
    pub(super) report: Report,
    pub(super) problem: Option<String>,
}

impl World {
    pub(super) fn new(seed: u64, broken: Option<BrokenRule>) -> Self {
        let mut world = Self {
            seed,
            rng: Rng::with_seed(seed),
            now: 1_700_000_000_000,
            maker: Matchmaker::new(),
            broken,
            one_at_a_time: seed.is_multiple_of(2),
            log: Vec::new(),
            snapshot: None,
            step: Step::within(STEP),
            ends: Vec::new(),
            decided: Vec::new(),
            put_off: BTreeMap::new(),
            again: 0,
            agenda: BTreeMap::new(),
            count: 0,
            calls: BTreeMap::new(),
            effects: BTreeMap::new(),
            outside: Outside::default(),
            settings: Settings::default(),
            file: Settings::default(),
            specs: Vec::new(),
            started: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            restarted_at: Timestamp::ZERO,
            busy: true,
            report: Report::default(),
            problem: None,
        };
        world.break_rule();
        world
    }

    fn break_rule(&mut self) {
        if let Some(rule) = self.broken {
            self.maker.break_rule(rule);
        }
        if self.one_at_a_time {
            self.maker.limit_cancels(1);
        }
    }

    pub(super) fn run(mut self) -> Result<Report, Failure> {
        self.configure();
        self.plan(0, Task::Client);
        let end = self.now + BUSY_TIME;
        while self.problem.is_none() {
            self.busy &= self.now < end;
            let Some(((time, _), task)) = self.agenda.pop_first() else { break };
            if time > end + REST_TIME {
                break;
            }
            self.now = self.now.max(time);
            self.carry_out(task);
            self.check_state();
            if self.report.inputs > MAX_INPUTS {
                self.fail("2: the run does not come to an end".into());
            }
        }
        self.commit();
        self.check_end();
        self.report.events = self.log.len() as u64;
        match self.problem {
            None => Ok(self.report),
            Some(problem) => {
                let (machine, seed, inputs) = ("matchmaker", self.seed, self.report.inputs);
                Err(Failure { machine, seed, inputs, problem })
            }
        }
    }

    pub(super) fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    pub(super) fn plan(&mut self, delay: u64, task: Task) {
        self.count += 1;
        self.agenda.insert((self.now + delay, self.count), task);
    }

    fn moment(&mut self) -> Moment {
        Moment { now: self.time(), entropy: [self.rng.u64(..), self.rng.u64(..)] }
    }

    pub(super) const fn time(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn carry_out(&mut self, task: Task) {
        match task {
            Task::Tick => self.tick(),
            Task::Commit => self.commit(),
            Task::Crash => self.crash(),
            Task::Client => self.client(),
            Task::Burst => self.burst(),
            Task::Consider(id, player) => self.consider(id, player),
            Task::Perform(effect) => self.perform(effect),
            Task::News(id) => self.tell_news(&id),
        }
    }

    fn tick(&mut self) {
        if self.maker.next_deadline().is_none_or(|deadline| deadline > self.time()) {
            return self.plan_tick();
        }
        self.begin_step();
        let at = self.moment();
        let (before, due) = (self.step.records.len(), self.due());
        self.maker.tick(at, &mut self.step);
        self.check_step();
        self.check_turns(&due);
        self.after_input(before);
        if self.maker.next_deadline().is_some_and(|deadline| deadline <= self.time()) {
            // The end of one timer may make something else due at once.
            self.again += 1;
            if self.again > MAX_TICKS {
                self.fail("2: a deadline stays due however often timers run".into());
            }
            return;
        }
        self.again = 0;
        self.check_due();
        self.check_overlooked();
    }

    /// A host begins a new step if the last one is full.
    fn begin_step(&mut self) {
        if self.step.is_full() {
            self.commit();
        }
    }

    /// No step is larger than a full one and one piece of work: the log would refuse it.
    fn check_step(&mut self) {
        let is_elsewhere = |record: &&Record<Event>| {
            let elsewhere = CancelCause::MatchedElsewhere;
            matches!(&record.event, Event::TicketCancelled { cause, .. } if *cause == elsewhere)
        };
        let elsewhere = self.step.records.iter().filter(is_elsewhere).count();
        let count = self.step.records.len() - elsewhere + self.step.answers.len();
        if count > STEP.records + PIECE_RECORDS {
            self.fail(format!("2: the log takes no step of {count} records and answers"));
        }
    }

    fn plan_tick(&mut self) {
        self.agenda.retain(|_, task| *task != Task::Tick);
        if let Some(deadline) = self.maker.next_deadline() {
            self.plan(deadline.as_millis().saturating_sub(self.now), Task::Tick);
        }
    }

    /// Sends the matchmaker one command.
    pub(super) fn input(&mut self, command: Command, caller: Caller) {
        self.begin_step();
        let at = self.moment();
        self.count += 1;
        let call = CallId(self.count);
        self.calls.insert(call, caller);
        let (records, answers) = (self.step.records.len(), self.step.answers.len());
        self.maker.handle(at, call, command, &mut self.step);
        self.check_step();
        let new = self.step.answers.get(answers..).unwrap_or_default();
        if new.len() != 1 {
            self.fail(format!("6: a call got {} answers", new.len()));
        } else if new.iter().any(|(_, answer)| answer.is_err())
            && let Some(record) = self.step.records.get(records)
        {
            self.fail(format!("6: a refused command left {:?}", record.event));
        }
        self.after_input(records);
    }

    fn after_input(&mut self, before: usize) {
        self.report.inputs += 1;
        self.ends.push(self.step.records.len());
        let new: Vec<Record<Event>> = self.step.records.get(before..).unwrap_or_default().to_vec();
        for record in &new {
            let effect = self.maker.effect(&record.event);
            if let Some(effect) = &effect {
                self.check_asked(effect);
            }
            self.decided.extend(effect);
            self.check_event(record);
        }
        match self.rng.u32(0..1000) {
            0..3 => self.plan(0, Task::Crash),
            3..700 => self.commit(),
            _ => {
                let delay = self.rng.u64(0..300);
                self.plan(delay, Task::Commit);
            }
        }
        self.plan_tick();
    }

    /// The decisions are durable: effects begin, answers go out, players hear about them.
    fn commit(&mut self) {
        let Step { records, answers, .. } = std::mem::replace(&mut self.step, Step::within(STEP));
        self.ends.clear();
        for effect in std::mem::take(&mut self.decided) {
            self.begin(effect);
        }
        for record in &records {
            self.heard(record);
        }
        self.log.extend(records);
        if self.rng.u8(0..40) == 0 {
            self.snapshot = Some(self.maker.snapshot());
        }
        for (call, answer) in answers {
            self.deliver(call, answer);
        }
    }

    fn begin(&mut self, effect: Effect) {
        self.count += 1;
        let number = self.count;
        self.effects.insert(number, effect);
        let delay = self.rng.u64(1..3000);
        self.plan(delay, Task::Perform(number));
    }

    /// Players who hear about a match begin to think about it.
    fn heard(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::MatchProposed { id, spec, accept_until: Some(_), .. } => {
                for player in spec.players.clone() {
                    let delay = self.rng.u64(1..6000);
                    self.plan(delay, Task::Consider(id.clone(), player));
                }
            }
            Event::MatchFormed { .. } => self.report.matches += 1,
            Event::MatchReady { tickets, .. } => self.report.completed += tickets.len() as u64,
            Event::TicketSeated { .. } => self.report.seated += 1,
            _ => {}
        }
    }

    /// The process dies with everything that is not in the log, and another one takes over.
    fn crash(&mut self) {
        self.report.crashes += 1;
        self.restarted_at = self.time();
        // The results of several inputs may become durable in parts, and the process may die between two parts.
        let Step { mut records, .. } = std::mem::replace(&mut self.step, Step::within(STEP));
        let ends = std::mem::take(&mut self.ends);
        records.truncate(self.rng.choice(&ends).copied().filter(|_| self.rng.bool()).unwrap_or(0));
        self.log.extend(records);
        self.decided.clear();
        let callers = std::mem::take(&mut self.calls);
        self.effects.clear();
        self.agenda.retain(|_, task| !matches!(task, Task::Commit | Task::Perform(_)));
        self.maker = self.recovered();
        self.break_rule();
        self.check_replay();
        for effect in self.maker.outstanding() {
            self.begin(effect);
        }
        let maker = &self.maker;
        for id in self.outside.compare(|id| maker.formation(id).is_some()) {
            let delay = self.rng.u64(1..2000);
            self.plan(delay, Task::News(id));
        }
        for caller in callers.into_values() {
            // The host continues with its durable cursor; clients know that they got no answer.
            if let Caller::News(id) = caller {
                let delay = self.rng.u64(1..2000);
                self.plan(delay, Task::News(id));
            }
        }
        self.read_file();
        self.plan_tick();
    }

    fn recovered(&self) -> Matchmaker {
        let durable = self.log.last().map_or(0, |record| record.seq);
        let kept = self.snapshot.clone().filter(|snapshot| snapshot.seq <= durable);
        let mut maker = kept.map_or_else(Matchmaker::new, Matchmaker::restore);
        for record in self.log.iter().skip(usize::try_from(maker.last_seq()).unwrap_or(usize::MAX)) {
            maker.apply(record);
        }
        maker
    }

    fn deliver(&mut self, call: CallId, answer: Answer<Matchmaker>) {
        let Some(caller) = self.calls.remove(&call) else { return };
        match (caller, answer) {
            // Some answers get lost on their way.
            (Caller::Starter(spec), Ok(Reply::Started { ticket })) if self.rng.u8(0..60) > 0 => {
                self.started.insert(ticket.clone());
                self.specs.push((Some(ticket), spec));
            }
            (Caller::Canceller(id), Ok(_)) => drop(self.cancelled.insert(id)),
            (Caller::Outcome(effect), _) => drop(self.effects.remove(&effect)),
            (Caller::News(id), _) => self.outside.told(&id),
            _ => {}
        }
    }
}
