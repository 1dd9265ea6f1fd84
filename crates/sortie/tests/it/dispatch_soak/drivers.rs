//! Drivers that echo, are slow, are killed, or send what is no frame.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use sortie_dispatch::frame::{Frame, Kind};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

use super::Tally;
use crate::dispatcher::{SECRET, pattern, rest};
use crate::site::soon;

/// A slow driver's pause after each message.
const PAUSE: Duration = Duration::from_millis(2);
/// Devices of a driver that is killed.
const WITNESSES: usize = 4;

/// How fast a driver takes what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Quick,
    Slow,
}

/// A websocket for a port, for everybody of this machine.
pub(super) struct Driver {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Driver {
    pub(super) async fn open(address: &str, protocol: &str, port: u16) -> Self {
        let url =
            format!("ws://{address}/api/dispatch/v1/{protocol}_dispatch?port={port}&accept=127.0.0.0/8");
        let request = ClientRequestBuilder::new(url.parse().unwrap());
        let request = request.with_header("Authorization", format!("Bearer {SECRET}"));
        let (socket, _) = soon("a websocket", connect_async(request)).await.unwrap();
        Self { socket }
    }

    /// The next frame's message.
    async fn hear(&mut self) -> Bytes {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(message))) => return message,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("the dispatcher ended the websocket: {other:?}"),
            }
        }
    }

    async fn say(&mut self, frame: &Frame<'_>) {
        let mut message = Vec::new();
        frame.encode(&mut message);
        self.socket.send(Message::Binary(message.into())).await.unwrap();
    }

    /// The close frame's code, whatever comes before it.
    async fn close_code(&mut self) -> u16 {
        loop {
            match soon("a close frame", self.socket.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no close frame, but {other:?}"),
            }
        }
    }
}

/// Sends back what devices send, and disconnects them once they send nothing more; then checks that everything was
/// heard in order.
pub(super) async fn echo(mut driver: Driver, pace: Pace, leave: CancellationToken) {
    let mut devices = HashSet::new();
    loop {
        let message = tokio::select! {
            message = driver.hear() => message,
            () = leave.cancelled() => break,
        };
        let frame = Frame::decode(&message).expect("a frame");
        match frame.kind {
            Kind::Opened => assert!(devices.insert(frame.id), "device {} opened twice", frame.id),
            Kind::Closed => {
                assert!(devices.remove(&frame.id), "device {} closed unopened", frame.id);
                driver.say(&Frame { kind: Kind::Close, ..frame }).await;
            }
            // Of a device that is open, or a datagram.
            Kind::Received => driver.say(&Frame { kind: Kind::Write, ..frame }).await,
            Kind::Write | Kind::Close => panic!("{:?} came from the dispatcher", frame.kind),
        }
        if pace == Pace::Slow {
            sleep(PAUSE).await;
        }
    }
    soon("the end of a websocket", driver.socket.close(None)).await.unwrap();
}

/// One driver after the other whose connection breaks while its devices send.
pub(super) async fn killed(address: String, port: u16, stop: CancellationToken, tally: Arc<Tally>) {
    while !stop.is_cancelled() {
        let mut driver = Driver::open(&address, "tcp", port).await;
        let mut devices = Vec::new();
        for whose in 0..WITNESSES {
            let connecting = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            let mut device = soon("a connection", connecting).await.unwrap();
            soon("a device that sends", device.write_all(&pattern(whose, 20_000))).await.unwrap();
            devices.push(device);
        }
        for _ in 0..WITNESSES {
            soon("something of the devices", driver.hear()).await;
        }
        if let MaybeTlsStream::Plain(stream) = driver.socket.get_ref() {
            stream.set_zero_linger().unwrap();
        }
        drop(driver);
        for mut device in devices {
            assert_eq!(rest(&mut device).await, b"", "nobody wrote to it");
        }
        Tally::count(&tally.kills, 1);
    }
}

/// One driver after the other that sends what is no frame, and is told so.
pub(super) async fn malformed(
    address: String,
    port: u16,
    mut random: fastrand::Rng,
    stop: CancellationToken,
    tally: Arc<Tally>,
) {
    while !stop.is_cancelled() {
        for protocol in ["tcp", "udp"] {
            let mut driver = Driver::open(&address, protocol, port).await;
            let (message, allowed) = nonsense(&mut random);
            soon("a message", driver.socket.send(message)).await.unwrap();
            let code = driver.close_code().await;
            assert!(allowed.contains(&code), "close code {code}");
            Tally::count(&tally.refusals, 1);
        }
    }
}

/// What is no frame of a driver, and the close codes that may answer it.
fn nonsense(random: &mut fastrand::Rng) -> (Message, &'static [u16]) {
    if random.u8(..8) == 0 {
        return (Message::text("frames are no text"), &[1003]);
    }
    loop {
        let kind = random.u8(..6);
        let bytes: Vec<u8> = (0..random.usize(..100)).map(|_| random.u8(..)).collect();
        let message = [&[kind], &bytes[..]].concat();
        if Frame::decode(&message).is_err() {
            return (Message::Binary(message.into()), &[1007, 1008]);
        }
    }
}
