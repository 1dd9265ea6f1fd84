//! Statistics for the operator, written by the machine thread and read by any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::time::Timestamp;

use super::handle::Unavailable;

/// A reading of an engine's statistics. Counts are since the process started.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    /// Whether commands are taken: false while the log refuses.
    pub accepting: bool,
    /// Why the log refuses, while it does.
    pub refused: Option<Unavailable>,
    /// The last durable record.
    pub last_seq: u64,
    /// The newest snapshot.
    pub snapshot_seq: u64,
    /// The time of the last record in it; [`Timestamp::ZERO`] while there is none.
    pub snapshot_time: Timestamp,
    /// Snapshots that could not be written.
    pub failed_snapshots: u64,
    /// Records made durable.
    pub records: u64,
    /// Group commits.
    pub batches: u64,
    /// Group commits that the log refused.
    pub failed_batches: u64,
    /// How long the last group commit took.
    pub last_append: Duration,
    /// Inputs waiting for the machine thread.
    pub queued: usize,
    /// Calls that the machine will answer later.
    pub kept_calls: usize,
    /// Effects whose outcome has not come back.
    pub pending_effects: usize,
}

/// The newest snapshot, and why the one after it failed.
#[derive(Clone, Default, Debug)]
struct SnapshotStatus {
    seq: u64,
    time: Timestamp,
    failures: u64,
    problem: Option<String>,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(super) accepting: AtomicBool,
    refused: Mutex<Option<Unavailable>>,
    pub(super) last_seq: AtomicU64,
    snapshot: Mutex<SnapshotStatus>,
    pub(super) records: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) failed_batches: AtomicU64,
    pub(super) last_append_nanos: AtomicU64,
    pub(super) kept_calls: AtomicUsize,
    pub(crate) pending_effects: AtomicUsize,
}

impl Counters {
    /// The log refuses records because of `why`, or accepts them again.
    pub(super) fn refuse(&self, why: Option<Unavailable>) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = why;
        self.accepting.store(why.is_none(), Ordering::Relaxed);
    }

    /// There is a snapshot up to record `seq`, which has the time `time`.
    pub(super) fn has_snapshot(&self, seq: u64, time: Timestamp) {
        let mut snapshot = self.snapshot();
        (snapshot.seq, snapshot.time, snapshot.problem) = (seq, time, None);
    }

    /// No snapshot could be written because of `problem`.
    pub(super) fn lacks_snapshot(&self, problem: String) {
        let mut snapshot = self.snapshot();
        snapshot.failures += 1;
        snapshot.problem = Some(problem);
    }

    /// Why the last snapshot could not be written.
    pub(super) fn snapshot_problem(&self) -> Option<String> {
        self.snapshot().problem.clone()
    }

    fn snapshot(&self) -> MutexGuard<'_, SnapshotStatus> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self, queued: usize) -> Stats {
        let SnapshotStatus { seq, time, failures, .. } = *self.snapshot();
        Stats {
            accepting: self.accepting.load(Ordering::Relaxed),
            refused: *self.refused.lock().unwrap_or_else(PoisonError::into_inner),
            last_seq: self.last_seq.load(Ordering::Relaxed),
            snapshot_seq: seq,
            snapshot_time: time,
            failed_snapshots: failures,
            records: self.records.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            failed_batches: self.failed_batches.load(Ordering::Relaxed),
            last_append: Duration::from_nanos(self.last_append_nanos.load(Ordering::Relaxed)),
            queued,
            kept_calls: self.kept_calls.load(Ordering::Relaxed),
            pending_effects: self.pending_effects.load(Ordering::Relaxed),
        }
    }
}
