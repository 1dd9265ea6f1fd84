//! Free servers: those that have no match and that no queued match counts on. When one of them asks next, it could
//! take a new match, so that none has to be ordered.
//!
//! What a server asked for last and what is expected of it is forgotten at a restart, while who is idle is not; so
//! these are kept beside the state, follow it event by event, and are gathered anew after a restart.

use alloc::collections::BTreeMap;

use super::askers::{Askers, First};
use super::fleets::Filter;
use crate::ids::{FleetId, MatchId, ServerId};
use crate::requirements::{Document, Requirement, Requirements};

/// Which server is expected to take which queued match.
#[derive(Default)]
pub(crate) struct Expected {
    by_server: BTreeMap<ServerId, MatchId>,
    by_match: BTreeMap<MatchId, ServerId>,
}

impl Expected {
    pub(crate) fn insert(&mut self, server: ServerId, id: MatchId) {
        self.remove(&server);
        if let Some(other) = self.by_match.insert(id.clone(), server.clone()) {
            self.by_server.remove(&other);
        }
        self.by_server.insert(server, id);
    }

    pub(crate) fn remove(&mut self, server: &ServerId) {
        if let Some(id) = self.by_server.remove(server) {
            self.by_match.remove(&id);
        }
    }

    pub(crate) fn of(&self, server: &ServerId) -> Option<&MatchId> {
        self.by_server.get(server)
    }

    pub(crate) fn server_for(&self, id: &MatchId) -> Option<&ServerId> {
        self.by_match.get(id)
    }
}

/// Servers that come first: those of no fleet, then by fleet, then by id.
pub(crate) type Rank = (Option<FleetId>, ServerId);

/// Free servers by what they take. One that was not heard since a restart is taken to ask for anything.
#[derive(Default)]
pub(crate) struct FreeServers {
    askers: Askers<Rank>,
    known: BTreeMap<ServerId, (Option<FleetId>, Filter)>,
}

impl FreeServers {
    /// The server is free.
    pub(crate) fn insert(&mut self, id: &ServerId, fleet: Option<&FleetId>, filter: Filter) {
        if self.known.get(id).is_some_and(|(of, known)| of.as_ref() == fleet && known.is_same(&filter)) {
            return;
        }
        self.remove(id);
        self.askers.insert(&filter, fleet, &(fleet.cloned(), id.clone()));
        self.known.insert(id.clone(), (fleet.cloned(), filter));
    }

    /// The server is not free.
    pub(crate) fn remove(&mut self, id: &ServerId) {
        if let Some((fleet, filter)) = self.known.remove(id) {
            self.askers.remove(&filter, fleet.as_ref(), &(fleet.clone(), id.clone()));
        }
    }

    /// The first free server behind `after` that the match fits, of `fleet` where there is one; `fits` evaluates what
    /// has to be evaluated.
    pub(crate) fn first(
        &self,
        requirements: &Requirements,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        after: Option<&Rank>,
        fits: impl FnMut(&Requirement) -> bool,
    ) -> First<Rank> {
        self.askers.first(requirements, document, fleet, after, fits)
    }
}
