//! The player's door: a player names a game and gets a connect token for a server that runs it.
//!
//! | module | contents |
//! |---|---|
//! | `http` | the routes: one answer (`wannaplay`), or feedback streamed in chunks |
//! | `ws` | the same feedback over a websocket |
//! | `join`, `follow` | what all of them do: reserve a seat; wait for its match, mint a token |
//! | `attempts` | how often a player is given another match |
//! | `rejoin`, `guest` | back into the match that a player is in; how a guest is recognized |
//! | `one_place` | ensures that a player has one place, whether by seat or by ticket |
//! | `queue`, `desk` | the same through a queue of the matchmaker: start a ticket, wait, take the seat in its match; who waits for which ticket |
//! | `vote` | how a player accepts or declines a match |
//! | `feedback`, `progress` | messages to a waiting player |
//! | `games` | the configured games, and which fleet a player is sent to |
//! | `admission`, `address` | the connect token, and the server's address |
//! | `description` | the routes as a part of an OpenAPI document |
//! | `client_ip` | which source of a player's address is trusted |
//!
//! The routes and their JSON are those of bevygap, so that its clients work unchanged. There, a matchmaker talks to the
//! platform and keeps books in NATS; here the broker's seats are the books, and the gateway keeps no state: whenever a
//! player goes away, its seat is released, and a player who asks again gets the same seat. Only a ticket outlives its
//! connection, for a while.

mod address;
mod admission;
mod attempts;
mod client_ip;
mod description;
mod desk;
mod error;
mod feedback;
mod follow;
mod games;
mod guest;
mod http;
mod join;
mod one_place;
mod options;
mod progress;
mod queue;
mod rejoin;
mod seat_guard;
mod stats;
mod vote;
mod ws;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use sortie_domain::broker::Broker;
use sortie_engine::{Handle, Unavailable};
use sortie_serving::{Allowances, Turn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use desk::Desk;
use error::JoinError;
use games::Games;
use guest::GuestKeys;
use seat_guard::HeldSeats;
use stats::Counters;

pub use address::NameService;
pub use description::description;
pub use http::router;
pub use options::{
    BadOptions, FIRST_MESSAGE_DEADLINE, GameFleet, GatewayOptions, MAX_BODY_BYTES, MAX_NAME_CHARS, MAX_WAITS,
    PROGRESS_INTERVAL, RECONNECT_GRACE, SpeaksForPlayers, TOKEN_TIMEOUT, WAIT_DEADLINE,
};
pub use stats::{GatewayStats, LATENCY_BOUNDS, Latencies};

/// The player's door. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) broker: Handle<Broker>,
    pub(crate) options: GatewayOptions,
    pub(crate) games: Games,
    /// `None` without a matchmaker.
    pub(crate) desk: Option<Desk>,
    pub(crate) counters: Counters,
    pub(crate) guests: GuestKeys,
    pub(crate) held: Arc<HeldSeats>,
    waits: Arc<Semaphore>,
    addresses: Allowances,
    sockets: TaskTracker,
}

/// A permit to be one of the waiting players.
pub(crate) struct WaitPermit {
    _of_all: OwnedSemaphorePermit,
    _of_address: Option<Turn>,
}

impl Gateway {
    /// A gateway to the fleets of `broker`. With a matchmaker, must be called inside a tokio runtime, which then runs a
    /// task that follows its log.
    ///
    /// # Errors
    /// [`BadOptions`] if the options contradict themselves.
    pub fn new(broker: Handle<Broker>, options: GatewayOptions) -> Result<Self, BadOptions> {
        options.check()?;
        let games = Games::new(&options)?;
        let matchmaker = options.matchmaker.clone();
        let desk = matchmaker.map(|maker| Desk::new(maker, options.reconnect_grace, options.max_waits));
        let waits = Arc::new(Semaphore::new(options.max_waits));
        let addresses = Allowances::new(options.per_address);
        let (counters, sockets) = (Counters::default(), TaskTracker::new());
        let (guests, held) = (GuestKeys::new(&options.private_key), Arc::default());
        let inner = Inner { broker, options, games, desk, counters, guests, held, waits, addresses, sockets };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Waits until the last websocket is closed. The HTTP server does not: it considers upgraded connections finished.
    pub async fn closed(&self) {
        self.inner.sockets.close();
        self.inner.sockets.wait().await;
    }

    /// Statistics for the operator.
    #[must_use]
    pub fn stats(&self) -> GatewayStats {
        let waiting = self.inner.options.max_waits - self.inner.waits.available_permits();
        self.inner.counters.read(waiting)
    }
}

impl Inner {
    /// Admits one more waiting player, counted under `address` if limits apply to it, or fails if there are too many.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<WaitPermit, JoinError> {
        if self.options.closing.is_cancelled() {
            return Err(self.count(Unavailable::ShuttingDown.into()));
        }
        let turn = address.map(|address| self.addresses.enter(address, Instant::now())).transpose();
        let of_address = turn.map_err(|too_many| self.count(too_many.into()))?.flatten();
        let permit = Arc::clone(&self.waits).try_acquire_owned();
        let of_all = permit.map_err(|_| self.count(JoinError::TooManyWaiting))?;
        Ok(WaitPermit { _of_all: of_all, _of_address: of_address })
    }

    /// Admits a call from `address`, unless it exceeds the rate limit.
    pub(crate) fn pass(&self, address: Option<IpAddr>) -> Result<(), JoinError> {
        if self.options.closing.is_cancelled() {
            return Err(self.count(Unavailable::ShuttingDown.into()));
        }
        let passed = address.map(|address| self.addresses.pass(address, Instant::now()));
        passed.transpose().map(|_| ()).map_err(|too_many| self.count(too_many.into()))
    }

    /// Counts a failure that happens before a join has begun.
    pub(crate) fn count(&self, error: JoinError) -> JoinError {
        self.counters.failed(error.label());
        error
    }
}
