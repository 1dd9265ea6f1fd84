//! What waits to be sent to one driver, and the task that sends it.
//!
//! A queue of whole messages, so that control frames can go between them, and several drivers of a port can share the
//! bytes of one. Its room is a semaphore of bytes: devices that wait for room get it in turn, and a device is read only
//! once there is room for the read. Datagrams do not wait: the oldest make room.
//!
//! If nothing waits and nobody writes, the sender writes a message itself: see [`State::direct_line`].

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::lock;
use crate::message::{self, READ_BYTES};

/// Messages per system call: more would not be cheaper.
const BATCH_MESSAGES: usize = 64;
/// Bytes taken from the queue at a time, and the part of the queue that this may be. Datagrams that are taken can no
/// longer be dropped; if everything were taken, the newest would have to be dropped instead.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_PART: usize = 4;
/// Maximum number of pending answers to pings; beyond it the oldest is dropped, which RFC 6455, section 5.5.3, allows.
const MAX_CONTROLS: usize = 16;
/// Spare read buffers: on most machines as many as are in use at a time.
const MAX_SPACES: usize = 4;
/// If two writes are this close together, the second waits until other tasks had a chance to add to it.
const BUSY: Duration = Duration::from_micros(100);
/// The sender of all datagrams. Numbers of devices begin at 1.
const DATAGRAMS: u64 = 0;
/// A message of this many bytes is worth a system call of its own.
const WORTHY_BYTES: usize = 8 << 10;

/// Why a websocket is closed: RFC 6455, section 7.4.1.
pub(crate) mod close_code {
    /// The driver is done too.
    pub(crate) const NORMAL: u16 = 1000;
    /// The dispatcher is shutting down.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// The peer violated the websocket protocol.
    pub(crate) const PROTOCOL: u16 = 1002;
    /// A text message.
    pub(crate) const NO_TEXT: u16 = 1003;
    /// A message that is not a frame.
    pub(crate) const MALFORMED: u16 = 1007;
    /// A frame of a type that is not for drivers, a stalled driver, a used-up token.
    pub(crate) const POLICY: u16 = 1008;
    /// A message that is too long.
    pub(crate) const TOO_BIG: u16 = 1009;
    /// Nothing was heard from the driver for too long.
    pub(crate) const NO_ANSWER: u16 = 1011;
}

/// How a driver's websocket ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// The close code; `None` if the driver cannot be told any more.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    /// Whether to send what waits first.
    pub(crate) flush: bool,
}

impl End {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code: Some(code), reason: reason.into(), flush: false }
    }

    /// The connection is broken.
    pub(crate) fn gone() -> Self {
        Self { code: None, reason: String::new(), flush: false }
    }
}

/// One or more whole messages.
struct Chunk {
    bytes: Bytes,
    /// Original length.
    whole: usize,
    /// The room it takes in the queue, in bytes.
    cost: usize,
    messages: u32,
}

impl Chunk {
    fn messages(bytes: Bytes, messages: u32) -> Self {
        Self { whole: bytes.len(), cost: bytes.len(), bytes, messages }
    }

    /// A control frame, which takes no room.
    fn control(bytes: Bytes) -> Self {
        Self { whole: bytes.len(), cost: 0, bytes, messages: 0 }
    }

    fn is_begun(&self) -> bool {
        self.bytes.len() < self.whole
    }
}

/// Who writes to the connection.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum WriteOwner {
    #[default]
    Nobody,
    /// The task that has something to send.
    Sender,
    /// The task of the queue.
    Writer,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    controls: VecDeque<Bytes>,
    /// Bytes of all chunks, including those being sent.
    bytes: usize,
    end: Option<End>,
    /// The connection, if senders may write to it directly.
    line: Option<Arc<OwnedWriteHalf>>,
    turn: WriteOwner,
    /// Who sent last, and when.
    last: Option<(u64, Instant)>,
}

impl State {
    /// The connection, if `sender` should write `bytes` to it at once: nothing waits, and nobody else is likely to have
    /// something to send with it.
    fn direct_line(&mut self, sender: u64, bytes: usize) -> Option<Arc<OwnedWriteHalf>> {
        let now = Instant::now();
        let last = self.last.replace((sender, now));
        if self.turn != WriteOwner::Nobody || !self.chunks.is_empty() || !self.controls.is_empty() {
            return None;
        }
        let has_company = last.is_some_and(|(other, time)| other != sender && now - time < BUSY);
        if has_company && bytes < WORTHY_BYTES {
            return None;
        }
        let line = self.line.clone()?;
        self.turn = WriteOwner::Sender;
        Some(line)
    }

    fn is_waited_for(&self) -> bool {
        !self.chunks.is_empty() || !self.controls.is_empty() || self.end.is_some()
    }

    /// At the end, or in front if it is what the task that had the turn could not write.
    fn add(&mut self, chunk: Chunk, is_rest: bool) {
        self.bytes += chunk.cost;
        if is_rest {
            self.turn = WriteOwner::Nobody;
            self.chunks.push_front(chunk);
        } else {
            self.chunks.push_back(chunk);
        }
    }

    /// Removes the oldest message that is not being sent.
    fn drop_oldest(&mut self) -> Option<Chunk> {
        let place = usize::from(self.chunks.front().is_some_and(Chunk::is_begun));
        let oldest = self.chunks.remove(place)?;
        self.bytes -= oldest.cost;
        Some(oldest)
    }
}

/// The queue of one driver.
pub(crate) struct Outbound {
    state: Mutex<State>,
    arrived: Notify,
    room: Semaphore,
    limit: usize,
    all: Arc<Budget>,
    spaces: Mutex<Vec<BytesMut>>,
    ended: CancellationToken,
    /// Messages dropped to make room.
    dropped: AtomicU64,
}

impl Outbound {
    pub(crate) fn new(limit: usize, all: Arc<Budget>) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Notify::new(),
            room: Semaphore::new(limit),
            limit,
            all,
            spaces: Mutex::default(),
            ended: CancellationToken::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Bytes that wait.
    pub(crate) fn queued_bytes(&self) -> usize {
        lock(&self.state).bytes
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until the websocket has to end.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the websocket; only the first reason counts.
    pub(crate) fn end(&self, end: End) {
        lock(&self.state).end.get_or_insert(end);
        self.room.close();
        self.ended.cancel();
        self.arrived.notify_one();
    }

    /// Waits for room for a message of a TCP device. `None` once the websocket is ending.
    pub(crate) async fn reserve(&self) -> Option<Reserved<'_>> {
        self.room.acquire_many(READ_BYTES as u32).await.ok()?.forget();
        Some(Reserved { outbound: self, bytes: READ_BYTES })
    }

    /// Room, if there is some now.
    pub(crate) fn try_reserve(&self) -> Option<Reserved<'_>> {
        self.room.try_acquire_many(READ_BYTES as u32).ok()?.forget();
        Some(Reserved { outbound: self, bytes: READ_BYTES })
    }

    /// An empty buffer of at least this many bytes. Return it with [`Outbound::return_space`].
    pub(crate) fn space(&self, at_least: usize) -> BytesMut {
        let mut space = lock(&self.spaces).pop().unwrap_or_default();
        if space.capacity() < at_least && !space.try_reclaim(at_least.max(READ_BYTES)) {
            space = BytesMut::with_capacity(at_least.max(READ_BYTES));
        }
        space
    }

    pub(crate) fn return_space(&self, mut space: BytesMut) {
        space.clear();
        let mut spaces = lock(&self.spaces);
        if spaces.len() < MAX_SPACES {
            spaces.push(space);
        }
    }

    /// Releases memory that an idle driver does not need.
    pub(crate) fn rest(&self) {
        lock(&self.spaces).clear();
    }

    /// Lets senders write to `line` directly.
    pub(crate) fn write_to(&self, line: &Arc<OwnedWriteHalf>) {
        lock(&self.state).line = Some(Arc::clone(line));
    }

    /// Sends a message, or queues it. Returns the room that it takes in the queue, in bytes.
    fn send(&self, sender: u64, bytes: Bytes) -> usize {
        let mut chunk = Chunk::messages(bytes, 1);
        let cost = chunk.cost;
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return 0;
        }
        let line = state.direct_line(sender, cost);
        let is_rest = line.is_some();
        if let Some(line) = line {
            drop(state);
            if self.send_now(&line, &mut chunk) {
                return 0;
            }
            state = lock(&self.state);
        }
        // Must happen before anybody can return it.
        self.all.take(cost);
        state.add(chunk, is_rest);
        drop(state);
        self.arrived.notify_one();
        cost
    }

    /// Writes directly: waking up the writer for a lone message takes longer. `false` if something is left, and the
    /// turn with it.
    fn send_now(&self, line: &OwnedWriteHalf, chunk: &mut Chunk) -> bool {
        // Errors are ignored here: the writer will run into them too.
        chunk.bytes.advance(line.try_write(&chunk.bytes).unwrap_or(0));
        if !chunk.bytes.is_empty() {
            return false;
        }
        let mut state = lock(&self.state);
        state.turn = WriteOwner::Nobody;
        let is_waited_for = state.is_waited_for();
        drop(state);
        if is_waited_for {
            self.arrived.notify_one();
        }
        true
    }

    /// Sends or queues datagrams, as consecutive messages. The oldest that wait make room for them.
    pub(crate) fn send_datagrams(&self, bytes: Bytes, messages: u32) {
        let mut chunk = Chunk::messages(bytes, messages);
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        let line = state.direct_line(DATAGRAMS, chunk.cost);
        let is_rest = line.is_some();
        if let Some(line) = line {
            drop(state);
            if self.send_now(&line, &mut chunk) {
                return;
            }
            state = lock(&self.state);
        }
        let (mut dropped, mut freed) = (0, 0);
        let is_full = |state: &State, freed: usize| {
            state.bytes + chunk.cost > self.limit || !self.all.has_room() && freed < chunk.cost
        };
        while is_full(&state, freed)
            && let Some(oldest) = state.drop_oldest()
        {
            freed += oldest.cost;
            dropped += u64::from(oldest.messages);
        }
        // A message that was begun must be completed.
        if is_full(&state, freed) && !chunk.is_begun() {
            dropped += u64::from(messages);
            if is_rest {
                state.turn = WriteOwner::Nobody;
            }
        } else {
            self.all.take(chunk.cost);
            state.add(chunk, is_rest);
        }
        drop(state);
        self.all.give(freed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Adds a control frame, ahead of all messages that are not being sent yet.
    pub(crate) fn control(&self, bytes: Bytes) {
        let mut state = lock(&self.state);
        if state.controls.len() >= MAX_CONTROLS {
            state.controls.pop_front();
        }
        state.controls.push_back(bytes);
        drop(state);
        self.arrived.notify_one();
    }

    /// Moves what is to be sent next to `batch`, which is empty. Returns the reason once the websocket has to end.
    fn take(&self, batch: &mut VecDeque<Chunk>) -> Option<End> {
        let mut state = lock(&self.state);
        if state.turn == WriteOwner::Sender {
            // The current writer notifies us when it is done.
            return None;
        }
        // A message that was begun is completed first: neither control frames nor the close frame may interrupt it.
        if state.chunks.front().is_some_and(Chunk::is_begun) {
            batch.extend(state.chunks.pop_front());
        }
        let all = state.end.as_ref().is_some_and(|end| end.flush);
        if state.end.is_none() || all {
            batch.extend(state.controls.drain(..).map(Chunk::control));
            let (mut bytes, max) = (0, BATCH_BYTES.min(self.limit / BATCH_PART));
            while bytes < max || all {
                let Some(chunk) = state.chunks.pop_front() else { break };
                bytes += chunk.cost;
                batch.push_back(chunk);
            }
        }
        state.turn = if batch.is_empty() { WriteOwner::Nobody } else { WriteOwner::Writer };
        state.end.clone()
    }

    /// Returns the room of what has been sent.
    fn sent(&self, bytes: usize, is_stream: bool) {
        lock(&self.state).bytes -= bytes;
        self.all.give(bytes);
        if is_stream {
            self.room.add_permits(bytes);
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.all.give(lock(&self.state).bytes);
    }
}

/// Room in a queue for one message of a TCP device. When dropped, it is returned.
pub(crate) struct Reserved<'a> {
    outbound: &'a Outbound,
    bytes: usize,
}

impl Reserved<'_> {
    /// Sends a message of `sender` of at most [`READ_BYTES`]; returns the room that it does not need.
    pub(crate) fn send(mut self, sender: u64, message: Bytes) {
        self.bytes = self.bytes.saturating_sub(self.outbound.send(sender, message));
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.outbound.room.add_permits(self.bytes);
    }
}

/// The connection to a driver, for writing.
pub(crate) enum Line {
    /// Plain TCP, which [`Outbound::write_to`] has as well.
    Tcp(Arc<OwnedWriteHalf>),
    Other(Box<dyn AsyncWrite + Send + Unpin>),
}

impl Line {
    async fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(line) => loop {
                match line.try_write_vectored(slices) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => line.writable().await?,
                    written => return written,
                }
            },
            Self::Other(io) => io.write_vectored(slices).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Other(io) => io.flush().await,
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(line) => SockRef::from(line.as_ref().as_ref()).shutdown(Shutdown::Write),
            Self::Other(io) => io.shutdown().await,
        }
    }
}

/// Timeouts of a queue's writer.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For a driver that takes nothing.
    pub(crate) stall: Duration,
    /// For the driver to take the close frame.
    pub(crate) close: Duration,
}

/// Sends everything in the queue until the websocket ends, then its close frame.
pub(crate) async fn write_out(outbound: &Outbound, mut io: Line, is_stream: bool, patience: Patience) {
    write_to_end(outbound, &mut io, is_stream, patience).await;
    lock(&outbound.state).line = None;
}

async fn write_to_end(outbound: &Outbound, io: &mut Line, is_stream: bool, patience: Patience) {
    let mut writer = Writer { outbound, batch: VecDeque::new(), is_stream };
    let end = loop {
        match writer.next_batch(io, patience.stall).await {
            Ok(None) => {}
            Ok(Some(end)) => break end,
            Err(_) => {
                outbound.end(End::gone());
                return;
            }
        }
    };
    let Some(code) = end.code else { return };
    let farewell = async {
        writer.batch.push_back(Chunk::control(message::close(code, &end.reason)));
        while !writer.batch.is_empty() {
            writer.write_some(io).await?;
        }
        io.shutdown().await
    };
    let _ = timeout(patience.close, farewell).await;
}

struct Writer<'a> {
    outbound: &'a Outbound,
    /// What is being sent; the first chunk may be partly sent.
    batch: VecDeque<Chunk>,
    is_stream: bool,
}

impl Writer<'_> {
    /// Waits for something to send and sends it. `Some` once the websocket has to end; then `batch` holds what must be
    /// sent before the close frame.
    async fn next_batch(&mut self, io: &mut Line, stall: Duration) -> io::Result<Option<End>> {
        let mut last = None::<Instant>;
        loop {
            let end = self.outbound.take(&mut self.batch);
            if end.is_some() {
                return Ok(end);
            }
            if self.batch.is_empty() {
                self.outbound.arrived.notified().await;
                if last.is_some_and(|last| last.elapsed() < BUSY) {
                    tokio::task::yield_now().await;
                }
                continue;
            }
            if let Some(end) = self.write_batch(io, stall).await? {
                return Ok(Some(end));
            }
            last = Some(Instant::now());
        }
    }

    async fn write_batch(&mut self, io: &mut Line, stall: Duration) -> io::Result<Option<End>> {
        let outbound = self.outbound;
        while !self.batch.is_empty() {
            let written = tokio::select! {
                biased;
                written = timeout(stall, self.write_some(io)) => written,
                () = outbound.ended() => return Ok(self.abandon()),
            };
            let Ok(written) = written else {
                let seconds = stall.as_secs_f32();
                let reason = format!("stalled: it took nothing for {seconds} s while messages waited");
                outbound.end(End::new(close_code::POLICY, reason));
                return Ok(self.abandon());
            };
            written?;
        }
        Ok(None)
    }

    /// Keeps only what has to precede the close frame.
    fn abandon(&mut self) -> Option<End> {
        let end = lock(&self.outbound.state).end.clone();
        if !end.as_ref().is_some_and(|end| end.flush) {
            let begun = self.batch.front().is_some_and(Chunk::is_begun);
            self.batch.truncate(usize::from(begun));
        }
        end
    }

    /// One system call.
    async fn write_some(&mut self, io: &mut Line) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); BATCH_MESSAGES];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.batch) {
            *slice = IoSlice::new(&chunk.bytes);
            count += 1;
        }
        let mut written = io.write_vectored(slices.get(..count).unwrap_or_default()).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut freed = 0;
        while let Some(chunk) = self.batch.front_mut() {
            if chunk.bytes.len() > written {
                chunk.bytes.advance(written);
                break;
            }
            written -= chunk.bytes.len();
            freed += chunk.cost;
            self.batch.pop_front();
        }
        if freed > 0 {
            self.outbound.sent(freed, self.is_stream);
        }
        // TLS buffers what it could not send at once.
        if self.batch.is_empty() { io.flush().await } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue with a partly sent message (three bytes), one that waits, and a control frame.
    fn queue() -> Outbound {
        let outbound = Outbound::new(1 << 20, Arc::new(Budget::new(1 << 20)));
        let mut begun = Chunk::messages(Bytes::from_static(b"message"), 1);
        begun.bytes.advance(3);
        for chunk in [begun, Chunk::messages(Bytes::from_static(b"next"), 1)] {
            outbound.all.take(chunk.cost);
            lock(&outbound.state).add(chunk, false);
        }
        outbound.control(Bytes::from_static(b"pong"));
        outbound
    }

    fn taken(outbound: &Outbound) -> Vec<Bytes> {
        let mut batch = VecDeque::new();
        outbound.take(&mut batch);
        batch.into_iter().map(|chunk| chunk.bytes).collect()
    }

    #[test]
    fn a_control_frame_does_not_come_between_the_parts_of_a_message() {
        assert_eq!(taken(&queue()), ["sage", "pong", "next"]);
    }

    #[test]
    fn the_newest_datagram_has_room_whatever_is_being_sent() {
        let outbound = Outbound::new(256 << 10, Arc::new(Budget::new(1 << 20)));
        let datagram = |number: u8| Bytes::from(vec![number; 16 << 10]);
        for number in 0..16 {
            outbound.send_datagrams(datagram(number), 1);
        }
        assert_eq!(taken(&outbound).len(), 4);
        outbound.send_datagrams(datagram(16), 1);
        assert_eq!(outbound.dropped(), 1);
        let state = lock(&outbound.state);
        let numbers: Vec<u8> = state.chunks.iter().map(|chunk| chunk.bytes[0]).collect();
        assert_eq!(numbers, (5..=16).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_is_ended_before_the_end() {
        let outbound = queue();
        outbound.end(End::new(close_code::NO_ANSWER, "no answer"));
        assert_eq!(taken(&outbound), ["sage"]);
        let outbound = queue();
        outbound.end(End { flush: true, ..End::new(close_code::NO_ANSWER, "no answer") });
        assert_eq!(taken(&outbound), ["sage", "pong", "next"]);
    }
}
