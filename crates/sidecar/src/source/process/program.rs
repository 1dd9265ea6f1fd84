//! One running program: started, watched, stopped.
//!
//! A pidfd tells when it has ended and leaves it unreaped: until its process group is dealt with, its number cannot mean
//! another process. `tokio::process::Child` reaps by itself, after which a signal to the group might meet a stranger.
//! `PR_SET_PDEATHSIG` would end the program with a killed sidecar, but can only be set between fork and exec, which is
//! unsafe code: a program that outlives a killed sidecar finds its output closed and the end of its standard input.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::unix::AsyncFd;
use tokio::io::Interest;
use tokio::process::ChildStdin;
use tokio::time::timeout;

use super::handover::Handed;
use super::output::Output;
use super::ports::Ports;

/// Longest wait for a killed program to be gone. Only one that hangs in the kernel takes longer.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
/// What the variables that configure the sidecar begin with, its keys among them.
const OUR_PREFIX: &str = "SORTIE_";
/// Those that are for game servers, whoever starts them.
const FOR_GAME_SERVERS: [&str; 2] = ["SORTIE_NETCODE_KEY", "SORTIE_PROTOCOL_ID"];

/// Why a program could not be started. The text says what was wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct StartError(String);

/// What is to be started.
pub(super) struct Order<'a> {
    pub(super) command: &'a Path,
    pub(super) working_directory: Option<&'a Path>,
    pub(super) handed: Handed,
    /// Whether a match will be written to its standard input.
    pub(super) takes_lines: bool,
    /// The ports that must not be tested meanwhile.
    pub(super) ports: Option<&'a Ports>,
}

/// A program that was started. Dropped, it is killed.
pub(super) struct Program {
    child: Child,
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
    /// From then on its number may mean another process.
    is_reaped: bool,
}

impl Program {
    /// Starts it, and gives its output to `output`; its standard input is there if it takes lines. Blocks; needs a
    /// runtime. Nothing is left running where this returns an error.
    pub(super) fn start(
        order: &Order<'_>,
        output: &mut Output,
    ) -> Result<(Self, Option<ChildStdin>), StartError> {
        let mut command = command(order)?;
        let spawn = || command.spawn();
        let spawned = match order.ports {
            Some(ports) => ports.while_none_is_tested(spawn),
            None => spawn(),
        };
        let mut child = spawned.map_err(|error| spawn_error(&error, order.command))?;
        match watch(&mut child, output) {
            Ok((pid, fd, input)) => Ok((Self { child, pid, fd, is_reaped: false }, input)),
            Err(error) => {
                let _gone_is_fine = child.kill();
                let _reaped = child.wait();
                Err(StartError(format!("cannot watch {}: {error}", order.command.display())))
            }
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns when it has ended.
    pub(super) async fn exited(&self) {
        if self.fd.readable().await.is_err() {
            // Only a runtime that is shutting down refuses to watch; it drops this future next.
            std::future::pending::<()>().await;
        }
    }

    /// Has it exit: SIGTERM to its group, and SIGKILL after `grace`. Without a grace it is killed at once.
    pub(super) async fn stop(&self, grace: Option<Duration>) {
        if let Some(grace) = grace {
            self.signal(Signal::TERM);
            if timeout(grace, self.exited()).await.is_ok() {
                return;
            }
            tracing::warn!(pid = self.pid(), ?grace, "a program did not exit in time: killing it");
        }
        self.signal(Signal::KILL);
        if timeout(KILLED_WITHIN, self.exited()).await.is_err() {
            tracing::error!(pid = self.pid(), "a program was killed, and is still there");
        }
    }

    /// Ends what it has left in its group, and says how it ended; `None` while it runs.
    pub(super) fn reap(&mut self) -> Option<ExitStatus> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if self.is_reaped || !matches!(waitid(WaitId::PidFd(self.fd.as_fd()), ended), Ok(Some(_))) {
            return None;
        }
        self.signal(Signal::KILL);
        self.is_reaped = true;
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.pid, signal) {
            tracing::debug!(pid = self.pid(), ?signal, %error, "the process group could not be signalled");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if !self.is_reaped {
            self.signal(Signal::KILL);
            // If that takes a moment, it is reaped when the sidecar has ended.
            let _reaped = self.child.try_wait();
        }
    }
}

fn watch(child: &mut Child, output: &mut Output) -> io::Result<(Pid, AsyncFd<OwnedFd>, Option<ChildStdin>)> {
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    let pid = Pid::from_raw(number).ok_or(io::ErrorKind::NotFound)?;
    let fd = readable(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?;
    output.take(child)?;
    let input = child.stdin.take().map(ChildStdin::from_std).transpose()?;
    Ok((pid, fd, input))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor may change; that of an OwnedFd cannot"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

fn command(order: &Order<'_>) -> Result<Command, StartError> {
    let mut command = Command::new(program(order.command)?);
    command.args(&order.handed.arguments);
    if let Some(folder) = order.working_directory {
        check_working_directory(folder)?;
        command.current_dir(folder);
    }
    // Its own group: a terminal's Ctrl-C for the sidecar is none for the program, and whatever it starts can be stopped
    // with it.
    command.process_group(0);
    command.env_clear().envs(inherited()).envs(&order.handed.variables);
    let input = if order.takes_lines { Stdio::piped() } else { Stdio::null() };
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    let is_for_games = |name: &OsStr| FOR_GAME_SERVERS.iter().any(|game| name == *game);
    std::env::vars_os()
        .filter(move |(name, _)| !name.to_string_lossy().starts_with(OUR_PREFIX) || is_for_games(name))
}

/// The program to run. A path is made absolute: relative to which folder it is looked up after a change of the working
/// folder differs between platforms.
fn program(path: &Path) -> Result<PathBuf, StartError> {
    let is_bare_name = path.components().count() == 1 && !path.has_root();
    if is_bare_name {
        return Ok(path.to_owned());
    }
    std::path::absolute(path).map_err(|error| StartError(format!("Command {}: {error}", path.display())))
}

fn check_working_directory(folder: &Path) -> Result<(), StartError> {
    let problem = match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => "is no folder".to_owned(),
        Err(error) => format!("cannot be used: {error}"),
    };
    Err(StartError(format!("WorkingDirectory {} {problem}", folder.display())))
}

/// What the kernel's refusal to start a program means.
fn spawn_error(error: &io::Error, command: &Path) -> StartError {
    let problem = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) if command.exists() => {
            "cannot be run: the interpreter or loader that it names does not exist"
        }
        Some(Errno::NOENT | Errno::NOTDIR) => "does not exist; correct it or install the game server",
        Some(Errno::ACCESS | Errno::PERM) => {
            "cannot be run: it must be a file that the sidecar's user may execute"
        }
        Some(Errno::NOEXEC) => "cannot be run: it is no program for this machine",
        Some(Errno::TOOBIG) => "cannot be run: its arguments and environment are too long; set MatchFile",
        _ => return StartError(format!("Command {} cannot be started: {error}", command.display())),
    };
    StartError(format!("Command {} {problem}", command.display()))
}
