//! The measured relays, each in a process of its own.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{SinkExt as _, StreamExt as _};
use sortie_dispatch::frame::{Frame, Kind};
use sortie_dispatch::{Dispatch, DispatchOptions, Limits as DispatchLimits};
use sortie_serving::{Limits, Visitors, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_util::sync::CancellationToken;

use super::{BenchError, BenchOptions, raise_file_limit};

/// Size of a read of the simple relays, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// Clock ticks per second in `/proc`: fixed by Linux in its interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A relay.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Relay {
    /// (a): bytes back and forth, no frames.
    Plain,
    /// (b): tokio and tungstenite: read, frame, write.
    Minimal,
    Sortie,
}

impl Relay {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Minimal, Self::Sortie];

    const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Minimal => "minimal",
            Self::Sortie => "sortie",
        }
    }
}

/// A running relay; killed when dropped.
pub(crate) struct Running {
    child: Child,
    /// Where drivers connect; unused for a plain relay.
    pub(crate) port: u16,
}

impl Running {
    /// For a plain relay: the protocol, and the two ports.
    pub(crate) fn start(
        options: &BenchOptions,
        relay: Relay,
        plain: Option<(&str, u16, u16)>,
    ) -> Result<Self, BenchError> {
        let mut command = Command::new(&options.program);
        command.args(&options.arguments).arg(relay.name());
        if let Some((protocol, from, to)) = plain {
            command.args([protocol, &from.to_string(), &to.to_string()]);
        }
        // It ends when its input ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = command.spawn().map_err(BenchError::io("starting a relay"))?;
        let mut running = Self { child, port: 0 };
        let mut line = String::new();
        if let Some(output) = running.child.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(BenchError::io("starting a relay"))?;
        }
        running.port = line.trim().parse().map_err(|_| BenchError::Answer(line))?;
        Ok(running)
    }

    fn read(&self, file: &str) -> Result<String, BenchError> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(path).map_err(BenchError::io("looking at a relay"))
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu(&self) -> Result<f64, BenchError> {
        let stat = self.read("stat")?;
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        // utime and stime: proc_pid_stat(5).
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> Result<usize, BenchError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        let kib = line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok());
        kib.map(|kib| kib * 1024).ok_or(BenchError::Answer(status))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs as a relay, until the process that started it ends. Prints its port first.
///
/// # Errors
/// [`BenchError`].
pub fn relay(arguments: &[String]) -> Result<(), BenchError> {
    raise_file_limit();
    let runtime = tokio::runtime::Runtime::new().map_err(BenchError::io("starting a runtime"))?;
    let (end, ended) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = io::stdin().read(&mut [0]);
        let _ = end.send(());
    });
    let ended = async {
        let _ = ended.await;
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words.as_slice() {
        ["sortie"] => runtime.block_on(until(ended, sortie())),
        ["minimal"] => runtime.block_on(until(ended, minimal())),
        ["plain", protocol @ ("tcp" | "udp"), from, to] => {
            let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
                return Err(BenchError::Arguments(arguments.to_vec()));
            };
            if protocol == "tcp" {
                runtime.block_on(until(ended, plain_tcp(from, to)))
            } else {
                runtime.block_on(until(ended, plain_udp(from, to)))
            }
        }
        _ => Err(BenchError::Arguments(arguments.to_vec())),
    }
}

async fn until(
    ended: impl Future<Output = ()>,
    work: impl Future<Output = Result<(), BenchError>>,
) -> Result<(), BenchError> {
    tokio::select! {
        done = work => done,
        () = ended => Ok(()),
    }
}

/// A listener; port 0 picks a free one.
async fn listen(port: u16) -> Result<TcpListener, BenchError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    listener.map_err(BenchError::io("listening"))
}

async fn sortie() -> Result<(), BenchError> {
    let limits = DispatchLimits { udp_peers_per_port: 1024, ..DispatchLimits::default() };
    let hosts = vec![Ipv4Addr::LOCALHOST.into()];
    let dispatch = Dispatch::new(DispatchOptions { hosts, limits, ..DispatchOptions::default() })?;
    let listener = listen(0).await?;
    println!("{}", listener.local_addr().map_err(BenchError::io("listening"))?.port());
    let visitors = Visitors::without_credentials();
    serve(listener, dispatch.router(), visitors, None, &Limits::default(), CancellationToken::new()).await;
    Ok(())
}

async fn plain_tcp(from: u16, to: u16) -> Result<(), BenchError> {
    let listener = listen(from).await?;
    println!("0");
    loop {
        let (mut device, _) = listener.accept().await.map_err(BenchError::io("accepting"))?;
        tokio::spawn(async move {
            let mut driver = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
            device.set_nodelay(true)?;
            driver.set_nodelay(true)?;
            tokio::io::copy_bidirectional_with_sizes(&mut device, &mut driver, BUFFER_BYTES, BUFFER_BYTES)
                .await
        });
    }
}

async fn plain_udp(from: u16, to: u16) -> Result<(), BenchError> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, from)).await.map_err(BenchError::io("listening"))?;
    let driver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(BenchError::io("listening"))?;
    driver.connect((Ipv4Addr::LOCALHOST, to)).await.map_err(BenchError::io("connecting"))?;
    println!("0");
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let received = socket.recv_from(&mut buffer).await;
        let (bytes, _) = received.map_err(BenchError::io("receiving"))?;
        let _ = driver.send(buffer.get(..bytes).unwrap_or_default()).await;
    }
}

type Sink = futures::stream::SplitSink<tokio_tungstenite::WebSocketStream<TcpStream>, Message>;
type SharedSink = Arc<tokio::sync::Mutex<Sink>>;
type Devices = Arc<Mutex<HashMap<u64, Arc<tokio::sync::Mutex<tokio::net::tcp::OwnedWriteHalf>>>>>;

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn minimal() -> Result<(), BenchError> {
    let listener = listen(0).await?;
    println!("{}", listener.local_addr().map_err(BenchError::io("listening"))?.port());
    loop {
        let (stream, _) = listener.accept().await.map_err(BenchError::io("accepting"))?;
        stream.set_nodelay(true).map_err(BenchError::io("accepting"))?;
        tokio::spawn(minimal_driver(stream));
    }
}

#[allow(clippy::result_large_err, reason = "the callback's type is the library's")]
async fn minimal_driver(stream: TcpStream) -> Result<(), BenchError> {
    let mut uri = String::new();
    let note = |request: &Request, response: Response| {
        uri = request.uri().to_string();
        Ok(response)
    };
    let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return Ok(()) };
    let port = uri.split(['?', '&']).find_map(|part| part.strip_prefix("port=")?.parse().ok());
    let port = port.ok_or_else(|| BenchError::Answer(uri.clone()))?;
    let (sink, mut messages) = socket.split();
    let sink = Arc::new(tokio::sync::Mutex::new(sink));
    let devices = Devices::default();
    let accepts = if uri.contains("udp_dispatch") {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await;
        tokio::spawn(minimal_udp(socket.map_err(BenchError::io("listening"))?, sink))
    } else {
        tokio::spawn(minimal_tcp(listen(port).await?, sink, Arc::clone(&devices)))
    };
    while let Some(Ok(Message::Binary(message))) = messages.next().await {
        let Ok(frame) = Frame::decode(&message) else { break };
        let device = lock(&devices).get(&frame.id).cloned();
        if let Some(device) = device {
            let _ = device.lock().await.write_all(frame.payload).await;
        }
    }
    accepts.abort();
    Ok(())
}

async fn minimal_tcp(listener: TcpListener, sink: SharedSink, devices: Devices) {
    let mut id = 0;
    let mut readers = tokio::task::JoinSet::new();
    while let Ok((stream, peer)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (mut reading, writing) = stream.into_split();
        id += 1;
        lock(&devices).insert(id, Arc::new(tokio::sync::Mutex::new(writing)));
        let (sink, devices) = (Arc::clone(&sink), Arc::clone(&devices));
        readers.spawn(async move {
            minimal_send(&sink, Kind::Opened, peer.ip(), id, &[]).await;
            let mut buffer = Vec::with_capacity(BUFFER_BYTES);
            while let Ok(1..) = reading.read_buf(&mut buffer).await {
                minimal_send(&sink, Kind::Received, peer.ip(), id, &buffer).await;
                buffer.clear();
            }
            minimal_send(&sink, Kind::Closed, peer.ip(), id, &[]).await;
            lock(&devices).remove(&id);
        });
    }
}

async fn minimal_udp(socket: UdpSocket, sink: SharedSink) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok((bytes, peer)) = socket.recv_from(&mut buffer).await {
        let payload = buffer.get(..bytes).unwrap_or_default();
        minimal_send(&sink, Kind::Received, peer.ip(), peer.port().into(), payload).await;
    }
}

async fn minimal_send(sink: &tokio::sync::Mutex<Sink>, kind: Kind, ip: IpAddr, id: u64, payload: &[u8]) {
    let address = ip.to_string();
    let mut message = Vec::with_capacity(payload.len() + 64);
    Frame { kind, address: &address, id, payload }.encode(&mut message);
    let _ = sink.lock().await.send(Message::binary(message)).await;
}
