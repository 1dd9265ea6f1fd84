//! What every process tells of itself, and the roles that it has.

use async_trait::async_trait;
use prometheus_client::encoding::EncodeLabelSet;
use sortie_dispatch::Dispatch;
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

/// The metrics of a process with these roles.
pub(crate) fn of(dispatch: Option<Dispatch>) -> Metrics {
    let metrics = Metrics::default().with(Build);
    match dispatch {
        Some(dispatch) => metrics.with(dispatch),
        None => metrics,
    }
}
