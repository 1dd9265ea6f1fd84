//! HTTP/1 peers that break its rules, are slow, or use up resources.

use std::time::Duration;

use serde_json::json;
use sortie_serving::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Server, soon};
use crate::hostile_calls::{request, status};

const ORDER: &str = r#"{"players": ["p"]}"#;

#[tokio::test]
async fn requests_that_break_the_rules_of_http() {
    let server = Server::start().await;
    let before = server.state().await;
    let many: String = (0..200).map(|number| format!("x-{number}: y\r\n")).collect();
    let long = format!("/{}", "x".repeat(100_000));
    let order =
        |framing: &str, body: &str| format!("POST /v1/matches HTTP/1.1\r\nhost: x\r\n{framing}\r\n{body}");
    let table: Vec<Vec<u8>> = [
        "\r\n\r\n\r\n\r\n".to_owned() + "x\r\n\r\n",
        "GET\r\n\r\n".into(),
        "GET /healthz\r\n\r\n".into(),
        "GET /healthz HTTP/9.9\r\n\r\n".into(),
        "GET healthz HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "GET /healthz\0 HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "GET /healthz HTTP/1.1\r\nhost x\r\n\r\n".into(),
        "GET /healthz HTTP/1.1\r\nhost: x\r\na\0b: c\r\n\r\n".into(),
        "GET /healthz HTTP/1.1\r\nhost: x\r\na: b\0c\r\n\r\n".into(),
        "GET /healthz HTTP/1.1\r\n folded: x\r\n\r\n".into(),
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n"),
        format!("GET {long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        "GET //v1//matches HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "GET /v1/matches/../servers HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "GET /v1/matches/ HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, and long enough to be read as one".into(),
        order("content-length: -1\r\n", ORDER),
        order("content-length: 99999999999999999999\r\n", ORDER),
        order("content-length: 18\r\ncontent-length: 3\r\n", ORDER),
        order("content-length: 18\r\ntransfer-encoding: identity\r\n", ORDER),
        order("transfer-encoding: gzip\r\n", ORDER),
        order("transfer-encoding: chunked\r\n", "zz\r\n"),
        order("transfer-encoding: chunked\r\n", "-1\r\n"),
        order("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\n"),
        order("transfer-encoding: chunked\r\n", "12\r\n{\"players\": [\"p\"]}xx0\r\n\r\n"),
        order("transfer-encoding: chunked\r\n", &format!("1;{}\r\n", "x".repeat(100_000))),
    ]
    .map(String::into_bytes)
    .into_iter()
    .chain([vec![0xff; 4096], vec![0; 4096], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(20)])
    .collect();
    for bytes in table {
        let found = status(&server, &bytes).await;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        assert!(found.is_none_or(|code| (400..500).contains(&code)), "{shown:?}: {found:?}");
        assert!(server.state().await == before, "{shown:?} left a trace");
    }
    // What a proxy sends names the whole address.
    assert_eq!(status(&server, b"GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n").await, Some(200));
}

/// Reads until the other side closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // Reset is as good as closed.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn headers_that_drip_are_not_waited_for() {
    let limits = Limits { header_time: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_limited(limits).await;
    for sent in [
        "",
        "P",
        "PRI * HTTP/2.0\r\n",
        "G",
        "GET /healthz HTTP/1.1\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ] {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{sent:?}: {answer}");
    }
    // A client that sends endlessly is treated the same.
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let drip = async move {
        writing.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        while writing.write_all(b"x: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let mut answer = Vec::new();
    let read = async { reading.read_to_end(&mut answer).await };
    let (_, _) = soon(async { tokio::join!(drip, read) }).await;
}

#[tokio::test]
async fn bodies_that_drip_are_not_waited_for() {
    let limits = Limits { body_time: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_limited(limits).await;
    let before = server.state().await;
    for framing in ["content-length: 1000\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let stream = TcpStream::connect(&server.address).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let head = format!("POST /v1/matches HTTP/1.1\r\nhost: x\r\n{framing}");
        writing.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        soon(reading.read_exact(&mut answer)).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408", "{framing}");
    }
    assert!(server.state().await == before);
}

#[tokio::test]
async fn connections_that_are_half_closed() {
    let server = Server::start().await;
    let before = server.state().await;
    let whole = request("POST", b"/v1/matches", "", ORDER.as_bytes());
    for cut in [10, whole.len() - ORDER.len() - 2, whole.len() - ORDER.len(), whole.len() - 1] {
        let mut stream = TcpStream::connect(&server.address).await.unwrap();
        stream.write_all(&whole[..cut]).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{cut}: {answer}");
        assert!(server.state().await == before, "{cut} left a trace");
    }
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    stream.write_all(&whole).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(stream).await;
    // The answer may not be sent any more: hyper treats the end of the input as the end of the connection.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 201"), "{answer}");
}

#[tokio::test]
async fn a_server_that_is_full_serves_again_when_somebody_leaves() {
    let limits = Limits { connections: 20, ..Limits::default() };
    let server = Server::start_limited(limits).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(&server.address).await.unwrap());
    }
    let mut waiting = TcpStream::connect(&server.address).await.unwrap();
    waiting.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut first = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(100), waiting.peek(&mut first)).await;
    assert!(early.is_err(), "there is no room");
    idle.pop();
    assert!(rest(waiting).await.starts_with("HTTP/1.1 200"));
    drop(idle);
    assert_eq!(server.ok("GET", "/v1/matches", json!(null)).await, json!({"matches": []}));
}
