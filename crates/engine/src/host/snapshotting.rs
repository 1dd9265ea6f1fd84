//! Takes snapshots: the machine thread copies the state, another thread encodes and writes it, so that calls wait only
//! for the copy.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sortie_domain::time::Timestamp;

use super::Hosted;
use super::stats::Counters;
use crate::codec::Codec;
use crate::log::{Log, SnapshotError, SnapshotStore};

/// Delay before the next attempt after a failure, unless enough new records come earlier.
const RETRY: Duration = Duration::from_secs(60);

/// A writer's result: the snapshot's sequence number and time, and the last record that no snapshot needs.
type Written = Result<(u64, Timestamp, u64), SnapshotError>;

pub(super) struct Snapshotting {
    every_records: u64,
    /// The last record that a snapshot was taken of, whether or not it could be written.
    tried_seq: u64,
    /// The newest snapshot.
    written_seq: u64,
    /// The time of the last durable record.
    time: Timestamp,
    writer: Option<JoinHandle<Written>>,
    /// When the last snapshot could not be written.
    failed: Option<Instant>,
}

impl Snapshotting {
    pub(super) fn new(every_records: u64, written_seq: u64, time: Timestamp) -> Self {
        Self {
            every_records: every_records.max(1),
            tried_seq: written_seq,
            written_seq,
            time,
            writer: None,
            failed: None,
        }
    }

    /// Notes the last durable record's time.
    pub(super) fn note(&mut self, time: Timestamp) {
        self.time = time;
    }

    /// Starts a snapshot if it is time for one, and handles a finished one.
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
        let again = self.failed.is_some_and(|failed| failed.elapsed() >= RETRY) && seq > self.written_seq;
        let due = again || seq.saturating_sub(self.tried_seq) >= self.every_records;
        if self.writer.is_some() || !due {
            return;
        }
        self.tried_seq = seq;
        let (snapshot, store, time) = (machine.snapshot(), log.snapshots(), self.time);
        let write = move || write(seq, time, codec, &snapshot, &*store);
        match thread::Builder::new().name("sortie-snapshot".to_owned()).spawn(write) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => self.fail(format!("cannot start a thread: {error}"), counters),
        }
    }

    /// Writes a last snapshot, unless the newest one includes every record.
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
            let written = write(seq, self.time, codec, &machine.snapshot(), &*log.snapshots());
            self.take(written, log, counters);
        }
    }

    fn join(&mut self, log: &mut dyn Log, counters: &Counters) {
        match self.writer.take().map(JoinHandle::join) {
            Some(Ok(written)) => self.take(written, log, counters),
            Some(Err(_)) => self.fail("the thread that wrote it panicked".to_owned(), counters),
            None => {}
        }
    }

    fn take(&mut self, written: Written, log: &mut dyn Log, counters: &Counters) {
        match written {
            Ok((seq, time, unneeded)) => {
                (self.written_seq, self.failed) = (seq, None);
                counters.has_snapshot(seq, time);
                log.retire(unneeded);
            }
            Err(error) => {
                tracing::warn!(path = %error.path.display(), "cannot {} a snapshot", error.doing);
                self.fail(error.source.to_string(), counters);
            }
        }
    }

    fn fail(&mut self, problem: String, counters: &Counters) {
        tracing::warn!(problem, "no snapshot was written: the log grows, and the next start replays more");
        self.failed = Some(Instant::now());
        counters.lacks_snapshot(problem);
    }
}

impl Drop for Snapshotting {
    /// The data folder is released only when nobody writes to it.
    fn drop(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn write<M: Hosted>(
    seq: u64,
    time: Timestamp,
    codec: Codec<M>,
    snapshot: &M::Snapshot,
    store: &dyn SnapshotStore,
) -> Written {
    let unneeded = store.save(seq, time, &mut |sink| (codec.encode_snapshot)(snapshot, sink))?;
    Ok((seq, time, unneeded))
}
