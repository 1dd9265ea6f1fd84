//! Web pages at the ports of the whole program, as browsers send them: by curl, and by websockets of a client of its own.

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, http};

use crate::dispatcher::free_port;
use crate::site::{Site, finish, idle_fleet, soon};

/// The status that curl gets with these arguments.
async fn curl(site: &Site, url: &str, arguments: &[&str]) -> u16 {
    let mut command = site.command("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20"]);
    command.args(arguments).arg(url);
    finish(command).await.stdout.parse().unwrap()
}

/// The status of the handshake of a websocket from a page of `origin`; 101 if it is opened.
async fn socket(url: &str, path: &str, origin: Option<&str>) -> u16 {
    let mut request = format!("{}{path}", url.replacen("http", "ws", 1)).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert(http::header::ORIGIN, origin.parse().unwrap());
    }
    match soon("a handshake", connect_async(request)).await {
        Ok(_) => 101,
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

/// A folder for a control plane with a gateway and a dispatcher.
fn site(dev: bool) -> Site {
    let site = Site::with_config(&config(dev));
    std::fs::write(site.path("netcode.key"), "ab".repeat(32)).unwrap();
    site
}

fn config(dev: bool) -> Value {
    let mut fleet = idle_fleet();
    fleet["game"] = json!("arena");
    fleet["version"] = json!("1");
    json!({
        "dev": dev,
        "dev_hosts": ["box.lan"],
        "public_url": "https://sortie.example.com",
        "dispatch": {"enabled": true, "hosts": ["127.0.0.1"]},
        "gateway": {"default_fleet": "idle", "cors_origins": ["https://play.example.com", "capacitor://localhost"]},
        "netcode": {"key_file": "netcode.key"},
        "fleets": {"idle": fleet},
    })
}

#[tokio::test]
async fn development_mode_obeys_no_foreign_page() {
    let site = site(true);
    let node = site.up(&[]).await;
    let url = |path: &str| format!("{}{path}", node.url);
    let order = ["--data", r#"{"players": ["p1"]}"#, "--header", "content-type: text/plain"];
    let evil = [&order[..], &["--header", "origin: https://evil.example"]].concat();
    assert_eq!(curl(&site, &url("/v1/matches"), &evil).await, 403);
    let matches: Value = node.get("/v1/matches").await;
    assert_eq!(matches["matches"], json!([]));
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/v1/matches",
        "/v1/events",
        "/openapi.json",
        "/docs",
        "/metrics",
        "/wannaplay",
        "/api/v1/matches",
        "/api/v1/events/subscribe",
        "/api/server",
        "/v1/dispatch/stats",
        "/nothing",
    ] {
        for header in [
            "host: evil.example",
            "origin: https://evil.example",
            "origin: null",
            "sec-fetch-site: cross-site",
        ] {
            assert_eq!(curl(&site, &url(path), &["--header", header]).await, 403, "{path} {header}");
            let http2 = ["--http2-prior-knowledge", "--header", header];
            assert_eq!(curl(&site, &url(path), &http2).await, 403, "{path} {header}");
        }
    }
    for header in [
        "host: box.lan:7400",
        "host: sortie.example.com",
        "host: localhost",
        "origin: http://localhost:8080",
        "origin: https://play.example.com",
        "origin: https://sortie.example.com",
    ] {
        assert_eq!(curl(&site, &url("/v1/matches"), &["--header", header]).await, 200, "{header}");
    }
    assert_eq!(curl(&site, &url("/v1/matches"), &order).await, 202);
    let port = free_port();
    let driver = format!("/api/dispatch/v1/tcp_dispatch?port={port}&accept=127.0.0.1");
    for path in ["/matchmaker/ws", "/api/v1/events/subscribe", &driver] {
        for origin in ["https://evil.example", "null", "https://sortie.example.com.evil.example"] {
            assert_eq!(socket(&node.url, path, Some(origin)).await, 403, "{path} {origin}");
        }
    }
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "no port was opened");
    for origin in
        [None, Some("http://localhost:8080"), Some("http://127.0.0.1:3000"), Some("capacitor://localhost")]
    {
        assert_eq!(socket(&node.url, "/matchmaker/ws", origin).await, 101, "{origin:?}");
        assert_eq!(socket(&node.url, &driver, origin).await, 101, "{origin:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn with_keys_websockets_of_foreign_pages_are_refused_all_the_same() {
    let site = site(false);
    site.run(&["key", "create", "--name", "a", "--permission", "admin", "--data", "data"]).await;
    let node = site.up(&[]).await;
    for (origin, wanted) in [
        (None, 101),
        (Some(node.url.clone()), 101),
        (Some("https://play.example.com".to_owned()), 101),
        (Some("capacitor://localhost".to_owned()), 101),
        (Some("https://sortie.example.com".to_owned()), 101),
        (Some("https://evil.example".to_owned()), 403),
        (Some("http://localhost:8080".to_owned()), 403),
        (Some("null".to_owned()), 403),
        (Some("tauri://localhost".to_owned()), 403),
    ] {
        assert_eq!(socket(&node.url, "/matchmaker/ws", origin.as_deref()).await, wanted, "{origin:?}");
    }
    // What other requests may read is said by CORS; they show a key.
    let evil = ["--header", "origin: https://evil.example", "--header", "host: evil.example"];
    assert_eq!(curl(&site, &format!("{}/healthz", node.url), &evil).await, 200);
    node.stop().await;
}
