//! Searches for a server, and for a match, over several steps.
//!
//! A step does a limited amount of evaluation (see `requirements`). If that is not enough for all servers that a new
//! match may fit, or for all matches that may fit a server, the rest is due at once and is done by ticks, so that
//! inputs in between wait for one step and not for the whole search. Searches take turns. What they have tried is
//! remembered, so that each step makes progress.
//!
//! The oldest match that fits still goes first: a server whose search is not finished is offered no younger match, and
//! while some match has not been offered to all servers, the oldest fitting match is looked up before a server takes a
//! younger one.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::askers::First;
use super::command::Hints;
use super::free::Rank;
use super::model::{FastSchedule, GoneCause, Match, MatchState};
use super::{Broker, Turn};
use crate::ids::MatchId;
use crate::requirements::{Document, Requirement, Search};

/// Unfinished searches, and whose turn it is.
#[derive(Default)]
pub(super) struct Looking {
    matches: VecDeque<Offered>,
    /// Whether matches come before servers in the next step.
    matches_first: bool,
    /// Where ordering servers was interrupted: after an event, and by the schedule.
    pub(super) ordering: Option<Ordering>,
    pub(super) scheduling: Option<Ordering>,
}

/// How far ordering servers for queued matches has come.
#[derive(Clone, Default, Debug)]
pub(super) struct Ordering {
    pub(super) on_schedule: bool,
    /// Matches from this place on have not been checked.
    pub(super) next: u64,
    /// Number of checked matches that are expected to get a server without an order.
    pub(super) looked_at: usize,
    /// Free servers up to this one do not fit the next match.
    pub(super) free: Option<Rank>,
}

/// A queued match that is being offered.
struct Offered {
    id: MatchId,
    stage: Stage,
    then: Then,
}

/// To which servers.
enum Stage {
    /// Waiting servers after this one.
    Waiting(Option<u64>),
    /// Free servers after this one.
    Free(Option<Rank>),
    /// No server takes it: one is ordered.
    Order,
}

/// What to do if no waiting server takes the match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// According to `fast_schedule`.
    AsScheduled,
    Order,
}

impl Broker {
    /// Work spent on requirements in the last step or explanation, in units of about a nanosecond: at most
    /// [`MAX_STEP_WORK`](crate::requirements::MAX_STEP_WORK).
    #[must_use]
    pub fn work_of_step(&self) -> u64 {
        self.requirements.spent()
    }

    /// Whether a step has left something to later ones because its work limit was reached.
    pub(super) fn is_work_left(&self) -> bool {
        let looking = &self.beside.looking;
        !looking.matches.is_empty()
            || looking.ordering.is_some()
            || looking.scheduling.is_some()
            || self.beside.waiters.is_any_searching()
            || self.beside.waiters.may_be_outdated()
            || !self.beside.forsaken.is_empty()
    }
}

impl Turn<'_> {
    /// Offers a queued match to the waiting servers, and finds another server if none of them takes it.
    pub(super) fn offer(&mut self, id: &MatchId, then: Then) {
        self.go_on_offering(Offered { id: id.clone(), stage: Stage::Waiting(None), then });
    }

    /// Continues with what earlier steps left.
    pub(super) fn go_on(&mut self) {
        self.go_on_with_forsaken();
        self.go_on_with_outdated();
        let looking = &mut self.broker.beside.looking;
        looking.matches_first = !looking.matches_first;
        if looking.matches_first {
            self.go_on_with_matches();
            self.go_on_with_servers();
        } else {
            self.go_on_with_servers();
            self.go_on_with_matches();
        }
    }

    /// Servers whose fleets' terms have changed since they asked have to ask again.
    fn go_on_with_outdated(&mut self) {
        while !self.is_full()
            && let Some(place) = self.broker.beside.waiters.next_outdated()
        {
            self.turn_outdated_away(place);
        }
    }

    /// Answers a server without a match if it waits with its fleet's old terms. Returns whether it did.
    fn turn_outdated_away(&mut self, place: u64) -> bool {
        let Some(waiter) = self.broker.beside.waiters.get(place) else { return false };
        let (fleet, filter) = (waiter.fleet.clone(), waiter.filter.clone());
        if self.broker.filter(fleet.as_ref(), &filter.asked).is_same(&filter) {
            return false;
        }
        if let Some(waiter) = self.broker.beside.waiters.take(place) {
            self.answer_waiter(waiter, Hints::NONE);
        }
        true
    }

    fn go_on_with_matches(&mut self) {
        if let Some(ordering) = self.broker.beside.looking.ordering.take() {
            self.broker.beside.looking.ordering = self.order_oldest(ordering);
        }
        for _ in 0..self.broker.beside.looking.matches.len() {
            if self.broker.requirements.is_spent() || self.is_full() {
                break;
            }
            if let Some(offered) = self.broker.beside.looking.matches.pop_front() {
                self.go_on_offering(offered);
            }
        }
    }

    fn go_on_with_servers(&mut self) {
        while !self.broker.requirements.is_spent()
            && !self.is_full()
            && let Some(place) = self.broker.beside.waiters.next_searching()
        {
            if self.turn_unwanted_away(place) {
                continue;
            }
            match self.oldest_for_waiting(place) {
                // A server without room for it is answered.
                Search::Found(id) => _ = self.give(&id, place),
                Search::Nothing => self.end_search(place),
                Search::Unfinished => {}
            }
        }
    }

    /// No match fits that server.
    fn end_search(&mut self, place: u64) {
        let Some(waiter) = self.broker.beside.waiters.get(place) else { return };
        let (server, hints, stays) = (waiter.server.clone(), waiter.hints, waiter.stays);
        if self.is_unneeded(&server, hints) {
            // This also answers its calls.
            return self.dismiss(&server, GoneCause::Surplus);
        }
        if stays {
            self.broker.beside.waiters.end_search(place);
        } else if let Some(waiter) = self.broker.beside.waiters.take(place) {
            self.answer_waiter(waiter, Hints::NONE);
        }
    }

    fn go_on_offering(&mut self, mut offered: Offered) {
        loop {
            let is_queued = |game: &Arc<Match>| game.state == MatchState::Queued;
            if !self.state().matches.get(&offered.id).is_some_and(is_queued) {
                return;
            }
            offered.stage = match offered.stage {
                Stage::Waiting(after) => match self.offer_to_waiting(&offered.id, after) {
                    First::Found(_) => return,
                    First::After(after) => {
                        offered.stage = Stage::Waiting(after);
                        break;
                    }
                    First::Nothing => match (offered.then, self.state().settings.fast_schedule) {
                        (Then::Order, _) => Stage::Order,
                        (Then::AsScheduled, FastSchedule::UnlessFree) => Stage::Free(None),
                        _ => return,
                    },
                },
                Stage::Free(after) => match self.expect_free_server(&offered.id, after.as_ref()) {
                    First::Found(_) => return,
                    First::After(after) => {
                        offered.stage = Stage::Free(after);
                        break;
                    }
                    First::Nothing => Stage::Order,
                },
                Stage::Order => {
                    if self.order_for(&offered.id).is_some() {
                        return;
                    }
                    offered.stage = Stage::Order;
                    break;
                }
            };
        }
        self.broker.beside.looking.matches.push_back(offered);
    }

    /// Gives a queued match to a waiting server after `after`.
    fn offer_to_waiting(&mut self, id: &MatchId, mut after: Option<u64>) -> First<u64> {
        loop {
            let place = match self.first_waiting(id, after.as_ref()) {
                First::Found(place) => place,
                other => return other,
            };
            if self.is_full() {
                return First::After(after);
            }
            if self.turn_unwanted_away(place) {
                continue;
            }
            if self.broker.beside.looking.matches.is_empty() {
                if self.give(id, place) {
                    return First::Found(place);
                }
                after = Some(place);
                continue;
            }
            // An older match that has not been offered to this server yet may fit.
            match self.oldest_for_waiting(place) {
                Search::Found(oldest) => {
                    if self.give(&oldest, place) && oldest == *id {
                        return First::Found(place);
                    }
                }
                Search::Unfinished => self.broker.beside.waiters.search_again(place),
                Search::Nothing => {}
            }
            after = Some(place);
        }
    }

    fn first_waiting(&mut self, id: &MatchId, after: Option<&u64>) -> First<u64> {
        let Broker { state, requirements, beside, .. } = &mut *self.broker;
        let Some(game) = state.matches.get(id) else { return First::Nothing };
        let (document, fleet) = (Document::new(id, &game.spec), game.spec.fleet.as_ref());
        let queue = &mut state.index.queue;
        let fits = |requirement: &Requirement| queue.evaluate(requirements, requirement, game.queued_seq);
        beside.waiters.first_fitting(requirements, &document, fleet, after, fits)
    }

    /// The oldest match that fits a waiting server's requirements.
    fn oldest_for_waiting(&mut self, place: u64) -> Search<MatchId> {
        let Broker { state, requirements, beside, .. } = &mut *self.broker;
        let Some(waiter) = beside.waiters.get(place) else { return Search::Nothing };
        let queue = &mut state.index.queue;
        queue.oldest_fitting(requirements, &waiter.filter, waiter.fleet.as_ref())
    }

    /// Answers a waiting server that is not wanted any more, or not for what it waits for: its fleet may not be
    /// configured, or have other terms, or the server may be too old, and its own turn has not come. Returns whether it
    /// was such a server.
    fn turn_unwanted_away(&mut self, place: u64) -> bool {
        let waiter = self.broker.beside.waiters.get(place);
        if !waiter.is_some_and(|waiter| self.is_unwanted(&waiter.server)) {
            return self.broker.beside.waiters.may_be_outdated() && self.turn_outdated_away(place);
        }
        if let Some(waiter) = self.broker.beside.waiters.take(place) {
            let hints = self.wish(&waiter.server);
            self.answer_waiter(waiter, hints);
        }
        true
    }
}
