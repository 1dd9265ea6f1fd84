//! What the next ticks look at, by queue.

use alloc::collections::{BTreeMap, BTreeSet};
use core::ops::Bound;

use super::backfill::Seek;
use super::fair::Accounts;
use super::settings::Backfill;
use crate::ids::{MatchId, QueueId};

/// Offers by place, with the place of the ticket up to which they have been compared.
pub(crate) type DueOffers = BTreeMap<(u64, MatchId), u64>;

/// Searches for offers that were cut, by the place of the ticket.
#[derive(Default)]
pub(crate) struct Seekers {
    all: BTreeMap<u64, Seek>,
    /// The one that last had its turn.
    last: u64,
}

/// Volatile data: it is rebuilt from the state after a restart. No queue has an empty entry.
#[derive(Default)]
pub(crate) struct Due {
    /// Tickets to be looked at, by place.
    pub(crate) tickets: BTreeMap<QueueId, BTreeSet<u64>>,
    /// Tickets that are matched by the queue's own rules because the hook that forms its matches has failed.
    pub(crate) by_rules: BTreeSet<u64>,
    /// Offers of free seats by age, with the place up to which tickets have been compared with them: of queues that
    /// take seats before new matches, and of others.
    first_offers: BTreeMap<QueueId, DueOffers>,
    last_offers: BTreeMap<QueueId, DueOffers>,
    /// Queues all of whose offers are due, with the last one that was marked as due.
    pub(crate) offer_sweeps: BTreeMap<QueueId, Option<(u64, MatchId)>>,
    /// The queue of these that last had its turn.
    pub(crate) offers_swept: Option<QueueId>,
    /// Tickets whose search for an offer was cut.
    seekers: BTreeMap<QueueId, Seekers>,
    /// Places of tickets without a match that may take free seats.
    unmatched: BTreeMap<QueueId, BTreeSet<u64>>,
    /// Queues with news for the hook that forms their matches.
    pub(crate) rounds: BTreeSet<QueueId>,
    /// Queues with a sweep, with the place up to which it has come.
    pub(crate) sweeps: BTreeMap<QueueId, u64>,
    /// The work done for each queue: on tickets; on free seats before new matches; and after them.
    pub(crate) looked: Accounts,
    pub(crate) seated_first: Accounts,
    pub(crate) seated_last: Accounts,
}

impl Due {
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty() && !self.has_seats() && self.rounds.is_empty() && self.sweeps.is_empty()
    }

    /// A ticket is to be looked at.
    pub(crate) fn note(&mut self, queue: &QueueId, place: u64) {
        note(&mut self.tickets, queue, place);
    }

    /// A ticket need not be looked at any more.
    pub(crate) fn forget(&mut self, queue: &QueueId, place: u64) {
        forget(&mut self.tickets, queue, place);
    }

    /// The oldest ticket of a queue that is to be looked at.
    pub(crate) fn first(&self, queue: &QueueId) -> Option<u64> {
        self.tickets.get(queue)?.first().copied()
    }

    /// Whether there is anything to do about free seats.
    pub(crate) fn has_seats(&self) -> bool {
        !(self.first_offers.is_empty() && self.offer_sweeps.is_empty()) || self.has_last_seats()
    }

    fn has_last_seats(&self) -> bool {
        !(self.last_offers.is_empty() && self.seekers.is_empty() && self.unmatched.is_empty())
    }

    const fn offers_of(&mut self, when: Backfill) -> &mut BTreeMap<QueueId, DueOffers> {
        match when {
            Backfill::First => &mut self.first_offers,
            Backfill::Last | Backfill::Off => &mut self.last_offers,
        }
    }

    /// An offer of a queue that takes seats at this time is to be compared with tickets behind the place `from`.
    pub(crate) fn note_offer(&mut self, when: Backfill, queue: &QueueId, offer: (u64, MatchId), from: u64) {
        self.offers_of(when).entry(queue.clone()).or_default().insert(offer, from);
    }

    /// The oldest due offer of a queue that takes seats at this time.
    pub(crate) fn take_offer(&mut self, when: Backfill, queue: &QueueId) -> Option<((u64, MatchId), u64)> {
        let all = self.offers_of(when);
        let offers = all.get_mut(queue)?;
        let first = offers.pop_first();
        if offers.is_empty() {
            all.remove(queue);
        }
        first
    }

    /// The queues with due offers that take seats before new matches.
    pub(crate) fn queues_of_first_seats(&self) -> BTreeSet<QueueId> {
        self.first_offers.keys().cloned().collect()
    }

    /// The queues with something to do about free seats once it is known which tickets get no new match.
    pub(crate) fn queues_of_last_seats(&self) -> BTreeSet<QueueId> {
        let queues = self.last_offers.keys().chain(self.seekers.keys()).chain(self.unmatched.keys());
        queues.cloned().collect()
    }

    /// Whether such a queue has more to do.
    pub(crate) fn has_last_seats_of(&self, queue: &QueueId) -> bool {
        self.last_offers.contains_key(queue)
            || self.seekers.contains_key(queue)
            || self.unmatched.contains_key(queue)
    }

    pub(crate) fn seeker(&mut self, queue: &QueueId, place: u64) -> Option<&mut Seek> {
        self.seekers.get_mut(queue)?.all.get_mut(&place)
    }

    pub(crate) fn note_seeker(&mut self, queue: &QueueId, place: u64, seek: Seek) {
        self.seekers.entry(queue.clone()).or_default().all.insert(place, seek);
    }

    /// The cut search for an offer that is next in a queue.
    pub(crate) fn take_seeker(&mut self, queue: &QueueId) -> Option<(u64, Seek)> {
        let seekers = self.seekers.get_mut(queue)?;
        let mut next =
            seekers.all.range((Bound::Excluded(seekers.last), Bound::Unbounded)).chain(&seekers.all);
        let (place, _) = next.next()?;
        seekers.last = *place;
        let found = seekers.all.remove_entry(&seekers.last);
        if seekers.all.is_empty() {
            self.seekers.remove(queue);
        }
        found
    }

    /// A ticket got no new match, and may take free seats.
    pub(crate) fn note_unmatched(&mut self, queue: &QueueId, place: u64) {
        note(&mut self.unmatched, queue, place);
    }

    pub(crate) fn take_unmatched(&mut self, queue: &QueueId) -> Option<u64> {
        let first = self.unmatched.get(queue)?.first().copied()?;
        forget(&mut self.unmatched, queue, first);
        Some(first)
    }

    /// A ticket no longer looks for free seats.
    pub(crate) fn forget_seats(&mut self, queue: &QueueId, place: u64) {
        forget(&mut self.unmatched, queue, place);
        if let Some(seekers) = self.seekers.get_mut(queue) {
            seekers.all.remove(&place);
            if seekers.all.is_empty() {
                self.seekers.remove(queue);
            }
        }
    }
}

fn note(all: &mut BTreeMap<QueueId, BTreeSet<u64>>, queue: &QueueId, place: u64) {
    match all.get_mut(queue) {
        Some(places) => drop(places.insert(place)),
        None => drop(all.insert(queue.clone(), BTreeSet::from([place]))),
    }
}

fn forget(all: &mut BTreeMap<QueueId, BTreeSet<u64>>, queue: &QueueId, place: u64) {
    if let Some(places) = all.get_mut(queue) {
        places.remove(&place);
        if places.is_empty() {
            all.remove(queue);
        }
    }
}
