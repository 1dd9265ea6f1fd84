//! A device's local connection.
//!
//! Each direction ends on its own, as far as frames can express it. When a device sends nothing more (CLOSED), our
//! sending side is shut, and the local server may still answer. When a local server sends nothing more, its device is
//! disconnected once it has everything, because only CLOSE can express that; what the device sent until then is still
//! handed to the server. If something is missing at the local server's end, it sees a reset.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sortie_dispatch::frame::Head;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::mpsc::Receiver;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::room::{Room, Taken};
use crate::lock;
use crate::outbound::{Draft, Outbound, close};

/// Something a device has sent.
pub(super) enum Said {
    Bytes {
        bytes: Bytes,
        _room: (Taken, Taken),
    },
    /// It sends nothing more.
    Closed,
}

/// How handing bytes to the local server ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handed {
    /// The device sends nothing more.
    All,
    /// The tunnel is closing.
    Last,
    /// The local server takes nothing more.
    Broken,
}

/// A device with its local connection.
pub(super) struct Stream {
    pub(super) id: u64,
    pub(super) head: Head,
    pub(super) shared: Arc<Shared>,
    pub(super) said: Receiver<Said>,
    pub(super) room: Room,
    pub(super) cut: CancellationToken,
}

impl Stream {
    pub(super) async fn run(mut self) {
        let cut = self.cut.clone();
        let mut is_closed = false;
        let connected = tokio::select! {
            biased;
            () = cut.cancelled() => None,
            connected = self.connect() => connected,
        };
        if let Some(mut local) = connected {
            let is_whole = tokio::select! {
                biased;
                () = cut.cancelled() => false,
                is_whole = self.carry(&mut local, &mut is_closed) => is_whole,
            };
            if !is_whole {
                let _broken_already = local.set_zero_linger();
            }
        }
        self.room.close();
        lock(&self.shared.devices).remove(&self.id);
        if !is_closed {
            let _lost = self.shared.outbound.send(close(&self.head)).await;
        }
    }

    async fn connect(&self) -> Option<TcpStream> {
        let target = &self.shared.target;
        let connecting = TcpStream::connect((target.host.as_str(), target.port));
        let connected = timeout(self.shared.limits.connect_time, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match connected.and_then(|local| local.set_nodelay(true).map(|()| local)) {
            Ok(local) => {
                self.shared.note(false, "");
                Some(local)
            }
            Err(error) => {
                self.shared.note(true, &error.to_string());
                None
            }
        }
    }

    /// Carries bytes both ways. Returns whether the local server has received everything that its device sent.
    async fn carry(&mut self, local: &mut TcpStream, is_closed: &mut bool) -> bool {
        let limits = &self.shared.limits;
        let (reading, mut writing) = local.split();
        let progress = AtomicU32::new(0);
        let handing = hand_over(&mut self.said, &mut writing, limits.write_time);
        let fetching = fetch(&reading, &self.head, &self.shared.outbound, &progress);
        tokio::pin!(handing, fetching);
        tokio::select! {
            handed = &mut handing => {
                if handed == Handed::All {
                    tokio::select! {
                        () = &mut fetching => {}
                        () = silence(&progress, limits.half_close_time) => {}
                        () = sleep(limits.half_close_limit) => {}
                    }
                }
                handed != Handed::Broken
            }
            () = &mut fetching => {
                let _lost = self.shared.outbound.send(close(&self.head)).await;
                *is_closed = true;
                timeout(limits.half_close_time, handing).await.is_ok_and(|handed| handed != Handed::Broken)
            }
        }
    }
}

/// Hands the device's bytes to the local server.
async fn hand_over(said: &mut Receiver<Said>, to: &mut WriteHalf<'_>, write_time: Duration) -> Handed {
    loop {
        let (end, bytes, _room) = match said.recv().await {
            Some(Said::Bytes { bytes, _room }) => (None, bytes, Some(_room)),
            Some(Said::Closed) => (Some(Handed::All), Bytes::new(), None),
            None => (Some(Handed::Last), Bytes::new(), None),
        };
        if let Some(end) = end {
            return if to.shutdown().await.is_ok() { end } else { Handed::Broken };
        }
        let mut rest = &*bytes;
        while !rest.is_empty() {
            match timeout(write_time, to.write(rest)).await {
                Ok(Ok(written @ 1..)) => rest = rest.get(written..).unwrap_or_default(),
                _ => return Handed::Broken,
            }
        }
    }
}

/// Sends the local server's bytes to the device, until there are no more or nobody can send them.
async fn fetch(from: &ReadHalf<'_>, head: &Head, outbound: &Outbound, progress: &AtomicU32) {
    loop {
        // Nothing is allocated for a silent server.
        if from.readable().await.is_err() {
            return;
        }
        match Draft::read(head, |space| from.try_read_buf(space)) {
            Ok(Some(message)) => {
                progress.fetch_add(1, Ordering::Relaxed);
                if outbound.send(message).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => return,
        }
    }
}

/// Waits until there has been no progress for `lasting`.
async fn silence(progress: &AtomicU32, lasting: Duration) {
    loop {
        let before = progress.load(Ordering::Relaxed);
        sleep(lasting).await;
        if before == progress.load(Ordering::Relaxed) {
            return;
        }
    }
}
