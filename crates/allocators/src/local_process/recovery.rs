//! Finds the servers that an earlier control plane has left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::SystemTime;

use sortie_domain::ids::{AllocationId, FleetId, ServerId};

use super::control_group::ControlGroup;
use super::launch::variable;
use super::proc_files::Running;
use super::process::Process;
use super::record::{Folder, PlacementRecord};
use super::strays;

/// What was found in a folder.
pub(super) struct Survey {
    /// Servers that run.
    pub(super) running: Vec<(Process, PlacementRecord)>,
    /// Servers with a record that have ended.
    pub(super) gone: Vec<PlacementRecord>,
    /// Allocations without a server that have left processes or a control group.
    pub(super) strays: BTreeMap<AllocationId, Option<ControlGroup>>,
}

/// Looks for servers by their records, and then, among everything that is `running`, for those that a crash left
/// without a record. Blocks; needs a runtime.
pub(super) fn survey(folder: &Folder, running: Vec<Running>) -> io::Result<Survey> {
    let mut survey = Survey { running: Vec::new(), gone: Vec::new(), strays: BTreeMap::new() };
    let mut recorded = BTreeSet::new();
    let mut groups = ControlGroup::left_by(folder.id());
    for placement in folder.load()? {
        recorded.insert(placement.allocation.clone());
        match Process::reopen(&placement.process) {
            Some(process) => {
                tracing::info!(allocation = %placement.allocation, pid = placement.pid(), "taken over");
                survey.running.push((process, placement));
            }
            None => survey.gone.push(placement),
        }
    }
    for (allocation, members) in unrecorded(folder, running, &recorded) {
        let group = groups.remove(&allocation);
        match rebuild(&allocation, &members, group.clone()) {
            Some((process, placement)) => {
                tracing::warn!(%allocation, pid = placement.pid(), "taken over without a record");
                if let Err(error) = folder.store(&placement) {
                    // E.g. on a full disk: the next start finds it in the same way.
                    tracing::warn!(%allocation, %error, "still without a record");
                }
                survey.running.push((process, placement));
            }
            None => {
                tracing::warn!(%allocation, "killing what is left of a server without a record");
                survey.strays.insert(allocation, group);
            }
        }
    }
    groups.retain(|allocation, _| !recorded.contains(allocation));
    survey.strays.extend(groups.into_iter().map(|(allocation, group)| (allocation, Some(group))));
    Ok(survey)
}

/// The orders to which these processes belong, if they are of this folder.
pub(super) fn orders(folder_id: &str, running: &[Running]) -> BTreeSet<AllocationId> {
    let ours = running.iter().filter(|running| strays::belongs(running, folder_id, None));
    ours.filter_map(order).collect()
}

fn order(running: &Running) -> Option<AllocationId> {
    running.variables.get(variable::ALLOCATION).and_then(|id| AllocationId::new(id).ok())
}

/// Processes that were started from this folder for an allocation without a record.
fn unrecorded(
    folder: &Folder,
    running: Vec<Running>,
    recorded: &BTreeSet<AllocationId>,
) -> BTreeMap<AllocationId, Vec<Running>> {
    let mut found: BTreeMap<AllocationId, Vec<Running>> = BTreeMap::new();
    for running in running {
        if let Some(allocation) = order(&running)
            && strays::belongs(&running, folder.id(), None)
            && !recorded.contains(&allocation)
        {
            found.entry(allocation).or_default().push(running);
        }
    }
    found
}

/// The missing record, restored from the environment of the server: the oldest process that leads a group.
fn rebuild(
    allocation: &AllocationId,
    members: &[Running],
    group: Option<ControlGroup>,
) -> Option<(Process, PlacementRecord)> {
    let leaders = members.iter().filter(|running| running.stat.group == running.pid);
    let leader = leaders.min_by_key(|running| (running.stat.started_ticks, running.pid))?;
    let process = strays::open(leader)?;
    let read = |name: &str| leader.variables.get(name);
    let placement = PlacementRecord {
        allocation: allocation.clone(),
        server: ServerId::new(read(variable::SERVER)?).ok()?,
        fleet: FleetId::new(read(variable::FLEET)?).ok()?,
        port: read(variable::PORT)?.parse().ok()?,
        process: process.identity().clone(),
        // It keeps running, and ends with the last process that can write.
        keeper: None,
        group,
        started_at: started_at(&process),
    };
    Some((process, placement))
}

fn started_at(process: &Process) -> String {
    let time = SystemTime::now().checked_sub(process.age()).unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_seconds(time).to_string()
}
