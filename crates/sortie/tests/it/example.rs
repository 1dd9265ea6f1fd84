//! The game server that the quick start shows.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::site::{NONE, Site, finish, fleet, idle_fleet, soon};

fn example() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/game-server.sh");
    path.canonicalize().unwrap()
}

#[tokio::test]
async fn it_plays_a_match_that_is_submitted_by_hand() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let mut server = site.command("sh");
    server.arg(example()).env("SORTIE_API", &control_plane.url).env("PLAY_SECONDS", "0");
    let playing = tokio::spawn(finish(server));
    control_plane.event("sortie.server.registered", None).await;
    let submitted = control_plane.run_ok(&site, &["match", "submit", "--player", "alice"]).await;
    let id = submitted.stdout.trim();
    let ended = control_plane.event("sortie.match.ended", Some(id)).await;
    assert_eq!(ended["data"]["cause"], "server");
    let played = soon("the end of the example", playing).await.unwrap();
    assert_eq!(played.code, Some(0), "{} {} (it needs curl)", played.stdout, played.stderr);
    assert!(
        played.stdout.contains(&format!("playing {id}")) && played.stdout.contains("over"),
        "{}",
        played.stdout
    );
}

#[tokio::test]
async fn a_fleet_runs_it() {
    let mut own = fleet(&example(), &[], 2, &json!({}));
    own["local_process"]["environment"] = json!({"PLAY_SECONDS": "0"});
    let (first, last) = own["local_process"]["ports"].as_str().unwrap().split_once('-').unwrap();
    let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
    let create = ["key", "create", "--name", "a", "--permission", "client", "--json"];
    let site = Site::with_config(&json!({"fleets": {"own": own}}));
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let mut control_plane = site.up(&[]).await;
    control_plane.key = Some(key);
    let id = control_plane.submit(json!({"players": ["alice"], "fleet": "own"})).await;
    let ready = control_plane.event("sortie.match.ready", Some(&id)).await;
    let details = ready["data"]["connection"]["details"].as_str().unwrap();
    let port: u16 = details.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    assert!((first..=last).contains(&port), "{port} is not the port that it was given");
    control_plane.event("sortie.match.ended", Some(&id)).await;
    control_plane.event("sortie.allocation.ended", None).await;
    assert_eq!(site.game_servers(), NONE);
}
