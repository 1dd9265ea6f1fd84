//! What an idle control plane costs, and what is left of a burst.
//!
//! Without the pages of the program itself: those of a debug build are several times those of a release, and the system
//! may drop them. What a release has in all is in `docs/performance.md`.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{Site, idle_fleet, soon};

const MAX_KIB: u64 = 15 * 1024;

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
    assert!(used <= MAX_KIB, "{used} KiB");
}

/// Streams of events that are open at a time.
const STREAMS: usize = 1_000;

#[tokio::test]
async fn a_burst_of_streams_gives_its_memory_back() {
    let site = Site::with_config(&json!({"dev": true}));
    let control_plane = site.up(&[]).await;
    let address = control_plane.url.strip_prefix("http://").unwrap().to_owned();
    let used = || status(control_plane.pid, "RssAnon:");
    let idle = used();
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 15];
        soon("the head of a stream", stream.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 200 OK");
        streams.push(stream);
    }
    let grown = used().saturating_sub(idle);
    assert!(grown > 4 * 1024, "{grown} KiB for {STREAMS} streams");
    drop(streams);
    // Nothing tells when the allocator gives memory back, so the test looks again and again.
    let given_back = async {
        let mut looks = tokio::time::interval(Duration::from_millis(100));
        while used().saturating_sub(idle) > grown / 4 {
            looks.tick().await;
        }
    };
    soon("three quarters of the memory of a burst come back", given_back).await;
}
