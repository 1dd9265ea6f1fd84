//! Several matches for one call: a server with room for more sends how many it takes, and how long it collects them.
//!
//! A collected match belongs to its server from then on, so that no other server gets it and none is ordered for it.
//! The server gets all of them in one answer: when it has as many as it takes, or when its time is over. Nobody hears
//! about them before that, so if the call goes away, all of them are returned.

use alloc::vec::Vec;
use core::time::Duration;

use super::command::{Hints, Offer, Reply};
use super::fleets::Filter;
use super::model::MatchState;
use super::placement::{Again, offer};
use super::server_lifecycle::Asking;
use super::untold::Lost;
use super::waiting::{Waiter, Waiting};
use super::{BrokenRule, Broker, MAX_OFFERS_BYTES, Turn};
use crate::ids::{MatchId, ServerId};
use crate::machine::CallId;
use crate::requirements::Search;
use crate::size::Size;
use crate::time::Timestamp;

/// Collecting ends when one part in this many of the first match's ready time has passed.
const PART_OF_READY_TIME: u32 = 4;

/// What a call has collected, and when it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Collecting {
    /// Maximum number of matches.
    pub(super) most: u32,
    /// From then on it is answered with fewer, once it has one.
    pub(super) until: Timestamp,
    pub(super) matches: Vec<Collected>,
}

/// A match of a server that has not heard about it yet.
#[derive(Clone, Debug)]
pub(crate) struct Collected {
    pub(super) id: MatchId,
    /// The number of the pickup.
    pub(super) pickup: u32,
    /// Its bytes when it was picked up.
    pub(super) bytes: usize,
}

impl Collecting {
    /// Whether it has room for another match of this size in bytes. The first may have any size.
    fn has_room_for(&self, bytes: usize) -> bool {
        let taken: usize = self.matches.iter().map(|game| game.bytes).sum();
        self.matches.is_empty() || taken.saturating_add(bytes) <= MAX_OFFERS_BYTES
    }
}

impl Broker {
    fn match_bytes(&self, id: &MatchId) -> usize {
        self.state.matches.get(id).map_or(0, Size::byte_size)
    }
}

impl Turn<'_> {
    /// Collects the first match for a server, and all others that fit it now, as many as it takes at once. It is
    /// answered with them, or collects more. A server that may have lost an answer is answered at once.
    pub(super) fn offer_several(
        &mut self,
        call: CallId,
        first: Offer,
        server: &ServerId,
        filter: Filter,
        asking: Asking,
    ) -> Option<Reply> {
        let (most, mut waiting) = (asking.most as usize, Some(Waiting::Offered));
        let mut bytes = self.broker.match_bytes(&first.match_id);
        let mut offers = Vec::from([first]);
        let foremost = self.foremost(server, asking);
        let mut has_room = self.add_lost(&mut offers, &mut bytes, server, &filter, (foremost, most));
        while has_room && offers.len() < most {
            if self.is_full() {
                waiting = Some(Waiting::Searching);
                break;
            }
            let id = match self.find_oldest(server, &filter) {
                Search::Found(id) => id,
                Search::Nothing => break,
                Search::Unfinished => {
                    waiting = Some(Waiting::Searching);
                    break;
                }
            };
            bytes = bytes.saturating_add(self.broker.match_bytes(&id));
            if bytes > MAX_OFFERS_BYTES {
                // It stays queued, so that the server gets it in its next call.
                (waiting, has_room) = (None, false);
                break;
            }
            offers.extend(self.pick_up(&id, server));
        }
        if has_room {
            self.add_lost(&mut offers, &mut bytes, server, &filter, (Lost::Any, most));
        }
        let until = self.collects_until(server, asking);
        match waiting {
            Some(waiting) if offers.len() < most && until > self.now && !offers.iter().any(|o| o.again) => {
                let waiter = self.waiter(call, server, filter, asking);
                self.go_on_collecting(waiter, &offers, waiting);
                None
            }
            _ => {
                self.broker.beside.untold.note_answered(server, &offers);
                Some(Reply::several(offers, Hints::NONE))
            }
        }
    }

    /// Adds other matches that the server may have lost, up to its maximum. Returns whether the answer has room for
    /// more bytes.
    fn add_lost(
        &mut self,
        offers: &mut Vec<Offer>,
        bytes: &mut usize,
        server: &ServerId,
        filter: &Filter,
        (lost, most): (Lost, usize),
    ) -> bool {
        while offers.len() < most
            && let Some(next) = self.give_again(server, filter, Again { lost, but: offers })
        {
            *bytes = bytes.saturating_add(self.broker.match_bytes(&next.match_id));
            if *bytes > MAX_OFFERS_BYTES {
                return false;
            }
            offers.push(next);
        }
        true
    }

    /// Until when a new call of the server collects. Only one call of a server collects at a time, so that few matches
    /// have to be returned at once.
    pub(super) fn collects_until(&self, server: &ServerId, asking: Asking) -> Timestamp {
        let is_alone = self.broker.beside.waiters.of_server(server) == 0;
        match asking.wait {
            Some(wait) if asking.most > 1 && is_alone => self.now + wait,
            _ => self.now,
        }
    }

    fn go_on_collecting(&mut self, mut waiter: Waiter, offers: &[Offer], waiting: Waiting) {
        let collecting = &waiter.collecting;
        if collecting.matches.is_empty() {
            // The players of the first match are waiting, and the server still has to get ready for it.
            let longest: Duration = self.broker.state.settings.match_ready_time / PART_OF_READY_TIME;
            waiter.deadline = collecting.until.min(self.now + longest);
        }
        self.note_collected(&mut waiter, offers);
        self.broker.beside.waiters.insert(waiter, waiting);
    }

    fn note_collected(&self, waiter: &mut Waiter, offers: &[Offer]) {
        for offer in offers {
            let (id, pickup) = (offer.match_id.clone(), offer.pickup);
            let bytes = self.broker.match_bytes(&id);
            waiter.collecting.matches.push(Collected { id, pickup, bytes });
        }
    }

    /// Gives a queued match to a waiting server; returns whether it takes it. A server that takes several keeps
    /// waiting, behind the others.
    pub(super) fn give(&mut self, id: &MatchId, place: u64) -> bool {
        let waiters = &mut self.broker.beside.waiters;
        let waiting = if waiters.is_searching(place) { Waiting::Searching } else { Waiting::Offered };
        let Some(mut waiter) = waiters.take(place) else { return false };
        if !waiter.collecting.has_room_for(self.broker.match_bytes(id)) {
            self.answer_waiter(waiter, Hints::NONE);
            return false;
        }
        let Some(offer) = self.pick_up(id, &waiter.server) else {
            self.answer_waiter(waiter, Hints::NONE);
            return false;
        };
        let is_last = waiter.collecting.matches.len() + 1 >= waiter.collecting.most as usize;
        if is_last || waiter.collecting.until <= self.now {
            self.note_collected(&mut waiter, &[offer]);
            self.answer_waiter(waiter, Hints::NONE);
        } else {
            self.go_on_collecting(waiter, &[offer], waiting);
        }
        true
    }

    /// Answers a call that stops waiting, with what it has collected.
    pub(super) fn answer_waiter(&mut self, waiter: Waiter, hints: Hints) {
        let Waiter { call, server, collecting, .. } = waiter;
        let (mut offers, mut bytes) = (Vec::new(), 0_usize);
        for Collected { id, pickup, .. } in collecting.matches {
            if !self.is_in_hands(&server, &id, pickup) {
                continue;
            }
            // Players may have joined it since.
            bytes = bytes.saturating_add(self.broker.match_bytes(&id));
            if bytes > MAX_OFFERS_BYTES && !offers.is_empty() {
                self.put_back(&id, &server, None);
            } else if let Some(game) = self.state().matches.get(&id) {
                offers.push(offer(&server, game, false));
            }
        }
        self.broker.beside.untold.note_answered(&server, &offers);
        self.answer(call, Ok(Reply::several(offers, hints)));
    }

    /// Whether the server prepares the match, from that pickup.
    pub(super) fn is_in_hands(&self, server: &ServerId, id: &MatchId, pickup: u32) -> bool {
        self.state().matches.get(id).is_some_and(|game| {
            matches!(game.state, MatchState::PickedUp { .. })
                && game.pickups == pickup
                && game.server.as_ref() == Some(server)
        })
    }

    /// Puts back what an unanswered call has collected: its server never heard about it.
    pub(super) fn put_collected_back(&mut self, server: &ServerId, collected: &[Collected]) {
        for Collected { id, pickup, .. } in collected {
            let was_told = self.broker.beside.untold.was_given_again(server, id);
            let is_kept = was_told || self.broken(BrokenRule::KeepCollected);
            if self.is_in_hands(server, id, *pickup) && !is_kept {
                self.put_back(id, server, None);
            }
        }
    }

    /// Puts back what calls that went away had collected.
    pub(super) fn go_on_with_forsaken(&mut self) {
        while !self.is_full()
            && let Some((server, collected)) = self.broker.beside.forsaken.pop()
        {
            self.put_collected_back(&server, &collected);
        }
    }
}
