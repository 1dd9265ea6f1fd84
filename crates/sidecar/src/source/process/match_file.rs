//! The file that contains a match.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A separate folder for one file, so that the file can appear atomically. Both are removed when dropped.
pub(super) struct MatchFile {
    folder: TempDir,
    path: PathBuf,
}

impl MatchFile {
    /// Creates the folder; the file does not exist yet.
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("sortie-match-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        Ok(Self { path: folder.path().join("match.json"), folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the file atomically.
    pub(super) fn write(&self, document: &str) -> io::Result<()> {
        let unfinished = self.folder.path().join("match.json.new");
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(document.as_bytes())?;
        file.write_all(b"\n")?;
        std::fs::rename(&unfinished, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_its_owners_and_goes_with_its_folder() {
        let file = MatchFile::new().unwrap();
        assert!(!file.path().exists());
        file.write("{}").unwrap();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "{}\n");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(file.path()), mode(file.folder.path())), (0o600, 0o700));
        let folder = file.folder.path().to_owned();
        drop(file);
        assert!(!folder.exists());
    }
}
