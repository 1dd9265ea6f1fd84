//! Who answers a game server's calls.

mod catena;
mod noop;

use async_trait::async_trait;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::Status;

pub use catena::{CatenaBackend, CatenaBackendError, CatenaBackendOptions};
pub use noop::{NoopBackend, NoopError, NoopOptions};

/// Why a backend did not do what it was asked.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum BackendError {
    /// It could not be reached, was too slow or cannot serve now: the same call may succeed later.
    #[error("the backend is away: {0}")]
    Away(String),
    /// It said no, and would again.
    #[error("the backend refused: {}", .0.message)]
    Refused(Status),
}

/// A control plane, or what plays one. Calls come with every id filled in.
#[async_trait]
pub trait Backend: Send + Sync {
    /// The name it has in the settings.
    fn name(&self) -> &'static str;

    /// Asks for a match.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn request_match(&self, request: RequestMatchRequest)
    -> Result<RequestMatchResponse, BackendError>;

    /// Says that players may connect.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError>;

    /// Says that a match is over.
    ///
    /// # Errors
    /// [`BackendError`]
    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError>;
}
