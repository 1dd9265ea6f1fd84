//! The folder that outlives the process.
//!
//! ```text
//! <data>/lock         held while a sidecar uses the folder
//! <data>/ids.json     server ids that were made, by event source; synced
//! <data>/held.json    servers and matches; not synced
//! <data>/queue.json   calls that the backend has not heard of; synced
//! ```
//!
//! Each file is replaced as a whole: written under another name, then renamed. `held.json` changes with every match, on
//! the way of a call that must not wait for a disk, and is not synced: it survives a kill of the process, which is what
//! it is for; a power cut ends the game servers too, and may leave it empty. `queue.json` holds what game servers were
//! promised; it is written only while the backend is away.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::held::Held;
use super::queue::Queue;
use super::stored;

/// Longest file that is read, in bytes: 64 MiB.
const MAX_FILE_BYTES: u64 = 64 << 20;

const LOCK: &str = "lock";
const IDS: &str = "ids.json";
const HELD: &str = "held.json";
const QUEUE: &str = "queue.json";

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another sidecar has it.
    #[error("{folder} is in use by another sidecar: stop that one, or give each a folder of its own")]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not what was written.
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
    /// The system said no.
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The way to the disk, so that tests can let it fail.
pub trait Disk: Send + Sync {
    /// The whole file; `None` if there is none.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file as a whole, or leaves it as it was. With `durable` it outlives a power cut once this returns,
    /// without it a kill of the process.
    ///
    /// # Errors
    /// What the system says.
    fn replace(&self, path: &Path, content: &[u8], durable: bool) -> io::Result<()>;
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

    fn replace(&self, path: &Path, content: &[u8], durable: bool) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) if durable => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// What a folder held when it was opened.
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
    _lock: File,
}

impl Store {
    pub(super) const fn nowhere() -> Self {
        Self(None)
    }

    pub(super) fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<(Self, Kept), OpenError> {
        let failed = |doing, source| OpenError::Io { doing, path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(|source| failed("create", source))?;
        let lock = lock(path)?;
        let folder = Folder { path: path.to_owned(), disk, _lock: lock };
        let kept = Kept {
            ids: folder.load(IDS, stored::read_ids)?,
            held: folder.load(HELD, |bytes| match bytes {
                // What a power cut leaves of a file that was renamed and not synced.
                [] => Ok(Held::default()),
                bytes => stored::read_held(bytes),
            })?,
            queue: folder.load(QUEUE, stored::read_queue)?,
        };
        Ok((Self(Some(Arc::new(folder))), kept))
    }

    pub(super) fn save_ids(&self, ids: &BTreeMap<String, String>) -> io::Result<()> {
        self.replace(IDS, &stored::write_ids(ids), true)
    }

    pub(super) fn save_held(&self, content: &[u8]) -> io::Result<()> {
        self.replace(HELD, content, false)
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
        let saved = tokio::task::spawn_blocking(move || store.replace(QUEUE, &content, true));
        saved.await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    fn replace(&self, name: &str, content: &[u8], durable: bool) -> io::Result<()> {
        match &self.0 {
            Some(folder) => folder.disk.replace(&folder.path.join(name), content, durable),
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
        let path = self.path.join(name);
        match self.disk.read(&path) {
            Ok(Some(bytes)) => read(&bytes).map_err(|problem| OpenError::Damaged { path, problem }),
            Ok(None) => Ok(T::default()),
            Err(source) => Err(OpenError::Io { doing: "read", path, source }),
        }
    }
}

/// The lock is the system's, on an open file, so that a kill leaves none behind.
fn lock(folder: &Path) -> Result<File, OpenError> {
    let path = folder.join(LOCK);
    let failed = |source| OpenError::Io { doing: "lock", path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
