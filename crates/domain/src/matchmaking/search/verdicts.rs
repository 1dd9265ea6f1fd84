//! Cached results of expressions on pairs of tickets, so that a resumed search, and the next one, need not evaluate
//! them again.

use alloc::collections::{BTreeMap, VecDeque};

/// Maximum number of cached pairs: about 16 MB.
const MAX_PAIRS: usize = 200_000;

/// Verdicts on pairs of tickets, by their places, the older one first.
#[derive(Default)]
pub(crate) struct Verdicts {
    known: BTreeMap<(u64, u64), (u32, u64, bool)>,
    /// In the order of insertion.
    order: VecDeque<(u64, u64)>,
    /// How often rules have changed. Verdicts under earlier rules are replaced one by one: to remove all of them at
    /// once takes longer than a step may.
    edition: u32,
}

impl Verdicts {
    /// The known verdict on two tickets with the demands identified by `demands`.
    pub(crate) fn get(&self, pair: (u64, u64), demands: u64) -> Option<bool> {
        let known =
            self.known.get(&pair).filter(|(edition, of, _)| (*edition, *of) == (self.edition, demands));
        known.map(|(.., fits)| *fits)
    }

    pub(crate) fn insert(&mut self, pair: (u64, u64), demands: u64, fits: bool) {
        if self.known.insert(pair, (self.edition, demands, fits)).is_none() {
            self.order.push_back(pair);
        }
        while self.order.len() > MAX_PAIRS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.known.remove(&oldest);
        }
    }

    /// The rules have changed.
    pub(crate) const fn forget_all(&mut self) {
        self.edition = self.edition.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_known_while_demands_are_the_same_and_the_newest_are_kept() {
        let mut verdicts = Verdicts::default();
        verdicts.insert((1, 2), 7, true);
        assert_eq!(
            (verdicts.get((1, 2), 7), verdicts.get((1, 2), 8), verdicts.get((1, 3), 7)),
            (Some(true), None, None)
        );
        verdicts.insert((1, 2), 8, false);
        assert_eq!((verdicts.get((1, 2), 7), verdicts.get((1, 2), 8)), (None, Some(false)));
        for place in 0..MAX_PAIRS as u64 {
            verdicts.insert((place, place + 10), 0, true);
        }
        assert_eq!((verdicts.known.len(), verdicts.order.len()), (MAX_PAIRS, MAX_PAIRS));
        assert_eq!((verdicts.get((1, 2), 8), verdicts.get((0, 10), 0)), (None, Some(true)));
        verdicts.forget_all();
        assert_eq!(verdicts.get((0, 10), 0), None);
        verdicts.insert((0, 10), 0, false);
        assert_eq!((verdicts.get((0, 10), 0), verdicts.known.len()), (Some(false), MAX_PAIRS));
    }
}
