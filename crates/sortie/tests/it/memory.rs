//! What an idle control plane costs.
//!
//! Without the pages of the program itself: those of a debug build are several times those of a release, and the system
//! may drop them. What a release has in all is in `docs/performance.md`.

use serde_json::json;

use crate::site::{Site, idle_fleet};

const MOST_KIB: u64 = 15 * 1024;

/// Memory that a process has in use, in KiB.
pub(crate) fn resident_kib(pid: i32) -> u64 {
    status(pid, "VmRSS:")
}

/// A line of what the system tells of a process.
fn status(pid: i32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_idle_control_plane_is_small() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    assert_eq!(control_plane.get("/v1/matches").await, json!({"matches": []}));
    control_plane.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s"})).await;
    let used = status(control_plane.pid, "RssAnon:");
    assert!(used <= MOST_KIB, "{used} KiB");
}
