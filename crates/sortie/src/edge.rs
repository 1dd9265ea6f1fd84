//! What stands between the network and the calls, from its configuration: TLS, limits, the listener and its end.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use sortie_config::{Config, TlsConfig};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_gateway::{AddressLimits, Gateway};
use sortie_serving::Limits;
use sortie_tls::CertificateFiles;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Files that are open beside connections: the log, the standard streams, the output of game servers.
const OTHER_FILES: u64 = 4_096;

/// What the port speaks TLS with, if it does.
pub(crate) fn tls(config: &Config) -> Result<Option<Arc<ServerConfig>>, Failure> {
    let tls = config.tls.as_ref().map(|tls| sortie_tls::server_config(certificate_files(tls)));
    tls.transpose().map_err(|problem| Failure::of("cannot speak TLS", problem))
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
        // The listener's share of an ordered stop, which has three stages.
        grace: config.shutdown_deadline / 3,
        ..Limits::default()
    }
}

/// None in development mode, where everybody comes from one address.
pub(crate) const fn address_limits(config: &Config) -> AddressLimits {
    if config.dev {
        return AddressLimits::NONE;
    }
    let gateway = &config.gateway;
    AddressLimits {
        rate: gateway.rate_per_address,
        burst: gateway.burst_per_address,
        waiting: gateway.waiting_per_address,
    }
}

/// Raises the limit of open files to what the configured connections need, and no further: game servers inherit it, and
/// some programs do not bear a large one. Gives the connections that there can be.
pub(crate) fn connections(config: &Config) -> usize {
    let configured = config.limits.connections;
    let wanted = configured as u64 + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(current) = current.filter(|current| *current < wanted) else { return configured };
    let allowed = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum });
    let files = raised.map_or(current, |()| allowed);
    if files >= wanted {
        return configured;
    }
    let connections = usize::try_from(files.saturating_sub(OTHER_FILES).max(files / 2)).unwrap_or(configured);
    // Whoever tries Sortie out does not need so many.
    if config.dev {
        tracing::info!(
            files,
            connections,
            "the system allows fewer open files than limits.connections needs"
        );
    } else {
        tracing::warn!(
            files,
            connections,
            "the system allows fewer open files than limits.connections needs, so there can be fewer connections: \
             raise its limit (ulimit -n, LimitNOFILE), or lower limits.connections"
        );
    }
    connections
}

/// Everything that is served at the port.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<ServerConfig>>,
    pub(crate) router: axum::Router,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) limits: Limits,
    /// Cancelled when the end begins.
    pub(crate) closing: CancellationToken,
}

pub(crate) fn spawn_listener(supervisor: &mut Supervisor, door: Door) {
    supervisor.spawn("the listener", Stage::Door, OnFailure::StopAll, |stop| async move {
        let Door { listener, tls, router, gateway, limits, closing } = door;
        let close = closing.clone();
        let serving = async {
            sortie_serving::serve(listener, router, tls, &limits, closing).await;
            if let Some(gateway) = gateway {
                let _in_time = tokio::time::timeout(limits.grace, gateway.closed()).await;
            }
        };
        let stopping = async {
            stop.stopped().await;
            close.cancel();
        };
        tokio::join!(serving, stopping);
        Ok(())
    });
}
