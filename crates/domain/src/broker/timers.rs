//! Every deadline, and what it ends. The deadlines follow from the records and the settings in force, so a setting
//! changed at run time counts for what is already under way.

use core::time::Duration;

use super::command::{Hints, Reply};
use super::model::{EndCause, FailReason, GoneCause, SeatEnd};
use super::{BrokenRule, Broker, Turn};
use crate::time::Timestamp;

/// How long a server that was asked to exit may take before its platform stops it.
pub const LEAVE_TIME: Duration = Duration::from_secs(30);

impl Broker {
    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        let (index, settings) = (&self.state.index, &self.state.settings);
        let queue = index.queue.iter().next().map(|(_, entry)| entry.queued_at + settings.match_pickup_time);
        let schedule =
            (index.queue.len() > 0).then(|| self.beside.scheduled_at + settings.schedule_frequency);
        let preparing = index.picked_up.first().map(|(at, _)| *at + settings.match_ready_time);
        let running = index.ready.first().map(|(at, _)| *at + settings.match_max_run_time);
        let lifetime = index.births.first().map(|(at, _)| *at + settings.server_max_lifetime);
        let leaving = index.leaving.first().map(|(at, _)| *at + LEAVE_TIME);
        let seats = index.seat_expiry.first().map(|(at, _)| *at);
        let pending = index.pending.iter().filter_map(|(fleet, orders)| {
            let (ordered_at, _) = orders.first()?;
            Some(*ordered_at + self.ready_deadline(fleet))
        });
        // A fleet that was left alone may be asked again.
        let backoff = self.state.health.values().map(|health| health.backoff_until);
        let backoff = backoff.filter(|until| *until > self.beside.ticked_at);
        // What a step had no work left for is due at once.
        let unfinished = self.is_work_left().then_some(self.beside.ticked_at);
        let waiting = self.beside.waiters.next_deadline();
        [queue, schedule, preparing, running, lifetime, leaving, seats, waiting, unfinished]
            .into_iter()
            .flatten()
            .chain(pending)
            .chain(backoff)
            .min()
    }

    pub(super) fn ready_deadline(&self, fleet: &crate::ids::FleetId) -> Duration {
        // Servers of a fleet that is no longer configured are being stopped anyway.
        self.state.fleets.get(fleet).map_or(Duration::ZERO, |fleet| fleet.ready_deadline)
    }
}

impl Turn<'_> {
    /// Everything that is due by now.
    pub(super) fn fire_due(&mut self) {
        self.end_waiting();
        self.fail_not_picked_up();
        self.fail_not_ready();
        self.end_overlong();
        self.retire_old();
        self.give_up_pending();
        self.stop_lingering();
        self.expire_seats();
        let frequency = self.state().settings.schedule_frequency;
        if self.state().index.queue.len() > 0 && self.broker.beside.scheduled_at + frequency <= self.now {
            self.broker.beside.scheduled_at = self.now;
            self.order_on_schedule();
        }
    }

    fn end_waiting(&mut self) {
        while let Some(waiter) = self.broker.beside.waiters.take_due(self.now) {
            let surplus = waiter.hints.has(Hints::WILLING_TO_SHUTDOWN) && self.is_surplus(&waiter.server);
            if surplus {
                self.dismiss(&waiter.server, GoneCause::Surplus);
            }
            let hints = if surplus { Hints::SHUTDOWN } else { Hints::NONE };
            self.answer(waiter.call, Ok(Reply::Requested { offer: None, hints }));
        }
    }

    fn fail_not_picked_up(&mut self) {
        if self.broken(BrokenRule::ForgetPickupTimer) {
            return;
        }
        let longest = self.state().settings.match_pickup_time;
        loop {
            let oldest = self.state().index.queue.iter().next();
            let due = oldest.filter(|(_, entry)| entry.queued_at + longest <= self.now);
            let Some(id) = due.map(|(_, entry)| entry.id.clone()) else { break };
            self.failed(&id, FailReason::PickupTimeout);
        }
    }

    fn fail_not_ready(&mut self) {
        if self.broken(BrokenRule::ForgetReadyTimer) {
            return;
        }
        let longest = self.state().settings.match_ready_time;
        loop {
            let oldest = self.state().index.picked_up.first();
            let due = oldest.filter(|(at, _)| *at + longest <= self.now);
            let Some(id) = due.map(|(_, id)| id.clone()) else { break };
            let server = self.state().matches.get(&id).and_then(|game| game.server.clone());
            self.failed(&id, FailReason::ReadyTimeout);
            if let Some(server) = server {
                self.drain(&server, GoneCause::ReadyTimeout);
            }
        }
    }

    fn end_overlong(&mut self) {
        let longest = self.state().settings.match_max_run_time;
        loop {
            let oldest = self.state().index.ready.first();
            let due = oldest.filter(|(at, _)| *at + longest <= self.now);
            let Some(id) = due.map(|(_, id)| id.clone()) else { break };
            let server = self.state().matches.get(&id).and_then(|game| game.server.clone());
            self.ended(&id, EndCause::MaxRunTime);
            if let Some(server) = server {
                self.drain(&server, GoneCause::MaxRunTime);
            }
        }
    }

    fn retire_old(&mut self) {
        let longest = self.state().settings.server_max_lifetime;
        loop {
            let oldest = self.state().index.births.first();
            let due = oldest.filter(|(at, _)| *at + longest <= self.now);
            let Some(server) = due.map(|(_, server)| server.clone()) else { break };
            self.fail_matches(&server, FailReason::ServerLifetime);
            self.dismiss(&server, GoneCause::Lifetime);
        }
    }

    fn give_up_pending(&mut self) {
        let fleets: alloc::vec::Vec<_> = self.state().index.pending.keys().cloned().collect();
        for fleet in fleets {
            let longest = self.broker.ready_deadline(&fleet);
            loop {
                let oldest = self.state().index.pending.get(&fleet).and_then(|orders| orders.first());
                let due = oldest.filter(|(at, _)| *at + longest <= self.now);
                let order = due.and_then(|(_, order)| self.state().allocations.get(order));
                let Some((order, server)) = order.map(|order| (order.id.clone(), order.server.clone()))
                else {
                    break;
                };
                self.dismiss(&server, GoneCause::ReadyDeadline);
                if self.state().allocations.get(&order).is_some_and(|order| order.state.is_pending()) {
                    break;
                }
            }
        }
    }

    fn stop_lingering(&mut self) {
        loop {
            let oldest = self.state().index.leaving.first();
            let due = oldest.filter(|(since, _)| *since + LEAVE_TIME <= self.now);
            let Some(order) = due.map(|(_, order)| order.clone()) else { break };
            if self.broken(BrokenRule::ForgetStop) {
                break;
            }
            self.order_stop(&order, None);
        }
    }

    fn expire_seats(&mut self) {
        if self.broken(BrokenRule::KeepSeats) {
            return;
        }
        loop {
            let first = self.state().index.seat_expiry.first();
            let due = first.filter(|(at, _)| *at <= self.now);
            let Some(seat) = due.map(|(_, seat)| seat.clone()) else { break };
            let Some(match_id) = self.state().index.seats.get(&seat).cloned() else { break };
            self.close(&seat, &match_id, SeatEnd::Expired);
        }
    }
}
