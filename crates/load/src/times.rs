//! Durations in CPU time and in wall time.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this thread.
#[must_use]
pub fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Measures one step with both clocks.
pub(crate) struct Watch {
    processor: Duration,
    wall: Instant,
}

impl Watch {
    pub(crate) fn start() -> Self {
        Self { processor: processor(), wall: Instant::now() }
    }

    /// CPU time and wall time since the start.
    pub(crate) fn stop(&self) -> (Duration, Duration) {
        (processor().saturating_sub(self.processor), self.wall.elapsed())
    }
}

/// Durations of many steps of one kind.
#[derive(Clone, Default, Debug)]
pub struct Times {
    processor: Vec<Duration>,
    wall: Vec<Duration>,
}

impl Times {
    pub(crate) fn add(&mut self, (processor, wall): (Duration, Duration)) {
        self.processor.push(processor);
        self.wall.push(wall);
    }

    pub(crate) fn clear(&mut self) {
        self.processor.clear();
        self.wall.clear();
    }

    pub(crate) fn sort(&mut self) {
        self.processor.sort_unstable();
        self.wall.sort_unstable();
    }

    /// Number of steps.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.processor.len()
    }

    /// Total CPU time.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.processor.iter().sum()
    }

    /// CPU-time quantile in permille; 1,000 is the maximum.
    #[must_use]
    pub fn processor(&self, permille: usize) -> Duration {
        quantile(&self.processor, permille)
    }

    /// Wall-time quantile in permille; 1,000 is the maximum.
    #[must_use]
    pub fn wall(&self, permille: usize) -> Duration {
        quantile(&self.wall, permille)
    }
}

fn quantile(sorted: &[Duration], permille: usize) -> Duration {
    let at = (sorted.len() * permille).div_ceil(1_000).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |at| millis(self.processor(at));
        write!(
            f,
            "p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, longest {:.2} ms (wall time {:.2} ms, {:.2} ms, {:.2} ms, {:.2} ms)",
            of(500),
            of(990),
            of(999),
            of(1_000),
            millis(self.wall(500)),
            millis(self.wall(990)),
            millis(self.wall(999)),
            millis(self.wall(1_000)),
        )
    }
}

/// A duration in milliseconds, for people.
#[must_use]
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_measured_durations() {
        let mut times = Times::default();
        assert_eq!(times.processor(1_000), Duration::ZERO);
        for time in (1..=1_000).rev().map(Duration::from_millis) {
            times.add((time, time * 2));
        }
        times.sort();
        let found = [500, 990, 999, 1_000].map(|at| times.processor(at).as_millis());
        assert_eq!(found, [500, 990, 999, 1_000]);
        assert_eq!(times.wall(500), Duration::from_secs(1));
        assert_eq!((times.count(), times.total()), (1_000, Duration::from_millis(500_500)));
        times.clear();
        assert_eq!(times.count(), 0);
    }
}
