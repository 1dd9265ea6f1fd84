//! Keeps the output of one server within its limit, in a process of its own.
//!
//! A server that wrote directly to a file could write any amount between two checks. So it writes to a pipe, and this
//! process reads no more from it than there is room for. It is not a thread of the control plane, because it has to
//! outlive it: a server that writes to a pipe without a reader is killed. It ends on its own when nobody can write any
//! more.

use std::fs::File;
use std::io::{self, PipeReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, statat};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::helpers::Helper;

/// Maximum number of bytes read from the pipe at a time.
const CHUNK: usize = 64 << 10;

/// Starts `helper` for the file `name` in `folder`, which reads from `pipe`.
pub(super) fn start(
    helper: &Helper,
    folder: &Path,
    name: &str,
    limit: u64,
    pipe: PipeReader,
) -> io::Result<Child> {
    let mut command = helper.command();
    command.arg(std::path::absolute(folder)?).arg(name).arg(limit.to_string());
    // It must contain no variable of a server, which would make it count as one of the server's processes.
    command.env_clear().current_dir("/").process_group(0);
    command.stdin(pipe).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn()
}

/// Copies standard input to the file `name` in `folder` until it ends: the newest part, of at most `limit` bytes
/// together with what was moved to `<name>.1`. What cannot be written, e.g. on a full disk, is lost.
///
/// # Errors
/// Errors of standard input or the folder.
pub fn keep_output(folder: &Path, name: &str, limit: u64) -> io::Result<()> {
    // `pkill sortie` is meant for the control plane and must not end this process. Listening for a signal replaces its
    // default.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let _context = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    copy(io::stdin().lock(), &Place { folder: File::open(folder)?, name: name.to_owned() }, limit / 2)
}

/// Kept open, so that it is found after it was moved.
struct Place {
    folder: File,
    name: String,
}

impl Place {
    /// The file, and its size.
    fn open(&self) -> io::Result<(File, u64)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
        let file = File::from(openat(&self.folder, &self.name, flags, Mode::RUSR | Mode::WUSR)?);
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    /// Starts a new file; the existing one becomes the older part.
    fn rotate(&self) -> io::Result<(File, u64)> {
        renameat(&self.folder, &self.name, &self.folder, format!("{}.1", self.name))?;
        self.open()
    }

    /// Whether the file still exists: pruning old output removes it.
    fn is_there(&self) -> bool {
        statat(&self.folder, &self.name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }
}

fn copy(mut from: impl Read, to: &Place, half: u64) -> io::Result<()> {
    let mut file = to.open().ok();
    let max = usize::try_from(half).unwrap_or(CHUNK).clamp(1, CHUNK);
    let mut chunk = vec![0; max];
    loop {
        let taken = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = chunk.get(..taken).unwrap_or_default();
        let fits = file.as_ref().is_some_and(|(_, size)| size.saturating_add(taken as u64) <= half);
        if !fits {
            file = if file.is_some() && to.is_there() { to.rotate().ok() } else { to.open().ok() };
        }
        if let Some((file, size)) = &mut file {
            // Partially, if it fails; the file's size then tells how much.
            let _lost = file.write_all(bytes);
            *size = file.metadata().map_or(half, |found| found.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_part_is_kept_and_never_more_than_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: File::open(folder.path()).unwrap(), name: "a.log".to_owned() };
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        copy(&b"0123456789"[..], &place, 10).unwrap();
        assert_eq!((text("a.log"), text("a.log.1")), ("0123456789".to_owned(), String::new()));
        copy(&b"abcdefgh"[..], &place, 10).unwrap();
        assert_eq!((text("a.log"), text("a.log.1")), ("abcdefgh".to_owned(), "0123456789".to_owned()));
        copy(&b"XYZ"[..], &place, 10).unwrap();
        assert_eq!((text("a.log"), text("a.log.1")), ("XYZ".to_owned(), "abcdefgh".to_owned()));
        let much: Vec<u8> =
            (0..1_000_000_u32).map(|number| b'a' + u8::try_from(number % 26).unwrap()).collect();
        copy(&much[..], &place, 1000).unwrap();
        let kept = text("a.log.1") + &text("a.log");
        assert!(kept.len() <= 2000 && much.ends_with(kept.as_bytes()), "{}", kept.len());
    }
}
