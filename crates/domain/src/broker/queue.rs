//! The queue of matches that wait for a server, and the answer to "which is the oldest that fits?".
//!
//! Each expression that servers ask with remembers which queued matches fit it, so that a match is evaluated at
//! most once for an expression, however many servers ask how often. What is remembered may be dropped at any time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::requirements::{Document, Requirement, Requirements};
use crate::ids::{FleetId, MatchId};
use crate::time::Timestamp;

/// Expressions whose verdicts are remembered.
const MAX_REMEMBERED: usize = 2_000;

/// A queued match.
pub(crate) struct Entry {
    pub(crate) id: MatchId,
    pub(crate) queued_at: Timestamp,
    /// The one fleet whose servers may take it.
    pub(crate) fleet: Option<FleetId>,
    pub(crate) document: Document,
}

/// Which queued matches fit one expression. Matches that left the queue are weeded out when met.
#[derive(Default)]
struct Verdicts {
    fitting: BTreeMap<Option<FleetId>, BTreeSet<u64>>,
    /// Places up to this one have been evaluated, but for those in `returned`.
    seen: u64,
    /// Matches that came back to an old place.
    returned: Vec<u64>,
    used: u64,
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: BTreeMap<u64, Entry>,
    verdicts: BTreeMap<Arc<str>, Verdicts>,
    uses: u64,
}

impl Queue {
    pub(crate) fn insert(&mut self, place: u64, entry: Entry) {
        for verdicts in self.verdicts.values_mut().filter(|verdicts| verdicts.seen >= place) {
            verdicts.returned.push(place);
        }
        self.entries.insert(place, entry);
    }

    pub(crate) fn remove(&mut self, place: u64) {
        self.entries.remove(&place);
        if self.entries.is_empty() {
            self.verdicts.clear();
        }
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Entry> {
        self.entries.get(&place)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn older_than(&self, place: u64) -> usize {
        self.entries.range(..place).count()
    }

    /// Places and entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(place, entry)| (*place, entry))
    }

    /// The oldest match that fits `requirement` and may go to a server of `fleet`.
    pub(crate) fn oldest_fitting(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        fleet: Option<&FleetId>,
    ) -> Option<MatchId> {
        if self.entries.is_empty() {
            return None;
        }
        self.forget_least_used();
        self.uses += 1;
        let verdicts = self.verdicts.entry(Arc::clone(requirement.text())).or_default();
        verdicts.used = self.uses;
        verdicts.catch_up(&self.entries, requirements, requirement);
        let anywhere = verdicts.first(&self.entries, &None);
        let here = fleet.and_then(|fleet| verdicts.first(&self.entries, &Some(fleet.clone())));
        let place = anywhere.into_iter().chain(here).min()?;
        self.entries.get(&place).map(|entry| entry.id.clone())
    }

    fn forget_least_used(&mut self) {
        if self.verdicts.len() < MAX_REMEMBERED {
            return;
        }
        let oldest = self.verdicts.iter().min_by_key(|(_, verdicts)| verdicts.used);
        if let Some(text) = oldest.map(|(text, _)| Arc::clone(text)) {
            self.verdicts.remove(&text);
        }
    }
}

impl Verdicts {
    fn catch_up(
        &mut self,
        entries: &BTreeMap<u64, Entry>,
        requirements: &Requirements,
        requirement: &Requirement,
    ) {
        let returned = core::mem::take(&mut self.returned);
        let old = returned.iter().filter_map(|place| entries.get_key_value(place));
        for (place, entry) in old.chain(entries.range(self.seen + 1..)) {
            if requirements.fits(requirement, &entry.document) {
                self.fitting.entry(entry.fleet.clone()).or_default().insert(*place);
            }
        }
        if let Some((last, _)) = entries.last_key_value() {
            self.seen = self.seen.max(*last);
        }
    }

    fn first(&mut self, entries: &BTreeMap<u64, Entry>, fleet: &Option<FleetId>) -> Option<u64> {
        let fitting = self.fitting.get_mut(fleet)?;
        while let Some(place) = fitting.first() {
            if entries.contains_key(place) {
                return Some(*place);
            }
            fitting.pop_first();
        }
        None
    }
}
