//! A driver's websocket, from open to close.
//!
//! Everything read is carried out before more is read. So its buffer is free again, and still in the processor's cache.

use std::future::poll_fn;
use std::io;
use std::mem::replace;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sortie_serving::Halves;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::{sleep, timeout};
use tokio_util::io::poll_read_buf;

use crate::driver::Driver;
use crate::hub::{Hub, Joined};
use crate::message::{ping, pong};
use crate::options::Limits;
use crate::outbound::{End, Line, Patience, close_code, write_out};
use crate::spaces::Spaces;
use crate::websocket::{Event, Messages, Violation};

/// Minimum buffer that is worth a read, in bytes.
const MIN_SPACE_BYTES: usize = 64 << 10;
/// If at most this much of a frame has arrived, its buffer is released until more comes.
const SMALL_BYTES: usize = 4 << 10;
/// How much is read and discarded at a time from a driver that was told to go, in bytes.
const LEFTOVER_BYTES: usize = 16 << 10;
/// How long a driver that has been told to go may send nothing in the middle of a frame: it is not about to close.
const HALF_FRAME_TIME: Duration = Duration::from_millis(500);

/// Serves a driver that has joined, until its websocket is closed.
pub(crate) async fn run(hub: Arc<Hub>, joined: Joined, halves: Halves) {
    match halves {
        Halves::Tcp(first, reading, writing) => {
            let writing = Arc::new(writing);
            joined.driver.outbound.write_to(&writing);
            run_on(hub, joined, first, reading, Line::Tcp(writing)).await;
        }
        Halves::Other(first, reading, writing) => {
            run_on(hub, joined, first, reading, Line::Other(writing)).await;
        }
    }
}

async fn run_on(hub: Arc<Hub>, joined: Joined, first: Bytes, reading: impl AsyncRead + Unpin, line: Line) {
    let limits = hub.shared.limits.clone();
    let driver = Arc::clone(&joined.driver);
    let is_stream = joined.port.is_stream();
    let patience = Patience { stall: limits.driver_stall, close: limits.close_time };
    let writer = {
        let driver = Arc::clone(&driver);
        tokio::spawn(async move { write_out(&driver.outbound, line, is_stream, patience).await })
    };
    let mut inbound = Inbound {
        io: reading,
        messages: Messages::new(limits.message_bytes),
        is_unread: !first.is_empty(),
        buffer: first.into(),
        spaces: Arc::clone(&hub.shared.spaces),
        max_bytes: limits.message_bytes,
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
    // If a connection is closed with unread bytes, it is reset and the close frame is lost.
    let silence = if inbound.buffer.is_empty() { limits.close_time } else { HALF_FRAME_TIME };
    let mut reading = inbound.io;
    let pass_over = async {
        let mut leftovers = vec![0; LEFTOVER_BYTES];
        while let Ok(Ok(1..)) = timeout(silence, reading.read(&mut leftovers)).await {}
    };
    let (_, _) = tokio::join!(writer, timeout(limits.close_time, pass_over));
}

/// Carries out what the driver sends, until the driver or an error ends the websocket.
async fn read(inbound: &mut Inbound<impl AsyncRead + Unpin>, joined: &Joined) -> End {
    let Joined { driver, port } = joined;
    let (mut messages, mut answers) = (Vec::new(), Vec::new());
    loop {
        let end = inbound.next(&mut messages, &mut answers).await;
        driver.hear();
        for answer in answers.drain(..) {
            driver.outbound.control(answer);
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

/// Pings the driver periodically.
async fn keep_alive(driver: &Driver, limits: &Limits) -> End {
    loop {
        sleep(limits.ping_period).await;
        if driver.silence() >= limits.ping_period + limits.ping_deadline {
            let seconds = driver.silence().as_secs();
            return End::new(
                close_code::NO_ANSWER,
                format!("nothing was heard for {seconds} s, not even a pong"),
            );
        }
        driver.outbound.control(ping());
        driver.outbound.rest();
    }
}

/// What a driver sends.
struct Inbound<R> {
    io: R,
    messages: Messages,
    /// Bytes read that are not a whole frame yet.
    buffer: BytesMut,
    spaces: Arc<Spaces>,
    max_bytes: usize,
    /// `buffer` holds something that has not been parsed.
    is_unread: bool,
}

impl<R: AsyncRead + Unpin> Inbound<R> {
    /// Reads once: returns the messages, possibly none, and answers to pings. `Some` if nothing comes after them.
    async fn next(&mut self, messages: &mut Vec<Bytes>, answers: &mut Vec<Bytes>) -> Option<End> {
        if !self.is_unread && !matches!(poll_fn(|context| self.poll_read(context)).await, Ok(1..)) {
            return Some(End::gone());
        }
        self.is_unread = false;
        self.take_apart(messages, answers).err()
    }

    /// Reads once. Holds a buffer only while there is something in it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let missing = self.messages.needed().saturating_sub(self.buffer.len()).max(MIN_SPACE_BYTES);
        // By now nobody holds messages of the last read.
        if !self.buffer.try_reclaim(missing) {
            let space = self.spaces.take(missing + self.buffer.len());
            let begun = replace(&mut self.buffer, space);
            self.buffer.extend_from_slice(&begun);
            self.spaces.give_back(begun);
        }
        let read = poll_read_buf(Pin::new(&mut self.io), context, &mut self.buffer);
        if read.is_pending() && self.buffer.len() <= SMALL_BYTES {
            let begun = BytesMut::from(self.buffer.as_ref());
            self.spaces.give_back(replace(&mut self.buffer, begun));
        }
        read
    }

    fn take_apart(&mut self, messages: &mut Vec<Bytes>, answers: &mut Vec<Bytes>) -> Result<(), End> {
        while let Some(event) = self.messages.next(&mut self.buffer).map_err(|why| self.end(why))? {
            match event {
                Event::Message(message) => messages.push(message),
                Event::Ping(payload) => answers.push(pong(payload)),
                Event::Pong => {}
                Event::Close(code) => return Err(End::new(code.unwrap_or(close_code::NORMAL), "")),
            }
        }
        Ok(())
    }

    fn end(&self, violation: Violation) -> End {
        match violation {
            Violation::Protocol(problem) => End::new(close_code::PROTOCOL, problem),
            Violation::TooLong => {
                End::new(close_code::TOO_BIG, format!("a message may have at most {} bytes", self.max_bytes))
            }
            Violation::Text => End::new(close_code::NO_TEXT, "frames are binary messages, not text"),
        }
    }
}
