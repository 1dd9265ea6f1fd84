//! The life of one server under watch: one task per server is the only one that ends it and cleans up after it.
//!
//! Everything that wants a server stopped asks its task and waits. So an exit, a stop and the reaper cannot race: the
//! task handles the first of them only.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::output::Output;
use super::ports::PortLease;
use super::process::{Ending, Process};
use super::record::PlacementRecord;
use super::settings::Terms;
use super::{MAX_ENDED_LOGS, Shared, lock, strays};
use crate::{PlacementState, ServerExit};

/// Maximum wait for the rest of a server's output.
const KEEPER_WAIT: Duration = Duration::from_secs(2);
/// Minimum interval between checks of the reaper.
const FASTEST_REAPER: Duration = Duration::from_millis(10);

/// Who wants a server stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StopCause {
    /// The broker, which learns about the end from the caller.
    Ordered,
    /// The control plane, which stops its servers when it shuts down.
    ControlPlaneEnds {
        /// Maximum time to exit.
        max_grace: Duration,
    },
}

/// How a server ended.
enum End {
    /// On its own.
    Exited,
    /// Before it was watched.
    WhileAway,
    /// It was older than its fleet allows.
    TooOld(Duration),
    /// It was stopped.
    Stopped(StopCause),
}

/// One server under watch.
pub(super) struct Server {
    pub(super) placement: PlacementRecord,
    pub(super) terms: Terms,
    /// `None` if it ended while no control plane was running.
    process: Option<Process>,
    output: Output,
    /// Returned when the process is gone.
    port: Mutex<Option<PortLease>>,
    stop: watch::Sender<Option<StopCause>>,
    /// Cancelled when no process of it is left.
    pub(super) gone: CancellationToken,
    /// Cancelled when its end has been reported to everyone who has to know, and its record removed.
    pub(super) finished: CancellationToken,
}

impl Server {
    pub(super) fn new(
        placement: PlacementRecord,
        process: Option<Process>,
        port: PortLease,
        shared: &Shared,
    ) -> Self {
        let terms = shared.terms(&placement.fleet);
        Self {
            output: shared.output(&placement.allocation, terms.output_limit),
            placement,
            terms,
            process,
            port: Mutex::new(Some(port)),
            stop: watch::Sender::new(None),
            gone: CancellationToken::new(),
            finished: CancellationToken::new(),
        }
    }

    /// Asks its task to stop it. An order of the broker takes precedence over a shutdown of the control plane.
    pub(super) fn ask_to_stop(&self, cause: StopCause) {
        self.stop.send_if_modified(|asked| {
            let changes = asked.is_none() || cause == StopCause::Ordered;
            if changes {
                *asked = Some(cause);
            }
            changes
        });
    }

    /// Its state.
    pub(super) fn state(&self) -> PlacementState {
        if self.process.is_none() || self.gone.is_cancelled() {
            PlacementState::Ended("has ended".to_owned())
        } else if self.stop.borrow().is_some() {
            PlacementState::Stopping
        } else {
            PlacementState::Running
        }
    }

    async fn stop_asked(&self) -> StopCause {
        let mut asked = self.stop.subscribe();
        let cause = asked.wait_for(Option::is_some).await.ok().and_then(|cause| *cause);
        match cause {
            Some(cause) => cause,
            // The sender is in `self`, so waiting cannot fail.
            None => std::future::pending().await,
        }
    }

    async fn stop_ordered(&self) {
        let mut asked = self.stop.subscribe();
        let _sender_lives_in_self = asked.wait_for(|asked| *asked == Some(StopCause::Ordered)).await;
    }

    /// Runs the server to its end.
    async fn end(&self, process: &Process) -> End {
        let end = tokio::select! {
            () = process.exited() => End::Exited,
            cause = self.stop_asked() => End::Stopped(cause),
            age = self.too_old(process) => End::TooOld(age),
        };
        match end {
            End::Exited | End::WhileAway => {}
            End::Stopped(StopCause::ControlPlaneEnds { max_grace }) => {
                self.terminate(process, self.terms.stop_grace.min(max_grace)).await;
            }
            End::Stopped(StopCause::Ordered) | End::TooOld(_) => {
                self.terminate(process, self.terms.stop_grace).await;
            }
        }
        end
    }

    async fn too_old(&self, process: &Process) -> Duration {
        let Some(max) = self.terms.max_run_time else { return std::future::pending().await };
        while process.age() < max {
            tokio::time::sleep(self.terms.reaper_period.max(FASTEST_REAPER)).await;
        }
        max
    }

    async fn terminate(&self, process: &Process, grace: Duration) {
        self.signal(process, Signal::TERM);
        if tokio::time::timeout(grace, process.exited()).await.is_ok() {
            return;
        }
        let allocation = &self.placement.allocation;
        tracing::warn!(%allocation, pid = self.placement.pid(), ?grace, "did not exit in time: killing it");
        self.signal(process, Signal::KILL);
        process.exited().await;
    }

    fn signal(&self, process: &Process, signal: Signal) {
        if let Err(error) = process.signal_group(signal) {
            let pid = self.placement.pid();
            tracing::debug!(pid, ?signal, %error, "the process group could not be signalled");
        }
    }

    /// Returns when everything that the server wrote is in its file.
    async fn output_kept(&self) {
        match self.placement.keeper.as_ref().map(Process::reopen) {
            // The keeper ends with the last process that can write. A process that cannot be found keeps it running.
            Some(Some(keeper)) => {
                let buried = tokio::spawn(keeper.buried());
                let _goes_on = tokio::time::timeout(KEEPER_WAIT, buried).await;
            }
            Some(None) => {}
            None => self.output.bound().await,
        }
    }

    fn report(&self, end: &End, ending: Option<&Ending>) -> Option<ServerExit> {
        let status = match end {
            End::Exited => ending.unwrap_or(&Ending::Unknown).to_string(),
            End::WhileAway => "exited while the control plane was not running".to_owned(),
            End::TooOld(max) => {
                format!(
                    "stopped: it ran longer than its fleet's max_run_time of {}",
                    humantime::format_duration(*max)
                )
            }
            End::Stopped(StopCause::ControlPlaneEnds { .. }) => "stopped with the control plane".to_owned(),
            End::Stopped(StopCause::Ordered) => return None,
        };
        let PlacementRecord { allocation, server, .. } = &self.placement;
        let with_control_plane = matches!(end, End::Stopped(StopCause::ControlPlaneEnds { .. }));
        Some(ServerExit {
            allocation: allocation.clone(),
            server: server.clone(),
            status,
            with_control_plane,
        })
    }
}

/// Watches a server until it is gone and everyone who has to know has been notified.
pub(super) async fn watch(shared: Arc<Shared>, server: Arc<Server>) {
    let allocation = &server.placement.allocation;
    let process = server.process.as_ref();
    let end = match process {
        Some(process) => tokio::select! {
            end = server.end(process) => end,
            never = server.output.keep_bounded(), if server.placement.keeper.is_none() => match never {},
        },
        None => End::WhileAway,
    };
    strays::clear(shared.folder.id(), allocation, process, server.placement.group.as_ref()).await;
    let ending = process.and_then(Process::reap);
    server.output_kept().await;
    drop(lock(&server.port).take());
    server.gone.cancel();
    if let Some(exit) = server.report(&end, ending.as_ref()) {
        tracing::info!(%allocation, server = %exit.server, status = exit.status, "a game server has ended");
        // The broker may order a stop without having taken the report; it then has no use for it.
        tokio::select! {
            () = shared.listener.exited(exit) => {}
            () = server.stop_ordered() => {}
        }
    }
    clean_up(&shared, &server).await;
    server.finished.cancel();
}

async fn clean_up(shared: &Arc<Shared>, server: &Arc<Server>) {
    let (shared, server) = (Arc::clone(shared), Arc::clone(server));
    let cleaned = tokio::task::spawn_blocking(move || {
        // In this order: a caller that finds no slot finds no record either.
        shared.folder.remove(&server.placement.allocation);
        shared.forget(&server.placement.allocation);
        let live: std::collections::BTreeSet<_> =
            lock(&shared.book).slots.keys().map(ToString::to_string).collect();
        shared.folder.prune_logs(MAX_ENDED_LOGS, |allocation| live.contains(allocation))
    });
    if let Ok(Err(error)) = cleaned.await {
        tracing::warn!(%error, "the output of ended servers could not be pruned");
    }
}
