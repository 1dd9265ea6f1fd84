//! UDP: a local socket for each peer, so that the local server can tell them apart and answers reach the right peer.
//!
//! The sockets outlive a lost websocket: when the dispatcher is back, a game server sees its players at the same
//! addresses. Datagrams never wait: what cannot be sent at once is dropped and counted.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use sortie_dispatch::frame::Kind;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::lock;
use crate::options::{Limits, Target};
use crate::outbound::{Outbound, write};

/// Maximum length of a datagram, in bytes.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// How long a datagram waits for a network that takes nothing more right now.
const MOMENT: Duration = Duration::from_millis(5);
/// Pause after receiving failed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// How long the local server's resolved address is cached.
const RESOLVED_TIME: Duration = Duration::from_secs(30);
/// Spare receive buffers: on most machines as many as are in use at a time.
const MAX_SPACES: usize = 4;

/// A local socket.
struct Peer {
    address: SocketAddr,
    socket: UdpSocket,
    /// When it last carried traffic, either way. Changed under the lock of all peers, so that nobody gets a socket that
    /// is about to be closed.
    used: Mutex<Instant>,
    cut: CancellationToken,
}

struct Shared {
    target: Target,
    limits: Limits,
    /// `None` while there is no websocket.
    outbound: Mutex<Option<Outbound>>,
    peers: Mutex<HashMap<SocketAddr, Arc<Peer>>>,
    spaces: Mutex<Vec<Vec<u8>>>,
    dropped: AtomicU64,
    /// Nobody was listening at the local port at the last attempt.
    is_away: AtomicBool,
}

/// Every local socket. When dropped, all of them are closed.
pub(crate) struct Datagrams {
    shared: Arc<Shared>,
    resolved: Option<(Instant, SocketAddr)>,
    closing: DropGuard,
}

impl Datagrams {
    pub(crate) fn new(target: Target, limits: Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                target,
                limits,
                outbound: Mutex::default(),
                peers: Mutex::default(),
                spaces: Mutex::default(),
                dropped: AtomicU64::new(0),
                is_away: AtomicBool::new(false),
            }),
            resolved: None,
            closing: CancellationToken::new().drop_guard(),
        }
    }

    /// Sets where answers go from now on.
    pub(crate) fn use_outbound(&self, outbound: Option<Outbound>) {
        *lock(&self.shared.outbound) = outbound;
    }

    /// Carries out a frame; `Err` if a dispatcher does not send such frames.
    pub(crate) async fn take_in(
        &mut self,
        kind: Kind,
        ip: IpAddr,
        port: u64,
        datagram: &[u8],
    ) -> Result<(), String> {
        if kind != Kind::Received {
            return Err(format!("a frame of type {} came for UDP", kind as u8));
        }
        let port = u16::try_from(port).map_err(|_| "a port above 65535 came")?;
        let Some(peer) = self.peer(SocketAddr::new(ip, port)).await else {
            self.shared.drop_one();
            return Ok(());
        };
        let sent = match timeout(MOMENT, peer.socket.send(datagram)).await {
            // The error is about an earlier datagram: nobody was listening then.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.shared.note_away();
                timeout(MOMENT, peer.socket.send(datagram)).await
            }
            sent => sent,
        };
        if !matches!(sent, Ok(Ok(_))) {
            self.shared.drop_one();
        }
        Ok(())
    }

    /// The socket for a peer; `None` if it cannot have one.
    async fn peer(&mut self, address: SocketAddr) -> Option<Arc<Peer>> {
        if let Some(peer) = self.shared.known(address) {
            return Some(peer);
        }
        if !self.shared.make_room() {
            return None;
        }
        match self.open(address).await {
            Ok(peer) => {
                let peer = Arc::new(peer);
                lock(&self.shared.peers).insert(address, Arc::clone(&peer));
                tokio::spawn(Arc::clone(&self.shared).answer(Arc::clone(&peer)));
                Some(peer)
            }
            Err(error) => {
                tracing::warn!(target = %self.shared.target, %error, "cannot open a socket for a peer");
                None
            }
        }
    }

    async fn open(&mut self, address: SocketAddr) -> io::Result<Peer> {
        let target = self.target().await?;
        let from: IpAddr =
            if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(target).await?;
        // The socket is known from here on, so that the first datagram does not wait.
        socket.writable().await?;
        let cut = self.closing.token().child_token();
        Ok(Peer { address, socket, used: Mutex::new(Instant::now()), cut })
    }

    async fn target(&mut self) -> io::Result<SocketAddr> {
        if let Some((since, address)) = self.resolved
            && since.elapsed() < RESOLVED_TIME
        {
            return Ok(address);
        }
        let Target { host, port } = &self.shared.target;
        let found = timeout(self.shared.limits.connect_time, lookup_host((host.as_str(), *port))).await;
        let address = found.map_err(|_| io::ErrorKind::TimedOut)??.next().ok_or(io::ErrorKind::NotFound)?;
        self.resolved = Some((Instant::now(), address));
        Ok(address)
    }
}

impl Shared {
    fn known(&self, address: SocketAddr) -> Option<Arc<Peer>> {
        let peers = lock(&self.peers);
        let peer = peers.get(&address)?;
        *lock(&peer.used) = Instant::now();
        Some(Arc::clone(peer))
    }

    /// Whether there is room for one more peer; may remove the one that has been silent longest.
    fn make_room(&self) -> bool {
        let mut peers = lock(&self.peers);
        if peers.len() < self.limits.peers {
            return true;
        }
        let silent = peers.values().min_by_key(|peer| *lock(&peer.used)).map(Arc::clone);
        let Some(silent) = silent.filter(|peer| lock(&peer.used).elapsed() >= self.limits.peer_rest) else {
            return false;
        };
        silent.cut.cancel();
        peers.remove(&silent.address);
        true
    }

    /// Sends the local server's answers to a peer, until its socket is idle.
    async fn answer(self: Arc<Self>, peer: Arc<Peer>) {
        loop {
            let idle = *lock(&peer.used) + self.limits.peer_idle;
            tokio::select! {
                biased;
                () = peer.cut.cancelled() => return,
                ready = peer.socket.readable() => {
                    if ready.is_err() || self.pass_on(&peer).await.is_err() {
                        sleep(ERROR_PAUSE).await;
                    }
                }
                () = sleep_until(idle) => {
                    if self.forget_idle(&peer) {
                        return;
                    }
                }
            }
        }
    }

    fn forget_idle(&self, peer: &Peer) -> bool {
        let mut peers = lock(&self.peers);
        let is_idle = lock(&peer.used).elapsed() >= self.limits.peer_idle;
        if is_idle {
            peers.remove(&peer.address);
        }
        is_idle
    }

    /// Forwards everything that is there now.
    async fn pass_on(&self, peer: &Peer) -> io::Result<()> {
        loop {
            let message = match self.receive(peer) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.note_away();
                    continue;
                }
                Err(error) => return Err(error),
            };
            *lock(&peer.used) = Instant::now();
            self.note_back();
            let outbound = lock(&self.outbound).clone();
            let sent = match outbound {
                Some(outbound) => outbound.send(message).await.is_ok(),
                None => false,
            };
            if !sent {
                self.drop_one();
            }
        }
    }

    fn receive(&self, peer: &Peer) -> io::Result<Bytes> {
        let mut space = lock(&self.spaces).pop().unwrap_or_else(|| vec![0; MAX_DATAGRAM_BYTES]);
        let received = peer.socket.try_recv(&mut space);
        let message = received.map(|bytes| {
            let datagram = space.get(..bytes).unwrap_or_default();
            write(peer.address.ip(), peer.address.port(), datagram)
        });
        let mut spaces = lock(&self.spaces);
        if spaces.len() < MAX_SPACES {
            spaces.push(space);
        }
        message
    }

    fn drop_one(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        // Some are of interest, but many must not fill the log.
        if dropped.is_power_of_two() {
            tracing::debug!(dropped, "datagrams were dropped");
        }
    }

    fn note_away(&self) {
        if !self.is_away.swap(true, Ordering::Relaxed) {
            tracing::warn!(target = %self.target, "nobody listens at the local port: datagrams are lost");
        }
    }

    fn note_back(&self) {
        if self.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!(target = %self.target, "the local server answers");
        }
    }
}
