//! From a TCP connection to one that can be served: the TLS handshake, and the first bytes, which tell the HTTP
//! version.
//!
//! hyper reads those too, but waits for them forever: a peer that sends the first half of the HTTP/2 preface and then
//! nothing more would keep its slot. So they are read here, with a deadline, and put back in front of the rest.

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

/// The beginning of every HTTP/2 connection: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Maximum number of bytes read from a peer that speaks plain HTTP to a TLS port, so that the response is not lost.
const PLAIN_BYTES: usize = 16 << 10;
/// The response to such a peer.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 41\r\n\r\nthis port speaks TLS: call it by https://";

/// A connection whose first bytes were read and put back in front.
pub(crate) type Opened = Either<
    Begun<OwnedReadHalf, OwnedWriteHalf>,
    Begun<ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>>,
>;

type Begun<R, W> = Join<Chain<Cursor<Vec<u8>>, R>, W>;

/// Both sides of an upgraded connection. Bytes that were already read come first. The reading side keeps the
/// connection's slot.
pub enum Halves {
    /// Plain TCP: nothing is between the caller and the socket, and the sides share no lock.
    Tcp(Bytes, Reading<OwnedReadHalf>, OwnedWriteHalf),
    /// TLS, or a server other than [`crate::serve()`].
    Other(Bytes, Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>),
}

/// Splits an upgraded connection.
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

    /// `None` if the peer violated the protocol or was too slow.
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

/// Reads until the HTTP version is clear. Cancelling it loses the connection.
///
/// # Errors
/// Errors of the connection, which include its end before it began.
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

/// `None` for plain HTTP, which gets a response.
async fn handshake(tls: &TlsAcceptor, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    // A handshake begins with the byte 0x16, an HTTP method with a capital letter.
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        let _unread = stream.read(&mut vec![0; PLAIN_BYTES]).await?;
        stream.write_all(PLAIN_ANSWER).await?;
        stream.shutdown().await?;
        return Ok(None);
    }
    tls.accept(stream).await.map(Some)
}
