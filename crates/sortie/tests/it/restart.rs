//! What was acknowledged survives the end of the process, however sudden; so do the game servers.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::control_plane::{END, READY, REQUEST};
use crate::python::{interpreter, script};
use crate::site::{NONE, Site, fixed_address, fleet, idle_fleet, is_alive, signal, soon};

/// The matches of a list but one.
fn others<'a>(list: &'a Value, but: &str) -> Vec<&'a Value> {
    list["matches"].as_array().unwrap().iter().filter(|game| game["match_id"] != but).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let order = |player: &str| json!({"players": [player], "capacity": 4, "idempotency_key": player});
    let ready = control_plane.ready_match("s1", order("ready")).await;
    let seat = |player: &str| json!({"player_id": player, "ttl_seconds": 3600});
    let seats = format!("/v1/matches/{ready}/seats");
    let claimed = control_plane.ok("POST", &seats, seat("first")).await;
    let claim = format!("/v1/seats/{}/claim", claimed["seat_id"].as_str().unwrap());
    control_plane.ok("POST", &claim, json!({"server_id": "s1"})).await;
    let picked_up = control_plane.submit(order("picked up")).await;
    control_plane.ok("POST", REQUEST, json!({"serverId": "s2"})).await;
    let cancelled = control_plane.submit(order("cancelled")).await;
    control_plane.ok("DELETE", &format!("/v1/matches/{cancelled}"), Value::Null).await;
    let queued = control_plane.submit(order("queued")).await;
    let before = control_plane.get("/v1/matches").await;
    let reserved = control_plane.ok("POST", &seats, seat("second")).await;
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    for (id, state) in
        [(&ready, "ready"), (&picked_up, "picked_up"), (&cancelled, "cancelled"), (&queued, "queued")]
    {
        assert_eq!(control_plane.show(id).await["state"], state, "{id}");
    }
    let after = control_plane.get("/v1/matches").await;
    assert_eq!(others(&after, &ready), others(&before, &ready));
    assert_eq!(control_plane.show(&ready).await["seats"], json!({"reserved": 1, "claimed": 1, "free": 1}));
    for (player, id) in [("ready", &ready), ("cancelled", &cancelled), ("queued", &queued)] {
        assert_eq!(control_plane.submit(order(player)).await, *id, "the key is known");
    }
    let (status, answer) = control_plane.send("POST", &claim, "").await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("already_claimed")),
        "claimed once is for good"
    );
    let claim = format!("/v1/seats/{}/claim", reserved["seat_id"].as_str().unwrap());
    let seat = control_plane.ok("POST", &claim, Value::Null).await;
    assert_eq!((&seat["state"], &seat["client_id"]), (&json!("claimed"), &reserved["client_id"]));

    let details = json!({"serverId": "s2", "matchId": picked_up, "connectionDetails": "203.0.113.7:7777"});
    control_plane.ok("POST", READY, details).await;
    control_plane.ok("POST", END, json!({"serverId": "s1", "matchId": ready})).await;
    let offer = control_plane.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    assert_eq!(offer["match"]["matchId"], json!(queued), "its place in the queue is its own");
}

/// `sortie up` with a fleet of servers that hold their match until they are told otherwise.
fn holding() -> (Site, String) {
    let path = script("fleet_server.py");
    let own = fleet(interpreter(), &[path.to_str().unwrap(), "hold"], 2, &json!({}));
    (Site::with_config(&json!({"fleets": {"own": own}})), fixed_address())
}

#[tokio::test]
async fn game_servers_play_on_through_a_kill() {
    let (site, address) = holding();
    let flags = ["--dev", "--listen", &address];
    let control_plane = site.up(&flags).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&id)).await;
    let servers = site.game_servers();
    assert_eq!(servers.len(), 1);
    control_plane.kill().await;
    assert!(is_alive(servers[0]), "a game server is no part of the control plane");

    let control_plane = site.up(&flags).await;
    assert_eq!(control_plane.show(&id).await["state"], "ready");
    assert_eq!(site.game_servers(), servers, "the same one, and only that");
    signal(servers[0], Signal::USR1);
    let ended = control_plane.event("sortie.match.ended", Some(&id)).await;
    assert_eq!(ended["data"]["cause"], "server");
    // It takes the next match, so nothing was started for that.
    let next = control_plane.submit(json!({"players": ["q"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&next)).await;
    assert_eq!(site.game_servers(), servers);
    control_plane.stop().await;
    assert_eq!(site.processes(), NONE, "in development mode the servers end with the control plane");
}

#[tokio::test]
async fn game_servers_play_on_through_an_ordered_end_outside_development() {
    let (site, address) = holding();
    let create = ["key", "create", "--name", "a", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let flags = ["--listen", &address];
    let mut control_plane = site.up(&flags).await;
    control_plane.key = Some(key.clone());
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&id)).await;
    let servers = site.game_servers();
    control_plane.stop().await;
    assert_eq!(site.processes(), servers);

    let mut control_plane = site.up(&flags).await;
    control_plane.key = Some(key);
    signal(servers[0], Signal::USR1);
    control_plane.event("sortie.match.ended", Some(&id)).await;
    assert_eq!(site.game_servers(), servers);
}

#[tokio::test]
async fn a_server_that_ended_meanwhile_is_missed_at_once() {
    let (site, address) = holding();
    let flags = ["--dev", "--listen", &address];
    let control_plane = site.up(&flags).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&id)).await;
    let servers = site.game_servers();
    control_plane.kill().await;
    signal(servers[0], Signal::KILL);
    let control_plane = site.up(&flags).await;
    let failed = control_plane.event("sortie.match.failed", Some(&id)).await;
    assert_eq!(failed["data"]["reason"], "server_exited");
}

#[tokio::test]
async fn a_restart_in_development_fails_what_ran_for_the_right_reason_and_keeps_what_waited() {
    let path = script("fleet_server.py");
    let own = fleet(interpreter(), &[path.to_str().unwrap(), "hold"], 1, &json!({}));
    let site = Site::with_config(&json!({"dev": true, "fleets": {"own": own}}));
    let control_plane = site.up(&[]).await;
    let playing = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&playing)).await;
    let waiting = control_plane.submit(json!({"players": ["q"], "fleet": "own"})).await;
    control_plane.stop().await;
    assert_eq!(site.processes(), NONE, "in development mode the servers end with the control plane");

    let control_plane = site.up(&[]).await;
    let failed = control_plane.event("sortie.match.failed", Some(&playing)).await;
    assert_eq!(failed["data"]["reason"], "server_exited", "its fleet is configured as before");
    control_plane.event("sortie.match.ready", Some(&waiting)).await;
}

/// A server that the log does not know, because an older data folder was put back, is still somebody's match.
#[tokio::test]
async fn game_servers_that_were_started_after_the_log_ends_are_not_stopped_without_leave() {
    let log = ["log", "snapshots", "end"];
    let all = ["log", "snapshots", "end", "end-of-broker", "used", "servers"];
    for (older, wanted) in [(&log[..], "is older than it was"), (&all, "started after its log ends")] {
        let (site, address) = holding();
        let create = ["key", "create", "--name", "a", "--permission", "admin", "--json"];
        let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
        let flags = ["--listen", &address];
        // The configuration is in its log.
        site.up(&flags).await.stop().await;
        let copied = |from: &std::path::Path, to: &std::path::Path| {
            let copy = std::process::Command::new("cp").arg("-aT").args([from, to]).status();
            assert!(copy.unwrap().success());
        };
        copied(&site.path("data"), &site.path("backup"));
        let mut control_plane = site.up(&flags).await;
        control_plane.key = Some(key.clone());
        let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
        control_plane.event("sortie.match.ready", Some(&id)).await;
        let servers = site.game_servers();
        control_plane.kill().await;
        for name in older {
            let (to, from) = (site.data(name), site.path("backup").join(name));
            if to.is_dir() {
                std::fs::remove_dir_all(&to).unwrap();
            }
            copied(&from, &to);
        }
        // Without their records, too.
        for entry in std::fs::read_dir(site.data("servers")).unwrap().map(Result::unwrap) {
            if entry.path().extension().is_some_and(|extension| extension == "json") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        let said = site.refused(&[]).await;
        assert!(said.contains(wanted) && said.contains("--accept-loss"), "{said}");
        assert_eq!(site.game_servers(), servers, "nobody has stopped it");

        let control_plane = site.up(&["--listen", &address, "--accept-loss"]).await;
        soon("the end of the servers that nobody knows", async {
            while !site.game_servers().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        control_plane.stop().await;
    }
}
