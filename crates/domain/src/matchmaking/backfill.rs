//! Free seats of running matches: who offers them, who gets them.
//!
//! An offer stands for what a server says is free now. A ticket that is to get seats takes them off the offer at once,
//! so that no seat is promised twice; that they are there is for the keeper of seats to confirm, and if it does not, the
//! offer was not true and ends.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::command::{Refusal, Reply};
use super::forming::{BYTES_PER_COMPARISON, OFFERS_PER_LOOK, WORK_PER_TICK, judged_too_much};
use super::model::{MAX_RATINGS, SeatOffer, TicketEnd, TicketState};
use super::pools::Slot;
use super::rules::Seats;
use super::{BrokenRule, Event, Turn};
use crate::broker::model::{Connection, MAX_CAPACITY, MAX_PLAYERS};
use crate::ids::{MatchId, TicketId};
use crate::size::Size;

/// Most offers at a time.
pub const MAX_OFFERS: usize = 100_000;
/// What comparing a ticket with an offer costs, in comparisons of two numbers.
const COMPARE_COST: u64 = 50;
/// Tickets that one offer is compared with at a time; the others follow.
const TICKETS_PER_OFFER: usize = 1_024;

impl Turn<'_> {
    pub(super) fn offer_seats(&mut self, offer: SeatOffer) -> Result<Reply, Refusal> {
        check(&offer)?;
        if !self.state().settings.queues.contains_key(&offer.queue) {
            return Err(self.no_queue(offer.queue));
        }
        let (rules, bytes) = (self.maker.beside.pools.rules(&offer.queue), offer.properties.byte_size());
        if let Some(refusal) = rules.and_then(|rules| judged_too_much(rules, &offer.queue, bytes)) {
            return Err(refusal);
        }
        let known = self.state().offers.contains_key(&offer.match_id);
        if !known && self.state().offers.len() >= MAX_OFFERS {
            return Err(Refusal::TooMany { what: "offers of free seats", limit: MAX_OFFERS });
        }
        let before = self.state().offers.get(&offer.match_id).map_or(0, |offered| offered.offer.byte_size());
        self.check_room(offer.byte_size().saturating_sub(before))?;
        self.emit(Event::SeatsOffered { offer: Arc::new(offer) });
        Ok(Reply::Done)
    }

    pub(super) fn withdraw_seats(&mut self, match_id: MatchId) -> Reply {
        if self.state().offers.get(&match_id).is_some_and(|offered| offered.free > 0) {
            self.emit(Event::SeatsWithdrawn { match_id });
        }
        Reply::Done
    }

    /// Refused where the ticket has gone on meanwhile, so that whoever keeps the seats gives them to others. To say it
    /// twice is no fault.
    pub(super) fn seated(
        &mut self,
        id: &TicketId,
        match_id: MatchId,
        connection: Connection,
    ) -> Result<Reply, Refusal> {
        let named = self.state().named(id).filter(|_| self.is_seating(id, &match_id));
        if let Some(ticket) = named {
            let connection = Arc::new(connection);
            self.emit(Event::TicketSeated { match_id, ticket, connection });
            return Ok(Reply::Done);
        }
        match self.state().find(id).map(|ticket| &ticket.state) {
            Some(TicketState::Over { end: TicketEnd::Completed { match_id: of, .. }, .. })
                if *of == match_id =>
            {
                Ok(Reply::Done)
            }
            _ => Err(Refusal::SeatsNotWanted { ticket: id.clone(), match_id }),
        }
    }

    /// The seats were not there: whatever else was offered of that match is not either.
    pub(super) fn not_seated(&mut self, id: &TicketId, match_id: &MatchId) -> Reply {
        if self.is_seating(id, match_id) {
            self.withdraw_seats(match_id.clone());
            if let Some(ticket) = self.state().named(id) {
                self.emit(Event::TicketReturned { match_id: match_id.clone(), ticket });
            }
        }
        Reply::Done
    }

    fn is_seating(&self, id: &TicketId, match_id: &MatchId) -> bool {
        let ticket = self.state().ticket(id);
        ticket.is_some_and(
            |ticket| matches!(&ticket.state, TicketState::Seating { match_id: of, .. } if of == match_id),
        )
    }

    /// Gives a waiting ticket seats of the oldest offer that suits it.
    pub(super) fn take_seats(&mut self, slot: Slot) -> bool {
        let Some(waiting) = self.maker.beside.pools.get(slot) else { return false };
        let id = waiting.profile.id.clone();
        let Some(ticket) = self.state().ticket(&id) else { return false };
        let open = self.state().index.open_offers.get(&ticket.queue);
        let offers: Vec<MatchId> =
            open.into_iter().flatten().take(OFFERS_PER_LOOK).map(|(_, id)| id.clone()).collect();
        let place = ticket.place;
        for match_id in offers {
            if !self.has_room(WORK_PER_TICK) {
                // It looks at the others in the next tick.
                self.maker.beside.due.tickets.insert(place);
                return false;
            }
            if self.give_seats(slot, &id, &match_id) {
                return true;
            }
        }
        false
    }

    /// Gives a ticket seats of an offer, if it is large enough and suits.
    fn give_seats(&mut self, slot: Slot, id: &TicketId, match_id: &MatchId) -> bool {
        self.work += COMPARE_COST;
        self.know_seats(match_id);
        let beside = &self.maker.beside;
        let (Some(waiting), Some((rules, seats))) = (beside.pools.get(slot), beside.seats.get(match_id))
        else {
            return false;
        };
        if !Arc::ptr_eq(&waiting.rules, rules) {
            // It has yet to enter under the rules in force, and looks at offers when it does.
            return false;
        }
        let free = self.state().offers.get(match_id).map_or(0, |offered| offered.free);
        let room =
            u32::from(waiting.profile.size) <= free || (free > 0 && self.broken(BrokenRule::OversellSeats));
        let documents = &self.maker.beside.documents;
        let fits = room && waiting.rules.seats_fit(&waiting.profile, seats, documents);
        self.work += documents.take_read() + waiting.profile.judged as u64 / BYTES_PER_COMPARISON;
        let timeout = waiting.rules.queue.seat_timeout;
        let Some(ticket) = self.state().named(id).filter(|_| fits) else { return false };
        let waited = self.state().ticket(id).map(|ticket| (ticket.queue.clone(), ticket.waits_since));
        if let Some((queue, since)) = waited {
            self.maker.beside.waits.note(queue, self.now.since(since));
        }
        let until = self.now + timeout;
        self.emit(Event::SeatsTaken { match_id: match_id.clone(), ticket, until });
        true
    }

    /// Makes ready what rules look at of an offer.
    fn know_seats(&mut self, match_id: &MatchId) {
        let Some(offered) = self.maker.state.offers.get(match_id) else {
            self.maker.beside.seats.remove(match_id);
            return;
        };
        let Some(rules) = self.maker.beside.pools.rules(&offered.offer.queue) else { return };
        let is_known = |(of, seats): &(_, Seats)| Arc::ptr_eq(of, rules) && seats.place == offered.place;
        if self.maker.beside.seats.get(match_id).is_some_and(is_known) {
            return;
        }
        let seats = (Arc::clone(rules), rules.seats(&offered.offer, offered.place));
        self.maker.beside.seats.insert(match_id.clone(), seats);
    }

    /// Compares an offer with the waiting tickets behind a place, oldest first.
    pub(super) fn look_for_takers(&mut self, match_id: &MatchId, from: u64) {
        let Some(offered) = self.state().offers.get(match_id).filter(|offered| offered.free > 0) else {
            return;
        };
        let queue = &offered.offer.queue;
        if self.state().queue(queue).is_none_or(|queue| queue.backfill == super::settings::Backfill::Off) {
            return;
        }
        let line = self.state().index.lines.get(queue);
        let behind = (Bound::Excluded(from), Bound::Unbounded);
        let tickets: Vec<(u64, TicketId)> = line.map_or_else(Vec::new, |line| {
            let tickets = line.by_place.range(behind).take(TICKETS_PER_OFFER);
            tickets.map(|(place, id)| (*place, id.clone())).collect()
        });
        let mut looked = from;
        for (place, id) in &tickets {
            if !self.has_room(WORK_PER_TICK) {
                self.maker.beside.due.offers.insert(match_id.clone(), looked);
                return;
            }
            looked = *place;
            // Those that are not in the pools yet look at offers when they get there.
            let Some(slot) = self.maker.beside.pools.slot(*place) else { continue };
            self.give_seats(slot, id, match_id);
            if self.state().offers.get(match_id).is_none_or(|offered| offered.free == 0) {
                return;
            }
        }
        if let Some((last, _)) = tickets.last().filter(|_| tickets.len() == TICKETS_PER_OFFER) {
            self.maker.beside.due.offers.insert(match_id.clone(), *last);
        }
    }
}

fn check(offer: &SeatOffer) -> Result<(), Refusal> {
    if offer.seats == 0 || offer.seats > MAX_CAPACITY {
        return Err(Refusal::field("seats", format!("must be 1 to {MAX_CAPACITY}")));
    }
    if offer.players.len() > MAX_PLAYERS {
        return Err(Refusal::field("players", format!("must be at most {MAX_PLAYERS}")));
    }
    if offer.ratings.len() > MAX_RATINGS || offer.ratings.values().any(|rating| !rating.is_finite()) {
        return Err(Refusal::field("ratings", format!("must be at most {MAX_RATINGS} numbers")));
    }
    let different: BTreeSet<_> = offer.players.iter().collect();
    if different.len() != offer.players.len() {
        return Err(Refusal::field("players", "must name each player once"));
    }
    Ok(())
}
