//! Tickets and offers as trees: the input of expressions.
//!
//! A tree takes thirty times the memory of its text, and texts come from players. So only the newest trees are kept,
//! within a budget, and others are rebuilt on demand; the cost is charged to the caller.

use alloc::collections::{BTreeMap, VecDeque};
use core::cell::RefCell;

use jmespath::Rcvar;

/// Budget for kept trees, in bytes.
const MAX_BYTES: usize = 64 << 20;
/// Maximum size in memory of a byte of text as part of a tree; and the overhead of each tree.
const BYTES_OF_BYTE: usize = 40;
const BYTES_OF_TREE: usize = 2_048;

#[derive(Default)]
pub(crate) struct Documents {
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// By place and edition, which are unique to each ticket and offer, with the size of each in bytes.
    trees: BTreeMap<(u64, u16), (Rcvar, usize)>,
    /// Oldest first.
    order: VecDeque<(u64, u16)>,
    bytes: usize,
    /// Bytes of text that were parsed, plus the other cost of looking at trees, in comparisons of two numbers.
    read: u64,
}

impl Documents {
    /// The tree of the ticket or offer at `place`, whose text has this many bytes. That of the place 0 is not kept.
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

    /// Adds the cost of an expression, in comparisons of two numbers.
    pub(crate) fn spend(&self, work: u64) {
        self.inner.borrow_mut().read += work;
    }

    /// The cost of looking at trees since the last call: a comparison of two numbers for each byte of text that was
    /// parsed, plus the cost of expressions.
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
