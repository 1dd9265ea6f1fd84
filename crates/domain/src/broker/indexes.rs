//! The indexes over the broker's records, for look-ups without reading every record.
//!
//! Every index is a function of the records alone: a record leaves its indexes before it changes and enters them again
//! after, so no rule has to know which indexes it affects. Seats and players are the exception, because a match may
//! have 10,000: each enters and leaves separately.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use core::ops::Bound;

use super::idle::Idle;
use super::model::{Allocation, AllocationState, Match, MatchState, Seat, SeatState, Server, ServerState};
use super::queue::{Entry, Queue};
use super::waiting::remove_from;
use crate::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, PlayerId, SeatId, ServerId};
use crate::time::Timestamp;

/// Derived from the records.
#[derive(Default)]
pub(crate) struct Indexes {
    pub(crate) queue: Queue,
    /// Queued matches, by id.
    pub(crate) queued: BTreeSet<MatchId>,
    /// Matches that servers prepare, by id.
    pub(crate) preparing: BTreeSet<MatchId>,
    /// Matches that players can connect to, by id.
    pub(crate) running: BTreeSet<MatchId>,
    pub(crate) picked_up: BTreeSet<(Timestamp, MatchId)>,
    pub(crate) ready: BTreeSet<(Timestamp, MatchId)>,
    /// Matches that are live, over and still known, or remembered as an order.
    pub(crate) by_key: BTreeMap<IdempotencyKey, MatchId>,
    /// Matches of a fleet with a free place: ready ones first, then by age.
    pub(crate) joinable: BTreeMap<FleetId, BTreeSet<(u8, u64, MatchId)>>,
    /// Seats of live matches, and those that matches had when they ended.
    pub(crate) seats: BTreeMap<SeatId, MatchId>,
    pub(crate) seat_expiry: BTreeSet<(Timestamp, SeatId)>,
    /// Live matches by player: those that name the player, and those in which the player has a seat. `None` sorts
    /// before every match, as the start of a range.
    pub(crate) by_player: BTreeSet<(PlayerId, Option<MatchId>)>,
    pub(crate) births: BTreeSet<(Timestamp, ServerId)>,
    /// Those of them that are not draining.
    pub(crate) taking: BTreeMap<Option<FleetId>, BTreeSet<(Timestamp, ServerId)>>,
    /// Available servers without a match; the fleet is `None` for those that registered themselves.
    pub(crate) idle: BTreeMap<Option<FleetId>, Idle>,
    /// Servers by fleet; those that registered themselves have none.
    pub(crate) of_fleet: BTreeMap<FleetId, BTreeSet<ServerId>>,
    /// Draining servers to be processed: their last match is over, or their matches fail.
    pub(crate) clearing: BTreeSet<ServerId>,
    pub(crate) by_server: BTreeMap<ServerId, AllocationId>,
    pub(crate) by_match: BTreeMap<MatchId, AllocationId>,
    /// Allocations whose server has not called yet, by time of order.
    pub(crate) pending: BTreeMap<FleetId, BTreeSet<(Timestamp, AllocationId)>>,
    /// Those of them that are not assigned to a match.
    pub(crate) unassigned: BTreeMap<FleetId, BTreeSet<AllocationId>>,
    pub(crate) leaving: BTreeSet<(Timestamp, AllocationId)>,
    /// All allocations of a fleet.
    pub(crate) live: BTreeMap<FleetId, BTreeSet<AllocationId>>,
    /// Unconfigured fleets that still have servers, or queued matches that only they could take.
    pub(crate) removed: BTreeSet<FleetId>,
}

impl Indexes {
    /// `queue`: whether a queued match also enters the queue, or is already in it.
    pub(super) fn enter_match(&mut self, game: &Match, queue: bool) {
        match &game.state {
            MatchState::Queued if queue => self.enter_queue(game),
            MatchState::PickedUp { at } => {
                self.picked_up.insert((*at, game.id.clone()));
                self.preparing.insert(game.id.clone());
            }
            MatchState::Ready { at, .. } => {
                self.ready.insert((*at, game.id.clone()));
                self.running.insert(game.id.clone());
            }
            _ => {}
        }
        self.enter_joinable(joinable(game));
    }

    /// `queue`: whether a queued match also leaves the queue, or stays in it.
    pub(super) fn leave_match(&mut self, game: &Match, queue: bool) {
        match &game.state {
            MatchState::Queued if queue => self.leave_queue(game),
            MatchState::PickedUp { at } => {
                self.picked_up.remove(&(*at, game.id.clone()));
                self.preparing.remove(&game.id);
            }
            MatchState::Ready { at, .. } => {
                self.ready.remove(&(*at, game.id.clone()));
                self.running.remove(&game.id);
            }
            _ => {}
        }
        self.leave_joinable(joinable(game));
    }

    pub(super) fn enter_joinable(&mut self, place: Option<Joinable>) {
        if let Some((fleet, place)) = place {
            self.joinable.entry(fleet).or_default().insert(place);
        }
    }

    pub(super) fn leave_joinable(&mut self, place: Option<Joinable>) {
        if let Some((fleet, place)) = place {
            remove_from(&mut self.joinable, &fleet, &place);
        }
    }

    pub(super) fn enter_seat(&mut self, seat: &Seat) {
        self.seats.insert(seat.id.clone(), seat.match_id.clone());
        self.enter_expiry(seat);
    }

    pub(super) fn leave_seat(&mut self, seat: &Seat) {
        self.seats.remove(&seat.id);
        self.leave_expiry(seat);
    }

    pub(super) fn enter_players(&mut self, game: &Match) {
        self.by_player.extend(game.players().into_iter().map(|player| (player, Some(game.id.clone()))));
    }

    pub(super) fn leave_players(&mut self, game: &Match) {
        for player in game.players() {
            self.by_player.remove(&(player, Some(game.id.clone())));
        }
    }

    /// Live matches of a player by id, from the one after `after`.
    pub(super) fn matches_of<'a>(
        &'a self,
        player: &'a PlayerId,
        after: Option<&MatchId>,
    ) -> impl Iterator<Item = &'a MatchId> {
        let from = (player.clone(), after.cloned());
        let of_player = self.by_player.range((Bound::Excluded(from), Bound::Unbounded));
        of_player.take_while(move |(of, _)| of == player).filter_map(|(_, id)| id.as_ref())
    }

    pub(super) fn enter_expiry(&mut self, seat: &Seat) {
        if let SeatState::Reserved { expires_at: Some(at) } = seat.state {
            self.seat_expiry.insert((at, seat.id.clone()));
        }
    }

    pub(super) fn leave_expiry(&mut self, seat: &Seat) {
        if let SeatState::Reserved { expires_at: Some(at) } = seat.state {
            self.seat_expiry.remove(&(at, seat.id.clone()));
        }
    }

    /// Forgets a seat that its match had when it ended.
    pub(super) fn forget_seat(&mut self, seat: &SeatId, of: &MatchId) {
        if self.seats.get(seat) == Some(of) {
            self.seats.remove(seat);
        }
    }

    pub(super) fn enter_key(&mut self, id: &MatchId, key: Option<&IdempotencyKey>) {
        if let Some(key) = key {
            self.by_key.insert(key.clone(), id.clone());
        }
    }

    /// Forgets the match with that key.
    pub(super) fn forget_key(&mut self, id: &MatchId, key: Option<&IdempotencyKey>) {
        if let Some(key) = key.filter(|key| self.by_key.get(*key) == Some(id)) {
            self.by_key.remove(key);
        }
    }

    fn enter_queue(&mut self, game: &Match) {
        let entry = Entry { id: game.id.clone(), queued_at: game.queued_at, spec: Arc::clone(&game.spec) };
        self.queue.insert(game.queued_seq, entry, self.by_match.contains_key(&game.id));
        self.queued.insert(game.id.clone());
    }

    pub(super) fn leave_queue(&mut self, game: &Match) {
        self.queue.remove(game.queued_seq);
        self.queued.remove(&game.id);
        if let Some(fleet) = &game.spec.fleet {
            self.note_left(fleet);
        }
    }

    pub(super) fn enter_fleet(&mut self, server: &Server) {
        if let Some(fleet) = &server.fleet {
            self.of_fleet.entry(fleet.clone()).or_default().insert(server.id.clone());
        }
    }

    pub(super) fn leave_fleet(&mut self, server: &Server) {
        if let Some(fleet) = &server.fleet {
            remove_from(&mut self.of_fleet, fleet, &server.id);
            self.note_left(fleet);
        }
    }

    /// A server of the fleet, or a queued match that only such servers could take, is gone.
    fn note_left(&mut self, fleet: &FleetId) {
        if !self.removed.is_empty()
            && !self.of_fleet.contains_key(fleet)
            && self.queue.first_of(fleet).is_none()
        {
            self.removed.remove(fleet);
        }
    }

    pub(super) fn enter_server(&mut self, server: &Server) {
        if is_clearing(server) {
            self.clearing.insert(server.id.clone());
        }
        self.births.insert((server.born_at, server.id.clone()));
        if !matches!(server.state, ServerState::Draining { .. }) {
            let taking = self.taking.entry(server.fleet.clone()).or_default();
            taking.insert((server.born_at, server.id.clone()));
        }
        if is_idle(server) {
            self.idle.entry(server.fleet.clone()).or_default().insert(server);
        }
    }

    pub(super) fn leave_server(&mut self, server: &Server) {
        if is_clearing(server) {
            self.clearing.remove(&server.id);
        }
        self.births.remove(&(server.born_at, server.id.clone()));
        remove_from(&mut self.taking, &server.fleet, &(server.born_at, server.id.clone()));
        if is_idle(server)
            && let Some(idle) = self.idle.get_mut(&server.fleet)
        {
            idle.remove(server);
            if idle.len() == 0 {
                self.idle.remove(&server.fleet);
            }
        }
    }

    pub(super) fn enter_allocation(&mut self, allocation: &Allocation) {
        let Allocation { id, server, fleet, for_match, ordered_at, state } = allocation;
        self.by_server.insert(server.clone(), id.clone());
        self.live.entry(fleet.clone()).or_default().insert(id.clone());
        if let AllocationState::Leaving { since } = state {
            self.leaving.insert((*since, id.clone()));
        }
        if !state.is_pending() {
            return;
        }
        self.pending.entry(fleet.clone()).or_default().insert((*ordered_at, id.clone()));
        match for_match {
            Some(for_match) => drop(self.by_match.insert(for_match.clone(), id.clone())),
            None => drop(self.unassigned.entry(fleet.clone()).or_default().insert(id.clone())),
        }
    }

    pub(super) fn leave_allocation(&mut self, allocation: &Allocation) {
        let Allocation { id, server, fleet, for_match, ordered_at, state } = allocation;
        self.by_server.remove(server);
        remove_from(&mut self.live, fleet, id);
        if let AllocationState::Leaving { since } = state {
            self.leaving.remove(&(*since, id.clone()));
        }
        if !state.is_pending() {
            return;
        }
        remove_from(&mut self.pending, fleet, &(*ordered_at, id.clone()));
        match for_match {
            Some(for_match) => drop(self.by_match.remove(for_match)),
            None => remove_from(&mut self.unassigned, fleet, id),
        }
    }
}

pub(crate) fn is_idle(server: &Server) -> bool {
    server.state == ServerState::Available && server.matches.is_empty()
}

fn is_clearing(server: &Server) -> bool {
    matches!(server.state, ServerState::Draining { cause }
        if server.matches.is_empty() || cause.fails_matches().is_some())
}

/// A position among the matches of a fleet that players may join.
pub(super) type Joinable = (FleetId, (u8, u64, MatchId));

pub(super) fn joinable(game: &Match) -> Option<Joinable> {
    let rank = match &game.state {
        MatchState::Ready { .. } => 0,
        MatchState::PickedUp { .. } => 1,
        MatchState::Queued => 2,
        MatchState::Ended { .. } | MatchState::Failed { .. } | MatchState::Cancelled { .. } => return None,
    };
    let fleet = game.spec.fleet.clone().filter(|_| game.free_places() > 0)?;
    Some((fleet, (rank, game.queued_seq, game.id.clone())))
}
