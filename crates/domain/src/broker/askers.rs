//! Servers by their requirements, and the answer to "which is the first that this match fits?".
//!
//! The other direction of `queue`, by the same means: a server that asks with a conjunction of equalities is filed
//! under a hash of the required values, so that a match is looked up once for every set of paths; any other expression
//! is evaluated once for all servers that ask with it, longest-waiting first.
//!
//! Candidates are tried in order, so that a search that is interrupted because the step's work limit is reached can
//! resume after the last one tried.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::fleets::Filter;
use crate::ids::FleetId;
use crate::requirements::{Document, Paths, Requirement, Requirements, key};

/// Maximum number of sets of paths by which servers that ask with conjunctions are filed. Conjunctions over further
/// sets are evaluated.
const MAX_FILES: usize = 64;

/// Servers identified by `R`, which defines their order.
pub(crate) struct Askers<R> {
    filed: BTreeMap<Paths, File<R>>,
    /// By text of the expression.
    others: BTreeMap<Arc<str>, Others<R>>,
    /// The first server of each of the other expressions, over all fleets and for each fleet.
    firsts: BTreeMap<Option<FleetId>, BTreeMap<R, Arc<Requirement>>>,
}

/// Servers that ask with conjunctions over the same paths, by fleet and by hash of the values there; each also without
/// its fleet.
type File<R> = BTreeMap<(Option<FleetId>, u64), BTreeMap<R, Arc<Requirement>>>;

/// Servers that ask with one expression that has to be evaluated, by fleet; each also without its fleet.
type Others<R> = BTreeMap<Option<FleetId>, BTreeSet<R>>;

/// The result of looking for the first server that a match fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum First<R> {
    /// This one.
    Found(R),
    /// There is none.
    Nothing,
    /// The step's work limit was reached. None up to this server fits; those after it have not been tried.
    After(Option<R>),
}

impl<R> Default for Askers<R> {
    fn default() -> Self {
        Self { filed: BTreeMap::new(), others: BTreeMap::new(), firsts: BTreeMap::new() }
    }
}

impl<R: Ord + Clone> Askers<R> {
    /// Adds a server of `fleet` that takes matches that fit `filter`.
    pub(crate) fn insert(&mut self, filter: &Filter, fleet: Option<&FleetId>, rank: &R) {
        for of in with_none(fleet) {
            self.insert_for(filter.for_matches_of(of.as_ref()), of.clone(), rank);
        }
    }

    fn insert_for(&mut self, requirement: &Arc<Requirement>, of: Option<FleetId>, rank: &R) {
        let conjunction = requirement.conjunction().filter(|conjunction| {
            self.filed.len() < MAX_FILES || self.filed.contains_key(conjunction.paths())
        });
        if let Some(conjunction) = conjunction {
            let file = self.filed.entry(Arc::clone(conjunction.paths())).or_default();
            let ranks = file.entry((of, conjunction.key(None))).or_default();
            ranks.insert(rank.clone(), Arc::clone(requirement));
            return;
        }
        let others = self.others.entry(Arc::clone(requirement.text())).or_default();
        let ranks = others.entry(of.clone()).or_default();
        let before = ranks.first().cloned();
        ranks.insert(rank.clone());
        move_first(&mut self.firsts, &of, requirement, before, ranks.first());
    }

    /// Undoes [`Self::insert`] with the same arguments, if it was called.
    pub(crate) fn remove(&mut self, filter: &Filter, fleet: Option<&FleetId>, rank: &R) {
        for of in with_none(fleet) {
            let requirement = filter.for_matches_of(of.as_ref());
            self.remove_other(requirement, &of, rank);
            self.remove_filed(requirement, of, rank);
        }
    }

    fn remove_filed(&mut self, requirement: &Arc<Requirement>, of: Option<FleetId>, rank: &R) {
        let Some(conjunction) = requirement.conjunction() else { return };
        let Some(file) = self.filed.get_mut(conjunction.paths()) else { return };
        let key = (of, conjunction.key(None));
        if let Some(ranks) = file.get_mut(&key) {
            ranks.remove(rank);
            if ranks.is_empty() {
                file.remove(&key);
            }
        }
        if file.is_empty() {
            self.filed.remove(conjunction.paths());
        }
    }

    fn remove_other(&mut self, requirement: &Arc<Requirement>, of: &Option<FleetId>, rank: &R) {
        let Some(others) = self.others.get_mut(requirement.text()) else { return };
        if let Some(ranks) = others.get_mut(of) {
            let before = ranks.first().cloned();
            ranks.remove(rank);
            move_first(&mut self.firsts, of, requirement, before, ranks.first());
            if ranks.is_empty() {
                others.remove(of);
            }
        }
        if others.is_empty() {
            self.others.remove(requirement.text());
        }
    }

    /// The first server after `after` that the match fits, of `fleet` if there is one. `fits` evaluates expressions
    /// that are not conjunctions; it is not called if the answer would change nothing. If the step has work left, at
    /// least one server is tried, so that the search ends however much work the look-ups take.
    pub(crate) fn first(
        &self,
        requirements: &Requirements,
        document: &Document<'_>,
        fleet: Option<&FleetId>,
        after: Option<&R>,
        mut fits: impl FnMut(&Requirement) -> bool,
    ) -> First<R> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let mut is_cut = requirements.is_spent();
        requirements.spend_for(document);
        let mut lists = Vec::new();
        for (paths, file) in &self.filed {
            requirements.spend(4 + paths.iter().map(Vec::len).sum::<usize>());
            lists.extend(file.get(&(fleet.cloned(), key(paths, document, None))));
        }
        lists.extend(self.firsts.get(&fleet.cloned()));
        let mut lists: Vec<_> = lists.iter().map(|list| list.range::<R, _>(behind).peekable()).collect();
        let mut tried = after;
        loop {
            let next = lists.iter_mut().filter_map(|list| Some((list.peek()?.0, list)));
            let Some((_, list)) = next.min_by(|one, other| one.0.cmp(other.0)) else { return First::Nothing };
            let Some((rank, requirement)) = list.next() else { return First::Nothing };
            if is_cut {
                return First::After(tried.cloned());
            }
            let is_fitting = match requirement.conjunction() {
                Some(conjunction) => {
                    requirements.spend(1 + conjunction.paths().len());
                    conjunction.fits(document)
                }
                None => fits(requirement),
            };
            if is_fitting {
                return First::Found(rank.clone());
            }
            tried = Some(rank);
            is_cut = requirements.is_spent();
        }
    }
}

/// Updates the first server of `of` that asks with `requirement`.
fn move_first<R: Ord + Clone>(
    firsts: &mut BTreeMap<Option<FleetId>, BTreeMap<R, Arc<Requirement>>>,
    of: &Option<FleetId>,
    requirement: &Arc<Requirement>,
    before: Option<R>,
    now: Option<&R>,
) {
    if before.as_ref() == now {
        return;
    }
    let ranks = firsts.entry(of.clone()).or_default();
    if let Some(before) = before {
        ranks.remove(&before);
    }
    if let Some(now) = now {
        ranks.insert(now.clone(), Arc::clone(requirement));
    } else if ranks.is_empty() {
        firsts.remove(of);
    }
}

fn with_none(fleet: Option<&FleetId>) -> impl Iterator<Item = Option<FleetId>> {
    core::iter::once(None).chain(fleet.cloned().map(Some))
}
