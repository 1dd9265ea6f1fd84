//! A map that remembers only the newest entries: for what is over, but may still be asked about.

use alloc::collections::BTreeMap;
use core::ops::Bound;

/// Keeps the `limit` entries inserted last.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    limit: usize,
    count: u64,
    entries: BTreeMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, count: 0, entries: BTreeMap::new(), order: BTreeMap::new() }
    }

    /// Inserts as the newest; gives back the oldest where that one had to go.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.remove(&key);
        self.count += 1;
        self.order.insert(self.count, key.clone());
        self.entries.insert(key, (self.count, value));
        if self.entries.len() <= self.limit {
            return None;
        }
        let (_, oldest) = self.order.pop_first()?;
        self.entries.remove(&oldest).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (place, value) = self.entries.remove(key)?;
        self.order.remove(&place);
        Some(value)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// Values by key, from the one after `after`.
    pub(crate) fn range(&self, after: Option<&K>) -> impl Iterator<Item = &V> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((from, Bound::Unbounded)).map(|(_, (_, value))| value)
    }

    /// All entries, oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| self.entries.get(key).map(|(_, value)| (key, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn only_the_newest_are_kept_and_a_repeated_key_counts_as_new() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.insert('a', 1), None);
        assert_eq!(recent.insert('b', 2), None);
        assert_eq!(recent.insert('a', 3), None);
        assert_eq!(recent.insert('c', 4), Some(2));
        assert_eq!(
            recent.iter().map(|(key, value)| (*key, *value)).collect::<Vec<_>>(),
            [('a', 3), ('c', 4)]
        );
        assert_eq!(recent.get(&'b'), None);
    }
}
