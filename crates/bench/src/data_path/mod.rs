//! Measures the dispatcher's data path, against (a) a plain relay without frames and (b) a minimal websocket relay with
//! them, in one run.
//!
//! | where | what |
//! |---|---|
//! | [`run`] | the benchmark: [`BenchOptions`] in, a [`BenchReport`] out |
//! | [`relay`] | a relay: the job of the processes that the benchmark starts |
//! | `cases` | what is measured |
//! | `load` | devices, and the driver's side of a plain relay |
//! | `driver` | the driver's side of a websocket |
//!
//! Each relay is a process of its own; this process is the devices and the driver, the latter without a websocket
//! library, so that none is measured. Machine and load decide the figures, so only ratios of one run are meaningful:
//! relays take turns, and the median of the rounds counts.
//!
//! `sortie bench dispatch` and `cargo bench` share it.

mod cases;
mod driver;
mod load;
mod relays;
mod report;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

pub use driver::write_message;
pub use relays::relay;
pub use report::{BenchReport, Echo, Figures, Memory, Throughput, Udp};

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, Debug)]
pub enum Case {
    /// Messages from devices to the driver.
    Up,
    /// Messages from the driver to devices.
    Down,
    /// A message of a device and its echo.
    Echo,
    /// Datagrams from a device to the driver.
    Udp,
    /// Memory of idle devices.
    Memory,
}

impl Case {
    /// Every case, in order.
    pub const ALL: [Self; 5] = [Self::Up, Self::Down, Self::Echo, Self::Udp, Self::Memory];

    /// Its name in reports and on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Echo => "echo",
            Self::Udp => "udp",
            Self::Memory => "memory",
        }
    }
}

/// How to measure.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The program that starts a relay by calling [`relay`].
    pub program: PathBuf,
    /// Its arguments before those of [`relay`].
    pub arguments: Vec<OsString>,
    /// What to measure, in this order.
    pub cases: Vec<Case>,
    /// Sizes of a message in bytes; throughput is measured for each.
    pub sizes: Vec<usize>,
    /// Numbers of devices; throughput and echoes are measured for each.
    pub devices: Vec<usize>,
    /// Number of rounds in which the relays take turns.
    pub rounds: usize,
    /// Duration of each measurement in each round.
    pub time: Duration,
    /// Number of devices whose memory is measured.
    pub idle_devices: usize,
}

impl BenchOptions {
    /// Everything, at full length.
    #[must_use]
    pub fn new(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self {
            program,
            arguments,
            cases: Case::ALL.to_vec(),
            sizes: vec![64, 1024, 16 << 10],
            devices: vec![1, 100],
            rounds: 5,
            time: Duration::from_millis(800),
            idle_devices: 5_000,
        }
    }
}

/// Why there are no figures.
#[derive(Debug, Error)]
pub enum BenchError {
    /// Sockets or processes did not do what they should.
    #[error("{doing}: {error}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// A relay gave a wrong answer.
    #[error("a relay gave the unexpected answer {0:?}")]
    Answer(String),
    /// A relay was started with invalid arguments.
    #[error("a relay cannot be started with {0:?}: the benchmark starts relays itself")]
    Arguments(Vec<String>),
    /// A number of rounds or devices, a time or a size is 0.
    #[error("rounds, time, sizes and devices must be above 0")]
    Nothing,
    /// The dispatcher refuses its options.
    #[error("the dispatcher: {0}")]
    Options(#[from] sortie_dispatch::OptionsError),
    /// A thread of the load has panicked.
    #[error("the load ended early")]
    Load,
}

impl BenchError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }
}

/// Measures. Lines of a table for people are passed to `line` as they are known. If dropped, it stops after the current
/// case.
///
/// # Errors
/// [`BenchError`].
pub async fn run(
    options: BenchOptions,
    line: impl FnMut(&str) + Send + 'static,
) -> Result<BenchReport, BenchError> {
    let stop = StopOnDrop(Arc::default());
    let is_over = Arc::clone(&stop.0);
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread that nobody waits for: a dropped benchmark must not delay the end of the process.
    std::thread::spawn(move || {
        let _ = tell.send(cases::run(&options, &is_over, line));
    });
    told.await.map_err(|_| BenchError::Load)?
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits in a thread that does nothing but create or count load: a runtime would be load, too.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

/// Raises the limit of open files as far as possible.
fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If that fails, connecting fails and says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}
