//! From a connection of TCP to one that can be served: the TLS handshake, and the first bytes, which tell the version of
//! HTTP.
//!
//! hyper reads those too, but waits for them for ever: a peer that sends the first half of HTTP/2's opening and then
//! nothing more would keep its place. So they are read here, where there is a deadline, and given back in front of the
//! rest.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade::downcast;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, Chain, Join, ReadHalf, WriteHalf, join,
    split,
};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::held::{Held, Reading};
use crate::limits::Limits;

/// What every HTTP/2 connection begins with: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Most that is read of whoever speaks plain HTTP to a TLS port, in bytes, so that the answer is not lost.
const PLAIN_BYTES: usize = 16 << 10;
/// The answer to them.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 41\r\n\r\nthis port speaks TLS: call it by https://";

/// A connection whose first bytes were read and stand in front again.
pub(crate) type Opened = Either<
    Begun<OwnedReadHalf, OwnedWriteHalf>,
    Begun<ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>>,
>;

type Begun<R, W> = Join<Chain<Cursor<Vec<u8>>, R>, W>;

/// Both sides of an upgraded connection. What has been read of it already comes first. The reading side keeps the
/// connection's place among those that there may be.
pub enum Halves {
    /// Of plain TCP: nothing stands between the caller and the socket, and the sides have no lock in common.
    Tcp(Bytes, Reading<OwnedReadHalf>, OwnedWriteHalf),
    /// Of TLS, or of another server than [`crate::serve()`].
    Other(Bytes, Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>),
}

/// Takes an upgraded connection apart.
#[must_use]
pub fn halves(upgraded: Upgraded) -> Halves {
    let (held, read) = match downcast::<TokioIo<Held<Opened>>>(upgraded) {
        Ok(parts) => (parts.io.into_inner(), parts.read_buf),
        Err(upgraded) => {
            let (reading, writing) = split(TokioIo::new(upgraded));
            return Halves::Other(Bytes::new(), Box::new(reading), Box::new(writing));
        }
    };
    let (io, place) = held.into_parts();
    match io {
        Either::Left(io) => {
            let (reading, writing) = io.into_inner();
            let (first, reading) = reading.into_inner();
            Halves::Tcp(unread(&read, &first), Reading::new(reading, Some(place)), writing)
        }
        Either::Right(io) => {
            let (reading, writing) = io.into_inner();
            Halves::Other(read, Box::new(Reading::new(reading, Some(place))), Box::new(writing))
        }
    }
}

/// What hyper has read ahead, and what it has not read of `first`.
fn unread(read: &Bytes, first: &Cursor<Vec<u8>>) -> Bytes {
    let rest = first.get_ref().get(first.position() as usize..).unwrap_or_default();
    if rest.is_empty() { read.clone() } else { [read, rest].concat().into() }
}

/// Opens connections, each within its time.
#[derive(Clone)]
pub(crate) struct Opener {
    tls: Option<TlsAcceptor>,
    handshake_time: Duration,
    opening_time: Duration,
}

impl Opener {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>, limits: &Limits) -> Self {
        Self {
            tls: tls.map(TlsAcceptor::from),
            handshake_time: limits.handshake_time,
            opening_time: limits.header_time,
        }
    }

    /// `None` if the other side did not keep the rules or the time.
    pub(crate) async fn open(&self, stream: TcpStream) -> Option<Opened> {
        let Some(tls) = &self.tls else {
            let (reading, writing) = stream.into_split();
            return timeout(self.opening_time, begun(reading, writing)).await.ok()?.ok().map(Either::Left);
        };
        let stream = match timeout(self.handshake_time, handshake(tls, stream)).await {
            Ok(Ok(stream)) => stream?,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return None;
            }
            Err(_) => return None,
        };
        let (reading, writing) = split(stream);
        timeout(self.opening_time, begun(reading, writing)).await.ok()?.ok().map(Either::Right)
    }
}

/// Reads until the version of HTTP is clear. To give up in between loses the connection.
///
/// # Errors
/// What the connection meets; its end before it began is one.
async fn begun<R: AsyncRead + Unpin, W: AsyncWrite>(mut reading: R, writing: W) -> io::Result<Begun<R, W>> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let missing = PREFACE.len() - first.len();
        if (&mut reading).take(missing as u64).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(join(Cursor::new(first).chain(reading), writing))
}

/// `None` for plain HTTP, which is answered.
async fn handshake(tls: &TlsAcceptor, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    // A handshake begins with the byte 0x16, a method of HTTP with a capital letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        let _unread = stream.read(&mut vec![0; PLAIN_BYTES]).await?;
        stream.write_all(PLAIN_ANSWER).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}
