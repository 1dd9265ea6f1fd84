//! Connections: how many, how long they may stall, and how they end.
//!
//! hyper directly and not `axum::serve`, which has no limits to set. A graceful shutdown keeps accepting while open
//! calls end, so that new callers, e.g. a probe, hear that the process is shutting down instead of finding a closed
//! port. Such a late connection gets one response, and the shutdown does not wait for it. Nor does it wait for what the
//! peer has begun and not finished: a body, headers, a frame.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::{Request, Version};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::activity::Activity;
use crate::answers::Answers;
use crate::arriving::arriving;
use crate::body::read_on;
use crate::held::{Held, Place};
use crate::limits::Limits;
use crate::opening::{Opened, Opener};
use crate::shares::{Shares, network};
use crate::visitors::Visitors;

/// Size of an HTTP/1 connection's buffer beyond its headers, in bytes: the request line, and what is read ahead.
const BUFFER_BYTES: usize = 16 << 10;

/// Time between two pings of a quiet HTTP/2 peer, and for its answer.
const ALIVE_PERIOD: Duration = Duration::from_secs(20);

/// Pause after the system could not give us a connection, because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a body may still arrive after the shutdown begins; and how long a connection then lasts that has no calls
/// and nothing to send, if the peer has begun something or does not answer.
const LATE_TIME: Duration = Duration::from_millis(500);

/// Serves `router` to callers that `visitors` allows until `closing` is cancelled, over TLS if it is given; then lets
/// open calls end, for at most [`Limits::grace`]. An error of one connection ends only that connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    visitors: Visitors,
    tls: Option<Arc<ServerConfig>>,
    limits: &Limits,
    closing: CancellationToken,
) {
    let server = Server {
        builder: builder(limits),
        opener: Opener::new(tls, limits),
        router,
        visitors: Arc::new(visitors),
        stall_time: limits.stall_time,
        closing,
        late: CancellationToken::new(),
    };
    let mut door = Door {
        listener,
        places: Arc::new(Semaphore::new(limits.connections)),
        per_address: Shares::new(limits.connections_per_address),
        server,
        tasks: JoinSet::new(),
    };
    let graceful = GracefulShutdown::new();
    let (closing, late) = (door.server.closing.clone(), door.server.late.clone());
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            caller = door.accept() => door.serve(caller, Some(graceful.watcher())),
        }
    }
    door.server.builder.http1().keep_alive(false);
    let latecomers = async {
        loop {
            let caller = door.accept().await;
            door.serve(caller, None);
        }
    };
    let end_bodies = async {
        tokio::time::sleep(LATE_TIME).await;
        late.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(limits.grace) => {
            tracing::warn!(grace = ?limits.grace, "calls were still open and are aborted");
        }
        () = end_bodies => {}
        () = latecomers => {}
    }
}

/// Accepts connections. Closes them when dropped: nothing outlives it.
struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    per_address: Shares<IpAddr>,
    server: Server,
    tasks: JoinSet<()>,
}

/// Who has come.
struct Caller {
    stream: TcpStream,
    peer: SocketAddr,
    place: Option<OwnedSemaphorePermit>,
}

impl Door {
    /// The next connection, as soon as there is room for it.
    async fn accept(&self) -> Caller {
        // The semaphore is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return Caller { stream, peer, place },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn serve(&mut self, caller: Caller, watcher: Option<Watcher>) {
        while self.tasks.try_join_next().is_some() {}
        let Caller { stream, peer, place } = caller;
        let Some(turn) = self.per_address.enter(network(peer.ip())) else {
            tracing::debug!(%peer, "too many connections from one address");
            return;
        };
        // Responses are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        // The system does not keep bytes for a peer that reads nothing longer than we keep ours.
        #[cfg(target_os = "linux")]
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(self.server.stall_time));
        let server = self.server.clone();
        let place = Place::new(place, turn);
        self.tasks.spawn(server.connection(stream, peer, watcher, place));
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Server {
    builder: Builder<TokioExecutor>,
    opener: Opener,
    router: Router,
    visitors: Arc<Visitors>,
    stall_time: Duration,
    closing: CancellationToken,
    /// [`LATE_TIME`] after that.
    late: CancellationToken,
}

impl Server {
    /// Serves one connection. A shutdown ends it gracefully if it has a watcher.
    async fn connection(self, stream: TcpStream, peer: SocketAddr, watcher: Option<Watcher>, place: Place) {
        let local = stream.local_addr().ok().map(|address| address.ip());
        let opened: Option<Opened> = match watcher {
            None => self.opener.open(stream).await,
            Some(_) => tokio::select! {
                opened = self.opener.open(stream) => opened,
                () = self.closing.cancelled() => None,
            },
        };
        let Some(opened) = opened else { return };
        let activity = Activity::default();
        let opened = TokioIo::new(Held::new(opened, place, self.stall_time, activity.clone()));
        let answers = Answers::new(activity.clone(), self.closing);
        let (stall_time, late) = (self.stall_time, self.late.clone());
        let calls = Calls {
            router: self.router,
            visitors: self.visitors,
            answers: answers.clone(),
            late: self.late,
            peer,
            local,
        };
        let service = service_fn(move |request| calls.clone().answer(request));
        let connection = self.builder.serve_connection_with_upgrades(opened, service).into_owned();
        let connection = async {
            match watcher {
                Some(watcher) => watcher.watch(connection).await,
                None => connection.await,
            }
        };
        let ended = tokio::select! {
            ended = connection => ended,
            () = answers.give_up_stalled(stall_time) => {
                tracing::debug!(%peer, "closed a connection whose responses the peer does not read");
                return;
            }
            () = async { late.cancelled().await; activity.rested(LATE_TIME).await } => {
                tracing::debug!(%peer, "closed a connection without calls: the process shuts down");
                return;
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%peer, %error, "a connection ended with an error");
        }
    }
}

/// What the calls of one connection need.
#[derive(Clone)]
struct Calls {
    router: Router,
    visitors: Arc<Visitors>,
    answers: Answers,
    late: CancellationToken,
    peer: SocketAddr,
    local: Option<IpAddr>,
}

impl Calls {
    async fn answer(mut self, mut request: Request<Incoming>) -> Result<Response, Infallible> {
        if let Some(refusal) = self.visitors.refuse(&request, self.local) {
            read_on(request.map(|body| arriving(body, &self.late))).await;
            return Ok(refusal);
        }
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let is_http_1 = request.version() < Version::HTTP_2;
        let call = self.answers.call();
        let response = self.router.call(request.map(|body| arriving(body, &self.late))).await?;
        Ok(response.map(|body| match is_http_1 {
            true => Answers::count(body, call),
            false => self.answers.watch(body, call),
        }))
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes as usize + BUFFER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes)
        .max_concurrent_streams(limits.calls_per_connection)
        .keep_alive_interval(ALIVE_PERIOD)
        .keep_alive_timeout(ALIVE_PERIOD);
    builder
}
