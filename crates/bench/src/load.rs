//! Many tasks that call concurrently, each as soon as its last call has been answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::failure::Failure;

/// Number of failed calls whose reasons are kept.
const MAX_EXAMPLES: usize = 5;

/// The repeated work of one task.
pub(crate) trait Work: Send + 'static {
    /// Does it once.
    fn once(&mut self) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Calls that failed.
#[derive(Default)]
pub(crate) struct Errors {
    count: u64,
    examples: Vec<String>,
}

impl Errors {
    pub(crate) fn push(&mut self, error: &Failure) {
        self.count += 1;
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(error.to_string());
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.examples.extend(other.examples);
        self.examples.truncate(MAX_EXAMPLES);
    }

    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn examples(&self) -> &[String] {
        &self.examples
    }
}

/// When the tasks stop.
#[derive(Clone)]
pub(crate) enum Until {
    /// At this time; calls in flight are finished.
    Time(Instant),
    /// After this many more calls of all tasks together.
    Done(Arc<AtomicU64>),
}

impl Until {
    pub(crate) fn after(lasting: Duration) -> Self {
        Self::Time(Instant::now() + lasting)
    }

    pub(crate) fn done(count: u64) -> Self {
        Self::Done(Arc::new(AtomicU64::new(count)))
    }

    fn goes_on(&self) -> bool {
        match self {
            Self::Time(end) => Instant::now() < *end,
            Self::Done(left) => {
                let one_less = |left: u64| left.checked_sub(1);
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
            }
        }
    }
}

/// The result of the tasks.
pub(crate) struct Slice<W> {
    /// The workers, for reuse.
    pub(crate) workers: Vec<W>,
    /// Number of calls.
    pub(crate) done: u64,
    pub(crate) took: Duration,
    pub(crate) errors: Errors,
}

impl<W> Slice<W> {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.done as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }
}

/// Runs every worker in a task of its own. A worker whose call fails stops.
pub(crate) async fn load<W: Work>(workers: Vec<W>, until: Until) -> Result<Slice<W>, Failure> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        let until = until.clone();
        tasks.spawn(async move {
            let mut done = 0;
            let failed = loop {
                if !until.goes_on() {
                    break None;
                }
                match worker.once().await {
                    Ok(()) => done += 1,
                    Err(error) => break Some(error),
                }
            };
            (worker, done, failed)
        });
    }
    let mut slice = Slice {
        workers: Vec::with_capacity(tasks.len()),
        done: 0,
        took: Duration::ZERO,
        errors: Errors::default(),
    };
    while let Some(ended) = tasks.join_next().await {
        let (worker, done, failed) = ended?;
        slice.workers.push(worker);
        slice.done += done;
        failed.iter().for_each(|error| slice.errors.push(error));
    }
    slice.took = began.elapsed();
    Ok(slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl Work for Counter {
        async fn once(&mut self) -> Result<(), Failure> {
            self.0 += 1;
            if self.0 == 10 { Err(Failure::new("ten is too many")) } else { Ok(()) }
        }
    }

    #[tokio::test]
    async fn as_much_is_done_as_was_asked_for() {
        let slice = load(vec![Counter(100), Counter(100), Counter(100)], Until::done(50)).await.unwrap();
        assert_eq!((slice.done, slice.errors.count(), slice.workers.len()), (50, 0, 3));
        assert_eq!(slice.workers.iter().map(|worker| worker.0 - 100).sum::<u64>(), 50);
        assert!(slice.rate() > 0.0);
    }

    #[tokio::test]
    async fn a_failure_is_reported_and_ends_its_worker() {
        let slice = load(vec![Counter(0), Counter(5)], Until::done(100)).await.unwrap();
        assert_eq!((slice.done, slice.errors.count()), (9 + 4, 2));
        assert_eq!(slice.errors.examples(), ["ten is too many", "ten is too many"]);
    }
}
