//! A dispatcher, a tunnel to a local server, and devices.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sortie_dispatch::{Dispatch, DispatchOptions, DispatchStats, Secret};
use sortie_serving::{ListenAddr, Visitors, serve};
use sortie_tunnel::{ConnectError, Endpoint, Protocol, Target, Token, TokenSource, TunnelOptions, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

pub(crate) const SECRET: &str = "a shared secret";
/// Maximum wait in any test.
const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits something that the test needs to go on.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happened")
}

/// A dispatcher; it ends with the test.
pub(crate) struct Dispatcher {
    pub(crate) dispatch: Dispatch,
    pub(crate) address: SocketAddr,
    closing: CancellationToken,
    served: JoinHandle<()>,
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        self.served.abort();
    }
}

pub(crate) fn dispatch_options() -> DispatchOptions {
    let mut options = DispatchOptions {
        secret: Some(Secret::new(SECRET.to_owned()).unwrap()),
        ..DispatchOptions::default()
    };
    // A busy machine is not a stalled driver.
    options.limits.driver_stall = PATIENCE;
    options
}

impl Dispatcher {
    pub(crate) async fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), None).await
    }

    pub(crate) async fn at(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> Self {
        let dispatch = Dispatch::new(dispatch_options()).unwrap();
        let listener = address.to_string().parse::<ListenAddr>().unwrap().bind().await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = CancellationToken::new();
        let (router, until) = (dispatch.router(), closing.clone());
        let limits = sortie_serving::Limits::default();
        let served = tokio::spawn(async move {
            serve(listener, router, Visitors::with_credentials(), tls, &limits, until).await;
        });
        Self { dispatch, address, closing, served }
    }

    /// Shuts down gracefully.
    pub(crate) async fn stop(mut self) -> SocketAddr {
        self.closing.cancel();
        soon(self.dispatch.shutdown(Duration::from_secs(5))).await;
        soon(&mut self.served).await.unwrap();
        self.address
    }

    /// Waits until the statistics match.
    pub(crate) async fn until(&self, mut wanted: impl FnMut(&DispatchStats) -> bool) {
        soon(async {
            while !wanted(&self.dispatch.stats().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// A tunnel; it ends with the test.
pub(crate) struct Tunnel {
    closing: CancellationToken,
    running: JoinHandle<Result<(), ConnectError>>,
    ready: Option<oneshot::Receiver<()>>,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Tunnel {
    pub(crate) fn begin(options: TunnelOptions) -> Self {
        let closing = CancellationToken::new();
        let (tell, ready) = oneshot::channel();
        let running = tokio::spawn(run(options, closing.clone(), || tell.send(()).unwrap()));
        Self { closing, running, ready: Some(ready) }
    }

    pub(crate) async fn start(options: TunnelOptions) -> Self {
        let mut tunnel = Self::begin(options);
        tunnel.ready().await;
        tunnel
    }

    pub(crate) async fn ready(&mut self) {
        soon(self.ready.take().unwrap()).await.unwrap();
    }

    /// Shuts down gracefully.
    pub(crate) async fn stop(mut self) {
        self.closing.cancel();
        soon(&mut self.running).await.unwrap().unwrap();
    }

    /// Waits until the tunnel fails.
    pub(crate) async fn failed(mut self) -> ConnectError {
        soon(&mut self.running).await.unwrap().unwrap_err()
    }
}

/// A tunnel of one protocol from a free port to a local server.
pub(crate) fn options(dispatcher: SocketAddr, protocol: Protocol, local: SocketAddr) -> TunnelOptions {
    let endpoint = Endpoint::parse(&format!("ws://{dispatcher}")).unwrap();
    let target = Target { host: local.ip().to_string(), port: local.port() };
    TunnelOptions {
        protocols: vec![protocol],
        token: TokenSource::Fixed(Token::new(SECRET.to_owned()).unwrap()),
        ..TunnelOptions::new(endpoint, free_port(), target)
    }
}

/// A port that is free for both protocols, now.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if std::net::UdpSocket::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

/// A local TCP server and its address.
pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A UDP socket and its address.
pub(crate) async fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Echoes every connection until its other side sends nothing more.
pub(crate) async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let (mut reading, mut writing) = stream.split();
            let _reset = tokio::io::copy(&mut reading, &mut writing).await;
        });
    }
}

pub(crate) async fn device(port: u16) -> TcpStream {
    soon(TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await.unwrap()
}

/// Bytes until the other side ends.
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

/// Sends, and reads the same number of bytes back.
pub(crate) async fn exchange(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    soon(stream.write_all(bytes)).await.unwrap();
    exactly(stream, bytes.len()).await
}

/// Bytes that encode their device and position.
pub(crate) fn pattern(device: usize, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|place| (place.wrapping_mul(31) ^ (place >> 8) ^ device.wrapping_mul(97)) as u8).collect()
}

/// A root and a certificate for `localhost` signed by it: the root's file, and what a port serves.
pub(crate) fn certificates(folder: &std::path::Path) -> (PathBuf, Arc<ServerConfig>) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut root = CertificateParams::new([]).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let [ca, tls, tls_key] = ["ca.pem", "tls.pem", "tls.key"].map(|name| folder.join(name));
    std::fs::write(&ca, issuer.pem()).unwrap();
    std::fs::write(&tls, certificate.pem()).unwrap();
    std::fs::write(&tls_key, key.serialize_pem()).unwrap();
    let files = sortie_tls::CertificateFiles { certificate: tls, key: tls_key };
    (ca, sortie_tls::server_config(files).unwrap())
}
