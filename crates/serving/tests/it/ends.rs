//! Responses in progress during shutdown, and slow readers.

use std::time::Duration;

use h2::RecvStream;
use sortie_serving::Limits;

use crate::harness::{Server, rest, soon, status};
use crate::stalls::{ask, connect_with_window};

/// More than the system buffers for a connection that nobody reads.
const LONG: usize = 32 << 20;

/// Limits that end nothing within the time of a test.
fn patient() -> Limits {
    let long = Duration::from_secs(3600);
    Limits { grace: long, stall_time: long, header_time: long, ..Limits::default() }
}

/// Shuts a server down, and waits until it has closed a connection without calls.
async fn end(server: &Server) {
    let half = server.say("GET /measure HTT").await;
    let answer =
        rest(server.say("GET /measure HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "and the half request was taken before: {answer}");
    server.closing.cancel();
    assert_eq!(rest(half).await, "");
}

#[tokio::test]
async fn a_slow_reader_of_http1_gets_the_whole_answer() {
    for path in ["bytes", "bytes_at_the_end"] {
        let mut server = Server::start(patient()).await;
        let mut slow = server.say(&format!("GET /{path}/{LONG} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        if path == "bytes" {
            assert_eq!(status(&mut slow).await, 200);
        }
        end(&server).await;
        let answer = rest(slow).await;
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), LONG, "{path}");
        soon(server.served.take().unwrap()).await.unwrap();
    }
}

/// Reads to the end, and enlarges the windows on the way.
async fn length(mut answer: RecvStream) -> usize {
    let mut bytes = 0;
    while let Some(piece) = soon(answer.data()).await {
        let piece = piece.unwrap();
        bytes += piece.len();
        answer.flow_control().release_capacity(piece.len()).unwrap();
    }
    bytes
}

#[tokio::test]
async fn a_slow_reader_of_http2_gets_the_whole_answer() {
    // h2 takes more of a response than there is a window for: for the second and the third case, all the rest.
    for (path, window, whole) in
        [("bytes", 70_000, LONG), ("bytes", 70_000, 80 << 10), ("bytes_at_the_end", 10_000, 15_000)]
    {
        let mut server = Server::start(patient()).await;
        let (calls, _connection) = connect_with_window(&server, window).await;
        let path = format!("/{path}/{whole}");
        let slow = ask(&calls, &path);
        let answer = if path.starts_with("/bytes/") {
            let answer = slow.await;
            end(&server).await;
            answer
        } else {
            tokio::join!(slow, end(&server)).0
        };
        assert_eq!(length(answer).await, whole, "{path}");
        soon(server.served.take().unwrap()).await.unwrap();
    }
}
