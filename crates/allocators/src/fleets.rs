//! Carries out the broker's effects: each fleet has an allocator, whose answers become commands.
//!
//! The class of an error decides the reaction to it ([`ErrorClass::start_rule`](crate::ErrorClass::start_rule)).
//! Transient errors are retried with the engine's pauses, but not forever: the broker has other fleets, and an open
//! order would hold back its own cancellation. When its attempts are used up, an order is cancelled and reported as
//! failed, and the broker avoids the fleet for a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sortie_domain::broker::{Broker, Command, Effect};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_engine::{Performer, Retry};

use crate::{Allocator, AllocatorError, MAX_START_PAUSE, MAX_STOP_PAUSE, StartOrder};

/// The allocators of all fleets.
pub struct Fleets {
    allocators: BTreeMap<FleetId, Arc<dyn Allocator>>,
    unconfigured: Vec<Arc<dyn Allocator>>,
    /// Orders that some platform could not carry out yet.
    attempts: Mutex<BTreeMap<AllocationId, Attempts>>,
}

/// The attempts so far for one order.
#[derive(Clone, Copy, Default)]
struct Attempts {
    /// Attempts that failed.
    failed: u32,
    /// Total of the pauses that the platform asked for.
    paused: Duration,
    /// The outcome of an attempt is unknown: its server may run.
    may_run: bool,
}

impl Fleets {
    /// `allocators` has one entry per configured fleet; several may share one allocator. `unconfigured` are asked to
    /// stop servers of fleets that are no longer configured. They know their servers without the fleet.
    #[must_use]
    pub fn new(
        allocators: BTreeMap<FleetId, Arc<dyn Allocator>>,
        unconfigured: Vec<Arc<dyn Allocator>>,
    ) -> Self {
        Self { allocators, unconfigured, attempts: Mutex::default() }
    }

    /// The allocators that are asked to stop servers of `fleet`.
    fn stoppers(&self, fleet: &FleetId) -> &[Arc<dyn Allocator>] {
        self.allocators.get(fleet).map_or(&self.unconfigured, std::slice::from_ref)
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<AllocationId, Attempts>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn start(&self, order: StartOrder) -> Result<Command, Retry> {
        let StartOrder { allocation, fleet, .. } = &order;
        let Some(allocator) = self.allocators.get(fleet) else {
            let error = format!("fleet {fleet} is not configured");
            return Ok(Command::AllocationFailed { allocation: allocation.clone(), error });
        };
        if self.attempts().get(allocation).is_some_and(|attempts| attempts.may_run) {
            match allocator.describe(allocation).await {
                Ok(Some(found)) => return Ok(self.started(&order, &found.id)),
                Ok(None) => {}
                Err(error) => return self.not_started(&order, allocator.as_ref(), error).await,
            }
        }
        match allocator.start(&order).await {
            Ok(started) => Ok(self.started(&order, &started.placement)),
            Err(error) => self.not_started(&order, allocator.as_ref(), error).await,
        }
    }

    fn started(&self, order: &StartOrder, placement: &str) -> Command {
        let StartOrder { allocation, server, fleet } = order;
        self.attempts().remove(allocation);
        tracing::info!(%allocation, %server, %fleet, placement, "started");
        Command::AllocationStarted { allocation: allocation.clone() }
    }

    async fn not_started(
        &self,
        order: &StartOrder,
        allocator: &dyn Allocator,
        error: AllocatorError,
    ) -> Result<Command, Retry> {
        let allocation = &order.allocation;
        let rule = error.class.start_rule();
        let attempts = self.one_more_attempt(allocation, &error);
        if attempts.failed < rule.attempts && attempts.paused <= MAX_START_PAUSE {
            return Err(Retry { after: error.class.retry_after(), reason: error.message });
        }
        if attempts.may_run
            && let Some(found) = allocator.describe(allocation).await.map_err(retry)?
        {
            return Ok(self.started(order, &found.id));
        }
        if attempts.may_run || rule.takes_back {
            allocator.stop(allocation, &order.server).await.map_err(retry)?;
        }
        self.attempts().remove(allocation);
        tracing::warn!(
            %allocation, fleet = %order.fleet, class = ?error.class, error = error.message, "not started"
        );
        Ok(Command::AllocationFailed { allocation: allocation.clone(), error: error.message })
    }

    /// Counts an attempt that failed with `error`; returns all attempts so far.
    fn one_more_attempt(&self, allocation: &AllocationId, error: &AllocatorError) -> Attempts {
        let mut attempts = self.attempts();
        let of_order = attempts.entry(allocation.clone()).or_default();
        of_order.failed = of_order.failed.saturating_add(1);
        of_order.paused = of_order.paused.saturating_add(error.class.retry_after().unwrap_or_default());
        of_order.may_run |= error.class.start_rule().looks_first;
        *of_order
    }

    async fn stop(
        &self,
        allocation: AllocationId,
        server: &ServerId,
        fleet: &FleetId,
    ) -> Result<Command, Retry> {
        let stoppers = self.stoppers(fleet);
        if stoppers.is_empty() {
            tracing::warn!(
                %allocation, %server, %fleet,
                "assumed stopped: its fleet is no longer configured, so no platform can stop it"
            );
        }
        for allocator in stoppers {
            allocator.stop(&allocation, server).await.map_err(retry)?;
        }
        Ok(Command::AllocationStopped { allocation })
    }
}

/// A stop has to succeed in the end, so even a permanent error is retried: somebody may fix its cause.
fn retry(error: AllocatorError) -> Retry {
    let after = error.class.retry_after().map(|asked| asked.min(MAX_STOP_PAUSE));
    Retry { after, reason: error.message }
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
            Effect::Stop { fleet, .. } => {
                self.stoppers(fleet).iter().all(|allocator| allocator.capabilities().stop_only_waits)
            }
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
