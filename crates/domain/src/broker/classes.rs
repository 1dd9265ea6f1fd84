//! Queued matches without a server on its way, by the fleets that may take them, so that matches whose fleets are full,
//! however many there are, are not checked each time a server is ordered for others.
//!
//! Which fleets may take a match is determined when it is first needed, and again after the fleets were reconfigured.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::waiting::remove_from;
use crate::ids::FleetId;

/// The fleets that may take a match, in the order in which they are tried.
pub(crate) type Class = Arc<[FleetId]>;

/// Matches by their places in the queue.
#[derive(Default)]
pub(crate) struct Classes {
    /// How often the fleets were configured: earlier results are invalid.
    configured: u64,
    known: BTreeMap<u64, (u64, Class)>,
    /// Matches that lack a server.
    lacking: BTreeMap<(u64, Class), BTreeSet<u64>>,
    /// Those of them whose fleets were never determined.
    unknown: BTreeSet<u64>,
}

impl Classes {
    /// The fleets were configured.
    pub(crate) const fn note_configured(&mut self) {
        self.configured += 1;
    }

    /// No server is on its way for the match.
    pub(crate) fn insert(&mut self, place: u64) {
        match self.known.get(&place) {
            Some(known) => drop(self.lacking.entry(known.clone()).or_default().insert(place)),
            None => drop(self.unknown.insert(place)),
        }
    }

    /// A server is on its way for the match.
    pub(crate) fn remove(&mut self, place: u64) {
        self.unknown.remove(&place);
        if let Some(known) = self.known.get(&place) {
            remove_from(&mut self.lacking, known, &place);
        }
    }

    /// The match has left the queue.
    pub(crate) fn forget(&mut self, place: u64) {
        self.remove(place);
        self.known.remove(&place);
    }

    /// Whether no server is on its way for the match.
    pub(crate) fn contains(&self, place: u64) -> bool {
        let lacks = |known| self.lacking.get(known).is_some_and(|places| places.contains(&place));
        self.unknown.contains(&place) || self.known.get(&place).is_some_and(lacks)
    }

    /// Whether a server is on its way for every match.
    pub(crate) fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.lacking.is_empty()
    }

    /// How many groups [`Self::first`] checks.
    pub(crate) fn groups(&self) -> usize {
        1 + self.lacking.len()
    }

    /// The oldest match from `place` on that lacks a server, and whose class is open or unknown.
    pub(crate) fn first(&self, place: u64, is_open: impl Fn(&[FleetId]) -> bool) -> Option<u64> {
        let unknown = self.unknown.range(place..).next();
        let open = self.lacking.iter().filter(|((of, class), _)| *of != self.configured || is_open(class));
        let open = open.filter_map(|(_, places)| places.range(place..).next());
        open.chain(unknown).min().copied()
    }

    /// The class of a match; `None` if it is not known.
    pub(crate) fn of(&self, place: u64) -> Option<Class> {
        let known = self.known.get(&place).filter(|(of, _)| *of == self.configured);
        known.map(|(_, class)| Arc::clone(class))
    }

    /// Records which fleets may take a match that is in the queue.
    pub(crate) fn note(&mut self, place: u64, fleets: Vec<FleetId>) -> Class {
        let lacks = self.contains(place);
        self.forget(place);
        let mut key = (self.configured, Class::from(fleets));
        // Equal classes share their list.
        if let Some((same, _)) = self.lacking.get_key_value(&key) {
            key = same.clone();
        }
        let class = Arc::clone(&key.1);
        self.known.insert(place, key);
        if lacks {
            self.insert(place);
        }
        class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleets(names: &[&str]) -> Vec<FleetId> {
        names.iter().map(|name| FleetId::new(name).unwrap()).collect()
    }

    #[test]
    fn closed_classes_are_passed_by_and_what_is_not_known_is_looked_at() {
        let mut classes = Classes::default();
        (1..=5).for_each(|place| classes.insert(place));
        classes.note(1, fleets(&["a"]));
        classes.note(2, fleets(&[]));
        classes.note(3, fleets(&["a", "b"]));
        let first = |classes: &Classes, from, open: &str| {
            classes.first(from, |class| class.iter().any(|fleet| fleet.as_str() == open))
        };
        assert_eq!([first(&classes, 0, "a"), first(&classes, 0, "b")], [Some(1), Some(3)]);
        assert_eq!([first(&classes, 2, "a"), first(&classes, 4, "a")], [Some(3), Some(4)]);
        assert_eq!(first(&classes, 0, "c"), Some(4), "it has not been checked yet");
        classes.remove(4);
        classes.forget(5);
        assert_eq!(first(&classes, 0, "c"), None);
        classes.insert(4);
        assert_eq!(first(&classes, 0, "c"), Some(4));
        classes.note_configured();
        assert_eq!((first(&classes, 0, "c"), classes.of(1)), (Some(1), None), "all are checked again");
        classes.note(1, fleets(&["b"]));
        assert_eq!((first(&classes, 0, "c"), first(&classes, 0, "b")), (Some(2), Some(1)));
    }
}
