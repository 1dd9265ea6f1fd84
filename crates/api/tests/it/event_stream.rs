//! CloudEvents as server-sent events.

use serde_json::{Value, json};
use sortie_engine::Cursor;

use crate::harness::{Pieces, Server, soon};

/// One server-sent event: id, type, data.
async fn next(events: &mut Pieces) -> (u64, String, Value) {
    soon(async {
        loop {
            let text = events.next().await.expect("the stream ended");
            let field = |name: &str| {
                let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                values.collect::<String>()
            };
            if text.starts_with(':') {
                continue;
            }
            let data: Value = serde_json::from_str(&field("data")).unwrap();
            return (field("id").parse().unwrap_or_default(), field("event"), data);
        }
    })
    .await
}

async fn follow(server: &Server, path: &str, headers: &[(&str, &str)]) -> Pieces {
    let response = server.open(path, headers).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Pieces::of(response, "\n\n")
}

#[tokio::test]
async fn events_are_cloud_events_and_are_resumed_by_the_id_of_the_last() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    let mut events = follow(&server, "/v1/events?from=earliest", &[]).await;
    let mut seen = Vec::new();
    for place in 1..=server.last_seq().await {
        let (seq, kind, data) = next(&mut events).await;
        assert_eq!((seq, &data["id"], &data["type"]), (place, &json!(place.to_string()), &json!(kind)));
        assert_eq!((&data["specversion"], &data["source"]), (&json!("1.0"), &json!("/sortie/test")));
        seen.push((seq, kind));
    }
    server.ok("POST", "/api/v1/server/end_match", json!({"serverId": "s1", "matchId": id})).await;
    let live = next(&mut events).await;
    assert_eq!((live.1.as_str(), &live.2["subject"]), ("sortie.match.ended", &json!(id)));

    let mut resumed = follow(&server, "/v1/events?from=earliest", &[("last-event-id", "2")]).await;
    for wanted in &seen[2..] {
        let (seq, kind, _) = next(&mut resumed).await;
        assert_eq!((seq, kind), *wanted);
    }
    assert_eq!(next(&mut resumed).await.0, live.0);
    let last = live.0.to_string();
    let mut at_the_end = follow(&server, "/v1/events", &[("last-event-id", &last)]).await;
    server.submit(&["p2"]).await;
    assert_eq!(next(&mut at_the_end).await.0, live.0 + 1);
}

#[tokio::test]
async fn types_are_chosen_by_prefix() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 2})).await;
    server.ok("POST", &format!("/v1/matches/{id}/seats"), json!({"player_id": "p2"})).await;
    let path = "/v1/events?from=1&type=sortie.match.ready,sortie.server&type=sortie.seat";
    let mut events = follow(&server, path, &[]).await;
    let kinds = [next(&mut events).await.1, next(&mut events).await.1, next(&mut events).await.1];
    assert_eq!(kinds, ["sortie.server.registered", "sortie.match.ready", "sortie.seat.reserved"]);
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused() {
    let server = Server::start().await;
    let response = server.open("/v1/events", &[("last-event-id", "7000")]).await;
    assert_eq!(response.status(), 400);
    let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(answer["error"]["code"], "cursor_ahead");
}

#[tokio::test]
async fn events_that_are_no_longer_kept_are_gone() {
    let server = Server::start_forgetful().await;
    let forgets = async {
        while server.broker.subscribe(Cursor::Earliest).next_seq() == 1 {
            server.submit(&["p"]).await;
        }
    };
    soon(forgets).await;
    let (status, answer) = server.send("GET", "/v1/events?from=1", "").await;
    assert_eq!((status, &answer["error"]["code"]), (410, &json!("cursor_gone")));
    assert!(answer["error"]["earliest"].as_u64().unwrap() > 1);
    let mut events = follow(&server, "/v1/events?from=earliest", &[]).await;
    assert!(next(&mut events).await.0 > 1);
}

#[tokio::test]
async fn the_log_of_the_matchmaker_is_followed_the_same_way() {
    let server = Server::start().await;
    let ticket = server.ticket("duel", &["p1"]).await;
    let mut events = follow(&server, "/v1/events?of=matchmaker&from=earliest", &[]).await;
    let configured = next(&mut events).await;
    assert_eq!((configured.0, configured.1.as_str()), (1, "sortie.matchmaker.configured"));
    let (seq, kind, data) = next(&mut events).await;
    assert_eq!((seq, kind.as_str(), &data["subject"]), (2, "sortie.ticket.started", &json!(ticket)));
    assert_eq!((&data["id"], &data["source"]), (&json!("2"), &json!("/sortie/test")));
    server.ok("DELETE", &format!("/v1/tickets/{ticket}"), Value::Null).await;
    assert_eq!(next(&mut events).await.1, "sortie.ticket.cancelled");
    // The broker's matches are not in its events, and vice versa.
    server.submit(&["p2"]).await;
    let other = server.ticket("crowd", &["p3"]).await;
    assert_eq!(next(&mut events).await.2["subject"], json!(other));

    let header = [("last-event-id", "1")];
    let path = "/v1/events?of=matchmaker&type=sortie.ticket.cancelled";
    let mut resumed = follow(&server, path, &header).await;
    assert_eq!(next(&mut resumed).await.0, 3);
    let mut of_broker = follow(&server, "/v1/events?of=broker&from=earliest", &[]).await;
    assert_eq!(next(&mut of_broker).await.1, "sortie.match.queued");

    let (status, answer) = server.send("GET", "/v1/events?of=matchmaker&from=7000", "").await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("cursor_ahead")));
    for path in ["/v1/events?of=everybody", "/v1/events?of=broker&of=matchmaker"] {
        let (status, answer) = server.send("GET", path, "").await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!("of")), "{answer}");
    }
}

#[tokio::test]
async fn there_is_no_log_of_a_matchmaker_that_does_not_run() {
    let server = Server::start_without_matchmaker().await;
    let (status, answer) = server.send("GET", "/v1/events?of=matchmaker", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("no_matchmaker")));
}
