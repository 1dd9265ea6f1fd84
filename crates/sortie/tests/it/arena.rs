//! `sortie up --dev`: the built-in game is there, and its players get in through every door.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::control_plane::{ControlPlane, Lines};
use crate::site::{NONE, Site, soon};

const TOKEN_BYTES: usize = 2048;

/// Base64 of a token, which says itself which version of netcode it is.
fn check_token(token: &Value) {
    let bytes = STANDARD.decode(token.as_str().unwrap()).unwrap();
    assert_eq!(bytes.len(), TOKEN_BYTES);
    assert!(bytes.starts_with(b"NETCODE 1.02\0"));
}

fn check_ready(ready: &Value) {
    check_token(&ready["token"]);
    assert_eq!((&ready["ip"], &ready["cert_digest"]), (&json!("127.0.0.1"), &json!("")));
    assert!(ready["port"].as_u64().is_some_and(|port| (7800..7900).contains(&port)), "{ready}");
}

async fn seats_of_match(control_plane: &ControlPlane, seat: &Value) -> Value {
    let mut events = control_plane.events().await;
    let reserved = loop {
        let event = events.find("sortie.seat.reserved", None).await;
        if event["data"]["seat_id"] == *seat {
            break event;
        }
    };
    control_plane.show(reserved["subject"].as_str().unwrap()).await["seats"].clone()
}

#[tokio::test]
async fn bots_play_it() {
    let site = Site::new();
    let control_plane = site.up(&["--dev"]).await;
    let played =
        control_plane.run_ok(&site, &["arena", "play", "--players", "5", "--for", "1s", "--json"]).await;
    let summary = played.json();
    assert_eq!((&summary["players_joined"], &summary["players_left"]), (&json!(5), &json!(5)), "{summary}");
    assert_eq!(summary["failures"], json!({}));
    assert!(summary["updates"].as_u64() > Some(0), "{summary}");
    // The match ends when everybody has left, and its server with the control plane.
    control_plane.event("sortie.match.ended", None).await;
    control_plane.stop().await;
    assert_eq!(site.game_servers(), NONE);
}

#[tokio::test]
async fn a_player_gets_in_by_one_answer() {
    let site = Site::new();
    let control_plane = site.up(&["--dev"]).await;
    for (method, path) in [
        ("GET", "/wannaplay"),
        ("POST", "/matchmaker/wannaplay?client_ip=203.0.113.9"),
        ("POST", "/wannaplay"),
    ] {
        let answer = control_plane.ok(method, path, json!({"game": "arena", "version": "1"})).await;
        let keys: Vec<_> = answer.as_object().unwrap().keys().collect();
        // The last one is ours, beside those of bevygap.
        let expected =
            ["cert_digest", "connect_token", "gameserver_ip", "gameserver_port", "link", "player_key"];
        assert_eq!(keys, expected);
        check_token(&answer["connect_token"]);
        assert_eq!(answer["gameserver_ip"], "127.0.0.1");
        assert_eq!(answer["link"], format!("127.0.0.1:{}", answer["gameserver_port"]));
    }
    let (status, _) = control_plane.send("GET", "/wannaplay?game=chess&version=1", "").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_player_gets_in_by_chunks() {
    let site = Site::new();
    let control_plane = site.up(&["--dev"]).await;
    let request = control_plane.request("POST", "/matchmaker/request/arena/1");
    let response = soon("the first chunk", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    assert_eq!(response.headers()["transfer-encoding"], "chunked");
    let mut lines = Lines::of(response);
    let mut feedback: Vec<Value> = Vec::new();
    while let Some(line) = lines.next().await {
        feedback.push(serde_json::from_str(&line).unwrap());
    }
    assert_eq!(feedback[0], "Acknowledged");
    let seats = seats_of_match(&control_plane, &feedback[1]["SessionRequestAccepted"]).await;
    assert_eq!(seats, json!({"reserved": 1, "claimed": 0, "free": 7}));
    let between = &feedback[2..feedback.len() - 1];
    assert!(between.iter().all(|one| one["ProgressReport"].is_string()), "{between:?}");
    check_ready(&feedback.last().unwrap()["SessionReady"]);
}

#[tokio::test]
async fn a_player_gets_in_by_websocket() {
    let site = Site::new();
    let control_plane = site.up(&["--dev"]).await;
    let url = control_plane.url.replace("http://", "ws://") + "/matchmaker/ws";
    let (mut socket, _) = soon("a websocket", connect_async(&url)).await.unwrap();
    socket.send(Message::text(r#"{"game": "arena", "version": "1"}"#)).await.unwrap();
    let mut feedback: Vec<Value> = Vec::new();
    loop {
        match soon("feedback", socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => feedback.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => {
                assert_eq!(u16::from(frame.unwrap().code), 1000);
                break;
            }
            other => assert!(matches!(other, Message::Ping(_)), "{other}"),
        }
    }
    assert_eq!(feedback[0], "Acknowledged");
    assert!(feedback[1]["SessionRequestAccepted"].is_string());
    check_ready(&feedback.last().unwrap()["SessionReady"]);

    let (mut socket, _) = soon("a websocket", connect_async(&url)).await.unwrap();
    socket.send(Message::text("play!")).await.unwrap();
    let answer = soon("an answer", socket.next()).await.unwrap().unwrap();
    assert!(answer.to_text().unwrap().starts_with("ERR "), "{answer}");
}
