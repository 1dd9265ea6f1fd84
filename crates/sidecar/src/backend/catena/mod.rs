//! A Catena server manager, such as Sortie: over HTTP with JSON, or over gRPC.
//!
//! | where | what |
//! |---|---|
//! | `http` | `http://`, `https://` |
//! | `grpc` | `grpc://`, `grpcs://` |
//!
//! Answers mean the same in both: a temporary error, according to its gRPC code or the HTTP status of that code in the
//! contract, means that the backend is away; any other error is a refusal.

mod grpc;
mod http;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Url;
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::{Status, reason};
use tonic::Code;

use super::{Backend, BackendError};
use crate::settings::Secret;

/// Timeout for connecting.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Interval of keep-alive pings to a quiet peer.
const ALIVE_PERIOD: Duration = Duration::from_secs(20);
/// Maximum size of an answer, in bytes: 4 MiB, as for any message.
const MAX_ANSWER_BYTES: usize = sortie_wire::json::MAX_DOCUMENT_BYTES;
/// Maximum length of an error text that is passed on, in bytes.
const MAX_TEXT_BYTES: usize = 1_000;

/// Options of `catena_backend`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CatenaBackendOptions {
    /// `http://`, `https://`, `grpc://` or `grpcs://`, with an optional path that precedes the contract's own.
    pub url: String,
    /// Sent as `authorization: Bearer`.
    pub api_key: Option<Secret>,
    /// PEM file with certificates to trust in addition to the system's.
    pub ca: Option<PathBuf>,
}

/// Why a backend cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum CatenaBackendError {
    /// The address is invalid.
    #[error("url: {0:?} is not a backend address: write http://, https://, grpc:// or grpcs:// and a host")]
    Url(String),
    /// The key cannot be sent.
    #[error("ApiKey: it contains something that cannot be sent in a header")]
    ApiKey,
    /// There are no trusted roots.
    #[error(transparent)]
    Roots(#[from] sortie_tls::RootsError),
    /// The client library failed.
    #[error("the client for {url} cannot be created: {problem}")]
    Client {
        /// The address.
        url: String,
        /// The library's error.
        problem: String,
    },
}

/// `catena_backend`. Connects at the first call, and keeps its connections.
#[derive(Debug)]
pub struct CatenaBackend(Transport);

#[derive(Debug)]
enum Transport {
    Http(http::Http),
    Grpc(grpc::Grpc),
}

impl CatenaBackend {
    /// Checks everything that can be checked without a connection. Must be called within a runtime.
    ///
    /// # Errors
    /// [`CatenaBackendError`]
    pub fn new(options: &CatenaBackendOptions) -> Result<Self, CatenaBackendError> {
        let wrong = || CatenaBackendError::Url(options.url.clone());
        let url = Url::parse(&options.url).map_err(|_| wrong())?;
        let is_plain = url.query().is_none() && url.fragment().is_none();
        let has_login = !url.username().is_empty() || url.password().is_some();
        if !url.has_host() || has_login || !is_plain {
            return Err(wrong());
        }
        let bearer = options.api_key.as_ref().map(|key| format!("Bearer {}", key.text()));
        let ca = options.ca.as_deref();
        let transport = match url.scheme() {
            "http" | "https" => Transport::Http(http::Http::new(&url, bearer.as_deref(), ca)?),
            "grpc" => Transport::Grpc(grpc::Grpc::plain(&url, bearer.as_deref())?),
            "grpcs" => Transport::Grpc(grpc::Grpc::over_tls(&url, bearer.as_deref(), ca)?),
            _ => return Err(wrong()),
        };
        Ok(Self(transport))
    }
}

#[async_trait]
impl Backend for CatenaBackend {
    fn name(&self) -> &'static str {
        "catena_backend"
    }

    async fn request_match(
        &self,
        request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, BackendError> {
        match &self.0 {
            Transport::Http(http) => http.call("request_match", &request).await,
            Transport::Grpc(grpc) => grpc.request_match(request).await,
        }
    }

    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError> {
        match &self.0 {
            Transport::Http(http) => http.call("match_ready", &request).await,
            Transport::Grpc(grpc) => grpc.match_ready(request).await,
        }
    }

    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        match &self.0 {
            Transport::Http(http) => http.call("end_match", &request).await,
            Transport::Grpc(grpc) => grpc.end_match(request).await,
        }
    }
}

/// Meaning of an error from the backend. Errors about a limit are temporary, except for a message that is too long.
fn meaning(mut status: Status) -> BackendError {
    shorten(&mut status.message);
    let may_pass = match Code::from(status.code) {
        Code::ResourceExhausted => {
            !matches!(reason(&status).as_deref(), Some("too_large" | "batch_too_large"))
        }
        code => matches!(
            code,
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::Internal
                | Code::Unknown
                | Code::DataLoss
                | Code::Cancelled
        ),
    };
    if may_pass { BackendError::Away(status.message) } else { BackendError::Refused(status) }
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
}

/// The innermost cause of an error: what went wrong rather than what was being done.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let mut text = cause.to_string();
    shorten(&mut text);
    text
}
