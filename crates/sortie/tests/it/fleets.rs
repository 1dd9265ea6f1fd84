//! A fleet of one's own: what its servers are given, and what becomes of those that fail.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use sortie_domain::ids::ServerId;
use sortie_identity::ServerKeys;

use crate::control_plane::ControlPlane;
use crate::python::{interpreter, script};
use crate::site::{NONE, Site, fleet, is_alive, signal};

/// A control plane with the fleet `own`, whose servers are `fleet_server.py` in this mode.
fn site(mode: &str, broker: &Value, more: &Value) -> Site {
    let path = script("fleet_server.py");
    let own = fleet(interpreter(), &[path.to_str().unwrap(), mode], 1, more);
    Site::with_config(&json!({"dev": true, "broker": broker, "fleets": {"own": own}}))
}

/// What the server has written down of itself.
fn noted(site: &Site, server: &Value) -> Value {
    let name = format!("{}.json", server.as_str().unwrap());
    serde_json::from_slice(&std::fs::read(site.path(&name)).unwrap()).unwrap()
}

async fn server_of(control_plane: &ControlPlane, id: &str) -> Value {
    let ready = control_plane.event("sortie.match.ready", Some(id)).await;
    ready["data"]["server_id"].clone()
}

/// Where there is cgroup v2 and we may make groups in our own.
fn can_make_control_groups() -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{name}")).unwrap();
    let (mounts, own) = (read("mounts"), read("self/cgroup"));
    let mounted_at = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, folder, "cgroup2", ..] => Some(folder),
        _ => None,
    });
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let Some((mounted_at, own)) = mounted_at.zip(own) else { return false };
    let probe = Path::new(mounted_at).join(own).join(format!("probe-{}", std::process::id()));
    std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok()
}

#[tokio::test]
async fn a_server_is_given_what_it_needs_and_nothing_of_ours() {
    let more = json!({"game": "own", "version": "1.0", "protocol_id": 77});
    let site = site("hold", &json!({}), &more);
    let control_plane = site.up(&[]).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    let server = server_of(&control_plane, &id).await;
    let noted = noted(&site, &server);
    let variables = noted["variables"].as_object().unwrap();
    let names: Vec<_> = variables.keys().map(|name| name.strip_prefix("SORTIE_").unwrap()).collect();
    let expected = [
        "ALLOCATION_ID",
        "API",
        "API_KEY",
        "DATA_ID",
        "FLEET",
        "NETCODE_KEY",
        "PORT",
        "PROTOCOL_ID",
        "SERVER_ID",
    ];
    assert_eq!(names, expected);
    let value = |name: &str| variables[&format!("SORTIE_{name}")].as_str().unwrap();
    assert_eq!(value("API"), control_plane.url);
    assert_eq!(
        (value("SERVER_ID"), value("FLEET"), value("PROTOCOL_ID")),
        (server.as_str().unwrap(), "own", "77")
    );
    assert_eq!(value("NETCODE_KEY"), std::fs::read_to_string(site.data("netcode.key")).unwrap().trim());
    let secret = std::fs::read_to_string(site.data("game_server.key")).unwrap();
    let own = ServerKeys::new(secret.trim().as_bytes()).server(value("API_KEY"));
    assert_eq!(own.as_ref().map(ServerId::as_str), server.as_str(), "a key of its own");
    let shown = control_plane.show(&id).await;
    assert_eq!(shown["connection_details"], format!("127.0.0.1:{}", value("PORT")));

    let pid = i32::try_from(noted["pid"].as_i64().unwrap()).unwrap();
    let group = format!("/sortie-{}-{}", value("DATA_ID"), value("ALLOCATION_ID"));
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let is_member = groups.lines().any(|line| line.starts_with("0::") && line.ends_with(&group));
    assert_eq!(is_member, can_make_control_groups(), "{groups}");

    signal(pid, Signal::USR1);
    control_plane.event("sortie.match.ended", Some(&id)).await;
    control_plane.stop().await;
    assert_eq!(site.game_servers(), NONE);
}

#[tokio::test]
async fn the_match_of_a_server_that_exits_fails_at_once() {
    let site = site("exit-after-ready", &json!({}), &json!({}));
    let control_plane = site.up(&[]).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    control_plane.event("sortie.match.ready", Some(&id)).await;
    // No timer of the broker is as short as the patience of this test.
    let failed = control_plane.event("sortie.match.failed", Some(&id)).await;
    assert_eq!(failed["data"]["reason"], "server_exited");
    let shown = control_plane.show(&id).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("failed"), &json!("server_exited")));
    let ended =
        site.stderr().lines().rfind(|line| line.contains("a game server has ended")).map(str::to_owned);
    assert!(ended.as_ref().is_some_and(|line| line.contains("status 3")), "{ended:?}");
}

#[tokio::test]
async fn a_server_that_never_calls_is_given_up() {
    let broker = json!({"match_pickup_time": "3s", "schedule_frequency": "1s", "delay_allocation": "1s"});
    let site = site("silent", &broker, &json!({"ready_deadline": "1s"}));
    let control_plane = site.up(&[]).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    let mut events = control_plane.events().await;
    let (mut ordered, mut given_up, mut failed) = (BTreeSet::new(), 0, None);
    // The broker may order another one while the match waits; each of them has to end.
    while failed.is_none() || !ordered.is_empty() {
        let event = events.next().await;
        let subject = event["subject"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap() {
            "sortie.allocation.ordered" => assert!(ordered.insert(subject)),
            "sortie.allocation.ended" => assert!(ordered.remove(&subject)),
            "sortie.server.gone" => given_up += u32::from(event["data"]["cause"] == "ready_deadline"),
            "sortie.match.failed" => failed = Some(event["data"]["reason"].clone()),
            _ => {}
        }
    }
    assert_eq!(failed, Some(json!("pickup_timeout")));
    assert!(given_up >= 1);
    assert_eq!(control_plane.show(&id).await["reason"], "pickup_timeout");
    let fleets = control_plane.get("/v1/fleets").await;
    let error = fleets["fleets"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("ready deadline"), "{error}");
    assert_eq!(site.game_servers(), NONE);
    assert!(is_alive(control_plane.pid));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let path = Path::new("/nowhere/game-server");
    let broker = json!({"match_pickup_time": "2s"});
    let fleets = json!({"own": fleet(path, &[], 1, &json!({}))});
    let site = Site::with_config(&json!({"dev": true, "broker": broker, "fleets": fleets}));
    let control_plane = site.up(&[]).await;
    let id = control_plane.submit(json!({"players": ["p"], "fleet": "own"})).await;
    let failed = control_plane.event("sortie.match.failed", Some(&id)).await;
    assert_eq!(failed["data"]["reason"], "pickup_timeout");
    let table = control_plane.run_ok(&site, &["fleet", "list"]).await.stdout;
    assert!(table.contains("/nowhere/game-server") && table.contains("does not exist"), "{table}");
}
