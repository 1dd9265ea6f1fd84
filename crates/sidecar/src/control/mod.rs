//! The sidecar's own API, and a page that shows what it does: one port for operators.
//!
//! | where | what |
//! |---|---|
//! | `routes`, `messages` | the API, as in the Catena sidecar: profiles, servers, sidecars |
//! | `profiles` | what servers may be launched with |
//! | `servers` | running programs and their lifecycle |
//! | `panel` | the debug panel at `/` |
//! | `gate` | access control |
//!
//! A port of its own, separate from the game servers': callers of this one can start programs.

mod gate;
mod messages;
mod panel;
mod profiles;
mod routes;
mod servers;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use serde_json::Value;
use sortie_serving::{Limits, ListenAddr, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::http_answer::{not_this_way, nothing_here};
use crate::manager::Manager;
use gate::{Access, gate};

pub use gate::ControlKey;
pub use panel::{SEND_PAUSE, SIGN_OF_LIFE};
pub use profiles::{MAX_PROFILE_BYTES, MAX_PROFILES};
pub use servers::MAX_PROCESSES;
pub use state::MAX_STREAMS;

/// Options of the port.
#[derive(Clone, Debug)]
pub struct ControlOptions {
    /// Where it listens: `DebugPanelAddr`.
    pub listen: ListenAddr,
    /// Callers need this key. Required unless `listen` is a loopback address.
    pub api_key: Option<ControlKey>,
    /// Names of this machine that callers may use without a key, in addition to its loopback names.
    pub allowed_hosts: Vec<String>,
    /// Host name of this machine.
    pub hostname: String,
    /// gRPC port for game servers' calls, if there is one.
    pub grpc_port: Option<u16>,
    /// HTTP port for game servers' calls, if there is one.
    pub http_port: Option<u16>,
    /// Variables for launched programs: where the sidecar listens.
    pub environment: BTreeMap<String, String>,
    /// Variables of this process that launched programs inherit in addition to those of every game server. Variables
    /// that begin with `SORTIE_` are never inherited, unless they are for game servers.
    pub pass_environment: Vec<String>,
    /// Time from SIGTERM to SIGKILL for launched programs.
    pub stop_deadline: Duration,
    /// Launched programs, and their matches, outlive the sidecar.
    pub keep_servers: bool,
    /// The settings, for the panel. Without secrets.
    pub settings: Value,
    /// Name of the resolver, if there is one.
    pub resolver: Option<String>,
    /// The state of the event sources, for the panel, updated by their runner.
    pub sources: watch::Receiver<Vec<SourceStatus>>,
    /// Limits of requests and connections.
    pub limits: Limits,
}

impl ControlOptions {
    /// Open to this machine only, with nothing to show.
    #[must_use]
    pub fn new(listen: ListenAddr) -> Self {
        Self {
            listen,
            api_key: None,
            allowed_hosts: Vec::new(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            grpc_port: None,
            http_port: None,
            environment: BTreeMap::new(),
            pass_environment: Vec::new(),
            stop_deadline: Duration::from_secs(10),
            keep_servers: false,
            settings: Value::Null,
            resolver: None,
            sources: watch::channel(Vec::new()).1,
            limits: Limits { connections: 128, grace: Duration::from_secs(2), ..Limits::default() },
        }
    }
}

/// An event source, as shown in the panel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Its name in the settings.
    pub name: String,
    /// Where it listens, if it does.
    pub listens: Vec<String>,
    /// Its state.
    pub state: SourceState,
}

/// State of an event source.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum SourceState {
    /// It serves or simulates game servers.
    Running,
    /// Its last game server has ended.
    Done,
    /// It failed, and why.
    Failed(String),
}

/// Why the port cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address is not available.
    #[error("app.sidecar.DebugPanelAddr: cannot listen on {listen}: {source}; take another address or port")]
    Listen {
        /// The address.
        listen: ListenAddr,
        /// The system's error.
        source: io::Error,
    },
    /// Other machines could start programs.
    #[error(
        "app.sidecar.DebugPanelAddr: {listen} can be reached from other machines, whose users could start \
         programs on this one: give app.sidecar an ApiKeyFile, ApiKeyEnv or ApiKey, or listen on localhost:{}",
        .listen.port()
    )]
    NoKey {
        /// The address.
        listen: ListenAddr,
    },
}

/// The port, bound but not yet served.
pub struct ControlPort {
    options: ControlOptions,
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
}

impl ControlPort {
    /// Binds the port.
    ///
    /// # Errors
    /// [`ControlError`]
    pub async fn bind(mut options: ControlOptions) -> Result<Self, ControlError> {
        let listen = options.listen.clone();
        let cannot = |source| ControlError::Listen { listen: listen.clone(), source };
        let listener = listen.bind().await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let access = match options.api_key.take() {
            Some(key) => Access::Locked(Arc::new(key)),
            None if address.ip().to_canonical().is_loopback() => Access::Open,
            None => return Err(ControlError::NoKey { listen }),
        };
        Ok(Self { options, listener, address, access })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `closing` is cancelled, then ends the launched programs, or lets them go if they are to be kept.
    /// Reports each program's end to `manager` before this returns, so end the manager after it.
    pub async fn run(self, manager: Manager, closing: CancellationToken) {
        let Self { options, listener, access, .. } = self;
        let keep_servers = options.keep_servers;
        let limits = options.limits.clone();
        let hosts = options.listen.name().map(ToOwned::to_owned);
        let visitors = access.visitors().and_hosts(options.allowed_hosts.iter().cloned().chain(hosts));
        let control = state::Control::new(options, manager, closing.clone());
        let servers = control.servers.clone();
        let _ends_them_at_any_rate = servers.guard();
        let ending = async {
            closing.cancelled().await;
            servers.close(keep_servers).await;
        };
        let router = router(control, access);
        tokio::join!(serve(listener, router, visitors, None, &limits, closing.clone()), ending);
    }
}

fn router(control: state::Control, access: Access) -> Router {
    Router::new()
        .merge(routes::routes())
        .merge(panel::routes())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_this_way)
        .with_state(control)
        .layer(from_fn_with_state(access, gate))
}
