//! Request and response bodies.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, HttpBody as _};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, EXPECT};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use thiserror::Error;

use crate::arriving::is_late;
use crate::limits::Limits;

/// Maximum number of bytes of an over-long body that are read and discarded, so that its sender reads the response.
const MAX_REST_BYTES: usize = 4 << 20;
/// Maximum time for that.
const REST_TIME: Duration = Duration::from_secs(1);

/// Why a body is not read. The texts are for its sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is longer than {most} bytes")]
    TooLarge {
        /// The limit, in bytes.
        most: usize,
    },
    /// It did not arrive in time.
    #[error("the body did not arrive within {seconds} seconds")]
    TooSlow {
        /// The limit, in seconds.
        seconds: u64,
    },
    /// It had not arrived when the process shut down.
    #[error("shutting down")]
    ShuttingDown,
}

/// Maximum size of one request's body, in bytes, in its extensions: for callers with a lower limit than
/// [`Limits::body_bytes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxBytes(pub usize);

pub(crate) fn max_bytes(request: &Request) -> Option<usize> {
    request.extensions().get::<MaxBytes>().map(|max| max.0)
}

/// The whole body, within [`Limits::body_bytes`] and [`Limits::body_time`]. Its content type does not matter.
///
/// # Errors
/// [`BodyError`]; [`BodyError::TooLarge`] also for a body that was cut off, in which case nobody reads the response.
pub async fn read_body(request: Request, limits: &Limits) -> Result<Bytes, BodyError> {
    let max = max_bytes(&request).unwrap_or(usize::MAX).min(limits.body_bytes);
    // Clients that ask first (`Expect: 100-continue`) send nothing after a refusal.
    let waits = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    let is_too_large = body.size_hint().lower() > max as u64;
    let mut body = body.into_data_stream();
    if !is_too_large {
        match tokio::time::timeout(limits.body_time, read_whole(&mut body, max)).await {
            Ok(Ok(Some(bytes))) => return Ok(bytes),
            Ok(Ok(None)) => {}
            Ok(Err(late)) => return Err(late),
            Err(_) => return Err(BodyError::TooSlow { seconds: limits.body_time.as_secs() }),
        }
    }
    if !(waits && is_too_large) {
        let _ = tokio::time::timeout(REST_TIME, pass_over(&mut body)).await;
    }
    Err(BodyError::TooLarge { most: max })
}

/// `None` if it is longer than `max` bytes, or was cut off, in which case nobody reads the response.
async fn read_whole(body: &mut BodyDataStream, max: usize) -> Result<Option<Bytes>, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = match part {
            Ok(part) => part,
            Err(error) if is_late(&error) => return Err(BodyError::ShuttingDown),
            Err(_) => return Ok(None),
        };
        if part.len() > max - whole.len() {
            return Ok(None);
        }
        whole.extend_from_slice(&part);
    }
    Ok(Some(whole.freeze()))
}

/// Reads the rest of an unwanted body, so that its sender reads the response; not if the sender waits for permission to
/// send it.
pub(crate) async fn read_on(request: Request) {
    if !request.headers().contains_key(EXPECT) {
        let _ = tokio::time::timeout(REST_TIME, pass_over(&mut request.into_body().into_data_stream())).await;
    }
}

/// Reads to the end: closing a connection with unread bytes resets it, and the response is lost.
async fn pass_over(body: &mut BodyDataStream) {
    let mut left = MAX_REST_BYTES;
    while let Some(Ok(part)) = body.next().await {
        match left.checked_sub(part.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// An absent body counts as an object without fields.
#[must_use]
pub fn empty_is_object(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

/// A response with a JSON document.
#[must_use]
pub fn json_response(status: StatusCode, document: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
