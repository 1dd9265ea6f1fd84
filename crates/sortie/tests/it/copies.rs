//! Copies of the data folder, and folders that were moved.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::control_plane::ControlPlane;
use crate::python::{interpreter, script};
use crate::site::{Site, fixed_address, fleet, is_alive};

/// A control plane outside development, with one match that is played on a server of its own.
struct Original {
    site: Site,
    address: String,
    key: String,
    game: String,
    server: i32,
}

impl Original {
    async fn start() -> (Self, ControlPlane) {
        let path = script("fleet_server.py");
        let own = fleet(interpreter(), &[path.to_str().unwrap(), "hold"], 2, &json!({}));
        let site = Site::with_config(&json!({"fleets": {"own": own}}));
        let create = ["key", "create", "--name", "a", "--permission", "admin", "--json"];
        let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
        let address = fixed_address();
        let mut control_plane = site.up(&["--listen", &address]).await;
        control_plane.key = Some(key.clone());
        let game = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
        control_plane.event("sortie.match.ready", Some(&game)).await;
        let servers = site.game_servers();
        assert_eq!(servers.len(), 1);
        (Self { site, address, key, game, server: servers[0] }, control_plane)
    }

    async fn up_with(&self, data: &str) -> ControlPlane {
        let mut control_plane = self.site.up(&["--data", data]).await;
        control_plane.key = Some(self.key.clone());
        control_plane
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test]
async fn a_copy_is_refused_and_touches_nothing_of_the_original_when_it_is_restored() {
    let (original, running) = Original::start().await;
    let Original { site, game, server, .. } = &original;
    copy(&site.path("data"), &site.path("copy"));
    let said = site.refused(&["--data", "copy"]).await;
    assert!(said.contains("is a copy") && said.contains("sortie restore --data "), "{said}");
    let refused = site.run(&["restore", "--data", "data"]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("in use"), "{}", refused.stderr);
    assert_eq!((running.show(game).await["state"].as_str(), is_alive(*server)), (Some("ready"), true));

    let restored = site.run(&["restore", "--data", "copy", "--json"]).await;
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    let restored = restored.json();
    assert_eq!(
        (&restored["original"], &restored["records_set_aside"]),
        (&json!(site.installation()), &json!(1))
    );
    let copied = original.up_with("copy").await;
    let failed = copied.event("sortie.match.failed", Some(game)).await;
    assert_eq!(failed["data"]["reason"], "server_exited");
    assert!(site.stderr().contains("has stayed with the installation"), "{}", site.stderr());
    // Its own servers are its own, and end by its own orders.
    let next = copied.submit(json!({"players": ["q"], "fleet": "own"})).await;
    copied.event("sortie.match.ready", Some(&next)).await;
    copied.stop().await;
    assert_eq!((running.show(game).await["state"].as_str(), is_alive(*server)), (Some("ready"), true));
    assert_eq!(site.game_servers(), [*server]);
    // The next start of either finds what it left.
    let copied = original.up_with("copy").await;
    assert_eq!(copied.show(&next).await["state"], "ready");
    running.stop().await;
    assert!(is_alive(*server));
}

#[tokio::test]
async fn a_copy_is_refused_also_when_the_original_has_gone_and_a_moved_folder_is_not() {
    let (original, running) = Original::start().await;
    let Original { site, game, server, .. } = &original;
    // While it runs.
    copy(&site.path("data"), &site.path("copy"));
    running.stop().await;
    site.refused(&["--data", "copy"]).await;
    std::fs::rename(site.path("data"), site.path("moved")).unwrap();
    std::fs::rename(site.path("copy"), site.path("data")).unwrap();
    let said = site.refused(&[]).await;
    assert!(said.contains("sortie restore"), "{said}");

    let moved = original.up_with("moved").await;
    assert!(site.stderr().contains("the data folder has been moved"), "{}", site.stderr());
    assert_eq!((moved.show(game).await["state"].as_str(), is_alive(*server)), (Some("ready"), true));
    assert_eq!(site.stderr().lines().filter(|line| line.contains("taken over")).count(), 1);
    moved.stop().await;
    let said = site.run(&["restore", "--data", "moved"]).await;
    assert!(said.code == Some(1) && said.stderr.contains("not a copy"), "{}", said.stderr);
    let again = site.up(&["--data", "moved", "--listen", &original.address]).await;
    again.stop().await;
}
