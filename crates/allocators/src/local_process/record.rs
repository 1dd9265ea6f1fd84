//! Placement records: what survives the control plane, one small file per server.
//!
//! Not in the log: where a server runs is not a decision but a fact about this machine, which is useless to another
//! replica. A record is written before the allocator says "started", and removed after the broker has accepted the end
//! of the server, so that an unreported end is reported after a restart.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};

use super::control_group::ControlGroup;
use super::process::Identity;

/// Version of the record's format.
const VERSION: u32 = 1;

/// One server on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlacementRecord {
    /// The order that it was started for.
    pub allocation: AllocationId,
    /// The id that it sends.
    pub server: ServerId,
    /// Its fleet.
    pub fleet: FleetId,
    /// Its port.
    pub port: u16,
    /// Its process.
    pub(super) process: Identity,
    /// The process that keeps its output; servers of earlier versions have none.
    pub(super) keeper: Option<Identity>,
    /// Its control group, if it has one.
    pub(super) group: Option<ControlGroup>,
    /// When it was started, RFC 3339 in UTC; for people.
    pub(super) started_at: String,
}

impl PlacementRecord {
    /// The id of its process.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.process.pid
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    allocation: String,
    server: String,
    fleet: String,
    port: u16,
    pid: i32,
    process_start_ticks: u64,
    boot_id: String,
    started_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keeper_pid: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keeper_start_ticks: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_group: Option<PathBuf>,
    /// The installation of the server; earlier versions did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    installation: Option<String>,
}

impl Stored {
    fn of(placement: &PlacementRecord, installation: &str) -> Self {
        Self {
            version: VERSION,
            installation: Some(installation.to_owned()),
            allocation: placement.allocation.to_string(),
            server: placement.server.to_string(),
            fleet: placement.fleet.to_string(),
            port: placement.port,
            pid: placement.process.pid,
            process_start_ticks: placement.process.started_ticks,
            boot_id: placement.process.boot.clone(),
            started_at: placement.started_at.clone(),
            keeper_pid: placement.keeper.as_ref().map(|keeper| keeper.pid),
            keeper_start_ticks: placement.keeper.as_ref().map(|keeper| keeper.started_ticks),
            control_group: placement.group.as_ref().map(|group| group.path().to_owned()),
        }
    }
}

impl TryFrom<Stored> for PlacementRecord {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        if stored.version != VERSION {
            return Err(format!("has version {}, only {VERSION} is known", stored.version));
        }
        Ok(Self {
            allocation: AllocationId::new(&stored.allocation).map_err(|bad| format!("allocation {bad}"))?,
            server: ServerId::new(&stored.server).map_err(|bad| format!("server {bad}"))?,
            fleet: FleetId::new(&stored.fleet).map_err(|bad| format!("fleet {bad}"))?,
            port: stored.port,
            keeper: stored.keeper_pid.zip(stored.keeper_start_ticks).map(|(pid, started_ticks)| Identity {
                pid,
                started_ticks,
                boot: stored.boot_id.clone(),
            }),
            group: stored.control_group.map(ControlGroup::at),
            process: Identity {
                pid: stored.pid,
                started_ticks: stored.process_start_ticks,
                boot: stored.boot_id,
            },
            started_at: stored.started_at,
        })
    }
}

/// The folder of one control plane's servers: records and output.
pub(super) struct Folder {
    path: PathBuf,
    /// Names the installation in the environment of its servers.
    id: String,
}

impl Folder {
    /// The folder `servers` in the data folder; created if it does not exist.
    pub(super) fn open(data: &Path, installation: &str) -> io::Result<Self> {
        let path = data.join("servers");
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self { path, id: installation.to_owned() })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The folder of records and output.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file for the output of a server.
    pub(super) fn log(&self, allocation: &AllocationId) -> PathBuf {
        self.path.join(format!("{allocation}.log"))
    }

    /// The file for the older part of that output.
    pub(super) fn older_log(&self, allocation: &AllocationId) -> PathBuf {
        self.path.join(format!("{allocation}.log.1"))
    }

    fn record(&self, allocation: &AllocationId) -> PathBuf {
        self.path.join(format!("{allocation}.json"))
    }

    /// Stores a record; on return it is durable.
    pub(super) fn store(&self, placement: &PlacementRecord) -> io::Result<()> {
        let text = serde_json::to_vec(&Stored::of(placement, &self.id))?;
        write_durably(&self.path, &self.record(&placement.allocation), &text)
    }

    /// Removes a record. Not durable: a record that reappears after a crash belongs to an ended server, whose end is
    /// reported twice.
    pub(super) fn remove(&self, allocation: &AllocationId) {
        match fs::remove_file(self.record(allocation)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%allocation, %error, "the record of a server that is gone could not be removed");
            }
            _ => {}
        }
    }

    /// Every record. An unreadable one is put aside: if its server runs, the server's environment contains the same
    /// data. A record of another installation, as in a copied folder, is put aside, too: its server is not ours.
    pub(super) fn load(&self) -> io::Result<Vec<PlacementRecord>> {
        let mut placements = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("json") => placements.extend(read_record(&path, &self.id)?),
                // Half-written when the control plane ended.
                Some("tmp") => fs::remove_file(&path)?,
                _ => {}
            }
        }
        Ok(placements)
    }

    /// Removes the output of all but the `keep` servers that wrote last, except for those that `is_live`.
    pub(super) fn prune_logs(&self, keep: usize, is_live: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut ended = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(allocation) = name.to_str().and_then(|name| name.strip_suffix(".log")) else { continue };
            if !is_live(allocation) {
                ended.push((entry.metadata()?.modified()?, allocation.to_owned()));
            }
        }
        ended.sort_unstable();
        let surplus = ended.len().saturating_sub(keep);
        for (_, allocation) in ended.into_iter().take(surplus) {
            remove_if_there(&self.path.join(format!("{allocation}.log.1")))?;
            remove_if_there(&self.path.join(format!("{allocation}.log")))?;
        }
        Ok(())
    }
}

fn read_record(path: &Path, installation: &str) -> io::Result<Option<PlacementRecord>> {
    let text = fs::read(path)?;
    let read = serde_json::from_slice::<Stored>(&text).map_err(|error| error.to_string());
    if let Ok(Stored { installation: Some(other), .. }) = &read
        && other != installation
    {
        let aside = path.with_extension("foreign");
        tracing::warn!(file = %aside.display(), other, "put a placement record aside: it is another installation's");
        fs::rename(path, aside)?;
        return Ok(None);
    }
    match read.and_then(PlacementRecord::try_from) {
        Ok(placement) => Ok(Some(placement)),
        Err(problem) => {
            let aside = path.with_extension("damaged");
            tracing::error!(file = %aside.display(), problem, "put a placement record aside: it cannot be read");
            fs::rename(path, aside)?;
            Ok(None)
        }
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces `file` in `folder` atomically.
fn write_durably(folder: &Path, file: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = file.with_extension("tmp");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    out.write_all(content)?;
    out.sync_all()?;
    fs::rename(&temporary, file)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placement(allocation: &str) -> PlacementRecord {
        PlacementRecord {
            allocation: AllocationId::new(allocation).unwrap(),
            server: ServerId::new("server-1").unwrap(),
            fleet: FleetId::new("eu").unwrap(),
            port: 7001,
            process: Identity { pid: 42, started_ticks: 7, boot: "b".to_owned() },
            keeper: Some(Identity { pid: 43, started_ticks: 8, boot: "b".to_owned() }),
            group: Some(ControlGroup::at("/sys/fs/cgroup/a".into())),
            started_at: "2026-11-21T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn records_come_back_until_they_are_removed() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path(), "here").unwrap();
        folder.store(&placement("allocation-1")).unwrap();
        folder.store(&placement("allocation-2")).unwrap();
        let again = Folder::open(data.path(), "here").unwrap();
        assert_eq!(again.id(), folder.id());
        folder.remove(&placement("allocation-1").allocation);
        assert_eq!(again.load().unwrap(), [placement("allocation-2")]);
    }

    #[test]
    fn unreadable_records_are_put_aside_and_half_written_ones_removed() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path(), "here").unwrap();
        let at = |name: &str| data.path().join("servers").join(name);
        fs::write(at("allocation-1.json"), "{\"version\":1").unwrap();
        fs::write(at("allocation-2.json"), "").unwrap();
        fs::write(at("allocation-3.tmp"), "{").unwrap();
        folder.store(&placement("allocation-4")).unwrap();
        let newer =
            fs::read_to_string(at("allocation-4.json")).unwrap().replace("\"version\":1", "\"version\":2");
        fs::write(at("allocation-4.json"), newer).unwrap();
        assert_eq!(folder.load().unwrap(), []);
        assert!(at("allocation-1.damaged").exists() && at("allocation-4.damaged").exists());
        assert!(!at("allocation-3.tmp").exists());
    }

    #[test]
    fn records_of_another_installation_are_put_aside() {
        let data = tempfile::tempdir().unwrap();
        Folder::open(data.path(), "there").unwrap().store(&placement("allocation-1")).unwrap();
        let folder = Folder::open(data.path(), "here").unwrap();
        assert_eq!(folder.load().unwrap(), []);
        let at = |name: &str| data.path().join("servers").join(name);
        assert!(at("allocation-1.foreign").exists() && !at("allocation-1.json").exists());
        // Records of an earlier version do not name their installation.
        folder.store(&placement("allocation-2")).unwrap();
        let said = fs::read_to_string(at("allocation-2.json")).unwrap();
        let earlier = said.replace(r#","installation":"here""#, "");
        assert_ne!(said, earlier);
        fs::write(at("allocation-2.json"), earlier).unwrap();
        assert_eq!(folder.load().unwrap(), [placement("allocation-2")]);
    }

    #[test]
    fn only_the_newest_output_of_ended_servers_is_kept() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::open(data.path(), "here").unwrap();
        for number in 0..5u64 {
            let id = placement(&format!("allocation-{number}")).allocation;
            let log = File::create(folder.log(&id)).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number);
            log.set_modified(time).unwrap();
            File::create(folder.older_log(&id)).unwrap();
        }
        folder.prune_logs(2, |allocation| allocation == "allocation-0").unwrap();
        let left: Vec<u64> = (0..5)
            .filter(|number| folder.log(&placement(&format!("allocation-{number}")).allocation).exists())
            .collect();
        assert_eq!(left, [0, 3, 4]);
        assert!(!folder.older_log(&placement("allocation-1").allocation).exists());
    }
}
