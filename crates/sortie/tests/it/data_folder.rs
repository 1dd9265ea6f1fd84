//! The data folder: whose it is, and what becomes of a log that is not as it was written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::site::{Site, idle_fleet};

const MATCHES: usize = 8;

/// A folder with a log of some matches, left by a process that was killed.
async fn written() -> (Site, Vec<String>, PathBuf) {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let mut ids = Vec::new();
    for number in 0..MATCHES {
        ids.push(control_plane.submit(json!({"players": [format!("p{number}")]})).await);
    }
    control_plane.kill().await;
    let log = site.data("log/00000000000000000001.log");
    // The file is lengthened ahead of its use, by zeros.
    let bytes = std::fs::read(&log).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    std::fs::write(&log, &bytes[..used]).unwrap();
    (site, ids, log)
}

/// The matches there are.
async fn matches(site: &Site) -> BTreeSet<String> {
    let control_plane = site.up(&[]).await;
    let list = control_plane.get("/v1/matches").await;
    let ids =
        list["matches"].as_array().unwrap().iter().map(|game| game["match_id"].as_str().unwrap().to_owned());
    let ids = ids.collect();
    // Without a snapshot, so that the next start reads the whole log again.
    control_plane.kill().await;
    ids
}

/// Ids of the same millisecond are in no order.
fn set(ids: &[String]) -> BTreeSet<String> {
    ids.iter().cloned().collect()
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let said = site.refused(&[]).await;
    let folder = site.path("data");
    assert!(said.contains(folder.to_str().unwrap()), "{said}");
    assert!(said.contains("in use") && said.contains(&control_plane.pid.to_string()), "{said}");
    control_plane.submit(json!({"players": ["p"]})).await;
    control_plane.stop().await;
    assert_eq!(matches(&site).await.len(), 1);
}

#[tokio::test]
async fn a_tail_that_was_never_finished_is_cut() {
    let (site, ids, log) = written().await;
    let sound = std::fs::read(&log).unwrap();
    for garbage in [&b"x"[..], &[0xff; 100], &sound[48..60]] {
        std::fs::write(&log, [&sound, garbage].concat()).unwrap();
        assert_eq!(matches(&site).await, set(&ids));
        assert!(site.stderr().contains("WARN"), "{}", site.stderr());
    }
}

/// The matches that are left when the loss is accepted; after that no flag is needed.
async fn matches_after_loss(site: &Site) -> BTreeSet<String> {
    site.up(&["--accept-loss"]).await.kill().await;
    assert!(site.stderr().contains("WARN") && site.stderr().contains("--accept-loss"), "{}", site.stderr());
    matches(site).await
}

#[tokio::test]
async fn an_acknowledged_match_that_is_cut_off_or_changed_is_missed() {
    let (site, ids, log) = written().await;
    let (sound, end) = (std::fs::read(&log).unwrap(), std::fs::read(site.data("end")).unwrap());
    let mut flipped = sound.clone();
    flipped[sound.len() - 9] ^= 1;
    for bytes in [&sound[..sound.len() - 1], &sound[..sound.len() - 30], &flipped] {
        std::fs::write(&log, bytes).unwrap();
        std::fs::write(site.data("end"), &end).unwrap();
        let said = site.refused(&[]).await;
        assert!(said.contains("damaged at byte ") && said.contains("--accept-loss"), "{said}");
        assert!(std::fs::read(&log).unwrap() == bytes, "nothing is changed");
    }
    assert_eq!(matches_after_loss(&site).await, set(&ids[..MATCHES - 1]));
    let kept = site.data("lost").join(log.file_name().unwrap());
    assert!(std::fs::read(kept).unwrap() == flipped, "what was cut off is kept");
}

#[tokio::test]
async fn a_log_that_was_removed_as_a_whole_is_missed() {
    let queues = json!({"duel": {"players_per_team": 1}});
    let brokers = ["log", "snapshots", "end"];
    let beside = ["used", "lock", "end-of-broker", "end-of-matchmaker"];
    let gone: [&[&str]; 8] = [
        &["matchmaker"],
        &["matchmaker", "used"],
        &["matchmaker", "used", "end-of-matchmaker"],
        &["matchmaker", "used", "installation.json"],
        &["log"],
        &brokers,
        &[&brokers[..], &beside].concat(),
        &[&brokers[..], &["installation.json", "used", "matchmaker"]].concat(),
    ];
    for names in gone {
        let site = Site::with_config(&json!({
            "dev": true, "fleets": {"quiet": idle_fleet()}, "matchmaker": {"queues": queues},
        }));
        let control_plane = site.up(&[]).await;
        control_plane.submit(json!({"players": ["p"]})).await;
        control_plane.kill().await;
        for path in names.iter().map(|name| site.data(name)) {
            if path.is_dir() {
                std::fs::remove_dir_all(path).unwrap();
            } else {
                std::fs::remove_file(path).unwrap();
            }
        }
        let said = site.refused(&[]).await;
        assert!(said.contains("--accept-loss"), "{names:?}: {said}");
        let left = matches_after_loss(&site).await.len();
        assert_eq!(left, usize::from(!names.contains(&"log")), "{names:?}");
    }
}

fn replace(from: &Path, to: &Path) {
    if to.is_dir() {
        std::fs::remove_dir_all(to).unwrap();
    }
    assert!(Command::new("cp").arg("-aT").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_log_that_is_exchanged_for_an_older_one_is_refused_until_that_is_agreed_to() {
    let brokers = ["log", "snapshots", "end"];
    let older: [&[&str]; 4] = [
        &["matchmaker"],
        &brokers,
        // As a backup of everything but the matchmaker's folder has it.
        &[&brokers[..], &["end-of-broker", "used"]].concat(),
        &["matchmaker", "used"],
    ];
    for names in older {
        let queues = json!({"duel": {"players_per_team": 2}});
        let site = Site::with_config(&json!({
            "dev": true, "fleets": {"quiet": idle_fleet()}, "matchmaker": {"queues": queues},
        }));
        let add = async |control_plane: &ControlPlane, player: &str| {
            let ticket = json!({"queue": "duel", "players": [{"id": player}]});
            control_plane.ok("POST", "/v1/tickets", ticket).await;
            control_plane.submit(json!({"players": [player]})).await;
        };
        let control_plane = site.up(&[]).await;
        add(&control_plane, "p").await;
        control_plane.stop().await;
        replace(&site.path("data"), &site.path("backup"));
        let control_plane = site.up(&[]).await;
        add(&control_plane, "q").await;
        control_plane.kill().await;
        for name in names {
            replace(&site.path("backup").join(name), &site.data(name));
        }
        let said = site.refused(&[]).await;
        let folder = if names.contains(&"log") { site.path("data") } else { site.data("matchmaker") };
        let wanted = format!("the log in {} is older than it was", folder.display());
        assert!(said.contains(&wanted) && said.contains("record"), "{names:?}: {said}");
        assert!(said.contains(" missing") && said.contains("--accept-loss"), "{names:?}: {said}");

        let control_plane = site.up(&["--accept-loss"]).await;
        let matches = control_plane.get("/v1/matches").await["matches"].as_array().unwrap().len();
        let tickets = control_plane.get("/v1/tickets").await["tickets"].as_array().unwrap().len();
        let lost = if names.contains(&"log") { (1, 2) } else { (2, 1) };
        assert_eq!((matches, tickets), lost, "{names:?}");
        control_plane.kill().await;
        site.up(&[]).await.stop().await;
    }
}

#[tokio::test]
async fn what_says_how_far_a_log_goes_may_be_missing_or_behind() {
    let (site, ids, _) = written().await;
    let path = site.data("end-of-broker");
    let behind = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(matches(&site).await, set(&ids));
    let control_plane = site.up(&[]).await;
    let more = control_plane.submit(json!({"players": ["more"]})).await;
    control_plane.kill().await;
    std::fs::write(&path, behind).unwrap();
    assert_eq!(matches(&site).await, set(&[ids, vec![more]].concat()));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let control_plane = site.up(&[]).await;
    control_plane.submit(json!({"players": ["last"]})).await;
    control_plane.stop().await;
}

#[tokio::test]
async fn a_flag_to_accept_a_loss_loses_nothing_where_there_is_none() {
    let (site, ids, _) = written().await;
    site.up(&["--accept-loss", "--accept-clock"]).await.kill().await;
    assert_eq!(matches(&site).await, set(&ids));
    assert!(!site.data("lost").exists());
}

#[tokio::test]
async fn damage_in_the_middle_stops_the_start() {
    let (site, ids, log) = written().await;
    let sound = std::fs::read(&log).unwrap();
    for at in [sound.len() / 4, sound.len() / 2, sound.len() * 3 / 4] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        std::fs::write(&log, &damaged).unwrap();
        let said = site.refused(&[]).await;
        assert!(said.contains(log.to_str().unwrap()) && said.contains("damaged at byte "), "{said}");
        let position = said.split("damaged at byte ").nth(1).unwrap().split(':').next().unwrap();
        let position: usize = position.parse().unwrap();
        // Where the broken batch begins.
        assert!(position <= at && at - position < 2000, "{position} for {at}");
        assert!(std::fs::read(&log).unwrap() == damaged, "nothing is changed");
    }
    std::fs::write(&log, &sound).unwrap();
    assert_eq!(matches(&site).await, set(&ids));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_is_told_and_keeps_nobody_waiting() {
    let site = Site::with_config(&json!({
        "dev": true, "fleets": {"quiet": idle_fleet()}, "log": {"snapshot_every": 2},
    }));
    let control_plane = site.up(&[]).await;
    std::fs::remove_dir_all(site.data("snapshots")).unwrap();
    let until = async |wanted: &str| {
        for number in 0..100 {
            control_plane.submit(json!({"players": [format!("{wanted}{number}")]})).await;
            let ready = control_plane.get("/readyz").await;
            if ready["status"] == wanted {
                return ready;
            }
        }
        panic!("it is never {wanted}");
    };
    let ready = until("degraded").await;
    let problem = &ready["problems"][0];
    assert_eq!(problem["code"], "snapshot_failed");
    let text = problem["message"].as_str().unwrap();
    assert!(text.contains("the broker") && text.contains("No such file"), "{text}");
    assert!(!text.contains(site.path("data").to_str().unwrap()), "no paths for strangers: {text}");
    let metrics =
        async || control_plane.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    let told = metrics().await;
    let line = |told: &str, name: &str| {
        let begin = format!("sortie_{name}{{log=\"broker\"}} ");
        let value = told.lines().find_map(|line| line.strip_prefix(&begin)).map(str::to_owned);
        value.unwrap_or_else(|| panic!("no {name} in {told}")).parse::<u64>().unwrap()
    };
    assert!(line(&told, "snapshot_failures_total") >= 1);
    assert!(line(&told, "log_last_seq") > line(&told, "snapshot_seq"));
    std::fs::create_dir(site.data("snapshots")).unwrap();
    until("ready").await;
    let told = metrics().await;
    assert!(line(&told, "snapshot_seq") > 0 && line(&told, "snapshot_age_seconds") < 3600);
    control_plane.stop().await;
}
