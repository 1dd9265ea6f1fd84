//! The dispatcher as a role: from its configuration to what is served, under `sortie up` and alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use rustls::ServerConfig;
use sortie_api::{Auth, Permission};
use sortie_config::{Config, DispatchConfig, DispatchLimits, TlsConfig};
use sortie_dispatch::{Dispatch, DispatchOptions, Limits, Operators, Secret, Version};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_serving::{Visitors, error_response};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::edge;
use crate::failure::Failure;
use crate::metrics;

/// What this program was built from, where the build says so.
const COMMIT: Option<&str> = option_env!("SORTIE_BUILD_COMMIT");
const BUILD_TIME: Option<&str> = option_env!("SORTIE_BUILD_TIME");
const UNKNOWN: &str = "unknown";
/// Connections at a port for drivers that are no drivers: probes, statistics, and drivers that are refused.
const OTHER_CONNECTIONS: usize = 1_024;

/// How a dispatcher with this configuration behaves.
pub(crate) fn options(
    config: &DispatchConfig,
    secret: Option<Secret>,
    operators: Option<Operators>,
) -> DispatchOptions {
    DispatchOptions {
        secret,
        operators,
        hosts: config.hosts.clone(),
        allowed_ports: config.allowed_ports.clone(),
        only_to_peers_that_spoke: config.only_to_peers_that_spoke,
        version: Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: COMMIT.unwrap_or(UNKNOWN).to_owned(),
            build_time: BUILD_TIME.unwrap_or(UNKNOWN).to_owned(),
            platform_version: None,
        },
        limits: limits(&config.limits),
    }
}

fn limits(config: &DispatchLimits) -> Limits {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        drivers: count(config.drivers),
        drivers_per_port: count(config.drivers_per_port),
        ports: count(config.ports),
        devices: count(config.devices),
        accept_entries: count(config.accept_entries),
        message_bytes: bytes(config.message),
        driver_queue_bytes: bytes(config.driver_queue),
        queue_bytes: bytes(config.queue),
        device_backlog_bytes: bytes(config.device_backlog),
        backlog_bytes: bytes(config.backlog),
        driver_stall: config.driver_stall,
        device_patience: config.device_patience,
        device_stall: config.device_stall,
        half_close_time: config.half_close_time,
        half_closed: count(config.half_closed),
        ping_period: config.ping_period,
        ping_deadline: config.ping_deadline,
        close_time: config.close_time,
        udp_peers_per_port: count(config.udp_peers_per_port),
        tokens: count(config.tokens),
        token_time: config.token_time,
    }
}

/// The secret of the configuration.
pub(crate) fn configured_secret(config: &DispatchConfig) -> Result<Option<Secret>, Failure> {
    let Some((_, secret)) = &config.secret else { return Ok(None) };
    let text = String::from_utf8(secret.bytes().to_vec());
    let text = text.map_err(|_| Failure::new("dispatch: the secret is no UTF-8 text"))?;
    Ok(Some(Secret::new(text)?))
}

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
    let metrics = sortie_metrics::router(metrics::of(Some(dispatch.clone()), None), may_see);
    dispatch.router().merge(metrics).fallback(nothing_here)
}

async fn nothing_here() -> Response {
    let problem = "nothing is at this path: drivers call /api/dispatch/v1/tcp_dispatch or /api/dispatch/v1/udp_dispatch";
    error_response(StatusCode::NOT_FOUND, "not_found", problem, None)
}

/// The dispatcher of a control plane.
pub(crate) struct Role {
    pub(crate) dispatch: Dispatch,
    /// A port of its own; otherwise its routes are served at the control plane's.
    own: Option<OwnPort>,
}

struct OwnPort {
    listener: TcpListener,
    connections: usize,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    visitors: Visitors,
}

impl Role {
    /// `None` if the configuration has it switched off.
    pub(crate) async fn start(config: &Config, auth: &Auth) -> Result<Option<Self>, Failure> {
        if !config.dispatch.enabled {
            return Ok(None);
        }
        let secret = configured_secret(&config.dispatch)?;
        // In development mode everybody is an administrator, so that the secret would be one in name only.
        let operators = (!config.dev).then(|| {
            let auth = auth.clone();
            Operators::new(move |headers| auth.permits(headers, Permission::Admin))
        });
        let dispatch = Dispatch::new(options(&config.dispatch, secret, operators))
            .map_err(|problem| Failure::of("dispatch", problem))?;
        let own = match config.dispatch.listen {
            Some(listen) => Some(OwnPort::open(config, listen, &dispatch).await?),
            None => None,
        };
        Ok(Some(Self { dispatch, own }))
    }

    /// Where drivers come in, if not at the control plane's port.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.own.as_ref().and_then(|own| own.listener.local_addr().ok())
    }

    /// What the control plane's port serves of it.
    pub(crate) fn shared_router(&self) -> Router {
        if self.own.is_some() { Router::new() } else { self.dispatch.router() }
    }

    /// Serves until the stop, which ends websockets and devices in order.
    pub(crate) fn spawn(self, supervisor: &mut Supervisor, limits: &sortie_serving::Limits) {
        let Self { dispatch, own } = self;
        let limits = limits.clone();
        supervisor.spawn("the dispatcher", Stage::Door, OnFailure::StopAll, |stop| async move {
            let closing = CancellationToken::new();
            let close = closing.clone();
            let end = async {
                stop.stopped().await;
                close.cancel();
            };
            match own {
                Some(OwnPort { listener, connections, tls, router, visitors }) => {
                    let limits = sortie_serving::Limits { connections, ..limits };
                    let port = Port { listener, tls, router, visitors };
                    let serving = serve(&dispatch, port, &limits, closing);
                    tokio::join!(serving, end);
                }
                None => {
                    end.await;
                    dispatch.shutdown(limits.grace).await;
                }
            }
            Ok(())
        });
    }
}

impl OwnPort {
    async fn open(config: &Config, listen: SocketAddr, dispatch: &Dispatch) -> Result<Self, Failure> {
        let tls = edge::tls(certificate(config))?;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| Failure::of(format!("dispatch.listen: cannot listen on {listen}"), error))?;
        let connections = own_connections(&config.dispatch);
        let visitors = edge::visitors(config, !dispatch.is_open());
        Ok(Self { listener, connections, tls, router: router(dispatch), visitors })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_configuration_are_those_of_the_dispatcher() {
        let config = Config::load(None, std::iter::empty(), sortie_config::Overrides::default()).unwrap();
        let (found, wanted) = (options(&config.dispatch, None, None), DispatchOptions::default());
        assert_eq!(found.limits, wanted.limits);
        assert_eq!((found.hosts, found.allowed_ports), (wanted.hosts, wanted.allowed_ports));
        assert_eq!(found.only_to_peers_that_spoke, wanted.only_to_peers_that_spoke);
        assert_eq!(found.version.version, wanted.version.version);
    }
}
