//! Every mix of ticket sizes that fills the teams of a queue, if there are not too many.
//!
//! A mix that fills some teams also fills one team more, with additional solos. So for each team size there is one
//! list, which grows with the number of teams and is shared by all queues: each mix is computed once, even for a
//! thousand queues. Otherwise, reading the settings of many queues would take seconds.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

/// Maximum number of mixes of ticket sizes that are computed for one number of teams and team size.
const MAX_MIXES: usize = 512;
/// Maximum team size whose mixes are computed, in players.
const MAX_MIXED_TEAM: u16 = 16;
/// The number of bits of a [`Code`].
const CODE_BITS: u16 = 128;

/// The number of tickets of each size: `counts[size - 1]`.
pub(crate) type Mix = Box<[u16]>;

/// The number of tickets of each size but 1, with the same number of bits for each. The solos follow from the number of
/// players, so that one team of nothing but solos is zero.
type Code = u128;

/// The mixes by number and size of teams, computed on first use.
#[derive(Default)]
pub(crate) struct Mixes {
    growing: BTreeMap<u16, Growing>,
    /// By the number of teams and the size of a team.
    known: BTreeMap<(u32, u16), Option<Arc<[Mix]>>>,
}

impl Mixes {
    /// Every mix that fills `teams` teams of `size` exactly; `None` if there are too many.
    pub(crate) fn of(&mut self, teams: u32, size: u16) -> Option<Arc<[Mix]>> {
        let teams = teams.max(1);
        if size > MAX_MIXED_TEAM {
            return None;
        }
        if let Some(known) = self.known.get(&(teams, size)) {
            return known.clone();
        }
        let found = self.growing.entry(size).or_insert_with(|| Growing::new(size)).mixes(teams);
        self.known.insert((teams, size), found.clone());
        found
    }

    /// Drops unused mixes.
    pub(crate) fn forget_unused(&mut self) {
        self.known.retain(|_, mixes| mixes.as_ref().is_some_and(|mixes| Arc::strong_count(mixes) > 1));
    }
}

/// The mixes that fill teams of one size, for increasing numbers of teams.
struct Growing {
    size: u16,
    /// Each way to fill one team.
    patterns: Vec<Code>,
    /// Those found so far.
    found: BTreeSet<Code>,
    /// The same, by the minimum number of teams that they need.
    by_teams: Vec<Vec<Code>>,
}

impl Growing {
    fn new(size: u16) -> Self {
        let mut patterns = Vec::new();
        partitions(size, size, &mut vec![0; usize::from(size)], &mut patterns);
        let patterns = patterns.iter().map(|counts| encode(counts)).collect();
        Self { size, patterns, found: BTreeSet::from([0]), by_teams: vec![vec![0]] }
    }

    fn mixes(&mut self, teams: u32) -> Option<Arc<[Mix]>> {
        let wanted = usize::try_from(teams).ok()?;
        while self.by_teams.len() <= wanted && self.found.len() <= MAX_MIXES {
            // A mix that needs one team more contains one that needed one less.
            let mut new = Vec::new();
            for mix in self.by_teams.last().into_iter().flatten() {
                for pattern in &self.patterns {
                    if self.found.len() <= MAX_MIXES && self.found.insert(mix + pattern) {
                        new.push(mix + pattern);
                    }
                }
            }
            if new.is_empty() {
                break;
            }
            self.by_teams.push(new);
        }
        let codes = || self.by_teams.iter().take(wanted + 1).flatten();
        if codes().count() > MAX_MIXES {
            return None;
        }
        let mut mixes: Vec<Mix> = codes().filter_map(|code| decode(*code, teams, self.size)).collect();
        mixes.sort_unstable();
        Some(mixes.into())
    }
}

/// Bits per size in a code. Ticket counts never need more: of large teams only few mixes are computed, and one step
/// beyond them.
const fn bits(size: u16) -> u16 {
    let sizes = if size > 1 { size - 1 } else { 1 };
    let bits = CODE_BITS / sizes;
    if bits > 16 { 16 } else { bits }
}

fn encode(counts: &[u16]) -> Code {
    let bits = bits(u16::try_from(counts.len()).unwrap_or(CODE_BITS));
    counts.iter().skip(1).rev().fold(0, |code, count| (code << bits) | Code::from(*count))
}

/// `None` for more players than the teams have; no list has such a code.
fn decode(code: Code, teams: u32, size: u16) -> Option<Mix> {
    let (mut counts, mut left) = (Vec::with_capacity(usize::from(size)), u32::from(size) * teams);
    counts.push(0);
    for of in 2..=size {
        let count = (code >> ((of - 2) * bits(size))) & ((1 << bits(size)) - 1);
        let count = u16::try_from(count).ok()?;
        left = left.checked_sub(u32::from(of) * u32::from(count))?;
        counts.push(count);
    }
    *counts.first_mut()? = u16::try_from(left).ok()?;
    Some(counts.into())
}

/// Every way to write `left` as a sum of numbers up to `largest`.
fn partitions(left: u16, largest: u16, counts: &mut Vec<u16>, found: &mut Vec<Vec<u16>>) {
    if left == 0 {
        found.push(counts.clone());
        return;
    }
    for part in (1..=largest.min(left)).rev() {
        let Some(place) = usize::from(part).checked_sub(1) else { continue };
        bump(counts, place, 1);
        partitions(left - part, part, counts, found);
        bump(counts, place, -1);
    }
}

fn bump(counts: &mut [u16], place: usize, by: i16) {
    if let Some(count) = counts.get_mut(place) {
        *count = count.saturating_add_signed(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixes(teams: u32, size: u16) -> Option<Arc<[Mix]>> {
        Mixes::default().of(teams, size)
    }

    #[test]
    fn mixes_are_those_that_fill_the_teams() {
        let two_of_two = mixes(2, 2).unwrap();
        let found: Vec<&[u16]> = two_of_two.iter().map(|mix| &**mix).collect();
        assert_eq!(found, [&[0, 2][..], &[2, 1], &[4, 0]]);
        // Three and three leave two and two, not four.
        let fives = mixes(2, 5).unwrap();
        let has = |counts: [u16; 5]| fives.iter().any(|mix| **mix == counts);
        assert!(has([0, 2, 2, 0, 0]) && has([1, 0, 0, 1, 1]) && has([10, 0, 0, 0, 0]));
        assert!(!has([0, 0, 2, 1, 0]), "3 + 3 + 4 is ten, and no two teams of five");
        assert_eq!(mixes(20, 3).unwrap().len(), 231);
        assert!(mixes(12, 5).is_none() && mixes(1, 60).is_none());
        assert_eq!(mixes(1, 16).unwrap().len(), 231, "the partitions of 16");
        assert_eq!(mixes(500, 2).unwrap().len(), 501);
        assert!(mixes(511, 2).is_some() && mixes(512, 2).is_none() && mixes(2, 16).is_none());
        assert_eq!(mixes(1_000, 1).unwrap().to_vec(), [Box::from([1_000])]);
    }

    /// The answer does not depend on earlier calls: it is always that of adding one team after the other.
    #[test]
    fn they_are_the_same_in_whatever_order_they_are_asked_for() {
        let mut shared = Mixes::default();
        for (teams, size) in
            [(4, 5), (2, 5), (1, 5), (9, 5), (3, 3), (30, 3), (31, 3), (12, 3), (2, 8), (2, 9)]
        {
            let mut patterns = Vec::new();
            partitions(size, size, &mut vec![0; usize::from(size)], &mut patterns);
            let mut all: BTreeSet<Mix> = BTreeSet::from([Box::from(vec![0; usize::from(size)])]);
            for _ in 0..teams {
                let sum = |mix: &Mix, more: &Vec<u16>| mix.iter().zip(more).map(|(a, b)| a + b).collect();
                all = all.iter().flat_map(|mix| patterns.iter().map(move |more| sum(mix, more))).collect();
            }
            let found = shared.of(teams, size);
            assert_eq!(found.is_some(), all.len() <= MAX_MIXES, "{teams} of {size}: {}", all.len());
            if let Some(found) = found {
                assert_eq!(found.to_vec(), all.into_iter().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn queues_share_what_they_have_in_common() {
        let mut shared = Mixes::default();
        let (one, other) = (shared.of(3, 4).unwrap(), shared.of(3, 4).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        for teams in 1..=1_000 {
            for size in 1..=16 {
                shared.of(teams, size);
            }
        }
        let found: usize = shared.growing.values().map(|growing| growing.found.len()).sum();
        assert!(found <= 16 * (MAX_MIXES + 1), "each is found once: {found}");
        shared.forget_unused();
        assert_eq!(shared.known.len(), 1);
    }
}
