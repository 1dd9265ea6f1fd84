//! The index in which tickets find suitable offers of free seats, and offers find waiting tickets.
//!
//! Offers are filed like tickets in pools: by the values that must be equal, by region, by the cell of the first number
//! that rules compare, and by the number of free seats; within all of them, oldest first. So a ticket finds the oldest
//! suitable offer behind any number of others. What an offer leaves out matches every ticket, and what a ticket no
//! longer demands is met by every offer. So an offer is filed once for each set of equalities that may be relaxed, and
//! offers that leave something out are looked up separately.
//!
//! Groups are hashes: colliding ones share an entry, and the comparison that always follows tells them apart.
//!
//! Nothing here is durable. An offer is filed when it is first looked at; until then it looks for tickets itself.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_set};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::names::hash;
use super::pools::{LAST_CELL, Pools, Slot, cell_of};
use super::rules::{Profile, Ruleset, Seats};
use crate::ids::{MatchId, QueueId, RegionId, mix};

/// Maximum number of groups of tickets that one search for an offer's tickets merges; if there are more, it goes
/// through the queue by age.
const MAX_GROUPS: usize = 512;

/// The filing key: hash of the group, cell, class of free seats, place of the offer.
type Spot = (u64, i32, u8, u64);

/// An offer as the rules see it, and its position in the index.
pub(crate) struct Filed {
    pub(crate) rules: Arc<Ruleset>,
    pub(crate) seats: Seats,
    queue: QueueId,
    missing: u8,
    class: u8,
    lies: Vec<(u64, i32)>,
}

/// Offers with free seats that have been looked at.
#[derive(Default)]
pub(crate) struct Offers {
    by_match: BTreeMap<MatchId, Filed>,
    by_place: BTreeMap<u64, MatchId>,
    spots: BTreeSet<Spot>,
    /// Which sets of equalities offers of a queue leave out, with the number of such offers.
    missing: BTreeMap<QueueId, BTreeMap<u8, usize>>,
}

/// How the first number is looked up.
#[derive(Clone, Copy)]
enum Number {
    /// In the cells around the ticket's own.
    Near = 1,
    /// Among offers without that number.
    Missing = 2,
    /// In all cells.
    Any = 3,
}

impl Offers {
    pub(crate) fn get(&self, id: &MatchId) -> Option<&Filed> {
        self.by_match.get(id)
    }

    /// Files an offer with this number of free seats, replacing the earlier entry of that match.
    pub(crate) fn file(
        &mut self,
        id: MatchId,
        queue: &QueueId,
        rules: &Arc<Ruleset>,
        seats: Seats,
        free: u32,
    ) {
        self.remove(&id);
        let missing = seats.missing();
        let lies = lies(queue, rules, &seats);
        let (class, place) = (class(free), seats.place);
        self.spots.extend(lies.iter().map(|(group, cell)| (*group, *cell, class, place)));
        *self.missing.entry(queue.clone()).or_default().entry(missing).or_default() += 1;
        self.by_place.insert(place, id.clone());
        let rules = Arc::clone(rules);
        self.by_match.insert(id, Filed { rules, seats, queue: queue.clone(), missing, class, lies });
    }

    /// The number of free seats of a match has changed.
    pub(crate) fn refile(&mut self, id: &MatchId, free: u32) {
        let Some(filed) = self.by_match.get_mut(id) else { return };
        let (before, now, place) = (filed.class, class(free), filed.seats.place);
        if before != now {
            filed.class = now;
            for (group, cell) in &filed.lies {
                self.spots.remove(&(*group, *cell, before, place));
                self.spots.insert((*group, *cell, now, place));
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &MatchId) {
        let Some(filed) = self.by_match.remove(id) else { return };
        let place = filed.seats.place;
        self.by_place.remove(&place);
        for (group, cell) in &filed.lies {
            self.spots.remove(&(*group, *cell, filed.class, place));
        }
        let Some(of_queue) = self.missing.get_mut(&filed.queue) else { return };
        if let Some(count) = of_queue.get_mut(&filed.missing) {
            *count -= 1;
        }
        of_queue.retain(|_, count| *count > 0);
        if of_queue.is_empty() {
            self.missing.remove(&filed.queue);
        }
    }

    /// The `most` oldest offers behind `after` that may suit a ticket, oldest first, and the number of groups that were
    /// looked at.
    pub(crate) fn suitable(
        &self,
        queue: &QueueId,
        rules: &Ruleset,
        ticket: &Profile,
        after: u64,
        most: usize,
    ) -> (Vec<(u64, MatchId)>, usize) {
        let missing = self.missing.get(queue).into_iter().flat_map(BTreeMap::keys).copied();
        let least = class(u32::from(ticket.size));
        let mut groups = Vec::new();
        for (group, low, high) in looked_for(queue, rules, ticket, missing) {
            let mut from = (group, low, least, 0);
            while let Some((_, cell, class, _)) =
                self.spots.range(from..=(group, high, u8::MAX, u64::MAX)).next().copied()
            {
                if class >= least {
                    groups.push(self.spots.range(
                        (group, cell, class, after.saturating_add(1))..=(group, cell, class, u64::MAX),
                    ));
                }
                let Some(next) = next_group(cell, class, least) else { break };
                from = (group, next.0, next.1, 0);
            }
        }
        let looks = groups.len();
        let places = Merged::new(groups).take(most);
        let found = places.filter_map(|place| Some((place, self.by_place.get(&place)?.clone())));
        (found.collect(), looks)
    }
}

/// Where the classes continue behind one of them.
fn next_group(cell: i32, class: u8, least: u8) -> Option<(i32, u8)> {
    match class {
        _ if class < least => Some((cell, least)),
        _ => Some((cell, class.checked_add(1)?)),
    }
}

/// Offers with fewer free seats than the minimum of a class are not in it.
fn class(free: u32) -> u8 {
    u8::try_from(free.checked_ilog2().unwrap_or(0)).unwrap_or(u8::MAX)
}

/// The places of several groups in ascending order, without duplicates.
struct Merged<'a> {
    groups: Vec<btree_set::Range<'a, Spot>>,
    heads: BinaryHeap<Reverse<(u64, usize)>>,
    last: Option<u64>,
}

impl<'a> Merged<'a> {
    fn new(groups: Vec<btree_set::Range<'a, Spot>>) -> Self {
        let mut merged = Self { heads: BinaryHeap::with_capacity(groups.len()), groups, last: None };
        for at in 0..merged.groups.len() {
            merged.go_on(at);
        }
        merged
    }

    fn go_on(&mut self, at: usize) {
        let next = self.groups.get_mut(at).and_then(Iterator::next);
        self.heads.extend(next.map(|(_, _, _, place)| Reverse((*place, at))));
    }
}

impl Iterator for Merged<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            let Reverse((place, at)) = self.heads.pop()?;
            self.go_on(at);
            if self.last.replace(place) != Some(place) {
                return Some(place);
            }
        }
    }
}

/// The hash of a group; values at positions in `without` are ignored.
fn group<'a>(
    queue: &QueueId,
    relaxed: u8,
    missing: u8,
    number: Number,
    region: Option<&RegionId>,
    values: impl Iterator<Item = Option<&'a str>>,
) -> u64 {
    let begin = mix(u64::from(relaxed) << 24 | u64::from(missing & !relaxed) << 8 | number as u64);
    let begin = hash(hash(begin, queue.as_str()), region.map_or("", RegionId::as_str));
    values.enumerate().fold(begin, |begin, (at, value)| match value {
        Some(value) if !has(relaxed | missing, at) => hash(mix(begin), value),
        _ => mix(begin),
    })
}

const fn has(bits: u8, at: usize) -> bool {
    at < 8 && bits & (1 << at) != 0
}

/// All subsets of a set of bits.
fn subsets(bits: u8) -> impl Iterator<Item = u8> {
    (0..=bits).filter(move |of| of & !bits == 0)
}

/// The position of an offer in the index.
fn lies(queue: &QueueId, rules: &Ruleset, seats: &Seats) -> Vec<(u64, i32)> {
    let region = seats.region().filter(|_| rules.looks_at_latency());
    let missing = seats.missing();
    let mut lies = Vec::new();
    for relaxed in subsets(rules.relaxing()) {
        let at =
            |number| group(queue, relaxed, missing, number, region, seats.equal.iter().map(Option::as_deref));
        if rules.distances() > 0 {
            match seats.first_value() {
                Some(value) => lies.push((at(Number::Near), cell_of(value, rules.cell))),
                None => lies.push((at(Number::Missing), 0)),
            }
        }
        if rules.distances() == 0 || rules.widest().is_infinite() {
            lies.push((at(Number::Any), 0));
        }
    }
    lies
}

/// Where a ticket looks for offers: groups, and the first and the last cell in each.
fn looked_for(
    queue: &QueueId,
    rules: &Ruleset,
    ticket: &Profile,
    missing: impl Iterator<Item = u8>,
) -> BTreeSet<(u64, i32, i32)> {
    let relaxed = ticket.relaxed_equal & rules.relaxing();
    let value = ticket.values.first().copied().unwrap_or_default();
    let window = ticket.windows.first().copied().unwrap_or(f64::INFINITY);
    let cells = (cell_of(value - window, rules.cell), cell_of(value + window, rules.cell));
    let anywhere = core::iter::once(None);
    let regions =
        ticket.regions.iter().filter(|_| rules.looks_at_latency()).map(|(region, _)| region.as_ref());
    let regions: Vec<Option<&RegionId>> = anywhere.chain(regions).collect();
    let mut found = BTreeSet::new();
    for missing in missing {
        for region in &regions {
            let at =
                |number| group(queue, relaxed, missing, number, *region, ticket.equal_values().map(Some));
            if rules.distances() == 0 || window.is_infinite() {
                found.insert((at(Number::Any), 0, 0));
            } else {
                found.insert((at(Number::Near), cells.0, cells.1));
                found.insert((at(Number::Missing), 0, 0));
            }
        }
    }
    found
}

impl Pools {
    /// The `most` oldest waiting tickets behind `after` that may suit an offer with this number of free seats. `None`
    /// if the index cannot find them: the offer leaves something out that rules compare, or they are in too many
    /// places.
    pub(crate) fn takers(
        &self,
        queue: &QueueId,
        filed: &Filed,
        free: u32,
        after: u64,
        most: usize,
    ) -> Option<Vec<(u64, Slot)>> {
        let (number, rules) = self.numbered_rules(queue)?;
        let region = if rules.looks_at_latency() { Some(filed.seats.region()?) } else { None };
        let (low, high) = match filed.seats.first_value() {
            Some(value) if rules.distances() > 0 => {
                let widest = rules.widest();
                (cell_of(value - widest, rules.cell), cell_of(value + widest, rules.cell))
            }
            _ => (i32::MIN, LAST_CELL),
        };
        let largest = u16::try_from(free).unwrap_or(u16::MAX);
        let mut groups = Vec::new();
        for relaxed in subsets(rules.relaxing()) {
            if filed.missing & !relaxed != 0 {
                return None;
            }
            let mut values = String::new();
            for (at, value) in filed.seats.equal.iter().enumerate() {
                values.extend((at > 0).then_some(super::rules::SEPARATOR));
                values.push_str(value.as_deref().filter(|_| !has(relaxed, at)).unwrap_or_default());
            }
            let key = (number, relaxed, region.cloned(), Arc::from(values));
            let Some(pool) = self.known_pool(&key) else { continue };
            for group in self.groups(pool, (low, high), largest) {
                groups.push((pool, group));
                if groups.len() > MAX_GROUPS {
                    return None;
                }
            }
        }
        let mut found: Vec<(u64, Slot)> = Vec::new();
        for (pool, (cell, size)) in groups {
            found.extend(self.behind(pool, cell, size, after).take(most));
        }
        found.sort_unstable();
        found.dedup();
        found.truncate(most);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_seats_are_filed_by_powers_of_two() {
        assert_eq!([0, 1, 2, 3, 4, 7, 8, 10_000].map(class), [0, 0, 1, 1, 2, 2, 3, 13]);
        assert!([1, 3, 8].iter().all(|size| (*size..100).all(|free| class(free) >= class(*size))));
    }

    #[test]
    fn all_subsets_are_there() {
        assert_eq!(subsets(0).collect::<Vec<_>>(), [0]);
        assert_eq!(subsets(0b101).collect::<Vec<_>>(), [0, 1, 4, 5]);
        assert_eq!(subsets(u8::MAX).count(), 256);
    }
}
