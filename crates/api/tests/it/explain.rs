//! Why a match still waits or why it failed, over HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::broker::event::Event;

use crate::events::{listen, news};
use crate::harness::{Server, soon};

async fn explain(server: &Server, id: &str) -> Value {
    server.ok("GET", &format!("/v1/matches/{id}/explain"), Value::Null).await
}

#[tokio::test]
async fn a_waiting_match_is_explained_as_data_and_in_words() {
    let server = Server::start().await;
    let request = json!({"serverId": "s1", "requirements": "MatchProperties.map == 'desert'"});
    server.ok("POST", "/api/v1/server/request_match", request).await;
    let order = json!({"players": ["p1"], "properties": {"map": "forest"}});
    let submitted = server.ok("POST", "/v1/matches", order).await;
    let id = submitted["match_id"].as_str().unwrap();
    let told = explain(&server, id).await;
    assert_eq!(
        (&told["match_id"], &told["state"], &told["ahead"]),
        (&json!(id), &json!("queued"), &json!(0))
    );
    assert_eq!(told["summary"], "waiting for a server: 1st in the queue");
    let servers = json!([{
        "verdict": "refused",
        "requirements": "MatchProperties.map == 'desert'",
        "count": 1,
        "server_ids": ["s1"],
        "unmet": [{"requirement": "MatchProperties.map == 'desert'", "found": "\"forest\""}],
    }]);
    assert_eq!((&told["servers"], &told["fleets"]), (&servers, &json!([])));
    assert_eq!(told["queued_at"], "2026-09-21T14:13:20.000Z");
    let next = json!({
        "name": "schedule_frequency",
        "at": "2026-09-21T14:13:50.000Z",
        "meaning": "the schedule orders a server for it, if a fleet can start one",
    });
    assert_eq!((&told["next_timer"], &told["timers"][0]), (&next, &next));
    assert_eq!(told["timers"][1]["at"], "2026-09-21T14:14:50.000Z");
    let sentences = told["sentences"].as_array().unwrap();
    let because = "1 free server (s1): it asks for requirements that the match does not meet, \
                   MatchProperties.map == 'desert' (the match has \"forest\").";
    assert!(sentences.contains(&json!(because)), "{sentences:?}");
    assert_eq!(
        sentences[0],
        "The match waits for a server since 2026-09-21T14:13:20.000Z; no older one is in the queue."
    );
    assert!(told.get("typical_wait").is_none());
}

#[tokio::test]
async fn fleets_waits_and_ends_are_told() {
    let server = Server::start().await.with_fleet().await;
    let ready = server.ready_match("s1", json!({"players": ["p1"]})).await;
    let told = explain(&server, &ready).await;
    assert_eq!(
        (&told["summary"], &told["server"]["server_id"]),
        (&json!("the match is ready"), &json!("s1"))
    );
    assert_eq!(told["typical_wait"], json!({"matches": 1, "p50_seconds": 0.0, "p90_seconds": 0.0}));

    let waiting = server.submit(&["p2"]).await;
    let told = explain(&server, &waiting).await;
    let fleet = &told["fleets"][0];
    assert_eq!((&fleet["fleet"], &fleet["max"]), (&json!("local"), &json!(4)));
    server.clock.advance(Duration::from_secs(90));
    let failed = |event: &Event| matches!(event, Event::MatchFailed { id, .. } if id.as_str() == waiting);
    server.await_event(|record| failed(&record.event)).await;
    let told = explain(&server, &waiting).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("failed"), &json!("pickup_timeout")));
    assert_eq!(told["summary"], "no server could be obtained in time");
    let (status, answer) = soon(server.send("GET", "/v1/matches/unknown/explain", "")).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("match_not_found")));
}

#[tokio::test]
async fn players_hear_the_same_words() {
    let server = Server::start().await;
    let id = server.submit(&["p1"]).await;
    let heard = async || {
        let (kind, message, _) = news(&mut listen(&server, "p1").await).await;
        assert_eq!(kind, "FINDING_SERVER");
        message
    };
    let summary = async || explain(&server, &id).await["summary"].as_str().unwrap().to_owned();
    assert!(summary().await.starts_with(&heard().await));
    server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1"})).await;
    // Players' events follow the log, and may be a moment behind.
    soon(async { while heard().await != summary().await {} }).await;
    assert_eq!(summary().await, "a server has the match and prepares it");
}
