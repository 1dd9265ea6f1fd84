//! The queue of matches that wait for a server, and the answer to "which is the oldest that fits?".
//!
//! There are three ways to the answer, none of which checks every match:
//!
//! * A server that takes any match gets the first of all.
//! * For a conjunction of equalities, matches are filed under a hash of their values at its paths, in order: one
//!   look-up, whatever the values are. There is a file for each set of paths, which are few (one for each kind of game
//!   server), while values may be many.
//! * Any other expression is evaluated, once for each match; see `verdicts`.
//!
//! All of it can be rebuilt from the matches. It is built when a server asks, so that a replay of the log does not pay
//! for it, and within a step's work limit. An interrupted search resumes in a later step where it stopped, because
//! filed and tried matches are remembered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::classes::{Class, Classes};
use super::fleets::Filter;
use super::recent::Recent;
use super::verdicts::{ByFleet, Verdicts};
use crate::ids::{FleetId, MatchId};
use crate::match_spec::MatchSpec;
use crate::ranks::Ranks;
use crate::requirements::{
    Conjunction, Document, Paths, Requirement, Requirements, STEP_WORK, Search, Values, key,
};
use crate::time::Timestamp;

/// Maximum number of sets of paths by which matches are filed.
const MAX_FILES: usize = 64;
/// Maximum number of matches in all files together; one takes about 50 bytes.
const MAX_FILED: usize = 4_000_000;
/// Maximum work on hash collisions, matches that are filed with the fitting ones and do not fit: attackers can make
/// such matches. The rest of a step's work is left for evaluating other matches.
const MISFIT_WORK: u64 = STEP_WORK / 2;
/// Maximum number of documents kept for the next expression that is tried on them.
const MAX_DOCUMENTS: usize = 2_000;
/// Approximate maximum size of those, in bytes.
const MAX_DOCUMENT_BYTES: usize = 64 << 20;
/// Maximum number of kept verdicts about queued matches and requirements of fleets.
const MAX_OF_FLEETS: usize = 100_000;

/// A queued match.
pub(crate) struct Entry {
    pub(crate) id: MatchId,
    pub(crate) queued_at: Timestamp,
    pub(crate) spec: Arc<MatchSpec>,
}

impl Entry {
    /// The one fleet whose servers may take it.
    pub(crate) fn fleet(&self) -> Option<&FleetId> {
        self.spec.fleet.as_ref()
    }

    pub(crate) fn document(&self) -> Document<'_> {
        Document::new(&self.id, &self.spec)
    }
}

/// Matches by their values at certain paths: the hash of the values and the fleet, and the place. Matches are filed in
/// order, when the file is used.
struct File {
    places: BTreeSet<(u64, u64)>,
    /// The hash by the place.
    keys: BTreeMap<u64, u64>,
    /// Matches from this place on have not been filed.
    next: u64,
    /// Places before `next` that have not been filed: of matches that came back.
    returned: BTreeSet<u64>,
    /// The number of the last look-up that used it.
    used: u64,
}

impl File {
    const fn new(used: u64) -> Self {
        Self { places: BTreeSet::new(), keys: BTreeMap::new(), next: 0, returned: BTreeSet::new(), used }
    }

    /// Files unfiled matches, as far as the step's work limit allows; returns whether all are filed.
    fn catch_up(
        &mut self,
        requirements: &Requirements,
        paths: &Paths,
        entries: &BTreeMap<u64, Entry>,
    ) -> bool {
        while let Some(place) = self.returned.pop_first() {
            if let Some(entry) = entries.get(&place) {
                self.file(requirements, paths, place, entry);
            }
            if requirements.is_spent() {
                return self.returned.is_empty() && entries.range(self.next..).next().is_none();
            }
        }
        for (place, entry) in entries.range(self.next..) {
            if requirements.is_spent() {
                return false;
            }
            self.next = place + 1;
            self.file(requirements, paths, *place, entry);
        }
        true
    }

    fn file(&mut self, requirements: &Requirements, paths: &Paths, place: u64, entry: &Entry) {
        let document = entry.document();
        requirements.spend(4 + paths.iter().map(alloc::vec::Vec::len).sum::<usize>());
        requirements.spend_for(&document);
        let key = key(paths, &document, entry.fleet());
        self.places.insert((key, place));
        self.keys.insert(place, key);
    }

    fn remove(&mut self, place: u64) {
        self.returned.remove(&place);
        if let Some(key) = self.keys.remove(&place) {
            self.places.remove(&(key, place));
        }
    }

    /// The oldest match that fits and that only servers of `fleet` may take, or any server. [`Search::Unfinished`] if
    /// too many that do not fit are filed there, and the step's work reaches `end`.
    fn first(
        &self,
        requirements: &Requirements,
        entries: &BTreeMap<u64, Entry>,
        conjunction: &Conjunction,
        fleet: Option<&FleetId>,
        end: u64,
    ) -> Search<u64> {
        let key = conjunction.key(fleet);
        let candidates = self.places.range((key, 0)..=(key, u64::MAX)).map(|(_, place)| *place);
        for place in candidates {
            let Some(entry) = entries.get(&place) else { continue };
            let document = entry.document();
            if requirements.spent_with(&document) > end {
                return Search::Unfinished;
            }
            requirements.spend(1 + conjunction.paths().len());
            requirements.spend_for(&document);
            if entry.fleet() == fleet && conjunction.fits(&document) {
                return Search::Found(place);
            }
        }
        Search::Nothing
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: BTreeMap<u64, Entry>,
    ranks: Ranks,
    by_fleet: ByFleet,
    /// Matches without a server on its way.
    unserved: Classes,
    files: BTreeMap<Paths, File>,
    lookups: u64,
    verdicts: Verdicts,
    documents: Documents,
    of_fleets: RefCell<OfFleets>,
}

/// The most recently used documents.
struct Documents {
    kept: Recent<u64, Values>,
    /// Their size.
    bytes: usize,
}

impl Default for Documents {
    fn default() -> Self {
        Self { kept: Recent::new(MAX_DOCUMENTS), bytes: 0 }
    }
}

/// Whether queued matches fit requirements of fleets, by place and text: kept because servers are ordered for them
/// repeatedly.
struct OfFleets(Recent<(u64, Arc<str>), bool>);

impl Default for OfFleets {
    fn default() -> Self {
        Self(Recent::new(MAX_OF_FLEETS))
    }
}

impl Queue {
    /// Adds a match at the end of the queue, or one that comes back to its old place. `served`: whether a server is on
    /// its way for it.
    pub(crate) fn insert(&mut self, place: u64, entry: Entry, served: bool) {
        self.remove(place);
        self.make_room();
        for file in self.files.values_mut().filter(|file| place < file.next) {
            file.returned.insert(place);
        }
        self.by_fleet.entry(entry.spec.fleet.clone()).or_default().insert(place);
        self.ranks.insert(place);
        self.verdicts.enter(place);
        self.entries.insert(place, entry);
        self.set_served(place, served);
    }

    pub(crate) fn remove(&mut self, place: u64) {
        let Some(entry) = self.entries.remove(&place) else { return };
        self.files.values_mut().for_each(|file| file.remove(place));
        super::waiting::remove_from(&mut self.by_fleet, &entry.spec.fleet, &place);
        self.ranks.remove(place);
        self.verdicts.leave(place);
        self.unserved.forget(place);
        self.documents.remove(place);
    }

    /// Sets whether a server is on its way for the match.
    pub(crate) fn set_served(&mut self, place: u64, served: bool) {
        if served {
            self.unserved.remove(place);
        } else if self.entries.contains_key(&place) {
            self.unserved.insert(place);
        }
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Entry> {
        self.entries.get(&place)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The fleets to which some match is bound.
    pub(crate) fn fleets(&self) -> impl Iterator<Item = &FleetId> {
        self.by_fleet.keys().flatten()
    }

    /// The oldest match that only servers of `fleet` may take.
    pub(crate) fn first_of(&self, fleet: &FleetId) -> Option<&Entry> {
        let place = self.by_fleet.get(&Some(fleet.clone()))?.first()?;
        self.entries.get(place)
    }

    pub(crate) fn older_than(&self, place: u64) -> usize {
        self.ranks.before(place)
    }

    /// Places and entries, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Entry)> {
        self.entries.iter().map(|(place, entry)| (*place, entry))
    }

    /// Whether every match has a server on its way.
    pub(crate) fn is_served(&self) -> bool {
        self.unserved.is_empty()
    }

    /// The oldest match from `place` on without a server on its way, and whose class is open or not known yet.
    pub(crate) fn first_unserved(
        &self,
        requirements: &Requirements,
        place: u64,
        is_open: impl Fn(&[FleetId]) -> bool,
    ) -> Option<(u64, &Entry)> {
        requirements.spend(self.unserved.groups());
        let place = self.unserved.first(place, is_open)?;
        Some((place, self.entries.get(&place)?))
    }

    /// The fleets that may take the match at `place`, if known.
    pub(crate) fn class_of(&self, place: u64) -> Option<Class> {
        self.unserved.of(place)
    }

    /// Records the fleets that may take the match at `place`.
    pub(crate) fn note_class(&mut self, place: u64, fleets: Vec<FleetId>) -> Class {
        self.unserved.note(place, fleets)
    }

    /// Called when the fleets were configured, and may take other matches now.
    pub(crate) const fn note_configured(&mut self) {
        self.unserved.note_configured();
    }

    /// The oldest match that fits `filter` and may go to a server of `fleet`.
    pub(crate) fn oldest_fitting(
        &mut self,
        requirements: &Requirements,
        filter: &Filter,
        fleet: Option<&FleetId>,
    ) -> Search<MatchId> {
        if self.entries.is_empty() {
            return Search::Nothing;
        }
        self.lookups += 1;
        let mut oldest = None;
        for of in core::iter::once(None).chain(fleet.map(Some)) {
            match self.oldest_of(requirements, filter.for_matches_of(of), of, oldest) {
                // A match found later may be older.
                Search::Unfinished => return Search::Unfinished,
                Search::Found(place) => oldest = Some(oldest.map_or(place, |oldest: u64| oldest.min(place))),
                Search::Nothing => {}
            }
        }
        let entry = oldest.and_then(|place| self.get(place));
        entry.map_or(Search::Nothing, |entry| Search::Found(entry.id.clone()))
    }

    /// The oldest match that fits, of those that only servers of `fleet` may take, or any server; matches from `end` on
    /// can be skipped.
    fn oldest_of(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        fleet: Option<&FleetId>,
        end: Option<u64>,
    ) -> Search<u64> {
        if !self.by_fleet.contains_key(&fleet.cloned()) {
            return Search::Nothing;
        }
        match requirement.conjunction() {
            Some(conjunction) if conjunction.paths().is_empty() => {
                let first = self.by_fleet.get(&fleet.cloned()).and_then(BTreeSet::first);
                first.map_or(Search::Nothing, |place| Search::Found(*place))
            }
            _ if requirements.is_spent() => Search::Unfinished,
            Some(conjunction) if self.is_filed_by(conjunction.paths()) => {
                self.oldest_filed(requirements, requirement, conjunction, fleet, end)
            }
            _ => self.oldest_by_evaluation(requirements, requirement, fleet, end),
        }
    }

    fn oldest_filed(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        conjunction: &Conjunction,
        fleet: Option<&FleetId>,
        end: Option<u64>,
    ) -> Search<u64> {
        let Some(file) = self.files.get_mut(conjunction.paths()) else { return Search::Nothing };
        if !file.catch_up(requirements, conjunction.paths(), &self.entries) {
            return Search::Unfinished;
        }
        let most = requirements.spent() + MISFIT_WORK;
        match file.first(requirements, &self.entries, conjunction, fleet, most) {
            // Evaluation resumes where it stopped, whatever is filed.
            Search::Unfinished => self.oldest_by_evaluation(requirements, requirement, fleet, end),
            found => found,
        }
    }

    fn oldest_by_evaluation(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        fleet: Option<&FleetId>,
        end: Option<u64>,
    ) -> Search<u64> {
        let (entries, documents) = (&self.entries, &mut self.documents);
        let Some(places) = self.by_fleet.get(&fleet.cloned()) else { return Search::Nothing };
        self.verdicts.oldest(requirements, requirement.text(), places, fleet, end, |place| {
            let entry = entries.get(&place);
            let fits = |document: &Document<'_>| requirements.fits(requirement, document);
            entry.is_some_and(|entry| documents.look(place, entry, fits))
        })
    }

    /// Whether the match at `place`, which was just added, fits a requirement that is not a conjunction.
    pub(crate) fn evaluate(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        place: u64,
    ) -> bool {
        let Some(entry) = self.entries.get(&place) else { return false };
        let fits = self.documents.look(place, entry, |document| requirements.fits(requirement, document));
        self.verdicts.note(requirement.text(), &self.by_fleet, &entry.spec.fleet, place, fits);
        fits
    }

    /// Whether a match, which is at `place` if it is in the queue, fits a fleet's terms; `None` if the step's work
    /// limit is reached.
    pub(crate) fn fits_fleet(
        &self,
        requirements: &Requirements,
        terms: &Requirement,
        place: Option<u64>,
        document: &Document<'_>,
    ) -> Option<bool> {
        let pair = place.map(|place| (place, Arc::clone(terms.text())));
        if let Some(known) = pair.as_ref().and_then(|pair| self.of_fleets.borrow().0.get(pair).copied()) {
            return Some(known);
        }
        if requirements.is_spent() {
            return None;
        }
        let fits = requirements.fits(terms, document);
        if let Some(pair) = pair {
            self.of_fleets.borrow_mut().0.insert(pair, fits);
        }
        Some(fits)
    }

    /// Whether matches are filed by these paths; starts to file them if there is room. A file makes room if it has not
    /// been used for as many look-ups as there are matches, so that rebuilding it costs little per look-up.
    fn is_filed_by(&mut self, paths: &Paths) -> bool {
        if let Some(file) = self.files.get_mut(paths) {
            file.used = self.lookups;
            return true;
        }
        if self.is_full(self.files.len() + 1) {
            let idle = self.least_used().filter(|(_, used)| self.lookups - used > self.entries.len() as u64);
            let Some((idle, _)) = idle else { return false };
            self.files.remove(&idle);
            if self.is_full(self.files.len() + 1) {
                return false;
            }
        }
        self.files.insert(Arc::clone(paths), File::new(self.lookups));
        true
    }

    fn is_full(&self, files: usize) -> bool {
        files > MAX_FILES || files * self.entries.len() > MAX_FILED
    }

    /// Makes room for one more match.
    fn make_room(&mut self) {
        if self.files.len() * (self.entries.len() + 1) > MAX_FILED
            && let Some((paths, _)) = self.least_used()
        {
            self.files.remove(&paths);
        }
    }

    fn least_used(&self) -> Option<(Paths, u64)> {
        let least = self.files.iter().min_by_key(|(_, file)| file.used);
        least.map(|(paths, file)| (Arc::clone(paths), file.used))
    }
}

impl Documents {
    /// Applies `look` to the match's document, which may be cached.
    fn look<T>(&mut self, place: u64, entry: &Entry, look: impl FnOnce(&Document<'_>) -> T) -> T {
        if self.kept.get(&place).is_none()
            && let Some(forgotten) = self.kept.insert(place, Values::default())
        {
            self.bytes = self.bytes.saturating_sub(forgotten.bytes());
        }
        let Some(values) = self.kept.get(&place) else { return look(&entry.document()) };
        let before = values.bytes();
        let said = look(&Document::kept(&entry.id, &entry.spec, values));
        self.bytes += values.bytes().saturating_sub(before);
        self.limit();
        said
    }

    fn remove(&mut self, place: u64) {
        if let Some(values) = self.kept.remove(&place) {
            self.bytes = self.bytes.saturating_sub(values.bytes());
        }
    }

    /// Removes the oldest while there are too many bytes.
    fn limit(&mut self) {
        while self.bytes > MAX_DOCUMENT_BYTES
            && let Some(values) = self.kept.pop_oldest()
        {
            self.bytes = self.bytes.saturating_sub(values.bytes());
        }
    }
}
