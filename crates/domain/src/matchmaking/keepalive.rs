//! Tickets that their clients keep alive: a ticket with a `ttl` is cancelled if it is not renewed for that long.
//!
//! A restart counts as a renewal: while the process was down, nobody could renew anything.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use super::command::{Refusal, Reply};
use super::model::{CancelCause, Ticket, TicketSpec};
use super::state::{Indexes, State};
use super::{BrokenRule, Event, Matchmaker, Turn};
use crate::ids::{PlayerId, TicketId};
use crate::time::Timestamp;

/// Minimum `ttl`.
pub const MIN_TTL: Duration = Duration::from_secs(1);
/// Maximum `ttl`.
pub const MAX_TTL: Duration = Duration::from_secs(600);

impl Ticket {
    /// Its `ttl`, and when it was last renewed; `None` if it needs no renewal.
    fn kept_alive(&self) -> Option<(Duration, Timestamp)> {
        match (self.spec.ttl, self.renewed_at) {
            (Some(ttl), Some(renewed_at)) => Some((ttl, renewed_at)),
            _ => None,
        }
    }
}

impl Matchmaker {
    /// When a ticket is cancelled unless it is renewed before; `None` for one without a `ttl`, or one that is over.
    #[must_use]
    pub fn renew_by(&self, ticket: &Ticket) -> Option<Timestamp> {
        let (ttl, renewed_at) = ticket.kept_alive().filter(|_| !ticket.is_over())?;
        Some(self.lives_until(ttl, renewed_at))
    }

    fn lives_until(&self, ttl: Duration, renewed_at: Timestamp) -> Timestamp {
        let forgets = self.broken(BrokenRule::ForgetRestart);
        let since = if forgets { Timestamp::ZERO } else { self.beside.awake_since };
        renewed_at.max(since) + ttl
    }

    /// The next time at which a ticket is cancelled unless it is renewed before.
    pub(super) fn abandons_at(&self) -> Option<Timestamp> {
        self.first_of_each_ttl().map(|(at, _)| at).min()
    }

    /// There are few different values: at most as many as [`MAX_TTL`] has seconds.
    fn first_of_each_ttl(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        let forgets = self.broken(BrokenRule::ForgetKeepAlive);
        let each = self.state.index.kept_alive.iter().filter(move |_| !forgets);
        each.filter_map(|(ttl, tickets)| {
            let (renewed_at, place) = tickets.first()?;
            Some((self.lives_until(*ttl, *renewed_at), *place))
        })
    }
}

impl Turn<'_> {
    pub(super) fn renew(&mut self, id: &TicketId) -> Result<Reply, Refusal> {
        let ticket = self.state().find(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        if ticket.is_over() {
            return Err(Refusal::TicketOver { ticket: id.clone(), status: ticket.status().name() });
        }
        self.renewed(id);
        let ticket = self.state().find(id).ok_or_else(|| Refusal::TicketNotFound(id.clone()))?;
        Ok(Reply::Ticket(ticket.clone()))
    }

    /// The client of a ticket has shown that it is there.
    pub(super) fn renewed(&mut self, id: &TicketId) {
        let renewed_at = self.state().ticket(id).and_then(Ticket::kept_alive).map(|(_, at)| at);
        if renewed_at.is_some_and(|at| at < self.now) {
            self.emit(Event::TicketRenewed { id: id.clone() });
        }
    }

    /// The first ticket that was not renewed in time.
    pub(super) fn abandoned(&self) -> Option<TicketId> {
        let (_, place) = self.maker.first_of_each_ttl().find(|(at, _)| *at <= self.now)?;
        self.state().tickets.get(&place).map(|ticket| ticket.id.clone())
    }

    pub(super) fn abandon(&mut self, id: &TicketId) {
        self.call_off(id, CancelCause::Abandoned);
    }
}

/// Whether the requested `ttl` is valid.
pub(super) fn check_ttl(spec: &TicketSpec) -> Result<(), Refusal> {
    match spec.ttl {
        Some(ttl) if !(MIN_TTL..=MAX_TTL).contains(&ttl) || ttl.subsec_nanos() > 0 => {
            let (least, most) = (MIN_TTL.as_secs(), MAX_TTL.as_secs());
            Err(Refusal::field("ttl", format!("must be a whole number of seconds from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

impl State {
    /// It stays where it is in its queue, so no other index has to be updated.
    pub(super) fn renew(&mut self, id: &TicketId, at: Timestamp) {
        let Some(place) = self.ticket(id).filter(|ticket| ticket.renewed_at.is_some()).map(|of| of.place)
        else {
            return;
        };
        let Some(ticket) = self.tickets.get_mut(&place) else { return };
        self.index.leave_kept_alive(ticket);
        let changed = alloc::sync::Arc::make_mut(ticket);
        changed.renewed_at = Some(at);
        self.index.enter_kept_alive(changed);
    }

    /// A player's answer shows that the client is there, for all of the player's tickets.
    pub(super) fn renew_of(&mut self, player: &PlayerId, at: Timestamp) {
        let renewed = self.tickets_of(player).filter(|of| of.renewed_at.is_some());
        let renewed: Vec<TicketId> = renewed.map(|of| of.id.clone()).collect();
        renewed.iter().for_each(|id| self.renew(id, at));
    }
}

impl Indexes {
    pub(super) fn enter_kept_alive(&mut self, ticket: &Ticket) {
        if let Some((ttl, renewed_at)) = ticket.kept_alive() {
            self.kept_alive.entry(ttl).or_default().insert((renewed_at, ticket.place));
        }
    }

    pub(super) fn leave_kept_alive(&mut self, ticket: &Ticket) {
        let Some((ttl, renewed_at)) = ticket.kept_alive() else { return };
        if let Some(tickets) = self.kept_alive.get_mut(&ttl) {
            tickets.remove(&(renewed_at, ticket.place));
            if tickets.is_empty() {
                self.kept_alive.remove(&ttl);
            }
        }
    }
}
