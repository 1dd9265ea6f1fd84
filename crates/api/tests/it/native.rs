//! Sortie's own API.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_api::{Auth, Limits};
use sortie_domain::broker::event::Event;

use crate::harness::Server;

#[tokio::test]
async fn a_match_is_shown_as_it_stands() {
    let server = Server::start().await;
    let order = json!({
        "players": ["p1", "p2"], "properties": {"map": "dust"}, "player_properties": {"p2": {"rank": 1}}, "capacity": 4,
    });
    let id = server.ok("POST", "/v1/matches", order).await["match_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/matches/{id}");
    let queued = server.ok("GET", &path, Value::Null).await;
    assert_eq!(
        queued,
        json!({
            "match_id": id, "state": "queued", "players": ["p1", "p2"], "properties": {"map": "dust"},
            "player_properties": {"p2": {"rank": 1}}, "capacity": 4, "seats": {"reserved": 0, "claimed": 0, "free": 2},
            "queued_at": "2026-09-21T14:13:20.000Z", "state_since": "2026-09-21T14:13:20.000Z",
        })
    );
    server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1"})).await;
    let ready = json!({
        "serverId": "s1", "matchId": id, "connectionDetails": "a:1", "perPlayerConnectionDetails": {"p2": "b:2"},
    });
    server.ok("POST", "/api/v1/server/match_ready", ready).await;
    let ready = server.ok("GET", &path, Value::Null).await;
    assert_eq!((&ready["state"], &ready["server_id"]), (&json!("ready"), &json!("s1")));
    assert_eq!(ready["connection_details"], "a:1");
    assert_eq!(ready["per_player_connection_details"], json!({"p2": "b:2"}));
    server.ok("POST", "/api/v1/server/end_match", json!({"serverId": "s1", "matchId": id})).await;
    let ended = server.ok("GET", &path, Value::Null).await;
    assert_eq!((&ended["state"], &ended["reason"]), (&json!("ended"), &json!("server")));
    assert_eq!(ended["message"], "the game server ended the match");
    let (status, answer) = server.send("DELETE", &path, "").await;
    assert_eq!((status, &answer["error"]["code"]), (410, &json!("match_over")));
}

#[tokio::test]
async fn the_same_order_again_is_the_same_match() {
    let server = Server::start().await;
    let order = json!({"players": ["p1"], "idempotency_key": "k1"});
    let first = server.ok("POST", "/v1/matches", order.clone()).await;
    assert_eq!(server.ok("POST", "/v1/matches", order).await, first);
    let other = json!({"players": ["p2"], "idempotency_key": "k1"});
    let (status, answer) = server.send("POST", "/v1/matches", other.to_string()).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("idempotency_key_reused")));
}

#[tokio::test]
async fn lists_have_pages_without_gap_or_repetition() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for player in 0..7 {
        ids.push(server.submit(&[&format!("p{player}")]).await);
    }
    server.ok("DELETE", &format!("/v1/matches/{}", ids[3]), Value::Null).await;
    ids.sort();
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.ok("GET", &format!("/v1/matches?limit=3{after}"), Value::Null).await;
        let matches = page["matches"].as_array().unwrap();
        found.extend(matches.iter().map(|game| game["match_id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, ids);
    let count = |page: Value| page["matches"].as_array().unwrap().len();
    assert_eq!(count(server.ok("GET", "/v1/matches?state=cancelled", Value::Null).await), 1);
    assert_eq!(count(server.ok("GET", "/v1/matches?state=queued,cancelled", Value::Null).await), 7);
    assert_eq!(count(server.ok("GET", "/v1/matches?state=ready", Value::Null).await), 0);
}

#[tokio::test]
async fn servers_and_fleets_are_listed() {
    let server = Server::start().await.with_fleet().await;
    let ordered = server.ok("POST", "/api/v1/server/allocate", json!({})).await;
    let servers = server.ok("GET", "/v1/servers", Value::Null).await;
    let one = &servers["servers"][0];
    assert_eq!((&one["server_id"], &one["fleet"]), (&ordered["serverId"], &json!("local")));
    assert_eq!((&one["state"], &one["matches"]), (&json!("pending"), &json!([])));
    assert!(one["allocation_id"].as_str().unwrap().starts_with("allocation-"));
    let fleets = server.ok("GET", "/v1/fleets", Value::Null).await;
    let expected = json!({
        "fleet": "local", "requirements": "", "max": 4, "warm": 0, "live": 1, "pending": 1, "idle": 0, "failures": 0,
    });
    assert_eq!(fleets, json!({"fleets": [expected]}));
}

#[tokio::test]
async fn matches_are_listed_by_player() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 3})).await;
    let other = server.ok("POST", "/v1/matches", json!({"players": ["p1", "p2"]})).await["match_id"].clone();
    let list = async |query: &str| {
        let page = server.ok("GET", &format!("/v1/matches?{query}"), Value::Null).await;
        page["matches"].as_array().unwrap().iter().map(|game| game["match_id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(list("player=p1").await.len(), 2);
    assert_eq!(list("player=p1&state=ready").await, [id.as_str()]);
    assert_eq!(list("player=p2").await, [other]);
    assert_eq!(list("player=p3").await, [""; 0]);
    let seat = server.ok("POST", &format!("/v1/matches/{id}/seats"), json!({"player_id": "p3"})).await;
    assert_eq!(list("player=p3").await, [id.as_str()]);
    server.ok("DELETE", &format!("/v1/seats/{}", seat["seat_id"].as_str().unwrap()), Value::Null).await;
    assert_eq!(list("player=p3").await, [""; 0]);
    let first = server.ok("GET", "/v1/matches?player=p1&limit=1", Value::Null).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(list(&format!("player=p1&after={next}")).await.len(), 1);
    let (status, answer) = server.send("GET", "/v1/matches?player=", "").await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("invalid_field")));
}

#[tokio::test]
async fn seats_are_reserved_claimed_once_and_released() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 2})).await;
    let seats = format!("/v1/matches/{id}/seats");
    let seat = server.ok("POST", &seats, json!({"player_id": "p2", "ttl_seconds": 5})).await;
    assert_eq!(
        (&seat["match_id"], &seat["player_id"], &seat["state"]),
        (&json!(id), &json!("p2"), &json!("reserved"))
    );
    assert_eq!(seat["expires_at"], "2026-09-21T14:13:25.000Z");
    seat["client_id"].as_str().unwrap().parse::<u64>().unwrap();
    let (status, answer) = server.send("POST", &seats, r#"{"player_id":"p3"}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("match_full")));

    let path = format!("/v1/seats/{}", seat["seat_id"].as_str().unwrap());
    let claim = format!("{path}/claim");
    let (status, answer) = server.send("POST", &claim, r#"{"server_id":"s2"}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("other_server")));
    assert_eq!(server.ok("POST", &claim, json!({"server_id": "s1"})).await["state"], "claimed");
    let (status, answer) = server.send("POST", &claim, "").await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("already_claimed")));
    let view = server.ok("GET", &format!("/v1/matches/{id}"), Value::Null).await;
    assert_eq!(view["seats"], json!({"reserved": 0, "claimed": 1, "free": 0}));
    server.ok("DELETE", &path, Value::Null).await;
    server.ok("DELETE", &path, Value::Null).await;
    let (status, answer) = server.send("POST", &claim, "").await;
    assert_eq!((status, &answer["error"]["code"]), (410, &json!("seat_over")));
}

#[tokio::test]
async fn a_game_server_says_how_many_seats_are_free() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    let (seats, free) = (format!("/v1/matches/{id}/seats"), format!("/v1/matches/{id}/free-seats"));
    let (status, answer) = server.send("POST", &seats, r#"{"player_id":"p2"}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("no_capacity")));
    let view = server.ok("PUT", &free, json!({"free": 2, "server_id": "s1"})).await;
    assert_eq!((&view["match_id"], &view["capacity"]), (&json!(id), &json!(3)));
    assert_eq!(view["seats"], json!({"reserved": 0, "claimed": 0, "free": 2}));
    server.ok("POST", &seats, json!({"player_id": "p2"})).await;
    let view = server.ok("PUT", &free, json!({"free": 2})).await;
    assert_eq!(view["seats"], json!({"reserved": 1, "claimed": 0, "free": 1}));

    let (status, answer) = server.send("PUT", &free, r#"{"free":1,"server_id":"s2"}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("match_not_held")));
    let waiting = server.submit(&["p3"]).await;
    let (status, answer) =
        server.send("PUT", &format!("/v1/matches/{waiting}/free-seats"), r#"{"free":1}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("not_ready")));
    server.ok("DELETE", &format!("/v1/matches/{id}"), Value::Null).await;
    let (status, answer) = server.send("PUT", &free, r#"{"free":1}"#).await;
    assert_eq!((status, &answer["error"]["code"]), (410, &json!("match_over")));
}

#[tokio::test]
async fn a_game_server_hears_who_comes() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 3})).await;
    let seats = format!("/v1/matches/{id}/seats");
    let first = server.ok("GET", &seats, Value::Null).await;
    assert_eq!((&first["state"], &first["seats"]), (&json!("ready"), &json!([])));
    let news = format!("{seats}?seen={}", first["seen"]);
    let seat = async {
        // Whether the call already waits or starts to wait later: it hears about it.
        server.ok("POST", &seats, json!({"player_id": "p2"})).await
    };
    let (heard, seat) = tokio::join!(server.ok("GET", &news, Value::Null), seat);
    assert_eq!(heard["seats"], json!([seat]));
    let news = format!("{seats}?seen={}", heard["seen"]);
    let end = async { server.ok("DELETE", &format!("/v1/matches/{id}"), Value::Null).await };
    let (over, _) = tokio::join!(server.ok("GET", &news, Value::Null), end);
    assert_eq!((&over["state"], &over["seats"]), (&json!("cancelled"), &json!([])));
    assert_eq!(server.ok("GET", &news, Value::Null).await, over, "there is nothing left to wait for");
}

#[tokio::test]
async fn a_game_server_that_waits_for_news_in_vain_is_answered_all_the_same() {
    let limits = Limits { heartbeat: Duration::from_millis(10), ..Limits::default() };
    let server = Server::start_with(Auth::dev(), limits).await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 3})).await;
    let seats = format!("/v1/matches/{id}/seats");
    let first = server.ok("GET", &seats, Value::Null).await;
    let again = server.ok("GET", &format!("{seats}?seen={}", first["seen"]), Value::Null).await;
    assert_eq!(again, first);
}

#[tokio::test]
async fn an_unclaimed_seat_expires() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": [], "capacity": 1})).await;
    server.ok("POST", &format!("/v1/matches/{id}/seats"), json!({"player_id": "p2"})).await;
    server.clock.advance(Duration::from_secs(30));
    server.await_event(|record| matches!(record.event, Event::SeatClosed { .. })).await;
    let view = server.ok("GET", &format!("/v1/matches/{id}"), Value::Null).await;
    assert_eq!(view["seats"]["free"], 1);
}
