//! An open websocket, until it or the tunnel ends.
//!
//! Reading and writing are concurrent: a dispatcher that does not read for a moment, because one of our devices is
//! slow, must not keep us from reading it.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use sortie_dispatch::frame::Frame;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use crate::connect::Websocket;
use crate::datagrams::Datagrams;
use crate::options::Limits;
use crate::outbound::{Outbound, QUEUE_MESSAGES};
use crate::streams::Streams;

/// Messages sent between two flushes of the connection.
const BATCH_MESSAGES: usize = 32;

/// The protocol of a websocket.
pub(crate) enum Traffic<'a> {
    Tcp(Streams),
    Udp(&'a mut Datagrams),
}

impl Traffic<'_> {
    async fn take_in(&mut self, message: &[u8]) -> Result<(), String> {
        let frame = Frame::decode(message).map_err(|error| format!("it sent an invalid frame: {error}"))?;
        let ip = frame.ip().ok_or("a frame's address is not an IP address")?;
        let Frame { kind, id, payload, .. } = frame;
        match self {
            Self::Tcp(streams) => streams.take_in(kind, ip, id, payload).await,
            Self::Udp(datagrams) => datagrams.take_in(kind, ip, id, payload).await,
        }
    }

    /// Accepts nothing more, and waits until everything accepted has been forwarded.
    async fn finish(self) {
        match self {
            Self::Tcp(streams) => streams.finish().await,
            Self::Udp(datagrams) => datagrams.use_outbound(None),
        }
    }
}

/// Serves a websocket for `traffic`. Returns why it ended; `None` if because of `closing`.
pub(crate) async fn run<'a>(
    websocket: Websocket,
    limits: &Limits,
    closing: &CancellationToken,
    traffic: impl FnOnce(Outbound) -> Traffic<'a>,
) -> Option<String> {
    let (mut sink, mut stream) = websocket.split();
    let (outbound, mut queue) = mpsc::channel(QUEUE_MESSAGES);
    let mut traffic = traffic(outbound);
    let end = {
        let writing = write(&mut sink, &mut queue, limits.ping_period);
        tokio::pin!(writing);
        let end = tokio::select! {
            end = read(&mut stream, &mut traffic, limits.silence) => Some(end),
            end = &mut writing => Some(lost(end.err())),
            () = closing.cancelled() => None,
        };
        match end {
            None => {
                // Sends the last bytes of local servers and everything in the queue.
                let finished = async { tokio::join!(traffic.finish(), writing) };
                let _in_time = timeout(limits.close_time, finished).await;
            }
            Some(_) => drop(traffic),
        }
        end
    };
    let _in_time = timeout(limits.close_time, farewell(&mut sink, &mut stream)).await;
    end
}

/// Forwards what arrives. Returns why nothing more arrives.
async fn read(stream: &mut SplitStream<Websocket>, traffic: &mut Traffic<'_>, silence: Duration) -> String {
    loop {
        match timeout(silence, stream.next()).await {
            Err(_) => return format!("nothing was heard of it for {} s", silence.as_secs()),
            Ok(Some(Ok(Message::Binary(message)))) => {
                if let Err(problem) = traffic.take_in(&message).await {
                    return problem;
                }
            }
            Ok(Some(Ok(Message::Close(Some(frame))))) => {
                return format!("it closed with code {}: {}", u16::from(frame.code), frame.reason);
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) => return lost(Some(error)),
            Ok(None) => return lost(None),
        }
    }
}

fn lost(error: Option<Error>) -> String {
    error.map_or_else(
        || "the connection was lost".to_owned(),
        |error| format!("the connection was lost: {error}"),
    )
}

/// Sends what is put in the queue, and pings, until all senders are gone.
async fn write(
    sink: &mut SplitSink<Websocket, Message>,
    queue: &mut mpsc::Receiver<Bytes>,
    ping_period: Duration,
) -> Result<(), Error> {
    let mut batch = Vec::with_capacity(BATCH_MESSAGES);
    let mut pings = interval(ping_period);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            count = queue.recv_many(&mut batch, BATCH_MESSAGES) => {
                if count == 0 {
                    return Ok(());
                }
                for message in batch.drain(..) {
                    sink.feed(Message::Binary(message)).await?;
                }
                sink.flush().await?;
            }
            _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await?,
        }
    }
}

/// Closes, and waits for the other side to close, so that nothing is lost in a reset.
async fn farewell(sink: &mut SplitSink<Websocket, Message>, stream: &mut SplitStream<Websocket>) {
    let frame = CloseFrame { code: CloseCode::Away, reason: "the tunnel is closing".into() };
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        while stream.next().await.is_some_and(|message| message.is_ok()) {}
    }
}
