//! Which installation a data folder belongs to.
//!
//! An installation has an id, generated once. It marks the game servers that are started with the folder, so that the
//! next control plane recognizes its own. A copy of the folder has the same id, and would take over or stop servers of
//! the original. So the id is bound to the folder itself: a copy has another inode or another time of creation, and is
//! refused until `sortie restore` has given it an id of its own.
//!
//! The file system decides whether a folder is the same one, wherever it is: a folder that was moved or mounted
//! elsewhere keeps its inode and its birth time. Its device number counts within one boot only, because systems
//! renumber devices. A clone of a whole disk or machine looks the same in all of this; it is told from its original by
//! the machine's id, if that differs, and by [`Presence`](crate::presence::Presence) while both run on one machine.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Dir, DirEntry, Mode, fsync, mkdirat, open, openat, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::private;

/// The file in the data folder.
const FILE: &str = "installation.json";
/// Version of the file's format.
const VERSION: u32 = 1;
/// Where earlier versions kept the id, in the data folder.
const EARLIER_ID: &str = "servers/folder-id";
/// Maximum size of either file, in bytes.
const MAX_BYTES: u64 = 64 << 10;
/// The API key of local game servers: those of the original must not be able to call the restored copy.
const GAME_SERVER_KEY: &str = "game_server.key";
/// Placement records of game servers.
const SERVERS: &str = "servers";

/// What identifies a folder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Place {
    /// For people, and for when nothing else tells folders apart.
    path: String,
    device: u64,
    inode: u64,
    /// When it was created, in nanoseconds since 1970; `None` if the file system does not record that.
    born: Option<i64>,
    /// The boot that the device number belongs to.
    boot: Option<String>,
    /// `None` if the system has no id, as in most containers.
    machine: Option<String>,
}

/// How a folder compares with the one that an id is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Same,
    /// The same folder at another path, or with another device number since the last boot.
    Moved,
    /// Another folder, for this reason.
    Copy(&'static str),
}

impl Place {
    fn of(data: &Path) -> io::Result<Self> {
        let found = fs::metadata(data)?;
        let read = |file: &str| {
            let text = fs::read_to_string(file).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        Ok(Self {
            path: fs::canonicalize(data)?.to_string_lossy().into_owned(),
            device: found.dev(),
            inode: found.ino(),
            born: found.created().ok().and_then(nanoseconds),
            boot: read("/proc/sys/kernel/random/boot_id"),
            machine: read("/etc/machine-id"),
        })
    }

    /// What `found` is, compared with the folder that the id is bound to.
    fn compare(&self, found: &Self) -> Verdict {
        let differ = |one: &Option<String>, other: &Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
        if differ(&self.machine, &found.machine) {
            return Verdict::Copy("it was used on another machine before");
        }
        let born_apart = matches!((self.born, found.born), (Some(one), Some(other)) if one != other);
        if self.inode != found.inode || born_apart {
            return Verdict::Copy("it is another folder than the one that was used before");
        }
        let same_boot = self.boot.is_some() && self.boot == found.boot;
        let moved = self.path != found.path;
        match (self.device != found.device, moved) {
            (false, false) => Verdict::Same,
            (false, true) => Verdict::Moved,
            (true, false) if !same_boot => Verdict::Moved,
            (true, _) => Verdict::Copy("it is on another device than the one that was used before"),
        }
    }
}

fn nanoseconds(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

/// The content of the file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    id: String,
    place: Place,
    /// The installation that this one was copied from, until the broker knows which game servers stayed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied_from: Option<String>,
    /// The existing logs, so that a missing one is noticed even if nothing else shows it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    logs: BTreeSet<String>,
}

/// The installation of a data folder that may be used.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    data: PathBuf,
    stored: Stored,
}

impl Installation {
    /// Whether the data folder is that of an installation.
    pub(crate) fn is_known(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    /// Refuses a copy. Changes nothing, so that it can be called before anything in the folder is opened.
    ///
    /// # Errors
    /// [`Failure`] for a copy, and for a folder whose file cannot be read.
    pub(crate) fn check(data: &Path) -> Result<(), Failure> {
        let Some(stored) = read(data)? else { return Ok(()) };
        match stored.place.compare(&place(data)?) {
            Verdict::Same | Verdict::Moved => Ok(()),
            Verdict::Copy(reason) => Err(is_a_copy(data, &stored, reason)),
        }
    }

    /// Whether the folder has, or had, the log `name`, as far as this file says.
    pub(crate) fn knows_log(data: &Path, name: &str) -> Result<bool, Failure> {
        Ok(read(data)?.is_some_and(|stored| stored.logs.contains(name)))
    }

    /// The installation of the folder, which the caller has locked. A folder without one gets one; if there is no room
    /// to store it, it is stored later ([`Installation::keep`]).
    ///
    /// # Errors
    /// As [`Installation::check`], and if an id cannot be generated.
    pub(crate) fn open(data: &Path) -> Result<Self, Failure> {
        Self::check(data)?;
        let place = place(data)?;
        let data = data.to_owned();
        let Some(stored) = read(&data)? else { return Self::first(data, place) };
        if stored.place == place {
            return Ok(Self { data, stored });
        }
        if stored.place.path != place.path {
            tracing::info!(from = stored.place.path, to = place.path, "the data folder has been moved");
        }
        Ok(Self { data, stored: Stored { place, ..stored } })
    }

    /// The id that an earlier version generated for the folder's game servers is kept, so that running servers stay
    /// known.
    fn first(data: PathBuf, place: Place) -> Result<Self, Failure> {
        let id = earlier_id(&data)?.map_or_else(draw, Ok)?;
        let stored = Stored { version: VERSION, id, place, copied_from: None, logs: BTreeSet::new() };
        Ok(Self { data, stored })
    }

    /// Remembers that the log `name` exists.
    pub(crate) fn has_log(&mut self, name: &str) {
        self.stored.logs.insert(name.to_owned());
    }

    /// Stores what is known by now, unless the file says it already.
    ///
    /// # Errors
    /// [`Failure`] if that cannot be written.
    pub(crate) fn keep(&self) -> Result<(), Failure> {
        if read(&self.data)?.as_ref() == Some(&self.stored) {
            return Ok(());
        }
        self.write()?;
        remove(&self.data.join(EARLIER_ID))
    }

    /// Whether the file has the id: otherwise servers that are started now would be strangers to the next start.
    pub(crate) fn is_kept(&self) -> Result<bool, Failure> {
        Ok(id(&self.data)?.as_deref() == Some(self.id()))
    }

    /// Marks what belongs to this installation.
    pub(crate) fn id(&self) -> &str {
        &self.stored.id
    }

    /// Whether this was a copy: its log then contains game servers that have stayed with the original.
    pub(crate) fn was_copied(&self) -> bool {
        self.stored.copied_from.is_some()
    }

    /// Forgets that this was a copy: its log contains nothing of the original any more.
    pub(crate) fn forget_the_original(mut self) {
        self.stored.copied_from = None;
        if let Err(problem) = self.write() {
            tracing::warn!(%problem, "the next start looks again for game servers that stayed with the original");
        }
    }

    fn write(&self) -> Result<(), Failure> {
        private::replace(&self.data, FILE, &serde_json::to_vec_pretty(&self.stored)?)
    }
}

/// The result of a restore.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The new id.
    pub(crate) id: String,
    /// The id that the original keeps, if the folder had one.
    pub(crate) original: Option<String>,
    /// Placement records that were set aside.
    pub(crate) records: usize,
    /// Where they are now.
    pub(crate) aside: PathBuf,
}

/// Turns a copied folder, which the caller has locked, into an installation of its own. With `even_if_bound`, also the
/// folder of an installation that was not copied.
///
/// # Errors
/// [`Failure`] if the folder is not a copy, or something cannot be written. It can then be repeated.
pub(crate) fn restore(data: &Path, even_if_bound: bool) -> Result<Restored, Failure> {
    let place = place(data)?;
    let stored = match read(data) {
        Err(_) if even_if_bound => None,
        read => read?,
    };
    let is_copy =
        stored.as_ref().is_some_and(|stored| matches!(stored.place.compare(&place), Verdict::Copy(_)));
    if !is_copy && !even_if_bound {
        return Err(Failure::new(format!(
            "{} is the original folder of its installation, not a copy: there is nothing to restore. With --force it \
             becomes a new installation anyway; game servers that were started with it keep running, and nobody stops them",
            data.display()
        )));
    }
    let original = match &stored {
        Some(stored) => Some(stored.id.clone()),
        None => earlier_id(data)?,
    };
    let aside = data.join(SERVERS).join(format!("of-{}", original.as_deref().unwrap_or("another")));
    let records = set_aside(data, &aside)?;
    remove(&data.join(GAME_SERVER_KEY))?;
    let id = draw()?;
    let from = original.clone().unwrap_or_else(|| "another".to_owned());
    let logs = stored.map(|stored| stored.logs).unwrap_or_default();
    let stored = Stored { version: VERSION, id: id.clone(), place, copied_from: Some(from), logs };
    Installation { data: data.to_owned(), stored }.write()?;
    remove(&data.join(EARLIER_ID))?;
    Ok(Restored { id, original, records, aside })
}

/// Moves the placement records of the folder's servers to `aside`. Returns their number. Links are not followed,
/// because the folder's owner may have put them there as a trap for root.
fn set_aside(data: &Path, aside: &Path) -> Result<usize, Failure> {
    let servers = data.join(SERVERS);
    let failed =
        |error: Errno| Failure::of(format!("cannot set aside the records of {}", servers.display()), error);
    let from = match open(&servers, private::FOLDER_FLAGS, Mode::empty()) {
        Ok(from) => from,
        Err(Errno::NOENT) => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let entries = Dir::read_from(&from).and_then(Iterator::collect::<Result<Vec<_>, _>>).map_err(failed)?;
    let names = entries.iter().map(DirEntry::file_name);
    let records: Vec<_> = names.filter(|name| name.to_bytes().ends_with(b".json")).collect();
    let Some(name) = aside.file_name().filter(|_| !records.is_empty()) else { return Ok(0) };
    let made = match mkdirat(&from, name, Mode::RWXU) {
        Err(error) if error != Errno::EXIST => return Err(failed(error)),
        made => made.is_ok(),
    };
    let to = fs::File::from(openat(&from, name, private::FOLDER_FLAGS, Mode::empty()).map_err(failed)?);
    if made {
        private::hand_over(data, &to)?;
    }
    for record in &records {
        renameat(&from, *record, &to, *record).map_err(failed)?;
    }
    fsync(&to).and_then(|()| fsync(&from)).map_err(failed)?;
    Ok(records.len())
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::of(format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// The stored id of the folder, whether or not the folder is a copy; `None` if it was never used.
pub(crate) fn id(data: &Path) -> Result<Option<String>, Failure> {
    read(data)?.map_or_else(|| earlier_id(data), |stored| Ok(Some(stored.id)))
}

fn place(data: &Path) -> Result<Place, Failure> {
    Place::of(data).map_err(|error| Failure::of(format!("cannot use {}", data.display()), error))
}

fn read(data: &Path) -> Result<Option<Stored>, Failure> {
    let path = data.join(FILE);
    let Some(text) = text(&path)? else { return Ok(None) };
    let damaged = |problem: &dyn fmt::Display| {
        Failure::new(format!(
            "{} is damaged: {problem}; put it back, or make a new installation of the folder with `sortie restore --force \
             --data {}`",
            path.display(),
            data.display()
        ))
    };
    let stored: Stored = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
    if stored.version != VERSION {
        return Err(damaged(&format_args!("it has version {}, and only {VERSION} is known", stored.version)));
    }
    if !is_id(&stored.id) {
        return Err(damaged(&"its id is not valid"));
    }
    Ok(Some(stored))
}

fn earlier_id(data: &Path) -> Result<Option<String>, Failure> {
    Ok(text(&data.join(EARLIER_ID))?.map(|id| id.trim().to_owned()).filter(|id| is_id(id)))
}

/// Ids are UUIDs. They name folders, and are in the environment of processes.
fn is_id(id: &str) -> bool {
    id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn text(path: &Path) -> Result<Option<String>, Failure> {
    let cannot = |error: &dyn fmt::Display| Failure::of(format!("cannot read {}", path.display()), error);
    let bytes = private::read(path, MAX_BYTES).map_err(|error| cannot(&error))?;
    bytes.map(String::from_utf8).transpose().map_err(|error| cannot(&error))
}

/// A version 7 UUID, like all our ids.
fn draw() -> Result<String, Failure> {
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| Failure::of("cannot generate an id", error))?;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Ok(uuid::Builder::from_unix_timestamp_millis(milliseconds, &random).into_uuid().to_string())
}

fn is_a_copy(data: &Path, stored: &Stored, reason: &str) -> Failure {
    let data = data.display();
    Failure::new(format!(
        "{data} is a copy of a data folder, or has been moved in a way that looks like one: {reason} ({}). Started as it is, it would take \
         over the game servers of the original, and stop them. If it is to be used, here and from now on, run \
         `sortie restore --data {data}`: that gives it an installation id of its own, and it leaves alone everything it did not \
         start itself; matches on game servers of the original fail. Do the same for a volume that its system has recreated \
         or mounts in another way. Nothing has been changed.",
        stored.place.path
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> Place {
        Place {
            path: "/srv/data".to_owned(),
            device: 7,
            inode: 42,
            born: Some(1),
            boot: Some("b".to_owned()),
            machine: Some("m".to_owned()),
        }
    }

    #[test]
    fn a_folder_is_known_by_what_a_copy_cannot_have() {
        let other = |change: fn(&mut Place)| {
            let mut place = bound();
            change(&mut place);
            bound().compare(&place)
        };
        let is_copy = |verdict| matches!(verdict, Verdict::Copy(_));
        assert_eq!(other(|_| {}), Verdict::Same);
        assert_eq!(other(|place| place.path = "/srv/elsewhere".to_owned()), Verdict::Moved);
        assert!(is_copy(other(|place| place.inode = 43)));
        // Its inode was free again when the copy was created in its place.
        assert!(is_copy(other(|place| place.born = Some(2))));
        assert!(is_copy(other(|place| place.device = 8)));
        assert!(is_copy(other(|place| place.machine = Some("n".to_owned()))));
        // A recreated container has no id of its own, and a file system may record no birth times.
        assert_eq!(other(|place| (place.machine, place.born) = (None, None)), Verdict::Same);
        // Device numbers change with a boot.
        assert_eq!(other(|place| (place.boot, place.device) = (Some("c".to_owned()), 8)), Verdict::Moved);
        assert!(is_copy(other(|place| {
            (place.boot, place.device) = (Some("c".to_owned()), 8);
            place.path = "/srv/elsewhere".to_owned();
        })));
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().flatten() {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    #[test]
    fn a_copy_is_refused_until_it_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let (data, copied) = (folder.path().join("data"), folder.path().join("copy"));
        fs::create_dir_all(data.join("servers")).unwrap();
        let installation = Installation::open(&data).unwrap();
        installation.keep().unwrap();
        let id = installation.id().to_owned();
        assert_eq!(Installation::open(&data).unwrap().id(), id);
        fs::write(data.join("servers/allocation-1.json"), "{}").unwrap();
        fs::write(data.join(GAME_SERVER_KEY), "key").unwrap();
        copy(&data, &copied);
        let refused = Installation::open(&copied).unwrap_err().to_string();
        assert!(refused.contains("sortie restore --data") && refused.contains("copy"), "{refused}");
        // Also if the original is gone, or the copy is in its place.
        fs::rename(&data, folder.path().join("moved")).unwrap();
        assert!(Installation::open(&copied).is_err());
        fs::rename(&copied, &data).unwrap();
        assert!(Installation::open(&data).is_err());

        let restored = restore(&data, false).unwrap();
        assert_eq!((restored.original.as_deref(), restored.records), (Some(id.as_str()), 1));
        assert!(restored.aside.join("allocation-1.json").exists());
        assert!(!data.join("servers/allocation-1.json").exists() && !data.join(GAME_SERVER_KEY).exists());
        let installation = Installation::open(&data).unwrap();
        assert!(installation.was_copied() && installation.id() == restored.id && restored.id != id);
        installation.forget_the_original();
        assert!(!Installation::open(&data).unwrap().was_copied());
        // The original is unchanged at its new path.
        let original = Installation::open(&folder.path().join("moved")).unwrap();
        assert!(original.id() == id && !original.was_copied());
        assert!(restore(&data, false).unwrap_err().to_string().contains("--force"));
        assert_ne!(restore(&data, true).unwrap().id, restored.id);
    }

    #[test]
    fn a_folder_of_an_earlier_version_keeps_the_id_of_its_servers() {
        let data = tempfile::tempdir().unwrap();
        let id = "0192e0c4-0000-7000-8000-000000000001";
        fs::create_dir(data.path().join("servers")).unwrap();
        fs::write(data.path().join(EARLIER_ID), id).unwrap();
        let installation = Installation::open(data.path()).unwrap();
        assert!(installation.id() == id && installation.is_kept().unwrap());
        installation.keep().unwrap();
        assert!(!data.path().join(EARLIER_ID).exists());
        assert_eq!(Installation::open(data.path()).unwrap().id(), id);
    }

    #[test]
    fn a_link_in_place_of_the_file_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        Installation::open(&data).unwrap().keep().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::rename(data.join(FILE), &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, data.join(FILE)).unwrap();
        for tried in [id(&data).map(drop), Installation::check(&data), restore(&data, false).map(drop)] {
            let problem = tried.unwrap_err().to_string();
            assert!(problem.starts_with("cannot read ") && problem.contains("symbolic link"), "{problem}");
        }
    }

    #[test]
    fn a_damaged_file_says_what_to_do() {
        let data = tempfile::tempdir().unwrap();
        for bad in ["", "{}", r#"{"version": 2}"#] {
            fs::write(data.path().join(FILE), bad).unwrap();
            let refused = Installation::open(data.path()).unwrap_err().to_string();
            assert!(
                refused.contains("is damaged") && refused.contains("sortie restore --force"),
                "{refused}"
            );
        }
    }
}
