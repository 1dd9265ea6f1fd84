//! Available servers without a match, by age: old ones are replaced before they become too old for another match.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use super::model::Server;
use super::waiting::remove_from;
use crate::ids::ServerId;
use crate::ranks::Ranks;
use crate::time::Timestamp;

/// Idle servers of one fleet, oldest first.
#[derive(Default)]
pub(crate) struct Idle {
    by_birth: BTreeMap<Timestamp, BTreeSet<ServerId>>,
    /// The same times, so that older ones can be counted without iterating.
    births: Ranks,
    count: usize,
}

impl Idle {
    /// Adds a server that is not in the set.
    pub(crate) fn insert(&mut self, server: &Server) {
        self.by_birth.entry(server.born_at).or_default().insert(server.id.clone());
        self.births.insert(server.born_at.as_millis());
        self.count += 1;
    }

    /// Removes a server that is in the set.
    pub(crate) fn remove(&mut self, server: &Server) {
        if self.contains(server) {
            remove_from(&mut self.by_birth, &server.born_at, &server.id);
            self.births.remove(server.born_at.as_millis());
            self.count -= 1;
        }
    }

    pub(crate) fn contains(&self, server: &Server) -> bool {
        self.by_birth.get(&server.born_at).is_some_and(|born| born.contains(&server.id))
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ServerId> {
        self.by_birth.values().flatten()
    }

    /// The birth time of the oldest, and its id.
    pub(crate) fn oldest(&self) -> Option<(Timestamp, &ServerId)> {
        let (born, servers) = self.by_birth.first_key_value()?;
        Some((*born, servers.first()?))
    }

    /// How many were born at `time` or before.
    pub(crate) fn born_until(&self, time: Timestamp) -> usize {
        if self.oldest().is_none_or(|(born, _)| born > time) {
            return 0;
        }
        self.births.before(time.as_millis().saturating_add(1))
    }

    /// How many were born before `time`.
    pub(crate) fn born_before(&self, time: Timestamp) -> usize {
        self.births.before(time.as_millis())
    }

    /// The earliest birth time after `time`.
    pub(crate) fn first_born_after(&self, time: Timestamp) -> Option<Timestamp> {
        self.by_birth.range((Bound::Excluded(time), Bound::Unbounded)).next().map(|(born, _)| *born)
    }
}
