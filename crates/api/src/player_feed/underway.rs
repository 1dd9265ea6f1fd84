//! Matches that the matchmaker has handed to the broker and is not done with: it has yet to report whether their
//! players can connect.
//!
//! The broker decides independently. A match that ends soon after it was ready may be over in the broker's log before
//! the matchmaker's log says that the players can connect; then its end is told after that, or not at all if its
//! tickets go back.

use std::collections::{HashMap, HashSet};

use sortie_domain::broker::event::Event as BrokerEvent;
use sortie_domain::ids::{MatchId, TicketId};
use sortie_domain::matchmaking::model::Stage;
use sortie_domain::matchmaking::{Event, Snapshot};

/// The match that this event ends.
pub(super) const fn over(event: &BrokerEvent) -> Option<&MatchId> {
    match event {
        BrokerEvent::MatchEnded { id, .. }
        | BrokerEvent::MatchFailed { id, .. }
        | BrokerEvent::MatchCancelled { id, .. } => Some(id),
        _ => None,
    }
}

/// The state at the place up to which the matchmaker's log has been read.
#[derive(Default)]
pub(super) struct Underway {
    /// Matches that wait for a server.
    forming: HashSet<MatchId>,
    /// Tickets that are getting seats of a running match.
    seating: HashMap<MatchId, HashSet<TicketId>>,
    match_of: HashMap<TicketId, MatchId>,
}

impl Underway {
    /// From a copy of the state.
    pub(super) fn of(maker: &Snapshot) -> Self {
        let forming = maker.formations.values();
        let forming = forming.filter(|formation| matches!(formation.stage, Stage::FindingServer { .. }));
        let forming = forming.map(|formation| formation.id.clone()).collect();
        let mut underway = Self { forming, ..Self::default() };
        for offered in maker.offers.values() {
            for ticket in offered.seating.keys() {
                underway.seat(&offered.offer.match_id, ticket);
            }
        }
        underway
    }

    /// Whether the matchmaker has yet to report on a match.
    pub(super) fn has(&self, id: &MatchId) -> bool {
        self.forming.contains(id) || self.seating.contains_key(id)
    }

    /// Processes an event of the matchmaker.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::MatchFormed { id, .. } => {
                self.forming.insert(id.clone());
            }
            Event::MatchReady { id, .. } | Event::MatchDissolved { id, .. } => {
                self.forming.remove(id);
            }
            Event::SeatsTaken { match_id, ticket, .. } => self.seat(match_id, &ticket.ticket),
            Event::TicketSeated { ticket, .. }
            | Event::TicketReturned { ticket, .. }
            | Event::TicketCancelled { ticket, .. }
            | Event::TicketFailed { ticket, .. }
            | Event::TicketTimedOut { ticket } => self.unseat(&ticket.ticket),
            _ => {}
        }
    }

    fn seat(&mut self, id: &MatchId, ticket: &TicketId) {
        self.unseat(ticket);
        self.seating.entry(id.clone()).or_default().insert(ticket.clone());
        self.match_of.insert(ticket.clone(), id.clone());
    }

    fn unseat(&mut self, ticket: &TicketId) {
        let Some(id) = self.match_of.remove(ticket) else { return };
        let Some(tickets) = self.seating.get_mut(&id) else { return };
        tickets.remove(ticket);
        if tickets.is_empty() {
            self.seating.remove(&id);
        }
    }
}

/// Pending reports on matches in a part of the matchmaker's log: how many per match.
#[derive(Default)]
pub(super) struct Due(HashMap<MatchId, usize>);

impl Due {
    pub(super) fn has(&self, id: &MatchId) -> bool {
        self.0.contains_key(id)
    }

    /// Removes a report that has been told.
    pub(super) fn remove(&mut self, event: &Event) {
        let Some(id) = said_of(event) else { return };
        if let Some(times) = self.0.get_mut(id) {
            *times -= 1;
            if *times == 0 {
                self.0.remove(id);
            }
        }
    }
}

impl<'a> FromIterator<&'a Event> for Due {
    fn from_iter<I: IntoIterator<Item = &'a Event>>(events: I) -> Self {
        let mut due = Self::default();
        for id in events.into_iter().filter_map(said_of) {
            *due.0.entry(id.clone()).or_default() += 1;
        }
        due
    }
}

/// The match for which this event says whether players can connect.
const fn said_of(event: &Event) -> Option<&MatchId> {
    match event {
        Event::MatchReady { id, .. } | Event::MatchDissolved { id, .. } => Some(id),
        Event::TicketSeated { match_id, .. } | Event::TicketReturned { match_id, .. } => Some(match_id),
        _ => None,
    }
}
