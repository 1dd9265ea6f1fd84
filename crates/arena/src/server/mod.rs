//! The game server: what any game server has to do on this platform, in the order it has to do it.
//!
//! 1. Ask for a match, willing to wait and to be told to exit.
//! 2. Say that it is ready, and where.
//! 3. Let in whoever comes with a good token and whose seat the platform admits; play; release the seats of those
//!    who leave.
//! 4. Say that the match is over, and ask for the next one.
//!
//! One task does all of it and never waits for the platform in the middle of a game: `host` reacts to datagrams,
//! ticks and outcomes of calls, `door` is the network, `room` one match, `calls` the platform.

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

/// Why a game server could not run, or not any longer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options contradict what is possible.
    #[error("{0}")]
    Options(String),
    /// The platform's address is of no use.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The UDP port cannot be had.
    #[error("cannot listen on UDP {address}: {source}; give an address of this machine and a free port")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The public address is of no use.
    #[error("cannot use the public address {address:?}: {reason}; give host:port")]
    PublicAddress {
        /// The address given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The socket broke.
    #[error("the UDP socket broke: {0}")]
    Socket(io::Error),
    /// The platform wants nothing to do with this server.
    #[error("the platform keeps refusing this server: {0}; check its address, the server id and the API key")]
    Unwanted(ApiError),
}

/// Why a game server came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopReason {
    /// The platform hinted that it should exit.
    Hinted,
    /// Whoever started it asked it to stop.
    Asked,
}

/// What a game server did in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServeSummary {
    /// Why it came to its end.
    pub reason: StopReason,
    /// Matches taken.
    pub matches: u64,
    /// Players let in.
    pub admitted: u64,
    /// Clients with a good token who were not let in.
    pub turned_away: u64,
}

/// Runs a game server until the platform or `shutdown` says stop.
///
/// After `shutdown` the players are told, running matches are ended with the hint that this server exits, and the
/// function returns within about two seconds, whether the platform has answered or not.
///
/// # Errors
/// [`ServeError`]; a platform that is away for a while is none.
pub async fn serve(
    options: ServeOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<ServeSummary, ServeError> {
    host::Host::open(options).await?.run(shutdown).await
}
