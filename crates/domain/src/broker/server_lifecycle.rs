//! Servers: pending → available → full → draining → gone; and the calls that game servers make.

use alloc::sync::Arc;
use core::time::Duration;

use super::budget::MAX_SERVER_BYTES;
use super::command::{Hints, Offer, Refusal, Reply};
use super::event::Event;
use super::looking::Then;
use super::match_lifecycle::MAX_PICKUPS;
use super::model::{
    AllocationState, Connection, EndCause, FailReason, GoneCause, MAX_CONNECTION_BYTES,
    MAX_CONNECTIONS_BYTES, Match, MatchState, ServerState,
};
use super::requirements::{NoRoom, Requirement, Search};
use super::waiting::Waiter;
use super::{BrokenRule, MAX_SERVERS, MAX_WAITERS, MAX_WAITERS_OF_SERVER, Turn};
use crate::ids::{MatchId, ServerId};
use crate::machine::CallId;
use crate::size::Size;
use crate::text::is_deceptive;

/// How long the queue is looked through at most for a server that is not willing to wait.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);

impl Turn<'_> {
    /// A server asks for a match: it gets the oldest that fits, or waits if it is willing to.
    pub(super) fn request_match(
        &mut self,
        call: CallId,
        server: &ServerId,
        requirements: &str,
        hints: Hints,
    ) -> Result<Option<Reply>, Refusal> {
        let requirement = self.broker.requirements.compile(requirements)?;
        if hints.has(Hints::SHUTDOWN) {
            self.clear_and_dismiss(server, GoneCause::ShutDown);
            return Ok(Some(Reply::Requested { offer: None, hints: Hints::SHUTDOWN }));
        }
        if hints.has(Hints::WITHDRAW) {
            self.turn_away(server, Hints::NONE);
            return Ok(Some(Reply::Requested { offer: None, hints: self.wish(server) }));
        }
        if self.is_unwanted(server) {
            return Ok(Some(Reply::Requested { offer: None, hints: Hints::SHUTDOWN }));
        }
        self.check_room(server)?;
        self.broker.requirements.keep(&requirement).map_err(|NoRoom| Refusal::TooMany {
            what: "bytes of requirements that servers ask with",
            limit: NoRoom::LIMIT,
        })?;
        self.contact(server, hints);
        if hints.has(Hints::FULL) {
            return Ok(Some(Reply::Requested { offer: None, hints: Hints::NONE }));
        }
        self.broker.beside.heard.insert(server.clone(), Arc::clone(&requirement));
        self.note_free(server);
        let again = self.give_again(server).map(Search::Found);
        match again.unwrap_or_else(|| self.oldest_for(server, &requirement)) {
            Search::Found(offer) => {
                return Ok(Some(Reply::Requested { offer: Some(offer), hints: Hints::NONE }));
            }
            Search::Nothing => {}
            Search::Unfinished => {
                self.wait(call, server, requirement, hints, true);
                return Ok(None);
            }
        }
        if self.is_unneeded(server, hints) {
            self.dismiss(server, GoneCause::Surplus);
            return Ok(Some(Reply::Requested { offer: None, hints: Hints::SHUTDOWN }));
        }
        if !self.may_wait(hints) {
            return Ok(Some(Reply::Requested { offer: None, hints: Hints::NONE }));
        }
        self.wait(call, server, requirement, hints, false);
        Ok(None)
    }

    /// Whether the server would rather end than wait, and is not needed.
    pub(super) fn is_unneeded(&self, server: &ServerId, hints: Hints) -> bool {
        hints.has(Hints::WILLING_TO_SHUTDOWN) && self.is_surplus(server)
    }

    pub(super) fn may_wait(&self, hints: Hints) -> bool {
        hints.has(Hints::WILLING_TO_WAIT) && !self.state().settings.wait.is_zero()
    }

    /// Whether the broker has given the server up: it is draining, gone, or told to leave, or is about to be because its
    /// fleet is not configured any more.
    pub(super) fn is_unwanted(&self, server: &ServerId) -> bool {
        match self.state().servers.get(server) {
            Some(known) => {
                let removed = |fleet| !self.state().fleets.contains_key(fleet);
                matches!(known.state, ServerState::Draining { .. })
                    || known.fleet.as_ref().is_some_and(removed)
            }
            // A server that is gone may still have an allocation that is being stopped.
            None => {
                self.state().kept.gone.get(server).is_some()
                    || self.state().index.by_server.contains_key(server)
            }
        }
    }

    fn check_room(&self, server: &ServerId) -> Result<(), Refusal> {
        if !self.state().servers.contains_key(server) && self.state().servers.len() >= MAX_SERVERS {
            return Err(Refusal::TooMany { what: "servers", limit: MAX_SERVERS });
        }
        if !self.state().servers.contains_key(server) {
            self.check_bytes(MAX_SERVER_BYTES)?;
        }
        let waiters = &self.broker.beside.waiters;
        if waiters.len() >= MAX_WAITERS {
            return Err(Refusal::TooMany { what: "waiting servers", limit: MAX_WAITERS });
        }
        if waiters.of_server(server) >= MAX_WAITERS_OF_SERVER {
            return Err(Refusal::TooMany {
                what: "waiting calls of one server",
                limit: MAX_WAITERS_OF_SERVER,
            });
        }
        Ok(())
    }

    /// The first contact registers a server; FULL and NOT_FULL are noted. To ask for a match without saying FULL
    /// is to say NOT_FULL.
    fn contact(&mut self, server: &ServerId, hints: Hints) {
        match self.state().servers.get(server).map(|known| known.state) {
            None => self.emit(Event::ServerRegistered { server: server.clone() }),
            Some(ServerState::Pending) => self.emit(Event::ServerAvailable { server: server.clone() }),
            Some(_) => {}
        }
        if hints.has(Hints::FULL) {
            self.note_full(server);
        } else {
            self.note_not_full(server);
        }
    }

    fn note_full(&mut self, server: &ServerId) {
        if self.state().servers.get(server).is_some_and(|known| known.state == ServerState::Available) {
            if self.broken(BrokenRule::ChangeWithoutEvent) {
                let known = self.broker.state.servers.get_mut(server);
                return known.into_iter().for_each(|known| known.state = ServerState::Full);
            }
            self.emit(Event::ServerFull { server: server.clone() });
            self.turn_away(server, Hints::NONE);
        }
    }

    fn note_not_full(&mut self, server: &ServerId) {
        if self.state().servers.get(server).is_some_and(|known| known.state == ServerState::Full) {
            self.emit(Event::ServerNotFull { server: server.clone() });
        }
    }

    fn note_hints(&mut self, server: &ServerId, hints: Hints) {
        if hints.has(Hints::WITHDRAW) {
            self.turn_away(server, Hints::NONE);
        } else if hints.has(Hints::FULL) {
            self.note_full(server);
        } else if hints.has(Hints::NOT_FULL) {
            self.note_not_full(server);
        }
    }

    fn wait(
        &mut self,
        call: CallId,
        server: &ServerId,
        requirement: Arc<Requirement>,
        hints: Hints,
        is_searching: bool,
    ) {
        let fleet = self.state().servers.get(server).and_then(|known| known.fleet.clone());
        let wait = self.state().settings.wait;
        let longest = if self.may_wait(hints) { wait } else { wait.max(LONGEST_SEARCH) };
        let waiter =
            Waiter { call, server: server.clone(), fleet, requirement, deadline: self.now + longest, hints };
        self.broker.beside.waiters.insert(waiter, is_searching);
    }

    /// Whether the server's fleet has more idle servers than it keeps warm, this one among them.
    pub(super) fn is_surplus(&self, server: &ServerId) -> bool {
        let Some(fleet) = self.state().servers.get(server).and_then(|known| known.fleet.as_ref()) else {
            return false;
        };
        let idle = self.state().index.idle.get(&Some(fleet.clone()));
        let warm = self.state().fleets.get(fleet).map_or(0, |fleet| fleet.warm as usize);
        idle.is_some_and(|idle| idle.contains(server) && idle.len() > warm)
    }

    /// Players can connect. Once more with the same details is no fault.
    pub(super) fn match_ready(
        &mut self,
        server: &ServerId,
        match_id: &MatchId,
        connection: Connection,
        hints: Hints,
    ) -> Result<Reply, Refusal> {
        check_connection(&connection)?;
        let game = self.held(server, match_id)?;
        match &game.state {
            MatchState::Ready { connection: known, .. } if **known != connection => {
                return Err(Refusal::AlreadyReady(match_id.clone()));
            }
            MatchState::Ready { .. } if !self.broken(BrokenRule::ReadyTwice) => {}
            _ => {
                self.check_bytes_of_running(connection.byte_size())?;
                let event = Event::MatchReady {
                    id: match_id.clone(),
                    server: server.clone(),
                    players: game.players(),
                    connection: Arc::new(connection),
                };
                self.emit(event);
            }
        }
        self.note_hints(server, hints);
        Ok(Reply::Noted { match_id: match_id.clone(), hints: self.wish(server) })
    }

    /// A match is over. Once more is no fault. One that the server is not ready for and that it hands back, because it
    /// exits or takes no match for now, goes to another server.
    pub(super) fn end_match(
        &mut self,
        server: &ServerId,
        match_id: &MatchId,
        hints: Hints,
    ) -> Result<Reply, Refusal> {
        let over = self.state().kept.finished.get(match_id);
        if over.is_none_or(|game| game.server.as_ref() != Some(server)) {
            match self.held(server, match_id)?.state {
                MatchState::Ready { .. } => self.ended(match_id, EndCause::Server),
                // Handed back below, with the other matches of the server.
                _ if hints.has(Hints::SHUTDOWN) => {}
                _ if hints.has(Hints::FULL) => {
                    self.note_hints(server, hints);
                    self.hand_back(match_id, server, FailReason::EndedBeforeReady);
                }
                _ => self.failed(match_id, FailReason::EndedBeforeReady),
            }
        }
        self.dismiss_drained(server);
        if hints.has(Hints::SHUTDOWN) {
            self.clear_and_dismiss(server, GoneCause::ShutDown);
        }
        self.note_hints(server, hints);
        if hints.has(Hints::WILLING_TO_SHUTDOWN) && self.is_surplus(server) && !self.is_needed(server) {
            self.dismiss(server, GoneCause::Surplus);
        }
        Ok(Reply::Noted { match_id: match_id.clone(), hints: self.wish(server) })
    }

    /// What the broker asks of the server with its answer.
    fn wish(&self, server: &ServerId) -> Hints {
        if self.is_unwanted(server) { Hints::SHUTDOWN } else { Hints::NONE }
    }

    pub(super) fn held(&self, server: &ServerId, match_id: &MatchId) -> Result<&Match, Refusal> {
        let game = self.find(match_id)?;
        if game.server.as_ref() == Some(server) && !game.state.is_over() {
            return Ok(game);
        }
        Err(Refusal::MatchNotHeld {
            match_id: match_id.clone(),
            state: game.state.name(),
            shutdown: self.is_unwanted(server),
        })
    }

    /// An administrator wants the server gone: its matches fail, its platform stops it.
    pub(super) fn deallocate_server(&mut self, server: &ServerId) -> Result<Reply, Refusal> {
        let Some(known) = self.state().servers.get(server) else {
            return Err(Refusal::ServerNotFound(server.clone()));
        };
        let connection = |id: &MatchId| match &self.state().matches.get(id)?.state {
            MatchState::Ready { connection, .. } => Some(Arc::clone(&connection.details)),
            _ => None,
        };
        let reply = Reply::Deallocated {
            state: known.state,
            matches: known.matches.iter().map(|id| (id.clone(), connection(id))).collect(),
        };
        self.clear_and_dismiss(server, GoneCause::Deallocated);
        Ok(reply)
    }

    /// The server's matches come to their end with it, then it is forgotten. Where there are more than the step takes,
    /// it drains with that cause, and the rest is due.
    pub(super) fn clear_and_dismiss(&mut self, server: &ServerId, cause: GoneCause) {
        let Some(known) = self.state().servers.get(server) else { return };
        let cause = match known.state {
            ServerState::Draining { cause: before } if before.fails_matches().is_some() => before,
            _ => cause,
        };
        if !known.matches.is_empty() {
            self.turn_away(server, Hints::SHUTDOWN);
        }
        loop {
            let Some(known) = self.state().servers.get(server) else { return };
            let draining = known.state == ServerState::Draining { cause };
            let Some(id) = known.matches.get_min().cloned() else { break };
            if self.is_full() {
                if !draining {
                    self.emit(Event::ServerDraining { server: server.clone(), cause });
                }
                return;
            }
            self.clear(&id, server, cause);
        }
        self.dismiss(server, cause);
    }

    /// One match of a server that goes: it is handed back where the server is no more or is about to exit, otherwise it
    /// fails.
    fn clear(&mut self, id: &MatchId, server: &ServerId, cause: GoneCause) {
        let leaves = matches!(cause, GoneCause::Exited | GoneCause::AllocationFailed | GoneCause::ShutDown);
        match cause.fails_matches() {
            Some(reason) if leaves => self.hand_back(id, server, reason),
            Some(reason) => self.failed(id, reason),
            None => {}
        }
    }

    /// A match that its server does not play: back to the queue where its players do not know of it yet, unless too many
    /// servers have had it; otherwise it fails.
    fn hand_back(&mut self, id: &MatchId, server: &ServerId, reason: FailReason) {
        let unheard = self.state().matches.get(id).is_some_and(|game| {
            matches!(game.state, MatchState::PickedUp { .. }) && game.pickups < MAX_PICKUPS
        });
        if unheard {
            self.emit(Event::MatchReturned { id: id.clone(), server: server.clone() });
            self.offer(id, Then::Nothing);
        } else {
            self.failed(id, reason);
        }
    }

    /// One match of a server that is draining and whose matches fail, or the server itself after its last one; whether
    /// there was one.
    pub(super) fn clear_server(&mut self) -> bool {
        let Some(server) = self.state().index.clearing.first().cloned() else { return false };
        let Some(known) = self.state().servers.get(&server) else { return false };
        let ServerState::Draining { cause } = known.state else { return false };
        match known.matches.get_min().cloned() {
            Some(id) => self.clear(&id, &server, cause),
            None => self.dismiss(&server, cause),
        }
        true
    }

    /// A server that was draining goes after its last match.
    fn dismiss_drained(&mut self, server: &ServerId) {
        if let Some(known) = self.state().servers.get(server)
            && let ServerState::Draining { cause } = known.state
            && known.matches.is_empty()
        {
            self.dismiss(server, cause);
        }
    }

    /// The server gets no further match: it goes now, or after the matches that still run on it.
    pub(super) fn drain(&mut self, server: &ServerId, cause: GoneCause) {
        let Some(known) = self.state().servers.get(server) else { return };
        if known.matches.is_empty() {
            return self.dismiss(server, cause);
        }
        if !matches!(known.state, ServerState::Draining { .. }) {
            self.emit(Event::ServerDraining { server: server.clone(), cause });
            self.turn_away(server, Hints::SHUTDOWN);
        }
    }

    /// The server, which has no match any more, is forgotten. One that was asked to exit has time to, one that is not
    /// there needs nothing; any other is stopped by its platform at once.
    pub(super) fn dismiss(&mut self, server: &ServerId, cause: GoneCause) {
        if !self.state().servers.contains_key(server) {
            return;
        }
        self.turn_away(server, Hints::SHUTDOWN);
        self.broker.beside.heard.remove(server);
        self.broker.beside.expected.remove(server);
        self.emit(Event::ServerGone { server: server.clone(), cause });
        let (asked, absent) = (
            matches!(cause, GoneCause::ShutDown | GoneCause::Surplus),
            matches!(cause, GoneCause::Exited | GoneCause::AllocationFailed),
        );
        if let Some(order) = self.state().index.by_server.get(server).cloned()
            && !asked
            && !absent
        {
            let error = (cause == GoneCause::ReadyDeadline).then(|| Arc::from(cause.text()));
            self.order_stop(&order, error);
        }
    }

    /// Waiting calls of the server are answered without a match.
    fn turn_away(&mut self, server: &ServerId, hints: Hints) {
        while let Some(waiter) = self.broker.beside.waiters.take_server(server) {
            self.answer(waiter.call, Ok(Reply::Requested { offer: None, hints }));
        }
    }

    /// A match that a server was given, but that never reached it, goes back to its old place.
    pub(super) fn take_back(&mut self, offer: &Offer) {
        let Some(game) = self.state().matches.get(&offer.match_id) else { return };
        let untouched = matches!(game.state, MatchState::PickedUp { .. })
            && game.pickups == offer.pickup
            && game.server.as_ref() == Some(&offer.server);
        if untouched && offer.again {
            // The server may have it all the same, so that nobody else can.
            let untold = self.broker.beside.untold.get_or_insert_default();
            untold.insert(offer.match_id.clone(), offer.pickup);
            return;
        }
        if untouched || self.broken(BrokenRule::ReturnAlways) {
            self.emit(Event::MatchReturned { id: offer.match_id.clone(), server: offer.server.clone() });
            self.offer(&offer.match_id, Then::Nothing);
        }
    }

    /// Whether a platform is to be told to stop the server's allocation.
    pub(super) fn order_stop(&mut self, order: &crate::ids::AllocationId, error: Option<Arc<str>>) {
        let Some(allocation) = self.state().allocations.get(order) else { return };
        if allocation.state != AllocationState::Stopping && !self.broken(BrokenRule::ForgetStop) {
            let fleet = allocation.fleet.clone();
            self.emit(Event::AllocationStopOrdered { allocation: order.clone(), fleet, error });
        }
    }
}

fn check_connection(connection: &Connection) -> Result<(), Refusal> {
    let too_long = |text: &str| text.len() > MAX_CONNECTION_BYTES;
    let problem = alloc::format!("longer than {MAX_CONNECTION_BYTES} bytes");
    if too_long(&connection.details) {
        return Err(Refusal::field("connection_details", problem));
    }
    if connection.per_player.values().any(|details| too_long(details)) {
        return Err(Refusal::field("per_player_connection_details", problem));
    }
    let deceptive = |text: &str| text.chars().any(is_deceptive);
    let problem = "must not hold control characters or such as change the direction of text";
    if deceptive(&connection.details) {
        return Err(Refusal::field("connection_details", problem));
    }
    if connection.per_player.values().any(|details| deceptive(details)) {
        return Err(Refusal::field("per_player_connection_details", problem));
    }
    let bytes = connection.byte_size();
    if bytes > MAX_CONNECTIONS_BYTES {
        let what = "connection details of all players";
        return Err(Refusal::TooLarge { what, bytes, limit: MAX_CONNECTIONS_BYTES });
    }
    if connection.details.is_empty() && connection.per_player.is_empty() {
        return Err(Refusal::field("connection_details", "must say where players connect"));
    }
    Ok(())
}
