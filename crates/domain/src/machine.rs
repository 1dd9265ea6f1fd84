//! What a machine is, for whoever hosts one.
//!
//! A machine decides; its host makes the decision durable and only then lets anybody hear of it. The contract:
//!
//! * [`Machine::handle`], [`Machine::tick`] and [`Machine::undelivered`] change the state only by emitting events,
//!   so that [`Machine::apply`] over the same records gives the same state. What a restart may forget (calls that
//!   wait, when a server was last heard of) is kept beside that state and is no part of a snapshot.
//! * A call is answered once, now or in a later step: whoever waits is known by the [`CallId`] that came with it.
//! * [`Machine::outstanding`] lists, from the state alone, the effects whose outcome has not come back.
//!
//! Why not return futures or callbacks: a plain struct can be driven by a simulation, with crashes between any two
//! steps, and by the real host, without a line of difference.

use alloc::vec::Vec;

use crate::time::Timestamp;

/// When a step happens, and the random bits it may use.
///
/// `entropy` is drawn by the host for each input; ids are derived from it (see [`crate::ids::Draw`]).
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the step.
    pub now: Timestamp,
    /// 128 fresh random bits.
    pub entropy: [u64; 2],
}

/// Names one call within one life of the process, so that it can be answered later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// An event with its place in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Record<E> {
    /// Position in the log: 1, 2, 3, … without gaps.
    pub seq: u64,
    /// When it was decided.
    pub time: Timestamp,
    /// What was decided.
    pub event: E,
}

/// An answer to a call: the reply, or a typed refusal.
pub type Answer<M> = Result<<M as Machine>::Reply, <M as Machine>::Refusal>;

/// What one or several inputs led to. The host appends `records` to the log, and after they are durable
/// delivers `answers` in order.
pub struct Step<M: Machine> {
    /// Events in log order, already applied to the machine.
    pub records: Vec<Record<M::Event>>,
    /// Answers to calls, this step's own or earlier ones.
    pub answers: Vec<(CallId, Answer<M>)>,
}

impl<M: Machine> Step<M> {
    /// An empty step.
    #[must_use]
    pub const fn new() -> Self {
        Self { records: Vec::new(), answers: Vec::new() }
    }
}

impl<M: Machine> Default for Step<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// A pure state machine over a log of events.
pub trait Machine: Sized {
    /// What is asked of the machine.
    type Command;
    /// What it decides; the only thing that changes its durable state.
    type Event: Clone;
    /// The good answer to a command.
    type Reply;
    /// The typed refusal of a command. A refused command leaves no event.
    type Refusal;
    /// Work in the world outside that follows from the state.
    type Effect: Clone;
    /// The durable state as plain data.
    type Snapshot;

    /// Takes a command. Answers `call` now (in `step.answers`) or keeps it for a later step.
    fn handle(&mut self, at: Moment, call: CallId, command: Self::Command, step: &mut Step<Self>);

    /// Fires every deadline that is due at `at.now`.
    fn tick(&mut self, at: Moment, step: &mut Step<Self>);

    /// The earliest time at which [`Machine::tick`] has something to do.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// The caller of a kept call has gone away; nothing is to be sent to it. Emits nothing.
    fn abandon(&mut self, call: CallId);

    /// `answer` was decided and is durable, but its caller was gone before it could be sent: take back what can
    /// be taken back.
    fn undelivered(&mut self, at: Moment, answer: Answer<Self>, step: &mut Step<Self>);

    /// Applies one record of the log during replay. `record.seq` is [`Machine::last_seq`] + 1.
    fn apply(&mut self, record: &Record<Self::Event>);

    /// Sequence number of the last applied record; 0 for an empty log.
    fn last_seq(&self) -> u64;

    /// The effect that `event`, just emitted, asks for, if any. Once it is durable the host runs it and retries
    /// it until its outcome has come back as another command.
    fn effect(&self, event: &Self::Event) -> Option<Self::Effect>;

    /// Every effect whose outcome has not come back, from the state alone: what a host runs after a restart.
    fn outstanding(&self) -> Vec<Self::Effect>;

    /// The durable state as plain data.
    fn snapshot(&self) -> Self::Snapshot;

    /// A machine with that durable state, and nothing beside it.
    fn restore(snapshot: Self::Snapshot) -> Self;
}
