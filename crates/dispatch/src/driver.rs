//! A driver: one websocket, for one port.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;

use crate::accept::AcceptList;
use crate::outbound::Outbound;
use crate::tokens::Allowance;

/// Traffic counters. Bytes are payload of devices, without headers.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) received_bytes: AtomicU64,
    pub(crate) received_messages: AtomicU64,
    pub(crate) written_bytes: AtomicU64,
    pub(crate) written_messages: AtomicU64,
    pub(crate) refused_messages: AtomicU64,
    pub(crate) unsent_messages: AtomicU64,
    pub(crate) dropped_messages: AtomicU64,
}

/// [`Counters`] at one point in time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, JsonSchema)]
#[schemars(rename = "DispatchCounted")]
pub struct Counted {
    /// Bytes received from devices, counted once per driver.
    pub received_bytes: u64,
    /// Messages (UDP: datagrams) received from devices, counted once per driver.
    pub received_messages: u64,
    /// Bytes that drivers sent to devices.
    pub written_bytes: u64,
    /// Messages (UDP: datagrams) that drivers sent to devices.
    pub written_messages: u64,
    /// Datagrams for a driver that were dropped to make room for newer ones, or because they exceeded the rate of its
    /// token.
    pub dropped_messages: u64,
    /// Messages of drivers to or about devices that they do not accept, or that have not sent anything yet.
    pub refused_messages: u64,
    /// Messages of drivers that the network or the device did not take.
    pub unsent_messages: u64,
}

impl Counters {
    pub(crate) fn received(&self, bytes: usize, messages: u32) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.received_messages.fetch_add(messages.into(), Ordering::Relaxed);
    }

    pub(crate) fn written(&self, bytes: usize, messages: usize) {
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.written_messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, messages: usize) {
        self.refused_messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn unsent(&self, messages: usize) {
        self.unsent_messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, messages: u64) {
        self.dropped_messages.fetch_add(messages, Ordering::Relaxed);
    }
}

impl Counted {
    pub(crate) fn add(&mut self, other: &Self) {
        self.received_bytes += other.received_bytes;
        self.received_messages += other.received_messages;
        self.written_bytes += other.written_bytes;
        self.written_messages += other.written_messages;
        self.dropped_messages += other.dropped_messages;
        self.refused_messages += other.refused_messages;
        self.unsent_messages += other.unsent_messages;
    }
}

/// A driver, from before its websocket is opened until it is closed.
pub(crate) struct Driver {
    pub(crate) id: u64,
    pub(crate) accept: AcceptList,
    pub(crate) outbound: Outbound,
    pub(crate) counters: Counters,
    /// What its token allows.
    pub(crate) allowance: Option<Arc<Allowance>>,
    start: Instant,
    /// When the driver was last heard from, in milliseconds since `start`.
    heard: AtomicU64,
    /// Its messages wait for a device, so that it is not being read.
    is_held: AtomicBool,
}

impl Driver {
    pub(crate) fn new(
        id: u64,
        accept: AcceptList,
        outbound: Outbound,
        allowance: Option<Arc<Allowance>>,
    ) -> Self {
        Self {
            id,
            accept,
            outbound,
            counters: Counters::default(),
            allowance,
            start: Instant::now(),
            heard: AtomicU64::new(0),
            is_held: AtomicBool::new(false),
        }
    }

    pub(crate) fn hear(&self) {
        self.heard.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long nothing has been heard from it while it was being read.
    pub(crate) fn silence(&self) -> Duration {
        if self.is_held.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        self.start.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }

    pub(crate) fn hold(&self, is_held: bool) {
        self.hear();
        self.is_held.store(is_held, Ordering::Relaxed);
    }

    pub(crate) fn counted(&self) -> Counted {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            received_bytes: read(&self.counters.received_bytes),
            received_messages: read(&self.counters.received_messages),
            written_bytes: read(&self.counters.written_bytes),
            written_messages: read(&self.counters.written_messages),
            dropped_messages: read(&self.counters.dropped_messages) + self.outbound.dropped(),
            refused_messages: read(&self.counters.refused_messages),
            unsent_messages: read(&self.counters.unsent_messages),
        }
    }
}
