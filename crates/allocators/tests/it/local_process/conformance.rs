//! The conformance suite against real processes.

use std::sync::Arc;

use sortie_allocators::local_process::LocalProcessAllocator;
use sortie_allocators::{Address, Allocator};
use sortie_domain::ids::AllocationId;
use sortie_engine::{Clock, SystemClock};
use tokio::sync::Mutex;

use super::harness::{Harness, Opened, eventually, kill};
use crate::conformance::{Platform, conforms};

/// A data folder and its allocator.
struct Installation {
    harness: Harness,
    allocator: Arc<LocalProcessAllocator>,
}

impl Installation {
    fn of(harness: Harness, allocator: LocalProcessAllocator) -> Self {
        Self { harness, allocator: Arc::new(allocator) }
    }

    async fn running(&self, allocation: &AllocationId) -> usize {
        let look = || self.harness.processes(Some(allocation)).len();
        if self.harness.kept(&format!("{allocation}.json")).exists() {
            // A server that has just been started may not show its variables yet, and an ended one has a record until
            // its end has been stored.
            let is_recorded = || self.harness.kept(&format!("{allocation}.json")).exists();
            eventually("process", || Some(look()).filter(|count| *count > 0 || !is_recorded())).await
        } else {
            look()
        }
    }
}

struct Local {
    ours: Installation,
    theirs: Installation,
    exits: Mutex<tokio::sync::mpsc::Receiver<sortie_allocators::ServerExit>>,
}

#[async_trait::async_trait]
impl Platform for Local {
    fn allocator(&self) -> Arc<dyn Allocator> {
        Arc::clone(&self.ours.allocator) as _
    }

    fn of_another_installation(&self) -> Arc<dyn Allocator> {
        Arc::clone(&self.theirs.allocator) as _
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock::start())
    }

    async fn running(&self, allocation: &AllocationId) -> usize {
        self.ours.running(allocation).await
    }

    async fn running_of_others(&self, allocation: &AllocationId) -> usize {
        self.theirs.running(allocation).await
    }

    async fn address(&self, allocation: &AllocationId) -> Option<Address> {
        let pid = self.ours.harness.processes(Some(allocation)).into_iter().next()?;
        let variables = std::fs::read_to_string(format!("/proc/{pid}/environ")).ok()?;
        let port = variables.split('\0').find_map(|variable| variable.strip_prefix("SORTIE_PORT="))?;
        Some(Address { host: "127.0.0.1".to_owned(), ports: vec![port.parse().ok()?] })
    }

    async fn crash(&self, allocation: &AllocationId) {
        self.ours.harness.processes(Some(allocation)).into_iter().for_each(kill);
    }

    async fn reported_exit(&self) -> AllocationId {
        self.exits.lock().await.recv().await.unwrap().allocation
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_allocator_of_local_processes_conforms() {
    // One process per server, so that processes can be counted.
    let open = async || {
        let harness = Harness::new();
        let opened = harness.open(harness.fleet("exec sleep 1000")).await;
        (harness, opened)
    };
    let (ours, Opened { allocator, exits, .. }) = open().await;
    let (theirs, Opened { allocator: of_theirs, exits: _exits, .. }) = open().await;
    let local = Local {
        ours: Installation::of(ours, allocator),
        theirs: Installation::of(theirs, of_theirs),
        exits: Mutex::new(exits),
    };
    assert_eq!(conforms(&local).await, Ok(()));
}
