//! What lies between the network and the calls, from its configuration: TLS, limits, the listener and its shutdown.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use sortie_config::{Config, TlsConfig};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_serving::{Allowance, Allowances, Limits, Visitors};
use sortie_tls::CertificateFiles;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::failure::Failure;

/// Open files in addition to connections: the log, the standard streams, the output of game servers.
const OTHER_FILES: u64 = 4_096;

/// The TLS configuration of a port, if it uses TLS.
pub(crate) fn tls(config: Option<&TlsConfig>) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let tls = config.map(|tls| sortie_tls::server_config(certificate_files(tls)));
    tls.transpose().map_err(|problem| Failure::of("cannot use TLS", problem))
}

pub(crate) fn certificate_files(tls: &TlsConfig) -> CertificateFiles {
    CertificateFiles { certificate: tls.certificate.clone(), key: tls.key.clone() }
}

pub(crate) fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        body_bytes: limits.body,
        body_time: limits.body_time,
        header_bytes: limits.headers,
        header_time: limits.idle_time,
        connections: limits.connections,
        connections_per_address: limits.connections_per_address,
        handshake_time: limits.handshake_time,
        calls_per_connection: limits.calls_per_connection,
        stall_time: limits.stall_time,
        // The listener's share of a graceful shutdown, which has three stages.
        grace: config.shutdown_deadline / 3,
        ..Limits::default()
    }
}

/// Who may call a port; `needs_key` says whether callers need a key there. If they do not, pages that this machine
/// serves on other ports are allowed: during development a game's page is served by a tool of its own.
pub(crate) fn visitors(config: &Config, needs_key: bool) -> Visitors {
    let visitors = if needs_key {
        Visitors::with_credentials()
    } else {
        Visitors::without_credentials().and_loopback_pages()
    };
    let url = config.public_url.as_deref().and_then(|url| Url::parse(url).ok());
    let host = url.as_ref().and_then(|url| url.host_str());
    let origin = url.as_ref().map(|url| url.origin().ascii_serialization());
    visitors
        .and_hosts(config.dev_hosts.iter().cloned())
        .and_hosts(host.map(ToOwned::to_owned))
        .and_origins(config.gateway.cors_origins.iter().cloned())
        .and_origins(origin)
}

/// What callers of the API may have open at a time.
pub(crate) fn api_limits(config: &Config) -> sortie_api::Limits {
    let callers = &config.limits.callers;
    sortie_api::Limits {
        serving: limits(config),
        player_streams: callers.player_streams,
        log_streams: callers.log_streams,
        streams_per_player: callers.streams_per_player,
        streams_per_key: callers.streams_per_key,
        waits: callers.waits,
        waits_per_key: callers.waits_per_key,
        watches: callers.watches,
        watches_per_address: callers.watches_per_address,
        ..sortie_api::Limits::default()
    }
}

/// How often one player may call. Unlimited in development mode, where programs play.
pub(crate) fn player_calls(config: &Config) -> Allowances {
    let (rate, burst) = (config.limits.callers.rate_per_player, config.limits.callers.burst_per_player);
    Allowances::new(if config.dev { Allowance::NONE } else { Allowance { rate, burst, waiting: 0 } })
}

/// No limit in development mode, where all calls come from one address.
pub(crate) const fn address_limits(config: &Config) -> Allowance {
    if config.dev {
        return Allowance::NONE;
    }
    let gateway = &config.gateway;
    Allowance {
        rate: gateway.rate_per_address,
        burst: gateway.burst_per_address,
        waiting: gateway.waiting_per_address,
    }
}

/// Raises the limit of open files to what is needed, and no further: game servers inherit it, and some programs cannot
/// cope with a large one. Returns the limit that was reached.
pub(crate) fn allow_files(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current.filter(|current| *current < wanted) else { return wanted };
    let allowed = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    raised.map_or(current, |()| allowed)
}

/// Raises the limit of open files to what the configured connections and `more` files need. Returns the number of
/// connections that are possible.
pub(crate) fn connections(config: &Config, more: u64) -> usize {
    let configured = config.limits.connections;
    let others = OTHER_FILES + more;
    let wanted = configured as u64 + others;
    let files = allow_files(wanted);
    if files >= wanted {
        return configured;
    }
    let connections = usize::try_from(files.saturating_sub(others).max(files / 2)).unwrap_or(configured);
    // Only informative: trying Sortie out does not need that many.
    if config.dev {
        tracing::info!(
            files,
            connections,
            "the system allows fewer open files than the configured limits need"
        );
    } else {
        tracing::warn!(
            files,
            connections,
            "the system allows fewer open files than the configured limits need, so there can be fewer connections: \
             raise its limit (ulimit -n, LimitNOFILE), or lower limits.connections and dispatch.limits"
        );
    }
    connections
}

/// Everything that is served on the port.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) router: axum::Router,
    pub(crate) visitors: Visitors,
    /// Awaited once nothing more is served.
    pub(crate) drained: Vec<BoxFuture<'static, ()>>,
    pub(crate) limits: Limits,
    /// Cancelled when the shutdown begins.
    pub(crate) closing: CancellationToken,
}

pub(crate) fn spawn_listener(supervisor: &mut Supervisor, door: Door) {
    supervisor.spawn("the listener", Stage::Door, OnFailure::StopAll, |stop| async move {
        let Door { listener, tls, router, visitors, drained, limits, closing } = door;
        let close = closing.clone();
        let serving = async {
            sortie_serving::serve(listener, router, visitors, tls, &limits, closing).await;
            let _in_time = tokio::time::timeout(limits.grace, join_all(drained)).await;
        };
        let stopping = async {
            stop.stopped().await;
            close.cancel();
        };
        tokio::join!(serving, stopping);
        Ok(())
    });
}
