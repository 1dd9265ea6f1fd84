//! When waiting tickets next demand less, by queue, so that the tickets of one queue can be looked at without those of
//! the others.

use alloc::collections::{BTreeMap, BTreeSet};

use super::firsts::first;
use crate::ids::QueueId;
use crate::time::Timestamp;

/// At most one entry per waiting ticket.
#[derive(Default)]
pub(crate) struct Alarms {
    queues: BTreeMap<QueueId, BTreeSet<(Timestamp, u64)>>,
    /// The queues by their first entry.
    firsts: BTreeSet<(Timestamp, QueueId)>,
}

impl Alarms {
    /// The ticket at `place` demands less from then on.
    pub(crate) fn insert(&mut self, queue: &QueueId, at: Timestamp, place: u64) {
        self.change(queue, |alarms| alarms.insert((at, place)));
    }

    pub(crate) fn remove(&mut self, queue: &QueueId, at: Timestamp, place: u64) {
        self.change(queue, |alarms| alarms.remove(&(at, place)));
    }

    /// The first time of all.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        first(&self.firsts)
    }

    /// The queues with a ticket that demands less by `now`.
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = &QueueId> {
        self.firsts.iter().take_while(move |(at, _)| *at <= now).map(|(_, queue)| queue)
    }

    pub(crate) fn is_due(&self, queue: &QueueId, now: Timestamp) -> bool {
        self.queues.get(queue).and_then(first).is_some_and(|at| at <= now)
    }

    /// Removes the first ticket of a queue that demands less by `now`, and returns its place.
    pub(crate) fn take(&mut self, queue: &QueueId, now: Timestamp) -> Option<u64> {
        if !self.is_due(queue, now) {
            return None;
        }
        let (_, place) = self.change(queue, BTreeSet::pop_first)??;
        Some(place)
    }

    fn change<T>(
        &mut self,
        queue: &QueueId,
        change: impl FnOnce(&mut BTreeSet<(Timestamp, u64)>) -> T,
    ) -> Option<T> {
        if !self.queues.contains_key(queue) {
            self.queues.insert(queue.clone(), BTreeSet::new());
        }
        let alarms = self.queues.get_mut(queue)?;
        let before = first(alarms);
        let result = change(alarms);
        let after = first(alarms);
        if alarms.is_empty() {
            self.queues.remove(queue);
        }
        if before != after {
            if let Some(before) = before {
                self.firsts.remove(&(before, queue.clone()));
            }
            self.firsts.extend(after.map(|at| (at, queue.clone())));
        }
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_queue_is_known_after_every_change() {
        let (a, b) = (QueueId::new("a").unwrap(), QueueId::new("b").unwrap());
        let at = Timestamp::from_millis;
        let mut alarms = Alarms::default();
        for (queue, time, place) in [(&a, 5, 1), (&a, 3, 2), (&b, 4, 3)] {
            alarms.insert(queue, at(time), place);
        }
        assert_eq!((alarms.next(), alarms.due(at(4)).count()), (Some(at(3)), 2));
        assert_eq!(
            (alarms.take(&a, at(2)), alarms.take(&a, at(4)), alarms.take(&a, at(4))),
            (None, Some(2), None)
        );
        assert_eq!(
            (alarms.next(), alarms.is_due(&b, at(4)), alarms.is_due(&a, at(4))),
            (Some(at(4)), true, false)
        );
        alarms.remove(&b, at(4), 3);
        assert_eq!(alarms.next(), Some(at(5)));
        alarms.remove(&a, at(5), 1);
        assert!(alarms.next().is_none() && alarms.queues.is_empty());
    }
}
