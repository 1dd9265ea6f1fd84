//! How many bytes values take: the unit of memory budgets and bounds of steps.
//!
//! An estimate from the data alone, the same on every computer, because durable decisions follow from it. It is never
//! less than the stored form, and about the size in memory.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Bytes counted for each separately allocated value: its entry, the allocator's overhead, and tag and length of its
/// stored form.
pub const ENTRY_BYTES: usize = 48;

/// A value whose bytes are counted.
pub trait Size {
    /// Its approximate size in bytes.
    fn byte_size(&self) -> usize;
}

impl Size for str {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES + self.len()
    }
}

impl Size for String {
    fn byte_size(&self) -> usize {
        self.as_str().byte_size()
    }
}

impl<T: Size + ?Sized> Size for Arc<T> {
    fn byte_size(&self) -> usize {
        (**self).byte_size()
    }
}

impl<T: Size> Size for Option<T> {
    fn byte_size(&self) -> usize {
        self.as_ref().map_or(0, Size::byte_size)
    }
}

impl<T: Size> Size for [T] {
    fn byte_size(&self) -> usize {
        self.iter().map(Size::byte_size).sum()
    }
}

impl<T: Size> Size for Vec<T> {
    fn byte_size(&self) -> usize {
        self.as_slice().byte_size()
    }
}

impl<T: Size> Size for BTreeSet<T> {
    fn byte_size(&self) -> usize {
        self.iter().map(Size::byte_size).sum()
    }
}

impl<K: Size, V: Size> Size for BTreeMap<K, V> {
    fn byte_size(&self) -> usize {
        self.iter().map(|(key, value)| key.byte_size() + value.byte_size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn everything_counts_with_what_it_holds() {
        let one = "12345".to_string();
        assert_eq!(one.byte_size(), ENTRY_BYTES + 5);
        assert_eq!(Some(one.clone()).byte_size(), one.byte_size());
        assert_eq!(None::<String>.byte_size(), 0);
        assert_eq!(alloc::vec![one.clone(), one.clone()].byte_size(), 2 * one.byte_size());
        assert_eq!(BTreeMap::from([(one.clone(), one.clone())]).byte_size(), 2 * one.byte_size());
        assert_eq!(Arc::new(BTreeSet::from([one.clone()])).byte_size(), one.byte_size());
    }
}
