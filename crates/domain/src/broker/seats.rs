//! Seats: drop-in play. A seat is one player's place in one match: reserved → claimed → released, or expired.
//!
//! [`Match`] explains how places are counted, with or without a server's own count.
//!
//! A player who asks again gets its existing seat, with a renewed deadline to claim it. So does a player whose seat is
//! claimed: the connection may have broken, which the broker cannot know. Such a seat stays claimed and may be claimed
//! again before the deadline, so that a player who asks while in the match loses nothing.

use alloc::format;
use alloc::sync::Arc;
use core::time::Duration;

use super::budget::MAX_SEAT_BYTES;
use super::command::{Refusal, Reply, SeatsElsewhere};
use super::event::Event;
use super::model::{CancelCause, FailReason, GoneCause, Match, MatchState, Seat, SeatEnd, SeatState};
use super::{BrokenRule, Turn};
use crate::ids::{FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::match_spec::{MAX_CAPACITY, MatchSpec};
use crate::properties::Properties;
use crate::requirements::Document;

/// How long no players are sent to a match whose players cannot connect; after that it is tried again.
const UNREACHABLE_TIME: Duration = Duration::from_secs(60);
/// Maximum time that a player may take to claim a seat.
pub(super) const MAX_SEAT_TTL: Duration = Duration::from_secs(3600);
/// Maximum number of matches with free places that are searched for one in which a player has no seat yet; beyond them
/// a new one is made.
const MAX_JOINABLE_LOOKED_AT: usize = 1_000;

impl Turn<'_> {
    /// A player joins a fleet's game: a seat in the oldest running match with free places, or in a new match.
    pub(super) fn join(
        &mut self,
        fleet: &FleetId,
        player: PlayerId,
        capacity: u32,
        ttl: Duration,
        properties: Properties,
    ) -> Result<Reply, Refusal> {
        check_ttl(ttl)?;
        if let Some(id) = self.open_match(fleet, &player) {
            return self.reserve_seat(&id, player, ttl, SeatsElsewhere::Ignored);
        }
        self.check_capacity(capacity)?;
        let spec = MatchSpec {
            properties,
            capacity: Some(capacity),
            fleet: Some(fleet.clone()),
            ..MatchSpec::default()
        };
        let id = self.queue_match(None, spec, MAX_SEAT_BYTES)?;
        let seat = self.reserve(&id, player, ttl);
        self.find_server(&id);
        self.seated(&id, &seat, false)
    }

    fn open_match(&self, fleet: &FleetId, player: &PlayerId) -> Option<MatchId> {
        let open = self.state().index.joinable.get(fleet)?.iter().take(MAX_JOINABLE_LOOKED_AT);
        let mut open = open.filter(|(_, _, id)| {
            let game = self.state().matches.get(id);
            game.is_some_and(|game| game.seats.of_player(player).is_none() && self.may_be_played(game, fleet))
                && !self.broker.is_unreachable(id, self.now)
        });
        open.next().map(|(_, _, id)| id.clone())
    }

    /// Whether a server of the fleet has the match, or may take it: a match that the fleet's terms exclude would wait
    /// forever.
    fn may_be_played(&self, game: &Match, fleet: &FleetId) -> bool {
        game.state != MatchState::Queued || {
            let document = Document::new(&game.id, &game.spec);
            self.broker.may_take(fleet, &game.spec, &document, Some(game.queued_seq)) == Some(true)
        }
    }

    /// The player's seat in a match of these fleets, or, with `rejoin`, a seat in such a match that the player belongs
    /// to; `None` if there is no such match.
    pub(super) fn own_seat(
        &mut self,
        fleet: &FleetId,
        beside: &[FleetId],
        player: &PlayerId,
        ttl: Duration,
        rejoin: bool,
    ) -> Result<Option<Reply>, Refusal> {
        check_ttl(ttl)?;
        let of_game =
            |_: &Match, of: Option<&FleetId>| of.is_some_and(|of| of == fleet || beside.contains(of));
        let own = self.broker.own_match(player, rejoin, self.now, of_game);
        let own = own.filter(|_| !self.broken(BrokenRule::SeatTwice));
        let Some(id) = own.map(|(game, _)| game.id.clone()) else { return Ok(None) };
        self.rejoin(&id, player.clone(), ttl, SeatsElsewhere::Ignored).map(Some)
    }

    /// Checks that the player is not in a match of another version of the fleet's game. Players are not led back to
    /// such a match: a client of this version could not connect to it.
    pub(super) fn check_other_versions(
        &self,
        fleet: &FleetId,
        player: &PlayerId,
        rejoin: bool,
    ) -> Result<(), Refusal> {
        let of_game = |_: &Match, of: Option<&FleetId>| self.broker.is_same_game(of, Some(fleet));
        let own = self.broker.own_match(player, rejoin, self.now, of_game);
        self.none_elsewhere(player, own.map(|(game, _)| game))
    }

    /// Checks that the player has no seat in another match of the game than `game`.
    fn check_elsewhere(
        &self,
        game: &Match,
        player: &PlayerId,
        elsewhere: SeatsElsewhere,
    ) -> Result<(), Refusal> {
        let claimed_too = match elsewhere {
            SeatsElsewhere::Ignored => return Ok(()),
            SeatsElsewhere::Reserved => false,
            SeatsElsewhere::All => true,
        };
        let fleet = self.broker.fleet_of(game);
        let another = |other: &Match, of: Option<&FleetId>| {
            other.id != game.id
                && other.seats.of_player(player).is_some()
                && self.broker.is_same_game(of, fleet)
        };
        let own = self.broker.own_match(player, claimed_too, self.now, another);
        self.none_elsewhere(player, own.map(|(game, _)| game))
    }

    fn none_elsewhere(&self, player: &PlayerId, own: Option<&Match>) -> Result<(), Refusal> {
        match own.filter(|_| !self.broken(BrokenRule::SeatElsewhere) && !self.broken(BrokenRule::SeatTwice)) {
            Some(game) => Err(Refusal::AlreadyInMatch { player: player.clone(), match_id: game.id.clone() }),
            None => Ok(()),
        }
    }

    /// A player comes back to a match: to its existing seat, or to a new one.
    pub(super) fn rejoin(
        &mut self,
        id: &MatchId,
        player: PlayerId,
        ttl: Duration,
        elsewhere: SeatsElsewhere,
    ) -> Result<Reply, Refusal> {
        check_ttl(ttl)?;
        let game = self.find(id)?;
        if game.state.is_over() {
            return Err(Refusal::MatchOver { match_id: id.clone(), state: game.state.name() });
        }
        let Some(seat) = game.seats.of_player(&player).cloned() else {
            if game.has_player(&player) {
                return self.reserve_seat(id, player, ttl, elsewhere);
            }
            return Err(Refusal::NotOfMatch { player, match_id: id.clone() });
        };
        let ready = matches!(game.state, MatchState::Ready { .. });
        if ready && seat.claimable_until() != Some(self.now + seat.ttl) {
            self.emit(Event::SeatRenewed { seat: seat.id.clone(), match_id: id.clone() });
        }
        self.broker.beside.told_again.0.insert(seat.id.clone(), ());
        self.seated(id, &seat.id, true)
    }

    /// Nobody can connect to the server's address. No players are sent to the match for a while and its server gets no
    /// other match. A match without connected players fails if its players join through the gateway; players of other
    /// matches may know more than the gateway.
    pub(super) fn report_unreachable(&mut self, id: &MatchId) -> Reply {
        let ready = |game: &&Arc<Match>| matches!(game.state, MatchState::Ready { .. });
        let Some(game) = self.state().matches.get(id).filter(ready) else { return Reply::Done };
        let by_gateway = game.spec.players.is_empty() || self.broker.is_joined_at_gateway(game);
        let (server, deserted) = (game.server.clone(), by_gateway && game.seats.claimed() == 0);
        let until = self.now + UNREACHABLE_TIME;
        self.broker.beside.unreachable.0.insert(id.clone(), until);
        if deserted {
            self.failed(id, FailReason::Unreachable);
        }
        if let Some(server) = server {
            self.drain(&server, GoneCause::Unreachable);
        }
        Reply::Done
    }

    /// A seat in a certain match.
    pub(super) fn reserve_seat(
        &mut self,
        id: &MatchId,
        player: PlayerId,
        ttl: Duration,
        elsewhere: SeatsElsewhere,
    ) -> Result<Reply, Refusal> {
        check_ttl(ttl)?;
        let game = self.find(id)?;
        if game.state.is_over() {
            return Err(Refusal::MatchOver { match_id: id.clone(), state: game.state.name() });
        }
        // A player with a kept place does not need a free one.
        let kept = game.keeps_place_for(&player);
        if game.capacity().is_none() && !kept {
            return Err(Refusal::NoCapacity(id.clone()));
        }
        if let Some(seat) = game.seats.of_player(&player).map(|seat| seat.id.clone()) {
            self.broker.beside.told_again.0.insert(seat, ());
            return Err(Refusal::AlreadySeated(player));
        }
        self.check_elsewhere(game, &player, elsewhere)?;
        if game.seats.len() >= MAX_CAPACITY as usize {
            return Err(Refusal::MatchFull(id.clone()));
        }
        if !kept && game.free_places() == 0 && !self.broken(BrokenRule::OversellSeats) {
            return Err(Refusal::MatchFull(id.clone()));
        }
        self.check_bytes(MAX_SEAT_BYTES)?;
        let seat = self.reserve(id, player, ttl);
        self.seated(id, &seat, false)
    }

    fn reserve(&mut self, id: &MatchId, player: PlayerId, ttl: Duration) -> SeatId {
        let seat = SeatId::draw(&mut self.draw);
        let client_id = self.draw.bits();
        self.emit(Event::SeatReserved { seat: seat.clone(), match_id: id.clone(), player, client_id, ttl });
        seat
    }

    fn seated(&self, id: &MatchId, seat: &SeatId, again: bool) -> Result<Reply, Refusal> {
        let game = self.find(id)?;
        let seat = game.seats.get(seat).ok_or_else(|| Refusal::SeatNotFound(seat.clone()))?;
        Ok(Reply::Seated { seat: seat.clone(), game: game.clone(), again })
    }

    /// The player has connected. A seat can be claimed once, and again after the player has asked for it again.
    pub(super) fn claim_seat(&mut self, id: &SeatId, server: Option<&ServerId>) -> Result<Reply, Refusal> {
        let (game, seat) = self.find_seat(id)?;
        match seat.state {
            _ if !matches!(game.state, MatchState::Ready { .. }) => {
                return Err(Refusal::NotReady(game.id.clone()));
            }
            _ if server.is_some() && game.server.as_ref() != server => {
                return Err(Refusal::OtherServer(id.clone()));
            }
            SeatState::Claimed { again_until, .. }
                if again_until.is_none_or(|until| until <= self.now)
                    && !self.broken(BrokenRule::ClaimTwice) =>
            {
                return Err(Refusal::AlreadyClaimed(id.clone()));
            }
            _ => {}
        }
        let match_id = game.id.clone();
        self.emit(Event::SeatClaimed { seat: id.clone(), match_id: match_id.clone() });
        self.seated(&match_id, id, true)
    }

    /// The player has left, or will not come. Idempotent.
    pub(super) fn release_seat(&mut self, id: &SeatId) -> Result<Reply, Refusal> {
        if self.state().seat_end(id).is_some() {
            return Ok(Reply::Done);
        }
        let (game, _) = self.find_seat(id)?;
        let match_id = game.id.clone();
        self.close(id, &match_id, SeatEnd::Released);
        Ok(Reply::Done)
    }

    /// The server reports how many further players it takes. Idempotent, without an event if nothing has changed.
    pub(super) fn report_free_places(
        &mut self,
        id: &MatchId,
        server: Option<&ServerId>,
        free: u32,
    ) -> Result<Reply, Refusal> {
        if free > MAX_CAPACITY {
            return Err(Refusal::field("free", format!("must be 0 to {MAX_CAPACITY}")));
        }
        if let Some(server) = server {
            self.held(server, id)?;
        }
        let game = self.find(id)?;
        if game.state.is_over() {
            return Err(Refusal::MatchOver { match_id: id.clone(), state: game.state.name() });
        }
        if !matches!(game.state, MatchState::Ready { .. }) {
            return Err(Refusal::NotReady(id.clone()));
        }
        let coming = if self.broken(BrokenRule::IgnoreReserved) { game.occupied() } else { 0 };
        if game.reported_free != Some(free) {
            self.emit(Event::MatchPlacesReported { id: id.clone(), free: free + coming });
        }
        self.find(id).map(|game| Reply::Match(game.clone()))
    }

    fn find_seat(&self, id: &SeatId) -> Result<(&Match, &Seat), Refusal> {
        if let Some(end) = self.state().seat_end(id) {
            return Err(Refusal::SeatOver { seat: id.clone(), end });
        }
        let found = self.state().index.seats.get(id).and_then(|match_id| {
            let game = self.state().matches.get(match_id)?;
            Some((&**game, game.seats.get(id)?))
        });
        found.ok_or_else(|| Refusal::SeatNotFound(id.clone()))
    }

    /// The place is free again. A match that nobody waits for any more is cancelled.
    pub(super) fn close(&mut self, seat: &SeatId, match_id: &MatchId, end: SeatEnd) {
        self.emit(Event::SeatClosed { seat: seat.clone(), match_id: match_id.clone(), end });
        let Some(game) = self.state().matches.get(match_id) else { return };
        let empty = game.spec.players.is_empty() && game.seats.is_empty();
        if empty && game.state == MatchState::Queued {
            self.cancelled(match_id, CancelCause::Abandoned);
        }
    }

    /// The answer with a reserved seat never reached the player. The seat is free again, unless it was claimed since,
    /// or another call of the player also got it and counts on it.
    pub(super) fn give_back(&mut self, seat: &Seat) {
        let reserved = |seat: &Seat| matches!(seat.state, SeatState::Reserved { .. });
        let same = |known: &Seat| {
            (known.client_id, &known.player, &known.match_id)
                == (seat.client_id, &seat.player, &seat.match_id)
        };
        let unclaimed = self.find_seat(&seat.id).is_ok_and(|(_, known)| reserved(known) && same(known));
        let told_again = self.broker.beside.told_again.0.get(&seat.id).is_some();
        if unclaimed && reserved(seat) && !told_again {
            self.close(&seat.id, &seat.match_id, SeatEnd::Released);
        }
    }
}

fn check_ttl(ttl: Duration) -> Result<(), Refusal> {
    if ttl < Duration::from_secs(1) || ttl > MAX_SEAT_TTL {
        let most = MAX_SEAT_TTL.as_secs();
        return Err(Refusal::field("ttl", format!("must be 1 to {most} seconds")));
    }
    Ok(())
}
