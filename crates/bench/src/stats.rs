//! Statistics of many measurements.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Minimum and maximum time that is recorded exactly, in microseconds: 1 µs and an hour.
const MICROS: (u64, u64) = (1, 3_600_000_000);
/// Significant digits of each.
const DIGITS: u8 = 3;

/// How long calls took. Its size does not depend on their number.
#[derive(Clone)]
pub(crate) struct Timings(Option<Histogram<u64>>);

/// A summary of [`Timings`], in milliseconds; null if nothing was measured.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
}

impl Timings {
    pub(crate) fn new() -> Self {
        // The bounds are valid.
        Self(Histogram::new_with_bounds(MICROS.0, MICROS.1, DIGITS).ok())
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(histogram) = &mut self.0 {
            histogram.saturating_record(micros);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        if let (Some(mine), Some(other)) = (&mut self.0, &other.0) {
            // Fails only for values out of bounds, which are the same in both.
            let _ = mine.add(other);
        }
    }

    pub(crate) fn summary(&self) -> Percentiles {
        let count = self.0.as_ref().map_or(0, Histogram::len);
        let at = |quantile| {
            let histogram = self.0.as_ref().filter(|_| count > 0)?;
            Some(histogram.value_at_quantile(quantile) as f64 / 1000.0)
        };
        Percentiles { count, p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

/// The sum of all of them.
pub(crate) fn merged<'a>(all: impl IntoIterator<Item = &'a Timings>) -> Timings {
    let mut sum = Timings::new();
    all.into_iter().for_each(|timings| sum.add(timings));
    sum
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.p50_ms, self.p99_ms) {
            (Some(p50), Some(p99)) => write!(f, "p50 {p50:.3} ms, p99 {p99:.3} ms"),
            _ => f.write_str("not measured"),
        }
    }
}

/// The median; of an even number of values, the mean of the middle two. `None` if there are none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// Rates of two things measured in turns, one `(measured, limit)` per round.
#[derive(Default)]
pub(crate) struct Turns(Vec<(f64, f64)>);

impl Turns {
    pub(crate) fn push(&mut self, measured: f64, limit: f64) {
        self.0.push((measured, limit));
    }

    /// The median rate of what is measured.
    pub(crate) fn measured(&self) -> Option<f64> {
        median(&self.0.iter().map(|(measured, _)| *measured).collect::<Vec<_>>())
    }

    /// The median rate of the limit.
    pub(crate) fn limit(&self) -> Option<f64> {
        median(&self.0.iter().map(|(_, limit)| *limit).collect::<Vec<_>>())
    }

    /// The median of the rounds' own ratios, so that a slow round affects both or neither.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let ratios =
            self.0.iter().filter(|(_, limit)| *limit > 0.0).map(|(measured, limit)| measured / limit);
        median(&ratios.collect::<Vec<_>>())
    }
}

/// CPU time of a control plane.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Cpu {
    /// Of the thread that decides and commits.
    pub(crate) machine: Duration,
    /// Of all other threads: the network, HTTP, gRPC.
    pub(crate) rest: Duration,
}

impl Cpu {
    /// The time used between `earlier` and this.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            machine: self.machine.saturating_sub(earlier.machine),
            rest: self.rest.saturating_sub(earlier.rest),
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.machine += more.machine;
        self.rest += more.rest;
    }

    /// Per call, in microseconds: the machine thread, the rest. `None` without calls.
    pub(crate) fn of_each(self, calls: u64) -> Option<(f64, f64)> {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
        (calls > 0).then(|| (each(self.machine), each(self.rest)))
    }
}

/// A figure for people; a dash if there is none.
pub(crate) fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut timings = Timings::new();
        (1..=1000).for_each(|millis| timings.record(Duration::from_millis(millis)));
        let found = timings.summary();
        assert_eq!(found.count, 1000);
        // Three digits are kept.
        assert!((found.p50_ms.unwrap() - 500.0).abs() < 1.0, "{found:?}");
        assert!((found.p99_ms.unwrap() - 990.0).abs() < 1.0, "{found:?}");
    }

    #[test]
    fn merged_timings_count_all() {
        let (mut low, mut high) = (Timings::new(), Timings::new());
        (0..99).for_each(|_| low.record(Duration::from_millis(1)));
        high.record(Duration::from_secs(7200));
        let found = merged([&low, &high]).summary();
        assert_eq!((found.count, found.p50_ms.map(f64::round)), (100, Some(1.0)));
        assert_eq!(merged([]).summary(), Percentiles { count: 0, p50_ms: None, p99_ms: None });
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn cpu_time_is_shared_by_the_calls() {
        let at = |machine, rest| Cpu {
            machine: Duration::from_millis(machine),
            rest: Duration::from_millis(rest),
        };
        let mut used = at(50, 70).since(at(40, 50));
        used.add(at(10, 0));
        assert_eq!(used, at(20, 20));
        assert_eq!(used.of_each(1000), Some((20.0, 20.0)));
        assert_eq!((used.of_each(0), at(1, 1).since(at(2, 2))), (None, Cpu::default()));
    }

    #[test]
    fn a_slow_round_does_not_bend_the_ratio() {
        let mut turns = Turns::default();
        for speed in [1.0, 0.1, 1.0, 0.5, 0.9] {
            turns.push(600.0 * speed, 1000.0 * speed);
        }
        assert!((turns.ratio().unwrap() - 0.6).abs() < 1e-9);
        assert_eq!((turns.measured(), turns.limit()), (Some(540.0), Some(900.0)));
        turns.push(1.0, 0.0);
        assert!(turns.ratio().unwrap().is_finite());
        assert_eq!(Turns::default().ratio(), None);
    }
}
