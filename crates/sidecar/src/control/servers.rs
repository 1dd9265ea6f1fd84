//! The servers that were launched or registered here.
//!
//! One task per program, from start to end; only that task starts, stops and reaps it, because callers may hang up at
//! any moment. The manager knows a server's state; this module keeps only what the manager cannot know, the state of
//! the process.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use super::messages::{Server, ServerConnectionDetails, ServerProfile, TerminateServerResponse};
use crate::child::{Child, inherited};
use crate::http_answer::Refused;
use crate::manager::{Manager, ServerState, ServerView};

/// Maximum number of running programs.
pub const MAX_PROCESSES: usize = 64;
/// Number of ended servers that are remembered.
const MAX_ENDED: usize = 100;
/// Time after SIGKILL until a remaining process is an error.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// The source under which these servers' calls are listed.
const SOURCE: &str = "sidecar_api";
/// The server's id, for its calls.
const SERVER_ID: &str = "SORTIE_SERVER_ID";
/// Where players reach the server, and the port to listen on, if the resolver knows one.
const PUBLIC_ADDRESS: &str = "SORTIE_PUBLIC_ADDRESS";
const PORT: &str = "SORTIE_PORT";

/// How programs are started and ended.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Their variables.
    pub(super) environment: BTreeMap<String, String>,
    /// Variables of the sidecar that they inherit in addition to those of every game server.
    pub(super) pass_environment: Vec<String>,
    /// Time from SIGTERM to SIGKILL.
    pub(super) stop_deadline: Duration,
}

/// Lifecycle of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Life {
    Running,
    /// How it ended, as text.
    Ended(String),
    /// The sidecar has ended, the program has not.
    Left,
}

/// All servers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Servers(Arc<Shared>);

struct Shared {
    manager: Manager,
    terms: Terms,
    book: Mutex<Book>,
    tasks: Mutex<JoinSet<()>>,
    /// Ends every program.
    stop: CancellationToken,
    /// Lets every program go on without the sidecar.
    leave: CancellationToken,
}

#[derive(Default)]
struct Book {
    launched: BTreeMap<String, Launched>,
    /// Those of `launched` that have ended, oldest first.
    ended: VecDeque<String>,
    /// Ports of servers that only registered.
    registered: BTreeMap<String, u16>,
    /// No more programs are started.
    is_closed: bool,
}

struct Launched {
    life: watch::Sender<Life>,
    stop: CancellationToken,
}

impl Servers {
    pub(super) fn new(manager: Manager, terms: Terms) -> Self {
        Self(Arc::new(Shared {
            manager,
            terms,
            book: Mutex::default(),
            tasks: Mutex::default(),
            stop: CancellationToken::new(),
            leave: CancellationToken::new(),
        }))
    }

    /// Starts the program of `profile`. It runs whether or not the caller waits.
    pub(super) async fn launch(&self, profile: ServerProfile) -> Result<Follow, Refused> {
        let (told, started) = oneshot::channel();
        let follow = {
            // Held over both, so that `close` finds the tasks of all admitted programs.
            let mut tasks = locked(&self.0.tasks);
            while tasks.try_join_next().is_some() {}
            let (id, follow) = self.admit()?;
            tasks.spawn(Arc::clone(&self.0).live(id, profile, told));
            follow
        };
        let gone = || Refused::new(Code::Unavailable, "shutting_down", "the sidecar is shutting down");
        started.await.unwrap_or_else(|_| Err(gone()))?;
        Ok(follow)
    }

    /// When dropped, ends every program, in case [`close`](Self::close) is never called.
    pub(super) fn guard(&self) -> DropGuard {
        self.0.stop.clone().drop_guard()
    }

    /// Reserves room for one more.
    fn admit(&self) -> Result<(String, Follow), Refused> {
        let id = self.0.manager.new_server_id();
        let mut book = self.0.book();
        if book.is_closed {
            return Err(Refused::new(Code::Unavailable, "shutting_down", "the sidecar is shutting down"));
        }
        if book.launched.len().saturating_sub(book.ended.len()) >= MAX_PROCESSES {
            let text = format!("too many servers: at most {MAX_PROCESSES} launched servers may run");
            return Err(Refused::new(Code::ResourceExhausted, "too_many", text));
        }
        let (life, seen) = watch::channel(Life::Running);
        let stop = self.0.stop.child_token();
        book.launched.insert(id.clone(), Launched { life, stop });
        drop(book);
        let changes = self.0.manager.changes();
        Ok((
            id.clone(),
            Follow { servers: self.clone(), id, life: seen, changes, last: None, is_over: false },
        ))
    }

    /// Registers a server that was started elsewhere.
    pub(super) fn register(&self, port: u16) -> Result<String, Refused> {
        let id = self.0.manager.new_server_id();
        self.0.manager.register(SOURCE, &id)?;
        let known: Vec<_> = self.0.manager.view().servers.into_iter().map(|server| server.id).collect();
        let mut book = self.0.book();
        book.registered.retain(|id, _| known.contains(id));
        if port != 0 {
            book.registered.insert(id.clone(), port);
        }
        Ok(id)
    }

    /// Every server, whoever started it, including those launched here that ended recently.
    pub(super) fn all(&self) -> Vec<Server> {
        let views = self.0.manager.view().servers;
        let book = self.0.book();
        let mut servers: BTreeMap<_, _> = book
            .launched
            .iter()
            .map(|(id, launched)| {
                let is_over = matches!(*launched.life.borrow(), Life::Ended(_));
                let state = if is_over { ServerState::Terminated } else { ServerState::Started };
                (id.clone(), Server { server_id: id.clone(), state, connection_details: None })
            })
            .collect();
        for view in &views {
            let is_over = servers.get(&view.id).is_some_and(|known| known.state == ServerState::Terminated);
            if !is_over {
                servers.insert(view.id.clone(), book.server(view));
            }
        }
        servers.into_values().collect()
    }

    /// Ends the program of a server launched here.
    pub(super) async fn terminate(&self, id: &str) -> Result<TerminateServerResponse, Refused> {
        let launched =
            self.0.book().launched.get(id).map(|launched| (launched.life.subscribe(), launched.stop.clone()));
        let Some((mut life, stop)) = launched else { return self.not_ours(id) };
        stop.cancel();
        let ended = life.wait_for(|life| *life != Life::Running);
        let message = match timeout(self.0.terms.stop_deadline + KILL_WAIT, ended).await {
            Ok(Ok(life)) => match &*life {
                Life::Ended(how) => how.clone(),
                Life::Running | Life::Left => "the sidecar has ended before it".to_owned(),
            },
            // It failed to start.
            Ok(Err(_)) => "it never ran".to_owned(),
            Err(_) => {
                let text = "the server's process was killed and has not ended yet; try again";
                return Err(Refused::new(Code::Unavailable, "unavailable", text));
            }
        };
        Ok(TerminateServerResponse { terminated: true, message })
    }

    fn not_ours(&self, id: &str) -> Result<TerminateServerResponse, Refused> {
        if self.0.manager.view().servers.iter().any(|server| server.id == id) {
            let message = "it was not launched by this sidecar: stop it where it was started".to_owned();
            return Ok(TerminateServerResponse { terminated: false, message });
        }
        let text = format!("no server {id:?} is known; those that ended are forgotten after a while");
        Err(Refused::new(Code::NotFound, "server_not_found", text))
    }

    /// Ends every program, or lets all of them go. Returns when that is done.
    pub(super) async fn close(&self, keep: bool) {
        let mut tasks = {
            let mut tasks = locked(&self.0.tasks);
            self.0.book().is_closed = true;
            std::mem::take(&mut *tasks)
        };
        if keep { &self.0.leave } else { &self.0.stop }.cancel();
        let all = async { while tasks.join_next().await.is_some() {} };
        if timeout(self.0.terms.stop_deadline + KILL_WAIT, all).await.is_err() {
            tracing::error!("launched servers have not ended although they were killed");
        }
    }
}

impl Book {
    fn server(&self, view: &ServerView) -> Server {
        let resolved = view.address.as_deref().map(host_and_port);
        let registered = self.registered.get(&view.id).copied();
        let connection_details = match (resolved, registered) {
            (None, None) => None,
            (resolved, registered) => {
                let (host, port) = resolved.unwrap_or_default();
                Some(ServerConnectionDetails { host, port: port.or(registered).unwrap_or_default() })
            }
        };
        Server { server_id: view.id.clone(), state: view.state, connection_details }
    }
}

/// An address in a resolver's format: `host:port`, `[v6]:port`, or only a host.
fn host_and_port(address: &str) -> (String, Option<u16>) {
    let split = address.rsplit_once(':').and_then(|(host, port)| {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        // An IPv6 address without a port has no brackets.
        let host = bare.or_else(|| (!host.contains(':')).then_some(host))?;
        Some((host.to_owned(), Some(port.parse().ok()?)))
    });
    split.unwrap_or_else(|| (address.to_owned(), None))
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.book)
    }

    /// The whole lifecycle of one program.
    async fn live(
        self: Arc<Self>,
        id: String,
        profile: ServerProfile,
        told: oneshot::Sender<Result<(), Refused>>,
    ) {
        let Some(stop) = self.book().launched.get(&id).map(|launched| launched.stop.clone()) else { return };
        let child = match self.start(&id, &profile).await {
            Ok(child) => child,
            Err(refused) => {
                self.book().launched.remove(&id);
                let _nobody_waits = told.send(Err(refused));
                self.manager.server_gone(&id, "it could not be started").await;
                return;
            }
        };
        tracing::info!(
            server_id = id,
            pid = child.id(),
            profile = profile.profile_id,
            "a server was launched"
        );
        let _nobody_waits = told.send(Ok(()));
        tokio::select! {
            () = child.exited() => {}
            () = stop.cancelled() => child.stop(self.terms.stop_deadline).await,
            () = self.leave.cancelled() => {
                tracing::warn!(server_id = id, pid = child.id(), "a launched server goes on without the sidecar");
                child.leave();
                self.set_life(&id, Life::Left);
                return;
            }
        }
        let how = child
            .reap()
            .map_or_else(|error| format!("its exit status is unknown: {error}"), |it| it.to_string());
        tracing::info!(server_id = id, how, "a launched server has ended");
        self.set_life(&id, Life::Ended(how.clone()));
        self.manager.server_gone(&id, &format!("its process has ended: {how}")).await;
    }

    async fn start(&self, id: &str, profile: &ServerProfile) -> Result<Child, Refused> {
        self.manager.register(SOURCE, id)?;
        self.manager.vouch_for(id);
        let address = self.manager.address_of(id).await.map_err(|error| {
            let text = format!("there is no address for another server: {error}");
            Refused::new(Code::Unavailable, "unavailable", text)
        })?;
        let mut command = self.command(profile)?;
        command.env(SERVER_ID, id);
        if let Some(address) = &address {
            command.env(PUBLIC_ADDRESS, address.to_string());
            command.envs(address.port.map(|port| (PORT, port.to_string())));
        }
        let started = spawn_blocking(move || Child::start(&mut command)).await;
        let started = started.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        started.map_err(|error| cannot_start(&profile.command, &error))
    }

    fn command(&self, profile: &ServerProfile) -> Result<Command, Refused> {
        let mut command = Command::new(program(&profile.command)?);
        // Its output goes to the sidecar's log: its readers want to see both.
        command.args(&profile.args).stdin(Stdio::null());
        command.env_clear().envs(inherited(&self.terms.pass_environment)).envs(&self.terms.environment);
        Ok(command)
    }

    fn set_life(&self, id: &str, life: Life) {
        let mut book = self.book();
        let Some(launched) = book.launched.get(id) else { return };
        let is_over = matches!(life, Life::Ended(_));
        launched.life.send_replace(life);
        if !is_over {
            return;
        }
        book.ended.push_back(id.to_owned());
        if book.ended.len() > MAX_ENDED
            && let Some(oldest) = book.ended.pop_front()
        {
            book.launched.remove(&oldest);
        }
    }
}

/// Makes a path absolute, as expected in the process list; a bare name is looked up in `PATH`.
fn program(command: &str) -> Result<PathBuf, Refused> {
    let path = Path::new(command);
    if path.components().count() == 1 && !path.has_root() {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|error| cannot_start(command, &error))
}

fn cannot_start(command: &str, error: &std::io::Error) -> Refused {
    use std::io::ErrorKind as Kind;
    let problem = match error.kind() {
        Kind::NotFound | Kind::NotADirectory => {
            "it does not exist, or the interpreter that it names does not"
        }
        Kind::PermissionDenied => "it must be a file that the sidecar's user may execute",
        Kind::ArgumentListTooLong => "its arguments and environment are too long",
        Kind::ExecutableFileBusy => "it is being written",
        _ => {
            let text = format!("the command {command:?} cannot be started: {error}");
            return Refused::new(Code::Unavailable, "unavailable", text);
        }
    };
    Refused::field(
        "profileId",
        format!("the command {command:?} of the profile cannot be started: {problem}"),
    )
}

/// The state of a launched server, as seen from outside.
pub(super) struct Follow {
    servers: Servers,
    id: String,
    life: watch::Receiver<Life>,
    changes: watch::Receiver<u64>,
    last: Option<Server>,
    is_over: bool,
}

impl Follow {
    /// The next state that differs from the previous one, with a text; the first one at once. Brief states may be
    /// skipped. `None` after the end.
    pub(super) async fn next(&mut self) -> Option<(Server, String)> {
        while !self.is_over {
            // Marked before reading, so that a change after it is noticed.
            self.changes.mark_unchanged();
            let life = self.life.borrow_and_update().clone();
            match life {
                Life::Ended(how) => {
                    self.is_over = true;
                    let state = ServerState::Terminated;
                    let details = self.last.take().and_then(|last| last.connection_details);
                    let server = Server { server_id: self.id.clone(), state, connection_details: details };
                    return Some((server, format!("its process has ended: {how}")));
                }
                Life::Left => break,
                Life::Running => {}
            }
            let server = self.look();
            if self.last.as_ref() != Some(&server) {
                let is_first = self.last.replace(server.clone()).is_none();
                let text = if is_first { "its process runs" } else { "" };
                return Some((server, text.to_owned()));
            }
            let ended = tokio::select! {
                changed = self.changes.changed() => changed,
                changed = self.life.changed() => changed,
            };
            if ended.is_err() {
                break;
            }
        }
        self.is_over = true;
        None
    }

    fn look(&self) -> Server {
        let view = self.servers.0.manager.view();
        let known = view.servers.iter().find(|server| server.id == self.id);
        match known {
            Some(server) => self.servers.0.book().server(server),
            None => {
                Server { server_id: self.id.clone(), state: ServerState::Started, connection_details: None }
            }
        }
    }
}

/// Poisoning is ignored: the data stays consistent across a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (address, host, port) in [
            ("host.example:7777", "host.example", Some(7777)),
            ("[2001:db8::1]:7777", "2001:db8::1", Some(7777)),
            ("2001:db8::1", "2001:db8::1", None),
            ("host", "host", None),
            ("host:x", "host:x", None),
            ("", "", None),
        ] {
            assert_eq!(host_and_port(address), (host.to_owned(), port), "{address}");
        }
    }
}
