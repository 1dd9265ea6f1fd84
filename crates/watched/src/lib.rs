//! A file that is reread when it changes: checked on each use, read only if it is different.
//!
//! Why not file notifications: they arrive some time after the change, through a queue that can overflow, and the old
//! content would stay in force until then. A check is one `stat`, measured at 0.4 µs of CPU time on a local disk, and
//! as soon as the file is replaced, the next use sees it. The check follows links, so it also notices a folder that is
//! swapped as a whole, as Kubernetes does with secrets.
//!
//! The stamp is taken together with the content, from the open file. So content that could not be read, for lack of a
//! descriptor or because the disk failed, is read again at the next use, and each use hears that the current content is
//! unknown ([`Look::Unreadable`]). Content that was read and is invalid is logged once and changes nothing: the last
//! good content stays in force until the file changes again ([`Look::Damaged`]).

use std::fmt;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::OFlags;

/// Why a file is unusable.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system cannot read it.
    #[error("cannot read {path}: {error}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Larger than is ever read.
    #[error("{path} has more than {max} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        max: u64,
    },
    /// Its content is invalid.
    #[error("{path} {problem}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
}

/// Makes a value of a file's bytes, or of `None` if there is no file.
type Parse<T> = dyn Fn(Option<&[u8]>) -> Result<T, String> + Send + Sync;

/// The current value of a file.
#[derive(Debug)]
pub enum Look<T> {
    /// The value of its content.
    Good(Arc<T>),
    /// Its content is invalid: the last good value stays in force.
    Damaged(Arc<T>, Arc<str>),
    /// It has changed, or may have, and cannot be read. The caller decides whether the last good value is still valid:
    /// it contains anything that has been removed from the file since.
    Unreadable(Arc<T>, Arc<str>),
}

impl<T> Look<T> {
    /// The last good value.
    #[must_use]
    pub fn last_good(self) -> Arc<T> {
        match self {
            Self::Good(value) | Self::Damaged(value, _) | Self::Unreadable(value, _) => value,
        }
    }
}

/// A file, as the value of its content.
pub struct Watched<T> {
    path: PathBuf,
    max: u64,
    parse: Box<Parse<T>>,
    last: RwLock<Last<T>>,
}

/// The last state of the file.
struct Last<T> {
    /// Of the content that was read; `None` while it cannot be read.
    stamp: Option<Stamp>,
    /// The last good value.
    value: Arc<T>,
    /// What is wrong with the current content.
    problem: Option<Arc<str>>,
}

impl<T> Last<T> {
    /// The value if the file still is as `stamp` says; `None` if it must be read.
    fn look(&self, stamp: Option<Stamp>) -> Option<Look<T>> {
        if stamp.is_none() || self.stamp != stamp {
            return None;
        }
        let value = Arc::clone(&self.value);
        Some(match &self.problem {
            None => Look::Good(value),
            Some(problem) => Look::Damaged(value, Arc::clone(problem)),
        })
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Distinguishes versions of a file. A replaced file has another inode; one that is overwritten has another time of its
/// last change, which nobody can set, unlike its size and the time of its modification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp(State);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    File { device: u64, inode: u64, size: u64, modified: (i64, i64), changed: (i64, i64) },
    Missing,
}

impl Stamp {
    const MISSING: Self = Self(State::Missing);

    fn of(found: &Metadata) -> Self {
        Self(State::File {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Of the file at `path`; `None` if the system does not say.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        match fs::metadata(path) {
            Ok(found) => Some(Self::of(&found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Self::MISSING),
            Err(_) => None,
        }
    }
}

impl<T> Watched<T> {
    /// Reads the file at `path`, of at most `max` bytes. `parse` receives `None` if there is no file; its error text
    /// continues a sentence that begins with the path.
    ///
    /// # Errors
    /// [`FileError`] if the file cannot be used now.
    pub fn open(
        path: PathBuf,
        max: u64,
        parse: impl Fn(Option<&[u8]>) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Self, FileError> {
        let (stamp, content) = read(&path, max)?;
        let value = Arc::new(parsed(&path, content, &parse)?);
        let last = Last { stamp: Some(stamp), value, problem: None };
        Ok(Self { path, max, parse: Box::new(parse), last: RwLock::new(last) })
    }

    /// The current value of the file.
    pub fn look(&self) -> Look<T> {
        {
            let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(look) = last.look(Stamp::at(&self.path)) {
                return look;
            }
        }
        let mut last = self.last.write().unwrap_or_else(PoisonError::into_inner);
        // Check again, because another caller may have read something newer.
        if let Some(look) = last.look(Stamp::at(&self.path)) {
            return look;
        }
        self.read_again(&mut last)
    }

    fn read_again(&self, last: &mut Last<T>) -> Look<T> {
        let (stamp, content) = match read(&self.path, self.max) {
            Ok(read) => read,
            Err(error) => {
                let problem: Arc<str> = error.to_string().into();
                if last.problem.as_ref() != Some(&problem) {
                    tracing::error!(%problem, "a file may have changed and cannot be read; retrying at each use");
                }
                (last.stamp, last.problem) = (None, Some(Arc::clone(&problem)));
                return Look::Unreadable(Arc::clone(&last.value), problem);
            }
        };
        last.stamp = Some(stamp);
        match parsed(&self.path, content, &*self.parse) {
            Ok(value) => {
                tracing::info!(path = %self.path.display(), "reloaded a changed file");
                (last.value, last.problem) = (Arc::new(value), None);
                Look::Good(Arc::clone(&last.value))
            }
            Err(error) => {
                tracing::error!(%error, "a changed file is invalid; its last good content stays in force");
                let problem: Arc<str> = error.to_string().into();
                last.problem = Some(Arc::clone(&problem));
                Look::Damaged(Arc::clone(&last.value), problem)
            }
        }
    }
}

/// A file's bytes, or [`FileError::TooLarge`]; `None` if there is no file.
pub type Content = Result<Option<Vec<u8>>, FileError>;

/// The content, and the stamp of the file that was read, taken before the first byte, so that a later change is
/// noticed. Anything but a regular file is unreadable: opening a pipe waits for its other end, and a device may never
/// end.
///
/// # Errors
/// [`FileError::Unreadable`]
pub fn read(path: &Path, max: u64) -> Result<(Stamp, Content), FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(nonblock).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Stamp::MISSING, Ok(None))),
        Err(error) => return Err(unreadable(error)),
    };
    let found = file.metadata().map_err(unreadable)?;
    if !found.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let stamp = Stamp::of(&found);
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > max {
        return Ok((stamp, Err(FileError::TooLarge { path: path.to_owned(), max })));
    }
    Ok((stamp, Ok(Some(bytes))))
}

fn parsed<T>(path: &Path, content: Content, parse: &Parse<T>) -> Result<T, FileError> {
    parse(content?.as_deref()).map_err(|problem| FileError::Content { path: path.to_owned(), problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: Option<&[u8]>) -> Result<u32, String> {
        let Some(bytes) = bytes else { return Ok(0) };
        str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| "is not a number".to_owned())
    }

    /// The way all our files are replaced.
    fn replace(path: &Path, text: &str) {
        let fresh = path.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, path).unwrap();
    }

    #[test]
    fn the_newest_good_content_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let watched = Watched::open(path.clone(), 8, number).unwrap();
        assert_eq!(*watched.look().last_good(), 0);
        // All have the same size.
        for text in ["1", "2", "3"] {
            replace(&path, text);
            assert_eq!(watched.look().last_good().to_string(), text);
        }
        for bad in ["x", "123456789"] {
            replace(&path, bad);
            assert_eq!(*watched.look().last_good(), 3, "{bad}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(*watched.look().last_good(), 0);
        replace(&path, "4");
        assert_eq!(*watched.look().last_good(), 4);
    }

    #[test]
    fn a_change_that_keeps_size_and_modification_time_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let watched = Watched::open(path.clone(), 8, number).unwrap();
        let before = fs::metadata(&path).unwrap();
        let changed = |found: &Metadata| (found.ctime(), found.ctime_nsec());
        // The system's time of a change is coarse: until it differs, the file is still being written.
        while changed(&fs::metadata(&path).unwrap()) == changed(&before) {
            fs::write(&path, "2").unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(before.modified().unwrap()).unwrap();
        }
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
        assert_eq!(*watched.look().last_good(), 2);
    }

    #[test]
    fn a_folder_that_is_swapped_by_a_link_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("old", "1"), ("new", "2")] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::write(folder.path().join(name).join("number"), text).unwrap();
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("old", &link).unwrap();
        let watched = Watched::open(link.join("number"), 8, number).unwrap();
        assert_eq!(*watched.look().last_good(), 1);
        let fresh = folder.path().join("fresh");
        std::os::unix::fs::symlink("new", &fresh).unwrap();
        fs::rename(&fresh, &link).unwrap();
        assert_eq!(*watched.look().last_good(), 2);
    }

    #[test]
    fn a_file_that_is_invalid_from_the_start_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        let refused = || Watched::open(path.clone(), 8, number).unwrap_err().to_string();
        fs::write(&path, "x").unwrap();
        assert!(refused().ends_with("number is not a number"));
        fs::write(&path, "1234567890").unwrap();
        assert!(refused().ends_with("number has more than 8 bytes"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(refused().starts_with("cannot read "));
    }

    /// Content that was not read, because no descriptor was left, the disk failed, or another user replaced the file,
    /// must not count as read.
    #[test]
    fn an_unreadable_file_is_retried_at_each_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let watched = Watched::open(path.clone(), 8, number).unwrap();
        fs::remove_file(&path).unwrap();
        let unreadable = || {
            for _ in 0..2 {
                let look = watched.look();
                assert!(
                    matches!(&look, Look::Unreadable(last, problem) if **last == 1 && problem.contains("cannot read")),
                    "{look:?}"
                );
            }
        };
        // A folder cannot be read, not even by root, and not by waiting.
        fs::create_dir(&path).unwrap();
        unreadable();
        fs::remove_dir(&path).unwrap();
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        unreadable();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        unreadable();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "2").unwrap();
        assert!(matches!(watched.look(), Look::Good(value) if *value == 2));
        // The same content comes back under the same name and time: the stamp is the one of the content that was read.
        replace(&path, "x");
        for _ in 0..2 {
            assert!(matches!(watched.look(), Look::Damaged(last, _) if *last == 2));
        }
    }
}
