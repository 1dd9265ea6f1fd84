//! Which server gets which match, and when a new server is ordered.
//!
//! A match goes to the longest-waiting server that it fits; a server gets the oldest match that fits it. Servers are
//! ordered according to `fast_schedule`, from the first fleet in order of preference that may take the match, has room
//! and has not just failed. A fleet's terms apply to both (see `fleets`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::askers::First;
use super::classes::Class;
use super::command::Offer;
use super::event::Event;
use super::fleets::Filter;
use super::free::{FreeServers, Rank};
use super::idle::Idle;
use super::looking::{Ordering, Then};
use super::model::{FastSchedule, Fleet, Match, MatchState};
use super::untold::Lost;
use super::{BrokenRule, Broker, Turn};
use crate::ids::{AllocationId, FleetId, MatchId, ServerId};
use crate::match_spec::MatchSpec;
use crate::requirements::{Document, Requirement, Search};

/// Maximum number of queued matches checked in one turn that are expected to get a server without an order; the
/// schedule checks all.
const MAX_LOOKED_AT: usize = 1_000;

/// Why each fleet cannot start a server.
type Refusals = BTreeMap<FleetId, &'static str>;

/// Which matches may be given again.
#[derive(Clone, Copy)]
pub(super) struct Again<'a> {
    pub(super) lost: Lost,
    /// Except these.
    pub(super) but: &'a [Offer],
}

pub(super) fn offer(server: &ServerId, game: &Match, again: bool) -> Offer {
    Offer {
        server: server.clone(),
        match_id: game.id.clone(),
        players: game.players(),
        spec: Arc::clone(&game.spec),
        pickup: game.pickups,
        again,
    }
}

impl Broker {
    /// Before the first input: records which servers may not know about a match that they have.
    pub(super) fn note_untold(&mut self) {
        if self.beside.untold.is_gathered {
            return;
        }
        self.beside.untold.is_gathered = true;
        for (_, id) in &self.state.index.picked_up {
            let Some(game) = self.state.matches.get(id) else { continue };
            if let Some(server) = &game.server {
                self.beside.untold.insert_of_before(server, id, game.pickups);
            }
        }
    }
}

impl Turn<'_> {
    /// Finds a server for a match that has just been queued: one that waits, one that is free, or a new one.
    pub(super) fn find_server(&mut self, id: &MatchId) {
        // One new server for every match, even if a waiting server takes it.
        let always = self.state().settings.fast_schedule == FastSchedule::Always;
        let is_undecided = always && self.order_for(id).is_none();
        self.offer(id, if is_undecided { Then::Order } else { Then::AsScheduled });
    }

    /// Gives the server the oldest match that fits it.
    pub(super) fn oldest_for(&mut self, server: &ServerId, filter: &Filter) -> Search<Offer> {
        match self.find_oldest(server, filter) {
            Search::Found(id) => self.pick_up(&id, server).map_or(Search::Nothing, Search::Found),
            Search::Nothing => Search::Nothing,
            Search::Unfinished => Search::Unfinished,
        }
    }

    /// The oldest match that fits the server, still in the queue.
    pub(super) fn find_oldest(&mut self, server: &ServerId, filter: &Filter) -> Search<MatchId> {
        let broker = &mut *self.broker;
        let fleet = broker.state.servers.get(server).and_then(|known| known.fleet.clone());
        let group = (Arc::clone(filter.asked.text()), fleet);
        let oldest = if broker.beside.waiters.is_group_searching(&group) {
            // The server that began to search first goes first.
            Search::Unfinished
        } else {
            let queue = &mut broker.state.index.queue;
            queue.oldest_fitting(&broker.requirements, filter, group.1.as_ref())
        };
        self.broken_choice(server, filter).map_or(oldest, Search::Found)
    }

    /// Gives the server again a match that it has, but may never have heard about, and that fits its current
    /// requirements. Not while another call of the server waits: a server that had really lost the answer would have
    /// ended that call too.
    pub(super) fn give_again(
        &mut self,
        server: &ServerId,
        filter: &Filter,
        which: Again<'_>,
    ) -> Option<Offer> {
        if self.broker.beside.waiters.of_server(server) > 0 || self.broken(BrokenRule::ForgetLostAnswer) {
            return None;
        }
        let requirements = &self.broker.requirements;
        let is_untold = |game: &Match, pickup| {
            let is_prepared = matches!(game.state, MatchState::PickedUp { .. }) && game.pickups == pickup;
            let requirement = filter.for_matches_of(game.spec.fleet.as_ref());
            is_prepared
                && game.server.as_ref() == Some(server)
                && !requirements.is_spent()
                && requirements.fits(requirement, &Document::new(&game.id, &game.spec))
        };
        let offer = self.broker.beside.untold.of(server, self.now, which.lost).find_map(|(id, pickup)| {
            if which.but.iter().any(|offer| offer.match_id == *id) {
                return None;
            }
            let game = self.state().matches.get(id).filter(|game| is_untold(game, pickup))?;
            Some(offer(server, game, true))
        })?;
        self.broker.beside.untold.note_given_again(server, &offer.match_id, self.now);
        Some(offer)
    }

    /// What a broken rule gives the server instead; `None` unless a rule is broken.
    fn broken_choice(&self, server: &ServerId, filter: &Filter) -> Option<MatchId> {
        if self.broken(BrokenRule::YoungestFirst) {
            let fleet = self.state().servers.get(server)?.fleet.as_ref();
            let mut fitting = self.state().index.queue.iter().filter(|(_, entry)| {
                (entry.fleet().is_none() || entry.fleet() == fleet)
                    && self.broker.requirements.fits(filter.for_matches_of(entry.fleet()), &entry.document())
            });
            return fitting.by_ref().last().map(|(_, entry)| entry.id.clone());
        }
        if self.broken(BrokenRule::OfferHeldMatch) && self.state().index.queue.len() == 0 {
            return self.state().index.picked_up.first().map(|(_, id)| id.clone());
        }
        None
    }

    /// Whether a match like this would go to a waiting server at once.
    pub(super) fn would_be_taken(&self, id: &MatchId, spec: &MatchSpec) -> bool {
        let document = Document::new(id, spec);
        let requirements = &self.broker.requirements;
        let fits = |requirement: &Requirement| requirements.fits(requirement, &document);
        let waiters = &self.broker.beside.waiters;
        let first = waiters.first_fitting(requirements, &document, spec.fleet.as_ref(), None, fits);
        matches!(first, First::Found(_))
    }

    pub(super) fn pick_up(&mut self, id: &MatchId, server: &ServerId) -> Option<Offer> {
        self.broker.beside.expected.remove(server);
        self.emit(Event::MatchPickedUp { id: id.clone(), server: server.clone() });
        let game = self.state().matches.get(id)?;
        let offer = offer(server, game, false);
        self.broker.beside.untold.insert(server, id, offer.pickup, self.now);
        Some(offer)
    }

    /// Whether some queued match fits the server's last requirements, or may fit.
    pub(super) fn is_needed(&mut self, server: &ServerId) -> bool {
        let broker = &mut *self.broker;
        let Some(asked) = broker.beside.heard.get(server).cloned() else { return false };
        let fleet = broker.state.servers.get(server).and_then(|known| known.fleet.clone());
        let filter = broker.filter(fleet.as_ref(), &asked);
        let queue = &mut broker.state.index.queue;
        queue.oldest_fitting(&broker.requirements, &filter, fleet.as_ref()) != Search::Nothing
    }

    /// Looks for a free server after `after` that could take the match at its next call, and that no other queued match
    /// counts on. A server that has not called since a restart is assumed to fit.
    pub(super) fn expect_free_server(&mut self, id: &MatchId, after: Option<&Rank>) -> First<Rank> {
        self.gather_free();
        let Broker { state, requirements, beside, .. } = &mut *self.broker;
        let queued = state.matches.get(id).filter(|game| game.state == MatchState::Queued);
        let (Some(game), Some(free)) = (queued, &beside.free) else { return First::Nothing };
        let (document, fleet) = (Document::new(id, &game.spec), game.spec.fleet.as_ref());
        let fits = |requirement: &Requirement| requirements.fits(requirement, &document);
        let first = free.first(requirements, &document, fleet, after, fits);
        if let First::Found((_, server)) = &first {
            beside.expected.insert(server.clone(), id.clone());
            self.note_free(server);
        }
        first
    }

    fn gather_free(&mut self) {
        if self.broker.beside.free.is_none() {
            self.broker.beside.free = Some(FreeServers::default());
            let idle = self.state().index.idle.values();
            let idle: Vec<ServerId> = idle.flat_map(Idle::iter).cloned().collect();
            idle.iter().for_each(|server| self.note_free(server));
        }
    }

    /// Updates whether a server is free, and for which matches.
    pub(super) fn note_free(&mut self, server: &ServerId) {
        if self.broker.beside.free.is_none() {
            return;
        }
        let Broker { state, beside, .. } = &*self.broker;
        let known = state.servers.get(server).filter(|known| state.is_idle(known));
        let counts_on =
            |id: &MatchId| state.matches.get(id).is_some_and(|game| game.state == MatchState::Queued);
        let free = known.filter(|_| !beside.expected.of(server).is_some_and(counts_on));
        let free = free.map(|known| known.fleet.clone());
        let filter = free.map(|fleet| {
            let asked = self.broker.beside.heard.get(server);
            let asked = asked.map_or_else(|| Arc::clone(&self.broker.anything), Arc::clone);
            (self.broker.filter(fleet.as_ref(), &asked), fleet)
        });
        let Some(all) = &mut self.broker.beside.free else { return };
        match filter {
            Some((filter, fleet)) => all.insert(server, fleet.as_ref(), filter),
            None => all.remove(server),
        }
    }

    /// Orders a server for a queued match, or assigns it an unassigned one that is on its way; returns whether it has
    /// one now. `None` if the step's work limit is reached before that is known.
    pub(super) fn order_for(&mut self, id: &MatchId) -> Option<bool> {
        if self.state().index.by_match.contains_key(id) {
            return Some(true);
        }
        let queued = self.state().matches.get(id).filter(|game| game.state == MatchState::Queued);
        let Some(game) = queued.filter(|game| !self.is_overdue(game)) else { return Some(false) };
        let (place, spec) = (game.queued_seq, Arc::clone(&game.spec));
        let class = self.class_of(id, &spec, place)?;
        if let Some(allocation) = self.order_to_spare(&class) {
            self.emit(Event::AllocationAssigned { allocation, for_match: id.clone() });
            return Some(true);
        }
        let fleets = class.iter().filter_map(|fleet| self.state().fleets.get(fleet));
        let Some(fleet) = fleets.filter(|fleet| self.closed(fleet).is_none()).map(|fleet| &fleet.id).next()
        else {
            return Some(false);
        };
        let fleet = fleet.clone();
        self.order_server(&fleet, Some(id.clone()));
        Some(true)
    }

    /// Whether a queued match has waited so long that it fails when timers fire.
    fn is_overdue(&self, game: &Match) -> bool {
        let longest = self.state().settings.match_pickup_time;
        game.queued_at + longest <= self.now && !self.broken(BrokenRule::OrderForOverdue)
    }

    /// The fleets that may take a queued match; `None` if the step's work limit is reached before that is known.
    fn class_of(&mut self, id: &MatchId, spec: &MatchSpec, place: u64) -> Option<Class> {
        if let Some(known) = self.state().index.queue.class_of(place) {
            return Some(known);
        }
        let fleets = self.broker.fleets_for(id, spec, place)?;
        Some(self.broker.state.index.queue.note_class(place, fleets))
    }

    /// A pending allocation without a match that its fleet does not need for its warm pool.
    fn order_to_spare(&self, class: &[FleetId]) -> Option<AllocationId> {
        let fleets = self.state().index.unassigned.iter().filter(|(fleet, _)| class.contains(fleet));
        let mut spare = fleets.filter(|(fleet, _)| self.has_spare(fleet));
        spare.next().and_then(|(_, orders)| orders.first().cloned())
    }

    /// Whether a server of the fleet is on its way that has no match and that the fleet does not need for its warm
    /// pool.
    fn has_spare(&self, fleet: &FleetId) -> bool {
        self.state().settings.fast_schedule != FastSchedule::Always
            && self.state().index.unassigned.contains_key(fleet)
            && self
                .state()
                .fleets
                .get(fleet)
                .is_some_and(|fleet| self.warm_or_coming(fleet) > fleet.warm as usize)
    }

    /// The first fleet in order of preference that may take the match and can start a server; none if the step's work
    /// limit is reached before that is known.
    pub(super) fn fleet_for_new(&self, id: &MatchId, spec: &MatchSpec) -> Result<Option<FleetId>, Refusals> {
        let document = Document::new(id, spec);
        self.fleet_with_room(|fleet| self.broker.may_take(fleet, spec, &document, None))
    }

    /// The first fleet in order of preference that can start a server, of those that `may_take` it.
    pub(super) fn fleet_with_room(
        &self,
        may_take: impl Fn(&FleetId) -> Option<bool>,
    ) -> Result<Option<FleetId>, Refusals> {
        let mut why = Refusals::new();
        for id in &self.state().preferred {
            let Some(fleet) = self.state().fleets.get(id) else { continue };
            let problem = match may_take(id) {
                None => return Ok(None),
                Some(false) => Some("does not fit the match"),
                Some(true) => self.closed(fleet),
            };
            match problem {
                None => return Ok(Some(id.clone())),
                Some(problem) => why.insert(id.clone(), problem),
            };
        }
        Err(why)
    }

    /// Why no server can be ordered from the fleet.
    pub(super) fn closed(&self, fleet: &Fleet) -> Option<&'static str> {
        if self.is_at_maximum(fleet) && !self.broken(BrokenRule::ExceedMax) {
            return Some("runs its maximum of servers");
        }
        let health = self.state().health.get(&fleet.id);
        health.is_some_and(|health| health.backoff_until > self.now).then_some("failed and backs off")
    }

    pub(super) fn is_at_maximum(&self, fleet: &Fleet) -> bool {
        let live = self.state().index.live.get(&fleet.id).map_or(0, BTreeSet::len);
        live >= fleet.max as usize
    }

    /// Orders servers for queued matches that cannot expect one, oldest first, while fleets have room.
    pub(super) fn order_for_queued(&mut self) {
        // Interrupted work continues first.
        if self.state().settings.fast_schedule != FastSchedule::OnSchedule
            && self.broker.beside.looking.ordering.is_none()
        {
            self.broker.beside.looking.ordering = self.order_oldest(Ordering::default());
        }
    }

    /// The schedule: matches that have waited for the allocation delay get a server of their own.
    pub(super) fn order_on_schedule(&mut self) {
        let frequency = self.state().settings.schedule_frequency;
        let beside = &mut self.broker.beside;
        if self.broker.state.index.queue.len() > 0 && beside.scheduled_at + frequency <= self.now {
            beside.scheduled_at = self.now;
            let begin = || Ordering { on_schedule: true, ..Ordering::default() };
            beside.looking.scheduling.get_or_insert_with(begin);
        }
        if let Some(scheduling) = self.broker.beside.looking.scheduling.take() {
            self.broker.beside.looking.scheduling = self.order_oldest(scheduling);
        }
    }

    /// Returns where to continue, if the step is full or its work limit is reached before all are checked. Matches
    /// whose fleets are full are skipped together, so that they do not block others.
    pub(super) fn order_oldest(&mut self, from: Ordering) -> Option<Ordering> {
        let Ordering { on_schedule, mut next, mut looked_at, mut free } = from;
        if self.state().index.queue.is_served() {
            return None;
        }
        let most = if on_schedule { usize::MAX } else { MAX_LOOKED_AT };
        let waited = self.now - self.state().settings.delay_allocation;
        let mode = self.state().settings.fast_schedule;
        let mut open = self.open_fleets();
        while looked_at < most {
            if self.is_full() || self.broker.requirements.is_spent() {
                return Some(Ordering { on_schedule, next, looked_at, free });
            }
            let (queue, requirements) = (&self.state().index.queue, &self.broker.requirements);
            let is_open = |class: &[FleetId]| class.iter().any(|fleet| open.contains(fleet));
            let (place, entry) = queue.first_unserved(requirements, next, is_open)?;
            let (id, spec) = (entry.id.clone(), Arc::clone(&entry.spec));
            let is_delayed = on_schedule && entry.queued_at <= waited;
            if !is_delayed && mode == FastSchedule::OnSchedule {
                // Younger ones have not waited longer.
                break;
            }
            let Some(class) = self.class_of(&id, &spec, place) else {
                return Some(Ordering { on_schedule, next, looked_at, free });
            };
            if !is_open(&class) {
                next = place + 1;
                continue;
            }
            if !is_delayed && mode == FastSchedule::UnlessFree && !self.is_expected(&id) {
                // A server may have just become free, or have been free since before a restart.
                match self.expect_free_server(&id, free.as_ref()) {
                    First::After(after) => {
                        return Some(Ordering { on_schedule, next: place, looked_at, free: after });
                    }
                    First::Found(_) | First::Nothing => free = None,
                }
            }
            if is_delayed || !self.is_expected(&id) {
                if self.order_for(&id).is_none() {
                    return Some(Ordering { on_schedule, next, looked_at, free });
                }
                for fleet in class.iter().filter(|fleet| !self.is_open(fleet)) {
                    open.remove(fleet);
                }
            } else {
                looked_at += 1;
            }
            next = place + 1;
        }
        None
    }

    /// The fleets from which a match could get a server now.
    fn open_fleets(&self) -> BTreeSet<FleetId> {
        self.state().fleets.keys().filter(|fleet| self.is_open(fleet)).cloned().collect()
    }

    fn is_open(&self, fleet: &FleetId) -> bool {
        self.has_spare(fleet)
            || self.state().fleets.get(fleet).is_some_and(|fleet| self.closed(fleet).is_none())
    }

    fn is_expected(&self, id: &MatchId) -> bool {
        self.broker.beside.expected.server_for(id).is_some_and(|server| self.is_free(server))
    }

    fn is_free(&self, server: &ServerId) -> bool {
        self.state().servers.get(server).is_some_and(|known| self.state().is_idle(known))
    }
}
