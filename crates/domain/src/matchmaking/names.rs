//! Finds things by text without comparing texts on the way.
//!
//! An ordered map of a million texts compares twenty of them for one look-up, each somewhere else in memory, and that
//! took more than half of a tick. So things are found by a hash of their text, which lies in the map itself; the caller
//! compares the few texts found, usually one.

use alloc::collections::BTreeSet;

use crate::ids::mix;

/// Indexes of things, by the hash of their text.
#[derive(Default)]
pub(crate) struct Names {
    by_hash: BTreeSet<(u64, u64)>,
}

impl Names {
    pub(crate) fn insert(&mut self, hash: u64, number: u64) {
        self.by_hash.insert((hash, number));
    }

    pub(crate) fn remove(&mut self, hash: u64, number: u64) {
        self.by_hash.remove(&(hash, number));
    }

    /// The candidates: everything whose text has this hash.
    pub(crate) fn find(&self, hash: u64) -> impl Iterator<Item = u64> {
        self.by_hash.range((hash, 0)..=(hash, u64::MAX)).map(|(_, number)| *number)
    }
}

/// The hash of a text, continuing from another one.
pub(crate) fn hash(begin: u64, text: &str) -> u64 {
    let chunks = text.as_bytes().chunks(8);
    let bytes = chunks.map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    bytes.fold(mix(begin ^ text.len() as u64), |hash, word| mix(hash ^ word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn everything_with_a_hash_is_found() {
        let mut names = Names::default();
        let (one, other) = (hash(0, "ticket-1"), hash(0, "ticket-2"));
        assert_ne!(one, other);
        assert_ne!(hash(0, "a"), hash(1, "a"));
        names.insert(one, 7);
        names.insert(one, 9);
        names.insert(other, 8);
        assert_eq!(names.find(one).collect::<Vec<_>>(), [7, 9]);
        names.remove(one, 7);
        assert_eq!(names.find(one).collect::<Vec<_>>(), [9]);
    }
}
