//! Free servers: those without a match that no queued match counts on. Such a server could take a new match at its next
//! call, so that none has to be ordered.
//!
//! A server's last requirements and what is expected of it are forgotten at a restart, unlike its being idle; so free
//! servers are not part of the state: they follow it event by event, and are gathered again after a restart.

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

/// The order of servers: those without a fleet first, then by fleet, then by id.
pub(crate) type Rank = (Option<FleetId>, ServerId);

/// Free servers by the matches they take. A server that has not called since a restart is assumed to take any match.
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

    /// The first free server after `after` that the match fits, of `fleet` if there is one; `fits` evaluates
    /// expressions if needed.
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
