//! What players hear, over newline-separated JSON.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_api::{Auth, Limits};

use crate::harness::{Pieces, Server};
use crate::schemas::check_answer;

const SUBSCRIBE: &str = "/api/v1/events/subscribe";

/// A listening player, past the first, empty event.
pub(crate) async fn listen(server: &Server, player: &str) -> Pieces {
    let response = server.open(SUBSCRIBE, &[("catena-session-id", player)]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut lines = Pieces::of(response, "\n");
    assert_eq!(lines.json().await, json!({"event": {"emptyEvent": {}}}));
    lines
}

/// The next news: type, message, match and the additional data.
pub(crate) async fn news(lines: &mut Pieces) -> (String, String, Value) {
    let line = lines.json().await;
    check_answer("GET", SUBSCRIBE, 200, &line);
    let event = &line["event"];
    let update = &event["matchmakingStatusUpdateEvent"];
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
    let kind = text(&update["type"]).replace("MATCHMAKING_STATUS_UPDATE_TYPE_", "");
    let data: Value = serde_json::from_str(&text(&update["additionalEventData"])).unwrap();
    assert_eq!(data["matchId"], update["ticketId"], "{line}");
    // Only the last event of the initial state has one.
    let id = event["eventId"].as_str().unwrap_or_default();
    assert!(id.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'), "{line}");
    (kind, text(&update["message"]), data)
}

#[tokio::test]
async fn a_player_hears_of_the_match_once_with_details_of_its_own() {
    let server = Server::start().await;
    let (mut first, mut second) = (listen(&server, "p1").await, listen(&server, "p2").await);
    let id = server.submit(&["p1", "p2"]).await;
    server.submit(&["somebody else"]).await;
    server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1"})).await;
    let ready = json!({
        "serverId": "s1", "matchId": id, "connectionDetails": "a:1", "perPlayerConnectionDetails": {"p2": "b:2"},
    });
    server.ok("POST", "/api/v1/server/match_ready", ready.clone()).await;
    server.ok("POST", "/api/v1/server/match_ready", ready).await;
    // The server's end of the match is not news to its players; the next waiting match is.
    server.ok("POST", "/api/v1/server/end_match", json!({"serverId": "s1", "matchId": id})).await;
    let next = server.submit(&["p1", "p2"]).await;
    for (lines, details) in [(&mut first, "a:1"), (&mut second, "b:2")] {
        let (kind, _, data) = news(lines).await;
        assert_eq!((kind.as_str(), &data), ("FINDING_SERVER", &json!({"matchId": id})));
        let (kind, message, data) = news(lines).await;
        assert_eq!((kind.as_str(), message.as_str()), ("COMPLETED", details));
        assert_eq!(data, json!({"matchId": id, "connectionDetails": details}));
        let (kind, _, data) = news(lines).await;
        assert_eq!((kind.as_str(), &data["matchId"]), ("FINDING_SERVER", &json!(next)));
    }
}

#[tokio::test]
async fn whoever_comes_later_is_told_how_the_matches_stand() {
    let server = Server::start().await;
    let ready = server.ready_match("s1", json!({"players": ["p1"]})).await;
    let queued = server.submit(&["p1"]).await;
    // The second listener joins a follower that runs already.
    for _ in 0..2 {
        let mut lines = listen(&server, "p1").await;
        let mut heard = [news(&mut lines).await, news(&mut lines).await];
        heard.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!((heard[0].0.as_str(), heard[1].0.as_str()), ("COMPLETED", "FINDING_SERVER"));
        assert_eq!((&heard[0].2["matchId"], &heard[1].2["matchId"]), (&json!(ready), &json!(queued)));
    }
    let mut lines = listen(&server, "p1").await;
    news(&mut lines).await;
    news(&mut lines).await;
    server.ok("DELETE", &format!("/v1/matches/{queued}"), Value::Null).await;
    let (kind, _, data) = news(&mut lines).await;
    assert_eq!((kind.as_str(), data), ("CANCELLED", json!({"matchId": queued, "reason": "requested"})));
}

#[tokio::test]
async fn failures_and_ends_by_others_are_told_with_their_reason() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p1").await;
    server.submit(&["p1"]).await;
    news(&mut lines).await;
    server.clock.advance(Duration::from_secs(90));
    let (kind, message, data) = news(&mut lines).await;
    assert_eq!((kind.as_str(), message.as_str()), ("FAILED", "no server could be obtained in time"));
    assert_eq!(data["reason"], "pickup_timeout");

    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    news(&mut lines).await;
    news(&mut lines).await;
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{id}"), Value::Null).await;
    let (kind, message, data) = news(&mut lines).await;
    assert_eq!((kind.as_str(), message.as_str()), ("CANCELLED", "an administrator ended the match"));
    assert_eq!(data["reason"], "admin");
}

#[tokio::test]
async fn whoever_gets_a_seat_is_a_player_from_then_on() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p2").await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 3})).await;
    let seats = format!("/v1/matches/{id}/seats");
    server.ok("POST", &seats, json!({"player_id": "p2"})).await;
    let (kind, message, _) = news(&mut lines).await;
    assert_eq!((kind.as_str(), message.as_str()), ("COMPLETED", "203.0.113.7:7777"));

    let waiting = server.ok("POST", "/v1/matches", json!({"players": ["p1"], "capacity": 3})).await;
    let waiting = waiting["match_id"].as_str().unwrap();
    let seat = server.ok("POST", &format!("/v1/matches/{waiting}/seats"), json!({"player_id": "p2"})).await;
    assert_eq!(news(&mut lines).await.0, "FINDING_SERVER");
    // A released seat is the last news: the match is cancelled without this player hearing about it.
    server.ok("DELETE", &format!("/v1/seats/{}", seat["seat_id"].as_str().unwrap()), Value::Null).await;
    server.ok("DELETE", &format!("/v1/matches/{waiting}"), Value::Null).await;
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{id}"), Value::Null).await;
    let (kind, _, data) = news(&mut lines).await;
    assert_eq!((kind.as_str(), &data["matchId"]), ("CANCELLED", &json!(id)));
}

#[tokio::test]
async fn new_matches_are_told_by_tag() {
    let server = Server::start().await;
    let path = "/api/v1/events/subscribe/tags?eventTags=other&eventTags=new-match&senderId=x";
    let mut lines = Pieces::of(server.open(path, &[]).await, "\n");
    assert_eq!(lines.json().await, json!({"event": {"emptyEvent": {}}}));
    let id = server.submit(&["p1"]).await;
    server.ok("DELETE", &format!("/v1/matches/{id}"), Value::Null).await;
    let next = server.submit(&["p2"]).await;
    for (id, player) in [(id, "p1"), (next, "p2")] {
        let line = lines.json().await;
        check_answer("GET", path, 200, &line);
        let game = json!({"matchId": id, "playerIds": [player]});
        assert_eq!(line["event"]["newMatchEvent"]["match"], game);
        assert_eq!(line["eventTags"], json!(["new-match"]));
    }
}

#[tokio::test]
async fn a_quiet_stream_shows_signs_of_life_and_ends_with_the_process() {
    let limits = Limits { heartbeat: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start_with(Auth::dev(), limits).await;
    let mut lines = listen(&server, "p1").await;
    for _ in 0..3 {
        assert_eq!(lines.json().await, json!({"event": {"emptyEvent": {}}}));
    }
    server.closing.cancel();
    while lines.next().await.is_some() {}
}

#[tokio::test]
async fn a_stream_ends_with_the_broker_and_too_many_are_refused() {
    let limits = Limits { player_streams: 1, log_streams: 1, ..Limits::default() };
    let mut server = Server::start_with(Auth::dev(), limits).await;
    let mut lines = listen(&server, "p1").await;
    let response = server.open(SUBSCRIBE, &[("catena-session-id", "p2")]).await;
    assert_eq!(response.status(), 429);
    let _events = server.open("/v1/events", &[]).await;
    let (status, answer) = server.send("GET", "/v1/events", "").await;
    assert_eq!((status, &answer["error"]["code"]), (429, &json!("too_many")));
    server.stop_engine().await;
    assert_eq!(lines.next().await, None);
}
