//! Backends, which answer a game server's calls.

mod catena;
mod noop;

use std::time::Duration;

use async_trait::async_trait;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::Status;

pub use catena::{CatenaBackend, CatenaBackendError, CatenaBackendOptions};
pub use noop::{NoopBackend, NoopError, NoopOptions};

/// Timeout of a request for a match if the server is willing to wait: backends hold such a call for at most 30 s; the
/// rest is margin.
pub const HELD_CALL_TIME: Duration = Duration::from_secs(45);

/// Why a backend failed a call.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum BackendError {
    /// It could not be reached, was too slow or is unavailable: the same call may succeed later.
    #[error("the backend is away: {0}")]
    Away(String),
    /// It refused, and would refuse again.
    #[error("the backend refused: {}", .0.message)]
    Refused(Status),
}

/// A control plane, or a stand-in for one. Calls come with every id filled in.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &'static str;

    /// Requests a match.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn request_match(&self, request: RequestMatchRequest)
    -> Result<RequestMatchResponse, BackendError>;

    /// Reports that players may connect.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError>;

    /// Reports that a match is over.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError>;
}
