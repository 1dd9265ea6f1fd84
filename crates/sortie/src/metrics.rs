//! What every process tells of itself, and the roles that it has.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::registry::Unit;
use sortie_dispatch::Dispatch;
use sortie_domain::broker::Broker;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Handle, Stats};
use sortie_metrics::{Metrics, Source, Told};

/// Which program it is: a value of 1 under its version, as monitoring has it.
struct Build;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
}

#[async_trait]
impl Source for Build {
    async fn tell(&self, told: &mut Told) {
        let build = OfBuild { version: env!("CARGO_PKG_VERSION") };
        told.gauges("build_info", "Which program it is", None, vec![(build, 1)]);
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
impl Source for Logs {
    async fn tell(&self, told: &mut Told) {
        let maker = self.matchmaker.as_ref().map(|maker| ("matchmaker", maker.stats()));
        let logs: Vec<(OfLog, Stats)> = [Some(("broker", self.broker.stats())), maker]
            .into_iter()
            .flatten()
            .map(|(log, stats)| (OfLog { log }, stats))
            .collect();
        let of =
            |value: fn(&Stats) -> u64| logs.iter().map(|(log, stats)| (log.clone(), value(stats))).collect();
        told.gauges("log_last_seq", "The last durable record", None, of(|stats| stats.last_seq));
        told.gauges(
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
        told.gauges("snapshot_age", help, Some(Unit::Seconds), old.collect());
        let help = "Snapshots that could not be written, since the start";
        told.counters("snapshot_failures", help, None, of(|stats| stats.failed_snapshots));
        if let Some(maker) = &self.matchmaker {
            tell_faults(maker, told).await;
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
async fn tell_faults(maker: &Handle<Matchmaker>, told: &mut Told) {
    let faults = maker.query(|maker: &Matchmaker| {
        let faults = maker.faults().flat_map(|(queue, fault)| {
            let (queue, hook) = (queue.to_string(), fault.hook.to_string());
            fault.by_cause.iter().map(move |(cause, count)| {
                (OfHook { queue: queue.clone(), hook: hook.clone(), cause: cause.name() }, *count)
            })
        });
        faults.collect::<Vec<_>>()
    });
    // Where the engine has ended, there is nothing to tell.
    if let Ok(faults) = faults.await {
        let help = "Matches of answers of hooks `form_match` that were ignored, since the start";
        told.counters("hook_ignored_matches", help, None, faults);
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
