//! HTTP/2 and gRPC peers that break the rules, flood, or never finish.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use sortie_api::calls;
use sortie_serving::Limits;
use sortie_wire::catena::server_manager::RequestMatchRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::harness::{Server, soon};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types and flags of RFC 9113.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A connection that is aborted when it is dropped.
struct Connection {
    calls: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn connect(server: &Server) -> Connection {
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let (calls, connection) = soon(h2::client::handshake(stream)).await.unwrap();
    let driver = tokio::spawn(async move { drop(connection.await) });
    Connection { calls, driver }
}

fn head(server: &Server, path: &str, headers: &[(&str, &str)]) -> axum::http::Request<()> {
    let request = axum::http::Request::post(format!("http://{}{path}", server.address));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(()).unwrap()
}

const GRPC: [(&str, &str); 2] = [("content-type", "application/grpc"), ("te", "trailers")];

/// The answer: the HTTP status, and the gRPC status from the headers or the trailers. `None` if the stream or the
/// connection ended without an answer.
async fn call(
    server: &Server,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Option<(u16, Option<u16>)> {
    let connection = connect(server).await;
    let mut calls = soon(connection.calls.clone().ready()).await.unwrap();
    let (answer, mut sending) = calls.send_request(head(server, path, headers), false).unwrap();
    sending.send_data(body.into(), true).unwrap();
    let answer = soon(answer).await.ok()?;
    let code =
        |headers: &axum::http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse::<u16>().ok();
    let (status, early) = (answer.status().as_u16(), code(answer.headers()));
    let mut body = answer.into_body();
    if early.is_some() || status != 200 {
        return Some((status, early));
    }
    while let Some(data) = soon(body.data()).await {
        let data = data.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
    }
    let trailers = soon(body.trailers()).await.ok()?;
    Some((status, trailers.as_ref().and_then(code)))
}

/// A gRPC message: not compressed, with its real length.
fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[flag], length.to_be_bytes().as_slice(), message].concat()
}

fn unary() -> Vec<String> {
    let names = calls().into_iter().filter_map(|call| Some(call.strip_prefix("POST ")?.to_owned()));
    names.filter(|path| path[1..].contains('.') && !path.contains("Reflection")).collect()
}

#[tokio::test]
async fn messages_that_are_none() {
    let server = Server::start().await.with_fleet().await;
    let before = server.state().await;
    let table = [
        ("nothing", Vec::new()),
        ("half a prefix", vec![0, 0]),
        ("compressed", framed(1, 2, b"\x0a\x00")),
        ("no such flag", framed(9, 0, b"")),
        ("shorter than it says", framed(0, 100, b"\x0a\x01a")),
        ("longer than allowed", framed(0, u32::MAX, b"\x0a\x01a")),
        ("garbage", framed(0, 8, &[0xff; 8])),
        ("a field cut off", framed(0, 2, b"\x0a\x7f")),
        ("a group that never ends", framed(0, 4, &[0x0b; 4])),
        ("text that is no UTF-8", framed(0, 4, b"\x0a\x02\xff\xfe")),
        ("groups in groups", framed(0, 10_000, &[0x0b; 10_000])),
    ];
    for path in unary() {
        for (what, body) in &table {
            let found = soon(call(&server, &path, &GRPC, body.clone())).await;
            // A refused caller does not have to send a whole message to get the error.
            let harmless = path.contains("Health")
                || path.contains("List")
                || path.contains("Subscribe")
                || path.contains("Get");
            let refused = found.is_none_or(|(status, code)| {
                (400..500).contains(&status) || code.is_some_and(|code| code > 0)
            });
            assert!(refused || harmless, "{path} {what}: {found:?}");
            assert!(server.state().await == before, "{path} {what} left a trace");
        }
        for headers in [
            &[("content-type", "text/plain"), ("te", "trailers")][..],
            &[("content-type", "application/grpc-web"), ("te", "trailers")],
            &[("te", "trailers")],
            &[("content-type", "application/grpc"), ("te", "trailers"), ("grpc-encoding", "gzip")],
            &[("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "soon")],
        ] {
            let found = soon(call(&server, &path, headers, framed(1, 2, b"\x0a\x00"))).await;
            assert!(found.is_none_or(|(status, _)| status < 500), "{path} {headers:?}: {found:?}");
        }
    }
    assert!(server.state().await == before);
}

#[tokio::test]
async fn values_that_are_none() {
    use prost::Message as _;
    let server = Server::start().await;
    let before = server.state().await;
    let path = "/catena.catena_server_manager.CatenaServerManager/RequestMatch";
    let good = RequestMatchRequest { server_id: "s".into(), ..RequestMatchRequest::default() };
    for request in [
        RequestMatchRequest { hint_flags: 32, ..good.clone() },
        RequestMatchRequest { hint_flags: u32::MAX, ..good.clone() },
        RequestMatchRequest { server_id: "a\0b".into(), ..good.clone() },
        RequestMatchRequest { server_id: "x".repeat(100_000), ..good.clone() },
        RequestMatchRequest { requirements: "[".repeat(10_000), ..good.clone() },
        RequestMatchRequest { requirements: "x".repeat(1 << 20), ..good },
    ] {
        let message = request.encode_to_vec();
        let found = call(&server, path, &GRPC, framed(0, message.len() as u32, &message)).await;
        let refused = found.is_none_or(|(_, code)| matches!(code, Some(3 | 8 | 11)));
        assert!(refused, "{found:?} {:.100}", format!("{request:?}"));
        assert!(server.state().await == before, "{found:?} left a trace");
    }
    // A number without a name, a list of a hundred thousand players.
    let settings = [0x08, 0xff, 0xff, 0xff, 0xff, 0x07];
    let path = "/catena.catena_match_broker.CatenaMatchBroker/AdminXReconfigureMatchBroker";
    let found = call(&server, path, &GRPC, framed(0, 6, &settings)).await;
    assert!(found.is_some_and(|(_, code)| code != Some(0)), "{found:?}");
    let mut players = Vec::new();
    for _ in 0..100_000 {
        players.extend([0x12, 1, b'p']);
    }
    let path = "/catena.catena_server_manager.CatenaServerManager/AdminAllocateServer";
    let found = call(&server, path, &GRPC, framed(0, players.len() as u32, &players)).await;
    assert!(found.is_some_and(|(_, code)| code != Some(0)), "{found:?}");
    assert!(server.state().await == before);
}

#[tokio::test]
async fn a_message_that_never_ends_is_not_waited_for() {
    let limits = Limits { body_time: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start_limited(limits).await;
    let before = server.state().await;
    let connection = connect(&server).await;
    for path in unary() {
        let mut calls = soon(connection.calls.clone().ready()).await.unwrap();
        let (answer, mut sending) = calls.send_request(head(&server, &path, &GRPC), false).unwrap();
        sending.send_data(framed(0, 1000, b"\x0a").into(), false).unwrap();
        let answer = soon(answer).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4", "{path}");
    }
    assert!(server.state().await == before);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], stream.to_be_bytes().as_slice(), payload].concat()
}

/// `POST /healthz`, in HPACK's static table and literals.
fn fields() -> Vec<u8> {
    [b"\x83\x86\x04\x08/healthz\x01\x01x".as_slice()].concat()
}

/// Sends one frame after the other until the server gives up, or the flood is over; both are fine if it keeps serving
/// others.
async fn flood(server: &Server, frames: impl Iterator<Item = Vec<u8>> + Send + 'static) {
    let stream = TcpStream::connect(&server.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let writer = tokio::spawn(async move {
        let opening = [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        if writing.write_all(&opening).await.is_err() {
            return;
        }
        let mut frames = frames.peekable();
        while frames.peek().is_some() {
            let some: Vec<u8> = frames.by_ref().take(100).flatten().collect();
            if writing.write_all(&some).await.is_err() {
                return;
            }
        }
        let _ = writing.shutdown().await;
    });
    let mut sink = Vec::new();
    let _ = soon(reading.read_to_end(&mut sink)).await;
    soon(writer).await.unwrap();
    assert!(sink.len() < 1 << 20, "{} bytes came back", sink.len());
    let answer = soon(server.request("GET", "/healthz").send()).await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn floods() {
    const FRAMES: u32 = 20_000;
    let mut server = Server::start().await;
    let before = server.state().await;
    let streams = || (0..FRAMES).map(|number| 2 * number + 1);
    let fields = fields();
    let open = fields.clone();
    // Streams that are opened and reset at once.
    flood(
        &server,
        streams().flat_map(move |id| {
            [frame(HEADERS, END_HEADERS, id, &open), frame(RST_STREAM, 0, id, &8_u32.to_be_bytes())]
        }),
    )
    .await;
    // More streams than may be open.
    flood(&server, streams().map(move |id| frame(HEADERS, END_HEADERS, id, &fields))).await;
    flood(&server, (0..FRAMES).map(|_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]))).await;
    flood(&server, (0..FRAMES).map(|_| frame(PING, 0, 0, &[0; 8]))).await;
    flood(&server, (0..FRAMES).map(|_| frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()))).await;
    // Headers that never end, and headers that grow when they are decompressed.
    let first = std::iter::once(frame(HEADERS, END_STREAM, 1, &[0x83]));
    flood(&server, first.chain((0..FRAMES).map(|_| frame(CONTINUATION, 0, 1, &[0; 1])))).await;
    let mut bomb = vec![0x83, 0x86, 0x84, 0x40, 1, b'a', 0x7f, 0x81, 0x1e];
    bomb.extend([b'b'; 4000]);
    bomb.extend([0xbe; 12_000]);
    flood(&server, std::iter::once(frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))).await;
    // Invalid frames: too long, on the wrong stream, of an unknown kind.
    flood(&server, std::iter::once([&[0xff; 9][..], &[0; 100]].concat())).await;
    flood(&server, std::iter::once(frame(HEADERS, END_HEADERS, 2, &[0x83]))).await;
    flood(&server, std::iter::once(frame(SETTINGS, 0, 1, &[1]))).await;
    flood(&server, (0..FRAMES).map(|_| frame(0xee, 0xff, 77, &[1; 8]))).await;
    assert!(server.state().await == before);
    server.closing.cancel();
    soon(server.served.take().unwrap()).await.unwrap();
}
