//! Where waiting tickets are found by those that they could play with.
//!
//! Tickets of one queue that agree in every equality and can bear one region are a *pool*; a ticket is in a pool for
//! each region that it can bear, and once its equalities relax, in those of everyone who is as relaxed. Within a pool
//! tickets lie by size and by *cells* of the first number that rules compare; within a cell the oldest is first. So who is
//! within reach of a ticket, oldest first, is a merge of a few cells, however many tickets wait.
//!
//! All of it is one ordered map with small keys. A map for each pool would be easier to read, but a million tickets can
//! have nearly as many pools, and a map for each takes several times the memory.
//!
//! Nothing here is durable: it depends on the time (windows widen), and is made again from the state after a restart.

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap, btree_map};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::names::{Names, hash};
use super::rules::{Profile, Ruleset};
use crate::ids::{QueueId, RegionId};
use crate::time::Timestamp;

/// Cells that one look visits on each side of a ticket's own.
const MAX_CELLS: usize = 32;

/// Names a pool: queue, relaxed equalities, region, and the values that all have in common.
type PoolKey = (u32, u8, Option<RegionId>, Arc<str>);

/// A place in the one map: pool, size, cell, place in the queue.
pub(crate) type Spot = (u32, u16, i32, u64);

/// Index of a ticket in the slab.
pub(crate) type Slot = u32;

/// The tickets of one size in one cell, oldest first.
pub(crate) type Cell<'a> = btree_map::Range<'a, Spot, Slot>;

/// How many tickets of each size a pool has.
#[derive(Default)]
struct Pool {
    key: Option<PoolKey>,
    counts: BTreeMap<u16, u32>,
    players: u32,
}

/// A waiting ticket that is in its pools.
pub(crate) struct Waiting {
    pub(crate) queue: QueueId,
    pub(crate) profile: Profile,
    pub(crate) rules: Arc<Ruleset>,
    cell: i32,
    /// In the order in which they are searched: fewest relaxed equalities first, then the best region.
    pub(crate) pools: Vec<u32>,
}

#[derive(Default)]
pub(crate) struct Pools {
    slots: Vec<Option<Waiting>>,
    free: Vec<Slot>,
    by_place: BTreeMap<u64, Slot>,
    spots: BTreeMap<Spot, Slot>,
    pools: Vec<Pool>,
    free_pools: Vec<u32>,
    by_key: Names,
    /// When tickets next demand less.
    timers: BTreeSet<(Timestamp, u64)>,
    rulesets: BTreeMap<QueueId, (u32, Arc<Ruleset>)>,
}

impl Pools {
    /// The compiled rules of every queue, and nobody waiting.
    pub(crate) fn new<'a>(queues: impl Iterator<Item = (&'a QueueId, Arc<Ruleset>)>) -> Self {
        let rulesets = (0..).zip(queues).map(|(number, (id, rules))| (id.clone(), (number, rules))).collect();
        Self { rulesets, ..Self::default() }
    }

    pub(crate) fn rules(&self, queue: &QueueId) -> Option<&Arc<Ruleset>> {
        self.rulesets.get(queue).map(|(_, rules)| rules)
    }

    pub(crate) fn slot(&self, place: u64) -> Option<Slot> {
        self.by_place.get(&place).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Waiting> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The place of a ticket that demands less by `now`.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> Option<u64> {
        while let Some((at, place)) = self.timers.first().copied() {
            if at > now {
                return None;
            }
            self.timers.pop_first();
            if self.by_place.contains_key(&place) {
                return Some(place);
            }
        }
        None
    }

    /// Puts a ticket into its pools, or into others if it was there with other demands.
    pub(crate) fn enter(&mut self, queue: &QueueId, profile: Profile) -> Option<Slot> {
        self.remove(profile.place);
        let (number, rules) = self.rulesets.get(queue)?;
        let (number, rules) = (*number, Arc::clone(rules));
        let cell = cell_of(profile.values.first().copied().unwrap_or_default(), rules.cell);
        let keys = keys(number, &profile);
        let pools: Vec<u32> = keys.into_iter().map(|key| self.pool(key)).collect();
        let place = profile.place;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot::try_from(self.slots.len() - 1).unwrap_or(Slot::MAX)
        });
        for pool in &pools {
            self.spots.insert((*pool, profile.size, cell, place), slot);
            if let Some(pool) = self.pools.get_mut(*pool as usize) {
                *pool.counts.entry(profile.size).or_default() += 1;
                pool.players += u32::from(profile.size);
            }
        }
        if let Some(until) = profile.until {
            self.timers.insert((until, place));
        }
        self.by_place.insert(place, slot);
        *self.slots.get_mut(slot as usize)? =
            Some(Waiting { queue: queue.clone(), profile, rules, cell, pools });
        Some(slot)
    }

    fn pool(&mut self, key: PoolKey) -> u32 {
        let hash = hash_of(&key);
        let known = self.by_key.find(hash).filter_map(|number| u32::try_from(number).ok()).find(|number| {
            let pool = self.pools.get(*number as usize);
            pool.is_some_and(|pool| pool.key.as_ref() == Some(&key))
        });
        if let Some(known) = known {
            return known;
        }
        let pool = Pool { key: Some(key), ..Pool::default() };
        let number = match self.free_pools.pop() {
            Some(free) => {
                if let Some(place) = self.pools.get_mut(free as usize) {
                    *place = pool;
                }
                free
            }
            None => {
                self.pools.push(pool);
                u32::try_from(self.pools.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.by_key.insert(hash, u64::from(number));
        number
    }

    /// The ticket at this place does not wait any more.
    pub(crate) fn remove(&mut self, place: u64) {
        let Some(slot) = self.by_place.remove(&place) else { return };
        let Some(waiting) = self.slots.get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.push(slot);
        if let Some(until) = waiting.profile.until {
            self.timers.remove(&(until, place));
        }
        for number in waiting.pools {
            self.spots.remove(&(number, waiting.profile.size, waiting.cell, place));
            let Some(pool) = self.pools.get_mut(number as usize) else { continue };
            pool.players -= u32::from(waiting.profile.size);
            if let Some(count) = pool.counts.get_mut(&waiting.profile.size) {
                *count -= 1;
                if *count == 0 {
                    pool.counts.remove(&waiting.profile.size);
                }
            }
            if pool.counts.is_empty()
                && let Some(key) = pool.key.take()
            {
                self.by_key.remove(hash_of(&key), u64::from(number));
                self.free_pools.push(number);
            }
        }
    }

    /// Players of all tickets in a pool.
    pub(crate) fn players(&self, pool: u32) -> u32 {
        self.pools.get(pool as usize).map_or(0, |pool| pool.players)
    }

    /// How many tickets of a size a pool has.
    pub(crate) fn count(&self, pool: u32, size: u16) -> u32 {
        let counts = self.pools.get(pool as usize).map(|pool| &pool.counts);
        counts.and_then(|counts| counts.get(&size)).copied().unwrap_or_default()
    }

    /// Whom the region of a pool is named after.
    pub(crate) fn region(&self, pool: u32) -> Option<&RegionId> {
        self.pools.get(pool as usize)?.key.as_ref()?.2.as_ref()
    }

    /// The cells of a pool with tickets no larger than `largest` whose first number may be within the ticket's window.
    pub(crate) fn cells_near(&self, pool: u32, ticket: &Waiting, largest: u16) -> Vec<Cell<'_>> {
        let mut cells = Vec::new();
        let sizes = self.pools.get(pool as usize).into_iter().flat_map(|pool| pool.counts.range(..=largest));
        for (size, _) in sizes {
            self.cells(pool, *size, ticket, &mut cells);
        }
        cells
    }

    /// The cells of one size that the ticket's window touches, nearest first on each side.
    fn cells<'a>(&'a self, pool: u32, size: u16, ticket: &Waiting, found: &mut Vec<Cell<'a>>) {
        let profile = &ticket.profile;
        let (value, window) =
            (profile.values.first().copied().unwrap_or_default(), profile.windows.first().copied());
        let window = if ticket.rules.distances() == 0 { 0.0 } else { window.unwrap_or_default() };
        let (low, high) =
            (cell_of(value - window, ticket.rules.cell), cell_of(value + window, ticket.rules.cell));
        let cell = |at: i32| self.spots.range((pool, size, at, 0)..=(pool, size, at, u64::MAX));
        let mut from = Some(ticket.cell);
        for _ in 0..=MAX_CELLS {
            let Some(start) = from.filter(|start| *start <= high) else { break };
            let mut next = self.spots.range((pool, size, start, 0)..=(pool, size, high, u64::MAX));
            let Some(((_, _, at, _), _)) = next.next() else { break };
            found.push(cell(*at));
            from = at.checked_add(1);
        }
        let mut from = ticket.cell.checked_sub(1);
        for _ in 0..MAX_CELLS {
            let Some(start) = from.filter(|start| *start >= low) else { break };
            let mut next = self.spots.range((pool, size, low, 0)..=(pool, size, start, u64::MAX));
            let Some(((_, _, at, _), _)) = next.next_back() else { break };
            found.push(cell(*at));
            from = at.checked_sub(1);
        }
    }
}

fn hash_of((queue, relaxed, region, values): &PoolKey) -> u64 {
    let begin = u64::from(*queue) << 8 | u64::from(*relaxed);
    hash(hash(begin, region.as_ref().map_or("", RegionId::as_str)), values)
}

/// The tickets of some cells, oldest first, but for that at the place `own`.
pub(crate) fn merge(mut cells: Vec<Cell<'_>>, own: u64) -> impl Iterator<Item = Slot> {
    let mut heap = BinaryHeap::new();
    for (at, cell) in cells.iter_mut().enumerate() {
        heap.extend(cell.next().map(|((_, _, _, place), slot)| Reverse((*place, *slot, at))));
    }
    let merged = core::iter::from_fn(move || {
        let Reverse((place, slot, at)) = heap.pop()?;
        let next = cells.get_mut(at).and_then(Iterator::next);
        heap.extend(next.map(|((_, _, _, place), slot)| Reverse((*place, *slot, at))));
        Some((place, slot))
    });
    merged.filter(move |(place, _)| *place != own).map(|(_, slot)| slot)
}

/// The pools of a ticket, in the order in which they are searched.
fn keys(queue: u32, profile: &Profile) -> Vec<PoolKey> {
    if !profile.eligible {
        return Vec::new();
    }
    let mut relaxed: Vec<u8> =
        (0..=profile.relaxed_equal).filter(|bits| bits & !profile.relaxed_equal == 0).collect();
    relaxed.sort_by_key(|bits| (bits.count_ones(), *bits));
    let values = relaxed.into_iter().map(|bits| (bits, without(&profile.equal, bits)));
    let of_regions = |(bits, values): (u8, Arc<str>)| {
        let regions = profile.regions.iter();
        regions.map(move |(region, _)| (queue, bits, region.clone(), Arc::clone(&values)))
    };
    values.flat_map(of_regions).collect()
}

/// The values that must be equal, without those that need not be.
fn without(values: &Arc<str>, relaxed: u8) -> Arc<str> {
    if relaxed == 0 {
        return Arc::clone(values);
    }
    let mut kept = alloc::string::String::new();
    for (at, value) in values.split('\u{1f}').enumerate() {
        if at > 0 {
            kept.push('\u{1f}');
        }
        if relaxed & (1 << at.min(7)) == 0 {
            kept.push_str(value);
        }
    }
    Arc::from(kept)
}

/// The cell of a number; numbers beyond the range of cells share the outermost.
fn cell_of(value: f64, width: f64) -> i32 {
    if width <= 0.0 {
        return 0;
    }
    let cell = value / width;
    let whole = cell as i32;
    if cell < f64::from(whole) { whole.saturating_sub(1) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_wide_on_both_sides_of_zero() {
        assert_eq!([-2.0, -0.5, 0.0, 0.5, 1.0].map(|value| cell_of(value, 1.0)), [-2, -1, 0, 0, 1]);
        assert_eq!(cell_of(f64::INFINITY, 1.0), i32::MAX);
        assert_eq!(cell_of(f64::NEG_INFINITY, 1.0), i32::MIN);
        assert_eq!(cell_of(7.0, 0.0), 0);
    }

    #[test]
    fn values_that_need_not_be_equal_are_left_out() {
        let values: Arc<str> = Arc::from("a\u{1f}b\u{1f}c");
        assert_eq!(&*without(&values, 0), "a\u{1f}b\u{1f}c");
        assert_eq!(&*without(&values, 0b101), "\u{1f}b\u{1f}");
    }
}
