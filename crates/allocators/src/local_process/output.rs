//! The output files of a server, and the limit for a server that writes directly to its file.
//!
//! A server writes to a process that enforces the limit ([`keeper`](super::keeper)). A server that an earlier version
//! started appends to the file itself: the watcher regularly moves the newest part aside and truncates the file. What
//! the server writes between the last read and the truncation is lost: a few lines at most, and only of a server that
//! has already written more than is kept.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum time between two checks of a file.
const SLOWEST_LOOK: Duration = Duration::from_secs(1);
/// Minimum time between two checks of a file that grows fast.
const FASTEST_LOOK: Duration = Duration::from_millis(20);

/// The output files of one server.
pub(super) struct Output {
    pub(super) log: PathBuf,
    pub(super) older: PathBuf,
    /// Maximum size of both together, in bytes.
    pub(super) limit: u64,
}

impl Output {
    /// The file that a server's output goes to. Opened for appending, so that the writer continues at the new end after
    /// the file is truncated.
    pub(super) fn create(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)
    }

    /// Removes the files of a server that could not be started.
    pub(super) fn discard(&self) {
        let _absent_is_fine = std::fs::remove_file(&self.log);
    }

    /// Keeps the output within its limit for as long as it is polled.
    pub(super) async fn keep_bounded(&self) -> std::convert::Infallible {
        let mut pause = FASTEST_LOOK;
        let mut size = 0;
        loop {
            tokio::time::sleep(pause).await;
            let now = tokio::fs::metadata(&self.log).await.map_or(0, |metadata| metadata.len());
            pause = next_look(now.saturating_sub(size), (self.limit / 2).saturating_sub(now), pause);
            size = if now > self.limit / 2 {
                self.rotate().await;
                0
            } else {
                now
            };
        }
    }

    /// Reduces the output to its limit once.
    pub(super) async fn bound(&self) {
        let size = tokio::fs::metadata(&self.log).await.map_or(0, |metadata| metadata.len());
        if size > self.limit / 2 {
            self.rotate().await;
        }
    }

    async fn rotate(&self) {
        let (log, older, keep) = (self.log.clone(), self.older.clone(), self.limit / 2);
        let rotated = tokio::task::spawn_blocking(move || rotate(&log, &older, keep)).await;
        if let Ok(Err(error)) = rotated {
            tracing::warn!(file = %self.log.display(), %error, "the output of a server could not be limited");
        }
    }
}

/// When to check a file again that grew by `growth` bytes in `pause` and has `room` bytes left: after half the time
/// that it takes to fill up.
fn next_look(growth: u64, room: u64, pause: Duration) -> Duration {
    if growth == 0 {
        return SLOWEST_LOOK;
    }
    let nanos = pause.as_nanos().saturating_mul(u128::from(room)) / u128::from(growth) / 2;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).clamp(FASTEST_LOOK, SLOWEST_LOOK)
}

/// Moves the last `keep` bytes of `log`, and what is written in the meantime, to `older`, and truncates `log`.
fn rotate(log: &Path, older: &Path, keep: u64) -> io::Result<()> {
    let mut from = OpenOptions::new().read(true).write(true).open(log)?;
    let size = from.metadata()?.len();
    from.seek(SeekFrom::Start(size.saturating_sub(keep)))?;
    // Up to the very end, so that little is lost; but a server that writes as fast as this reads has to lose some.
    let max = keep.saturating_mul(2);
    let kept = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(older);
    let copied = kept.and_then(|mut to| io::copy(&mut (&mut from).take(max), &mut to));
    // Truncated whether or not the copy worked: the likeliest cause of a failure is a full disk.
    from.set_len(0)?;
    copied.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn the_newest_part_is_kept_and_the_writer_goes_on_at_the_new_end() {
        let folder = tempfile::tempdir().unwrap();
        let output =
            Output { log: folder.path().join("a.log"), older: folder.path().join("a.log.1"), limit: 20 };
        let mut server = output.create().unwrap();
        server.write_all(b"0123456789").unwrap();
        output.bound().await;
        assert!(!output.older.exists(), "half the limit is no reason to cut");
        server.write_all(b"abcdefgh").unwrap();
        output.bound().await;
        server.write_all(b"XYZ").unwrap();
        assert_eq!(std::fs::read_to_string(&output.older).unwrap(), "89abcdefgh");
        assert_eq!(std::fs::read_to_string(&output.log).unwrap(), "XYZ");
    }

    #[test]
    fn a_file_is_looked_at_more_often_the_faster_it_grows() {
        let pause = Duration::from_millis(100);
        assert_eq!(next_look(0, 1000, pause), SLOWEST_LOOK);
        assert_eq!(next_look(100, 1000, pause), Duration::from_millis(500));
        assert_eq!(next_look(1000, 10, pause), FASTEST_LOOK);
        assert_eq!(next_look(1, u64::MAX, pause), SLOWEST_LOOK);
    }
}
