//! How it ends when it is asked to.

use futures::StreamExt as _;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;

use crate::control_plane::{END, Lines, REQUEST};
use crate::python::{interpreter, script};
use crate::site::{Site, fleet, idle_fleet, signal, soon};

const WILLING_TO_WAIT: u32 = 2;

#[tokio::test]
async fn whoever_waits_is_told_and_the_next_start_needs_no_replay() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let ready = control_plane.ready_match("s1", json!({"players": ["p1"], "capacity": 2})).await;
    let waits = json!({"serverId": "s2", "hintFlags": WILLING_TO_WAIT}).to_string();
    let waiting = tokio::spawn(control_plane.request("POST", REQUEST).body(waits).send());
    let listens = control_plane.request("GET", "/api/v1/events/subscribe").header("catena-session-id", "p1");
    let mut listener = Lines::of(soon("a stream", listens.send()).await.unwrap());
    assert!(listener.next().await.is_some());
    // Known from its call, which is held from then on.
    control_plane.event("sortie.server.registered", Some("s2")).await;
    let before = control_plane.get("/v1/matches").await;
    control_plane.stop().await;

    let answer = soon("an answer for the server that waits", waiting).await.unwrap();
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), answer.json::<Value>().await.unwrap()), (200, json!({})));
    while listener.next().await.is_some() {}
    assert!(!site.stderr().contains("ERROR"), "{}", site.stderr());

    let control_plane = site.up(&[]).await;
    let stderr = site.stderr();
    let replayed = stderr.lines().rfind(|line| line.contains("replayed the log")).unwrap();
    assert!(replayed.contains("records=0") && !replayed.contains("snapshot_seq=0"), "{replayed}");
    assert_eq!(control_plane.get("/v1/matches").await, before);
    control_plane.ok("POST", END, json!({"serverId": "s1", "matchId": ready})).await;
}

#[tokio::test]
async fn a_player_who_waits_is_told_when_to_come_again() {
    let mut game = idle_fleet();
    (game["game"], game["version"]) = (json!("g"), json!("1"));
    let site =
        Site::with_config(&json!({"dev": true, "shutdown_deadline": "10m", "fleets": {"quiet": game}}));
    let control_plane = site.up(&[]).await;
    let joins = control_plane.request("POST", "/matchmaker/wannaplay?game=g&version=1");
    let waiting = tokio::spawn(joins.send());
    let reserved = control_plane.event("sortie.seat.reserved", None).await;
    let url = format!("{}/matchmaker/ws", control_plane.url.replace("http", "ws"));
    let (mut socket, _) = soon("a websocket", connect_async(url)).await.unwrap();
    control_plane.stop().await;
    let answer = soon("an answer for the player who waits", waiting).await.unwrap().unwrap();
    assert_eq!(answer.status(), 503, "{reserved}");
    assert_eq!(answer.headers()["retry-after"], "5");
    let told = soon("a message", socket.next()).await.unwrap().unwrap();
    assert!(told.to_text().unwrap().contains("503"), "{told:?}");
}

#[tokio::test]
async fn an_interrupt_is_as_good() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    control_plane.signal(Signal::INT);
    assert_eq!(control_plane.ended().await.code(), Some(0));
}

/// A fleet whose server ignores SIGTERM and has ten minutes to exit.
fn stubborn() -> Value {
    let path = script("fleet_server.py");
    let mut fleet = fleet(interpreter(), &[path.to_str().unwrap(), "stubborn"], 1, &json!({"warm": 1}));
    fleet["local_process"]["stop_grace"] = json!("10m");
    fleet
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    // The server holds up the ordered end.
    let site = Site::with_config(&json!({"dev": true, "fleets": {"stubborn": stubborn()}}));
    let control_plane = site.up(&[]).await;
    control_plane.event("sortie.allocation.started", None).await;
    // Two different ones, because the same one twice may arrive as one.
    control_plane.signal(Signal::TERM);
    control_plane.signal(Signal::INT);
    // Either may be seen as the second.
    let code = control_plane.ended().await.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    assert!(site.stderr().contains("a second signal"), "{}", site.stderr());
}

/// A start that waits for a pipe in place of a key, in a call of the system that no timer ends.
#[tokio::test]
async fn a_signal_ends_a_start_that_is_held_up() {
    for (which, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
        std::fs::create_dir(site.path("data")).unwrap();
        let pipe = site.data("game_server.key");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut command = site.sortie(&["up", "--listen", "127.0.0.1:0"]);
        let mut starting = command.spawn().unwrap();
        // Opened when the start opens it, too.
        let gate = tokio::task::spawn_blocking(|| std::fs::File::options().write(true).open(pipe));
        let gate = soon("a start that waits", gate).await.unwrap().unwrap();
        signal(i32::try_from(starting.id().unwrap()).unwrap(), which);
        let status = soon("the end of the start", starting.wait()).await.unwrap();
        assert_eq!(status.code(), Some(code), "{which:?}");
        drop(gate);
    }
}

#[tokio::test]
async fn a_start_does_not_wait_for_unknown_servers_to_end() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"stubborn": stubborn()}}));
    let control_plane = site.up(&[]).await;
    control_plane.event("sortie.allocation.started", None).await;
    let servers = site.game_servers();
    assert_eq!(servers.len(), 1);
    control_plane.kill().await;
    // From now on it is one of an order that nobody has given.
    let entries = std::fs::read_dir(site.data("servers")).unwrap().flatten().map(|entry| entry.path());
    let record = entries.into_iter().find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    let mut placement: Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
    placement["allocation"] = json!("allocation-unknown");
    std::fs::write(site.data("servers/allocation-unknown.json"), placement.to_string()).unwrap();
    let control_plane = site.up(&[]).await;
    control_plane.get("/v1/servers").await;
    assert!(site.stderr().contains("stopping an unknown server"), "{}", site.stderr());
    control_plane.signal(Signal::KILL);
    control_plane.ended().await;
}
