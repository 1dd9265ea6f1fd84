//! Connections that become something else still count.

use sortie_serving::Limits;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::{Server, rest, soon};

const ASK_ONCE: &str = "GET /measure HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// A connection after its upgrade from HTTP.
async fn upgraded(server: &Server, path: &str) -> TcpStream {
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: lines\r\n\r\n");
    let mut stream = BufReader::new(server.say(&ask).await);
    let mut line = String::new();
    while line != "open\n" {
        line.clear();
        assert!(soon(stream.read_line(&mut line)).await.unwrap() > 0, "closed instead of upgraded");
    }
    stream.into_inner()
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_until_it_ends() {
    for path in ["/upgrade", "/halves"] {
        let limits = Limits { connections_per_address: Some(2), ..Limits::default() };
        let server = Server::start(limits).await;
        let open = [upgraded(&server, path).await, upgraded(&server, path).await];
        for _ in 0..20 {
            assert_eq!(
                rest(server.say(ASK_ONCE).await).await,
                "",
                "{path}: the address has as many as it may"
            );
        }
        drop(open);
        // The server notices their end after a while.
        while !rest(server.say(ASK_ONCE).await).await.starts_with("HTTP/1.1 200") {}
    }
}

#[tokio::test]
async fn upgraded_connections_are_among_those_that_there_may_be() {
    let server = Server::start(Limits { connections: 2, ..Limits::default() }).await;
    let first = upgraded(&server, "/upgrade").await;
    let _second = upgraded(&server, "/halves").await;
    let waiting = tokio::spawn(rest(server.say(ASK_ONCE).await));
    let early = tokio::time::timeout(std::time::Duration::from_millis(100), async {
        while !waiting.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert!(early.await.is_err(), "there is no room");
    drop(first);
    assert!(soon(waiting).await.unwrap().starts_with("HTTP/1.1 200"));
}
