//! The same over HTTP, as in Agones's gateway: paths, JSON, errors.

use serde_json::{Value, json};
use sortie_sidecar::source::agones::{AgonesOptions, Counter, List};

use crate::agones_site::{Heard, Site, options, within};

fn counted() -> AgonesOptions {
    AgonesOptions {
        name: "gs".to_owned(),
        ports: vec![("game".to_owned(), 9000)],
        counters: [("rooms".to_owned(), Counter { count: 1, capacity: 4 })].into(),
        lists: [("teams".to_owned(), List { capacity: 2, values: vec!["red".to_owned()] })].into(),
        ..options()
    }
}

#[tokio::test]
async fn documents_match_the_gateways() {
    let site = Site::start(counted(), None).await;
    let (status, mut server) = site.call("GET", "/gameserver", "").await;
    assert_eq!(status, 200);
    let meta = server["object_meta"].as_object_mut().unwrap();
    for made in ["uid", "creation_timestamp"] {
        assert!(meta.remove(made).is_some_and(|text| text.is_string()), "{made}");
    }
    let wanted = json!({
        "object_meta": {
            "name": "gs", "namespace": "default", "resource_version": "1", "generation": "1",
            "deletion_timestamp": "0", "annotations": {}, "labels": {},
        },
        "spec": {"health": {
            "disabled": true, "period_seconds": 0, "failure_threshold": 0, "initial_delay_seconds": 0,
        }},
        "status": {
            "state": "Scheduled", "address": "127.0.0.1", "ports": [{"name": "game", "port": 9000}],
            "players": {"count": "0", "capacity": "0", "ids": []},
            "counters": {"rooms": {"count": "1", "capacity": "4"}},
            "lists": {"teams": {"capacity": "2", "values": ["red"]}},
            "addresses": [{"type": "ExternalIP", "address": "127.0.0.1"}],
        },
    });
    assert_eq!(server, wanted);
    site.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_life_over_http() {
    let mut site = Site::start(counted(), None).await;
    let mut watch = site.stream("/watch/gameserver").await;
    for (method, path, body) in [
        ("POST", "/health", "{}"),
        ("POST", "/ready", "{}"),
        ("PUT", "/metadata/label", r#"{"key": "mode", "value": "duel"}"#),
        ("PUT", "/metadata/annotation", r#"{"key": "mode", "value": "duel", "more": 1}"#),
    ] {
        assert_eq!(site.call(method, path, body).await, (200, json!({})), "{path}");
    }
    site.control_plane.give("m1");
    assert!(matches!(site.heard().await, Heard::Asked { .. }));
    assert!(matches!(site.heard().await, Heard::Ready { .. }));
    let state = until(&mut watch, "Allocated").await;
    assert_eq!(state["object_meta"]["labels"]["agones.dev/sdk-mode"], "duel");
    assert_eq!(state["object_meta"]["annotations"]["sortie.dev/match-id"], "m1");
    assert_eq!(site.call("POST", "/reserve", r#"{"seconds": "3600"}"#).await, (200, json!({})));
    until(&mut watch, "Reserved").await;
    assert_eq!(site.call("POST", "/allocate", "").await, (200, json!({})));
    until(&mut watch, "Allocated").await;
    assert_eq!(site.call("POST", "/shutdown", "{}").await, (200, json!({})));
    until(&mut watch, "Shutdown").await;
    assert!(within(watch.chunk()).await.unwrap().is_none(), "the stream ends in order");
    site.ended().await;
}

/// The next line whose state has this name.
async fn until(watch: &mut reqwest::Response, name: &str) -> Value {
    let mut text = Vec::new();
    loop {
        text.extend(within(watch.chunk()).await.unwrap().expect("the stream goes on"));
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let mut line: Value = serde_json::from_slice(&line).unwrap();
            let state = line["result"].take();
            if state["status"]["state"] == name {
                return state;
            }
        }
    }
}

#[tokio::test]
async fn counters_lists_and_players_over_http() {
    let site = Site::start(counted(), None).await;
    let rooms = |count: &str, capacity: &str| json!({"name": "rooms", "count": count, "capacity": capacity});
    let teams =
        |capacity: &str, values: &[&str]| json!({"name": "teams", "capacity": capacity, "values": values});
    let counter = "/v1beta1/counters/rooms";
    let list = "/v1beta1/lists/teams";
    for (method, path, body, wanted) in [
        ("GET", counter, "", rooms("1", "4")),
        ("PATCH", counter, r#"{"countDiff": "2"}"#, rooms("3", "4")),
        ("PATCH", counter, r#"{"count": 0, "capacity": "9"}"#, rooms("0", "9")),
        ("GET", list, "", teams("2", &["red"])),
        ("POST", "/v1beta1/lists/teams:addValue", r#"{"value": "blue"}"#, teams("2", &["red", "blue"])),
        ("POST", "/v1beta1/lists/teams:removeValue", r#"{"value": "red"}"#, teams("2", &["blue"])),
        ("PATCH", list, r#"{"capacity": "5"}"#, teams("5", &["blue"])),
        (
            "PATCH",
            "/v1beta1/lists/teams?update_mask=values",
            r#"{"values": ["a"], "capacity": 9}"#,
            teams("5", &["a"]),
        ),
        ("PATCH", "/v1beta1/lists/teams?updateMask=capacity,values", "{}", teams("0", &[])),
        ("PUT", "/alpha/player/capacity", r#"{"count": 2}"#, json!({})),
        ("POST", "/alpha/player/connect", r#"{"playerID": "p 1"}"#, json!({"bool": true})),
        ("POST", "/alpha/player/connect", r#"{"playerID": "p 1"}"#, json!({"bool": false})),
        ("GET", "/alpha/player/connected/p%201", "", json!({"bool": true})),
        ("GET", "/alpha/player/connected", "", json!({"list": ["p 1"]})),
        ("GET", "/alpha/player/count", "", json!({"count": "1"})),
        ("GET", "/alpha/player/capacity", "", json!({"count": "2"})),
        ("POST", "/alpha/player/disconnect", r#"{"playerID": "p 1"}"#, json!({"bool": true})),
    ] {
        assert_eq!(site.call(method, path, body).await, (200, wanted), "{method} {path} {body}");
    }
    site.stop().await;
}

#[tokio::test]
async fn errors_match_the_gateways() {
    let site = Site::start(counted(), None).await;
    let long = format!(r#"{{"value": "{}"}}"#, "x".repeat(2 << 20));
    for (method, path, body, status, code) in [
        ("GET", "/", "", 404, 5),
        ("GET", "/ready", "", 501, 12),
        ("DELETE", "/gameserver", "", 501, 12),
        ("POST", "/health", "", 400, 3),
        ("POST", "/ready", "{", 400, 3),
        ("POST", "/ready", "[]", 400, 3),
        ("POST", "/reserve", r#"{"seconds": "soon"}"#, 400, 3),
        ("POST", "/reserve", r#"{"seconds": 9223372036854775808}"#, 400, 3),
        ("PUT", "/metadata/label", r#"{"value": "x"}"#, 400, 3),
        ("PUT", "/metadata/label", r#"{"key": 1}"#, 400, 3),
        ("GET", "/v1beta1/counters/cats", "", 404, 5),
        ("PATCH", "/v1beta1/counters/cats", r#"{"count": 1}"#, 404, 5),
        ("PATCH", "/v1beta1/counters/rooms", r#"{"count": 5}"#, 400, 11),
        ("PATCH", "/v1beta1/counters/rooms", r#"{"count": -1}"#, 400, 11),
        ("PATCH", "/v1beta1/counters/rooms", r#"{"capacity": "-1"}"#, 400, 11),
        ("PATCH", "/v1beta1/counters/rooms", r#"{"count": 1.5}"#, 400, 3),
        ("PATCH", "/v1beta1/counters/rooms", r#"{"count": [1]}"#, 400, 3),
        ("PATCH", "/v1beta1/counters/rooms", "{}", 400, 3),
        ("PATCH", "/v1beta1/lists/teams?update_mask=size", "{}", 400, 3),
        ("PATCH", "/v1beta1/lists/teams?update_mask=values&update_mask=capacity", "{}", 400, 3),
        ("PATCH", "/v1beta1/lists/%FF", "{}", 400, 3),
        ("POST", "/v1beta1/lists/teams", "{}", 501, 12),
        ("POST", "/v1beta1/lists/teams:clear", "{}", 501, 12),
        ("POST", "/v1beta1/lists/teams:addValue", r#"{"value": "red"}"#, 409, 6),
        ("POST", "/v1beta1/lists/teams:removeValue", r#"{"value": "blue"}"#, 404, 5),
        ("POST", "/v1beta1/lists/teams:addValue", &long, 413, 8),
        ("POST", "/alpha/player/connect", r#"{"playerID": "p1"}"#, 400, 11),
        ("GET", "/alpha/player/connected/%FF", "", 400, 3),
    ] {
        let (got, error) = site.call(method, path, body).await;
        let shown = &body[..body.len().min(80)];
        assert_eq!((got, &error["code"]), (status, &json!(code)), "{method} {path} {shown}: {error}");
        assert!(
            error["message"].as_str().is_some_and(|text| !text.is_empty() && text.len() < 600),
            "{error}"
        );
        assert_eq!(error["details"], json!([]));
    }
    let (_, server) = site.call("GET", "/gameserver", "").await;
    assert_eq!(server["status"]["counters"]["rooms"], json!({"count": "1", "capacity": "4"}));
    site.stop().await;
}
