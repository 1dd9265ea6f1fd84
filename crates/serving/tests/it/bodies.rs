//! Bodies that are too long, too slow, or never end.

use std::time::Duration;

use sortie_serving::Limits;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{Server, rest, soon, status};

fn head(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn a_body_has_so_many_bytes() {
    let server = Server::start(Limits { body_bytes: 10, ..Limits::default() }).await;
    for (headers, body, wanted) in [
        ("content-length: 10\r\n", "0123456789", "200 OK|{\"bytes\":10}"),
        ("content-length: 11\r\n", "0123456789x", "413 Payload Too Large|the body is longer than 10 bytes"),
        // Without a length in the headers it is found out on the way.
        ("transfer-encoding: chunked\r\n", "a\r\n0123456789\r\n0\r\n\r\n", "200 OK|{\"bytes\":10}"),
        (
            "transfer-encoding: chunked\r\n",
            "a\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n",
            "413 Payload Too Large|the body is longer than 10 bytes",
        ),
        ("", "", "200 OK|{\"bytes\":0}"),
    ] {
        let answer = rest(server.say(&(head("/measure", headers) + body)).await).await;
        let (status, text) = wanted.split_once('|').unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with(text), "{answer}");
    }
}

#[tokio::test]
async fn a_caller_that_still_sends_a_body_that_is_too_long_reads_the_answer() {
    const BODY_BYTES: usize = 3 << 20;
    let server = Server::start(Limits::default()).await;
    let length = format!("content-length: {BODY_BYTES}\r\n");
    let mut stream = server.say(&head("/measure", &length)).await;
    soon(stream.write_all(&vec![b'x'; BODY_BYTES])).await.unwrap();
    assert_eq!(status(&mut stream).await, 413);
    // Clients that ask first hear it at once.
    let mut stream = server.say(&head("/measure", &(length + "expect: 100-continue\r\n"))).await;
    assert_eq!(status(&mut stream).await, 413);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Limits { body_time: Duration::from_millis(50), ..Limits::default() }).await;
    for body in ["content-length: 10\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"] {
        let mut stream = server.say(&format!("POST /measure HTTP/1.1\r\nhost: x\r\n{body}")).await;
        assert_eq!(status(&mut stream).await, 408, "{body}");
    }
}

#[tokio::test]
async fn a_message_of_grpc_has_its_time_and_a_conversation_takes_its_own() {
    let server = Server::start(Limits::default()).await;
    let unfinished = |path: &str| head(path, "transfer-encoding: chunked\r\n") + "1\r\nx\r\n";
    let answer = rest(server.say(&unfinished("/some.Service/Call")).await).await;
    assert!(answer.contains("the message did not arrive in time"), "{answer}");
    let mut stream = server.say(&unfinished("/grpc.reflection.v1.ServerReflection/Ask")).await;
    // Later than the time limit of the other one.
    let late = rest(server.say(&unfinished("/some.Service/Call")).await).await;
    assert!(late.contains("in time"), "{late}");
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = rest(stream).await;
    assert!(answer.ends_with("whole: 1"), "{answer}");
}
