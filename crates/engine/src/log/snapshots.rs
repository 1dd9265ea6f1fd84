//! Snapshots of the embedded log: `snapshots/<sequence number, 20 digits>.snap`.
//!
//! A snapshot is written under another name and then renamed, so it is never incomplete under its own. Two are kept, so
//! that one bad file costs a longer replay and not the data.
//!
//! A state may be of any size, so a file is written and read in pieces and never held as a whole. All numbers are
//! little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | magic |
//! | 4 | version: 2 |
//! | 4 | CRC-32 of the next two |
//! | 8 | sequence number |
//! | 8 | time |
//! | … | pieces: length (4), CRC-32 (4) begun with that of the piece before, bytes |
//! | 4 | 0 |
//! | 4 | CRC-32 of the next one, begun with that of the last piece |
//! | 8 | number of pieces |
//!
//! Version 1 had one payload without a length after the time, and a CRC-32 over both. It is still read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;
use sortie_domain::time::Timestamp;

use super::disk::{Disk, private, sync_folder};
use super::errors::SnapshotError;
use super::{SnapshotStore, StoredSnapshot, WritePieces};

/// Number of newest snapshots that are kept.
pub const KEPT_SNAPSHOTS: usize = 2;

/// Maximum size of a piece of a snapshot, in bytes: 64 MiB. A piece contains at least one whole record of the state.
pub const MAX_PIECE_BYTES: usize = 64 << 20;

/// Maximum size of a snapshot of version 1, in bytes, which is read as a whole: 1 GiB.
const MAX_WHOLE_BYTES: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"SORTSNAP";
const VERSION: u32 = 2;
/// The version of snapshots in one piece.
const WHOLE: u32 = 1;
/// Extension of the name of a snapshot that is being written.
const UNFINISHED: &str = "tmp";
const HEAD_BYTES: usize = 32;
const PIECE_HEAD_BYTES: usize = 8;
const READ_BUFFER_BYTES: usize = 128 << 10;

/// The snapshots of one data folder.
pub(super) struct Snapshots {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Snapshots {
    pub(super) fn new(folder: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { folder, disk }
    }

    /// Removes snapshots that were being written when a process ended: nothing else does, and each takes the space of a
    /// whole one.
    pub(super) fn remove_unfinished(&self) -> Result<(), SnapshotError> {
        for entry in fs::read_dir(&self.folder).map_err(|source| io_error("list", &self.folder, source))? {
            let path = entry.map_err(|source| io_error("list", &self.folder, source))?.path();
            if seq_of(&path.with_extension("snap")).is_some() && path.extension() == Some(UNFINISHED.as_ref())
            {
                fs::remove_file(&path).map_err(|source| io_error("remove", &path, source))?;
            }
        }
        Ok(())
    }

    /// Sequence numbers from the names, oldest first.
    pub(super) fn list(&self) -> Result<Vec<u64>, SnapshotError> {
        let fail = |source| io_error("list", &self.folder, source);
        let mut seqs = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            seqs.extend(seq_of(&entry.map_err(fail)?.path()));
        }
        seqs.sort_unstable();
        Ok(seqs)
    }

    /// The newest undamaged one; 0 if there is none.
    pub(super) fn newest_sound(&self) -> Result<u64, SnapshotError> {
        Ok(self.newest(u64::MAX)?.map_or(0, |snapshot| snapshot.seq))
    }

    pub(super) fn path(&self, seq: u64) -> PathBuf {
        self.folder.join(file_name(seq))
    }

    /// Removes all but the newest [`KEPT_SNAPSHOTS`]; returns the oldest that stays, or 0 while there are fewer.
    fn prune(&self) -> Result<u64, SnapshotError> {
        let seqs = self.list()?;
        let (old, kept) = seqs.split_at(seqs.len().saturating_sub(KEPT_SNAPSHOTS));
        for seq in old {
            if let Err(error) = fs::remove_file(self.path(*seq)) {
                tracing::warn!(seq, %error, "cannot remove an old snapshot");
            }
        }
        Ok(kept.first().copied().filter(|_| kept.len() == KEPT_SNAPSHOTS).unwrap_or(0))
    }

    fn write(&self, path: &Path, seq: u64, time: Timestamp, pieces: WritePieces<'_>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = private(options.write(true).create(true).truncate(true)).open(path)?;
        let mut writer = Writer { file: &file, disk: &*self.disk, at: 0, chain: 0, pieces: 0 };
        writer.put(&head(seq, time))?;
        pieces(&mut |piece| writer.piece(piece))?;
        writer.finish()?;
        self.disk.sync(&file)
    }
}

impl SnapshotStore for Snapshots {
    fn save(&self, seq: u64, time: Timestamp, pieces: WritePieces<'_>) -> Result<u64, SnapshotError> {
        let path = self.path(seq);
        let unfinished = path.with_extension(UNFINISHED);
        if let Err(source) = self.write(&unfinished, seq, time, pieces) {
            let _ = fs::remove_file(&unfinished);
            return Err(io_error("write", &unfinished, source));
        }
        if let Err(source) = fs::rename(&unfinished, &path) {
            let _ = fs::remove_file(&unfinished);
            return Err(io_error("rename", &unfinished, source));
        }
        sync_folder(&self.folder).map_err(|source| io_error("sync", &self.folder, source))?;
        self.prune()
    }

    fn newest(&self, at_most: u64) -> Result<Option<StoredSnapshot>, SnapshotError> {
        for seq in self.list()?.into_iter().rev().filter(|seq| *seq <= at_most) {
            let path = self.path(seq);
            match open_sound(&path, seq) {
                Ok(Some(snapshot)) => return Ok(Some(snapshot)),
                Ok(None) => tracing::warn!(path = %path.display(), "skipping a damaged snapshot"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "skipping an unreadable snapshot");
                }
            }
        }
        Ok(None)
    }
}

struct Writer<'a> {
    file: &'a File,
    disk: &'a dyn Disk,
    at: u64,
    chain: u32,
    pieces: u64,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(self.file, self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn piece(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length =
            u32::try_from(bytes.len()).ok().filter(|length| (1..=MAX_PIECE_BYTES as u32).contains(length));
        let Some(length) = length else {
            let text = format!(
                "a piece has {} bytes, which must be 1 to {MAX_PIECE_BYTES}: one record of the state is too large",
                bytes.len()
            );
            return Err(io::Error::other(text));
        };
        self.chain = chained(self.chain, bytes);
        self.pieces += 1;
        self.put(&piece_head(length, self.chain))?;
        self.put(bytes)
    }

    fn finish(&mut self) -> io::Result<()> {
        let count = self.pieces.to_le_bytes();
        self.put(&piece_head(0, chained(self.chain, &count)))?;
        self.put(&count)
    }
}

/// The checksum of a snapshot of version 1, and the bytes before the payload that it covers.
type Whole = (u32, [u8; 16]);

/// The pieces of a snapshot, in order. Ends after an error.
#[derive(Debug)]
pub struct Pieces {
    source: BufReader<File>,
    /// Remaining bytes of the file, which bound the memory that a damaged length can allocate.
    left: u64,
    chain: u32,
    read: u64,
    /// In version 1 there is one piece, with this checksum over `begin` and itself.
    whole: Option<Whole>,
    done: bool,
}

impl Pieces {
    fn take(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        if bytes > self.left {
            return Err(damaged());
        }
        self.left -= bytes;
        let mut piece = vec![0; bytes as usize];
        self.source.read_exact(&mut piece)?;
        Ok(piece)
    }

    fn next_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some((checksum, begin)) = self.whole {
            self.done = true;
            let piece = self.take(self.left)?;
            let mut hasher = Hasher::new();
            hasher.update(&begin);
            hasher.update(&piece);
            return if hasher.finalize() == checksum { Ok(Some(piece)) } else { Err(damaged()) };
        }
        let head = self.take(PIECE_HEAD_BYTES as u64)?;
        let (length, checksum) = head.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (length, checksum) =
            (u32::from_le_bytes(*length), checksum.first_chunk::<4>().ok_or_else(damaged)?);
        let checksum = u32::from_le_bytes(*checksum);
        if length as usize > MAX_PIECE_BYTES {
            return Err(damaged());
        }
        let piece = self.take(if length == 0 { 8 } else { u64::from(length) })?;
        self.chain = chained(self.chain, &piece);
        if self.chain != checksum {
            return Err(damaged());
        }
        if length > 0 {
            self.read += 1;
            return Ok(Some(piece));
        }
        let whole = piece == self.read.to_le_bytes() && self.left == 0;
        if whole { Ok(None) } else { Err(damaged()) }
    }
}

impl Iterator for Pieces {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        if self.done {
            return None;
        }
        let next = self.next_piece().transpose();
        self.done |= !matches!(next, Some(Ok(_)));
        next
    }
}

/// The snapshot at `path`, after reading all of it once; `None` if it is damaged.
fn open_sound(path: &Path, seq: u64) -> io::Result<Option<StoredSnapshot>> {
    let Some(snapshot) = open(path, seq)? else { return Ok(None) };
    for piece in snapshot.pieces {
        match piece {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    open(path, seq)
}

fn open(path: &Path, seq: u64) -> io::Result<Option<StoredSnapshot>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut source = BufReader::with_capacity(READ_BUFFER_BYTES, file);
    let mut bytes = [0; HEAD_BYTES];
    if length < HEAD_BYTES as u64 {
        return Ok(None);
    }
    source.read_exact(&mut bytes)?;
    let left = length - HEAD_BYTES as u64;
    let Some((_, time, whole)) = parse_head(&bytes).filter(|(found, ..)| *found == seq) else {
        return Ok(None);
    };
    if whole.is_some() && left > MAX_WHOLE_BYTES {
        return Ok(None);
    }
    let pieces = Pieces { source, left, chain: 0, read: 0, whole, done: false };
    Ok(Some(StoredSnapshot { seq, time, pieces }))
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the snapshot is damaged")
}

fn chained(chain: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(chain);
    hasher.update(bytes);
    hasher.finalize()
}

fn piece_head(length: u32, checksum: u32) -> [u8; PIECE_HEAD_BYTES] {
    let mut bytes = [0; PIECE_HEAD_BYTES];
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn head(seq: u64, time: Timestamp) -> Vec<u8> {
    let mut begin = Vec::with_capacity(16);
    begin.extend_from_slice(&seq.to_le_bytes());
    begin.extend_from_slice(&time.as_millis().to_le_bytes());
    let mut bytes = Vec::with_capacity(HEAD_BYTES);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&begin).to_le_bytes());
    bytes.extend_from_slice(&begin);
    bytes
}

/// Sequence number and time; in version 1 also the checksum and the bytes that it covers first.
fn parse_head(bytes: &[u8; HEAD_BYTES]) -> Option<(u64, Timestamp, Option<Whole>)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, begin) = rest.split_first_chunk::<4>()?;
    let (version, checksum) = (u32::from_le_bytes(*version), u32::from_le_bytes(*checksum));
    let begin = begin.first_chunk::<16>()?;
    let (seq, time) = begin.split_first_chunk::<8>()?;
    let (seq, time) = (u64::from_le_bytes(*seq), u64::from_le_bytes(*time.first_chunk::<8>()?));
    let whole = match version {
        WHOLE => Some((checksum, *begin)),
        VERSION if crc32fast::hash(begin) == checksum => None,
        _ => return None,
    };
    Some((seq, Timestamp::from_millis(time), whole))
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError { doing, path: path.to_owned(), source }
}

fn file_name(seq: u64) -> String {
    format!("{seq:020}.snap")
}

fn seq_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let seq = name.strip_suffix(".snap")?.parse().ok()?;
    (file_name(seq) == name).then_some(seq)
}
