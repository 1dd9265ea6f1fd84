//! A driver of the dispatcher that turns a dispatched port into local connections. A server that is not reachable, on a
//! laptop or behind NAT, becomes reachable through a public dispatcher.
//!
//! | where | what |
//! |---|---|
//! | [`run`] | a tunnel, from start to end |
//! | [`TunnelOptions`] | what it connects, its token, every limit |
//! | `line` | one websocket after another, with pauses in between |
//! | `connect` | opening a websocket |
//! | `session` | an open websocket |
//! | `streams` | TCP: a local connection for each device |
//! | `datagrams` | UDP: a local socket for each peer |
//! | `outbound` | what goes to the dispatcher |
//!
//! A crate of its own rather than a part of the dispatcher: it is a driver like any other, on the other side of the
//! contract, and uses only the frames.
//!
//! All devices of a port share one websocket, and frames cannot hold back a single device. So what waits for each local
//! connection is limited; a local server that takes less than its device sends keeps the others waiting only for a
//! moment, and then that device is disconnected. While a device is the only one, the websocket is read no faster than
//! the local server reads, and so the device sends no faster.

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

/// Poisoning is ignored: the data stays consistent across a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
