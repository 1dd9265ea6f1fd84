//! One process, identified reliably: by pid, start time and boot together, and by a pidfd while it is watched.
//!
//! Why not `tokio::process::Child`: servers outlive the control plane, and the next control plane is not their parent.
//! A pidfd becomes readable when its process ends, whoever the parent is, so the same code watches servers that were
//! just started and servers that were taken over. It also leaves an ended child unreaped until its group has been
//! handled: until then its id cannot be reused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::proc_files::{self, Stat};

/// Distinguishes a process from all others with the same id, before or after it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub(super) pid: i32,
    /// Start time in clock ticks since the boot: field 22 of `/proc/<pid>/stat`.
    pub(super) started_ticks: u64,
    /// The kernel's id of the boot to which pid and ticks belong.
    pub(super) boot: String,
}

/// A process under watch.
pub(super) struct Process {
    identity: Identity,
    pid: Pid,
    fd: AsyncFd<OwnedFd>,
}

/// How the end of a process is described.
pub(super) enum Ending {
    /// It was our child: the kernel told us.
    Known(WaitIdStatus),
    /// It was not our child: only its parent was told.
    Unknown,
}

impl Process {
    /// Watches the process that has the id `pid` now. Needs a runtime.
    ///
    /// # Errors
    /// `NotFound` or `ESRCH` if there is none, and any other error of the kernel.
    pub(super) fn open(number: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(number).ok_or(io::ErrorKind::NotFound)?;
        let fd = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // Read after the pidfd is open: if the id were reused in between, this would be the new process's time, and the
        // pidfd the old one's; callers that expect a certain process compare the identity.
        let started_ticks = Stat::read(number)?.started_ticks;
        let identity = Identity { pid: number, started_ticks, boot: proc_files::boot_id()? };
        Ok(Self { identity, pid, fd: readable(fd)? })
    }

    /// Watches the process of `identity`, if it still exists: its id alone proves nothing.
    pub(super) fn reopen(identity: &Identity) -> Option<Self> {
        Self::open(identity.pid).ok().filter(|process| process.identity == *identity)
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns when the process has ended.
    pub(super) async fn exited(&self) {
        if self.fd.readable().await.is_err() {
            // Only a runtime that is shutting down refuses to watch; it drops this future next.
            std::future::pending::<()>().await;
        }
    }

    /// Sends `signal` to the process group that the process leads.
    pub(super) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.pid, signal)?)
    }

    /// Kills only the process itself.
    pub(super) fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.fd, Signal::KILL)?)
    }

    /// Whether it is an ended, unreaped child of ours: then its id is not reused yet.
    pub(super) fn is_unreaped(&self) -> bool {
        matches!(self.wait(WaitIdOptions::NOWAIT), Some(Ending::Known(_)))
    }

    /// Reaps it when it ends, if it is a child of ours: nobody else waits for it.
    pub(super) async fn buried(self) {
        self.exited().await;
        let _reaped = self.reap();
    }

    /// How it ended; `None` while it runs. Reaps a child.
    pub(super) fn reap(&self) -> Option<Ending> {
        self.wait(WaitIdOptions::empty())
    }

    fn wait(&self, options: WaitIdOptions) -> Option<Ending> {
        let id = WaitId::PidFd(self.fd.as_fd());
        match waitid(id, options | WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(status) => status.map(Ending::Known),
            Err(_) => Some(Ending::Unknown),
        }
    }

    /// How long ago it was started, including time in which the machine slept.
    pub(super) fn age(&self) -> Duration {
        let now = clock_gettime(ClockId::Boottime);
        let up = Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0));
        let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
        let started =
            Duration::from_millis(self.identity.started_ticks.saturating_mul(1000) / ticks_per_second);
        up.saturating_sub(started)
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe, for types whose descriptor may change; that of an OwnedFd cannot"
)]
fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Known(status) = self else {
            return write!(f, "exited; its status is unknown, as it was started by an earlier control plane");
        };
        if let Some(code) = status.exit_status() {
            return write!(f, "exit status {code}");
        }
        match status.terminating_signal() {
            Some(number) => match signal_name(number) {
                Some(name) => write!(f, "killed by signal {number} ({name})"),
                None => write!(f, "killed by signal {number}"),
            },
            None => write!(f, "ended in an unknown way"),
        }
    }
}

/// The names of the signals that end processes in practice.
fn signal_name(number: i32) -> Option<&'static str> {
    let name = match Signal::from_named_raw(number)? {
        Signal::HUP => "SIGHUP",
        Signal::INT => "SIGINT",
        Signal::QUIT => "SIGQUIT",
        Signal::ILL => "SIGILL",
        Signal::TRAP => "SIGTRAP",
        Signal::ABORT => "SIGABRT",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::KILL => "SIGKILL",
        Signal::USR1 => "SIGUSR1",
        Signal::SEGV => "SIGSEGV",
        Signal::USR2 => "SIGUSR2",
        Signal::PIPE => "SIGPIPE",
        Signal::ALARM => "SIGALRM",
        Signal::TERM => "SIGTERM",
        Signal::XCPU => "SIGXCPU",
        Signal::XFSZ => "SIGXFSZ",
        Signal::SYS => "SIGSYS",
        _ => return None,
    };
    Some(name)
}
