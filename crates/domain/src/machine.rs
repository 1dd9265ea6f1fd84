//! The interface between a machine and its host.
//!
//! A machine decides; its host makes the decision durable and only then publishes it. The contract:
//!
//! * [`Machine::handle`], [`Machine::tick`] and [`Machine::undelivered`] change the state only by emitting events, so
//!   that [`Machine::apply`] over the same records gives the same state. State that a restart may forget (waiting
//!   calls, the time of a server's last call) is kept separately and is not part of a snapshot.
//! * A call is answered once, now or in a later step, and is identified by its [`CallId`].
//! * [`Machine::outstanding`] lists, from the state alone, the effects whose outcome has not come back.
//! * A step is bounded: once [`Step::is_full`], a machine begins no further piece of work in it (a due timer, an order,
//!   a match of a tick, an answer to a waiting call). The rest stays due, as [`Machine::next_deadline`] reports, and is
//!   found again from the state alone, so that a restart continues with it. The input itself is one piece of work and
//!   is always carried out; a piece takes at most a few MiB.
//! * A host makes the events of one input durable atomically, unless they are larger than its log takes at once: then
//!   in parts, in order, so that after a crash the log may end with a prefix of them. Machines with bounded steps never
//!   come close to that.
//!
//! No futures or callbacks, because a plain struct can be driven by a simulation, with crashes between any two steps,
//! and by the real host, with identical code.

use alloc::vec::Vec;

use crate::size::{ENTRY_BYTES, Size};
use crate::time::Timestamp;

/// A step with this many bytes of events begins no further piece of work. This leaves room for several of the largest
/// pieces below the maximum batch of a log, and takes a few milliseconds to write.
pub const STEP_BYTES: usize = 1 << 20;

/// A step with this many records and answers begins no further piece of work.
pub const STEP_RECORDS: usize = 4_096;

/// The time of a step, and the random bits that it may use.
///
/// `entropy` is drawn by the host for each input; ids are derived from it (see [`crate::ids::Draw`]).
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time of the step.
    pub now: Timestamp,
    /// 128 fresh random bits.
    pub entropy: [u64; 2],
}

/// Identifies one call during the life of the process, so that it can be answered later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// An event with its sequence number in the log.
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

/// When a step is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepLimits {
    /// Bytes of events, by [`Size`].
    pub bytes: usize,
    /// Records and answers, together.
    pub records: usize,
}

impl Default for StepLimits {
    fn default() -> Self {
        Self { bytes: STEP_BYTES, records: STEP_RECORDS }
    }
}

/// The results of one or several inputs. The host appends `records` to the log, and delivers `answers` in order once
/// they are durable.
pub struct Step<M: Machine> {
    /// Events in log order, already applied to the machine. Added by [`Step::push`], which counts them.
    pub records: Vec<Record<M::Event>>,
    /// Answers to calls, this step's own or earlier ones.
    pub answers: Vec<(CallId, Answer<M>)>,
    bytes: usize,
    limits: StepLimits,
}

impl<M: Machine> Step<M> {
    /// An empty step with the limits that every host uses.
    #[must_use]
    pub const fn new() -> Self {
        Self::within(StepLimits { bytes: STEP_BYTES, records: STEP_RECORDS })
    }

    /// An empty step with other limits: small ones, which a simulation reaches.
    #[must_use]
    pub const fn within(limits: StepLimits) -> Self {
        Self { records: Vec::new(), answers: Vec::new(), bytes: 0, limits }
    }

    /// Adds a record.
    pub fn push(&mut self, record: Record<M::Event>) {
        self.bytes = self.bytes.saturating_add(ENTRY_BYTES + record.event.byte_size());
        self.records.push(record);
    }

    /// Bytes of its records, by [`Size`]: never less than their stored form takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts bytes besides those of records: of many large answers.
    pub const fn weigh(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The room that is left in it.
    #[must_use]
    pub const fn left(&self) -> StepLimits {
        let taken = self.records.len() + self.answers.len();
        let StepLimits { bytes, records } = self.limits;
        StepLimits { bytes: bytes.saturating_sub(self.bytes), records: records.saturating_sub(taken) }
    }

    /// Whether a machine has to leave further work to a later step. Checked before each piece of work.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_filled(4)
    }

    /// Whether this many quarters of the step are used: for work that has to leave room for other work, so that neither
    /// is postponed forever.
    #[must_use]
    pub fn is_filled(&self, quarters: usize) -> bool {
        let StepLimits { bytes, records } = self.limits;
        self.bytes >= bytes / 4 * quarters
            || self.records.len() + self.answers.len() >= (records * quarters).div_ceil(4)
    }
}

impl<M: Machine> Default for Step<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// A pure state machine over a log of events.
pub trait Machine: Sized {
    /// An input to the machine.
    type Command;
    /// A decision; the only thing that changes the durable state.
    type Event: Clone + Size;
    /// The successful answer to a command.
    type Reply;
    /// The typed refusal of a command. A refused command leaves no event.
    type Refusal;
    /// Outside work that follows from the state.
    type Effect: Clone;
    /// The durable state as plain data.
    type Snapshot;

    /// Handles a command. Answers `call` now (in `step.answers`) or keeps it for a later step. Work beyond a full step
    /// is left for [`Machine::tick`].
    fn handle(&mut self, at: Moment, call: CallId, command: Self::Command, step: &mut Step<Self>);

    /// Fires what is due at `at.now`, until the step is full. Each call with room in its step makes progress, so that
    /// repeating it until [`Machine::next_deadline`] is in the future terminates.
    fn tick(&mut self, at: Moment, step: &mut Step<Self>);

    /// The earliest time at which [`Machine::tick`] has something to do; in the past if a full step left work.
    fn next_deadline(&self) -> Option<Timestamp>;

    /// The caller of a kept call has gone away; it must not be answered. Emits nothing.
    fn abandon(&mut self, call: CallId);

    /// `answer` was decided and is durable, but its caller was gone before it could be sent: takes back what can be
    /// taken back. Idempotent.
    fn undelivered(&mut self, at: Moment, answer: &Answer<Self>, step: &mut Step<Self>);

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

    /// A machine with that durable state, and no other state.
    fn restore(snapshot: Self::Snapshot) -> Self;
}
