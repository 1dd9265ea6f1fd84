//! Players who wait in several queues at once, with one ticket in each: the first match wins.
//!
//! A ticket that is chosen for a match may still return from it: players do not accept, or no server is found. So the
//! other tickets of its players are not cancelled then, but put *on hold*: no search finds them, they do not expire,
//! and if the match is dissolved they wait again, at their places. They are cancelled before the players hear that they
//! can connect: in the same step, or if there are very many, in the steps before it. So no player is ever in two
//! matches or asked about two.
//!
//! Whether a ticket is on hold follows from the others: it is while one of its players is in a match by another ticket.
//! So there is no event for it; the state updates it with every change of a ticket.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::command::Refusal;
use super::forming::WORK_PER_TICK;
use super::model::{CancelCause, Named, Stage, Ticket, TicketSpec, TicketState};
use super::names::hash;
use super::state::{Indexes, State};
use super::{BrokenRule, Event, Turn};
use crate::ids::{MatchId, PlayerId, QueueId, TicketId};

/// The cost of putting a ticket on hold or releasing it, in comparisons of two numbers.
const HOLD_COST: u64 = 1_000;
/// The cost of cancelling a ticket whose players can connect elsewhere; and for each of its players.
const CANCEL_COST: u64 = 200;
const CANCEL_COST_OF_PLAYER: u64 = 20;
/// The maximum cost of cancelling such tickets in one step.
pub(super) const WORK_OF_CANCELS: u64 = WORK_PER_TICK / 2;
/// The part of that for one match, before the next one has its turn.
const CANCELS_AT_A_TURN: u64 = 8;

impl State {
    /// The tickets of a player that are not over, oldest first.
    pub(crate) fn tickets_of(&self, player: &PlayerId) -> impl Iterator<Item = &Ticket> {
        let places = self.index.by_player.find(hash(0, player.as_str()));
        let tickets = places.filter_map(|place| self.tickets.get(&place));
        tickets.filter(|ticket| ticket.spec.players().any(|of| of.id == *player)).map(Arc::as_ref)
    }

    /// Whether players may have other tickets besides one of theirs.
    pub(super) const fn has_several(&self) -> bool {
        self.index.several > 0
    }

    /// The ticket at `place` has changed; `was_in_match` says whether it was in a match before.
    pub(super) fn settle(&mut self, place: u64, was_in_match: bool) {
        let Some(ticket) = self.tickets.get(&place) else { return };
        if ticket.is_in_match() != was_in_match {
            let spec = Arc::clone(&ticket.spec);
            self.settle_others(&spec, place, !was_in_match);
        }
        self.hold_or_release(place);
    }

    /// The ticket of these players at `place` `is_in_match` now, or no longer is.
    pub(super) fn settle_others(&mut self, spec: &TicketSpec, place: u64, is_in_match: bool) {
        let others: Vec<u64> = self.others(spec, place).map(|ticket| ticket.place).collect();
        for place in &others {
            self.index.count(*place, is_in_match);
        }
        let others: BTreeSet<u64> = others.into_iter().collect();
        others.into_iter().for_each(|place| self.hold_or_release(place));
    }

    /// The other tickets of the players of the ticket at `place`; each as often as it shares a player.
    fn others<'a>(&'a self, spec: &'a TicketSpec, place: u64) -> impl Iterator<Item = &'a Ticket> {
        let all = spec.players().flat_map(|player| self.tickets_of(&player.id));
        all.filter(move |ticket| ticket.place != place)
    }

    /// The count of its players' other tickets in matches is updated with every change of one of them, not computed,
    /// because a ticket has up to a hundred players.
    pub(super) fn note_busy(&mut self, place: u64) {
        let Some(ticket) = self.tickets.get(&place) else { return };
        let busy = self.others(&ticket.spec, place).filter(|other| other.is_in_match()).count();
        if let Some(busy) = u32::try_from(busy).ok().filter(|busy| *busy > 0) {
            self.index.busy.insert(place, busy);
        }
    }

    /// The same for all tickets, at startup.
    pub(super) fn count_busy(&mut self) {
        if !self.has_several() {
            return;
        }
        let in_match = self.tickets.values().filter(|ticket| ticket.is_in_match());
        let others = in_match.flat_map(|ticket| self.others(&ticket.spec, ticket.place));
        let others: Vec<u64> = others.map(|ticket| ticket.place).collect();
        others.into_iter().for_each(|place| self.index.count(place, true));
    }

    fn hold_or_release(&mut self, place: u64) {
        let Some(ticket) = self.tickets.get(&place) else { return };
        let held_since = match &ticket.state {
            TicketState::Waiting => None,
            TicketState::OnHold { since } => Some(*since),
            _ => return,
        };
        if held_since.is_some() == self.index.busy.contains_key(&place) {
            return;
        }
        let at = self.applied_at;
        self.change_within(place, |ticket| match held_since {
            None => ticket.state = TicketState::OnHold { since: at },
            Some(since) => {
                ticket.waits_since = ticket.waits_since + at.since(since);
                ticket.state = TicketState::Waiting;
            }
        });
        self.settled.push(place);
    }
}

impl Indexes {
    /// One more ticket, or one less, of a player of the ticket at `place` is in a match.
    fn count(&mut self, place: u64, more: bool) {
        let busy = self.busy.entry(place).or_default();
        *busy = if more { busy.saturating_add(1) } else { busy.saturating_sub(1) };
        if *busy == 0 {
            self.busy.remove(&place);
        }
    }

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
    /// Whether the players may wait with one more ticket in addition to theirs except `spec.replaces`.
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

    /// Whether the players may wait in a queue with a ticket: they must not have another one there than `own`.
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

    /// Handles the tickets that the last event has put on hold or released.
    pub(super) fn note_settled(&mut self) {
        for place in core::mem::take(&mut self.maker.state.settled) {
            self.work += HOLD_COST;
            let ticket = self.maker.state.tickets.get(&place);
            match ticket.map(|ticket| (&ticket.state, &ticket.queue)) {
                Some((TicketState::Waiting, queue)) => self.maker.beside.due.note(queue, place),
                _ if self.broken(BrokenRule::MatchOnHold) => {}
                _ => self.take_place(place),
            }
        }
    }

    /// Players can connect, or are about to hear that they can: their other tickets end. With a bound, this continues
    /// until that much work is done or the step is full; returns false if some tickets are left.
    pub(super) fn cancel_others(&mut self, tickets: &[Named], most: Option<u64>) -> bool {
        if !self.state().has_several() || self.broken(BrokenRule::ForgetElsewhere) {
            return true;
        }
        let own: BTreeSet<&TicketId> = tickets.iter().map(|named| &named.ticket).collect();
        for player in tickets.iter().flat_map(|named| &named.players) {
            let of_player = self.state().tickets_of(player);
            let others = of_player.filter(|ticket| !own.contains(&ticket.id));
            let others: Vec<(TicketId, usize)> =
                others.map(|ticket| (ticket.id.clone(), ticket.spec.size())).collect();
            for (id, players) in others {
                if most.is_some_and(|most| !self.has_room(most)) {
                    return false;
                }
                self.work += CANCEL_COST + CANCEL_COST_OF_PLAYER * players as u64;
                self.call_off(&id, CancelCause::MatchedElsewhere);
            }
        }
        true
    }

    /// The players of a match hear that they can connect once their other tickets are over. There are up to three of
    /// those for each of a thousand players, each with up to a hundred players: if they are too many for one step, the
    /// next ones continue.
    pub(super) fn tell_ready(&mut self, id: &MatchId, most: u64) {
        let formation = self.state().formations.get(id);
        let waits = formation.filter(|formation| matches!(formation.stage, Stage::FindingServer { .. }));
        let Some(tickets) = waits.map(|formation| formation.tickets().cloned().collect::<Vec<Named>>())
        else {
            self.maker.beside.ready.remove(id);
            return;
        };
        if !self.cancel_others(&tickets, Some(most)) && !self.broken(BrokenRule::ReadyTooSoon) {
            return;
        }
        let Some(connection) = self.maker.beside.ready.remove(id) else { return };
        if self.broken(BrokenRule::ReadyTwice) {
            let (tickets, connection) = (tickets.clone(), Arc::clone(&connection));
            self.emit(Event::MatchReady { id: id.clone(), tickets, connection });
        }
        self.emit(Event::MatchReady { id: id.clone(), tickets, connection });
    }

    /// Continues with the matches whose players have yet to hear that they can connect. They take turns, so that one
    /// whose players have very many other tickets does not delay the others.
    pub(super) fn tell_all_ready(&mut self) {
        let most = self.maker.cancels();
        for _ in 0..self.maker.beside.ready.len() {
            if !self.has_room(most) {
                break;
            }
            let beside = &mut self.maker.beside;
            let told = beside.told.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = beside.ready.range((told, Bound::Unbounded)).chain(&beside.ready);
            let Some(id) = next.next().map(|(id, _)| id.clone()) else { break };
            beside.told = Some(id.clone());
            self.tell_ready(&id, most.min(self.work + (most / CANCELS_AT_A_TURN).max(1)));
        }
    }
}
