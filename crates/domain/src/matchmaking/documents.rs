//! What expressions look at: tickets and offers as trees.
//!
//! A tree takes thirty times the memory of its text, and texts come from players. So trees are kept within a budget only,
//! those made last, and made again where they are wanted again; what that costs is counted for who wanted them.

use alloc::collections::{BTreeMap, VecDeque};
use core::cell::RefCell;

use jmespath::Rcvar;

/// Bytes of trees that are kept.
const MAX_BYTES: usize = 64 << 20;
/// What a byte of text takes as part of a tree, at most; and what each tree takes beside.
const BYTES_OF_BYTE: usize = 40;
const BYTES_OF_TREE: usize = 2_048;

#[derive(Default)]
pub(crate) struct Documents {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By place and edition, which no ticket or offer has in common with another, with the bytes of each.
    trees: BTreeMap<(u64, u16), (Rcvar, usize)>,
    /// The oldest first.
    order: VecDeque<(u64, u16)>,
    bytes: usize,
    /// Bytes of text that were read, and what else looking at trees has cost, in comparisons of two numbers.
    read: u64,
}

impl Documents {
    /// The tree of what is at `place`, whose text has so many bytes. That of the place 0 is not kept.
    pub(crate) fn get(&self, place: (u64, u16), text: usize, make: impl FnOnce() -> Rcvar) -> Rcvar {
        if let Some((tree, _)) = self.inner.borrow().trees.get(&place) {
            return Rcvar::clone(tree);
        }
        let tree = make();
        let mut inner = self.inner.borrow_mut();
        inner.read += text as u64;
        let bytes = BYTES_OF_TREE + text * BYTES_OF_BYTE;
        if place.0 != 0 && bytes <= MAX_BYTES {
            inner.bytes += bytes;
            inner.trees.insert(place, (Rcvar::clone(&tree), bytes));
            inner.order.push_back(place);
            while inner.bytes > MAX_BYTES {
                let Some(oldest) = inner.order.pop_front() else { break };
                let freed = inner.trees.remove(&oldest).map_or(0, |(_, bytes)| bytes);
                inner.bytes -= freed;
            }
        }
        tree
    }

    /// Counts what an expression has cost, in comparisons of two numbers.
    pub(crate) fn spend(&self, work: u64) {
        self.inner.borrow_mut().read += work;
    }

    /// What looking at trees has cost since this was last asked: a comparison of two numbers for each byte of text that was
    /// read, and what expressions have cost.
    pub(crate) fn take_read(&self) -> u64 {
        core::mem::take(&mut self.inner.borrow_mut().read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jmespath::Variable;

    #[test]
    fn trees_are_kept_within_the_budget_and_made_again() {
        let documents = Documents::default();
        let tree = || Rcvar::new(Variable::Null);
        let large = MAX_BYTES / BYTES_OF_BYTE / 2;
        for place in [1, 1, 2] {
            documents.get((place, 0), large - 1_000, tree);
        }
        assert_eq!(documents.take_read(), 2 * (large as u64 - 1_000), "what is kept is not read again");
        documents.get((3, 0), large - 1_000, tree);
        documents.get((1, 0), 10, tree);
        assert_eq!(documents.take_read(), large as u64 - 990, "the oldest had to go");
        assert!(documents.inner.borrow().bytes <= MAX_BYTES);
        documents.get((0, 0), 7, tree);
        documents.get((0, 0), 7, tree);
        assert_eq!(documents.take_read(), 14);
    }
}
