//! What an idle control plane costs.

use serde_json::json;

use crate::site::{Site, idle_fleet};

const MOST_KIB: u64 = 40 * 1024;

/// Memory that a process has in use, in KiB.
pub(crate) fn resident_kib(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_idle_control_plane_is_small() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    assert_eq!(control_plane.get("/v1/matches").await, json!({"matches": []}));
    control_plane.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s"})).await;
    let used = resident_kib(control_plane.pid);
    assert!(used <= MOST_KIB, "{used} KiB");
}
