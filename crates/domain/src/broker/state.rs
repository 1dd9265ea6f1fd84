//! The durable state of the broker and the indexes over it. Events are applied here and nowhere else.
//!
//! Every index is a function of the records alone: a record leaves its indexes before it changes and enters them
//! again after, so no rule has to remember which index it touches.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::event::Event;
use super::model::{
    Allocation, AllocationState, Connection, Fleet, FleetHealth, GoneCause, Match, MatchSpec, MatchState,
    Seat, SeatEnd, SeatState, Server, ServerState, Settings,
};
use super::queue::{Entry, Queue};
use super::recent::Recent;
use super::waiting::remove_from;
use crate::ids::{AllocationId, FleetId, IdempotencyKey, MatchId, SeatId, ServerId};
use crate::machine::Record;
use crate::time::Timestamp;

/// Matches that are over and can still be asked about.
pub const FINISHED_KEPT: usize = 10_000;
/// Servers that are gone and are told so when they call.
pub const GONE_KEPT: usize = 10_000;
/// Seats that are over and can still be asked about.
pub const CLOSED_SEATS_KEPT: usize = 10_000;
/// Backoff of a fleet after its first failure; it doubles with each further one.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(1);
/// Longest backoff of a fleet.
pub const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// The operator's configuration, as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Configured {
    /// Timers and schedule.
    pub settings: Settings,
    /// Every fleet.
    pub fleets: Vec<Fleet>,
}

/// The whole durable state as plain data, each list in a fixed order.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Sequence number of the last event in it.
    pub seq: u64,
    /// The settings in force.
    pub settings: Settings,
    /// The configuration as it was written last.
    pub configured: Option<Configured>,
    /// Fleets with a past worth remembering.
    pub health: Vec<(FleetId, FleetHealth)>,
    /// Live matches, by id.
    pub matches: Vec<Match>,
    /// Matches that are over, oldest first.
    pub finished: Vec<Match>,
    /// Servers, by id.
    pub servers: Vec<Server>,
    /// Servers that are gone, oldest first.
    pub gone: Vec<(ServerId, GoneCause)>,
    /// Allocations, by id.
    pub allocations: Vec<Allocation>,
    /// Seats that are over, oldest first.
    pub closed_seats: Vec<(SeatId, SeatEnd)>,
}

/// Derived from the records.
#[derive(Default)]
pub(crate) struct Indexes {
    pub(crate) queue: Queue,
    /// Queued matches, by id.
    pub(crate) queued: BTreeSet<MatchId>,
    /// Matches in the hands of servers, by id.
    pub(crate) active: BTreeSet<MatchId>,
    pub(crate) picked_up: BTreeSet<(Timestamp, MatchId)>,
    pub(crate) ready: BTreeSet<(Timestamp, MatchId)>,
    pub(crate) by_key: BTreeMap<IdempotencyKey, MatchId>,
    /// Matches of a fleet with a free place: ready ones first, then by age.
    pub(crate) joinable: BTreeMap<FleetId, BTreeSet<(u8, u64, MatchId)>>,
    pub(crate) seats: BTreeMap<SeatId, MatchId>,
    pub(crate) seat_expiry: BTreeSet<(Timestamp, SeatId)>,
    pub(crate) births: BTreeSet<(Timestamp, ServerId)>,
    /// Available servers without a match; the fleet is `None` for those that registered themselves.
    pub(crate) idle: BTreeMap<Option<FleetId>, BTreeSet<ServerId>>,
    /// Servers by fleet; those that registered themselves have none.
    pub(crate) of_fleet: BTreeMap<FleetId, BTreeSet<ServerId>>,
    /// Servers that are draining and whose time has come: their last match is over, or those they have fail.
    pub(crate) clearing: BTreeSet<ServerId>,
    pub(crate) by_server: BTreeMap<ServerId, AllocationId>,
    pub(crate) by_match: BTreeMap<MatchId, AllocationId>,
    /// Allocations whose server is to be heard of, by time of order.
    pub(crate) pending: BTreeMap<FleetId, BTreeSet<(Timestamp, AllocationId)>>,
    /// Those of them that are meant for no match.
    pub(crate) unassigned: BTreeMap<FleetId, BTreeSet<AllocationId>>,
    pub(crate) leaving: BTreeSet<(Timestamp, AllocationId)>,
    /// All allocations of a fleet.
    pub(crate) live: BTreeMap<FleetId, BTreeSet<AllocationId>>,
    /// Fleets that are not configured and still have servers, or queued matches that only they could take.
    pub(crate) removed: BTreeSet<FleetId>,
}

pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) settings: Settings,
    pub(crate) configured: Option<Configured>,
    pub(crate) fleets: BTreeMap<FleetId, Fleet>,
    /// Fleet ids in the order in which they are tried.
    pub(crate) preferred: Vec<FleetId>,
    pub(crate) health: BTreeMap<FleetId, FleetHealth>,
    pub(crate) matches: BTreeMap<MatchId, Match>,
    pub(crate) finished: Recent<MatchId, Match>,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) gone: Recent<ServerId, GoneCause>,
    pub(crate) allocations: BTreeMap<AllocationId, Allocation>,
    pub(crate) closed_seats: Recent<SeatId, SeatEnd>,
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
            health: BTreeMap::new(),
            matches: BTreeMap::new(),
            finished: Recent::new(FINISHED_KEPT),
            servers: BTreeMap::new(),
            gone: Recent::new(GONE_KEPT),
            allocations: BTreeMap::new(),
            closed_seats: Recent::new(CLOSED_SEATS_KEPT),
            index: Indexes::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            seq: self.seq,
            settings: self.settings.clone(),
            configured: self.configured.clone(),
            health: self.health.iter().map(|(id, health)| (id.clone(), health.clone())).collect(),
            matches: self.matches.values().cloned().collect(),
            finished: self.finished.iter().map(|(_, game)| game.clone()).collect(),
            servers: self.servers.values().cloned().collect(),
            gone: self.gone.iter().map(|(id, cause)| (id.clone(), *cause)).collect(),
            allocations: self.allocations.values().cloned().collect(),
            closed_seats: self.closed_seats.iter().map(|(id, end)| (id.clone(), *end)).collect(),
        }
    }

    pub(crate) fn restore(snapshot: Snapshot) -> Self {
        let mut state = Self::new();
        state.seq = snapshot.seq;
        if let Some(configured) = &snapshot.configured {
            state.configure(configured);
        }
        state.settings = snapshot.settings;
        state.configured = snapshot.configured;
        state.health = snapshot.health.into_iter().collect();
        for game in snapshot.finished {
            state.index_key(&game);
            state.finished.insert(game.id.clone(), game);
        }
        for game in snapshot.matches {
            state.index_key(&game);
            state.index.enter_match(&game, true);
            state.matches.insert(game.id.clone(), game);
        }
        for server in snapshot.servers {
            state.index.enter_fleet(&server);
            state.index.enter_server(&server);
            state.servers.insert(server.id.clone(), server);
        }
        for (id, cause) in snapshot.gone {
            state.gone.insert(id, cause);
        }
        for allocation in snapshot.allocations {
            state.enter_allocation(allocation);
        }
        for (id, end) in snapshot.closed_seats {
            state.closed_seats.insert(id, end);
        }
        state.find_removed();
        state
    }

    /// The server that the event changes.
    pub(crate) fn server_of<'a>(&'a self, event: &'a Event) -> Option<&'a ServerId> {
        match event {
            Event::MatchPickedUp { server, .. }
            | Event::MatchReturned { server, .. }
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

    /// Applies one event. Events about things that are not there change nothing, so that no log can do harm.
    pub(crate) fn apply(&mut self, record: &Record<Event>) {
        self.seq = record.seq;
        match &record.event {
            Event::Configured { settings, fleets } => {
                let configured = Configured { settings: settings.clone(), fleets: fleets.clone() };
                self.configure(&configured);
                self.settings = configured.settings.clone();
                self.configured = Some(configured);
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
            Event::SeatReserved { .. } | Event::SeatClaimed { .. } | Event::SeatClosed { .. } => {
                self.apply_seat(record);
            }
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
    }

    /// Whoever watches a match hears of every event about it.
    fn touch(&mut self, record: &Record<Event>) {
        if let Some(game) = record.event.match_id().and_then(|id| self.matches.get_mut(id)) {
            game.changed_seq = record.seq;
        }
    }

    fn configure(&mut self, configured: &Configured) {
        self.fleets = configured.fleets.iter().map(|fleet| (fleet.id.clone(), fleet.clone())).collect();
        let mut order: Vec<&Fleet> = self.fleets.values().collect();
        order.sort_by(|a, b| (a.preference, &a.id).cmp(&(b.preference, &b.id)));
        self.preferred = order.into_iter().map(|fleet| fleet.id.clone()).collect();
        self.health.retain(|id, _| self.fleets.contains_key(id));
        self.find_removed();
    }

    fn find_removed(&mut self) {
        let known = self.index.of_fleet.keys().chain(self.index.queue.fleets());
        self.index.removed = known.filter(|id| !self.fleets.contains_key(*id)).cloned().collect();
    }

    /// A fleet that is not configured any more and still has servers, or queued matches that only they could take.
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
            Event::MatchReturned { id, server } => {
                self.update_match(id, |game| {
                    game.state = MatchState::Queued;
                    game.server = None;
                });
                self.update_server(server, |server| {
                    server.matches.remove(id);
                });
            }
            Event::MatchReady { id, server, connection, .. } => {
                self.update_match(id, |game| ready(game, *at, connection));
                self.forgive(server);
            }
            Event::MatchEnded { id, cause, .. } => {
                self.finish(id, *seq, MatchState::Ended { at: *at, cause: *cause });
            }
            Event::MatchFailed { id, reason, .. } => {
                self.finish(id, *seq, MatchState::Failed { at: *at, reason: *reason });
            }
            Event::MatchCancelled { id, cause, .. } => {
                self.finish(id, *seq, MatchState::Cancelled { at: *at, cause: *cause });
            }
            Event::MatchPlacesReported { id, free } => {
                self.update_match(id, |game| game.reported_free = Some(*free));
            }
            _ => {}
        }
    }

    /// A server that works clears its fleet's record of failures. That it was heard of does not: it may be about to
    /// fall over its first match.
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
            seats: BTreeMap::new(),
            reported_free: None,
            left: BTreeSet::new(),
        };
        self.index_key(&game);
        self.index.enter_match(&game, true);
        self.matches.insert(id.clone(), game);
    }

    /// The server may have been ordered for another match than the one it got. That other match is then served by
    /// the server that was ordered for this one, where both are of one fleet.
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

    fn finish(&mut self, id: &MatchId, seq: u64, state: MatchState) {
        let Some(mut game) = self.matches.remove(id) else { return };
        self.index.leave_match(&game, true);
        if let Some(server) = game.server.clone() {
            self.update_server(&server, |server| {
                server.matches.remove(id);
            });
        }
        if let Some(order) = self.index.by_match.get(id).cloned() {
            self.assign(&order, None);
        }
        for seat in core::mem::take(&mut game.seats).into_keys() {
            self.closed_seats.insert(seat, SeatEnd::MatchOver);
        }
        game.state = state;
        game.changed_seq = seq;
        if let Some(oldest) = self.finished.insert(id.clone(), game)
            && let Some(key) = &oldest.spec.idempotency_key
        {
            self.index.by_key.remove(key);
        }
    }

    fn apply_seat(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::SeatReserved { seat, match_id, player, client_id, ttl } => {
                self.update_match(match_id, |game| {
                    let ready = matches!(game.state, MatchState::Ready { .. });
                    let state = SeatState::Reserved { expires_at: ready.then(|| record.time + *ttl) };
                    let new = Seat {
                        id: seat.clone(),
                        match_id: match_id.clone(),
                        player: player.clone(),
                        client_id: *client_id,
                        ttl: *ttl,
                        state,
                    };
                    game.seats.insert(seat.clone(), new);
                });
            }
            Event::SeatClaimed { seat, match_id } => {
                self.update_match(match_id, |game| claim(game, seat, record.time));
            }
            Event::SeatClosed { seat, match_id, end } => {
                self.update_match(match_id, |game| close(game, seat));
                self.closed_seats.insert(seat.clone(), *end);
            }
            _ => {}
        }
    }

    fn apply_server(&mut self, record: &Record<Event>) {
        match &record.event {
            Event::ServerRegistered { server } => {
                self.gone.remove(server);
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
        let server = Server { id: id.clone(), fleet, state, born_at, matches: BTreeSet::new() };
        self.index.enter_fleet(&server);
        self.index.enter_server(&server);
        self.servers.insert(id.clone(), server);
    }

    fn forget_server(&mut self, id: &ServerId, cause: GoneCause, at: Timestamp) {
        let server = self.servers.remove(id);
        if let Some(server) = &server {
            self.index.leave_server(server);
            self.index.leave_fleet(server);
        }
        // One that nobody ordered and that leaves by itself may come back under its id; any other is told to exit
        // when it calls.
        let ordered = server.is_some_and(|server| server.fleet.is_some());
        if ordered || cause != GoneCause::ShutDown {
            self.gone.insert(id.clone(), cause);
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
        // 2^6 times the first backoff is beyond the longest one.
        let backoff = FIRST_BACKOFF * 2_u32.pow(health.failures.min(6));
        health.failures = health.failures.saturating_add(1);
        health.backoff_until = at + backoff.min(MAX_BACKOFF);
        health.last_error = Some(Arc::clone(error));
    }

    fn index_key(&mut self, game: &Match) {
        if let Some(key) = &game.spec.idempotency_key {
            self.index.by_key.insert(key.clone(), game.id.clone());
        }
    }

    fn update_match(&mut self, id: &MatchId, change: impl FnOnce(&mut Match)) {
        if let Some(game) = self.matches.get_mut(id) {
            let was_queued = game.state == MatchState::Queued;
            self.index.leave_match(game, false);
            change(game);
            let is_queued = game.state == MatchState::Queued;
            // A match whose seats change keeps its place.
            if was_queued && !is_queued {
                self.index.leave_queue(game);
            }
            self.index.enter_match(game, is_queued && !was_queued);
        }
    }

    fn update_server(&mut self, id: &ServerId, change: impl FnOnce(&mut Server)) {
        if let Some(server) = self.servers.get_mut(id) {
            self.index.leave_server(server);
            change(server);
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
        self.allocations.insert(allocation.id.clone(), allocation);
    }

    /// A server on its way may be meant for the match now, or not any more.
    fn note_served(&mut self, id: Option<&MatchId>) {
        let game = id.and_then(|id| self.matches.get(id));
        if let Some(game) = game.filter(|game| game.state == MatchState::Queued) {
            self.index.queue.set_served(game.queued_seq, self.index.by_match.contains_key(&game.id));
        }
    }

    /// Whether the server takes matches and has none.
    pub(crate) fn is_idle(&self, server: &Server) -> bool {
        self.index.idle.get(&server.fleet).is_some_and(|idle| idle.contains(&server.id))
    }
}

impl Indexes {
    /// `queue` says whether a queued match comes to the queue, or is in it already.
    fn enter_match(&mut self, game: &Match, queue: bool) {
        match &game.state {
            MatchState::Queued if queue => self.enter_queue(game),
            MatchState::PickedUp { at } => drop(self.picked_up.insert((*at, game.id.clone()))),
            MatchState::Ready { at, .. } => drop(self.ready.insert((*at, game.id.clone()))),
            _ => {}
        }
        if matches!(game.state, MatchState::PickedUp { .. } | MatchState::Ready { .. }) {
            self.active.insert(game.id.clone());
        }
        if let Some((fleet, place)) = joinable(game) {
            self.joinable.entry(fleet).or_default().insert(place);
        }
        for seat in game.seats.values() {
            self.seats.insert(seat.id.clone(), game.id.clone());
            if let SeatState::Reserved { expires_at: Some(at) } = seat.state {
                self.seat_expiry.insert((at, seat.id.clone()));
            }
        }
    }

    /// `queue` says whether a queued match leaves the queue, or stays in it.
    fn leave_match(&mut self, game: &Match, queue: bool) {
        match &game.state {
            MatchState::Queued if queue => self.leave_queue(game),
            MatchState::PickedUp { at } => drop(self.picked_up.remove(&(*at, game.id.clone()))),
            MatchState::Ready { at, .. } => drop(self.ready.remove(&(*at, game.id.clone()))),
            _ => {}
        }
        self.active.remove(&game.id);
        if let Some((fleet, place)) = joinable(game) {
            remove_from(&mut self.joinable, &fleet, &place);
        }
        for seat in game.seats.values() {
            self.seats.remove(&seat.id);
            if let SeatState::Reserved { expires_at: Some(at) } = seat.state {
                self.seat_expiry.remove(&(at, seat.id.clone()));
            }
        }
    }

    fn enter_queue(&mut self, game: &Match) {
        let entry = Entry { id: game.id.clone(), queued_at: game.queued_at, spec: Arc::clone(&game.spec) };
        self.queue.insert(game.queued_seq, entry, self.by_match.contains_key(&game.id));
        self.queued.insert(game.id.clone());
    }

    fn leave_queue(&mut self, game: &Match) {
        self.queue.remove(game.queued_seq);
        self.queued.remove(&game.id);
        if let Some(fleet) = &game.spec.fleet {
            self.note_left(fleet);
        }
    }

    fn enter_fleet(&mut self, server: &Server) {
        if let Some(fleet) = &server.fleet {
            self.of_fleet.entry(fleet.clone()).or_default().insert(server.id.clone());
        }
    }

    fn leave_fleet(&mut self, server: &Server) {
        if let Some(fleet) = &server.fleet {
            remove_from(&mut self.of_fleet, fleet, &server.id);
            self.note_left(fleet);
        }
    }

    /// A server of the fleet is gone, or a queued match that only they could take.
    fn note_left(&mut self, fleet: &FleetId) {
        if !self.removed.is_empty()
            && !self.of_fleet.contains_key(fleet)
            && self.queue.first_of(fleet).is_none()
        {
            self.removed.remove(fleet);
        }
    }

    fn enter_server(&mut self, server: &Server) {
        if is_clearing(server) {
            self.clearing.insert(server.id.clone());
        }
        self.births.insert((server.born_at, server.id.clone()));
        if is_idle(server) {
            self.idle.entry(server.fleet.clone()).or_default().insert(server.id.clone());
        }
    }

    fn leave_server(&mut self, server: &Server) {
        if is_clearing(server) {
            self.clearing.remove(&server.id);
        }
        self.births.remove(&(server.born_at, server.id.clone()));
        if is_idle(server) {
            remove_from(&mut self.idle, &server.fleet, &server.id);
        }
    }

    fn enter_allocation(&mut self, allocation: &Allocation) {
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

    fn leave_allocation(&mut self, allocation: &Allocation) {
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

/// Players can connect; from here on the seats wait for them.
fn ready(game: &mut Match, at: Timestamp, connection: &Arc<Connection>) {
    game.state = MatchState::Ready { at, connection: Arc::clone(connection) };
    for seat in game.seats.values_mut() {
        if let SeatState::Reserved { expires_at } = &mut seat.state {
            *expires_at = Some(at + seat.ttl);
        }
    }
}

/// The player is there, on a place that the server may have counted as free.
fn claim(game: &mut Match, seat: &SeatId, at: Timestamp) {
    let Some(claimed) = game.seats.get(seat) else { return };
    let kept = game.keeps_place_for(&claimed.player);
    let came = matches!(claimed.state, SeatState::Reserved { .. });
    if let Some(free) = game.reported_free.as_mut().filter(|_| came && !kept) {
        *free = free.saturating_sub(1);
    }
    if let Some(seat) = game.seats.get_mut(seat) {
        seat.state = SeatState::Claimed { at };
    }
}

/// The place is free again. Named players who were there are not any more; those who never came may still come.
fn close(game: &mut Match, seat: &SeatId) {
    if let Some(Seat { player, state: SeatState::Claimed { .. }, .. }) = game.seats.remove(seat)
        && game.spec.players.contains(&player)
    {
        game.left.insert(player);
    }
}

pub(crate) fn is_idle(server: &Server) -> bool {
    server.state == ServerState::Available && server.matches.is_empty()
}

fn is_clearing(server: &Server) -> bool {
    matches!(server.state, ServerState::Draining { cause }
        if server.matches.is_empty() || cause.fails_matches().is_some())
}

fn joinable(game: &Match) -> Option<(FleetId, (u8, u64, MatchId))> {
    let rank = match &game.state {
        MatchState::Ready { .. } => 0,
        MatchState::PickedUp { .. } => 1,
        MatchState::Queued => 2,
        MatchState::Ended { .. } | MatchState::Failed { .. } | MatchState::Cancelled { .. } => return None,
    };
    let fleet = game.spec.fleet.clone().filter(|_| game.free_places() > 0)?;
    Some((fleet, (rank, game.queued_seq, game.id.clone())))
}
