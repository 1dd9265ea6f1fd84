//! What can go wrong with a log, for those who must tell people what to do about it.

use std::io;
use std::path::PathBuf;

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the data folder.
    #[error(
        "the data folder {} is in use by {}; stop that process or choose another data folder",
        folder.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// The process that holds it, if it has said so.
        pid: Option<u32>,
    },
    /// Something in the middle of the log is not what was written.
    #[error(
        "the log file {} is damaged at byte {offset}: {what}. Records after that place are lost or out of \
         order, so nothing was changed. Restore the data folder from a backup",
        file.display()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the damage begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// The file was written by a version that this one does not know.
    #[error(
        "{} has format version {version}, this program reads version {known}; run the program that wrote it",
        file.display()
    )]
    UnknownVersion {
        /// The file.
        file: PathBuf,
        /// Its format version.
        version: u32,
        /// The version known here.
        known: u32,
    },
    /// A segment is missing or is there twice.
    #[error(
        "the log file {} begins with record {found}, but record {expected} should come next; restore the \
         missing log files from a backup",
        file.display()
    )]
    Discontinuous {
        /// The later file.
        file: PathBuf,
        /// The record it begins with.
        found: u64,
        /// The record it should begin with.
        expected: u64,
    },
    /// A snapshot includes records that the log does not have.
    #[error(
        "the log in {} ends with record {last_seq}, but there is a snapshot at record {snapshot_seq}: the end \
         of the log is lost. Restore the data folder from a backup, or remove that snapshot to go on without \
         those records",
        folder.display()
    )]
    BehindSnapshot {
        /// The data folder.
        folder: PathBuf,
        /// The last record of the log.
        last_seq: u64,
        /// The last record in the newest snapshot.
        snapshot_seq: u64,
    },
    /// The system refused an operation.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a batch did not become durable.
#[derive(Debug, thiserror::Error)]
#[error("the log did not take the records: {kind}")]
pub struct AppendError {
    /// What kind of failure it was.
    pub kind: AppendErrorKind,
    /// What the system said, if it was asked.
    pub source: Option<io::Error>,
}

/// What kind of failure an [`AppendError`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendErrorKind {
    /// No space is left, or the quota is used up. Works again once there is space.
    #[error("the disk is full")]
    DiskFull,
    /// The disk refused otherwise.
    #[error("the disk failed")]
    DiskFailed,
    /// The batch is larger than [`MAX_BATCH_BYTES`](super::MAX_BATCH_BYTES), or empty.
    #[error("the batch has no records or is too large")]
    BadSize,
    /// The batch does not follow the last record.
    #[error("the records do not follow the last one")]
    OutOfOrder,
}

impl AppendError {
    pub(super) fn new(kind: AppendErrorKind) -> Self {
        Self { kind, source: None }
    }
}

impl From<io::Error> for AppendError {
    fn from(source: io::Error) -> Self {
        let kind = match source.kind() {
            // The last where a process may not write larger files (`ulimit -f`).
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                AppendErrorKind::DiskFull
            }
            _ => AppendErrorKind::DiskFailed,
        };
        Self { kind, source: Some(source) }
    }
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The record was given up; the log begins later.
    #[error("record {asked} is no longer kept; the earliest is {earliest}")]
    Gone {
        /// The record asked for.
        asked: u64,
        /// The oldest one there is.
        earliest: u64,
    },
    /// A file changed under us.
    #[error("the log file {} is damaged at byte {offset}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a snapshot could not be kept or looked for.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is larger than [`MAX_SNAPSHOT_BYTES`](super::MAX_SNAPSHOT_BYTES).
    #[error("a snapshot of {bytes} bytes is too large, the limit is {max} bytes", max = super::MAX_SNAPSHOT_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The system refused an operation.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
