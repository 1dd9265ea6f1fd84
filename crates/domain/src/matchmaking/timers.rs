//! Every deadline, and what it ends.
//!
//! Deadlines have a share of each tick that forming cannot use up, and queues take turns in it, so that a busy queue
//! delays neither its own deadlines nor those of another queue. Tickets of clients that are gone have a turn, too. In
//! each tick at least one of them has its turn, so something that is due ends in each of `n` queues within `n + 1`
//! ticks.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::command::{MatchVerdict, TicketVerdict};
use super::forming::WORK_PER_TICK;
use super::model::{Stage, TicketState};
use super::state::Owner;
use super::{BrokenRule, Event, Matchmaker, Turn};
use crate::ids::{QueueId, TicketId};
use crate::time::Timestamp;

/// The share of a tick for deadlines, in comparisons of two numbers; forming is not included.
pub(super) const WORK_OF_DEADLINES: u64 = WORK_PER_TICK / 2;
/// Deadlines and expiring tickets of one queue that are handled before the next queue has its turn.
const FIRED_AT_A_TURN: usize = 16;
/// The cost of handling a deadline, in comparisons of two numbers.
const FIRE_COST: u64 = 1_000;

impl Matchmaker {
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        let of_queues = self.state.index.firsts.earliest();
        let ready = (!self.beside.ready.is_empty()).then_some(Timestamp::ZERO);
        of_queues.into_iter().chain(self.forms_at()).chain(self.abandons_at()).chain(ready).min()
    }
}

/// Who takes turns in what is due.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// The tickets whose clients are gone, of all queues.
    Abandoned,
    /// Everything else in a queue.
    Queue(QueueId),
}

impl Turn<'_> {
    /// Handles what is due in each queue in turn, until that much work is done or half of the step's room is taken. The
    /// rest stays due, and the next tick continues with the next queue.
    pub(super) fn fire_due(&mut self, most: u64) {
        let room = self.step.left();
        let has_room = |turn: &Self| {
            let left = turn.step.left();
            let half = left.bytes > room.bytes / 2 && left.records > room.records / 2;
            turn.has_room(most) && (half || turn.broken(BrokenRule::UnboundedStep))
        };
        let mut turns = self.overdue();
        while let Some(next) = turns.pop_front().filter(|_| has_room(self)) {
            self.maker.beside.fired = Some(next.clone());
            let mut fired = false;
            for _ in 0..FIRED_AT_A_TURN {
                let ended = has_room(self)
                    && match &next {
                        Due::Abandoned => self.abandon_first(),
                        Due::Queue(queue) => self.fire_first(queue),
                    };
                let expired = has_room(self)
                    && match &next {
                        Due::Abandoned => false,
                        Due::Queue(queue) => self.expire_first(queue),
                    };
                if !ended && !expired {
                    break;
                }
                fired = true;
            }
            if fired {
                turns.push_back(next);
            }
        }
    }

    /// Cancels the first ticket whose client is gone; false if there is none.
    fn abandon_first(&mut self) -> bool {
        let Some(id) = self.abandoned() else { return false };
        self.work += FIRE_COST;
        self.abandon(&id);
        true
    }

    /// Who has something due, beginning behind the last one that had its turn.
    fn overdue(&self) -> VecDeque<Due> {
        let queues = self.state().index.firsts.due(self.now).into_iter().map(Due::Queue);
        let abandoned = self.abandoned().map(|_| Due::Abandoned);
        let fired = self.maker.beside.fired.as_ref();
        let (done, next): (Vec<_>, Vec<_>) =
            abandoned.into_iter().chain(queues).partition(|due| fired.is_some_and(|fired| due <= fired));
        next.into_iter().chain(done).collect()
    }

    /// Handles the first deadline of a queue that is due; false if there is none.
    fn fire_first(&mut self, queue: &QueueId) -> bool {
        let first = self.state().index.deadlines.get(queue).and_then(BTreeSet::first);
        let Some((_, owner)) = first.filter(|(at, _)| *at <= self.now).cloned() else { return false };
        self.work += FIRE_COST;
        self.give_up(&owner);
        true
    }

    /// Ends the longest-waiting ticket of a queue if its time is over; returns false if it is not.
    fn expire_first(&mut self, queue: &QueueId) -> bool {
        let Some(id) = self.expired_of(queue) else { return false };
        self.expire(&id);
        true
    }

    fn give_up(&mut self, owner: &Owner) {
        match owner {
            Owner::Ticket(_) if self.broken(BrokenRule::ForgetHook) => {}
            Owner::Ticket(id) => {
                let Some(ticket) = self.state().ticket(id) else { return };
                let TicketState::Validating(check) = &ticket.state else { return };
                let hook = check.hook.clone();
                self.ticket_validated(id, &hook, TicketVerdict::Failed);
            }
            Owner::Formation(id) => {
                let Some(formation) = self.state().formations.get(id) else { return };
                match &formation.stage {
                    Stage::Accepting { .. } if self.broken(BrokenRule::ForgetAcceptance) => {}
                    Stage::Accepting { .. } => self.not_accepted(id),
                    Stage::Checking(check) => {
                        let hook = check.hook.clone();
                        self.match_checked(id, &hook, MatchVerdict::Failed);
                    }
                    Stage::FindingServer { .. } => {}
                }
            }
            Owner::Seating(match_id, id) => {
                if let Some(ticket) = self.state().named(id) {
                    self.emit(Event::TicketReturned { match_id: match_id.clone(), ticket });
                }
            }
            Owner::Round(queue) => {
                if self.maker.beside.answers.contains_key(queue) {
                    self.break_off_answer(queue);
                } else if let Some(round) = self.state().rounds.get(queue).map(|round| round.number) {
                    self.matches_formed(queue, round, None);
                }
            }
        }
    }

    fn expired_of(&self, queue: &QueueId) -> Option<TicketId> {
        let line = self.state().index.lines.get(queue)?;
        let is_over = line.expires? <= self.now;
        if !is_over || self.broken(BrokenRule::ForgetExpiry) {
            return None;
        }
        let (_, place) = line.by_since.first()?;
        line.by_place.get(place).cloned()
    }
}
