//! The queue of matches that wait for a server, and the answer to "which is the oldest that fits?".
//!
//! Three ways lead to the answer, none of which looks at every match:
//!
//! * Who asks for anything gets the first of all.
//! * For a conjunction of equalities, matches are filed under a hash of the values that they have at its paths,
//!   in order: one look-up, whatever the values are. There are as many files as different sets of paths, which are
//!   few (one for each kind of game server), while values may be many.
//! * Any other expression is evaluated, once for each match; see `verdicts`.
//!
//! All of it can be made anew from the matches. Nothing is made before a server asks, so that a replay of the log does
//! not pay for it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::model::MatchSpec;
use super::ranks::Ranks;
use super::recent::Recent;
use super::requirements::{Conjunction, Document, Paths, Requirement, Requirements, Values, key};
use super::verdicts::{ByFleet, Verdicts};
use crate::ids::{FleetId, MatchId};
use crate::time::Timestamp;

/// Sets of paths by which matches are filed.
const MAX_FILES: usize = 64;
/// Matches in all those files together; one takes about 25 bytes.
const MAX_FILED: usize = 4_000_000;
/// Documents kept for the next expression that is tried on them.
const MAX_DOCUMENTS: usize = 2_000;

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

/// Matches by the values at certain paths: the hash of those and the fleet, and the place.
struct File {
    places: BTreeSet<(u64, u64)>,
    /// The number of the look-up that used it last.
    used: u64,
}

impl File {
    fn of(paths: &Paths, entries: &BTreeMap<u64, Entry>, used: u64) -> Self {
        let filed =
            entries.iter().map(|(place, entry)| (key(paths, &entry.document(), entry.fleet()), *place));
        Self { places: filed.collect(), used }
    }

    /// The oldest match that fits and that only servers of `fleet` may take, or any server.
    fn first(
        &self,
        entries: &BTreeMap<u64, Entry>,
        conjunction: &Conjunction,
        fleet: Option<&FleetId>,
    ) -> Option<u64> {
        let key = conjunction.key(fleet);
        let candidates = self.places.range((key, 0)..=(key, u64::MAX)).map(|(_, place)| *place);
        let mut fitting = candidates.filter(|place| {
            let entry = entries.get(place);
            entry.is_some_and(|entry| entry.fleet() == fleet && conjunction.fits(&entry.document()))
        });
        fitting.next()
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    entries: BTreeMap<u64, Entry>,
    ranks: Ranks,
    by_fleet: ByFleet,
    /// Those that no server on its way is meant for.
    unserved: BTreeSet<u64>,
    files: BTreeMap<Paths, File>,
    lookups: u64,
    verdicts: Verdicts,
    documents: Documents,
}

/// Documents that were looked at last.
struct Documents(Recent<u64, Values>);

impl Default for Documents {
    fn default() -> Self {
        Self(Recent::new(MAX_DOCUMENTS))
    }
}

impl Queue {
    /// A match at the end of the queue, or one that comes back to its old place. `served` says whether a server on its
    /// way is meant for it.
    pub(crate) fn insert(&mut self, place: u64, entry: Entry, served: bool) {
        self.remove(place);
        self.make_room();
        let document = entry.document();
        for (paths, file) in &mut self.files {
            file.places.insert((key(paths, &document, entry.fleet()), place));
        }
        self.by_fleet.entry(entry.spec.fleet.clone()).or_default().insert(place);
        self.ranks.insert(place);
        self.verdicts.enter(place);
        self.entries.insert(place, entry);
        self.set_served(place, served);
    }

    pub(crate) fn remove(&mut self, place: u64) {
        let Some(entry) = self.entries.remove(&place) else { return };
        let document = entry.document();
        for (paths, file) in &mut self.files {
            file.places.remove(&(key(paths, &document, entry.fleet()), place));
        }
        super::waiting::remove_from(&mut self.by_fleet, &entry.spec.fleet, &place);
        self.ranks.remove(place);
        self.verdicts.leave(place);
        self.unserved.remove(&place);
        self.documents.0.remove(&place);
    }

    /// Whether a server on its way is meant for the match.
    pub(crate) fn set_served(&mut self, place: u64, served: bool) {
        if served {
            self.unserved.remove(&place);
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

    /// The fleets that some match may go to only.
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

    /// Matches that no server on its way is meant for, oldest first, from `place` on.
    pub(crate) fn unserved(&self, place: u64) -> impl Iterator<Item = (u64, &Entry)> {
        self.unserved.range(place..).filter_map(|place| Some((*place, self.entries.get(place)?)))
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
        self.lookups += 1;
        let place = match requirement.conjunction() {
            Some(conjunction) if conjunction.paths().is_empty() => self.oldest(fleet),
            Some(conjunction) if self.is_filed_by(conjunction.paths()) => {
                let file = self.files.get(conjunction.paths())?;
                let anywhere = file.first(&self.entries, conjunction, None);
                let here = fleet.and_then(|fleet| file.first(&self.entries, conjunction, Some(fleet)));
                anywhere.into_iter().chain(here).min()
            }
            _ => self.oldest_by_evaluation(requirements, requirement, fleet),
        };
        self.get(place?).map(|entry| entry.id.clone())
    }

    fn oldest(&self, fleet: Option<&FleetId>) -> Option<u64> {
        let first = |of: Option<&FleetId>| self.by_fleet.get(&of.cloned())?.first().copied();
        let here = fleet.and_then(|fleet| first(Some(fleet)));
        first(None).into_iter().chain(here).min()
    }

    fn oldest_by_evaluation(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        fleet: Option<&FleetId>,
    ) -> Option<u64> {
        let (entries, documents) = (&self.entries, &mut self.documents);
        self.verdicts.oldest(requirement.text(), &self.by_fleet, fleet, |place| {
            let entry = entries.get(&place);
            entry.is_some_and(|entry| requirements.fits(requirement, &documents.get(place, entry)))
        })
    }

    /// Whether the match at `place`, which has just come, fits a requirement that is no conjunction.
    pub(crate) fn evaluate(
        &mut self,
        requirements: &Requirements,
        requirement: &Requirement,
        place: u64,
    ) -> bool {
        let Some(entry) = self.entries.get(&place) else { return false };
        let fits = requirements.fits(requirement, &self.documents.get(place, entry));
        self.verdicts.note(requirement.text(), &self.by_fleet, &entry.spec.fleet, place, fits);
        fits
    }

    /// Whether matches are filed by these paths; they are from now on, where there is room. A file makes room that has
    /// not been used for as many look-ups as it has matches, so that making it anew costs little for each.
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
        self.files.insert(Arc::clone(paths), File::of(paths, &self.entries, self.lookups));
        true
    }

    fn is_full(&self, files: usize) -> bool {
        files > MAX_FILES || files * self.entries.len() > MAX_FILED
    }

    /// For one more match.
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
    fn get<'a>(&'a mut self, place: u64, entry: &'a Entry) -> Document<'a> {
        if self.0.get(&place).is_none() {
            self.0.insert(place, Values::default());
        }
        match self.0.get(&place) {
            Some(values) => Document::kept(&entry.id, &entry.spec, values),
            None => entry.document(),
        }
    }
}
