//! A server on a free port, which says how long each body was.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bytes::Bytes;
use futures::stream;
use sortie_serving::{
    BodyError, Halves, Limits, ListenAddr, Visitors, halves, json_response, limit_grpc_bodies, read_body,
    serve,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Maximum wait of a test for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that a test needs to continue.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happened")
}

/// A server under test; all of it ends with it.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) closing: CancellationToken,
    pub(crate) served: Option<JoinHandle<()>>,
    /// Responses of `/endless` in progress.
    pub(crate) endless: watch::Receiver<usize>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.closing.cancel();
        self.served.take().inspect(JoinHandle::abort);
    }
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::for_visitors(Visitors::with_credentials(), limits).await
    }

    pub(crate) async fn for_visitors(visitors: Visitors, limits: Limits) -> Self {
        let listener = "localhost:0".parse::<ListenAddr>().unwrap().bind().await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closing = CancellationToken::new();
        let until = closing.clone();
        let (count, endless) = watch::channel(0);
        let router = router(&limits, count, closing.clone());
        let served =
            tokio::spawn(async move { serve(listener, router, visitors, None, &limits, until).await });
        Self { port, closing, served: Some(served), endless }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(("localhost", self.port)).await.unwrap()
    }

    /// A connection with `text` sent.
    pub(crate) async fn say(&self, text: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }
}

/// One more, until it is dropped.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// A response that continues as long as it is read.
fn endless(count: &watch::Sender<usize>) -> Response {
    let pieces = stream::unfold(Counted::new(count), |counted| async move {
        Some((Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 100_000])), counted))
    });
    Response::new(Body::from_stream(pieces))
}

/// An upgraded connection that sends one line and is held until the other side closes it.
async fn upgraded(mut request: Request) -> Response {
    let in_halves = request.uri().path() == "/halves";
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        if in_halves {
            let Halves::Tcp(_, mut reading, mut writing) = halves(upgraded) else { return };
            let _ = writing.write_all(b"open\n").await;
            let _ = reading.read_to_end(&mut Vec::new()).await;
        } else {
            let mut socket = hyper_util::rt::TokioIo::new(upgraded);
            let _ = socket.write_all(b"open\n").await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("lines"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

fn router(limits: &Limits, count: watch::Sender<usize>, closing: CancellationToken) -> Router {
    let limits = limits.clone();
    let measure = move |request: Request| async move {
        match read_body(request, &limits).await {
            Ok(body) => json_response(StatusCode::OK, format!("{{\"bytes\":{}}}", body.len()).into_bytes()),
            Err(error) => refused(error),
        }
    };
    let grpc = Router::new().route("/some.Service/Call", any(drained));
    let grpc = grpc.route("/grpc.reflection.v1.ServerReflection/Ask", any(drained));
    let bytes = |Path(count): Path<usize>| async move { vec![b'x'; count] };
    let bytes_at_the_end = move |count| async move {
        closing.cancelled_owned().await;
        bytes(count).await
    };
    Router::new()
        .route("/measure", any(measure))
        .route("/bytes/{count}", any(bytes))
        .route("/bytes_at_the_end/{count}", any(bytes_at_the_end))
        .route("/endless", any(async move || endless(&count)))
        .route("/never", any(std::future::pending::<()>))
        .route("/upgrade", any(upgraded))
        .route("/halves", any(upgraded))
        .merge(limit_grpc_bodies(grpc, Duration::from_millis(50)))
}

fn refused(error: BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        BodyError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, error.to_string()).into_response()
}

/// Reads to the end, and returns how the response arrived.
async fn drained(request: Request) -> String {
    match axum::body::to_bytes(request.into_body(), usize::MAX).await {
        Ok(bytes) => format!("whole: {}", bytes.len()),
        Err(error) => {
            let causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| (**error).source());
            format!("broken: {:?}", causes.map(ToString::to_string).collect::<Vec<_>>())
        }
    }
}

/// Until the other side closes.
pub(crate) async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset counts as closed.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of the next response.
pub(crate) async fn status(stream: &mut TcpStream) -> u16 {
    let mut line = [0; 12];
    soon(stream.read_exact(&mut line)).await.unwrap();
    String::from_utf8_lossy(&line[9..]).parse().unwrap()
}
