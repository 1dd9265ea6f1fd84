//! The log: decisions, in order and durable.
//!
//! A [`Log`] belongs to one machine thread, which alone appends. Others read through a [`LogReader`], which is shared
//! and never sees more than what is durable. The unit is the [`Batch`]: all records that one group commit makes
//! durable, together or not at all. It is the unit of reading too, so that an implementation keeps one framing and no
//! second index by record.
//!
//! Methods block. The machine thread has nothing else to do than wait for its commit, and readers run on threads that
//! may block.

mod batch;
mod disk;
mod embedded;
mod end;
mod errors;
mod frame;
mod late;
mod lock;
mod recovery;
mod segment;
mod snapshots;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::time::Timestamp;

pub use batch::{Batch, BatchRecords, RawRecord};
pub use disk::{Disk, SystemDisk, create_folder, open_own};
pub use embedded::{EmbeddedLog, LogOptions, RETENTION_BYTES, SEGMENT_BYTES};
pub use errors::{AppendError, AppendErrorKind, Loss, OpenError, ReadError, SnapshotError};
pub use frame::MAX_BATCH_BYTES;
pub use late::LateLog;
pub use lock::FolderLock;
pub use snapshots::{KEPT_SNAPSHOTS, MAX_PIECE_BYTES, Pieces};

/// Makes batches durable.
pub trait Log: Send {
    /// Makes `batch` durable atomically. When this returns an error, nothing of the batch is in the log, and the same
    /// sequence numbers may be appended again.
    ///
    /// # Errors
    /// [`AppendError`], whose kind says whether trying again later makes sense.
    fn append(&mut self, batch: &Batch) -> Result<(), AppendError>;

    /// Whether an append would succeed now. Called only after one has failed, so it may cost a write.
    ///
    /// # Errors
    /// [`AppendError`], as an append would return.
    fn probe(&mut self) -> Result<(), AppendError>;

    /// Removes old records, as far as the log's own limit asks for, but none after `snapshot_seq`.
    fn retire(&mut self, snapshot_seq: u64);

    /// Notes that the log's owner is alive at `time`, if the log can remember that at no cost.
    fn note_alive(&mut self, _time: Timestamp) {}

    /// Writes what appends leave pending, if it is time for that; otherwise returns how long it may wait. Called when
    /// there is nothing else to do.
    fn settle(&mut self) -> Option<Duration> {
        None
    }

    /// When the log's owner was last known to live, as far as the log remembers.
    fn last_alive(&self) -> Timestamp {
        Timestamp::ZERO
    }

    /// Reads what is durable.
    fn reader(&self) -> Arc<dyn LogReader>;

    /// Keeps the snapshots of this log.
    fn snapshots(&self) -> Arc<dyn SnapshotStore>;
}

/// Reads durable records, from any thread.
pub trait LogReader: Send + Sync {
    /// Sequence number of the oldest record still kept; that of the next one if there is none.
    fn earliest_seq(&self) -> u64;

    /// Sequence number of the last durable record; 0 for an empty log.
    fn last_seq(&self) -> u64;

    /// Batches from the one that holds `from`, whose first records may precede it, until about `max_bytes` are
    /// read. At least one, unless `from` is after the last record.
    ///
    /// # Errors
    /// [`ReadError::Gone`] if `from` is before [`LogReader::earliest_seq`], and any read failure.
    fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Batch>, ReadError>;
}

/// A machine's durable state at one sequence number of the log.
#[derive(Debug)]
pub struct StoredSnapshot {
    /// The last record it includes.
    pub seq: u64,
    /// The time of that record.
    pub time: Timestamp,
    /// The encoded state, in the pieces in which it was written.
    pub pieces: Pieces,
}

/// Takes one piece of a snapshot, of 1 to [`MAX_PIECE_BYTES`] bytes.
pub type PieceSink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Passes the pieces of a snapshot one by one to the sink, and stops at its first error.
pub type WritePieces<'a> = &'a mut dyn FnMut(PieceSink<'_>) -> io::Result<()>;

/// Keeps the newest snapshots, from any thread.
pub trait SnapshotStore: Send + Sync {
    /// Makes the snapshot up to record `seq`, which has the time `time`, durable and removes surplus ones. Returns the
    /// last record that no kept snapshot needs for a replay, so that the log may remove it: that of the oldest
    /// snapshot, or 0 while losing one unreadable snapshot would leave none.
    ///
    /// # Errors
    /// [`SnapshotError`]; the earlier ones are then untouched.
    fn save(&self, seq: u64, time: Timestamp, pieces: WritePieces<'_>) -> Result<u64, SnapshotError>;

    /// The newest undamaged snapshot whose sequence number is at most `at_most`.
    ///
    /// # Errors
    /// [`SnapshotError`] if the folder cannot be listed. A damaged snapshot is skipped with a warning.
    fn newest(&self, at_most: u64) -> Result<Option<StoredSnapshot>, SnapshotError>;
}
