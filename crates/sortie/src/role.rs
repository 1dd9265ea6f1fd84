//! What a part of the process is to `sortie up`.
//!
//! A role has been checked and has bound its ports when it exists: what is wrong with its configuration ends the start
//! before anything runs. `node` lists the roles in the order in which they rest on each other; everything else it asks
//! of them is here. A role that is not configured is not in the list, and costs nothing.

use std::sync::Arc;

use axum::Router;
use axum::http::HeaderMap;
use futures::future::BoxFuture;
use sortie_api::Check;
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_metrics::Collector;
use sortie_openapi::Description;
use sortie_serving::Limits;

/// Decides by a call's headers whether the caller may read the metrics.
pub(crate) type ReadsMetrics = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// A part of the process.
pub(crate) trait Role: Send {
    /// Maximum number of files that it holds open, in addition to the connections of the control plane's port.
    fn open_files(&self) -> u64 {
        0
    }

    /// What the control plane's port serves of it.
    fn router(&self) -> Router {
        Router::new()
    }

    /// The part of the OpenAPI document about that.
    fn description(&self) -> Option<Description> {
        None
    }

    /// What it tells at each scrape of the metrics.
    fn metrics(&self) -> Option<Arc<dyn Collector>> {
        None
    }

    /// Callers that may read the metrics, in addition to administrators.
    fn reads_metrics(&self) -> Option<ReadsMetrics> {
        None
    }

    /// What `/readyz` asks it: whether something is wrong although it serves.
    fn health(&self) -> Option<Check> {
        None
    }

    /// Ends when nothing of it is under way any more; awaited once the port has stopped serving.
    fn drained(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Starts its tasks, each with the stage of an ordered stop in which it ends.
    fn spawn(self: Box<Self>, _supervisor: &mut Supervisor, _limits: &Limits) {}
}

/// Work that ends by itself, or with the control plane.
pub(crate) fn spawn_work(
    supervisor: &mut Supervisor,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    supervisor.spawn(name, Stage::Work, OnFailure::GoOn, |stop| async move {
        tokio::select! {
            () = work => {}
            () = stop.stopped() => {}
        }
        Ok(())
    });
}
