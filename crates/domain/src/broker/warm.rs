//! Warm pools: idle servers that a fleet keeps ready, and how they are replaced before they are too old for a match.
//!
//! Servers that were started together grow old together, and a fleet often has no room for all their replacements at
//! once. So they are replaced in turn, the first ones so early that even the last one is replaced in time:
//! [`Settings::replacement_stages`]. A replacement is ordered while the old server still takes matches. Only a fleet
//! that already runs its maximum lets an old server go first, and then one at a time.
//!
//! [`Settings::replacement_stages`]: super::model::Settings::replacement_stages

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::idle::Idle;
use super::model::{AllocationState, Fleet, GoneCause, Server};
use super::{BrokenRule, Broker, Turn};
use crate::ids::FleetId;
use crate::time::Timestamp;

impl Broker {
    /// When more idle servers of a warm pool may be old enough to be replaced.
    pub(super) fn next_replacement(&self, fleet: &Fleet) -> Option<Timestamp> {
        if fleet.warm == 0 {
            return None;
        }
        let idle = self.state.index.idle.get(&Some(fleet.id.clone()))?;
        let stages = self.state.settings.replacement_stages(fleet);
        let next = |age| Some(idle.first_born_after(self.beside.ticked_at - age)? + age);
        stages.filter_map(|stage| next(stage.age)).min()
    }
}

impl Turn<'_> {
    /// Fills each fleet's warm pool with servers that are not too old for a match.
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

    /// Retires idle servers of a warm pool that are about to be too old when the pool does not need them: one for each
    /// replacement that is ready.
    pub(super) fn retire_replaced(&mut self) {
        let aging = self.state().fleets.values().filter(|fleet| fleet.warm > 0);
        let aging = aging.map(|fleet| (fleet.id.clone(), self.aging(fleet))).filter(|(_, count)| *count > 0);
        for (id, count) in aging.collect::<Vec<_>>() {
            for _ in 0..count {
                if self.is_full()
                    || self.state().fleets.get(&id).is_none_or(|fleet| self.aging(fleet) == 0)
                    || !self.has_replacement(&id)
                {
                    break;
                }
                self.retire_oldest(&id);
            }
            self.make_room(&id);
        }
    }

    /// Retires the oldest server of a warm pool that has to be replaced, if the fleet has no room for the replacement.
    /// No second one goes before the first one is replaced, and the last one stays until it is too old.
    fn make_room(&mut self, id: &FleetId) {
        let Some(fleet) = self.state().fleets.get(id) else { return };
        if self.is_full() || self.aging(fleet) == 0 || !self.is_at_maximum(fleet) {
            return;
        }
        let idle = self.state().index.idle.get(&Some(id.clone()));
        if idle.is_none_or(|idle| idle.len() < 2) {
            return;
        }
        let is_settled = |order| {
            self.state().allocations.get(order).is_none_or(|order| order.state == AllocationState::Live)
        };
        if self.state().index.live.get(id).is_some_and(|orders| orders.iter().all(is_settled)) {
            self.retire_oldest(id);
        }
    }

    /// Whether the fleet has more idle servers than its warm pool needs.
    fn has_replacement(&self, id: &FleetId) -> bool {
        let warm = self.state().fleets.get(id).map_or(0, |fleet| fleet.warm as usize);
        let idle = self.state().index.idle.get(&Some(id.clone())).map_or(0, Idle::len);
        idle > warm || self.broken(BrokenRule::RetireBeforeReplaced)
    }

    fn retire_oldest(&mut self, id: &FleetId) {
        let idle = self.state().index.idle.get(&Some(id.clone()));
        if let Some(server) = idle.and_then(Idle::oldest).map(|(_, server)| server.clone()) {
            self.dismiss(&server, GoneCause::Aged);
        }
    }

    /// Number of idle servers of the fleet that are not about to be too old, and of unassigned ones on their way.
    pub(super) fn warm_or_coming(&self, fleet: &Fleet) -> usize {
        let idle = self.state().index.idle.get(&Some(fleet.id.clone()));
        let coming = self.state().index.unassigned.get(&fleet.id);
        idle.map_or(0, Idle::len) - self.aging(fleet) + coming.map_or(0, BTreeSet::len)
    }

    /// Whether an idle server of the fleet is among those that have to be replaced now.
    pub(super) fn is_aging(&self, server: &Server, fleet: &Fleet) -> bool {
        let idle = self.state().index.idle.get(&Some(fleet.id.clone()));
        idle.is_some_and(|idle| idle.born_before(server.born_at) < self.aging(fleet))
    }

    /// Number of idle servers of the fleet that have to be replaced now: the oldest ones.
    pub(super) fn aging(&self, fleet: &Fleet) -> usize {
        let Some(idle) = self.state().index.idle.get(&Some(fleet.id.clone())) else { return 0 };
        let stages = self.state().settings.replacement_stages(fleet);
        let stages = stages.take(if self.broken(BrokenRule::AgeTogether) { 1 } else { usize::MAX });
        let due = stages.map(|stage| idle.born_until(self.now - stage.age).saturating_sub(stage.spared));
        due.max().unwrap_or(0)
    }
}
