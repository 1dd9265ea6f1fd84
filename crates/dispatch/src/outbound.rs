//! What waits to be sent to one driver, and the task that sends it.
//!
//! A queue of whole messages, so that control frames can go in between them, and so that several drivers of a port can
//! share the bytes of one. Its room is a semaphore of bytes: devices that wait for room get it in turn, and a device is
//! read only once there is room for what may be read. Datagrams do not wait: the oldest make room.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::lock;
use crate::message::{self, READ_BYTES};

/// Messages in one system call: more make it no cheaper.
const BATCH_MESSAGES: usize = 64;
/// Bytes that are taken from the queue at a time; once taken, datagrams are not dropped any more.
const BATCH_BYTES: usize = 256 << 10;
/// Answers to pings that wait; beyond it the oldest is left out, which RFC 6455, section 5.5.3, allows.
const MAX_CONTROLS: usize = 16;
/// Spare spaces to read to: as many as may be read to at a time, on most machines.
const MAX_SPACES: usize = 4;
/// With two writes so close together, the second waits until other tasks have had their turn to add to it.
const BUSY: Duration = Duration::from_micros(100);

/// Why a websocket is closed: RFC 6455, section 7.4.1.
pub(crate) mod close_code {
    /// The driver is done, too.
    pub(crate) const NORMAL: u16 = 1000;
    /// The dispatcher ends.
    pub(crate) const GOING_AWAY: u16 = 1001;
    /// The websocket protocol was not kept.
    pub(crate) const PROTOCOL: u16 = 1002;
    /// A text message.
    pub(crate) const NO_TEXT: u16 = 1003;
    /// A message that is no frame.
    pub(crate) const MALFORMED: u16 = 1007;
    /// A frame of a type that is not for drivers, a driver that stalls, a token that is used up.
    pub(crate) const POLICY: u16 = 1008;
    /// A message that is too long.
    pub(crate) const TOO_BIG: u16 = 1009;
    /// Nothing was heard of the driver for too long.
    pub(crate) const NO_ANSWER: u16 = 1011;
}

/// How a driver's websocket ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct End {
    /// The close code; `None` if there is nobody to tell.
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
    /// Whether what waits is sent first.
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
    /// Length when nothing of it was sent.
    whole: usize,
    /// What it takes of the queue's room, in bytes.
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

#[derive(Default)]
struct State {
    chunks: VecDeque<Chunk>,
    controls: VecDeque<Bytes>,
    /// Bytes of all chunks, and of those that are being sent.
    bytes: usize,
    end: Option<End>,
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
    /// Messages that were dropped to make room.
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

    /// Waits until the websocket is to end.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the websocket; the first reason counts.
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

    /// Empty space for so many bytes at least. Give it back by [`Outbound::return_space`].
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

    /// Gives back memory that a driver without traffic does not need.
    pub(crate) fn rest(&self) {
        lock(&self.spaces).clear();
    }

    fn send(&self, bytes: Bytes) {
        let cost = bytes.len();
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.bytes += cost;
        state.chunks.push_back(Chunk::messages(bytes, 1));
        drop(state);
        self.all.take(cost);
        self.arrived.notify_one();
    }

    /// Adds datagrams, as messages one after the other. The oldest that wait make room for them.
    pub(crate) fn send_datagrams(&self, bytes: Bytes, messages: u32) {
        let cost = bytes.len();
        let mut dropped = 0;
        let mut freed = 0;
        {
            let mut state = lock(&self.state);
            if state.end.is_some() {
                return;
            }
            let is_full = |state: &State, freed: usize| {
                state.bytes + cost > self.limit || !self.all.has_room() && freed < cost
            };
            while is_full(&state, freed)
                && let Some(oldest) = state.chunks.pop_front()
            {
                state.bytes -= oldest.cost;
                freed += oldest.cost;
                dropped += u64::from(oldest.messages);
            }
            if is_full(&state, freed) {
                dropped += u64::from(messages);
            } else {
                state.bytes += cost;
                state.chunks.push_back(Chunk::messages(bytes, messages));
                self.all.take(cost);
            }
        }
        self.all.give(freed);
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        self.arrived.notify_one();
    }

    /// Adds a control frame, which goes before all messages that are not being sent yet.
    pub(crate) fn control(&self, bytes: Bytes) {
        let mut state = lock(&self.state);
        if state.controls.len() >= MAX_CONTROLS {
            state.controls.pop_front();
        }
        state.controls.push_back(bytes);
        drop(state);
        self.arrived.notify_one();
    }

    /// Moves what is to be sent next to `batch`, which is empty. The reason once the websocket is to end.
    fn take(&self, batch: &mut VecDeque<Chunk>) -> Option<End> {
        let mut state = lock(&self.state);
        let all = state.end.as_ref().is_some_and(|end| end.flush);
        if state.end.is_none() || all {
            batch.extend(state.controls.drain(..).map(Chunk::control));
            let mut bytes = 0;
            while bytes < BATCH_BYTES || all {
                let Some(chunk) = state.chunks.pop_front() else { break };
                bytes += chunk.cost;
                batch.push_back(chunk);
            }
        }
        state.end.clone()
    }

    /// Gives back the room of what has been sent.
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

/// Room in a queue for one message of a TCP device. Dropped, it is given back.
pub(crate) struct Reserved<'a> {
    outbound: &'a Outbound,
    bytes: usize,
}

impl Reserved<'_> {
    /// Adds a message of at most [`READ_BYTES`]; the room that it does not need is given back.
    pub(crate) fn send(mut self, message: Bytes) {
        self.bytes = self.bytes.saturating_sub(message.len());
        self.outbound.send(message);
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.outbound.room.add_permits(self.bytes);
    }
}

/// How long the writer of a queue waits.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// For a driver that takes nothing.
    pub(crate) stall: Duration,
    /// For it to take the close frame.
    pub(crate) close: Duration,
}

/// Sends what comes into the queue until the websocket ends, and its close frame.
pub(crate) async fn write_out(
    outbound: &Outbound,
    mut io: impl AsyncWrite + Unpin,
    is_stream: bool,
    patience: Patience,
) {
    let mut writer = Writer { outbound, batch: VecDeque::new(), is_stream };
    let end = loop {
        match writer.next_batch(&mut io, patience.stall).await {
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
            writer.write_some(&mut io).await?;
        }
        io.shutdown().await
    };
    let _ = timeout(patience.close, farewell).await;
}

struct Writer<'a> {
    outbound: &'a Outbound,
    /// What is being sent; the first chunk may be sent in part.
    batch: VecDeque<Chunk>,
    is_stream: bool,
}

impl Writer<'_> {
    /// Waits for something to send and sends it. `Some` once the websocket is to end, with what has to be sent before
    /// the close frame left in `batch`.
    async fn next_batch(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        stall: Duration,
    ) -> io::Result<Option<End>> {
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

    async fn write_batch(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        stall: Duration,
    ) -> io::Result<Option<End>> {
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

    /// Leaves only what the close frame has to come after.
    fn abandon(&mut self) -> Option<End> {
        let end = lock(&self.outbound.state).end.clone();
        if !end.as_ref().is_some_and(|end| end.flush) {
            let begun = self.batch.front().is_some_and(Chunk::is_begun);
            self.batch.truncate(usize::from(begun));
        }
        end
    }

    /// One system call.
    async fn write_some(&mut self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
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
        // TLS keeps back what it could not send at once.
        if self.batch.is_empty() { io.flush().await } else { Ok(()) }
    }
}
