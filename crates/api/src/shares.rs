//! Limits of what one caller may have open at a time, so that no caller exhausts the global limits.
//!
//! Streams count for their player and for the key that opened them, so that neither a player with many connections nor
//! a key that names many players gets more than its share. Waiting calls count for their key, calls without a key for
//! their address.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::ConnectInfo;
use axum::http::Extensions;
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_serving::{Share, Shares, network};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::Caller;
use crate::error::ApiError;
use crate::options::Limits;

/// A key, by its SHA-256.
type Key = [u8; 32];

/// Maximum number of calls of one key that wait for the seats of one match: its server needs one, and each is answered
/// with all seats.
const WAITS_FOR_SEATS: usize = 16;

/// The counts.
pub(crate) struct CallerShares {
    limits: Limits,
    streams_of_players: Shares<PlayerId>,
    streams_of_keys: Shares<Key>,
    waits: Arc<Semaphore>,
    waits_of_keys: Shares<Key>,
    waits_for_seats: Shares<(Option<Key>, MatchId)>,
    watches: Arc<Semaphore>,
    watches_of_addresses: Shares<IpAddr>,
}

/// One of a caller's streams; ends when it is dropped.
pub(crate) struct OpenStream {
    _player: Option<Share<PlayerId>>,
    _key: Option<Share<Key>>,
}

/// One of a caller's waiting calls; ends when it is dropped.
pub(crate) struct Wait {
    _of_all: OwnedSemaphorePermit,
    _key: Option<Share<Key>>,
    _seats: Option<Share<(Option<Key>, MatchId)>>,
}

/// One of the calls in which game servers wait for matches; ends when it is dropped.
pub(crate) struct WaitForMatch {
    _key: Option<Share<Key>>,
}

/// One of the watches of callers without credentials; ends when it is dropped.
pub(crate) struct Watch {
    _of_all: OwnedSemaphorePermit,
    _address: Option<Share<IpAddr>>,
}

impl CallerShares {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            streams_of_players: Shares::new(Some(limits.streams_per_player)),
            streams_of_keys: Shares::new(Some(limits.streams_per_key)),
            waits: Arc::new(Semaphore::new(limits.waits)),
            waits_of_keys: Shares::new(Some(limits.waits_per_key)),
            waits_for_seats: Shares::new(Some(WAITS_FOR_SEATS)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            watches_of_addresses: Shares::new(Some(limits.watches_per_address)),
            limits: limits.clone(),
        }
    }

    /// Counts a new stream.
    ///
    /// # Errors
    /// `too_many`
    pub(crate) fn stream(&self, caller: &Caller) -> Result<OpenStream, ApiError> {
        let player = share(&self.streams_of_players, caller.player_named().cloned(), || {
            ApiError::too_many("streams of events of one player", self.limits.streams_per_player)
        })?;
        let key = share(&self.streams_of_keys, caller.key(), || {
            ApiError::too_many("streams of events of one key", self.limits.streams_per_key)
        })?;
        Ok(OpenStream { _player: player, _key: key })
    }

    /// Counts a call that starts to wait.
    ///
    /// # Errors
    /// `too_many`
    pub(crate) fn wait(&self, caller: &Caller) -> Result<Wait, ApiError> {
        let key = self.wait_of_key(caller)?;
        let of_all = Arc::clone(&self.waits).try_acquire_owned();
        let of_all = of_all.map_err(|_| ApiError::too_many("waiting calls", self.limits.waits))?;
        Ok(Wait { _of_all: of_all, _key: key, _seats: None })
    }

    /// Counts a game server's call that starts to wait for a match, only for its key: the number of servers has its own
    /// limit.
    ///
    /// # Errors
    /// `too_many`
    pub(crate) fn wait_for_match(&self, caller: &Caller) -> Result<WaitForMatch, ApiError> {
        let key = self.wait_of_key(caller)?;
        Ok(WaitForMatch { _key: key })
    }

    fn wait_of_key(&self, caller: &Caller) -> Result<Option<Share<Key>>, ApiError> {
        share(&self.waits_of_keys, caller.key(), || {
            ApiError::too_many("waiting calls of one key", self.limits.waits_per_key)
        })
    }

    /// Counts a call that starts to wait for the seats of a match.
    ///
    /// # Errors
    /// `too_many`
    pub(crate) fn wait_for_seats(&self, caller: &Caller, id: &MatchId) -> Result<Wait, ApiError> {
        let seats = share(&self.waits_for_seats, Some((caller.key(), id.clone())), || {
            ApiError::too_many("calls of one key that wait for the seats of one match", WAITS_FOR_SEATS)
        })?;
        Ok(Wait { _seats: seats, ..self.wait(caller)? })
    }

    /// Counts a new watch of a caller without credentials.
    ///
    /// # Errors
    /// `too_many`
    pub(crate) fn watch(&self, of: &Extensions) -> Result<Watch, ApiError> {
        let address = of.get::<ConnectInfo<SocketAddr>>().map(|info| network(info.0.ip()));
        let address = share(&self.watches_of_addresses, address, || {
            let what = "watches of health and conversations about reflection from one address";
            ApiError::too_many(what, self.limits.watches_per_address)
        })?;
        let of_all = Arc::clone(&self.watches).try_acquire_owned();
        let of_all = of_all.map_err(|_| {
            ApiError::too_many("watches of health and conversations about reflection", self.limits.watches)
        })?;
        Ok(Watch { _of_all: of_all, _address: address })
    }
}

/// A share for `of`; `None` for a caller that is not counted.
fn share<K: Ord + Clone>(
    shares: &Shares<K>,
    of: Option<K>,
    too_many: impl FnOnce() -> ApiError,
) -> Result<Option<Share<K>>, ApiError> {
    of.map_or(Ok(None), |of| shares.enter(of).ok_or_else(too_many))
}
