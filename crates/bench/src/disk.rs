//! The limit for everything that must be durable before it is answered: a bare loop of appends and syncs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// Number of bytes appended before each sync.
const APPENDED_BYTES: usize = 512;

/// A file that is appended to; gone when dropped.
pub(crate) struct SyncLoop {
    path: tempfile::TempPath,
}

impl SyncLoop {
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, Failure> {
        let file = tempfile::Builder::new().prefix(".sortie-bench-").tempfile_in(folder);
        let file =
            file.map_err(|error| Failure::of(format!("cannot write to {}", folder.display()), error))?;
        Ok(Self { path: file.into_temp_path() })
    }

    /// Syncs per second.
    pub(crate) async fn measure(&self, lasting: Duration) -> Result<f64, Failure> {
        let path: PathBuf = self.path.to_path_buf();
        let measured = tokio::task::spawn_blocking(move || {
            sync_for(&OpenOptions::new().append(true).open(path)?, lasting)
        });
        measured.await?.map_err(|error| Failure::of("the disk cannot be measured", error))
    }
}

fn sync_for(mut file: &File, lasting: Duration) -> io::Result<f64> {
    let (began, mut syncs) = (Instant::now(), 0_u32);
    while syncs == 0 || began.elapsed() < lasting {
        file.write_all(&[b'x'; APPENDED_BYTES])?;
        file.sync_data()?;
        syncs += 1;
    }
    Ok(f64::from(syncs) / began.elapsed().as_secs_f64())
}
