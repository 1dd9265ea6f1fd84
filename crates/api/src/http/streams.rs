//! Streams of messages over HTTP: one document per line, server-sent events, a websocket. The documents are the same in
//! each.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::sse::{Event as SseEvent, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use sortie_serving::json_response;
use sortie_wire::catena::events::SubscribeToEventsResponse;
use sortie_wire::json;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::{ApiError, Form};

/// Maximum wait for a player to take one message.
const SEND_DEADLINE: Duration = Duration::from_secs(10);
/// Maximum size of a message that a player may send, in bytes; none is expected.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
/// Maximum size of the write buffer for a player who does not read, in bytes.
const MAX_WRITE_BUFFER_BYTES: usize = 256 * 1024;
/// Maximum length of the reason in a close frame, in bytes: a control frame has 125, two of which are the code.
/// <https://www.rfc-editor.org/rfc/rfc6455#section-5.5>
const MAX_REASON_BYTES: usize = 123;

fn document<T: Serialize>(message: &T) -> Result<Vec<u8>, ApiError> {
    json::encode(message).map_err(ApiError::internal)
}

/// One document per line. When a stream fails, the answer has begun, so an error can only end it.
pub(super) fn lines<S, T>(stream: Result<S, ApiError>) -> Response
where
    S: Stream<Item = Result<T, ApiError>> + Send + 'static,
    T: Serialize,
{
    let messages = match stream {
        Ok(messages) => messages,
        Err(error) => return error.respond(Form::Catena),
    };
    let documents = messages.map(|message| {
        let mut document = document(&message?)?;
        document.push(b'\n');
        Ok::<_, ApiError>(Bytes::from(document))
    });
    let whole = documents.take_while(|document| std::future::ready(document.is_ok()));
    let whole = whole.flat_map(|document| stream::iter(document.map(Ok::<_, Infallible>)));
    let mut response = json_response(StatusCode::OK, Vec::new());
    *response.body_mut() = Body::from_stream(whole);
    response
}

/// Server-sent events. An event from which the stream can be resumed has its `eventId` as id; an event named `error`,
/// without an id, says why the stream ends.
pub(super) fn server_sent<S>(stream: Result<S, ApiError>) -> Response
where
    S: Stream<Item = Result<SubscribeToEventsResponse, ApiError>> + Send + 'static,
{
    let messages = match stream {
        Ok(messages) => messages,
        Err(error) => return error.respond(Form::Catena),
    };
    let events = messages.map(|message| {
        let shown = message.and_then(|message| {
            let id = message.event.as_ref().map(|event| event.event_id.clone()).unwrap_or_default();
            let text = String::from_utf8_lossy(&document(&message)?).into_owned();
            let event = SseEvent::default().data(text);
            Ok(if id.is_empty() { event } else { event.id(id) })
        });
        let event = shown.unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&error.native_json()).into_owned();
            SseEvent::default().event("error").data(text)
        });
        Ok::<_, Infallible>(event)
    });
    Sse::new(events).into_response()
}

/// A text message for each document; the close frame says why the stream ends.
pub(super) fn socket<S>(
    upgrade: WebSocketUpgrade,
    stream: Result<S, ApiError>,
    closing: CancellationToken,
) -> Response
where
    S: Stream<Item = Result<SubscribeToEventsResponse, ApiError>> + Send + 'static,
{
    let messages = match stream {
        Ok(messages) => messages,
        Err(error) => return error.respond(Form::Catena),
    };
    let upgrade = upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES);
    upgrade.on_upgrade(async move |socket| tell(socket, messages, closing).await)
}

async fn tell<S>(mut socket: WebSocket, messages: S, closing: CancellationToken)
where
    S: Stream<Item = Result<SubscribeToEventsResponse, ApiError>> + Send,
{
    let mut messages = pin!(messages);
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            received = socket.recv() => match received {
                // No messages are expected: ignored, but the player is still there.
                Some(Ok(Message::Text(_) | Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                None | Some(Ok(Message::Close(_)) | Err(_)) => return,
            },
        };
        let problem = match message.map(|message| message.and_then(|message| document(&message))) {
            Some(Ok(document)) => {
                let text = String::from_utf8_lossy(&document).into_owned();
                if send(&mut socket, Message::Text(text.into())).await {
                    continue;
                }
                return;
            }
            Some(Err(error)) => error.message(),
            None => String::new(),
        };
        let code = if closing.is_cancelled() { close_code::AWAY } else { close_code::AGAIN };
        let reason = problem[..problem.floor_char_boundary(MAX_REASON_BYTES)].into();
        send(&mut socket, Message::Close(Some(CloseFrame { code, reason }))).await;
        return;
    }
}

/// Sends the message; false if the player is gone.
async fn send(socket: &mut WebSocket, message: Message) -> bool {
    matches!(timeout(SEND_DEADLINE, socket.send(message)).await, Ok(Ok(())))
}
