//! The folder that outlives the process.
//!
//! ```text
//! <data>/lock              held while a sidecar uses the folder
//! <data>/ids.json          generated server ids, by event source; synced
//! <data>/queue.json        calls that the backend has not received; synced
//! <data>/held.0, held.1    servers and matches, alternately; not synced
//! ```
//!
//! `queue.json` holds what game servers were promised. It is written only while the backend is away: to a temporary
//! file, synced, then renamed. The held state changes with every match, during a call that must not wait for a disk,
//! and is not synced: it survives a kill of the process, which is its purpose. A power cut ends the game servers too.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::held::Held;
use super::queue::Queue;
use super::{slots, stored};

/// Maximum size of a file, in bytes: 64 MiB.
const MAX_FILE_BYTES: u64 = 64 << 20;

const LOCK: &str = "lock";
const IDS: &str = "ids.json";
const HELD: [&str; 2] = ["held.0", "held.1"];
const QUEUE: &str = "queue.json";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another sidecar uses it.
    #[error("{folder} is in use by another sidecar: stop that one, or give each a folder of its own")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not contain what was written.
    #[error(
        "{path} is damaged: {problem}; repair it, or move it away to start without what it holds",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system's error.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Access to the disk, so that tests can make it fail.
pub trait Disk: Send + Sync {
    /// The whole file; `None` if there is none.
    ///
    /// # Errors
    /// The system's error.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file as a whole, or leaves it unchanged. After this returns, the content survives a power cut.
    ///
    /// # Errors
    /// The system's error.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Overwrites the file. After this returns, the content survives a kill of the process; a kill before that may
    /// leave anything.
    ///
    /// # Errors
    /// The system's error.
    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()>;
}

/// The system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 64 MiB"));
        }
        Ok(Some(content))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }

    fn overwrite(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        // Not truncated first, which would free its blocks only to allocate new ones.
        let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.set_len(content.len() as u64)
    }
}

/// What a folder contained when it was opened.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) ids: BTreeMap<String, String>,
    pub(super) held: Held,
    pub(super) queue: Queue,
}

/// A folder in use; or none, and then everything succeeds and nothing is kept.
#[derive(Clone)]
pub(super) struct Store(Option<Arc<Folder>>);

struct Folder {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Sequence number of the newest slot.
    sequence: AtomicU64,
    lock: File,
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing is not enough: a program that is just being started holds a copy of the descriptor until it runs.
        let _closing_unlocks_later = self.lock.unlock();
    }
}

impl Store {
    pub(super) const fn nowhere() -> Self {
        Self(None)
    }

    pub(super) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Kept), OpenError> {
        let failed = |doing, source| OpenError::Io { doing, path: path.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| failed("create", source))?;
        let lock = lock(path)?;
        tighten(path);
        let folder = Folder { path: path.to_owned(), disk, sequence: AtomicU64::new(0), lock };
        let kept = Kept {
            ids: folder.load(IDS, stored::read_ids)?,
            held: folder.load_held()?,
            queue: folder.load(QUEUE, stored::read_queue)?,
        };
        Ok((Self(Some(Arc::new(folder))), kept))
    }

    pub(super) fn save_ids(&self, ids: &BTreeMap<String, String>) -> io::Result<()> {
        self.replace(IDS, &stored::write_ids(ids))
    }

    /// Only one call at a time.
    pub(super) fn save_held(&self, document: &[u8]) -> io::Result<()> {
        let Some(folder) = &self.0 else { return Ok(()) };
        let sequence = folder.sequence.load(Ordering::Relaxed) + 1;
        let slot = HELD[usize::from(sequence % 2 == 1)];
        folder.disk.overwrite(&folder.path.join(slot), &slots::encode(sequence, document))?;
        // Only after it is written: otherwise the next write would overwrite the last good one.
        folder.sequence.store(sequence, Ordering::Relaxed);
        Ok(())
    }

    pub(super) const fn keeps(&self) -> bool {
        self.0.is_some()
    }

    /// In a thread of its own, because it waits for the disk.
    pub(super) async fn save_queue(&self, queue: &Queue) -> io::Result<()> {
        if !self.keeps() {
            return Ok(());
        }
        let (store, content) = (self.clone(), stored::write_queue(queue));
        let saved = tokio::task::spawn_blocking(move || store.replace(QUEUE, &content));
        saved.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        match &self.0 {
            Some(folder) => folder.disk.replace(&folder.path.join(name), content),
            None => Ok(()),
        }
    }
}

impl Folder {
    fn load<T: Default>(
        &self,
        name: &str,
        read: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, OpenError> {
        match self.read(name)? {
            Some(bytes) => {
                read(&bytes).map_err(|problem| OpenError::Damaged { path: self.path.join(name), problem })
            }
            None => Ok(T::default()),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.path.join(name);
        self.disk.read(&path).map_err(|source| OpenError::Io { doing: "read", path, source })
    }

    /// The newer intact slot. One damaged slot was being written at a kill; two are real damage.
    fn load_held(&self) -> Result<Held, OpenError> {
        let mut newest: Option<(u64, &str, Vec<u8>)> = None;
        let mut broken = 0;
        for name in HELD {
            let Some(content) = self.read(name)?.filter(|content| !content.is_empty()) else { continue };
            match slots::decode(&content) {
                Some((sequence, document)) if newest.as_ref().is_none_or(|(last, ..)| *last < sequence) => {
                    newest = Some((sequence, name, document.to_vec()));
                }
                Some(_) => {}
                None => broken += 1,
            }
        }
        let damaged = |name, problem| OpenError::Damaged { path: self.path.join(name), problem };
        match newest {
            Some((sequence, name, document)) => {
                self.sequence.store(sequence, Ordering::Relaxed);
                stored::read_held(&document).map_err(|problem| damaged(name, problem))
            }
            None if broken == HELD.len() => {
                let [first, second] = HELD;
                Err(damaged(first, format!("neither it nor {second} is complete")))
            }
            None => Ok(Held::default()),
        }
    }
}

/// Removes group and other permissions of the folder, as left by an earlier version or a umask. A folder that contains
/// other files keeps its mode.
fn tighten(folder: &Path) {
    let ours = [LOCK, IDS, HELD[0], HELD[1], QUEUE];
    let is_open = |path: &Path| {
        fs::symlink_metadata(path).is_ok_and(|found| !found.is_symlink() && found.mode() & 0o077 != 0)
    };
    let close = |path: &Path, mode| {
        if is_open(path) { fs::set_permissions(path, Permissions::from_mode(mode)) } else { Ok(()) }
    };
    let entries = fs::read_dir(folder)
        .map(|entries| entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>());
    let only_ours = entries.is_ok_and(|names| names.iter().all(|name| ours.iter().any(|our| *name == **our)));
    let files = ours.iter().map(|name| close(&folder.join(name), 0o600));
    let folder_itself = only_ours.then(|| close(folder, 0o700));
    for result in files.chain(folder_itself) {
        if let Err(error) = result {
            tracing::warn!(folder = %folder.display(), %error, "other users may read files of the data folder");
        }
    }
}

/// A system lock on an open file, so that a kill leaves none behind.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let failed = |source| OpenError::Io { doing: "lock", path: path.clone(), source };
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
