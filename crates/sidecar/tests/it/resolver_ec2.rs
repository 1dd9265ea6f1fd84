//! The resolver for EC2 with a simulated metadata service and its failures.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use sortie_sidecar::resolver::Resolver as _;
use sortie_sidecar::resolver::ec2::{Ec2Options, Ec2Resolver};
use sortie_sidecar::resolver::ports::PortRange;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How the service answers requests for a token.
#[derive(Clone, Copy)]
enum Token {
    Given,
    Status(u16),
    Never,
    /// Bytes that are not a valid token.
    Garbage,
}

#[derive(Clone)]
struct Metadata {
    token: Token,
    /// Version 1 is disabled.
    needs_token: bool,
    /// Status and text by item.
    items: Vec<(&'static str, u16, Vec<u8>)>,
    /// Answers 503 this many times first.
    busy: usize,
}

impl Default for Metadata {
    fn default() -> Self {
        let items = vec![("public-ipv4", 200, b"203.0.113.7".to_vec())];
        Self { token: Token::Given, needs_token: true, items, busy: 0 }
    }
}

struct Service {
    address: SocketAddr,
    metadata: Arc<Mutex<Metadata>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

type Shared = (Arc<Mutex<Metadata>>, Arc<Mutex<Vec<String>>>);

impl Service {
    async fn start(metadata: Metadata) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metadata = Arc::new(Mutex::new(metadata));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let router = Router::new().fallback(answer).with_state((Arc::clone(&metadata), Arc::clone(&asked)));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, metadata, asked, task }
    }

    fn resolver(&self, ports: &[(u16, u16)]) -> Ec2Resolver {
        let available_ports = ports.iter().map(|(min, max)| PortRange::new(*min, *max).unwrap()).collect();
        let metadata_base_url = format!("http://{}/", self.address);
        Ec2Resolver::new(&Ec2Options { metadata_base_url, available_ports }).unwrap()
    }

    /// The address, or the error without the common prefix.
    async fn address(&self) -> String {
        match self.resolver(&[]).resolve("server-1").await {
            Ok(address) => address.to_string(),
            Err(error) => self.without_url(&error.to_string()),
        }
    }

    fn without_url(&self, error: &str) -> String {
        let begin = format!("the metadata service of EC2 at http://{} gave no address: ", self.address);
        error.strip_prefix(&begin).unwrap_or_else(|| panic!("{error}")).to_owned()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State((metadata, asked)): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    asked.lock().unwrap().push(format!("{} {path}", request.method()));
    let metadata = {
        let mut metadata = metadata.lock().unwrap();
        let now = metadata.clone();
        metadata.busy = now.busy.saturating_sub(1);
        now
    };
    if metadata.busy > 0 {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if path == "/latest/api/token" {
        assert_eq!(request.method(), Method::PUT);
        assert!(request.headers().contains_key("x-aws-ec2-metadata-token-ttl-seconds"));
        return match metadata.token {
            Token::Given => "t0ken==".into_response(),
            Token::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
            Token::Never => std::future::pending().await,
            Token::Garbage => b"\x01\xff".to_vec().into_response(),
        };
    }
    let token = request.headers().get("x-aws-ec2-metadata-token");
    if token.map_or(metadata.needs_token, |token| token != "t0ken==") {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let item = path.strip_prefix("/latest/meta-data/").unwrap();
    match metadata.items.iter().find(|(name, ..)| *name == item) {
        Some((_, 302, to)) => {
            let to = String::from_utf8(to.clone()).unwrap();
            (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
        }
        Some((_, status, body)) => (StatusCode::from_u16(*status).unwrap(), body.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn items(items: &[(&'static str, u16, &[u8])]) -> Metadata {
    let items = items.iter().map(|(name, status, body)| (*name, *status, body.to_vec())).collect();
    Metadata { items, ..Metadata::default() }
}

#[tokio::test]
async fn version_2_gives_the_public_address_once() {
    let service = Service::start(Metadata::default()).await;
    let resolver = service.resolver(&[]);
    for server in ["a", "b", "a"] {
        assert_eq!(resolver.resolve(server).await.unwrap().to_string(), "203.0.113.7");
    }
    assert_eq!(service.asked(), ["PUT /latest/api/token", "GET /latest/meta-data/public-ipv4"]);
}

#[tokio::test]
async fn servers_that_ask_at_once_share_one_search() {
    let service = Service::start(Metadata::default()).await;
    let resolver = service.resolver(&[]);
    let all = tokio::join!(resolver.resolve("a"), resolver.resolve("b"), resolver.resolve("c"));
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok());
    assert_eq!(service.asked().len(), 2);
}

#[tokio::test]
async fn version_1_is_enough() {
    for token in [Token::Status(404), Token::Status(405), Token::Status(403), Token::Never] {
        let service = Service::start(Metadata { token, needs_token: false, ..Metadata::default() }).await;
        assert_eq!(service.address().await, "203.0.113.7");
    }
}

#[tokio::test]
async fn without_a_public_address_the_next_best_one_is_taken() {
    for (metadata, expected) in [
        (items(&[("public-hostname", 200, b"ec2-203-0-113-7.example.com\n")]), "ec2-203-0-113-7.example.com"),
        (items(&[("public-ipv4", 200, b""), ("local-ipv4", 200, b"10.0.0.5")]), "10.0.0.5"),
        (items(&[]), "the instance has neither a public nor a private IPv4 address"),
    ] {
        assert_eq!(Service::start(metadata).await.address().await, expected);
    }
}

#[tokio::test]
async fn each_server_has_its_own_port() {
    let service = Service::start(Metadata::default()).await;
    let resolver = service.resolver(&[(7777, 7777)]);
    assert_eq!(resolver.resolve("a").await.unwrap().to_string(), "203.0.113.7:7777");
    assert_eq!(
        resolver.resolve("b").await.unwrap_err().to_string(),
        "all 1 ports of AvailablePorts are assigned to servers of this sidecar: add some"
    );
    resolver.release("a");
    assert_eq!(resolver.resolve("b").await.unwrap().to_string(), "203.0.113.7:7777");
    resolver.claim("a", 7777);
    assert!(resolver.resolve("a").await.is_err());
}

#[tokio::test]
async fn a_service_that_is_busy_is_asked_again() {
    let service = Service::start(Metadata { busy: 2, ..Metadata::default() }).await;
    assert_eq!(service.address().await, "203.0.113.7");
    let service = Service::start(Metadata { busy: usize::MAX, ..Metadata::default() }).await;
    assert_eq!(service.address().await, "it answers 503 Service Unavailable when asked for a token");
    assert_eq!(service.asked().len(), 3);
}

#[tokio::test]
async fn refusals_are_told() {
    let token = |token| Metadata { token, ..Metadata::default() };
    for (metadata, expected) in [
        (token(Token::Status(400)), "it answers 400 Bad Request when asked for a token"),
        (
            token(Token::Never),
            "it requires a token, and did not issue one: in a container, raise the instance's HttpPutResponseHopLimit to 2",
        ),
        (token(Token::Garbage), "its answer is not text"),
        (items(&[("public-ipv4", 403, b"")]), "it answers 403 Forbidden when asked for public-ipv4"),
        (
            items(&[("public-ipv4", 302, b"/latest/meta-data/local-ipv4"), ("local-ipv4", 200, b"10.0.0.5")]),
            "it answers 302 Found when asked for public-ipv4",
        ),
    ] {
        assert_eq!(Service::start(metadata).await.address().await, expected);
    }
}

#[tokio::test]
async fn answers_that_are_not_addresses_are_reported() {
    for (metadata, expected) in [
        (
            items(&[("public-ipv4", 200, b"<html>hello</html>")]),
            "its answer for public-ipv4 is not an address: \"<html>hello</html>\"",
        ),
        (
            items(&[("public-ipv4", 200, b"0.0.0.0")]),
            "its answer for public-ipv4 is not an address: \"0.0.0.0\"",
        ),
        (
            items(&[("public-hostname", 200, b"a b")]),
            "its answer for public-hostname is not an address: \"a b\"",
        ),
        (items(&[("public-ipv4", 200, &[b'1'; 5000])]), "its answer has more than 4096 bytes"),
        (items(&[("public-ipv4", 200, b"\xff\xfe")]), "its answer is not text"),
    ] {
        assert_eq!(Service::start(metadata).await.address().await, expected);
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let metadata_base_url = format!("http://{address}");
    let resolver = Ec2Resolver::new(&Ec2Options { metadata_base_url, ..Ec2Options::default() }).unwrap();
    let error = resolver.resolve("a").await.unwrap_err().to_string();
    let begin =
        format!("the metadata service of EC2 at http://{address} gave no address: it cannot be reached (");
    assert!(error.starts_with(&begin) && error.ends_with("): is this an instance of EC2?"), "{error}");
}

#[tokio::test]
async fn failures_are_retried_but_not_by_every_server_at_once() {
    let service = Service::start(items(&[("public-ipv4", 403, b"")])).await;
    let resolver = service.resolver(&[]);
    let (one, other) = tokio::join!(resolver.resolve("a"), resolver.resolve("b"));
    assert_eq!(one, other);
    assert_eq!(service.asked().len(), 2, "the second had the answer of the first");
    service.metadata.lock().unwrap().items = Metadata::default().items;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    tokio::time::resume();
    assert_eq!(resolver.resolve("a").await.unwrap().to_string(), "203.0.113.7");
}
