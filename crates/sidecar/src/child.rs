//! A program that this sidecar has started, with everything that it starts in turn: one process group.
//!
//! Not `tokio::process::Child`, which reaps a process as soon as it ends: after that its group id may be reused, and
//! leftover processes of the program could not be killed without the risk of killing others. Here an ended process is
//! not reaped until its group has been killed.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

/// Variables that game servers inherit from any starter: the key and protocol id of connect tokens, and where Agones'
/// SDKs find the sidecar.
const FOR_GAME_SERVERS: [&str; 4] =
    ["SORTIE_NETCODE_KEY", "SORTIE_PROTOCOL_ID", "AGONES_SDK_GRPC_PORT", "AGONES_SDK_HTTP_PORT"];

/// The environment that programs inherit: that of every game server, and the `named` variables.
pub(crate) fn inherited(named: &[String]) -> impl Iterator<Item = (&str, OsString)> {
    let for_them = FOR_GAME_SERVERS.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    sortie_inherited::inherited(named).chain(for_them)
}

/// When dropped, the program's group is killed, unless it was [left](Self::leave).
pub(crate) struct Child {
    process: std::process::Child,
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
    is_over: bool,
}

impl Child {
    /// Starts `command` as the leader of its own group: Ctrl-C in the sidecar's terminal does not reach it. Blocks;
    /// needs a runtime.
    ///
    /// # Errors
    /// The system's error. Nothing is running then.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = command.process_group(0).spawn()?;
        match watched(&process) {
            Ok((pid, fd)) => Ok(Self { process, pid, fd, is_over: false }),
            Err(error) => {
                // It has just started, so its group contains nothing else.
                process.kill()?;
                process.wait()?;
                Err(error)
            }
        }
    }

    /// The process id, for logs.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Our ends of the pipes that the command requested: standard input, output and error.
    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>, Option<ChildStderr>) {
        (self.process.stdin.take(), self.process.stdout.take(), self.process.stderr.take())
    }

    /// Returns when the program itself has ended, even if it has left processes running.
    pub(crate) async fn exited(&self) {
        if self.fd.readable().await.is_err() {
            // Only a runtime that is shutting down refuses to watch; it drops this future next.
            std::future::pending::<()>().await;
        }
    }

    /// Sends SIGTERM, and SIGKILL after `grace`. Returns when the program has ended.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.signal(Signal::TERM);
        if timeout(grace, self.exited()).await.is_err() {
            tracing::warn!(pid = self.id(), ?grace, "a process did not end in time: killing it");
            self.signal(Signal::KILL);
            self.exited().await;
        }
    }

    /// Kills the processes it has left running, and returns its exit status. Call this after it has
    /// [exited](Self::exited): before that, it is killed.
    pub(crate) fn reap(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        self.is_over = true;
        self.process.wait()
    }

    /// Lets it go on without this sidecar.
    pub(crate) fn leave(mut self) {
        self.is_over = true;
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.pid, signal) {
            tracing::debug!(pid = self.id(), ?signal, %error, "a process group could not be signalled");
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal(Signal::KILL);
            // Reaping matters only to a sidecar that lives on, and nothing may block here.
            let _ended = self.process.try_wait();
        }
    }
}

fn watched(process: &std::process::Child) -> io::Result<(Pid, AsyncFd<OwnedFd>)> {
    let number = i32::try_from(process.id()).map_err(io::Error::other)?;
    let pid = Pid::from_raw(number).ok_or(io::ErrorKind::NotFound)?;
    Ok((pid, readable(pidfd_open(pid, PidfdFlags::NONBLOCK)?)?))
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor may change; that of an OwnedFd cannot"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
