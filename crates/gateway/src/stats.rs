//! Statistics for the operator. Counts are since the process started.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::admission::Way;

/// Upper bounds of the first buckets of [`Latencies`]; the last bucket has none.
pub const LATENCY_BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
];

const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// How long successful joins took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Latencies {
    /// Joins in each bucket, by [`LATENCY_BOUNDS`]; not cumulative.
    pub counts: [u64; BUCKETS],
    /// Total time of all joins.
    pub sum: Duration,
}

impl Latencies {
    /// Number of joins.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A reading of a gateway's statistics.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct GatewayStats {
    /// Players who wait now.
    pub waiting: usize,
    /// Joins of matches that already had a server.
    pub warm: Latencies,
    /// Joins that had to wait for a server.
    pub cold: Latencies,
    /// Joins through a ticket: the time from the request to the seat.
    pub queued: Latencies,
    /// Joins that failed, by reason: a fixed set of names.
    pub failed: BTreeMap<&'static str, u64>,
    /// Players who went away before there was an answer.
    pub abandoned: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    warm: Histogram,
    cold: Histogram,
    queued: Histogram,
    failed: Mutex<BTreeMap<&'static str, u64>>,
    abandoned: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let bucket = LATENCY_BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BUCKETS - 1);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    fn read(&self) -> Latencies {
        Latencies {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}

impl Counters {
    pub(crate) fn read(&self, waiting: usize) -> GatewayStats {
        GatewayStats {
            waiting,
            warm: self.warm.read(),
            cold: self.cold.read(),
            queued: self.queued.read(),
            failed: self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            abandoned: self.abandoned.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn failed(&self, reason: &'static str) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }
}

/// A join in flight. If it is dropped before it is finished, it counts as abandoned.
pub(crate) struct Start<'a> {
    counters: &'a Counters,
    at: Instant,
    finished: bool,
    pub(crate) way: Way,
}

impl<'a> Start<'a> {
    pub(crate) fn new(counters: &'a Counters) -> Self {
        Self { counters, at: Instant::now(), finished: false, way: Way::Cold }
    }

    /// Counts the join, as failed if there is a reason, and returns how long it took.
    pub(crate) fn finish(mut self, failed: Option<&'static str>) -> Duration {
        self.finished = true;
        let took = self.at.elapsed();
        match failed {
            Some(reason) => self.counters.failed(reason),
            None => {
                let histogram = match self.way {
                    Way::Warm => &self.counters.warm,
                    Way::Cold => &self.counters.cold,
                    Way::Queue => &self.counters.queued,
                };
                histogram.add(took);
            }
        }
        took
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.counters.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_latency_is_in_one_bucket() {
        let histogram = Histogram::default();
        for millis in [0, 1, 2, 100, 120_000, 120_001] {
            histogram.add(Duration::from_millis(millis));
        }
        let read = histogram.read();
        assert_eq!(read.counts, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((read.count(), read.sum), (6, Duration::from_millis(240_104)));
    }

    #[test]
    fn a_join_that_is_dropped_counts_as_abandoned() {
        let counters = Counters::default();
        drop(Start::new(&counters));
        Start::new(&counters).finish(Some("deadline"));
        let mut warm = Start::new(&counters);
        warm.way = Way::Warm;
        warm.finish(None);
        let read = counters.read(7);
        assert_eq!((read.waiting, read.abandoned, read.warm.count(), read.cold.count()), (7, 1, 1, 0));
        assert_eq!(read.failed, BTreeMap::from([("deadline", 1)]));
    }
}
