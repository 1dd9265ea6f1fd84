//! Waits and quality per queue.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// The outcome of a set of rules.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Name of the rules.
    pub rules: String,
    /// By queue.
    pub queues: BTreeMap<String, QueueReport>,
}

/// The outcome of one queue's tickets.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct QueueReport {
    /// Number of tickets.
    pub tickets: usize,
    /// Tickets that were matched.
    pub matched: usize,
    /// Tickets that reached the queue's maximum wait.
    pub timed_out: usize,
    /// Tickets that were cancelled before there was a match.
    pub left: usize,
    /// Tickets that the queue refused, or whose queue does not exist.
    pub refused: usize,
    /// Tickets that failed.
    pub failed: usize,
    /// Matches.
    pub matches: usize,
    /// Average number of players per match; `None` without matches.
    pub players_per_match: Option<f64>,
    /// How long matched tickets waited, in milliseconds.
    pub wait_ms: Option<Percentiles>,
    /// Measures of the matches, by name; less is better.
    pub quality: BTreeMap<String, Option<Percentiles>>,
}

/// Percentiles: p50, p95 and maximum.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Maximum.
    #[serde(rename = "most")]
    pub max: f64,
}

impl QueueReport {
    /// Tickets that got no match although nobody cancelled them.
    #[must_use]
    pub const fn unmatched(&self) -> usize {
        self.timed_out + self.refused + self.failed
    }
}

impl Percentiles {
    /// Percentiles of these numbers; `None` if there are none.
    pub(crate) fn of(mut numbers: Vec<f64>) -> Option<Self> {
        numbers.sort_by(f64::total_cmp);
        let percentile = |percent: usize| {
            let at = (numbers.len() * percent).div_ceil(100).saturating_sub(1);
            numbers.get(at).copied()
        };
        Some(Self { p50: percentile(50)?, p95: percentile(95)?, max: percentile(100)? })
    }
}

/// Counters of a running replay.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) report: QueueReport,
    pub(crate) waits: Vec<Duration>,
    pub(crate) players: usize,
    /// By measure, in the order of the measures.
    pub(crate) quality: Vec<Vec<f64>>,
}

impl Counts {
    pub(crate) fn finish(self, measures: &[String]) -> QueueReport {
        let millis = self.waits.iter().map(|wait| wait.as_secs_f64() * 1e3).collect();
        let mut quality = self.quality;
        quality.resize(measures.len(), Vec::new());
        let matches = self.report.matches;
        QueueReport {
            players_per_match: (matches > 0).then(|| self.players as f64 / matches as f64),
            wait_ms: Percentiles::of(millis),
            quality: measures.iter().cloned().zip(quality.into_iter().map(Percentiles::of)).collect(),
            ..self.report
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_numbers_that_were_there() {
        assert_eq!(Percentiles::of(Vec::new()), None);
        let of = |numbers: &[f64]| Percentiles::of(numbers.to_vec()).unwrap();
        assert_eq!(of(&[3.0]), Percentiles { p50: 3.0, p95: 3.0, max: 3.0 });
        let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(of(&hundred), Percentiles { p50: 50.0, p95: 95.0, max: 100.0 });
    }
}
