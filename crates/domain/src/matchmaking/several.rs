//! Players who wait in several queues at once, with one ticket in each: the first match wins.
//!
//! A ticket that is chosen for a match may still come back from it: players do not accept, or no server can be had. So the
//! other tickets of its players are not cancelled then, but put *on hold*: no search finds them, they do not expire, and
//! when the match comes to nothing they wait again, at their places. They are cancelled in the step in which the players
//! can connect. So no player is ever in two matches, nor asked about two.
//!
//! Whether a ticket is on hold follows from the others: it is while one of its players is in a match by another ticket. So
//! no event speaks of it; the state sees to it with every change of a ticket.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::command::Refusal;
use super::model::{CancelCause, Named, Ticket, TicketSpec, TicketState};
use super::names::hash;
use super::state::{Indexes, State};
use super::{BrokenRule, Turn};
use crate::ids::{PlayerId, QueueId, TicketId};

/// What it costs to put a ticket on hold or to take it back, in comparisons of two numbers.
const HOLD_COST: u64 = 1_000;

impl State {
    /// The tickets of a player that are not over, oldest first.
    pub(crate) fn tickets_of(&self, player: &PlayerId) -> impl Iterator<Item = &Ticket> {
        let places = self.index.by_player.find(hash(0, player.as_str()));
        let tickets = places.filter_map(|place| self.tickets.get(&place));
        tickets.filter(|ticket| ticket.spec.players().any(|of| of.id == *player)).map(Arc::as_ref)
    }

    /// Whether players may have other tickets beside one of theirs.
    pub(super) const fn has_several(&self) -> bool {
        self.index.several > 0
    }

    /// The ticket at `place` has changed; `was_in_match` says whether it was in a match before.
    pub(super) fn settle(&mut self, place: u64, was_in_match: bool) {
        let Some(ticket) = self.tickets.get(&place) else { return };
        if ticket.is_in_match() != was_in_match {
            let spec = Arc::clone(&ticket.spec);
            self.settle_others(&spec, place);
        }
        self.hold_or_release(place);
    }

    /// The ticket of these players at `place` has come into a match, or left it.
    pub(super) fn settle_others(&mut self, spec: &TicketSpec, place: u64) {
        let all = spec.players().flat_map(|player| self.tickets_of(&player.id));
        let others: BTreeSet<u64> = all.map(|ticket| ticket.place).filter(|of| *of != place).collect();
        others.into_iter().for_each(|place| self.hold_or_release(place));
    }

    fn hold_or_release(&mut self, place: u64) {
        let Some(ticket) = self.tickets.get(&place) else { return };
        let held_since = match &ticket.state {
            TicketState::Waiting => None,
            TicketState::OnHold { since } => Some(*since),
            _ => return,
        };
        if held_since.is_some() == self.is_busy(ticket) {
            return;
        }
        let at = self.applied_at;
        self.change(place, |ticket| match held_since {
            None => ticket.state = TicketState::OnHold { since: at },
            Some(since) => {
                ticket.waits_since = ticket.waits_since + at.since(since);
                ticket.state = TicketState::Waiting;
            }
        });
        self.settled.push(place);
    }

    /// Whether one of its players is in a match by another ticket.
    fn is_busy(&self, ticket: &Ticket) -> bool {
        let mut others = ticket.spec.players().flat_map(|player| self.tickets_of(&player.id));
        others.any(|other| other.place != ticket.place && other.is_in_match())
    }
}

impl Indexes {
    pub(super) fn enter_players(&mut self, ticket: &Ticket) {
        for player in ticket.spec.players() {
            let hash = hash(0, player.id.as_str());
            self.several += usize::from(self.by_player.find(hash).next().is_some());
            self.by_player.insert(hash, ticket.place);
        }
    }

    pub(super) fn leave_players(&mut self, ticket: &Ticket) {
        for player in ticket.spec.players() {
            let hash = hash(0, player.id.as_str());
            self.by_player.remove(hash, ticket.place);
            self.several -= usize::from(self.by_player.find(hash).next().is_some());
        }
    }
}

impl Turn<'_> {
    /// Whether the players may wait with one more ticket beside those but `spec.replaces`.
    pub(super) fn check_count(&self, spec: &TicketSpec) -> Result<(), Refusal> {
        let replaced = spec.replaces.as_ref();
        let most = self.state().settings.queues_per_player as usize;
        let over = |player: &PlayerId| {
            let own = self.state().tickets_of(player);
            let mut own = own.filter(|ticket| Some(&ticket.id) != replaced);
            let oldest = own.next()?;
            (own.count() + 1 >= most).then_some(oldest)
        };
        self.check_players(spec, over)
    }

    /// Whether the players may wait in a queue with a ticket: they do not already with another one than `own`.
    pub(super) fn check_in_queue(
        &self,
        spec: &TicketSpec,
        queue: &QueueId,
        own: Option<&TicketId>,
    ) -> Result<(), Refusal> {
        let there = |player: &PlayerId| {
            let mut tickets = self.state().tickets_of(player);
            tickets.find(|ticket| ticket.queue == *queue && Some(&ticket.id) != own)
        };
        if self.state().has_several() || self.state().settings.queues_per_player > 1 {
            self.check_players(spec, there)
        } else {
            Ok(())
        }
    }

    fn check_players<'a>(
        &'a self,
        spec: &TicketSpec,
        in_the_way: impl Fn(&PlayerId) -> Option<&'a Ticket>,
    ) -> Result<(), Refusal> {
        if self.broken(BrokenRule::StartTwice) {
            return Ok(());
        }
        let found = spec.players().find_map(|player| Some((&player.id, in_the_way(&player.id)?)));
        match found {
            Some((player, ticket)) => {
                Err(Refusal::PlayerWaits { player: player.clone(), ticket: ticket.id.clone() })
            }
            None => Ok(()),
        }
    }

    /// What has to be done about tickets that the last event has put on hold or released.
    pub(super) fn note_settled(&mut self) {
        for place in core::mem::take(&mut self.maker.state.settled) {
            self.work += HOLD_COST;
            match self.state().tickets.get(&place).map(|ticket| &ticket.state) {
                Some(TicketState::Waiting) => {
                    self.maker.beside.due.tickets.insert(place);
                }
                _ if self.broken(BrokenRule::MatchOnHold) => {}
                _ => self.take_place(place),
            }
        }
    }

    /// Players can connect, or are about to hear that they can: their other tickets are over.
    pub(super) fn cancel_others(&mut self, tickets: &[Named]) {
        if !self.state().has_several() || self.broken(BrokenRule::ForgetElsewhere) {
            return;
        }
        let state = self.state();
        let own: BTreeSet<&TicketId> = tickets.iter().map(|named| &named.ticket).collect();
        let players = tickets.iter().flat_map(|named| &named.players);
        let others = players.flat_map(|player| state.tickets_of(player));
        let others = others.filter(|ticket| !own.contains(&ticket.id));
        let others: BTreeSet<(u64, &TicketId)> = others.map(|ticket| (ticket.place, &ticket.id)).collect();
        let others: Vec<TicketId> = others.into_iter().map(|(_, id)| id.clone()).collect();
        for id in others {
            self.call_off(&id, CancelCause::MatchedElsewhere);
        }
    }
}
