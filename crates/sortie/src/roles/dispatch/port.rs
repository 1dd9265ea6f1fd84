//! A port of the dispatcher's own: what is served there, with which certificate, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use rustls::ServerConfig;
use sortie_config::{Config, DispatchConfig, TlsConfig};
use sortie_dispatch::Dispatch;
use sortie_metrics::Collector;
use sortie_serving::{Visitors, error_response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::options::limits;
use crate::edge;
use crate::failure::Failure;
use crate::roles::metrics;

/// Connections at a port for drivers that are no drivers: probes, statistics, and drivers that are refused.
const OTHER_CONNECTIONS: usize = 1_024;

/// What a port for drivers speaks TLS with: its own certificate, or that of the control plane.
pub(crate) fn certificate(config: &Config) -> Option<&TlsConfig> {
    config.dispatch.tls.as_ref().or(config.tls.as_ref())
}

/// The scheme of a port for drivers of its own.
pub(crate) fn scheme(config: &Config) -> &'static str {
    if certificate(config).is_some() { "https" } else { "http" }
}

/// Everything that is served at a port of the dispatcher's own: its routes and its metrics.
pub(crate) fn router(dispatch: &Dispatch) -> Router {
    let asked = dispatch.clone();
    let may_see = move |headers: &HeaderMap| asked.is_operator(headers);
    let metrics =
        sortie_metrics::router(metrics::of([Arc::new(dispatch.clone()) as Arc<dyn Collector>]), may_see);
    dispatch.router().merge(metrics).fallback(nothing_here)
}

async fn nothing_here() -> Response {
    let problem = "nothing is at this path: drivers call /api/dispatch/v1/tcp_dispatch or /api/dispatch/v1/udp_dispatch";
    error_response(StatusCode::NOT_FOUND, "not_found", problem, None)
}

/// A port for drivers, and what is served there.
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) router: Router,
    pub(crate) visitors: Visitors,
}

/// Serves a port until `closing` is cancelled; then calls, drivers and devices have the limits' grace to end in order.
pub(crate) async fn serve(
    dispatch: &Dispatch,
    port: Port,
    limits: &sortie_serving::Limits,
    closing: CancellationToken,
) {
    let stop = closing.clone();
    let end = async {
        stop.cancelled().await;
        dispatch.shutdown(limits.grace).await;
    };
    let Port { listener, tls, router, visitors } = port;
    tokio::join!(sortie_serving::serve(listener, router, visitors, tls, limits, closing), end);
}

/// A port of a control plane's dispatcher that is bound.
pub(super) struct OwnPort {
    listener: TcpListener,
    connections: usize,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    visitors: Visitors,
}

impl OwnPort {
    pub(super) async fn open(
        config: &Config,
        listen: SocketAddr,
        dispatch: &Dispatch,
    ) -> Result<Self, Failure> {
        let tls = edge::tls(certificate(config))?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Failure::of(format!("dispatch.listen: cannot listen on {listen}"), error))?;
        let connections = own_connections(&config.dispatch);
        let visitors = edge::visitors(config, !dispatch.is_open());
        Ok(Self { listener, connections, tls, router: router(dispatch), visitors })
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves it, as [`serve`] does.
    pub(super) async fn serve(
        self,
        dispatch: &Dispatch,
        limits: &sortie_serving::Limits,
        closing: CancellationToken,
    ) {
        let Self { listener, connections, tls, router, visitors } = self;
        let limits = sortie_serving::Limits { connections, ..limits.clone() };
        serve(dispatch, Port { listener, tls, router, visitors }, &limits, closing).await;
    }
}

/// Files that a dispatcher holds open at most, beside the connections of the port that it shares: a socket for each
/// device, and for each port and address; with a port of its own, for each connection there.
pub(crate) fn open_files(config: &DispatchConfig) -> u64 {
    let limits = &config.limits;
    let devices = u64::from(limits.devices) + u64::from(limits.ports) * config.hosts.len() as u64;
    devices + config.listen.map_or(0, |_| own_connections(config) as u64)
}

/// Connections at a time at a port of its own.
fn own_connections(config: &DispatchConfig) -> usize {
    limits(&config.limits).drivers + OTHER_CONNECTIONS
}
