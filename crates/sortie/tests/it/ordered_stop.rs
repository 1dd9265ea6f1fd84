//! An ordered stop, at every port: it waits for nothing that is only half sent, and answers of calls that wait arrive.

use std::collections::BTreeMap;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use rustix::process::Signal;
use serde_json::{Value, json};
use sortie_wire::catena::server_manager::RequestMatchRequest;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::control_plane::REQUEST;
use crate::dispatcher::{Dispatcher, free_port, rest};
use crate::sidecar::{Sidecar, settings};
use crate::site::{Site, idle_fleet, signal, soon};

const WILLING_TO_WAIT: u32 = 2;
const UNAVAILABLE: &str = "14";
/// The first bytes of a masked binary message of 1,000 bytes.
const HALF_FRAME: [u8; 9] = [0x82, 0xFE, 0x03, 0xE8, 1, 2, 3, 4, 5];
/// A close frame's opcode and length without a reason, and GOING_AWAY.
const CLOSE: u8 = 0x88;
const GOING_AWAY: [u8; 2] = 1001_u16.to_be_bytes();

/// A connection on which these bytes were sent.
async fn say(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// A request with a body of two bytes, of which one is sent.
async fn half_body(address: &str, call: &str) -> TcpStream {
    let head = format!(
        "{call} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n",
        crate::dispatcher::SECRET
    );
    say(address, format!("{head}content-type: application/json\r\ncontent-length: 2\r\n\r\n{{").as_bytes())
        .await
}

/// A websocket, and on it half a frame.
async fn half_frame(address: &str, path: &str) -> TcpStream {
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n",
        crate::dispatcher::SECRET
    );
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut bytes = format!("{head}{upgrade}").into_bytes();
    bytes.extend(HALF_FRAME);
    say(address, &bytes).await
}

/// What a connection brings until it ends.
async fn answer(mut stream: TcpStream) -> String {
    String::from_utf8_lossy(&rest(&mut stream).await).into_owned()
}

/// A connection that ends without an answer, because no call was made on it.
async fn no_answer(mut stream: TcpStream) {
    assert_eq!(String::from_utf8_lossy(&rest(&mut stream).await), "");
}

/// A gRPC call with half a message.
struct HalfCall {
    response: ResponseFuture,
    _body: SendStream<Bytes>,
    _calls: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

impl HalfCall {
    async fn start(address: &str, path: &str) -> Self {
        let stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        let (mut calls, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let request = axum::http::Request::post(format!("http://{address}{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let (response, mut body) = calls.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(&[0, 0, 0, 0, 9, 1]), false).unwrap();
        Self { response, _body: body, _calls: calls, connection }
    }

    /// The status of the answer, and then the connection ends.
    async fn status(self) -> String {
        let (head, mut body) = soon("an answer", self.response).await.unwrap().into_parts();
        while let Some(piece) = body.data().await {
            piece.unwrap();
        }
        let trailers = body.trailers().await.unwrap().unwrap_or_default();
        let status = head.headers.get("grpc-status").or(trailers.get("grpc-status")).unwrap();
        soon("the end of a connection", self.connection).await.unwrap();
        status.to_str().unwrap().to_owned()
    }
}

/// Whatever was sent to this port before has been taken.
async fn reached(address: &str, path: &str) {
    let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let told = answer(say(address, ask.as_bytes()).await).await;
    assert!(told.starts_with("HTTP/1.1 "), "{told}");
}

/// A game server that waits for a match over gRPC.
fn waits_over_grpc(address: &str) -> JoinHandle<Result<bool, tonic::Status>> {
    let address = format!("http://{address}");
    tokio::spawn(async move {
        let mut calls = CatenaServerManagerClient::connect(address).await.unwrap();
        let server_id = "waits-over-grpc".to_owned();
        let asks = RequestMatchRequest { server_id, hint_flags: WILLING_TO_WAIT, ..Default::default() };
        calls.request_match(asks).await.map(|answer| answer.into_inner().r#match.is_some())
    })
}

/// Half requests to ports of one process, and the status that the answer begins with, if there is one.
async fn half_requests(ports: &BTreeMap<&str, Vec<&str>>) -> Vec<(String, TcpStream)> {
    let mut halves = Vec::new();
    for (address, calls) in ports {
        for call in calls {
            halves.push(((*call).to_owned(), half_body(address, call).await));
        }
    }
    halves
}

#[tokio::test]
async fn the_port_of_a_control_plane_waits_for_nothing_half_sent_and_answers() {
    let mut game = idle_fleet();
    (game["game"], game["version"]) = (json!("g"), json!("1"));
    let site = Site::with_config(&json!({
        "dev": true, "shutdown_deadline": "10m", "fleets": {"quiet": game},
        "limits": {"body_time": "10m", "idle_time": "1h"},
        "dispatch": {"enabled": true, "limits": {"close_time": "1h"}},
    }));
    let control_plane = site.up(&[]).await;
    let address = control_plane.url.strip_prefix("http://").unwrap();
    let calls = vec!["POST /v1/matches", "POST /api/v1/server/request_match", "POST /matchmaker/wannaplay"];
    let halves = half_requests(&BTreeMap::from([(address, calls)])).await;
    let head = say(address, b"GET /healthz HTTP/1.1\r\nhost: loc").await;
    let grpc =
        HalfCall::start(address, "/catena.catena_server_manager.CatenaServerManager/RequestMatch").await;
    let mut player = half_frame(address, "/matchmaker/ws").await;
    let path = format!("/api/dispatch/v1/tcp_dispatch?port={}&accept=127.0.0.1", free_port());
    let mut driver = half_frame(address, &path).await;
    // Calls that wait: for a match over both protocols, and for a seat.
    let waits = json!({"serverId": "waits", "hintFlags": WILLING_TO_WAIT}).to_string();
    let waiting = tokio::spawn(control_plane.request("POST", REQUEST).body(waits).send());
    let waiting_grpc = waits_over_grpc(address);
    let joining =
        tokio::spawn(control_plane.request("POST", "/matchmaker/wannaplay?game=g&version=1").send());
    for server in ["waits", "waits-over-grpc"] {
        control_plane.event("sortie.server.registered", Some(server)).await;
    }
    control_plane.event("sortie.seat.reserved", None).await;
    reached(address, "/healthz").await;
    control_plane.signal(Signal::TERM);
    for (call, half) in halves {
        let told = answer(half).await;
        assert!(told.starts_with("HTTP/1.1 503") && told.contains("shutting"), "{call}: {told}");
    }
    no_answer(head).await;
    assert_eq!(grpc.status().await, UNAVAILABLE);
    let told = String::from_utf8_lossy(&rest(&mut player).await).into_owned();
    assert!(told.starts_with("HTTP/1.1 101") && told.contains("503"), "{told}");
    let told = rest(&mut driver).await;
    assert!(told.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&told));
    let close = told.windows(4).find(|window| window[0] == CLOSE);
    assert_eq!(close.map(|close| &close[2..]), Some(&GOING_AWAY[..]));
    let waited = soon("an answer", waiting).await.unwrap().unwrap();
    assert_eq!((waited.status().as_u16(), waited.json::<Value>().await.unwrap()), (200, json!({})));
    assert!(!soon("an answer", waiting_grpc).await.unwrap().unwrap());
    assert_eq!(soon("an answer", joining).await.unwrap().unwrap().status(), 503);
    // Neither of them closes its side.
    assert_eq!(control_plane.ended().await.code(), Some(0), "{}", site.stderr());
    drop((player, driver));
    assert!(!site.stderr().contains("are aborted"), "{}", site.stderr());
}

#[tokio::test]
async fn the_port_of_a_dispatcher_waits_for_nothing_half_sent() {
    let site = Site::with_config(&json!({
        "shutdown_deadline": "10m", "limits": {"body_time": "10m", "idle_time": "1h"},
        "dispatch": {"limits": {"close_time": "1h"}},
    }));
    let mut dispatcher = Dispatcher::start(&site).await;
    let address = dispatcher.address.clone();
    let issue = half_body(&address, "POST /v1/dispatch/tokens").await;
    let head = say(&address, b"GET /api/server/healthz HTTP/1.1\r\nhost: loc").await;
    let path = format!("/api/dispatch/v1/tcp_dispatch?port={}&accept=127.0.0.1", free_port());
    let mut driver = half_frame(&address, &path).await;
    dispatcher.until("the driver", |stats| stats["drivers"] == 1).await;
    signal(dispatcher.process.pid, Signal::TERM);
    let told = answer(issue).await;
    assert!(told.starts_with("HTTP/1.1 503"), "{told}");
    no_answer(head).await;
    let told = rest(&mut driver).await;
    let close = told.windows(4).find(|window| window[0] == CLOSE);
    assert_eq!(close.map(|close| &close[2..]), Some(&GOING_AWAY[..]));
    // It does not close its side.
    assert_eq!(dispatcher.process.ended().await.code(), Some(0), "{}", dispatcher.process.log());
    drop(driver);
    assert!(!dispatcher.process.log().contains("are aborted"), "{}", dispatcher.process.log());
}

#[tokio::test]
async fn the_ports_of_a_sidecar_wait_for_nothing_half_sent_and_answer() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let mut settings = settings(&control_plane.url);
    let any = json!({"GrpcListenAddr": "127.0.0.1:0", "HttpListenAddr": "127.0.0.1:0"});
    settings["app"]["event_source"] = json!({
        "use": ["catena_api_event_source", "agones_sdk_event_source"],
        "configs": {"catena_api_event_source": any, "agones_sdk_event_source": any},
    });
    settings["app"]["event_source"]["configs"]["agones_sdk_event_source"]["Ports"] =
        json!([{"Name": "game", "Port": 7777}]);
    settings["app"]["sidecar"]["DebugPanelAddr"] = json!("127.0.0.1:0");
    let mut sidecar = Sidecar::start(&site, &settings).await;
    let catena = sidecar.address("catena_api_event_source: HTTP").to_owned();
    let agones = sidecar.address("agones_sdk_event_source: HTTP").to_owned();
    let panel = sidecar.address("debug_panel: HTTP").to_owned();
    let halves = half_requests(&BTreeMap::from([
        (catena.as_str(), vec!["POST /api/v1/server/request_match"]),
        (agones.as_str(), vec!["PUT /metadata/label"]),
        (panel.as_str(), vec!["POST /api/v1/servers/launch"]),
    ]))
    .await;
    let mut heads = Vec::new();
    for address in [&catena, &agones, &panel] {
        heads.push(say(address, b"GET / HTTP/1.1\r\nhost: loc").await);
    }
    let catena_grpc = sidecar.address("catena_api_event_source: gRPC").to_owned();
    let agones_grpc = sidecar.address("agones_sdk_event_source: gRPC").to_owned();
    let grpc = [
        HalfCall::start(&catena_grpc, "/catena.catena_server_manager.CatenaServerManager/RequestMatch").await,
        HalfCall::start(&agones_grpc, "/agones.dev.sdk.SDK/SetLabel").await,
    ];
    let url = format!("{}{REQUEST}", sidecar.http());
    let http = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
    let waits = json!({"serverId": "waits", "hintFlags": WILLING_TO_WAIT}).to_string();
    let waiting = tokio::spawn(http.post(url).body(waits).send());
    let waiting_grpc = waits_over_grpc(&catena_grpc);
    for server in ["waits", "waits-over-grpc"] {
        control_plane.event("sortie.server.registered", Some(server)).await;
    }
    for address in [&catena, &agones, &panel] {
        reached(address, "/healthz").await;
    }
    signal(sidecar.process.pid, Signal::TERM);
    for (call, half) in halves {
        let told = answer(half).await;
        assert!(told.starts_with("HTTP/1.1 503"), "{call}: {told}");
    }
    for head in heads {
        no_answer(head).await;
    }
    for call in grpc {
        assert_eq!(call.status().await, UNAVAILABLE);
    }
    let waited = soon("an answer", waiting).await.unwrap().unwrap();
    assert_eq!((waited.status().as_u16(), waited.json::<Value>().await.unwrap()), (200, json!({})));
    assert!(!soon("an answer", waiting_grpc).await.unwrap().unwrap());
    assert_eq!(sidecar.process.ended().await.code(), Some(0), "{}", sidecar.process.log());
    assert!(!sidecar.process.log().contains("are aborted"), "{}", sidecar.process.log());
}
