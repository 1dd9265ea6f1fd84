//! Kills what a server has left behind: members of its process group, those of its control group, if it has one, and
//! processes that left the group but still carry its ids in their environment. Otherwise a helper process would keep
//! the server's port.

use std::collections::BTreeSet;
use std::time::Duration;

use rustix::process::Signal;
use sortie_domain::ids::AllocationId;

use super::control_group::ControlGroup;
use super::launch::variable;
use super::proc_files::{self, Running};
use super::process::Process;

/// Maximum wait for killed processes before the next check.
const ROUND: Duration = Duration::from_secs(1);
/// Checks after which processes that still exist are reported.
const ROUNDS_BEFORE_ERROR: u32 = 5;

/// Kills what is left of the server of `allocation`, and returns when nothing is. `leader` is its ended process.
/// has ended.
pub(super) async fn clear(
    folder_id: &str,
    allocation: &AllocationId,
    leader: Option<&Process>,
    control_group: Option<&ControlGroup>,
) {
    let mut round = 0;
    loop {
        // While the leader is unreaped, the group's id cannot be reused. After that only the environment tells.
        let group = leader.filter(|leader| leader.is_unreaped());
        if let Some(leader) = group {
            let _empty_is_fine = leader.signal_group(Signal::KILL);
        }
        let group = group.map(|leader| leader.identity().pid);
        let left = left_of(folder_id, allocation, group, control_group).await;
        if left.is_empty() {
            if let Some(group) = control_group {
                group.remove();
            }
            return;
        }
        round += 1;
        if round == ROUNDS_BEFORE_ERROR {
            tracing::error!(%allocation, processes = left.len(), "what a server left behind cannot be killed");
        }
        let kill_all = async {
            for process in &left {
                if process.kill().is_ok() {
                    process.exited().await;
                    // As process 1 of a container we inherit them.
                    let _reaped = process.reap();
                }
            }
        };
        let _looked_at_again = tokio::time::timeout(ROUND, kill_all).await;
    }
}

/// The processes of the server of `allocation`; `group` is its process group, if that is certain.
async fn left_of(
    folder_id: &str,
    allocation: &AllocationId,
    group: Option<i32>,
    control_group: Option<&ControlGroup>,
) -> Vec<Process> {
    // Including those of other users: a server with the right to do so may change its user.
    let mut left = control_group.map(ControlGroup::processes).unwrap_or_default();
    let members: BTreeSet<i32> = left.iter().map(|process| process.identity().pid).collect();
    let running = proc_files::running().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look for processes that a server left behind");
        Vec::new()
    });
    let is_left = |running: &&Running| {
        let is_known =
            Some(running.stat.group) == group || belongs(running, folder_id, Some(allocation.as_str()));
        is_known && !members.contains(&running.pid)
    };
    left.extend(running.iter().filter(is_left).filter_map(open));
    left
}

/// Whether a process was started by a server of this folder; of this `allocation`, if one is given.
pub(super) fn belongs(running: &Running, folder_id: &str, allocation: Option<&str>) -> bool {
    let is = |name: &str, value: &str| running.variables.get(name).is_some_and(|is| is == value);
    is(variable::FOLDER, folder_id)
        && allocation.is_none_or(|allocation| is(variable::ALLOCATION, allocation))
}

/// Watches a process that was seen running, if it is still the same one.
pub(super) fn open(running: &Running) -> Option<Process> {
    let process = Process::open(running.pid).ok()?;
    (process.identity().started_ticks == running.stat.started_ticks).then_some(process)
}
