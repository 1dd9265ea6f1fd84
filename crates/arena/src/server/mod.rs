//! The game server: what any game server has to do on this platform, in order.
//!
//! 1. Request a match, willing to wait and to be told to exit.
//! 2. Report that it is ready, and where.
//! 3. Admit players with a valid token whose seat the platform accepts; play; release the seats of players who leave.
//! 4. Report that the match is over, and request the next one.
//!
//! One task does all of it and never waits for the platform in the middle of a game: `host` reacts to datagrams, ticks
//! and outcomes of calls, `door` is the network, `room` one match, `calls` the platform.

mod calls;
mod door;
mod host;
mod options;
mod room;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use crate::api_client::ApiError;

pub use options::{MAX_MATCHES, NetcodeKey, OptionsError, ServeOptions};

/// Why a game server could not run, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options are invalid.
    #[error("{0}")]
    Options(String),
    /// The platform's address is unusable.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The UDP port is not available.
    #[error("cannot listen on UDP {address}: {source}; give an address of this machine and a free port")]
    Bind {
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The public address is unusable.
    #[error("cannot use the public address {address:?}: {reason}; give host:port")]
    PublicAddress {
        /// The address given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The socket failed.
    #[error("the UDP socket failed: {0}")]
    Socket(io::Error),
    /// The platform keeps refusing this server.
    #[error("the platform keeps refusing this server: {0}; check its address, the server id and the API key")]
    Unwanted(ApiError),
}

/// Why a game server stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The platform hinted that it should exit.
    Hinted,
    /// It was asked to stop.
    Asked,
}

/// Totals of a game server's run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServeSummary {
    /// Why it stopped.
    pub reason: StopReason,
    /// Matches played.
    pub matches: u64,
    /// Players admitted.
    pub admitted: u64,
    /// Clients with a valid token who were not admitted.
    pub turned_away: u64,
}

/// Runs a game server until the platform or `shutdown` tells it to stop.
///
/// After `shutdown`, players are notified, running matches are ended with the hint that this server exits, and the
/// function returns within about two seconds, whether the platform has answered or not.
///
/// # Errors
/// [`ServeError`]; a platform that is temporarily away is not an error.
pub async fn serve(
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<ServeSummary, ServeError> {
    host::Host::open(options).await?.run(shutdown).await
}
