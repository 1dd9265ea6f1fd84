//! Limits of requests, and how connections end.

use std::time::Duration;

use serde_json::json;
use sortie_api::{Auth, Limits};
use sortie_domain::broker::event::Event;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Server, soon};

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let server = Server::start_with(Auth::dev(), limits).await;
    let body = json!({"players": [], "properties": {"x": "y".repeat(1000)}}).to_string();
    let (status, answer) = server.send("POST", "/v1/matches", body.clone()).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("too_large")));
    let (status, answer) = server.send("POST", "/api/v1/server/request_match", body.clone()).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (413, &json!("too_large")));
    // Without a length in front it is found out on the way.
    let chunks = futures::stream::iter(
        body.as_bytes().chunks(100).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let (status, _) = server.send("POST", "/v1/matches", reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let server = Server::start().await;
    let request = server.request("GET", "/healthz").header("x-long", "y".repeat(64 << 10));
    assert_eq!(soon(request.send()).await.unwrap().status(), 431);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let limits = Limits { body_time: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start_with(Auth::dev(), limits).await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(b"POST /v1/matches HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{").await.unwrap();
    let mut answer = vec![0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_server_that_hangs_up_while_it_waits_gets_no_match() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let body = json!({"serverId": "s1", "hintFlags": 2}).to_string();
    let head = format!(
        "POST /api/v1/server/request_match HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
    drop(stream);
    soon(async {
        while server.broker.stats().kept_calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let id = server.submit(&["p1"]).await;
    let offer = server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s2"})).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
}

#[tokio::test]
async fn the_end_of_the_process_ends_held_calls_and_connections() {
    let mut server = Server::start().await;
    let body = json!({"serverId": "s1", "hintFlags": 2}).to_string();
    let request = server.request("POST", "/api/v1/server/request_match").body(body);
    let held = tokio::spawn(request.send());
    server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
    let stream = server.open("/v1/events", &[]).await;
    server.closing.cancel();
    assert_eq!(soon(held).await.unwrap().unwrap().status(), 503);
    assert!(soon(stream.text()).await.unwrap().contains("shutting_down"));
    let served = server.served.take().unwrap();
    soon(served).await.unwrap();
    assert!(TcpStream::connect(&server.address).await.is_err(), "nobody listens any more");
}
