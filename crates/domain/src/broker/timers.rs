//! Every deadline, and what it ends. The deadlines follow from the records and the current settings, so a setting
//! changed at run time also applies to what is in progress.

use core::time::Duration;

use super::command::Hints;
use super::model::{EndCause, FailReason, GoneCause, SeatEnd};
use super::{BrokenRule, Broker, QUARTERS_FOR_SCHEDULE, QUARTERS_FOR_TIMERS, Turn, WHOLE_STEP};
use crate::ids::{FleetId, ServerId};
use crate::time::Timestamp;

/// Maximum time that a server that was asked to exit may take before its platform stops it.
pub const LEAVE_TIME: Duration = Duration::from_secs(30);

impl Broker {
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        let (index, settings) = (&self.state.index, &self.state.settings);
        if self.is_unfinished() {
            return Some(Timestamp::ZERO);
        }
        let queue = index.queue.iter().next().map(|(_, entry)| entry.queued_at + settings.match_pickup_time);
        let schedule =
            (index.queue.len() > 0).then(|| self.beside.scheduled_at + settings.schedule_frequency);
        let preparing = index.picked_up.first().map(|(at, _)| *at + settings.match_ready_time);
        let running = index.ready.first().map(|(at, _)| *at + settings.match_max_run_time);
        let lifetime = if settings.lifetime_ends_matches {
            index.births.first().map(|(at, _)| *at + settings.server_max_lifetime)
        } else {
            self.oldest_taking().map(|(at, _)| at).min()
        };
        let leaving = index.leaving.first().map(|(at, _)| *at + LEAVE_TIME);
        let seats = index.seat_expiry.first().map(|(at, _)| *at);
        let pending = index.pending.iter().filter_map(|(fleet, orders)| {
            let (ordered_at, _) = orders.first()?;
            Some(*ordered_at + self.ready_deadline(fleet))
        });
        // A fleet's backoff ends.
        let backoff = self.state.health.values().map(|health| health.backoff_until);
        let backoff = backoff.filter(|until| *until > self.beside.ticked_at);
        let replaced = self.state.fleets.values().filter_map(|fleet| self.next_replacement(fleet));
        [queue, schedule, preparing, running, lifetime, leaving, seats, self.beside.waiters.next_deadline()]
            .into_iter()
            .flatten()
            .chain(pending)
            .chain(backoff)
            .chain(replaced)
            .min()
    }

    /// The oldest server that takes matches of each fleet, and of servers without a fleet; with the time from which it
    /// takes none.
    fn oldest_taking(&self) -> impl Iterator<Item = (Timestamp, &ServerId)> {
        self.state.index.taking.iter().filter_map(|(fleet, servers)| {
            let (born_at, server) = servers.first()?;
            Some((*born_at + self.last_pickup_age(fleet.as_ref())?, server))
        })
    }

    /// The age from which a server of the fleet gets no further match.
    pub(super) fn last_pickup_age(&self, fleet: Option<&FleetId>) -> Option<Duration> {
        let settings = &self.state.settings;
        let age = settings.last_pickup_age(fleet.and_then(|fleet| self.state.fleets.get(fleet)));
        if self.broken(BrokenRule::IgnoreAge) { age.map(|_| settings.server_max_lifetime) } else { age }
    }

    /// Whether a step has left work that does not wait for a deadline.
    fn is_unfinished(&self) -> bool {
        self.beside.unsettled
            || self.is_work_left()
            || !self.state.index.clearing.is_empty()
            || self.state.removed_fleet().is_some()
    }

    pub(super) fn ready_deadline(&self, fleet: &FleetId) -> Duration {
        // Servers of a fleet that is no longer configured are being stopped anyway.
        self.state.fleets.get(fleet).map_or(Duration::ZERO, |fleet| fleet.ready_deadline)
    }
}

impl<'a> Turn<'a> {
    /// Kinds of timer work; each call does one piece and returns whether there was one.
    const KINDS: [fn(&mut Turn<'a>) -> bool; 10] = [
        Self::end_wait,
        Self::fail_not_picked_up,
        Self::fail_not_ready,
        Self::end_overlong,
        Self::retire_old,
        Self::give_up_pending,
        Self::stop_lingering,
        Self::expire_seat,
        Self::clear_server,
        Self::remove_fleet,
    ];

    /// Does what is due before an input. While ticks catch up with more than fits into a step, inputs leave it to them.
    pub(super) fn fire_due_for_input(&mut self) {
        if !self.broker.beside.behind {
            self.fire_due();
        }
    }

    /// Does everything that is due, kind by kind in turn, until its part of the step is full.
    pub(super) fn fire_due(&mut self) {
        self.quarters = QUARTERS_FOR_TIMERS;
        let mut left = true;
        while left && !self.is_full() {
            left = false;
            for kind in Self::KINDS {
                left |= !self.is_full() && kind(self);
            }
        }
        self.quarters = QUARTERS_FOR_SCHEDULE;
        self.order_on_schedule();
        self.quarters = WHOLE_STEP;
        let now = self.now;
        self.broker.beside.behind =
            left && self.broker.earliest_deadline().is_some_and(|deadline| deadline <= now);
    }

    fn end_wait(&mut self) -> bool {
        let Some(waiter) = self.broker.beside.waiters.take_due(self.now) else { return false };
        let surplus = waiter.hints.has(Hints::WILLING_TO_SHUTDOWN) && self.is_surplus(&waiter.server);
        if surplus {
            self.dismiss(&waiter.server, GoneCause::Surplus);
        }
        let hints = if surplus { self.wish(&waiter.server) } else { Hints::NONE };
        self.answer_waiter(waiter, hints);
        true
    }

    fn fail_not_picked_up(&mut self) -> bool {
        if self.broken(BrokenRule::ForgetPickupTimer) {
            return false;
        }
        let longest = self.state().settings.match_pickup_time;
        let oldest = self.state().index.queue.iter().next();
        let due = oldest.filter(|(_, entry)| entry.queued_at + longest <= self.now);
        let Some(id) = due.map(|(_, entry)| entry.id.clone()) else { return false };
        self.failed(&id, FailReason::PickupTimeout);
        true
    }

    fn fail_not_ready(&mut self) -> bool {
        if self.broken(BrokenRule::ForgetReadyTimer) {
            return false;
        }
        let longest = self.state().settings.match_ready_time;
        let oldest = self.state().index.picked_up.first();
        let due = oldest.filter(|(at, _)| *at + longest <= self.now);
        let Some(id) = due.map(|(_, id)| id.clone()) else { return false };
        let server = self.state().matches.get(&id).and_then(|game| game.server.clone());
        self.failed(&id, FailReason::ReadyTimeout);
        if let Some(server) = server {
            self.drain(&server, GoneCause::ReadyTimeout);
        }
        true
    }

    fn end_overlong(&mut self) -> bool {
        let longest = self.state().settings.match_max_run_time;
        let oldest = self.state().index.ready.first();
        let due = oldest.filter(|(at, _)| *at + longest <= self.now);
        let Some(id) = due.map(|(_, id)| id.clone()) else { return false };
        let server = self.state().matches.get(&id).and_then(|game| game.server.clone());
        self.ended(&id, EndCause::MaxRunTime);
        if let Some(server) = server {
            self.drain(&server, GoneCause::MaxRunTime);
        }
        true
    }

    /// Dismisses a server that is too old for a further match after those that it has; if the settings say so, one that
    /// has reached its lifetime is stopped with its matches.
    fn retire_old(&mut self) -> bool {
        if !self.state().settings.lifetime_ends_matches {
            let due = self.broker.oldest_taking().find(|(at, _)| *at <= self.now);
            let Some(server) = due.map(|(_, server)| server.clone()) else { return false };
            self.drain(&server, GoneCause::Aged);
            return true;
        }
        let longest = self.state().settings.server_max_lifetime;
        let oldest = self.state().index.births.first();
        let due = oldest.filter(|(at, _)| *at + longest <= self.now);
        let Some(server) = due.map(|(_, server)| server.clone()) else { return false };
        self.clear_and_dismiss(&server, GoneCause::Lifetime);
        true
    }

    fn give_up_pending(&mut self) -> bool {
        let pending = self.state().index.pending.iter();
        let mut due = pending.filter_map(|(fleet, orders)| {
            let longest = self.broker.ready_deadline(fleet);
            let (_, order) = orders.first().filter(|(at, _)| *at + longest <= self.now)?;
            Some((order.clone(), self.state().allocations.get(order)?.server.clone()))
        });
        let Some((order, server)) = due.next() else { return false };
        self.dismiss(&server, GoneCause::ReadyDeadline);
        self.state().allocations.get(&order).is_none_or(|order| !order.state.is_pending())
    }

    fn stop_lingering(&mut self) -> bool {
        let oldest = self.state().index.leaving.first();
        let due = oldest.filter(|(since, _)| *since + LEAVE_TIME <= self.now);
        let Some(order) = due.map(|(_, order)| order.clone()) else { return false };
        if self.broken(BrokenRule::ForgetStop) {
            return false;
        }
        self.order_stop(&order, None);
        true
    }

    fn expire_seat(&mut self) -> bool {
        if self.broken(BrokenRule::KeepSeats) {
            return false;
        }
        let first = self.state().index.seat_expiry.first();
        let due = first.filter(|(at, _)| *at <= self.now);
        let Some(seat) = due.map(|(_, seat)| seat.clone()) else { return false };
        let Some(match_id) = self.state().index.seats.get(&seat).cloned() else { return false };
        self.close(&seat, &match_id, SeatEnd::Expired);
        true
    }
}
