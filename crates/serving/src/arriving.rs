//! Bodies of requests that are still arriving when the process is to end.
//!
//! A call cannot be answered before its body is there, and whether the rest of it ever comes is up to the other side. So
//! that nobody can hold up an ordered end by sending half a body, such a body ends with an error then. It says so to
//! whoever reads it as plain bytes ([`is_late`]) and to tonic, which looks for a status among the causes of an error.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;

/// The process ends before the body has arrived.
#[derive(Debug)]
struct Late(Status);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process ends before the body has arrived")
    }
}

impl Error for Late {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether a body ended with this error because the process ends.
pub(crate) fn is_late(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (**error).source()).any(<dyn Error>::is::<Late>)
}

/// A body that ends with an error once `late` is cancelled and the rest has not arrived.
pub(crate) fn arriving(body: Incoming, late: &CancellationToken) -> Body {
    if body.is_end_stream() {
        return Body::new(body);
    }
    Body::new(Arriving { body, late: Box::pin(late.clone().cancelled_owned()) })
}

struct Arriving {
    body: Incoming,
    late: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // What is there is taken first.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|read| read.map_err(Into::into)));
        }
        ready!(self.late.as_mut().poll(context));
        Poll::Ready(Some(Err(Late(Status::unavailable("shutting down")).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
