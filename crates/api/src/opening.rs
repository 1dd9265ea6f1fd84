//! From a connection of TCP to one that can be served: the TLS handshake, and the wait for the first byte.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::state::Limits;

/// Read ahead of a TLS connection, in bytes: what comes in one record.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// Most that is read of whoever speaks plain HTTP to a TLS port, in bytes, so that the answer is not lost.
const PLAIN_BYTES: usize = 16 << 10;
/// The answer to them.
const PLAIN_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\
    content-length: 41\r\n\r\nthis port speaks TLS: call it by https://";

/// A connection that has sent its first byte.
pub(crate) type Opened = Either<TcpStream, BufReader<TlsStream<TcpStream>>>;

/// Opens connections, each within its time.
#[derive(Clone)]
pub(crate) struct Opener {
    tls: Option<TlsAcceptor>,
    handshake_time: Duration,
    first_byte_time: Duration,
}

impl Opener {
    pub(crate) fn new(tls: Option<Arc<ServerConfig>>, limits: &Limits) -> Self {
        Self {
            tls: tls.map(TlsAcceptor::from),
            handshake_time: limits.handshake_time,
            first_byte_time: limits.header_time,
        }
    }

    /// `None` if the other side did not keep the rules or the time.
    pub(crate) async fn open(&self, stream: TcpStream) -> Option<Opened> {
        // hyper waits for ever for the first byte, which tells the version of HTTP.
        let Some(tls) = &self.tls else {
            let begun = timeout(self.first_byte_time, stream.readable()).await;
            return matches!(begun, Ok(Ok(()))).then_some(Either::Left(stream));
        };
        let stream = match timeout(self.handshake_time, handshake(tls, stream)).await {
            Ok(Ok(stream)) => stream?,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                return None;
            }
            Err(_) => return None,
        };
        let mut stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
        let begun = timeout(self.first_byte_time, stream.fill_buf()).await;
        matches!(begun, Ok(Ok(bytes)) if !bytes.is_empty()).then_some(Either::Right(stream))
    }
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
