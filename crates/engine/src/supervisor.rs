//! The tasks of a process, and how it ends.
//!
//! Every long-lived task has a name, a stage and a declared reaction to its failure, so that none dies silently and the
//! shutdown is ordered: first the doors close, then the work drains, then the base stops. A stage is told to stop when
//! the one before it has ended or used up its share of the deadline.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// When a task is told to stop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// First: listeners and other sources of new work.
    Door,
    /// Then: tasks that process the work.
    Work,
    /// Last: what the others depend on, such as engines.
    Base,
}

const STAGES: [Stage; 3] = [Stage::Door, Stage::Work, Stage::Base];

/// What happens to the process if a task ends with an error or a panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnFailure {
    /// The process needs the task: everything stops, in order.
    StopAll,
    /// The process continues; the failure is logged.
    GoOn,
}

/// Tells a task when to stop.
#[derive(Clone, Debug)]
pub struct StopSignal(CancellationToken);

impl StopSignal {
    /// Waits until it is time to stop.
    pub async fn stopped(&self) {
        self.0.cancelled().await;
    }

    /// Whether it is time to stop.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Why everything stopped, and whether it did so in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The task that failed and its error; `None` if the stop was requested.
    pub failed: Option<(&'static str, String)>,
    /// Tasks that had not ended by the deadline and were aborted.
    pub broken_off: Vec<&'static str>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failed {
            Some((name, error)) => write!(f, "stopped because {name} failed: {error}")?,
            None => f.write_str("stopped")?,
        }
        if self.broken_off.is_empty() {
            return Ok(());
        }
        write!(f, "; had to be aborted: {}", self.broken_off.join(", "))
    }
}

struct Task {
    id: Id,
    name: &'static str,
    stage: Stage,
    on_failure: OnFailure,
}

/// Runs tasks until one that matters fails or a stop is requested.
pub struct Supervisor {
    running: JoinSet<Result<(), Box<dyn Error + Send + Sync>>>,
    tasks: Vec<Task>,
    signals: [CancellationToken; STAGES.len()],
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// A supervisor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self { running: JoinSet::new(), tasks: Vec::new(), signals: Default::default() }
    }

    /// The signal that the tasks of `stage` get.
    #[must_use]
    pub fn signal(&self, stage: Stage) -> StopSignal {
        StopSignal(self.signals[stage as usize].clone())
    }

    /// Runs a task. It must end soon after its signal; what has not ended by the deadline is dropped. Ending
    /// with `Ok` is never a failure.
    pub fn spawn<F>(
        &mut self,
        name: &'static str,
        stage: Stage,
        on_failure: OnFailure,
        task: impl FnOnce(StopSignal) -> F,
    ) where
        F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let id = self.running.spawn(task(self.signal(stage))).id();
        self.tasks.push(Task { id, name, stage, on_failure });
    }

    /// Waits until `stop` is ready or a task that matters fails, then stops everything in order, within `deadline`.
    pub async fn run(mut self, stop: impl Future<Output = ()>, deadline: Duration) -> Outcome {
        let mut failed = None;
        tokio::select! {
            biased;
            () = stop => {}
            failure = self.first_failure() => failed = Some(failure),
        }
        let deadline = Instant::now() + deadline;
        for (before, stage) in STAGES.into_iter().enumerate() {
            tracing::info!(?stage, "stopping");
            self.signals[stage as usize].cancel();
            // An equal share of the remaining time, so that a hanging door leaves time for what matters most.
            let left = deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + left / (STAGES.len() - before) as u32;
            while self.tasks.iter().any(|task| task.stage == stage) {
                match timeout_at(until, self.next_end()).await {
                    Ok(end) => failed = failed.or(end),
                    Err(_) => break,
                }
            }
        }
        let broken_off: Vec<_> = self.tasks.iter().map(|task| task.name).collect();
        self.running.shutdown().await;
        Outcome { failed, broken_off }
    }

    /// Waits for a failure that matters; forever if there is none.
    async fn first_failure(&mut self) -> (&'static str, String) {
        loop {
            if let Some(failure) = self.next_end().await {
                return failure;
            }
        }
    }

    /// Waits for the next task to end; returns its failure if that matters.
    async fn next_end(&mut self) -> Option<(&'static str, String)> {
        let Some(end) = self.running.join_next_with_id().await else {
            // No task can end: leave the waiting to the caller's other branch.
            return std::future::pending().await;
        };
        let (id, error) = match end {
            Ok((id, Ok(()))) => (id, None),
            Ok((id, Err(error))) => (id, Some(error.to_string())),
            Err(error) => (error.id(), Some(describe(error))),
        };
        let at = self.tasks.iter().position(|task| task.id == id)?;
        let task = self.tasks.swap_remove(at);
        let Some(error) = error else {
            tracing::info!(task = task.name, "ended");
            return None;
        };
        tracing::error!(task = task.name, error, "failed");
        (task.on_failure == OnFailure::StopAll).then_some((task.name, error))
    }
}

fn describe(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", panic_text(&*panic)),
        Err(error) => error.to_string(),
    }
}

/// The message of a panic, if it has one.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("(no message)")
}
