//! What drivers write to a device.
//!
//! A driver's task writes directly, without a queue, while the device keeps up: then nothing is copied, and if the
//! driver sends too fast, the rest waits in the driver's own connection. Only when a device takes no more for a moment
//! is the rest buffered and written by a temporary task, so that messages to other devices go on. The writer holds the
//! turn until everything it began is written or buffered: messages of several drivers never mix.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Device, TcpPort};
use crate::driver::Driver;
use crate::lock;
use crate::shared::{HalfClosed, Shared};

/// Pieces per system call.
const BATCH_PIECES: usize = 64;
/// How long a driver's task waits for a device that takes nothing more right now: longer than a device that is reading
/// needs, and too short for others to notice.
const MOMENT: Duration = Duration::from_millis(5);

/// What waits for a device, and who may write.
#[derive(Default)]
pub(crate) struct Writes {
    state: Mutex<State>,
    /// Something was written, or never will be.
    moved: Notify,
}

#[derive(Default)]
struct State {
    backlog: VecDeque<Bytes>,
    backlog_bytes: usize,
    /// Somebody holds the turn.
    is_busy: bool,
    /// Accepts nothing more.
    is_closing: bool,
    /// Nothing more can be written.
    is_broken: bool,
    /// Incremented with each write that was requested.
    count: u32,
    /// Incremented with each write that was completed.
    progress: u32,
    /// Since when drivers have had to wait repeatedly: cleared when half of what waited is written.
    full_since: Option<Instant>,
}

impl Writes {
    pub(super) fn count(&self) -> u32 {
        lock(&self.state).count
    }

    pub(super) fn is_closing(&self) -> bool {
        lock(&self.state).is_closing
    }

    pub(super) fn is_broken(&self) -> bool {
        lock(&self.state).is_broken
    }

    pub(super) fn is_busy(&self) -> bool {
        lock(&self.state).is_busy
    }

    /// Whether everything has been written.
    pub(super) fn is_flushed(&self) -> bool {
        let state = lock(&self.state);
        state.is_broken || !state.is_busy
    }

    /// Stops accepting writes.
    pub(super) fn close(&self) {
        lock(&self.state).is_closing = true;
    }

    /// Gives up; the holder of the turn drops the backlog.
    pub(super) fn fail(&self) {
        lock(&self.state).is_broken = true;
        self.moved.notify_waiters();
    }
}

/// Where a message goes.
enum Way {
    /// Written directly: the caller has the turn.
    Direct,
    /// Appended to the backlog.
    Backlog,
    /// Dropped: the device is gone.
    Nowhere,
}

impl HalfClosed for Device {
    /// Ends the connection once everything is written.
    fn close(&self) {
        self.writes.close();
        self.look_again();
    }
}

impl Device {
    /// Writes `pieces` in order, or buffers them; waits for a device that cannot keep up, see
    /// [`crate::Limits::device_patience`].
    pub(super) async fn write(
        self: &Arc<Self>,
        port: &TcpPort,
        driver: &Driver,
        mut pieces: VecDeque<Bytes>,
    ) {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let messages = pieces.len();
        match self.way() {
            Way::Direct => {
                let mut turn = WriteTurn { device: self, shared: &port.shared, pieces: &mut pieces };
                turn.write(port, driver).await;
                drop(turn);
                if self.writes.is_broken() {
                    driver.counters.unsent(messages);
                    return;
                }
            }
            Way::Backlog => {
                if !self.wait_for_room(port, driver, bytes).await {
                    driver.counters.unsent(messages);
                    return;
                }
                self.put_aside(&port.shared, &pieces);
            }
            Way::Nowhere => {
                driver.counters.unsent(messages);
                return;
            }
        }
        driver.counters.written(bytes, messages);
    }

    fn way(&self) -> Way {
        let mut state = lock(&self.writes.state);
        state.count = state.count.wrapping_add(1);
        if state.is_broken || state.is_closing {
            return Way::Nowhere;
        }
        if state.is_busy {
            return Way::Backlog;
        }
        state.is_busy = true;
        Way::Direct
    }

    /// `false` if the device is gone, or was disconnected because it took nothing.
    async fn wait_for_room(&self, port: &TcpPort, driver: &Driver, bytes: usize) -> bool {
        let limits = &port.shared.limits;
        let mut held = None;
        loop {
            let moved = self.writes.moved.notified();
            let is_alone = port.has_one_device();
            let (full_since, progress) = {
                let mut state = lock(&self.writes.state);
                if state.is_broken {
                    return false;
                }
                let fits = state.backlog_bytes + bytes <= limits.device_backlog_bytes;
                if state.backlog.is_empty() || fits && port.shared.backlog.has_room() {
                    return true;
                }
                // Alone it delays nobody, and only has to make some progress.
                let full_since =
                    if is_alone { Instant::now() } else { state.full_since.unwrap_or_else(Instant::now) };
                state.full_since = Some(full_since);
                (full_since, state.progress)
            };
            held.get_or_insert_with(|| Held::new(driver));
            let patience = if is_alone { limits.device_stall } else { limits.device_patience };
            let waited = timeout_at(full_since + patience, moved).await;
            if waited.is_err() && !(is_alone && lock(&self.writes.state).progress != progress) {
                tracing::info!(port = port.number, ip = %self.ip, id = self.id, "disconnecting a device that reads too slowly");
                self.break_off();
                return false;
            }
        }
    }

    /// Adds to the backlog. A copy, so that the driver's whole buffer is not kept for a part of it.
    fn put_aside(self: &Arc<Self>, shared: &Arc<Shared>, pieces: &VecDeque<Bytes>) {
        let piece = joined(pieces);
        let mut state = lock(&self.writes.state);
        shared.backlog.take(piece.len());
        state.backlog_bytes += piece.len();
        state.backlog.push_back(piece);
        // The holder of the turn may have released it since.
        if !state.is_busy {
            state.is_busy = true;
            drop(state);
            self.spawn_drain(shared);
        }
    }

    fn spawn_drain(self: &Arc<Self>, shared: &Arc<Shared>) {
        shared.tracker.spawn(drain(Arc::clone(self), Arc::clone(shared)));
    }

    fn try_write(&self, pieces: &VecDeque<Bytes>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); BATCH_PIECES];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        self.stream.try_write_vectored(slices.get(..count).unwrap_or_default())
    }
}

fn joined(pieces: &VecDeque<Bytes>) -> Bytes {
    let mut all = Vec::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in pieces {
        all.extend_from_slice(piece);
    }
    all.into()
}

fn advance(pieces: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = pieces.front_mut() {
        if piece.len() > written {
            piece.advance(written);
            return;
        }
        written -= piece.len();
        pieces.pop_front();
    }
}

/// The right to write to a device. When dropped, the rest goes to the front of the backlog.
struct WriteTurn<'a> {
    device: &'a Arc<Device>,
    shared: &'a Arc<Shared>,
    pieces: &'a mut VecDeque<Bytes>,
}

impl WriteTurn<'_> {
    /// Writes until everything is written, or the device takes nothing for a moment. If the device is alone with its
    /// driver, it delays nobody, so the wait is longer.
    async fn write(&mut self, port: &TcpPort, driver: &Driver) {
        let mut held = None;
        let mut waited = Duration::ZERO;
        while !self.pieces.is_empty() {
            match self.device.try_write(self.pieces) {
                Ok(written) => {
                    waited = Duration::ZERO;
                    let mut state = lock(&self.device.writes.state);
                    state.progress = state.progress.wrapping_add(1);
                    drop(state);
                    advance(self.pieces, written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if timeout(MOMENT, self.device.stream.writable()).await.is_err() {
                        waited += MOMENT;
                        let is_alone = port.has_one_device() && waited < self.shared.limits.device_stall;
                        if !is_alone || self.device.writes.is_broken() {
                            return;
                        }
                        held.get_or_insert_with(|| Held::new(driver));
                    }
                }
                Err(_) => {
                    self.device.writes.fail();
                    return;
                }
            }
        }
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.device.writes.state);
        if !self.pieces.is_empty() && !state.is_broken {
            let rest = joined(self.pieces);
            self.shared.backlog.take(rest.len());
            state.backlog_bytes += rest.len();
            state.backlog.push_front(rest);
        }
        if !state.backlog.is_empty() && tokio::runtime::Handle::try_current().is_ok() {
            drop(state);
            self.device.spawn_drain(self.shared);
            return;
        }
        end_turn(&mut state);
        let has_to_look = state.is_closing || state.is_broken;
        drop(state);
        if has_to_look {
            self.device.look_again();
        }
    }
}

fn end_turn(state: &mut State) {
    state.is_busy = false;
    // Releases the memory of a long backlog.
    state.backlog.shrink_to(0);
}

/// Writes the backlog, and holds the turn until that is done.
async fn drain(device: Arc<Device>, shared: Arc<Shared>) {
    let mut pieces = VecDeque::new();
    loop {
        let mut taken = 0;
        {
            let mut state = lock(&device.writes.state);
            if state.is_broken {
                taken = std::mem::take(&mut state.backlog_bytes);
                state.backlog.clear();
            }
            let count = state.backlog.len().min(BATCH_PIECES);
            pieces.extend(state.backlog.drain(..count));
            if pieces.is_empty() {
                end_turn(&mut state);
            }
        }
        shared.backlog.give(taken);
        if pieces.is_empty() {
            device.writes.moved.notify_waiters();
            device.look_again();
            return;
        }
        write_out(&device, &shared, &mut pieces).await;
    }
}

/// Writes `pieces` of the backlog, or fails the device.
async fn write_out(device: &Device, shared: &Shared, pieces: &mut VecDeque<Bytes>) {
    while !pieces.is_empty() {
        let written = match device.try_write(pieces) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let failed = failed(device);
                tokio::select! {
                    biased;
                    ready = timeout(shared.limits.device_stall, device.stream.writable()) => {
                        if ready.is_err() {
                            tracing::info!(ip = %device.ip, id = device.id, "disconnecting a device that reads nothing");
                            device.break_off();
                        }
                    }
                    () = failed => {}
                }
                if !device.writes.is_broken() {
                    continue;
                }
                pieces.iter().map(Bytes::len).sum()
            }
            Err(_) => {
                device.writes.fail();
                pieces.iter().map(Bytes::len).sum()
            }
        };
        advance(pieces, written);
        let mut state = lock(&device.writes.state);
        state.backlog_bytes -= written;
        state.progress = state.progress.wrapping_add(1);
        if state.backlog_bytes <= shared.limits.device_backlog_bytes / 2 {
            state.full_since = None;
        }
        drop(state);
        shared.backlog.give(written);
        device.writes.moved.notify_waiters();
    }
}

/// Waits until nothing can be written any more.
async fn failed(device: &Device) {
    loop {
        let moved = device.writes.moved.notified();
        if device.writes.is_broken() {
            return;
        }
        moved.await;
    }
}

/// A driver whose messages wait for a device.
struct Held<'a>(&'a Driver);

impl<'a> Held<'a> {
    fn new(driver: &'a Driver) -> Self {
        driver.hold(true);
        Self(driver)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.hold(false);
    }
}
