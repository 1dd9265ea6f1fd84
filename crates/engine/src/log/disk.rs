//! The few operations that can fail on a disk while the log runs.
//!
//! Only these go through a trait, because only these change what is durable; tests replace them to simulate a full or
//! failing disk at a chosen moment. Reading and opening need no trait: tests can damage real files directly.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Writes to the disk. The provided methods are the real ones.
pub trait Disk: Send + Sync {
    /// Writes `bytes` at the position `at`.
    ///
    /// # Errors
    /// The system's error. Some of the bytes may have been written.
    fn write(&self, mut file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    /// Returns once the file's bytes, and its length, are durable.
    ///
    /// # Errors
    /// The system's error. The bytes written since the last success may be lost.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Shortens the file to `length` bytes, or lengthens it with zeros.
    ///
    /// # Errors
    /// What the system says.
    fn resize(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }
}

/// The real disk.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemDisk;

impl Disk for SystemDisk {}

/// Accessible only to the user of this process, whatever its umask.
#[cfg(unix)]
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

/// Other systems have no file modes.
#[cfg(not(unix))]
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Opens the file `path` to read and write, and creates it if it is missing, accessible only to the user of this
/// process. Its content is kept. A user who may write to its folder cannot substitute another file: links are not
/// followed, and anything but a regular file with this single name is refused.
///
/// # Errors
/// The system's error; `InvalidInput` for refused files.
pub fn open_own(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = private(options.read(true).write(true).create(true).truncate(false));
    #[cfg(unix)]
    let options = {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
    };
    let file = options.open(path);
    #[cfg(unix)]
    let file = file.map_err(|error| {
        let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if is_link { refused("it is a symbolic link, which is not followed: remove it") } else { error }
    });
    let file = file?;
    let found = file.metadata()?;
    #[cfg(unix)]
    let is_alone = std::os::unix::fs::MetadataExt::nlink(&found) == 1;
    #[cfg(not(unix))]
    let is_alone = true;
    if found.is_file() && is_alone {
        return Ok(file);
    }
    Err(refused("it must be a regular file without other hard links: remove it"))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// Creates `folder` and its missing parents, accessible only to the user of this process, and durably: each one's
/// parent is synced.
///
/// # Errors
/// What the system says.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty());
    above.map_or(Ok(()), create_folder)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
        created => created?,
    }
    sync_folder(above.unwrap_or(Path::new(".")))
}

/// Makes created, renamed and removed entries of `folder` durable.
#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// On other systems a folder cannot be opened as a file, and the file system orders such changes on its own.
#[cfg(not(unix))]
pub(super) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}
