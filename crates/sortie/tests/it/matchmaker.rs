//! The matchmaker within the process: its log beside the broker's, over restarts, and joined to the broker.

use std::fs;

use serde_json::{Value, json};

use crate::site::{Site, idle_fleet, soon};

/// A queue whose tickets take free seats of running matches.
fn config() -> Value {
    let queue = json!({"teams": 1, "players_per_team": 4, "backfill": "first"});
    json!({
        "dev": true,
        "fleets": {"quiet": idle_fleet()},
        "matchmaker": {"tick": "10ms", "queues": {"coop": queue}},
    })
}

/// Everything that is in the matchmaker's log.
fn log(site: &Site) -> Vec<u8> {
    let files = fs::read_dir(site.data("matchmaker/log")).into_iter().flatten().flatten();
    files.flat_map(|file| fs::read(file.path()).unwrap_or_default()).collect()
}

fn holds(log: &[u8], text: &str) -> bool {
    log.windows(text.len()).any(|bytes| bytes == text.as_bytes())
}

/// Waits until the matchmaker's log names a match.
async fn noted(site: &Site, id: &str) {
    let noted = async {
        while !holds(&log(site), id) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon("a match in the matchmaker's log", noted).await;
}

fn with_free_seats() -> Value {
    json!({"players": ["ann"], "capacity": 4, "properties": {"queue_name": "coop"}})
}

#[tokio::test]
async fn free_seats_of_a_running_match_reach_the_matchmaker_over_kills() {
    let site = Site::with_config(&config());
    let control_plane = site.up(&[]).await;
    let first = control_plane.ready_match("s1", with_free_seats()).await;
    noted(&site, &first).await;
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let second = control_plane.ready_match("s2", with_free_seats()).await;
    noted(&site, &second).await;
    control_plane.stop().await;
    assert!(site.data("matchmaker/snapshots").is_dir());
}

#[tokio::test]
async fn it_runs_only_where_it_is_configured_and_its_log_is_not_forgotten() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    site.up(&[]).await.stop().await;
    assert!(!site.data("matchmaker").exists());

    site.configure(&config());
    site.up(&[]).await.stop().await;
    assert!(site.data("matchmaker/log").is_dir());

    site.configure(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    site.up(&[]).await.stop().await;
    let said = site.stderr();
    assert!(said.contains("there is the log of a matchmaker, but none is configured"), "{said}");
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_stops_the_start_with_its_keys() {
    let mut config = config();
    config["matchmaker"]["queues"]["coop"]["rules"] = json!({"skill": {"kind": "distance"}});
    let site = Site::with_config(&config);
    let said = site.refused(&[]).await;
    for key in ["property", "most"] {
        assert!(said.contains(&format!("matchmaker.queues.coop.rules.skill.{key}: is required")), "{said}");
    }
}
