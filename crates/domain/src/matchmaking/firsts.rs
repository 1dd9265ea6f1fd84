//! The first deadline of each queue: updated with every change, so that the next deadline of all is known without
//! looking at each queue.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use imbl::OrdMap;

use super::settings::{Queue, Settings};
use super::state::Line;
use crate::ids::QueueId;
use crate::time::Timestamp;

/// At most one entry per queue in each of its indexes.
#[derive(Default)]
pub(super) struct Firsts {
    /// Queues by their first deadline.
    deadlines: BTreeSet<(Timestamp, QueueId)>,
    /// Queues by when the first of their waiting tickets expires.
    expiries: BTreeSet<(Timestamp, QueueId)>,
    /// The maximum wait of each queue.
    expirations: BTreeMap<QueueId, Duration>,
}

impl Firsts {
    /// The first deadline, or expiry, of all queues.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        [first(&self.deadlines), first(&self.expiries)].into_iter().flatten().min()
    }

    /// The queues in which something is due at `now`, by name.
    pub(super) fn due(&self, now: Timestamp) -> BTreeSet<QueueId> {
        let due = |all: &BTreeSet<(Timestamp, QueueId)>| {
            all.iter().take_while(|(at, _)| *at <= now).map(|(_, queue)| queue.clone()).collect()
        };
        let mut found: BTreeSet<QueueId> = due(&self.deadlines);
        found.append(&mut due(&self.expiries));
        found
    }

    /// The first deadline of a queue has moved from `before` to `after`.
    pub(super) fn note_deadline(
        &mut self,
        queue: &QueueId,
        before: Option<Timestamp>,
        after: Option<Timestamp>,
    ) {
        move_first(&mut self.deadlines, queue, before, after);
    }

    /// The waiting tickets of a queue, or its settings, have changed.
    pub(super) fn note_line(&mut self, queue: &QueueId, line: &mut Line) {
        let expiration = self.expirations.get(queue);
        let after = first(&line.by_since).zip(expiration).map(|(since, expiration)| since + *expiration);
        move_first(&mut self.expiries, queue, line.expires, after);
        line.expires = after;
    }

    /// The settings have changed. Each line has to be recorded again.
    pub(super) fn configure(&mut self, settings: &Settings, closed: &OrdMap<QueueId, Queue>) {
        let queues = settings.queues.iter().chain(closed);
        self.expirations = queues.map(|(id, queue)| (id.clone(), queue.ticket_expiration)).collect();
    }
}

/// The time of the first entry.
pub(super) fn first<T: Ord>(entries: &BTreeSet<(Timestamp, T)>) -> Option<Timestamp> {
    entries.first().map(|(at, _)| *at)
}

fn move_first(
    all: &mut BTreeSet<(Timestamp, QueueId)>,
    queue: &QueueId,
    before: Option<Timestamp>,
    after: Option<Timestamp>,
) {
    if before == after {
        return;
    }
    if let Some(before) = before {
        all.remove(&(before, queue.clone()));
    }
    all.extend(after.map(|at| (at, queue.clone())));
}
