//! Control groups (cgroup v2): the processes of one server, whatever they do with their session and their environment.
//!
//! A group for each server, in the control plane's own. Where the system has none, or does not let us make one (an ordinary
//! user without a delegated group, most containers), a server's processes are known by their process group and their
//! environment alone, and one that leaves both is not found.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sortie_domain::ids::AllocationId;

/// Looks for children that a server had before it was put into its group.
const MAX_LOOKS: u32 = 8;

/// The group of one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ControlGroup(PathBuf);

impl ControlGroup {
    /// The group at this path, as a record has it.
    pub(super) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts the process `pid`, which was just started, into a group of its own. `None` where that cannot be.
    pub(super) fn of_new(installation: &str, allocation: &AllocationId, pid: i32) -> Option<Self> {
        let group = Self(own_group()?.join(format!("sortie-{installation}-{allocation}")));
        let made = fs::create_dir(&group.0).and_then(|()| group.take_in(pid));
        match made {
            Ok(()) => Some(group),
            Err(error) => {
                tracing::debug!(%allocation, %error, "no control group for a server");
                group.remove();
                None
            }
        }
    }

    /// Takes in a process, and the children that it had meanwhile.
    fn take_in(&self, pid: i32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())?;
        for _ in 0..MAX_LOOKS {
            let outside = self.children_outside(pid);
            if outside.is_empty() {
                break;
            }
            for child in outside {
                // It may have ended.
                let _gone_is_fine = fs::write(self.0.join("cgroup.procs"), child.to_string());
            }
        }
        Ok(())
    }

    fn children_outside(&self, pid: i32) -> Vec<i32> {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let inside = self.members();
        let children = children.split_ascii_whitespace().filter_map(|number| number.parse().ok());
        children.filter(|child| !inside.contains(child)).collect()
    }

    /// The processes that are in it now.
    pub(super) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Removes it, if nothing is left in it.
    pub(super) fn remove(&self) {
        let _not_empty_or_not_there = fs::remove_dir(&self.0);
    }
}

/// The folder of the group that this process is in.
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
