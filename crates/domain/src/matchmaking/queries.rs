//! Read access for the API. Nothing here changes anything.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::ops::Bound;

use super::model::{Formation, Offered, Ticket};
use super::settings::{OutsideHook, Settings};
use super::{Matchmaker, Rated};
use crate::ids::{HookId, IdempotencyKey, MatchId, PlayerId, QueueId, TicketId};
use crate::page::{Page, page};
use crate::size::Size;

impl Matchmaker {
    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// The data that a queue's own rules judge players by.
    pub(super) fn rated_of(&self, queue: &QueueId) -> Option<Arc<Rated>> {
        self.beside.pools.rules(queue).map(|rules| Arc::clone(&rules.rated))
    }

    /// A ticket, with its status; tickets that are over are found for as long as they are kept.
    #[must_use]
    pub fn ticket(&self, id: &TicketId) -> Option<&Ticket> {
        self.state.find(id)
    }

    /// The ticket that was started under a key.
    #[must_use]
    pub fn ticket_of_key(&self, key: &IdempotencyKey) -> Option<&Ticket> {
        let used = || self.state.keys.get(key).map(|used| &used.ticket);
        self.state.find(self.state.index.by_key.get(key).or_else(used)?)
    }

    /// Whether a ticket was started under a key, even if the ticket is forgotten.
    #[must_use]
    pub fn remembers(&self, key: &IdempotencyKey) -> bool {
        self.state.index.by_key.contains_key(key) || self.state.keys.contains_key(key)
    }

    /// The tickets of a player that are not over, oldest first: at most one in each queue.
    pub fn tickets_of(&self, player: &PlayerId) -> impl Iterator<Item = &Ticket> {
        self.state.tickets_of(player)
    }

    /// Tickets that are not over, oldest first, from the one behind the place `after`; 0 is before the first.
    #[must_use]
    pub fn tickets(&self, after: u64, most: usize) -> Page<Ticket> {
        let tickets = self.state.tickets.range((Bound::Excluded(after), Bound::Unbounded));
        page(tickets.map(|(_, ticket)| Ticket::clone(ticket)), most, Size::byte_size)
    }

    /// Tickets that are over and still kept, in the order of their start.
    pub fn over(&self) -> impl Iterator<Item = &Ticket> {
        self.state.over.values().map(Arc::as_ref)
    }

    /// A match that is being made.
    #[must_use]
    pub fn formation(&self, id: &MatchId) -> Option<&Formation> {
        self.state.formations.get(id).map(Arc::as_ref)
    }

    /// Every match that is being made, by id.
    pub fn formations(&self) -> impl Iterator<Item = &Formation> {
        self.state.formations.values().map(Arc::as_ref)
    }

    /// Matches that are being made, by id, from the one after `after`.
    pub fn formations_after(&self, after: Option<&MatchId>) -> impl Iterator<Item = &Formation> {
        let range = self.state.formations.range::<_, MatchId>(behind(after));
        range.map(|(_, formation)| &**formation)
    }

    /// Offers of free seats, by match, from the one after `after`.
    pub fn offers_after(&self, after: Option<&MatchId>) -> impl Iterator<Item = &Offered> {
        let range = self.state.offers.range::<_, MatchId>(behind(after));
        range.map(|(_, offered)| &**offered)
    }

    /// Every offer of free seats, by match.
    pub fn offers(&self) -> impl Iterator<Item = &Offered> {
        self.state.offers.values().map(Arc::as_ref)
    }

    /// The offer of a match's free seats.
    #[must_use]
    pub fn offered(&self, id: &MatchId) -> Option<&Offered> {
        self.state.offers.get(id).map(Arc::as_ref)
    }

    /// How many tickets wait in a queue.
    #[must_use]
    pub fn waiting(&self, queue: &QueueId) -> usize {
        self.state.index.lines.get(queue).map_or(0, |line| line.by_place.len())
    }

    /// Bytes of what waits, and of what is over and still kept: the settings have a budget for each.
    #[must_use]
    pub const fn bytes(&self) -> (u64, u64) {
        (self.state.index.waiting_bytes, self.state.index.kept_bytes)
    }

    /// A hook by which a queue, also a removed one with tickets, is served; `None` if there is none of this name.
    #[must_use]
    pub fn hook(&self, queue: &QueueId, id: &HookId) -> Option<&OutsideHook> {
        super::hooks::outside(&self.state, queue, id)
    }

    /// An upper bound for the number of tickets that the next ticks look at.
    #[must_use]
    pub fn backlog(&self) -> usize {
        let due = &self.beside.due;
        let swept = due.sweeps.iter().filter_map(|(queue, after)| {
            let line = self.state.index.lines.get(queue)?;
            Some(line.by_place.len() - line.ranks.before(after + 1))
        });
        due.tickets.values().map(BTreeSet::len).sum::<usize>() + swept.sum::<usize>()
    }

    /// The number of searches that were not finished in one turn, since this process began.
    #[must_use]
    pub const fn cut_searches(&self) -> u64 {
        self.beside.cut_searches
    }

    /// Whether the search for a match for this ticket continues among those in reach.
    #[must_use]
    pub fn is_searching(&self, id: &TicketId) -> bool {
        let is_looked_for = |ticket: &Ticket| {
            let due = self.beside.due.tickets.get(&ticket.queue);
            self.beside.unfinished.contains(ticket.place)
                || due.is_some_and(|due| due.contains(&ticket.place))
        };
        self.state.ticket(id).is_some_and(is_looked_for)
    }

    /// The number of searches that continue in the next ticks.
    #[must_use]
    pub fn unfinished_searches(&self) -> usize {
        self.beside.unfinished.len()
    }
}

const fn behind<T>(after: Option<&T>) -> (Bound<&T>, Bound<&T>) {
    match after {
        Some(after) => (Bound::Excluded(after), Bound::Unbounded),
        None => (Bound::Unbounded, Bound::Unbounded),
    }
}
