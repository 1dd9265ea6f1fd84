//! The websocket: feedback as text messages, and invalid first messages.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use sortie_gateway::{GatewayOptions, MAX_BODY_BYTES};
use sortie_tokens::Dialect;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::harness::{Script, WebSocket, World, arena, check, opened, options, within};

const PATH: &str = "/matchmaker/ws";
const ARENA: &str = r#"{"game": "arena", "version": "1.0"}"#;

pub(crate) async fn say(socket: &mut WebSocket, text: &str) {
    within(socket.send(Message::text(text))).await.unwrap();
}

async fn hear(socket: &mut WebSocket) -> Message {
    within(socket.next()).await.expect("another message").unwrap()
}

async fn hear_feedback(socket: &mut WebSocket) -> Value {
    let message = hear(socket).await;
    serde_json::from_str(message.to_text().unwrap()).unwrap()
}

/// Feedback up to the first of this kind, which is returned.
pub(crate) async fn hear_until(socket: &mut WebSocket, kind: &str) -> Value {
    loop {
        let feedback = hear_feedback(socket).await;
        if let Some(content) = feedback.get(kind) {
            return content.clone();
        }
    }
}

async fn hear_close(socket: &mut WebSocket) -> CloseCode {
    match hear(socket).await {
        Message::Close(Some(frame)) => frame.code,
        other => panic!("no close: {other:?}"),
    }
}

#[tokio::test]
async fn a_player_gets_in() {
    let world = World::with_capacity(4).await;
    let mut socket = world.websocket(PATH).await;
    say(&mut socket, r#"{"game": "arena", "version": "1.0", "client_ip": "9.9.9.9"}"#).await;
    assert_eq!(hear_feedback(&mut socket).await, "Acknowledged");
    assert!(hear_feedback(&mut socket).await["SessionRequestAccepted"].is_string());
    let ready = hear_until(&mut socket, "SessionReady").await;
    assert_eq!(ready["ip"], "127.0.0.1");
    check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
    assert_eq!(hear_close(&mut socket).await, CloseCode::Normal);
    assert!(within(socket.next()).await.is_none());
}

#[tokio::test]
async fn pings_and_chatter_do_not_disturb() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut socket = world.websocket(PATH).await;
    within(socket.send(Message::Ping("a".into()))).await.unwrap();
    assert_eq!(hear(&mut socket).await, Message::Pong("a".into()));
    say(&mut socket, ARENA).await;
    hear_until(&mut socket, "ProgressReport").await;
    say(&mut socket, "are we there yet?").await;
    world.let_boot(1);
    world.let_ready(1);
    hear_until(&mut socket, "SessionReady").await;
}

#[tokio::test]
async fn a_first_message_that_makes_no_sense_is_an_error() {
    let options = GatewayOptions { default_game: None, ..options(vec![arena(4)]) };
    let world = World::start(Script::default(), options).await;
    let before = world.last_seq().await;
    let long = format!(r#"{{"game": "{}", "version": "1"}}"#, "a".repeat(31));
    let large = format!(r#"{{"game": "arena", "version": "1.0", "x": "{}"}}"#, "x".repeat(MAX_BODY_BYTES));
    for (message, problem) in [
        (Message::text("play!"), "this is not a request"),
        (Message::text("[]"), "this is not a request"),
        (Message::text(r#"{"game": 1, "version": "1.0"}"#), "this is not a request"),
        (Message::text("{}"), "name a game"),
        (Message::text(r#"{"game": "arena"}"#), "version: "),
        (Message::text(r#"{"game": "a/b", "version": "1.0"}"#), "game: "),
        (Message::text(long), "game: "),
        (Message::binary(ARENA), "this is not a text message"),
        (Message::text(large), "the first message cannot be read"),
    ] {
        let mut socket = world.websocket(PATH).await;
        within(socket.send(message.clone())).await.unwrap();
        let heard = hear(&mut socket).await;
        let text = heard.to_text().unwrap();
        assert!(text.starts_with(&format!("ERR {problem}")), "{message:?}: {text}");
        assert_eq!(hear_close(&mut socket).await, CloseCode::Policy);
    }
    assert_eq!(world.last_seq().await, before);
}

#[tokio::test]
async fn a_first_message_must_come_in_time() {
    let options =
        GatewayOptions { first_message_deadline: Duration::from_millis(50), ..options(vec![arena(4)]) };
    let world = World::start(Script::default(), options).await;
    let mut socket = world.websocket(PATH).await;
    let heard = hear(&mut socket).await;
    assert!(heard.to_text().unwrap().starts_with("ERR no message came in time"), "{heard}");
    assert_eq!(hear_close(&mut socket).await, CloseCode::Policy);
}

#[tokio::test]
async fn an_unknown_game_is_feedback() {
    let world = World::with_capacity(4).await;
    let mut socket = world.websocket(PATH).await;
    say(&mut socket, r#"{"game": "arena", "version": "2"}"#).await;
    assert_eq!(hear_feedback(&mut socket).await["Error"][0], 404);
    assert_eq!(hear_close(&mut socket).await, CloseCode::Normal);
}

#[tokio::test]
async fn a_match_that_fails_is_feedback() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut socket = world.websocket(PATH).await;
    say(&mut socket, ARENA).await;
    hear_until(&mut socket, "ProgressReport").await;
    world.clock.advance(Duration::from_secs(91));
    let error = hear_until(&mut socket, "Error").await;
    assert_eq!(error, serde_json::json!([503, "no server could be obtained in time"]));
    assert_eq!(hear_close(&mut socket).await, CloseCode::Normal);
}

#[tokio::test]
async fn whoever_only_connects_may_leave() {
    let world = World::with_capacity(4).await;
    let mut socket = world.websocket(PATH).await;
    within(socket.close(None)).await.unwrap();
    while within(socket.next()).await.is_some() {}
    assert_eq!(world.gateway.stats().abandoned, 0);
}
