//! A dispatcher on a free port, drivers and devices.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use sortie_dispatch::frame::{Frame, Kind};
use sortie_dispatch::{Dispatch, DispatchOptions, Secret};
use sortie_serving::{Limits, ListenAddr, Visitors, serve};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "a shared secret";
/// Maximum wait in any test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits something that the test needs to go on.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happened")
}

pub(crate) fn options() -> DispatchOptions {
    DispatchOptions { secret: Some(Secret::new(SECRET.to_owned()).unwrap()), ..DispatchOptions::default() }
}

/// A dispatcher under test; it ends with the test.
pub(crate) struct World {
    pub(crate) dispatch: Dispatch,
    pub(crate) port: u16,
    closing: CancellationToken,
    served: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.closing.cancel();
        self.served.abort();
    }
}

impl World {
    pub(crate) async fn start(options: DispatchOptions) -> Self {
        let dispatch = Dispatch::new(options).unwrap();
        let listener = "127.0.0.1:0".parse::<ListenAddr>().unwrap().bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closing = CancellationToken::new();
        let (router, until) = (dispatch.router(), closing.clone());
        let served = tokio::spawn(async move {
            serve(listener, router, Visitors::with_credentials(), None, &Limits::default(), until).await;
        });
        Self { dispatch, port, closing, served }
    }

    pub(crate) fn url(&self, path_and_query: &str) -> String {
        format!("http://127.0.0.1:{}{path_and_query}", self.port)
    }

    /// Status and body of the answer to a GET.
    pub(crate) async fn get(&self, path_and_query: &str) -> (u16, serde_json::Value) {
        let url = self.url(path_and_query);
        let answer = soon(sortie_tls::http_client(&url, None).unwrap().build().unwrap().get(&url).send())
            .await
            .unwrap();
        (answer.status().as_u16(), soon(answer.json()).await.unwrap())
    }

    /// A websocket, or the status and text of the refusal.
    pub(crate) async fn open(&self, path_and_query: &str) -> Result<Driver, (u16, String)> {
        let url = format!("ws://127.0.0.1:{}{path_and_query}", self.port);
        match soon(connect_async(url)).await {
            Ok((socket, _)) => Ok(Driver { socket }),
            Err(Error::Http(answer)) => {
                let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
                Err((answer.status().as_u16(), text))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn tcp(&self, port: u16, accept: &str) -> Driver {
        let query =
            format!("/api/dispatch/v1/tcp_dispatch?bearer_token={}&port={port}&accept={accept}", secret());
        self.open(&query).await.unwrap()
    }

    pub(crate) async fn udp(&self, port: u16, accept: &str) -> Driver {
        let query =
            format!("/api/dispatch/v1/udp_dispatch?bearer_token={}&port={port}&accept={accept}", secret());
        self.open(&query).await.unwrap()
    }

    /// Waits until the statistics match.
    pub(crate) async fn until(&self, mut wanted: impl FnMut(&sortie_dispatch::DispatchStats) -> bool) {
        soon(async {
            while !wanted(&self.dispatch.stats().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// The secret as a query parameter.
pub(crate) fn secret() -> String {
    SECRET.replace(' ', "+")
}

/// An owned frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Said {
    pub(crate) kind: Kind,
    pub(crate) address: String,
    pub(crate) id: u64,
    pub(crate) payload: Bytes,
}

/// A driver's end of a websocket.
pub(crate) struct Driver {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Driver {
    /// The next message; `Err` is the close frame's code and reason, 1006 without one.
    pub(crate) async fn hear(&mut self) -> Result<Said, (u16, String)> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(message))) => {
                    let frame = Frame::decode(&message).expect("a frame");
                    return Ok(Said {
                        kind: frame.kind,
                        address: frame.address.to_owned(),
                        id: frame.id,
                        payload: message.slice(message.len() - frame.payload.len()..),
                    });
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("{other:?}"),
                Some(Err(_)) | None => return Err((1006, String::new())),
            }
        }
    }

    /// The next message, which must be of that kind.
    pub(crate) async fn expect(&mut self, kind: Kind) -> Said {
        let said = self.hear().await.unwrap();
        assert_eq!(said.kind, kind, "{said:?}");
        said
    }

    /// The close frame, skipping everything before it.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            if let Err(end) = self.hear().await {
                return end;
            }
        }
    }

    /// The next `bytes` bytes of one device.
    pub(crate) async fn receive(&mut self, id: u64, bytes: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < bytes {
            let said = self.expect(Kind::Received).await;
            assert_eq!(said.id, id);
            all.extend_from_slice(&said.payload);
        }
        all
    }

    pub(crate) async fn say(&mut self, kind: Kind, address: &str, id: u64, payload: &[u8]) {
        let mut message = Vec::new();
        Frame { kind, address, id, payload }.encode(&mut message);
        self.send(message).await;
    }

    pub(crate) async fn send(&mut self, message: Vec<u8>) {
        soon(self.socket.send(Message::Binary(message.into()))).await.unwrap();
    }

    pub(crate) async fn write(&mut self, id: u64, payload: &[u8]) {
        self.say(Kind::Write, "127.0.0.1", id, payload).await;
    }

    pub(crate) async fn close_device(&mut self, id: u64) {
        self.say(Kind::Close, "127.0.0.1", id, b"").await;
    }
}

/// A port that is free for both protocols, and unique to the caller: below the ephemeral range, which tests with many
/// devices use heavily.
pub(crate) fn free_port() -> u16 {
    const PORTS: RangeInclusive<u16> = 10_000..=32_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(std::process::id() as u16));
    loop {
        let port = PORTS.start() + next.fetch_add(1, Ordering::Relaxed) % PORTS.len() as u16;
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok()
            && std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok()
        {
            return port;
        }
    }
}

/// A device that connects from `127.0.0.<last>`.
pub(crate) async fn device_from(last: u8, port: u16) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(Ipv4Addr::new(127, 0, 0, last).into(), 0)).unwrap();
    soon(socket.connect((IpAddr::from(Ipv4Addr::LOCALHOST), port).into())).await.unwrap()
}

pub(crate) async fn device(port: u16) -> TcpStream {
    device_from(1, port).await
}

/// Bytes until the other side ends; a reset counts as an end that lost something.
pub(crate) async fn rest(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.map(|_| all)
}

/// The next `bytes` bytes.
pub(crate) async fn exactly(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut all = vec![0; bytes];
    soon(stream.read_exact(&mut all)).await.unwrap();
    all
}

/// Bytes that encode their device and position.
pub(crate) fn pattern(device: u64, from: usize, bytes: usize) -> Vec<u8> {
    (from..from + bytes)
        .map(|place| (place.wrapping_mul(31) as u64 ^ device.wrapping_mul(97)) as u8)
        .collect()
}
