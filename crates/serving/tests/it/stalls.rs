//! Callers that read nothing of what is sent to them.

use std::time::Duration;

use axum::http::Request;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use sortie_serving::Limits;
use tokio::task::JoinHandle;

use crate::harness::{Server, soon};

const STALL: Duration = Duration::from_millis(400);

async fn server() -> Server {
    Server::start(Limits { stall_time: STALL, ..Limits::default() }).await
}

async fn endless(server: &mut Server, count: usize) {
    soon(server.endless.wait_for(|open| *open == count)).await.unwrap();
}

async fn connect(server: &Server) -> (SendRequest<Bytes>, JoinHandle<()>) {
    connect_with_window(server, 70_000).await
}

/// An HTTP/2 connection whose windows nobody enlarges; the responses have windows of `bytes` each.
pub(crate) async fn connect_with_window(server: &Server, bytes: u32) -> (SendRequest<Bytes>, JoinHandle<()>) {
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(bytes).initial_connection_window_size(1 << 20);
    let (calls, connection) = builder.handshake(server.connect().await).await.unwrap();
    (calls, tokio::spawn(async move { drop(connection.await) }))
}

pub(crate) async fn ask(calls: &SendRequest<Bytes>, path: &str) -> RecvStream {
    let request = Request::get(format!("http://localhost{path}")).body(()).unwrap();
    let mut calls = soon(calls.clone().ready()).await.unwrap();
    let (response, _) = calls.send_request(request, true).unwrap();
    soon(response).await.unwrap().into_body()
}

#[tokio::test]
async fn a_connection_of_http1_ends_when_nothing_is_read_from_it() {
    let mut server = server().await;
    let stalled = server.say("GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await;
    endless(&mut server, 1).await;
    endless(&mut server, 0).await;
    drop(stalled);
}

#[tokio::test]
async fn an_unread_http2_response_ends_and_the_others_continue() {
    let mut server = server().await;
    let (calls, _connection) = connect(&server).await;
    let request = Request::get("http://localhost/never").body(()).unwrap();
    let (_unanswered, _) = soon(calls.clone().ready()).await.unwrap().send_request(request, true).unwrap();
    let _stalled = ask(&calls, "/endless").await;
    endless(&mut server, 1).await;
    // A stream whose reader keeps reading has not stalled.
    let mut taken = ask(&calls, "/endless").await;
    let mut bytes = 0;
    while *server.endless.borrow() > 1 || bytes < 1 << 20 {
        let piece = soon(taken.data()).await.unwrap().unwrap();
        bytes += piece.len();
        taken.flow_control().release_capacity(piece.len()).unwrap();
        tokio::time::sleep(STALL / 100).await;
    }
    assert_eq!(*server.endless.borrow(), 1, "the stalled one has ended");
    let mut answer = ask(&calls, "/measure").await;
    assert_eq!(soon(answer.data()).await.unwrap().unwrap(), "{\"bytes\":0}");
}

#[tokio::test]
async fn a_connection_with_nothing_but_such_answers_ends() {
    let mut server = server().await;
    let (calls, connection) = connect(&server).await;
    let _stalled = [ask(&calls, "/endless").await, ask(&calls, "/endless").await];
    endless(&mut server, 2).await;
    endless(&mut server, 0).await;
    soon(connection).await.unwrap();
}
