//! The durable state of the matchmaker and the indexes over it. Events are applied here and nowhere else.
//!
//! Every index is a function of the records alone: a ticket leaves its indexes before it changes and enters them again
//! after. What speeds up the forming of matches depends on the time as well, so it is kept beside (`pools`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event::Event;
use super::model::{
    Check, DissolveCause, Formation, Named, Offered, Round, SeatOffer, Stage, Ticket, TicketEnd, TicketState,
};
use super::names::{Names, hash};
use super::settings::{Queue, Settings};
use crate::broker::ranks::Ranks;
use crate::ids::{IdempotencyKey, MatchId, PlayerId, QueueId, TicketId};
use crate::machine::Record;
use crate::time::Timestamp;

/// Tickets that are over and can still be asked about; the oldest go first, before their time if need be.
pub const OVER_KEPT: usize = 1_000_000;
/// Statuses beyond their time that are forgotten with one event.
const FORGOTTEN_PER_EVENT: usize = 16;

/// The whole durable state as plain data, each list in a fixed order.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// Sequence number of the last event in it.
    pub seq: u64,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// Queues that are no longer configured and have tickets left.
    pub closed: Vec<(QueueId, Queue)>,
    /// Tickets that are not over, oldest first.
    pub tickets: Vec<Ticket>,
    /// Tickets that are over, oldest first.
    pub over: Vec<Ticket>,
    /// Matches that are being made, by id.
    pub formations: Vec<Formation>,
    /// Matches that nobody wants any more, by id.
    pub withdrawing: Vec<MatchId>,
    /// Offers of free seats, by match.
    pub offers: Vec<Offered>,
    /// Rounds of hooks that form matches.
    pub rounds: Vec<(QueueId, Round)>,
}

/// Whatever has a deadline of its own.
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
    /// By when their wait began to count.
    pub(crate) by_since: BTreeSet<(Timestamp, u64)>,
    pub(crate) ranks: Ranks,
}

/// Derived from the records.
#[derive(Default)]
pub(crate) struct Indexes {
    /// Places of tickets, over or not, by their ids.
    by_id: Names,
    /// Places of tickets that are not over, by their players' ids.
    by_player: Names,
    pub(crate) by_key: BTreeMap<IdempotencyKey, TicketId>,
    pub(crate) lines: BTreeMap<QueueId, Line>,
    /// How many tickets that are not over each queue has.
    pub(crate) live: BTreeMap<QueueId, usize>,
    pub(crate) deadlines: BTreeSet<(Timestamp, Owner)>,
    /// Offers with free seats, oldest first.
    pub(crate) open_offers: BTreeMap<QueueId, BTreeSet<(u64, MatchId)>>,
    /// Places of tickets that are over: when, and by which event.
    over_order: BTreeSet<(Timestamp, u64, u64)>,
}

pub(crate) struct State {
    pub(crate) seq: u64,
    pub(crate) settings: Arc<Settings>,
    pub(crate) closed: BTreeMap<QueueId, Queue>,
    /// Tickets that are not over, by place.
    pub(crate) tickets: BTreeMap<u64, Ticket>,
    /// Tickets that are over, by place.
    pub(crate) over: BTreeMap<u64, Ticket>,
    pub(crate) formations: BTreeMap<MatchId, Formation>,
    pub(crate) withdrawing: BTreeSet<MatchId>,
    pub(crate) offers: BTreeMap<MatchId, Offered>,
    pub(crate) rounds: BTreeMap<QueueId, Round>,
    pub(crate) index: Indexes,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            seq: 0,
            settings: Arc::new(Settings::default()),
            closed: BTreeMap::new(),
            tickets: BTreeMap::new(),
            over: BTreeMap::new(),
            formations: BTreeMap::new(),
            withdrawing: BTreeSet::new(),
            offers: BTreeMap::new(),
            rounds: BTreeMap::new(),
            index: Indexes::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let order = self.index.over_order.iter();
        Snapshot {
            seq: self.seq,
            settings: Arc::clone(&self.settings),
            closed: self.closed.iter().map(|(id, queue)| (id.clone(), queue.clone())).collect(),
            tickets: self.tickets.values().cloned().collect(),
            over: order.filter_map(|(_, _, place)| self.over.get(place).cloned()).collect(),
            formations: self.formations.values().cloned().collect(),
            withdrawing: self.withdrawing.iter().cloned().collect(),
            offers: self.offers.values().cloned().collect(),
            rounds: self.rounds.iter().map(|(id, round)| (id.clone(), round.clone())).collect(),
        }
    }

    pub(crate) fn restore(snapshot: Snapshot) -> Self {
        let mut state = Self::new();
        state.seq = snapshot.seq;
        state.settings = snapshot.settings;
        state.closed = snapshot.closed.into_iter().collect();
        for ticket in snapshot.over {
            state.enter_over(ticket);
        }
        for ticket in snapshot.tickets {
            state.enter(ticket);
        }
        for formation in snapshot.formations {
            state.enter_formation(formation);
        }
        state.withdrawing = snapshot.withdrawing.into_iter().collect();
        for offered in snapshot.offers {
            state.enter_offer(offered);
        }
        for (queue, round) in snapshot.rounds {
            state.enter_round(queue, round);
        }
        state
    }

    /// A queue that takes tickets, or one that has some left.
    pub(crate) fn queue(&self, id: &QueueId) -> Option<&Queue> {
        self.settings.queues.get(id).or_else(|| self.closed.get(id))
    }

    /// Every queue that takes tickets or has some left.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (&QueueId, &Queue)> {
        self.settings.queues.iter().chain(&self.closed)
    }

    /// A ticket, over or not.
    pub(crate) fn find(&self, id: &TicketId) -> Option<&Ticket> {
        let places = self.index.by_id.find(hash(0, id.as_str()));
        let mut tickets =
            places.filter_map(|place| self.tickets.get(&place).or_else(|| self.over.get(&place)));
        tickets.find(|ticket| ticket.id == *id)
    }

    /// A ticket that is not over.
    pub(crate) fn ticket(&self, id: &TicketId) -> Option<&Ticket> {
        let places = self.index.by_id.find(hash(0, id.as_str()));
        let mut tickets = places.filter_map(|place| self.tickets.get(&place));
        tickets.find(|ticket| ticket.id == *id)
    }

    /// The place of a ticket that is not over.
    fn place(&self, id: &TicketId) -> Option<u64> {
        self.ticket(id).map(|ticket| ticket.place)
    }

    /// The place that a ticket has if it is not over: nearly always there is one for the hash of its id, and then the ticket
    /// there, which the caller is about to look up, is not looked at.
    fn likely_place(&self, id: &TicketId) -> Option<u64> {
        let mut places = self.index.by_id.find(hash(0, id.as_str()));
        let first = places.next()?;
        if places.next().is_none() { Some(first) } else { self.place(id) }
    }

    /// The ticket of a player that is not over.
    pub(crate) fn ticket_of(&self, player: &PlayerId) -> Option<&Ticket> {
        let places = self.index.by_player.find(hash(0, player.as_str()));
        let mut tickets = places.filter_map(|place| self.tickets.get(&place));
        tickets.find(|ticket| ticket.spec.players().any(|of| of.id == *player))
    }

    /// When a waiting ticket has waited as long as its queue lets it.
    pub(crate) fn expires_at(&self, ticket: &Ticket) -> Option<Timestamp> {
        Some(ticket.waits_since + self.queue(&ticket.queue)?.ticket_expiration)
    }

    /// Applies one event. Events about things that are not there change nothing, so that no log can do harm.
    pub(crate) fn apply(&mut self, record: &Record<Event>) {
        self.seq = record.seq;
        match &record.event {
            Event::Configured { settings } => self.configure(settings),
            Event::TicketStarted { .. }
            | Event::TicketChecked { .. }
            | Event::TicketCancelled { .. }
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
        self.closed.retain(|id, _| !settings.queues.contains_key(id));
    }

    fn apply_ticket(&mut self, record: &Record<Event>) {
        let Record { seq, time: at, event } = record;
        match event {
            Event::TicketStarted { id, spec, queue, check } => self.enter(Ticket {
                id: id.clone(),
                spec: Arc::clone(spec),
                asked: None,
                queue: queue.clone(),
                place: *seq,
                started_at: *at,
                waits_since: *at,
                changed_seq: *seq,
                requeues: 0,
                state: state_after(check.as_ref()),
            }),
            Event::TicketChecked { id, spec, queue, check } => self.update(id, *seq, |ticket| {
                if *spec != ticket.spec {
                    let before = core::mem::replace(&mut ticket.spec, Arc::clone(spec));
                    ticket.asked.get_or_insert(before);
                }
                ticket.queue = queue.clone();
                ticket.state = state_after(check.as_ref());
            }),
            Event::TicketCancelled { ticket, cause } => {
                self.end(&ticket.ticket, *seq, *at, TicketEnd::Cancelled(*cause));
            }
            Event::TicketFailed { ticket, cause, detail } => {
                let end = TicketEnd::Failed { cause: *cause, detail: Arc::clone(detail) };
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
                    self.update(&named.ticket, *seq, |ticket| ticket.state = state);
                }
                let (id, queue, region) = (id.clone(), queue.clone(), region.clone());
                let (teams, spec) = (Arc::clone(teams), Arc::clone(spec));
                self.enter_formation(Formation { id, queue, teams, region, spec, stage });
            }
            Event::MatchAccepted { id, player } => self.update_formation(id, |formation| {
                if let Stage::Accepting { accepted, .. } = &mut formation.stage {
                    accepted.insert(player.clone());
                }
            }),
            Event::MatchChecked { id, spec, check } => self.update_formation(id, |formation| {
                formation.spec = Arc::clone(spec);
                formation.stage = Stage::Checking(check.clone());
            }),
            Event::MatchFormed { id, queue, teams, region, spec } => {
                self.leave_formation(id);
                for named in teams.iter().flatten() {
                    self.update(&named.ticket, *seq, |ticket| find_server(ticket, id, *at));
                }
                let (id, queue, region) = (id.clone(), queue.clone(), region.clone());
                let (teams, spec) = (Arc::clone(teams), Arc::clone(spec));
                let stage = Stage::FindingServer { submitted: false };
                self.enter_formation(Formation { id, queue, teams, region, spec, stage });
            }
            Event::MatchSubmitted { id } => self.update_formation(id, |formation| {
                formation.stage = Stage::FindingServer { submitted: true };
            }),
            Event::MatchDissolved { id, cause, returned, withdraw, .. } => {
                self.leave_formation(id);
                if *withdraw {
                    self.withdrawing.insert(id.clone());
                }
                for named in returned {
                    self.take_back(&named.ticket, id, *seq, *at, *cause);
                }
            }
            Event::MatchWithdrawn { id } => {
                self.withdrawing.remove(id);
            }
            Event::MatchReady { id, tickets, connection } => {
                self.leave_formation(id);
                for named in tickets {
                    let (match_id, connection) = (id.clone(), Arc::clone(connection));
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
                self.update(&ticket.ticket, *seq, |ticket| ticket.state = state);
            }
            Event::TicketSeated { match_id, ticket, connection } => {
                self.leave_seats(match_id, &ticket.ticket);
                let (match_id, connection) = (match_id.clone(), Arc::clone(connection));
                self.end(&ticket.ticket, *seq, *at, TicketEnd::Completed { match_id, connection });
            }
            Event::TicketReturned { match_id, ticket } => {
                self.leave_seats(match_id, &ticket.ticket);
                self.take_back(&ticket.ticket, match_id, *seq, *at, DissolveCause::Cancelled);
            }
            _ => {}
        }
    }

    fn offer(&mut self, offer: &Arc<SeatOffer>, seq: u64) {
        let seating = self.leave_offer(&offer.match_id).map(|offered| offered.seating).unwrap_or_default();
        let promised: u32 = seating.values().map(|(needs, _)| *needs).sum();
        let free = offer.seats.saturating_sub(promised);
        self.enter_offer(Offered { offer: Arc::clone(offer), place: seq, seating, free });
    }

    fn leave_seats(&mut self, match_id: &MatchId, ticket: &TicketId) {
        self.update_offer(match_id, |offered| {
            offered.seating.remove(ticket);
        });
    }

    /// The time in a match that came to nothing does not count as waiting.
    fn take_back(&mut self, id: &TicketId, from: &MatchId, seq: u64, at: Timestamp, cause: DissolveCause) {
        self.update(id, seq, |ticket| {
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
            ticket.requeues += u32::from(matches!(cause, DissolveCause::NoServer | DissolveCause::Ended));
            ticket.state = TicketState::Waiting;
        });
    }

    /// Statuses are kept for a time only, and by the log's own clock, so that a replay forgets the same ones. Some with
    /// each event, so that none takes long after a pause; a ticket has more events than one in this many.
    fn forget_old(&mut self, now: Timestamp) {
        let kept = self.settings.status_expiration;
        let mut most = FORGOTTEN_PER_EVENT;
        while let Some((at, _, _)) = self.index.over_order.first() {
            let expired = *at + kept <= now && most > 0;
            if !expired && self.over.len() <= OVER_KEPT {
                break;
            }
            most = most.saturating_sub(1);
            let Some((_, _, place)) = self.index.over_order.pop_first() else { break };
            let Some(ticket) = self.over.remove(&place) else { continue };
            self.index.by_id.remove(hash(0, ticket.id.as_str()), place);
            if let Some(key) = &ticket.spec.idempotency_key
                && self.index.by_key.get(key) == Some(&ticket.id)
            {
                self.index.by_key.remove(key);
            }
        }
    }
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
        *self.live.entry(ticket.queue.clone()).or_default() += 1;
        match &ticket.state {
            TicketState::Waiting => {
                let line = self.lines.entry(ticket.queue.clone()).or_default();
                line.by_place.insert(ticket.place, ticket.id.clone());
                line.by_since.insert((ticket.waits_since, ticket.place));
                line.ranks.insert(ticket.place);
            }
            TicketState::Validating(check) => {
                self.deadlines.insert((check.until, Owner::Ticket(ticket.id.clone())));
            }
            _ => {}
        }
    }

    fn leave(&mut self, ticket: &Ticket) {
        match &ticket.state {
            TicketState::Waiting => {
                if let Some(line) = self.lines.get_mut(&ticket.queue)
                    && line.by_place.remove(&ticket.place).is_some()
                {
                    line.by_since.remove(&(ticket.waits_since, ticket.place));
                    line.ranks.remove(ticket.place);
                    if line.by_place.is_empty() {
                        self.lines.remove(&ticket.queue);
                    }
                }
            }
            TicketState::Validating(check) => {
                self.deadlines.remove(&(check.until, Owner::Ticket(ticket.id.clone())));
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

/// Keeping the indexes.
impl State {
    fn enter(&mut self, ticket: Ticket) {
        for player in ticket.spec.players() {
            self.index.by_player.insert(hash(0, player.id.as_str()), ticket.place);
        }
        if let Some(key) = &ticket.spec.idempotency_key {
            self.index.by_key.insert(key.clone(), ticket.id.clone());
        }
        self.index.by_id.insert(hash(0, ticket.id.as_str()), ticket.place);
        self.index.enter(&ticket);
        self.tickets.insert(ticket.place, ticket);
    }

    fn update(&mut self, id: &TicketId, seq: u64, change: impl FnOnce(&mut Ticket)) {
        let place = self.likely_place(id);
        let ticket = place.and_then(|place| self.tickets.get_mut(&place)).filter(|ticket| ticket.id == *id);
        let Some(ticket) = ticket else { return };
        self.index.leave(ticket);
        change(ticket);
        ticket.changed_seq = seq;
        self.index.enter(ticket);
    }

    fn end(&mut self, id: &TicketId, seq: u64, at: Timestamp, end: TicketEnd) {
        let place = self.place(id);
        let Some(mut ticket) = place.and_then(|place| self.tickets.remove(&place)) else { return };
        self.index.leave(&ticket);
        for player in ticket.spec.players() {
            self.index.by_player.remove(hash(0, player.id.as_str()), ticket.place);
        }
        if let TicketState::Seating { match_id, .. } = &ticket.state {
            let match_id = match_id.clone();
            self.leave_seats(&match_id, id);
        }
        if !self.index.live.contains_key(&ticket.queue) {
            self.closed.remove(&ticket.queue);
        }
        ticket.state = TicketState::Over { at, end };
        ticket.changed_seq = seq;
        self.enter_over(ticket);
    }

    fn enter_over(&mut self, ticket: Ticket) {
        let TicketState::Over { at, .. } = &ticket.state else { return };
        self.index.over_order.insert((*at, ticket.changed_seq, ticket.place));
        self.index.by_id.insert(hash(0, ticket.id.as_str()), ticket.place);
        if let Some(key) = &ticket.spec.idempotency_key {
            self.index.by_key.insert(key.clone(), ticket.id.clone());
        }
        self.over.insert(ticket.place, ticket);
    }

    fn enter_formation(&mut self, formation: Formation) {
        if let Some(until) = deadline(&formation.stage) {
            self.index.deadlines.insert((until, Owner::Formation(formation.id.clone())));
        }
        self.formations.insert(formation.id.clone(), formation);
    }

    fn leave_formation(&mut self, id: &MatchId) -> Option<Formation> {
        let formation = self.formations.remove(id)?;
        if let Some(until) = deadline(&formation.stage) {
            self.index.deadlines.remove(&(until, Owner::Formation(id.clone())));
        }
        Some(formation)
    }

    fn update_formation(&mut self, id: &MatchId, change: impl FnOnce(&mut Formation)) {
        let Some(mut formation) = self.leave_formation(id) else { return };
        change(&mut formation);
        self.enter_formation(formation);
    }

    /// An offer without free seats whose last ticket has come is forgotten.
    fn enter_offer(&mut self, offered: Offered) {
        let id = &offered.offer.match_id;
        if offered.free == 0 && offered.seating.is_empty() {
            return;
        }
        if offered.free > 0 {
            let open = self.index.open_offers.entry(offered.offer.queue.clone()).or_default();
            open.insert((offered.place, id.clone()));
        }
        for (ticket, (_, until)) in &offered.seating {
            self.index.deadlines.insert((*until, Owner::Seating(id.clone(), ticket.clone())));
        }
        self.offers.insert(id.clone(), offered);
    }

    fn leave_offer(&mut self, id: &MatchId) -> Option<Offered> {
        let offered = self.offers.remove(id)?;
        if let Some(open) = self.index.open_offers.get_mut(&offered.offer.queue) {
            open.remove(&(offered.place, id.clone()));
            if open.is_empty() {
                self.index.open_offers.remove(&offered.offer.queue);
            }
        }
        for (ticket, (_, until)) in &offered.seating {
            self.index.deadlines.remove(&(*until, Owner::Seating(id.clone(), ticket.clone())));
        }
        Some(offered)
    }

    fn update_offer(&mut self, id: &MatchId, change: impl FnOnce(&mut Offered)) {
        let Some(mut offered) = self.leave_offer(id) else { return };
        change(&mut offered);
        self.enter_offer(offered);
    }

    fn enter_round(&mut self, queue: QueueId, round: Round) {
        self.leave_round(&queue);
        if let Some(check) = &round.check {
            self.index.deadlines.insert((check.until, Owner::Round(queue.clone())));
        }
        self.rounds.insert(queue, round);
    }

    fn leave_round(&mut self, queue: &QueueId) -> Option<Round> {
        let round = self.rounds.remove(queue)?;
        if let Some(check) = &round.check {
            self.index.deadlines.remove(&(check.until, Owner::Round(queue.clone())));
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
