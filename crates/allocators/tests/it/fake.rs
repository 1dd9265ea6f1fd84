//! A platform in memory, which can be told to fail.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use sortie_allocators::{Allocator, AllocatorError, StartOrder, Started};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};

/// Runs "servers" by remembering them.
pub(crate) struct Fake {
    fleet: FleetId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: BTreeMap<AllocationId, StartOrder>,
    next_errors: VecDeque<AllocatorError>,
    stops: Vec<AllocationId>,
    only_waits: bool,
}

impl Fake {
    pub(crate) fn new(fleet: &str) -> Self {
        Self { fleet: FleetId::new(fleet).unwrap(), state: Mutex::default() }
    }

    /// The next call fails with `error`; may be told several.
    pub(crate) fn fail_with(&self, error: AllocatorError) {
        self.state.lock().unwrap().next_errors.push_back(error);
    }

    /// From now on, its stops are next to nothing but waiting.
    pub(crate) fn only_wait(&self) {
        self.state.lock().unwrap().only_waits = true;
    }

    pub(crate) fn runs(&self, allocation: &AllocationId) -> bool {
        self.state.lock().unwrap().running.contains_key(allocation)
    }

    /// Every stop that did not fail.
    pub(crate) fn stops(&self) -> Vec<AllocationId> {
        self.state.lock().unwrap().stops.clone()
    }
}

#[async_trait::async_trait]
impl Allocator for Fake {
    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.next_errors.pop_front() {
            return Err(error);
        }
        if order.fleet != self.fleet {
            return Err(AllocatorError::permanent(format!("no fleet {}", order.fleet)));
        }
        state.running.insert(order.allocation.clone(), order.clone());
        Ok(Started { placement: format!("memory of {}", order.server) })
    }

    async fn stop(&self, allocation: &AllocationId, _server: &ServerId) -> Result<(), AllocatorError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = state.next_errors.pop_front() {
            return Err(error);
        }
        state.running.remove(allocation);
        state.stops.push(allocation.clone());
        Ok(())
    }

    fn stop_only_waits(&self) -> bool {
        self.state.lock().unwrap().only_waits
    }
}
