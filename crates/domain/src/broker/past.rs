//! Records of the past that may still be queried: entries in insertion order, each under a key, with a count of their
//! bytes. Copies are cheap, so that a snapshot can have one.

use core::fmt;
use core::ops::Bound;

use imbl::OrdMap;

use crate::size::{ENTRY_BYTES, Size};

/// Entries by age and by key.
#[derive(Clone)]
pub struct Past<K, V> {
    count: u64,
    bytes: usize,
    entries: OrdMap<K, (u64, V)>,
    order: OrdMap<u64, K>,
}

impl<K, V> Default for Past<K, V> {
    fn default() -> Self {
        Self { count: 0, bytes: 0, entries: OrdMap::new(), order: OrdMap::new() }
    }
}

impl<K: Ord + Clone + Size, V: Clone + Size> Past<K, V> {
    /// Adds the newest entry, replacing one with the same key; returns its place.
    pub(crate) fn push(&mut self, key: K, value: V) -> u64 {
        self.remove(&key);
        self.count += 1;
        self.bytes += entry_bytes(&key, &value);
        self.order.insert(self.count, key.clone());
        self.entries.insert(key, (self.count, value));
        self.count
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (place, value) = self.entries.remove(key)?;
        self.order.remove(&place);
        self.bytes -= entry_bytes(key, &value);
        Some(value)
    }

    /// The oldest entry and its place.
    pub(crate) fn pop_oldest(&mut self) -> Option<(u64, K, V)> {
        let (place, key) = self.order.get_min()?.clone();
        let value = self.remove(&key)?;
        Some((place, key, value))
    }

    pub(crate) fn oldest(&self) -> Option<&V> {
        self.order.get_min().and_then(|(_, key)| self.get(key))
    }

    /// All entries with their places, oldest first.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u64, &K, &V)> {
        self.order.iter().filter_map(|(place, key)| Some((*place, key, self.get(key)?)))
    }

    /// Replaces the value of an existing entry, which keeps its place.
    pub(crate) fn replace(&mut self, key: &K, value: V) {
        if let Some((_, known)) = self.entries.get_mut(key) {
            self.bytes = self.bytes - known.byte_size() + value.byte_size();
            *known = value;
        }
    }

    /// The bytes of all entries.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: Ord + Clone, V: Clone> Past<K, V> {
    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Values by key, from the one after `after`.
    pub(crate) fn range(&self, after: Option<&K>) -> impl Iterator<Item = &V> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range::<_, K>((from, Bound::Unbounded)).map(|(_, (_, value))| value)
    }

    /// All entries, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order.values().filter_map(|key| Some((key, self.get(key)?)))
    }
}

fn entry_bytes(key: &impl Size, value: &impl Size) -> usize {
    ENTRY_BYTES + key.byte_size() + value.byte_size()
}

/// Oldest first.
impl<K: Ord + Clone + Size, V: Clone + Size> Extend<(K, V)> for Past<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.push(key, value);
        }
    }
}

/// Oldest first.
impl<K: Ord + Clone + Size, V: Clone + Size> FromIterator<(K, V)> for Past<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut past = Self::default();
        past.extend(entries);
        past
    }
}

/// The same entries in the same order.
impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for Past<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Past<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    fn entries(past: &Past<String, String>) -> Vec<(&str, &str)> {
        past.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    #[test]
    fn entries_keep_their_order_and_a_repeated_key_counts_as_new() {
        let mut past = Past::default();
        for (key, value) in [("a", "1"), ("b", "2"), ("a", "33"), ("c", "4")] {
            past.push(key.to_string(), value.to_string());
        }
        assert_eq!(entries(&past), [("b", "2"), ("a", "33"), ("c", "4")]);
        let copy = past.clone();
        past.replace(&"b".to_string(), "22".to_string());
        assert_eq!(entries(&past), [("b", "22"), ("a", "33"), ("c", "4")]);
        assert_eq!(past.bytes(), 3 * (3 * ENTRY_BYTES + 1) + 5);
        assert_eq!(past.pop_oldest().unwrap().1, "b");
        past.remove(&"c".to_string());
        assert_eq!(past.bytes(), 3 * ENTRY_BYTES + 3);
        assert_eq!(entries(&copy), [("b", "2"), ("a", "33"), ("c", "4")], "a copy stays as it was");
        let again: Past<_, _> = copy.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(again == copy && again.bytes() == copy.bytes() && past != copy);
    }
}
