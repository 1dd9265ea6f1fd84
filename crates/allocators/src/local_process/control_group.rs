//! Control groups (cgroup v2): the processes of one server, whatever they do with their session and their environment.
//!
//! One group per server, within the control plane's own. The server enters it before its program runs
//! ([`entrance`](super::entrance)), so that no child can be born outside. If the system has no groups, or does not let
//! us create one (an ordinary user without a delegated group, most containers), a server's processes are recognized
//! only by their process group and their environment, and a process that leaves both is not found.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sortie_domain::ids::AllocationId;

use super::process::Process;

/// Maximum number of groups below that of one server; a server with the permission may create some for its own
/// processes.
const MAX_INNER_GROUPS: usize = 1000;

/// The group of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ControlGroup(PathBuf);

impl ControlGroup {
    /// The group at this path, as stored in a record.
    pub(super) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Creates an empty group for the server of `allocation`. `None` if that is impossible.
    pub(super) fn make(installation: &str, allocation: &AllocationId) -> Option<Self> {
        let group = Self(own_group()?.join(format!("{}{allocation}", prefix(installation))));
        // An empty one remains if a start failed before its record was written.
        group.remove();
        match fs::create_dir(&group.0) {
            Ok(()) => Some(group),
            Err(error) => {
                tracing::debug!(%allocation, %error, "no control group for a server");
                None
            }
        }
    }

    /// The groups that control planes of this installation have created and not removed.
    pub(super) fn left_by(installation: &str) -> BTreeMap<AllocationId, Self> {
        let prefix = prefix(installation);
        let entries = own_group().and_then(|own| fs::read_dir(own).ok()).into_iter().flatten().flatten();
        let groups = entries.filter_map(|entry| {
            let allocation = AllocationId::new(entry.file_name().to_str()?.strip_prefix(&prefix)?).ok()?;
            Some((allocation, Self(entry.path())))
        });
        groups.collect()
    }

    /// Moves the calling process into it.
    pub(super) fn enter(&self) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.0.join(MEMBERS))?.write_all(b"0")
    }

    /// Watches the processes that are in it now.
    pub(super) fn processes(&self) -> Vec<Process> {
        let mut processes: Vec<_> =
            self.members().into_iter().filter_map(|pid| Process::open(pid).ok()).collect();
        // The id of a process that ended in between may have been reused: only processes that are watched and still
        // listed are members.
        let members = self.members();
        processes.retain(|process| members.contains(&process.identity().pid));
        processes
    }

    fn members(&self) -> Vec<i32> {
        let lists = self.with_inner().into_iter().map(|folder| fs::read_to_string(folder.join(MEMBERS)));
        let lists: Vec<_> = lists.filter_map(Result::ok).collect();
        lists.iter().flat_map(|list| list.lines()).filter_map(|line| line.parse().ok()).collect()
    }

    /// Its folder and those of the groups in it, parents first.
    fn with_inner(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.0.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next) {
            next += 1;
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let inner = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let room = (MAX_INNER_GROUPS + 1).saturating_sub(folders.len());
            let inner: Vec<_> = inner.map(|entry| entry.path()).take(room).collect();
            folders.extend(inner);
        }
        folders
    }

    /// Removes it, unless it contains a process.
    pub(super) fn remove(&self) {
        for folder in self.with_inner().iter().rev() {
            let _not_empty_or_not_there = fs::remove_dir(folder);
        }
    }

    /// Removes it if it is empty: no process has entered it, or all of them have ended.
    pub(super) fn unless_empty(self) -> Option<Self> {
        self.remove();
        self.0.exists().then_some(self)
    }
}

/// The file of a group with the ids of its processes.
const MEMBERS: &str = "cgroup.procs";

/// Prefix of the names of all groups of an installation.
fn prefix(installation: &str) -> String {
    format!("sortie-{installation}-")
}

/// The folder of this process's own group.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    folder(&groups, &mounts)
}

/// See cgroups(7) and proc_pid_mountinfo(5).
fn folder(groups: &str, mounts: &str) -> Option<PathBuf> {
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let (root, mounted_at) = mounts.lines().find_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        kind.starts_with("cgroup2 ").then(|| Some((fields.next()?, fields.next()?)))?
    })?;
    let below = Path::new(own).strip_prefix(root).ok()?;
    Some(Path::new(mounted_at).join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_below_where_groups_are_mounted() {
        let mounts = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n\
                      35 25 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let found = folder("1:name=systemd:/x\n0::/system.slice/sortie.service\n", mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/system.slice/sortie.service")));
        // Within a part of the tree, as in a container.
        let part = mounts.replace("0:30 / ", "0:30 /docker/a ");
        assert_eq!(folder("0::/docker/a/b\n", &part), Some(PathBuf::from("/sys/fs/cgroup/b")));
        assert_eq!(folder("0::/elsewhere\n", &part), None);
        assert_eq!(folder("1:cpu:/\n", mounts), None);
        assert_eq!(folder("0::/\n", "25 30 0:23 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
