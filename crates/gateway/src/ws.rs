//! The endpoint for players who keep a websocket open while they wait.
//!
//! A problem with the first message is reported as a text `ERR …`; from then on everything is feedback, errors too. A
//! waiting player may accept a match here ([`vote`](crate::vote)); other messages are ignored.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use sortie_engine::Unavailable;
use sortie_serving::not_a_list;
use tokio::time::{sleep, timeout};

use crate::Inner;
use crate::error::JoinError;
use crate::feedback::{Feedback, Joining, Outgoing};
use crate::http::{Admitted, Asked, Door};
use crate::options::MAX_BODY_BYTES;
use crate::vote::Voter;

/// What is expected of the first message.
const EXAMPLE: &str = r#"send a text message like {"game": "…", "version": "…"} first"#;

/// Maximum wait for a player to take one message.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum wait for the other side to close too.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Maximum size of the write buffer for a player who does not read, in bytes.
const MAX_WRITE_BUFFER_BYTES: usize = 256 * 1024;

pub(crate) async fn connect(
    State(gateway): State<Arc<Inner>>,
    Admitted { caller, permit }: Admitted,
    Query(query): Query<Asked>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, JoinError> {
    let upgrade = upgrade
        .max_message_size(MAX_BODY_BYTES)
        .max_frame_size(MAX_BODY_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES);
    let open = gateway.sockets.token();
    Ok(upgrade.on_upgrade(async move |mut socket| {
        let _until_it_ends = open;
        let first = tokio::select! {
            first = first_message(&mut socket, gateway.options.first_message_deadline) => first,
            () = gateway.options.closing.cancelled() => First::TooLate,
        };
        let asked = match first {
            First::Asked(asked) => asked.or(query),
            First::Wrong(problem) => return refuse(socket, &problem).await,
            First::Unreadable(problem) => return refuse_unread(socket, &problem).await,
            First::TooLate => return tell_error(socket, &Unavailable::ShuttingDown.into()).await,
            First::Gone => return,
        };
        let wish = gateway.wish(&caller, &asked, Door::Websocket, permit).await;
        // A waiting player keeps only the parsed request, not the whole message.
        drop((caller, asked));
        match wish {
            Ok(wish) => {
                let voter = Voter::new(Arc::clone(&gateway), wish.player.clone());
                tell(socket, Joining::start(gateway, wish), voter).await;
            }
            Err(error) if error.is_callers_fault() => refuse(socket, &error.to_string()).await,
            Err(error) => tell_error(socket, &error).await,
        }
    }))
}

/// The first message.
enum First {
    Asked(Asked),
    Wrong(String),
    /// Too large, or not a websocket frame: nothing more can be read.
    Unreadable(String),
    /// The process is about to end.
    TooLate,
    Gone,
}

async fn first_message(socket: &mut WebSocket, deadline: Duration) -> First {
    let received = async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    };
    match timeout(deadline, received).await {
        Err(_) => First::Wrong(format!("no message came in time: {EXAMPLE}")),
        Ok(None | Some(Ok(Message::Close(_)))) => First::Gone,
        Ok(Some(Err(error))) => First::Unreadable(format!("the first message cannot be read: {error}")),
        Ok(Some(Ok(Message::Text(text)))) => asked(&text),
        Ok(Some(Ok(_))) => First::Wrong(format!("this is not a text message: {EXAMPLE}")),
    }
}

fn asked(text: &str) -> First {
    let wrong = |error: &dyn Display| First::Wrong(format!("this is not a request: {error}; {EXAMPLE}"));
    match not_a_list(text.as_bytes()) {
        Ok(document) => serde_json::from_slice(document).map_or_else(|error| wrong(&error), First::Asked),
        Err(list) => wrong(&list),
    }
}

/// Passes feedback on until the last message, or until the player is gone.
async fn tell(mut socket: WebSocket, mut joining: Joining, mut voter: Voter) {
    loop {
        let outgoing = tokio::select! {
            outgoing = joining.next() => outgoing,
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => match voter.hear(&text).await {
                    Some(told) => Some(Outgoing { feedback: Feedback::ProgressReport(told), given: None }),
                    None => continue,
                },
                // Ignored, but the player is still there.
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                None | Some(Ok(Message::Close(_)) | Err(_)) => return,
            },
        };
        let Some(outgoing) = outgoing else { break };
        if !send(&mut socket, outgoing.feedback.to_json()).await {
            return;
        }
        if let Some(given) = outgoing.given {
            given.keep();
        }
    }
    close(socket, close_code::NORMAL).await;
}

async fn tell_error(mut socket: WebSocket, error: &JoinError) {
    if send(&mut socket, Feedback::error(error).to_json()).await {
        close(socket, close_code::NORMAL).await;
    }
}

async fn refuse(mut socket: WebSocket, problem: &str) {
    if send(&mut socket, format!("ERR {problem}")).await {
        close(socket, close_code::POLICY).await;
    }
}

/// Refuses, and lets the player read why. Dropping a connection with unread bytes would reset it, which discards what
/// was sent.
async fn refuse_unread(mut socket: WebSocket, problem: &str) {
    if send(&mut socket, format!("ERR {problem}")).await && send_close(&mut socket, close_code::POLICY).await
    {
        sleep(CLOSE_DEADLINE).await;
    }
}

/// Sends the message; false if the player is gone.
async fn send(socket: &mut WebSocket, text: String) -> bool {
    matches!(timeout(SEND_DEADLINE, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

async fn send_close(socket: &mut WebSocket, code: u16) -> bool {
    let frame = CloseFrame { code, reason: "".into() };
    matches!(timeout(SEND_DEADLINE, socket.send(Message::Close(Some(frame)))).await, Ok(Ok(())))
}

/// Closes, and reads until the other side has closed too.
async fn close(mut socket: WebSocket, code: u16) {
    if send_close(&mut socket, code).await {
        // A player who does not close is dropped.
        let _ = timeout(CLOSE_DEADLINE, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_values_is_not_a_request() {
        assert!(matches!(asked(r#"{"game": "arena"}"#), First::Asked(_)));
        let First::Wrong(why) = asked(r#"["arena", "1"]"#) else { panic!("a list is read as a request") };
        assert!(why.contains("must be an object, not a list"), "{why}");
    }
}
