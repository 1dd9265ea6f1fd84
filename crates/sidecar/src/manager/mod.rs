//! The servers and matches that this sidecar holds, and all calls about them.
//!
//! | where | what |
//! |---|---|
//! | `held` | servers and matches, and the rules that fill in what a call leaves out: pure |
//! | `queue` | calls that the backend has not received: pure |
//! | `asking`, `next` | questions for a match |
//! | `delivery` | MatchReady and EndMatch, until the backend has accepted or refused them |
//! | `silence` | servers that have fallen silent |
//! | `ending` | the sidecar's shutdown |
//! | `store`, `slots`, `stored` | the folder that outlives the process |
//! | `view` | what people are shown |
//!
//! Calls go to the backend first, and are written to disk only if it is away. So a game server does not wait for a disk
//! while all is well, and nothing that it was promised during an outage is lost.

mod asking;
mod connection;
mod delivery;
mod ending;
mod held;
mod next;
mod queue;
mod silence;
mod slots;
mod store;
mod stored;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use sortie_retry::Backoff;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::{Status, refusal};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use uuid::Uuid;

use crate::backend::{Backend, BackendError};
use crate::resolver::{Address, ResolveError, Resolver};

pub use ending::{AtShutdown, ShutdownReport};
pub use held::{MAX_MATCHES, MAX_SERVERS, ServerState};
pub use next::Next;
pub use queue::{MAX_QUEUED_BYTES, MAX_QUEUED_CALLS};
pub use store::{Disk, OpenError, SystemDisk};
pub use view::{
    Away, BackendView, CALLS_KEPT, CallRecord, ManagerView, MatchView, Outcome, QueuedView, ServerView,
};

use held::{Held, TooMany};
use queue::{Call, Queue};
use store::{Kept, Store};

/// Timeout of a backend call, unless the backend may hold it back.
pub const CALL_TIME: Duration = Duration::from_secs(5);
/// Pause before the next call to a backend that is away. The maximum is the longest that a backend that comes back waits
/// for a MatchReady; it fails matches that are not ready after 30 s.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(10) };
/// Timeout of the resolver.
pub const RESOLVE_TIME: Duration = Duration::from_secs(10);
/// Maximum length of an id, in bytes.
pub const MAX_ID_BYTES: usize = 128;

/// What the manager does automatically.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagerOptions {
    /// The resolver's address replaces what a game server sent.
    pub override_connection_details: bool,
    /// Missing ids are filled in.
    pub auto_populate_ids: bool,
    /// The folder that outlives the process. `None` keeps nothing: for tests.
    pub data: Option<PathBuf>,
    /// The id of the game server in the system that started this sidecar: the first server id that is generated.
    pub server_id: Option<String>,
    /// A server that is silent this long is gone. `None`: it is waited for while the sidecar lives.
    pub silent_after: Option<Duration>,
}

impl Default for ManagerOptions {
    fn default() -> Self {
        Self {
            override_connection_details: false,
            auto_populate_ids: true,
            data: None,
            server_id: None,
            silent_after: None,
        }
    }
}

/// Holds the servers and matches. Cheap to clone. Its tasks end with its last clone.
#[derive(Clone)]
pub struct Manager(Arc<Shared>);

struct Shared {
    options: ManagerOptions,
    backend: Arc<dyn Backend>,
    resolver: Option<Arc<dyn Resolver>>,
    store: Store,
    /// Zero of the time that `Held` uses.
    began: Instant,
    state: Mutex<State>,
    /// Held while `queue.json` is written: the queue changes only under it, after its file.
    queue_writer: tokio::sync::Mutex<()>,
    /// Held while the held state is written: the newest version written.
    held_writer: Mutex<u64>,
    changes: watch::Sender<u64>,
    /// Signals that the backend answers again.
    back: Notify,
    /// Limits the number of concurrent deliveries.
    deliveries: Semaphore,
    /// The backend does not support hints.
    is_hintless: AtomicBool,
    /// No more matches are taken; `ending` decides about those that are held.
    closing: CancellationToken,
    ending: OnceLock<AtShutdown>,
    /// Nothing more is delivered.
    stopped: CancellationToken,
}

#[derive(Default)]
struct State {
    held: Held,
    /// Incremented with each change of `held` that must be saved.
    version: u64,
    queue: Queue,
    /// Generated ids, by event source.
    made: BTreeMap<String, String>,
    /// One call at a time per server, so that calls reach the backend in order.
    turns: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// Servers whose calls are being delivered.
    lanes: BTreeSet<String>,
    questions: asking::Questions,
    away: Option<Away>,
    calls: view::Calls,
}

impl Manager {
    /// An empty manager that keeps nothing on disk, even if the options name a folder.
    ///
    /// Must be called within a runtime if the options have `silent_after`.
    #[must_use]
    pub fn new(
        options: ManagerOptions,
        backend: Arc<dyn Backend>,
        resolver: Option<Arc<dyn Resolver>>,
    ) -> Self {
        Self::begin(options, backend, resolver, Store::nowhere(), Kept::default())
    }

    /// A manager that resumes where the last one with the same folder ended. Must be called within a runtime: pending
    /// calls are delivered from here on.
    ///
    /// # Errors
    /// [`OpenError`] if the folder is in use, cannot be used, or is damaged.
    pub fn open(
        options: ManagerOptions,
        backend: Arc<dyn Backend>,
        resolver: Option<Arc<dyn Resolver>>,
    ) -> Result<Self, OpenError> {
        Self::open_on(options, backend, resolver, Arc::new(SystemDisk))
    }

    /// [`Self::open`] with another disk.
    ///
    /// # Errors
    /// Like [`Self::open`].
    pub fn open_on(
        options: ManagerOptions,
        backend: Arc<dyn Backend>,
        resolver: Option<Arc<dyn Resolver>>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let Some(folder) = &options.data else { return Ok(Self::new(options, backend, resolver)) };
        let (store, mut kept) = Store::open(folder, disk)?;
        // The queue is written first: changes that a kill kept from the other file follow from it.
        for queued in kept.queue.iter() {
            delivery::apply(&mut kept.held, &queued.call);
        }
        let manager = Self::begin(options, backend, resolver, store, kept);
        manager.0.claim_kept();
        manager.0.resume();
        Ok(manager)
    }

    fn begin(
        options: ManagerOptions,
        backend: Arc<dyn Backend>,
        resolver: Option<Arc<dyn Resolver>>,
        store: Store,
        kept: Kept,
    ) -> Self {
        let made = known_ids(kept.ids, options.server_id.as_deref());
        let state = State { held: kept.held, queue: kept.queue, made, ..State::default() };
        let silent_after = options.silent_after;
        let shared = Arc::new(Shared {
            options,
            backend,
            resolver,
            store,
            began: Instant::now(),
            state: Mutex::new(state),
            queue_writer: tokio::sync::Mutex::default(),
            held_writer: Mutex::default(),
            changes: watch::Sender::new(0),
            back: Notify::new(),
            deliveries: Semaphore::new(delivery::AT_ONCE),
            is_hintless: AtomicBool::new(false),
            closing: CancellationToken::new(),
            ending: OnceLock::new(),
            stopped: CancellationToken::new(),
        });
        if let Some(after) = silent_after {
            tokio::spawn(silence::watch(Arc::downgrade(&shared), after));
        }
        Self(shared)
    }

    /// A new, unique server id.
    #[must_use]
    pub fn new_server_id(&self) -> String {
        new_server_id()
    }

    /// The id of the only game server of an event source whose calls name none: generated once, and kept across
    /// restarts.
    pub fn server_id_of(&self, source: &'static str) -> String {
        self.0.server_id_of(source)
    }

    /// Requests a match from the backend, and registers the server. While the backend is away, the answer is that there
    /// is no match now. A match in the answer is held from here on: the server gets it again in every later answer,
    /// until [`Self::end_match`]. Dropping the future withdraws the question: a match that comes anyway goes back to
    /// the backend's queue, unless the server asks again within a moment.
    ///
    /// # Errors
    /// The error for the game server.
    pub async fn request_match(
        &self,
        source: &'static str,
        mut request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, Status> {
        self.0.fill_server(source, &mut request.server_id)?;
        asking::request_match(&self.0, source, request).await
    }

    /// Reports that players may connect. Once this has returned without an error the backend will hear about it,
    /// however long it is away, even if this process dies.
    ///
    /// # Errors
    /// The error for the game server.
    pub async fn match_ready(
        &self,
        source: &'static str,
        mut request: MatchReadyRequest,
    ) -> Result<MatchReadyResponse, Status> {
        self.0.fill_server(source, &mut request.server_id)?;
        self.0.register(source, &request.server_id)?;
        self.0.fill_match(&request.server_id, &mut request.match_id)?;
        self.0.fill_connection(&mut request).await?;
        let match_id = request.match_id.clone();
        let hint_flags = delivery::submit(&self.0, source, Call::MatchReady(request)).await?;
        Ok(MatchReadyResponse { match_id, hint_flags })
    }

    /// Reports that a match is over, as reliably as [`Self::match_ready`].
    ///
    /// # Errors
    /// The error for the game server.
    pub async fn end_match(
        &self,
        source: &'static str,
        mut request: EndMatchRequest,
    ) -> Result<EndMatchResponse, Status> {
        self.0.fill_server(source, &mut request.server_id)?;
        self.0.register(source, &request.server_id)?;
        self.0.fill_match(&request.server_id, &mut request.match_id)?;
        let match_id = request.match_id.clone();
        let hint_flags = delivery::submit(&self.0, source, Call::EndMatch(request)).await?;
        Ok(EndMatchResponse { match_id, hint_flags })
    }

    /// Records a sign of life that is not a call, e.g. of its health.
    pub fn heard_from(&self, server_id: &str) {
        let now = self.0.now();
        self.0.state().held.heard(server_id, now);
    }

    /// Declares that the event source knows whether the server is alive, because it is its process or simulated:
    /// silence then means nothing. Holds until the server is gone or the sidecar ends.
    pub fn vouch_for(&self, server_id: &str) {
        if let Some(server) = self.0.state().held.servers.get_mut(server_id) {
            server.vouched_for = true;
        }
    }

    /// Registers the server before its first call.
    ///
    /// # Errors
    /// The error for the caller: the id is invalid, or there are too many servers.
    pub fn register(&self, source: &'static str, server_id: &str) -> Result<(), Status> {
        check_id("serverId", server_id)?;
        self.0.register(source, server_id)
    }

    /// Sets the server's state, for event sources that see it from outside. Returns false if the server is unknown.
    pub fn set_state(&self, server_id: &str, server_state: ServerState) -> bool {
        let mut state = self.0.state();
        let known = state.held.servers.get_mut(server_id).map(|server| server.state = server_state).is_some();
        state.version += 1;
        drop(state);
        self.0.changed();
        known
    }

    /// The server is gone: ends its matches and releases its address.
    pub async fn server_gone(&self, server_id: &str, why: &str) {
        delivery::server_gone(&self.0, server_id, why).await;
    }

    /// Where players reach the server; `None` without a resolver.
    ///
    /// # Errors
    /// [`ResolveError`]
    pub async fn address_of(&self, server_id: &str) -> Result<Option<Address>, ResolveError> {
        self.0.address_of(server_id).await
    }

    /// Everything that is currently held.
    #[must_use]
    pub fn view(&self) -> ManagerView {
        let now = self.0.now();
        let state = self.0.state();
        ManagerView {
            servers: view::servers(&state.held, now),
            queued: view::queued(&state.queue),
            backend: BackendView { name: self.0.backend.name(), away: state.away.clone() },
        }
    }

    /// The last [`CALLS_KEPT`] calls, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallRecord> {
        self.0.state().calls.all()
    }

    /// Changes whenever [`Self::view`] or [`Self::calls`] do; the number itself means nothing.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes the held state, and saves it.
    fn change<T>(&self, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut state = self.state();
        state.version += 1;
        let result = change(&mut state.held);
        drop(state);
        self.save_held();
        self.changed();
        result
    }

    /// Saves the held state, unless another thread has done it. A failure concerns only the operator: the matches go
    /// on, and only a kill before the next write could lose track of them.
    fn save_held(&self) {
        if !self.store.keeps() {
            return;
        }
        let mut written = locked(&self.held_writer);
        let (version, content) = {
            let state = self.state();
            if state.version == *written {
                return;
            }
            (state.version, stored::write_held(&state.held))
        };
        match self.store.save_held(&content) {
            Ok(()) => *written = version,
            Err(error) => {
                tracing::error!(%error, "servers and matches cannot be saved: a restart would not know about them");
            }
        }
    }

    fn server_id_of(&self, source: &str) -> String {
        let mut state = self.state();
        if let Some(id) = state.made.get(source) {
            return id.clone();
        }
        let given = self.options.server_id.as_ref().filter(|_| state.made.is_empty());
        let id = given.cloned().unwrap_or_else(new_server_id);
        state.made.insert(source.to_owned(), id.clone());
        // Once in the life of a folder, so it may wait for the disk.
        if let Err(error) = self.store.save_ids(&state.made) {
            tracing::error!(%error, server_id = id, "the server id cannot be saved: it will be different after a restart");
        }
        id
    }

    fn register(&self, source: &str, server_id: &str) -> Result<(), Status> {
        let now = self.now();
        let mut state = self.state();
        let is_new = !state.held.servers.contains_key(server_id);
        let evicted = state.held.register(server_id, source, now).map_err(|error| too_many(&error))?;
        state.version += u64::from(is_new);
        drop(state);
        if let Some(evicted) = evicted {
            self.state().turns.remove(&evicted);
            self.release(&evicted);
        }
        if is_new {
            self.save_held();
            self.changed();
        }
        Ok(())
    }

    fn release(&self, server_id: &str) {
        if let Some(resolver) = &self.resolver {
            resolver.release(server_id);
        }
        let mut state = self.state();
        if let Some(server) = state.held.servers.get_mut(server_id) {
            server.address = None;
        }
    }

    /// Servers from before a restart still listen on their ports.
    fn claim_kept(&self) {
        let kept: Vec<_> = {
            let state = self.state();
            let servers = state.held.servers.iter();
            servers
                .map(|(id, server)| (id.clone(), server.address.as_ref().and_then(|one| one.port)))
                .collect()
        };
        kept.into_iter().for_each(|(id, port)| self.claim(&id, port));
    }

    /// The server listens there already, so it needs no other port.
    fn claim(&self, server_id: &str, port: Option<u16>) {
        if let (Some(resolver), Some(port)) = (&self.resolver, port) {
            resolver.claim(server_id, port);
        }
    }

    async fn address_of(&self, server_id: &str) -> Result<Option<Address>, ResolveError> {
        let Some(resolver) = &self.resolver else { return Ok(None) };
        let resolved = timeout(RESOLVE_TIME, resolver.resolve(server_id)).await.unwrap_or_else(|_| {
            let (name, seconds) = (resolver.name(), RESOLVE_TIME.as_secs());
            Err(ResolveError(format!("{name}: no address within {seconds} seconds")))
        });
        let address = resolved?;
        if let Some(server) = self.state().held.servers.get_mut(server_id) {
            server.address = Some(address.clone());
        }
        Ok(Some(address))
    }

    fn fill_server(&self, source: &'static str, server_id: &mut String) -> Result<(), Status> {
        if server_id.is_empty() {
            if !self.options.auto_populate_ids {
                return Err(invalid("serverId", "must be given: AutoPopulateIDs is off"));
            }
            *server_id = self.server_id_of(source);
            return Ok(());
        }
        check_id("serverId", server_id)
    }

    fn fill_match(&self, server_id: &str, match_id: &mut String) -> Result<(), Status> {
        if !match_id.is_empty() {
            return check_id("matchId", match_id);
        }
        if !self.options.auto_populate_ids {
            return Err(invalid("matchId", "must be given: AutoPopulateIDs is off"));
        }
        *match_id =
            self.state().held.only_match(server_id).map_err(|problem| invalid("matchId", &problem))?;
        Ok(())
    }

    async fn fill_connection(&self, request: &mut MatchReadyRequest) -> Result<(), Status> {
        if !self.options.override_connection_details {
            return Ok(());
        }
        self.claim(&request.server_id, connection::port_of(&request.connection_details));
        match self.address_of(&request.server_id).await {
            Ok(Some(address)) => {
                request.connection_details = connection::replaced(&address, &request.connection_details);
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let text = format!("the server's address is unknown: {error}");
                Err(refusal(Code::Unavailable, "unavailable", text))
            }
        }
    }

    /// Notes whether the backend is there, according to the result of a call.
    fn note<T>(self: &Arc<Self>, result: &Result<T, BackendError>) {
        match result {
            Err(BackendError::Away(why)) => self.note_away(why),
            Ok(_) | Err(BackendError::Refused(_)) => self.note_back(),
        }
    }

    fn note_away(self: &Arc<Self>, why: &str) {
        let mut state = self.state();
        if let Some(away) = &mut state.away {
            why.clone_into(&mut away.why);
            return;
        }
        state.away = Some(Away { since: SystemTime::now(), why: why.to_owned() });
        // It may come back without its state. Reporting again is also how we notice that it is back.
        let untold = state.held.all_untold();
        drop(state);
        tracing::warn!(why, "the backend is away");
        self.changed();
        for server_id in untold {
            delivery::start(self, &server_id, false);
        }
    }

    fn note_back(&self) {
        if self.state().away.take().is_some() {
            tracing::info!("the backend is back");
            self.back.notify_waiters();
            self.changed();
        }
    }

    fn record(&self, began: Instant, source: &str, call: (&'static str, &str, &str), outcome: Outcome) {
        let (call, server_id, match_id) = call;
        let record = CallRecord {
            at: SystemTime::now(),
            source: source.to_owned(),
            call,
            server_id: server_id.to_owned(),
            match_id: match_id.to_owned(),
            outcome,
            took: began.elapsed(),
        };
        self.state().calls.add(record);
        self.changed();
    }

    fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    fn is_hintless(&self) -> bool {
        self.is_hintless.load(Ordering::Relaxed)
    }
}

/// The ids that were generated earlier, unless another one was given since: then they belong to an earlier life.
fn known_ids(made: BTreeMap<String, String>, given: Option<&str>) -> BTreeMap<String, String> {
    match given {
        Some(given) if !made.values().any(|id| id == given) => BTreeMap::new(),
        _ => made,
    }
}

fn new_server_id() -> String {
    format!("server-{}", Uuid::now_v7())
}

fn check_id(field: &str, id: &str) -> Result<(), Status> {
    let is_printable = |byte: u8| matches!(byte, b' '..=b'~');
    if id.len() <= MAX_ID_BYTES && !id.is_empty() && id.bytes().all(is_printable) {
        return Ok(());
    }
    Err(invalid(field, &format!("must be 1 to {MAX_ID_BYTES} printable ASCII characters")))
}

fn invalid(field: &str, problem: &str) -> Status {
    refusal(Code::InvalidArgument, "invalid_field", format!("{field}: {problem}"))
}

fn too_many(error: &TooMany) -> Status {
    refusal(Code::ResourceExhausted, "too_many", error.to_string())
}

/// The error for a game server whose call could be neither made nor kept.
fn not_kept(why: &str, error: &io::Error) -> Status {
    let reason = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "disk_full"
        }
        _ => "disk_failed",
    };
    let text = format!(
        "the backend is away ({why}) and the call cannot be kept for it ({error}): nothing was done, try again"
    );
    refusal(Code::Unavailable, reason, text)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
