//! Every call, made in every wrong way: refused or without effect.

use std::fmt::Write as _;

use serde_json::json;
use sortie_api::calls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Server, soon};

/// A server with a running match, a waiting one, a seat in the first, and a waiting ticket.
async fn busy() -> (Server, String) {
    let server = Server::start().await.with_fleet().await;
    let id = server.ready_match("s1", json!({"players": ["p1"], "capacity": 3})).await;
    server.ok("POST", &format!("/v1/matches/{id}/seats"), json!({"player_id": "p2"})).await;
    server.submit(&["p3"]).await;
    server.ticket("crowd", &["p4"]).await;
    (server, id)
}

/// Sends bytes and returns the status of the answer; `None` if the connection is closed without one.
pub(crate) async fn status(server: &Server, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    // An early refusal does not have to read all of it.
    let _ = soon(stream.write_all(bytes)).await;
    let mut line = [0; 12];
    if soon(stream.read_exact(&mut line)).await.is_err() {
        return None;
    }
    if let Some(code) = line.strip_prefix(b"HTTP/1.1 ") {
        return Some(std::str::from_utf8(code).unwrap().parse().unwrap());
    }
    // It was taken for HTTP/2, which reports errors in other ways.
    let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    None
}

pub(crate) fn request(method: &str, path: &[u8], headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = [method.as_bytes(), b" ", path, b" HTTP/1.1\r\nhost: x\r\n"].concat();
    bytes.extend(headers.as_bytes());
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    bytes.extend(body);
    bytes
}

/// Bodies that are not a message of any call.
fn wrong_bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = [
        "{",
        "[]",
        "nope",
        "\"\"",
        "{} {}",
        "\0",
        "1e999",
        "-",
        "{\"a\"}",
        "{\"a\":}",
        "\u{feff}{}",
        "// {}",
        "{'a': 1}",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    bodies.push("[".repeat(10_000).into_bytes());
    bodies.push("{\"a\":".repeat(10_000).into_bytes());
    bodies.push([b"{\"a\": ".to_vec(), "[".repeat(10_000).into_bytes()].concat());
    bodies.push(vec![b' '; 100_000]);
    bodies
}

/// Messages with the right fields and invalid values.
fn wrong_values() -> Vec<Vec<u8>> {
    let fields = [
        "serverId",
        "matchId",
        "requirements",
        "hintFlags",
        "connectionDetails",
        "perPlayerConnectionDetails",
        "match",
        "nestedEvent",
        "players",
        "properties",
        "player_properties",
        "capacity",
        "fleet",
        "player_id",
        "ttl_seconds",
        "server_id",
        "idempotency_key",
        "entity",
        "ticketId",
        "config",
        "queue",
        "parties",
        "leader",
        "latencies",
        "free",
    ];
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let long = format!("\"{}\"", "x".repeat(200_000));
    let list = format!("[{}]", vec!["\"p\""; 20_000].join(","));
    let texts = [
        "true",
        "-1",
        "1e400",
        "18446744073709551616",
        "\"a\\u0000b\"",
        "\"\\ud800\"",
        "[[]]",
        "{\"\": null}",
    ];
    let values = texts.into_iter().chain([deep.as_str(), long.as_str(), list.as_str()]);
    let mut bodies = Vec::new();
    for value in values {
        let mut body = String::from("{");
        for field in fields {
            let comma = if body.len() > 1 { "," } else { "" };
            write!(body, "{comma}\"{field}\":{value}").unwrap();
            // One field alone, because the first wrong one hides the others.
            bodies.push(format!("{{\"{field}\":{value}}}").into_bytes());
            bodies.push(format!("{{\"{field}\":null,\"{field}\":{value}}}").into_bytes());
        }
        bodies.push((body + "}").into_bytes());
    }
    bodies.push(b"{\"serverId\": \"\xff\", \"players\": [\"\xff\"], \"player_id\": \"\xff\"}".to_vec());
    bodies.retain(|body| body.len() < 500_000);
    bodies
}

/// Whether a call reads a body at all.
fn has_body(call: &str) -> bool {
    call.starts_with("POST ")
        && !call.contains("/reconfigure")
        && !call.contains("/claim")
        && !call.contains("catena.")
}

#[tokio::test]
async fn bodies() {
    let (server, id) = busy().await;
    let before = server.state().await;
    for call in calls().into_iter().filter(|call| call.contains("/api/") || call.contains("/v1/")) {
        let (method, path) = call.split_once(' ').unwrap();
        let path = path.replace("{id}", &id).replace("{matchId}", &id).replace("{ticketId}", &id);
        if method == "DELETE" || path.ends_with("/claim") || path.ends_with("/reconfigure") {
            // These make their change whatever the body is: see `ids` and `queries`.
            continue;
        }
        // A server can be ordered without a match, and so by any object: see `bad_input` for its fields.
        let values = if path.ends_with("/allocate") { Vec::new() } else { wrong_values() };
        let wrong = wrong_bodies().into_iter().map(|body| (true, body));
        for (no_message, body) in wrong.chain(values.into_iter().map(|body| (false, body))) {
            let found = status(&server, &request(method, path.as_bytes(), "", &body)).await;
            let shown: String = String::from_utf8_lossy(&body).chars().take(80).collect();
            let good =
                found.is_some_and(|code| code < 500 && (code >= 400 || !(no_message && has_body(&call))));
            assert!(good, "{call} {shown}: {found:?}");
            // Asking with fields that are ignored is allowed; a list of servers, say.
            assert!(server.state().await == before, "{call} {shown}: {found:?} left a trace");
        }
    }
}

#[tokio::test]
async fn ids() {
    let (server, _) = busy().await;
    let before = server.state().await;
    let long = "x".repeat(129);
    let bad =
        ["none", "%00", "%ff", "%0a", "%2e%2e", "a%2fb", &long, "%", "%zz", "%c3%a9", "*", "a;b", "{id}", ""];
    for call in calls().into_iter().filter(|call| call.contains('{')) {
        let (method, path) = call.split_once(' ').unwrap();
        for id in bad {
            let path = path.replace("{id}", id).replace("{matchId}", id).replace("{ticketId}", id);
            for body in [r#"{"player_id": "q"}"#, ""] {
                let found = status(&server, &request(method, path.as_bytes(), "", body.as_bytes())).await;
                assert!(found.is_some_and(|code| (400..500).contains(&code)), "{method} {path}: {found:?}");
                assert!(server.state().await == before, "{method} {path} left a trace");
            }
        }
    }
}

#[tokio::test]
async fn queries() {
    let (server, id) = busy().await;
    let before = server.state().await;
    let many = "a=1&".repeat(1000);
    let long = format!("limit={}", "1".repeat(10_000));
    let bad = [
        "x=1",
        "limit=-1",
        "limit=0",
        "limit=1e9",
        "limit=18446744073709551616",
        "limit=1&limit=1",
        "%ff=%ff",
        "=",
        "after=%00",
        "from=-1",
        "from=18446744073709551616",
        "from=18446744073709551615",
        "state=%00",
        "type=%00",
        "eventTags=%ff",
        "fastSchedule=99",
        "matchReadyTimeSeconds=-1",
        "matchReadyTimeSeconds=9223372036854775808",
        "serverMaxLifetimeMinutes=NaN",
        &many,
        &long,
    ];
    for call in calls().into_iter().filter(|call| call.contains("/api/") || call.contains("/v1/")) {
        let (method, path) = call.split_once(' ').unwrap();
        let wrong_id = method == "DELETE" || path.ends_with("/claim");
        let path = path
            .replace("{id}", if wrong_id { "none" } else { &id })
            .replace("{matchId}", &id)
            .replace("{ticketId}", &id);
        if path.contains("/admin/delete/") {
            continue;
        }
        for query in bad {
            let target = format!("{path}?{query}");
            // An empty order for a server is valid.
            let body: &[u8] = if path.ends_with("/allocate") { b"[" } else { b"" };
            let found = status(&server, &request(method, target.as_bytes(), "", body)).await;
            assert!(found.is_some_and(|code| code < 500), "{method} {target}: {found:?}");
            assert!(server.state().await == before, "{method} {target} left a trace");
        }
    }
}

#[tokio::test]
async fn methods_and_headers() {
    let (server, _) = busy().await;
    let before = server.state().await;
    let paths: Vec<String> =
        calls().iter().map(|call| call.split_once(' ').unwrap().1.replace(['{', '}'], "")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(12_000));
    for path in &paths {
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "BREW", "get"] {
            let found = status(&server, &request(method, path.as_bytes(), "", b"")).await;
            assert!(found.is_some_and(|code| code < 500), "{method} {path}: {found:?}");
        }
        for headers in [
            "authorization: Bearer \u{ff}\r\n",
            "authorization: Basic eA==\r\nauthorization: Bearer x\r\n",
            "catena-session-id: \u{e9}\r\n",
            "last-event-id: 99999999999999999999\r\n",
            "last-event-id: -1\r\n",
            "content-type: application/grpc\r\n",
            "content-type: application/grpc+json\r\nte: trailers\r\n",
            "content-type: \u{ff}\r\n",
            "content-encoding: gzip\r\n",
            "accept-encoding: ,,;q=x\r\n",
            "expect: 200-maybe\r\n",
            "upgrade: websocket\r\nconnection: upgrade\r\n",
            "upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQ\r\n",
            "grpc-timeout: -1S\r\n",
            &long,
        ] {
            for method in ["GET", "POST"] {
                // An empty order and an empty change of the settings are valid.
                let found = status(&server, &request(method, path.as_bytes(), headers, b"[")).await;
                let shown: String = headers.chars().take(80).collect();
                assert!(found.is_none_or(|code| code < 500), "{method} {path} {shown}: {found:?}");
            }
        }
    }
    assert!(server.state().await == before);
}
