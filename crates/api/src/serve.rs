//! Connections: how many, how long they may dawdle, and how they end.
//!
//! hyper directly and not `axum::serve`, which has no limits to set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use crate::opening::opened;
use crate::state::Limits;

/// Bytes of an HTTP/1 connection's buffer beyond its headers: the request line, and what is read ahead.
const BUFFER_BYTES: usize = 16 << 10;

/// Time between two questions to a quiet HTTP/2 peer whether it is still there, and for its answer.
const ALIVE_PERIOD: Duration = Duration::from_secs(20);

/// Pause after the system had no connection to give, because too many files are open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` to whoever connects until `closing` is cancelled; then lets open calls end, for at most
/// [`Limits::grace`]. An error of one connection ends that connection only.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, closing: CancellationToken) {
    let builder = builder(limits);
    let connections = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    // Dropped connections are closed; nothing outlives this function.
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        // Answers are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let told = MapRequest::new(router.clone(), move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request
        });
        let service = TowerToHyperService::new(told);
        let (builder, watcher) = (builder.clone(), graceful.watcher());
        let (closing, header_time) = (closing.clone(), limits.header_time);
        tasks.spawn(async move {
            let _permit = permit;
            let begun = tokio::select! {
                begun = tokio::time::timeout(header_time, opened(stream)) => begun.ok().and_then(Result::ok),
                () = closing.cancelled() => None,
            };
            if let Some(stream) = begun {
                let connection =
                    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "a connection ended with an error");
                }
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_err() {
        tracing::warn!(grace = ?limits.grace, "calls were still open and are broken off");
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

/// The next connection, as soon as there is room for it.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed.
    let permit = Arc::clone(connections).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
