//! The file `end`: the acknowledged end of the log, recorded in a second place.
//!
//! From the log alone one cannot tell that its newest files are missing, nor tell an unfinished batch from one that was
//! acknowledged and damaged later. So after each commit the end is written here, overwriting the last one: one small
//! write, without a sync of its own, which would halve the commit rate.
//!
//! Guarantees:
//!
//! | after | `end` is |
//! |---|---|
//! | a graceful shutdown, or a kill at any moment | exact: the system has the last write |
//! | a power cut or a crash of the system | at most as old as the system's writeback interval (half a minute on Linux), and never older than the start of the newest segment, with which it is synced |
//!
//! It is never ahead of what is durable, since it is written after the commit's sync. So records up to it that the log
//! does not have were lost: by a person, an incomplete copy, or a disk. After a power cut, damage in batches that it
//! does not cover yet is still recognized (`frame::is_changed`), unless it looks like a torn write: a batch with bit
//! rot from the same half minute in which the power failed may be taken for a torn one.
//!
//! A folder that was replaced as a whole by an older copy is consistent with itself. So the same record is also kept
//! outside the log's own files ([`Witnesses`]). These lag behind by at most [`WITNESS_LAG`], and nothing ever waits or
//! fails because of them.
//!
//! Two slots, each in its own disk sector, are written alternately, so that one of them is always intact. Each slot,
//! all numbers little-endian: magic (8), number of the write (8), first sequence number of the segment (8), its mark
//! (4), its chain (4), its length (8), last sequence number (8), time of the last sign of life (8), CRC-32 of all that
//! (4).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sortie_domain::time::Timestamp;

use super::disk::{Disk, private, sync_folder};
use super::segment::{Seal, Segment};

/// Its name in the data folder.
pub(super) const FILE: &str = "end";
/// How far a witness may lag behind the log while batches are written.
const WITNESS_LAG: Duration = Duration::from_millis(100);

const MAGIC: &[u8; 8] = b"SORTIEND";
const SLOT_BYTES: usize = 60;
/// Distance between the slots: each has its own disk sector.
const SLOT_SPACING: u64 = 4096;
const SLOTS: u64 = 2;

/// The acknowledged end of a log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct EndRecord {
    /// The seal of the last segment; that of no segment in a log without records.
    pub(super) seal: Seal,
    pub(super) mark: u32,
    pub(super) last_seq: u64,
    /// When the log's owner was last known to live.
    pub(super) time: Timestamp,
}

impl EndRecord {
    /// The end of a log whose last segment is `last`.
    pub(super) const fn of(last: &Segment, time: Timestamp) -> Self {
        Self { seal: last.seal(), mark: last.mark, last_seq: last.last_seq, time }
    }
}

/// What was found at the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    Missing,
    Damaged,
    Sound(EndRecord),
}

impl Found {
    pub(super) const fn record(&self) -> Option<&EndRecord> {
        match self {
            Self::Sound(record) => Some(record),
            Self::Missing | Self::Damaged => None,
        }
    }
}

/// The file, open for writing if it exists.
pub(super) struct End {
    path: PathBuf,
    file: Option<File>,
    writes: u64,
    /// The last written record.
    pub(super) record: EndRecord,
    /// A write failed, which was logged.
    failed: bool,
}

impl End {
    /// Reads what is there without changing it.
    pub(super) fn read(path: PathBuf) -> io::Result<(Self, Found)> {
        let mut end = Self::absent(path);
        let bytes = match fs::read(&end.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((end, Found::Missing)),
            Err(error) => return Err(error),
        };
        let slots = (0..SLOTS).filter_map(|slot| parse(bytes.get((slot * SLOT_SPACING) as usize..)?));
        let Some((writes, record)) = slots.max_by_key(|(writes, _)| *writes) else {
            return Ok((end, Found::Damaged));
        };
        (end.writes, end.record) = (writes, record);
        end.file = Some(OpenOptions::new().read(true).write(true).open(&end.path)?);
        Ok((end, Found::Sound(record)))
    }

    /// The state without a file.
    fn absent(path: PathBuf) -> Self {
        Self { path, file: None, writes: 0, record: EndRecord::default(), failed: false }
    }

    /// Makes `record` durable; creates the file if it is missing.
    pub(super) fn keep(&mut self, record: EndRecord, disk: &dyn Disk) -> io::Result<()> {
        if self.file.is_some() {
            self.write(record, disk)?;
            return self.file.as_ref().map_or(Ok(()), |file| disk.sync(file));
        }
        let fresh = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = private(options.read(true).write(true).create(true).truncate(true)).open(&fresh)?;
        // Both slots, so that later writes need no more disk space.
        let mut bytes = vec![0; (SLOT_SPACING * (SLOTS - 1)) as usize];
        bytes.extend_from_slice(&encode(self.writes + 1, &record));
        disk.write(&file, 0, &bytes)?;
        disk.sync(&file)?;
        fs::rename(&fresh, &self.path)?;
        sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
        (self.file, self.record, self.writes) = (Some(file), record, 1);
        Ok(())
    }

    /// Creates the file if it is missing.
    pub(super) fn ensure(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if self.file.is_some() { Ok(()) } else { self.keep(self.record, disk) }
    }

    /// Records a batch that was made durable. A failure only weakens the check at the next start.
    pub(super) fn note(&mut self, record: EndRecord, disk: &dyn Disk) {
        match self.write(record, disk) {
            Ok(()) => self.failed = false,
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failed, true) {
            tracing::warn!(%error, file = %self.path.display(), "cannot record the log's end");
        }
    }

    /// Whether its folder exists: the other log's folder may be missing.
    fn has_folder(&self) -> bool {
        self.path.parent().is_some_and(Path::is_dir)
    }

    fn write(&mut self, record: EndRecord, disk: &dyn Disk) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let writes = self.writes + 1;
        disk.write(file, (writes % SLOTS) * SLOT_SPACING, &encode(writes, &record))?;
        (self.writes, self.record) = (writes, record);
        Ok(())
    }
}

/// The files outside the log's own that record its acknowledged end.
pub(super) struct Witnesses {
    files: Vec<End>,
    /// The last commit, if the files do not have it yet.
    behind: Option<EndRecord>,
    written: Option<Instant>,
}

impl Witnesses {
    /// Reads what is there without changing it. Unreadable files are ignored.
    pub(super) fn read(paths: Vec<PathBuf>) -> Self {
        let read = |path: PathBuf| match End::read(path.clone()) {
            Ok((end, Found::Sound(_) | Found::Missing)) => end,
            Ok((end, Found::Damaged)) => {
                tracing::warn!(file = %path.display(), "damaged: it cannot tell where the log ends");
                end
            }
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "cannot read where the log ends");
                End::absent(path)
            }
        };
        Self { files: paths.into_iter().map(read).collect(), behind: None, written: None }
    }

    /// The last record that any of them knows, and that file.
    pub(super) fn furthest(&self) -> Option<(u64, &Path)> {
        let known = self.files.iter().map(|end| (end.record.last_seq, end.path.as_path()));
        known.filter(|(seq, _)| *seq > 0).max_by_key(|(seq, _)| *seq)
    }

    /// Makes the log's current end durable, which may be before what the files said if that loss was accepted.
    pub(super) fn begin(&mut self, record: EndRecord, disk: &dyn Disk) {
        for end in self.files.iter_mut().filter(|end| end.has_folder()) {
            if let Err(error) = end.keep(record, disk) {
                end.complain(&error);
            }
        }
    }

    /// Notes a commit, and writes it unless the last write was just now.
    pub(super) fn note(&mut self, record: EndRecord, disk: &dyn Disk) {
        self.behind = Some(record);
        self.settle(disk);
    }

    /// Writes a pending record if it is time; otherwise returns how long it may wait.
    pub(super) fn settle(&mut self, disk: &dyn Disk) -> Option<Duration> {
        self.behind?;
        let wait =
            self.written.map_or(Duration::ZERO, |written| WITNESS_LAG.saturating_sub(written.elapsed()));
        if !wait.is_zero() {
            return Some(wait);
        }
        self.write(disk);
        None
    }

    /// Writes a pending record.
    pub(super) fn write(&mut self, disk: &dyn Disk) {
        let Some(record) = self.behind.take() else { return };
        for end in &mut self.files {
            if end.file.is_some() {
                end.note(record, disk);
            } else if end.has_folder()
                && let Err(error) = end.keep(record, disk)
            {
                end.complain(&error);
            }
        }
        self.written = Some(Instant::now());
    }
}

fn encode(writes: u64, record: &EndRecord) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    let mut rest = &mut bytes[..];
    let mut put = |field: &[u8]| {
        let (place, after) = std::mem::take(&mut rest).split_at_mut(field.len());
        place.copy_from_slice(field);
        rest = after;
    };
    put(MAGIC);
    put(&writes.to_le_bytes());
    put(&record.seal.first_seq.to_le_bytes());
    put(&record.mark.to_le_bytes());
    put(&record.seal.chain.to_le_bytes());
    put(&record.seal.bytes.to_le_bytes());
    put(&record.last_seq.to_le_bytes());
    put(&record.time.as_millis().to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..SLOT_BYTES - 4]);
    bytes[SLOT_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn parse(bytes: &[u8]) -> Option<(u64, EndRecord)> {
    let (content, checksum) = bytes.get(..SLOT_BYTES)?.split_last_chunk::<4>()?;
    let rest = content.strip_prefix(MAGIC)?;
    if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (writes, rest) = rest.split_first_chunk::<8>()?;
    let (first_seq, rest) = rest.split_first_chunk::<8>()?;
    let (mark, rest) = rest.split_first_chunk::<4>()?;
    let (chain, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (last_seq, rest) = rest.split_first_chunk::<8>()?;
    let time = rest.first_chunk::<8>()?;
    let seal = Seal {
        first_seq: u64::from_le_bytes(*first_seq),
        bytes: u64::from_le_bytes(*length),
        chain: u32::from_le_bytes(*chain),
    };
    let record = EndRecord {
        seal,
        mark: u32::from_le_bytes(*mark),
        last_seq: u64::from_le_bytes(*last_seq),
        time: Timestamp::from_millis(u64::from_le_bytes(*time)),
    };
    Some((u64::from_le_bytes(*writes), record))
}
