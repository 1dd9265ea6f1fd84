//! Bodies that end on an event.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The last item of a body, if any.
pub(crate) type Last = Option<Result<Frame<Bytes>, BoxError>>;

/// The same body, which ends with `last` once `end` is cancelled and no more data is ready.
pub(crate) fn until<B>(
    body: B,
    end: &CancellationToken,
    last: impl FnOnce() -> Last + Send + Unpin + 'static,
) -> Body
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    if body.is_end_stream() {
        return Body::new(body);
    }
    Body::new(Until { open: Some((body, last)), end: Box::pin(end.clone().cancelled_owned()) })
}

struct Until<B, L> {
    /// `None` once it has ended early.
    open: Option<(B, L)>,
    end: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<B, L> HttpBody for Until<B, L>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
    L: FnOnce() -> Last + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Last> {
        let Some((body, _)) = &mut self.open else { return Poll::Ready(None) };
        // Data that is ready comes first.
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(context) {
            return Poll::Ready(frame.map(|read| read.map_err(Into::into)));
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(self.open.take().and_then(|(_, last)| last()))
    }

    fn is_end_stream(&self) -> bool {
        self.open.as_ref().is_none_or(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.open.as_ref().map_or_else(|| SizeHint::with_exact(0), |(body, _)| body.size_hint())
    }
}
