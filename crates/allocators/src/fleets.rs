//! Carries out the broker's effects: each fleet has an allocator, and what the allocator says becomes a command.
//!
//! A platform that says "not now" is asked again, by the engine's pauses. Not for ever: the broker has other
//! fleets, and an order that stays open would hold back its own cancellation. After [`MAX_START_ATTEMPTS`] the
//! order is taken back and reported as failed, and the broker leaves the fleet alone for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sortie_domain::broker::{Broker, Command, Effect};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_engine::{Performer, Retry};

use crate::{Allocator, AllocatorError, ErrorKind, StartOrder};

/// Attempts to start one server before the order counts as failed: about 16 seconds with the engine's usual
/// pauses.
pub const MAX_START_ATTEMPTS: u32 = 7;

/// The allocators of all fleets.
pub struct Fleets {
    allocators: BTreeMap<FleetId, Arc<dyn Allocator>>,
    unconfigured: Option<Arc<dyn Allocator>>,
    /// Attempts so far, of orders that some platform could not carry out yet.
    attempts: Mutex<BTreeMap<AllocationId, u32>>,
}

impl Fleets {
    /// `allocators` has one entry a configured fleet; several may share one allocator. `unconfigured` is asked
    /// to stop servers of fleets that are no longer configured: one that knows its servers without their fleet,
    /// as the allocator of local processes does.
    #[must_use]
    pub fn new(
        allocators: BTreeMap<FleetId, Arc<dyn Allocator>>,
        unconfigured: Option<Arc<dyn Allocator>>,
    ) -> Self {
        Self { allocators, unconfigured, attempts: Mutex::default() }
    }

    /// Who is asked to stop servers of `fleet`.
    fn stopper(&self, fleet: &FleetId) -> Option<&Arc<dyn Allocator>> {
        self.allocators.get(fleet).or(self.unconfigured.as_ref())
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<AllocationId, u32>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, order: StartOrder) -> Result<Command, Retry> {
        let StartOrder { allocation, fleet, .. } = &order;
        let Some(allocator) = self.allocators.get(fleet) else {
            let error = format!("fleet {fleet} is not configured");
            return Ok(Command::AllocationFailed { allocation: allocation.clone(), error });
        };
        match allocator.start(&order).await {
            Ok(started) => {
                self.attempts().remove(allocation);
                tracing::info!(%allocation, server = %order.server, %fleet, placement = started.placement, "started");
                Ok(Command::AllocationStarted { allocation: allocation.clone() })
            }
            Err(error) => self.not_started(&order, allocator.as_ref(), error).await,
        }
    }

    async fn not_started(
        &self,
        order: &StartOrder,
        allocator: &dyn Allocator,
        error: AllocatorError,
    ) -> Result<Command, Retry> {
        let allocation = &order.allocation;
        if error.kind == ErrorKind::Transient {
            if !self.attempts_used_up(allocation) {
                return Err(Retry::because(error.message));
            }
            // The platform may have done what it could not say.
            allocator.stop(allocation, &order.server).await.map_err(retry)?;
        }
        self.attempts().remove(allocation);
        tracing::warn!(%allocation, fleet = %order.fleet, error = error.message, "not started");
        Ok(Command::AllocationFailed { allocation: allocation.clone(), error: error.message })
    }

    /// Counts one more attempt.
    fn attempts_used_up(&self, allocation: &AllocationId) -> bool {
        let mut attempts = self.attempts();
        let count = attempts.entry(allocation.clone()).or_default();
        *count = count.saturating_add(1);
        *count >= MAX_START_ATTEMPTS
    }

    async fn stop(
        &self,
        allocation: AllocationId,
        server: &ServerId,
        fleet: &FleetId,
    ) -> Result<Command, Retry> {
        match self.stopper(fleet) {
            Some(allocator) => allocator.stop(&allocation, server).await.map_err(retry)?,
            None => tracing::warn!(
                %allocation, %server, %fleet,
                "taken for stopped: its fleet is no longer configured, so nobody can be asked to stop it"
            ),
        }
        Ok(Command::AllocationStopped { allocation })
    }
}

/// A stop has no other outcome than that it worked, so even an error that stays is tried again: somebody may
/// change what is wrong.
fn retry(error: AllocatorError) -> Retry {
    Retry::because(error.message)
}

#[async_trait]
impl Performer<Broker> for Fleets {
    fn key(&self, effect: &Effect) -> String {
        effect.allocation().to_string()
    }

    /// A fleet's platform may be slow in starting servers, in stopping them, or in both.
    fn group(&self, effect: &Effect) -> String {
        match effect {
            Effect::Start { fleet, .. } => format!("start {fleet}"),
            Effect::Stop { fleet, .. } if self.allocators.contains_key(fleet) => format!("stop {fleet}"),
            Effect::Stop { .. } => "stop unconfigured".to_owned(),
        }
    }

    fn only_waits(&self, effect: &Effect) -> bool {
        match effect {
            Effect::Start { .. } => false,
            Effect::Stop { fleet, .. } => self.stopper(fleet).is_none_or(|found| found.stop_only_waits()),
        }
    }

    async fn perform(&self, effect: Effect) -> Result<Option<Command>, Retry> {
        let outcome = match effect {
            Effect::Start { allocation, server, fleet } => {
                self.start(StartOrder { allocation, server, fleet }).await?
            }
            Effect::Stop { allocation, server, fleet } => self.stop(allocation, &server, &fleet).await?,
        };
        Ok(Some(outcome))
    }
}
