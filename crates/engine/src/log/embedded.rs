//! The embedded log, which needs only a folder: append-only segment files, one write and one sync per batch.
//!
//! Why not a database: the log is only ever appended to, read in order and cut at its old end. Plain files do that. A
//! key-value store does the same work through a tree or a journal of its own, and would hide what must be distinguished
//! at start: a torn batch after a power cut, which was never acknowledged, and damage in the middle, which must not be
//! skipped. `benches/log_append.rs` compares the two.
//!
//! ```text
//! <data>/lock                        held while the log is open
//! <data>/log/<first seq>.log         segments
//! <data>/end                         how far the log was acknowledged
//! <data>/snapshots/<seq>.snap        the newest snapshots
//! <data>/lost/                       files that a start set aside by --accept-loss
//! ```
//!
//! The promise: after a kill or a power failure every acknowledged record is there, and the rest is removed
//! automatically. Missing or swapped files and changed bytes are detected at the next start wherever they are, and
//! nothing is changed before an operator decides. The one exception, for the newest batches after a power cut, is in
//! `end.rs`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use sortie_domain::time::Timestamp;

use super::batch::Batch;
use super::disk::{Disk, SystemDisk, create_folder, sync_folder};
use super::end::{End, EndRecord, Witnesses};
use super::errors::{AppendError, AppendErrorKind, OpenError, ReadError};
use super::frame::{self, MAX_BATCH_BYTES};
use super::lock::FolderLock;
use super::recovery::{Findings, snapshot_failed};
use super::segment::{Frames, Seal, Segment};
use super::snapshots::Snapshots;
use super::{Log, LogReader, SnapshotStore};

/// A segment that has reached this size, in bytes, gets no further batch: 64 MiB.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// Segments that no kept snapshot needs are removed beyond this many bytes of log: 1 GiB.
pub const RETENTION_BYTES: u64 = 1 << 30;

/// A segment is extended by this many bytes at a time, 1 MiB: measured, a sync without a new file length takes two
/// thirds of the time.
const GROWTH_BYTES: u64 = 1 << 20;

/// Size of a probe's write, in bytes: enough to need a block of its own.
const PROBE_BYTES: usize = 8 << 10;

/// How an [`EmbeddedLog`] uses its disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// Size at which a segment is full, in bytes.
    pub segment_bytes: u64,
    /// Bytes of log to keep beyond what the snapshots need, for returning subscribers.
    pub retention_bytes: u64,
    /// Whether to continue, with a warning, if acknowledged records are missing or damaged.
    pub accept_loss: bool,
    /// Whether the folder is known to have had a log, so that finding none is a loss.
    pub expected: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            retention_bytes: RETENTION_BYTES,
            accept_loss: false,
            expected: false,
        }
    }
}

/// A log in a folder. Holds the folder's lock until it is dropped.
pub struct EmbeddedLog {
    folder: PathBuf,
    options: LogOptions,
    disk: Arc<dyn Disk>,
    /// The last segment, open for appending; `None` while there is none.
    tail: Option<File>,
    /// Length of the tail's file, including zeros at its end.
    tail_bytes: u64,
    /// A failed append may have left bytes after the durable ones; they must be removed before the next append.
    needs_cut: bool,
    frame: Vec<u8>,
    end: End,
    /// Files outside the log that record its end.
    witnesses: Witnesses,
    segments: Arc<Segments>,
    /// Disconnected files whose records a snapshot includes: removed with the next old segments.
    strays: Vec<PathBuf>,
    snapshots: Arc<Snapshots>,
    _lock: FolderLock,
}

/// The durable segments. Written by the log, read by every reader.
#[derive(Debug)]
struct Segments {
    list: RwLock<Vec<Segment>>,
    /// The last record if there is no segment.
    floor: u64,
}

impl EmbeddedLog {
    /// Opens or creates the log in the folder `data`. A torn batch at the end is removed, with a warning.
    ///
    /// # Errors
    /// [`OpenError`] if another process has the folder, the log is damaged, or the disk fails.
    pub fn open(data: &Path, options: LogOptions) -> Result<Self, OpenError> {
        Self::open_with(data, options, Vec::new(), Arc::new(SystemDisk))
    }

    /// [`EmbeddedLog::open`] with another [`Disk`].
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open_on(data: &Path, options: LogOptions, disk: Arc<dyn Disk>) -> Result<Self, OpenError> {
        Self::open_with(data, options, Vec::new(), disk)
    }

    /// [`EmbeddedLog::open`] with `witnesses`: files outside the log's own that also record its end, at most a tenth of
    /// a second late. A log that ends before that was replaced by an older copy. A witness is created if its folder
    /// exists; a witness that is missing or cannot be written is not an error.
    ///
    /// # Errors
    /// As [`EmbeddedLog::open`].
    pub fn open_witnessed(
        data: &Path,
        options: LogOptions,
        witnesses: Vec<PathBuf>,
    ) -> Result<Self, OpenError> {
        Self::open_with(data, options, witnesses, Arc::new(SystemDisk))
    }

    fn open_with(
        data: &Path,
        options: LogOptions,
        witnesses: Vec<PathBuf>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, OpenError> {
        let (folder, snapshot_folder) = (data.join("log"), data.join("snapshots"));
        for needed in [&folder, &snapshot_folder] {
            create_folder(needed).map_err(|source| failed("create", needed, source))?;
        }
        let lock = FolderLock::take(data)?;
        // A file created just before a power cut may have its bytes but not its name.
        for needed in [data, &folder] {
            sync_folder(needed).map_err(|source| failed("sync", needed, source))?;
        }
        let snapshots = Snapshots::new(snapshot_folder, Arc::clone(&disk));
        let path = data.join(super::end::FILE);
        let (mut end, found) = End::read(path.clone()).map_err(|source| failed("read", &path, source))?;
        let mut witnesses = Witnesses::read(witnesses);
        let findings = Findings::look(data, &folder, found, &snapshots, &witnesses)?;
        let expected = options.expected || witnesses.furthest().is_some();
        if findings.is_new()? && expected {
            let error = OpenError::Gone { folder: data.to_owned() };
            if !options.accept_loss {
                return Err(error);
            }
            tracing::warn!(folder = %data.display(), "starting with an empty log because of --accept-loss");
        }
        let recovered = findings.recover(options.accept_loss)?;
        snapshots.remove_unfinished().map_err(snapshot_failed)?;
        let tail = recovered.open_tail(&*disk)?;
        let time = end.record.time;
        let record = recovered.end(time);
        if let Err(error) = end.keep(record, &*disk) {
            // Not worth failing the start; the next segment needs it and retries.
            tracing::warn!(%error, "cannot record the log's end");
        }
        witnesses.begin(record, &*disk);
        Ok(Self {
            folder,
            options,
            disk,
            tail,
            tail_bytes: recovered.segments.last().map_or(0, |last| last.bytes),
            needs_cut: false,
            frame: Vec::new(),
            end,
            witnesses,
            segments: Arc::new(Segments { list: RwLock::new(recovered.segments), floor: recovered.floor }),
            strays: recovered.strays,
            snapshots: Arc::new(snapshots),
            _lock: lock,
        })
    }

    /// Removes the bytes after the durable part. After a failed append nothing can be appended until this works.
    fn cut_tail(&mut self) -> io::Result<()> {
        let (Some(file), Some(length)) = (&self.tail, self.segments.read().last().map(|last| last.bytes))
        else {
            return Ok(());
        };
        self.needs_cut = true;
        self.disk.resize(file, length)?;
        self.disk.sync(file)?;
        self.tail_bytes = length;
        self.needs_cut = false;
        Ok(())
    }

    /// Writes `bytes` after the durable ones and syncs. Removes them on failure.
    fn write_tail(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (Some(file), Some(at)) = (&self.tail, self.segments.read().last().map(|last| last.bytes)) else {
            return Err(io::Error::other("the log has no segment to append to"));
        };
        let end = at + bytes.len() as u64;
        if end > self.tail_bytes {
            let grown = end + GROWTH_BYTES;
            // If this fails, the write itself extends the file.
            self.tail_bytes = self.disk.resize(file, grown).map_or(end, |()| grown);
        }
        let written = self.disk.write(file, at, bytes).and_then(|()| self.disk.sync(file));
        if written.is_err()
            && let Err(error) = self.cut_tail()
        {
            tracing::error!(%error, "cannot remove a failed append; nothing can be appended until that works");
        }
        written
    }

    /// Ensures that the tail segment has room for a batch whose first record is `first_seq`.
    fn ready_tail(&mut self, first_seq: u64) -> io::Result<()> {
        if self.needs_cut {
            self.cut_tail()?;
        }
        let full = self.segments.read().last().is_none_or(|last| last.bytes >= self.options.segment_bytes);
        if full {
            // Only the last segment may be followed by zeros.
            self.cut_tail()?;
            // Durable before the segment: the invariant is that no chained segment exists without this file.
            self.end.ensure(&*self.disk)?;
            let before = self.segments.read().last().map_or_else(Seal::default, Segment::seal);
            let (created, file) =
                Segment::create(&self.folder, first_seq, draw_mark()?, before, &*self.disk)?;
            (self.tail, self.tail_bytes) = (Some(file), created.bytes);
            let end = EndRecord::of(&created, self.end.record.time);
            self.segments.write().push(created);
            if let Err(error) = self.end.keep(end, &*self.disk) {
                tracing::warn!(%error, "cannot sync the file that records the log's end");
            }
        }
        Ok(())
    }
}

impl EmbeddedLog {
    /// Returns the number of removed files.
    fn remove_strays(&mut self) -> usize {
        let strays = std::mem::take(&mut self.strays);
        for path in &strays {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove an old log file");
            }
        }
        strays.len()
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        // Only to be tidy: opening does the same.
        let _ = self.cut_tail();
        let _ = self.end.keep(self.end.record, &*self.disk);
        self.witnesses.write(&*self.disk);
    }
}

impl Log for EmbeddedLog {
    fn append(&mut self, batch: &Batch) -> Result<(), AppendError> {
        if batch.is_empty() || batch.body().len() > MAX_BATCH_BYTES {
            return Err(AppendError::new(AppendErrorKind::BadSize));
        }
        if batch.first_seq() != self.segments.last_seq() + 1 {
            return Err(AppendError::new(AppendErrorKind::OutOfOrder));
        }
        self.ready_tail(batch.first_seq())?;
        let mark = self.segments.read().last().map_or(0, |last| last.mark);
        let mut bytes = std::mem::take(&mut self.frame);
        bytes.clear();
        let checksum = frame::encode(mark, batch, &mut bytes);
        let written = self.write_tail(&bytes);
        if written.is_ok()
            && let Some(last) = self.segments.write().last_mut()
        {
            last.grow(batch, bytes.len() as u64, checksum);
            let record = EndRecord::of(last, batch.last_time());
            self.end.note(record, &*self.disk);
            self.witnesses.note(record, &*self.disk);
        }
        self.frame = bytes;
        Ok(written?)
    }

    fn probe(&mut self) -> Result<(), AppendError> {
        self.ready_tail(self.segments.last_seq() + 1)?;
        // Zeros, because a power cut now would leave them at the end, and zeros are never a valid frame.
        self.write_tail(&[0; PROBE_BYTES])?;
        Ok(self.cut_tail()?)
    }

    fn retire(&mut self, snapshot_seq: u64) {
        let mut segments = self.segments.write();
        let mut total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut gone = 0;
        // The last one is never removed: its name gives the next sequence number.
        for segment in segments.iter().take(segments.len().saturating_sub(1)) {
            if total <= self.options.retention_bytes || segment.last_seq > snapshot_seq {
                break;
            }
            if let Err(error) = fs::remove_file(&segment.path) {
                tracing::warn!(path = %segment.path.display(), %error, "cannot remove an old log file");
                break;
            }
            total -= segment.bytes;
            gone += 1;
        }
        segments.drain(..gone);
        let needs_strays = segments.first().is_some_and(|first| first.first_seq - 1 > snapshot_seq);
        drop(segments);
        if !needs_strays {
            gone += self.remove_strays();
        }
        if gone > 0
            && let Err(error) = sync_folder(&self.folder)
        {
            tracing::warn!(%error, "cannot sync the log folder after removing old files");
        }
    }

    fn note_alive(&mut self, time: Timestamp) {
        // Unchecked: after a start in the future the clock may have gone back.
        let record = EndRecord { time, ..self.end.record };
        self.end.note(record, &*self.disk);
    }

    fn settle(&mut self) -> Option<Duration> {
        self.witnesses.settle(&*self.disk)
    }

    fn last_alive(&self) -> Timestamp {
        self.end.record.time
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.segments) as Arc<dyn LogReader>
    }

    fn snapshots(&self) -> Arc<dyn SnapshotStore> {
        Arc::clone(&self.snapshots) as Arc<dyn SnapshotStore>
    }
}

/// The part of a file that holds a record.
struct Span {
    path: PathBuf,
    mark: u32,
    at: u64,
    end: u64,
}

impl Segments {
    fn read(&self) -> RwLockReadGuard<'_, Vec<Segment>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Vec<Segment>> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The span with `seq`; `None` if it is not written yet.
    fn span(&self, seq: u64) -> Result<Option<Span>, ReadError> {
        let segments = self.read();
        let earliest = segments.first().map_or(self.floor + 1, |first| first.first_seq);
        if seq < earliest {
            return Err(ReadError::Gone { asked: seq, earliest });
        }
        let index = segments.partition_point(|segment| segment.last_seq < seq);
        Ok(segments.get(index).map(|segment| Span {
            path: segment.path.clone(),
            mark: segment.mark,
            at: segment.place_before(seq),
            end: segment.bytes,
        }))
    }
}

impl LogReader for Segments {
    fn earliest_seq(&self) -> u64 {
        self.read().first().map_or(self.floor + 1, |first| first.first_seq)
    }

    fn last_seq(&self) -> u64 {
        self.read().last().map_or(self.floor, |last| last.last_seq)
    }

    fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Batch>, ReadError> {
        let (mut next, mut bytes, mut batches) = (from, 0, Vec::new());
        while bytes < max_bytes {
            let Some(span) = self.span(next)? else { break };
            let fail = |source| ReadError::Io { path: span.path.clone(), source };
            let mut frames = match Frames::open(&span.path, span.mark, span.at, span.end) {
                Ok(frames) => frames,
                // Removed since we looked: then the list has been updated.
                Err(error) if error.kind() == io::ErrorKind::NotFound && next < self.earliest_seq() => {
                    continue;
                }
                Err(source) => return Err(fail(source)),
            };
            while bytes < max_bytes && !frames.is_at_end() {
                let damaged = ReadError::Damaged { file: span.path.clone(), offset: frames.at };
                let (batch, _) = frames.next().map_err(fail)?.ok_or(damaged)?;
                if batch.last_seq() >= next {
                    bytes += batch.body().len();
                    next = batch.last_seq() + 1;
                    batches.push(batch);
                }
            }
        }
        Ok(batches)
    }
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), source }
}

fn draw_mark() -> io::Result<u32> {
    let drawn = getrandom::u32().map_err(|error| io::Error::other(error.to_string()))?;
    // With zero, a run of zeros would begin like a frame.
    Ok(drawn.max(1))
}
