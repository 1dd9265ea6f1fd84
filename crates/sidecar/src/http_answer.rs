//! Answers over HTTP in the form of the Catena contract: canonical JSON, and `google.rpc.Status` for an error.
//!
//! For every port of the sidecar that speaks it: a game server's, and the sidecar's own.

use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sortie_serving::{BodyError, Limits, empty_is_object, json_response, read_body};
use sortie_wire::json::{self, JsonError};
use sortie_wire::status::{self, Status, refusal};
use tonic::Code;

/// When a caller who found no room, or nobody to serve, may come again, in seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// Why a request is not answered as wanted.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Refused {
    /// What HTTP says where that does not follow from the code.
    http: Option<StatusCode>,
    status: Status,
}

impl Refused {
    /// With a code of gRPC and a stable one.
    pub(crate) fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self { http: None, status: refusal(code, reason, message) }
    }

    /// A field is wrong.
    pub(crate) fn field(field: &str, problem: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, "invalid_field", format!("{field}: {problem}"))
    }

    /// A bug, told to the operator.
    fn internal(what: impl std::fmt::Display) -> Self {
        tracing::error!(%what, "an answer could not be made");
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
        // A status that a backend sent may hold details that have no JSON; the rest of it has.
        let document = json::encode(&self.status)
            .or_else(|_| json::encode(&Status { details: Vec::new(), ..self.status }));
        let mut response = json_response(http, document.unwrap_or_default());
        let may_come_again = matches!(code, Code::Unavailable | Code::ResourceExhausted);
        if may_come_again && http != StatusCode::PAYLOAD_TOO_LARGE {
            response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        response
    }
}

/// The message in the body; none at all is one without fields.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn read<T: DeserializeOwned>(request: Request, limits: &Limits) -> Result<T, Refused> {
    let body = read_body(request, limits).await?;
    // The library would take a list for an object, its fields in order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        let text = "the body must be an object, not a list";
        return Err(Refused::new(Code::InvalidArgument, "invalid_json", text));
    }
    Ok(json::decode(empty_is_object(&body))?)
}

/// An answer, good or bad.
pub(crate) fn answer<T: Serialize>(result: Result<T, Refused>) -> Response {
    let document = result.and_then(|message| json::encode(&message).map_err(Refused::internal));
    match document {
        Ok(document) => json_response(StatusCode::OK, document),
        Err(refused) => refused.into_response(),
    }
}

/// For a path that is not there.
pub(crate) async fn nothing_here() -> Refused {
    Refused::new(Code::NotFound, "not_found", "nothing is at this path")
}

/// For a path that is there, but not for this method; the router adds `Allow`.
pub(crate) async fn not_this_way() -> Refused {
    Refused::new(Code::Unimplemented, "method_not_allowed", "this path is for other methods: see Allow")
        .with_http(StatusCode::METHOD_NOT_ALLOWED)
}
