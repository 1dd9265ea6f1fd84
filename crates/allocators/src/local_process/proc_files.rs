//! What `/proc` tells about processes: to know one again, and to find those that nobody kept a record of.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest environment of a process that is read, in bytes: what Linux allows by default.
const MAX_ENVIRONMENT_BYTES: u64 = 2 * 1024 * 1024;
/// What the environment variables that matter here begin with.
pub(super) const OUR_PREFIX: &str = "SORTIE_";

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// Ended, but not reaped by its parent.
    pub(super) zombie: bool,
    /// Its process group.
    pub(super) group: i32,
    /// When it was started, in clock ticks since the boot.
    pub(super) started_ticks: u64,
}

impl Stat {
    /// Reads those of the process with the number `pid`.
    pub(super) fn read(pid: i32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown format of /proc"))
    }

    /// See proc_pid_stat(5). The name of the program, field 2, may hold blanks and brackets: fields are counted
    /// from the last bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let started_ticks = fields.nth(16)?.parse().ok()?;
        Some(Self { zombie: matches!(state, "Z" | "X"), group, started_ticks })
    }
}

/// The kernel's id of this boot.
pub(super) fn boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// One running process of our own user.
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) stat: Stat,
    /// The `SORTIE_…` variables that it was started with.
    pub(super) variables: BTreeMap<String, String>,
}

/// Every running process of our own user but ourselves, ended ones that wait for their parent left out.
pub(super) fn running() -> io::Result<Vec<Running>> {
    let user = rustix::process::geteuid().as_raw();
    let own = i32::try_from(std::process::id()).ok();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A process may end between any two of these reads: it is then none that runs.
        let Ok(metadata) = entry.metadata() else { continue };
        let Ok(stat) = Stat::read(pid) else { continue };
        if metadata.uid() != user || stat.zombie || Some(pid) == own {
            continue;
        }
        let variables = our_variables(&entry.path().join("environ")).unwrap_or_default();
        found.push(Running { pid, stat, variables });
    }
    Ok(found)
}

fn our_variables(environ: &Path) -> io::Result<BTreeMap<String, String>> {
    let mut bytes = Vec::new();
    std::fs::File::open(environ)?.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut bytes)?;
    let variables = bytes.split(|byte| *byte == 0).filter_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        name.starts_with(OUR_PREFIX).then(|| (name.to_owned(), value.to_owned()))
    });
    Ok(variables.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let tail = "S 1 77 77 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 2 3";
        let expected = Some(Stat { zombie: false, group: 77, started_ticks: 123_456 });
        assert_eq!(Stat::parse(&format!("77 (sh) {tail}")), expected);
        assert_eq!(Stat::parse(&format!("77 (a) Z 9 (b) {tail}")), expected);
        assert_eq!(Stat::parse("77 (sh) S 1"), None);
        assert!(Stat::parse(&format!("77 (sh) {}", tail.replacen('S', "Z", 1))).unwrap().zombie);
    }

    #[test]
    fn the_running_process_has_a_stat() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = Stat::read(pid).unwrap();
        assert!(!stat.zombie && stat.started_ticks > 0);
    }
}
