//! Who gets which match, and when a new server is ordered.
//!
//! A match goes to the longest-waiting server that it fits; a server gets the oldest match that fits it. Servers are
//! ordered as `fast_schedule` says, from the first fleet in order of preference that may take the match, has room
//! and has not just failed.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::askers::First;
use super::command::Offer;
use super::event::Event;
use super::free::{FreeServers, Rank};
use super::looking::{Ordering, Then};
use super::model::{FastSchedule, Fleet, Match, MatchSpec, MatchState};
use super::requirements::{Document, Requirement, Search};
use super::{BrokenRule, Broker, Turn};
use crate::ids::{AllocationId, FleetId, MatchId, ServerId};

/// Queued matches without a server looked at for an order in one turn; the schedule looks at all that have waited, and
/// stops after as many that no fleet could serve.
const MAX_LOOKED_AT: usize = 1_000;

/// Why each fleet cannot start a server.
type Refusals = BTreeMap<FleetId, &'static str>;

/// A match that a server is looked for.
pub(super) struct Asking<'a> {
    spec: &'a MatchSpec,
    document: &'a Document<'a>,
    /// In the queue, if it is there.
    place: Option<u64>,
}

fn offer(server: &ServerId, game: &Match, again: bool) -> Offer {
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
    /// Before the first input: notes which servers may not know of a match that they have.
    pub(super) fn note_untold(&mut self) {
        if self.beside.untold.is_none() {
            let picked_up = self.state.index.picked_up.iter();
            let untold =
                picked_up.filter_map(|(_, id)| Some((id.clone(), self.state.matches.get(id)?.pickups)));
            self.beside.untold = Some(untold.collect());
        }
    }
}

impl Turn<'_> {
    /// A server for a match that has just been queued: one that waits, one that is free, or a new one.
    pub(super) fn find_server(&mut self, id: &MatchId) {
        // One new server for every match means also for one that a waiting server takes.
        let always = self.state().settings.fast_schedule == FastSchedule::Always;
        let is_undecided = always && self.order_for(id).is_none();
        self.offer(id, if is_undecided { Then::Order } else { Then::AsScheduled });
    }

    /// The oldest match that fits the server, now in its hands.
    pub(super) fn oldest_for(&mut self, server: &ServerId, requirement: &Requirement) -> Search<Offer> {
        let broker = &mut *self.broker;
        let fleet = broker.state.servers.get(server).and_then(|known| known.fleet.clone());
        let group = (Arc::clone(requirement.text()), fleet);
        let oldest = if broker.beside.waiters.is_group_searching(&group) {
            // What is found first is for whoever began to look first.
            Search::Unfinished
        } else {
            let queue = &mut broker.state.index.queue;
            queue.oldest_fitting(&broker.requirements, requirement, group.1.as_ref())
        };
        let id = match (self.broken_choice(server, requirement), oldest) {
            (Some(id), _) | (None, Search::Found(id)) => id,
            (None, Search::Nothing) => return Search::Nothing,
            (None, Search::Unfinished) => return Search::Unfinished,
        };
        self.pick_up(&id, server).map_or(Search::Nothing, Search::Found)
    }

    /// A match that the server has, but may never have heard of, because the process that gave it ended: given once
    /// more. A server that does know of it takes no harm; one that does not would be waited for in vain.
    pub(super) fn give_again(&mut self, server: &ServerId) -> Option<Offer> {
        let untold = self.broker.beside.untold.as_ref().filter(|untold| !untold.is_empty())?;
        let matches = &self.state().servers.get(server)?.matches;
        let mut again = matches.iter().filter_map(|id| {
            let pickup = *untold.get(id)?;
            let game = self.state().matches.get(id)?;
            let is_held = matches!(game.state, MatchState::PickedUp { .. }) && game.pickups == pickup;
            is_held.then(|| offer(server, game, true))
        });
        let offer = again.next()?;
        self.broker.beside.untold.as_mut()?.remove(&offer.match_id);
        Some(offer)
    }

    /// What a broken rule would give the server instead; `None` unless a rule is broken.
    fn broken_choice(&self, server: &ServerId, requirement: &Requirement) -> Option<MatchId> {
        if self.broken(BrokenRule::YoungestFirst) {
            let fleet = self.state().servers.get(server)?.fleet.as_ref();
            let mut fitting = self.state().index.queue.iter().filter(|(_, entry)| {
                (entry.fleet().is_none() || entry.fleet() == fleet)
                    && self.broker.requirements.fits(requirement, &entry.document())
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
        Some(offer(server, game, false))
    }

    /// Whether some queued match fits what the server asked for last, or may fit.
    pub(super) fn is_needed(&mut self, server: &ServerId) -> bool {
        let broker = &mut *self.broker;
        let Some(requirement) = broker.beside.heard.get(server).cloned() else { return false };
        let fleet = broker.state.servers.get(server).and_then(|known| known.fleet.clone());
        let queue = &mut broker.state.index.queue;
        queue.oldest_fitting(&broker.requirements, &requirement, fleet.as_ref()) != Search::Nothing
    }

    /// Looks for a free server behind `after` that could take the match when it asks next, and that no other queued match
    /// counts on. One that was not heard since a restart is taken to fit.
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
            self.broker.beside.free = Some(FreeServers::new());
            let idle: Vec<ServerId> = self.state().index.idle.values().flatten().cloned().collect();
            idle.iter().for_each(|server| self.note_free(server));
        }
    }

    /// Something has changed about a server that decides whether it is free, or for what.
    pub(super) fn note_free(&mut self, server: &ServerId) {
        let Broker { state, beside, .. } = &mut *self.broker;
        let Some(free) = &mut beside.free else { return };
        let known = state.servers.get(server).filter(|known| state.is_idle(known));
        let counts_on =
            |id: &MatchId| state.matches.get(id).is_some_and(|game| game.state == MatchState::Queued);
        match known {
            Some(known) if !beside.expected.of(server).is_some_and(counts_on) => {
                free.insert(server, known.fleet.as_ref(), beside.heard.get(server));
            }
            _ => free.remove(server),
        }
    }

    /// Orders a server for a queued match, or gives it one on its way that no match is meant for; whether it has
    /// one now. Nothing where the step's work is done before that is known.
    pub(super) fn order_for(&mut self, id: &MatchId) -> Option<bool> {
        if self.state().index.by_match.contains_key(id) {
            return Some(true);
        }
        let queued = self.state().matches.get(id).filter(|game| game.state == MatchState::Queued);
        let Some((place, spec)) = queued.map(|game| (game.queued_seq, Arc::clone(&game.spec))) else {
            return Some(false);
        };
        let document = Document::new(id, &spec);
        let asking = Asking { spec: &spec, document: &document, place: Some(place) };
        if let Some(allocation) = self.order_to_spare(&asking)? {
            self.emit(Event::AllocationAssigned { allocation, for_match: id.clone() });
            return Some(true);
        }
        match self.fleet_with_room(Some(&asking)) {
            Ok(fleet) => {
                self.order_server(&fleet?, Some(id.clone()));
                Some(true)
            }
            Err(_) => Some(false),
        }
    }

    /// A pending allocation that is meant for no match and that its fleet does not need to stay warm. Nothing where the
    /// step's work is done before that is known.
    fn order_to_spare(&self, asking: &Asking<'_>) -> Option<Option<AllocationId>> {
        if self.state().settings.fast_schedule == FastSchedule::Always {
            return Some(None);
        }
        for (fleet, orders) in &self.state().index.unassigned {
            let Some(fleet) = self.state().fleets.get(fleet) else { continue };
            if self.warm_or_coming(fleet) > fleet.warm as usize && self.may_take(fleet, asking)? {
                return Some(orders.first().cloned());
            }
        }
        Some(None)
    }

    /// The first fleet in order of preference that may take the match and can start a server; none where the step's work
    /// is done before that is known.
    pub(super) fn fleet_for_new(&self, id: &MatchId, spec: &MatchSpec) -> Result<Option<FleetId>, Refusals> {
        self.fleet_with_room(Some(&Asking { spec, document: &Document::new(id, spec), place: None }))
    }

    /// As [`Self::fleet_for_new`]; without a match any fleet will do.
    pub(super) fn fleet_with_room(&self, asking: Option<&Asking<'_>>) -> Result<Option<FleetId>, Refusals> {
        let mut why = Refusals::new();
        for id in &self.state().preferred {
            let Some(fleet) = self.state().fleets.get(id) else { continue };
            let problem = match asking.map_or(Some(true), |asking| self.may_take(fleet, asking)) {
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

    fn may_take(&self, fleet: &Fleet, asking: &Asking<'_>) -> Option<bool> {
        if asking.spec.fleet.as_ref().is_some_and(|of| *of != fleet.id) {
            return Some(false);
        }
        let (queue, requirements) = (&self.state().index.queue, &self.broker.requirements);
        queue.fits_fleet(requirements, &fleet.requirements, asking.place, asking.document)
    }

    /// Why no server can be ordered from the fleet at all.
    fn closed(&self, fleet: &Fleet) -> Option<&'static str> {
        let live = self.state().index.live.get(&fleet.id).map_or(0, alloc::collections::BTreeSet::len);
        if live >= fleet.max as usize && !self.broken(BrokenRule::ExceedMax) {
            return Some("runs its maximum of servers");
        }
        let health = self.state().health.get(&fleet.id);
        health
            .is_some_and(|health| health.backoff_until > self.now)
            .then_some("failed and is left alone for a while")
    }

    /// Orders servers for queued matches that have none to expect, oldest first, while fleets have room.
    pub(super) fn order_for_queued(&mut self) {
        if self.state().settings.fast_schedule != FastSchedule::OnSchedule {
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
        if let Some(scheduling) = self.broker.beside.looking.scheduling {
            self.broker.beside.looking.scheduling = self.order_oldest(scheduling);
        }
    }

    /// Where to go on, if the step is full or its work is done before all are looked at.
    pub(super) fn order_oldest(&mut self, from: Ordering) -> Option<Ordering> {
        let Ordering { on_schedule, mut next, mut looked_at, mut in_vain } = from;
        let most = if on_schedule { usize::MAX } else { MAX_LOOKED_AT };
        let mut room = self.room();
        let waited = self.now - self.state().settings.delay_allocation;
        let at_once = self.state().settings.fast_schedule != FastSchedule::OnSchedule;
        // A match that no open fleet may take must not stand in the way of younger ones.
        while room > 0 && looked_at < most && in_vain < MAX_LOOKED_AT {
            let (place, entry) = self.state().index.queue.unserved(next).next()?;
            let delayed = on_schedule && entry.queued_at <= waited;
            if !delayed && !at_once {
                // Younger ones have not waited longer.
                break;
            }
            if self.is_full() {
                return Some(Ordering { on_schedule, next, looked_at, in_vain });
            }
            let id = entry.id.clone();
            if delayed || !self.is_expected(&id) {
                match self.order_for(&id) {
                    Some(true) => room -= 1,
                    Some(false) => in_vain += 1,
                    None => return Some(Ordering { on_schedule, next, looked_at, in_vain }),
                }
            }
            (next, looked_at) = (place + 1, looked_at + 1);
        }
        None
    }

    fn is_expected(&self, id: &MatchId) -> bool {
        self.broker.beside.expected.server_for(id).is_some_and(|server| self.is_free(server))
    }

    fn is_free(&self, server: &ServerId) -> bool {
        self.state().servers.get(server).is_some_and(|known| self.state().is_idle(known))
    }

    /// How many matches could get a server now, at most.
    fn room(&self) -> usize {
        let open = self.state().fleets.values().filter(|fleet| self.closed(fleet).is_none());
        let room = open.map(|fleet| {
            let live = self.state().index.live.get(&fleet.id).map_or(0, alloc::collections::BTreeSet::len);
            (fleet.max as usize).saturating_sub(live).max(1)
        });
        let spare: usize =
            self.state().index.unassigned.values().map(alloc::collections::BTreeSet::len).sum();
        room.sum::<usize>() + spare
    }

    /// Keeps each fleet's warm pool full.
    pub(super) fn keep_warm(&mut self) {
        let short: Vec<(FleetId, usize)> = self
            .state()
            .fleets
            .values()
            .filter(|fleet| fleet.warm > 0)
            .filter_map(|fleet| {
                let missing = (fleet.warm as usize).checked_sub(self.warm_or_coming(fleet))?;
                (missing > 0).then(|| (fleet.id.clone(), missing))
            })
            .collect();
        for (id, missing) in short {
            for _ in 0..missing {
                let Some(fleet) = self.state().fleets.get(&id) else { break };
                if self.closed(fleet).is_some() || self.is_full() {
                    break;
                }
                self.order_server(&id, None);
            }
        }
    }

    /// Idle servers of the fleet, and those on their way that no match is meant for.
    fn warm_or_coming(&self, fleet: &Fleet) -> usize {
        let idle = self.state().index.idle.get(&Some(fleet.id.clone()));
        let coming = self.state().index.unassigned.get(&fleet.id);
        idle.map_or(0, alloc::collections::BTreeSet::len)
            + coming.map_or(0, alloc::collections::BTreeSet::len)
    }
}
