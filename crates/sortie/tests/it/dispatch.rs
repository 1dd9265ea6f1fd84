//! `sortie dispatch`, and the dispatcher of `sortie up`: the binary with real sockets.

use std::net::{Ipv4Addr, TcpListener};

use futures::{SinkExt as _, StreamExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};
use sortie_dispatch::frame::{Frame, Kind};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::dispatcher::{device, free_port};
use crate::ready::Ready;
use crate::site::{Finished, Site, finish, fixed_address, idle_fleet, signal, soon};
use crate::tls::certify;

const SECRET: &str = "what drivers of this test show";
const FAMILIES: [&str; 2] = ["/api/server", "/api/dispatch/v1"];

/// A dispatcher that serves; killed when dropped.
struct Dispatcher {
    process: Ready,
    url: String,
}

fn command(site: &Site, flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = site.sortie(&["dispatch"]);
    for name in ["PLACE_SERVER_SECRET", "SERVER_SECRET", "SG_ENV", "SG_SERVER_HOST", "SG_SERVER_PORT"] {
        command.env_remove(name);
    }
    command.args(flags).envs(variables.iter().copied());
    command
}

impl Dispatcher {
    async fn start(site: &Site, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let process = Ready::start(site, "dispatch", command(site, flags, variables)).await;
        let [line] = process.said.as_slice() else { panic!("{:?}", process.said) };
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { process, url }
    }
}

/// Runs `sortie dispatch`, which is expected to refuse.
async fn refused(site: &Site, flags: &[&str], variables: &[(&str, &str)]) -> String {
    let Finished { code, stdout, stderr } = finish(command(site, flags, variables)).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    stderr
}

/// Status and text of the answer to a request.
async fn call(method: &str, url: &str, bearer: Option<&str>, body: &Value) -> (u16, String) {
    let http = sortie_tls::http_client(url, None).unwrap().build().unwrap();
    let mut request = http.request(method.parse().unwrap(), url);
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    if !body.is_null() {
        request = request.json(body);
    }
    let response = soon(url, request.send()).await.unwrap();
    (response.status().as_u16(), soon(url, response.text()).await.unwrap())
}

async fn get(url: &str, bearer: Option<&str>) -> (u16, String) {
    call("GET", url, bearer, &Value::Null).await
}

fn json_of((status, text): (u16, String)) -> (u16, Value) {
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text:?}")))
}

/// A driver's end of a websocket.
struct Driver<S>(WebSocketStream<S>);

impl Driver<TcpStream> {
    /// A websocket, or status and text of the refusal.
    async fn open(base: &str, path: &str, bearer: Option<&str>) -> Result<Self, (u16, String)> {
        let host = base.strip_prefix("http://").unwrap();
        let stream = soon("a connection", TcpStream::connect(host)).await.unwrap();
        Self::over(stream, &format!("ws://{host}{path}"), bearer).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    async fn over(stream: S, url: &str, bearer: Option<&str>) -> Result<Self, (u16, String)> {
        let mut request = url.into_client_request().unwrap();
        if let Some(bearer) = bearer {
            request.headers_mut().insert("authorization", format!("Bearer {bearer}").parse().unwrap());
        }
        match soon("an answer to the handshake", Box::pin(client_async(request, stream))).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => {
                let text = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default()).into_owned();
                Err((answer.status().as_u16(), text))
            }
            Err(error) => panic!("{url}: {error}"),
        }
    }

    /// Kind, id and payload of the next message; `Err` is the close frame's code and reason.
    async fn hear(&mut self) -> Result<(Kind, u64, Vec<u8>), (u16, String)> {
        loop {
            match soon("a message", self.0.next()).await {
                Some(Ok(Message::Binary(message))) => {
                    let frame = Frame::decode(&message).unwrap();
                    return Ok((frame.kind, frame.id, frame.payload.to_vec()));
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.unwrap();
                    return Err((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The id of the device that connects.
    async fn opened(&mut self) -> u64 {
        let (kind, id, _) = self.hear().await.unwrap();
        assert_eq!(kind, Kind::Opened);
        id
    }

    async fn write(&mut self, id: u64, payload: &[u8]) {
        let mut message = Vec::new();
        Frame { kind: Kind::Write, address: "127.0.0.1", id, payload }.encode(&mut message);
        soon("room for a message", self.0.send(Message::Binary(message.into()))).await.unwrap();
    }

    /// What comes from the device, until it is this.
    async fn receive(&mut self, wanted: &[u8]) {
        let mut all = Vec::new();
        while all.len() < wanted.len() {
            let (kind, _, payload) = self.hear().await.unwrap();
            assert_eq!(kind, Kind::Received);
            all.extend(payload);
        }
        assert_eq!(all, wanted);
    }
}

async fn exactly(device: &mut TcpStream, wanted: &[u8]) {
    let mut found = vec![0; wanted.len()];
    soon("what the driver wrote", device.read_exact(&mut found)).await.unwrap();
    assert_eq!(found, wanted);
}

/// Bytes go through both ways.
async fn passes<S: AsyncRead + AsyncWrite + Unpin>(driver: &mut Driver<S>, port: u16) -> (u64, TcpStream) {
    let mut device = device(port).await;
    let id = driver.opened().await;
    device.write_all(b"from the device").await.unwrap();
    driver.receive(b"from the device").await;
    driver.write(id, b"from the driver").await;
    exactly(&mut device, b"from the driver").await;
    (id, device)
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[tokio::test]
async fn it_serves_as_the_environment_says_under_both_path_families() {
    let site = Site::new();
    let variables = [
        ("PLACE_SERVER_SECRET", SECRET),
        ("SERVER_SECRET", "another"),
        ("SG_SERVER_HOST", "127.0.0.1"),
        ("SG_SERVER_PORT", "0"),
    ];
    let dispatcher = Dispatcher::start(&site, &[], &variables).await;
    let url = &dispatcher.url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    for family in FAMILIES {
        let port = free_port();
        let path =
            |kind: &str, token: &str| format!("{family}/{kind}_dispatch?port={port}&accept=127.0.0.1{token}");
        assert_eq!(Driver::open(url, &path("tcp", ""), None).await.err().unwrap().0, 401);
        assert_eq!(Driver::open(url, &path("tcp", ""), Some("another")).await.err().unwrap().0, 401);
        let mut driver = Driver::open(url, &path("tcp", ""), Some(SECRET)).await.unwrap();
        let _device = passes(&mut driver, port).await;
        let token = format!("&bearer_token={}", SECRET.replace(' ', "%20"));
        let mut datagrams = Driver::open(url, &path("udp", &token), None).await.unwrap();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(b"a datagram", (Ipv4Addr::LOCALHOST, port)).await.unwrap();
        datagrams.receive(b"a datagram").await;

        let (status, listing) = json_of(get(&format!("{url}{family}"), Some(SECRET)).await);
        let number = port.to_string();
        assert_eq!(status, 200);
        assert_eq!(listing["tcp_listeners"][&number], 1, "{listing}");
        assert_eq!(listing["tcp_clients"][&number], 1, "{listing}");
        assert_eq!(listing["udp_listeners"][&number], 1, "{listing}");
        assert_eq!(get(&format!("{url}{family}"), None).await.0, 401);
        assert_eq!(get(&format!("{url}{family}/healthz"), None).await.0, 200);
        let (_, version) = json_of(get(&format!("{url}{family}/version"), None).await);
        assert_eq!(
            (&version["service"], &version["version"]),
            (&json!("dispatch"), &json!(env!("CARGO_PKG_VERSION")))
        );
    }
    let (status, nothing) = json_of(get(&format!("{url}/none"), None).await);
    assert_eq!((status, &nothing["error"]["code"]), (404, &json!("not_found")));
    assert!(!dispatcher.process.log().contains(SECRET));
}

#[tokio::test]
async fn production_says_less() {
    for (environment, is_said) in [("production", false), ("development", true)] {
        let site = Site::new();
        let variables = [("SERVER_SECRET", SECRET), ("SG_SERVER_PORT", "0"), ("SG_ENV", environment)];
        let mut dispatcher = Dispatcher::start(&site, &[], &variables).await;
        let path = format!("/api/server/tcp_dispatch?port={}&accept=127.0.0.1", free_port());
        let mut driver = Driver::open(&dispatcher.url, &path, Some(SECRET)).await.unwrap();
        driver.0.close(None).await.unwrap();
        // Answered after it was noted.
        soon("the end of a websocket", async { while driver.0.next().await.is_some() {} }).await;
        signal(dispatcher.process.pid, Signal::TERM);
        assert_eq!(dispatcher.process.ended().await.code(), Some(0));
        let log = dispatcher.process.log();
        assert_eq!(log.contains("DEBUG"), is_said, "{environment}: {log}");
    }
}

#[tokio::test]
async fn without_a_secret_only_this_machine_is_served_and_only_in_development() {
    let site = Site::new();
    for flags in [&["--listen", "127.0.0.1:0"][..], &["--listen", "0.0.0.0:0", "--dev"]] {
        let said = refused(&site, flags, &[("SERVER_SECRET", "")]).await;
        assert!(said.contains("PLACE_SERVER_SECRET") && said.contains("--dev"), "{said}");
    }
    let dispatcher = Dispatcher::start(&site, &["--listen", "127.0.0.1:0", "--dev"], &[]).await;
    let port = free_port();
    let path = format!("/api/server/tcp_dispatch?port={port}&accept=127.0.0.1");
    passes(&mut Driver::open(&dispatcher.url, &path, None).await.unwrap(), port).await;
    assert_eq!(get(&format!("{}/metrics", dispatcher.url), None).await.0, 200);
}

#[tokio::test]
async fn settings_that_are_wrong_are_named() {
    let site = Site::with_config(&json!({"dispatch": {
        "hosts": ["here"], "allowed_ports": ["1-70000"], "limits": {"drivers": 0, "driver_queue": "1KiB"}, "secret": "x",
    }}));
    let said = refused(&site, &[], &[]).await;
    for key in ["hosts", "allowed_ports", "limits.drivers", "limits.driver_queue", "secret"] {
        assert!(said.contains(&format!("dispatch.{key}: ")), "{key}: {said}");
    }
    let site = Site::new();
    let said = refused(&site, &[], &[("SERVER_SECRET", SECRET), ("SG_SERVER_PORT", "70000")]).await;
    assert!(said.contains("SG_SERVER_PORT") && said.contains("70000"), "{said}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refused(&site, &["--listen", &address], &[("SERVER_SECRET", SECRET)]).await;
    assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
}

#[tokio::test]
async fn limits_and_ports_are_those_of_the_configuration() {
    let (allowed, other) = (free_port(), free_port());
    let site = Site::with_config(&json!({"dispatch": {
        "listen": "127.0.0.1:0", "secret_file": "secret", "hosts": ["127.0.0.1"],
        "allowed_ports": [allowed.to_string()], "limits": {"drivers_per_port": 1},
    }}));
    std::fs::write(site.path("secret"), format!("{SECRET}\n")).unwrap();
    let dispatcher = Dispatcher::start(&site, &[], &[]).await;
    let path = |port| format!("/api/dispatch/v1/tcp_dispatch?port={port}&accept=127.0.0.1");
    let (status, text) = Driver::open(&dispatcher.url, &path(other), Some(SECRET)).await.err().unwrap();
    assert!(status == 403 && text.contains("configuration"), "{status} {text}");
    let mut driver = Driver::open(&dispatcher.url, &path(allowed), Some(SECRET)).await.unwrap();
    passes(&mut driver, allowed).await;
    let (status, text) = Driver::open(&dispatcher.url, &path(allowed), Some(SECRET)).await.err().unwrap();
    assert!(status == 503 && text.contains("1 drivers already"), "{status} {text}");
}

#[tokio::test]
async fn a_driver_counts_as_a_connection_until_it_leaves() {
    let site = Site::with_config(&json!({"limits": {"connections_per_address": 1}}));
    let variables = [("SERVER_SECRET", SECRET), ("SG_SERVER_PORT", "0")];
    let dispatcher = Dispatcher::start(&site, &[], &variables).await;
    let path = format!("/api/server/tcp_dispatch?port={}&accept=127.0.0.1", free_port());
    let driver = Driver::open(&dispatcher.url, &path, Some(SECRET)).await.unwrap();
    let host = dispatcher.url.strip_prefix("http://").unwrap();
    let ask = async || {
        let mut stream = TcpStream::connect(host).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        let _ = stream
            .write_all(b"GET /api/server/healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await;
        let _ = stream.read_to_end(&mut answer).await;
        answer.len()
    };
    assert_eq!(soon("the end of a connection", ask()).await, 0);
    drop(driver);
    soon("room for another", async { while ask().await == 0 {} }).await;
}

#[tokio::test]
async fn drivers_and_devices_are_told_of_the_end() {
    let site = Site::new();
    let variables = [("SERVER_SECRET", SECRET), ("SG_SERVER_PORT", "0")];
    let mut dispatcher = Dispatcher::start(&site, &[], &variables).await;
    let port = free_port();
    let path = format!("/api/server/tcp_dispatch?port={port}&accept=127.0.0.1");
    let mut driver = Driver::open(&dispatcher.url, &path, Some(SECRET)).await.unwrap();
    let (id, mut device) = passes(&mut driver, port).await;
    driver.write(id, &[7; 100_000]).await;
    exactly(&mut device, &[7]).await;
    signal(dispatcher.process.pid, Signal::TERM);
    let (code, reason) = driver.hear().await.unwrap_err();
    assert_eq!(code, 1001, "{reason}");
    // What was written arrives, and then the end, which is no reset.
    let mut rest = Vec::new();
    soon("the end of the device's connection", device.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, [7; 99_999]);
    drop(driver);
    assert_eq!(dispatcher.process.ended().await.code(), Some(0));
    assert!(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok());
}

#[tokio::test]
async fn a_second_signal_does_not_wait() {
    let limits = json!({"close_time": "1h", "device_stall": "1h"});
    let site = Site::with_config(&json!({"shutdown_deadline": "10m", "dispatch": {"limits": limits}}));
    let variables = [("SERVER_SECRET", SECRET), ("SG_SERVER_PORT", "0")];
    let mut dispatcher = Dispatcher::start(&site, &[], &variables).await;
    let port = free_port();
    let path = format!("/api/server/tcp_dispatch?port={port}&accept=127.0.0.1");
    // This driver answers no close frame, so that the ordered end waits for it.
    let _driver = Driver::open(&dispatcher.url, &path, Some(SECRET)).await.unwrap();
    signal(dispatcher.process.pid, Signal::TERM);
    signal(dispatcher.process.pid, Signal::INT);
    let code = dispatcher.process.ended().await.code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    assert!(dispatcher.process.log().contains("a second signal"));
}

/// A driver over TLS that trusts the root that `ca.pem` has now; `None` if that does not do.
async fn over_tls(site: &Site, url: &str, path: &str) -> Option<Driver<impl AsyncRead + AsyncWrite + Unpin>> {
    let host = url.strip_prefix("https://").unwrap();
    let config = sortie_tls::client_config(Some(&site.path("ca.pem"))).unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = soon("a connection", TcpStream::connect(host)).await.unwrap();
    let name = "127.0.0.1".try_into().unwrap();
    let stream = soon("a TLS handshake", connector.connect(name, stream)).await.ok()?;
    Some(Driver::over(stream, &format!("wss://{host}{path}"), Some(SECRET)).await.unwrap())
}

#[tokio::test]
async fn drivers_come_over_tls_and_a_new_certificate_counts_without_a_restart() {
    let site = Site::with_config(&json!({"dispatch": {
        "listen": "127.0.0.1:0", "tls": {"certificate": "tls.crt", "key": "tls.key"},
    }}));
    certify(&site);
    let dispatcher = Dispatcher::start(&site, &[], &[("SERVER_SECRET", SECRET)]).await;
    let url = &dispatcher.url;
    let port = free_port();
    let path = format!("/api/dispatch/v1/tcp_dispatch?port={port}&accept=127.0.0.1");
    let mut driver = over_tls(&site, url, &path).await.unwrap();
    let (id, mut held) = passes(&mut driver, port).await;
    certify(&site);
    let other_port = free_port();
    let other_path = format!("/api/server/tcp_dispatch?port={other_port}&accept=127.0.0.1");
    let connecting = async {
        loop {
            if let Some(driver) = over_tls(&site, url, &other_path).await {
                break driver;
            }
        }
    };
    let mut other = soon("the new certificate", connecting).await;
    passes(&mut other, other_port).await;
    // Whoever was there before stays.
    driver.write(id, b"still here").await;
    exactly(&mut held, b"still here").await;
    let (status, text) = get(&url.replace("https", "http"), None).await;
    assert!(status == 400 && text.contains("https://"), "{status} {text}");
}

/// A key with this permission.
async fn key(site: &Site, permission: &str) -> String {
    let made = site.run(&["key", "create", "--name", permission, "--permission", permission, "--json"]).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    made.json()["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_control_plane_gives_out_tokens_to_drivers() {
    let site = Site::with_config(&json!({"dispatch": {"enabled": true}, "fleets": {"quiet": idle_fleet()}}));
    let (admin, client) = (key(&site, "admin").await, key(&site, "client").await);
    let control_plane = site.up(&[]).await;
    let url = &control_plane.url;
    let (port, other) = (free_port(), free_port());
    let wish = json!({"ports": [port], "accept": ["127.0.0.0/8"], "expires_in": "5m", "bytes": 60});
    let tokens = format!("{url}/v1/dispatch/tokens");
    for stranger in [None, Some(client.as_str()), Some("nobody")] {
        let (status, answer) = json_of(call("POST", &tokens, stranger, &wish).await);
        assert_eq!((status, &answer["error"]["code"]), (401, &json!("unauthenticated")), "{answer}");
        for path in ["/v1/dispatch/stats", "/metrics", "/api/dispatch/v1"] {
            assert_eq!(get(&format!("{url}{path}"), stranger).await.0, 401, "{path}");
        }
    }
    let (status, answer) = json_of(call("POST", &tokens, Some(&admin), &wish).await);
    assert_eq!(status, 201, "{answer}");
    let token = answer["token"].as_str().unwrap();
    let path = |port: u16, accept: &str| format!("/api/dispatch/v1/tcp_dispatch?port={port}&accept={accept}");
    // An administrator makes tokens and opens no ports.
    for (bearer, path, wanted) in [
        (admin.as_str(), path(port, "127.0.0.1"), 401),
        (token, path(other, "127.0.0.1"), 403),
        (token, path(port, "0.0.0.0/0"), 403),
    ] {
        let (status, text) = Driver::open(url, &path, Some(bearer)).await.err().unwrap();
        assert_eq!(status, wanted, "{text}");
    }
    let mut driver = Driver::open(url, &path(port, "127.0.0.1"), Some(token)).await.unwrap();
    let (id, _device) = passes(&mut driver, port).await;
    assert_eq!(
        get(&format!("{url}/v1/dispatch/stats"), Some(token)).await.0,
        401,
        "a token is for its port only"
    );

    let (_, stats) = json_of(get(&format!("{url}/v1/dispatch/stats"), Some(&admin)).await);
    let (_, metrics) = get(&format!("{url}/metrics"), Some(&admin)).await;
    assert_eq!(stats["total"]["received_bytes"], 15, "{stats}");
    assert_eq!(stats["total"]["written_bytes"], 15, "{stats}");
    for (name, value) in [
        ("received_bytes_total", &stats["total"]["received_bytes"]),
        ("received_messages_total", &stats["total"]["received_messages"]),
        ("written_bytes_total", &stats["total"]["written_bytes"]),
        ("written_messages_total", &stats["total"]["written_messages"]),
        ("dropped_messages_total", &stats["total"]["dropped_messages"]),
        ("queued_bytes", &stats["queued_bytes"]),
        ("backlog_bytes", &stats["backlog_bytes"]),
    ] {
        assert_eq!(Some(metric(&metrics, &format!("sortie_dispatch_{name}"))), value.as_u64(), "{name}");
    }
    let driver_id = &stats["ports"][0]["drivers"][0]["id"];
    for line in [
        format!("sortie_dispatch_drivers{{protocol=\"tcp\",port=\"{port}\"}} 1"),
        format!("sortie_dispatch_devices{{protocol=\"tcp\",port=\"{port}\"}} 1"),
        format!(
            "sortie_dispatch_driver_queued_bytes{{protocol=\"tcp\",port=\"{port}\",driver=\"{driver_id}\"}} 0"
        ),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    driver.write(id, &[0; 31]).await;
    let (code, reason) = loop {
        if let Err(closed) = driver.hear().await {
            break closed;
        }
    };
    assert!(code == 1008 && reason.contains("bytes"), "{code} {reason}");
    let stderr = site.stderr();
    assert!(!stderr.contains(token) && !stderr.contains(&admin));
    control_plane.stop().await;
}

#[tokio::test]
async fn drivers_of_a_control_plane_may_have_a_port_of_their_own() {
    let own = fixed_address();
    let site = Site::with_config(&json!({
        "dispatch": {"enabled": true, "listen": own, "secret_file": "secret"}, "fleets": {"quiet": idle_fleet()},
    }));
    std::fs::write(site.path("secret"), SECRET).unwrap();
    let admin = key(&site, "admin").await;
    let control_plane = site.up(&[]).await;
    let port = free_port();
    let path = format!("/api/dispatch/v1/tcp_dispatch?port={port}&accept=127.0.0.1");
    let own = format!("http://{own}");
    let mut driver = Driver::open(&own, &path, Some(SECRET)).await.unwrap();
    let _device = passes(&mut driver, port).await;
    assert_eq!(Driver::open(&control_plane.url, &path, Some(SECRET)).await.err().unwrap().0, 404);
    for bearer in [SECRET, &admin] {
        assert_eq!(get(&format!("{own}/v1/dispatch/stats"), Some(bearer)).await.0, 200);
        for url in [&own, &control_plane.url] {
            let (status, text) = get(&format!("{url}/metrics"), Some(bearer)).await;
            assert_eq!((status, metric(&text, "sortie_dispatch_received_bytes_total")), (200, 15));
        }
    }
    control_plane.signal(Signal::TERM);
    assert_eq!(driver.hear().await.unwrap_err().0, 1001);
    drop(driver);
    assert_eq!(control_plane.ended().await.code(), Some(0), "{}", site.stderr());
}
