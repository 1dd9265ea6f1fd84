//! Limits of requests, and how connections end.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use serde_json::{Value, json};
use sortie_api::Auth;
use sortie_domain::broker::event::Event;
use sortie_serving::Limits;
use sortie_wire::catena::events::SubscribeToEventsRequest;
use sortie_wire::catena::events::events_client::EventsClient;
use sortie_wire::catena::server_manager::RequestMatchRequest;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::grpc::channel;
use crate::harness::{Server, soon};

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let limits = Limits { body_bytes: 1000, ..Limits::default() };
    let server = Server::start_limited(limits).await;
    let body = json!({"players": [], "properties": {"x": "y".repeat(1000)}}).to_string();
    let (status, answer) = server.send("POST", "/v1/matches", body.clone()).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("too_large")));
    let (status, answer) = server.send("POST", "/api/v1/server/request_match", body.clone()).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (413, &json!("too_large")));
    // Without a content length it is noticed while reading.
    let chunks = futures::stream::iter(
        body.as_bytes().chunks(100).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let (status, _) = server.send("POST", "/v1/matches", reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(status, 413);
}

#[tokio::test]
async fn whoever_still_sends_a_body_that_is_too_long_reads_the_answer() {
    const BODY_BYTES: usize = 3 << 20;
    let server = Server::start().await;
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = format!("POST /v1/matches HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    soon(stream.write_all(&vec![b'x'; BODY_BYTES])).await.unwrap();
    let mut answer = vec![0; 12];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
    // A client that asks first is told at once.
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let head = head.replace("host", "expect: 100-continue\r\nhost");
    stream.write_all(head.as_bytes()).await.unwrap();
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let limits = Limits { connections_per_address: Some(2), ..Limits::default() };
    let server = Server::start_limited(limits).await;
    let mut open = Vec::new();
    let mut answer = [0; 12];
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        soon(stream.read_exact(&mut answer)).await.unwrap();
        open.push(stream);
    }
    let mut third = TcpStream::connect(&server.address).await.unwrap();
    assert_eq!(soon(third.read(&mut answer)).await.unwrap_or(0), 0, "closed without an answer");
}

/// The whole answer on a connection of its own.
async fn ask(server: &Server, call: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    let length = body.len();
    let head = format!("{call} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn whoever_comes_while_calls_end_is_told_so() {
    let mut server = Server::start().await;
    // A call that does not end on its own.
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(b"POST /v1/matches HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").await.unwrap();
    // Once there is an answer to a later one, that call was taken.
    assert!(ask(&server, "GET /readyz", "").await.starts_with("HTTP/1.1 200 "));
    server.closing.cancel();
    let answer = ask(&server, "GET /readyz", "").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 5\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    let body = json!({"serverId": "s1", "hintFlags": 2}).to_string();
    let answer = ask(&server, "POST /api/v1/server/request_match", &body).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting_down"), "{answer}");
    stream.write_all(b"}").await.unwrap();
    let mut answer = vec![0; 8];
    soon(stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1", "it has its answer");
    soon(server.served.take().unwrap()).await.unwrap();
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
    let server = Server::start_limited(limits).await;
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
    nobody_waits(&server).await;
    let id = server.submit(&["p1"]).await;
    let offer = server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s2"})).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
}

#[tokio::test]
async fn a_server_that_breaks_off_its_call_over_grpc_gets_no_match() {
    let server = Server::start().await;
    let channel = channel(&server).await;
    let mut manager = CatenaServerManagerClient::new(channel.clone());
    let ask = RequestMatchRequest { server_id: "s1".into(), hint_flags: 2, ..Default::default() };
    let asking = tokio::spawn(async move { manager.request_match(ask).await });
    server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
    // The stream ends; the connection stays, as behind a proxy.
    asking.abort();
    nobody_waits(&server).await;
    let id = server.submit(&["p1"]).await;
    let offer = server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s2"})).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
    drop(channel);
}

/// Waits until the broker keeps no call.
async fn nobody_waits(server: &Server) {
    soon(async {
        while server.broker.stats().kept_calls > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Streams of the HTTP form of the API.
async fn streams_over_http(server: &Server) -> [reqwest::Response; 4] {
    const SUBSCRIBE: &str = "/api/v1/events/subscribe";
    let player = ("catena-session-id", "p1");
    [
        server.open("/v1/events", &[]).await,
        server.open(SUBSCRIBE, &[player]).await,
        server.open(SUBSCRIBE, &[player, ("accept", "text/event-stream")]).await,
        server.open(&format!("{SUBSCRIBE}/tags?eventTags=new-match"), &[]).await,
    ]
}

/// Everything that would last an hour ends, with the reason if there is a way to send it.
#[tokio::test]
async fn nothing_that_waits_or_streams_holds_up_the_end_of_the_process() {
    const HOUR: Duration = Duration::from_secs(3600);
    let serving = Limits { grace: HOUR, ..Limits::default() };
    let limits = sortie_api::Limits { serving, heartbeat: HOUR, ..sortie_api::Limits::default() };
    let mut server = Server::start_with(Auth::dev(), limits).await;

    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    let seats = format!("/v1/matches/{id}/seats");
    let now = server.ok("GET", &seats, Value::Null).await;
    let follow = server.request("GET", &format!("{seats}?seen={}", now["seen"]));
    let follow = tokio::spawn(follow.send());
    let body = json!({"serverId": "s2", "hintFlags": 2}).to_string();
    let by_http = tokio::spawn(server.request("POST", "/api/v1/server/request_match").body(body).send());
    let channel = channel(&server).await;
    let mut manager = CatenaServerManagerClient::new(channel.clone());
    let ask = RequestMatchRequest { server_id: "s3".into(), hint_flags: 2, ..Default::default() };
    let by_grpc = tokio::spawn(async move { manager.request_match(ask).await });

    let over_http = streams_over_http(&server).await;
    let mut upgrade =
        format!("ws://{}/api/v1/events/subscribe", server.address).into_client_request().unwrap();
    upgrade.headers_mut().insert("catena-session-id", "p1".parse().unwrap());
    let (mut socket, _) = soon(tokio_tungstenite::connect_async(upgrade)).await.unwrap();
    let mut subscribe = Request::new(SubscribeToEventsRequest {});
    subscribe.metadata_mut().insert("catena-session-id", "p1".parse().unwrap());
    let events = soon(EventsClient::new(channel.clone()).subscribe_to_events(subscribe)).await.unwrap();
    let mut health = Vec::new();
    for (service, status) in [("", ServingStatus::Serving), ("nothing", ServingStatus::ServiceUnknown)] {
        let ask = HealthCheckRequest { service: service.to_owned() };
        let mut watch = soon(HealthClient::new(channel.clone()).watch(ask)).await.unwrap().into_inner();
        assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), status);
        health.push(watch);
    }
    let ask = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let asks = stream::once(std::future::ready(ask)).chain(stream::pending());
    let mut reflection = ServerReflectionClient::new(channel);
    let mut reflection = soon(reflection.server_reflection_info(asks)).await.unwrap().into_inner();
    assert!(soon(reflection.message()).await.unwrap().is_some());
    soon(async {
        while server.broker.stats().kept_calls < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    server.closing.cancel();
    soon(server.served.take().unwrap()).await.unwrap();
    let follow = soon(follow).await.unwrap().unwrap();
    assert_eq!((follow.status().as_u16(), follow.json::<Value>().await.unwrap()), (200, now));
    let by_http = soon(by_http).await.unwrap().unwrap();
    assert_eq!((by_http.status().as_u16(), by_http.json::<Value>().await.unwrap()), (200, json!({})));
    assert_eq!(soon(by_grpc).await.unwrap().unwrap().into_inner(), Default::default());
    for stream in over_http {
        assert!(soon(stream.text()).await.is_ok(), "it ends in order");
    }
    while soon(socket.next()).await.is_some() {}
    let mut events = events.into_inner();
    let ended = soon(async {
        while events.message().await?.is_some() {}
        Ok::<_, tonic::Status>(())
    })
    .await;
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    let [mut all, mut unknown] = <[_; 2]>::try_from(health).unwrap_or_else(|_| unreachable!());
    assert_eq!(soon(all.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(soon(all.message()).await.unwrap().is_none() && soon(unknown.message()).await.unwrap().is_none());
    assert_eq!(soon(reflection.message()).await.unwrap_err().code(), Code::Unavailable);
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
    // No match, as if it had waited for as long as it may.
    let held = soon(held).await.unwrap().unwrap();
    assert_eq!((held.status().as_u16(), held.json::<Value>().await.unwrap()), (200, json!({})));
    assert!(soon(stream.text()).await.unwrap().contains("shutting_down"));
    let served = server.served.take().unwrap();
    soon(served).await.unwrap();
    assert!(TcpStream::connect(&server.address).await.is_err(), "the port is closed");
}
