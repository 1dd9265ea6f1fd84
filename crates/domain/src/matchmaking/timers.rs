//! Every deadline, and what it ends.

use super::command::{MatchVerdict, TicketVerdict};
use super::forming::WORK_PER_TICK;
use super::model::{Stage, TicketState};
use super::state::Owner;
use super::{BrokenRule, Event, Matchmaker, Turn};
use crate::ids::{QueueId, TicketId};
use crate::time::Timestamp;

impl Matchmaker {
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        let own = self.state.index.deadlines.first().map(|(at, _)| *at);
        let waiting = self.state.index.lines.iter().filter_map(|(id, line)| {
            let (since, _) = line.by_since.first()?;
            Some(*since + self.state.queue(id)?.ticket_expiration)
        });
        own.into_iter().chain(waiting).chain(self.forms_at()).chain(self.abandons_at()).min()
    }
}

impl Turn<'_> {
    /// What is due by now, within the bound of one tick; what is left over is still due.
    pub(super) fn fire_due(&mut self) {
        while self.has_room(WORK_PER_TICK) {
            let first = self.state().index.deadlines.first();
            let Some((_, owner)) = first.filter(|(at, _)| *at <= self.now).cloned() else { break };
            self.work += 1_000;
            self.give_up(&owner);
        }
        while self.has_room(WORK_PER_TICK) {
            let Some(id) = self.oldest_expired() else { break };
            self.expire(&id);
        }
        while self.has_room(WORK_PER_TICK) {
            let Some(id) = self.abandoned() else { break };
            self.work += 1_000;
            self.abandon(&id);
        }
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

    fn oldest_expired(&self) -> Option<TicketId> {
        if self.broken(BrokenRule::ForgetExpiry) {
            return None;
        }
        let index = &self.state().index;
        index.lines.iter().find_map(|(queue, line)| self.expired_of(queue, line))
    }

    fn expired_of(&self, queue: &QueueId, line: &super::state::Line) -> Option<TicketId> {
        let (since, place) = line.by_since.first()?;
        let longest = self.state().queue(queue)?.ticket_expiration;
        if *since + longest > self.now {
            return None;
        }
        line.by_place.get(place).cloned()
    }
}
