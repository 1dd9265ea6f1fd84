//! A player gets in through each of the doors.

use std::time::Duration;

use sortie_gateway::GatewayOptions;
use sortie_tokens::Dialect;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Script, World, arena, check, opened, options, within};

#[tokio::test]
async fn one_answer_by_get_and_post_on_both_paths() {
    let world = World::with_capacity(8).await;
    for path in ["/wannaplay", "/matchmaker/wannaplay", "/wannaplay?game=arena&version=1.0&client_ip="] {
        for answer in [world.get(path).await, world.post(path).await] {
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.headers()["cache-control"], "no-store");
            let answer: serde_json::Value = answer.json().await.unwrap();
            let keys: Vec<&String> = answer.as_object().unwrap().keys().collect();
            assert_eq!(
                keys,
                ["cert_digest", "connect_token", "gameserver_ip", "gameserver_port", "link", "player_key"]
            );
            assert_eq!(answer["gameserver_ip"], "127.0.0.1");
            assert_eq!(answer["gameserver_port"], 7001);
            assert_eq!(answer["link"], "127.0.0.1:7001");
            assert_eq!(answer["cert_digest"], "");
            check(&world, &opened(&answer["connect_token"], Dialect::Standard), "127.0.0.1:7001").await;
        }
    }
    assert_eq!(world.matches().await.len(), 1);
}

#[tokio::test]
async fn what_is_asked_may_stand_in_the_body() {
    let world = World::with_capacity(8).await;
    let url = world.url("/wannaplay");
    let bodies = [
        r#"{"game": "arena", "version": "1.0", "client_ip": "9.9.9.9", "foo": 123}"#,
        r#"{"game": "", "client_ip": null}"#,
        " ",
    ];
    for body in bodies {
        let answer = world.http.post(&url).body(body).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{body}");
    }
    let answer = world.http.post(&url).body(r#"{"game": "chess", "version": "1"}"#).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    // The query comes first.
    let url = world.url("/wannaplay?game=arena&version=1.0");
    let answer = world.http.post(&url).body(r#"{"game": "chess", "version": "1"}"#).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn feedback_in_chunks() {
    let world = World::with_capacity(8).await;
    let mut chunks = world.stream("/matchmaker/request/arena/1.0").await;
    assert_eq!(chunks.next().await.unwrap(), "Acknowledged");
    let accepted = chunks.next().await.unwrap();
    let seat = accepted["SessionRequestAccepted"].as_str().unwrap().to_owned();
    let report = chunks.next().await.unwrap();
    let text = report["ProgressReport"].as_str().unwrap();
    assert!(text.starts_with("joining from 127.0.0.1: "), "{text}");
    let rest = chunks.rest().await;
    let ready = &rest.last().unwrap()["SessionReady"];
    assert_eq!(ready["ip"], "127.0.0.1");
    assert_eq!(ready["port"], 7001);
    assert_eq!(ready["cert_digest"], "");
    let token = opened(&ready["token"], Dialect::Standard);
    let game = check(&world, &token, "127.0.0.1:7001").await;
    assert_eq!(crate::harness::seat_of(&token).as_str(), seat);
    let properties: serde_json::Value = serde_json::from_str(game.spec.properties.text().unwrap()).unwrap();
    assert_eq!(properties, serde_json::json!({"game": "arena", "version": "1.0"}));
}

#[tokio::test]
async fn there_is_a_page() {
    let world = World::with_capacity(8).await;
    for path in ["/", "/matchmaker"] {
        let answer = world.get(path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().contains("Sortie"));
    }
}

#[tokio::test]
async fn web_pages_of_configured_origins_may_call() {
    let options = sortie_gateway::GatewayOptions {
        cors_origins: vec!["https://play.example.com".to_owned(), "http://localhost:8000".to_owned()],
        ..crate::harness::options(vec![crate::harness::arena(8)])
    };
    let world = World::start(crate::harness::Script::default(), options).await;
    let ask = async |origin: &str| {
        let request = world.http.request(reqwest::Method::OPTIONS, world.url("/matchmaker/wannaplay"));
        let request = request.header("origin", origin).header("access-control-request-method", "POST");
        let answer = request.send().await.unwrap();
        answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    for origin in ["https://play.example.com", "http://localhost:8000"] {
        assert_eq!(ask(origin).await.as_deref(), Some(origin));
    }
    assert_eq!(ask("https://evil.example.com").await, None);
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let options =
        GatewayOptions { first_message_deadline: Duration::from_millis(50), ..options(vec![arena(4)]) };
    let world = World::start(Script::default(), options).await;
    let host = world.url("").replace("http://", "");
    let mut stream = within(TcpStream::connect(&host)).await.unwrap();
    let head = format!("POST /wannaplay HTTP/1.1\r\nhost: {host}\r\ncontent-length: 10\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    within(stream.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 408");
    assert!(world.matches().await.is_empty(), "nobody has joined");
}
