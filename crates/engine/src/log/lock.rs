//! One process per data folder.
//!
//! The operating system holds the lock on an open file: it is released when the process ends, however that happens, so
//! there are no stale locks to clean up. The file itself stays; removing it would let two processes lock two different
//! files of the same name.
//!
//! If a process is killed while it starts a child, the child holds the lock for a moment: until its exec it has every
//! open file of its parent. So a lock counts as held only after a short wait.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::disk::open_own;
use super::errors::OpenError;

const LOCK_FILE: &str = "lock";
/// How long to wait for a lock that is held.
const PATIENCE: Duration = Duration::from_secs(2);

/// Holds a data folder until it is dropped.
#[derive(Debug)]
pub struct FolderLock {
    file: File,
}

impl FolderLock {
    /// Takes the folder. Blocks for up to two seconds if another process has it.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it, and any other error of the system.
    pub fn take(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(LOCK_FILE);
        let fail = |source| OpenError::Io { doing: "lock", path: path.clone(), source };
        // Not truncated when opened: until we hold the lock, the content is another process's.
        let file = open_own(&path).map_err(fail)?;
        let file = match file.try_lock() {
            Ok(()) => file,
            Err(TryLockError::WouldBlock) => wait_for(file)
                .map_err(fail)?
                .ok_or_else(|| OpenError::Locked { folder: folder.to_owned(), pid: read_pid(&path) })?,
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        };
        if let Err(error) = write_pid(&file) {
            // It only tells others which process has the folder.
            tracing::debug!(%error, "cannot record who has the data folder");
        }
        Ok(Self { file })
    }

    /// The file that is locked.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }
}

/// Waits for the lock in a thread of its own, because the system only offers a blocking wait. `None` if it is held for
/// too long; the thread then releases it as soon as it gets it.
fn wait_for(file: File) -> io::Result<Option<File>> {
    let (tell, told) = mpsc::sync_channel(1);
    let lock = move || {
        let _nobody_waits_any_more = tell.send(file.lock().map(|()| file));
    };
    thread::Builder::new().name("sortie-lock".to_owned()).spawn(lock)?;
    told.recv_timeout(PATIENCE).map_or(Ok(None), |locked| locked.map(Some))
}

fn write_pid(mut file: &File) -> io::Result<()> {
    // Overwrites the content, which needs no space on a full disk.
    let text = format!("{}\n", std::process::id());
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// On a full disk, freed space may be taken by others at once.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_pid_is_written_over_the_earlier_one_without_giving_up_its_room() {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let own = format!("{}\n", std::process::id());
        let mut file = File::from(memfd_create("lock", MemfdFlags::ALLOW_SEALING).unwrap());
        file.write_all("9".repeat(own.len()).as_bytes()).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
        write_pid(&file).unwrap();
        file.rewind().unwrap();
        assert_eq!(io::read_to_string(file).unwrap(), own);
    }

    #[test]
    fn a_lock_that_is_another_file_is_refused_and_that_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let (victim, lock) = (folder.path().join("victim"), data.join(LOCK_FILE));
        fs::create_dir(&data).unwrap();
        fs::write(&victim, "precious").unwrap();
        type Link = fn(&Path, &Path) -> io::Result<()>;
        let links: [(Link, &str); 2] = [
            (|victim, lock| std::os::unix::fs::symlink(victim, lock), "symbolic link, which is not followed"),
            (|victim, lock| fs::hard_link(victim, lock), "without other hard links"),
        ];
        for (link, wanted) in links {
            link(&victim, &lock).unwrap();
            let refused = FolderLock::take(&data).unwrap_err().to_string();
            assert!(refused.starts_with("cannot lock ") && refused.contains(wanted), "{refused}");
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            fs::remove_file(&lock).unwrap();
        }
        assert!(FolderLock::take(&data).is_ok());
    }
}
