//! `GET /metrics`: what every other role tells.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use prometheus_client::encoding::EncodeLabelSet;
use sortie_api::{Auth, Permission};
use sortie_metrics::{Collector, Metrics, Samples};
use sortie_openapi::Description;

use crate::role::{ReadsMetrics, Role};

/// Which program it is: the usual `build_info` gauge.
struct Build;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OfBuild {
    version: &'static str,
}

#[async_trait]
impl Collector for Build {
    async fn collect(&self, samples: &mut Samples) {
        let build = OfBuild { version: env!("CARGO_PKG_VERSION") };
        samples.gauges("build_info", "Which program it is", None, vec![(build, 1)]);
    }
}

/// The metrics of a process with these sources.
pub(crate) fn of(sources: impl IntoIterator<Item = Arc<dyn Collector>>) -> Metrics {
    sources.into_iter().fold(Metrics::default().with(Arc::new(Build)), Metrics::with)
}

/// The route.
pub(crate) struct MetricsRole {
    router: Router,
}

impl MetricsRole {
    /// The metrics of `roles`. Administrators may read them, and whom a role names.
    pub(crate) fn of(auth: &Auth, roles: &[Box<dyn Role>]) -> Self {
        let others: Vec<ReadsMetrics> = roles.iter().filter_map(|role| role.reads_metrics()).collect();
        let metrics = of(roles.iter().filter_map(|role| role.metrics()));
        let auth = auth.clone();
        let router = sortie_metrics::router(metrics, move |headers| {
            auth.permits(headers, Permission::Admin) || others.iter().any(|may_read| may_read(headers))
        });
        Self { router }
    }
}

impl Role for MetricsRole {
    fn router(&self) -> Router {
        self.router.clone()
    }

    fn description(&self) -> Option<Description> {
        Some(sortie_metrics::description())
    }
}
