//! Adapters to the platforms that run game servers.
//!
//! An [`Allocator`] starts, stops and lists servers on one platform; [`Fleets`] carries out the broker's effects with
//! them, and [`Reconciliation`] compares what runs with what was ordered. The broker decides, the log remembers, and
//! everything here may happen twice: an allocation's id is its idempotency key all the way to the platform. So nothing
//! here keeps a plan of its own, and a platform is one module that knows nothing of matches.

mod allocator;
mod environment;
mod error;
mod fleets;
#[cfg(target_os = "linux")]
pub mod local_process;
mod reconciliation;

pub use allocator::{
    Address, Allocator, Capabilities, ExitListener, Listing, MAX_LISTED, Placement, PlacementState,
    ServerExit, StartOrder, Started,
};
pub use environment::{ServerEnvironment, ServerKey};
pub use error::{
    AllocatorError, ErrorClass, MAX_CAPACITY_ATTEMPTS, MAX_REPEATED_ATTEMPTS, MAX_START_ATTEMPTS,
    MAX_START_PAUSE, MAX_STOP_PAUSE, StartRule,
};
pub use fleets::Fleets;
pub use reconciliation::{KnownOrder, Orders, Reconciliation, SWEEP_PERIOD};
