//! How many bytes may wait for local connections, and how long that may delay the others.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::options::Limits;

/// Cost of a message in addition to its bytes, so that many empty ones are not free, in bytes.
const MESSAGE_COST: usize = 64;

/// A limited number of bytes. Clones share it.
#[derive(Clone)]
pub(super) struct Room {
    free: Arc<Semaphore>,
    size: usize,
}

/// A part of a room. Returned when dropped.
pub(super) type Taken = OwnedSemaphorePermit;

/// The outcome of waiting for room.
pub(super) enum Verdict {
    Taken(Taken),
    /// Nobody needs it any more.
    Gone,
    /// The deadline has passed.
    Late,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        let size = bytes.clamp(1, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { free: Arc::new(Semaphore::new(size)), size }
    }

    /// A message larger than the whole room takes all of it.
    fn cost(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.saturating_add(MESSAGE_COST).min(self.size)).unwrap_or(u32::MAX)
    }

    /// Maximum number of messages that there can be room for at a time.
    pub(super) fn messages(&self) -> usize {
        self.size / MESSAGE_COST + 1
    }

    pub(super) fn try_take(&self, bytes: usize) -> Option<Taken> {
        Arc::clone(&self.free).try_acquire_many_owned(self.cost(bytes)).ok()
    }

    pub(super) async fn take(&self, bytes: usize, deadline: Instant) -> Verdict {
        match timeout_at(deadline, Arc::clone(&self.free).acquire_many_owned(self.cost(bytes))).await {
            Ok(Ok(taken)) => Verdict::Taken(taken),
            Ok(Err(_)) => Verdict::Gone,
            Err(_) => Verdict::Late,
        }
    }

    /// Nobody takes from it any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    pub(super) fn taken(&self) -> usize {
        self.size - self.free.available_permits().min(self.size)
    }

    pub(super) fn is_half_free(&self) -> bool {
        self.taken() <= self.size / 2
    }
}

/// Since when a full room delays others.
#[derive(Default)]
pub(super) struct Hold {
    since: Option<Instant>,
}

impl Hold {
    /// How long to wait for a full room. If others wait, the deadline stays the same until the room is half empty, so
    /// that a server that takes a little now and then does not hold them up for ever. If the device is alone, any
    /// progress extends it.
    pub(super) fn deadline(&mut self, now: Instant, is_alone: bool, limits: &Limits) -> Instant {
        if is_alone {
            self.since = None;
            return now + limits.lone_patience;
        }
        *self.since.get_or_insert(now) + limits.patience
    }

    /// There is room again.
    pub(super) fn end(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_limited_and_given_back() {
        let room = Room::new(1_000);
        let some = room.try_take(600).unwrap();
        assert_eq!((room.taken(), room.is_half_free()), (664, false));
        assert!(room.try_take(600).is_none());
        let deadline = Instant::now() + Duration::from_secs(1);
        assert!(matches!(room.take(600, deadline).await, Verdict::Late));
        drop(some);
        assert!(room.is_half_free());
        // Larger than the whole room, and still accepted in the end.
        assert!(matches!(room.take(5_000, deadline).await, Verdict::Taken(_)));
        room.close();
        assert!(matches!(room.take(1, deadline).await, Verdict::Gone));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_is_not_prolonged_by_a_little_progress_unless_alone() {
        let limits = Limits::default();
        let (start, mut hold) = (Instant::now(), Hold::default());
        let later = start + Duration::from_secs(1);
        assert_eq!(hold.deadline(start, false, &limits), start + limits.patience);
        assert_eq!(hold.deadline(later, false, &limits), start + limits.patience);
        hold.end();
        assert_eq!(hold.deadline(later, false, &limits), later + limits.patience);
        assert_eq!(hold.deadline(start, true, &limits), start + limits.lone_patience);
        assert_eq!(hold.deadline(later, true, &limits), later + limits.lone_patience);
    }
}
