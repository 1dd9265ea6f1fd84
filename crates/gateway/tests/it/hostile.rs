//! Players who break the rules of websockets and of HTTP, flood, or never finish.

use std::time::Duration;

use futures::future::join_all;
use sortie_gateway::{GatewayOptions, MAX_BODY_BYTES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::harness::{Script, World, arena, options, within};

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
/// The last, or only, frame of a message.
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// A frame with a zero mask: RFC 6455, section 5.2.
fn frame(head: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..126) => bytes.push(MASKED | length as u8),
        Ok(length) => bytes.extend([&[MASKED | 126], length.to_be_bytes().as_slice()].concat()),
        Err(_) => bytes.extend([&[MASKED | 127], (payload.len() as u64).to_be_bytes().as_slice()].concat()),
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

/// A websocket whose frames are made by hand.
async fn upgraded(world: &World) -> TcpStream {
    let mut stream = within(TcpStream::connect(world.address)).await.unwrap();
    let request = "GET /matchmaker/ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    within(stream.write_all(request.as_bytes())).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(stream.read_u8()).await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

async fn refusing() -> World {
    let options = GatewayOptions {
        default_game: None,
        first_message_deadline: Duration::from_millis(200),
        ..options(vec![arena(4)])
    };
    World::start(Script::default(), options).await
}

/// Sends `bytes` and waits until the gateway closes.
async fn break_the_rules(world: &World, what: &str, bytes: Vec<u8>) {
    let (mut reading, mut writing) = upgraded(world).await.into_split();
    let mut answer = Vec::new();
    let write = async {
        // If refused early, it is not read completely.
        let _ = writing.write_all(&bytes).await;
        writing
    };
    // Closed is closed, orderly or not.
    let (_writing, _) = within(async { tokio::join!(write, reading.read_to_end(&mut answer)) }).await;
    let heard = String::from_utf8_lossy(&answer);
    assert!(!heard.contains("SessionReady") && !heard.contains("Acknowledged"), "{what}: {heard}");
}

#[tokio::test]
async fn frames_that_break_the_rules() {
    let world = refusing().await;
    let before = world.last_seq().await;
    let deep = format!("{{\"game\": {}", "[".repeat(10_000));
    let table = [
        ("not masked", vec![FIN | TEXT, 2, b'{', b'}']),
        ("no such kind", frame(FIN | 0xb, b"")),
        ("reserved bits", frame(FIN | 0x70 | TEXT, b"{}")),
        ("nothing to continue", frame(FIN | CONTINUED, b"{}")),
        ("a message inside another", [frame(TEXT, b"{"), frame(FIN | TEXT, b"}")].concat()),
        ("a ping in parts", frame(PING, b"")),
        ("a long ping", frame(FIN | PING, &[0; 126])),
        (
            "longer than there is memory",
            [&[FIN | TEXT, MASKED | 127], u64::MAX.to_be_bytes().as_slice()].concat(),
        ),
        (
            "a length with too many bytes",
            [&[FIN | TEXT, MASKED | 127], 3_u64.to_be_bytes().as_slice(), b"0000{} "].concat(),
        ),
        ("no UTF-8", frame(FIN | TEXT, b"{\"game\": \"\xff\"}")),
        ("no UTF-8 where it is cut", [frame(TEXT, b"\xf0\x9f"), frame(FIN | CONTINUED, b"{}")].concat()),
        ("bytes", frame(FIN | BINARY, &[0xff; 1000])),
        ("deep", frame(FIN | TEXT, deep.as_bytes())),
        ("controls", frame(FIN | TEXT, b"{\"game\": \"a\\u0000\", \"version\": \"\\n\"}")),
        ("half a surrogate", frame(FIN | TEXT, b"{\"game\": \"\\ud800\", \"version\": \"1\"}")),
        (
            "parts without end",
            frame(TEXT, b"{").into_iter().chain(frame(CONTINUED, b" ").repeat(10_000)).collect(),
        ),
        (
            "parts that add up",
            frame(TEXT, b"{")
                .into_iter()
                .chain(frame(CONTINUED, &vec![b' '; MAX_BODY_BYTES]).repeat(8))
                .collect(),
        ),
        ("nothing but pings", frame(FIN | PING, b"x").repeat(10_000)),
        ("half a frame", vec![FIN | TEXT]),
    ];
    // All at once: the gateway gives each some time for an orderly close, which none of them does.
    join_all(table.into_iter().map(|(what, bytes)| break_the_rules(&world, what, bytes))).await;
    assert_eq!(world.last_seq().await, before);
    assert_eq!(world.get("/").await.status(), 200);
}

#[tokio::test]
async fn requests_that_break_the_rules() {
    let world = refusing().await;
    let before = world.last_seq().await;
    let large = format!("{{\"game\": \"{}\"}}", "x".repeat(MAX_BODY_BYTES));
    for path in
        ["/wannaplay", "/matchmaker/wannaplay", "/matchmaker/request/none/1", "/matchmaker/request/%ff/%00"]
    {
        for body in [
            b"{".as_slice(),
            b"[[]]",
            b"null x",
            b"{\"game\": 1}",
            b"{\"game\": \"\xff\"}",
            b"{\"game\": \"\\ud800\"}",
            b"{\"client_ip\": \"999.1.1.1\", \"game\": \"none\", \"version\": \"1\"}",
            &[b'['; 10_000],
            &[0; 100],
            large.as_bytes(),
        ] {
            let answer = within(world.http.post(world.url(path)).body(body.to_vec()).send()).await.unwrap();
            let status = answer.status();
            assert!(
                status.is_client_error(),
                "{path} {}: {status}",
                String::from_utf8_lossy(&body[..body.len().min(50)])
            );
        }
        for query in ["game=%ff&version=%00", "game=a&game=b", "version=&game=", "client_ip=::::", "=&=&="] {
            let answer = world.post(&format!("{path}?{query}")).await;
            assert!(answer.status().is_client_error(), "{path}?{query}: {}", answer.status());
        }
    }
    assert_eq!(world.last_seq().await, before);
}

#[tokio::test]
async fn a_first_message_that_drips_is_not_waited_for() {
    let world = refusing().await;
    let stream = upgraded(&world).await;
    let (mut reading, mut writing) = stream.into_split();
    let drip = async move {
        // Pings do not keep a connection alive without a request.
        while writing.write_all(&frame(FIN | PING, b"x")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = Vec::new();
    let (_, _) = within(async { tokio::join!(drip, reading.read_to_end(&mut answer)) }).await;
    assert!(String::from_utf8_lossy(&answer).contains("ERR no message came in time"));
}
