//! A connection together with its slot under the connection limits.
//!
//! The slot is part of the stream itself, so that a connection keeps it, even as a websocket, until the stream is
//! dropped: no route can forget it. Writes are watched here, too, because all responses of a connection share them: a
//! peer that reads nothing for the stall time loses its connection, and a connection is idle only when everything that
//! was written has been taken.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::activity::{Activity, UnderWay};
use crate::shares::Share;

/// A connection's slot in the total and among those of its address. Returned with the last clone.
#[derive(Clone)]
pub(crate) struct Place(
    #[expect(dead_code, reason = "held, not looked at")]
    Arc<(Option<OwnedSemaphorePermit>, Option<Share<IpAddr>>)>,
);

impl Place {
    pub(crate) fn new(of_all: Option<OwnedSemaphorePermit>, of_address: Option<Share<IpAddr>>) -> Self {
        Self(Arc::new((of_all, of_address)))
    }
}

/// A stream that keeps its slot, and ends when the peer does not read what is written.
pub(crate) struct Held<S> {
    stream: S,
    place: Place,
    stall_time: Duration,
    /// Runs while a write waits for the peer.
    stall: Option<Pin<Box<Sleep>>>,
    activity: Activity,
    /// From a write until everything that was written has been taken.
    unflushed: Option<UnderWay>,
}

impl<S> Held<S> {
    pub(crate) const fn new(stream: S, place: Place, stall_time: Duration, activity: Activity) -> Self {
        Self { stream, place, stall_time, stall: None, activity, unflushed: None }
    }

    pub(crate) fn into_parts(self) -> (S, Place) {
        (self.stream, self.place)
    }

    /// hyper flushes only if there is something to flush: what is written counts until that has succeeded.
    fn begin_write(&mut self) {
        self.unflushed.get_or_insert_with(|| self.activity.begin());
    }

    /// `progress` unchanged, until it has been pending for too long.
    fn watch<T>(&mut self, progress: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.stall = None;
            return progress;
        }
        let until = self.stall_time;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + until)));
        ready!(stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Held<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Held<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin_write();
        let progress = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(progress, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_write();
        let progress = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch(progress, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(context);
        if progress.is_ready() {
            self.unflushed = None;
        }
        self.watch(progress, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(progress, context)
    }
}

/// The reading half of an upgraded connection, which keeps the connection's slot.
pub struct Reading<R> {
    half: R,
    _place: Option<Place>,
}

impl<R> Reading<R> {
    pub(crate) const fn new(half: R, place: Option<Place>) -> Self {
        Self { half, _place: place }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Reading<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_read(context, buffer)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_when_nothing_is_taken_and_not_while_something_is() {
        let (near, mut far) = duplex(4);
        let stall = Duration::from_secs(30);
        let mut held = Held::new(near, Place::new(None, None), stall, Activity::default());
        let slowly = async {
            for _ in 0..8 {
                tokio::time::sleep(stall - Duration::from_secs(1)).await;
                far.read_exact(&mut [0; 4]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(held.write_all(&[0; 36]), slowly);
        written.unwrap();
        let began = Instant::now();
        let error = held.write_all(&[0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(began.elapsed() >= stall, "by the clock of this test");
    }
}
