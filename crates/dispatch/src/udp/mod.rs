//! A UDP port: its sockets and its drivers.
//!
//! | where | what |
//! |---|---|
//! | `batch` | many datagrams in one system call |
//! | `peers` | which peers have sent something, and over which socket |
//!
//! Datagrams never wait for a driver: the oldest in its queue make room.

mod batch;
mod peers;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::driver::Driver;
use crate::frame::{Frame, FrameError, Head, Kind, into_payload};
use crate::gather::Pace;
use crate::lock;
use crate::message::Heads;
use crate::outbound::{End, close_code};
use crate::shared::Shared;
use crate::tcp::{refused, used_up};
use crate::tokens::Passage;
use peers::Peers;

/// Messages to a driver are queued in groups of about this many bytes: the amount dropped at a time when room is
/// needed.
const PARCEL_BYTES: usize = 16 << 10;
/// How long datagrams wait for a network that takes nothing more right now, before they are dropped.
const MOMENT: Duration = Duration::from_millis(5);
/// Pause after receiving failed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// A full batch: no need to gather.
const FULL: usize = usize::MAX;

/// An open port.
pub(crate) struct UdpPort {
    pub(crate) number: u16,
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    drivers: Mutex<Arc<[Arc<Driver>]>>,
    peers: Mutex<Peers>,
    /// Incremented with each batch sent.
    answers: AtomicU32,
    closing: CancellationToken,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

struct Socket {
    socket: UdpSocket,
    is_ipv6: bool,
    has_ipv4: bool,
}

impl UdpPort {
    /// Starts receiving.
    ///
    /// # Errors
    /// Errors of the sockets.
    pub(crate) fn open(
        number: u16,
        sockets: Vec<std::net::UdpSocket>,
        shared: Arc<Shared>,
    ) -> io::Result<Arc<Self>> {
        let sockets = sockets.into_iter().map(Socket::new).collect::<io::Result<Vec<_>>>()?;
        let count = sockets.len();
        let port = Arc::new(Self {
            number,
            peers: Mutex::new(Peers::new(shared.limits.udp_peers_per_port)),
            shared,
            sockets,
            drivers: Mutex::new(Arc::new([])),
            answers: AtomicU32::new(0),
            closing: CancellationToken::new(),
            readers: Mutex::default(),
        });
        for place in 0..count {
            let reader = tokio::spawn(Arc::clone(&port).receive(place));
            lock(&port.readers).push(reader);
        }
        Ok(port)
    }

    /// Stops receiving. After this, the port can be opened again once nobody holds `self`.
    pub(crate) async fn close(&self) {
        self.closing.cancel();
        let readers = std::mem::take(&mut *lock(&self.readers));
        for reader in readers {
            let _ = reader.await;
        }
    }

    pub(crate) fn join(&self, driver: Arc<Driver>) {
        let mut drivers = lock(&self.drivers);
        *drivers = drivers.iter().cloned().chain([driver]).collect();
    }

    /// `true` if no driver is left.
    pub(crate) fn leave(&self, driver: &Arc<Driver>) -> bool {
        let mut drivers = lock(&self.drivers);
        *drivers = drivers.iter().filter(|other| !Arc::ptr_eq(other, driver)).cloned().collect();
        drivers.is_empty()
    }

    pub(crate) fn drivers(&self) -> Arc<[Arc<Driver>]> {
        Arc::clone(&lock(&self.drivers))
    }

    async fn receive(self: Arc<Self>, place: usize) {
        let Some(socket) = self.sockets.get(place) else { return };
        let mut pace = Pace::new(Instant::now());
        loop {
            let ready = tokio::select! {
                biased;
                () = self.closing.cancelled() => return,
                ready = socket.socket.readable() => ready,
            };
            if ready.is_ok() && pace.is_load() {
                self.shared.gather.pause().await;
            }
            match self.fetch(socket, place) {
                Ok(batch::BATCH) => {
                    pace.note(Instant::now(), FULL, self.answers.load(Ordering::Relaxed));
                }
                Ok(count) => pace.note(Instant::now(), count, self.answers.load(Ordering::Relaxed)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(port = self.number, %error, "datagrams could not be received");
                    tokio::time::sleep(ERROR_PAUSE).await;
                }
            }
        }
    }

    /// Receives what is there and forwards it.
    fn fetch(&self, socket: &Socket, place: usize) -> io::Result<usize> {
        let drivers = self.drivers();
        let mut mail = Mail { port: self, place, drivers: &drivers, sender: None, parcels: Vec::new() };
        let count = batch::receive(&socket.socket, socket.is_ipv6, |from, bytes| mail.add(from, bytes))?;
        mail.post();
        Ok(count)
    }

    /// Carries out `messages` and empties it. An invalid message ends the websocket, after all messages before it have
    /// been carried out.
    pub(crate) async fn carry_out(&self, driver: &Arc<Driver>, messages: &mut Vec<Bytes>) -> Result<(), End> {
        let mut wrong = None;
        let mut by_socket: Vec<Vec<(SocketAddr, Bytes)>> = Vec::new();
        by_socket.resize_with(self.sockets.len(), Vec::new);
        for message in messages.drain(..) {
            match order(message) {
                Ok((to, payload)) => match self.way(driver, to) {
                    Some(_) if !may_pass(driver, payload.len()) => driver.counters.dropped(1),
                    Some(place) => {
                        if let (Some(queue), Some(socket)) =
                            (by_socket.get_mut(place), self.sockets.get(place))
                        {
                            queue.push((socket.address(to), payload));
                        }
                    }
                    None => driver.counters.refused(1),
                },
                Err(end) => {
                    wrong = Some(end);
                    break;
                }
            }
        }
        for (socket, datagrams) in self.sockets.iter().zip(&by_socket) {
            self.send(socket, driver, datagrams).await;
        }
        wrong.map_or(Ok(()), Err)
    }

    /// The socket for datagrams to `to`; `None` if the driver may not send there.
    fn way(&self, driver: &Driver, to: SocketAddr) -> Option<usize> {
        if to.port() == 0 || !driver.accept.contains(to.ip()) {
            return None;
        }
        let spoken = lock(&self.peers).socket(&to);
        if spoken.is_some() || self.shared.only_to_peers_that_spoke {
            return spoken;
        }
        let fits = |socket: &Socket| if to.is_ipv4() { socket.has_ipv4 } else { socket.is_ipv6 };
        self.sockets.iter().position(fits)
    }

    async fn send(&self, socket: &Socket, driver: &Driver, datagrams: &[(SocketAddr, Bytes)]) {
        let mut rest = datagrams;
        while !rest.is_empty() {
            let done = match batch::send(&socket.socket, rest) {
                Ok(sent) => {
                    let (sent, _) = rest.split_at(sent.min(rest.len()));
                    let bytes = sent.iter().map(|(_, bytes)| bytes.len()).sum();
                    driver.counters.written(bytes, sent.len());
                    sent.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if timeout(MOMENT, socket.socket.writable()).await.is_ok() {
                        continue;
                    }
                    driver.counters.unsent(rest.len());
                    rest.len()
                }
                // The error is about the first datagram: too long for the network, or no route to its address.
                Err(error) => {
                    tracing::debug!(port = self.number, %error, "a datagram could not be sent");
                    driver.counters.unsent(1);
                    1
                }
            };
            rest = rest.get(done..).unwrap_or_default();
        }
        if !datagrams.is_empty() {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Destination and content.
fn order(message: Bytes) -> Result<(SocketAddr, Bytes), End> {
    let frame = Frame::decode(&message).map_err(refused)?;
    if frame.kind != Kind::Write {
        return Err(refused(FrameError::UnknownKind(frame.kind as u8)));
    }
    let ip = frame.ip().ok_or_else(|| malformed("the address is not an IP address"))?;
    let port = u16::try_from(frame.id).map_err(|_| malformed("the port is above 65535"))?;
    let payload_bytes = frame.payload.len();
    Ok((SocketAddr::new(ip, port), into_payload(message, payload_bytes)))
}

fn malformed(problem: &str) -> End {
    End::new(close_code::MALFORMED, problem)
}

impl Socket {
    fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let is_ipv6 = socket.local_addr()?.is_ipv6();
        let has_ipv4 = !is_ipv6 || !socket2::SockRef::from(&socket).only_v6()?;
        Ok(Self { socket: UdpSocket::from_std(socket)?, is_ipv6, has_ipv4 })
    }

    /// The address in the family of the socket.
    fn address(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.is_ipv6 => (ip.to_ipv6_mapped(), to.port()).into(),
            _ => to,
        }
    }
}

/// Datagrams between one system call and the drivers.
struct Mail<'a> {
    port: &'a UdpPort,
    place: usize,
    drivers: &'a [Arc<Driver>],
    /// Sender of the last one: often also of the next one.
    sender: Option<Sender<'a>>,
    parcels: Vec<Parcel<'a>>,
}

struct Sender<'a> {
    address: SocketAddr,
    head: Head,
    drivers: Vec<&'a Arc<Driver>>,
}

/// Messages for one driver.
struct Parcel<'a> {
    driver: &'a Arc<Driver>,
    space: BytesMut,
    messages: u32,
}

impl<'a> Mail<'a> {
    fn add(&mut self, from: SocketAddr, bytes: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        let sender = self.sender.take().filter(|sender| sender.address == from);
        let sender = sender.unwrap_or_else(|| self.meet(from));
        for driver in &sender.drivers {
            if may_pass(driver, bytes.len()) {
                self.parcel(driver).add(&sender.head, bytes);
            } else {
                driver.counters.dropped(1);
            }
        }
        self.sender = Some(sender);
    }

    fn meet(&self, from: SocketAddr) -> Sender<'a> {
        let drivers: Vec<_> =
            self.drivers.iter().filter(|driver| driver.accept.contains(from.ip())).collect();
        if !drivers.is_empty() {
            lock(&self.port.peers).note(from, self.place);
        }
        Sender { address: from, head: Head::new(from.ip(), from.port().into()), drivers }
    }

    fn parcel(&mut self, driver: &'a Arc<Driver>) -> &mut Parcel<'a> {
        let known = self.parcels.iter().position(|parcel| Arc::ptr_eq(parcel.driver, driver));
        let place = known.unwrap_or_else(|| {
            self.parcels.push(Parcel { driver, space: BytesMut::new(), messages: 0 });
            self.parcels.len() - 1
        });
        // It exists, or was just inserted.
        &mut self.parcels[place]
    }

    fn post(self) {
        for mut parcel in self.parcels {
            parcel.post();
            if parcel.space.capacity() > 0 {
                parcel.driver.outbound.return_space(parcel.space);
            }
        }
    }
}

impl Parcel<'_> {
    fn add(&mut self, head: &Head, bytes: &[u8]) {
        let heads = Heads::new(head, Kind::Received, bytes.len());
        let heads = heads.as_slice();
        let needed = heads.len() + bytes.len();
        if self.space.capacity() - self.space.len() < needed {
            self.post();
            if self.space.capacity() < needed {
                self.space = self.driver.outbound.space(needed);
            }
        }
        self.space.extend_from_slice(heads);
        self.space.extend_from_slice(bytes);
        self.messages += 1;
        self.driver.counters.received(bytes.len(), 1);
        if self.space.len() >= PARCEL_BYTES {
            self.post();
        }
    }

    fn post(&mut self) {
        if self.messages > 0 {
            let messages = std::mem::take(&mut self.messages);
            self.driver.outbound.send_datagrams(self.space.split().freeze(), messages);
        }
    }
}

/// Datagrams beyond the rate of a token are dropped in both directions: they do not wait. A datagram that uses up the
/// bytes of a token ends the driver.
fn may_pass(driver: &Driver, bytes: usize) -> bool {
    let Some(allowance) = &driver.allowance else { return true };
    if !allowance.has_rate() {
        return false;
    }
    let is_used_up = allowance.charge(bytes) == Passage::UsedUp;
    if is_used_up {
        driver.outbound.end(used_up());
    }
    !is_used_up
}
