//! A fleet whose servers end as soon as they begin.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::site::{Site, fleet};

/// Starts that are looked at, and the shortest times between them.
const STARTS: usize = 4;
const MIN_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// When the log says that it happened.
fn time(event: &Value) -> SystemTime {
    humantime::parse_rfc3339(event["time"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn it_is_tried_ever_more_seldom_and_another_fleet_takes_over() {
    let script = "echo started >> starts; exit 3";
    let broken = fleet(Path::new("/bin/sh"), &["-c", script], 4, &json!({}));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/game-server.sh");
    let mut sound = fleet(&example.canonicalize().unwrap(), &[], 2, &json!({"preference": 1}));
    sound["local_process"]["environment"] = json!({"PLAY_SECONDS": "0"});
    let site = Site::with_config(&json!({"dev": true, "fleets": {"broken": broken, "sound": sound}}));
    let control_plane = site.up(&[]).await;
    let anywhere = control_plane.submit(json!({"players": ["p"]})).await;
    // Nobody else may take this one, so that the fleet is tried for it again and again.
    let bound = control_plane.submit(json!({"players": ["q"], "fleet": "broken"})).await;

    let mut events = control_plane.events().await;
    let (mut ordered, mut ended) = (Vec::new(), Vec::new());
    while ended.len() < STARTS {
        let event = events.next().await;
        if event["data"]["fleet"] == "broken" {
            match event["type"].as_str().unwrap() {
                "sortie.allocation.ordered" => ordered.push(time(&event)),
                "sortie.allocation.ended" => ended.push(time(&event)),
                _ => {}
            }
        }
    }
    let fleets = control_plane.get("/v1/fleets").await;
    let broken = &fleets["fleets"][0];
    assert_eq!((&broken["fleet"], &broken["live"]), (&json!("broken"), &json!(0)));
    assert!(broken["failures"].as_u64() >= Some(2) && broken["backoff_until"].is_string(), "{broken}");
    assert!(broken["last_error"].as_str().unwrap().contains("exit status 3"), "{broken}");
    // Two may have been ordered before the first was seen to fail, one for each match.
    let together = ordered.len() - ordered.iter().filter(|at| **at >= ended[0]).count();
    let later = ordered[together..].iter().zip(&ended[together - 1..]);
    for ((ordered, failed), pause) in later.zip(MIN_PAUSES) {
        assert!(ordered.duration_since(*failed).unwrap() >= pause, "{ordered:?} after {failed:?}");
    }
    let starts = std::fs::read_to_string(site.path("starts")).unwrap().lines().count();
    assert!(starts <= STARTS + 1, "{starts} starts for {STARTS} ends");

    let over = control_plane.event("sortie.match.ended", Some(&anywhere)).await;
    assert_eq!(over["data"]["cause"], "server", "the other fleet has played it");
    assert_eq!(control_plane.show(&bound).await["state"], "queued", "it may still be served");
}
