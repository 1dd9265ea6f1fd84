//! A device's connection, from OPENED to CLOSED: the task that reads it.
//!
//! Nothing is allocated for a silent device: the read buffer is its driver's, and is taken only once there is something
//! to read. There is no second task for writing: drivers do that themselves, see `writes`.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;
use tokio_util::io::poll_read_buf;

use super::audience::{Audience, Rooms};
use super::writes::Writes;
use super::{TcpPort, lock};
use crate::driver::Driver;
use crate::frame::Head;
use crate::gather::Pace;
use crate::message::{MAX_HEADS_BYTES, PAYLOAD_BYTES, seal};
use crate::outbound::{End as DriverEnd, close_code};
use crate::tokens::Passage;

/// How much is read and discarded at a time from a disconnected device, in bytes.
const LEFTOVER_BYTES: usize = 4 << 10;
/// Minimum buffer that is worth a read, in bytes.
const MIN_SPACE_BYTES: usize = 8 << 10;

/// A connected device.
pub(crate) struct Device {
    pub(crate) id: u64,
    pub(crate) ip: IpAddr,
    pub(crate) head: Head,
    pub(super) stream: OwnedWriteHalf,
    pub(super) writes: Writes,
    /// Something changed: the drivers of the port, or how this connection has to end.
    look: Notify,
    is_connected: AtomicBool,
    /// Counts against the limit of devices until its drivers know that it sends nothing more.
    place: std::sync::Mutex<Option<OwnedSemaphorePermit>>,
}

/// Why a device is no longer read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It has shut its sending side.
    Silent,
    /// A driver has closed it, or no driver accepts it any more.
    Closed,
    /// The connection is broken.
    Broken,
}

impl Device {
    pub(super) fn new(
        id: u64,
        ip: IpAddr,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
    ) -> (OwnedReadHalf, Arc<Self>) {
        let (reading, stream) = stream.into_split();
        let device = Self {
            id,
            ip,
            head: Head::new(ip, id),
            stream,
            writes: Writes::default(),
            look: Notify::new(),
            is_connected: AtomicBool::new(true),
            place: std::sync::Mutex::new(Some(place)),
        };
        (reading, Arc::new(device))
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed)
    }

    /// Makes the device's task check the drivers of the port, and how it has to end.
    pub(crate) fn look_again(&self) {
        self.look.notify_one();
    }

    /// Ends the connection at once; anything unsent is lost.
    pub(crate) fn break_off(&self) {
        // A reset, so that the device learns that something is missing.
        let _ = SockRef::from(self.stream.as_ref()).set_linger(Some(Duration::ZERO));
        self.writes.fail();
        self.look_again();
    }

    fn end(&self) -> Option<End> {
        if self.writes.is_broken() {
            Some(End::Broken)
        } else if self.writes.is_closing() {
            Some(End::Closed)
        } else {
            None
        }
    }

    /// No longer counted.
    fn disconnect(&self) {
        self.is_connected.store(false, Ordering::Relaxed);
    }

    /// No longer counts against the limit of devices.
    pub(super) fn leave_place(&self) {
        lock(&self.place).take();
    }
}

/// Serves a device from its OPENED to the end of its connection.
pub(super) async fn run(device: Arc<Device>, mut reading: OwnedReadHalf, port: Arc<TcpPort>) {
    let mut audience = Audience::default();
    let end = read(&device, &mut reading, &port, &mut audience).await;
    let limits = &port.shared.limits;
    match end {
        End::Silent => {
            device.disconnect();
            audience.farewell(&device).await;
            await_answers(&device, &port).await;
        }
        End::Closed => {
            device.writes.close();
            flushed(&device, limits.device_stall).await;
        }
        End::Broken => {}
    }
    if !device.writes.is_broken() {
        let _ = SockRef::from(device.stream.as_ref()).shutdown(std::net::Shutdown::Write);
    }
    device.disconnect();
    audience.farewell(&device).await;
    lock(&port.devices).remove(&device.id);
    if end == End::Closed && !device.writes.is_broken() {
        // If a connection is closed with unread bytes, it is reset, which discards bytes in flight.
        let _ = timeout(limits.close_time, pass_over(&device)).await;
    }
}

/// Reads until the device ends.
async fn read(
    device: &Arc<Device>,
    reading: &mut OwnedReadHalf,
    port: &TcpPort,
    audience: &mut Audience,
) -> End {
    let mut pace = Pace::new(Instant::now());
    let mut not_before = None;
    loop {
        if let Some(end) = device.end() {
            return end;
        }
        if !audience.is_current(port) {
            tokio::select! {
                biased;
                () = audience.renew(device, port) => {}
                () = device.look.notified() => continue,
            }
        }
        if audience.is_empty() {
            return End::Closed;
        }
        if let Some(time) = not_before {
            tokio::select! {
                biased;
                () = device.look.notified() => continue,
                () = tokio::time::sleep_until(time) => not_before = None,
            }
        }
        tokio::select! {
            biased;
            () = device.look.notified() => continue,
            ready = reading.readable() => if ready.is_err() { return End::Broken },
        }
        if pace.is_load() {
            port.shared.gather.pause().await;
        }
        let room = tokio::select! {
            biased;
            room = room(audience, port) => room,
            () = device.look.notified() => continue,
        };
        let Some(room) = room else {
            // A driver is leaving, and the port will notify us.
            device.look.notified().await;
            continue;
        };
        match fetch(device, reading, audience, room) {
            Ok(0) => {}
            Ok(bytes) => {
                pace.note(Instant::now(), bytes, device.writes.count());
                not_before = charge(audience.members(), bytes);
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return End::Silent,
            Err(_) => return End::Broken,
        }
    }
}

/// Room with every driver at a moment when the total has room too: nothing is awaited between this and the read.
async fn room<'a>(audience: &'a Audience, port: &TcpPort) -> Option<Rooms<'a>> {
    loop {
        let rooms = audience.reserve().await?;
        if port.shared.queued.has_room() {
            return Some(rooms);
        }
        drop(rooms);
        port.shared.queued.room().await;
    }
}

/// Reads once and forwards it. 0 if there was nothing after all.
fn fetch(
    device: &Device,
    reading: &mut OwnedReadHalf,
    audience: &Audience,
    rooms: Rooms<'_>,
) -> io::Result<usize> {
    let Some(first) = audience.members().first() else { return Ok(0) };
    let mut space = first.outbound.space(MIN_SPACE_BYTES);
    space.resize(MAX_HEADS_BYTES, 0);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut place = (&mut space).limit(PAYLOAD_BYTES);
    let bytes = match poll_read_buf(Pin::new(reading), &mut context, &mut place) {
        Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Poll::Ready(read) => read,
        Poll::Pending => Ok(0),
    };
    if let Ok(1..) = bytes {
        hand_on(device.id, seal(&mut space, &device.head), rooms);
        for driver in audience.members() {
            driver.counters.received(bytes.as_ref().copied().unwrap_or(0), 1);
        }
    }
    first.outbound.return_space(space);
    bytes
}

/// Gives every driver the same message.
fn hand_on(id: u64, message: Bytes, rooms: Rooms<'_>) {
    match rooms {
        Rooms::One(room) => room.send(id, message),
        Rooms::Many(rooms) => {
            // A copy, so that no driver keeps another's buffer alive, which may be much larger.
            let message = Bytes::copy_from_slice(&message);
            for room in rooms {
                room.send(id, message.clone());
            }
        }
    }
}

/// Counts bytes against the tokens of `drivers`, and ends those that are used up. Returns when the next bytes may come,
/// if not now.
fn charge(drivers: &[Arc<Driver>], bytes: usize) -> Option<tokio::time::Instant> {
    let mut latest = None;
    for driver in drivers {
        match driver.allowance.as_ref().map_or(Passage::Free, |allowance| allowance.charge(bytes)) {
            Passage::Free => {}
            Passage::After(time) => latest = latest.max(Some(time)),
            Passage::UsedUp => driver.outbound.end(used_up()),
        }
    }
    latest
}

pub(crate) fn used_up() -> DriverEnd {
    DriverEnd::new(close_code::POLICY, "the token has used up its bytes")
}

/// A device that sends nothing more may still be waiting for an answer.
async fn await_answers(device: &Arc<Device>, port: &TcpPort) {
    port.shared.await_answers(device);
    loop {
        if device.end().is_some() || audience_is_gone(device, port) {
            break;
        }
        let written = device.writes.count();
        match timeout(port.shared.limits.half_close_time, device.look.notified()).await {
            Err(_) if written == device.writes.count() && !device.writes.is_busy() => break,
            _ => {}
        }
    }
    device.writes.close();
    flushed(device, port.shared.limits.device_stall).await;
}

fn audience_is_gone(device: &Device, port: &TcpPort) -> bool {
    !port.drivers().iter().any(|driver| driver.accept.contains(device.ip))
}

/// Waits until everything is written. The writer has its own timeout.
async fn flushed(device: &Device, max_wait: Duration) {
    let flushed = async {
        while !device.writes.is_flushed() {
            device.look.notified().await;
        }
    };
    if timeout(max_wait, flushed).await.is_err() {
        device.break_off();
    }
}

/// Reads to the end and discards it.
async fn pass_over(device: &Device) -> io::Result<()> {
    let stream: &TcpStream = device.stream.as_ref();
    let mut leftovers = vec![0; LEFTOVER_BYTES];
    loop {
        stream.ready(Interest::READABLE).await?;
        match stream.try_read(&mut leftovers) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
