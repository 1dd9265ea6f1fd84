//! Errors of a log, with what to do about them.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the data folder.
    #[error(
        "the data folder {} is in use by {}; stop that process or choose another data folder",
        folder.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The data folder.
        folder: PathBuf,
        /// The process that uses it, if known.
        pid: Option<u32>,
    },
    /// A file of the log is damaged.
    #[error(
        "the log file {} is damaged at byte {offset}: {what}; {loss} cannot be read. Nothing was changed. Restore the \
         data folder from a backup, or continue with the records up to {}, without any later ones, with \
         `sortie up --accept-loss`",
        file.display(),
        loss.kept()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
        /// The lost records.
        loss: Loss,
    },
    /// Files of the log are missing.
    #[error(
        "the log in {} is incomplete: {loss} {}. Nothing was changed. Restore the missing files from a backup, or \
         continue with the records up to {}, without any later ones, with `sortie up --accept-loss`",
        folder.display(),
        hole(loss, before.as_deref(), *foreign),
        loss.kept()
    )]
    Missing {
        /// The data folder.
        folder: PathBuf,
        /// The file after the gap, if there is one.
        before: Option<PathBuf>,
        /// Whether that file has the next records, but does not belong to the file before it.
        foreign: bool,
        /// The lost records.
        loss: Loss,
    },
    /// The log is older than a witness says.
    #[error(
        "the log in {} is older than it was: it ends with record {}, but {} says that it went on: {loss} {} missing, \
         as if an older copy of its files had been put back. Nothing was changed. Put the newest files back, or \
         continue with the records up to {}, without any later ones, with `sortie up --accept-loss`",
        folder.display(),
        loss.kept(),
        witness.display(),
        loss.be(),
        loss.kept()
    )]
    RolledBack {
        /// The data folder of the log.
        folder: PathBuf,
        /// The file that knows of later records.
        witness: PathBuf,
        /// The lost records.
        loss: Loss,
    },
    /// The file that records the log's end is missing or damaged.
    #[error(
        "{} is missing or damaged. It records where the log ends, so nobody can tell whether records after {last_seq} \
         are missing. Restore it from a backup together with the log, or continue with the existing records with \
         `sortie up --accept-loss`",
        file.display()
    )]
    NoEnd {
        /// The file.
        file: PathBuf,
        /// The last record that is there.
        last_seq: u64,
    },
    /// There is no log, but there was one.
    #[error(
        "{} has no log, although it had one. Nothing was changed. Restore the folders `log` and `snapshots` and the \
         file `end` from a backup, or start with an empty log with `sortie up --accept-loss`",
        folder.display()
    )]
    Gone {
        /// The data folder.
        folder: PathBuf,
    },
    /// The snapshots could not be read.
    #[error(transparent)]
    Snapshot(SnapshotError),
    /// The file has a format version that this program does not know.
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
    /// The system refused an operation.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Acknowledged records that are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The first of them.
    pub from: u64,
    /// The last one, if known.
    pub to: Option<u64>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to {
            Some(_) if self.is_one() => write!(f, "record {}", self.from),
            Some(to) => write!(f, "records {} to {to}", self.from),
            None => write!(f, "the records from {} on", self.from),
        }
    }
}

impl Loss {
    /// The last record that is left.
    const fn kept(self) -> u64 {
        self.from - 1
    }

    fn is_one(self) -> bool {
        self.to.is_some_and(|to| to <= self.from)
    }

    /// The verb that agrees with it.
    fn be(self) -> &'static str {
        if self.is_one() { "is" } else { "are" }
    }
}

fn hole(loss: &Loss, before: Option<&Path>, foreign: bool) -> String {
    let be = loss.be();
    match before {
        Some(file) if foreign => {
            let those = if loss.is_one() { "the one that belongs" } else { "those that belong" };
            format!("{be} not {those} here: {} was not written after the file before it", file.display())
        }
        Some(file) => format!("{be} missing before {}", file.display()),
        None => format!("{be} missing at its end"),
    }
}

/// Why a batch did not become durable.
#[derive(Debug, thiserror::Error)]
#[error("the log did not take the records: {kind}")]
pub struct AppendError {
    /// What kind of failure it was.
    pub kind: AppendErrorKind,
    /// The system's error, if there was one.
    pub source: Option<io::Error>,
}

/// What kind of failure an [`AppendError`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AppendErrorKind {
    /// No space is left, or the quota is used up. Appends work again once there is space.
    #[error("the disk is full")]
    DiskFull,
    /// Another disk error.
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
            // The last one is for a limit on file sizes (`ulimit -f`).
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
    /// The record was removed; the log begins later.
    #[error("record {asked} is no longer kept; the earliest is {earliest}")]
    Gone {
        /// The requested record.
        asked: u64,
        /// The oldest record.
        earliest: u64,
    },
    /// A file changed while the log was open.
    #[error("the log file {} is damaged at byte {offset}", file.display())]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
    },
    /// The system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a snapshot could not be saved or listed: an operation failed, or the state cannot be stored.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct SnapshotError {
    /// The operation.
    pub doing: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's error.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missing_record_is_spoken_of_as_one() {
        let said = |from, to, foreign| {
            let before = Some("2.log".into()).filter(|_| foreign);
            let loss = Loss { from, to };
            OpenError::Missing { folder: "/srv".into(), before, foreign, loss }.to_string()
        };
        for (from, to, foreign, wanted) in [
            (1, Some(1), false, ": record 1 is missing at its end."),
            (1, Some(2), false, ": records 1 to 2 are missing at its end."),
            (7, None, false, ": the records from 7 on are missing at its end."),
            (7, Some(7), true, ": record 7 is not the one that belongs here: 2.log was not"),
            (7, Some(9), true, ": records 7 to 9 are not those that belong here: 2.log was not"),
        ] {
            let said = said(from, to, foreign);
            assert!(said.contains(wanted), "{said}");
        }
        let loss = Loss { from: 4, to: Some(4) };
        let older = OpenError::RolledBack { folder: "/srv".into(), witness: "/w".into(), loss }.to_string();
        assert!(older.contains("it ends with record 3") && older.contains("record 4 is missing"), "{older}");
    }
}
