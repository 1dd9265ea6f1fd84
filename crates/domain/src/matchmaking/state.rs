//! The durable state of the matchmaker and the indexes over it. Events are applied here and nowhere else.
//!
//! Every index is a function of the records alone: a ticket leaves its indexes before it changes and enters them again
//! afterwards. The structures that speed up the forming of matches also depend on the time, so they are kept outside of
//! the state (`pools`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use imbl::{OrdMap, OrdSet};

use super::event::Event;
use super::firsts::{Firsts, first};
use super::model::{
    CancelCause, Check, DissolveCause, Formation, LostMatch, Named, Offered, Round, SeatOffer, Stage, Ticket,
    TicketEnd, TicketState,
};
use super::names::{Names, hash};
use super::order::UsedKey;
use super::settings::{Queue, Settings};
use crate::connection::Connection;
use crate::ids::{IdempotencyKey, MatchId, PlayerId, QueueId, TicketId};
use crate::machine::Record;
use crate::ranks::Ranks;
use crate::size::Size;
use crate::time::Timestamp;

/// The whole durable state. A copy is cheap at any queue length: its maps share their nodes with the original, and only
/// the nodes that change later are copied.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Sequence number of the last applied event.
    pub seq: u64,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// The configuration as it was last written.
    pub configured: Option<Arc<Settings>>,
    /// Queues that are no longer configured but still have tickets.
    pub closed: OrdMap<QueueId, Queue>,
    /// Tickets that are not over, by place: oldest first.
    pub tickets: OrdMap<u64, Arc<Ticket>>,
    /// Tickets that are over, by place.
    pub over: OrdMap<u64, Arc<Ticket>>,
    /// Matches that are being made, by id.
    pub formations: OrdMap<MatchId, Arc<Formation>>,
    /// Dissolved matches whose withdrawal is not confirmed yet, by id.
    pub withdrawing: OrdSet<MatchId>,
    /// Offers of free seats, by match.
    pub offers: OrdMap<MatchId, Arc<Offered>>,
    /// Rounds of hooks that form matches.
    pub rounds: OrdMap<QueueId, Round>,
    /// Idempotency keys whose tickets no longer hold the original order.
    pub keys: OrdMap<IdempotencyKey, UsedKey>,
}

/// Everything that has its own deadline.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Owner {
    Ticket(TicketId),
    Formation(MatchId),
    Seating(MatchId, TicketId),
    Round(QueueId),
}

/// The waiting tickets of one queue.
#[derive(Default)]
pub(crate) struct Line {
    pub(crate) by_place: BTreeMap<u64, TicketId>,
    /// When their wait began to count.
    pub(crate) by_since: BTreeSet<(Timestamp, u64)>,
    pub(crate) ranks: Ranks,
    /// When the oldest of them reaches the queue's maximum wait.
    pub(super) expires: Option<Timestamp>,
}

/// Derived from the records.
#[derive(Default)]
pub(crate) struct Indexes {
    /// Places of tickets, over or not, by their ids.
    pub(super) by_id: Names,
    /// Places of tickets that are not over, by their players' ids.
    pub(super) by_player: Names,
    /// The number of tickets that players have in addition to their first ones.
    pub(super) several: usize,
    /// The number of tickets, of the same players, that are in matches; by the place of the ticket that they keep on
    /// hold. Counted once for each shared player.
    pub(super) busy: BTreeMap<u64, u32>,
    pub(crate) by_key: BTreeMap<IdempotencyKey, TicketId>,
    pub(crate) lines: BTreeMap<QueueId, Line>,
    /// The number of tickets that are not over, by queue.
    pub(crate) live: BTreeMap<QueueId, usize>,
    /// By queue, so that deadlines of one queue do not come before those of another.
    pub(crate) deadlines: BTreeMap<QueueId, BTreeSet<(Timestamp, Owner)>>,
    /// The first deadline of each queue.
    pub(super) firsts: Firsts,
    /// By `ttl`: when tickets that are not over were last renewed, and their places.
    pub(super) kept_alive: BTreeMap<Duration, BTreeSet<(Timestamp, u64)>>,
    /// Offers with free seats, oldest first.
    pub(crate) open_offers: BTreeMap<QueueId, BTreeSet<(u64, MatchId)>>,
    /// Places of tickets that are over: when they ended, and by which event.
    pub(crate) over_order: BTreeSet<(Timestamp, u64, u64)>,
    /// Those of them that hold more than a status needs.
    pub(super) full: BTreeSet<(Timestamp, u64, u64)>,
    /// Bytes of tickets that are not over, of matches that are being made, and of offers.
    pub(crate) waiting_bytes: u64,
    /// Bytes of what is over.
    pub(crate) kept_bytes: u64,
    /// Bytes of keys among them.
    pub(super) key_bytes: u64,
    /// Keys by the time of their use.
    pub(super) key_order: BTreeSet<(Timestamp, IdempotencyKey)>,
}

pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) configured: Option<Arc<Settings>>,
    pub(crate) closed: OrdMap<QueueId, Queue>,
    /// Tickets that are not over, by place.
    pub(crate) tickets: OrdMap<u64, Arc<Ticket>>,
    /// Tickets that are over, by place.
    pub(crate) over: OrdMap<u64, Arc<Ticket>>,
    pub(crate) formations: OrdMap<MatchId, Arc<Formation>>,
    pub(crate) withdrawing: OrdSet<MatchId>,
    pub(crate) offers: OrdMap<MatchId, Arc<Offered>>,
    pub(crate) rounds: OrdMap<QueueId, Round>,
    pub(crate) keys: OrdMap<IdempotencyKey, UsedKey>,
    pub(crate) index: Indexes,
    /// The time of the last event.
    pub(super) applied_at: Timestamp,
    /// Places of tickets that the last event has put on hold or released.
    pub(super) settled: Vec<u64>,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            seq: 0,
            settings: Arc::new(Settings::default()),
            configured: None,
            closed: OrdMap::new(),
            tickets: OrdMap::new(),
            over: OrdMap::new(),
            formations: OrdMap::new(),
            withdrawing: OrdSet::new(),
            offers: OrdMap::new(),
            rounds: OrdMap::new(),
            keys: OrdMap::new(),
            index: Indexes::default(),
            applied_at: Timestamp::ZERO,
            settled: Vec::new(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            seq: self.seq,
            settings: Arc::clone(&self.settings),
            configured: self.configured.clone(),
            closed: self.closed.clone(),
            tickets: self.tickets.clone(),
            over: self.over.clone(),
            formations: self.formations.clone(),
            withdrawing: self.withdrawing.clone(),
            offers: self.offers.clone(),
            rounds: self.rounds.clone(),
            keys: self.keys.clone(),
        }
    }

    /// The state of a snapshot, which is moved, not copied; only the indexes are rebuilt.
    pub(crate) fn restore(snapshot: Snapshot) -> Self {
        let Snapshot { seq, settings, configured, closed, tickets, over, .. } = snapshot;
        let Snapshot { formations, withdrawing, offers, rounds, keys, .. } = snapshot;
        let mut index = Indexes::default();
        index.firsts.configure(&settings, &closed);
        over.values().for_each(|ticket| index.enter_over(ticket));
        tickets.values().for_each(|ticket| index.enter_new(ticket));
        formations.values().for_each(|formation| index.enter_formation(formation));
        offers.values().for_each(|offered| index.enter_offer(offered));
        rounds.iter().for_each(|(queue, round)| index.enter_round(queue, round));
        keys.iter().for_each(|(key, used)| index.enter_key(key, used));
        let mut state = Self {
            seq,
            settings,
            configured,
            closed,
            tickets,
            over,
            formations,
            withdrawing,
            offers,
            rounds,
            keys,
            index,
            applied_at: Timestamp::ZERO,
            settled: Vec::new(),
        };
        state.count_busy();
        state
    }

    /// A queue that takes tickets, or still has some.
    pub(crate) fn queue(&self, id: &QueueId) -> Option<&Queue> {
        self.settings.queues.get(id).or_else(|| self.closed.get(id))
    }

    /// Every queue that takes tickets or still has some.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&QueueId, &Queue)> {
        self.settings.queues.iter().chain(&self.closed)
    }

    /// A ticket, over or not.
    pub(crate) fn find(&self, id: &TicketId) -> Option<&Ticket> {
        let places = self.index.by_id.find(hash(0, id.as_str()));
        let mut tickets =
            places.filter_map(|place| self.tickets.get(&place).or_else(|| self.over.get(&place)));
        tickets.find(|ticket| ticket.id == *id).map(Arc::as_ref)
    }

    /// A ticket that is not over.
    pub(crate) fn ticket(&self, id: &TicketId) -> Option<&Ticket> {
        let places = self.index.by_id.find(hash(0, id.as_str()));
        let mut tickets = places.filter_map(|place| self.tickets.get(&place));
        tickets.find(|ticket| ticket.id == *id).map(Arc::as_ref)
    }

    /// The place of a ticket that is not over.
    fn place(&self, id: &TicketId) -> Option<u64> {
        self.ticket(id).map(|ticket| ticket.place)
    }

    /// The place that a ticket has if it is not over. There is nearly always exactly one candidate for the hash of its
    /// id; that one is returned without comparing ids, because the caller is about to look it up anyway.
    fn likely_place(&self, id: &TicketId) -> Option<u64> {
        let mut places = self.index.by_id.find(hash(0, id.as_str()));
        let first = places.next()?;
        if places.next().is_none() { Some(first) } else { self.place(id) }
    }

    /// When a waiting ticket reaches its queue's maximum wait.
    pub(crate) fn expires_at(&self, ticket: &Ticket) -> Option<Timestamp> {
        Some(ticket.waits_since + self.queue(&ticket.queue)?.ticket_expiration)
    }

    /// Applies one event. Events about unknown things change nothing, so that no log can do harm.
    pub(crate) fn apply(&mut self, record: &Record<Event>) {
        self.seq = record.seq;
        self.applied_at = record.time;
        self.settled.clear();
        match &record.event {
            Event::Configured { settings } => {
                self.configure(settings);
                self.configured = Some(Arc::clone(settings));
            }
            Event::Reconfigured { settings } => self.configure(settings),
            Event::TicketStarted { .. }
            | Event::TicketChecked { .. }
            | Event::TicketCancelled { .. }
            | Event::TicketRenewed { .. }
            | Event::TicketFailed { .. }
            | Event::TicketTimedOut { .. } => self.apply_ticket(record),
            Event::MatchProposed { .. }
            | Event::MatchAccepted { .. }
            | Event::MatchChecked { .. }
            | Event::MatchFormed { .. }
            | Event::MatchSubmitted { .. }
            | Event::MatchDissolved { .. }
            | Event::MatchWithdrawn { .. }
            | Event::MatchReady { .. } => self.apply_match(record),
            Event::SeatsOffered { .. }
            | Event::SeatsWithdrawn { .. }
            | Event::SeatsTaken { .. }
            | Event::TicketSeated { .. }
            | Event::TicketReturned { .. } => self.apply_seats(record),
            Event::RoundBegun { queue, number, after, check } => {
                let round = Round { number: *number, after: *after, check: Some(check.clone()) };
                self.enter_round(queue.clone(), round);
            }
            Event::RoundEnded { queue, after } => {
                if let Some(mut round) = self.leave_round(queue) {
                    round.check = None;
                    round.after = *after;
                    self.enter_round(queue.clone(), round);
                }
            }
        }
        self.forget_old(record.time);
    }

    fn configure(&mut self, settings: &Arc<Settings>) {
        let before = core::mem::replace(&mut self.settings, Arc::clone(settings));
        let gone = before.queues.iter().filter(|(id, _)| !settings.queues.contains_key(*id));
        for (id, queue) in gone {
            if self.index.live.contains_key(id) {
                self.closed.insert(id.clone(), queue.clone());
            }
        }
        let again: Vec<_> =
            self.closed.keys().filter(|id| settings.queues.contains_key(*id)).cloned().collect();
        for id in again {
            self.closed.remove(&id);
        }
        self.index.reconfigure(&self.settings, &self.closed);
    }

    fn apply_ticket(&mut self, record: &Record<Event>) {
        let Record { seq, time: at, event } = record;
        match event {
            Event::TicketStarted { id, spec, queue, check, place } => {
                let place = self.free_place(place.as_ref(), *seq, *at);
                self.enter(Ticket {
                    id: id.clone(),
                    spec: Arc::clone(spec),
                    asked: None,
                    queue: queue.clone(),
                    place: place.number,
                    started_at: place.started_at,
                    waits_since: place.waits_since,
                    renewed_at: spec.ttl.map(|_| *at),
                    changed_seq: *seq,
                    requeues: place.requeues,
                    moves: 0,
                    replaced: place.replaced,
                    lost: place.lost,
                    state: state_after(check.as_ref()),
                });
            }
            Event::TicketChecked { id, spec, queue, check, moves } => self.update(id, |ticket| {
                if *spec != ticket.spec {
                    let before = core::mem::replace(&mut ticket.spec, Arc::clone(spec));
                    ticket.asked.get_or_insert(before);
                }
                ticket.queue = queue.clone();
                ticket.moves = *moves;
                ticket.state = state_after(check.as_ref());
            }),
            Event::TicketCancelled { ticket, cause } => {
                self.end(&ticket.ticket, *seq, *at, TicketEnd::Cancelled(*cause));
            }
            Event::TicketRenewed { id } => self.renew(id, *at),
            Event::TicketFailed { ticket, cause, detail, hook, match_id } => {
                let (detail, hook, match_id) = (Arc::clone(detail), hook.clone(), match_id.clone());
                let end = TicketEnd::Failed { cause: *cause, detail, hook, match_id };
                self.end(&ticket.ticket, *seq, *at, end);
            }
            Event::TicketTimedOut { ticket } => self.end(&ticket.ticket, *seq, *at, TicketEnd::TimedOut),
            _ => {}
        }
    }

    fn apply_match(&mut self, record: &Record<Event>) {
        let Record { seq, time: at, event } = record;
        match event {
            Event::MatchProposed { id, queue, teams, region, spec, accept_until, check } => {
                let stage = match (accept_until, check) {
                    (Some(until), _) => Stage::Accepting { until: *until, accepted: BTreeSet::new() },
                    (None, Some(check)) => Stage::Checking(check.clone()),
                    (None, None) => Stage::FindingServer { submitted: false },
                };
                for named in teams.iter().flatten() {
                    let state = TicketState::Proposed { match_id: id.clone(), since: *at };
                    self.update(&named.ticket, |ticket| ticket.state = state);
                }
                let (id, queue, region) = (id.clone(), queue.clone(), region.clone());
                let (teams, spec) = (Arc::clone(teams), Arc::clone(spec));
                self.enter_formation(Formation { id, queue, teams, region, spec, stage });
            }
            Event::MatchAccepted { id, player } => {
                self.renew_of(player, *at);
                self.update_formation(id, |formation| {
                    if let Stage::Accepting { accepted, .. } = &mut formation.stage {
                        accepted.insert(player.clone());
                    }
                });
            }
            Event::MatchChecked { id, spec, check } => self.update_formation(id, |formation| {
                formation.spec = Arc::clone(spec);
                formation.stage = Stage::Checking(check.clone());
            }),
            Event::MatchFormed { id, queue, teams, region, spec } => {
                self.leave_formation(id);
                for named in teams.iter().flatten() {
                    self.update(&named.ticket, |ticket| find_server(ticket, id, *at));
                }
                let (id, queue, region) = (id.clone(), queue.clone(), region.clone());
                let (teams, spec) = (Arc::clone(teams), Arc::clone(spec));
                let stage = Stage::FindingServer { submitted: false };
                self.enter_formation(Formation { id, queue, teams, region, spec, stage });
            }
            Event::MatchSubmitted { id } => self.update_formation(id, |formation| {
                formation.stage = Stage::FindingServer { submitted: true };
            }),
            Event::MatchDissolved { id, cause, returned, withdraw, reason, .. } => {
                self.leave_formation(id);
                if *withdraw {
                    self.withdrawing.insert(id.clone());
                }
                let is_lost = matches!(cause, DissolveCause::NoServer | DissolveCause::Ended);
                let lost =
                    is_lost.then(|| Arc::new(LostMatch { match_id: id.clone(), reason: Arc::clone(reason) }));
                for named in returned {
                    self.take_back(&named.ticket, id, *at, lost.as_ref());
                }
            }
            Event::MatchWithdrawn { id } => {
                self.withdrawing.remove(id);
            }
            Event::MatchReady { id, tickets, connection } => {
                self.leave_formation(id);
                for named in tickets {
                    let (match_id, connection) = (id.clone(), of_players(connection, &named.players));
                    self.end(&named.ticket, *seq, *at, TicketEnd::Completed { match_id, connection });
                }
            }
            _ => {}
        }
    }

    fn apply_seats(&mut self, record: &Record<Event>) {
        let Record { seq, time: at, event } = record;
        match event {
            Event::SeatsOffered { offer } => self.offer(offer, *seq),
            Event::SeatsWithdrawn { match_id } => self.update_offer(match_id, |offered| offered.free = 0),
            Event::SeatsTaken { match_id, ticket, until } => {
                let needs = u32::try_from(ticket.players.len()).unwrap_or(u32::MAX);
                self.update_offer(match_id, |offered| {
                    offered.free = offered.free.saturating_sub(needs);
                    offered.seating.insert(ticket.ticket.clone(), (needs, *until));
                });
                let state = TicketState::Seating { match_id: match_id.clone(), since: *at };
                self.update(&ticket.ticket, |ticket| ticket.state = state);
            }
            Event::TicketSeated { match_id, ticket, connection } => {
                self.leave_seats(match_id, &ticket.ticket);
                let (match_id, connection) = (match_id.clone(), of_players(connection, &ticket.players));
                self.end(&ticket.ticket, *seq, *at, TicketEnd::Completed { match_id, connection });
            }
            Event::TicketReturned { match_id, ticket } => {
                self.leave_seats(match_id, &ticket.ticket);
                self.take_back(&ticket.ticket, match_id, *at, None);
            }
            _ => {}
        }
    }

    fn offer(&mut self, offer: &Arc<SeatOffer>, seq: u64) {
        let seating = self.leave_offer(&offer.match_id).map(|offered| offered.seating.clone());
        let seating = seating.unwrap_or_default();
        let promised: u32 = seating.values().map(|(needs, _)| *needs).sum();
        let free = offer.seats.saturating_sub(promised);
        self.enter_offer(Arc::new(Offered { offer: Arc::clone(offer), place: seq, seating, free }));
    }

    fn leave_seats(&mut self, match_id: &MatchId, ticket: &TicketId) {
        self.update_offer(match_id, |offered| {
            offered.seating.remove(ticket);
        });
    }

    /// The time in a match that was dissolved does not count as waiting. `lost` is that match if no server was found
    /// for it.
    fn take_back(&mut self, id: &TicketId, from: &MatchId, at: Timestamp, lost: Option<&Arc<LostMatch>>) {
        self.update(id, |ticket| {
            let since = match &ticket.state {
                TicketState::Proposed { match_id, since }
                | TicketState::FindingServer { match_id, since }
                | TicketState::Seating { match_id, since }
                    if match_id == from =>
                {
                    *since
                }
                _ => return,
            };
            ticket.waits_since = ticket.waits_since + at.since(since);
            if let Some(lost) = lost {
                ticket.requeues += 1;
                ticket.lost = Some(Arc::clone(lost));
            }
            ticket.state = TicketState::Waiting;
        });
    }
}

/// The connection details for these players only: each ticket of a match keeps its own.
fn of_players(connection: &Arc<Connection>, players: &[PlayerId]) -> Arc<Connection> {
    if connection.per_player.keys().all(|player| players.contains(player)) {
        return Arc::clone(connection);
    }
    let own = players.iter().filter_map(|player| connection.per_player.get_key_value(player));
    let per_player = own.map(|(player, details)| (player.clone(), Arc::clone(details))).collect();
    Arc::new(Connection { details: Arc::clone(&connection.details), per_player })
}

fn state_after(check: Option<&Check>) -> TicketState {
    check.map_or(TicketState::Waiting, |check| TicketState::Validating(check.clone()))
}

fn find_server(ticket: &mut Ticket, id: &MatchId, at: Timestamp) {
    let since = match &ticket.state {
        TicketState::Proposed { since, .. } => *since,
        _ => at,
    };
    ticket.state = TicketState::FindingServer { match_id: id.clone(), since };
}

impl Indexes {
    fn enter(&mut self, ticket: &Ticket) {
        self.enter_kept_alive(ticket);
        *self.live.entry(ticket.queue.clone()).or_default() += 1;
        match &ticket.state {
            TicketState::Waiting => {
                let line = self.lines.entry(ticket.queue.clone()).or_default();
                line.by_place.insert(ticket.place, ticket.id.clone());
                line.by_since.insert((ticket.waits_since, ticket.place));
                line.ranks.insert(ticket.place);
                self.firsts.note_line(&ticket.queue, line);
            }
            TicketState::Validating(check) => {
                self.enter_deadline(&ticket.queue, check.until, Owner::Ticket(ticket.id.clone()));
            }
            _ => {}
        }
    }

    fn leave(&mut self, ticket: &Ticket) {
        self.leave_kept_alive(ticket);
        match &ticket.state {
            TicketState::Waiting => {
                if let Some(line) = self.lines.get_mut(&ticket.queue)
                    && line.by_place.remove(&ticket.place).is_some()
                {
                    line.by_since.remove(&(ticket.waits_since, ticket.place));
                    line.ranks.remove(ticket.place);
                    self.firsts.note_line(&ticket.queue, line);
                    if line.by_place.is_empty() {
                        self.lines.remove(&ticket.queue);
                    }
                }
            }
            TicketState::Validating(check) => {
                self.leave_deadline(&ticket.queue, check.until, Owner::Ticket(ticket.id.clone()));
            }
            _ => {}
        }
        if let Some(live) = self.live.get_mut(&ticket.queue) {
            *live -= 1;
            if *live == 0 {
                self.live.remove(&ticket.queue);
            }
        }
    }
}

/// The rest of the indexes.
impl Indexes {
    /// Adds a ticket that is not over.
    fn enter_new(&mut self, ticket: &Ticket) {
        self.enter_players(ticket);
        if let Some(key) = &ticket.spec.idempotency_key {
            self.by_key.insert(key.clone(), ticket.id.clone());
        }
        self.by_id.insert(hash(0, ticket.id.as_str()), ticket.place);
        self.waiting_bytes += bytes(ticket);
        self.enter(ticket);
    }

    fn enter_formation(&mut self, formation: &Formation) {
        self.waiting_bytes += bytes(formation);
        if let Some(until) = deadline(&formation.stage) {
            self.enter_deadline(&formation.queue, until, Owner::Formation(formation.id.clone()));
        }
    }

    fn leave_formation(&mut self, formation: &Formation) {
        self.waiting_bytes -= bytes(formation);
        if let Some(until) = deadline(&formation.stage) {
            self.leave_deadline(&formation.queue, until, Owner::Formation(formation.id.clone()));
        }
    }

    fn enter_offer(&mut self, offered: &Offered) {
        self.waiting_bytes += bytes(offered);
        let id = &offered.offer.match_id;
        if offered.free > 0 {
            let open = self.open_offers.entry(offered.offer.queue.clone()).or_default();
            open.insert((offered.place, id.clone()));
        }
        for (ticket, (_, until)) in &offered.seating {
            let owner = Owner::Seating(id.clone(), ticket.clone());
            self.enter_deadline(&offered.offer.queue, *until, owner);
        }
    }

    fn leave_offer(&mut self, offered: &Offered) {
        self.waiting_bytes -= bytes(offered);
        let id = &offered.offer.match_id;
        if let Some(open) = self.open_offers.get_mut(&offered.offer.queue) {
            open.remove(&(offered.place, id.clone()));
            if open.is_empty() {
                self.open_offers.remove(&offered.offer.queue);
            }
        }
        for (ticket, (_, until)) in &offered.seating {
            let owner = Owner::Seating(id.clone(), ticket.clone());
            self.leave_deadline(&offered.offer.queue, *until, owner);
        }
    }

    fn enter_round(&mut self, queue: &QueueId, round: &Round) {
        if let Some(check) = &round.check {
            self.enter_deadline(queue, check.until, Owner::Round(queue.clone()));
        }
    }

    fn enter_deadline(&mut self, queue: &QueueId, at: Timestamp, owner: Owner) {
        let of_queue = self.deadlines.entry(queue.clone()).or_default();
        let before = first(of_queue);
        of_queue.insert((at, owner));
        self.firsts.note_deadline(queue, before, first(of_queue));
    }

    fn leave_deadline(&mut self, queue: &QueueId, at: Timestamp, owner: Owner) {
        let Some(of_queue) = self.deadlines.get_mut(queue) else { return };
        let before = first(of_queue);
        of_queue.remove(&(at, owner));
        self.firsts.note_deadline(queue, before, first(of_queue));
        if of_queue.is_empty() {
            self.deadlines.remove(queue);
        }
    }

    /// The settings changed, or the set of queues that are no longer configured but have tickets.
    fn reconfigure(&mut self, settings: &Settings, closed: &OrdMap<QueueId, Queue>) {
        self.firsts.configure(settings, closed);
        for (queue, line) in &mut self.lines {
            self.firsts.note_line(queue, line);
        }
    }
}

/// The ticket's bytes, for a budget.
pub(super) fn bytes(thing: &impl Size) -> u64 {
    thing.byte_size() as u64
}

/// Keeping state and indexes together.
impl State {
    fn enter(&mut self, ticket: Ticket) {
        if let Some(key) = &ticket.spec.idempotency_key {
            self.forget_key(key);
        }
        self.index.enter_new(&ticket);
        let place = ticket.place;
        self.tickets.insert(place, Arc::new(ticket));
        if self.has_several() {
            self.note_busy(place);
            self.settle(place, false);
        }
    }

    fn update(&mut self, id: &TicketId, change: impl FnOnce(&mut Ticket)) {
        let Some(place) = self.likely_place(id) else { return };
        let Some(ticket) = self.tickets.get(&place).filter(|ticket| ticket.id == *id) else { return };
        let was_in_match = ticket.is_in_match();
        self.change(place, change);
        if self.has_several() {
            self.settle(place, was_in_match);
        }
    }

    /// Changes the ticket at `place` by the event being applied.
    pub(super) fn change(&mut self, place: u64, change: impl FnOnce(&mut Ticket)) {
        let size =
            |tickets: &OrdMap<u64, Arc<Ticket>>| tickets.get(&place).map_or(0, |ticket| bytes(&**ticket));
        self.index.waiting_bytes -= size(&self.tickets);
        self.change_within(place, change);
        self.index.waiting_bytes += size(&self.tickets);
    }

    /// The same, if its size in bytes stays the same.
    pub(super) fn change_within(&mut self, place: u64, change: impl FnOnce(&mut Ticket)) {
        let Some(ticket) = self.tickets.get_mut(&place) else { return };
        self.index.leave(ticket);
        let changed = Arc::make_mut(ticket);
        change(changed);
        changed.changed_seq = self.seq;
        self.index.enter(changed);
    }

    fn end(&mut self, id: &TicketId, seq: u64, at: Timestamp, end: TicketEnd) {
        let place = self.place(id);
        let Some(mut ticket) = place.and_then(|place| self.tickets.remove(&place)) else { return };
        self.index.leave(&ticket);
        self.index.waiting_bytes -= bytes(&*ticket);
        let frees_others = self.has_several() && ticket.is_in_match();
        self.index.leave_players(&ticket);
        self.index.busy.remove(&ticket.place);
        if let TicketState::Seating { match_id, .. } = &ticket.state {
            let match_id = match_id.clone();
            self.leave_seats(&match_id, id);
        }
        if !self.index.live.contains_key(&ticket.queue) {
            self.closed.remove(&ticket.queue);
        }
        let over = Arc::make_mut(&mut ticket);
        if end == TicketEnd::Cancelled(CancelCause::Replaced) {
            self.index.by_id.remove(hash(0, over.id.as_str()), over.place);
            over.place = seq;
        }
        over.state = TicketState::Over { at, end };
        over.changed_seq = seq;
        self.index.enter_over(over);
        let (place, spec) = (over.place, Arc::clone(&over.spec));
        self.over.insert(place, ticket);
        if frees_others {
            self.settle_others(&spec, place, false);
        }
    }

    fn enter_formation(&mut self, formation: Formation) {
        self.index.enter_formation(&formation);
        self.formations.insert(formation.id.clone(), Arc::new(formation));
    }

    fn leave_formation(&mut self, id: &MatchId) {
        if let Some(formation) = self.formations.remove(id) {
            self.index.leave_formation(&formation);
        }
    }

    fn update_formation(&mut self, id: &MatchId, change: impl FnOnce(&mut Formation)) {
        let Some(formation) = self.formations.get_mut(id) else { return };
        self.index.leave_formation(formation);
        let changed = Arc::make_mut(formation);
        change(changed);
        self.index.enter_formation(changed);
    }

    /// An offer without free seats is forgotten once its last ticket is seated.
    fn enter_offer(&mut self, offered: Arc<Offered>) {
        if offered.free == 0 && offered.seating.is_empty() {
            return;
        }
        self.index.enter_offer(&offered);
        self.offers.insert(offered.offer.match_id.clone(), offered);
    }

    fn leave_offer(&mut self, id: &MatchId) -> Option<Arc<Offered>> {
        let offered = self.offers.remove(id)?;
        self.index.leave_offer(&offered);
        Some(offered)
    }

    fn update_offer(&mut self, id: &MatchId, change: impl FnOnce(&mut Offered)) {
        let Some(mut offered) = self.leave_offer(id) else { return };
        change(Arc::make_mut(&mut offered));
        self.enter_offer(offered);
    }

    fn enter_round(&mut self, queue: QueueId, round: Round) {
        self.leave_round(&queue);
        self.index.enter_round(&queue, &round);
        self.rounds.insert(queue, round);
    }

    fn leave_round(&mut self, queue: &QueueId) -> Option<Round> {
        let round = self.rounds.remove(queue)?;
        if let Some(check) = &round.check {
            self.index.leave_deadline(queue, check.until, Owner::Round(queue.clone()));
        }
        Some(round)
    }

    /// A ticket and its players, as events name them.
    pub(crate) fn named(&self, id: &TicketId) -> Option<Named> {
        let ticket = self.ticket(id)?;
        Some(Named { ticket: id.clone(), players: ticket.spec.player_ids() })
    }
}

const fn deadline(stage: &Stage) -> Option<Timestamp> {
    match stage {
        Stage::Accepting { until, .. } => Some(*until),
        Stage::Checking(check) => Some(check.until),
        Stage::FindingServer { .. } => None,
    }
}
