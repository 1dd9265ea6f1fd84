//! A log that cannot be created yet, because there is no space for its folder.
//!
//! Until there is, it is an empty log on a full disk: it can be read, every append is refused, and each probe tries to
//! create it. So a machine that is configured for the first time on a full disk does not block the others, and starts
//! to work without a restart.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sortie_domain::time::Timestamp;

use super::batch::Batch;
use super::embedded::EmbeddedLog;
use super::errors::{AppendError, AppendErrorKind, OpenError, ReadError, SnapshotError};
use super::{Log, LogReader, SnapshotStore, StoredSnapshot, WritePieces};

/// Creates the log.
type Open = Box<dyn FnMut() -> Result<EmbeddedLog, OpenError> + Send>;

/// An empty log that is created as soon as there is space.
pub struct LateLog {
    open: Open,
    log: Option<EmbeddedLog>,
    reader: Arc<LateReader>,
}

impl LateLog {
    /// A log that `open` creates. Only for a log that never existed: until it is created it has no records.
    pub fn new(open: impl FnMut() -> Result<EmbeddedLog, OpenError> + Send + 'static) -> Self {
        Self { open: Box::new(open), log: None, reader: Arc::default() }
    }

    fn made(&mut self) -> Result<&mut EmbeddedLog, AppendError> {
        let log = match self.log.take() {
            Some(log) => log,
            None => {
                let log = (self.open)().map_err(cannot_append)?;
                // Only this code sets it.
                let _ = self.reader.0.set(log.reader());
                tracing::info!("there is space for the log now");
                log
            }
        };
        Ok(self.log.insert(log))
    }
}

impl fmt::Debug for LateLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LateLog").field("is_made", &self.log.is_some()).finish_non_exhaustive()
    }
}

fn cannot_append(error: OpenError) -> AppendError {
    match error {
        OpenError::Io { source, .. } | OpenError::Snapshot(SnapshotError { source, .. }) => source.into(),
        other => {
            let source = Some(io::Error::other(other.to_string()));
            AppendError { kind: AppendErrorKind::DiskFailed, source }
        }
    }
}

impl Log for LateLog {
    fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        self.made()?.append(batch)
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        self.made()?.probe()
    }

    fn retire(&mut self, snapshot_seq: u64) {
        self.log.iter_mut().for_each(|log| log.retire(snapshot_seq));
    }

    fn note_alive(&mut self, time: Timestamp) {
        self.log.iter_mut().for_each(|log| log.note_alive(time));
    }

    fn settle(&mut self) -> Option<Duration> {
        self.log.as_mut()?.settle()
    }

    fn last_alive(&self) -> Timestamp {
        self.log.as_ref().map_or(Timestamp::ZERO, Log::last_alive)
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.reader) as Arc<dyn LogReader>
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        self.log.as_ref().map_or_else(|| Arc::new(NoSnapshots) as _, Log::snapshots)
    }
}

/// Reads nothing until the log is created.
#[derive(Default)]
struct LateReader(OnceLock<Arc<dyn LogReader>>);

impl LogReader for LateReader {
    fn earliest_seq(&self) -> u64 {
        self.0.get().map_or(1, |reader| reader.earliest_seq())
    }

    fn last_seq(&self) -> u64 {
        self.0.get().map_or(0, |reader| reader.last_seq())
    }

    fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Batch>, ReadError> {
        self.0.get().map_or_else(|| Ok(Vec::new()), |reader| reader.read(from, max_bytes))
    }
}

struct NoSnapshots;

impl SnapshotStore for NoSnapshots {
    fn save(&self, _seq: u64, _time: Timestamp, _pieces: WritePieces<'_>) -> Result<u64, SnapshotError> {
        let source = io::ErrorKind::StorageFull.into();
        Err(SnapshotError { doing: "write", path: "a snapshot".into(), source })
    }

    fn newest(&self, _at_most: u64) -> Result<Option<StoredSnapshot>, SnapshotError> {
        Ok(None)
    }
}
