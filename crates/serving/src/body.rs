//! Bodies in and out.

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

/// Most that is read and passed over of a body that is too long, in bytes, so that its sender reads the answer.
const MAX_REST_BYTES: usize = 4 << 20;
/// Longest time of that.
const REST_TIME: Duration = Duration::from_secs(1);

/// Why a body is not read. The texts are for whoever sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BodyError {
    /// It has more bytes than a body may have.
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
    /// It had not arrived when the process was to end.
    #[error("shutting down")]
    ShuttingDown,
}

/// Longest body of one request, in bytes, in its extensions: for callers who may send less than [`Limits::body_bytes`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxBytes(pub usize);

pub(crate) fn most_bytes(request: &Request) -> Option<usize> {
    request.extensions().get::<MaxBytes>().map(|most| most.0)
}

/// The whole body, within [`Limits::body_bytes`] and [`Limits::body_time`]. Its content type does not matter.
///
/// # Errors
/// [`BodyError`]; [`BodyError::TooLarge`] also for a body that broke off, where nobody reads the answer.
pub async fn read_body(request: Request, limits: &Limits) -> Result<Bytes, BodyError> {
    let most = most_bytes(&request).unwrap_or(usize::MAX).min(limits.body_bytes);
    // Whoever asks first whether to send it sends nothing after a no.
    let waits = request.headers().contains_key(EXPECT);
    let body = request.into_body();
    let is_too_large = body.size_hint().lower() > most as u64;
    let mut body = body.into_data_stream();
    if !is_too_large {
        match tokio::time::timeout(limits.body_time, read_whole(&mut body, most)).await {
            Ok(Ok(Some(bytes))) => return Ok(bytes),
            Ok(Ok(None)) => {}
            Ok(Err(late)) => return Err(late),
            Err(_) => return Err(BodyError::TooSlow { seconds: limits.body_time.as_secs() }),
        }
    }
    if !(waits && is_too_large) {
        let _ = tokio::time::timeout(REST_TIME, pass_over(&mut body)).await;
    }
    Err(BodyError::TooLarge { most })
}

/// `None` if it is longer than `most` bytes, or broke off, and then nobody reads the answer.
async fn read_whole(body: &mut BodyDataStream, most: usize) -> Result<Option<Bytes>, BodyError> {
    let mut whole = BytesMut::new();
    while let Some(part) = body.next().await {
        let part = match part {
            Ok(part) => part,
            Err(error) if is_late(&error) => return Err(BodyError::ShuttingDown),
            Err(_) => return Ok(None),
        };
        if part.len() > most - whole.len() {
            return Ok(None);
        }
        whole.extend_from_slice(&part);
    }
    Ok(Some(whole.freeze()))
}

/// Reads what comes of a body that nobody wants, so that its sender reads the answer; not of a sender who waits to be
/// asked for it.
pub(crate) async fn read_on(request: Request) {
    if !request.headers().contains_key(EXPECT) {
        let _ = tokio::time::timeout(REST_TIME, pass_over(&mut request.into_body().into_data_stream())).await;
    }
}

/// Reads on to the end: to close a connection with bytes unread is to reset it, which takes back the answer.
async fn pass_over(body: &mut BodyDataStream) {
    let mut left = MAX_REST_BYTES;
    while let Some(Ok(part)) = body.next().await {
        match left.checked_sub(part.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// An absent body stands for an object without fields.
#[must_use]
pub fn empty_is_object(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}

/// A JSON document as the answer.
#[must_use]
pub fn json_response(status: StatusCode, document: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
