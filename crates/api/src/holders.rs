//! Which game servers a key speaks for, and which key spoke for which of them.
//!
//! A server that was started here sends a key that names it. Any other key with the permission of game servers was made
//! by hand: for fleets, or for servers that register themselves. About the latter only their own claims are known, so
//! the first key that registers an id owns it: as long as the server lives no other key speaks for it. Only this
//! process remembers that; after a restart the first key that speaks for such a server owns it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sortie_domain::broker::MAX_SERVERS;
use sortie_domain::ids::{FleetId, ServerId};

/// Maximum number of servers for which the owning key is remembered.
pub(crate) const MAX_REMEMBERED: usize = 2 * MAX_SERVERS;
/// How long after its last call a server unknown to the broker keeps its id from other keys: longer than any call
/// takes.
const STALE_AFTER: Duration = Duration::from_secs(120);

/// Which game servers the holder of a key with the permission of game servers speaks for. Administrators speak for all.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum ServersOfKey {
    /// Servers that registered themselves and that no other key speaks for.
    #[default]
    SelfRegistered,
    /// The same, and servers that were started here and have not sent a key of their own: those started by an older
    /// version.
    Inherited,
    /// Servers that were started for these fleets.
    OfFleets(Vec<FleetId>),
}

impl ServersOfKey {
    /// The servers of a key that names these fleets.
    #[must_use]
    pub fn of(fleets: Vec<FleetId>) -> Self {
        if fleets.is_empty() { Self::SelfRegistered } else { Self::OfFleets(fleets) }
    }
}

/// Which game servers a caller speaks for.
#[derive(Clone, Debug)]
pub(crate) enum SpeaksFor {
    None,
    /// All of them: administrators, and every caller in development mode.
    All,
    /// The server that the key names.
    Itself(ServerId),
    /// Servers of these fleets.
    Fleets(Arc<ServersOfKey>),
    /// Servers that no other key speaks for; with `inherited` also servers that were started here.
    Registered {
        key: Holder,
        inherited: bool,
    },
}

/// Who speaks for a server: the hash of a key, or the server by a key of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holder {
    Key([u8; 32]),
    Itself,
}

impl SpeaksFor {
    pub(crate) const fn registers_itself(&self) -> bool {
        matches!(self, Self::Registered { .. })
    }

    pub(crate) fn of_key(sha256: [u8; 32], servers: Arc<ServersOfKey>) -> Self {
        let key = Holder::Key(sha256);
        match &*servers {
            ServersOfKey::SelfRegistered => Self::Registered { key, inherited: false },
            ServersOfKey::Inherited => Self::Registered { key, inherited: true },
            ServersOfKey::OfFleets(_) => Self::Fleets(servers),
        }
    }
}

/// Who speaks for which server, as far as this process knows.
#[derive(Default)]
pub(crate) struct Holders(Mutex<HashMap<ServerId, (Holder, Instant)>>);

impl Holders {
    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, (Holder, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records who speaks for a server, if nobody else does; returns whether `holder` does. `is_known`: the server is
    /// live at the broker.
    pub(crate) fn take(&self, server: &ServerId, holder: Holder, is_known: bool) -> bool {
        let mut held = self.lock();
        let now = Instant::now();
        match held.get(server) {
            // A server's own key always wins.
            Some((other, seen))
                if *other != holder
                    && holder != Holder::Itself
                    && (is_known || now.duration_since(*seen) < STALE_AFTER) =>
            {
                false
            }
            _ => {
                held.insert(server.clone(), (holder, now));
                true
            }
        }
    }

    /// Whether `holder` spoke for a server so lately that it cannot have been forgotten since.
    pub(crate) fn has_lately(&self, server: &ServerId, holder: Holder) -> bool {
        self.lock().get(server).is_some_and(|(known, seen)| *known == holder && seen.elapsed() < STALE_AFTER)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.lock().len() >= MAX_REMEMBERED
    }

    /// Servers whose last call was long ago.
    pub(crate) fn overdue(&self) -> Vec<ServerId> {
        let held = self.lock();
        let old = held.iter().filter(|(_, (_, seen))| seen.elapsed() >= STALE_AFTER);
        old.map(|(id, _)| id.clone()).collect()
    }

    pub(crate) fn forget(&self, servers: &[ServerId]) {
        let mut held = self.lock();
        for server in servers {
            held.remove(server);
        }
    }
}
