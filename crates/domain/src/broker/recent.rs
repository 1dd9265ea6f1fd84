//! A map that remembers only the newest entries: for records that are over, but may still be queried.

use alloc::collections::BTreeMap;

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

    /// Inserts as the newest; returns the oldest if that had to be removed.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.remove(&key);
        self.count += 1;
        self.order.insert(self.count, key.clone());
        self.entries.insert(key, (self.count, value));
        if self.entries.len() <= self.limit {
            return None;
        }
        self.pop_oldest()
    }

    pub(crate) fn pop_oldest(&mut self) -> Option<V> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_are_kept_and_a_repeated_key_counts_as_new() {
        let mut recent = Recent::new(2);
        assert_eq!(recent.insert('a', 1), None);
        assert_eq!(recent.insert('b', 2), None);
        assert_eq!(recent.insert('a', 3), None);
        assert_eq!(recent.insert('c', 4), Some(2));
        assert_eq!((recent.get(&'a'), recent.get(&'b'), recent.get(&'c')), (Some(&3), None, Some(&4)));
        assert_eq!(recent.pop_oldest(), Some(3));
    }
}
