//! A platform that runs server processes. It is idempotent by allocation id, as real ones must be; it is slow, fails,
//! and loses answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sortie_domain::broker::{Command, Effect};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};

use super::actors::Server;

/// A running process.
pub(super) struct Process {
    pub(super) fleet: FleetId,
    pub(super) server: ServerId,
}

#[derive(Default)]
pub(super) struct Platform {
    pub(super) running: BTreeMap<AllocationId, Process>,
    /// Orders that were carried out, so that none is carried out twice.
    known: BTreeSet<AllocationId>,
    /// Effects of one allocation, which run one after another; the first is in flight.
    pub(super) effects: BTreeMap<AllocationId, VecDeque<Effect>>,
    /// Exits that the broker has not confirmed.
    pub(super) exits: BTreeMap<AllocationId, String>,
    pub(super) started: u64,
}

impl Platform {
    /// Queues an effect; true if it is the first of its allocation and has to be started.
    pub(super) fn queue(&mut self, effect: Effect) -> bool {
        let queue = self.effects.entry(effect.allocation().clone()).or_default();
        if queue.contains(&effect) {
            return false;
        }
        queue.push_back(effect);
        queue.len() == 1
    }

    /// Performs the first effect of an allocation; returns the new process, if one was started, and the outcome.
    pub(super) fn perform(
        &mut self,
        allocation: &AllocationId,
        fail: bool,
    ) -> (Option<ServerId>, Option<Command>) {
        let Some(effect) = self.effects.get(allocation).and_then(VecDeque::front).cloned() else {
            return (None, None);
        };
        let allocation = allocation.clone();
        match effect {
            Effect::Start { .. } if fail && !self.known.contains(&allocation) => {
                self.known.insert(allocation.clone());
                (None, Some(Command::AllocationFailed { allocation, error: "no machines left".into() }))
            }
            Effect::Start { server, fleet, .. } => {
                let fresh = self.known.insert(allocation.clone());
                if fresh {
                    self.running.insert(allocation.clone(), Process { fleet, server: server.clone() });
                    self.started += 1;
                }
                (fresh.then_some(server), Some(Command::AllocationStarted { allocation }))
            }
            Effect::Stop { .. } => {
                self.known.insert(allocation.clone());
                self.running.remove(&allocation);
                self.exits.remove(&allocation);
                (None, Some(Command::AllocationStopped { allocation }))
            }
        }
    }

    /// Called when the outcome has reached the broker; returns whether another effect of the allocation follows.
    pub(super) fn done(&mut self, allocation: &AllocationId) -> bool {
        let Some(queue) = self.effects.get_mut(allocation) else { return false };
        queue.pop_front();
        if queue.is_empty() {
            self.effects.remove(allocation);
            return false;
        }
        true
    }

    /// A process ends on its own.
    pub(super) fn exit(&mut self, server: &Server, status: &str) {
        let Some(allocation) = &server.allocation else { return };
        if self.running.remove(allocation).is_some() {
            self.exits.insert(allocation.clone(), status.into());
        }
    }
}
