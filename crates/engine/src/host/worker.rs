//! The machine thread: takes waiting inputs, lets the machine decide, makes the decisions durable in one commit, and
//! only then publishes them.
//!
//! A thread, not a task, because the machine computes and the commit blocks. Only this thread holds the machine and the
//! log, so neither needs a lock.
//!
//! Deadlines and inputs take turns: each round does one step of what is due, then the waiting inputs. A full step is
//! committed before the machine is asked again. A step that is larger than the log takes at once is committed in parts
//! and published after the last part; no step is retried unchanged. If an input leads to a record that can never be
//! written, only that input is dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sortie_domain::machine::{Answer, CallId, Record, Step};
use tokio::sync::broadcast;

use super::handle::Unavailable;
use super::queue::{AnswerSender, Call, Caller, Input, Intake, Notice, Phase, Query, Queue};
use super::replay::{StartError, replay};
use super::snapshotting::Snapshotting;
use super::stats::Counters;
use super::time::{HostTime, soonest};
use super::{Ended, Hosted};
use crate::codec::Codec;
use crate::effects::{Effects, MAX_PENDING_EFFECTS};
use crate::log::{AppendError, AppendErrorKind, Batch, Log, MAX_BATCH_BYTES};

/// Maximum number of inputs taken at once, so that the first of them does not wait for too many others.
const BATCH_INPUTS: usize = 4096;

/// A batch that has reached this size, in bytes, is committed before more is decided.
const BATCH_BYTES: usize = 4 << 20;

/// Maximum number of notices taken at once, and of answers taken back at once.
const BATCH_NOTICES: usize = 4096;

/// Maximum number of calls that the machine may keep to answer later.
pub const MAX_KEPT_CALLS: usize = 1 << 20;

/// Pause between attempts to write deadlines' events while the log refuses.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// Maximum sleep; only bounds the arithmetic of the system's wait.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// What was decided and is not durable yet.
struct Work<M: Hosted> {
    step: Step<M>,
    /// Its records, in as many batches as the log needs; never empty.
    parts: Vec<Batch>,
    /// Number of records in all parts.
    noted: usize,
    /// Effects, each with the number of records before the one that asks for it.
    effects: Vec<(usize, M::Effect)>,
    /// Answers that were given back to the machine.
    taken_back: Vec<Answer<M>>,
}

/// A position in a [`Work`], to which it can be cut back.
struct Mark {
    records: usize,
    answers: usize,
    parts: usize,
    last: (u32, usize),
    effects: usize,
}

impl<M: Hosted> Work<M> {
    fn after(seq: u64) -> Self {
        Self {
            step: Step::new(),
            parts: vec![Batch::new(seq + 1)],
            noted: 0,
            effects: Vec::new(),
            taken_back: Vec::new(),
        }
    }

    /// Whether it must be committed before more is decided.
    fn is_full(&self) -> bool {
        let last = self.parts.last().map_or(0, |part| part.body().len());
        self.parts.len() > 1 || last >= BATCH_BYTES || self.step.is_full()
    }

    fn mark(&self) -> Mark {
        Mark {
            records: self.noted,
            answers: self.step.answers.len(),
            parts: self.parts.len(),
            last: self.parts.last().map_or((0, 0), Batch::mark),
            effects: self.effects.len(),
        }
    }

    fn cut(&mut self, mark: &Mark) {
        self.step.records.truncate(mark.records);
        self.step.answers.truncate(mark.answers);
        self.parts.truncate(mark.parts);
        self.parts.iter_mut().last().into_iter().for_each(|part| part.cut(mark.last));
        self.effects.truncate(mark.effects);
        self.noted = mark.records;
    }

    /// Adds a record to the last part, or to a new one if that is full. False if no part can hold it.
    fn add(&mut self, record: &Record<M::Event>, codec: Codec<M>) -> bool {
        let encode = |out: &mut Vec<u8>| (codec.encode_event)(&record.event, out);
        let Some(part) = self.parts.last_mut() else { return false };
        debug_assert_eq!(record.seq, part.last_seq() + 1, "records follow one another");
        let before = part.mark();
        part.push(record.time, encode);
        if part.body().len() > MAX_BATCH_BYTES {
            part.cut(before);
            let mut next = Batch::new(record.seq);
            next.push(record.time, encode);
            if next.body().len() > MAX_BATCH_BYTES {
                return false;
            }
            if part.is_empty() {
                *part = next;
            } else {
                self.parts.push(next);
            }
        }
        self.noted += 1;
        true
    }
}

pub(super) struct Worker<M: Hosted> {
    pub(super) machine: M,
    /// Declared before the log so that it is dropped first: a snapshot being written needs the folder's lock.
    pub(super) snapshotting: Snapshotting,
    pub(super) log: Box<dyn Log>,
    pub(super) codec: Codec<M>,
    pub(super) empty: Box<dyn Fn() -> M + Send>,
    pub(super) time: HostTime,
    pub(super) queue: Arc<Queue<M>>,
    pub(super) live: broadcast::Sender<Arc<Record<M::Event>>>,
    pub(super) effects: Effects<M>,
    pub(super) counters: Arc<Counters>,
    /// Calls that were taken and not answered.
    pub(super) kept: BTreeMap<CallId, AnswerSender<M>>,
    /// Callers that went away and have not been processed.
    pub(super) notices: VecDeque<Notice<M>>,
    /// Durable answers whose callers were gone.
    pub(super) undelivered: VecDeque<Answer<M>>,
    /// Why the log refused last; nothing is decided until it takes records again.
    pub(super) refused: Option<Unavailable>,
}

impl<M: Hosted> Worker<M> {
    /// Works until the queue is stopped or killed.
    pub(super) fn run(&mut self) -> Ended {
        self.machine.outstanding().into_iter().for_each(|effect| self.effects.submit(effect));
        self.counters.accepting.store(true, Ordering::Relaxed);
        loop {
            let wait = soonest(self.time.until_alive(self.sleep()), self.log.settle());
            let Intake { inputs, notices, phase, all } = self.queue.take(BATCH_INPUTS, wait);
            if phase == Phase::Killed {
                return Ended::Killed;
            }
            self.time.show_alive(&mut *self.log, phase >= Phase::Stopping);
            if let Err(error) = self.work(inputs, notices) {
                tracing::error!(%error, "cannot rebuild the state from the log");
                return Ended::Failed(error.to_string());
            }
            if all && phase >= Phase::Draining {
                self.release_kept(Unavailable::ShuttingDown);
            }
            let settled = (self.undelivered.is_empty() && self.notices.is_empty()) || self.refused.is_some();
            if all && settled && phase == Phase::Stopping {
                self.snapshotting.finish(&self.machine, self.codec, &mut *self.log, &self.counters);
                return Ended::Ordered;
            }
        }
    }

    /// How long to sleep if no input comes; `None` means forever.
    fn sleep(&self) -> Option<Duration> {
        let wait = if self.undelivered.is_empty() && self.notices.is_empty() {
            self.time.wait_for(self.machine.next_deadline()?)?
        } else {
            Duration::ZERO
        };
        let least = if self.refused.is_some() { REFUSED_RETRY } else { Duration::ZERO };
        Some(wait.clamp(least, MAX_SLEEP))
    }

    fn work(&mut self, inputs: Vec<Input<M>>, notices: Vec<Notice<M>>) -> Result<(), StartError> {
        self.take_notices(notices);
        if self.refused.is_some() && (!inputs.is_empty() || self.is_due() || !self.undelivered.is_empty()) {
            self.probe();
        }
        let (mut work, mut queries) = (Work::after(self.machine.last_seq()), Vec::<Query<M>>::new());
        self.take_back(&mut work)?;
        self.tick(&mut work)?;
        for input in inputs {
            match input {
                Input::Call(call) => self.handle(call, &mut work)?,
                Input::Query(query) => queries.push(query),
            }
        }
        self.commit(work)?;
        self.counters.kept_calls.store(self.kept.len(), Ordering::Relaxed);
        queries.into_iter().for_each(|query| query(&self.machine));
        self.snapshotting.look(&self.machine, self.codec, &mut *self.log, &self.counters);
        Ok(())
    }

    fn take_notices(&mut self, notices: Vec<Notice<M>>) {
        self.notices.extend(notices);
        for notice in self.notices.drain(..self.notices.len().min(BATCH_NOTICES)) {
            match notice {
                // A call that is not in `kept` was answered, or waits in the queue with its receiver closed.
                Notice::Abandoned(call) => {
                    if self.kept.remove(&call).is_some() {
                        self.machine.abandon(call);
                    }
                }
                Notice::Undelivered(answer) => self.undelivered.push_back(answer),
            }
        }
    }

    fn is_due(&self) -> bool {
        self.machine.next_deadline().is_some_and(|deadline| deadline <= self.time.now())
    }

    fn take_back(&mut self, work: &mut Work<M>) -> Result<(), StartError> {
        for _ in 0..self.undelivered.len().min(BATCH_NOTICES) {
            if self.refused.is_some() {
                break;
            }
            let Some(answer) = self.undelivered.pop_front() else { break };
            let mark = work.mark();
            self.machine.undelivered(self.time.moment(), &answer, &mut work.step);
            match self.note(work) {
                // Kept until the withdrawal is durable.
                true => work.taken_back.push(answer),
                false => self.drop_input(work, &mark, None)?,
            }
            self.commit_full(work)?;
        }
        Ok(())
    }

    /// One step of what is due. The rest follows after the waiting inputs.
    fn tick(&mut self, work: &mut Work<M>) -> Result<(), StartError> {
        if self.refused.is_some() || !self.is_due() {
            return Ok(());
        }
        let mark = work.mark();
        self.machine.tick(self.time.moment(), &mut work.step);
        if !self.note(work) {
            self.drop_input(work, &mark, None)?;
            tracing::error!(
                "a deadline leads to a record that the log can never take; nothing is accepted any more"
            );
            self.refuse(Some(Unavailable::BatchTooLarge));
        }
        self.commit_full(work)
    }

    fn handle(&mut self, call: Call<M>, work: &mut Work<M>) -> Result<(), StartError> {
        // The caller has gone, so nothing has to be decided.
        if call.answer.is_closed() {
            return Ok(());
        }
        if let Some(why) = self.refused.or_else(|| self.overload(call.caller)) {
            // Fails only if the caller has gone too.
            let _ = call.answer.send(Err(why));
            return Ok(());
        }
        let mark = work.mark();
        self.kept.insert(call.id, call.answer);
        self.machine.handle(self.time.moment(), call.id, call.command, &mut work.step);
        if !self.note(work) {
            self.drop_input(work, &mark, Some(call.id))?;
        }
        self.commit_full(work)
    }

    fn overload(&self, caller: Caller) -> Option<Unavailable> {
        let full = self.kept.len() >= MAX_KEPT_CALLS
            || self.counters.pending_effects.load(Ordering::Relaxed) >= MAX_PENDING_EFFECTS;
        (full && caller == Caller::Outside).then_some(Unavailable::Overloaded)
    }

    /// Encodes the events that the machine just emitted, and collects their effects before the state changes. False if
    /// a record can never be written.
    fn note(&self, work: &mut Work<M>) -> bool {
        // Taken out, because encoding borrows the rest mutably.
        let records = std::mem::take(&mut work.step.records);
        let fit = records[work.noted.min(records.len())..].iter().all(|record| {
            let at = work.noted;
            work.effects.extend(self.machine.effect(&record.event).map(|effect| (at, effect)));
            work.add(record, self.codec)
        });
        work.step.records = records;
        fit
    }

    /// The last input led to a record that can never be written: commits what was decided before it, and rolls the
    /// state back to that.
    fn drop_input(
        &mut self,
        work: &mut Work<M>,
        mark: &Mark,
        call: Option<CallId>,
    ) -> Result<(), StartError> {
        tracing::error!(
            largest = MAX_BATCH_BYTES,
            "an input leads to a record that is larger than the log takes; it is dropped"
        );
        work.cut(mark);
        let culprit = call.and_then(|call| self.kept.remove(&call));
        let good = std::mem::replace(work, Work::after(0));
        let refused = self.refused;
        self.commit(good)?;
        if self.refused == refused {
            self.release_kept(Unavailable::Interrupted);
            self.machine = replay(&*self.log, self.codec, &*self.empty)?.machine;
        }
        let _ = culprit.map(|caller| caller.send(Err(Unavailable::BatchTooLarge)));
        *work = Work::after(self.machine.last_seq());
        Ok(())
    }

    /// Commits if the work is full.
    fn commit_full(&mut self, work: &mut Work<M>) -> Result<(), StartError> {
        if work.is_full() {
            let full = std::mem::replace(work, Work::after(0));
            self.commit(full)?;
            *work = Work::after(self.machine.last_seq());
        }
        Ok(())
    }

    /// Makes `work` durable, part by part, and publishes it; or rolls back what is not durable.
    fn commit(&mut self, work: Work<M>) -> Result<(), StartError> {
        let Work { step: Step { records, answers, .. }, parts, effects, taken_back, .. } = work;
        let (mut durable, mut failed) = (0, None);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let started = Instant::now();
            if let Err(error) = self.log.append(part) {
                failed = Some(error);
                break;
            }
            durable += part.len() as usize;
            self.count(part, started.elapsed());
        }
        if failed.is_none() {
            self.deliver(answers);
        }
        if let Some(last) = records.iter().take(durable).last() {
            self.snapshotting.note(last.time);
        }
        if self.live.receiver_count() > 0 {
            for record in records.into_iter().take(durable) {
                // Fails only if there are no subscribers.
                let _ = self.live.send(Arc::new(record));
            }
        }
        let begun = effects.into_iter().take_while(|(at, _)| *at < durable);
        begun.for_each(|(_, effect)| self.effects.submit(effect));
        let Some(error) = failed else { return Ok(()) };
        // Their withdrawal may not be durable.
        self.undelivered.extend(taken_back);
        self.undo(&error)
    }

    fn count(&self, batch: &Batch, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.counters.last_append_nanos.store(nanos, Ordering::Relaxed);
        self.counters.last_seq.store(batch.last_seq(), Ordering::Relaxed);
        self.counters.records.fetch_add(u64::from(batch.len()), Ordering::Relaxed);
        self.counters.batches.fetch_add(1, Ordering::Relaxed);
    }

    fn deliver(&mut self, answers: Vec<(CallId, Answer<M>)>) {
        for (call, answer) in answers {
            let missed = match self.kept.remove(&call) {
                Some(caller) => caller.send(Ok(answer)).err(),
                None => Some(Ok(answer)),
            };
            self.undelivered.extend(missed.and_then(Result::ok));
        }
    }

    /// The log did not accept the decisions: rolls back to the durable state, and drops waiting calls, whose answers
    /// might depend on what was lost.
    fn undo(&mut self, error: &AppendError) -> Result<(), StartError> {
        tracing::error!(%error, source = ?error.source, "nothing is accepted until the log accepts records again");
        let why = why(error.kind);
        self.refuse(Some(why));
        self.counters.failed_batches.fetch_add(1, Ordering::Relaxed);
        self.release_kept(why);
        self.machine = replay(&*self.log, self.codec, &*self.empty)?.machine;
        Ok(())
    }

    fn release_kept(&mut self, why: Unavailable) {
        for (call, caller) in std::mem::take(&mut self.kept) {
            self.machine.abandon(call);
            let _ = caller.send(Err(why));
        }
    }

    /// Asks the log whether it accepts records again.
    fn probe(&mut self) {
        // A record that is too large now is too large later.
        if self.refused == Some(Unavailable::BatchTooLarge) {
            return;
        }
        match self.log.probe() {
            Ok(()) => {
                tracing::info!("the log accepts records again");
                self.refuse(None);
            }
            Err(error) => self.refuse(Some(why(error.kind))),
        }
    }

    fn refuse(&mut self, why: Option<Unavailable>) {
        self.refused = why;
        self.counters.refuse(why);
    }
}

const fn why(kind: AppendErrorKind) -> Unavailable {
    match kind {
        AppendErrorKind::DiskFull => Unavailable::DiskFull,
        AppendErrorKind::DiskFailed | AppendErrorKind::OutOfOrder => Unavailable::DiskFailed,
        AppendErrorKind::BadSize => Unavailable::BatchTooLarge,
    }
}
