//! Web pages and hosts that may not call, on any route and in either HTTP version.

use sortie_serving::{Limits, Visitors};
use tokio::net::TcpStream;

use crate::harness::{Server, rest, soon, status};

async fn open() -> Server {
    let visitors = Visitors::without_credentials().and_loopback_pages();
    Server::for_visitors(visitors, Limits::default()).await
}

#[tokio::test]
async fn no_route_answers_a_foreign_page_or_host() {
    let server = open().await;
    for path in ["/measure", "/endless", "/upgrade", "/some.Service/Call", "/nothing", "/", "*"] {
        for method in ["GET", "POST", "OPTIONS", "PUT", "HEAD"] {
            for headers in [
                "host: evil.example\r\n",
                "host: localhost\r\norigin: https://evil.example\r\ncontent-type: text/plain\r\n",
                "host: localhost\r\norigin: null\r\n",
                "host: localhost\r\norigin: https://evil.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
            ] {
                let mut stream = server.say(&format!("{method} {path} HTTP/1.1\r\n{headers}\r\n")).await;
                assert_eq!(status(&mut stream).await, 403, "{method} {path} {headers}");
            }
        }
    }
    let mut own = server.say("GET /measure HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(status(&mut own).await, 200);
}

#[tokio::test]
async fn a_page_that_sends_much_reads_why_it_is_refused() {
    let server = open().await;
    let head = "POST /measure HTTP/1.1\r\nhost: localhost\r\norigin: https://evil.example\r\n";
    let body = "x".repeat(1 << 20);
    let stream = server.say(&format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("\"code\":\"forbidden\""), "{answer}");
}

#[tokio::test]
async fn the_host_of_http2_is_looked_at_too() {
    let server = open().await;
    let stream = TcpStream::connect(("localhost", server.port)).await.unwrap();
    let (calls, connection) = h2::client::handshake(stream).await.unwrap();
    let _connection = tokio::spawn(connection);
    for (uri, origin, wanted) in [
        ("http://localhost/measure", None, 200),
        ("http://evil.example/measure", None, 403),
        ("http://localhost/measure", Some("https://evil.example"), 403),
        ("http://localhost/some.Service/Call", Some("https://evil.example"), 403),
    ] {
        let mut request = axum::http::Request::get(uri);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        let mut calls = soon(calls.clone().ready()).await.unwrap();
        let (response, _) = calls.send_request(request.body(()).unwrap(), true).unwrap();
        assert_eq!(soon(response).await.unwrap().status(), wanted, "{uri} {origin:?}");
    }
}
