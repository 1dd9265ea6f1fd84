//! What `/proc` tells about processes: to recognize one, and to find those without a record.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sortie_inherited::OUR_PREFIX;

/// Maximum size of a process's environment that is read, in bytes: what Linux allows by default.
const MAX_ENVIRONMENT_BYTES: u64 = 2 * 1024 * 1024;
/// Time between two checks of processes that are about to run another program.
const EXEC_PAUSE: Duration = Duration::from_millis(5);
/// Checks of such processes before they count as strangers.
const MAX_EXEC_LOOKS: u32 = 40;
/// The flag of kernel threads, `PF_KTHREAD` in the kernel's `sched.h`.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stat {
    /// Ended, but not reaped by its parent.
    pub(super) zombie: bool,
    /// Its process group.
    pub(super) group: i32,
    /// When it was started, in clock ticks since the boot.
    pub(super) started_ticks: u64,
    /// Whether an empty environment is real: it has none, or none that we may see. Otherwise exec is in progress, and
    /// there is none for that moment.
    bare: bool,
}

impl Stat {
    /// Reads those of the process with the id `pid`.
    pub(super) fn read(pid: i32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown format of /proc"))
    }

    /// See proc_pid_stat(5). The program's name, field 2, may contain blanks and brackets: fields are counted from the
    /// last bracket.
    fn parse(text: &str) -> Option<Self> {
        let (_, after_name) = text.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let (start, end) = (number(50)?, number(51)?);
        // If the kernel hides the addresses of a process, its code appears to begin at 1.
        let hidden = number(26)? == 1;
        let kernel_thread = number(9)? & KERNEL_THREAD != 0;
        Some(Self {
            zombie: matches!(fields.first(), Some(&("Z" | "X"))),
            group: i32::try_from(number(5)?).ok()?,
            started_ticks: number(22)?,
            bare: hidden || kernel_thread || (start == end && end != 0),
        })
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

/// Every running process of our own user except this one; zombies are left out.
pub(super) async fn running() -> io::Result<Vec<Running>> {
    let mut seen = look(None).await?;
    let mut looks = 0;
    while !seen.in_exec.is_empty() && looks < MAX_EXEC_LOOKS {
        looks += 1;
        tokio::time::sleep(EXEC_PAUSE).await;
        let again = look(Some(seen.in_exec)).await?;
        seen.running.extend(again.running);
        seen.in_exec = again.in_exec;
    }
    Ok(seen.running)
}

#[derive(Default)]
struct Seen {
    running: Vec<Running>,
    in_exec: Vec<i32>,
}

/// Reads these processes, or all of them.
async fn look(pids: Option<Vec<i32>>) -> io::Result<Seen> {
    let looked = tokio::task::spawn_blocking(move || {
        let pids = pids.map_or_else(every_process, Ok)?;
        let user = rustix::process::geteuid().as_raw();
        let mut seen = Seen::default();
        for pid in pids {
            // A process may end between any two of these reads: then it does not run.
            if std::fs::metadata(format!("/proc/{pid}")).is_ok_and(|process| process.uid() == user) {
                look_at(pid, &mut seen);
            }
        }
        Ok(seen)
    });
    looked.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

fn every_process() -> io::Result<Vec<i32>> {
    let own = i32::try_from(std::process::id()).ok();
    let names = std::fs::read_dir("/proc")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    let pids = names.iter().filter_map(|name| name.to_str()?.parse::<i32>().ok());
    Ok(pids.filter(|pid| Some(*pid) != own).collect())
}

fn look_at(pid: i32, seen: &mut Seen) {
    let environment = environment(pid).unwrap_or_default();
    match Stat::read(pid) {
        Ok(stat) if stat.zombie => {}
        Ok(stat) if environment.is_empty() && !stat.bare => seen.in_exec.push(pid),
        Ok(stat) => seen.running.push(Running { pid, stat, variables: our_variables(&environment) }),
        Err(_) => {}
    }
}

fn environment(pid: i32) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(format!("/proc/{pid}/environ"))?
        .take(MAX_ENVIRONMENT_BYTES)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn our_variables(environment: &[u8]) -> BTreeMap<String, String> {
    let variables = environment.split(|byte| *byte == 0).filter_map(|variable| {
        let (name, value) = std::str::from_utf8(variable).ok()?.split_once('=')?;
        name.starts_with(OUR_PREFIX).then(|| (name.to_owned(), value.to_owned()))
    });
    variables.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_does_not_shift_the_fields() {
        let expected = Stat { zombie: false, group: 77, started_ticks: 123_456, bare: false };
        assert_eq!(stat("sh", "S", [0, 9, 5, 8]), Some(expected));
        assert_eq!(stat("a) Z 9 (b", "S", [0, 9, 5, 8]), Some(expected));
        assert_eq!(stat("sh", "Z", [0, 9, 5, 8]), Some(Stat { zombie: true, ..expected }));
        assert_eq!(Stat::parse("77 (sh) S 1"), None);
    }

    #[test]
    fn an_environment_of_no_bytes_is_believed_but_of_a_process_in_exec() {
        let bare = |numbers| stat("sh", "S", numbers).unwrap().bare;
        assert!(!bare([0, 0, 0, 0]), "in exec");
        assert!(!bare([0, 9, 5, 8]), "just out of exec");
        assert!(bare([0, 9, 5, 5]), "started with none");
        assert!(bare([0, 1, 0, 0]), "hidden");
        assert!(bare([KERNEL_THREAD, 0, 0, 0]), "kernel thread");
    }

    /// With these flags, start of the code, start and end of the environment.
    fn stat(name: &str, state: &str, [flags, code, start, end]: [u64; 4]) -> Option<Stat> {
        let middle = "0 ".repeat(23);
        Stat::parse(&format!(
            "77 ({name}) {state} 1 77 77 0 -1 {flags} 1 0 0 0 0 0 0 0 20 0 1 0 123456 1 1 1 {code} {middle}{start} {end} 0"
        ))
    }

    #[test]
    fn the_running_process_has_a_stat() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let stat = Stat::read(pid).unwrap();
        assert!(!stat.zombie && !stat.bare && stat.started_ticks > 0);
    }
}
