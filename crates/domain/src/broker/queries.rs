//! Queries for the API. Nothing here changes anything.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::ops::Bound;

use super::Broker;
use super::idle::Idle;
use super::model::{Allocation, Fleet, FleetHealth, Match, MatchState, SeatState, Server, Settings};
use crate::ids::{FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::page::{Page, page};
use crate::requirements::Document;
use crate::size::Size;
use crate::time::Timestamp;

/// Maximum number of live matches of one player that are searched for the one to lead the player back to.
const MAX_OWN_LOOKED_AT: usize = 100;

/// A fleet and its servers.
#[derive(Clone, PartialEq, Debug)]
pub struct FleetView {
    /// Its configuration.
    pub fleet: Fleet,
    /// Allocations that have not ended.
    pub live: usize,
    /// Those of them whose server has not called yet.
    pub pending: usize,
    /// Servers that take matches and have none.
    pub idle: usize,
    /// Its recent failures.
    pub health: FleetHealth,
}

impl Broker {
    /// The current settings.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.state.settings
    }

    /// A match, live or recently over.
    #[must_use]
    pub fn find_match(&self, id: &MatchId) -> Option<&Match> {
        self.state.find_match(id)
    }

    /// Matches in these states (see [`MatchState::name`]; an empty list means any), live and recently over, by id, from
    /// the one after `after`.
    #[must_use]
    pub fn matches(&self, states: &[&str], after: Option<&MatchId>, most: usize) -> Page<Match> {
        let wanted = |name: &str| states.is_empty() || states.contains(&name);
        let index = &self.state.index;
        // Each state has an index by id; only finished matches, which are few, are filtered.
        let live = |name, ids| self.live(ids, after).take_while(move |_| wanted(name));
        let in_hands = by_id(live("picked_up", &index.preparing), live("ready", &index.running));
        let all_live = by_id(live("queued", &index.queued), in_hands);
        let over = self.state.kept.finished.range(after).map(|game| &**game);
        let over = over.filter(|game| wanted(game.state.name()));
        page(by_id(all_live, over).cloned(), most, Size::byte_size)
    }

    /// Live matches that name the player or in which the player has a seat, in these states (see [`Broker::matches`]),
    /// by id, from the one after `after`.
    #[must_use]
    pub fn matches_of(
        &self,
        player: &PlayerId,
        states: &[&str],
        after: Option<&MatchId>,
        most: usize,
    ) -> Page<Match> {
        let live = self.state.index.matches_of(player, after).filter_map(|id| self.live_match(id));
        let wanted = live.filter(|game| states.is_empty() || states.contains(&game.state.name()));
        page(wanted.cloned(), most, Size::byte_size)
    }

    /// The live match that a player is led back to, and its fleet, of those that are `of_game`: one in which the player
    /// has a reserved seat. With `rejoin` also one that the player is in already, which comes first, or one that keeps
    /// a place for the player.
    pub fn own_match(
        &self,
        player: &PlayerId,
        rejoin: bool,
        now: Timestamp,
        of_game: impl Fn(&Match, Option<&FleetId>) -> bool,
    ) -> Option<(&Match, Option<&FleetId>)> {
        let place = |game: &Match| match game.seats.of_player(player).map(|seat| seat.state) {
            Some(SeatState::Claimed { .. }) => rejoin.then_some(2),
            Some(SeatState::Reserved { .. }) => Some(1),
            None => (rejoin && game.keeps_place_for(player)).then_some(0),
        };
        let own = self.state.index.matches_of(player, None).take(MAX_OWN_LOOKED_AT);
        let own = own.filter(|id| !self.is_unreachable(id, now)).filter_map(|id| self.live_match(id));
        let own = own.filter_map(|game| {
            let fleet = self.fleet_of(game);
            of_game(game, fleet).then_some(())?;
            Some((place(game)?, game.queued_seq, game, fleet))
        });
        let (_, _, game, fleet) = own.max_by_key(|(place, seq, _, _)| (*place, *seq))?;
        Some((game, fleet))
    }

    /// The fleet that a match is bound to, or whose server has it.
    #[must_use]
    pub fn fleet_of<'a>(&'a self, game: &'a Match) -> Option<&'a FleetId> {
        let of_server = || self.state.servers.get(game.server.as_ref()?)?.fleet.as_ref();
        game.spec.fleet.as_ref().or_else(of_server)
    }

    /// Whether both fleets run the same game, in any versions. A fleet without a game only equals itself.
    #[must_use]
    pub fn is_same_game(&self, one: Option<&FleetId>, other: Option<&FleetId>) -> bool {
        let (Some(one), Some(other)) = (one, other) else { return false };
        let name = |id: &FleetId| Some(&self.state.fleets.get(id)?.game.as_ref()?.name);
        one == other || name(one).is_some_and(|game| Some(game) == name(other))
    }

    /// Whether players join a match through the gateway, which needs an address for their connect tokens: it is for a
    /// fleet that names a game, or on a server of such a fleet, or it names the game and the version of such a fleet in
    /// its properties. Players can ask the gateway for the games of such fleets.
    pub(super) fn is_joined_at_gateway(&self, game: &Match) -> bool {
        if let Some(fleet) = self.fleet_of(game) {
            return self.state.fleets.get(fleet).is_some_and(|fleet| fleet.game.is_some());
        }
        let named = Document::new(&game.id, &game.spec).game();
        named.is_some_and(|named| self.state.fleets.values().any(|fleet| fleet.game.as_ref() == Some(&named)))
    }

    /// Whether no players are sent to a match for now, because they cannot connect.
    pub(super) fn is_unreachable(&self, id: &MatchId, now: Timestamp) -> bool {
        self.beside.unreachable.0.get(id).is_some_and(|until| *until > now)
    }

    /// Matches that wait for a server, oldest first.
    pub fn queued(&self) -> impl Iterator<Item = &Match> {
        self.state.index.queue.iter().filter_map(|(_, entry)| self.live_match(&entry.id))
    }

    /// Matches on servers, by id.
    pub fn active(&self) -> impl Iterator<Item = &Match> {
        let (preparing, running) = (&self.state.index.preparing, &self.state.index.running);
        by_id(self.live(preparing, None), self.live(running, None))
    }

    fn live_match(&self, id: &MatchId) -> Option<&Match> {
        self.state.matches.get(id).map(|game| &**game)
    }

    /// Live matches of an index, by id, from the one after `after`.
    fn live<'a>(
        &'a self,
        ids: &'a BTreeSet<MatchId>,
        after: Option<&MatchId>,
    ) -> impl Iterator<Item = &'a Match> {
        ids.range::<MatchId, _>((bound(after), Bound::Unbounded)).filter_map(|id| self.live_match(id))
    }

    /// Servers by id, from the one after `after`.
    #[must_use]
    pub fn servers(&self, after: Option<&ServerId>, most: usize) -> Page<Server> {
        let servers = self.state.servers.range::<_, ServerId>((bound(after), Bound::Unbounded));
        page(servers.map(|(_, server)| server.clone()), most, Size::byte_size)
    }

    /// A server that is not gone.
    #[must_use]
    pub fn find_server(&self, id: &ServerId) -> Option<&Server> {
        self.state.servers.get(id)
    }

    /// Whether a server is gone for good and would be told so. A server that registered itself may come back under its
    /// id. Servers that ended long ago are forgotten.
    #[must_use]
    pub fn is_gone(&self, id: &ServerId) -> bool {
        !self.state.servers.contains_key(id)
            && (self.state.kept.gone.get(id).is_some_and(|gone| gone.ordered)
                || self.state.index.by_server.contains_key(id))
    }

    /// The match of a seat that is reserved or claimed.
    #[must_use]
    pub fn match_of_seat(&self, seat: &SeatId) -> Option<&Match> {
        self.state.matches.get(self.state.index.seats.get(seat)?).map(|game| &**game)
    }

    /// Where the players of a live match connect, once it is ready.
    #[must_use]
    pub fn connection(&self, id: &MatchId) -> Option<Arc<str>> {
        match &self.state.matches.get(id)?.state {
            MatchState::Ready { connection, .. } => Some(Arc::clone(&connection.details)),
            _ => None,
        }
    }

    /// Bytes of everything that waits and runs, limited by [`Settings::waiting_bytes`].
    #[must_use]
    pub const fn waiting_bytes(&self) -> usize {
        self.state.waiting_bytes
    }

    /// Bytes of kept records of the past, limited by [`Settings::kept_bytes`].
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.state.kept.bytes()
    }

    /// The live allocation of a server.
    #[must_use]
    pub fn allocation_of(&self, server: &ServerId) -> Option<&Allocation> {
        self.state.allocations.get(self.state.index.by_server.get(server)?)
    }

    /// The allocation ordered for a queued match.
    #[must_use]
    pub fn allocation_for(&self, id: &MatchId) -> Option<&Allocation> {
        self.state.allocations.get(self.state.index.by_match.get(id)?)
    }

    /// Every allocation that has not ended, by id.
    pub fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.state.allocations.values()
    }

    /// Number of matches that wait for a server.
    #[must_use]
    pub fn queue_length(&self) -> usize {
        self.state.index.queue.len()
    }

    /// Number of queued matches that are older than this one; `None` if it is not queued.
    #[must_use]
    pub fn place_in_queue(&self, id: &MatchId) -> Option<usize> {
        let game = self.state.matches.get(id).filter(|game| game.state == MatchState::Queued)?;
        Some(self.state.index.queue.older_than(game.queued_seq))
    }

    /// Fleets by id, from the one after `after`.
    #[must_use]
    pub fn fleets(&self, after: Option<&FleetId>, most: usize) -> Page<FleetView> {
        let fleets = self.state.fleets.range((bound(after), Bound::Unbounded));
        page(fleets.map(|(_, fleet)| self.fleet_view(fleet)), most, |view| view.fleet.byte_size())
    }

    fn fleet_view(&self, fleet: &Fleet) -> FleetView {
        let index = &self.state.index;
        FleetView {
            fleet: fleet.clone(),
            live: index.live.get(&fleet.id).map_or(0, alloc::collections::BTreeSet::len),
            pending: index.pending.get(&fleet.id).map_or(0, alloc::collections::BTreeSet::len),
            idle: index.idle.get(&Some(fleet.id.clone())).map_or(0, Idle::len),
            health: self.state.health.get(&fleet.id).cloned().unwrap_or_default(),
        }
    }
}

/// Merges two iterators that are ordered by id.
fn by_id<'a>(
    one: impl Iterator<Item = &'a Match>,
    other: impl Iterator<Item = &'a Match>,
) -> impl Iterator<Item = &'a Match> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    core::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(a), Some(b)) if a.id < b.id => one.next(),
        (Some(_), None) => one.next(),
        _ => other.next(),
    })
}

const fn bound<T>(after: Option<&T>) -> Bound<&T> {
    match after {
        Some(after) => Bound::Excluded(after),
        None => Bound::Unbounded,
    }
}
