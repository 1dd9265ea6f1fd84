//! The file `end`: how far the log was acknowledged, known from a second place.
//!
//! The log alone cannot tell that its newest files are missing, nor a batch that was never finished from one that was
//! acknowledged and has been damaged since. So the end is written down here after each commit, over what was there: one
//! small write, without a sync of its own, which would halve the rate of commits.
//!
//! What this promises:
//!
//! | after | `end` is |
//! |---|---|
//! | an ordered stop, or a process that was killed at any moment | exact: the system has the last write |
//! | a power cut or a crash of the system | at most as old as the system's own writing back (half a minute on Linux), and never older than the beginning of the newest segment, with which it is synced |
//!
//! In either case it is never ahead of what is durable, since it is written after the commit's sync. So what it names
//! and the log does not have was lost: by a hand, a copy that was incomplete, or a disk. After a power cut damage of
//! batches that it does not name yet is still found by its form (`frame::is_changed`), unless it looks like a torn
//! write: a batch whose bits rotted in the same half minute in which the power failed may be taken for one that was
//! broken off.
//!
//! Two slots are written in turn, each in a disk sector of its own, so that one of them is always whole. Each slot, all
//! numbers little-endian: magic (8), number of the write (8), first sequence number of the segment (8), its mark (4),
//! its chain (4), its length (8), last sequence number (8), time of the last sign of life (8), CRC-32 of all that (4).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use sortie_domain::time::Timestamp;

use super::disk::{Disk, private, sync_folder};
use super::segment::{Seal, Segment};

/// Its name in the data folder.
pub(super) const FILE: &str = "end";

const MAGIC: &[u8; 8] = b"SORTIEND";
const SLOT_BYTES: usize = 60;
/// Where the slots begin: in disk sectors of their own.
const SLOT_SPACING: u64 = 4096;
const SLOTS: u64 = 2;

/// The acknowledged end of a log.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct EndRecord {
    /// Of the last segment; that of no segment in a log without records.
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

/// What was found under the name.
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

/// The file, open for writing where it is there.
pub(super) struct End {
    folder: PathBuf,
    file: Option<File>,
    writes: u64,
    /// What was written last.
    pub(super) record: EndRecord,
    /// A write failed, which was said.
    failed: bool,
}

impl End {
    /// Reads what is there and changes nothing.
    pub(super) fn read(folder: PathBuf) -> io::Result<(Self, Found)> {
        let path = folder.join(FILE);
        let mut end = Self { folder, file: None, writes: 0, record: EndRecord::default(), failed: false };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((end, Found::Missing)),
            Err(error) => return Err(error),
        };
        let slots = (0..SLOTS).filter_map(|slot| parse(bytes.get((slot * SLOT_SPACING) as usize..)?));
        let Some((writes, record)) = slots.max_by_key(|(writes, _)| *writes) else {
            return Ok((end, Found::Damaged));
        };
        (end.writes, end.record) = (writes, record);
        end.file = Some(OpenOptions::new().read(true).write(true).open(&path)?);
        Ok((end, Found::Sound(record)))
    }

    /// Makes `record` durable, and the file where there is none.
    pub(super) fn keep(&mut self, record: EndRecord, disk: &dyn Disk) -> io::Result<()> {
        if self.file.is_some() {
            self.write(record, disk)?;
            return self.file.as_ref().map_or(Ok(()), |file| disk.sync(file));
        }
        let path = self.folder.join(FILE);
        let fresh = path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = private(options.read(true).write(true).create(true).truncate(true)).open(&fresh)?;
        // Both slots, so that no later write needs room.
        let mut bytes = vec![0; (SLOT_SPACING * (SLOTS - 1)) as usize];
        bytes.extend_from_slice(&encode(self.writes + 1, &record));
        disk.write(&file, 0, &bytes)?;
        disk.sync(&file)?;
        fs::rename(&fresh, &path)?;
        sync_folder(&self.folder)?;
        (self.file, self.record, self.writes) = (Some(file), record, 1);
        Ok(())
    }

    /// Makes the file where there is none.
    pub(super) fn ensure(&mut self, disk: &dyn Disk) -> io::Result<()> {
        if self.file.is_some() { Ok(()) } else { self.keep(self.record, disk) }
    }

    /// Takes note of a batch that was made durable. A failure only makes the check of the next start weaker.
    pub(super) fn note(&mut self, record: EndRecord, disk: &dyn Disk) {
        match self.write(record, disk) {
            Ok(()) => self.failed = false,
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!(%error, file = FILE, "cannot write down how far the log goes");
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, record: EndRecord, disk: &dyn Disk) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let writes = self.writes + 1;
        disk.write(file, (writes % SLOTS) * SLOT_SPACING, &encode(writes, &record))?;
        (self.writes, self.record) = (writes, record);
        Ok(())
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
