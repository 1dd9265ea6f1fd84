//! Backends: what they send, and how they interpret answers. The server is scripted, byte by byte over HTTP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sortie_sidecar::backend::{
    Backend, BackendError, CatenaBackend, CatenaBackendOptions, NoopBackend, NoopOptions,
};
use sortie_sidecar::settings::Secret;
use sortie_wire::catena::server_manager::catena_server_manager_server::{
    CatenaServerManager, CatenaServerManagerServer,
};
use sortie_wire::catena::server_manager::*;
use sortie_wire::status::reason;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tonic::Code;

use crate::fake_backend::{ask, end, ready};

/// Status, body, and `Retry-After`.
type Scripted = (u16, &'static str, Option<&'static str>);

/// The remaining answers in reverse order, and the received calls.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<(Vec<Scripted>, Vec<String>)>>);

/// Serves the script, repeating the last answer; returns the address.
async fn serve(answers: &[Scripted]) -> (String, Script) {
    let script = Script::default();
    script.0.lock().unwrap().0 = answers.iter().rev().copied().collect();
    let router = Router::new().fallback(scripted).with_state(script.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum_serve(listener, router).await });
    (format!("http://{address}"), script)
}

async fn axum_serve(listener: TcpListener, router: Router) {
    over(listener, router, None).await;
}

async fn over(listener: TcpListener, router: Router, tls: Option<Arc<ServerConfig>>) {
    let closing = tokio_util::sync::CancellationToken::new();
    let visitors = sortie_serving::Visitors::with_credentials();
    sortie_serving::serve(listener, router, visitors, tls, &sortie_serving::Limits::default(), closing).await;
}

async fn scripted(State(script): State<Script>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let mut script = script.0.lock().unwrap();
    let bearer = headers.get("authorization").map_or("-", |value| value.to_str().unwrap());
    let body = String::from_utf8(body.to_vec()).unwrap();
    script.1.push(format!("{uri} {bearer} {body}"));
    let answer = script.0[script.0.len() - 1];
    if script.0.len() > 1 {
        script.0.pop();
    }
    let mut response = (StatusCode::from_u16(answer.0).unwrap(), answer.1).into_response();
    if let Some(seconds) = answer.2 {
        response.headers_mut().insert("retry-after", seconds.parse().unwrap());
    }
    response
}

fn client(url: &str, api_key: Option<&str>) -> CatenaBackend {
    let api_key = api_key.map(|key| Secret::from(key.to_owned()));
    CatenaBackend::new(&CatenaBackendOptions { url: url.to_owned(), api_key, ca: None }).unwrap()
}

#[tokio::test]
async fn over_http_it_speaks_canonical_json() {
    let game = r#"{"match":{"matchId":"m1","playerIds":["p"],"matchProperties":"{}"},"hintFlags":"HINT_FLAG_SHUTDOWN"}"#;
    let (url, script) = serve(&[(200, game, None), (200, r#"{"matchId":"m1","hintFlags":3}"#, None)]).await;
    let backend = client(&format!("{url}/prefix/"), Some("secret-key"));
    let request = RequestMatchRequest { hint_flags: 6, ..ask("s") };
    let response = backend.request_match(request).await.unwrap();
    assert_eq!((response.r#match.unwrap().match_id.as_str(), response.hint_flags), ("m1", 1));
    assert_eq!(backend.match_ready(ready("s", "m1", "h:1")).await.unwrap().hint_flags, 3);
    backend.end_match(end("s", "m1")).await.unwrap();
    let heard = script.0.lock().unwrap().1.clone();
    assert_eq!(
        heard,
        [
            r#"/prefix/api/v1/server/request_match Bearer secret-key {"serverId":"s","hintFlags":6}"#,
            r#"/prefix/api/v1/server/match_ready Bearer secret-key {"serverId":"s","matchId":"m1","connectionDetails":"h:1"}"#,
            r#"/prefix/api/v1/server/end_match Bearer secret-key {"serverId":"s","matchId":"m1"}"#,
        ]
    );
    assert!(!format!("{backend:?}").contains("secret-key"));
}

#[tokio::test]
async fn temporary_errors_mean_that_the_backend_is_away() {
    let busy = r#"{"code":14,"message":"about to end","details":[]}"#;
    let answers = [
        (500, "oops"),
        (502, "<html>"),
        (503, busy),
        (504, ""),
        (429, "{}"),
        (408, ""),
        (302, ""),
        (200, "<html>a portal</html>"),
        (200, "[]"),
        (500, r#"{"code":13,"message":"a bug"}"#),
    ];
    for (status, body) in answers {
        let (url, _) = serve(&[(status, body, None)]).await;
        let error = client(&url, None).match_ready(ready("s", "m1", "")).await.unwrap_err();
        assert!(matches!(error, BackendError::Away(_)), "{status} {body}: {error:?}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = listener.local_addr().unwrap();
    drop(listener);
    for scheme in ["http", "grpc"] {
        let error = client(&format!("{scheme}://{gone}"), None).end_match(end("s", "m1")).await.unwrap_err();
        assert!(matches!(&error, BackendError::Away(why) if why.contains("refused")), "{error:?}");
    }
}

#[tokio::test]
async fn a_permanent_error_is_a_refusal_with_the_backends_text() {
    let body = r#"{"code":9,"message":"not yours","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"match_not_held","domain":"sortie"}]}"#;
    let (url, _) = serve(&[(400, body, None)]).await;
    match client(&url, None).match_ready(ready("s", "m1", "")).await.unwrap_err() {
        BackendError::Refused(status) => {
            assert_eq!((status.code, status.message.as_str()), (9, "not yours"));
            assert_eq!(reason(&status).as_deref(), Some("match_not_held"));
        }
        other => panic!("{other:?}"),
    }
    let too_large = r#"{"code":8,"message":"too long","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"too_large","domain":"sortie"}]}"#;
    let answers = [
        (401, "", Code::Unauthenticated),
        (403, "no", Code::PermissionDenied),
        (404, "<html>", Code::NotFound),
        (413, too_large, Code::ResourceExhausted),
        (501, "", Code::Unimplemented),
    ];
    for (status, body, code) in answers {
        let (url, _) = serve(&[(status, body, None)]).await;
        match client(&url, None).end_match(end("s", "m1")).await.unwrap_err() {
            BackendError::Refused(refused) => assert_eq!(refused.code, i32::from(code), "{status}"),
            other => panic!("{status}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_pause_that_the_backend_asks_for_is_respected() {
    let (url, script) = serve(&[(503, "", Some("30")), (200, "{}", None)]).await;
    let backend = client(&url, None);
    for _ in 0..3 {
        let error = backend.end_match(end("s", "m1")).await.unwrap_err();
        assert!(matches!(error, BackendError::Away(_)));
    }
    assert_eq!(script.0.lock().unwrap().1.len(), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    backend.end_match(end("s", "m1")).await.unwrap();
}

#[tokio::test]
async fn an_endless_answer_is_not_read_to_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let endless = Router::new().fallback(|| async { vec![b' '; 5 << 20] });
    tokio::spawn(axum_serve(listener, endless));
    let error = client(&url, None).end_match(end("s", "m1")).await.unwrap_err();
    assert!(matches!(&error, BackendError::Away(why) if why.contains("longer than")), "{error:?}");
}

#[derive(Clone)]
struct Grpc;

#[tonic::async_trait]
impl CatenaServerManager for Grpc {
    async fn request_match(
        &self,
        request: tonic::Request<RequestMatchRequest>,
    ) -> Result<tonic::Response<RequestMatchResponse>, tonic::Status> {
        let bearer = request.metadata().get("authorization").unwrap().to_str().unwrap().to_owned();
        let game = Match { match_id: bearer, ..Match::default() };
        Ok(tonic::Response::new(RequestMatchResponse {
            r#match: Some(game),
            hint_flags: 1,
            matches: Vec::new(),
        }))
    }

    async fn match_ready(
        &self,
        _: tonic::Request<MatchReadyRequest>,
    ) -> Result<tonic::Response<MatchReadyResponse>, tonic::Status> {
        Err(tonic::Status::unavailable("about to end"))
    }

    async fn end_match(
        &self,
        _: tonic::Request<EndMatchRequest>,
    ) -> Result<tonic::Response<EndMatchResponse>, tonic::Status> {
        Err(sortie_wire::status::refusal(Code::FailedPrecondition, "match_not_held", "not yours").into())
    }

    async fn list_servers(
        &self,
        _: tonic::Request<ListServersRequest>,
    ) -> Result<tonic::Response<ListServersResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("no"))
    }

    async fn admin_allocate_server(
        &self,
        _: tonic::Request<AdminAllocateServerRequest>,
    ) -> Result<tonic::Response<AdminAllocateServerResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("no"))
    }

    async fn admin_deallocate_server(
        &self,
        _: tonic::Request<AdminDeallocateServerRequest>,
    ) -> Result<tonic::Response<AdminDeallocateServerResponse>, tonic::Status> {
        Err(tonic::Status::unimplemented("no"))
    }
}

#[tokio::test]
async fn over_grpc_the_same_means_the_same() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(CatenaServerManagerServer::new(Grpc));
    tokio::spawn(server.serve_with_incoming(incoming));
    let backend = client(&url, Some("key"));
    let response = backend.request_match(ask("s")).await.unwrap();
    assert_eq!((response.r#match.unwrap().match_id.as_str(), response.hint_flags), ("Bearer key", 1));
    let away = backend.match_ready(ready("s", "m1", "")).await.unwrap_err();
    assert_eq!(away, BackendError::Away("about to end".to_owned()));
    match backend.end_match(end("s", "m1")).await.unwrap_err() {
        BackendError::Refused(status) => assert_eq!(reason(&status).as_deref(), Some("match_not_held")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn over_tls_only_a_server_that_can_be_trusted_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = folder.path().join("certificate.pem");
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config =
        builder.unwrap().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let grpc = tonic::service::Routes::new(CatenaServerManagerServer::new(Grpc)).into_axum_router();
    let script = Script::default();
    script.0.lock().unwrap().0 = vec![(200, r#"{"match":{"matchId":"m1"}}"#, None)];
    let http = Router::new().route("/api/{*path}", axum::routing::post(scripted)).with_state(script);
    tokio::spawn(over(listener, http.merge(grpc.reset_fallback()), Some(Arc::new(config))));
    for (scheme, id) in [("https", "m1"), ("grpcs", "Bearer key")] {
        let url = format!("{scheme}://localhost:{port}");
        let api_key = Some(Secret::from("key".to_owned()));
        let trusting = CatenaBackendOptions { url, api_key, ca: Some(certificate.clone()) };
        let response = CatenaBackend::new(&trusting).unwrap().request_match(ask("s")).await.unwrap();
        assert_eq!(response.r#match.unwrap().match_id, id);
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let stranger = folder.path().join("stranger.pem");
        std::fs::write(&stranger, other.cert.pem()).unwrap();
        let wary = CatenaBackend::new(&CatenaBackendOptions { ca: Some(stranger), ..trusting }).unwrap();
        let error = wary.request_match(ask("s")).await.unwrap_err();
        assert!(matches!(&error, BackendError::Away(why) if why.contains("certificate")), "{error:?}");
    }
}

#[tokio::test]
async fn invalid_addresses_are_refused() {
    for url in [
        "",
        "localhost:7400",
        "ftp://host",
        "http://",
        "http://user:pw@host",
        "grpc://host/path",
        "http://h?x=1",
    ] {
        let options = CatenaBackendOptions { url: url.to_owned(), api_key: None, ca: None };
        let error = CatenaBackend::new(&options).unwrap_err().to_string();
        assert!(error.starts_with("url: "), "{url}: {error}");
    }
    let api_key = Some(Secret::from("a\nb".to_owned()));
    let options = CatenaBackendOptions { url: "http://h".to_owned(), api_key, ca: None };
    assert!(CatenaBackend::new(&options).unwrap_err().to_string().starts_with("ApiKey: "));
}

fn noop(content: &str, repeat: bool) -> Result<NoopBackend, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let options = NoopOptions { matches: Some(file.path().to_owned()), repeat };
    NoopBackend::new(&options).map_err(|error| error.to_string())
}

async fn given(backend: &NoopBackend) -> Option<Match> {
    backend.request_match(ask("s")).await.unwrap().r#match
}

#[tokio::test]
async fn noop_gives_the_matches_of_its_file() {
    let list = r#"[{"matchId":"a","playerIds":["p"],"matchProperties":{"map":"x"},"playerProperties":{"p":"{\"n\":1}"}},{"match_id":"b"}]"#;
    let backend = noop(list, false).unwrap();
    let first = given(&backend).await.unwrap();
    assert_eq!(first.match_properties, r#"{"map":"x"}"#);
    assert_eq!(first.player_properties, BTreeMap::from([("p".to_owned(), r#"{"n":1}"#.to_owned())]));
    assert_eq!(given(&backend).await.unwrap().match_id, "b");
    assert_eq!(given(&backend).await, None);

    let backend = noop(list, true).unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(given(&backend).await.unwrap().match_id);
    }
    assert_eq!(ids, ["a", "b", "a-2", "b-2", "a-3"]);
    let empty = NoopBackend::new(&NoopOptions::default()).unwrap();
    assert_eq!(given(&empty).await, None);
    assert_eq!(empty.match_ready(ready("s", "m", "")).await.unwrap().match_id, "m");
    assert_eq!(empty.end_match(end("s", "m")).await.unwrap().match_id, "m");
}

#[test]
fn noop_reports_problems_of_its_file() {
    for (content, problem) in [
        ("{", "must be a list of matches"),
        (r#"[{"matchId":"a","what":1}]"#, "what"),
        (r#"[{"matchId":"a"},{"matchId":"a"}]"#, "[1].matchId"),
        (r#"[{"matchId":"a","matchProperties":[1]}]"#, "[0].matchProperties"),
        (r#"[{"matchId":"a","playerProperties":{"p":"no"}}]"#, "[0].playerProperties[\"p\"]"),
    ] {
        let error = noop(content, false).unwrap_err();
        assert!(error.contains(problem), "{content}: {error}");
    }
    let options = NoopOptions { matches: Some("/no/such/file".into()), repeat: false };
    assert!(NoopBackend::new(&options).unwrap_err().to_string().contains("/no/such/file"));
}
