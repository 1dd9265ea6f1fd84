//! The Agones SDK: the API that a game server built for Agones calls on `localhost`, so that it runs unchanged without
//! Agones.
//!
//! ```text
//! game server ── gRPC 9357 ──▶ grpc ─┐             ┌─▶ driver ──▶ manager
//!             ── HTTP 9358 ──▶ rest ─┴─▶ calls ──▶ desk
//!                                                  └─▶ watchers
//! ```
//!
//! | what | where |
//! |---|---|
//! | the life of the game server, its match, its timers: pure | `game_server` |
//! | counters, lists, players: pure | `counts` |
//! | both, shared by all calls | `desk` |
//! | every call, once | `calls`; over gRPC in `grpc`, over HTTP in `rest` |
//! | requests for matches, and reports about them | `driver` |
//! | settings | [`AgonesOptions`] |
//!
//! | Agones | here |
//! |---|---|
//! | `Ready` | the server is idle and requests a match; its previous one is over |
//! | a match comes | `Allocated`, with the match in labels and annotations, then MatchReady |
//! | `Allocate` | `Allocated` without a match: it requests none |
//! | `Reserve` | like `Ready`, but it requests none before the time is over |
//! | `Shutdown`, or no sign of health | the match is over, the server is gone |
//! | the control plane wants it to exit | `Shutdown`, for the server to see |
//!
//! One sidecar has one game server here: calls do not say which server makes them. The manager keeps its state, so that
//! a restarted sidecar resumes the match of a running server.

mod calls;
mod counts;
mod desk;
mod driver;
mod game_server;
mod grpc;
mod options;
mod refusal;
mod rest;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sortie_serving::{Limits, ListenAddr, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::desk::Desk;
use self::driver::AgonesDriver;
use super::{EventSource, SourceError, visitors};
use crate::manager::{Manager, ServerState};

pub use counts::{Counter, List, MAX_LIST_VALUES, MAX_PLAYERS, MAX_VALUE_BYTES};
pub use game_server::MAX_METADATA_BYTES;
pub use options::{
    AgonesOptions, DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT, HealthOptions, MAX_COUNTS, MAX_PORTS,
};

/// Its name in the settings.
pub const NAME: &str = "agones_sdk_event_source";

/// Maximum number of connections: one game server, and a few observers.
const MAX_CONNECTIONS: usize = 64;
/// Maximum number of concurrent calls per connection.
const MAX_CALLS: u32 = 128;
/// Maximum time that open calls get at shutdown.
const GRACE: Duration = Duration::from_secs(2);
/// How long a game server that is gone is still answered: it may have more to say while exiting.
const LINGER: Duration = Duration::from_secs(5);

/// The source, with its ports.
#[derive(Debug)]
pub struct AgonesSource {
    options: AgonesOptions,
    grpc: TcpListener,
    http: TcpListener,
}

impl AgonesSource {
    /// Binds the ports. Calls wait from here on, and are answered once the source runs.
    ///
    /// # Errors
    /// [`SourceError`] with the key of an invalid setting or of an address that is not available.
    pub async fn bind(options: AgonesOptions) -> Result<Self, SourceError> {
        options.check().map_err(failed)?;
        let grpc = listen("GrpcListenAddr", &options.grpc_listen).await?;
        let http = listen("HttpListenAddr", &options.http_listen).await?;
        Ok(Self { options, grpc, http })
    }

    /// Address of gRPC. `None` if the system does not know.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.local_addr().ok()
    }

    /// Address of HTTP. `None` if the system does not know.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http.local_addr().ok()
    }
}

#[async_trait]
impl EventSource for AgonesSource {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn run(self: Box<Self>, manager: Manager, closing: CancellationToken) -> Result<(), SourceError> {
        let Self { options, grpc, http } = *self;
        let server_id = manager.server_id_of(NAME);
        // Also cancelled when the game server is gone.
        let ending = closing.child_token();
        let desk = Arc::new(Desk::new(&options, manager.clone(), server_id.clone(), ending.clone()));
        resume(&desk, &manager, &server_id);
        let limits = limits();
        let services = grpc::routes(&desk, &limits);
        let gateway = rest::routes(&desk, &limits);
        let for_grpc = visitors(&options.grpc_listen, &options.allowed_hosts);
        let for_http = visitors(&options.http_listen, &options.allowed_hosts);
        let mut driver = AgonesDriver::new(desk, manager, server_id, options.requirements);
        let driving = async {
            driver.run(&ending).await;
            tokio::select! {
                () = tokio::time::sleep(LINGER) => {}
                () = ending.cancelled() => {}
            }
            ending.cancel();
        };
        tokio::join!(
            driving,
            serve(grpc, services, for_grpc, None, &limits, ending.clone()),
            serve(http, gateway, for_http, None, &limits, ending.clone()),
        );
        // Reports what the last calls said.
        driver.settle().await;
        Ok(())
    }
}

/// Resumes where the last process left the game server, which may still be running and will not repeat what it has
/// said.
fn resume(desk: &Desk, manager: &Manager, server_id: &str) {
    let Some(server) = manager.view().servers.into_iter().find(|server| server.id == server_id) else {
        return;
    };
    let ready = server.matches.iter().find(|game| game.is_ready);
    match (ready, server.state) {
        (Some(game), _) => desk.update(|game_server, now| game_server.resume(Some(&game.id), now)),
        // A match that the server does not know yet is given again.
        (None, ServerState::Ready | ServerState::InMatch) => {
            desk.update(|game_server, now| game_server.resume(None, now));
        }
        (None, ServerState::Started | ServerState::Done | ServerState::Terminated) => return,
    }
    manager.vouch_for(server_id);
}

fn limits() -> Limits {
    Limits {
        connections: MAX_CONNECTIONS,
        calls_per_connection: MAX_CALLS,
        grace: GRACE,
        ..Limits::default()
    }
}

async fn listen(key: &str, address: &ListenAddr) -> Result<TcpListener, SourceError> {
    address.bind().await.map_err(|error| {
        failed(format!("{key}: cannot listen on {address} ({error}): free it, or choose another"))
    })
}

fn failed(problem: String) -> SourceError {
    SourceError { source_name: NAME, problem }
}
