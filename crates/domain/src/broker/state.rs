//! The durable state of the broker. Events are applied here and nowhere else.
//!
//! Records are in persistent maps, whose copies share their common parts, so that a snapshot is taken at once, whatever
//! its size, and is written while the broker continues. Data derived from the records is in plain maps (`indexes`).

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::event::Event;
use super::indexes::{Indexes, joinable};
use super::kept::{Kept, PastOrder};
use super::model::{
    Allocation, AllocationState, Fleet, FleetHealth, Gone, GoneCause, Match, MatchState, Seat, SeatEnd,
    SeatState, Server, ServerState, Settings,
};
use super::past::Past;
use super::seating::Seats;
use crate::connection::Connection;
use crate::ids::{AllocationId, FleetId, MatchId, PlayerId, SeatId, ServerId};
use crate::machine::Record;
use crate::match_spec::MatchSpec;
use crate::size::Size;
use crate::time::Timestamp;

/// Backoff of a fleet after its first failure; it doubles with each further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Maximum backoff of a fleet.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The operator's configuration, as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    /// Timers and schedule.
    pub settings: Settings,
    /// Every fleet.
    pub fleets: Vec<Fleet>,
}

/// The whole durable state. It shares its parts with its broker, so that taking it costs the same whatever its size.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Sequence number of the last event in it.
    pub seq: u64,
    /// The current settings.
    pub settings: Settings,
    /// The configuration as it was written last.
    pub configured: Option<Arc<Configured>>,
    /// Fleets with a past worth remembering.
    pub health: OrdMap<FleetId, FleetHealth>,
    /// Live matches.
    pub matches: OrdMap<MatchId, Arc<Match>>,
    /// Matches that are over.
    pub finished: Past<MatchId, Arc<Match>>,
    /// Servers.
    pub servers: OrdMap<ServerId, Server>,
    /// Servers that are gone.
    pub gone: Past<ServerId, Gone>,
    /// Allocations.
    pub allocations: OrdMap<AllocationId, Allocation>,
    /// Seats that were released or expired.
    pub closed_seats: Past<SeatId, SeatEnd>,
    /// The seats that matches had when they ended.
    pub ended_seats: Past<MatchId, Arc<[SeatId]>>,
    /// Orders whose matches are over.
    pub orders: Past<MatchId, PastOrder>,
}

pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) settings: Settings,
    pub(crate) configured: Option<Arc<Configured>>,
    pub(crate) fleets: BTreeMap<FleetId, Fleet>,
    /// Fleet ids in the order in which they are tried.
    pub(crate) preferred: Vec<FleetId>,
    pub(crate) health: OrdMap<FleetId, FleetHealth>,
    pub(crate) matches: OrdMap<MatchId, Arc<Match>>,
    pub(crate) servers: OrdMap<ServerId, Server>,
    pub(crate) allocations: OrdMap<AllocationId, Allocation>,
    pub(crate) kept: Kept,
    /// Bytes of matches, servers and allocations.
    pub(crate) waiting_bytes: usize,
    pub(crate) index: Indexes,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            seq: 0,
            settings: Settings::default(),
            configured: None,
            fleets: BTreeMap::new(),
            preferred: Vec::new(),
            health: OrdMap::new(),
            matches: OrdMap::new(),
            servers: OrdMap::new(),
            allocations: OrdMap::new(),
            kept: Kept::default(),
            waiting_bytes: 0,
            index: Indexes::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            seq: self.seq,
            settings: self.settings.clone(),
            configured: self.configured.clone(),
            health: self.health.clone(),
            matches: self.matches.clone(),
            finished: self.kept.finished.clone(),
            servers: self.servers.clone(),
            gone: self.kept.gone.clone(),
            allocations: self.allocations.clone(),
            closed_seats: self.kept.closed_seats.clone(),
            ended_seats: self.kept.ended_seats.clone(),
            orders: self.kept.orders.clone(),
        }
    }

    /// Takes the maps as they are, and rebuilds the derived data.
    pub(crate) fn restore(snapshot: Snapshot) -> Self {
        let mut state = Self::new();
        let Snapshot { seq, settings, configured, health, matches, finished, servers, gone, .. } = snapshot;
        let Snapshot { allocations, closed_seats, ended_seats, orders, .. } = snapshot;
        if let Some(configured) = &configured {
            state.configure(configured);
        }
        let index = &mut state.index;
        for (id, order) in orders.iter() {
            index.enter_key(id, order.key.as_ref());
        }
        for (id, seats) in ended_seats.iter() {
            index.seats.extend(seats.iter().map(|seat| (seat.clone(), id.clone())));
        }
        let live = matches.values();
        for game in finished.iter().map(|(_, game)| game).chain(live) {
            index.enter_key(&game.id, game.spec.idempotency_key.as_ref());
        }
        for order in allocations.values() {
            index.enter_allocation(order);
        }
        for game in matches.values() {
            index.enter_match(game, true);
            index.enter_players(game);
            game.seats.values().for_each(|seat| index.enter_seat(seat));
        }
        for server in servers.values() {
            index.enter_server(server);
        }
        let games: usize = matches.values().map(Size::byte_size).sum();
        let others = servers.values().map(Size::byte_size).chain(allocations.values().map(Size::byte_size));
        let waiting_bytes = games + others.sum::<usize>();
        let kept = Kept::of(finished, gone, closed_seats, ended_seats, orders);
        let mut state = Self {
            seq,
            settings,
            configured,
            health,
            matches,
            servers,
            allocations,
            kept,
            waiting_bytes,
            ..state
        };
        state.find_removed();
        state
    }

    /// The server that the event changes.
    pub(crate) fn server_of<'a>(&'a self, event: &'a Event) -> Option<&'a ServerId> {
        match event {
            Event::MatchPickedUp { server, .. }
            | Event::MatchReturned { server, .. }
            | Event::MatchReady { server, .. }
            | Event::ServerRegistered { server }
            | Event::ServerAvailable { server }
            | Event::ServerFull { server }
            | Event::ServerNotFull { server }
            | Event::ServerDraining { server, .. }
            | Event::ServerGone { server, .. } => Some(server),
            Event::MatchEnded { id, .. }
            | Event::MatchFailed { id, .. }
            | Event::MatchCancelled { id, .. } => self.matches.get(id)?.server.as_ref(),
            _ => None,
        }
    }

    /// Applies one event. Events about unknown records change nothing, so that no log can do harm.
    pub(crate) fn apply(&mut self, record: &Record<Event>) {
        self.seq = record.seq;
        let kept_before = self.kept.bytes();
        match &record.event {
            Event::Configured { settings, fleets } => {
                let configured = Configured { settings: settings.clone(), fleets: fleets.clone() };
                self.configure(&configured);
                self.settings = configured.settings.clone();
                self.configured = Some(Arc::new(configured));
            }
            Event::Reconfigured { settings } => self.settings = settings.clone(),
            Event::MatchQueued { .. }
            | Event::MatchPickedUp { .. }
            | Event::MatchReturned { .. }
            | Event::MatchReady { .. }
            | Event::MatchEnded { .. }
            | Event::MatchFailed { .. }
            | Event::MatchCancelled { .. }
            | Event::MatchPlacesReported { .. } => self.apply_match(record),
            Event::SeatReserved { .. }
            | Event::SeatRenewed { .. }
            | Event::SeatClaimed { .. }
            | Event::SeatClosed { .. } => self.apply_seat(record),
            Event::ServerRegistered { .. }
            | Event::ServerAvailable { .. }
            | Event::ServerFull { .. }
            | Event::ServerNotFull { .. }
            | Event::ServerDraining { .. }
            | Event::ServerGone { .. } => self.apply_server(record),
            Event::AllocationOrdered { .. }
            | Event::AllocationAssigned { .. }
            | Event::AllocationStarted { .. }
            | Event::AllocationStopOrdered { .. }
            | Event::AllocationEnded { .. } => self.apply_allocation(record),
        }
        self.touch(record);
        let budget = usize::try_from(self.settings.kept_bytes).unwrap_or(usize::MAX);
        self.kept.make_room(budget, kept_before, record.time, &mut self.index);
    }

    /// Marks a match as changed: its watchers hear about every event.
    fn touch(&mut self, record: &Record<Event>) {
        if let Some(game) = record.event.match_id().and_then(|id| self.matches.get_mut(id)) {
            Arc::make_mut(game).changed_seq = record.seq;
        }
    }

    fn configure(&mut self, configured: &Configured) {
        self.fleets = configured.fleets.iter().map(|fleet| (fleet.id.clone(), fleet.clone())).collect();
        let mut order: Vec<&Fleet> = self.fleets.values().collect();
        order.sort_by(|a, b| (a.preference, &a.id).cmp(&(b.preference, &b.id)));
        self.preferred = order.into_iter().map(|fleet| fleet.id.clone()).collect();
        let Self { health, fleets, .. } = self;
        let known = health.iter().filter(|(id, _)| fleets.contains_key(*id));
        *health = known.map(|(id, health)| (id.clone(), health.clone())).collect();
        self.index.queue.note_configured();
        self.find_removed();
    }

    fn find_removed(&mut self) {
        let known = self.index.of_fleet.keys().chain(self.index.queue.fleets());
        self.index.removed = known.filter(|id| !self.fleets.contains_key(*id)).cloned().collect();
    }

    /// An unconfigured fleet that still has servers, or queued matches that only they could take.
    pub(crate) fn removed_fleet(&self) -> Option<&FleetId> {
        self.index.removed.first()
    }

    fn apply_match(&mut self, record: &Record<Event>) {
        let Record { seq, time: at, event } = record;
        match event {
            Event::MatchQueued { id, spec } => self.queue(id, spec, *seq, *at),
            Event::MatchPickedUp { id, server } => {
                self.pass_on_order(id, server);
                self.update_match(id, |game| {
                    game.state = MatchState::PickedUp { at: *at };
                    game.server = Some(server.clone());
                    game.pickups += 1;
                });
                self.update_server(server, |server| {
                    server.matches.insert(id.clone());
                });
            }
            Event::MatchReturned { id, server, reason } => {
                self.update_match(id, |game| {
                    game.state = MatchState::Queued;
                    game.server = None;
                    game.lost = reason.or(game.lost);
                });
                self.update_server(server, |server| {
                    server.matches.remove(id);
                });
            }
            Event::MatchReady { id, server, connection, .. } => {
                self.become_ready(id, *at, connection);
                self.forgive(server);
            }
            Event::MatchEnded { id, cause, .. } => {
                self.finish(id, *seq, *at, MatchState::Ended { at: *at, cause: *cause });
            }
            Event::MatchFailed { id, reason, .. } => {
                self.finish(id, *seq, *at, MatchState::Failed { at: *at, reason: *reason });
            }
            Event::MatchCancelled { id, cause, .. } => {
                self.finish(id, *seq, *at, MatchState::Cancelled { at: *at, cause: *cause });
            }
            Event::MatchPlacesReported { id, free } => {
                self.update_places(id, |game| game.reported_free = Some(*free));
            }
            _ => {}
        }
    }

    /// A server that works clears its fleet's failures. Its first call does not: it may still crash on its first match.
    fn forgive(&mut self, server: &ServerId) {
        if let Some(fleet) = self.servers.get(server).and_then(|server| server.fleet.as_ref()) {
            self.health.remove(fleet);
        }
    }

    fn queue(&mut self, id: &MatchId, spec: &Arc<MatchSpec>, seq: u64, at: Timestamp) {
        let game = Match {
            id: id.clone(),
            spec: Arc::clone(spec),
            state: MatchState::Queued,
            queued_seq: seq,
            queued_at: at,
            changed_seq: seq,
            pickups: 0,
            server: None,
            lost: None,
            seats: Seats::default(),
            reported_free: None,
            stripped: false,
        };
        self.index.enter_key(id, spec.idempotency_key.as_ref());
        self.index.enter_match(&game, true);
        self.index.enter_players(&game);
        self.waiting_bytes += game.byte_size();
        self.matches.insert(id.clone(), Arc::new(game));
    }

    /// The server may have got another match than the one it was ordered for. If both are of one fleet, that other
    /// match then takes over the server that was ordered for this one.
    fn pass_on_order(&mut self, id: &MatchId, server: &ServerId) {
        let of_server = self.index.by_server.get(server).cloned();
        let of_match = self.index.by_match.get(id).cloned();
        if of_server == of_match {
            return of_server.into_iter().for_each(|order| self.assign(&order, None));
        }
        let left_over = of_server.and_then(|order| {
            let allocation = self.allocations.get(&order)?;
            let for_match = allocation.for_match.clone().filter(|other| self.lacks_server(other));
            let found = (allocation.fleet.clone(), for_match);
            self.assign(&order, None);
            Some(found)
        });
        let Some(order) = of_match else { return };
        let fleet = self.allocations.get(&order).map(|allocation| allocation.fleet.clone());
        self.assign(&order, None);
        if let Some((of, for_match)) = left_over
            && Some(of) == fleet
        {
            self.assign(&order, for_match);
        }
    }

    /// Whether the match is queued and no server is on its way for it.
    fn lacks_server(&self, id: &MatchId) -> bool {
        let queued = self.matches.get(id).is_some_and(|game| game.state == MatchState::Queued);
        queued && !self.index.by_match.contains_key(id)
    }

    fn assign(&mut self, order: &AllocationId, for_match: Option<MatchId>) {
        self.update_allocation(order, |allocation| allocation.for_match = for_match);
    }

    fn finish(&mut self, id: &MatchId, seq: u64, at: Timestamp, state: MatchState) {
        let Some(game) = self.matches.remove(id) else { return };
        self.index.leave_match(&game, true);
        self.index.leave_players(&game);
        self.waiting_bytes -= game.byte_size();
        if let Some(server) = game.server.clone() {
            self.update_server(&server, |server| {
                server.matches.remove(id);
            });
        }
        if let Some(order) = self.index.by_match.get(id).cloned() {
            self.assign(&order, None);
        }
        game.seats.values().for_each(|seat| self.index.leave_expiry(seat));
        let seats: Arc<[SeatId]> = game.seats.keys().cloned().collect();
        let game = Match { state, changed_seq: seq, seats: Seats::default(), ..Arc::unwrap_or_clone(game) };
        self.kept.finish(game, seats, at, &mut self.index);
    }

    fn apply_seat(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::SeatReserved { seat, match_id, player, client_id, ttl } => {
                let ready = |game: &Arc<Match>| matches!(game.state, MatchState::Ready { .. });
                let ready = self.matches.get(match_id).is_some_and(ready);
                let new = Seat {
                    id: seat.clone(),
                    match_id: match_id.clone(),
                    player: player.clone(),
                    client_id: *client_id,
                    ttl: *ttl,
                    state: SeatState::Reserved { expires_at: ready.then(|| record.time + *ttl) },
                };
                let there =
                    self.update_places(match_id, |game| game.seats.insert(&game.spec.players, new.clone()));
                if there == Some(true) {
                    self.index.enter_seat(&new);
                    self.index.by_player.insert((new.player, Some(new.match_id)));
                }
            }
            Event::SeatRenewed { seat, match_id } => {
                let renewed = self.update_places(match_id, |game| game.renew(seat, record.time)).flatten();
                if let Some((before, after)) = renewed {
                    self.index.leave_expiry(&before);
                    self.index.enter_expiry(&after);
                }
            }
            Event::SeatClaimed { seat, match_id } => {
                let claimed = self.update_places(match_id, |game| claim(game, seat, record.time)).flatten();
                claimed.iter().for_each(|seat| self.index.leave_expiry(seat));
            }
            Event::SeatClosed { seat, match_id, end } => {
                let closed = self.update_places(match_id, |game| close(game, seat)).flatten();
                if let Some(closed) = closed {
                    self.index.leave_seat(&closed);
                    self.leave_player(match_id, closed.player);
                }
                self.kept.close_seat(seat.clone(), *end);
            }
            _ => {}
        }
    }

    /// A seat is over: its player does not belong to the match any more, unless the order names the player.
    fn leave_player(&mut self, id: &MatchId, player: PlayerId) {
        if self.matches.get(id).is_none_or(|game| !game.has_player(&player)) {
            self.index.by_player.remove(&(player, Some(id.clone())));
        }
    }

    /// From here on the time to claim the seats runs.
    fn become_ready(&mut self, id: &MatchId, at: Timestamp, connection: &Arc<Connection>) {
        if let Some(game) = self.matches.get(id) {
            game.seats.values().for_each(|seat| self.index.leave_expiry(seat));
        }
        self.update_match(id, |game| {
            game.state = MatchState::Ready { at, connection: Arc::clone(connection) };
            game.seats.wait_from(at);
        });
        if let Some(game) = self.matches.get(id) {
            game.seats.values().for_each(|seat| self.index.enter_expiry(seat));
        }
    }

    fn apply_server(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::ServerRegistered { server } => {
                self.kept.gone.remove(server);
                self.enter_server(server, None, ServerState::Available, record.time);
            }
            Event::ServerAvailable { server } => {
                self.update_server(server, |server| server.state = ServerState::Available);
                if let Some(order) = self.index.by_server.get(server).cloned() {
                    self.update_allocation(&order, |allocation| allocation.state = AllocationState::Live);
                }
            }
            Event::ServerFull { server } => {
                self.update_server(server, |server| server.state = ServerState::Full);
            }
            Event::ServerNotFull { server } => {
                self.update_server(server, |server| server.state = ServerState::Available);
            }
            Event::ServerDraining { server, cause } => {
                self.update_server(server, |server| server.state = ServerState::Draining { cause: *cause });
            }
            Event::ServerGone { server, cause } => self.forget_server(server, *cause, record.time),
            _ => {}
        }
    }

    fn enter_server(
        &mut self,
        id: &ServerId,
        fleet: Option<FleetId>,
        state: ServerState,
        born_at: Timestamp,
    ) {
        let server = Server { id: id.clone(), fleet, state, born_at, matches: OrdSet::new() };
        self.index.enter_fleet(&server);
        self.index.enter_server(&server);
        self.waiting_bytes += server.byte_size();
        if let Some(before) = self.servers.insert(id.clone(), server) {
            self.waiting_bytes -= before.byte_size();
        }
    }

    fn forget_server(&mut self, id: &ServerId, cause: GoneCause, at: Timestamp) {
        let server = self.servers.remove(id);
        if let Some(server) = &server {
            self.index.leave_server(server);
            self.index.leave_fleet(server);
            self.waiting_bytes -= server.byte_size();
        }
        // A server that was not ordered and exits on its own may come back under its id at once; any other is told to
        // exit when it calls.
        let ordered = server.is_some_and(|server| server.fleet.is_some());
        if ordered || cause != GoneCause::ShutDown {
            self.kept.server_gone(id.clone(), Gone { cause, at, ordered });
        }
        if let Some(order) = self.index.by_server.get(id).cloned() {
            self.update_allocation(&order, |allocation| {
                if allocation.state != AllocationState::Stopping {
                    allocation.state = AllocationState::Leaving { since: at };
                }
                allocation.for_match = None;
            });
        }
    }

    fn apply_allocation(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::AllocationOrdered { allocation, server, fleet, for_match } => {
                let order = Allocation {
                    id: allocation.clone(),
                    server: server.clone(),
                    fleet: fleet.clone(),
                    for_match: for_match.clone(),
                    ordered_at: record.time,
                    state: AllocationState::Ordered,
                };
                self.enter_allocation(order);
                self.enter_server(server, Some(fleet.clone()), ServerState::Pending, record.time);
            }
            Event::AllocationAssigned { allocation, for_match } => {
                self.assign(allocation, Some(for_match.clone()));
            }
            Event::AllocationStarted { allocation } => self.update_allocation(allocation, |allocation| {
                if allocation.state == AllocationState::Ordered {
                    allocation.state = AllocationState::Started;
                }
            }),
            Event::AllocationStopOrdered { allocation, fleet, error } => {
                self.update_allocation(allocation, |allocation| allocation.state = AllocationState::Stopping);
                if let Some(error) = error {
                    self.note_failure(fleet, error, record.time);
                }
            }
            Event::AllocationEnded { allocation, fleet, error } => {
                if let Some(allocation) = self.allocations.remove(allocation) {
                    self.index.leave_allocation(&allocation);
                    self.waiting_bytes -= allocation.byte_size();
                    self.note_served(allocation.for_match.as_ref());
                }
                if let Some(error) = error {
                    self.note_failure(fleet, error, record.time);
                }
            }
            _ => {}
        }
    }

    fn note_failure(&mut self, fleet: &FleetId, error: &Arc<str>, at: Timestamp) {
        if !self.fleets.contains_key(fleet) {
            return;
        }
        let health = self.health.entry(fleet.clone()).or_default();
        // 2^6 times the first backoff exceeds the maximum.
        let backoff = FIRST_BACKOFF * 2_u32.pow(health.failures.min(6));
        health.failures = health.failures.saturating_add(1);
        health.backoff_until = at + backoff.min(MAX_BACKOFF);
        health.last_error = Some(Arc::clone(error));
    }

    fn update_match(&mut self, id: &MatchId, change: impl FnOnce(&mut Match)) {
        let Some(game) = self.matches.get_mut(id).map(Arc::make_mut) else { return };
        let (was_queued, before) = (game.state == MatchState::Queued, game.changing_bytes());
        self.index.leave_match(game, false);
        change(game);
        let is_queued = game.state == MatchState::Queued;
        // A match that is queued and stays so keeps its place.
        if was_queued && !is_queued {
            self.index.leave_queue(game);
        }
        self.index.enter_match(game, is_queued && !was_queued);
        self.waiting_bytes = self.waiting_bytes - before + game.changing_bytes();
    }

    /// Changes the seats of a match or its places: this only affects whether others may join.
    fn update_places<T>(&mut self, id: &MatchId, change: impl FnOnce(&mut Match) -> T) -> Option<T> {
        let game = Arc::make_mut(self.matches.get_mut(id)?);
        let (before, bytes) = (joinable(game), game.seats.byte_size());
        let changed = change(game);
        let after = joinable(game);
        self.waiting_bytes = self.waiting_bytes - bytes + game.seats.byte_size();
        if before != after {
            self.index.leave_joinable(before);
            self.index.enter_joinable(after);
        }
        Some(changed)
    }

    fn update_server(&mut self, id: &ServerId, change: impl FnOnce(&mut Server)) {
        if let Some(server) = self.servers.get_mut(id) {
            self.index.leave_server(server);
            self.waiting_bytes -= server.byte_size();
            change(server);
            self.waiting_bytes += server.byte_size();
            self.index.enter_server(server);
        }
    }

    fn update_allocation(&mut self, id: &AllocationId, change: impl FnOnce(&mut Allocation)) {
        if let Some(allocation) = self.allocations.get_mut(id) {
            self.index.leave_allocation(allocation);
            let before = allocation.for_match.clone();
            change(allocation);
            self.index.enter_allocation(allocation);
            let after = allocation.for_match.clone();
            self.note_served(before.as_ref());
            self.note_served(after.as_ref());
        }
    }

    fn enter_allocation(&mut self, allocation: Allocation) {
        self.index.enter_allocation(&allocation);
        self.note_served(allocation.for_match.as_ref());
        self.waiting_bytes += allocation.byte_size();
        if let Some(before) = self.allocations.insert(allocation.id.clone(), allocation) {
            self.waiting_bytes -= before.byte_size();
        }
    }

    /// Updates whether a server is on its way for the match.
    fn note_served(&mut self, id: Option<&MatchId>) {
        let game = id.and_then(|id| self.matches.get(id));
        if let Some(game) = game.filter(|game| game.state == MatchState::Queued) {
            self.index.queue.set_served(game.queued_seq, self.index.by_match.contains_key(&game.id));
        }
    }

    /// A match, live or recently over.
    pub(crate) fn find_match(&self, id: &MatchId) -> Option<&Match> {
        self.matches.get(id).or_else(|| self.kept.finished.get(id)).map(|game| &**game)
    }

    /// How a seat ended, if it is over.
    pub(crate) fn seat_end(&self, id: &SeatId) -> Option<SeatEnd> {
        let of_match = || self.index.seats.get(id).filter(|of| !self.matches.contains_key(*of));
        self.kept.closed_seats.get(id).copied().or_else(|| of_match().map(|_| SeatEnd::MatchOver))
    }

    /// Whether the server takes matches and has none.
    pub(crate) fn is_idle(&self, server: &Server) -> bool {
        self.index.idle.get(&server.fleet).is_some_and(|idle| idle.contains(server))
    }
}

/// The player is there, on a place that the server may have counted as free. Returns the seat as it was.
fn claim(game: &mut Match, seat: &SeatId, at: Timestamp) -> Option<Seat> {
    let claimed = game.seats.get(seat)?.clone();
    let kept = game.keeps_place_for(&claimed.player);
    let came = matches!(claimed.state, SeatState::Reserved { .. });
    if let Some(free) = game.reported_free.as_mut().filter(|_| came && !kept) {
        *free = free.saturating_sub(1);
    }
    game.seats.claim(seat, at);
    Some(claimed)
}

/// The place is free again. Named players who were there have left; those who never came may still come. Returns the
/// seat as it was.
fn close(game: &mut Match, seat: &SeatId) -> Option<Seat> {
    let closed = game.seats.remove(seat)?;
    if matches!(closed.state, SeatState::Claimed { .. })
        && game.seats.names(&game.spec.players, &closed.player)
    {
        game.seats.note_left(closed.player.clone());
    }
    Some(closed)
}
