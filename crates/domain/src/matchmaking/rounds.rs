//! Rounds of hooks that form matches: when a hook is asked, and about which tickets.
//!
//! A hook is asked about all waiting tickets of its queue, oldest first: one batch, then the tickets behind it. Tickets
//! that found no match earlier are asked about again, because newer tickets may be the ones that they lacked. A hook is
//! asked as soon as there is news for it, at an interval while tickets wait, so that it can widen what it allows, and
//! again after a failure, with growing delays.
//!
//! A question takes longer the more tickets it has. So each tick asks about a bounded number of tickets, and queues
//! take turns. The effect only names the round; its tickets are read when the hook is called, one round at a time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::hooks;
use super::model::TicketSpec;
use super::settings::FORM_INTERVAL;
use super::{BrokenRule, Event, Matchmaker, Turn};
use crate::ids::{HookId, QueueId, TicketId};
use crate::size::Size;
use crate::text::is_deceptive;
use crate::time::Timestamp;

/// Maximum number of tickets in a batch for a hook that forms matches: the oldest, then those behind them.
pub const FORM_BATCH: usize = 1_000;
/// Maximum size of those tickets in bytes: the batch ends when it is reached.
pub const FORM_BYTES: usize = 4 << 20;
/// Maximum number of tickets in all rounds of one tick: further rounds begin in the next one.
const TICKETS_PER_TICK: usize = 2_000;
/// Maximum number of rounds that begin in one tick.
const ROUNDS_PER_TICK: usize = 64;
/// The delay after a hook's first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Maximum delay between a failure and the next round.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Maximum length of the text of a fault that is kept, in bytes.
const MAX_FAULT_BYTES: usize = 500;

/// Why a match that a hook has formed is ignored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum IgnoredCause {
    /// It is not a valid match.
    Malformed,
    /// A ticket does not wait in the queue: it never did, has left, or is in another match.
    NotWaiting,
    /// It names a ticket twice.
    NamedTwice,
    /// A ticket is too large for a match.
    TooLarge,
    /// The queue has another number of teams, or teams of other sizes.
    Teams,
    /// It exceeds what an answer may contain.
    TooMany,
}

impl IgnoredCause {
    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NotWaiting => "not_waiting",
            Self::NamedTwice => "named_twice",
            Self::TooLarge => "too_large",
            Self::Teams => "teams",
            Self::TooMany => "too_many",
        }
    }
}

/// The problems in one answer of a hook that forms matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerFault {
    /// The round.
    pub round: u64,
    /// How many of its matches are ignored, among those looked at so far.
    pub count: usize,
    /// The problem with the first of them, with deceptive characters escaped.
    pub first: String,
}

/// The problems in the answers of a hook that forms matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookFault {
    /// The hook.
    pub hook: HookId,
    /// The time of the last problem.
    pub at: Timestamp,
    /// The last problem, with deceptive characters escaped.
    pub problem: String,
    /// The number of ignored matches since the process began.
    pub ignored: u64,
    /// The same by cause.
    pub by_cause: BTreeMap<IgnoredCause, u64>,
    /// The last answer with an ignored match.
    pub answer: AnswerFault,
}

/// Why a match that a hook has formed is ignored: the cause, and an explanation as text.
pub(super) struct Ignored {
    pub(super) cause: IgnoredCause,
    pub(super) problem: String,
}

impl Ignored {
    pub(super) const fn new(cause: IgnoredCause, problem: String) -> Self {
        Self { cause, problem }
    }
}

/// When the hook of a queue is next asked.
#[derive(Clone, Copy, Default, Debug)]
struct Asking {
    /// `None` while a round is open.
    at: Option<Timestamp>,
    /// There is news that the open round does not cover.
    news: bool,
    /// Failures in a row.
    failures: u32,
    /// The last place of the open round.
    last: u64,
    /// That round covers all tickets that were behind its first place.
    whole: bool,
}

/// How a round ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The hook has answered.
    Answered,
    /// It named more than an answer may, or was interrupted: it is asked again at once.
    InPart,
    /// It did not answer.
    Failed,
}

/// Volatile data.
#[derive(Default)]
pub(crate) struct Rounds {
    queues: BTreeMap<QueueId, Asking>,
    timers: BTreeSet<(Timestamp, QueueId)>,
    /// At most as many as there are queues.
    faults: BTreeMap<QueueId, HookFault>,
}

impl Rounds {
    /// There is news for the hook of a queue. A hook that has failed is still not asked before its time.
    fn note_news(&mut self, queue: QueueId, now: Timestamp) {
        let asking =
            self.queues.entry(queue.clone()).or_insert(Asking { at: Some(now), ..Asking::default() });
        asking.news = true;
        let sooner = asking.at.filter(|at| *at > now && asking.failures == 0);
        if let Some(later) = sooner {
            self.timers.remove(&(later, queue.clone()));
            asking.at = Some(now);
        }
        self.timers.extend(asking.at.map(|at| (at, queue)));
    }

    /// The queue that has been due for longest.
    fn take_due(&mut self, now: Timestamp) -> Option<QueueId> {
        // A timer that is not due stays: nothing would set it again.
        self.timers.first().filter(|(at, _)| *at <= now)?;
        let (_, queue) = self.timers.pop_first()?;
        if let Some(asking) = self.queues.get_mut(&queue) {
            asking.at = None;
        }
        Some(queue)
    }

    pub(super) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn ask_at(&mut self, queue: &QueueId, at: Timestamp, failures: u32) {
        let asking = Asking { at: Some(at), failures, ..Asking::default() };
        if let Some(before) = self.queues.insert(queue.clone(), asking).and_then(|asking| asking.at) {
            self.timers.remove(&(before, queue.clone()));
        }
        self.timers.insert((at, queue.clone()));
    }

    fn forget(&mut self, queue: &QueueId) {
        if let Some(at) = self.queues.remove(queue).and_then(|asking| asking.at) {
            self.timers.remove(&(at, queue.clone()));
        }
    }
}

/// Text from outside for use in messages: shortened, with deceptive characters escaped.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if is_deceptive(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
        if shown.len() > MAX_FAULT_BYTES {
            shown.push('…');
            break;
        }
    }
    shown
}

impl Matchmaker {
    /// The last fault of the hook that forms a queue's matches, since the process began.
    #[must_use]
    pub fn last_fault(&self, queue: &QueueId) -> Option<&HookFault> {
        self.beside.rounds.faults.get(queue)
    }

    /// The last fault of each hook that forms matches, by queue.
    pub fn faults(&self) -> impl Iterator<Item = (&QueueId, &HookFault)> {
        self.beside.rounds.faults.iter()
    }

    /// The tickets of the round that begins behind `after`, oldest first.
    pub(super) fn round(&self, queue: &QueueId, after: u64) -> impl Iterator<Item = (u64, &TicketId)> {
        let line = self.state.index.lines.get(queue);
        let tickets = line.into_iter().flat_map(move |line| line.by_place.range(after + 1..));
        let mut bytes = 0;
        let tickets = tickets.take(FORM_BATCH).take_while(move |(place, _)| {
            let fits = bytes < FORM_BYTES;
            bytes += self.state.tickets.get(*place).map_or(0, |ticket| ticket.spec.byte_size());
            fits
        });
        tickets.map(|(place, id)| (*place, id))
    }

    /// The tickets that the hook of a round may use, oldest first: those of the round that still wait, up to
    /// [`FORM_BATCH`]. `None` if that round is not open.
    #[must_use]
    pub fn asked_about(&self, queue: &QueueId, round: u64) -> Option<Vec<(TicketId, Arc<TicketSpec>)>> {
        let open =
            self.state.rounds.get(queue).filter(|open| open.number == round && open.check.is_some())?;
        // Tickets that have arrived since are asked about in a later round.
        let last = self.known_end(queue, open.after).unwrap_or(u64::MAX);
        let tickets = self.round(queue, open.after).take_while(|(place, _)| *place <= last);
        let tickets = tickets
            .filter_map(|(place, id)| Some((id.clone(), Arc::clone(&self.state.tickets.get(&place)?.spec))));
        Some(tickets.collect())
    }

    /// The last place of the open round that begins behind `after`, if it began in this process.
    fn known_end(&self, queue: &QueueId, after: u64) -> Option<u64> {
        let last = self.beside.rounds.queues.get(queue)?.last;
        (last > after).then_some(last)
    }
}

impl Turn<'_> {
    /// Asks the hooks that form matches and are due, longest due first.
    pub(super) fn begin_rounds(&mut self) {
        for queue in core::mem::take(&mut self.maker.beside.due.rounds) {
            self.maker.beside.rounds.note_news(queue, self.now);
        }
        let (mut begun, mut tickets) = (0, 0);
        while begun < ROUNDS_PER_TICK && tickets < TICKETS_PER_TICK && !self.is_full() {
            let Some(queue) = self.maker.beside.rounds.take_due(self.now) else { break };
            begun += 1;
            tickets += self.begin_round(queue);
        }
    }

    /// Returns the number of tickets that the hook is asked about.
    fn begin_round(&mut self, queue: QueueId) -> usize {
        let round = self.state().rounds.get(&queue);
        if round.is_some_and(|round| round.check.is_some()) {
            // It was open when the process began; news is asked about when it ends.
            return 0;
        }
        let (number, after) = round.map_or((0, 0), |round| (round.number, round.after));
        let hook = self.state().queue(&queue).and_then(|queue| queue.former());
        let line = self.state().index.lines.get(&queue);
        let Some((check, line)) = hook.map(|hook| hooks::ask(hook, self.now)).zip(line) else {
            self.maker.beside.rounds.forget(&queue);
            return 0;
        };
        let goes_on =
            line.by_place.range(after + 1..).next().is_some() || self.broken(BrokenRule::AskOnlyNew);
        let after = if goes_on { after } else { 0 };
        let (last, count) =
            self.maker.round(&queue, after).fold((after, 0), |(_, n), (place, _)| (place, n + 1));
        let whole = line.by_place.range(last + 1..).next().is_none();
        let asking = self.maker.beside.rounds.queues.entry(queue.clone()).or_default();
        *asking = Asking { last, whole, failures: asking.failures, ..Asking::default() };
        self.emit(Event::RoundBegun { queue, number: number + 1, after, check });
        count
    }

    /// The last place of the open round of a queue that begins behind `after`.
    pub(super) fn round_end(&self, queue: &QueueId, after: u64) -> u64 {
        let last = || self.maker.round(queue, after).last().map_or(after, |(place, _)| place);
        self.maker.known_end(queue, after).unwrap_or_else(last)
    }

    /// The next round begins behind `last` if there are tickets, and otherwise at the oldest again.
    pub(super) fn end_round(&mut self, queue: &QueueId, after: u64, last: u64, how: Ended) {
        let line = self.state().index.lines.get(queue);
        let asking = self.maker.beside.rounds.queues.get(queue).copied().unwrap_or_default();
        // Tickets that have arrived since are asked about together with the others.
        let behind =
            !asking.whole && line.is_some_and(|line| line.by_place.range(last + 1..).next().is_some());
        let waits = line.is_some();
        let next = match how {
            Ended::Failed => after,
            _ if behind || self.broken(BrokenRule::AskOnlyNew) => last,
            _ => 0,
        };
        self.emit(Event::RoundEnded { queue: queue.clone(), after: next });
        let hook = self.state().queue(queue).and_then(|queue| queue.former());
        let Some(interval) = hook.map(|hook| hook.interval.unwrap_or(FORM_INTERVAL)).filter(|_| waits) else {
            return self.maker.beside.rounds.forget(queue);
        };
        if self.broken(BrokenRule::AskOnlyNew) && !behind && !asking.news {
            return self.maker.beside.rounds.forget(queue);
        }
        let failures = if how == Ended::Failed { asking.failures.saturating_add(1) } else { 0 };
        let pause = match how {
            Ended::Failed => MAX_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(failures.min(16) - 1)),
            Ended::InPart => Duration::ZERO,
            Ended::Answered if behind || asking.news => Duration::ZERO,
            Ended::Answered => interval,
        };
        self.maker.beside.rounds.ask_at(queue, self.now + pause, failures);
    }

    /// Records the problem with a match that a hook has formed: the `at`-th of its answer.
    pub(super) fn note_fault(&mut self, queue: &QueueId, hook: &HookId, at: usize, why: &Ignored) {
        let round = self.state().rounds.get(queue).map_or(0, |round| round.number);
        let problem = alloc::format!("matches[{at}]: {}", shown(&why.problem));
        let faults = &mut self.maker.beside.rounds.faults;
        let fault = faults.entry(queue.clone()).or_insert_with(|| HookFault {
            hook: hook.clone(),
            at: self.now,
            problem: String::new(),
            ignored: 0,
            by_cause: BTreeMap::new(),
            answer: AnswerFault { round, count: 0, first: problem.clone() },
        });
        if fault.answer.round != round {
            fault.answer = AnswerFault { round, count: 0, first: problem.clone() };
        }
        fault.answer.count += 1;
        fault.ignored += 1;
        *fault.by_cause.entry(why.cause).or_default() += 1;
        (fault.hook, fault.at, fault.problem) = (hook.clone(), self.now, problem);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hooks_say_is_cut_and_cannot_deceive() {
        assert_eq!(shown("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\u{a}");
        let long = shown(&"ä".repeat(10_000));
        assert!(long.len() <= MAX_FAULT_BYTES + 8 && long.ends_with('…'), "{}", long.len());
    }
}
