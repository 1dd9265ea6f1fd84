//! Snapshots of the embedded log: `snapshots/<sequence number, 20 digits>.snap`.
//!
//! A snapshot only saves time, so it is written to another name first and is never half there under its own.
//! Two are kept, so that one bad file costs a longer replay and not the data.
//!
//! A file is: magic (8), version (4), CRC-32 of what follows (4), sequence number (8), time (8), payload.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sortie_domain::time::Timestamp;

use super::disk::{Disk, private, sync_folder};
use super::errors::SnapshotError;
use super::{SnapshotStore, StoredSnapshot};

/// Snapshots kept, the newest ones.
pub const KEPT_SNAPSHOTS: usize = 2;

/// Largest snapshot, in bytes: 1 GiB.
pub const MAX_SNAPSHOT_BYTES: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"SORTSNAP";
const VERSION: u32 = 1;
/// Extension of the name of a snapshot that is being written.
const UNFINISHED: &str = "tmp";
const HEAD_BYTES: usize = 16;

/// The snapshots of one data folder.
pub(super) struct Snapshots {
    folder: PathBuf,
    disk: Arc<dyn Disk>,
}

impl Snapshots {
    pub(super) fn new(folder: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { folder, disk }
    }

    /// Removes snapshots that were being written when a process ended: nobody else would, and each takes the room of a
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

    /// Sequence numbers by name, oldest first.
    pub(super) fn list(&self) -> Result<Vec<u64>, SnapshotError> {
        let fail = |source| io_error("list", &self.folder, source);
        let mut seqs = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            seqs.extend(seq_of(&entry.map_err(fail)?.path()));
        }
        seqs.sort_unstable();
        Ok(seqs)
    }

    fn path(&self, seq: u64) -> PathBuf {
        self.folder.join(file_name(seq))
    }

    /// Gives up all but the newest [`KEPT_SNAPSHOTS`]; returns the oldest that stays, or 0 while there are fewer.
    fn prune(&self) -> Result<u64, SnapshotError> {
        let seqs = self.list()?;
        let (old, kept) = seqs.split_at(seqs.len().saturating_sub(KEPT_SNAPSHOTS));
        for seq in old {
            if let Err(error) = fs::remove_file(self.path(*seq)) {
                tracing::warn!(seq, %error, "cannot remove an old snapshot");
            }
        }
        Ok(if kept.len() < KEPT_SNAPSHOTS { 0 } else { kept[0] })
    }
}

impl SnapshotStore for Snapshots {
    fn save(&self, snapshot: &StoredSnapshot) -> Result<u64, SnapshotError> {
        if snapshot.payload.len() > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge { bytes: snapshot.payload.len() });
        }
        let path = self.path(snapshot.seq);
        let unfinished = path.with_extension(UNFINISHED);
        let mut options = OpenOptions::new();
        let created = private(options.write(true).create(true).truncate(true)).open(&unfinished);
        let written = created.and_then(|file| {
            self.disk.write(&file, 0, &encode(snapshot))?;
            self.disk.sync(&file)
        });
        if let Err(source) = written {
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
            match fs::read(&path).map(|bytes| decode(seq, &bytes)) {
                Ok(Some(snapshot)) => return Ok(Some(snapshot)),
                Ok(None) => tracing::warn!(path = %path.display(), "passing over a damaged snapshot"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "passing over an unreadable snapshot");
                }
            }
        }
        Ok(None)
    }
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Io { doing, path: path.to_owned(), source }
}

fn file_name(seq: u64) -> String {
    format!("{seq:020}.snap")
}

fn seq_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let seq = name.strip_suffix(".snap")?.parse().ok()?;
    (file_name(seq) == name).then_some(seq)
}

fn encode(snapshot: &StoredSnapshot) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + 16 + snapshot.payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&snapshot.seq.to_le_bytes());
    bytes.extend_from_slice(&snapshot.time.as_millis().to_le_bytes());
    bytes.extend_from_slice(&snapshot.payload);
    let checksum = crc32fast::hash(&bytes[HEAD_BYTES..]);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(seq: u64, bytes: &[u8]) -> Option<StoredSnapshot> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (checksum, content) = rest.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != VERSION || u32::from_le_bytes(*checksum) != crc32fast::hash(content) {
        return None;
    }
    let (found, rest) = content.split_first_chunk::<8>()?;
    let (time, payload) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*found) == seq).then(|| StoredSnapshot {
        seq,
        time: Timestamp::from_millis(u64::from_le_bytes(*time)),
        payload: payload.to_vec(),
    })
}
