//! Bodies in and out.

use axum::body::{Body, HttpBody as _};
use axum::extract::Path;
use axum::extract::Request;
use axum::extract::rejection::PathRejection;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;

use crate::codes;
use crate::error::ApiError;
use crate::state::Limits;

/// The whole body. Its content type does not matter: there is only JSON.
pub(crate) async fn read_body(request: Request, limits: &Limits) -> Result<Bytes, ApiError> {
    let most = limits.body_bytes;
    let too_large = || codes::TOO_LARGE.error(format!("the body is longer than {most} bytes"));
    let body = request.into_body();
    if body.size_hint().lower() > most as u64 {
        return Err(too_large());
    }
    let read = axum::body::to_bytes(body, most);
    match tokio::time::timeout(limits.body_time, read).await {
        Ok(Ok(bytes)) => Ok(bytes),
        // Either it was too long, or the connection broke and nobody reads the answer.
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            let seconds = limits.body_time.as_secs();
            Err(codes::TOO_SLOW.error(format!("the body did not arrive within {seconds} seconds")))
        }
    }
}

/// An absent body stands for an object without fields.
pub(crate) fn empty_is_object(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

/// The one parameter in the path.
pub(crate) fn path_param(name: &str, param: Result<Path<String>, PathRejection>) -> Result<String, ApiError> {
    param.map(|Path(text)| text).map_err(|_| ApiError::field(name, "must be UTF-8"))
}

/// A JSON document as the answer.
pub(crate) fn json_response(status: StatusCode, document: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
