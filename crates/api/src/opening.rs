//! The first bytes of a connection, which tell the version of HTTP.
//!
//! hyper reads them too, but waits for them for ever: a peer that sends the first half of HTTP/2's opening and then
//! nothing more would keep its place. So they are read here, where there is a deadline, and given back in front of the
//! rest.

use std::io::{self, Cursor};

use tokio::io::{AsyncReadExt as _, Chain, Join, join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What every HTTP/2 connection begins with: RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with its first bytes in front again.
pub(crate) type Opened = Join<Chain<Cursor<Vec<u8>>, OwnedReadHalf>, OwnedWriteHalf>;

/// Reads until the version is clear. To give up in between loses the connection.
///
/// # Errors
/// What the connection meets; its end before it began is one.
pub(crate) async fn opened(stream: TcpStream) -> io::Result<Opened> {
    let (mut reading, writing) = stream.into_split();
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let missing = PREFACE.len() - first.len();
        if (&mut reading).take(missing as u64).read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(join(Cursor::new(first).chain(reading), writing))
}
