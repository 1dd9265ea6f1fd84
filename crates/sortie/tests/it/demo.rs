//! `sortie demo`: what the README begins with.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::site::{NONE, Site, signal, soon};

const KEYS: [&str; 7] = [
    "failures",
    "join_ms_cold",
    "join_ms_warm",
    "matches_played",
    "players_joined",
    "servers_left",
    "servers_started",
];

/// Checks the last line and that nothing is left: no process, no file.
fn check(site: &Site, summary: &Value) {
    let keys: Vec<_> = summary.as_object().unwrap().keys().collect();
    assert_eq!(keys, KEYS);
    for name in ["join_ms_warm", "join_ms_cold"] {
        let keys: Vec<_> = summary[name].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["p50", "p99"], "{name}");
    }
    assert_eq!((&summary["servers_left"], &summary["failures"]), (&json!(0), &json!({})));
    assert!(summary["matches_played"].as_u64() >= Some(1), "{summary}");
    assert!(summary["servers_started"].as_u64() >= Some(1), "{summary}");
    assert_eq!(site.processes(), NONE, "processes are left");
    let left: Vec<_> = std::fs::read_dir(site.path("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn players_come_and_go_and_nothing_is_left() {
    let site = Site::new();
    let finished = site.run(&["demo", "--players", "10", "--for", "3s", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{} {}", finished.stdout, finished.stderr);
    let summary = finished.json();
    check(&site, &summary);
    assert!(summary["players_joined"].as_u64() >= Some(10), "{summary}");
    // Each player came either to a server that was there or to one that had to be started.
    let measured = ["join_ms_warm", "join_ms_cold"].map(|name| summary[name]["p50"].as_f64());
    assert!(measured.iter().flatten().count() > 0, "{summary}");
    assert!(finished.stdout.contains("players joined"), "{}", finished.stdout);
}

#[tokio::test]
async fn players_play_through_tickets_of_a_queue() {
    let site = Site::new();
    let finished = site.run(&["demo", "--queue", "2v2", "--players", "8", "--for", "5s", "--json"]).await;
    assert_eq!(finished.code, Some(0), "{} {}", finished.stdout, finished.stderr);
    let summary = finished.json();
    assert_eq!((&summary["servers_left"], &summary["failures"]), (&json!(0), &json!({})));
    assert!(summary["players_joined"].as_u64() >= Some(4), "{summary}");
    assert!(summary["join_ms_queue"]["p50"].is_f64(), "{summary}");
    assert!(finished.stdout.contains("join time, queue"), "{}", finished.stdout);
    assert_eq!(site.processes(), NONE, "processes are left");

    let refused = site.run(&["demo", "--queue", "2v3"]).await;
    assert!(refused.stderr.contains("teams of equal size"), "{}", refused.stderr);
}

#[tokio::test]
async fn an_interrupt_ends_it_cleanly() {
    let site = Site::new();
    let mut command = site.sortie(&["demo", "--players", "5", "--for", "1m", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let joined = |line: &str| line.contains(" joined") && !line.contains(" 0 joined");
    let mut last = String::new();
    let mut interrupted = false;
    while let Some(line) = soon("a line of the demo", lines.next_line()).await.unwrap() {
        if !interrupted && joined(&line) {
            signal(i32::try_from(child.id().unwrap()).unwrap(), Signal::INT);
            interrupted = true;
        }
        last = line;
    }
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).await.unwrap();
    assert_eq!(soon("the end", child.wait()).await.unwrap().code(), Some(0), "{last} {stderr}");
    check(&site, &serde_json::from_str(&last).unwrap());
}
