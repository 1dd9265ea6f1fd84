//! HTTP answers in the form of the Catena contract: canonical JSON, and `google.rpc.Status` for errors.
//!
//! For every port of the sidecar that uses it: the game servers', and the sidecar's own.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_serving::{
    BodyError, Limits, RETRY_AFTER_SECONDS, empty_is_object, json_response, not_a_list, read_body,
};
use sortie_wire::json::{self, JsonError};
use sortie_wire::status::{self, Status, refusal};
use tonic::Code;

/// Why a request is refused.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Refused {
    /// HTTP status, if it does not follow from the code.
    http: Option<StatusCode>,
    status: Status,
}

impl Refused {
    /// With a gRPC code and a stable reason.
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self { http: None, status: refusal(code, reason, message) }
    }

    /// A field is invalid.
    pub(crate) fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, "invalid_field", format!("{field}: {problem}"))
    }

    /// A bug, reported to the operator.
    fn internal(what: impl std::fmt::Display) -> Self {
        tracing::error!(%what, "cannot create an answer");
        Self::new(Code::Internal, "internal", "something is wrong inside the sidecar; its log says what")
    }

    const fn with_http(mut self, http: StatusCode) -> Self {
        self.http = Some(http);
        self
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self { http: None, status }
    }
}

impl From<JsonError> for Refused {
    fn from(error: JsonError) -> Self {
        Self::new(Code::InvalidArgument, "invalid_json", error.to_string())
    }
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::new(Code::ResourceExhausted, "too_large", error.to_string())
                .with_http(StatusCode::PAYLOAD_TOO_LARGE),
            BodyError::TooSlow { .. } => Self::new(Code::DeadlineExceeded, "too_slow", error.to_string())
                .with_http(StatusCode::REQUEST_TIMEOUT),
            BodyError::ShuttingDown => Self::new(Code::Unavailable, "shutting_down", error.to_string()),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let code = Code::from(self.status.code);
        let by_code = || StatusCode::from_u16(status::http_code(code)).ok();
        let http = self.http.or_else(by_code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A backend's status may have details without a JSON form; the rest has one.
        let document = json::encode(&self.status)
            .or_else(|_| json::encode(&Status { details: Vec::new(), ..self.status }));
        let mut response = json_response(http, document.unwrap_or_default());
        let may_come_again = matches!(code, Code::Unavailable | Code::ResourceExhausted);
        if may_come_again && http != StatusCode::PAYLOAD_TOO_LARGE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        response
    }
}

/// Parses the body; an empty body is a message without fields.
///
/// # Errors
/// What is wrong with the body.
pub(crate) async fn read<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Refused> {
    let body = read_body(request, limits).await?;
    not_a_list(&body)
        .map_err(|list| Refused::new(Code::InvalidArgument, "invalid_json", format!("the body {list}")))?;
    Ok(json::decode(empty_is_object(&body))?)
}

/// The answer for a result.
pub(crate) fn answer<T: Serialize>(result: Result<T, Refused>) -> Response {
    let document = result.and_then(|message| json::encode(&message).map_err(Refused::internal));
    match document {
        Ok(document) => json_response(StatusCode::OK, document),
        Err(refused) => refused.into_response(),
    }
}

/// For an unknown path.
pub(crate) async fn nothing_here() -> Refused {
    Refused::new(Code::NotFound, "not_found", "nothing is at this path")
}

/// For a known path with another method; the router adds `Allow`.
pub(crate) async fn not_this_way() -> Refused {
    Refused::new(
        Code::Unimplemented,
        "method_not_allowed",
        "this path does not support the method: see Allow",
    )
    .with_http(StatusCode::METHOD_NOT_ALLOWED)
}
