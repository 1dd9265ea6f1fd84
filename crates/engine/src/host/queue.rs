//! The inputs that wait for the machine thread.
//!
//! Our own queue instead of a channel, because the thread takes everything that waits under one lock (which makes the
//! group commit), because a full queue must refuse at once, and because the thread must also wake for a moved clock and
//! for a stop.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::machine::{Answer, CallId, Machine};
use tokio::sync::oneshot;

use super::handle::Unavailable;

/// Where an answer goes.
pub(crate) type AnswerSender<M> = oneshot::Sender<Result<Answer<M>, Unavailable>>;

/// A query of the state, run on the machine thread.
pub(crate) type Query<M> = Box<dyn FnOnce(&M) + Send>;

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Caller {
    /// Any caller, within the limits and until the engine stops taking calls.
    Outside,
    /// The outcome of an effect: always accepted, since there are never more than effects in flight.
    Effect,
}

/// One command with its answer sender.
pub(crate) struct Call<M: Machine> {
    pub(crate) id: CallId,
    pub(crate) caller: Caller,
    pub(crate) command: M::Command,
    pub(crate) answer: AnswerSender<M>,
}

pub(crate) enum Input<M: Machine> {
    Call(Call<M>),
    Query(Query<M>),
}

/// What a caller leaves behind when it goes away. At most one for each accepted call.
pub(crate) enum Notice<M: Machine> {
    Abandoned(CallId),
    Undelivered(Answer<M>),
}

/// How far the engine's shutdown has come. Only ever advances.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Takes everything.
    Open,
    /// Takes only outcomes of effects.
    Draining,
    /// Finishes what waits, takes nothing.
    Stopping,
    /// Drops what waits, takes nothing.
    Killed,
}

/// What the machine thread took.
pub(crate) struct Intake<M: Machine> {
    pub(crate) inputs: Vec<Input<M>>,
    pub(crate) notices: Vec<Notice<M>>,
    pub(crate) phase: Phase,
    /// Whether nothing was left waiting.
    pub(crate) all: bool,
}

struct State<M: Machine> {
    inputs: VecDeque<Input<M>>,
    notices: Vec<Notice<M>>,
    phase: Phase,
    /// Wake up although nothing is queued: the clock or the phase has changed.
    nudged: bool,
    parked: bool,
}

pub(crate) struct Queue<M: Machine> {
    state: Mutex<State<M>>,
    woken: Condvar,
    limit: usize,
}

impl<M: Machine> Queue<M> {
    /// A queue that refuses when `limit` inputs wait.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let state = State {
            inputs: VecDeque::new(),
            notices: Vec::new(),
            phase: Phase::Open,
            nudged: false,
            parked: false,
        };
        Arc::new(Self { state: Mutex::new(state), woken: Condvar::new(), limit })
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `input`, or returns why not.
    pub(crate) fn push(&self, input: Input<M>, caller: Caller) -> Result<(), Unavailable> {
        let mut state = self.lock();
        match (state.phase, caller) {
            (Phase::Open, Caller::Outside) if state.inputs.len() >= self.limit => {
                return Err(Unavailable::Overloaded);
            }
            (Phase::Open, _) | (Phase::Draining, Caller::Effect) => {}
            (Phase::Draining | Phase::Stopping, _) => return Err(Unavailable::ShuttingDown),
            (Phase::Killed, _) => return Err(Unavailable::Stopped),
        }
        state.inputs.push_back(input);
        self.wake(&state);
        Ok(())
    }

    pub(crate) fn notify(&self, notice: Notice<M>) {
        let mut state = self.lock();
        if state.phase < Phase::Killed {
            state.notices.push(notice);
            self.wake(&state);
        }
    }

    /// Wakes the machine thread.
    pub(crate) fn nudge(&self) {
        let mut state = self.lock();
        state.nudged = true;
        self.wake(&state);
    }

    /// Advances to `phase`, unless it is further already.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut dropped = VecDeque::new();
        let mut state = self.lock();
        state.phase = state.phase.max(phase);
        state.nudged = true;
        if state.phase == Phase::Killed {
            // Dropped outside the lock: a query may hold anything, this queue included.
            dropped = std::mem::take(&mut state.inputs);
        }
        self.wake(&state);
        drop(state);
        drop(dropped);
    }

    pub(crate) fn depth(&self) -> usize {
        self.lock().inputs.len()
    }

    fn wake(&self, state: &State<M>) {
        // A thread that is not parked checks the queue before it parks; waking it would waste a system call.
        if state.parked {
            self.woken.notify_one();
        }
    }

    /// Takes up to `max` inputs and all notices. If there are none, waits for `wait`; `None` means forever.
    pub(crate) fn take(&self, max: usize, wait: Option<Duration>) -> Intake<M> {
        let mut state = self.lock();
        state.parked = true;
        let idle =
            |state: &mut State<M>| state.inputs.is_empty() && state.notices.is_empty() && !state.nudged;
        state = match wait {
            None => self.woken.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner),
            Some(wait) => {
                let waited = self.woken.wait_timeout_while(state, wait, idle);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        state.parked = false;
        state.nudged = false;
        let taken = state.inputs.len().min(max);
        Intake {
            inputs: state.inputs.drain(..taken).collect(),
            notices: std::mem::take(&mut state.notices),
            phase: state.phase,
            all: state.inputs.is_empty(),
        }
    }
}
