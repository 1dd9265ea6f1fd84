//! One process per data folder.
//!
//! The lock is the operating system's, on an open file: it goes when the process goes, however that happens,
//! so there is no stale lock to clean up. The file itself stays; removing it would let two processes lock two
//! different files of the same name.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, Write};
use std::path::Path;

use super::errors::OpenError;

const LOCK_FILE: &str = "lock";

/// Holds a data folder until it is dropped.
#[derive(Debug)]
pub(super) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(super) fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK_FILE);
        let fail = |source| OpenError::Io { doing: "lock", path: path.clone(), source };
        // Not truncated when opened: until we hold the lock, the content is another process's.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fail)?;
        match file.try_lock() {
            Ok(()) => write_pid(&file).map_err(fail)?,
            Err(TryLockError::WouldBlock) => {
                return Err(OpenError::Locked { folder: folder.to_owned(), pid: read_pid(&path) });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        Ok(Self { _file: file })
    }
}

fn write_pid(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
