//! Hosts a machine: supplies time, entropy, durability and subscriptions.
//!
//! One [`Engine`] is one machine, its log, one OS thread for both, and tasks for its effects. Everything decided in one
//! round is made durable by one commit; answers, queries, subscribers and effects come after it.
//!
//! When the log refuses (the disk is full), the machine is rebuilt from what is durable and every call gets
//! [`Unavailable`] until the log takes records again. The engine keeps running, so that it recovers without a restart.

mod handle;
mod queue;
mod replay;
mod snapshotting;
mod stats;
mod subscription;
mod time;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sortie_domain::machine::Machine;
use sortie_domain::time::Timestamp;
use tokio::runtime::Handle as Runtime;
use tokio::sync::{broadcast, oneshot, watch};

use crate::clock::{Clock, Entropy};
use crate::codec::Codec;
use crate::effects::{EffectLimits, Effects, Performer};
use crate::log::Log;
use crate::supervisor::panic_text;

pub(crate) use handle::Calls;
pub use handle::{CallError, Handle, Unavailable};
pub(crate) use queue::Caller;
use queue::{Phase, Queue};
pub use replay::StartError;
use snapshotting::Snapshotting;
pub(crate) use stats::Counters;
pub use stats::Stats;
pub use subscription::{Cursor, LIVE_WINDOW_RECORDS, SubscribeError, Subscription};
use time::HostTime;
pub use time::{ClockGuard, MAX_IDLE_PAUSE, MAX_PAUSE};
pub use worker::MAX_KEPT_CALLS;
use worker::Worker;

/// Default maximum number of inputs that wait for the machine thread; further calls are refused.
pub const QUEUED_INPUTS: usize = 65_536;

/// Default number of records between two snapshots.
pub const SNAPSHOT_EVERY_RECORDS: u64 = 100_000;

/// A machine that can be hosted: all its parts may move between threads.
pub trait Hosted:
    Machine<
        Command: Send + 'static,
        Event: Send + Sync + 'static,
        Reply: Send + 'static,
        Refusal: Send + 'static,
        Effect: Send + 'static,
        Snapshot: Send + 'static,
    > + Send
    + 'static
{
}

impl<M> Hosted for M where
    M: Machine<
            Command: Send + 'static,
            Event: Send + Sync + 'static,
            Reply: Send + 'static,
            Refusal: Send + 'static,
            Effect: Send + 'static,
            Snapshot: Send + 'static,
        > + Send
        + 'static
{
}

/// How an engine behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineOptions {
    /// Maximum number of waiting inputs; further calls are refused.
    pub queued_inputs: usize,
    /// Records between two snapshots.
    pub snapshot_every_records: u64,
    /// How effects are run.
    pub effects: EffectLimits,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            queued_inputs: QUEUED_INPUTS,
            snapshot_every_records: SNAPSHOT_EVERY_RECORDS,
            effects: EffectLimits::default(),
        }
    }
}

/// What an engine is made of.
pub struct Parts<M: Hosted> {
    /// Name of the machine thread, for debuggers.
    pub name: &'static str,
    /// Makes decisions durable.
    pub log: Box<dyn Log>,
    /// Converts between the machine's types and the log's bytes.
    pub codec: Codec<M>,
    /// A machine with an empty log.
    pub empty: Box<dyn Fn() -> M + Send>,
    /// Carries out effects.
    pub performer: Arc<dyn Performer<M>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Random bits for the machine.
    pub entropy: Entropy,
    /// Limits and intervals.
    pub options: EngineOptions,
}

/// How an engine ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By [`Engine::shutdown`]; everything is written.
    Ordered,
    /// Dropped without a shutdown; the next start replays the log, as after a crash.
    Killed,
    /// A bug, or the log could not be read when the state had to be rebuilt.
    Failed(String),
}

impl Ended {
    /// What this means for the task that runs the engine.
    ///
    /// # Errors
    /// Why it ended, unless it was shut down.
    pub fn into_result(self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::Ordered => Ok(()),
            Self::Killed => Err("it was stopped".into()),
            Self::Failed(problem) => Err(problem.into()),
        }
    }
}

/// A running machine. Dropping it is like a crash, except that its threads are gone afterwards.
pub struct Engine<M: Hosted> {
    handle: Handle<M>,
    queue: Arc<Queue<M>>,
    effects: Effects<M>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Hosted> Engine<M> {
    /// Replays the log and starts the machine, beginning with the outstanding effects. Effects run on the current tokio
    /// runtime.
    ///
    /// # Errors
    /// [`StartError`] if the log cannot be replayed.
    pub async fn start(parts: Parts<M>) -> Result<Self, StartError> {
        Self::start_guarded(parts, ClockGuard::open()).await
    }

    /// [`Engine::start`], but refuses a clock so far ahead of the log that a start would do harm.
    ///
    /// # Errors
    /// [`StartError`] if the log cannot be replayed, or for such a clock.
    pub async fn start_guarded(parts: Parts<M>, guard: ClockGuard<M>) -> Result<Self, StartError> {
        Ok(Self::prepare(parts, guard).await?.run())
    }

    /// Does everything in [`Engine::start_guarded`] that may fail, without visible effects: until [`Prepared::run`] the
    /// machine decides nothing, and its effects wait. So if one of several machines is refused, none has acted.
    ///
    /// # Errors
    /// As [`Engine::start_guarded`].
    pub async fn prepare(parts: Parts<M>, guard: ClockGuard<M>) -> Result<Prepared<M>, StartError> {
        let runtime = Runtime::current();
        let queue = Queue::new(parts.options.queued_inputs);
        // A guard: dropping a start halfway also ends the thread.
        let mut starting = Starting { queue: Arc::clone(&queue), thread: None };
        let (started, begun) = oneshot::channel();
        let (go, told) = oneshot::channel();
        let (end, ended) = watch::channel(None);
        let name = parts.name.to_owned();
        let own_queue = Arc::clone(&queue);
        let body = move || live(parts, &guard, runtime, &own_queue, (started, told), ended, &end);
        starting.thread = Some(thread::Builder::new().name(name).spawn(body).map_err(StartError::Thread)?);
        let (handle, effects) = begun.await.map_err(|_| StartError::Died)??;
        Ok(Prepared { go, engine: Self { handle, queue, effects, thread: starting.thread.take() } })
    }

    /// Calls, queries and subscriptions.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Graceful shutdown: refuses new calls, answers the kept ones with [`Unavailable::ShuttingDown`], lets effects in
    /// flight finish for at most `deadline`, writes a snapshot and releases the log.
    pub async fn shutdown(mut self, deadline: Duration) -> Ended {
        self.queue.enter(Phase::Draining);
        self.effects.stop(deadline).await;
        self.queue.enter(Phase::Stopping);
        let ended = self.handle.ended().await;
        self.join();
        ended
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic was reported as the engine's end.
            let _ = thread.join();
        }
    }
}

impl<M: Hosted> Drop for Engine<M> {
    fn drop(&mut self) {
        self.queue.enter(Phase::Killed);
        self.effects.kill();
        self.join();
    }
}

/// A machine that was replayed and does not run yet. Dropping it changes nothing.
pub struct Prepared<M: Hosted> {
    /// Dropped first, because the thread waits for it.
    go: oneshot::Sender<()>,
    engine: Engine<M>,
}

impl<M: Hosted> Prepared<M> {
    /// Calls, queries and subscriptions, which wait until the machine runs.
    #[must_use]
    pub fn handle(&self) -> Handle<M> {
        self.engine.handle()
    }

    /// Lets the machine run, beginning with the outstanding effects.
    #[must_use]
    pub fn run(self) -> Engine<M> {
        // Fails only if the thread has ended, which has reported why.
        let _ = self.go.send(());
        self.engine
    }
}

struct Starting<M: Hosted> {
    queue: Arc<Queue<M>>,
    thread: Option<JoinHandle<()>>,
}

impl<M: Hosted> Drop for Starting<M> {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.queue.enter(Phase::Killed);
            let _ = thread.join();
        }
    }
}

type Begun<M> = Result<(Handle<M>, Effects<M>), StartError>;

/// The life of the machine thread.
fn live<M: Hosted>(
    parts: Parts<M>,
    guard: &ClockGuard<M>,
    runtime: Runtime,
    queue: &Arc<Queue<M>>,
    (started, told): (oneshot::Sender<Begun<M>>, oneshot::Receiver<()>),
    ended: watch::Receiver<Option<Ended>>,
    end: &watch::Sender<Option<Ended>>,
) {
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let (mut worker, handle) = match assemble(parts, guard, runtime, Arc::clone(queue), ended) {
            Ok(assembled) => assembled,
            Err(error) => {
                let _ = started.send(Err(error));
                return Ended::Killed;
            }
        };
        let begun = started.send(Ok((handle, worker.effects.clone())));
        if begun.is_err() || told.blocking_recv().is_err() {
            return Ended::Killed;
        }
        worker.run()
    }));
    // The worker has been dropped by now, and with it the log and its lock.
    let how = lived.unwrap_or_else(|panic| {
        Ended::Failed(format!("the machine thread panicked: {}", panic_text(&*panic)))
    });
    queue.enter(Phase::Killed);
    end.send_replace(Some(how));
}

fn assemble<M: Hosted>(
    parts: Parts<M>,
    guard: &ClockGuard<M>,
    runtime: Runtime,
    queue: Arc<Queue<M>>,
    ended: watch::Receiver<Option<Ended>>,
) -> Result<(Worker<M>, Handle<M>), StartError> {
    let Parts { log, codec, empty, performer, clock, mut entropy, options, .. } = parts;
    let replayed = replay::replay(&*log, codec, &*empty)?;
    let last_alive = log.last_alive();
    // Logs of earlier versions do not say how long their process lived after the last record.
    if last_alive > Timestamp::ZERO {
        time::check(guard, &replayed.machine, replayed.time.max(last_alive), clock.now())?;
    }
    let counters = Arc::new(Counters::default());
    counters.last_seq.store(replayed.machine.last_seq(), Ordering::Relaxed);
    counters.has_snapshot(replayed.snapshot_seq, replayed.snapshot_time);
    let calls = Calls::new(Arc::clone(&queue));
    let jitter = Entropy::seeded(entropy.draw()[0]);
    let effects =
        Effects::new(performer, calls.clone(), Arc::clone(&counters), options.effects, jitter, runtime);
    let (live, _) = broadcast::channel(LIVE_WINDOW_RECORDS);
    let weak = Arc::downgrade(&queue);
    clock.on_move(Arc::new(move || weak.upgrade().into_iter().for_each(|queue| queue.nudge())));
    let handle = Handle::new(handle::Shared {
        calls,
        codec,
        reader: log.reader(),
        live: live.downgrade(),
        counters: Arc::clone(&counters),
        ended,
    });
    let worker = Worker {
        machine: replayed.machine,
        snapshotting: Snapshotting::new(options.snapshot_every_records, replayed.snapshot_seq, replayed.time),
        log,
        codec,
        empty,
        time: HostTime::new(clock, entropy, replayed.time),
        queue,
        live,
        effects,
        counters,
        kept: BTreeMap::new(),
        notices: VecDeque::new(),
        undelivered: VecDeque::new(),
        refused: None,
    };
    Ok((worker, handle))
}
