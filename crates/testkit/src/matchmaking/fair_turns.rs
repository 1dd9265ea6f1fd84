//! Checks of fairness: due deadlines in every queue; and waiting tickets at the hook that forms the matches.

use std::collections::{BTreeMap, BTreeSet};

use sortie_domain::ids::{QueueId, TicketId};
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::Effect;
use sortie_domain::matchmaking::model::{Stage, Ticket, TicketState};
use sortie_domain::time::Timestamp;

use super::checks::expires_at;
use super::world::World;

/// Ticks in a row in which nothing that is due in a queue may end: two other queues, and the tickets whose clients are
/// gone, may have their turns before it, of which a tick has room for one at least.
const TICKS: u32 = 3;

/// What is due, by queue.
pub(super) type Due = BTreeMap<QueueId, BTreeSet<String>>;

impl World {
    pub(super) fn due(&self) -> Due {
        let (now, snapshot) = (self.time(), self.maker.snapshot());
        let mut due = Due::new();
        let mut note = |queue: &QueueId, what: String| {
            due.entry(queue.clone()).or_default().insert(what);
        };
        for ticket in snapshot.tickets.values() {
            let is_due = match &ticket.state {
                TicketState::Waiting => expires_at(&self.maker, ticket).is_some_and(|at| at <= now),
                TicketState::Validating(check) => check.until <= now,
                _ => false,
            };
            if is_due {
                note(&ticket.queue, format!("ticket {} of {}", ticket.id, ticket.changed_seq));
            }
        }
        for formation in snapshot.formations.values() {
            let until = match &formation.stage {
                Stage::Accepting { until, .. } => *until,
                Stage::Checking(check) => check.until,
                Stage::FindingServer { .. } => continue,
            };
            if until <= now {
                note(&formation.queue, format!("match {} until {until:?}", formation.id));
            }
        }
        for offered in snapshot.offers.values() {
            for (ticket, (_, until)) in offered.seating.iter().filter(|(_, (_, until))| *until <= now) {
                note(&offered.offer.queue, format!("seat of {ticket} until {until:?}"));
            }
        }
        due
    }

    /// How long it is until a hook's time or that of a step to accept is over, in milliseconds.
    pub(super) fn next_end(&self) -> Option<u64> {
        let snapshot = self.maker.snapshot();
        let checked = snapshot.tickets.values().filter_map(|ticket| match &ticket.state {
            TicketState::Validating(check) => Some(check.until),
            _ => None,
        });
        let formed = snapshot.formations.values().filter_map(|formation| match &formation.stage {
            Stage::Accepting { until, .. } => Some(*until),
            Stage::Checking(check) => Some(check.until),
            Stage::FindingServer { .. } => None,
        });
        let ends = checked.chain(formed).map(Timestamp::as_millis);
        ends.filter(|at| *at > self.now).min().map(|at| at - self.now)
    }

    /// After a tick: in each queue with something due, something has ended, in this tick or one of the next.
    pub(super) fn check_turns(&mut self, before: &Due) {
        let after = self.due();
        self.put_off.retain(|queue, _| before.contains_key(queue));
        for (queue, due) in before {
            let left = after.get(queue).is_some_and(|left| due.is_subset(left));
            let ticks = self.put_off.entry(queue.clone()).or_default();
            *ticks = if left { *ticks + 1 } else { 0 };
            if *ticks > TICKS {
                let problem =
                    format!("2: nothing of what is due in queue {queue} ends in {ticks} ticks: {due:?}");
                return self.fail(problem);
            }
        }
    }

    /// A hook that forms matches is asked about all waiting tickets; there are never more than fit into one question.
    pub(super) fn check_asked(&mut self, effect: &Effect) {
        let Effect::FormMatches { queue, round, .. } = effect else { return };
        let tickets = self.maker.asked_about(queue, *round).unwrap_or_default();
        let asked: BTreeSet<TicketId> = tickets.into_iter().map(|(id, _)| id).collect();
        let snapshot = self.maker.snapshot();
        let waits = |ticket: &&Ticket| ticket.state == TicketState::Waiting && ticket.queue == *queue;
        let waiting = snapshot.tickets.values().map(AsRef::as_ref).filter(waits);
        let missing = waiting.map(|ticket| &ticket.id).find(|id| !asked.contains(*id)).cloned();
        if let Some(id) = missing {
            self.fail(format!("2: the hook of queue {queue} is not asked about ticket {id}, which waits"));
        }
    }
}
