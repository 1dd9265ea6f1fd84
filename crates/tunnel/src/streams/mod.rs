//! TCP: a local connection for each device, from OPENED until both sides are done.
//!
//! | where | what |
//! |---|---|
//! | `stream` | a device's local connection |
//! | `room` | how much may wait for local connections, and how long that may delay the others |

mod room;
mod stream;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sortie_dispatch::frame::{Head, Kind};
use tokio::sync::mpsc::{Sender, channel};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::lock;
use crate::options::{Limits, Target};
use crate::outbound::{Outbound, close};
use room::{Hold, Room, Verdict};
use stream::{Said, Stream};

/// State that all local connections of one websocket share.
struct Shared {
    target: Target,
    limits: Limits,
    outbound: Outbound,
    devices: Mutex<HashMap<u64, Entry>>,
    /// The local server accepted no connection at the last attempt.
    is_away: AtomicBool,
}

/// A device, while its local connection exists.
struct Entry {
    said: Sender<Said>,
    room: Room,
    hold: Hold,
    cut: CancellationToken,
}

impl Shared {
    /// Logs once that the local server is away, and once that it is back.
    fn note(&self, is_away: bool, problem: &str) {
        let was_away = self.is_away.swap(is_away, Ordering::Relaxed);
        match (was_away, is_away) {
            (false, true) => {
                tracing::warn!(target = %self.target, problem, "the local server accepts no connections: its devices are disconnected");
            }
            (true, false) => tracing::info!(target = %self.target, "the local server is back"),
            _ => {}
        }
    }
}

/// The local connections of one websocket. When dropped, all of them are reset.
pub(crate) struct Streams {
    shared: Arc<Shared>,
    tracker: TaskTracker,
    all: Room,
    lost: DropGuard,
}

impl Streams {
    pub(crate) fn new(target: Target, limits: Limits, outbound: Outbound) -> Self {
        Self {
            all: Room::new(limits.waiting_bytes),
            shared: Arc::new(Shared {
                target,
                limits,
                outbound,
                devices: Mutex::default(),
                is_away: AtomicBool::new(false),
            }),
            tracker: TaskTracker::new(),
            lost: CancellationToken::new().drop_guard(),
        }
    }

    /// Carries out a frame; `Err` if a dispatcher does not send such frames.
    pub(crate) async fn take_in(
        &mut self,
        kind: Kind,
        ip: IpAddr,
        id: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        match kind {
            Kind::Opened => self.open(Head::new(ip, id), ip, id).await,
            Kind::Received => self.receive(id, payload).await,
            Kind::Closed => {
                if let Some(entry) = lock(&self.shared.devices).get(&id) {
                    let _ended = entry.said.try_send(Said::Closed);
                }
            }
            Kind::Write | Kind::Close => return Err(format!("a frame of type {} came", kind as u8)),
        }
        Ok(())
    }

    /// Accepts nothing more, and waits until local servers have everything accepted.
    pub(crate) async fn finish(self) {
        lock(&self.shared.devices).clear();
        self.tracker.close();
        self.tracker.wait().await;
    }

    async fn open(&self, head: Head, ip: IpAddr, id: u64) {
        let limits = &self.shared.limits;
        let room = Room::new(limits.connection_bytes);
        // As many messages as there can be room for, and CLOSED.
        let (said, hear) = channel(room.messages() + 1);
        let cut = self.lost.token().child_token();
        let entry = Entry { said, room: room.clone(), hold: Hold::default(), cut: cut.clone() };
        let has_room = {
            let mut devices = lock(&self.shared.devices);
            if devices.contains_key(&id) {
                return;
            }
            let has_room = devices.len() < limits.connections;
            if has_room {
                devices.insert(id, entry);
            }
            has_room
        };
        if has_room {
            tracing::debug!(%ip, id, "a device has connected");
            let shared = Arc::clone(&self.shared);
            self.tracker.spawn(Stream { id, head, shared, said: hear, room, cut }.run());
        } else {
            tracing::warn!(%ip, limit = limits.connections, "too many devices: this one is disconnected");
            let _lost = self.shared.outbound.send(close(&head)).await;
        }
    }

    /// Queues bytes for a local connection, once there is room.
    async fn receive(&self, id: u64, payload: &[u8]) {
        // Bytes after the end of a local connection are dropped.
        let Some((said, room)) = self.entry(id, |entry| (entry.said.clone(), entry.room.clone())) else {
            return;
        };
        let Some(own) = self.room_of(id, &room, payload.len()).await else { return };
        let Some(all) = self.room_of_all(payload.len()).await else { return };
        // A copy, because the bytes are part of a buffer that would be kept as a whole.
        let _ended = said.try_send(Said::Bytes { bytes: Bytes::copy_from_slice(payload), _room: (own, all) });
    }

    /// Room in a local connection, whose device is disconnected if that takes too long.
    async fn room_of(&self, id: u64, room: &Room, bytes: usize) -> Option<room::Taken> {
        if let Some(taken) = room.try_take(bytes) {
            if room.is_half_free() {
                self.entry(id, |entry| entry.hold.end());
            }
            return Some(taken);
        }
        let deadline = {
            let mut devices = lock(&self.shared.devices);
            let is_alone = devices.len() <= 1;
            devices.get_mut(&id)?.hold.deadline(tokio::time::Instant::now(), is_alone, &self.shared.limits)
        };
        match room.take(bytes, deadline).await {
            Verdict::Taken(taken) => Some(taken),
            Verdict::Gone => None,
            Verdict::Late => {
                self.cut(id, "reads more slowly than its device sends and delays others, or reads nothing");
                None
            }
        }
    }

    /// Room in the total; if that takes too long, the device with the most waiting bytes is disconnected.
    async fn room_of_all(&self, bytes: usize) -> Option<room::Taken> {
        loop {
            let deadline = tokio::time::Instant::now() + self.shared.limits.patience;
            match self.all.take(bytes, deadline).await {
                Verdict::Taken(taken) => return Some(taken),
                Verdict::Gone => return None,
                Verdict::Late => {
                    let devices = lock(&self.shared.devices);
                    let fullest = devices.iter().max_by_key(|(_, entry)| entry.room.taken());
                    let fullest = fullest.map(|(id, _)| *id);
                    drop(devices);
                    self.cut(fullest?, "has the most waiting bytes, and there is no room for more");
                }
            }
        }
    }

    fn cut(&self, id: u64, problem: &str) {
        tracing::warn!(target = %self.shared.target, id, "a local connection {problem}: its device is disconnected");
        let _gone = self.entry(id, |entry| entry.cut.cancel());
    }

    fn entry<T>(&self, id: u64, look: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        lock(&self.shared.devices).get_mut(&id).map(look)
    }
}
