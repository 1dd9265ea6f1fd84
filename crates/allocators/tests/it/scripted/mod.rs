//! A platform in memory, in virtual time: it loses answers, doubles calls, throttles, runs out of capacity, and lists
//! late.

mod cloud;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_allocators::{
    Address, Allocator, AllocatorError, Capabilities, ErrorClass, Listing, Placement, StartOrder, Started,
};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_engine::Clock;
use tokio::time::sleep;

use self::cloud::{Cloud, Filter, Object};
pub(crate) use self::cloud::{CreateFault, LATENCY, LIST_LAG};
use crate::conformance::{Platform, Script, conforms};

/// Pause between two checks whether a server has ended.
const POLL: Duration = Duration::from_millis(100);

/// What an adapter does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Defect {
    /// Each call of `start` uses a new key.
    StartsTwice,
    /// Its lists contain servers of other installations.
    ListsOthers,
    /// It stops servers of other installations with the same allocation.
    StopsOthers,
    /// Its lists lack the newest server.
    ForgetsStarted,
    /// It takes the first page of a list for the whole list.
    HidesCut,
    /// Stopping an unknown server is an error.
    KnowsNoUnknown,
    /// It does not wait until a stopped server has ended.
    StopsEarly,
    /// It treats a lost answer as a call that did nothing.
    DeniesUnknown,
    /// It does not report when the platform wants a retry.
    IgnoresRetryAfter,
    /// It retries on a platform without capacity as often as after transient errors.
    MistakesCapacity,
    /// It reports an ended server as running.
    HidesExit,
    /// It mixes up the ports of a server.
    SwapsPorts,
    /// It describes nothing.
    DescribesNothing,
    /// It does not know its own fleets.
    TakesAnyFleet,
}

/// The allocator of one installation at a [`Cloud`].
pub(crate) struct Scripted {
    cloud: Arc<Cloud>,
    installation: &'static str,
    fleet: FleetId,
    only_waits: AtomicBool,
    defect: Option<Defect>,
}

impl Scripted {
    /// The allocator of the installation `ours`, with one fleet, at a cloud of its own.
    pub(crate) fn new(fleet: &str) -> Self {
        Self::at(Arc::new(Cloud::new()), "ours", fleet, None)
    }

    fn at(cloud: Arc<Cloud>, installation: &'static str, fleet: &str, defect: Option<Defect>) -> Self {
        let fleet = FleetId::new(fleet).unwrap();
        Self { cloud, installation, fleet, only_waits: AtomicBool::new(false), defect }
    }

    /// The next call, whichever it is, fails with `error`; several may be queued.
    pub(crate) fn fail_with(&self, class: ErrorClass, message: &str) {
        self.cloud.script().calls.push_back(AllocatorError::new(class, message));
    }

    /// The next call that creates a server meets this fault; several may be queued.
    pub(crate) fn create_meets(&self, fault: CreateFault) {
        self.cloud.script().creates.push_back(fault);
    }

    /// From now on the platform returns no complete list.
    pub(crate) fn cut_lists(&self) {
        self.cloud.script().cuts_lists = true;
    }

    /// From now on its lists do not lag.
    pub(crate) fn list_exactly(&self) {
        self.cloud.script().lists_exactly = true;
    }

    /// From now on lists fail, or work again.
    pub(crate) fn fail_lists(&self, fail: bool) {
        self.cloud.script().fails_lists = fail;
    }

    /// From now on, its stops do little but wait.
    pub(crate) fn only_wait(&self) {
        self.only_waits.store(true, Ordering::Relaxed);
    }

    pub(crate) fn runs(&self, allocation: &AllocationId) -> bool {
        self.cloud.running(self.installation, allocation) > 0
    }

    /// The allocations of calls that created a server, or were meant to, and of those that stopped one.
    pub(crate) fn creates(&self) -> Vec<AllocationId> {
        self.cloud.script().created.clone()
    }

    pub(crate) fn stops(&self) -> Vec<AllocationId> {
        self.cloud.script().stopped.clone()
    }

    pub(crate) fn crash(&self, allocation: &AllocationId) {
        self.cloud.crash(self.installation, allocation);
    }

    /// The platform loses the server, and everything about it.
    pub(crate) fn vanish(&self, allocation: &AllocationId) {
        self.cloud.vanish(self.installation, allocation);
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.cloud.clock())
    }

    fn is(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    fn filter(&self) -> Filter {
        Filter::Installation(self.installation)
    }

    fn placement(&self, object: Object) -> Placement {
        let mut placement = self.cloud.placement(object);
        if let (true, Some(address)) = (self.is(Defect::SwapsPorts), &mut placement.address) {
            address.ports.reverse();
        }
        if self.is(Defect::HidesExit) && placement.state.has_ended() {
            placement.state = sortie_allocators::PlacementState::Running;
        }
        placement
    }

    fn error(&self, error: AllocatorError) -> AllocatorError {
        let class = match error.class {
            ErrorClass::UnknownOutcome if self.is(Defect::DeniesUnknown) => ErrorClass::Unreachable,
            ErrorClass::Throttled { .. } if self.is(Defect::IgnoresRetryAfter) => {
                ErrorClass::Throttled { retry_after: None }
            }
            ErrorClass::NoCapacity if self.is(Defect::MistakesCapacity) => ErrorClass::Conflict,
            class => class,
        };
        AllocatorError { class, ..error }
    }

    async fn listing(&self) -> Result<Listing, AllocatorError> {
        let filter = if self.is(Defect::ListsOthers) { Filter::All } else { self.filter() };
        let (mut objects, mut after) = (Vec::new(), 0);
        let is_cut = loop {
            let page = self.cloud.list(filter, after).await?;
            after = page.objects.last().map_or(after, |object| object.number);
            objects.extend(page.objects);
            if !page.has_more || self.is(Defect::HidesCut) {
                break page.is_cut;
            }
        };
        if self.is(Defect::ForgetsStarted) {
            objects.pop();
        }
        let listing = Listing::of(objects.into_iter().map(|object| self.placement(object)));
        Ok(if is_cut { listing.cut() } else { listing })
    }
}

#[async_trait::async_trait]
impl Allocator for Scripted {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            stop_only_waits: self.only_waits.load(Ordering::Relaxed),
            reports_exits: false,
            list_lag: self.cloud.script().list_lag(),
        }
    }

    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError> {
        if order.fleet != self.fleet && !self.is(Defect::TakesAnyFleet) {
            return Err(AllocatorError::invalid(format!("no fleet {}", order.fleet)));
        }
        let key = match self.defect {
            Some(Defect::StartsTwice) => self.cloud.draw_key(),
            _ => order.allocation.to_string(),
        };
        let created = self.cloud.create(self.installation, &key, order).await;
        let object = created.map_err(|error| self.error(error))?;
        Ok(Started { placement: format!("object {}", object.number) })
    }

    async fn stop(&self, allocation: &AllocationId, _server: &ServerId) -> Result<(), AllocatorError> {
        let filter = if self.is(Defect::StopsOthers) { Filter::All } else { self.filter() };
        let found = self.cloud.delete(filter, allocation).await.map_err(|error| self.error(error))?;
        if !found && self.is(Defect::KnowsNoUnknown) {
            return Err(AllocatorError::new(ErrorClass::Lost, format!("no server of {allocation}")));
        }
        while !self.is(Defect::StopsEarly) && self.cloud.get(filter, allocation).await?.is_some() {
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn list(&self) -> Result<Listing, AllocatorError> {
        self.listing().await.map_err(|error| self.error(error))
    }

    async fn describe(&self, allocation: &AllocationId) -> Result<Option<Placement>, AllocatorError> {
        if self.is(Defect::DescribesNothing) {
            return Ok(None);
        }
        let found = self.cloud.get(self.filter(), allocation).await.map_err(|error| self.error(error))?;
        Ok(found.map(|object| self.placement(object)))
    }
}

/// A cloud under test, with two installations at it.
struct Shared {
    ours: Arc<Scripted>,
    theirs: Arc<Scripted>,
}

impl Shared {
    fn with(defect: Option<Defect>) -> Self {
        let cloud = Arc::new(Cloud::new());
        let theirs = Scripted::at(Arc::clone(&cloud), "theirs", "eu", None);
        Self { ours: Arc::new(Scripted::at(cloud, "ours", "eu", defect)), theirs: Arc::new(theirs) }
    }
}

#[async_trait::async_trait]
impl Platform for Shared {
    fn allocator(&self) -> Arc<dyn Allocator> {
        Arc::clone(&self.ours) as _
    }

    fn of_another_installation(&self) -> Arc<dyn Allocator> {
        Arc::clone(&self.theirs) as _
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.ours.clock()
    }

    async fn running(&self, allocation: &AllocationId) -> usize {
        self.ours.cloud.running("ours", allocation)
    }

    async fn running_of_others(&self, allocation: &AllocationId) -> usize {
        self.ours.cloud.running("theirs", allocation)
    }

    async fn address(&self, allocation: &AllocationId) -> Option<Address> {
        self.ours.cloud.address("ours", allocation)
    }

    async fn crash(&self, allocation: &AllocationId) {
        self.ours.crash(allocation);
    }

    async fn reported_exit(&self) -> AllocationId {
        std::future::pending().await
    }

    fn script(&self) -> Option<&dyn Script> {
        Some(self)
    }
}

impl Script for Shared {
    fn create_meets(&self, fault: CreateFault) {
        self.ours.create_meets(fault);
    }

    fn call_fails(&self, class: ErrorClass) {
        self.ours.fail_with(class, "scripted");
    }
}

/// The rules that an adapter with this defect breaks.
async fn broken_by(defect: Defect) -> Vec<&'static str> {
    let broken = conforms(&Shared::with(Some(defect))).await.unwrap_err();
    broken.into_iter().map(|(rule, _)| rule).collect()
}

#[tokio::test(start_paused = true)]
async fn the_scripted_platform_conforms() {
    assert_eq!(conforms(&Shared::with(None)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn every_defect_of_an_adapter_is_noticed() {
    for (defect, rule) in [
        (Defect::StartsTwice, "one order is one server"),
        (Defect::StartsTwice, "a lost answer is one server"),
        (Defect::StartsTwice, "a server that appears late is one server"),
        (Defect::ListsOthers, "a list has all and only ours"),
        (Defect::StopsOthers, "a list has all and only ours"),
        (Defect::StopsOthers, "strays are stopped at the start"),
        (Defect::ForgetsStarted, "a list has all and only ours"),
        (Defect::HidesCut, "a list has all and only ours"),
        (Defect::KnowsNoUnknown, "stops can be repeated"),
        (Defect::StopsEarly, "one order is one server"),
        (Defect::DeniesUnknown, "a start that is given up leaves nothing"),
        (Defect::IgnoresRetryAfter, "a platform that throttles is left alone"),
        (Defect::MistakesCapacity, "capacity may come back"),
        (Defect::HidesExit, "an exit is visible"),
        (Defect::SwapsPorts, "what runs is described"),
        (Defect::DescribesNothing, "what runs is described"),
        (Defect::TakesAnyFleet, "an unknown fleet is refused"),
    ] {
        let broken = broken_by(defect).await;
        assert!(broken.contains(&rule), "{defect:?} broke {broken:?}, not {rule:?}");
    }
}
