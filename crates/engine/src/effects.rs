//! Work outside the process, done after it was decided and retried until its outcome is known.
//!
//! An effect is passed to the [`Performer`] repeatedly until it has an outcome and the machine has answered that
//! outcome, which is a command. If the outcome does not get into the log (the disk is full), the effect is performed
//! again instead of keeping its outcome: keys make effects idempotent, and repeating one asks the platform instead of
//! trusting an old answer.
//!
//! Effects with the same key run one after another in log order: they form a lane. Lanes run concurrently, with as many
//! attempts at a time as there are permits. Each group of effects (the performer names the groups) has permits of its
//! own, and all groups share further ones: a slow or stuck group leaves the others their own permits. An attempt that
//! only waits for something to end takes none.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::machine::Machine;
use sortie_retry::Backoff;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::clock::Entropy;
use crate::host::{Caller, Calls, Counters, Hosted};

/// Maximum number of effects without an outcome; beyond it commands from outside are refused.
pub const MAX_PENDING_EFFECTS: usize = 65_536;

/// Default number of concurrent attempts in addition to those with permits of their groups.
pub const CONCURRENT_EFFECTS: usize = 256;

/// Default number of concurrent attempts of each group, whatever the other groups do.
pub const CONCURRENT_EFFECTS_OF_GROUP: usize = 16;

/// Default pause after failed attempts.
pub const RETRY_BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(250), max: Duration::from_secs(30) };

/// Carries out effects.
#[async_trait::async_trait]
pub trait Performer<M: Machine>: Send + Sync {
    /// The idempotency key of `effect`: effects with the same key run one after another, in the order in which they
    /// were decided.
    fn key(&self, effect: &M::Effect) -> String;

    /// The group of `effect`: something that may be slow or stuck without the rest, and therefore has permits of its
    /// own. The number of groups must be bounded by the configuration.
    fn group(&self, _effect: &M::Effect) -> String {
        String::new()
    }

    /// Whether performing `effect` is little more than waiting for something to end, so that any number may do so at a
    /// time.
    fn only_waits(&self, _effect: &M::Effect) -> bool {
        false
    }

    /// Does the work. Must be idempotent. Returns the outcome as a command, or `None` if nobody needs to know it.
    ///
    /// # Errors
    /// [`Retry`] if there is no outcome yet.
    async fn perform(&self, effect: M::Effect) -> Result<Option<M::Command>, Retry>;

    /// Called when the machine has refused the outcome of `effect` because it has no use for it (any more), before the
    /// next effect with the same key. Undoes the work if leaving it would do harm.
    ///
    /// # Errors
    /// [`Retry`] if the effect has to be performed again, and its outcome submitted again.
    async fn refused(&self, _effect: M::Effect) -> Result<(), Retry>
    where
        M::Effect: Send + 'static,
    {
        Ok(())
    }
}

/// An attempt had no outcome and must be retried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// Minimum time to the next attempt, if the other side asked for one.
    pub after: Option<Duration>,
    /// Why, for the operator. It is logged: no secrets.
    pub reason: String,
}

impl Retry {
    /// Another attempt, after the usual pause.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { after: None, reason: reason.into() }
    }
}

/// How effects are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EffectLimits {
    /// Concurrent attempts in addition to those of `of_group`.
    pub concurrent: usize,
    /// Concurrent attempts of each group, however many others run.
    pub of_group: usize,
    /// Pause after failed attempts, unless [`Retry::after`] asks for more.
    pub backoff: Backoff,
}

impl Default for EffectLimits {
    fn default() -> Self {
        Self { concurrent: CONCURRENT_EFFECTS, of_group: CONCURRENT_EFFECTS_OF_GROUP, backoff: RETRY_BACKOFF }
    }
}

/// Runs the effects of one engine.
pub(crate) struct Effects<M: Hosted> {
    inner: Arc<Inner<M>>,
    runtime: Runtime,
}

impl<M: Hosted> Clone for Effects<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), runtime: self.runtime.clone() }
    }
}

struct Inner<M: Hosted> {
    performer: Arc<dyn Performer<M>>,
    calls: Calls<M>,
    counters: Arc<Counters>,
    limits: EffectLimits,
    /// Effects without an outcome by key; the first one is being performed. A key is here while its lane runs.
    lanes: Mutex<BTreeMap<String, VecDeque<M::Effect>>>,
    permits: Arc<Semaphore>,
    /// Permits of groups that have effects without an outcome.
    groups: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    jitter: Mutex<Entropy>,
    /// Cancelled: no new attempts.
    stopping: CancellationToken,
    /// Cancelled: no attempts at all.
    killed: CancellationToken,
    tasks: TaskTracker,
}

impl<M: Hosted> Effects<M> {
    /// Effects run on `runtime`.
    pub(crate) fn new(
        performer: Arc<dyn Performer<M>>,
        calls: Calls<M>,
        counters: Arc<Counters>,
        limits: EffectLimits,
        jitter: Entropy,
        runtime: Runtime,
    ) -> Self {
        let inner = Inner {
            performer,
            calls,
            counters,
            limits,
            lanes: Mutex::new(BTreeMap::new()),
            permits: Arc::new(Semaphore::new(limits.concurrent.max(1))),
            groups: Mutex::new(BTreeMap::new()),
            jitter: Mutex::new(jitter),
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        Self { inner: Arc::new(inner), runtime }
    }

    /// Runs `effect` after those with the same key.
    pub(crate) fn submit(&self, effect: M::Effect) {
        let key = self.inner.performer.key(&effect);
        self.inner.counters.pending_effects.fetch_add(1, Ordering::Relaxed);
        let mut lanes = self.inner.lanes();
        if let Some(lane) = lanes.get_mut(&key) {
            lane.push_back(effect);
            return;
        }
        lanes.insert(key.clone(), VecDeque::from([effect]));
        drop(lanes);
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn_on(async move { inner.run_lane(&key).await }, &self.runtime);
    }

    /// Starts no further attempt, waits until those in flight have ended or `deadline` has passed, then aborts the
    /// rest.
    pub(crate) async fn stop(&self, deadline: Duration) {
        self.inner.stopping.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(deadline, self.inner.tasks.wait()).await.is_err() {
            let unfinished = self.inner.lanes().len();
            tracing::warn!(unfinished, "aborting effects; they run again after the next start");
            self.kill();
            self.inner.tasks.wait().await;
        }
    }

    /// Aborts everything.
    pub(crate) fn kill(&self) {
        self.inner.stopping.cancel();
        self.inner.killed.cancel();
    }
}

impl<M: Hosted> Inner<M> {
    fn lanes(&self) -> MutexGuard<'_, BTreeMap<String, VecDeque<M::Effect>>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run_lane(self: Arc<Self>, key: &str) {
        let mut next = self.lanes().get(key).and_then(|lane| lane.front().cloned());
        while let Some(effect) = next {
            if !self.finish(key, effect).await {
                return;
            }
            self.counters.pending_effects.fetch_sub(1, Ordering::Relaxed);
            next = self.advance(key);
        }
    }

    /// Removes the finished effect and returns the one after it. The lane is removed with its last effect, under the
    /// same lock: a key that is not in the map has no task.
    fn advance(&self, key: &str) -> Option<M::Effect> {
        let mut lanes = self.lanes();
        let lane = lanes.get_mut(key)?;
        lane.pop_front();
        let next = lane.front().cloned();
        if next.is_none() {
            lanes.remove(key);
        }
        next
    }

    /// Performs `effect` until its outcome is in the log. False if the engine stopped before that.
    async fn finish(self: &Arc<Self>, key: &str, effect: M::Effect) -> bool {
        let group = (!self.performer.only_waits(&effect)).then(|| self.performer.group(&effect));
        let mut failures = 0;
        loop {
            let permit = tokio::select! {
                biased;
                () = self.stopping.cancelled() => return false,
                permit = self.permit(group.clone()) => permit,
            };
            let attempt = self.attempt(effect.clone()).await;
            drop(permit);
            let Some(outcome) = attempt else { return false };
            let Err(retry) = outcome else { return true };
            failures += 1;
            let pause = self.pause(failures).max(retry.after.unwrap_or_default());
            tracing::warn!(key, failures, ?pause, reason = retry.reason, "an effect will be retried");
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return false,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// A permit for one attempt: one of its group or a shared one, whichever is free first. An attempt without a group
    /// needs none.
    async fn permit(&self, group: Option<String>) -> Option<Permit<'_, M>> {
        let group = group?;
        let own = Arc::clone(self.groups().entry(group.clone()).or_insert_with(|| {
            let permits = self.limits.of_group.max(1);
            Arc::new(Semaphore::new(permits))
        }));
        // Created before waiting, so that the group is also removed when the last attempt that waits for it gives up.
        let mut permit = Permit { inner: self, group, held: None };
        let held = tokio::select! {
            biased;
            held = own.acquire_owned() => held,
            held = Arc::clone(&self.permits).acquire_owned() => held,
        };
        // Acquiring fails only when the engine ends.
        permit.held = held.ok();
        Some(permit)
    }

    fn groups(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Semaphore>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One attempt, including the submission of its outcome to the machine; `None` if it was aborted.
    async fn attempt(self: &Arc<Self>, effect: M::Effect) -> Option<Result<(), Retry>> {
        let inner = Arc::clone(self);
        // A task of its own, so that a panic of the performer is a failed attempt and not a lane that hangs.
        let task = tokio::spawn(async move { inner.perform(effect).await });
        let task = AbortOnDropHandle::new(task);
        tokio::select! {
            biased;
            () = self.killed.cancelled() => None,
            done = task => Some(done.unwrap_or_else(|error| Err(Retry::because(error.to_string())))),
        }
    }

    async fn perform(&self, effect: M::Effect) -> Result<(), Retry> {
        let Some(outcome) = self.performer.perform(effect.clone()).await? else { return Ok(()) };
        match self.calls.call(outcome, Caller::Effect).await {
            Ok(Ok(_)) => Ok(()),
            // A refusal is an answer too: the machine knows the outcome and has no use for it any more.
            Ok(Err(_)) => self.performer.refused(effect).await,
            Err(unavailable) => Err(Retry::because(unavailable.to_string())),
        }
    }

    /// Drawn from the engine's own random numbers, so that a test can repeat it.
    fn pause(&self, failures: u32) -> Duration {
        let [random, _] = self.jitter.lock().unwrap_or_else(PoisonError::into_inner).draw();
        self.limits.backoff.delay_by(failures, (random >> 40) as f64 / (1u64 << 24) as f64)
    }
}

/// A permit for one attempt. The group is removed with its last permit.
struct Permit<'a, M: Hosted> {
    inner: &'a Inner<M>,
    group: String,
    held: Option<OwnedSemaphorePermit>,
}

impl<M: Hosted> Drop for Permit<'_, M> {
    fn drop(&mut self) {
        // Under the lock, so that nobody else takes the group: every attempt that waits or holds a permit has a
        // reference.
        let mut groups = self.inner.groups();
        drop(self.held.take());
        if groups.get(&self.group).is_some_and(|permits| Arc::strong_count(permits) == 1) {
            groups.remove(&self.group);
        }
    }
}
