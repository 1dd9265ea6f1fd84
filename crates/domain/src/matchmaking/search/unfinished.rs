//! Searches that were cut. Queues take turns; within a queue, turns alternate between the search with the fewest turns
//! so far, so that new searches do not wait for all hopeless ones, and the next one by the age of its root, so that
//! none waits forever.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;

use super::Hunt;
use crate::ids::QueueId;

/// Memory budget of kept searches, in bytes. If a search finds no room, only its root is kept, and it starts over when
/// there is room.
const MAX_BYTES: usize = 64 << 20;

/// Searches that were cut, by the place of their root.
#[derive(Default)]
pub(crate) struct Unfinished {
    hunts: BTreeMap<u64, Kept>,
    lines: BTreeMap<QueueId, Line>,
    bytes: usize,
    /// The queue of each root whose search found no room.
    again: BTreeMap<u64, QueueId>,
    /// The queue that last had its turn.
    served: Option<QueueId>,
}

struct Kept {
    queue: QueueId,
    hunt: Hunt,
    bytes: usize,
}

/// The searches of a queue.
#[derive(Default)]
struct Line {
    places: BTreeSet<u64>,
    /// With the number of turns of each.
    turns: BTreeSet<(u32, u64)>,
    /// Roots whose search found no room.
    again: BTreeSet<u64>,
    bytes: usize,
    /// The last one that had a turn because of its age.
    at: u64,
    /// The next turn is by age.
    by_age: bool,
}

impl Line {
    fn next(&self) -> Option<u64> {
        if !self.by_age {
            return self.turns.first().map(|(_, place)| *place);
        }
        let mut places = self.places.range(self.at.saturating_add(1)..).chain(&self.places);
        places.next().copied()
    }
}

impl Unfinished {
    pub(crate) fn is_empty(&self) -> bool {
        self.hunts.is_empty() && self.again.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.hunts.len()
    }

    /// Whether a match for the ticket at this place is still being looked for.
    pub(crate) fn contains(&self, place: u64) -> bool {
        self.hunts.contains_key(&place) || self.again.contains_key(&place)
    }

    /// Keeps a search, to be continued in its turn. Within its queue's share of the memory, it finds room in any case:
    /// the youngest searches of the queue that takes most have to start over.
    pub(crate) fn insert(&mut self, queue: &QueueId, place: u64, hunt: Hunt) {
        self.remove(place);
        let bytes = hunt.bytes();
        self.lines.entry(queue.clone()).or_default();
        while self.bytes + bytes > MAX_BYTES && !self.hunts.is_empty() {
            let own = self.lines.get(queue).map_or(0, |line| line.bytes);
            if own + bytes > self.share() || !self.put_off_largest(queue) {
                self.put_off(queue.clone(), place);
                return;
            }
        }
        self.bytes += bytes;
        let line = self.lines.entry(queue.clone()).or_default();
        line.bytes += bytes;
        line.places.insert(place);
        line.turns.insert((hunt.turns, place));
        self.hunts.insert(place, Kept { queue: queue.clone(), hunt, bytes });
    }

    /// The share of each queue with cut searches in the memory, in bytes.
    fn share(&self) -> usize {
        let lines = self.lines.values().filter(|line| line.bytes > 0 || !line.again.is_empty());
        MAX_BYTES / (lines.count() + 1).max(2)
    }

    /// Lets the youngest search of the queue that takes most memory start over later; false if that is `own`.
    fn put_off_largest(&mut self, own: &QueueId) -> bool {
        let largest = self.lines.iter().max_by_key(|(_, line)| line.bytes);
        let Some((queue, line)) = largest.filter(|(queue, _)| *queue != own) else { return false };
        let Some(youngest) = line.places.last().copied() else { return false };
        let queue = queue.clone();
        self.take(youngest);
        self.put_off(queue, youngest);
        true
    }

    fn put_off(&mut self, queue: QueueId, place: u64) {
        self.lines.entry(queue.clone()).or_default().again.insert(place);
        self.again.insert(place, queue);
    }

    /// Removes and returns the search that is next.
    pub(crate) fn next(&mut self) -> Option<(u64, Hunt)> {
        let behind = self.served.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut lines = self.lines.range((behind, Bound::Unbounded)).chain(&self.lines);
        let (queue, place) = lines.find_map(|(queue, line)| Some((queue.clone(), line.next()?)))?;
        if let Some(line) = self.lines.get_mut(&queue) {
            if line.by_age {
                line.at = place;
            }
            line.by_age = !line.by_age;
        }
        self.served = Some(queue);
        let hunt = self.take(place)?;
        Some((place, hunt))
    }

    /// The roots in a queue that are older than the ticket at `place`, at most `most`.
    pub(crate) fn older(&self, queue: &QueueId, place: u64, most: usize) -> Vec<u64> {
        let places = self.lines.get(queue).into_iter().flat_map(|line| line.places.range(..place));
        places.take(most).copied().collect()
    }

    /// A root that is to start over, if there is room for its search: the oldest of the queue that takes the least
    /// memory.
    pub(crate) fn next_anew(&mut self) -> Option<(QueueId, u64)> {
        let waiting = self.lines.iter().filter(|(_, line)| !line.again.is_empty());
        let (queue, line) = waiting.min_by_key(|(_, line)| line.bytes)?;
        if self.bytes > MAX_BYTES / 2 && line.bytes > self.share() / 2 {
            return None;
        }
        let found = (queue.clone(), line.again.first().copied()?);
        self.remove(found.1);
        Some(found)
    }

    /// The ticket at this place no longer waits, or its search starts over.
    pub(crate) fn remove(&mut self, place: u64) {
        self.take(place);
        if let Some(queue) = self.again.remove(&place)
            && let Some(line) = self.lines.get_mut(&queue)
        {
            line.again.remove(&place);
        }
    }

    fn take(&mut self, place: u64) -> Option<Hunt> {
        let Kept { queue, hunt, bytes } = self.hunts.remove(&place)?;
        self.bytes -= bytes;
        // The line stays while there are others, so that it remembers the last turn.
        if let Some(line) = self.lines.get_mut(&queue) {
            line.bytes -= bytes;
            line.places.remove(&place);
            line.turns.remove(&(hunt.turns, place));
        }
        Some(hunt)
    }

    /// The queue's rules have changed: its tickets are looked at again.
    pub(crate) fn forget(&mut self, queue: &QueueId) {
        let Some(line) = self.lines.get(queue) else { return };
        let places: Vec<u64> = line.places.iter().chain(&line.again).copied().collect();
        places.into_iter().for_each(|place| self.remove(place));
        self.lines.remove(queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunt(turns: u32) -> Hunt {
        Hunt { pools: Vec::new(), turns }
    }

    /// So large that all but one find room.
    fn large() -> Hunt {
        of_bytes(MAX_BYTES * 3 / 4)
    }

    /// Slightly larger.
    fn of_bytes(bytes: usize) -> Hunt {
        let count = bytes / size_of::<super::super::Candidate>();
        let field = crate::matchmaking::search::Field { list: Vec::with_capacity(count), sizes: Vec::new() };
        let pool = super::super::InPool {
            pool: 0,
            pass: 0,
            leaves_out: false,
            turns: 0,
            field,
            stage: super::super::Stage::Begin,
        };
        Hunt { pools: Vec::from([pool]), turns: 0 }
    }

    fn queue(id: &str) -> QueueId {
        QueueId::new(id).unwrap()
    }

    #[test]
    fn queues_take_turns_and_in_each_the_searches_do() {
        let mut unfinished = Unfinished::default();
        for place in [1, 2, 3] {
            unfinished.insert(&queue("a"), place, hunt(5));
        }
        unfinished.insert(&queue("b"), 9, hunt(0));
        let mut served = Vec::new();
        for round in 0..12 {
            if round == 6 {
                // It had no turn yet, so it gets every other one until it had as many as the others.
                unfinished.insert(&queue("a"), 4, hunt(0));
            }
            let (place, mut hunt) = unfinished.next().unwrap();
            hunt.turns += 1;
            unfinished.insert(&queue(if place == 9 { "b" } else { "a" }), place, hunt);
            served.push(place);
        }
        assert_eq!(served, [1, 9, 1, 9, 2, 9, 2, 9, 4, 9, 3, 9]);
        assert_eq!(unfinished.older(&queue("a"), 4, 2), [1, 2]);
        unfinished.remove(9);
        unfinished.forget(&queue("a"));
        assert!(unfinished.next().is_none() && unfinished.is_empty());
    }

    #[test]
    fn a_search_that_finds_no_room_begins_anew_when_there_is_some() {
        let mut unfinished = Unfinished::default();
        unfinished.insert(&queue("a"), 1, large());
        unfinished.insert(&queue("a"), 2, large());
        assert_eq!((unfinished.len(), unfinished.contains(2)), (1, true));
        assert_eq!(unfinished.next_anew(), None);
        unfinished.remove(1);
        assert_eq!(unfinished.next_anew(), Some((queue("a"), 2)));
        assert!(unfinished.is_empty());
    }

    #[test]
    fn a_queue_with_few_searches_finds_room_beside_one_that_fills_it() {
        let mut unfinished = Unfinished::default();
        for place in 1..=10 {
            unfinished.insert(&queue("a"), place, of_bytes(MAX_BYTES / 8));
        }
        assert!(unfinished.again.len() >= 3, "{}", unfinished.again.len());
        unfinished.insert(&queue("b"), 20, of_bytes(MAX_BYTES / 8));
        unfinished.insert(&queue("b"), 21, of_bytes(MAX_BYTES / 8));
        let of_b = |unfinished: &Unfinished| unfinished.lines[&queue("b")].places.len();
        assert_eq!(of_b(&unfinished), 2);
        assert!(unfinished.bytes <= MAX_BYTES);
        assert!(unfinished.hunts.contains_key(&1), "the youngest of the other queue start over");
        for place in 22..=30 {
            unfinished.insert(&queue("b"), place, of_bytes(MAX_BYTES / 8));
        }
        assert!(of_b(&unfinished) <= 4, "no more than its share: {}", of_b(&unfinished));
        assert!(unfinished.lines[&queue("a")].places.len() >= 3);
        unfinished.forget(&queue("a"));
        unfinished.forget(&queue("b"));
        assert!(unfinished.is_empty() && unfinished.bytes == 0);
    }
}
