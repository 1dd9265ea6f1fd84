//! Dispatch tokens.

use serde_json::{Value, json};
use sortie_dispatch::frame::Kind;
use sortie_dispatch::{DispatchOptions, Operators};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UdpSocket;

use crate::harness::{World, device, exactly, free_port, options, soon};

async fn ask(world: &World, bearer: &str, request: Value) -> (u16, Value) {
    let url = world.url("/v1/dispatch/tokens");
    let client = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
    let answer = soon(client.post(&url).bearer_auth(bearer).json(&request).send()).await.unwrap();
    (answer.status().as_u16(), soon(answer.json()).await.unwrap())
}

async fn token(world: &World, request: Value) -> String {
    let (status, answer) = ask(world, "a shared secret", request).await;
    assert_eq!(status, 201, "{answer}");
    assert!(answer["expires_at"].as_str().unwrap().ends_with('Z'));
    answer["token"].as_str().unwrap().to_owned()
}

fn path(kind: &str, token: &str, port: u16, accept: &str) -> String {
    format!("/api/dispatch/v1/{kind}_dispatch?bearer_token={token}&port={port}&accept={accept}")
}

#[tokio::test]
async fn a_token_opens_its_port_for_its_devices_only() {
    let world = World::start(options()).await;
    let (port, other) = (free_port(), free_port());
    let request = json!({"ports": [port], "accept": ["127.0.0.0/8"], "protocol": "tcp", "expires_in": "1m"});
    let token = token(&world, request).await;
    let mut driver = world.open(&path("tcp", &token, port, "127.0.0.1")).await.unwrap();
    let _device = device(port).await;
    driver.expect(Kind::Opened).await;
    for (kind, port, accept, said) in [
        ("tcp", other, "127.0.0.1", "port"),
        ("tcp", port, "0.0.0.0/0", "accept"),
        ("udp", port, "127.0.0.1", "protocol"),
    ] {
        let (status, text) = world.open(&path(kind, &token, port, accept)).await.err().unwrap();
        assert_eq!(status, 403, "{text}");
        assert!(text.contains(said), "{text}");
    }
    // Nothing else is allowed.
    assert_eq!(world.get(&format!("/api/server?bearer_token={token}")).await.0, 401);
    assert_eq!(world.get(&format!("/v1/dispatch/stats?bearer_token={token}")).await.0, 401);
    let (status, _) = ask(&world, &token, json!({"ports": [port], "accept": ["::/0"]})).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_token_expires() {
    let world = World::start(options()).await;
    let port = free_port();
    let request = json!({"ports": [format!("{port}-{port}")], "accept": ["127.0.0.1"], "expires_in": "1ms"});
    let token = token(&world, request).await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    assert_eq!(world.open(&path("tcp", &token, port, "127.0.0.1")).await.err().unwrap().0, 401);
}

#[tokio::test]
async fn a_token_ends_when_its_quota_is_used_up() {
    let world = World::start(options()).await;
    let port = free_port();
    let token = token(&world, json!({"ports": [port], "accept": ["127.0.0.1"], "bytes": 10})).await;
    let mut driver = world.open(&path("tcp", &token, port, "127.0.0.1")).await.unwrap();
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    device.write_all(b"12345").await.unwrap();
    driver.receive(id, 5).await;
    driver.write(id, b"12345").await;
    assert_eq!(exactly(&mut device, 5).await, b"12345");
    driver.write(id, b"6").await;
    let (code, reason) = driver.closed().await;
    assert_eq!(code, 1008);
    assert!(reason.contains("bytes"), "{reason}");
    let (status, text) = world.open(&path("tcp", &token, port, "127.0.0.1")).await.err().unwrap();
    assert_eq!(status, 403, "{text}");
}

#[tokio::test]
async fn a_rate_slows_and_loses_nothing() {
    let world = World::start(options()).await;
    let port = free_port();
    let request = json!({"ports": [port], "accept": ["127.0.0.1"], "bytes_per_second": 1_000_000});
    let token = token(&world, request).await;
    let mut driver = world.open(&path("tcp", &token, port, "127.0.0.1")).await.unwrap();
    let mut device = device(port).await;
    let id = driver.expect(Kind::Opened).await.id;
    device.write_all(&[7; 200_000]).await.unwrap();
    assert_eq!(driver.receive(id, 200_000).await, [7; 200_000]);
    driver.write(id, &[8; 50_000]).await;
    driver.write(id, &[9; 50_000]).await;
    assert_eq!(exactly(&mut device, 100_000).await, [[8; 50_000], [9; 50_000]].concat());
}

#[tokio::test]
async fn datagrams_beyond_a_rate_are_dropped_in_both_directions() {
    let world = World::start(options()).await;
    let port = free_port();
    let request = json!({"ports": [port], "accept": ["127.0.0.1"], "bytes_per_second": 1_000});
    let token = token(&world, request).await;
    let mut driver = world.open(&path("udp", &token, port, "127.0.0.1")).await.unwrap();
    let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    device.connect(("127.0.0.1", port)).await.unwrap();
    device.send(&[]).await.unwrap();
    let id = driver.expect(Kind::Received).await.id;
    // What the rate allows in one minute: nothing more passes before that.
    driver.write(id, &[2; 60_000]).await;
    driver.write(id, &[3; 100]).await;
    world.until(|stats| stats.total.dropped_messages == 1).await;
    device.send(&[4; 100]).await.unwrap();
    world.until(|stats| stats.total.dropped_messages == 2).await;
    let total = world.dispatch.stats().await.total;
    assert_eq!((total.received_messages, total.written_messages), (1, 1));
    let mut buffer = [0; 65_536];
    assert_eq!(soon(device.recv(&mut buffer)).await.unwrap(), 60_000);
}

#[tokio::test]
async fn invalid_requests_are_refused() {
    let world = World::start(options()).await;
    let good = || json!({"ports": [6001], "accept": ["10.0.0.0/8"]});
    let with = |field: &str, value: Value| {
        let mut request = good();
        request[field] = value;
        request
    };
    let cases = [
        (json!({"accept": ["10.0.0.1"]}), 400, "ports"),
        (json!({"ports": [6001]}), 400, "accept"),
        (json!([[6001], ["10.0.0.1"]]), 400, "object"),
        (with("ports", json!([])), 400, "ports"),
        (with("ports", json!([0])), 400, "ports"),
        (with("ports", json!([70000])), 400, "ports"),
        (with("ports", json!(["7000-6000"])), 400, "ports"),
        (with("accept", json!(["somewhere"])), 400, "accept"),
        (with("expires_in", json!("soon")), 400, "expires_in"),
        (with("expires_in", json!("0s")), 400, "expires_in"),
        (with("expires_in", json!("2days")), 400, "expires_in"),
        (with("expires_in", json!("18446744073709551615s 999999999ns 1ns")), 400, "expires_in"),
        (with("bytes", json!(0)), 400, "bytes"),
        (with("protocol", json!("sctp")), 400, "sctp"),
        (with("surprise", json!(1)), 400, "surprise"),
    ];
    for (request, status, named) in cases {
        let (found, answer) = ask(&world, "a shared secret", request.clone()).await;
        assert_eq!(found, status, "{request}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(named), "{request}: {answer}");
    }
    assert_eq!(ask(&world, "wrong", good()).await.0, 401);
}

#[tokio::test]
async fn operators_create_tokens_and_cannot_open_ports() {
    let operators =
        Operators::new(|headers| headers.get("authorization").is_some_and(|text| text == "Bearer key"));
    let world = World::start(DispatchOptions { secret: None, operators: Some(operators), ..options() }).await;
    let port = free_port();
    let request = || json!({"ports": [port], "accept": ["127.0.0.1"]});
    assert_eq!(ask(&world, "another", request()).await.0, 401);
    let (status, answer) = ask(&world, "key", request()).await;
    assert_eq!(status, 201, "{answer}");
    for token in ["", "key", "another"] {
        assert_eq!(world.open(&path("tcp", token, port, "127.0.0.1")).await.err().unwrap().0, 401);
    }
    let token = answer["token"].as_str().unwrap();
    assert!(world.open(&path("tcp", token, port, "127.0.0.1")).await.is_ok());
    let headers =
        |bearer: &str| [("authorization".parse().unwrap(), bearer.parse().unwrap())].into_iter().collect();
    assert!(world.dispatch.is_operator(&headers("Bearer key")));
    assert!(!world.dispatch.is_operator(&headers(&format!("Bearer {token}"))));
}
