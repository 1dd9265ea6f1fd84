//! Tickets that replace others: a party that a player leaves or joins keeps its place in the queue.
//!
//! The new ticket has the old one's place, age and wait, so structures ordered by them need no update. What searches
//! remember about a ticket by its place is distinguished by the number of tickets that had the place before.

use alloc::collections::BTreeSet;
use alloc::format;

use super::command::Refusal;
use super::model::{CancelCause, QueuePlace, Ticket, TicketSpec, TicketState};
use super::state::State;
use super::{BrokenRule, Turn};
use crate::ids::{PlayerId, QueueId};
use crate::time::Timestamp;

/// Maximum number of tickets that may have had a place before another one takes it.
pub const MAX_REPLACED: u32 = 10_000;

impl Turn<'_> {
    /// The ticket that a new one replaces, if any.
    pub(super) fn old_ticket(&self, spec: &TicketSpec) -> Result<Option<Ticket>, Refusal> {
        let Some(id) = &spec.replaces else { return Ok(None) };
        let old = self.state().find(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        let standing = match &old.state {
            TicketState::Validating(_) | TicketState::Waiting | TicketState::OnHold { .. } => None,
            TicketState::Over { .. } => Some("is over"),
            _ if self.broken(BrokenRule::ReplaceMatched) => None,
            _ => Some("is in a match"),
        };
        if let Some(standing) = standing {
            return Err(Refusal::NotWaiting { ticket: id.clone(), standing });
        }
        if old.replaced >= MAX_REPLACED {
            return Err(Refusal::TooMany {
                what: "tickets that replace one another",
                limit: MAX_REPLACED as usize,
            });
        }
        check_same_players(old, spec)?;
        Ok(Some(old.clone()))
    }

    /// Ends the old ticket; returns what the new one takes over.
    pub(super) fn take_over(&mut self, old: &Ticket) -> Option<QueuePlace> {
        let waits_since = match &old.state {
            TicketState::OnHold { since } => old.waits_since + self.now.since(*since),
            _ => old.waits_since,
        };
        // Pending work for the old ticket.
        let due = &mut self.maker.beside.due;
        due.by_rules.remove(&old.place);
        due.forget_seats(&old.queue, old.place);
        self.cancelled(&old.id, CancelCause::Replaced);
        let place = QueuePlace {
            number: old.place,
            started_at: old.started_at,
            waits_since,
            requeues: old.requeues,
            replaced: old.replaced + 1,
            lost: old.lost.clone().filter(|_| !self.broken(BrokenRule::ForgetLoss)),
        };
        (!self.broken(BrokenRule::LosePlace)).then_some(place)
    }
}

impl State {
    /// The place that a new ticket gets by an event: the one that it takes over, unless another ticket has it.
    pub(super) fn free_place(&self, taken_over: Option<&QueuePlace>, seq: u64, at: Timestamp) -> QueuePlace {
        let has_one = |place: &&QueuePlace| {
            self.tickets.contains_key(&place.number) || self.over.contains_key(&place.number)
        };
        let own =
            QueuePlace { number: seq, started_at: at, waits_since: at, requeues: 0, replaced: 0, lost: None };
        taken_over.filter(|place| !has_one(place)).cloned().unwrap_or(own)
    }
}

/// A place stays with its owners: the leader, or at least half of the players.
fn check_same_players(old: &Ticket, spec: &TicketSpec) -> Result<(), Refusal> {
    let new: BTreeSet<&PlayerId> = spec.players().map(|player| &player.id).collect();
    let stay = old.spec.players().filter(|player| new.contains(&player.id)).count();
    let leader_stays = old.spec.leader.as_ref().is_some_and(|leader| new.contains(leader));
    if leader_stays || (stay > 0 && 2 * stay >= old.spec.size()) {
        return Ok(());
    }
    let problem = format!(
        "the leader of ticket {}, or at least half of its players, must be in the ticket that replaces it",
        old.id
    );
    Err(Refusal::field("replaces", problem))
}

/// The new ticket must be for the queue in which the old one waits, or for the one that it originally asked for.
pub(super) fn check_same_queue(old: &Ticket, spec: &TicketSpec, queue: &QueueId) -> Result<(), Refusal> {
    if old.queue == *queue || old.asked_for().queue == spec.queue {
        return Ok(());
    }
    let problem = format!(
        "ticket {} waits in queue {}; only a ticket for that queue can replace it",
        old.id, old.queue
    );
    Err(Refusal::field("replaces", problem))
}
