//! Which queue is served next, so that no queue waits for the work of another one.
//!
//! Each queue has an account of the work done for it, and the queue with the smallest account is served next. So among
//! queues with a backlog, each gets an equal share of the work, however expensive its single pieces are. A queue that
//! had nothing to do does not save up: its account is raised to [`AHEAD`] below the smallest account of the queues with
//! a backlog. Thus a queue with little to do is served before all of them, in the next tick, and its own backlog, if it
//! gets one, gives it no more than its share.

use alloc::collections::{BTreeMap, BTreeSet};

use super::forming::WORK_PER_TICK;
use crate::ids::QueueId;

/// The work of a queue without a backlog that is done before that of queues with one; in comparisons of two numbers.
pub const AHEAD: u64 = WORK_PER_TICK / 4;

/// The accounts of queues for one kind of work. At most one entry per queue.
#[derive(Default)]
pub(crate) struct Accounts {
    /// Work done for a queue, in comparisons; only differences matter.
    used: BTreeMap<QueueId, u64>,
    /// The smallest account of the queues that had a backlog.
    floor: u64,
}

/// Queues with something to do, the one to be served next first.
pub(crate) struct Line {
    waiting: BTreeSet<(u64, QueueId)>,
    /// Accounts of queues that have nothing to do any more.
    done: BTreeMap<QueueId, u64>,
}

impl Accounts {
    /// Lines up the queues with something to do.
    pub(crate) fn line_up(&self, queues: impl IntoIterator<Item = QueueId>) -> Line {
        let least = self.floor.saturating_sub(AHEAD);
        let account = |queue: &QueueId| self.used.get(queue).copied().unwrap_or_default().max(least);
        let waiting = queues.into_iter().map(|queue| (account(&queue), queue)).collect();
        Line { waiting, done: BTreeMap::new() }
    }

    /// Remembers the accounts until the next tick. Those that are left in the line have a backlog.
    pub(crate) fn settle(&mut self, line: Line) {
        let Some((least, _)) = line.waiting.first() else {
            // Without a backlog, accounts have no meaning.
            *self = Self::default();
            return;
        };
        self.floor = self.floor.max(*least);
        self.used.extend(line.done);
        self.used.extend(line.waiting.into_iter().map(|(used, queue)| (queue, used)));
        let least = self.floor.saturating_sub(AHEAD);
        self.used.retain(|_, used| *used > least);
    }
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The queues in the line, the next one first.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &QueueId> {
        self.waiting.iter().map(|(_, queue)| queue)
    }

    /// Takes the queue that is served next, with its account.
    pub(crate) fn next(&mut self) -> Option<(u64, QueueId)> {
        self.waiting.pop_first()
    }

    /// Takes a certain queue out of the line.
    pub(crate) fn take(&mut self, queue: &QueueId) -> Option<(u64, QueueId)> {
        let found = self.waiting.iter().find(|(_, of)| of == queue).cloned()?;
        self.waiting.take(&found)
    }

    /// A queue was served at this cost, and has more to do or not.
    pub(crate) fn served(&mut self, (account, queue): (u64, QueueId), cost: u64, has_more: bool) {
        let account = account.saturating_add(cost.max(1));
        if has_more {
            self.waiting.insert((account, queue));
        } else {
            self.done.insert(queue, account);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn id(name: &str) -> QueueId {
        QueueId::new(name).unwrap()
    }

    /// Serves queues at their cost until a tick's work is done; returns which were served.
    fn tick(accounts: &mut Accounts, queues: &[(&str, u64)]) -> Vec<QueueId> {
        let mut line = accounts.line_up(queues.iter().map(|(queue, _)| id(queue)));
        let (mut work, mut served) = (0, Vec::new());
        while work < WORK_PER_TICK {
            let Some(next) = line.next() else { break };
            served.push(next.1.clone());
            let cost = queues.iter().find(|(queue, _)| id(queue) == next.1).unwrap().1;
            work += cost;
            line.served(next, cost, true);
        }
        accounts.settle(line);
        served
    }

    #[test]
    fn queues_with_a_backlog_share_the_work_equally_whatever_their_pieces_cost() {
        let mut accounts = Accounts::default();
        let mut work = BTreeMap::new();
        for _ in 0..100 {
            for queue in tick(&mut accounts, &[("dear", WORK_PER_TICK / 2), ("cheap", 1_000)]) {
                *work.entry(queue.clone()).or_insert(0_u64) +=
                    if queue == id("dear") { 100_000 } else { 1_000 };
            }
        }
        let (dear, cheap) = (work[&id("dear")], work[&id("cheap")]);
        assert!(dear.abs_diff(cheap) <= WORK_PER_TICK / 2, "{dear} and {cheap}");
    }

    #[test]
    fn a_queue_with_little_to_do_is_served_first_and_cannot_save_up() {
        let mut accounts = Accounts::default();
        for _ in 0..50 {
            tick(&mut accounts, &[("a", 50_000), ("b", 50_000)]);
        }
        let served = tick(&mut accounts, &[("a", 50_000), ("b", 50_000), ("z", 1_000)]);
        let of_z = served.iter().take_while(|queue| **queue == id("z")).count() as u64;
        assert!((AHEAD / 1_000..=AHEAD / 1_000 + 51).contains(&of_z), "{of_z}");
        assert!(served.len() as u64 > of_z, "then the others have their turns");
    }
}
