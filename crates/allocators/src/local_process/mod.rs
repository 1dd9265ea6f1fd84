//! Game servers as plain processes of this machine: for a laptop, or a single rented machine.
//!
//! Servers outlive the control plane. They lead their own process group, write their output to a process that outlives
//! it, too, and are recognized by a placement record or, if a crash came between start and record, by the ids in their
//! environment; so a restart or an upgrade of the control plane interrupts no match. This requires that whatever runs
//! the control plane leaves its children alone (systemd: `KillMode=process`).
//!
//! One allocator serves every fleet of local processes: they share the machine's ports, and a server whose fleet is no
//! longer configured can still be stopped.
//!
//! | file | what is in it |
//! |---|---|
//! | `settings` | what is configured |
//! | `launch`, `entrance` | the start of one process; how it enters its control group before that |
//! | `watch` | one task per server, from start or recovery to the end |
//! | `recovery` | which servers an earlier control plane has left |
//! | `record` | the folder `servers`: placement records and output |
//! | `process`, `proc_files`, `strays`, `control_group` | processes and their descendants |
//! | `ports`, `output`, `keeper` | the resources of a server |
//! | `helpers` | how `keeper` and `entrance` are started, which run in processes of their own |

mod control_group;
mod entrance;
mod helpers;
mod keeper;
mod launch;
mod output;
mod ports;
mod proc_files;
mod process;
mod record;
mod recovery;
mod settings;
mod strays;
mod watch;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_domain::time::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::control_group::ControlGroup;
use self::launch::{Failed, launch};
use self::output::Output;
use self::ports::Ports;
use self::record::Folder;
use self::recovery::Survey;
use self::settings::Terms;
use self::watch::{Server, StopCause};
use crate::{
    Address, Allocator, AllocatorError, Capabilities, ErrorClass, ExitListener, Listing, Placement,
    StartOrder, Started,
};

pub use self::entrance::enter_group;
pub use self::helpers::{Helper, Helpers};
pub use self::keeper::keep_output;
pub use self::record::PlacementRecord;
pub use self::settings::{LocalFleet, LocalProcess};

/// Number of ended servers whose output is kept.
const MAX_ENDED_LOGS: usize = 200;
/// Number of ended allocations that are remembered, so that a late repetition of an order starts nothing.
const MAX_ENDED_REMEMBERED: usize = 10_000;
/// Maximum wait for the listener when everything is stopped.
const REPORT_WAIT: Duration = Duration::from_secs(2);
/// Time after SIGKILL until a process that still exists is reported as an error.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the folder {} for game servers: {source}", folder.display())]
pub struct OpenError {
    /// The folder.
    pub folder: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

/// Runs game servers as processes of this machine.
///
/// Dropping it leaves the servers running, for the next one to take over.
pub struct LocalProcessAllocator {
    shared: Arc<Shared>,
}

/// Held by the allocator and by the task of every server.
struct Shared {
    folder: Folder,
    helpers: Helpers,
    fleets: BTreeMap<FleetId, LocalFleet>,
    listener: Arc<dyn ExitListener>,
    ports: Arc<Ports>,
    book: Mutex<Book>,
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Book {
    slots: BTreeMap<AllocationId, Slot>,
    ended: Ended,
    /// No further servers are started.
    closed: bool,
}

enum Slot {
    /// Being started; the token is cancelled when the start has succeeded or failed.
    Starting(CancellationToken),
    Placed(Arc<Server>),
}

/// The most recently ended allocations.
#[derive(Default)]
struct Ended {
    ids: BTreeSet<AllocationId>,
    oldest_first: VecDeque<AllocationId>,
}

impl Ended {
    fn insert(&mut self, allocation: &AllocationId) {
        if !self.ids.insert(allocation.clone()) {
            return;
        }
        self.oldest_first.push_back(allocation.clone());
        if self.oldest_first.len() > MAX_ENDED_REMEMBERED
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

/// How to handle an order.
enum Admission {
    /// It has been carried out.
    Done(Started),
    /// It is being carried out.
    Wait(CancellationToken),
    /// Start the server.
    Go(StartGuard),
}

/// Reserves the slot of an order that is being carried out; frees it unless the server was placed.
struct StartGuard {
    shared: Arc<Shared>,
    allocation: AllocationId,
    settled: CancellationToken,
}

impl Drop for StartGuard {
    fn drop(&mut self) {
        let mut book = lock(&self.shared.book);
        if let Some(Slot::Starting(_)) = book.slots.get(&self.allocation) {
            book.slots.remove(&self.allocation);
        }
        drop(book);
        self.settled.cancel();
    }
}

/// Poisoning is ignored: no panic can leave the data half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LocalProcessAllocator {
    /// Takes over the servers that an earlier allocator of the same `installation` left in the data folder, and reports
    /// to `listener` those that have ended since. Leftovers of ended servers are killed in the background.
    ///
    /// Only one allocator may use a data folder at a time. Needs a runtime.
    ///
    /// # Errors
    /// [`OpenError`] if records cannot be read or written.
    pub async fn open(
        data: &Path,
        installation: &str,
        helpers: Helpers,
        fleets: BTreeMap<FleetId, LocalFleet>,
        listener: Arc<dyn ExitListener>,
    ) -> Result<Self, OpenError> {
        let (folder, survey) = survey(data.to_owned(), installation.to_owned())
            .await
            .map_err(|source| OpenError { folder: data.to_owned(), source })?;
        let ports = Ports::open(&folder.path().join("ports"));
        let ports = Arc::new(ports.map_err(|source| OpenError { folder: data.to_owned(), source })?);
        let shared = Arc::new(Shared {
            folder,
            helpers,
            fleets,
            listener,
            ports,
            book: Mutex::default(),
            tasks: Mutex::default(),
        });
        let running = survey.running.into_iter().map(|(process, placement)| (Some(process), placement));
        let gone = survey.gone.into_iter().map(|placement| (None, placement));
        for (process, placement) in running.chain(gone) {
            let port = shared.ports.claim(placement.port);
            shared.place(Server::new(placement, process, port, &shared));
        }
        for (allocation, group) in survey.strays {
            shared.clear_stray(allocation, group);
        }
        Ok(Self { shared })
    }

    /// Stops every server and starts no further ones; for a control plane that stops its servers when it shuts down.
    /// Each gets its fleet's grace period to exit, but at most `max_grace`. The ends are reported to the listener.
    ///
    /// # Errors
    /// The processes that still exist some seconds after SIGKILL.
    pub async fn stop_all(&self, max_grace: Duration) -> Result<(), Vec<PlacementRecord>> {
        lock(&self.shared.book).closed = true;
        self.shared.starts_settled().await;
        let servers = self.shared.servers();
        for server in &servers {
            server.ask_to_stop(StopCause::ControlPlaneEnds { max_grace });
        }
        let all_gone = async {
            for server in &servers {
                server.gone.cancelled().await;
            }
        };
        if tokio::time::timeout(max_grace.saturating_add(KILL_WAIT), all_gone).await.is_ok() {
            let all_known = async {
                for server in &servers {
                    server.finished.cancelled().await;
                }
            };
            // If the listener cannot take a report, it gets it from the next allocator.
            let _known_or_not = tokio::time::timeout(REPORT_WAIT, all_known).await;
            return Ok(());
        }
        let left = servers.iter().filter(|server| !server.gone.is_cancelled());
        Err(left.map(|server| server.placement.clone()).collect())
    }
}

/// The orders of an `installation` whose servers, or their descendants, run now. Changes nothing.
///
/// # Errors
/// The system's error if it does not tell which processes run.
pub async fn orders_of_running(installation: &str) -> io::Result<BTreeSet<AllocationId>> {
    Ok(recovery::orders(installation, &proc_files::running().await?))
}

async fn survey(data: PathBuf, installation: String) -> io::Result<(Folder, Survey)> {
    let running = proc_files::running().await?;
    let surveyed = tokio::task::spawn_blocking(move || {
        let folder = Folder::open(&data, &installation)?;
        recovery::survey(&folder, running).map(|survey| (folder, survey))
    });
    surveyed.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

impl Drop for LocalProcessAllocator {
    fn drop(&mut self) {
        lock(&self.shared.tasks).abort_all();
    }
}

impl Shared {
    fn terms(&self, fleet: &FleetId) -> Terms {
        Terms::of(self.fleets.get(fleet))
    }

    fn output(&self, allocation: &AllocationId, limit: u64) -> Output {
        Output { log: self.folder.log(allocation), older: self.folder.older_log(allocation), limit }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn servers(&self) -> Vec<Arc<Server>> {
        let book = lock(&self.book);
        let placed = book.slots.values().filter_map(|slot| match slot {
            Slot::Placed(server) => Some(Arc::clone(server)),
            Slot::Starting(_) => None,
        });
        placed.collect()
    }

    fn placement(&self, server: &Server) -> Placement {
        let PlacementRecord { allocation, server: id_of_server, fleet, port, started_at, .. } =
            &server.placement;
        let host = self.fleets.get(fleet).map(|fleet| fleet.process.address.to_string());
        let started_at = humantime::parse_rfc3339_weak(started_at).ok();
        let since_1970 = started_at.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Placement {
            allocation: allocation.clone(),
            server: id_of_server.clone(),
            id: id(&server.placement),
            address: host.map(|host| Address { host, ports: vec![*port] }),
            started_at: since_1970.map(|time| Timestamp::ZERO + time),
            state: server.state(),
        }
    }

    async fn starts_settled(&self) {
        let starting: Vec<_> = lock(&self.book)
            .slots
            .values()
            .filter_map(|slot| match slot {
                Slot::Starting(settled) => Some(settled.clone()),
                Slot::Placed(_) => None,
            })
            .collect();
        for settled in starting {
            settled.cancelled().await;
        }
    }

    /// Starts watching a server.
    fn place(self: &Arc<Self>, server: Server) {
        let server = Arc::new(server);
        let slot = Slot::Placed(Arc::clone(&server));
        lock(&self.book).slots.insert(server.placement.allocation.clone(), slot);
        self.spawn(watch::watch(Arc::clone(self), server));
    }

    /// Kills what is left of an ended server. Until that is done, its allocation gets no other server, which would have
    /// the same ids.
    fn clear_stray(self: &Arc<Self>, allocation: AllocationId, group: Option<ControlGroup>) {
        let Ok(Admission::Go(guard)) = self.admit(&allocation) else { return };
        let shared = Arc::clone(self);
        self.spawn(async move {
            strays::clear(shared.folder.id(), &allocation, None, group.as_ref()).await;
            drop(guard);
        });
    }

    /// The server is gone and everyone who has to know has been notified.
    fn forget(&self, allocation: &AllocationId) {
        let mut book = lock(&self.book);
        book.slots.remove(allocation);
        book.ended.insert(allocation);
    }

    fn admit(self: &Arc<Self>, allocation: &AllocationId) -> Result<Admission, AllocatorError> {
        let mut book = lock(&self.book);
        match book.slots.get(allocation) {
            Some(Slot::Placed(server)) => return Ok(Admission::Done(started(&server.placement))),
            Some(Slot::Starting(settled)) => return Ok(Admission::Wait(settled.clone())),
            None => {}
        }
        if book.ended.ids.contains(allocation) {
            return Ok(Admission::Done(Started { placement: "has run and ended".to_owned() }));
        }
        if book.closed {
            return Err(shutting_down());
        }
        let settled = CancellationToken::new();
        book.slots.insert(allocation.clone(), Slot::Starting(settled.clone()));
        Ok(Admission::Go(StartGuard { shared: Arc::clone(self), allocation: allocation.clone(), settled }))
    }

    /// Starts the server of `order`; the caller keeps its slot.
    async fn carry_out(
        self: &Arc<Self>,
        order: StartOrder,
        fleet: LocalFleet,
    ) -> Result<Started, AllocatorError> {
        let shared = Arc::clone(self);
        let allocation = order.allocation.clone();
        let launched = tokio::task::spawn_blocking(move || {
            let ports = &fleet.process.ports;
            let port = shared.ports.lease(ports).ok_or_else(|| no_port(&order.fleet, &fleet))?;
            let output = shared.output(&order.allocation, fleet.process.output_limit);
            launch(&order, &fleet, port, &output, &shared.folder, &shared.helpers)
        });
        let launched = launched.await.unwrap_or_else(|_| Err(shutting_down().into()));
        let launched = match launched {
            Ok(launched) => launched,
            Err(Failed { error, has_run, group }) => {
                if has_run {
                    strays::clear(self.folder.id(), &allocation, None, group.as_ref()).await;
                }
                return Err(error);
            }
        };
        let started = started(&launched.placement);
        self.place(Server::new(launched.placement, Some(launched.process), launched.port, self));
        Ok(started)
    }
}

fn started(placement: &PlacementRecord) -> Started {
    Started { placement: id(placement) }
}

fn id(placement: &PlacementRecord) -> String {
    format!("process {}, port {}", placement.pid(), placement.port)
}

fn shutting_down() -> AllocatorError {
    AllocatorError::unreachable("the control plane is shutting down")
}

fn no_port(id: &FleetId, fleet: &LocalFleet) -> AllocatorError {
    let ports = &fleet.process.ports;
    // Not a lack of capacity: a server that is just ending will return its port in a moment.
    AllocatorError::new(
        ErrorClass::Conflict,
        format!(
            "fleet {id}: no port of {} to {} is free; give it more ports or a lower maximum of servers",
            ports.start(),
            ports.end()
        ),
    )
}

/// Allocation ids are used as file names here.
fn check_file_name(allocation: &AllocationId) -> Result<(), AllocatorError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let id = allocation.as_str();
    if id.bytes().all(is_plain) && !id.starts_with('.') {
        return Ok(());
    }
    Err(AllocatorError::invalid(format!(
        "allocation id {id:?} cannot name a file: only letters, digits, '-', '_' and '.' (not first) can"
    )))
}

#[async_trait]
impl Allocator for LocalProcessAllocator {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            // The task that watches the process sends the signals.
            stop_only_waits: true,
            reports_exits: true,
            list_lag: Duration::ZERO,
        }
    }

    async fn start(&self, order: &StartOrder) -> Result<Started, AllocatorError> {
        check_file_name(&order.allocation)?;
        let guard = loop {
            match self.shared.admit(&order.allocation)? {
                Admission::Done(started) => return Ok(started),
                Admission::Wait(settled) => settled.cancelled().await,
                Admission::Go(guard) => break guard,
            }
        };
        let Some(fleet) = self.shared.fleets.get(&order.fleet).cloned() else {
            let problem = format!("fleet {} is not a fleet of local processes", order.fleet);
            return Err(AllocatorError::invalid(problem));
        };
        // In a task of its own: a caller that gives up must not leave an unwatched process.
        let (tell, told) = oneshot::channel();
        let (shared, order) = (Arc::clone(&self.shared), order.clone());
        self.shared.spawn(async move {
            let outcome = shared.carry_out(order, fleet).await;
            drop(guard);
            let _caller_gave_up = tell.send(outcome);
        });
        told.await.unwrap_or_else(|_| Err(shutting_down()))
    }

    async fn stop(&self, allocation: &AllocationId, _server: &ServerId) -> Result<(), AllocatorError> {
        let server = loop {
            let wait_for = match lock(&self.shared.book).slots.get(allocation) {
                None => return Ok(()),
                Some(Slot::Placed(server)) => break Arc::clone(server),
                Some(Slot::Starting(settled)) => settled.clone(),
            };
            wait_for.cancelled().await;
        };
        server.ask_to_stop(StopCause::Ordered);
        let longest = server.terms.stop_grace.saturating_add(KILL_WAIT);
        tokio::time::timeout(longest, server.finished.cancelled()).await.map_err(|_| {
            let pid = server.placement.pid();
            let problem = format!("process {pid} of {allocation} is still there after SIGKILL");
            AllocatorError::new(ErrorClass::Conflict, problem)
        })
    }

    async fn list(&self) -> Result<Listing, AllocatorError> {
        Ok(Listing::of(self.shared.servers().iter().map(|server| self.shared.placement(server))))
    }

    async fn describe(&self, allocation: &AllocationId) -> Result<Option<Placement>, AllocatorError> {
        let found = match lock(&self.shared.book).slots.get(allocation) {
            Some(Slot::Placed(server)) => Arc::clone(server),
            Some(Slot::Starting(_)) | None => return Ok(None),
        };
        Ok(Some(self.shared.placement(&found)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_ended_allocations_are_remembered() {
        let mut ended = Ended::default();
        let id = |number: usize| AllocationId::new(&format!("allocation-{number}")).unwrap();
        for number in 0..=MAX_ENDED_REMEMBERED {
            ended.insert(&id(number));
            ended.insert(&id(number));
        }
        assert_eq!(ended.ids.len(), MAX_ENDED_REMEMBERED);
        assert!(!ended.ids.contains(&id(0)) && ended.ids.contains(&id(1)));
    }

    #[test]
    fn an_allocation_id_that_leads_out_of_the_folder_is_refused() {
        let check = |text: &str| check_file_name(&AllocationId::new(text).unwrap());
        assert!(check("allocation-0192.1_a").is_ok());
        for text in ["../escape", "a/b", ".hidden", "a b", "..", "folder\\x"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
