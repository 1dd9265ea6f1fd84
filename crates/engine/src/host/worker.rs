//! The machine thread: takes what waits, lets the machine decide, makes it durable in one commit, and only then
//! lets anybody hear of it.
//!
//! A thread and not a task, because the machine computes and the commit blocks. It alone holds the machine and
//! the log, so neither needs a lock.

use std::collections::BTreeMap;
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
use super::time::HostTime;
use super::{Ended, Hosted};
use crate::codec::Codec;
use crate::effects::{Effects, MAX_PENDING_EFFECTS};
use crate::log::{AppendError, AppendErrorKind, Batch, Log};

/// Inputs taken at once, so that the first of them does not wait for too many others.
const BATCH_INPUTS: usize = 4096;

/// A batch that has reached this size, in bytes, is committed before more is decided.
const BATCH_BYTES: usize = 4 << 20;

/// Calls that the machine may keep for a later answer.
pub const MAX_KEPT_CALLS: usize = 1 << 20;

/// Pause between attempts to write deadlines' events while the log refuses.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// Longest sleep; only bounds the arithmetic of the system's wait.
const MAX_SLEEP: Duration = Duration::from_secs(3600);

/// What was decided and is not durable yet.
struct Work<M: Hosted> {
    step: Step<M>,
    batch: Batch,
    effects: Vec<M::Effect>,
}

impl<M: Hosted> Work<M> {
    fn after(seq: u64) -> Self {
        Self { step: Step::new(), batch: Batch::new(seq + 1), effects: Vec::new() }
    }
}

pub(super) struct Worker<M: Hosted> {
    pub(super) machine: M,
    /// Before the log, because it is dropped first and a snapshot being written needs the folder's lock.
    pub(super) snapshotting: Snapshotting,
    pub(super) log: Box<dyn Log>,
    pub(super) codec: Codec<M>,
    pub(super) empty: Box<dyn Fn() -> M + Send>,
    pub(super) time: HostTime,
    pub(super) queue: Arc<Queue<M>>,
    pub(super) live: broadcast::Sender<Arc<Record<M::Event>>>,
    pub(super) effects: Effects<M>,
    pub(super) counters: Arc<Counters>,
    /// Calls taken and not answered.
    pub(super) kept: BTreeMap<CallId, AnswerSender<M>>,
    /// Durable answers whose callers were gone.
    pub(super) undelivered: Vec<Answer<M>>,
    /// Why the log refused last; nothing is decided until it takes records again.
    pub(super) refused: Option<Unavailable>,
}

impl<M: Hosted> Worker<M> {
    /// Works until the queue says that this is the end.
    pub(super) fn run(&mut self) -> Ended {
        self.machine.outstanding().into_iter().for_each(|effect| self.effects.submit(effect));
        self.counters.accepting.store(true, Ordering::Relaxed);
        loop {
            let wait = self.time.until_alive(self.sleep());
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
            let settled = self.undelivered.is_empty() || self.refused.is_some();
            if all && settled && phase == Phase::Stopping {
                self.snapshotting.finish(&self.machine, self.codec, &mut *self.log, &self.counters);
                return Ended::Ordered;
            }
        }
    }

    /// How long there is nothing to do if nothing comes; `None` is for ever.
    fn sleep(&self) -> Option<Duration> {
        let wait = if self.undelivered.is_empty() {
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
        if self.refused.is_none() {
            self.take_back(&mut work);
            self.tick(&mut work);
        }
        for input in inputs {
            match input {
                Input::Call(call) => self.handle(call, &mut work),
                Input::Query(query) => queries.push(query),
            }
            if work.batch.body().len() >= BATCH_BYTES {
                self.commit(work)?;
                work = Work::after(self.machine.last_seq());
            }
        }
        self.commit(work)?;
        self.counters.kept_calls.store(self.kept.len(), Ordering::Relaxed);
        queries.into_iter().for_each(|query| query(&self.machine));
        self.snapshotting.look(&self.machine, self.codec, &mut *self.log, &self.counters);
        Ok(())
    }

    fn take_notices(&mut self, notices: Vec<Notice<M>>) {
        for notice in notices {
            match notice {
                // A call that is not kept was answered, or waits in the queue with its receiver closed.
                Notice::Abandoned(call) => {
                    if self.kept.remove(&call).is_some() {
                        self.machine.abandon(call);
                    }
                }
                Notice::Undelivered(answer) => self.undelivered.push(answer),
            }
        }
    }

    fn is_due(&self) -> bool {
        self.machine.next_deadline().is_some_and(|deadline| deadline <= self.time.now())
    }

    fn take_back(&mut self, work: &mut Work<M>) {
        for answer in std::mem::take(&mut self.undelivered) {
            self.machine.undelivered(self.time.moment(), answer, &mut work.step);
            self.note(work);
        }
    }

    fn tick(&mut self, work: &mut Work<M>) {
        if self.is_due() {
            self.machine.tick(self.time.moment(), &mut work.step);
            self.note(work);
        }
    }

    fn handle(&mut self, call: Call<M>, work: &mut Work<M>) {
        // Nobody waits any more, so nothing need be decided.
        if call.answer.is_closed() {
            return;
        }
        if let Some(why) = self.refused.or_else(|| self.overload(call.caller)) {
            // A caller that is gone as well has no use for the refusal.
            let _ = call.answer.send(Err(why));
            return;
        }
        self.kept.insert(call.id, call.answer);
        self.machine.handle(self.time.moment(), call.id, call.command, &mut work.step);
        self.note(work);
    }

    fn overload(&self, caller: Caller) -> Option<Unavailable> {
        let full = self.kept.len() >= MAX_KEPT_CALLS
            || self.counters.pending_effects.load(Ordering::Relaxed) >= MAX_PENDING_EFFECTS;
        (full && caller == Caller::Outside).then_some(Unavailable::Overloaded)
    }

    /// Encodes what the machine just emitted, and asks for its effects while the state is as it was then.
    fn note(&self, work: &mut Work<M>) {
        for record in &work.step.records[work.batch.len() as usize..] {
            debug_assert_eq!(record.seq, work.batch.last_seq() + 1, "records follow one another");
            work.batch.push(record.time, |out| (self.codec.encode_event)(&record.event, out));
            work.effects.extend(self.machine.effect(&record.event));
        }
    }

    /// Makes `work` durable and lets everybody hear of it, or undoes it.
    fn commit(&mut self, work: Work<M>) -> Result<(), StartError> {
        if !work.batch.is_empty() {
            let started = Instant::now();
            if let Err(error) = self.log.append(&work.batch) {
                return self.undo(&error);
            }
            self.count(&work.batch, started.elapsed());
        }
        self.deliver(work.step.answers);
        if let Some(last) = work.step.records.last() {
            self.snapshotting.note(last.time);
        }
        if self.live.receiver_count() > 0 {
            for record in work.step.records {
                // Fails only if the last receiver has just gone.
                let _ = self.live.send(Arc::new(record));
            }
        }
        work.effects.into_iter().for_each(|effect| self.effects.submit(effect));
        Ok(())
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

    /// The log did not take what was decided: the state goes back to what is durable, and nobody who waits gets
    /// an answer that might rest on the rest.
    fn undo(&mut self, error: &AppendError) -> Result<(), StartError> {
        tracing::error!(%error, source = ?error.source, "nothing is accepted until the log takes records again");
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

    /// Asks the log whether it takes records again.
    fn probe(&mut self) {
        match self.log.probe() {
            Ok(()) => {
                tracing::info!("the log takes records again");
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
