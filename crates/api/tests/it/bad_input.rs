//! Refusals name the problem, and have no effect.

use serde_json::{Value, json};

use crate::harness::Server;

/// The whole text of an error, in either format, and the field it names.
fn text_of(answer: &Value) -> (String, String) {
    let native = &answer["error"];
    if native.is_object() {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        return (text(&native["message"]), text(&native["field"]));
    }
    let field = answer["details"][0]["metadata"]["field"].as_str().unwrap_or_default();
    (answer["message"].as_str().unwrap_or_default().to_owned(), field.to_owned())
}

async fn refused(server: &Server, method: &str, path: &str, body: impl Into<Vec<u8>>, field: &str) {
    let body = body.into();
    let before = server.last_seq().await;
    let (status, answer) = server.send(method, path, body.clone()).await;
    let (message, named) = text_of(&answer);
    let what = format!("{method} {path} {}: {status} {answer}", String::from_utf8_lossy(&body));
    assert!((400..500).contains(&status), "{what}");
    assert_eq!(named, field, "{what}");
    assert!(message.contains(field), "{what}");
    assert_eq!(server.last_seq().await, before, "{what} left a trace");
}

#[tokio::test]
async fn catena_calls() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    server.submit(&["p2"]).await;
    let long = "x".repeat(129);
    let emit = |game: Value| json!({"nestedEvent": {"newMatchEvent": {"match": game}}});
    let at = "nestedEvent.newMatchEvent.match";
    let table = [
        ("request_match", json!({}), "serverId"),
        ("request_match", json!({"serverId": null}), "serverId"),
        ("request_match", json!({"serverId": ""}), "serverId"),
        ("request_match", json!({"serverId": 3}), "serverId"),
        ("request_match", json!({"serverId": long}), "serverId"),
        ("request_match", json!({"serverId": "a\nb"}), "serverId"),
        ("request_match", json!({"serverId": "s", "requirements": "a["}), "requirements"),
        ("request_match", json!({"serverId": "s", "hintFlags": 32}), "hintFlags"),
        ("request_match", json!({"serverId": "s", "maxMatches": 0}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "maxMatches": -1}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "maxMatches": 33}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "maxMatches": 5_000_000_000_u64}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "maxMatches": 1.5}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "maxMatches": "many"}), "maxMatches"),
        ("request_match", json!({"serverId": "s", "waitSeconds": -1}), "waitSeconds"),
        ("request_match", json!({"serverId": "s", "waitSeconds": 301}), "waitSeconds"),
        ("request_match", json!({"serverId": "s", "waitSeconds": []}), "waitSeconds"),
        ("request_match", json!({"serverId": "s", "hintFlags": "SHUT"}), "hintFlags"),
        ("match_ready", json!({"matchId": id}), "serverId"),
        ("match_ready", json!({"serverId": "s1"}), "matchId"),
        ("match_ready", json!({"serverId": "s1", "matchId": id}), "connectionDetails"),
        (
            "match_ready",
            json!({"serverId": "s1", "matchId": id, "connectionDetails": "x".repeat(5000)}),
            "connectionDetails",
        ),
        (
            "match_ready",
            json!({"serverId": "s1", "matchId": id, "perPlayerConnectionDetails": {"": "x"}}),
            "perPlayerConnectionDetails",
        ),
        ("match_ready", json!({"serverId": "s2", "matchId": id, "connectionDetails": "x"}), ""),
        ("match_ready", json!({"serverId": "s1", "matchId": "unknown", "connectionDetails": "x"}), ""),
        ("end_match", json!({"matchId": id}), "serverId"),
        ("end_match", json!({"serverId": "s1"}), "matchId"),
        ("end_match", json!({"serverId": "s1", "matchId": id, "hintFlags": -1}), "hintFlags"),
        ("deallocate", json!({}), "serverId"),
        ("deallocate", json!({"serverId": "unknown"}), ""),
    ];
    for (call, body, field) in table {
        refused(&server, "POST", &format!("/api/v1/server/{call}"), body.to_string(), field).await;
    }
    let table = [
        (json!({}), "nestedEvent"),
        (json!({"nestedEvent": {"emptyEvent": {}}}), "nestedEvent"),
        (json!({"nestedEvent": {"announcementEvent": {"message": "hi"}}}), "nestedEvent"),
        (json!({"nestedEvent": {"newMatchEvent": {}}}), at),
        (emit(json!({"playerIds": ["p", "p"]})), &format!("{at}.playerIds")),
        (emit(json!({"playerIds": [""]})), &format!("{at}.playerIds[0]")),
        (emit(json!({"matchProperties": "nope"})), &format!("{at}.matchProperties")),
        (emit(json!({"matchId": id})), ""),
    ];
    for (body, field) in &table {
        refused(&server, "POST", "/api/v1/events/emit", body.to_string(), field).await;
        refused(&server, "POST", "/api/v1/admin/events/emit", body.to_string(), field).await;
    }
}

#[tokio::test]
async fn matches_to_allocate_a_server_for() {
    let server = Server::start().await.with_fleet().await;
    let table = [
        (json!({"playerIds": ["p", ""]}), "match.playerIds[1]"),
        (json!({"playerIds": ["p", "p"]}), "match.playerIds"),
        (json!({"matchProperties": "[]"}), "match.matchProperties"),
        (json!({"playerProperties": {"p": "{"}}), "match.playerProperties[\"p\"]"),
        (json!({"matchId": "\u{e9}"}), "match.matchId"),
    ];
    for (game, field) in table {
        let body = json!({"match": game}).to_string();
        refused(&server, "POST", "/api/v1/server/allocate", body, field).await;
    }
}

#[tokio::test]
async fn a_long_text_is_not_sent_back() {
    let server = Server::start().await;
    let long = "x".repeat(500_000);
    let mut unknown = json!({"players": []});
    unknown[long.as_str()] = json!(1);
    for body in
        [unknown, json!({"players": long}), json!({"players": [], "player_properties": {(long.as_str()): 1}})]
    {
        let (status, answer) = server.send("POST", "/v1/matches", body.to_string()).await;
        assert_eq!(status, 400);
        assert!(answer.to_string().len() < 1000, "{} bytes", answer.to_string().len());
    }
    for body in [json!({"serverId": long}), json!({"serverId": "s", "requirements": long.clone() + "["})] {
        let (status, answer) = server.send("POST", "/api/v1/server/request_match", body.to_string()).await;
        assert_eq!(status, 400);
        assert!(answer.to_string().len() < 2000, "{} bytes", answer.to_string().len());
    }
}

#[tokio::test]
async fn bodies_that_are_no_documents() {
    let server = Server::start().await;
    let deep = "[".repeat(10_000);
    let bodies: [&[u8]; 8] = [
        b"{",
        b"[]",
        b"nope",
        b"{} {}",
        b"{\"serverId\":\"\xff\"}",
        b"\x00",
        deep.as_bytes(),
        // A list with the fields of an order in it.
        b" [[\"a\"], {}, {}, null, null, null]",
    ];
    for body in bodies {
        let before = server.last_seq().await;
        for path in ["/api/v1/server/request_match", "/v1/matches"] {
            let (status, answer) = server.send("POST", path, body.to_vec()).await;
            assert_eq!(status, 400, "{path} {body:?} {answer}");
        }
        assert_eq!(server.last_seq().await, before);
    }
}

#[tokio::test]
async fn settings() {
    let server = Server::start().await;
    let table = [
        ("fastSchedule=3", "fastSchedule"),
        ("fastSchedule=-1", "fastSchedule"),
        ("fastSchedule=one", "fastSchedule"),
        ("serverMaxLifetimeMinutes=2147483648", "serverMaxLifetimeMinutes"),
        ("serverMaxLifetimeMinutes=0", "serverMaxLifetimeMinutes"),
        ("matchPickupTimeSeconds=-5", "matchPickupTimeSeconds"),
        ("matchReadyTimeSeconds=0", "matchReadyTimeSeconds"),
        ("matchMaxRunTimeMinutes=2147483647", "matchMaxRunTimeMinutes"),
        ("scheduleFrequencySeconds=0", "scheduleFrequencySeconds"),
        ("delayAllocationSeconds=1.5", "delayAllocationSeconds"),
        ("delayAllocationSeconds=1&delayAllocationSeconds=2", "delayAllocationSeconds"),
        ("delayAlocationSeconds=1", "delayAlocationSeconds"),
    ];
    for (query, field) in table {
        refused(&server, "POST", &format!("/api/v1/matchbroker/admin/reconfigure?{query}"), "", field).await;
    }
}

#[tokio::test]
async fn native_calls() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 2})).await;
    let big = json!({"x": "y".repeat(70_000)});
    let table = [
        (json!({}), "players"),
        (json!({"players": "p"}), "players"),
        (json!({"players": [1]}), "players[0]"),
        (json!({"players": ["a", "b", "c", ""]}), "players[3]"),
        (json!({"players": ["a", "a"]}), "players"),
        (json!({"players": ["a"], "properties": []}), "properties"),
        (json!({"players": ["a"], "properties": 1}), "properties"),
        (json!({"players": ["a"], "properties": big}), "properties"),
        (json!({"players": ["a"], "player_properties": {"b": {}}}), "player_properties"),
        (json!({"players": ["a"], "player_properties": {"a": 1}}), "player_properties.a"),
        (json!({"players": ["a"], "capacity": 0}), "capacity"),
        (json!({"players": ["a"], "capacity": -1}), "capacity"),
        (json!({"players": ["a", "b"], "capacity": 1}), "capacity"),
        (json!({"players": ["a"], "capacity": 10_001}), "capacity"),
        (json!({"players": ["a"], "fleet": ""}), "fleet"),
        (json!({"players": ["a"], "fleet": "unknown"}), ""),
        (json!({"players": ["a"], "idempotency_key": ""}), "idempotency_key"),
        (json!({"players": ["a"], "playres": []}), "playres"),
    ];
    for (body, field) in table {
        refused(&server, "POST", "/v1/matches", body.to_string(), field).await;
    }
    let seats = format!("/v1/matches/{id}/seats");
    let table = [
        (json!({}), "player_id"),
        (json!({"player_id": ""}), "player_id"),
        (json!({"player_id": "q", "ttl_seconds": 0}), "ttl_seconds"),
        (json!({"player_id": "q", "ttl_seconds": 3601}), "ttl_seconds"),
        (json!({"player_id": "q", "ttl": 1}), "ttl"),
    ];
    for (body, field) in table {
        refused(&server, "POST", &seats, body.to_string(), field).await;
    }
    let free_seats = format!("/v1/matches/{id}/free-seats");
    let table = [
        (json!({}), "free"),
        (json!({"free": -1}), "free"),
        (json!({"free": 0.5}), "free"),
        (json!({"free": "1"}), "free"),
        (json!({"free": 10_001}), "free"),
        (json!({"free": 1, "server_id": ""}), "server_id"),
        (json!({"free": 1, "server": "s1"}), "server"),
    ];
    for (body, field) in table {
        refused(&server, "PUT", &free_seats, body.to_string(), field).await;
    }
    let table = [
        ("GET", "/v1/matches?limit=0", "limit"),
        ("GET", "/v1/matches?limit=1001", "limit"),
        ("GET", "/v1/matches?limit=ten", "limit"),
        ("GET", "/v1/matches?after=", "after"),
        ("GET", "/v1/matches?state=open", "state"),
        ("GET", "/v1/matches?stat=queued", "stat"),
        ("GET", "/v1/servers?limit=-1", "limit"),
        ("GET", "/v1/fleets?before=x", "before"),
        ("GET", "/v1/matches/%ff", "match_id"),
        ("GET", "/v1/matches/%0a", "match_id"),
        ("GET", "/v1/matches/unknown", ""),
        ("DELETE", "/v1/matches/unknown", ""),
        ("DELETE", "/v1/seats/unknown", ""),
        ("POST", "/v1/seats/unknown/claim", ""),
        ("PUT", "/v1/matches/%0a/free-seats", "match_id"),
        ("GET", "/v1/matches/%0a/seats", "match_id"),
        ("GET", "/v1/matches/unknown/seats", ""),
        ("GET", "/v1/matches/unknown/seats?seen=1", ""),
        ("GET", "/v1/matches/unknown/seats?seen=-1", "seen"),
        ("GET", "/v1/matches/unknown/seats?since=1", "since"),
        ("GET", "/v1/events?from=first", "from"),
        ("GET", "/v1/events?from=1000000", ""),
        ("GET", "/v1/events?form=1", "form"),
        ("GET", "/api/v1/events/subscribe", "catena-session-id"),
        ("GET", "/api/v1/events/subscribe/tags", "eventTags"),
        ("GET", "/api/v1/events/subscribe/tags?eventTags=other", "eventTags"),
        ("GET", "/api/v1/matchbroker/admin/match/unknown", ""),
        ("DELETE", "/api/v1/matchbroker/admin/delete/%20%0a", "matchId"),
    ];
    for (method, path, field) in table {
        refused(&server, method, path, "", field).await;
    }
}
