//! What a start has to write but has no room for.
//!
//! A start on a full disk serves what can be read. So a new id or key is held in memory and written as soon as there is
//! room. Until then no game server is started or stopped: a server that was started with unsaved ids or keys would be a
//! stranger to the next start.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use sortie_allocators::{
    Allocator, AllocatorError, Capabilities, ErrorClass, Listing, Placement, StartOrder, Started,
};
use sortie_domain::ids::{AllocationId, ServerId};

use crate::failure::Failure;

/// Pause between two attempts to write.
const PAUSE: Duration = Duration::from_millis(500);

type Write = Arc<dyn Fn() -> Result<(), Failure> + Send + Sync>;

/// What to write once there is room. At most one entry per file of the data folder that a start creates.
#[derive(Default)]
pub(crate) struct Unwritten(Vec<Write>);

impl Unwritten {
    /// Calls `write`, and retries later if there is no room now.
    ///
    /// # Errors
    /// [`Failure`] for any other reason.
    pub(crate) fn write(
        &mut self,
        write: impl Fn() -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Result<(), Failure> {
        match write() {
            Err(problem) if problem.lacks_room() => {
                tracing::error!(%problem, "will be written as soon as there is room; until then no game server is started");
                self.0.push(Arc::new(write));
                Ok(())
            }
            done => done,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns when everything is written.
    pub(crate) async fn written(self) {
        for write in self.0 {
            loop {
                let again = Arc::clone(&write);
                match tokio::task::spawn_blocking(move || again()).await {
                    Ok(Ok(())) => break,
                    Ok(Err(problem)) => tracing::debug!(%problem, "still not written"),
                    // The process ends.
                    Err(_) => return std::future::pending().await,
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        tracing::info!("everything that waited for room on the disk is written");
    }
}

/// An allocator that does nothing until it is released.
#[derive(Default)]
pub(crate) struct HeldBack(OnceLock<Arc<dyn Allocator>>);

impl HeldBack {
    /// From now on `allocator` carries out the orders.
    pub(crate) fn release(&self, allocator: Arc<dyn Allocator>) {
        // Released only once.
        let _ = self.0.set(allocator);
    }

    fn released(&self) -> Result<&dyn Allocator, AllocatorError> {
        // An order that waits for this is never reported as failed: it could not be cancelled either.
        let waits =
            || AllocatorError::new(ErrorClass::Conflict, "the control plane waits for room on its disk");
        self.0.get().map(Arc::as_ref).ok_or_else(waits)
    }
}

#[async_trait]
impl Allocator for HeldBack {
    fn capabilities(&self) -> Capabilities {
        let nothing = Capabilities { stop_only_waits: true, reports_exits: false, list_lag: Duration::ZERO };
        self.0.get().map_or(nothing, |allocator| allocator.capabilities())
    }

    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError> {
        self.released()?.start(order).await
    }

    async fn stop(&self, allocation: &AllocationId, server: &ServerId) -> Result<(), AllocatorError> {
        self.released()?.stop(allocation, server).await
    }

    async fn list(&self) -> Result<Listing, AllocatorError> {
        self.released()?.list().await
    }

    async fn describe(&self, allocation: &AllocationId) -> Result<Option<Placement>, AllocatorError> {
        self.released()?.describe(allocation).await
    }
}
