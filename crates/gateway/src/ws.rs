//! The door for players who keep a websocket open while they wait.
//!
//! What is wrong with the first message is told as a text `ERR …`; from then on everything is feedback, errors too. Whoever
//! waits for a match may agree to it here ([`vote`](crate::vote)); other messages mean nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Query, State};
use axum::response::Response;
use sortie_engine::Unavailable;
use tokio::time::{sleep, timeout};

use crate::Inner;
use crate::error::JoinError;
use crate::feedback::{Feedback, Joining, Outgoing};
use crate::http::{Admitted, Asked, Door};
use crate::options::MAX_BODY_BYTES;
use crate::vote::Voter;

/// Longest wait for a player to take one message.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for the other side to close, too.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// Most that is written to a player who does not read, in bytes.
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
        // A waiting player holds what it wished for, not the whole body.
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

/// What came first.
enum First {
    Asked(Asked),
    Wrong(String),
    /// Too large, or no websocket frame: nothing more can be read.
    Unreadable(String),
    /// The process is about to end.
    TooLate,
    Gone,
}

async fn first_message(socket: &mut WebSocket, deadline: Duration) -> First {
    const EXAMPLE: &str = r#"send a text message like {"game": "…", "version": "…"} first"#;
    let received = async {
        loop {
            match socket.recv().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    };
    match timeout(deadline, received).await {
        Err(_) => First::Wrong(format!("nothing came in time: {EXAMPLE}")),
        Ok(None | Some(Ok(Message::Close(_)))) => First::Gone,
        Ok(Some(Err(error))) => First::Unreadable(format!("the first message cannot be read: {error}")),
        Ok(Some(Ok(Message::Text(text)))) => match serde_json::from_str(&text) {
            Ok(asked) => First::Asked(asked),
            Err(error) => First::Wrong(format!("this is no request: {error}; {EXAMPLE}")),
        },
        Ok(Some(Ok(_))) => First::Wrong(format!("this is no text message: {EXAMPLE}")),
    }
}

/// Passes feedback on until the last, or until the player is gone.
async fn tell(mut socket: WebSocket, mut joining: Joining, mut voter: Voter) {
    loop {
        let outgoing = tokio::select! {
            outgoing = joining.next() => outgoing,
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) => match voter.hear(&text).await {
                    Some(told) => Some(Outgoing { feedback: Feedback::ProgressReport(told), given: None }),
                    None => continue,
                },
                // Whatever it is, the player is still there.
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

/// Refuses, and lets the player read that. With bytes unread, to drop the connection is to reset it, which takes
/// back what was sent.
async fn refuse_unread(mut socket: WebSocket, problem: &str) {
    if send(&mut socket, format!("ERR {problem}")).await && send_close(&mut socket, close_code::POLICY).await
    {
        sleep(CLOSE_DEADLINE).await;
    }
}

/// Whether the message is on its way.
async fn send(socket: &mut WebSocket, text: String) -> bool {
    matches!(timeout(SEND_DEADLINE, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

async fn send_close(socket: &mut WebSocket, code: u16) -> bool {
    let frame = CloseFrame { code, reason: "".into() };
    matches!(timeout(SEND_DEADLINE, socket.send(Message::Close(Some(frame)))).await, Ok(Ok(())))
}

/// Closes, and reads on until the other side has closed too.
async fn close(mut socket: WebSocket, code: u16) {
    if send_close(&mut socket, code).await {
        // A player who does not close is left.
        let _ = timeout(CLOSE_DEADLINE, async { while let Some(Ok(_)) = socket.recv().await {} }).await;
    }
}
