//! What really runs: the processes of the fleet's servers, and what they have written down of themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;
use crate::site::{Site, variables};

/// What a game server of the fleet is known by.
const ALLOCATION: &str = "SORTIE_ALLOCATION_ID=";
/// The line that the arena's server writes for each match that it is given.
const BEGINS: &str = "a match begins match_id=";

/// The processes of the fleet's servers by their allocations.
pub(super) fn running(site: &Site) -> BTreeMap<String, i32> {
    let mut found = BTreeMap::new();
    for pid in site.game_servers() {
        let allocation =
            variables(pid).find_map(|variable| variable.strip_prefix(ALLOCATION).map(ToOwned::to_owned));
        let Some(allocation) = allocation else { continue };
        let other = found.insert(allocation.clone(), pid);
        assert_eq!(other, None, "{allocation} has two processes, {pid} too");
    }
    found
}

/// The matches that the fleet's servers say they were given, by allocation.
pub(super) fn given(site: &Site) -> BTreeMap<String, BTreeSet<String>> {
    let mut given: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in std::fs::read_dir(site.data("servers")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let Some((allocation, "log" | "log.1")) = name.split_once('.') else { continue };
        // One that ended long ago may just have been pruned.
        let output = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let ids = output.split(BEGINS).skip(1).filter_map(|rest| rest.split('"').nth(1));
        given.entry(allocation.to_owned()).or_default().extend(ids.map(ToOwned::to_owned));
    }
    given
}

/// Servers that should run and do not.
pub(super) fn missing(history: &History, running: &BTreeMap<String, i32>) -> Vec<String> {
    let wanted = history.orders.iter().filter(|(_, order)| order.started && !order.unwanted && !order.ended);
    wanted.filter(|(id, _)| !running.contains_key(*id)).map(|(id, _)| id.clone()).collect()
}
