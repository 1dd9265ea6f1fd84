//! Profiles, registered servers, and what needs no access.

use serde_json::{Value, json};
use sortie_serving::Limits;
use sortie_sidecar::control::{ControlError, ControlOptions, ControlPort, MAX_PROFILES};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::harness::{Sidecar, options, soon};

#[tokio::test]
async fn profiles_are_kept_and_shown() {
    let sidecar = Sidecar::start().await;
    assert_eq!(sidecar.ok("GET", "/api/v1/profiles", json!(null)).await, json!({"profiles": []}));
    // Both spellings of names are accepted, null is a default, and unknown fields are ignored.
    let profiles = json!({"profiles": [
        {"profileId": "b", "command": "/bin/b", "args": ["-x"], "later": [1, {"y": 2}]},
        {"profile_id": "a", "command": "a", "args": null, "remote": null},
    ], "more": true});
    assert_eq!(sidecar.ok("POST", "/api/v1/profiles", profiles).await, json!({}));
    let (a, b) = (
        json!({"profileId": "a", "command": "a", "args": [], "remote": ""}),
        json!({"profileId": "b", "command": "/bin/b", "args": ["-x"], "remote": ""}),
    );
    let all = sidecar.ok("GET", "/api/v1/profiles", json!(null)).await;
    assert_eq!(all, json!({"profiles": [a, b]}));
    assert_eq!(sidecar.ok("GET", "/api/v1/profiles/b", json!(null)).await, json!({"profiles": [b]}));
    let (status, code, text) = sidecar.refused("GET", "/api/v1/profiles/c", "").await;
    assert_eq!((status, &*code, &*text), (404, "not_found", "no profile \"c\" is registered"));
}

#[tokio::test]
async fn bad_bodies_are_refused_and_change_nothing() {
    let limits = Limits { body_bytes: 100_000, ..Limits::default() };
    let sidecar = Sidecar::start_with(ControlOptions { limits, ..options() }, json!([])).await;
    let one =
        |profile: Value| json!({"profiles": [{"profileId": "good", "command": "x"}, profile]}).to_string();
    let many: Vec<_> =
        (0..=MAX_PROFILES).map(|number| json!({"profileId": number.to_string(), "command": "x"})).collect();
    for (body, status, code, says) in [
        ("{".to_owned(), 400, "invalid_json", ""),
        ("[]".into(), 400, "invalid_json", ""),
        ("\u{0}".into(), 400, "invalid_json", ""),
        (r#"{"profiles": {}}"#.into(), 400, "invalid_json", "profiles: "),
        (one(json!("x")), 400, "invalid_json", "profiles[1]: "),
        (one(json!({"profileId": "x", "command": 7})), 400, "invalid_json", "profiles[1].command: "),
        (
            one(json!({"profileId": "x", "command": "x", "args": "y"})),
            400,
            "invalid_json",
            "profiles[1].args: ",
        ),
        (one(json!({"command": "x"})), 400, "invalid_field", "profiles[1].profileId: must be 1 to 128"),
        (one(json!({"profileId": "a b", "command": "x"})), 400, "invalid_field", "profiles[1].profileId: "),
        (one(json!({"profileId": "x"})), 400, "invalid_field", "profiles[1].command: must be given"),
        (
            one(json!({"profileId": "x", "command": "x", "remote": "10.0.0.1"})),
            400,
            "invalid_field",
            "profiles[1].remote: must be empty: this sidecar launches servers on its own machine only",
        ),
        (json!({"profiles": many}).to_string(), 429, "too_many", "too many profiles"),
        ("x".repeat(100_001), 413, "too_large", "the body is longer than 100000 bytes"),
    ] {
        let shown = &body[..body.len().min(100)].to_owned();
        let (found, reason, text) = sidecar.refused("POST", "/api/v1/profiles", body).await;
        assert_eq!((found, &*reason), (status, code), "{shown}: {text}");
        assert!(text.starts_with(says), "{shown}: {text}");
    }
    assert_eq!(sidecar.ok("GET", "/api/v1/profiles", json!(null)).await, json!({"profiles": []}));
}

#[tokio::test]
async fn a_server_that_somebody_else_started_registers() {
    let sidecar = Sidecar::start().await;
    sidecar.ok("POST", "/api/v1/profiles", json!({"profiles": [{"profileId": "p", "command": "x"}]})).await;
    let register = |body: Value| sidecar.ok("POST", "/api/v1/servers/register", body);
    let first = register(json!({"profileId": "p", "port": 7777})).await["serverId"].clone();
    let second = register(json!({"port": "7778"})).await["serverId"].clone();
    let third = register(json!(null)).await["serverId"].clone();
    let servers = sidecar.ok("GET", "/api/v1/servers", json!(null)).await;
    let at = |port: u16| json!({"host": "", "port": port});
    assert_eq!(
        servers["servers"],
        json!([
            {"serverId": first, "state": "STATE_STARTED", "connectionDetails": at(7777)},
            {"serverId": second, "state": "STATE_STARTED", "connectionDetails": at(7778)},
            {"serverId": third, "state": "STATE_STARTED"},
        ])
    );
    for (body, status, code) in [
        (json!({"profileId": "unknown"}), 404, "not_found"),
        (json!({"port": 65536}), 400, "invalid_field"),
        (json!({"port": -1}), 400, "invalid_field"),
        (json!({"port": "x"}), 400, "invalid_json"),
        (json!({"port": 1.5}), 400, "invalid_json"),
        (json!({"port": 4_294_967_296_u64}), 400, "invalid_json"),
    ] {
        let (found, reason, text) =
            sidecar.refused("POST", "/api/v1/servers/register", body.to_string()).await;
        assert_eq!((found, &*reason), (status, code), "{body}: {text}");
    }
    // It cannot be stopped here.
    let path = format!("/api/v1/servers/{}", first.as_str().unwrap());
    let answer = sidecar.ok("DELETE", &path, json!(null)).await;
    assert_eq!(answer["terminated"], json!(false));
    assert_eq!(sidecar.states().await.len(), 3);
    let (status, code, _) = sidecar.refused("DELETE", "/api/v1/servers/unknown", "").await;
    assert_eq!((status, &*code), (404, "server_not_found"));
}

#[tokio::test]
async fn the_hub_knows_this_sidecar() {
    let options = ControlOptions { hostname: "box".into(), grpc_port: Some(8080), ..options() };
    let sidecar = Sidecar::start_with(options, json!([])).await;
    let answer = sidecar.ok("GET", "/api/core/v1/sidecars", json!(null)).await;
    let id = answer["sidecars"][0]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("sidecar-"), "{id}");
    let wanted = json!({"sidecars": [{"id": id, "hostname": "box", "grpcPort": "8080", "httpPort": "0"}]});
    assert_eq!(answer, wanted);
    assert!(!ControlOptions::new("localhost:0".parse().unwrap()).hostname.is_empty());
}

#[tokio::test]
async fn health_until_the_end() {
    let mut sidecar = Sidecar::start().await;
    assert_eq!(sidecar.ok("GET", "/healthz", json!(null)).await, json!({"message": "ok"}));
    // A call that does not end on its own keeps the port open.
    let mut held = TcpStream::connect(sidecar.address).await.unwrap();
    let head = "POST /api/v1/profiles HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{";
    held.write_all(head.as_bytes()).await.unwrap();
    // Once a later call is answered, that call was accepted.
    sidecar.ok("GET", "/api/v1/servers", json!(null)).await;
    sidecar.closing.cancel();
    let (status, code, _) = sidecar.refused("GET", "/healthz", "").await;
    assert_eq!((status, &*code), (503, "shutting_down"));
    drop(held);
    soon(sidecar.served.take().unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there() {
    let sidecar = Sidecar::start().await;
    for (method, path, status) in [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/panel.html", 404),
        ("PUT", "/api/v1/profiles", 405),
        ("GET", "/api/v1/servers/launch", 405),
        ("POST", "/", 405),
    ] {
        let response = soon(sidecar.request(method, path).send()).await.unwrap();
        assert_eq!(response.status(), status, "{method} {path}");
        assert_eq!(response.headers().contains_key("allow"), status == 405, "{method} {path}");
        let answer: Value = response.json().await.unwrap();
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let sidecar = Sidecar::start().await;
    let listen = sidecar.address.into();
    let error = ControlPort::bind(ControlOptions::new(listen)).await.err().unwrap();
    assert!(matches!(error, ControlError::Listen { .. }));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("app.sidecar.DebugPanelAddr: cannot listen on {}", sidecar.address)),
        "{text}"
    );
}
