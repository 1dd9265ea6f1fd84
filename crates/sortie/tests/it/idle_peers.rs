//! Thousands who connect and say nothing, or half of something.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::site::{Site, idle_fleet, soon};

const PEERS: usize = 3000;
/// What the process may have open in the end beyond what it began with: connections of the test's own client.
const SLACK: usize = 20;

/// Both this process and those that it starts need a file for each connection.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
}

fn open_files(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[tokio::test]
async fn thousands_of_idle_connections_harm_nobody_and_leave_nothing() {
    raise_open_files();
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    control_plane.submit(json!({"players": ["before"]})).await;
    let before = control_plane.get("/v1/matches").await;
    let baseline = open_files(control_plane.pid);
    let address = control_plane.url.strip_prefix("http://").unwrap();
    let openings: [&[u8]; 5] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: ",
        b"POST /v1/matches HTTP/1.1\r\nhost: localhost\r\ncontent-length: 18\r\n\r\n{\"players\": [",
    ];
    let mut peers = Vec::with_capacity(PEERS);
    for opening in openings.iter().cycle().take(PEERS) {
        let mut peer = soon("a connection", TcpStream::connect(address)).await.unwrap();
        peer.write_all(opening).await.unwrap();
        peers.push(peer);
    }
    assert_eq!(control_plane.get("/v1/matches").await, before);
    control_plane.submit(json!({"players": ["meanwhile"]})).await;
    drop(peers);
    soon("the files to be closed", async {
        while open_files(control_plane.pid) > baseline + SLACK {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(control_plane.get("/v1/matches").await["matches"].as_array().unwrap().len(), 2);
    control_plane.stop().await;
    let stderr = site.stderr();
    assert!(!stderr.contains("panicked") && !stderr.contains("ERROR"), "{stderr}");
}
