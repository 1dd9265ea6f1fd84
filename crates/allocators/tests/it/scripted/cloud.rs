//! The service behind the scripted platform: objects with marks, lists that lag, and faults on request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sortie_allocators::{Address, AllocatorError, ErrorClass, Placement, PlacementState, StartOrder};
use sortie_domain::ids::{AllocationId, ServerId};
use tokio::time::{Instant, sleep};

use crate::book::TokioClock;

/// The lag of its lists.
pub(crate) const LIST_LAG: Duration = Duration::from_secs(5);
/// Time that a call takes.
pub(crate) const LATENCY: Duration = Duration::from_millis(10);
/// Time from an object's creation until its server runs.
const BOOT: Duration = Duration::from_secs(2);
/// Time from a stop request until a server has ended.
const SHUTDOWN: Duration = Duration::from_secs(1);
/// Objects on one page of a list.
const PAGE: usize = 2;

/// What happens to a call that creates a server.
#[derive(Clone, Debug)]
pub(crate) enum CreateFault {
    /// It is carried out, and its answer is lost.
    Lost,
    /// Its answer is lost, and it is carried out after this time.
    Late(Duration),
    /// It arrives twice.
    Twice,
    /// It is refused.
    Refused(ErrorClass),
}

/// A server at the service.
#[derive(Clone)]
pub(crate) struct Object {
    pub(crate) number: u64,
    installation: &'static str,
    key: String,
    allocation: AllocationId,
    server: ServerId,
    created: Instant,
    crashed: Option<Instant>,
    stopping: Option<Instant>,
    /// When the platform lost it.
    vanished: Option<Instant>,
}

impl Object {
    fn address(&self) -> Address {
        let port = u16::try_from(7000 + 2 * self.number).unwrap();
        Address { host: "192.0.2.1".to_owned(), ports: vec![port, port + 1] }
    }

    fn gone_at(&self) -> Option<Instant> {
        self.stopping.map(|since| since + SHUTDOWN).into_iter().chain(self.vanished).min()
    }

    fn is_gone(&self, at: Instant) -> bool {
        self.gone_at().is_some_and(|gone| gone <= at)
    }

    fn state(&self, at: Instant) -> PlacementState {
        if self.crashed.is_some_and(|crashed| crashed <= at) {
            PlacementState::Ended("exit status 3".to_owned())
        } else if self.stopping.is_some_and(|since| since <= at) {
            PlacementState::Stopping
        } else if self.created + BOOT <= at {
            PlacementState::Running
        } else {
            PlacementState::Starting
        }
    }
}

/// Whose objects.
#[derive(Clone, Copy)]
pub(crate) enum Filter {
    Installation(&'static str),
    All,
}

impl Filter {
    fn takes(self, object: &Object) -> bool {
        match self {
            Self::Installation(wanted) => object.installation == wanted,
            Self::All => true,
        }
    }
}

/// A page of a list.
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    pub(crate) has_more: bool,
    /// The service has said that the whole list is incomplete.
    pub(crate) is_cut: bool,
}

/// What the tests configure, and what they inspect.
#[derive(Default)]
pub(crate) struct State {
    objects: BTreeMap<u64, Object>,
    late: Vec<(Instant, Object)>,
    last_number: u64,
    /// Faults of the next calls of any kind.
    pub(crate) calls: VecDeque<AllocatorError>,
    /// Faults of the next calls that create something.
    pub(crate) creates: VecDeque<CreateFault>,
    pub(crate) lists_exactly: bool,
    pub(crate) cuts_lists: bool,
    pub(crate) fails_lists: bool,
    pub(crate) created: Vec<AllocationId>,
    pub(crate) stopped: Vec<AllocationId>,
}

impl State {
    /// Carries out what is due.
    fn settle(&mut self) {
        let now = Instant::now();
        let late = std::mem::take(&mut self.late);
        for (due, object) in late {
            if due <= now {
                self.insert(Object { created: due, ..object });
            } else {
                self.late.push((due, object));
            }
        }
    }

    /// The object with the same key, or `object`.
    fn insert(&mut self, object: Object) -> Object {
        let at = object.created;
        let mut known = self.objects.values();
        let known = known.find(|known| {
            known.installation == object.installation && known.key == object.key && !known.is_gone(at)
        });
        if let Some(known) = known {
            return known.clone();
        }
        self.objects.insert(object.number, object.clone());
        object
    }

    pub(crate) fn list_lag(&self) -> Duration {
        if self.lists_exactly { Duration::ZERO } else { LIST_LAG }
    }

    fn fault(&mut self) -> Result<(), AllocatorError> {
        self.settle();
        self.calls.pop_front().map_or(Ok(()), Err)
    }

    fn of(&mut self, filter: Filter, allocation: &AllocationId) -> impl Iterator<Item = &mut Object> {
        self.settle();
        let now = Instant::now();
        let objects = self.objects.values_mut();
        objects.filter(move |object| {
            filter.takes(object) && object.allocation == *allocation && !object.is_gone(now)
        })
    }
}

/// The service.
pub(crate) struct Cloud {
    clock: TokioClock,
    state: Mutex<State>,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        Self { clock: TokioClock::start(), state: Mutex::default() }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn clock(&self) -> TokioClock {
        self.clock
    }

    pub(crate) fn draw_key(&self) -> String {
        let mut state = self.script();
        state.last_number += 1;
        format!("key-{}", state.last_number)
    }

    /// Creates an object, unless one with that key exists. It is carried out even if the caller does not wait.
    pub(crate) async fn create(
        &self,
        installation: &'static str,
        key: &str,
        order: &StartOrder,
    ) -> Result<Object, AllocatorError> {
        let created = self.create_now(installation, key, order);
        sleep(LATENCY).await;
        created
    }

    fn create_now(
        &self,
        installation: &'static str,
        key: &str,
        order: &StartOrder,
    ) -> Result<Object, AllocatorError> {
        let mut state = self.script();
        state.created.push(order.allocation.clone());
        state.fault()?;
        let mut object = || {
            state.last_number += 1;
            Object {
                number: state.last_number,
                installation,
                key: key.to_owned(),
                allocation: order.allocation.clone(),
                server: order.server.clone(),
                created: Instant::now(),
                crashed: None,
                stopping: None,
                vanished: None,
            }
        };
        let (first, second) = (object(), object());
        let lost = AllocatorError::new(ErrorClass::UnknownOutcome, "no answer");
        match state.creates.pop_front() {
            None => Ok(state.insert(first)),
            Some(CreateFault::Twice) => {
                let created = state.insert(first);
                state.insert(second);
                Ok(created)
            }
            Some(CreateFault::Lost) => {
                state.insert(first);
                Err(lost)
            }
            Some(CreateFault::Late(by)) => {
                state.late.push((Instant::now() + by, first));
                Err(lost)
            }
            Some(CreateFault::Refused(class)) => Err(AllocatorError::new(class, "refused")),
        }
    }

    /// Stops the server of `allocation`; returns whether it exists.
    pub(crate) async fn delete(
        &self,
        filter: Filter,
        allocation: &AllocationId,
    ) -> Result<bool, AllocatorError> {
        sleep(LATENCY).await;
        let mut state = self.script();
        state.fault()?;
        let mut found = false;
        for object in state.of(filter, allocation) {
            found = true;
            object.stopping.get_or_insert_with(Instant::now);
        }
        state.stopped.push(allocation.clone());
        Ok(found)
    }

    /// The server of `allocation`, as it is now.
    pub(crate) async fn get(
        &self,
        filter: Filter,
        allocation: &AllocationId,
    ) -> Result<Option<Object>, AllocatorError> {
        sleep(LATENCY).await;
        let mut state = self.script();
        state.fault()?;
        Ok(state.of(filter, allocation).next().cloned())
    }

    /// A page of the objects as they were a while ago, those with numbers above `after`.
    pub(crate) async fn list(&self, filter: Filter, after: u64) -> Result<Page, AllocatorError> {
        sleep(LATENCY).await;
        let mut state = self.script();
        state.fault()?;
        if state.fails_lists {
            return Err(AllocatorError::new(ErrorClass::Unreachable, "no list today"));
        }
        let then = Instant::now() - state.list_lag();
        let mut objects = state
            .objects
            .range(after + 1..)
            .map(|(_, object)| object)
            .filter(|object| filter.takes(object) && object.created <= then && !object.is_gone(then));
        let page: Vec<_> = objects.by_ref().take(PAGE).cloned().collect();
        Ok(Page { objects: page, has_more: objects.next().is_some(), is_cut: state.cuts_lists })
    }

    pub(crate) fn address(&self, installation: &'static str, allocation: &AllocationId) -> Option<Address> {
        self.script().of(Filter::Installation(installation), allocation).next().map(|object| object.address())
    }

    /// An object as lists and answers show it.
    pub(crate) fn placement(&self, object: Object) -> Placement {
        Placement {
            state: object.state(Instant::now()),
            id: format!("object {}", object.number),
            address: Some(object.address()),
            started_at: Some(self.clock.at(object.created)),
            allocation: object.allocation,
            server: object.server,
        }
    }

    /// Number of servers of `allocation` that run or are about to.
    pub(crate) fn running(&self, installation: &'static str, allocation: &AllocationId) -> usize {
        let mut state = self.script();
        let running = state.of(Filter::Installation(installation), allocation);
        running.filter(|object| object.crashed.is_none()).count()
    }

    pub(crate) fn crash(&self, installation: &'static str, allocation: &AllocationId) {
        for object in self.script().of(Filter::Installation(installation), allocation) {
            object.crashed = Some(Instant::now());
        }
    }

    pub(crate) fn vanish(&self, installation: &'static str, allocation: &AllocationId) {
        for object in self.script().of(Filter::Installation(installation), allocation) {
            object.vanished = Some(Instant::now());
        }
    }
}
