//! When to stop: the first signal starts a graceful shutdown, a second one ends it. While a process is starting, the
//! first signal ends the process.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Makes a write beyond the file size limit (`ulimit -f`) fail as on a full disk. By default the system kills the
/// process with SIGXFSZ; listening for the signal replaces that for good, even after the listener is dropped.
pub(crate) fn outlive_file_limits() -> Result<(), Failure> {
    let number = rustix::process::Signal::XFSZ.as_raw();
    signal(SignalKind::from_raw(number))
        .map(drop)
        .map_err(|error| Failure::of("cannot listen for signals", error))
}

/// Ctrl-C and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for work that precedes any graceful shutdown, like a replay of the log. It runs in its own task, so that a
    /// signal is noticed at any point; the task is then aborted, with the same effect as a kill.
    ///
    /// # Errors
    /// A signal arrived: the exit code of the process.
    pub(crate) async fn while_starting<T: Send + 'static>(
        &mut self,
        starting: impl Future<Output = T> + Send + 'static,
    ) -> Result<Result<T, Failure>, ExitCode> {
        let mut starting = tokio::spawn(starting);
        tokio::select! {
            started = &mut starting => Ok(started.map_err(|error| Failure::of("cannot start", error))),
            signal = self.next() => {
                starting.abort();
                tracing::warn!("a signal during the start: exiting at once");
                Err(signal.exit_code())
            }
        }
    }

    /// Waits for `running`. The first signal asks it to end by cancelling `closing`; the second returns at once.
    ///
    /// # Errors
    /// A second signal arrived: the exit code of the process.
    pub(crate) async fn outlast<T>(
        mut self,
        closing: &CancellationToken,
        running: impl Future<Output = T>,
    ) -> Result<T, ExitCode> {
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => return Ok(ended),
            _ = self.next() => closing.cancel(),
        }
        tokio::select! {
            ended = running => Ok(ended),
            signal = self.next() => {
                tracing::warn!("a second signal: exiting without a graceful shutdown");
                Err(signal.exit_code())
            }
        }
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> Which {
        tokio::select! {
            _ = self.interrupt.recv() => Which::Interrupt,
            _ = self.terminate.recv() => Which::Terminate,
        }
    }
}

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Which {
    /// The exit code by which shells report a process killed by the signal: 128 plus its number.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(130),
            Self::Terminate => ExitCode::from(143),
        }
    }
}
