//! Hosts a machine: makes its decisions durable and only then publishes them.
//!
//! [`host::Engine`] is the entry point: it takes a [`Machine`](sortie_domain::machine::Machine), a [`log::Log`] and an
//! [`effects::Performer`], and returns a [`host::Handle`] for calls, queries and subscriptions.
//!
//! | module | contents |
//! |---|---|
//! | [`log`] | the `Log` trait, and the embedded log, which needs only a folder |
//! | [`codec`] | conversion between a machine's types and the log's bytes |
//! | [`clock`] | time and entropy |
//! | [`host`] | the machine thread, calls, queries, subscriptions, replay, shutdown |
//! | [`effects`] | outside work that follows from decisions, retried until its outcome is known |
//! | [`supervisor`] | the tasks of a process, and how it ends |
//!
//! Nothing here knows a rule of the domain, and the domain does not know this crate.

pub mod clock;
pub mod codec;
pub mod effects;
pub mod host;
pub mod log;
pub mod supervisor;

pub use clock::{BadClock, Clock, Entropy, ManualClock, SystemClock};
pub use codec::{Codec, DecodeError, StoredPieces};
pub use effects::{EffectLimits, Performer, Retry};
pub use host::{
    CallError, ClockGuard, Cursor, Ended, Engine, EngineOptions, Handle, Hosted, Parts, Prepared, StartError,
    Stats, SubscribeError, Subscription, Unavailable,
};
pub use log::{EmbeddedLog, FolderLock, LateLog, LogOptions};
