//! Servers by what they ask with, and the answer to "which is the first that this match fits?".
//!
//! The other direction of `queue`, by the same means: who asks with a conjunction of equalities is filed under a hash
//! of the values that it wants, so that a match is looked up once for every set of paths; any other expression is
//! evaluated once for all who ask with it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use super::requirements::{Document, Paths, Requirement, key};
use super::waiting::remove_from;
use crate::ids::FleetId;

/// Servers known by `R`, which says who comes first.
pub(crate) struct Askers<R> {
    filed: BTreeMap<Paths, File<R>>,
    /// By text of the expression.
    others: BTreeMap<Arc<str>, Others<R>>,
}

/// Those who ask with conjunctions over the same paths, by fleet and by hash of the values there; each also without its
/// fleet.
type File<R> = BTreeMap<(Option<FleetId>, u64), BTreeMap<R, Arc<Requirement>>>;

/// Those who ask with one expression that is no conjunction.
struct Others<R> {
    requirement: Arc<Requirement>,
    all: BTreeSet<R>,
    by_fleet: BTreeMap<FleetId, BTreeSet<R>>,
}

impl<R> Default for Askers<R> {
    fn default() -> Self {
        Self { filed: BTreeMap::new(), others: BTreeMap::new() }
    }
}

impl<R: Ord + Clone> Askers<R> {
    /// A server of `fleet` that asks with `requirement`.
    pub(crate) fn insert(&mut self, requirement: &Arc<Requirement>, fleet: Option<&FleetId>, rank: R) {
        let Some(conjunction) = requirement.conjunction() else {
            return self.insert_other(requirement, fleet, rank);
        };
        let file = self.filed.entry(Arc::clone(conjunction.paths())).or_default();
        for of in with_none(fleet) {
            let ranks = file.entry((of, conjunction.key(None))).or_default();
            ranks.insert(rank.clone(), Arc::clone(requirement));
        }
    }

    fn insert_other(&mut self, requirement: &Arc<Requirement>, fleet: Option<&FleetId>, rank: R) {
        let others = self.others.entry(Arc::clone(requirement.text())).or_insert_with(|| Others {
            requirement: Arc::clone(requirement),
            all: BTreeSet::new(),
            by_fleet: BTreeMap::new(),
        });
        if let Some(fleet) = fleet {
            others.by_fleet.entry(fleet.clone()).or_default().insert(rank.clone());
        }
        others.all.insert(rank);
    }

    /// Takes back what [`Self::insert`] did with the same arguments.
    pub(crate) fn remove(&mut self, requirement: &Requirement, fleet: Option<&FleetId>, rank: &R) {
        let Some(conjunction) = requirement.conjunction() else {
            return self.remove_other(requirement, fleet, rank);
        };
        let Some(file) = self.filed.get_mut(conjunction.paths()) else { return };
        for of in with_none(fleet) {
            let key = (of, conjunction.key(None));
            if let Some(ranks) = file.get_mut(&key) {
                ranks.remove(rank);
                if ranks.is_empty() {
                    file.remove(&key);
                }
            }
        }
        if file.is_empty() {
            self.filed.remove(conjunction.paths());
        }
    }

    fn remove_other(&mut self, requirement: &Requirement, fleet: Option<&FleetId>, rank: &R) {
        let Some(others) = self.others.get_mut(requirement.text()) else { return };
        others.all.remove(rank);
        if let Some(fleet) = fleet {
            remove_from(&mut others.by_fleet, fleet, rank);
        }
        if others.all.is_empty() {
            self.others.remove(requirement.text());
        }
    }

    /// The first server that the match fits, of `fleet` where there is one. `fits` evaluates expressions that are no
    /// conjunctions; it is not asked where the answer would change nothing.
    pub(crate) fn first(
        &self,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        mut fits: impl FnMut(&Requirement) -> bool,
    ) -> Option<R> {
        let filed = self.filed.iter().filter_map(|(paths, file)| {
            let mut candidates = file.get(&(fleet.cloned(), key(paths, document, None)))?.iter();
            let fitting = candidates.find(|(_, requirement)| {
                requirement.conjunction().is_some_and(|conjunction| conjunction.fits(document))
            });
            fitting.map(|(rank, _)| rank)
        });
        let mut first = filed.min();
        for others in self.others.values() {
            let ranks = fleet.map_or(Some(&others.all), |fleet| others.by_fleet.get(fleet));
            let Some(rank) = ranks.and_then(BTreeSet::first) else { continue };
            if first.is_none_or(|first| rank < first) && fits(&others.requirement) {
                first = Some(rank);
            }
        }
        first.cloned()
    }
}

fn with_none(fleet: Option<&FleetId>) -> impl Iterator<Item = Option<FleetId>> {
    core::iter::once(None).chain(fleet.cloned().map(Some))
}
