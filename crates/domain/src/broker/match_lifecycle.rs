//! Matches: queued → picked up → ready → ended; or cancelled, or failed.

use alloc::format;
use alloc::sync::Arc;

use super::budget::MAX_MATCH_OVERHEAD_BYTES;
use super::command::{Refusal, Reply};
use super::event::Event;
use super::model::{CancelCause, EndCause, FailReason, Match, MatchState};
use super::waiting::Watchers;
use super::{BrokenRule, MAX_QUEUED, MAX_WATCHERS, MAX_WATCHERS_OF_MATCH, Turn};
use crate::ids::{MatchId, SeatId};
use crate::machine::CallId;
use crate::match_spec::{MAX_CAPACITY, MAX_MATCH_BYTES, MAX_PLAYERS, MatchSpec};
use crate::size::Size;

/// Maximum number of pickups of a match whose servers exit or return it before they are ready for it.
pub(super) const MAX_PICKUPS: u32 = 3;

impl Turn<'_> {
    /// A new match. Repeating the order, by id or by key, returns the same match.
    pub(super) fn submit(&mut self, id: Option<MatchId>, spec: MatchSpec) -> Result<Reply, Refusal> {
        if let Some(known) = self.known(id.as_ref(), &spec)? {
            return Ok(Reply::Submitted { match_id: known });
        }
        let match_id = self.queue_match(id, spec, 0)?;
        self.find_server(&match_id);
        Ok(Reply::Submitted { match_id })
    }

    /// The match that this order made before, even if nothing else is known about it any more.
    pub(super) fn known(&self, id: Option<&MatchId>, spec: &MatchSpec) -> Result<Option<MatchId>, Refusal> {
        let by_key = spec.idempotency_key.as_ref().and_then(|key| self.state().index.by_key.get(key));
        if let Some(known) = by_key {
            let same = self.is_order_of(known, spec) == Some(true) && id.is_none_or(|id| id == known);
            return if same { Ok(Some(known.clone())) } else { Err(Refusal::KeyReused(known.clone())) };
        }
        match id.and_then(|id| Some((id, self.is_order_of(id, spec)?))) {
            Some((known, true)) => Ok(Some(known.clone())),
            Some((known, false)) => Err(Refusal::MatchExists(known.clone())),
            None => Ok(None),
        }
    }

    /// Whether the match was made by an order with this content; `None` if no such match is known or remembered.
    fn is_order_of(&self, id: &MatchId, spec: &MatchSpec) -> Option<bool> {
        if let Some(order) = self.state().kept.orders.get(id).filter(|_| !self.is_live(id)) {
            return Some(order.content == spec.content());
        }
        let game = self.broker.find_match(id)?;
        Some(*game.spec == *spec || game.spec.content() == spec.content())
    }

    fn is_live(&self, id: &MatchId) -> bool {
        self.state().matches.contains_key(id)
    }

    /// Checks the order and queues the match. The budget must have room for it and `beside` more bytes.
    pub(super) fn queue_match(
        &mut self,
        id: Option<MatchId>,
        spec: MatchSpec,
        beside: usize,
    ) -> Result<MatchId, Refusal> {
        self.check_spec(&spec)?;
        self.check_bytes(spec.live_bytes() + MAX_MATCH_OVERHEAD_BYTES + beside)?;
        if self.state().index.queue.len() >= MAX_QUEUED {
            return Err(Refusal::TooMany { what: "matches in the queue", limit: MAX_QUEUED });
        }
        let id = id.unwrap_or_else(|| MatchId::draw(&mut self.draw));
        if !self.broken(BrokenRule::LoseMatch) {
            self.emit(Event::MatchQueued { id: id.clone(), spec: Arc::new(spec) });
        }
        Ok(id)
    }

    pub(super) fn check_spec(&self, spec: &MatchSpec) -> Result<(), Refusal> {
        let bytes = spec.byte_size();
        if bytes > MAX_MATCH_BYTES {
            return Err(Refusal::TooLarge { what: "match", bytes, limit: MAX_MATCH_BYTES });
        }
        if spec.players.len() > MAX_PLAYERS {
            return Err(Refusal::field("players", format!("more than {MAX_PLAYERS}")));
        }
        let mut players: alloc::vec::Vec<_> = spec.players.iter().collect();
        players.sort_unstable();
        if let Some(pair) = players.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Refusal::field("players", format!("{} is named twice", pair[0])));
        }
        if let Some(capacity) = spec.capacity {
            self.check_capacity(capacity)?;
            if (capacity as usize) < spec.players.len() {
                return Err(Refusal::field("capacity", "less than the players named"));
            }
        }
        match &spec.fleet {
            Some(fleet) if !self.state().fleets.contains_key(fleet) => {
                Err(Refusal::FleetNotFound(fleet.clone()))
            }
            _ => Ok(()),
        }
    }

    #[allow(clippy::unused_self, reason = "a rule like its neighbours")]
    pub(super) fn check_capacity(&self, capacity: u32) -> Result<(), Refusal> {
        if (1..=MAX_CAPACITY).contains(&capacity) {
            Ok(())
        } else {
            Err(Refusal::field("capacity", format!("must be 1 to {MAX_CAPACITY}")))
        }
    }

    /// Cancels a match. Idempotent.
    pub(super) fn cancel(&mut self, id: &MatchId) -> Result<Reply, Refusal> {
        match self.find(id)?.state {
            MatchState::Cancelled { .. } => {}
            ref over if over.is_over() => {
                return Err(Refusal::MatchOver { match_id: id.clone(), state: over.name() });
            }
            _ => self.cancelled(id, CancelCause::Requested),
        }
        self.find(id).map(|game| Reply::Match(game.clone()))
    }

    /// An administrator ends a match, whatever its state.
    pub(super) fn end_active(&mut self, id: &MatchId) -> Result<Reply, Refusal> {
        match self.find(id)?.state {
            ref over if over.is_over() => {
                return Err(Refusal::MatchOver { match_id: id.clone(), state: over.name() });
            }
            MatchState::Ready { .. } => self.ended(id, EndCause::Admin),
            _ => self.cancelled(id, CancelCause::Requested),
        }
        self.find(id).map(|game| Reply::Match(game.clone()))
    }

    /// Answers when there is news later than `seen`: now, or in a later step.
    pub(super) fn watch(&mut self, call: CallId, id: MatchId, seen: u64) -> Result<Option<Reply>, Refusal> {
        let game = self.find(&id)?;
        if game.changed_seq > seen || game.state.is_over() {
            return Ok(Some(Reply::Match(game.clone())));
        }
        check_watchers(&self.broker.beside.watchers, &id)?;
        self.broker.beside.watchers.insert(id, call);
        Ok(None)
    }

    /// Answers when the match of a seat is ready or over, or the seat is gone: now, or in a later step.
    pub(super) fn await_ready(
        &mut self,
        call: CallId,
        id: MatchId,
        seat: &SeatId,
    ) -> Result<Option<Reply>, Refusal> {
        let game = self.find(&id)?;
        let is_ready = matches!(game.state, MatchState::Ready { .. });
        if is_ready || game.state.is_over() || !game.seats.contains_key(seat) {
            return Ok(Some(Reply::Match(game.clone())));
        }
        check_watchers(&self.broker.beside.awaiting, &id)?;
        self.broker.beside.awaiting.insert(id, call);
        Ok(None)
    }

    pub(super) fn find(&self, id: &MatchId) -> Result<&Match, Refusal> {
        self.broker.find_match(id).ok_or_else(|| Refusal::MatchNotFound(id.clone()))
    }

    pub(super) fn ended(&mut self, id: &MatchId, cause: EndCause) {
        if let Some(players) = self.state().matches.get(id).map(|game| game.players()) {
            self.emit(Event::MatchEnded { id: id.clone(), players, cause });
        }
    }

    pub(super) fn failed(&mut self, id: &MatchId, reason: FailReason) {
        if let Some(players) = self.state().matches.get(id).map(|game| game.players()) {
            self.emit(Event::MatchFailed { id: id.clone(), players, reason });
        }
    }

    pub(super) fn cancelled(&mut self, id: &MatchId, cause: CancelCause) {
        if let Some(players) = self.state().matches.get(id).map(|game| game.players()) {
            self.emit(Event::MatchCancelled { id: id.clone(), players, cause });
        }
    }
}

fn check_watchers(watchers: &Watchers, id: &MatchId) -> Result<(), Refusal> {
    if watchers.len() >= MAX_WATCHERS {
        return Err(Refusal::TooMany { what: "calls waiting for news of a match", limit: MAX_WATCHERS });
    }
    if watchers.of_match(id) >= MAX_WATCHERS_OF_MATCH {
        let what = "calls waiting for news of one match";
        return Err(Refusal::TooMany { what, limit: MAX_WATCHERS_OF_MATCH });
    }
    Ok(())
}
