//! A driver of the dispatcher that turns a dispatched port into local connections: so a server that nobody can reach, on
//! a laptop or behind NAT, is reached through a dispatcher that everybody can.
//!
//! | where | what |
//! |---|---|
//! | [`run`] | a tunnel, from its start to its end |
//! | [`TunnelOptions`] | what it connects, who it is, every limit |
//! | `line` | one websocket after the other, with pauses in between |
//! | `connect` | a websocket's opening |
//! | `session` | an open websocket |
//! | `streams` | TCP: a local connection for each device |
//! | `datagrams` | UDP: a local socket for each peer |
//! | `outbound` | what goes to the dispatcher |
//!
//! A crate of its own, and no part of the dispatcher: it is a driver like any other, on the other side of the contract,
//! and has nothing of the dispatcher but the frames.
//!
//! All devices of a port come through one websocket, and frames cannot hold back one device alone. So what waits for
//! each local connection is limited; a local server that takes less than its device sends keeps the others waiting for a
//! moment and no longer, and then loses that one device. As long as a device is the only one, the websocket is read no
//! faster than the local server reads, and so the device sends no faster.

mod backoff;
mod connect;
mod datagrams;
mod endpoint;
mod line;
mod options;
mod outbound;
mod session;
mod streams;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use connect::ConnectError;
pub use endpoint::{Endpoint, EndpointError};
pub use line::run;
pub use options::{Limits, Target, TargetError, Token, TokenError, TokenSource, TunnelOptions};
pub use sortie_dispatch::Protocol;

/// What a panic left behind is as good as it was before it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
