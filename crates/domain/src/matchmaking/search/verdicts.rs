//! What expressions said of pairs of tickets, so that a search that goes on, and the next one, do not have to ask again.

use alloc::collections::{BTreeMap, VecDeque};

/// Pairs that are remembered: about 16 MB.
const MAX_PAIRS: usize = 200_000;

/// Verdicts over pairs of tickets, by their places, the older first.
#[derive(Default)]
pub(crate) struct Verdicts {
    known: BTreeMap<(u64, u64), (u64, bool)>,
    /// In the order in which they were learnt.
    order: VecDeque<(u64, u64)>,
}

impl Verdicts {
    /// What is known of two tickets that demand what `demands` stands for.
    pub(crate) fn get(&self, pair: (u64, u64), demands: u64) -> Option<bool> {
        self.known.get(&pair).filter(|(of, _)| *of == demands).map(|(_, fits)| *fits)
    }

    pub(crate) fn insert(&mut self, pair: (u64, u64), demands: u64, fits: bool) {
        if self.known.insert(pair, (demands, fits)).is_none() {
            self.order.push_back(pair);
        }
        while self.order.len() > MAX_PAIRS {
            let Some(oldest) = self.order.pop_front() else { break };
            self.known.remove(&oldest);
        }
    }

    /// The rules are not as they were.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
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
        verdicts.clear();
        assert_eq!(verdicts.get((0, 10), 0), None);
    }
}
