//! Routes: who may call them, and with which parameters.
//!
//! The websocket handshake is written by hand, because the port is opened before the handshake is answered, and because
//! axum's websocket is not used after it: see `session`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use sortie_serving::{bearer, halves, json_response};
use thiserror::Error;
use tokio::time::timeout;
use tungstenite::handshake::server::create_response_with_body;

use crate::accept::{AcceptError, AcceptList};
use crate::frame::Protocol;
use crate::hub::{Hub, JoinError, JoinRequest};
use crate::session;
use crate::tokens::{Allowance, Grant, ScopeError};

/// Both path families: legacy and current.
pub(crate) const FAMILIES: [&str; 2] = ["/api/server", "/api/dispatch/v1"];
/// Timeout for taking over the connection of an upgraded websocket.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(10);

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
    router.with_state(hub)
}

/// Why a request is refused. The texts are for the caller.
#[derive(Debug, Error)]
enum Refused {
    #[error(
        "send the secret, or a dispatch token, as `Authorization: Bearer …` or as `bearer_token` in the query"
    )]
    NotSignedIn,
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("port: {0:?} is not a port from 1 to 65535")]
    Port(String),
    #[error("accept: {0}")]
    Accept(AcceptError),
    #[error("this is opened as a websocket: {0}")]
    NoWebsocket(tungstenite::Error),
    #[error("{0}")]
    Scope(#[from] ScopeError),
    #[error("{0}")]
    Join(#[from] JoinError),
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn => StatusCode::UNAUTHORIZED,
            Self::Missing(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Port(_) | Self::Accept(_) => StatusCode::BAD_REQUEST,
            Self::NoWebsocket(_) => StatusCode::UPGRADE_REQUIRED,
            Self::Scope(_) => StatusCode::FORBIDDEN,
            Self::Join(JoinError::Forbidden(_) | JoinError::NotPermitted(_)) => StatusCode::FORBIDDEN,
            Self::Join(JoinError::InUse { .. }) => StatusCode::CONFLICT,
            Self::Join(JoinError::System { .. }) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Join(_) => StatusCode::SERVICE_UNAVAILABLE,
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

/// Documents of this crate always serialize.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Response {
    json_response(status, serde_json::to_vec(document).unwrap_or_default())
}

/// The parameters of a request.
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn of(request: &'a Request) -> Self {
        Self(form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).collect())
    }

    /// No parameters.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    /// The first parameter of that name.
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_ref())
    }

    fn need(&self, name: &'static str) -> Result<&str, Refused> {
        self.get(name).ok_or(Refused::Missing(name))
    }
}

/// Who calls.
pub(crate) enum Caller {
    /// A caller with the secret, who may do everything.
    Owner,
    /// A driver with a dispatch token.
    Guest(Arc<Grant>),
}

impl Caller {
    /// `None` if the caller is not let in.
    pub(crate) fn of(hub: &Hub, headers: &HeaderMap, query: &Query<'_>) -> Option<Self> {
        if hub.options.is_open() {
            return Some(Self::Owner);
        }
        let token = query.get("bearer_token").or_else(|| bearer(headers.get(AUTHORIZATION)?.as_bytes()))?;
        if hub.options.secret.as_ref().is_some_and(|secret| secret.is(token)) {
            return Some(Self::Owner);
        }
        hub.tokens.find(token).map(Self::Guest)
    }

    /// Whether the caller may use the routes that are not about one port. Guests may only use their ports; operators
    /// cannot open ports.
    pub(crate) fn is_owner_or_operator(hub: &Hub, headers: &HeaderMap, query: &Query<'_>) -> bool {
        matches!(Self::of(hub, headers, query), Some(Self::Owner))
            || hub.options.operators.as_ref().is_some_and(|operators| operators.know(headers))
    }

    fn admit(&self, wanted: &JoinRequest) -> Result<Option<Arc<Allowance>>, ScopeError> {
        match self {
            Self::Owner => Ok(None),
            Self::Guest(grant) => grant.admit(wanted.protocol, wanted.port, &wanted.accept).map(Some),
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
    if !Caller::is_owner_or_operator(&hub, request.headers(), &Query::of(&request)) {
        return Err(Refused::NotSignedIn);
    }
    Ok(json(StatusCode::OK, &hub.listing().await))
}

async fn tcp_dispatch(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    dispatch(hub, Protocol::Tcp, request).await
}

async fn udp_dispatch(State(hub): State<Arc<Hub>>, request: Request) -> Result<Response, Refused> {
    dispatch(hub, Protocol::Udp, request).await
}

async fn dispatch(hub: Arc<Hub>, protocol: Protocol, mut request: Request) -> Result<Response, Refused> {
    let wanted = join_request(&hub, protocol, &request)?;
    let response =
        create_response_with_body(&request, axum::body::Body::empty).map_err(Refused::NoWebsocket)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let joined = hub.join(wanted).await?;
    // From here to the end of the session nothing can cancel this: the driver always leaves properly.
    let tracker = hub.shared.tracker.clone();
    tracker.spawn(async move {
        match timeout(UPGRADE_DEADLINE, upgrade).await {
            Ok(Ok(upgraded)) => session::run(hub, joined, halves(upgraded)).await,
            _ => hub.leave(joined).await,
        }
    });
    Ok(response)
}

fn join_request(hub: &Hub, protocol: Protocol, request: &Request) -> Result<JoinRequest, Refused> {
    let query = Query::of(request);
    let caller = Caller::of(hub, request.headers(), &query).ok_or(Refused::NotSignedIn)?;
    let port = query.need("port")?;
    let accept = query.need("accept")?;
    let port = port_number(port).ok_or_else(|| Refused::Port(port.chars().take(64).collect()))?;
    let max = hub.shared.limits.accept_entries;
    let accept = AcceptList::parse(accept, max).map_err(Refused::Accept)?;
    let wanted = JoinRequest { protocol, port, accept, allowance: None };
    let allowance = caller.admit(&wanted)?;
    Ok(JoinRequest { allowance, ..wanted })
}

/// Digits only: a port has no sign.
pub(crate) fn port_number(text: &str) -> Option<u16> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_digits && *port > 0)
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
    }
}
