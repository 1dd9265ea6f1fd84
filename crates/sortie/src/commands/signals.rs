//! When to stop: the first signal asks for an ordered end, a second one does not wait for it. While a process starts, the
//! first one ends it.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Has a write beyond the limit of files' sizes (`ulimit -f`) fail like one on a full disk. By itself the system ends the
/// process with SIGXFSZ; to listen for a signal is to replace that, also after nobody listens any more.
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

    /// Waits for what has to be done before there is anything to end in order, like a replay of the log. It runs in a task of
    /// its own, so that a signal is heard at any point of it; it is then left where it is, as a kill would leave it.
    ///
    /// # Errors
    /// The exit code of a process that the signal has ended.
    pub(crate) async fn while_starting<T: Send + 'static>(
        &mut self,
        starting: impl Future<Output = T> + Send + 'static,
    ) -> Result<Result<T, Failure>, ExitCode> {
        let mut starting = tokio::spawn(starting);
        tokio::select! {
            started = &mut starting => Ok(started.map_err(|error| Failure::of("cannot start", error))),
            signal = self.next() => {
                starting.abort();
                tracing::warn!("a signal while starting: there is nothing to end in order yet");
                Err(signal.exit_code())
            }
        }
    }

    /// Waits for `running`, which the first signal asks to end by cancelling `closing`; the second is not answered with
    /// patience.
    ///
    /// # Errors
    /// The exit code of a process that the second signal has ended.
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
                tracing::warn!("a second signal: not waiting for an ordered end");
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

/// A signal that asks for the end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Which {
    /// What a shell says of a process that the signal ended: 128 and its number.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::from(130),
            Self::Terminate => ExitCode::from(143),
        }
    }
}
