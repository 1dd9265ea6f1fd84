//! A driver's websocket, from its opening to its close.
//!
//! tungstenite reads, and is given no connection but what was read of one: it answers and closes into a buffer, because
//! what is sent goes through the driver's queue.

use std::io::{self, Read, Write};
use std::mem::take;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, split};
use tokio::time::{sleep, timeout};
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use crate::driver::Driver;
use crate::hub::{Hub, Joined};
use crate::message::ping;
use crate::options::Limits;
use crate::outbound::{End, Patience, close_code, write_out};

/// What is read from a driver at a time, in bytes. Not more, because tungstenite clears all of it for each read.
const READ_BUFFER_BYTES: usize = 32 << 10;
/// What is read from a driver before it is carried out, in bytes, while more is there at once: what goes to one device
/// is written together.
const BATCH_BYTES: usize = 256 << 10;
/// What is read and thrown away of a driver that has been told to go, at a time, in bytes.
const LEFTOVER_BYTES: usize = 16 << 10;

/// Serves a driver that has joined, until its websocket is closed.
pub(crate) async fn run(
    hub: Arc<Hub>,
    joined: Joined,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) {
    let limits = hub.shared.limits.clone();
    let driver = Arc::clone(&joined.driver);
    let is_stream = joined.port.is_stream();
    let (reading, writing) = split(io);
    let patience = Patience { stall: limits.driver_stall, close: limits.close_time };
    let writer = {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move { write_out(&driver.outbound, writing, is_stream, patience).await })
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes));
    let mut inbound = Inbound {
        socket: WebSocket::from_raw_socket(Feed::new(reading), Role::Server, Some(config)),
        message_bytes: limits.message_bytes,
    };
    driver.hear();
    let end = tokio::select! {
        biased;
        () = driver.outbound.ended() => None,
        end = read(&mut inbound, &joined) => Some(end),
        end = keep_alive(&driver, &limits) => Some(end),
    };
    if let Some(end) = end {
        tracing::debug!(port = joined.port.number(), driver = driver.id, code = ?end.code, reason = end.reason, "a driver leaves");
        driver.outbound.end(end);
    }
    hub.leave(joined).await;
    // A connection that is closed with bytes unread is reset, and then the close frame is lost.
    let mut reading = inbound.socket.into_inner().io;
    let pass_over = async {
        let mut leftovers = vec![0; LEFTOVER_BYTES];
        while reading.read(&mut leftovers).await.is_ok_and(|bytes| bytes > 0) {}
    };
    let (_, _) = tokio::join!(writer, timeout(limits.close_time, pass_over));
}

/// Carries out what the driver sends, until it or what it sends ends the websocket.
async fn read(inbound: &mut Inbound<impl AsyncRead + Unpin>, joined: &Joined) -> End {
    let Joined { driver, port } = joined;
    let mut messages = Vec::new();
    loop {
        let end = inbound.next(&mut messages).await;
        driver.hear();
        let answers = inbound.answers();
        if !answers.is_empty() {
            driver.outbound.control(answers);
        }
        if !messages.is_empty()
            && let Err(end) = port.carry_out(driver, &mut messages).await
        {
            return end;
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// Asks from time to time whether the driver is still there.
async fn keep_alive(driver: &Driver, limits: &Limits) -> End {
    loop {
        sleep(limits.ping_period).await;
        if driver.silence() >= limits.ping_period + limits.ping_deadline {
            let seconds = driver.silence().as_secs();
            return End::new(
                close_code::NO_ANSWER,
                format!("nothing was heard for {seconds} s, not even an answer to a ping"),
            );
        }
        driver.outbound.control(ping());
        driver.outbound.rest();
    }
}

/// What a driver sends.
struct Inbound<R> {
    socket: WebSocket<Feed<R>>,
    message_bytes: usize,
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    /// The messages that come next, as many as one read has brought. `Some` if nothing comes after them.
    async fn next(&mut self, messages: &mut Vec<Bytes>) -> Option<End> {
        std::future::poll_fn(|context| self.poll_next(context, messages)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>, messages: &mut Vec<Bytes>) -> Poll<Option<End>> {
        self.socket.get_mut().begin(context);
        loop {
            let end = match self.socket.read() {
                Ok(Message::Binary(message)) => {
                    messages.push(message);
                    continue;
                }
                Ok(Message::Text(_)) => End::new(close_code::NO_TEXT, "frames are binary messages, not text"),
                Ok(Message::Close(frame)) => {
                    let code = frame.map_or(close_code::NORMAL, |frame| frame.code.into());
                    End::new(code, "")
                }
                Ok(_) => continue,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let feed = self.socket.get_mut();
                    if !messages.is_empty() || !feed.answers.is_empty() {
                        return Poll::Ready(None);
                    }
                    if feed.is_pending {
                        return Poll::Pending;
                    }
                    feed.may_read = true;
                    continue;
                }
                Err(error) => self.end(&error),
            };
            return Poll::Ready(Some(end));
        }
    }

    fn end(&self, error: &Error) -> End {
        match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => {
                End::new(close_code::TOO_BIG, format!("a message may have {} bytes", self.message_bytes))
            }
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::gone(),
            Error::Protocol(error) => End::new(close_code::PROTOCOL, error.to_string()),
            Error::Utf8(_) => End::new(close_code::MALFORMED, "the text is no UTF-8"),
            _ => End::gone(),
        }
    }

    /// Answers to pings.
    fn answers(&mut self) -> Bytes {
        take(&mut self.socket.get_mut().answers).into()
    }
}

/// A connection as tungstenite sees it.
struct Feed<R> {
    io: R,
    waker: Waker,
    /// Reads from the connection end with the first that brings less than it could, so that what has come is carried
    /// out before anything is waited for.
    may_read: bool,
    /// What may still be read before that, in bytes.
    left: usize,
    is_pending: bool,
    answers: Vec<u8>,
}

impl<R> Feed<R> {
    fn new(io: R) -> Self {
        Self {
            io,
            waker: Waker::noop().clone(),
            may_read: true,
            left: BATCH_BYTES,
            is_pending: false,
            answers: Vec::new(),
        }
    }

    fn begin(&mut self, context: &Context<'_>) {
        self.waker.clone_from(context.waker());
        (self.may_read, self.left, self.is_pending) = (true, BATCH_BYTES, false);
    }
}

impl<R: AsyncRead + Unpin> Read for Feed<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if !take(&mut self.may_read) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut to = ReadBuf::new(to);
        match Pin::new(&mut self.io).poll_read(&mut Context::from_waker(&self.waker), &mut to) {
            Poll::Ready(read) => {
                read?;
                self.left = self.left.saturating_sub(to.filled().len());
                self.may_read = to.remaining() == 0 && self.left > 0;
                Ok(to.filled().len())
            }
            Poll::Pending => {
                self.is_pending = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}

impl<R> Write for Feed<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
