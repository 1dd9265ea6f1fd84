//! How many connections there are, how long they may stall, and how they end.

use std::time::Duration;

use sortie_serving::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Server, rest, soon, status};

const ASK: &str = "GET /measure HTTP/1.1\r\nhost: x\r\n\r\n";
const ASK_ONCE: &str = "GET /measure HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let server = Server::start(Limits { connections_per_address: Some(2), ..Limits::default() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = server.say(ASK).await;
        assert_eq!(status(&mut stream).await, 200);
        open.push(stream);
    }
    assert_eq!(rest(server.connect().await).await, "", "closed without an answer");
    drop(open);
    // The server notices their end after a while.
    while !rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200") {}
}

#[tokio::test]
async fn a_server_that_is_full_serves_again_when_somebody_leaves() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    let mut idle = vec![server.connect().await, server.connect().await];
    let waiting = server.say(ASK_ONCE).await;
    let mut first = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.peek(&mut first)).await;
    assert!(early.is_err(), "there is no room");
    idle.pop();
    assert!(rest(waiting).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn headers_that_drip_are_not_waited_for() {
    let server = Server::start(Limits { header_time: Duration::from_millis(50), ..Limits::default() }).await;
    for sent in ["", "P", "PRI * HTTP/2.0\r\n", "G", "GET /measure HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let answer = rest(server.say(sent).await).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{sent:?}: {answer}");
    }
}

#[tokio::test]
async fn headers_have_so_many_bytes() {
    let server = Server::start(Limits::default()).await;
    let long = "y".repeat(64 << 10);
    let mut stream = server.say(&format!("GET /measure HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n")).await;
    assert_eq!(status(&mut stream).await, 431);
}

#[tokio::test]
async fn late_callers_are_answered_while_calls_end_and_then_nobody_listens() {
    let mut server = Server::start(Limits::default()).await;
    let mut held = server.say("POST /measure HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{").await;
    // Once a later call has been answered, that call was accepted.
    assert!(rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200"));
    server.closing.cancel();
    let late = rest(server.say(ASK).await).await;
    assert!(late.starts_with("HTTP/1.1 200") && late.contains("connection: close\r\n"), "{late}");
    held.write_all(b"}").await.unwrap();
    assert_eq!(status(&mut held).await, 200);
    soon(server.served.take().unwrap()).await.unwrap();
    assert!(TcpStream::connect(("localhost", server.port)).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn calls_that_do_not_end_are_broken_off() {
    let mut server = Server::start(Limits { grace: Duration::from_millis(50), ..Limits::default() }).await;
    let mut held = server.say("GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200"));
    server.closing.cancel();
    soon(server.served.take().unwrap()).await.unwrap();
    assert_eq!(soon(held.read(&mut [0; 1])).await.unwrap_or(0), 0);
}

/// Limits that end nothing within the time of a test.
fn patient() -> Limits {
    let long = Duration::from_secs(3600);
    Limits { grace: long, body_time: long, header_time: long, ..Limits::default() }
}

#[tokio::test]
async fn an_ordered_end_waits_for_nothing_that_is_only_half_sent() {
    let settings = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for half in [
        "GET /measure HTT",
        "GET /measure HTTP/1.1\r\nhost: x\r\nx-more",
        // Another request begins on a connection that has had an answer.
        "GET /measure HTTP/1.1\r\nhost: x\r\n\r\nGET /meas",
        "PRI * HTTP/2.0\r\n\r\nS",
        settings,
        &format!("{settings}\0\0\x20\x01"),
    ] {
        let mut server = Server::start(patient()).await;
        let _held = server.say(half).await;
        assert!(rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200"));
        server.closing.cancel();
        soon(server.served.take().unwrap()).await.unwrap();
    }
}

#[tokio::test]
async fn a_call_whose_body_has_not_arrived_is_refused_at_the_end() {
    for (path, body, wanted) in [
        ("/measure", "content-length: 2\r\n\r\n{", "HTTP/1.1 503"),
        ("/measure", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", "HTTP/1.1 503"),
        // Other services read it to its end; the cause gives tonic its status.
        ("/grpc.reflection.v1.ServerReflection/Ask", "content-length: 2\r\n\r\n{", "shutting down"),
    ] {
        let mut server = Server::start(patient()).await;
        let held = server.say(&format!("POST {path} HTTP/1.1\r\nhost: x\r\n{body}")).await;
        assert!(rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200"));
        server.closing.cancel();
        let answer = rest(held).await;
        assert!(answer.contains(wanted), "{answer}");
        soon(server.served.take().unwrap()).await.unwrap();
    }
}
