//! How long a gRPC request may take to arrive, and when a stream of responses ends.
//!
//! tonic limits the size of a message, but not its time: it would wait for a caller that sends one byte and then
//! nothing for as long as the connection lives. And the streams of health and reflection last as long as their callers
//! like, even during shutdown.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::{BoxError, Router};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{Stream, unfold};
use hyper::body::Frame;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::body::max_bytes;
use crate::until::until;

/// Size of the prefix of a message, in bytes: the compression flag and the length.
const FRAME_BYTES: usize = 5;
/// Services with bidirectional streams, which may last as long as their callers like.
const CONVERSATIONS: &str = "/grpc.reflection.";

/// The same services with a limit on each message: it has at most `body_time` to arrive, and as many bytes as
/// [`MaxBytes`](crate::MaxBytes) says. Bidirectional streams, as of reflection, have no time limit.
pub fn limit_grpc_bodies(services: Router, body_time: Duration) -> Router {
    services.layer(from_fn_with_state(body_time, with_deadline))
}

/// Limits the time and the size of the body of `request`.
async fn with_deadline(State(body_time): State<Duration>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with(CONVERSATIONS) {
        return next.run(request).await;
    }
    let deadline = Instant::now() + body_time;
    let max = max_bytes(&request);
    let limited = request.map(|body| Body::from_stream(in_time(deadline, max, body.into_data_stream())));
    next.run(limited).await
}

/// The data of a body; an error at `deadline`, or if a message in it is longer than `max` bytes.
fn in_time(
    deadline: Instant,
    max: Option<usize>,
    data: BodyDataStream,
) -> impl Stream<Item = Result<Bytes, BoxError>> {
    let left = max.map_or(usize::MAX, |max| max.saturating_add(FRAME_BYTES));
    unfold(Some((data, left)), move |reading| async move {
        let (mut data, left) = reading?;
        match timeout_at(deadline, data.next()).await {
            Ok(Some(Ok(part))) => match left.checked_sub(part.len()) {
                Some(left) => Some((Ok(part), Some((data, left)))),
                None => {
                    let max = max.unwrap_or(usize::MAX);
                    let long = Status::resource_exhausted(format!("the message is longer than {max} bytes"));
                    Some((Err(long.into()), None))
                }
            },
            Ok(next) => next.map(|read| (read.map_err(Into::into), Some((data, left)))),
            Err(_) => {
                let late = Status::deadline_exceeded("the message did not arrive in time");
                Some((Err(late.into()), None))
            }
        }
    })
}

/// The same services, whose idle response streams end with the status UNAVAILABLE once `closing` is cancelled.
pub fn end_grpc_streams(services: Router, closing: CancellationToken) -> Router {
    services.layer(from_fn_with_state(closing, ending))
}

async fn ending(State(closing): State<CancellationToken>, mut request: Request, next: Next) -> Response {
    if request.uri().path().starts_with(CONVERSATIONS) {
        // The service listens for as long as the caller may send, so the request has to end, too.
        request = request.map(|body| until(body, &closing, || None));
    }
    let response = next.run(request).await;
    response.map(|body| until(body, &closing, || Some(Ok(Frame::trailers(shutting_down())))))
}

fn shutting_down() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // A status that cannot be written as headers still ends the stream.
    let _ = Status::unavailable("shutting down").add_header(&mut trailers);
    trailers
}
