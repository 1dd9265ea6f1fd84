//! A shared limit on the number of bytes held.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A limit on bytes that several tasks share.
///
/// Not a semaphore: many small amounts are taken and returned every second, and fairness is not needed. Tasks that take
/// at the same time can exceed the limit by one amount each.
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.used() < self.limit
    }

    /// Call this before anybody can return the same bytes.
    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        if before >= self.limit {
            self.freed.notify_waiters();
        }
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn room_comes_back() {
        let budget = Budget::new(10);
        budget.take(10);
        let mut waits = Box::pin(budget.room());
        assert!((&mut waits).now_or_never().is_none());
        budget.give(1);
        assert!(waits.now_or_never().is_some());
        assert_eq!(budget.used(), 9);
    }
}
