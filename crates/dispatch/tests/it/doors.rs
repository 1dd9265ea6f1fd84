//! Who gets in, with which parameters, and what everyone else is told.

use std::collections::BTreeMap;
use std::net::TcpListener;

use sortie_dispatch::DispatchOptions;
use sortie_dispatch::frame::Kind;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::harness::{World, device, free_port, options, secret, soon};

const FAMILIES: [&str; 2] = ["/api/server", "/api/dispatch/v1"];

#[tokio::test]
async fn both_path_families_serve() {
    let world = World::start(options()).await;
    let (tcp, udp) = (free_port(), free_port());
    let mut drivers = Vec::new();
    for family in FAMILIES {
        for (kind, port) in [("tcp", tcp), ("udp", udp)] {
            let path =
                format!("{family}/{kind}_dispatch?bearer_token={}&port={port}&accept=127.0.0.1", secret());
            drivers.push(world.open(&path).await.unwrap());
        }
    }
    let _device = device(tcp).await;
    drivers[0].expect(Kind::Opened).await;
    for family in FAMILIES {
        let (status, listing) = world.get(&format!("{family}?bearer_token={}", secret())).await;
        let expected = serde_json::json!({
            "udp_listeners": { udp.to_string(): 2 },
            "tcp_listeners": { tcp.to_string(): 2 },
            "tcp_clients": { tcp.to_string(): 1 },
        });
        assert_eq!((status, listing), (200, expected));
        assert_eq!(world.get(&format!("{family}/healthz")).await.0, 200);
        let (status, version) = world.get(&format!("{family}/version")).await;
        assert_eq!((status, &version["service"]), (200, &serde_json::json!("dispatch")));
        assert!(version.get("commit").is_some() && version.get("build_time").is_some(), "{version}");
    }
}

#[tokio::test]
async fn statistics_are_empty_when_nobody_is_there() {
    let world = World::start(options()).await;
    let port = free_port();
    let driver = world.tcp(port, "127.0.0.1").await;
    drop(driver);
    world.until(|stats| stats.drivers == 0).await;
    let (_, listing) = world.get(&format!("/api/server?bearer_token={}", secret())).await;
    let nothing: BTreeMap<String, usize> = BTreeMap::new();
    let expected =
        serde_json::json!({ "udp_listeners": nothing, "tcp_listeners": nothing, "tcp_clients": nothing });
    assert_eq!(listing, expected);
    // The port is free again.
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[tokio::test]
async fn nobody_gets_in_without_the_secret() {
    let world = World::start(options()).await;
    let port = free_port();
    for token in ["", "bearer_token=wrong&", "bearer_token=&"] {
        let path = format!("/api/server/tcp_dispatch?{token}port={port}&accept=127.0.0.1");
        let (status, text) = world.open(&path).await.err().unwrap();
        assert_eq!(status, 401, "{text}");
        assert!(text.starts_with("{\"error\":"), "{text}");
        for path in ["/api/server", "/v1/dispatch/stats"] {
            assert_eq!(world.get(&format!("{path}?{token}")).await.0, 401);
        }
    }
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[tokio::test]
async fn the_secret_may_be_in_a_header() {
    let world = World::start(options()).await;
    let url = format!(
        "ws://127.0.0.1:{}/api/server/tcp_dispatch?port={}&accept=127.0.0.1",
        world.port,
        free_port()
    );
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer a shared secret".parse().unwrap());
    soon(connect_async(request)).await.unwrap();
}

#[tokio::test]
async fn without_a_secret_everyone_gets_in() {
    let world = World::start(DispatchOptions::default()).await;
    let path = format!("/api/server/tcp_dispatch?port={}&accept=127.0.0.1", free_port());
    world.open(&path).await.unwrap();
}

#[tokio::test]
async fn bad_parameters_are_named() {
    let world = World::start(options()).await;
    let many = vec!["10.0.0.1"; 257].join(",");
    let cases = [
        ("accept=127.0.0.1".to_owned(), 422, "port"),
        ("port=6001".to_owned(), 422, "accept"),
        ("port=0&accept=127.0.0.1".to_owned(), 400, "port"),
        ("port=70000&accept=127.0.0.1".to_owned(), 400, "port"),
        ("port=-1&accept=127.0.0.1".to_owned(), 400, "port"),
        ("port=http&accept=127.0.0.1".to_owned(), 400, "port"),
        ("port=&accept=127.0.0.1".to_owned(), 400, "port"),
        ("port=6001&accept=".to_owned(), 400, "accept"),
        ("port=6001&accept=example.org".to_owned(), 400, "accept"),
        ("port=6001&accept=127.0.0.1,127.0.0.300".to_owned(), 400, "accept"),
        (format!("port=6001&accept={many}"), 400, "accept"),
    ];
    for (query, status, name) in cases {
        for kind in ["tcp", "udp"] {
            let path = format!("/api/server/{kind}_dispatch?bearer_token={}&{query}", secret());
            let refused = world.open(&path).await.err().unwrap();
            assert_eq!(refused.0, status, "{query}: {}", refused.1);
            assert!(refused.1.contains(name) && refused.1.contains("error"), "{query}: {}", refused.1);
        }
    }
}

#[tokio::test]
async fn a_plain_request_is_refused_with_advice() {
    let world = World::start(options()).await;
    let port = free_port();
    let path = format!("/api/server/tcp_dispatch?bearer_token={}&port={port}&accept=127.0.0.1", secret());
    let (status, answer) = world.get(&path).await;
    assert_eq!(status, 426);
    assert!(answer["error"].as_str().unwrap().contains("websocket"));
    TcpListener::bind(("0.0.0.0", port)).unwrap();
}

#[tokio::test]
async fn a_port_that_cannot_be_opened_is_refused_before_the_upgrade() {
    let port = free_port();
    let allowed_ports = vec![1024..=u16::MAX];
    let world = World::start(DispatchOptions { allowed_ports, ..options() }).await;
    let open = async |kind: &str, port: u16| {
        let path =
            format!("/api/server/{kind}_dispatch?bearer_token={}&port={port}&accept=127.0.0.1", secret());
        world.open(&path).await
    };
    let taken = TcpListener::bind(("0.0.0.0", port)).unwrap();
    let (status, text) = open("tcp", port).await.err().unwrap();
    assert_eq!(status, 409);
    assert!(text.contains(&format!("port {port} is in use")), "{text}");
    drop(taken);
    open("tcp", port).await.unwrap();
    let taken = std::net::UdpSocket::bind(("0.0.0.0", port)).unwrap();
    assert_eq!(open("udp", port).await.err().unwrap().0, 409);
    drop(taken);
    open("udp", port).await.unwrap();
    let (status, text) = open("tcp", 443).await.err().unwrap();
    assert_eq!(status, 403);
    assert!(text.contains("configuration"), "{text}");
}

#[tokio::test]
async fn limits_are_told() {
    let mut narrow = options();
    narrow.limits.drivers_per_port = 1;
    narrow.limits.ports = 2;
    narrow.limits.drivers = 3;
    let world = World::start(narrow).await;
    let (one, two) = (free_port(), free_port());
    let open = async |kind: &str, port: u16| {
        let path =
            format!("/api/server/{kind}_dispatch?bearer_token={}&port={port}&accept=127.0.0.1", secret());
        world.open(&path).await
    };
    let _first = open("tcp", one).await.unwrap();
    let (status, text) = open("tcp", one).await.err().unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("1 drivers"), "{text}");
    let _second = open("udp", two).await.unwrap();
    let (status, text) = open("tcp", two).await.err().unwrap();
    assert_eq!(status, 503);
    assert!(text.contains("2 ports"), "{text}");
}
