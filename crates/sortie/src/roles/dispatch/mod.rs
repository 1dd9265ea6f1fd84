//! The dispatcher as a role: under `sortie up`, and what `sortie dispatch` uses of it.
//!
//! | where | what |
//! |---|---|
//! | `options` | from the configuration to the options of a dispatcher |
//! | `port` | a port of its own |
//! | [`DispatchRole`] | the dispatcher of a control plane |

mod options;
mod port;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use sortie_api::{Auth, Permission};
use sortie_config::Config;
use sortie_dispatch::{Dispatch, Operators};
use sortie_engine::supervisor::{OnFailure, Stage, Supervisor};
use sortie_metrics::Collector;
use sortie_openapi::Description;
use sortie_serving::Limits;
use tokio_util::sync::CancellationToken;

pub(crate) use options::{configured_secret, options};
use port::OwnPort;
pub(crate) use port::{Port, certificate, open_files, router, scheme, serve};

use crate::failure::Failure;
use crate::role::{ReadsMetrics, Role};

/// The dispatcher of a control plane.
pub(crate) struct DispatchRole {
    dispatch: Dispatch,
    /// A port of its own; otherwise its routes are served at the control plane's.
    own: Option<OwnPort>,
    open_files: u64,
}

impl DispatchRole {
    /// `None` if the configuration has it switched off.
    pub(crate) async fn open(config: &Config, auth: &Auth) -> Result<Option<Self>, Failure> {
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
        Ok(Some(Self { dispatch, own, open_files: open_files(&config.dispatch) }))
    }

    /// Where drivers come in, if not at the control plane's port.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.own.as_ref().and_then(OwnPort::address)
    }
}

impl Role for DispatchRole {
    fn open_files(&self) -> u64 {
        self.open_files
    }

    fn router(&self) -> Router {
        if self.own.is_some() { Router::new() } else { self.dispatch.router() }
    }

    fn description(&self) -> Option<Description> {
        self.own.is_none().then(sortie_dispatch::description)
    }

    fn metrics(&self) -> Option<Arc<dyn Collector>> {
        Some(Arc::new(self.dispatch.clone()))
    }

    fn reads_metrics(&self) -> Option<ReadsMetrics> {
        let dispatch = self.dispatch.clone();
        Some(Arc::new(move |headers| dispatch.is_operator(headers)))
    }

    /// Serves until the stop, which ends websockets and devices in order.
    fn spawn(self: Box<Self>, supervisor: &mut Supervisor, limits: &Limits) {
        let Self { dispatch, own, .. } = *self;
        let limits = limits.clone();
        supervisor.spawn("the dispatcher", Stage::Door, OnFailure::StopAll, |stop| async move {
            let closing = CancellationToken::new();
            let close = closing.clone();
            let end = async {
                stop.stopped().await;
                close.cancel();
            };
            match own {
                Some(own) => {
                    tokio::join!(own.serve(&dispatch, &limits, closing), end);
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
