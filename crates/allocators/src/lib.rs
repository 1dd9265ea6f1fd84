//! Adapters to the platforms that run game servers.
//!
//! An [`Allocator`] starts and stops servers on one platform; [`Fleets`] carries out the broker's effects with
//! them. The broker decides, the log remembers, and whatever is done here may be done twice: an allocation's id
//! is its idempotency key all the way to the platform. So nothing here keeps a plan of its own, and a platform
//! is one module that knows nothing of matches.

mod allocator;
mod fleets;
#[cfg(target_os = "linux")]
pub mod local_process;

pub use allocator::{Allocator, AllocatorError, ErrorKind, StartOrder, Started};
pub use fleets::{Fleets, MAX_START_ATTEMPTS};
