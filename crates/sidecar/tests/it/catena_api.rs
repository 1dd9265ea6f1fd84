//! Game servers that call the sidecar: with tonic's client, with plain HTTP, and with sockets that break the rules.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_serving::Limits;
use sortie_sidecar::backend::{Backend as _, CatenaBackend, CatenaBackendOptions};
use sortie_sidecar::control::ControlKey;
use sortie_sidecar::manager::{AtShutdown, Manager, ManagerOptions};
use sortie_sidecar::source::{CatenaApiOptions, CatenaApiSource, EventSource as _};
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use sortie_wire::catena::server_manager::{
    AdminAllocateServerRequest, ListServersRequest, RequestMatchRequest, ServerMatchInfo,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::fake_backend::{FakeBackend, Mood, ask, end, game, not_held, ready};

struct Sidecar {
    grpc: SocketAddr,
    http: SocketAddr,
    manager: Manager,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sidecar {
    /// gRPC and HTTP on one port.
    async fn start(backend: &FakeBackend) -> Self {
        let limits =
            Limits { body_bytes: 10_000, body_time: Duration::from_millis(200), ..Limits::default() };
        let any = || Some("127.0.0.1:0".parse().unwrap());
        Self::with(
            backend,
            CatenaApiOptions { grpc_listen: any(), http_listen: any(), ..CatenaApiOptions::default() },
            limits,
        )
        .await
    }

    async fn with(backend: &FakeBackend, options: CatenaApiOptions, limits: Limits) -> Self {
        let source = CatenaApiSource::bind(&options).await.unwrap().with_limits(limits);
        let (grpc, http) = (source.grpc_address().unwrap(), source.http_address().unwrap());
        let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
        let closing = CancellationToken::new();
        let run = Box::new(source).run(manager.clone(), closing.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        Self { grpc, http, manager, closing, task }
    }

    async fn client(&self) -> CatenaServerManagerClient<Channel> {
        CatenaServerManagerClient::connect(format!("http://{}", self.grpc)).await.unwrap()
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let url = format!("http://{}{path}", self.http);
        let response = plain().post(url).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }
}

fn plain() -> reqwest::Client {
    sortie_tls::http_client("http://", None).unwrap().build().unwrap()
}

#[tokio::test]
async fn a_match_from_question_to_end_over_grpc() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    let mut client = sidecar.client().await;
    backend.has(&["m1"]);
    let response = client.request_match(ask("")).await.unwrap().into_inner();
    assert_eq!(response.r#match, Some(game("m1")));
    client.match_ready(ready("", "", "h:1")).await.unwrap();
    let listed = client.list_servers(ListServersRequest {}).await.unwrap().into_inner().servers;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].requested_match);
    let held = ServerMatchInfo { match_id: "m1".to_owned(), connection_string: "h:1".to_owned() };
    assert_eq!(listed[0].matches, [held]);
    assert_eq!(client.end_match(end("", "")).await.unwrap().into_inner().match_id, "m1");
    let id = sidecar.manager.server_id_of("catena_api_event_source");
    assert_eq!(backend.heard()[2], format!("EndMatch {id} m1 0"));
}

#[tokio::test]
async fn grpc_errors_carry_the_backends_words() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    let mut client = sidecar.client().await;
    backend.set(not_held());
    let error = client.match_ready(ready("s", "m1", "h:1")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::FailedPrecondition, "not yours any more"));
    let status = sortie_wire::status::Status::from(&error);
    assert_eq!(sortie_wire::status::reason(&status).as_deref(), Some("match_not_held"));
    let unknown = client.request_match(RequestMatchRequest { hint_flags: 64, ..ask("s") }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    let admin = client.admin_allocate_server(AdminAllocateServerRequest::default()).await.unwrap_err();
    assert_eq!(admin.code(), Code::Unimplemented);
    assert!(admin.message().contains("control plane"));
}

#[tokio::test]
async fn a_server_that_accepts_several_matches_gets_one_in_the_list() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    let mut client = sidecar.client().await;
    backend.has(&["m1", "m2"]);
    let several = RequestMatchRequest { max_matches: Some(2), wait_seconds: Some(60), ..ask("s") };
    let answer = client.request_match(several).await.unwrap().into_inner();
    assert_eq!(answer.matches, [game("m1")]);
    assert_eq!(answer.r#match, Some(game("m1")));
    let answer = client.request_match(ask("s")).await.unwrap().into_inner();
    assert_eq!((answer.r#match, answer.matches), (Some(game("m2")), vec![]));
}

#[tokio::test]
async fn grpc_has_health_and_refuses_oversized_and_unknown_calls() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    let mut client = sidecar.client().await;
    let long = client.match_ready(ready("s", "m1", &"x".repeat(20_000))).await.unwrap_err();
    assert_eq!(long.code(), Code::OutOfRange);
    let channel = Channel::from_shared(format!("http://{}", sidecar.grpc)).unwrap().connect().await.unwrap();
    for service in ["", "catena.catena_server_manager.CatenaServerManager"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status, 1, "{service}");
    }
    let mut broker =
        sortie_wire::catena::match_broker::catena_match_broker_client::CatenaMatchBrokerClient::new(channel);
    let error =
        broker.list_queued_matches(sortie_wire::catena::match_broker::ListQueuedMatchesRequest::default());
    assert_eq!(error.await.unwrap_err().code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_match_from_question_to_end_over_http() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    assert_eq!(sidecar.post("/api/v1/server/request_match", "").await, (200, json!({})));
    backend.has(&["m1"]);
    let (status, answer) = sidecar.post("/api/v1/server/request_match", r#"{"server_id":"s"}"#).await;
    assert_eq!((status, &answer["match"]["matchId"]), (200, &json!("m1")));
    let body = r#"{"serverId":"s","connectionDetails":"h:1","unknown":[]}"#;
    assert_eq!(sidecar.post("/api/v1/server/match_ready", body).await, (200, json!({"matchId": "m1"})));
    let (_, listed) = sidecar.post("/api/v1/servers", "{}").await;
    let mine = listed["servers"].as_array().unwrap().iter().find(|server| server["serverId"] == "s").unwrap();
    assert_eq!(mine["matches"], json!([{"matchId": "m1", "connectionString": "h:1"}]));
    let url = format!("http://{}/api/v1/servers", sidecar.http);
    let same: Value = plain().get(url).send().await.unwrap().json().await.unwrap();
    assert_eq!(same, listed);
    let body = r#"{"serverId":"s","hintFlags":"HINT_FLAG_SHUTDOWN"}"#;
    assert_eq!(sidecar.post("/api/v1/server/end_match", body).await, (200, json!({"matchId": "m1"})));
    assert_eq!(backend.heard().last().unwrap(), "EndMatch s m1 1");
    let health = plain().get(format!("http://{}/healthz", sidecar.http)).send().await.unwrap();
    assert_eq!(health.status(), 200);
}

#[tokio::test]
async fn http_errors_have_the_contracts_form() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    let long = format!(r#"{{"serverId":"{}"}}"#, "x".repeat(20_000));
    let cases = [
        ("/api/v1/server/end_match", "{", 400, 3, "invalid_json"),
        ("/api/v1/server/end_match", r#"{"serverId":7}"#, 400, 3, "invalid_json"),
        ("/api/v1/server/end_match", r#"{"hintFlags":64}"#, 400, 3, "invalid_json"),
        ("/api/v1/server/end_match", r#"{"serverId":"s"}"#, 400, 3, "invalid_field"),
        ("/api/v1/server/end_match", &*long, 413, 8, "too_large"),
        ("/api/v1/server/allocate", "{}", 501, 12, "method_not_allowed"),
        ("/healthz", "{}", 405, 12, "method_not_allowed"),
        ("/nowhere", "{}", 404, 5, "not_found"),
    ];
    for (path, body, http, code, reason) in cases {
        let (status, answer) = sidecar.post(path, body.to_owned()).await;
        assert_eq!((status, &answer["code"]), (http, &json!(code)), "{path} {reason}: {answer}");
        assert_eq!(answer["details"][0]["reason"], reason);
        assert!(answer["message"].as_str().unwrap().len() > 5);
    }
    backend.set(not_held());
    let (status, answer) =
        sidecar.post("/api/v1/server/match_ready", r#"{"serverId":"s","matchId":"m"}"#).await;
    assert_eq!((status, &answer["message"]), (400, &json!("not yours any more")));
}

#[tokio::test]
async fn a_missing_body_is_not_waited_for() {
    let sidecar = Sidecar::start(&FakeBackend::new()).await;
    let mut stream = TcpStream::connect(sidecar.http).await.unwrap();
    let head = "POST /api/v1/server/end_match HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "HTTP/1.1 408");
}

/// A held request over HTTP; sends it without waiting for the answer.
async fn held_question(sidecar: &Sidecar, backend: &FakeBackend) -> TcpStream {
    let body = r#"{"serverId":"s","hintFlags":2}"#;
    let mut stream = TcpStream::connect(sidecar.http).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /api/v1/server/request_match HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    backend.hears("RequestMatch s 2").await;
    stream
}

#[tokio::test]
async fn a_question_whose_connection_ends_is_withdrawn() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    backend.set(Mood::Holds);
    drop(held_question(&sidecar, &backend).await);
    backend.hears("RequestMatch s 24").await;
    backend.is_left().await;
    // Over gRPC the connection may stay: its stream ends.
    let mut client = sidecar.client().await;
    let request = RequestMatchRequest { hint_flags: 2, ..ask("t") };
    let asking = tokio::spawn(async move { client.request_match(request).await });
    backend.hears("RequestMatch t 2").await;
    asking.abort();
    backend.hears("RequestMatch t 24").await;
    backend.is_left().await;
    backend.has(&["m1"]);
    let (_, answer) = sidecar.post("/api/v1/server/request_match", r#"{"serverId":"u"}"#).await;
    assert_eq!(answer["match"]["matchId"], "m1");
}

#[tokio::test]
async fn a_held_question_does_not_delay_the_shutdown() {
    let backend = FakeBackend::new();
    let mut sidecar = Sidecar::start(&backend).await;
    backend.set(Mood::Silent);
    let mut stream = held_question(&sidecar, &backend).await;
    sidecar.closing.cancel();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"), "{answer}");
    (&mut sidecar.task).await.unwrap();
}

#[tokio::test]
async fn the_shutdown_takes_leave_for_a_waiting_server() {
    for over_grpc in [false, true] {
        let backend = FakeBackend::new();
        let mut sidecar = Sidecar::start(&backend).await;
        backend.set(Mood::Holds);
        let _open = if over_grpc {
            let mut client = sidecar.client().await;
            let request = RequestMatchRequest { hint_flags: 2, ..ask("s") };
            let asking = tokio::spawn(async move { client.request_match(request).await });
            backend.hears("RequestMatch s 2").await;
            (Some(asking), None)
        } else {
            (None, Some(held_question(&sidecar, &backend).await))
        };
        sidecar.closing.cancel();
        (&mut sidecar.task).await.unwrap();
        sidecar.manager.shutdown(AtShutdown::EndMatches, Duration::from_secs(60)).await;
        assert_eq!(backend.heard().last().map(String::as_str), Some("RequestMatch s 9"), "gRPC: {over_grpc}");
    }
}

#[tokio::test]
async fn a_health_watch_does_not_delay_the_shutdown() {
    let backend = FakeBackend::new();
    let limits = Limits { grace: Duration::from_secs(3600), ..Limits::default() };
    let options = CatenaApiOptions {
        grpc_listen: Some("127.0.0.1:0".parse().unwrap()),
        http_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..CatenaApiOptions::default()
    };
    let mut sidecar = Sidecar::with(&backend, options, limits).await;
    let channel = Channel::from_shared(format!("http://{}", sidecar.grpc)).unwrap().connect().await.unwrap();
    let ask = HealthCheckRequest::default();
    let mut watch = HealthClient::new(channel).watch(ask).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    sidecar.closing.cancel();
    assert_eq!(watch.message().await.unwrap_err().code(), Code::Unavailable);
    (&mut sidecar.task).await.unwrap();
}

#[tokio::test]
async fn each_contract_can_have_a_port_of_its_own() {
    let backend = FakeBackend::new();
    // Two addresses that differ as text, both with free ports.
    let options = CatenaApiOptions {
        grpc_listen: Some("127.0.0.1:0".parse().unwrap()),
        http_listen: Some("localhost:0".parse().unwrap()),
        ..CatenaApiOptions::default()
    };
    let sidecar = Sidecar::with(&backend, options, Limits::default()).await;
    assert_ne!(sidecar.grpc, sidecar.http);
    sidecar.client().await.request_match(ask("s")).await.unwrap();
    assert_eq!(sidecar.post("/api/v1/server/request_match", "{}").await.0, 200);
    let elsewhere = plain().post(format!("http://{}/api/v1/servers", sidecar.grpc)).send().await.unwrap();
    assert_eq!(elsewhere.status(), 404);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_the_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(taken.local_addr().unwrap().into());
    let grpc = CatenaApiOptions { grpc_listen: address.clone(), ..CatenaApiOptions::default() };
    let http = CatenaApiOptions { http_listen: address, ..CatenaApiOptions::default() };
    for (options, key) in [(grpc, "GrpcListenAddr: "), (http, "HttpListenAddr: ")] {
        let error = CatenaApiSource::bind(&options).await.unwrap_err();
        assert!(error.problem.starts_with(key), "{error}");
    }
    let error = CatenaApiSource::bind(&CatenaApiOptions::default()).await.unwrap_err();
    assert!(error.problem.contains("GrpcListenAddr, HttpListenAddr or both"), "{error}");
}

#[tokio::test]
async fn a_sidecar_can_be_the_backend_of_another() {
    let backend = FakeBackend::new();
    let sidecar = Sidecar::start(&backend).await;
    backend.has(&["m1", "m2"]);
    for (scheme, id) in [("http", "m1"), ("grpc", "m2")] {
        let url = format!("{scheme}://{}", sidecar.http);
        let client = CatenaBackend::new(&CatenaBackendOptions { url, api_key: None, ca: None }).unwrap();
        let response = client.request_match(ask("s")).await.unwrap();
        assert_eq!(response.r#match, Some(game(id)));
        assert_eq!(client.match_ready(ready("s", id, "h:1")).await.unwrap().match_id, id);
        assert_eq!(client.end_match(end("s", id)).await.unwrap().match_id, id);
    }
}

const REQUEST: &str = "/api/v1/server/request_match";

/// The status of a call with these headers.
async fn status(sidecar: &Sidecar, path: &str, headers: &[(&str, &str)]) -> u16 {
    let request = plain().post(format!("http://{}{path}", sidecar.http)).body("{}");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn without_a_key_foreign_pages_and_hosts_are_kept_out() {
    let sidecar = Sidecar::start(&FakeBackend::new()).await;
    for path in [REQUEST, "/api/v1/servers", "/healthz", "/nothing", "/grpc.health.v1.Health/Check"] {
        for headers in [
            [("host", "evil.example"), ("x", "y")],
            [("host", "localhost"), ("origin", "https://evil.example")],
            [("origin", "null"), ("content-type", "text/plain")],
            [("origin", "https://evil.example"), ("content-type", "application/grpc-web+proto")],
            [("origin", "http://localhost:1"), ("content-type", "text/plain")],
        ] {
            assert_eq!(status(&sidecar, path, &headers).await, 403, "{path} {headers:?}");
        }
    }
    assert_eq!(status(&sidecar, REQUEST, &[("host", "localhost:1")]).await, 200);
    let foreign = tonic::transport::Endpoint::from_shared(format!("http://{}", sidecar.grpc)).unwrap();
    let foreign = foreign.origin("http://evil.example".parse().unwrap()).connect().await.unwrap();
    let refused = CatenaServerManagerClient::new(foreign).request_match(ask("s")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_name_that_is_allowed_is_good() {
    let any = || Some("127.0.0.1:0".parse().unwrap());
    let allowed_hosts = vec!["sidecar".to_owned()];
    let options = CatenaApiOptions {
        grpc_listen: any(),
        http_listen: any(),
        allowed_hosts,
        ..CatenaApiOptions::default()
    };
    let sidecar = Sidecar::with(&FakeBackend::new(), options, Limits::default()).await;
    assert_eq!(status(&sidecar, REQUEST, &[("host", "sidecar:8085")]).await, 200);
    assert_eq!(status(&sidecar, REQUEST, &[("host", "other:8085")]).await, 403);
}

#[tokio::test]
async fn with_a_key_every_call_except_health_requires_it() {
    let any = || Some("127.0.0.1:0".parse().unwrap());
    let options = CatenaApiOptions {
        grpc_listen: any(),
        http_listen: any(),
        api_key: ControlKey::new("s3cret"),
        ..CatenaApiOptions::default()
    };
    let sidecar = Sidecar::with(&FakeBackend::new(), options, Limits::default()).await;
    assert_eq!(status(&sidecar, REQUEST, &[]).await, 401);
    assert_eq!(status(&sidecar, REQUEST, &[("authorization", "Bearer wrong")]).await, 401);
    let shown = ("authorization", "Bearer s3cret");
    assert_eq!(status(&sidecar, REQUEST, &[shown, ("host", "sidecar.lan")]).await, 200);
    let mut client = sidecar.client().await;
    assert_eq!(client.request_match(ask("s")).await.unwrap_err().code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(ask("s"));
    request.metadata_mut().insert("authorization", "Bearer s3cret".parse().unwrap());
    client.request_match(request).await.unwrap();
    let channel = Channel::from_shared(format!("http://{}", sidecar.grpc)).unwrap().connect().await.unwrap();
    HealthClient::new(channel).check(HealthCheckRequest { service: String::new() }).await.unwrap();
}
