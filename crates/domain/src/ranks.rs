//! How many places of the queue come before a given one.
//!
//! A set of places knows their order but not their number, and counting 100,000 of them for every player who asks is
//! too slow. So places are counted in blocks of 2⁷ neighbouring numbers, those in blocks of 2¹⁴, and so on: a query
//! adds up at most 2⁷ counts per level. A balanced tree with counts would do the same, but is more complex.

use alloc::collections::BTreeMap;

/// A block of one level has 2 to the power of this blocks of the level below.
const BLOCK_BITS: u32 = 7;
/// The number of levels. A block of the last has 2³⁵ numbers, so a log has few of them.
const LEVELS: usize = 6;

/// A set of places that can say how many of them come before another.
#[derive(Default)]
pub(crate) struct Ranks {
    /// For each level, the number of places in each block that has any. A block of the first level is one place.
    levels: [BTreeMap<u64, usize>; LEVELS],
}

impl Ranks {
    /// Adds a place that is not there.
    pub(crate) fn insert(&mut self, place: u64) {
        for (level, counts) in (0..).zip(&mut self.levels) {
            *counts.entry(block(place, level)).or_default() += 1;
        }
    }

    /// Removes a place that is there.
    pub(crate) fn remove(&mut self, place: u64) {
        for (level, counts) in (0..).zip(&mut self.levels) {
            let block = block(place, level);
            if let Some(count) = counts.get_mut(&block) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&block);
                }
            }
        }
    }

    pub(crate) fn before(&self, place: u64) -> usize {
        let levels = (0..).zip(&self.levels);
        let counts = levels.map(|(level, counts)| {
            let first = if level + 1 < LEVELS as u32 { block(place, level + 1) << BLOCK_BITS } else { 0 };
            counts.range(first..block(place, level)).map(|(_, count)| count).sum::<usize>()
        });
        counts.sum()
    }
}

const fn block(place: u64, level: u32) -> u64 {
    place >> (level * BLOCK_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn ranks_are_those_of_counting() {
        let (mut ranks, mut places) = (Ranks::default(), BTreeSet::new());
        for n in 0..3_000_u64 {
            let place = crate::ids::mix(n) >> (n % 8 * 8);
            if places.insert(place) {
                ranks.insert(place);
            }
            if n % 3 == 0
                && let Some(gone) = places.range(crate::ids::mix(!n) >> (n % 8 * 8)..).next().copied()
            {
                places.remove(&gone);
                ranks.remove(gone);
            }
        }
        assert!(places.len() > 1_000);
        for end in places.iter().flat_map(|place| [*place, place.saturating_add(1)]).chain([0, u64::MAX]) {
            assert_eq!(ranks.before(end), places.range(..end).count(), "{end}");
        }
    }
}
