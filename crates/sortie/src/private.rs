//! Files and folders of the data folder: accessible only to the user who runs the control plane.
//!
//! Commands like `sortie key` may run as another user, usually as root. What they write then belongs to the folder's
//! owner, because a file that the control plane cannot read any more is worse than a command that refuses.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sortie_engine::log::create_folder;

use crate::boot_clock;
use crate::failure::Failure;

/// Mode of every file.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of every folder.
const FOLDER_MODE: u32 = 0o700;
/// How to open a folder that another user may have replaced by a link.
pub(crate) const FOLDER_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The permissions of group and others, who get none.
const NOT_THE_OWNER: u32 = 0o077;

/// Created by the first start, and by no other command: its owner is the user who runs the control plane.
const LOCK: &str = "lock";
/// The content of a data folder: folders, and the suffixes of the files in each.
const FOLDERS: [(&str, &[&str]); 6] = [
    ("log", &[".log"]),
    ("snapshots", &[".snap", ".tmp"]),
    ("matchmaker", &["lock", "end", "end-of-broker"]),
    ("matchmaker/log", &[".log"]),
    ("matchmaker/snapshots", &[".snap", ".tmp"]),
    ("servers", &[".json", ".log", ".log.1", ".damaged", ".foreign", "folder-id"]),
];
/// Files directly in it.
const FILES: [&str; 11] = [
    LOCK,
    boot_clock::FILE,
    "end",
    "end-of-broker",
    "end-of-matchmaker",
    "used",
    "installation.json",
    "api_keys.json",
    "api_keys.lock",
    "game_server.key",
    "netcode.key",
];

/// A user and a group, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    user: u32,
    group: u32,
}

impl Owner {
    fn of(found: &Metadata) -> Self {
        Self { user: found.uid(), group: found.gid() }
    }

    /// The user who runs the control plane with this folder; before the first start, the folder's owner.
    pub(crate) fn of_folder(data: &Path) -> io::Result<Self> {
        // That user may have put a link there.
        match fs::symlink_metadata(data.join(LOCK)) {
            Ok(found) => Ok(Self::of(&found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(data).map(|found| Self::of(&found))
            }
            Err(error) => Err(error),
        }
    }
}

/// The user who has run the control plane with the folder, if any.
pub(crate) fn lock_user(data: &Path) -> Option<u32> {
    fs::symlink_metadata(data.join(LOCK)).ok().map(|found| found.uid())
}

/// Replaces the file in the data folder as a whole. It belongs to the user who runs the control plane with the folder,
/// even if root writes it.
pub(crate) fn replace(data: &Path, name: &str, bytes: &[u8]) -> Result<(), Failure> {
    let path = data.join(name);
    let cannot = |error: io::Error| Failure::of_io(format!("cannot write {}", path.display()), &error);
    create(data).map_err(cannot)?;
    // Under a name for which nobody can have prepared a link.
    let builder = || tempfile::Builder::new().prefix(".new-").tempfile_in(data);
    let mut fresh = builder().map_err(cannot)?;
    hand_over(data, fresh.as_file())?;
    fresh.write_all(bytes).map_err(cannot)?;
    fresh.as_file().sync_all().map_err(cannot)?;
    fresh.persist(&path).map_err(|error| cannot(error.error))?;
    File::open(data).and_then(|folder| folder.sync_all()).map_err(cannot)
}

/// The content of a file in the data folder, at most `max` bytes of it; `None` if it does not exist. Links are not
/// followed: the folder's owner may have put one there as a trap for root, who can read any file.
pub(crate) fn read(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link")),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Creates the data folder. If root creates it in the folder of another user, it belongs to that user, because somebody
/// has to be able to start the control plane with it.
pub(crate) fn create(data: &Path) -> io::Result<()> {
    let missing: Vec<_> =
        data.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.is_dir()).collect();
    let Some(highest) = missing.last() else { return Ok(()) };
    create_folder(data)?;
    let above = highest.parent().filter(|above| !above.as_os_str().is_empty());
    let owner = Owner::of(&fs::metadata(above.unwrap_or(Path::new(".")))?);
    if !rustix::process::geteuid().is_root() || owner.user == 0 {
        return Ok(());
    }
    missing.iter().rev().try_for_each(|folder| {
        let folder = File::from(rustix::fs::open(*folder, FOLDER_FLAGS, Mode::empty())?);
        fchown(folder, Some(owner.user), Some(owner.group))
    })
}

/// Gives a new file or folder in the data folder to the user who runs the control plane with it.
pub(crate) fn hand_over(data: &Path, file: &File) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::of(format!("cannot determine the owner of {}", data.display()), error);
    hand_to(Owner::of_folder(data).map_err(failed)?, data, file)
}

/// Gives a file or folder of the data folder to this owner.
pub(crate) fn hand_to(owner: Owner, data: &Path, file: &File) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::of(format!("cannot determine the owner of {}", data.display()), error);
    let own = Owner::of(&file.metadata().map_err(failed)?);
    if own.user == owner.user {
        return Ok(());
    }
    fchown(file, Some(owner.user), Some(owner.group)).map_err(|error| {
        Failure::new(format!(
            "{} belongs to the user {}, and what the user {} writes there could not be read by the control plane: \
             run this command as the user who runs the control plane ({error})",
            data.display(),
            owner.user,
            own.user
        ))
    })
}

/// Refuses a folder that the control plane was run with as another user: neither could read what the other has written.
pub(crate) fn check_user(data: &Path) -> Result<(), Failure> {
    let Ok(lock) = fs::symlink_metadata(data.join(LOCK)) else { return Ok(()) };
    // Determined by a new file, because some file systems give every file to the same user. A full disk does not
    // prevent the start.
    let Ok(own) = tempfile::tempfile_in(data).and_then(|file| file.metadata()) else { return Ok(()) };
    if own.uid() == lock.uid() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the control plane was run with {} as the user {}, and now it is the user {}: run it as the same user, or give \
         the folder to the new one first (chown -R {} {})",
        data.display(),
        lock.uid(),
        own.uid(),
        own.uid(),
        data.display()
    )))
}

/// Removes the permissions of group and others that an earlier version or a umask has left on the data folder.
pub(crate) fn tighten(data: &Path) {
    let mut problems = Problems::default();
    for (folder, ends) in FOLDERS {
        let folder = data.join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_ours = name.to_str().is_some_and(|name| ends.iter().any(|end| name.ends_with(end)));
            if is_ours {
                problems.note(tighten_one(&entry.path(), FILE_MODE));
            }
        }
        problems.note(tighten_one(&folder, FOLDER_MODE));
    }
    for name in FILES {
        problems.note(tighten_one(&data.join(name), FILE_MODE));
    }
    // A folder that is not ours alone may be anything, like a home directory.
    if holds_only_ours(data) {
        problems.note(tighten_one(data, FOLDER_MODE));
    } else if is_open(data) {
        tracing::warn!(
            folder = %data.display(),
            "other users can read the data folder, whose mode is not changed because it also holds other files: \
             give Sortie a folder of its own"
        );
    }
    problems.report(data);
}

/// The first thing that went wrong.
#[derive(Default)]
struct Problems(Option<io::Error>);

impl Problems {
    fn note(&mut self, result: io::Result<()>) {
        if let Err(error) = result
            && error.kind() != io::ErrorKind::NotFound
        {
            self.0.get_or_insert(error);
        }
    }

    fn report(self, data: &Path) {
        if let Some(error) = self.0 {
            tracing::warn!(folder = %data.display(), %error, "other users can read files of the data folder");
        }
    }
}

fn is_open(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.mode() & NOT_THE_OWNER != 0)
}

fn tighten_one(path: &Path, mode: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_symlink() || found.mode() & NOT_THE_OWNER == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn holds_only_ours(data: &Path) -> bool {
    let Ok(entries) = fs::read_dir(data) else { return false };
    let is_ours = |name: &str| {
        FILES.contains(&name)
            || FOLDERS.iter().any(|(folder, _)| *folder == name)
            || name.starts_with(".new-")
    };
    entries.flatten().all(|entry| entry.file_name().to_str().is_some_and(is_ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn what_an_earlier_version_left_open_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        for (name, mode) in [("log", 0o755), ("servers", 0o777)] {
            fs::create_dir_all(data.join(name)).unwrap();
            fs::set_permissions(data.join(name), Permissions::from_mode(mode)).unwrap();
        }
        for name in ["log/1.log", "servers/a.log", "servers/a.json", "lock"] {
            fs::write(data.join(name), "").unwrap();
            fs::set_permissions(data.join(name), Permissions::from_mode(0o644)).unwrap();
        }
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        tighten(&data);
        for name in ["log/1.log", "servers/a.log", "servers/a.json", "lock"] {
            assert_eq!(mode(&data.join(name)), 0o600, "{name}");
        }
        for name in ["log", "servers", ""] {
            assert_eq!(mode(&data.join(name)), 0o700, "{name}");
        }
    }

    #[test]
    fn a_folder_with_other_files_keeps_its_mode_and_they_keep_theirs() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("run.sh"), "").unwrap();
        for path in [data.path().to_owned(), data.path().join("run.sh")] {
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        tighten(data.path());
        assert_eq!((mode(data.path()), mode(&data.path().join("run.sh"))), (0o755, 0o755));
    }

    #[test]
    fn a_link_or_a_pipe_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let (secret, path) = (folder.path().join("secret"), folder.path().join("a"));
        assert_eq!(read(&path, 9).unwrap(), None);
        fs::write(&secret, "precious").unwrap();
        assert_eq!(read(&secret, 3).unwrap().unwrap(), b"pre");
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        assert_eq!(read(&path, 9).unwrap_err().to_string(), "it is a symbolic link");
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(read(&path, 9).unwrap_err().to_string(), "it is not a regular file");
    }

    #[test]
    fn a_file_is_private_whatever_was_there_before() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join("a"), "old").unwrap();
        fs::set_permissions(data.path().join("a"), Permissions::from_mode(0o644)).unwrap();
        replace(data.path(), "a", b"new").unwrap();
        assert_eq!(
            (mode(&data.path().join("a")), fs::read(data.path().join("a")).unwrap()),
            (0o600, b"new".to_vec())
        );
    }
}
