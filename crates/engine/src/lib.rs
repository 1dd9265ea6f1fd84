//! Hosts a machine: makes what it decides durable and only then lets anybody hear of it.
//!
//! [`host::Engine`] is the way in: it takes a [`Machine`](sortie_domain::machine::Machine), a [`log::Log`] and an
//! [`effects::Performer`], and gives a [`host::Handle`] for calls, queries and subscriptions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`log`] | the `Log` trait, and the log that needs nothing but a folder |
//! | [`codec`] | between a machine's types and the log's bytes |
//! | [`clock`] | time and random bits |
//! | [`host`] | the machine thread, calls, queries, subscriptions, replay, shutdown |
//! | [`effects`] | work outside that follows from decisions, until its outcome is known |
//! | [`supervisor`] | the tasks of a process, and how it ends |
//!
//! Nothing here knows a rule of the domain, and nothing of the domain knows this.

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
