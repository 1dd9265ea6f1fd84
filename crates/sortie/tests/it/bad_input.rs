//! What strangers may send: each is refused with a word about what was wrong, and none leaves a trace.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::control_plane::{ControlPlane, END, READY, REQUEST};
use crate::site::{Site, idle_fleet, soon};

/// Method, path, body, and what the refusal names.
type Row = (&'static str, String, Vec<u8>, &'static str);

fn row(method: &'static str, path: impl Into<String>, body: impl Into<Vec<u8>>, named: &'static str) -> Row {
    (method, path.into(), body.into(), named)
}

fn post(path: &str, body: &Value, named: &'static str) -> Row {
    row("POST", path, body.to_string(), named)
}

/// The text of a refusal in either form.
fn message(answer: &Value) -> &str {
    let native = answer.pointer("/error/message");
    native.or_else(|| answer.get("message")).and_then(Value::as_str).unwrap_or_default()
}

/// Sends every row; afterwards the log has no event more, and the matches are as they were.
async fn refuse(control_plane: &ControlPlane, rows: Vec<Row>) {
    let first = control_plane.submit(json!({"players": ["before"]})).await;
    let before = control_plane.get("/v1/matches").await;
    for (method, path, body, named) in rows {
        let shown: String = String::from_utf8_lossy(&body).chars().take(100).collect();
        let (status, answer) = control_plane.send(method, &path, body).await;
        let what = format!("{method} {path} {shown}: {status} {answer}");
        assert!((400..500).contains(&status), "{what}");
        assert!(
            !message(&answer).is_empty() && message(&answer).contains(named),
            "{named:?} is not in {what}"
        );
        assert_eq!(control_plane.get("/v1/matches").await, before, "{what} left a trace");
    }
    let second = control_plane.submit(json!({"players": ["after"]})).await;
    let mut events = control_plane.events().await;
    let id = |event: Value| event["id"].as_str().unwrap().parse::<u64>().unwrap();
    let first = id(events.find("sortie.match.queued", Some(&first)).await);
    let next = events.next().await;
    assert_eq!((next["subject"].as_str(), first + 1), (Some(second.as_str()), id(next.clone())), "{next}");
}

async fn quiet() -> (Site, ControlPlane) {
    let mut fleet = idle_fleet();
    fleet["game"] = json!("own");
    fleet["version"] = json!("1");
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": fleet}}));
    let control_plane = site.up(&[]).await;
    (site, control_plane)
}

#[tokio::test]
async fn bodies_that_are_no_documents() {
    let (_site, control_plane) = quiet().await;
    let deep = |open: &str| open.repeat(10_000);
    let mut rows = Vec::new();
    for path in ["/v1/matches", "/v1/matches/m/seats", REQUEST, READY, END, "/api/v1/events/emit"] {
        rows.extend([
            row("POST", path, "{", ""),
            row("POST", path, "nope", ""),
            row("POST", path, "{} {}", ""),
            row("POST", path, "\0", ""),
            row("POST", path, b"{\"players\": [\"\xff\"], \"serverId\": \"\xff\"}".to_vec(), ""),
            row("POST", path, deep("["), ""),
            row("POST", path, deep(r#"{"a":"#), ""),
            row("POST", path, "[]", ""),
        ]);
    }
    rows.push(row("POST", "/v1/matches", "", ""));
    refuse(&control_plane, rows).await;
}

/// Only its length is sent, so that there is nothing that the refusal could cross on its way.
#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_sent() {
    let (_site, control_plane) = quiet().await;
    let address = control_plane.url.strip_prefix("http://").unwrap();
    for path in ["/v1/matches", REQUEST] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the end of the answer", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
        assert!(answer.contains("longer than 1048576 bytes"), "{path}: {answer}");
    }
    assert_eq!(control_plane.get("/v1/matches").await, json!({"matches": []}));
}

#[tokio::test]
async fn fields_of_the_native_calls() {
    let (_site, control_plane) = quiet().await;
    let order = "/v1/matches";
    let nested =
        format!(r#"{{"players": ["a"], "properties": {}1{}}}"#, r#"{"a":"#.repeat(500), "}".repeat(500));
    let rows = vec![
        post(order, &json!({}), "players"),
        post(order, &json!({"players": "p"}), "players"),
        post(order, &json!({"players": [1]}), "players[0]"),
        post(order, &json!({"players": ["a", "b\u{7}"]}), "players[1]"),
        post(order, &json!({"players": ["a", "\u{1f600}"]}), "players[1]"),
        post(order, &json!({"players": ["x".repeat(129)]}), "players[0]"),
        post(order, &json!({"players": ["a", "a"]}), "players"),
        post(order, &json!({"players": vec!["p"; 1001]}), "players"),
        post(order, &json!({"players": ["a"], "properties": []}), "properties"),
        post(order, &json!({"players": ["a"], "properties": {"x": "y".repeat(70_000)}}), "properties"),
        row("POST", order, nested, "properties"),
        post(order, &json!({"players": ["a"], "player_properties": {"b": {}}}), "player_properties"),
        post(order, &json!({"players": ["a"], "capacity": 0}), "capacity"),
        post(order, &json!({"players": ["a"], "capacity": -1}), "capacity"),
        post(order, &json!({"players": ["a"], "capacity": 1.5}), "capacity"),
        post(order, &json!({"players": ["a"], "capacity": u64::from(u32::MAX) + 1}), "capacity"),
        row("POST", order, r#"{"players": ["a"], "capacity": 1e999}"#, "capacity"),
        post(order, &json!({"players": ["a"], "fleet": "a\nb"}), "fleet"),
        post(order, &json!({"players": ["a"], "fleet": "none"}), "none"),
        post(order, &json!({"players": ["a"], "idempotency_key": ""}), "idempotency_key"),
        post(order, &json!({"players": ["a"], "playres": []}), "playres"),
        row("POST", order, r#"{"players": ["a"], "players": ["b"]}"#, "players"),
        post("/v1/matches/none/seats", &json!({"player_id": "p"}), "none"),
        post("/v1/matches/none/seats", &json!({"player_id": "p", "ttl_seconds": 0}), "ttl_seconds"),
        post("/v1/matches/none/seats", &json!({"player_id": "p", "ttl_seconds": -1}), "ttl_seconds"),
        post(
            "/v1/matches/none/seats",
            &json!({"player_id": "p", "ttl_seconds": 4_294_967_296_u64}),
            "ttl_seconds",
        ),
        post("/v1/seats/none/claim", &json!({"server": "s"}), "server"),
        row("DELETE", "/v1/seats/none", "", "none"),
        row("GET", "/v1/matches/none", "", "none"),
        row("GET", "/v1/matches/%0a", "", "match_id"),
        row("GET", "/v1/matches/%ff", "", "match_id"),
        row("DELETE", "/v1/matches/none", "", "none"),
        row("GET", "/v1/matches?limit=-1", "", "limit"),
        row("GET", "/v1/matches?limit=99999999999999999999", "", "limit"),
        row("GET", "/v1/matches?state=open", "", "state"),
        row("GET", "/v1/matches?stat=queued", "", "stat"),
        row("GET", "/v1/servers?after=%00", "", "after"),
        row("GET", "/v1/events?from=-1", "", "from"),
        row("GET", "/v1/events?of=everybody", "", "of"),
        row("GET", "/v1/events?from=18446744073709551616", "", "from"),
    ];
    refuse(&control_plane, rows).await;
}

#[tokio::test]
async fn fields_of_the_catena_calls() {
    let (_site, control_plane) = quiet().await;
    let emit = |game: Value| json!({"nestedEvent": {"newMatchEvent": {"match": game}}});
    let change = "/api/v1/matchbroker/admin/reconfigure?";
    let rows = vec![
        post(REQUEST, &json!({}), "serverId"),
        post(REQUEST, &json!({"serverId": ["s"]}), "serverId"),
        post(REQUEST, &json!({"serverId": "a\u{0}b"}), "serverId"),
        post(REQUEST, &json!({"serverId": "s", "requirements": "a["}), "requirements"),
        post(REQUEST, &json!({"serverId": "s", "requirements": "(".repeat(10_000)}), "requirements"),
        post(REQUEST, &json!({"serverId": "s", "hintFlags": 32}), "hintFlags"),
        post(REQUEST, &json!({"serverId": "s", "hintFlags": -1}), "hintFlags"),
        post(REQUEST, &json!({"serverId": "s", "hintFlags": 1_u64 << 40}), "hintFlags"),
        post(REQUEST, &json!({"serverId": "s", "hintFlags": "HINT_FLAG_SLEEP"}), "hintFlags"),
        post(READY, &json!({"serverId": "s"}), "matchId"),
        post(READY, &json!({"serverId": "s", "matchId": "none", "connectionDetails": "x"}), "none"),
        post(READY, &json!({"serverId": "s", "matchId": "none"}), "connectionDetails"),
        post(END, &json!({"serverId": "s", "matchId": "none"}), "none"),
        post("/api/v1/server/allocate", &json!({"match": {"playerIds": ["p\n"]}}), "match.playerIds[0]"),
        post("/api/v1/server/deallocate", &json!({"serverId": "none"}), "none"),
        post("/api/v1/events/emit", &json!({"nestedEvent": {"emptyEvent": {}}}), "nestedEvent"),
        post("/api/v1/events/emit", &emit(json!({"matchProperties": "[]"})), "matchProperties"),
        post("/api/v1/events/emit", &emit(json!({"playerIds": ["a\nb"]})), "playerIds[0]"),
        row("POST", format!("{change}fastSchedule=3"), "", "fastSchedule"),
        row("POST", format!("{change}matchReadyTimeSeconds=0"), "", "matchReadyTimeSeconds"),
        row("POST", format!("{change}matchReadyTimeSeconds=2147483648"), "", "matchReadyTimeSeconds"),
        row("POST", format!("{change}matchReadyTime=1"), "", "matchReadyTime"),
        row("GET", "/api/v1/matchbroker/admin/match/none", "", "none"),
        row("DELETE", "/api/v1/matchbroker/admin/delete/none", "", "none"),
        row("GET", "/api/v1/events/subscribe/tags?eventTags=x", "", "eventTags"),
    ];
    refuse(&control_plane, rows).await;
}

#[tokio::test]
async fn paths_and_methods() {
    let (_site, control_plane) = quiet().await;
    let rows = vec![
        row("PUT", "/v1/matches", "{}", "POST, GET"),
        row("POST", "/v1/servers", "{}", "GET"),
        row("GET", REQUEST, "", "POST"),
        row("DELETE", "/healthz", "", "GET"),
        row("GET", "/v1/nothing", "", "path"),
        row("GET", "/v1/matches/", "", ""),
        row("GET", "/api/v1/nothing", "", "path"),
        row("POST", "/v1/../../etc/passwd", "", ""),
    ];
    refuse(&control_plane, rows).await;
}

#[tokio::test]
async fn the_players_door() {
    let (_site, control_plane) = quiet().await;
    let first = control_plane.submit(json!({"players": ["before"]})).await;
    let long = "a".repeat(31);
    let body = format!("{{\"game\": \"own\", \"x\": \"{}\"}}", "y".repeat(100_000));
    for (method, path, body, status) in [
        ("GET", "/wannaplay?game=none&version=1", "", 404),
        ("GET", "/wannaplay?game=own", "", 400),
        ("GET", "/wannaplay?game=a%2Fb&version=1", "", 400),
        ("GET", &format!("/wannaplay?game={long}&version=1"), "", 400),
        ("POST", "/wannaplay", "[]", 400),
        ("POST", "/wannaplay", &"[".repeat(10_000), 400),
        ("POST", "/wannaplay", r#"{"game": 1}"#, 400),
        ("POST", "/wannaplay", &body, 413),
        ("GET", "/wannaplay?game=own&version=1&client_ip=nowhere", "", 400),
        ("PUT", "/wannaplay", "", 405),
        ("POST", "/matchmaker/request/none/1", "", 404),
        ("POST", "/matchmaker/request/a%00b/1", "", 400),
        ("GET", "/matchmaker/request/own/1", "", 405),
        ("GET", "/matchmaker/ws", "", 400),
    ] {
        let (found, answer) = control_plane.send(method, path, body).await;
        assert_eq!(found, status, "{method} {path} {answer}");
    }
    let second = control_plane.submit(json!({"players": ["after"]})).await;
    let mut events = control_plane.events().await;
    events.find("sortie.match.queued", Some(&first)).await;
    assert_eq!(events.next().await["subject"], json!(second), "nothing happened in between");
}
