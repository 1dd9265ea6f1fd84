//! What can go wrong with a log, for those who must tell people what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
    /// A file of the log is not what was written.
    #[error(
        "the log file {} is damaged at byte {offset}: {what}; {loss} cannot be read. Nothing was changed. Restore the data \
         folder from a backup, or go on with the records up to {}, and without any later one, with `sortie up \
         --accept-loss`",
        file.display(),
        loss.kept()
    )]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in it the damage begins, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
        /// The records that cannot be had.
        loss: Loss,
    },
    /// Files of the log are missing.
    #[error(
        "the log in {} is not whole: {loss} {}. Nothing was changed. Restore the missing files from a backup, or go \
         on with the records up to {}, and without any later one, with `sortie up --accept-loss`",
        folder.display(),
        hole(loss, before.as_deref(), *foreign),
        loss.kept()
    )]
    Missing {
        /// The data folder.
        folder: PathBuf,
        /// The file after the hole, where there is one.
        before: Option<PathBuf>,
        /// Whether the records of that file are the next ones, but do not belong to those before.
        foreign: bool,
        /// The records that cannot be had.
        loss: Loss,
    },
    /// The log is older than another file knows it.
    #[error(
        "the log in {} is older than it was: it ends with record {}, but {} says that it went on: {loss} {} missing, as if \
         an older copy of its files had been put back. Nothing was changed. Put the newest files back, or go on with the \
         records up to {}, and without any later one, with `sortie up --accept-loss`",
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
        /// The records that cannot be had.
        loss: Loss,
    },
    /// The file that says how far the log goes is missing or damaged.
    #[error(
        "{} is missing or damaged. It says how far the log goes, so nobody can tell whether records after {last_seq} \
         are missing. Restore it from a backup together with the log, or go on with the records that are there with \
         `sortie up --accept-loss`",
        file.display()
    )]
    NoEnd {
        /// The file.
        file: PathBuf,
        /// The last record that is there.
        last_seq: u64,
    },
    /// There is no log where there was one.
    #[error(
        "{} has no log, although it had one. Nothing was changed. Restore the folders `log` and `snapshots` and the file \
         `end` from a backup, or begin with an empty log with `sortie up --accept-loss`",
        folder.display()
    )]
    Gone {
        /// The data folder.
        folder: PathBuf,
    },
    /// The snapshots could not be looked at.
    #[error(transparent)]
    Snapshot(SnapshotError),
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

/// Records that were acknowledged and cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The first of them.
    pub from: u64,
    /// The last one, where that is known.
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

    /// The verb that goes with it.
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

/// Why a snapshot could not be kept or looked for: the system refused an operation, or the state cannot be stored.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct SnapshotError {
    /// What was tried.
    pub doing: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
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
