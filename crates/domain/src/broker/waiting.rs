//! Calls that wait: servers for a match, and whoever waits for news of one. All of it is forgotten at a restart,
//! when the connections are gone too.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::askers::Askers;
use super::requirements::{Document, Requirement};
use crate::ids::{FleetId, MatchId, ServerId};
use crate::machine::CallId;
use crate::time::Timestamp;

/// A server that waits for a match.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) call: CallId,
    pub(crate) server: ServerId,
    pub(crate) fleet: Option<FleetId>,
    pub(crate) requirement: Arc<Requirement>,
    pub(crate) deadline: Timestamp,
    pub(crate) willing_to_shutdown: bool,
}

/// What is asked, and the fleet of those who ask.
pub(crate) type Group = (Arc<str>, Option<FleetId>);

/// Servers that wait, in the order in which they came.
#[derive(Default)]
pub(crate) struct Waiters {
    count: u64,
    by_place: BTreeMap<u64, Waiter>,
    by_call: BTreeMap<CallId, u64>,
    by_deadline: BTreeSet<(Timestamp, u64)>,
    by_server: BTreeMap<ServerId, BTreeSet<u64>>,
    askers: Askers<u64>,
    /// For those who want to know who waits for what.
    groups: BTreeMap<Group, BTreeSet<u64>>,
}

impl Waiters {
    pub(crate) fn insert(&mut self, waiter: Waiter) {
        self.count += 1;
        let place = self.count;
        self.by_call.insert(waiter.call, place);
        self.by_deadline.insert((waiter.deadline, place));
        self.by_server.entry(waiter.server.clone()).or_default().insert(place);
        self.askers.insert(&waiter.requirement, waiter.fleet.as_ref(), place);
        self.groups.entry(group(&waiter)).or_default().insert(place);
        self.by_place.insert(place, waiter);
    }

    /// The longest-waiting server that the match fits; `fits` evaluates what has to be evaluated.
    pub(crate) fn take_fitting(
        &mut self,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        fits: impl FnMut(&Requirement) -> bool,
    ) -> Option<Waiter> {
        let place = self.askers.first(document, fleet, fits)?;
        self.take(place)
    }

    /// Whether a server waits that the match fits.
    pub(crate) fn any_fitting(
        &self,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        fits: impl FnMut(&Requirement) -> bool,
    ) -> bool {
        self.askers.first(document, fleet, fits).is_some()
    }

    pub(crate) fn take_call(&mut self, call: CallId) -> Option<Waiter> {
        let place = *self.by_call.get(&call)?;
        self.take(place)
    }

    /// The waiter whose deadline is the earliest, if it is due.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<Waiter> {
        let (_, place) = *self.by_deadline.first().filter(|(deadline, _)| *deadline <= now)?;
        self.take(place)
    }

    pub(crate) fn take_server(&mut self, server: &ServerId) -> Option<Waiter> {
        let place = *self.by_server.get(server)?.first()?;
        self.take(place)
    }

    pub(crate) fn of_server(&self, server: &ServerId) -> usize {
        self.by_server.get(server).map_or(0, BTreeSet::len)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_place.len()
    }

    /// The servers that ask the same and are of one fleet, longest-waiting first, group by group.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Group, usize, impl Iterator<Item = &ServerId>)> {
        self.groups.iter().map(|(group, places)| {
            let servers = places.iter().filter_map(|place| self.by_place.get(place));
            (group, places.len(), servers.map(|waiter| &waiter.server))
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    fn take(&mut self, place: u64) -> Option<Waiter> {
        let waiter = self.by_place.remove(&place)?;
        self.by_call.remove(&waiter.call);
        self.by_deadline.remove(&(waiter.deadline, place));
        remove_from(&mut self.by_server, &waiter.server, &place);
        remove_from(&mut self.groups, &group(&waiter), &place);
        self.askers.remove(&waiter.requirement, waiter.fleet.as_ref(), &place);
        Some(waiter)
    }
}

fn group(waiter: &Waiter) -> Group {
    (Arc::clone(waiter.requirement.text()), waiter.fleet.clone())
}

/// Removes `value` from the set under `key`, and the set when it is empty.
pub(crate) fn remove_from<K: Ord, V: Ord>(sets: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = sets.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            sets.remove(key);
        }
    }
}

/// Calls that wait for news of a match.
#[derive(Default)]
pub(crate) struct Watchers {
    by_match: BTreeMap<MatchId, BTreeSet<CallId>>,
    by_call: BTreeMap<CallId, MatchId>,
}

impl Watchers {
    pub(crate) fn insert(&mut self, id: MatchId, call: CallId) {
        self.by_match.entry(id.clone()).or_default().insert(call);
        self.by_call.insert(call, id);
    }

    pub(crate) fn watch(&self, id: &MatchId) -> bool {
        self.by_match.contains_key(id)
    }

    /// One call that waits for news of the match.
    pub(crate) fn take_of(&mut self, id: &MatchId) -> Option<CallId> {
        let call = *self.by_match.get(id)?.first()?;
        self.take_call(call);
        Some(call)
    }

    pub(crate) fn take_call(&mut self, call: CallId) {
        if let Some(id) = self.by_call.remove(&call) {
            remove_from(&mut self.by_match, &id, &call);
        }
    }

    pub(crate) fn of_match(&self, id: &MatchId) -> usize {
        self.by_match.get(id).map_or(0, BTreeSet::len)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_call.len()
    }
}
