//! Sortie's own routes: dispatch tokens and statistics, under `/v1`, with that API's form of errors.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sortie_serving::{BodyError, error_response, not_a_list, read_body};
use thiserror::Error;

use crate::accept::AcceptList;
use crate::frame::Protocol;
use crate::http::{Caller, Query, json, port_number};
use crate::hub::Hub;
use crate::tokens::{IssueError, Scope};

/// Maximum number of ports and port ranges in one dispatch token.
const MAX_TOKEN_PORTS: usize = 256;
/// Default lifetime of a dispatch token.
const TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);
/// Maximum length of the caller's own text in an error, in bytes.
const MAX_SHOWN_BYTES: usize = 160;

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/v1/dispatch/stats", get(stats))
        .route("/v1/dispatch/tokens", post(issue))
        .with_state(hub)
}

/// Why a request is refused. The texts are for the caller.
#[derive(Debug, Error)]
enum Refused {
    #[error(
        "this needs the secret of drivers or an API key with the permission `admin`: `authorization: Bearer …`"
    )]
    NotYou,
    #[error("{0}")]
    Document(String),
    #[error("{problem}")]
    Field { field: &'static str, problem: String },
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("{0}")]
    Issue(#[from] IssueError),
}

impl Refused {
    fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Field { field, problem: problem.into() }
    }

    /// Status and code, as in the table of error codes.
    const fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotYou => (StatusCode::UNAUTHORIZED, "unauthenticated"),
            Self::Document(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::Field { .. } => (StatusCode::BAD_REQUEST, "invalid_field"),
            Self::Body(BodyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Body(BodyError::TooSlow { .. }) => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::Body(BodyError::ShuttingDown) => (StatusCode::SERVICE_UNAVAILABLE, "shutting_down"),
            Self::Issue(IssueError::TooMany(_)) => (StatusCode::TOO_MANY_REQUESTS, "too_many"),
            Self::Issue(IssueError::Entropy) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, code) = self.code();
        let field = match &self {
            Self::Field { field, .. } => Some(*field),
            _ => None,
        };
        error_response(status, code, &self.to_string(), field)
    }
}

fn need_owner_or_operator(hub: &Hub, request: &Request) -> Result<(), Refused> {
    let may = Caller::is_owner_or_operator(hub, request.headers(), &Query::of(request));
    if may { Ok(()) } else { Err(Refused::NotYou) }
}

async fn stats(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    need_owner_or_operator(&hub, &request)?;
    Ok(json(StatusCode::OK, &hub.stats().await))
}

/// What a dispatch token should allow.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DispatchTokenRequest")]
pub(crate) struct TokenRequest {
    /// Ports and ranges of ports, 1 to 256 entries.
    ports: Vec<Ports>,
    /// Addresses and ranges of devices: a driver can accept only devices within them.
    accept: Vec<String>,
    /// If absent, both.
    protocol: Option<Protocol>,
    /// Lifetime, with its unit; by default `10m`.
    expires_in: Option<String>,
    /// Maximum bytes of devices, both ways and over all websockets together. If absent, no limit.
    #[schemars(range(min = 1))]
    bytes: Option<u64>,
    /// The same per second.
    #[schemars(range(min = 1))]
    bytes_per_second: Option<u64>,
}

/// A port, or a range of ports like `7000-7999`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "DispatchPorts")]
enum Ports {
    One(u64),
    Range(String),
}

impl Ports {
    fn range(&self) -> Option<RangeInclusive<u16>> {
        match self {
            Self::One(port) => u16::try_from(*port).ok().filter(|port| *port > 0).map(|port| port..=port),
            Self::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let (first, last) = (port_number(first.trim())?, port_number(last.trim())?);
                (first <= last).then_some(first..=last)
            }
        }
    }
}

/// A dispatch token. It is shown only once.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DispatchToken")]
pub(crate) struct IssuedToken {
    /// Drivers send it as `authorization: Bearer <token>`, or as `bearer_token` in the query.
    token: String,
    /// When it expires: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    expires_at: String,
}

async fn issue(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    need_owner_or_operator(&hub, &request)?;
    let body = read_body(request, &sortie_serving::Limits::default()).await?;
    let issued = hub.tokens.issue(scope(&hub, &parse(&body)?)?)?;
    let expires_at = humantime::format_rfc3339_seconds(issued.expires_at).to_string();
    let mut response = json(StatusCode::CREATED, &IssuedToken { token: issued.token, expires_at });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn parse(body: &[u8]) -> Result<TokenRequest, Refused> {
    let body = not_a_list(body).map_err(|list| Refused::Document(format!("the body {list}")))?;
    serde_json::from_slice(body).map_err(|error| {
        let mut problem = error.to_string();
        problem.truncate(problem.floor_char_boundary(MAX_SHOWN_BYTES));
        Refused::Document(problem)
    })
}

fn scope(hub: &Hub, request: &TokenRequest) -> Result<Scope, Refused> {
    let limits = &hub.shared.limits;
    if !(1..=MAX_TOKEN_PORTS).contains(&request.ports.len()) {
        let problem = format!("must have 1 to {MAX_TOKEN_PORTS} entries: use ranges like \"7000-7999\"");
        return Err(Refused::field("ports", problem));
    }
    let ports = request.ports.iter().map(Ports::range).collect::<Option<_>>().ok_or_else(|| {
        Refused::field("ports", "an entry is a port from 1 to 65535, or a range like \"7000-7999\"")
    })?;
    let accept = AcceptList::collect(request.accept.iter().map(String::as_str), limits.accept_entries)
        .map_err(|problem| Refused::field("accept", problem.to_string()))?;
    for (field, value) in [("bytes", request.bytes), ("bytes_per_second", request.bytes_per_second)] {
        if value == Some(0) {
            return Err(Refused::field(field, "must be above 0; leave it out for no limit"));
        }
    }
    Ok(Scope {
        protocol: request.protocol,
        ports,
        accept,
        life: life(request.expires_in.as_deref(), limits.token_time)?,
        max_bytes: request.bytes,
        bytes_per_second: request.bytes_per_second,
    })
}

fn life(requested: Option<&str>, max: Duration) -> Result<Duration, Refused> {
    let Some(text) = requested else { return Ok(TOKEN_LIFE.min(max)) };
    let shown = &text[..text.floor_char_boundary(MAX_SHOWN_BYTES)];
    let life = sortie_config_file::duration(text).map_err(|error| {
        Refused::field("expires_in", format!("{shown:?} is not a duration like \"10m\": {error}"))
    })?;
    if !life.is_zero() && life <= max {
        return Ok(life);
    }
    let problem = format!("must be above 0 and at most {}", humantime::format_duration(max));
    Err(Refused::field("expires_in", problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_and_ranges() {
        assert_eq!(Ports::Range("7000-7999".to_owned()).range(), Some(7000..=7999));
        assert_eq!(Ports::Range("7000".to_owned()).range(), Some(7000..=7000));
        assert_eq!(Ports::Range("7999-7000".to_owned()).range(), None);
        assert_eq!(Ports::One(0).range(), None);
    }

    #[test]
    fn the_callers_text_is_truncated_in_errors() {
        let long = format!(r#"{{"{}": 1}}"#, "x".repeat(1000));
        let problem = parse(long.as_bytes()).err().unwrap().to_string();
        assert_eq!(problem.len(), MAX_SHOWN_BYTES);
        let problem = life(Some(&"ü".repeat(1000)), TOKEN_LIFE).unwrap_err().to_string();
        assert!(problem.len() < 2 * MAX_SHOWN_BYTES, "{problem}");
    }
}
