//! Where a waiting ticket finds the tickets that it could play with.
//!
//! Tickets of one queue that agree in every equality and accept one region are a *pool*. A ticket is in one pool for
//! each acceptable region; once its equalities relax, it is also in the pools of all tickets that are as relaxed.
//! Within a pool, tickets are ordered by *cells* of the first number that rules compare, then by size, then by age. So
//! the tickets within reach of a ticket are neighbours: a few are read at once and sorted, and of many the oldest of
//! each size are found by merging a few cells, however many tickets wait.
//!
//! A ticket whose first distance has relaxed reaches any number, but only two kinds of tickets reach it in return:
//! those that are as relaxed, which are also in a separate cell for relaxed tickets, and those within the widest finite
//! window of the rule. So everything in reach of a ticket is in a few cells, at any distance.
//!
//! All of it is one ordered map with small keys. A map per pool would be easier to read, but a million tickets can have
//! nearly as many pools, and a map for each takes several times the memory.
//!
//! Nothing here is durable: it depends on the time (windows widen), and is rebuilt from the state after a restart.

use alloc::collections::{BTreeMap, BinaryHeap, btree_map};
use alloc::sync::Arc;
use alloc::vec::{self, Vec};
use core::cell::{OnceCell, RefCell};
use core::cmp::Reverse;

use super::alarms::Alarms;
use super::mixes::Mixes;
use super::names::{Names, hash};
use super::rules::{Profile, Ruleset};
use super::settings::Queue;
use super::slab::Slab;
use crate::ids::{QueueId, RegionId};

/// The cell of tickets whose first distance has relaxed; not the cell of any number.
const RELAXED: i32 = i32::MAX;
/// The largest cell of a number.
pub(crate) const LAST_CELL: i32 = RELAXED - 1;
/// Maximum number of tickets in reach that are read at once; of more, the oldest are found cell by cell.
const FEW: usize = 96;

/// Identifies a pool: queue, relaxed equalities, region, and the values that its tickets have in common.
pub(crate) type PoolKey = (u32, u8, Option<RegionId>, Arc<str>);

/// A position in the map: pool, cell, size, place in the queue.
type Spot = (u32, i32, u16, u64);

/// Index of a ticket in the slab.
pub(crate) type Slot = u32;

/// The tickets of one size in one cell, oldest first.
struct Group<'a> {
    size: u16,
    tickets: btree_map::Range<'a, Spot, Slot>,
}

/// The number of tickets of each size in a pool.
struct Pool {
    key: PoolKey,
    /// By size.
    counts: Vec<(u16, u32)>,
    players: u32,
}

impl Pool {
    fn add(&mut self, size: u16) {
        self.players += u32::from(size);
        match self.counts.binary_search_by_key(&size, |(of, _)| *of) {
            Ok(at) => self.counts.iter_mut().skip(at).take(1).for_each(|(_, count)| *count += 1),
            Err(at) => self.counts.insert(at, (size, 1)),
        }
    }

    fn take(&mut self, size: u16) {
        self.players -= u32::from(size);
        self.counts.iter_mut().filter(|(of, _)| *of == size).for_each(|(_, count)| *count -= 1);
        self.counts.retain(|(_, count)| *count > 0);
    }
}

/// A waiting ticket that is in its pools.
pub(crate) struct Waiting {
    pub(crate) queue: QueueId,
    pub(crate) profile: Profile,
    pub(crate) rules: Arc<Ruleset>,
    cell: i32,
    /// Whether it is also in the cell of tickets whose first distance has relaxed.
    pub(crate) relaxed: bool,
    /// In search order: fewest relaxed equalities first, then the best region.
    pub(crate) pools: Vec<u32>,
}

#[derive(Default)]
pub(crate) struct Pools {
    slots: Slab<Waiting>,
    by_place: BTreeMap<u64, Slot>,
    spots: BTreeMap<Spot, Slot>,
    pools: Slab<Pool>,
    by_key: Names,
    /// When tickets next demand less.
    pub(crate) alarms: Alarms,
    rulesets: BTreeMap<QueueId, Rules>,
    /// The last of these numbers.
    numbered: u32,
    mixes: RefCell<Mixes>,
}

/// The rules of a queue.
struct Rules {
    /// Unique to these rules, so that tickets under old and new rules are never in one pool.
    number: u32,
    queue: Queue,
    compiled: OnceCell<Arc<Ruleset>>,
}

impl Pools {
    /// Replaces the rules of changed queues, and returns these queues. Their tickets keep the old rules until they
    /// enter again.
    pub(crate) fn configure<'a>(
        &mut self,
        queues: impl Iterator<Item = (&'a QueueId, &'a Queue)>,
    ) -> Vec<QueueId> {
        let mut before = core::mem::take(&mut self.rulesets);
        let mut changed = Vec::new();
        for (id, queue) in queues {
            let same = before.remove(id).filter(|known| known.queue == *queue);
            let rules = same.unwrap_or_else(|| {
                changed.push(id.clone());
                self.numbered = self.numbered.wrapping_add(1);
                Rules { number: self.numbered, queue: queue.clone(), compiled: OnceCell::new() }
            });
            self.rulesets.insert(id.clone(), rules);
        }
        drop(before);
        self.mixes.get_mut().forget_unused();
        changed
    }

    /// The rules of a queue, compiled when they are first needed: those of a thousand queues take longer than a step
    /// may.
    pub(crate) fn rules(&self, queue: &QueueId) -> Option<&Arc<Ruleset>> {
        let rules = self.rulesets.get(queue)?;
        let compile = || Arc::new(Ruleset::new(&rules.queue, &mut self.mixes.borrow_mut()));
        Some(rules.compiled.get_or_init(compile))
    }

    /// How many rules of a queue have yet to be compiled; `None` if they are compiled.
    pub(crate) fn uncompiled(&self, queue: &QueueId) -> Option<usize> {
        let rules = self.rulesets.get(queue).filter(|rules| rules.compiled.get().is_none())?;
        Some(rules.queue.rules.len())
    }

    pub(crate) fn slot(&self, place: u64) -> Option<Slot> {
        self.by_place.get(&place).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Waiting> {
        self.slots.get(slot)
    }

    /// Puts a ticket into its pools, or moves it if it was in others with its earlier demands.
    pub(crate) fn enter(&mut self, queue: &QueueId, profile: Profile) -> Option<Slot> {
        let rules = Arc::clone(self.rules(queue)?);
        let number = self.rulesets.get(queue)?.number;
        let lies_there =
            |waiting: &Waiting| Arc::ptr_eq(&waiting.rules, &rules) && waiting.profile.lies_where(&profile);
        if let Some(slot) = self.slot(profile.place)
            && self.get(slot).is_some_and(lies_there)
        {
            return self.renew(slot, profile);
        }
        self.remove(profile.place);
        let relaxed = is_relaxed(&rules, &profile);
        let cell = cell_of(profile.values.first().copied().unwrap_or_default(), rules.cell);
        let keys = keys(number, &profile);
        let pools: Vec<u32> = keys.into_iter().map(|key| self.pool(key)).collect();
        let (place, size) = (profile.place, profile.size);
        if let Some(until) = profile.until {
            self.alarms.insert(queue, until, place);
        }
        let of = pools.clone();
        let slot = self.slots.insert(Waiting { queue: queue.clone(), profile, rules, cell, relaxed, pools });
        for pool in of {
            self.spots.insert((pool, cell, size, place), slot);
            if relaxed {
                self.spots.insert((pool, RELAXED, size, place), slot);
            }
            if let Some(pool) = self.pools.get_mut(pool) {
                pool.add(size);
            }
        }
        self.by_place.insert(place, slot);
        Some(slot)
    }

    /// The ticket's demands have changed, but not its pools or cells.
    fn renew(&mut self, slot: Slot, profile: Profile) -> Option<Slot> {
        let waiting = self.slots.get_mut(slot)?;
        let place = profile.place;
        if waiting.profile.until != profile.until {
            if let Some(until) = waiting.profile.until {
                self.alarms.remove(&waiting.queue, until, place);
            }
            if let Some(until) = profile.until {
                self.alarms.insert(&waiting.queue, until, place);
            }
        }
        let relaxed = is_relaxed(&waiting.rules, &profile);
        waiting.profile = profile;
        if relaxed != core::mem::replace(&mut waiting.relaxed, relaxed) {
            for pool in &waiting.pools {
                let spot = (*pool, RELAXED, waiting.profile.size, place);
                if relaxed {
                    self.spots.insert(spot, slot);
                } else {
                    self.spots.remove(&spot);
                }
            }
        }
        Some(slot)
    }

    pub(crate) fn known_pool(&self, key: &PoolKey) -> Option<u32> {
        self.by_key.find(hash_of(key)).filter_map(|number| u32::try_from(number).ok()).find(|number| {
            let pool = self.pools.get(*number);
            pool.is_some_and(|pool| pool.key == *key)
        })
    }

    /// The rules of a queue, with their number.
    pub(crate) fn numbered_rules(&self, queue: &QueueId) -> Option<(u32, &Ruleset)> {
        Some((self.rulesets.get(queue)?.number, self.rules(queue)?))
    }

    /// The cells of a pool from `low` to `high` that have tickets of at most `largest` players, each with a size.
    pub(crate) fn groups(
        &self,
        pool: u32,
        (low, high): (i32, i32),
        largest: u16,
    ) -> impl Iterator<Item = (i32, u16)> {
        let mut from = Some((low, 0));
        core::iter::from_fn(move || {
            loop {
                let (cell, size) = from.filter(|(cell, _)| *cell <= high)?;
                let mut next = self.spots.range((pool, cell, size, 0)..=(pool, high, u16::MAX, u64::MAX));
                let ((_, cell, size, _), _) = next.next()?;
                if *size <= largest {
                    from = behind(*cell, *size);
                    return Some((*cell, *size));
                }
                from = cell.checked_add(1).map(|cell| (cell, 0));
            }
        })
    }

    /// The tickets of one size in one cell behind a place, oldest first.
    pub(crate) fn behind(
        &self,
        pool: u32,
        cell: i32,
        size: u16,
        place: u64,
    ) -> impl Iterator<Item = (u64, Slot)> {
        let first = (pool, cell, size, place.saturating_add(1));
        let spots = self.spots.range(first..=(pool, cell, size, u64::MAX));
        spots.map(|((_, _, _, place), slot)| (*place, *slot))
    }

    fn pool(&mut self, key: PoolKey) -> u32 {
        if let Some(known) = self.known_pool(&key) {
            return known;
        }
        let hash = hash_of(&key);
        let number = self.pools.insert(Pool { key, counts: Vec::new(), players: 0 });
        self.by_key.insert(hash, u64::from(number));
        number
    }

    /// The ticket at this place no longer waits.
    pub(crate) fn remove(&mut self, place: u64) {
        let Some(slot) = self.by_place.remove(&place) else { return };
        let Some(waiting) = self.slots.remove(slot) else { return };
        if let Some(until) = waiting.profile.until {
            self.alarms.remove(&waiting.queue, until, place);
        }
        for number in waiting.pools {
            self.spots.remove(&(number, waiting.cell, waiting.profile.size, place));
            if waiting.relaxed {
                self.spots.remove(&(number, RELAXED, waiting.profile.size, place));
            }
            let Some(pool) = self.pools.get_mut(number) else { continue };
            pool.take(waiting.profile.size);
            if pool.counts.is_empty()
                && let Some(pool) = self.pools.remove(number)
            {
                self.by_key.remove(hash_of(&pool.key), u64::from(number));
            }
        }
    }

    /// The number of players of all tickets in a pool.
    pub(crate) fn players(&self, pool: u32) -> u32 {
        self.pools.get(pool).map_or(0, |pool| pool.players)
    }

    /// The region of a pool.
    pub(crate) fn region(&self, pool: u32) -> Option<&RegionId> {
        self.pools.get(pool)?.key.2.as_ref()
    }

    /// The number of tickets of each size in a pool.
    pub(crate) fn counts(&self, pool: u32) -> &[(u16, u32)] {
        self.pools.get(pool).map_or(&[], |pool| &pool.counts)
    }

    /// The tickets of a pool behind the place `after` whose first number may be within the window of `ticket`, oldest
    /// first, without the ticket itself; if `relaxed`, also those whose distance has relaxed, at any number.
    pub(crate) fn near(&self, pool: u32, ticket: &Waiting, relaxed: bool, after: u64) -> Near<'_> {
        let (low, high) = reach(ticket);
        let all = self.spots.range((pool, low, 0, 0)..=(pool, high, u16::MAX, u64::MAX));
        let everywhere = self.spots.range((pool, RELAXED, 0, 0)..=(pool, RELAXED, u16::MAX, u64::MAX));
        let all = all.chain(everywhere.take_while(|_| relaxed));
        let own = ticket.profile.place;
        let mut few: Vec<(u64, Slot)> =
            all.take(FEW + 1).map(|((_, _, _, place), slot)| (*place, *slot)).collect();
        if few.len() <= FEW {
            few.retain(|(place, _)| *place != own && *place > after);
            few.sort_unstable();
            // A ticket whose distance has relaxed may have been found in two cells.
            few.dedup();
            return Near::Few(few.into_iter());
        }
        let mut groups = Vec::new();
        self.groups_behind(pool, (low, high), after, &mut groups);
        if relaxed {
            self.groups_behind(pool, (RELAXED, RELAXED), after, &mut groups);
        }
        Near::Many(Merge::new(groups, own))
    }

    /// The tickets of each size in each cell from `low` to `high`, behind the place `after`.
    fn groups_behind<'a>(
        &'a self,
        pool: u32,
        (low, high): (i32, i32),
        after: u64,
        found: &mut Vec<Group<'a>>,
    ) {
        let mut from = (low, 0);
        loop {
            let mut next = self.spots.range((pool, from.0, from.1, 0)..=(pool, high, u16::MAX, u64::MAX));
            let Some(((_, cell, size, _), _)) = next.next() else { break };
            let begin = after.saturating_add(1);
            let tickets = self.spots.range((pool, *cell, *size, begin)..=(pool, *cell, *size, u64::MAX));
            found.push(Group { size: *size, tickets });
            let Some(behind) = behind(*cell, *size) else { break };
            from = behind;
        }
    }
}

/// The position after the tickets of one size in one cell.
fn behind(cell: i32, size: u16) -> Option<(i32, u16)> {
    match size.checked_add(1) {
        Some(size) => Some((cell, size)),
        None => Some((cell.checked_add(1)?, 0)),
    }
}

fn is_relaxed(rules: &Ruleset, profile: &Profile) -> bool {
    rules.distances() > 0 && profile.windows.first().is_some_and(|window| window.is_infinite())
}

/// The first and the last cell with tickets that are in mutual reach of `ticket`, except for those that are as relaxed
/// as itself.
fn reach(ticket: &Waiting) -> (i32, i32) {
    let profile = &ticket.profile;
    if ticket.rules.distances() == 0 {
        return (ticket.cell, ticket.cell);
    }
    let (value, window) = (profile.values.first().copied(), profile.windows.first().copied());
    let (value, window) =
        (value.unwrap_or_default(), window.unwrap_or_default().min(ticket.rules.widest_finite));
    (cell_of(value - window, ticket.rules.cell), cell_of(value + window, ticket.rules.cell))
}

/// Tickets in reach, oldest first.
pub(crate) enum Near<'a> {
    Few(vec::IntoIter<(u64, Slot)>),
    Many(Merge<'a>),
}

impl Near<'_> {
    /// The cost of finding them, in tickets looked at.
    pub(crate) fn looks(&self) -> u64 {
        match self {
            Self::Few(few) => few.len() as u64,
            Self::Many(merge) => (FEW + merge.groups.len()) as u64,
        }
    }

    /// The next ticket; if there are many, only of a wanted size.
    pub(crate) fn next(&mut self, wanted: impl Fn(u16) -> bool) -> Option<(u64, Slot)> {
        match self {
            Self::Few(few) => few.next(),
            Self::Many(merge) => merge.next(wanted),
        }
    }
}

/// The tickets of some groups, oldest first, except for the one at the place `own`.
pub(crate) struct Merge<'a> {
    groups: Vec<Group<'a>>,
    heads: BinaryHeap<Reverse<(u64, Slot, usize)>>,
    own: u64,
    last: u64,
}

impl<'a> Merge<'a> {
    fn new(groups: Vec<Group<'a>>, own: u64) -> Self {
        let mut merge = Self { heads: BinaryHeap::with_capacity(groups.len()), groups, own, last: 0 };
        for at in 0..merge.groups.len() {
            merge.go_on(at);
        }
        merge
    }

    fn go_on(&mut self, at: usize) {
        let next = self.groups.get_mut(at).and_then(|group| group.tickets.next());
        self.heads.extend(next.map(|((_, _, _, place), slot)| Reverse((*place, *slot, at))));
    }

    fn next(&mut self, wanted: impl Fn(u16) -> bool) -> Option<(u64, Slot)> {
        loop {
            let Reverse((place, slot, at)) = self.heads.pop()?;
            if !self.groups.get(at).is_some_and(|group| wanted(group.size)) {
                continue;
            }
            self.go_on(at);
            // A ticket whose distance has relaxed may be in two of the groups.
            if place != self.own && place != self.last {
                self.last = place;
                return Some((place, slot));
            }
        }
    }
}

fn hash_of((queue, relaxed, region, values): &PoolKey) -> u64 {
    let begin = u64::from(*queue) << 8 | u64::from(*relaxed);
    hash(hash(begin, region.as_ref().map_or("", RegionId::as_str)), values)
}

/// The pools of a ticket, in search order.
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

/// The values that must be equal, without relaxed ones.
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

/// The cell of a number; numbers outside the range share the outermost cells.
pub(crate) fn cell_of(value: f64, width: f64) -> i32 {
    if width <= 0.0 {
        return 0;
    }
    let cell = value / width;
    let whole = cell as i32;
    let whole = if cell < f64::from(whole) { whole.saturating_sub(1) } else { whole };
    whole.min(LAST_CELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_wide_on_both_sides_of_zero() {
        assert_eq!([-2.0, -0.5, 0.0, 0.5, 1.0].map(|value| cell_of(value, 1.0)), [-2, -1, 0, 0, 1]);
        assert_eq!(cell_of(f64::INFINITY, 1.0), i32::MAX - 1);
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
