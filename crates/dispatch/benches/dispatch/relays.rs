//! What is measured, each in a process of its own.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use futures::{SinkExt as _, StreamExt as _};
use sortie_dispatch::frame::{Frame, Kind};
use sortie_dispatch::{Dispatch, DispatchOptions, Limits as DispatchLimits};
use sortie_serving::{Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_util::sync::CancellationToken;

/// A relay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relay {
    /// (a): bytes to and fro, no frames.
    Plain,
    /// (b): tokio and tungstenite: read, frame, write.
    Naive,
    Sortie,
}

impl Relay {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Naive, Self::Sortie];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Naive => "naive",
            Self::Sortie => "sortie",
        }
    }
}

/// A relay that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// Where drivers come in; for a plain relay none do.
    pub(crate) port: u16,
}

impl Running {
    /// For a plain relay: which port it relays to which.
    pub(crate) fn start(relay: Relay, plain: Option<(&str, u16, u16)>) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["relay", relay.name()]);
        if let Some((protocol, from, to)) = plain {
            command.args([protocol, &from.to_string(), &to.to_string()]);
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::main]
pub(crate) async fn run(arguments: &[String]) {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sortie"] => sortie().await,
        ["naive"] => naive().await,
        ["plain", "tcp", from, to] => plain_tcp(from.parse().unwrap(), to.parse().unwrap()).await,
        ["plain", "udp", from, to] => plain_udp(from.parse().unwrap(), to.parse().unwrap()).await,
        _ => panic!("{arguments:?}"),
    }
}

async fn sortie() {
    let limits = DispatchLimits { udp_peers_per_port: 1024, ..DispatchLimits::default() };
    let hosts = vec![Ipv4Addr::LOCALHOST.into()];
    let dispatch = Dispatch::new(DispatchOptions { hosts, limits, ..DispatchOptions::default() }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    serve(listener, dispatch.router(), None, &Limits::default(), CancellationToken::new()).await;
}

async fn plain_tcp(from: u16, to: u16) {
    let listener = TcpListener::bind(("127.0.0.1", from)).await.unwrap();
    println!("0");
    loop {
        let (mut device, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut driver = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            device.set_nodelay(true).unwrap();
            driver.set_nodelay(true).unwrap();
            let _ =
                tokio::io::copy_bidirectional_with_sizes(&mut device, &mut driver, 64 << 10, 64 << 10).await;
        });
    }
}

async fn plain_udp(from: u16, to: u16) {
    let socket = UdpSocket::bind(("127.0.0.1", from)).await.unwrap();
    let driver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    driver.connect(("127.0.0.1", to)).await.unwrap();
    println!("0");
    let mut buffer = vec![0; 65_536];
    loop {
        let (bytes, _) = socket.recv_from(&mut buffer).await.unwrap();
        let _ = driver.send(&buffer[..bytes]).await;
    }
}

type Sink = futures::stream::SplitSink<tokio_tungstenite::WebSocketStream<TcpStream>, Message>;
type Devices = Arc<Mutex<HashMap<u64, Arc<tokio::sync::Mutex<tokio::net::tcp::OwnedWriteHalf>>>>>;

async fn naive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(naive_driver(stream));
    }
}

#[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
async fn naive_driver(stream: TcpStream) {
    let mut uri = String::new();
    let note = |request: &Request, response: Response| {
        uri = request.uri().to_string();
        Ok(response)
    };
    let socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
    let port: u16 = uri.split("port=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
    let (sink, mut messages) = socket.split();
    let sink = Arc::new(tokio::sync::Mutex::new(sink));
    let devices = Devices::default();
    let accepts = if uri.contains("udp_dispatch") {
        tokio::spawn(naive_udp(UdpSocket::bind(("127.0.0.1", port)).await.unwrap(), sink))
    } else {
        tokio::spawn(naive_tcp(
            TcpListener::bind(("127.0.0.1", port)).await.unwrap(),
            sink,
            Arc::clone(&devices),
        ))
    };
    while let Some(Ok(message)) = messages.next().await {
        let Message::Binary(message) = message else { break };
        let frame = Frame::decode(&message).unwrap();
        let device = devices.lock().unwrap().get(&frame.id).cloned();
        if let Some(device) = device {
            let _ = device.lock().await.write_all(frame.payload).await;
        }
    }
    accepts.abort();
}

async fn naive_tcp(listener: TcpListener, sink: Arc<tokio::sync::Mutex<Sink>>, devices: Devices) {
    let mut next = 1;
    let mut readers = tokio::task::JoinSet::new();
    loop {
        let (stream, peer) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut reading, writing) = stream.into_split();
        let id = next;
        next += 1;
        devices.lock().unwrap().insert(id, Arc::new(tokio::sync::Mutex::new(writing)));
        let (sink, devices) = (Arc::clone(&sink), Arc::clone(&devices));
        readers.spawn(async move {
            naive_send(&sink, Kind::Opened, peer.ip(), id, &[]).await;
            let mut buffer = Vec::with_capacity(64 << 10);
            while let Ok(1..) = reading.read_buf(&mut buffer).await {
                naive_send(&sink, Kind::Received, peer.ip(), id, &buffer).await;
                buffer.clear();
            }
            naive_send(&sink, Kind::Closed, peer.ip(), id, &[]).await;
            devices.lock().unwrap().remove(&id);
        });
    }
}

async fn naive_udp(socket: UdpSocket, sink: Arc<tokio::sync::Mutex<Sink>>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let (bytes, peer) = socket.recv_from(&mut buffer).await.unwrap();
        naive_send(&sink, Kind::Received, peer.ip(), peer.port().into(), &buffer[..bytes]).await;
    }
}

async fn naive_send(sink: &tokio::sync::Mutex<Sink>, kind: Kind, ip: IpAddr, id: u64, payload: &[u8]) {
    let address = ip.to_string();
    let mut message = Vec::with_capacity(payload.len() + 64);
    Frame { kind, address: &address, id, payload }.encode(&mut message);
    let _ = sink.lock().await.send(Message::binary(message)).await;
}
