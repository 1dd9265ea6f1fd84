//! How the rest of the process talks to a machine.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sortie_domain::machine::{Answer, CallId, Machine, Record};
use tokio::sync::{broadcast, oneshot, watch};

use super::queue::{Call, Caller, Input, Notice, Queue};
use super::stats::{Counters, Stats};
use super::subscription::{Cursor, Subscription};
use super::{Ended, Hosted};
use crate::codec::Codec;
use crate::log::LogReader;

/// Why nothing was done. The same command may be sent again later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unavailable {
    /// Too many calls are waiting already.
    #[error("too many calls are waiting; try again later")]
    Overloaded,
    /// Nothing can be made durable until there is space.
    #[error("the disk is full; nothing is accepted until there is space")]
    DiskFull,
    /// Nothing can be made durable until the disk works again.
    #[error("the disk failed; nothing is accepted until it works again")]
    DiskFailed,
    /// The call's events can never be written: one record is larger than the log's maximum.
    #[error("the call leads to a record that is too large for the log; send less")]
    BatchTooLarge,
    /// The state was rebuilt from the log because of another input, and waiting calls were dropped.
    #[error("the call was interrupted; try again")]
    Interrupted,
    /// The engine is in a graceful shutdown.
    #[error("shutting down")]
    ShuttingDown,
    /// The engine has ended.
    #[error("stopped")]
    Stopped,
}

/// Why a call got no reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError<R> {
    /// The machine refused the command.
    #[error("refused: {0}")]
    Refused(R),
    /// The machine was not asked, or its decision could not be made durable and is void.
    #[error("unavailable: {0}")]
    Unavailable(#[from] Unavailable),
}

/// Calls, queries and subscriptions of one engine. Cheap to clone.
pub struct Handle<M: Hosted> {
    shared: Arc<Shared<M>>,
}

pub(super) struct Shared<M: Hosted> {
    pub(super) calls: Calls<M>,
    pub(super) codec: Codec<M>,
    pub(super) reader: Arc<dyn LogReader>,
    /// Weak, so that subscriptions end with the engine, not with the last handle.
    pub(super) live: broadcast::WeakSender<Arc<Record<M::Event>>>,
    pub(super) counters: Arc<Counters>,
    pub(super) ended: watch::Receiver<Option<Ended>>,
}

impl<M: Hosted> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M: Hosted> Handle<M> {
    pub(super) fn new(shared: Shared<M>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Sends the machine a command and waits for its durable answer. Dropping the future withdraws the call: the
    /// machine forgets the waiting caller, and takes back what it can of an answer that did not arrive.
    ///
    /// # Errors
    /// [`CallError`]: refused by the machine, or nothing done.
    pub async fn call(&self, command: M::Command) -> Result<M::Reply, CallError<M::Refusal>> {
        let answer = self.shared.calls.call(command, Caller::Outside).await?;
        answer.map_err(CallError::Refused)
    }

    /// Reads the state, after all earlier calls have become durable or void. `ask` runs on and blocks the machine
    /// thread: copy out what you need and work on it elsewhere.
    ///
    /// # Errors
    /// [`Unavailable`] if the question was not asked.
    ///
    /// # Panics
    /// If `ask` does.
    pub async fn query<R: Send + 'static>(
        &self,
        ask: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<R, Unavailable> {
        let (sender, receiver) = oneshot::channel();
        let query = Box::new(move |machine: &M| {
            // `ask` only reads, so a panic in it leaves the machine intact.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(|| ask(machine))));
        });
        self.shared.calls.queue.push(Input::Query(query), Caller::Outside)?;
        match receiver.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Unavailable::Stopped),
        }
    }

    /// Follows the log from `from`, old records first, without gap or repetition.
    #[must_use]
    pub fn subscribe(&self, from: Cursor) -> Subscription<M> {
        // Listening starts before the log is read, so that no record is missed in between.
        let live = self.shared.live.upgrade().map(|sender| sender.subscribe());
        Subscription::new(from, live, Arc::clone(&self.shared.reader), self.shared.codec)
    }

    /// Statistics for the operator.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.read(self.shared.calls.queue.depth())
    }

    /// Why the last snapshot could not be written; `None` if it was. No data is lost, but the log grows and the next
    /// start takes longer.
    #[must_use]
    pub fn snapshot_problem(&self) -> Option<String> {
        self.shared.counters.snapshot_problem()
    }

    /// Waits until the engine has ended and returns how.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.shared.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ended::Killed),
            Err(_) => Ended::Killed,
        }
    }
}

/// Queues commands for the machine thread.
pub(crate) struct Calls<M: Machine> {
    pub(crate) queue: Arc<Queue<M>>,
    next_id: Arc<AtomicU64>,
}

impl<M: Machine> Clone for Calls<M> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), next_id: Arc::clone(&self.next_id) }
    }
}

impl<M: Machine> Calls<M> {
    pub(crate) fn new(queue: Arc<Queue<M>>) -> Self {
        Self { queue, next_id: Arc::new(AtomicU64::new(1)) }
    }

    /// Queues `command` and waits for the durable answer.
    pub(crate) async fn call(&self, command: M::Command, caller: Caller) -> Result<Answer<M>, Unavailable> {
        let id = CallId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (answer, receiver) = oneshot::channel();
        self.queue.push(Input::Call(Call { id, caller, command, answer }), caller)?;
        let mut pending = Pending { id, receiver: Some(receiver), queue: &self.queue };
        let Some(receiver) = &mut pending.receiver else { return Err(Unavailable::Stopped) };
        let answer = receiver.await;
        pending.receiver = None;
        answer.unwrap_or(Err(Unavailable::Stopped))
    }
}

/// A call whose answer has not arrived. If it is dropped before that, it notifies the machine thread.
struct Pending<'a, M: Machine> {
    id: CallId,
    receiver: Option<oneshot::Receiver<Result<Answer<M>, Unavailable>>>,
    queue: &'a Queue<M>,
}

impl<M: Machine> Drop for Pending<'_, M> {
    fn drop(&mut self) {
        let Some(mut receiver) = self.receiver.take() else { return };
        // Closed first: from here on a sender notices on its own, and an answer sent earlier is found below.
        receiver.close();
        match receiver.try_recv() {
            Ok(Ok(answer)) => self.queue.notify(Notice::Undelivered(answer)),
            Ok(Err(_)) => {}
            Err(_) => self.queue.notify(Notice::Abandoned(self.id)),
        }
    }
}
