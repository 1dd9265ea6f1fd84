//! Waiting calls: of servers for a match, and of callers for news of one. A restart forgets them, since the connections
//! are gone too.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;

use super::askers::{Askers, First};
use super::collecting::Collecting;
use super::command::Hints;
use super::fleets::Filter;
use crate::ids::{FleetId, MatchId, ServerId};
use crate::machine::CallId;
use crate::requirements::{Document, Requirement, Requirements};
use crate::time::Timestamp;

/// Maximum number of searches that take turns; further ones begin when one of these is finished.
const SEARCHING_AT_ONCE: usize = 64;

/// A server that waits for a match, or for the end of the search for one.
#[derive(Clone, Debug)]
pub(crate) struct Waiter {
    pub(crate) call: CallId,
    pub(crate) server: ServerId,
    pub(crate) fleet: Option<FleetId>,
    pub(crate) filter: Filter,
    pub(crate) deadline: Timestamp,
    /// The hints of its call.
    pub(crate) hints: Hints,
    /// Whether it waits for new matches after the search through the queue.
    pub(crate) stays: bool,
    /// What it has collected so far, if it takes several matches at once.
    pub(crate) collecting: Collecting,
}

/// What a waiting server waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waiting {
    /// For a new match.
    Offered,
    /// For the end of the search through the queue.
    Searching,
    /// For the end of the matches that it has. It is offered none.
    Parked,
}

/// The requirements, and the fleet of the servers.
pub(crate) type Group = (Arc<str>, Option<FleetId>);

/// Waiting servers, in order of arrival.
#[derive(Default)]
pub(crate) struct Waiters {
    count: u64,
    by_place: BTreeMap<u64, Waiter>,
    by_call: BTreeMap<CallId, u64>,
    by_deadline: BTreeSet<(Timestamp, u64)>,
    by_server: BTreeMap<ServerId, BTreeSet<u64>>,
    askers: Askers<u64>,
    /// Servers for which the queue has not been searched yet. New matches are not offered to them: an older one may
    /// fit.
    searching: BTreeSet<u64>,
    /// The same by requirements: of the servers with the same ones, the longest-waiting finds first.
    searching_groups: BTreeMap<Group, BTreeSet<u64>>,
    /// Those of them that take turns, and possibly some whose search is over.
    turns: VecDeque<u64>,
    /// Those of them whose turns have not begun.
    later: BTreeSet<u64>,
    /// All waiting servers by group, for explanations.
    groups: BTreeMap<Group, BTreeSet<u64>>,
    /// The range of places (inclusive) of servers that asked before the fleets were reconfigured, and wait with their
    /// fleets' old terms.
    outdated: Option<(u64, u64)>,
}

impl Waiters {
    pub(crate) fn insert(&mut self, waiter: Waiter, waiting: Waiting) {
        self.count += 1;
        let place = self.count;
        self.by_call.insert(waiter.call, place);
        self.by_deadline.insert((waiter.deadline, place));
        self.by_server.entry(waiter.server.clone()).or_default().insert(place);
        self.groups.entry(group(&waiter)).or_default().insert(place);
        if waiting == Waiting::Offered {
            self.askers.insert(&waiter.filter, waiter.fleet.as_ref(), &place);
        }
        let group = group(&waiter);
        self.by_place.insert(place, waiter);
        if waiting == Waiting::Searching {
            self.begin_search(group, place);
        }
    }

    /// The longest-waiting server after `after` that the match fits; `fits` evaluates expressions if needed.
    pub(crate) fn first_fitting(
        &self,
        requirements: &Requirements,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        after: Option<&u64>,
        fits: impl FnMut(&Requirement) -> bool,
    ) -> First<u64> {
        self.askers.first(requirements, document, fleet, after, fits)
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Waiter> {
        self.by_place.get(&place)
    }

    /// Called when the fleets were configured: waiting servers are checked again.
    pub(crate) fn note_new_terms(&mut self) {
        self.outdated = (!self.by_place.is_empty()).then_some((0, self.count));
    }

    pub(crate) const fn may_be_outdated(&self) -> bool {
        self.outdated.is_some()
    }

    /// The next server that may wait with its fleet's old terms.
    pub(crate) fn next_outdated(&mut self) -> Option<u64> {
        let (from, to) = self.outdated?;
        let next = self.by_place.range(from..).next().map(|(place, _)| *place).filter(|place| *place <= to);
        self.outdated = next.map(|place| (place + 1, to));
        next
    }

    /// Starts a search through the queue for a waiting server.
    pub(crate) fn search_again(&mut self, place: u64) {
        if let Some(waiter) = self.by_place.get(&place)
            && !self.searching.contains(&place)
        {
            self.askers.remove(&waiter.filter, waiter.fleet.as_ref(), &place);
            self.begin_search(group(waiter), place);
        }
    }

    fn begin_search(&mut self, group: Group, place: u64) {
        self.searching.insert(place);
        self.later.insert(place);
        self.searching_groups.entry(group).or_default().insert(place);
    }

    /// Whether the queue is being searched for a server of the group.
    pub(crate) fn is_group_searching(&self, group: &Group) -> bool {
        self.searching_groups.contains_key(group)
    }

    /// Whether the queue is being searched for that server.
    pub(crate) fn is_searching(&self, place: u64) -> bool {
        self.searching.contains(&place)
    }

    pub(crate) fn is_any_searching(&self) -> bool {
        !self.searching.is_empty()
    }

    /// The next server for which to search the queue; the others have their turn before its next one.
    pub(crate) fn next_searching(&mut self) -> Option<u64> {
        loop {
            while self.turns.len() < SEARCHING_AT_ONCE
                && let Some(next) = self.later.pop_first()
            {
                self.turns.push_back(next);
            }
            let place = self.turns.pop_front()?;
            if let Some(waiter) = self.by_place.get(&place).filter(|_| self.searching.contains(&place)) {
                self.turns.push_back(place);
                let same = self.searching_groups.get(&group(waiter));
                return same.and_then(BTreeSet::first).copied();
            }
        }
    }

    /// The queue has been searched for that server, and nothing fits: from now on, new matches are offered to it.
    pub(crate) fn end_search(&mut self, place: u64) {
        let Some(group) = self.by_place.get(&place).map(group) else { return };
        if self.forget_search(&group, place)
            && let Some(waiter) = self.by_place.get(&place)
        {
            self.askers.insert(&waiter.filter, waiter.fleet.as_ref(), &place);
        }
    }

    fn forget_search(&mut self, group: &Group, place: u64) -> bool {
        self.later.remove(&place);
        remove_from(&mut self.searching_groups, group, &place);
        self.searching.remove(&place)
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

    /// The servers with the same requirements and fleet, longest-waiting first, group by group.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&Group, usize, impl Iterator<Item = &ServerId>)> {
        self.groups.iter().map(|(group, places)| {
            let servers = places.iter().filter_map(|place| self.by_place.get(place));
            (group, places.len(), servers.map(|waiter| &waiter.server))
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    pub(crate) fn take(&mut self, place: u64) -> Option<Waiter> {
        let waiter = self.by_place.remove(&place)?;
        self.by_call.remove(&waiter.call);
        self.by_deadline.remove(&(waiter.deadline, place));
        remove_from(&mut self.by_server, &waiter.server, &place);
        remove_from(&mut self.groups, &group(&waiter), &place);
        if !self.forget_search(&group(&waiter), place) {
            self.askers.remove(&waiter.filter, waiter.fleet.as_ref(), &place);
        }
        Some(waiter)
    }
}

fn group(waiter: &Waiter) -> Group {
    (Arc::clone(waiter.filter.asked.text()), waiter.fleet.clone())
}

/// Removes `value` from the set under `key`, and the set if it is empty.
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

    /// Removes one call that waits for news of the match.
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
