//! Free seats of running matches: who offers them, who gets them.
//!
//! An offer says what a server has reported as free. A ticket that is about to get seats takes them off the offer at
//! once, so that no seat is promised twice. The broker has to confirm them; if it does not, the offer was wrong and
//! ends.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::command::{Refusal, Reply};
use super::forming::{BYTES_PER_COMPARISON, WORK_PER_TICK, judged_too_much};
use super::model::{MAX_RATINGS, SeatOffer, TicketEnd, TicketState};
use super::offers::Filed;
use super::pools::Slot;
use super::settings::Backfill;
use super::{BrokenRule, Event, Turn};
use crate::connection::Connection;
use crate::ids::{MatchId, QueueId, TicketId};
use crate::match_spec::{MAX_CAPACITY, MAX_PLAYERS};
use crate::size::Size;

/// Maximum number of offers at a time.
pub const MAX_OFFERS: usize = 100_000;
/// The cost of comparing a ticket with an offer, in comparisons of two numbers.
const COMPARE_COST: u64 = 50;
/// The cost of filing an offer, in comparisons.
const FILE_COST: u64 = 500;
/// Maximum number of tickets that one offer is compared with at a time; the others follow.
const TICKETS_PER_OFFER: usize = 256;
/// Maximum number of offers that a ticket is compared with at a time; the others follow.
const OFFERS_AT_A_TIME: usize = 64;
/// The number of oldest offers of the queue that a ticket sees if [`BrokenRule::FewOffers`] is broken.
const FEW_OFFERS: usize = 2;
/// Maximum cost of one ticket's search for an offer in a tick; then others have their turn.
const WORK_PER_LOOK: u64 = WORK_PER_TICK / 8;
/// Maximum number of offers that one tick marks as due when all offers of a queue are.
const OFFERS_PER_TICK: usize = 1_024;
/// Those of one queue that are marked before the next queue has its turn.
const OFFERS_AT_A_TURN: usize = 64;
/// Maximum number of players of a match with free seats: those that its order names, and the maximum number of seats.
pub const MAX_OFFER_PLAYERS: usize = MAX_PLAYERS + MAX_CAPACITY as usize;

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

    /// Refused if the ticket no longer waits for the seats, so that the caller gives them to others. Idempotent.
    pub(super) fn seated(
        &mut self,
        id: &TicketId,
        match_id: MatchId,
        connection: Connection,
    ) -> Result<Reply, Refusal> {
        let named = self.state().named(id).filter(|_| self.is_seating(id, &match_id));
        if let Some(ticket) = named {
            self.cancel_others(core::slice::from_ref(&ticket), None);
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

    /// The seats were not there, so the rest of that match's offer is not trusted either.
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

    /// Gives a waiting ticket seats of the oldest suitable offer. A search that was cut is not restarted: it resumes
    /// where it was cut, and another one follows it.
    pub(super) fn take_seats(&mut self, slot: Slot, place: u64) -> Sought {
        let beside = &mut self.maker.beside;
        let queue = beside.pools.get(slot).map(|waiting| &waiting.queue);
        if let Some(seek) = queue.and_then(|queue| beside.due.seeker(queue, place)) {
            seek.again = true;
            return Sought::Cut;
        }
        self.seek_seats(slot, place, 0)
    }

    /// Compares a ticket with possibly suitable offers behind a place, oldest first.
    fn seek_seats(&mut self, slot: Slot, place: u64, after: u64) -> Sought {
        let Some(waiting) = self.maker.beside.pools.get(slot) else { return Sought::Nothing };
        let (id, queue) = (waiting.profile.id.clone(), waiting.queue.clone());
        if !self.state().index.open_offers.contains_key(&queue) {
            return Sought::Nothing;
        }
        let until = self.work + WORK_PER_LOOK;
        let mut after = after;
        loop {
            let offers = self.suitable(slot, &queue, after);
            for (offer, match_id) in &offers {
                if !self.has_room(WORK_PER_TICK.min(until)) {
                    self.maker.beside.due.note_seeker(&queue, place, Seek { after, again: false });
                    return Sought::Cut;
                }
                if self.give_seats(slot, &id, match_id) {
                    return Sought::Taken;
                }
                after = *offer;
            }
            if offers.len() < OFFERS_AT_A_TIME {
                return Sought::Nothing;
            }
        }
    }

    fn suitable(&mut self, slot: Slot, queue: &QueueId, after: u64) -> Vec<(u64, MatchId)> {
        let Some(waiting) = self.maker.beside.pools.get(slot) else { return Vec::new() };
        if self.broken(BrokenRule::FewOffers) {
            let open = self.state().index.open_offers.get(queue).into_iter().flatten();
            return open.take(FEW_OFFERS).filter(|(place, _)| *place > after).cloned().collect();
        }
        let offers = &self.maker.beside.offers;
        let (found, looks) =
            offers.suitable(queue, &waiting.rules, &waiting.profile, after, OFFERS_AT_A_TIME);
        self.work += COMPARE_COST * (1 + looks as u64);
        found
    }

    /// Compares due offers of queues that take seats before new matches with waiting tickets; queues take turns.
    pub(super) fn look_at_first_offers(&mut self, most: u64) {
        let due = &self.maker.beside.due;
        let mut line = due.seated_first.line_up(due.queues_of_first_seats());
        while self.has_room(most) {
            let Some(next) = line.next() else { break };
            let before = self.work;
            let has_more = self.look_at_offer(Backfill::First, &next.1, most);
            line.served(next, self.work - before, has_more);
        }
        self.maker.beside.due.seated_first.settle(line);
    }

    /// The same for other queues; and tickets without a new match take free seats. In each turn of a queue a search for
    /// an offer continues; and its offers come before its tickets, because they go to the oldest.
    pub(super) fn fill_last_seats(&mut self, most: u64) {
        let due = &self.maker.beside.due;
        let mut line = due.seated_last.line_up(due.queues_of_last_seats());
        while self.has_room(most) {
            let Some(next) = line.next() else { break };
            let (before, queue) = (self.work, &next.1);
            self.seek_on(queue);
            if !self.look_at_offer(Backfill::Last, queue, most)
                && let Some(place) = self.maker.beside.due.take_unmatched(queue)
                && let Some(slot) = self.maker.beside.pools.slot(place)
            {
                self.take_seats(slot, place);
            }
            let has_more = self.maker.beside.due.has_last_seats_of(queue);
            line.served(next, self.work - before, has_more);
        }
        self.maker.beside.due.seated_last.settle(line);
    }

    /// Continues a search for an offer that was cut, where it stopped.
    fn seek_on(&mut self, queue: &QueueId) {
        let Some((place, seek)) = self.maker.beside.due.take_seeker(queue) else { return };
        let Some(slot) = self.maker.beside.pools.slot(place) else { return };
        match self.seek_seats(slot, place, seek.after) {
            Sought::Taken => {}
            Sought::Cut => {
                if let Some(cut) = self.maker.beside.due.seeker(queue, place) {
                    cut.again = seek.again;
                }
            }
            Sought::Nothing if seek.again => {
                self.maker.beside.due.note_seeker(queue, place, Seek { after: 0, again: false });
            }
            Sought::Nothing => self.has_found_no_seats(place, slot),
        }
    }

    /// Compares the oldest due offer of a queue that takes seats at this time with waiting tickets, oldest first;
    /// returns whether there was one.
    fn look_at_offer(&mut self, when: Backfill, queue: &QueueId, most: u64) -> bool {
        let Some((offer, from)) = self.maker.beside.due.take_offer(when, queue) else { return false };
        if let Some(looked) = self.look_for_takers(&offer.1, from, most) {
            self.maker.beside.due.note_offer(when, queue, offer, looked);
        }
        true
    }

    /// If the rules of a queue or the process are new, all of its offers are due, some in each tick; queues take turns.
    pub(super) fn sweep_offers(&mut self) {
        let mut left = OFFERS_PER_TICK;
        while left > 0 {
            let due = &mut self.maker.beside.due;
            let last = due.offers_swept.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut next = due.offer_sweeps.range((last, Bound::Unbounded)).chain(&due.offer_sweeps);
            let Some((queue, after)) = next.next().map(|(queue, after)| (queue.clone(), after.clone()))
            else {
                break;
            };
            due.offers_swept = Some(queue.clone());
            let open = self.state().index.open_offers.get(&queue);
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            let behind = open.into_iter().flat_map(|open| open.range((after.as_ref(), Bound::Unbounded)));
            let next: Vec<(u64, MatchId)> = behind.take(left.min(OFFERS_AT_A_TURN)).cloned().collect();
            self.work += 1 + next.len() as u64;
            let when = self.state().queue(&queue).map(|queue| queue.backfill).unwrap_or_default();
            let due = &mut self.maker.beside.due;
            let Some(last) = next.last() else {
                due.offer_sweeps.remove(&queue);
                continue;
            };
            left -= next.len();
            due.offer_sweeps.insert(queue.clone(), Some(last.clone()));
            next.into_iter().for_each(|offer| due.note_offer(when, &queue, offer, 0));
        }
    }

    /// Gives a ticket seats of an offer if there are enough and they suit.
    fn give_seats(&mut self, slot: Slot, id: &TicketId, match_id: &MatchId) -> bool {
        self.work += COMPARE_COST;
        self.file_offer(match_id);
        let beside = &self.maker.beside;
        let (Some(waiting), Some(filed)) = (beside.pools.get(slot), beside.offers.get(match_id)) else {
            return false;
        };
        let (rules, seats) = (&filed.rules, &filed.seats);
        if !Arc::ptr_eq(&waiting.rules, rules) {
            // It has yet to enter under the rules in force, and looks for offers when it does.
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

    /// Files an offer under the rules in force, unless it is filed already.
    fn file_offer(&mut self, match_id: &MatchId) {
        let beside = &mut self.maker.beside;
        let Some(offered) = self.maker.state.offers.get(match_id).filter(|offered| offered.free > 0) else {
            return beside.offers.remove(match_id);
        };
        let Some(rules) = beside.pools.rules(&offered.offer.queue) else { return };
        let is_known = |filed: &Filed| Arc::ptr_eq(&filed.rules, rules) && filed.seats.place == offered.place;
        if beside.offers.get(match_id).is_some_and(is_known) {
            return;
        }
        self.work += FILE_COST + offered.offer.byte_size() as u64 / BYTES_PER_COMPARISON;
        let seats = rules.seats(&offered.offer, offered.place);
        beside.offers.file(match_id.clone(), &offered.offer.queue, rules, seats, offered.free);
    }

    /// Compares an offer with possibly suitable waiting tickets behind a place, oldest first. If there are more,
    /// returns the place up to which it has come.
    fn look_for_takers(&mut self, match_id: &MatchId, from: u64, most: u64) -> Option<u64> {
        self.work += COMPARE_COST;
        let offered = self.state().offers.get(match_id).filter(|offered| offered.free > 0)?;
        let (queue, free) = (offered.offer.queue.clone(), offered.free);
        self.state().queue(&queue).filter(|queue| queue.backfill != Backfill::Off)?;
        self.file_offer(match_id);
        let tickets = self.takers(&queue, match_id, free, from);
        let mut looked = from;
        for (place, slot) in &tickets {
            if !self.has_room(most) {
                return Some(looked);
            }
            looked = *place;
            let pools = &self.maker.beside.pools;
            let Some(id) = pools.get(*slot).map(|waiting| waiting.profile.id.clone()) else { continue };
            self.give_seats(*slot, &id, match_id);
            if self.state().offers.get(match_id).is_none_or(|offered| offered.free == 0) {
                return None;
            }
        }
        (tickets.len() == TICKETS_PER_OFFER).then_some(looked)
    }

    fn takers(&mut self, queue: &QueueId, match_id: &MatchId, free: u32, from: u64) -> Vec<(u64, Slot)> {
        let (pools, filed) = (&self.maker.beside.pools, self.maker.beside.offers.get(match_id));
        let found = filed.and_then(|filed| pools.takers(queue, filed, free, from, TICKETS_PER_OFFER));
        let found = found.unwrap_or_else(|| {
            let line = self.state().index.lines.get(queue);
            let behind = (Bound::Excluded(from), Bound::Unbounded);
            let places = line.into_iter().flat_map(|line| line.by_place.range(behind));
            // Those that are not in the pools yet look for offers when they get there.
            let waiting = places.filter_map(|(place, _)| Some((*place, pools.slot(*place)?)));
            waiting.take(TICKETS_PER_OFFER).collect()
        });
        self.work += found.len() as u64;
        found
    }
}

/// The result of a search for an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sought {
    /// The ticket gets seats.
    Taken,
    /// No offer suits it.
    Nothing,
    /// It continues in the next tick.
    Cut,
}

/// A search for an offer that was cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seek {
    /// It has seen the offers up to this place.
    after: u64,
    /// The ticket demands less than when the search began, so another one follows.
    again: bool,
}

fn check(offer: &SeatOffer) -> Result<(), Refusal> {
    if offer.seats == 0 || offer.seats > MAX_CAPACITY {
        return Err(Refusal::field("seats", format!("must be 1 to {MAX_CAPACITY}")));
    }
    if offer.players.len() > MAX_OFFER_PLAYERS {
        return Err(Refusal::field("players", format!("must be at most {MAX_OFFER_PLAYERS}")));
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
