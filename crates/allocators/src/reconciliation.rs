//! Compares what runs on the platforms with what the broker ordered: at the start, and in periodic sweeps.
//!
//! The rules are the same for every platform:
//!
//! * A server with our mark that the broker does not know is a **stray**, and is stopped: at the start at once, because
//!   the log is complete then and knows every order; in a sweep only when lists have contained it for [`STRAY_GRACE`] and
//!   for the lag of the platform's lists, so that it is at least as old, and on two lists in a row.
//! * Anything without a mark of this installation is on no list, so it is never touched.
//! * A server that the broker believes placed and that its platform does not have is reported **gone**, but only if the
//!   list is complete, and not before the platform's lists have caught up with the order. An order whose start is in
//!   flight is left alone.
//!
//! Each round asks the broker before and after the platforms. So an order that was given or ended in the meantime is
//! never taken for a difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::{Allocator, AllocatorError, Listing, MAX_STOP_PAUSE, Placement};

/// Time between two sweeps.
pub const SWEEP_PERIOD: Duration = Duration::from_secs(60);
/// Time until a platform that did not return its first list is asked again.
const START_PERIOD: Duration = Duration::from_secs(5);
/// Maximum wait for one list.
const LIST_TIME: Duration = Duration::from_secs(60);
/// A sweep does not stop a stray before lists have contained it for this long.
const STRAY_GRACE: Duration = Duration::from_secs(30);
/// Maximum number of strays that are stopped at a time.
const MAX_STOPS: usize = 64;
/// Pause before another attempt to stop a stray. Doubles with each further attempt.
const STOP_PAUSE: Duration = Duration::from_millis(500);

/// What the broker knows about an order that has not ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownOrder {
    /// The fleet of the order.
    pub fleet: FleetId,
    /// Its server has been started, and nobody has ordered its stop: its platform must have it.
    pub is_placed: bool,
}

/// The broker, as far as the comparison needs it.
#[async_trait]
pub trait Orders: Send + Sync {
    /// Every order that has not ended; `None` once the broker has stopped.
    async fn known(&self) -> Option<BTreeMap<AllocationId, KnownOrder>>;

    /// Reports that nothing is left of the server of `allocation`. Returns when that is durable.
    async fn gone(&self, allocation: AllocationId, status: String);
}

/// One platform in the comparison.
struct Platform {
    name: &'static str,
    allocator: Arc<dyn Allocator>,
    fleets: BTreeSet<FleetId>,
    /// It has returned its first list.
    has_started: bool,
    /// Strays on its last list, and since when they have been on every list. At most [`crate::MAX_LISTED`].
    strays: BTreeMap<AllocationId, Instant>,
}

impl Platform {
    /// Whether to stop `stray`, now that one more list contains it.
    fn condemns(&self, stray: &AllocationId) -> bool {
        // A server that has been on lists for that long is at least as old.
        let grace = STRAY_GRACE.max(self.allocator.capabilities().list_lag);
        !self.has_started || self.strays.get(stray).is_some_and(|since| since.elapsed() >= grace)
    }
}

/// A finished task.
enum Done {
    Stopped(AllocationId),
    Reported(AllocationId),
}

/// Compares platforms and broker until it is dropped.
pub struct Reconciliation {
    orders: Arc<dyn Orders>,
    platforms: Vec<Platform>,
    /// Reported for servers that were gone at the start.
    gone_at_start: &'static str,
    /// Placed orders that were missing on the last list, and since when. At most as many as the broker has orders.
    missing: BTreeMap<AllocationId, Instant>,
    stopping: BTreeSet<AllocationId>,
    reporting: BTreeSet<AllocationId>,
    stops: Arc<Semaphore>,
    work: JoinSet<Done>,
    has_settled: bool,
}

impl Reconciliation {
    /// A comparison with what `orders` knows. `gone_at_start` is the reported reason for servers that were gone when it
    /// began: `was gone when the control plane started`.
    #[must_use]
    pub fn new(orders: Arc<dyn Orders>, gone_at_start: &'static str) -> Self {
        Self {
            orders,
            platforms: Vec::new(),
            gone_at_start,
            missing: BTreeMap::new(),
            stopping: BTreeSet::new(),
            reporting: BTreeSet::new(),
            stops: Arc::new(Semaphore::new(MAX_STOPS)),
            work: JoinSet::new(),
            has_settled: false,
        }
    }

    /// Adds the platform `name`, which runs the servers of `fleets`.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        allocator: Arc<dyn Allocator>,
        fleets: BTreeSet<FleetId>,
    ) -> Self {
        let platform = Platform { name, allocator, fleets, has_started: false, strays: BTreeMap::new() };
        self.platforms.push(platform);
        self
    }

    /// Compares until the broker stops. `settled` is called once: when every platform has returned a list, and all
    /// servers that were gone at the start have been reported.
    pub async fn run(mut self, settled: impl FnOnce() + Send) {
        let mut settled = Some(settled);
        while let Some(pause) = self.round().await {
            self.settle(&mut settled);
            let mut wake = std::pin::pin!(sleep(pause));
            loop {
                tokio::select! {
                    () = &mut wake => break,
                    Some(done) = self.work.join_next() => {
                        match done {
                            Ok(Done::Stopped(allocation)) => drop(self.stopping.remove(&allocation)),
                            Ok(Done::Reported(allocation)) => drop(self.reporting.remove(&allocation)),
                            // A panic does not say whose task it was. Repeating some of the others does no harm.
                            Err(_) => {
                                self.stopping.clear();
                                self.reporting.clear();
                            }
                        }
                        self.settle(&mut settled);
                    }
                }
            }
        }
    }

    fn settle<F: FnOnce()>(&mut self, settled: &mut Option<F>) {
        let has_started = self.platforms.iter().all(|platform| platform.has_started);
        if has_started && self.missing.is_empty() && self.reporting.is_empty() {
            self.has_settled = true;
            if let Some(settled) = settled.take() {
                settled();
            }
        }
    }

    /// One comparison; returns the pause until the next, or `None` once the broker has stopped.
    async fn round(&mut self) -> Option<Duration> {
        let before = self.orders.known().await?;
        let lists = self.lists().await;
        let after = self.orders.known().await?;
        let placed = before.iter().filter(|(allocation, order)| {
            order.is_placed && after.get(*allocation).is_some_and(|order| order.is_placed)
        });
        let placed = placed.map(|(allocation, order)| (allocation, &order.fleet)).collect();
        self.report_gone(placed, &lists);
        for (at, list) in lists.iter().enumerate() {
            if let Some(list) = list {
                self.stop_strays(at, list, &after);
            }
        }
        for (platform, list) in self.platforms.iter_mut().zip(&lists) {
            platform.has_started |= list.is_some();
        }
        let have_started = self.platforms.iter().all(|platform| platform.has_started);
        Some(if have_started { SWEEP_PERIOD } else { START_PERIOD })
    }

    /// The list of each platform; `None` if it does not return one.
    async fn lists(&self) -> Vec<Option<Listing>> {
        let list = async |platform: &Platform| {
            let problem = match timeout(LIST_TIME, platform.allocator.list()).await {
                Ok(Ok(list)) => return Some(list),
                Ok(Err(error)) => error.message,
                Err(_) => format!("no answer within {} s", LIST_TIME.as_secs()),
            };
            tracing::warn!(platform = platform.name, problem, "cannot list the game servers of a platform");
            None
        };
        futures::future::join_all(self.platforms.iter().map(list)).await
    }

    /// Reports the servers of `placed` orders that do not exist.
    fn report_gone(&mut self, placed: BTreeMap<&AllocationId, &FleetId>, lists: &[Option<Listing>]) {
        let mut listed: BTreeMap<&AllocationId, (usize, &Placement)> = BTreeMap::new();
        for (at, list) in lists.iter().enumerate() {
            for found in list.iter().flat_map(Listing::placements) {
                // A running server takes precedence over what is left of another one.
                let known = listed.entry(&found.allocation).or_insert((at, found));
                if known.1.state.has_ended() {
                    *known = (at, found);
                }
            }
        }
        let missing = std::mem::take(&mut self.missing);
        for (allocation, fleet) in placed {
            let since = missing.get(allocation).copied();
            if self.reporting.contains(allocation) {
                continue;
            }
            if let Some((at, found)) = listed.get(allocation) {
                self.report_ended(*at, found);
                continue;
            }
            match self.has_caught_up(fleet, since, lists) {
                Some(true) => {
                    let status =
                        if self.has_settled { "is not on its platform any more" } else { self.gone_at_start };
                    self.report(allocation.clone(), status.to_owned());
                }
                Some(false) => {
                    self.missing.insert(allocation.clone(), since.unwrap_or_else(Instant::now));
                }
                None => self.missing.extend(since.map(|since| (allocation.clone(), since))),
            }
        }
    }

    /// A server that has ended according to its platform, unless the platform reports ends on its own.
    fn report_ended(&mut self, at: usize, found: &Placement) {
        let crate::PlacementState::Ended(status) = &found.state else { return };
        let reports_exits =
            self.platforms.get(at).is_some_and(|platform| platform.allocator.capabilities().reports_exits);
        if !reports_exits {
            self.report(found.allocation.clone(), status.clone());
        }
    }

    /// Whether an order of `fleet` that has been on no list since `since` has no server. `None` if the lists do not
    /// tell.
    fn has_caught_up(
        &self,
        fleet: &FleetId,
        since: Option<Instant>,
        lists: &[Option<Listing>],
    ) -> Option<bool> {
        let is_configured = self.platforms.iter().any(|platform| platform.fleets.contains(fleet));
        let mut has_caught_up = true;
        for (platform, list) in self.platforms.iter().zip(lists) {
            // The server of a fleet that is no longer configured may be on any platform.
            if is_configured && !platform.fleets.contains(fleet) {
                continue;
            }
            list.as_ref().filter(|list| list.is_complete())?;
            let lag = platform.allocator.capabilities().list_lag;
            // At the start an exact list tells what is gone. Later, two lists have to agree.
            let at_once = lag.is_zero() && !platform.has_started;
            has_caught_up &= at_once || since.is_some_and(|since| since.elapsed() >= lag);
        }
        Some(has_caught_up)
    }

    fn report(&mut self, allocation: AllocationId, status: String) {
        tracing::warn!(%allocation, status, "a game server is gone");
        self.reporting.insert(allocation.clone());
        let orders = Arc::clone(&self.orders);
        self.work.spawn(async move {
            orders.gone(allocation.clone(), status).await;
            Done::Reported(allocation)
        });
    }

    /// Stops the servers on the list of platform `at` that are not among the `known` orders, if it is time.
    fn stop_strays(&mut self, at: usize, list: &Listing, known: &BTreeMap<AllocationId, KnownOrder>) {
        let Some(platform) = self.platforms.get(at) else { return };
        let reports_exits = platform.allocator.capabilities().reports_exits;
        let (mut strays, mut condemned) = (BTreeMap::new(), Vec::new());
        for found in list.placements() {
            let Placement { allocation, state, .. } = found;
            // What a platform keeps of an ended server until it has reported the end is not ours to remove.
            let is_left_alone = reports_exits && state.has_ended();
            if known.contains_key(allocation) || self.stopping.contains(allocation) || is_left_alone {
                continue;
            }
            if platform.condemns(allocation) {
                condemned.push(found.clone());
            }
            let since = platform.strays.get(allocation).copied().unwrap_or_else(Instant::now);
            strays.insert(allocation.clone(), since);
        }
        let (name, allocator) = (platform.name, Arc::clone(&platform.allocator));
        if let Some(platform) = self.platforms.get_mut(at) {
            platform.strays = strays;
        }
        for stray in condemned {
            self.stop(name, &allocator, stray);
        }
    }

    fn stop(&mut self, platform: &'static str, allocator: &Arc<dyn Allocator>, stray: Placement) {
        let Placement { allocation, server, id, address, started_at, .. } = stray;
        if !self.stopping.insert(allocation.clone()) {
            return;
        }
        tracing::warn!(%allocation, %server, platform, id, ?address, ?started_at, "stopping an unknown server");
        let (allocator, stops) = (Arc::clone(allocator), Arc::clone(&self.stops));
        self.work.spawn(async move {
            // The semaphore is never closed.
            let _permit = stops.acquire().await;
            stop_stray(allocator.as_ref(), &allocation, &server).await;
            Done::Stopped(allocation)
        });
    }
}

async fn stop_stray(allocator: &dyn Allocator, allocation: &AllocationId, server: &ServerId) {
    let mut pause = STOP_PAUSE;
    while let Err(AllocatorError { class, message }) = allocator.stop(allocation, server).await {
        tracing::error!(%allocation, %server, error = message, "an unknown server could not be stopped");
        let asked = class.retry_after().unwrap_or_default();
        sleep(pause.max(asked).min(MAX_STOP_PAUSE)).await;
        pause = pause.saturating_mul(2).min(MAX_STOP_PAUSE);
    }
}
