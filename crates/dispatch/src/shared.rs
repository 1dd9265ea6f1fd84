//! What all ports share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::gather::Gather;
use crate::lock;
use crate::options::{DispatchOptions, Limits};
use crate::spaces::Spaces;

/// A device that has shut its sending side.
pub(crate) trait HalfClosed: Send + Sync {
    /// Ends the connection once everything is written.
    fn close(&self);
}

/// State that all ports share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) only_to_peers_that_spoke: bool,
    pub(crate) gather: Gather,
    /// Bytes that wait for drivers.
    pub(crate) queued: Arc<Budget>,
    /// Bytes that wait for devices.
    pub(crate) backlog: Budget,
    pub(crate) tracker: TaskTracker,
    /// Read buffers for what drivers send.
    pub(crate) spaces: Arc<Spaces>,
    places: Arc<Semaphore>,
    pub(crate) turned_away: AtomicU64,
    ids: AtomicU64,
    /// Devices that have shut their sending side, longest-waiting first.
    half_closed: Mutex<VecDeque<Weak<dyn HalfClosed>>>,
}

impl Shared {
    pub(crate) fn new(options: &DispatchOptions) -> Self {
        let limits = options.limits.clone();
        Self {
            only_to_peers_that_spoke: options.only_to_peers_that_spoke,
            gather: Gather::default(),
            queued: Arc::new(Budget::new(limits.queue_bytes)),
            backlog: Budget::new(limits.backlog_bytes),
            tracker: TaskTracker::new(),
            spaces: Arc::default(),
            places: Arc::new(Semaphore::new(limits.devices)),
            turned_away: AtomicU64::new(0),
            ids: AtomicU64::new(1),
            half_closed: Mutex::default(),
            limits,
        }
    }

    /// Numbers are never reused.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn place_for_device(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok();
        if place.is_none() {
            self.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Registers a device that may still be waiting for an answer. If there are too many, disconnects the one that has
    /// waited longest.
    pub(crate) fn await_answers(&self, device: &Arc<impl HalfClosed + 'static>) {
        let mut waiting = lock(&self.half_closed);
        let device: Weak<dyn HalfClosed> = Arc::downgrade(device) as _;
        waiting.push_back(device);
        let mut let_go = Vec::new();
        while waiting.len() > self.limits.half_closed
            || waiting.front().is_some_and(|first| first.strong_count() == 0)
        {
            let_go.extend(waiting.pop_front().and_then(|device| device.upgrade()));
        }
        drop(waiting);
        for device in let_go {
            device.close();
        }
    }
}
