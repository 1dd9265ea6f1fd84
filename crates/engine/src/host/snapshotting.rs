//! When snapshots are taken, and by whom: the machine thread copies the state, another thread encodes and writes
//! it, so that calls wait for the copy alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use sortie_domain::time::Timestamp;

use super::Hosted;
use super::stats::Counters;
use crate::codec::Codec;
use crate::log::{Log, SnapshotError, SnapshotStore, StoredSnapshot};

/// What a writer brings back: the snapshot's sequence number and the last record that no snapshot needs.
type Written = Result<(u64, u64), SnapshotError>;

pub(super) struct Snapshotting {
    every_records: u64,
    /// The last record that a snapshot was taken of, whether or not it could be written.
    tried_seq: u64,
    /// The newest snapshot.
    written_seq: u64,
    /// The time of the last durable record.
    time: Timestamp,
    writer: Option<JoinHandle<Written>>,
}

impl Snapshotting {
    pub(super) fn new(every_records: u64, written_seq: u64, time: Timestamp) -> Self {
        Self { every_records: every_records.max(1), tried_seq: written_seq, written_seq, time, writer: None }
    }

    /// Takes note of the last durable record's time.
    pub(super) fn note(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// Begins a snapshot if it is time for one, and sees to one that is finished.
    pub(super) fn look<M: Hosted>(
        &mut self,
        machine: &M,
        codec: Codec<M>,
        log: &mut dyn Log,
        counters: &Counters,
    ) {
        if self.writer.as_ref().is_some_and(JoinHandle::is_finished) {
            self.join(log, counters);
        }
        let seq = machine.last_seq();
        if self.writer.is_some() || seq.saturating_sub(self.tried_seq) < self.every_records {
            return;
        }
        self.tried_seq = seq;
        let (snapshot, store, time) = (machine.snapshot(), log.snapshots(), self.time);
        let write = move || write(seq, time, (codec.encode_snapshot)(&snapshot), &store);
        match thread::Builder::new().name("sortie-snapshot".to_owned()).spawn(write) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => tracing::warn!(seq, %error, "cannot start a thread to write a snapshot"),
        }
    }

    /// Writes a last snapshot, unless the newest one has everything.
    pub(super) fn finish<M: Hosted>(
        &mut self,
        machine: &M,
        codec: Codec<M>,
        log: &mut dyn Log,
        counters: &Counters,
    ) {
        self.join(log, counters);
        let seq = machine.last_seq();
        if seq > self.written_seq {
            let payload = (codec.encode_snapshot)(&machine.snapshot());
            let written = write(seq, self.time, payload, &log.snapshots());
            self.take(written, log, counters);
        }
    }

    fn join(&mut self, log: &mut dyn Log, counters: &Counters) {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(written)) => self.take(written, log, counters),
            Some(Err(_)) => tracing::error!("the thread that wrote a snapshot panicked"),
            None => {}
        }
    }

    fn take(&mut self, written: Written, log: &mut dyn Log, counters: &Counters) {
        match written {
            Ok((seq, unneeded)) => {
                self.written_seq = seq;
                counters.snapshot_seq.store(seq, Ordering::Relaxed);
                log.retire(unneeded);
            }
            Err(error) => tracing::warn!(%error, "no snapshot was written; the next start replays more"),
        }
    }
}

impl Drop for Snapshotting {
    /// The data folder is given up only when nobody writes to it.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write(seq: u64, time: Timestamp, payload: Vec<u8>, store: &Arc<dyn SnapshotStore>) -> Written {
    store.save(&StoredSnapshot { seq, time, payload }).map(|unneeded| (seq, unneeded))
}
