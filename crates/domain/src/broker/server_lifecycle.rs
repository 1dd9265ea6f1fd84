//! Servers: pending → available → full → draining → gone; and the calls that game servers make.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::address;
use super::budget::MAX_SERVER_BYTES;
use super::collecting::Collecting;
use super::command::{Hints, Offer, Refusal, Reply};
use super::event::Event;
use super::fleets::Filter;
use super::looking::Then;
use super::match_lifecycle::MAX_PICKUPS;
use super::model::{
    AllocationState, EndCause, FailReason, GoneCause, Match, MatchState, Server, ServerState,
};
use super::placement::Again;
use super::untold::Lost;
use super::waiting::{Waiter, Waiting};
use super::{
    BrokenRule, MAX_OFFERS, MAX_REQUEST_WAIT, MAX_SERVERS, MAX_WAITERS, MAX_WAITERS_OF_SERVER, Turn,
};
use crate::connection::{Connection, MAX_CONNECTION_BYTES, MAX_CONNECTIONS_BYTES};
use crate::ids::{AllocationId, MatchId, ServerId};
use crate::machine::CallId;
use crate::requirements::{NoRoom, Requirement, Search};
use crate::size::Size;
use crate::text::is_deceptive;

/// Maximum time of a search through the queue for a server that is not willing to wait.
const MAX_SEARCH: Duration = Duration::from_secs(10);

/// How long after an unreachable server another one counts as a failure of its fleet.
const SPARED_TIME: Duration = Duration::from_secs(60);

/// How a server asks for a match.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    pub(super) hints: Hints,
    /// Maximum number of matches that it takes at once.
    pub(super) most: u32,
    /// How long it collects matches, and is held until there is one, if it asks for that.
    pub(super) wait: Option<Duration>,
}

impl Asking {
    fn check(&self) -> Result<(), Refusal> {
        if !(1..=MAX_OFFERS).contains(&self.most) {
            return Err(Refusal::field("max_matches", format!("must be 1 to {MAX_OFFERS}")));
        }
        if self.wait.is_some_and(|wait| wait > MAX_REQUEST_WAIT) {
            let most = MAX_REQUEST_WAIT.as_secs();
            return Err(Refusal::field("wait_seconds", format!("must be 0 to {most}")));
        }
        Ok(())
    }
}

impl Turn<'_> {
    /// A server asks for a match: it gets the oldest that fits, or waits if it is willing to.
    pub(super) fn request_match(
        &mut self,
        call: CallId,
        server: &ServerId,
        requirements: &str,
        asking: Asking,
    ) -> Result<Option<Reply>, Refusal> {
        asking.check()?;
        let hints = asking.hints;
        let asked = self.broker.requirements.compile(requirements)?;
        if hints.has(Hints::SHUTDOWN) {
            self.clear_and_dismiss(server, GoneCause::ShutDown);
            let hints = if self.holds_nothing(server) { self.tell_to_exit(server) } else { Hints::NONE };
            return Ok(Some(Reply::no_match(hints)));
        }
        if hints.has(Hints::WITHDRAW) {
            self.turn_away(server, Hints::NONE);
            return Ok(Some(Reply::no_match(self.wish(server))));
        }
        if self.is_unwanted(server) {
            return self.request_of_unwanted(call, server, &asked, asking);
        }
        self.check_room(server)?;
        let filter = self.broker.filter_of(server, &asked);
        self.broker.keep(&filter).map_err(|NoRoom| Refusal::TooMany {
            what: "bytes of servers' requirements",
            limit: NoRoom::LIMIT,
        })?;
        self.contact(server, hints);
        if hints.has(Hints::FULL) {
            return Ok(Some(Reply::no_match(Hints::NONE)));
        }
        self.broker.beside.heard.insert(server.clone(), asked);
        self.note_free(server);
        if asking.most > 1 {
            self.broker.beside.untold.note_several(server);
        }
        let again = Again { lost: self.foremost(server, asking), but: &[] };
        let again = self.give_again(server, &filter, again).map(Search::Found);
        match again.unwrap_or_else(|| self.oldest_for(server, &filter)) {
            Search::Found(offer) => return Ok(self.offer_several(call, offer, server, filter, asking)),
            Search::Nothing => {}
            Search::Unfinished => {
                self.wait(call, server, filter, asking, Waiting::Searching);
                return Ok(None);
            }
        }
        if let Some(offer) = self.give_again(server, &filter, Again { lost: Lost::Any, but: &[] }) {
            return Ok(self.offer_several(call, offer, server, filter, asking));
        }
        if self.is_unneeded(server, hints) {
            self.dismiss(server, GoneCause::Surplus);
            return Ok(Some(Reply::no_match(Hints::SHUTDOWN)));
        }
        if !self.may_wait(asking) {
            return Ok(Some(Reply::no_match(Hints::NONE)));
        }
        self.wait(call, server, filter, asking, Waiting::Offered);
        Ok(None)
    }

    /// Matches that a server may have lost and gets before anything new.
    pub(super) fn foremost(&self, server: &ServerId, asking: Asking) -> Lost {
        if self.broken(BrokenRule::OthersBeforeLost) {
            Lost::Before
        } else if asking.most > 1 {
            Lost::Latest
        } else if self.broker.beside.untold.is_several(server) {
            Lost::Before
        } else {
            Lost::Any
        }
    }

    /// A server that gets no further match asks for one. It is told to exit when it has none; until then its call is
    /// held, if it is willing to wait, so that it does not ask repeatedly.
    fn request_of_unwanted(
        &mut self,
        call: CallId,
        server: &ServerId,
        asked: &Arc<Requirement>,
        asking: Asking,
    ) -> Result<Option<Reply>, Refusal> {
        let hints = asking.hints;
        if self.holds_nothing(server) {
            return Ok(Some(Reply::no_match(self.wish(server))));
        }
        let filter = self.broker.filter_of(server, asked);
        // It may not have heard about the match that it has.
        if !hints.has(Hints::FULL)
            && let Some(offer) = self.give_again(server, &filter, Again { lost: Lost::Any, but: &[] })
        {
            return Ok(Some(Reply::one_match(offer)));
        }
        if hints.has(Hints::FULL) || !self.may_wait(asking) {
            return Ok(Some(Reply::no_match(Hints::NONE)));
        }
        self.check_room(server)?;
        self.wait(call, server, filter, asking, Waiting::Parked);
        Ok(None)
    }

    /// Whether the server prefers to exit over waiting, and is not needed.
    pub(super) fn is_unneeded(&self, server: &ServerId, hints: Hints) -> bool {
        hints.has(Hints::WILLING_TO_SHUTDOWN) && self.is_surplus(server)
    }

    /// Whether the call is held if no match fits.
    fn may_wait(&self, asking: Asking) -> bool {
        !self.max_wait(asking).is_zero()
    }

    fn max_wait(&self, asking: Asking) -> Duration {
        let willing = asking.hints.has(Hints::WILLING_TO_WAIT);
        let longest = if willing { self.state().settings.wait } else { Duration::ZERO };
        asking.wait.map_or(longest, |wait| wait.max(longest))
    }

    /// Whether the broker has given up on the server: it is draining, gone, or told to exit, or is about to be because
    /// it is too old or its fleet is not configured any more.
    pub(super) fn is_unwanted(&self, server: &ServerId) -> bool {
        match self.state().servers.get(server) {
            Some(known) => {
                let removed = |fleet| !self.state().fleets.contains_key(fleet);
                matches!(known.state, ServerState::Draining { .. })
                    || known.fleet.as_ref().is_some_and(removed)
                    || self.is_too_old(known)
            }
            // A server that is gone may have an allocation that is still being stopped.
            None => self.state().index.by_server.contains_key(server) || self.is_kept_away(server),
        }
    }

    /// Whether a match could outlast the server.
    fn is_too_old(&self, server: &Server) -> bool {
        let age = self.broker.last_pickup_age(server.fleet.as_ref());
        age.is_some_and(|age| server.born_at + age <= self.now)
    }

    /// Whether a call with the id of a server that is gone counts as a call of that server. After a server that
    /// registered itself was told to exit, or its suspect time is over, such a call counts as that of a new server.
    fn is_kept_away(&self, server: &ServerId) -> bool {
        let Some(gone) = self.state().kept.gone.get(server) else { return false };
        if gone.ordered {
            return true;
        }
        if gone.cause.is_suspicious() {
            return self.now < gone.at + self.state().settings.suspect_time;
        }
        self.broker.beside.told_to_exit.0.get(server).is_none()
    }

    /// Whether the server has no live match that has begun.
    pub(super) fn holds_nothing(&self, server: &ServerId) -> bool {
        self.state().servers.get(server).is_none_or(|known| known.matches.is_empty())
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

    /// The first call registers a server; FULL and NOT_FULL are recorded. Asking for a match without FULL counts as
    /// NOT_FULL.
    fn contact(&mut self, server: &ServerId, hints: Hints) {
        match self.state().servers.get(server).map(|known| known.state) {
            None => {
                self.broker.beside.told_to_exit.0.remove(server);
                self.emit(Event::ServerRegistered { server: server.clone() });
            }
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

    fn wait(&mut self, call: CallId, server: &ServerId, filter: Filter, asking: Asking, waiting: Waiting) {
        let waiter = self.waiter(call, server, filter, asking);
        self.broker.beside.waiters.insert(waiter, waiting);
    }

    pub(super) fn waiter(&self, call: CallId, server: &ServerId, filter: Filter, asking: Asking) -> Waiter {
        let fleet = self.state().servers.get(server).and_then(|known| known.fleet.clone());
        let longest = self.max_wait(asking);
        let stays = !longest.is_zero();
        let deadline = self.now + if stays { longest } else { self.state().settings.wait.max(MAX_SEARCH) };
        // A server that takes one match at a time, and may have lost one, is answered when it can get that match again.
        let untold = &self.broker.beside.untold;
        let again = untold.next_after(server, self.now).filter(|_| !untold.is_several(server));
        let deadline = again.map_or(deadline, |again| deadline.min(again));
        let (server, hints) = (server.clone(), asking.hints);
        let until = self.collects_until(&server, asking);
        let collecting = Collecting { most: asking.most, until, matches: Vec::new() };
        Waiter { call, server, fleet, filter, deadline, hints, stays, collecting }
    }

    /// Whether the server is idle and its fleet has more idle servers than its warm pool needs.
    pub(super) fn is_surplus(&self, server: &ServerId) -> bool {
        let Some(fleet) = self.state().servers.get(server).and_then(|known| known.fleet.as_ref()) else {
            return false;
        };
        let Some(known) = self.state().servers.get(server) else { return false };
        let Some(fleet) = self.state().fleets.get(fleet) else { return false };
        let idle = self.state().index.idle.get(&known.fleet);
        // A replacement is not surplus just because the aging server it replaces still exists.
        let others = if self.is_aging(known, fleet) { 0 } else { self.aging(fleet) };
        idle.is_some_and(|idle| {
            idle.contains(known) && idle.len().saturating_sub(others) > fleet.warm as usize
        })
    }

    /// Players can connect. Idempotent with the same details.
    pub(super) fn match_ready(
        &mut self,
        server: &ServerId,
        match_id: &MatchId,
        connection: Connection,
        hints: Hints,
    ) -> Result<Reply, Refusal> {
        check_connection(&connection)?;
        self.note_refused(server, match_id);
        let game = self.held(server, match_id)?;
        address::check(&connection, self.broker.is_joined_at_gateway(game))?;
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

    /// A match is over. The call is idempotent. A match that the server is not ready for and returns, because it exits
    /// or takes no match for now, goes to another server.
    pub(super) fn end_match(
        &mut self,
        server: &ServerId,
        match_id: &MatchId,
        hints: Hints,
    ) -> Result<Reply, Refusal> {
        let over = self.state().kept.finished.get(match_id);
        if over.is_none_or(|game| game.server.as_ref() != Some(server)) {
            self.note_refused(server, match_id);
            match self.held(server, match_id)?.state {
                MatchState::Ready { .. } => self.ended(match_id, EndCause::Server),
                // Returned below, with the other matches of the server.
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

    /// The hints in an answer to the server: to exit, if it is not wanted and has no match.
    pub(super) fn wish(&mut self, server: &ServerId) -> Hints {
        if self.is_to_exit(server) { self.tell_to_exit(server) } else { Hints::NONE }
    }

    /// The hints that tell the server to exit.
    fn tell_to_exit(&mut self, server: &ServerId) -> Hints {
        self.broker.beside.told_to_exit.0.insert(server.clone(), ());
        Hints::SHUTDOWN
    }

    fn is_to_exit(&self, server: &ServerId) -> bool {
        let is_free = self.holds_nothing(server) || self.broken(BrokenRule::ShutDownHolding);
        is_free && self.is_unwanted(server)
    }

    /// Records that the refusal of a report about the match may tell its server to exit.
    fn note_refused(&mut self, server: &ServerId, match_id: &MatchId) {
        if self.held(server, match_id).is_err_and(|refusal| refusal.hints().has(Hints::SHUTDOWN)) {
            self.broker.beside.told_to_exit.0.insert(server.clone(), ());
        }
    }

    pub(super) fn held(&self, server: &ServerId, match_id: &MatchId) -> Result<&Match, Refusal> {
        let game = self.find(match_id)?;
        if game.server.as_ref() == Some(server) && !game.state.is_over() {
            return Ok(game);
        }
        Err(Refusal::MatchNotHeld {
            match_id: match_id.clone(),
            state: (game.server.as_ref() == Some(server)).then(|| game.state.name()),
            shutdown: self.is_to_exit(server),
        })
    }

    /// An administrator stops the server: its matches fail, its platform stops it.
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

    /// Ends the server's matches, then forgets it. If there are more than the step takes, it drains with that cause,
    /// and the rest is due.
    pub(super) fn clear_and_dismiss(&mut self, server: &ServerId, cause: GoneCause) {
        let Some(known) = self.state().servers.get(server) else { return };
        let cause = match known.state {
            ServerState::Draining { cause: before } if before.fails_matches().is_some() => before,
            _ => cause,
        };
        // They are answered when it is known whether the server has any matches left, and get none of those that come
        // back.
        let waiting = self.take_waiting(server);
        loop {
            let Some(known) = self.state().servers.get(server) else { return };
            let draining = known.state == ServerState::Draining { cause };
            let Some(id) = known.matches.get_min().cloned() else { break };
            if self.is_full() {
                if !draining {
                    self.emit(Event::ServerDraining { server: server.clone(), cause });
                }
                return self.send_away(server, waiting, Hints::NONE);
            }
            self.clear(&id, server, cause);
        }
        self.send_away(server, waiting, Hints::SHUTDOWN);
        self.dismiss(server, cause);
    }

    /// Ends one match of a server that ends: it is returned if the server has exited or is about to, otherwise it
    /// fails.
    fn clear(&mut self, id: &MatchId, server: &ServerId, cause: GoneCause) {
        let leaves = matches!(cause, GoneCause::Exited | GoneCause::AllocationFailed | GoneCause::ShutDown);
        match cause.fails_matches() {
            Some(reason) if leaves => self.hand_back(id, server, reason),
            Some(reason) => self.failed(id, reason),
            None => {}
        }
    }

    /// Handles a match that its server does not play: it goes back to the queue if its players do not know about it
    /// yet, unless too many servers have had it; otherwise it fails.
    fn hand_back(&mut self, id: &MatchId, server: &ServerId, reason: FailReason) {
        let unheard = self.state().matches.get(id).is_some_and(|game| {
            matches!(game.state, MatchState::PickedUp { .. }) && game.pickups < MAX_PICKUPS
        });
        if unheard {
            self.put_back(id, server, Some(reason));
        } else {
            self.failed(id, reason);
        }
    }

    /// Ends one match of a draining server whose matches fail, or the server itself after its last one; returns whether
    /// there was one.
    pub(super) fn clear_server(&mut self) -> bool {
        let Some(server) = self.state().index.clearing.first().cloned() else { return false };
        let Some(known) = self.state().servers.get(&server) else { return false };
        let ServerState::Draining { cause } = known.state else { return false };
        if self.broken(BrokenRule::KeepDrained) && known.matches.is_empty() {
            return false;
        }
        match known.matches.get_min().cloned() {
            Some(id) => self.clear(&id, &server, cause),
            None => self.dismiss(&server, cause),
        }
        true
    }

    /// Dismisses a draining server after its last match.
    fn dismiss_drained(&mut self, server: &ServerId) {
        if let Some(known) = self.state().servers.get(server)
            && let ServerState::Draining { cause } = known.state
            && known.matches.is_empty()
        {
            self.dismiss(server, cause);
        }
    }

    /// The server gets no further match: it is dismissed now, or after the matches that still run on it.
    pub(super) fn drain(&mut self, server: &ServerId, cause: GoneCause) {
        let Some(known) = self.state().servers.get(server) else { return };
        if known.matches.is_empty() {
            return self.dismiss(server, cause);
        }
        if !matches!(known.state, ServerState::Draining { .. }) {
            self.emit(Event::ServerDraining { server: server.clone(), cause });
            self.turn_away(server, Hints::NONE);
        }
    }

    /// Forgets the server, which has no match any more. A server that was asked to exit has time to do so, one that has
    /// exited needs nothing; any other is stopped by its platform at once.
    pub(super) fn dismiss(&mut self, server: &ServerId, cause: GoneCause) {
        if !self.state().servers.contains_key(server) {
            return;
        }
        self.turn_away(server, Hints::SHUTDOWN);
        self.broker.beside.heard.remove(server);
        self.broker.beside.untold.forget(server);
        self.broker.beside.expected.remove(server);
        self.emit(Event::ServerGone { server: server.clone(), cause });
        let (asked, absent) = (
            matches!(cause, GoneCause::ShutDown | GoneCause::Surplus | GoneCause::Aged),
            matches!(cause, GoneCause::Exited | GoneCause::AllocationFailed),
        );
        if let Some(order) = self.state().index.by_server.get(server).cloned()
            && !asked
            && !absent
        {
            let faulty = match cause {
                GoneCause::ReadyDeadline => true,
                GoneCause::Unreachable => !self.spare(&order),
                _ => false,
            };
            let error = faulty.then(|| Arc::from(cause.text()));
            self.order_stop(&order, error);
        }
    }

    /// Whether an unreachable server does not count as a failure of its fleet, so that another is ordered at once,
    /// because players wait. Only one per [`SPARED_TIME`], so that a fleet without reachable servers is slowed down.
    fn spare(&mut self, order: &AllocationId) -> bool {
        let Some(fleet) = self.state().allocations.get(order).map(|order| order.fleet.clone()) else {
            return false;
        };
        let now = self.now;
        let spared = &mut self.broker.beside.spared;
        spared.retain(|_, until| *until > now);
        let is_first = !spared.contains_key(&fleet);
        spared.insert(fleet, now + SPARED_TIME);
        is_first
    }

    /// Answers the waiting calls of the server without a match.
    fn turn_away(&mut self, server: &ServerId, hints: Hints) {
        let waiting = self.take_waiting(server);
        self.send_away(server, waiting, hints);
    }

    /// Removes and returns the waiting calls of the server, which do not get what they have collected.
    fn take_waiting(&mut self, server: &ServerId) -> Vec<CallId> {
        let waiters = &mut self.broker.beside.waiters;
        let taken: Vec<Waiter> = core::iter::from_fn(|| waiters.take_server(server)).collect();
        taken.iter().for_each(|waiter| self.put_collected_back(server, &waiter.collecting.matches));
        taken.iter().map(|waiter| waiter.call).collect()
    }

    fn send_away(&mut self, server: &ServerId, calls: Vec<CallId>, hints: Hints) {
        if hints.has(Hints::SHUTDOWN) && !calls.is_empty() {
            self.broker.beside.told_to_exit.0.insert(server.clone(), ());
        }
        for call in calls {
            self.answer(call, Ok(Reply::no_match(hints)));
        }
    }

    /// A match that never reached its server goes back to its old place.
    pub(super) fn take_back(&mut self, offer: &Offer) {
        let untouched = self.is_in_hands(&offer.server, &offer.match_id, offer.pickup);
        if untouched && offer.again {
            // The server may have it nevertheless, so that no other server may get it.
            let (server, id) = (&offer.server, &offer.match_id);
            return self.broker.beside.untold.insert(server, id, offer.pickup, self.now);
        }
        // It may have heard about it since, in another answer.
        if untouched && self.broker.beside.untold.was_given_again(&offer.server, &offer.match_id) {
            return;
        }
        if untouched || self.broken(BrokenRule::ReturnAlways) {
            self.put_back(&offer.match_id, &offer.server, None);
        }
    }

    /// A match that its server never heard about, or that was not ready when the server exited, is back at its place.
    /// Another waiting server may take it; no server is ordered for it if its time in the queue is over.
    pub(super) fn put_back(&mut self, id: &MatchId, server: &ServerId, reason: Option<FailReason>) {
        self.emit(Event::MatchReturned { id: id.clone(), server: server.clone(), reason });
        self.offer(id, Then::Nothing);
    }

    /// Orders the platform to stop the server's allocation, unless that was ordered before.
    pub(super) fn order_stop(&mut self, order: &AllocationId, error: Option<Arc<str>>) {
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
    let problem = "must not have control characters or characters that change the direction of text";
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
        return Err(Refusal::field("connection_details", "must not be empty: players need them to connect"));
    }
    Ok(())
}
