//! The metrics of every process and of its roles.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use sortie_dispatch::Dispatch;
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Handle, Stats};
use sortie_metrics::{Collector, Metrics, Samples};

/// The usual `build_info` gauge: 1, labelled with the version.
struct Build;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
}

#[async_trait]
impl Collector for Build {
    async fn collect(&self, samples: &mut Samples) {
        let build = OfBuild { version: env!("CARGO_PKG_VERSION") };
        samples.gauges("build_info", "Version of the program", None, vec![(build, 1)]);
    }
}

/// The logs of a control plane, and how far their snapshots are behind.
pub(crate) struct Logs {
    pub(crate) broker: Handle<Broker>,
    pub(crate) matchmaker: Option<Handle<Matchmaker>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfLog {
    log: &'static str,
}

#[async_trait]
impl Collector for Logs {
    async fn collect(&self, samples: &mut Samples) {
        let maker = self.matchmaker.as_ref().map(|maker| ("matchmaker", maker.stats()));
        let logs: Vec<(OfLog, Stats)> = [Some(("broker", self.broker.stats())), maker]
            .into_iter()
            .flatten()
            .map(|(log, stats)| (OfLog { log }, stats))
            .collect();
        let of =
            |value: fn(&Stats) -> u64| logs.iter().map(|(log, stats)| (log.clone(), value(stats))).collect();
        samples.gauges("log_last_seq", "The last durable record", None, of(|stats| stats.last_seq));
        samples.gauges(
            "snapshot_seq",
            "The last record in the newest snapshot",
            None,
            of(|stats| stats.snapshot_seq),
        );
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let old = logs.iter().filter(|(_, stats)| stats.snapshot_seq > 0).map(|(log, stats)| {
            let age = now.saturating_sub(Duration::from_millis(stats.snapshot_time.as_millis()));
            (log.clone(), age.as_secs())
        });
        let help = "How long ago the last record in the newest snapshot was written";
        samples.gauges("snapshot_age", help, Some(Unit::Seconds), old.collect());
        let help = "Snapshots that could not be written, since the start";
        samples.counters("snapshot_failures", help, None, of(|stats| stats.failed_snapshots));
        if let Some(maker) = &self.matchmaker {
            collect_faults(maker, samples).await;
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfHook {
    queue: String,
    hook: String,
    cause: &'static str,
}

/// What is wrong with the answers of hooks that form matches.
async fn collect_faults(maker: &Handle<Matchmaker>, samples: &mut Samples) {
    let faults = maker.query(|maker: &Matchmaker| {
        let faults = maker.faults().flat_map(|(queue, fault)| {
            let (queue, hook) = (queue.to_string(), fault.hook.to_string());
            fault.by_cause.iter().map(move |(cause, count)| {
                (OfHook { queue: queue.clone(), hook: hook.clone(), cause: cause.name() }, *count)
            })
        });
        faults.collect::<Vec<_>>()
    });
    // If the engine has ended, there are no numbers.
    if let Ok(faults) = faults.await {
        let help = "Matches of answers of hooks `form_match` that were ignored, since the start";
        samples.counters("hook_ignored_matches", help, None, faults);
    }
}

/// The metrics of a process with these roles.
pub(crate) fn of(dispatch: Option<Dispatch>, logs: Option<Logs>) -> Metrics {
    let metrics = Metrics::default().with(Build);
    let metrics = match logs {
        Some(logs) => metrics.with(logs),
        None => metrics,
    };
    match dispatch {
        Some(dispatch) => metrics.with(dispatch),
        None => metrics,
    }
}
