//! Dispatchers that refuse, go away, come back, or are fake.

use std::net::{Ipv4Addr, SocketAddr};

use futures::{SinkExt as _, StreamExt as _};
use sortie_tunnel::{ConnectError, Endpoint, Protocol, Token, TokenSource};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::harness::{
    Dispatcher, Tunnel, certificates, device, echo, exchange, listener, options, pattern, rest, soon,
};

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

#[tokio::test]
async fn a_permanent_refusal_ends_the_tunnel_at_once() {
    let dispatcher = Dispatcher::start().await;
    let refused = async |change: &dyn Fn(&mut sortie_tunnel::TunnelOptions)| {
        let mut options = options(dispatcher.address, Protocol::Udp, NOWHERE);
        change(&mut options);
        Tunnel::begin(options).failed().await
    };
    let wrong = Token::new("wrong".to_owned()).unwrap();
    let error = refused(&|options| options.token = TokenSource::Fixed(wrong.clone())).await;
    assert!(matches!(error, ConnectError::Refused { status: 401, .. }), "{error}");
    let error = refused(&|options| options.accept = "nobody".to_owned()).await;
    assert!(matches!(error, ConnectError::Refused { status: 400, .. }), "{error}");
    assert!(error.to_string().contains("accept: \"nobody\""), "{error}");
    let error = refused(&|options| options.token = TokenSource::File("/no/such/file".into())).await;
    assert!(matches!(error, ConnectError::Token(_)), "{error}");
    let error = refused(&|options| {
        options.dispatcher = Endpoint::parse(&format!("ws://{}/elsewhere", dispatcher.address)).unwrap();
    })
    .await;
    assert!(matches!(error, ConnectError::Refused { status: 404, .. }), "{error}");
}

#[tokio::test]
async fn a_port_in_use_and_a_dispatcher_that_is_away_are_waited_for() {
    let dispatcher = Dispatcher::start().await;
    let mut options = options(dispatcher.address, Protocol::Tcp, NOWHERE);
    let taken = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    options.port = taken.local_addr().unwrap().port();
    let address = dispatcher.stop().await;
    let mut tunnel = Tunnel::begin(options);
    let _dispatcher = Dispatcher::at(address, None).await;
    drop(taken);
    tunnel.ready().await;
    tunnel.stop().await;
}

#[tokio::test]
async fn a_dispatcher_that_was_restarted_is_used_again() {
    let dispatcher = Dispatcher::start().await;
    let (listener, local) = listener().await;
    tokio::spawn(echo(listener));
    let options = options(dispatcher.address, Protocol::Tcp, local);
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let mut before = device(port).await;
    assert_eq!(exchange(&mut before, b"before").await, b"before");
    let address = dispatcher.stop().await;
    assert_eq!(rest(&mut before).await.unwrap(), b"");
    let dispatcher = Dispatcher::at(address, None).await;
    dispatcher.until(|stats| stats.drivers == 1).await;
    assert_eq!(exchange(&mut device(port).await, b"after").await, b"after");
    tunnel.stop().await;
}

#[tokio::test]
async fn tls_is_spoken_with_whom_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, tls) = certificates(folder.path());
    let dispatcher = Dispatcher::at("127.0.0.1:0".parse().unwrap(), Some(tls)).await;
    let (listener, local) = listener().await;
    tokio::spawn(echo(listener));
    let mut options = options(dispatcher.address, Protocol::Tcp, local);
    let at = |host: &str| Endpoint::parse(&format!("wss://{host}:{}", dispatcher.address.port())).unwrap();
    options.ca = Some(ca);
    // The certificate is for another name; retried again and again.
    options.dispatcher = at("127.0.0.1");
    let mut stranger = Tunnel::begin(options.clone());
    options.dispatcher = at("localhost");
    let port = options.port;
    let tunnel = Tunnel::start(options).await;
    let bytes = pattern(6, 200_000);
    let mut device = device(port).await;
    let (mut reading, mut writing) = device.split();
    let mut heard = vec![0; bytes.len()];
    let (written, read) = tokio::join!(writing.write_all(&bytes), soon(reading.read_exact(&mut heard)));
    written.unwrap();
    read.unwrap();
    assert!(heard == bytes);
    assert_eq!(dispatcher.dispatch.stats().await.drivers, 1);
    tunnel.stop().await;
    let never = tokio::time::timeout(std::time::Duration::from_millis(1), stranger.ready());
    assert!(never.await.is_err());
}

/// The next websocket at a fake dispatcher; checks the request.
async fn asked(listener: &TcpListener, port: u16) -> WebSocketStream<TcpStream> {
    let (stream, _) = soon(listener.accept()).await.unwrap();
    #[expect(clippy::result_large_err, reason = "the library's")]
    let look = |request: &Request, response: Response| {
        assert_eq!(request.uri().path(), "/api/dispatch/v1/tcp_dispatch");
        let query = request.uri().query().unwrap();
        assert_eq!(query, format!("port={port}&accept=0.0.0.0%2F0%2C%3A%3A%2F0"));
        assert_eq!(request.headers()["authorization"], "Bearer a shared secret");
        Ok(response)
    };
    soon(tokio_tungstenite::accept_hdr_async(stream, look)).await.unwrap()
}

#[tokio::test]
async fn an_invalid_message_ends_the_websocket_and_not_the_tunnel() {
    let (listener, address) = listener().await;
    let (local_listener, local) = crate::harness::listener().await;
    tokio::spawn(echo(local_listener));
    let options = options(address, Protocol::Tcp, local);
    let port = options.port;
    let head = |kind: u8, ip: &[u8]| [&[kind], ip, &[0], &[0; 7], &[5], &[0; 3]].concat();
    let device =
        |kind: u8, bytes: &[u8]| [&head(kind, b"192.0.2.7"), &[bytes.len() as u8][..], bytes].concat();
    for wrong in [
        vec![],
        vec![9; 40],
        device(3, b"a WRITE is for dispatchers"),
        device(4, b""),
        [device(2, b"bytes"), vec![0]].concat(),
        [head(0, b"example.org"), vec![0]].concat(),
    ] {
        let tunnel = Tunnel::begin(options.clone());
        let mut socket = asked(&listener, port).await;
        socket.send(Message::Binary(device(0, b"").into())).await.unwrap();
        socket.send(Message::Binary(wrong.into())).await.unwrap();
        let end = async {
            while let Some(Ok(message)) = socket.next().await {
                if matches!(message, Message::Close(_)) {
                    return;
                }
            }
        };
        soon(end).await;
        drop(asked(&listener, port).await);
        tunnel.stop().await;
    }
    // Text, an unknown device, a device that opens twice, and a lost connection do no harm.
    let tunnel = Tunnel::begin(options);
    let mut socket = asked(&listener, port).await;
    for message in [device(2, b"lost"), device(1, b""), device(0, b""), device(0, b""), device(2, b"hello")] {
        socket.send(Message::text("what?")).await.unwrap();
        socket.send(Message::Binary(message.into())).await.unwrap();
    }
    let echoed = async {
        loop {
            if let Message::Binary(message) = socket.next().await.unwrap().unwrap() {
                break message;
            }
        }
    };
    assert_eq!(soon(echoed).await, device(3, b"hello"));
    drop(socket);
    drop(asked(&listener, port).await);
    tunnel.stop().await;
}

#[tokio::test]
async fn a_silent_dispatcher_is_given_up() {
    let (listener, address) = listener().await;
    let mut options = options(address, Protocol::Tcp, NOWHERE);
    options.limits.silence = std::time::Duration::from_millis(100);
    options.limits.close_time = std::time::Duration::from_millis(100);
    let port = options.port;
    let tunnel = Tunnel::begin(options);
    // Kept open, and never read.
    let _first = asked(&listener, port).await;
    let _second = asked(&listener, port).await;
    tunnel.stop().await;
}
