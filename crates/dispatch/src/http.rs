//! Routes: who may call them, and with which parameters.
//!
//! The handshake of a websocket is made by hand, because the port is opened before it is answered, and because what
//! comes after it is not axum's websocket: see `session`.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use sortie_serving::{BodyError, halves, json_response, read_body};
use thiserror::Error;
use tokio::time::timeout;
use tungstenite::handshake::server::create_response_with_body;

use crate::accept::{AcceptError, AcceptList};
use crate::driver::Protocol;
use crate::hub::{Hub, JoinError, Wish};
use crate::session;
use crate::tokens::{Allowance, Grant, IssueError, Scope, ScopeError};

/// Both path families: the one of old, and the one of today.
const FAMILIES: [&str; 2] = ["/api/server", "/api/dispatch/v1"];
/// How long the connection of an opened websocket may take to be handed over.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);
/// Ranges of ports in one dispatch token.
const MAX_TOKEN_PORTS: usize = 256;
/// Life of a dispatch token that asks for none.
const TOKEN_LIFE: Duration = Duration::from_secs(10 * 60);

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let mut router = Router::new();
    for family in FAMILIES {
        router = router
            .route(family, get(listing))
            .route(&format!("{family}/healthz"), get(healthy))
            .route(&format!("{family}/version"), get(version))
            .route(&format!("{family}/tcp_dispatch"), get(tcp_dispatch))
            .route(&format!("{family}/udp_dispatch"), get(udp_dispatch));
    }
    router.route("/v1/dispatch/stats", get(stats)).route("/v1/dispatch/tokens", post(issue)).with_state(hub)
}

/// Why a request is refused. The texts are for whoever sent it.
#[derive(Debug, Error)]
enum Refused {
    #[error(
        "send the secret, or a dispatch token, as `Authorization: Bearer …` or as `bearer_token` in the query"
    )]
    NotSignedIn,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("port: {0:?} is no port from 1 to 65535")]
    Port(String),
    #[error("accept: {0}")]
    Accept(AcceptError),
    #[error("this is opened as a websocket: {0}")]
    NoWebsocket(tungstenite::Error),
    #[error("{0}")]
    Scope(#[from] ScopeError),
    #[error("{0}")]
    Join(#[from] JoinError),
    #[error("{0}")]
    Body(#[from] BodyError),
    #[error("the body is not as expected: {0}")]
    Document(serde_json::Error),
    #[error("{field}: {problem}")]
    Field { field: &'static str, problem: String },
    #[error("{0}")]
    Issue(#[from] IssueError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn => StatusCode::UNAUTHORIZED,
            Self::Missing(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Port(_) | Self::Accept(_) | Self::Document(_) | Self::Field { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::NoWebsocket(_) => StatusCode::UPGRADE_REQUIRED,
            Self::Scope(_) => StatusCode::FORBIDDEN,
            Self::Join(JoinError::Forbidden(_) | JoinError::NotPermitted(_)) => StatusCode::FORBIDDEN,
            Self::Join(JoinError::InUse { .. }) => StatusCode::CONFLICT,
            Self::Join(JoinError::System { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Join(_) | Self::Issue(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::TooSlow { .. }) => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = json(self.status(), &serde_json::json!({ "error": self.to_string() }));
        match self {
            Self::NotSignedIn => {
                response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::NoWebsocket(_) => {
                let headers = response.headers_mut();
                headers.insert(axum::http::header::UPGRADE, HeaderValue::from_static("websocket"));
            }
            _ => {}
        }
        response
    }
}

/// Documents of this module always have a JSON form.
fn json(status: StatusCode, document: &impl Serialize) -> Response {
    json_response(status, serde_json::to_vec(document).unwrap_or_default())
}

/// The parameters of a request.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn of(request: &'a Request) -> Self {
        Self(form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect())
    }

    /// The first of that name.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_ref())
    }

    fn need(&self, name: &'static str) -> Result<&str, Refused> {
        self.get(name).ok_or(Refused::Missing(name))
    }
}

/// Who calls.
enum Caller {
    /// Somebody with the secret, who may do everything.
    Owner,
    /// A driver with a dispatch token.
    Guest(Arc<Grant>),
}

impl Caller {
    fn of(hub: &Hub, request: &Request, query: &Query<'_>) -> Result<Self, Refused> {
        let Some(secret) = &hub.options.secret else { return Ok(Self::Owner) };
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let header = header.and_then(|value| value.split_once(' '));
        let header = header.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let token = query.get("bearer_token").or(header.map(|(_, token)| token.trim()));
        let token = token.ok_or(Refused::NotSignedIn)?;
        if secret.is(token) {
            return Ok(Self::Owner);
        }
        hub.tokens.find(token).map(Self::Guest).ok_or(Refused::NotSignedIn)
    }

    /// Guests have their ports and nothing else.
    fn need_owner(hub: &Hub, request: &Request) -> Result<(), Refused> {
        match Self::of(hub, request, &Query::of(request))? {
            Self::Owner => Ok(()),
            Self::Guest(_) => Err(Refused::NotSignedIn),
        }
    }

    fn admit(&self, wish: &Wish) -> Result<Option<Arc<Allowance>>, ScopeError> {
        match self {
            Self::Owner => Ok(None),
            Self::Guest(grant) => grant.admit(wish.protocol, wish.port, &wish.accept).map(Some),
        }
    }
}

async fn healthy() -> Response {
    json(StatusCode::OK, &serde_json::json!({ "status": "ok" }))
}

async fn version(State(hub): State<Arc<Hub>>) -> Response {
    #[derive(Serialize)]
    struct Answer<'a> {
        service: &'static str,
        version: &'a str,
        commit: &'a str,
        build_time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        platform_version: Option<&'a str>,
    }
    let known = &hub.options.version;
    let answer = Answer {
        service: "dispatch",
        version: &known.version,
        commit: &known.commit,
        build_time: &known.build_time,
        platform_version: known.platform_version.as_deref(),
    };
    json(StatusCode::OK, &answer)
}

async fn listing(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    Caller::need_owner(&hub, &request)?;
    Ok(json(StatusCode::OK, &hub.listing().await))
}

async fn stats(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    Caller::need_owner(&hub, &request)?;
    Ok(json(StatusCode::OK, &hub.stats().await))
}

async fn tcp_dispatch(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    dispatch(hub, Protocol::Tcp, request).await
}

async fn udp_dispatch(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    dispatch(hub, Protocol::Udp, request).await
}

async fn dispatch(hub: Arc<Hub>, protocol: Protocol, mut request: Request) -> Result<Response, Refused> {
    let wish = wish(&hub, protocol, &request)?;
    let response =
        create_response_with_body(&request, axum::body::Body::empty).map_err(Refused::NoWebsocket)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let joined = hub.join(wish).await?;
    // From here to the end of the session nothing can drop it: the driver leaves in any case.
    let tracker = hub.shared.tracker.clone();
    tracker.spawn(async move {
        match timeout(UPGRADE_DEADLINE, upgrade).await {
            Ok(Ok(upgraded)) => session::run(hub, joined, halves(upgraded)).await,
            _ => hub.leave(joined).await,
        }
    });
    Ok(response)
}

fn wish(hub: &Hub, protocol: Protocol, request: &Request) -> Result<Wish, Refused> {
    let query = Query::of(request);
    let caller = Caller::of(hub, request, &query)?;
    let port = query.need("port")?;
    let accept = query.need("accept")?;
    let port = port_number(port).ok_or_else(|| Refused::Port(port.chars().take(64).collect()))?;
    let most = hub.shared.limits.accept_entries;
    let accept = AcceptList::parse(accept, most).map_err(Refused::Accept)?;
    let wish = Wish { protocol, port, accept, allowance: None };
    let allowance = caller.admit(&wish)?;
    Ok(Wish { allowance, ..wish })
}

/// Digits only: a sign is no part of a port.
fn port_number(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_digits && *port > 0)
}

/// What `POST /v1/dispatch/tokens` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenWish {
    ports: Option<Vec<Ports>>,
    accept: Option<Vec<String>>,
    protocol: Option<WishedProtocol>,
    /// A duration with its unit.
    expires_in: Option<String>,
    bytes: Option<u64>,
    bytes_per_second: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WishedProtocol {
    Tcp,
    Udp,
}

/// A port or a range of ports.
#[derive(Deserialize)]
#[serde(untagged)]
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

async fn issue(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    #[derive(Serialize)]
    struct Answer {
        token: String,
        /// RFC 3339, UTC.
        expires_at: String,
    }
    Caller::need_owner(&hub, &request)?;
    let body = read_body(request, &sortie_serving::Limits::default()).await?;
    let wish: TokenWish = serde_json::from_slice(&body).map_err(Refused::Document)?;
    let issued = hub.tokens.issue(scope(&hub, &wish)?)?;
    let expires_at = humantime::format_rfc3339_seconds(issued.expires_at).to_string();
    let mut response = json(StatusCode::CREATED, &Answer { token: issued.token, expires_at });
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn scope(hub: &Hub, wish: &TokenWish) -> Result<Scope, Refused> {
    let limits = &hub.shared.limits;
    let ports = wish.ports.as_ref().filter(|ports| !ports.is_empty()).ok_or(Refused::Missing("ports"))?;
    if ports.len() > MAX_TOKEN_PORTS {
        let problem = format!("has more than {MAX_TOKEN_PORTS} entries: use ranges like \"7000-7999\"");
        return Err(Refused::Field { field: "ports", problem });
    }
    let ports = ports.iter().map(Ports::range).collect::<Option<_>>().ok_or_else(|| Refused::Field {
        field: "ports",
        problem: "an entry is a port from 1 to 65535, or a range like \"7000-7999\"".to_owned(),
    })?;
    let accept = wish.accept.as_ref().ok_or(Refused::Missing("accept"))?;
    let accept = AcceptList::collect(accept.iter().map(String::as_str), limits.accept_entries)
        .map_err(Refused::Accept)?;
    let life = match &wish.expires_in {
        None => Ok(TOKEN_LIFE.min(limits.token_time)),
        Some(text) => humantime::parse_duration(text)
            .map_err(|error| format!("{text:?} is no duration like \"10m\": {error}"))
            .and_then(|life| {
                let is_short = !life.is_zero() && life <= limits.token_time;
                let most = humantime::format_duration(limits.token_time);
                if is_short { Ok(life) } else { Err(format!("has to be above 0 and at most {most}")) }
            }),
    };
    let life = life.map_err(|problem| Refused::Field { field: "expires_in", problem })?;
    for (field, value) in [("bytes", wish.bytes), ("bytes_per_second", wish.bytes_per_second)] {
        if value == Some(0) {
            let problem = "has to be above 0; leave it out for no limit".to_owned();
            return Err(Refused::Field { field, problem });
        }
    }
    let protocol = wish.protocol.as_ref().map(|protocol| match protocol {
        WishedProtocol::Tcp => Protocol::Tcp,
        WishedProtocol::Udp => Protocol::Udp,
    });
    Ok(Scope {
        protocol,
        ports,
        accept,
        life,
        most_bytes: wish.bytes,
        bytes_per_second: wish.bytes_per_second,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_digits() {
        assert_eq!(port_number("6001"), Some(6001));
        for bad in ["", "0", "70000", "65536", "+6001", "-1", "6001 ", "0x10", "six"] {
            assert_eq!(port_number(bad), None, "{bad:?}");
        }
        assert_eq!(Ports::Range("7000-7999".to_owned()).range(), Some(7000..=7999));
        assert_eq!(Ports::Range("7000".to_owned()).range(), Some(7000..=7000));
        assert_eq!(Ports::Range("7999-7000".to_owned()).range(), None);
        assert_eq!(Ports::One(0).range(), None);
    }
}
