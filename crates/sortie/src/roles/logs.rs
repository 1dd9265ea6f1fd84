//! The logs of a control plane as a role: how far they are, how far their snapshots are behind, and what waits for them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use sortie_api::{Check, Problem};
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Handle, Hosted, Stats};
use sortie_metrics::{Collector, Samples};

use crate::role::Role;

/// The code of a problem: the newest snapshot is older than it should be.
const SNAPSHOT_FAILED: &str = "snapshot_failed";

/// One log, with the machine over it.
struct Log {
    name: &'static str,
    stats: Box<dyn Fn() -> Stats + Send + Sync>,
    snapshot_problem: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

impl Log {
    fn of<M: Hosted>(name: &'static str, machine: &Handle<M>) -> Self {
        let (read, asked) = (machine.clone(), machine.clone());
        Self {
            name,
            stats: Box::new(move || read.stats()),
            snapshot_problem: Box::new(move || asked.snapshot_problem()),
        }
    }

    fn problem(&self) -> Option<Problem> {
        let message = format!(
            "no snapshot of the {} could be written: {}. Nothing is lost, but its log grows and the next start takes longer",
            self.name,
            (self.snapshot_problem)()?
        );
        Some(Problem { code: SNAPSHOT_FAILED, message })
    }
}

/// The logs of broker and matchmaker.
#[derive(Clone)]
pub(crate) struct LogsRole(Arc<[Log]>);

impl LogsRole {
    pub(crate) fn new(broker: &Handle<Broker>, matchmaker: Option<&Handle<Matchmaker>>) -> Self {
        let logs = [Some(Log::of("broker", broker)), matchmaker.map(|maker| Log::of("matchmaker", maker))];
        Self(logs.into_iter().flatten().collect())
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfLog {
    log: &'static str,
}

#[async_trait]
impl Collector for LogsRole {
    async fn collect(&self, samples: &mut Samples) {
        let logs: Vec<_> = self.0.iter().map(|log| (OfLog { log: log.name }, (log.stats)())).collect();
        let of = |value: fn(&Stats) -> u64| -> Vec<_> {
            logs.iter().map(|(log, stats)| (log.clone(), value(stats))).collect()
        };
        samples.gauges("log_last_seq", "The last durable record", None, of(|stats| stats.last_seq));
        let help = "Whether commands are taken (1), or the log refuses them (0)";
        samples.gauges("log_accepting", help, None, of(|stats| u64::from(stats.accepting)));
        samples.counters(
            "log_records",
            "Records made durable, since the start",
            None,
            of(|stats| stats.records),
        );
        samples.counters("log_batches", "Group commits, since the start", None, of(|stats| stats.batches));
        let help = "Group commits that the log refused, since the start";
        samples.counters("log_failed_batches", help, None, of(|stats| stats.failed_batches));
        let appends = logs.iter().map(|(log, stats)| (log.clone(), stats.last_append)).collect();
        samples.durations("log_last_append", "Duration of the last group commit", appends);
        let help = "Inputs that wait for the machine's thread";
        samples.gauges("log_queued_inputs", help, None, of(|stats| stats.queued as u64));
        let help = "Calls that the machine answers later";
        samples.gauges("log_waiting_calls", help, None, of(|stats| stats.kept_calls as u64));
        let help = "Effects that have no outcome yet";
        samples.gauges("log_pending_effects", help, None, of(|stats| stats.pending_effects as u64));
        let help = "The last record in the newest snapshot";
        samples.gauges("snapshot_seq", help, None, of(|stats| stats.snapshot_seq));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = logs.iter().filter(|(_, stats)| stats.snapshot_seq > 0).map(|(log, stats)| {
            let age = now.saturating_sub(Duration::from_millis(stats.snapshot_time.as_millis()));
            (log.clone(), age.as_secs())
        });
        let help = "How long ago the last record in the newest snapshot was written";
        samples.gauges("snapshot_age", help, Some(Unit::Seconds), old.collect());
        let help = "Snapshots that could not be written, since the start";
        samples.counters("snapshot_failures", help, None, of(|stats| stats.failed_snapshots));
    }
}

impl Role for LogsRole {
    fn metrics(&self) -> Option<Arc<dyn Collector>> {
        Some(Arc::new(self.clone()))
    }

    fn health(&self) -> Option<Check> {
        let logs = Arc::clone(&self.0);
        Some(Arc::new(move || logs.iter().filter_map(Log::problem).collect()))
    }
}
