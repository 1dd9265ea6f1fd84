//! `sortie sidecar` between real game servers and a real control plane.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;

use crate::control_plane::{ControlPlane, END, READY, REQUEST};
use crate::python;
use crate::ready::Ready;
use crate::site::{NONE, Site, finish, fixed_address, fleet, idle_fleet, soon};

const EXAMPLE: &str = "../../examples/game_server.py";

/// A sidecar that serves; killed when dropped.
pub(crate) struct Sidecar {
    pub(crate) process: Ready,
    listening: Vec<(String, String)>,
}

impl Sidecar {
    /// Waits until it says that it is ready.
    pub(crate) async fn start(site: &Site, settings: &Value) -> Self {
        let path = site.path("sidecar.json");
        std::fs::write(&path, settings.to_string()).unwrap();
        let command = site.sortie(&["sidecar", "--config", path.to_str().unwrap()]);
        let process = Ready::start(site, "sidecar", command).await;
        let listening = process.said.iter().map(|line| {
            let (what, address) = line.rsplit_once(" on ").unwrap_or_else(|| panic!("{line:?}"));
            (what.to_owned(), address.to_owned())
        });
        Self { listening: listening.collect(), process }
    }

    /// Where this is served: `catena_api_event_source: HTTP` for one.
    pub(crate) fn address(&self, what: &str) -> &str {
        let found = self.listening.iter().find(|(name, _)| name == what);
        &found.unwrap_or_else(|| panic!("no {what} in {:?}", self.listening)).1
    }

    pub(crate) fn http(&self) -> String {
        format!("http://{}", self.address("catena_api_event_source: HTTP"))
    }

    /// Status and answer of a call of a game server.
    async fn call(&self, name: &str, message: Value) -> (u16, Value) {
        let url = format!("{}/api/v1/server/{name}", self.http());
        let http = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
        let response = soon(name, http.post(url).body(message.to_string()).send()).await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// The answer of a call that must succeed.
    async fn ok(&self, name: &str, message: Value) -> Value {
        let (status, answer) = self.call(name, message).await;
        assert_eq!(status, 200, "{name}: {answer}\n{}", self.process.log());
        answer
    }
}

/// Settings for game servers that call, on ports that the system chooses.
pub(crate) fn settings(backend: &str) -> Value {
    json!({"app": {
        "event_source": {"use": "catena_api_event_source", "configs": {"catena_api_event_source": {
            "GrpcListenAddr": "127.0.0.1:0", "HttpListenAddr": "127.0.0.1:0",
        }}},
        "resolver": {"use": "static_resolver", "configs": {"static_resolver": {"Address": "203.0.113.7"}}},
        "backend": {"use": "catena_backend", "configs": {"catena_backend": {"url": backend}}},
        "sidecar": {"DataFolder": "sidecar-data"},
    }})
}

/// A control plane whose own fleet takes no match.
fn without_servers() -> Value {
    json!({"dev": true, "fleets": {"quiet": idle_fleet()}})
}

async fn submitted(control_plane: &ControlPlane) -> String {
    control_plane.submit(json!({"players": ["alice"]})).await
}

#[tokio::test]
async fn a_game_server_in_python_plays_through_it() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    let sidecar = Sidecar::start(&site, &settings(&control_plane.url)).await;
    let mut server = site.command("python3");
    server.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE));
    server.env("CATENA_SIDECAR_HTTP", sidecar.http()).env("PLAY_SECONDS", "0").env("GAME_PORT", "0");
    let playing = tokio::spawn(finish(server));
    let registered = control_plane.event("sortie.server.registered", None).await;
    let id = submitted(&control_plane).await;
    let ready = control_plane.event("sortie.match.ready", Some(&id)).await;
    let details = ready["data"]["connection"]["details"].as_str().unwrap();
    assert!(details.starts_with("203.0.113.7:"), "{details}");
    control_plane.event("sortie.match.ended", Some(&id)).await;
    let played = soon("the end of the example", playing).await.unwrap();
    assert_eq!(played.code, Some(0), "{} {}", played.stdout, played.stderr);
    assert_eq!(played.stdout, format!("playing {id} alice\nover\n"));
    // The id was made by the sidecar and is kept.
    let server = registered["subject"].clone();
    sidecar.process.stop().await;
    let sidecar = Sidecar::start(&site, &settings(&control_plane.url)).await;
    sidecar.ok("request_match", json!({})).await;
    let servers = control_plane.get("/v1/servers").await;
    assert!(servers["servers"].as_array().unwrap().iter().any(|one| one["server_id"] == server), "{servers}");
    sidecar.process.stop().await;
}

#[tokio::test]
async fn a_grpc_client_in_another_language_plays_through_it() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    for scheme in ["http://", "grpc://"] {
        let backend = control_plane.url.replace("http://", scheme);
        let sidecar = Sidecar::start(&site, &settings(&backend)).await;
        let id = submitted(&control_plane).await;
        let address = sidecar.address("catena_api_event_source: gRPC").to_owned();
        let played = python::run(&site, "grpc_beside_sidecar.py", &[&address]).await;
        assert_eq!(played.stdout.trim(), id);
        let ready = control_plane.event("sortie.match.ready", Some(&id)).await;
        assert_eq!(ready["data"]["connection"]["details"], "203.0.113.7:7777");
        control_plane.event("sortie.match.ended", Some(&id)).await;
        sidecar.process.stop().await;
    }
}

/// Settings of a sidecar that is Agones' SDK to its game server.
fn for_agones(backend: &str) -> Value {
    let mut settings = settings(backend);
    settings["app"]["event_source"] = json!({"use": "agones_sdk_event_source", "configs": {
        "agones_sdk_event_source": {
            "GrpcListenAddr": "127.0.0.1:0", "HttpListenAddr": "127.0.0.1:0",
            "Ports": [{"Name": "game", "Port": 7777}],
        },
    }});
    settings
}

#[tokio::test]
async fn a_server_built_for_agones_plays_through_it() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    let sidecar = Sidecar::start(&site, &for_agones(&control_plane.url)).await;
    let id = submitted(&control_plane).await;
    let address = sidecar.address("agones_sdk_event_source: HTTP").to_owned();
    let played = python::run(&site, "agones_server.py", &[&address]).await;
    assert_eq!(played.stdout.trim(), id);
    let ready = control_plane.event("sortie.match.ready", Some(&id)).await;
    assert_eq!(ready["data"]["connection"]["details"], "203.0.113.7:7777");
    let ended = control_plane.event("sortie.match.ended", Some(&id)).await;
    assert_eq!(ended["data"]["cause"], "server");
    sidecar.process.stop().await;
}

/// Asks for a match as `server`, which is willing to wait, in a process of its own.
fn asking(site: &Site, url: &str, server: &str) -> Child {
    const ASK: &str =
        "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], data=sys.argv[2].encode())";
    let mut command = site.command(python::interpreter());
    let body = json!({"serverId": server, "hintFlags": 2}).to_string();
    command.args(["-c", ASK, &format!("{url}{REQUEST}"), &body]).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// The next match is played by a server that asks now, not by one that asked before.
async fn next_match_is_for_another(control_plane: &ControlPlane, what: &str) {
    let id = submitted(control_plane).await;
    let other = format!("after {what}");
    let given = async {
        loop {
            let ask = json!({"serverId": other, "hintFlags": 2});
            if let Some(game) = control_plane.ok("POST", REQUEST, ask).await.get("match") {
                return game["matchId"].clone();
            }
        }
    };
    assert_eq!(soon(what, given).await, json!(id), "{what}");
    let message = json!({"serverId": other, "matchId": id, "connectionDetails": "203.0.113.9:7777"});
    control_plane.ok("POST", READY, message).await;
    let end = json!({"serverId": other, "matchId": id, "hintFlags": 1});
    control_plane.ok("POST", END, end).await;
}

#[tokio::test]
async fn a_server_that_goes_while_it_waits_is_given_no_match() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    let registered = async |server: &str| {
        control_plane.event("sortie.server.registered", Some(server)).await;
    };
    let mut direct = asking(&site, &control_plane.url, "direct");
    registered("direct").await;
    direct.kill().await.unwrap();
    next_match_is_for_another(&control_plane, "the death of a server without a sidecar").await;

    for scheme in ["http", "grpc"] {
        let backend = control_plane.url.replace("http", scheme);
        let sidecar = Sidecar::start(&site, &settings(&backend)).await;
        let server = format!("{scheme} killed");
        let mut beside = asking(&site, &sidecar.http(), &server);
        registered(&server).await;
        beside.kill().await.unwrap();
        next_match_is_for_another(&control_plane, &format!("{scheme}: the death of a server")).await;

        let server = format!("{scheme} leaving");
        let _beside = asking(&site, &sidecar.http(), &server);
        registered(&server).await;
        let leave = json!({"serverId": server, "hintFlags": 1});
        assert_eq!(sidecar.ok("request_match", leave).await["hintFlags"], "HINT_FLAG_SHUTDOWN");
        next_match_is_for_another(&control_plane, &format!("{scheme}: the leave of a server")).await;

        let server = format!("{scheme} stopped");
        let _beside = asking(&site, &sidecar.http(), &server);
        registered(&server).await;
        sidecar.process.stop().await;
        next_match_is_for_another(&control_plane, &format!("{scheme}: the stop of a sidecar")).await;
    }
}

#[tokio::test]
async fn a_server_built_for_agones_that_shuts_down_while_it_waits_is_given_no_match() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    let sidecar = Sidecar::start(&site, &for_agones(&control_plane.url)).await;
    let sdk = format!("http://{}", sidecar.address("agones_sdk_event_source: HTTP"));
    let http = sortie_tls::http_client(&sdk, None).unwrap().build().unwrap();
    for call in ["ready", "shutdown"] {
        let called = soon(call, http.post(format!("{sdk}/{call}")).body("{}").send()).await.unwrap();
        assert_eq!(called.status(), 200, "{call}");
        if call == "ready" {
            control_plane.event("sortie.server.registered", None).await;
        }
    }
    next_match_is_for_another(&control_plane, "the shutdown of a server").await;
}

#[tokio::test]
async fn a_fleet_runs_it_and_players_come_through_the_gateway() {
    let site = Site::new();
    let path = site.path("virtual.json");
    // Neither a backend nor an address: a server that Sortie starts is told of both.
    let settings = json!({"app": {"event_source": {
        "use": "virtual_server_event_source",
        "configs": {"virtual_server_event_source": {
            "strategy": "continuous_strategy",
            "continuous_strategy": {"RequestInterval": "50ms", "MatchDuration": "1h"},
        }},
    }}});
    std::fs::write(&path, settings.to_string()).unwrap();
    let arguments = ["sidecar", "--config", path.to_str().unwrap()];
    let mut own = fleet(Path::new(env!("CARGO_BIN_EXE_sortie")), &arguments, 2, &json!({}));
    own["game"] = "arena".into();
    own["version"] = "1".into();
    own["capacity"] = 2.into();
    site.configure(&json!({"dev": true, "fleets": {"own": own}}));
    let control_plane = site.up(&[]).await;
    let join = "/matchmaker/wannaplay?game=arena&version=1";
    let first = control_plane.ok("POST", join, Value::Null).await;
    let second = control_plane.ok("POST", join, Value::Null).await;
    assert_eq!(first["link"], second["link"], "both play in one match");
    let ready = control_plane.event("sortie.match.ready", None).await;
    assert_eq!(ready["data"]["connection"]["details"], first["link"]);
    assert_eq!(site.game_servers().len(), 1);
    let third = control_plane.ok("POST", join, Value::Null).await;
    assert_ne!(third["link"], first["link"], "the match is full");
    for server in control_plane.get("/v1/servers").await["servers"].as_array().unwrap() {
        let request = json!({"serverId": server["server_id"]});
        control_plane.ok("POST", "/api/v1/server/deallocate", request).await;
    }
    for _ in 0..2 {
        control_plane.event("sortie.allocation.ended", None).await;
    }
    let gone = async {
        while site.game_servers() != NONE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the end of the servers", gone).await;
}

#[tokio::test]
async fn a_match_outlives_the_backend_and_the_sidecar() {
    let site = Site::with_config(&without_servers());
    let address = fixed_address();
    let control_plane = site.up(&["--listen", &address]).await;
    let backend = control_plane.url.clone();
    let sidecar = Sidecar::start(&site, &settings(&backend)).await;
    let id = submitted(&control_plane).await;
    let offer = sidecar.ok("request_match", json!({"serverId": "s1"})).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
    control_plane.kill().await;

    let ready = json!({"serverId": "s1", "connectionDetails": "7777"});
    assert_eq!(
        sidecar.ok("match_ready", ready).await["matchId"],
        json!(id),
        "it is kept until it is delivered"
    );
    assert_eq!(sidecar.ok("request_match", json!({"serverId": "s2"})).await.get("match"), None);
    sidecar.process.kill().await;
    let sidecar = Sidecar::start(&site, &settings(&backend)).await;
    let ended = json!({"serverId": "s1"});
    assert_eq!(
        sidecar.ok("end_match", ended).await["matchId"],
        json!(id),
        "the match is known without its id"
    );

    let control_plane = site.up(&["--listen", &address]).await;
    let mut events = control_plane.events().await;
    let ready = events.find("sortie.match.ready", Some(&id)).await;
    assert_eq!(ready["data"]["connection"]["details"], "203.0.113.7:7777");
    events.find("sortie.match.ended", Some(&id)).await;
    sidecar.process.stop().await;
}

#[tokio::test]
async fn the_end_ends_its_matches_or_hands_them_over() {
    let site = Site::with_config(&without_servers());
    let control_plane = site.up(&[]).await;
    let mut settings = settings(&control_plane.url);
    settings["app"]["sidecar"]["Shutdown"] = json!({"Matches": "keep", "Deadline": "20s"});
    let sidecar = Sidecar::start(&site, &settings).await;
    let id = submitted(&control_plane).await;
    sidecar.ok("request_match", json!({})).await;
    sidecar.ok("match_ready", json!({"connectionDetails": "7777"})).await;
    sidecar.process.stop().await;
    assert_eq!(control_plane.show(&id).await["state"], "ready", "it was handed over");

    settings["app"]["sidecar"]["Shutdown"] = json!({"Matches": "end"});
    let sidecar = Sidecar::start(&site, &settings).await;
    // Somebody waits for a match while the sidecar is told to end.
    let waiting = {
        let url = format!("{}/api/v1/server/request_match", sidecar.http());
        let http = sortie_tls::http_client(&url, None).unwrap().build().unwrap();
        let body = json!({"serverId": "s2", "hintFlags": 2}).to_string();
        tokio::spawn(async move { http.post(url).body(body).send().await })
    };
    control_plane.event("sortie.server.registered", Some("s2")).await;
    sidecar.process.stop().await;
    let ended = control_plane.event("sortie.match.ended", Some(&id)).await;
    assert_eq!(ended["data"]["cause"], "server");
    let _answer = soon("an answer to who waited", waiting).await.unwrap();
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_by_their_key() {
    let site = Site::new();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let mut no_port = settings("http://127.0.0.1:1");
    no_port["app"]["event_source"]["configs"]["catena_api_event_source"]["HttpListenAddr"] = json!(taken);
    let mut unknown = settings("http://127.0.0.1:1");
    unknown["app"]["event_source"]["use"] = json!("catena_event_source");
    let mut missing = settings("http://127.0.0.1:1");
    missing["app"]["event_source"]["configs"] = json!({});
    let mut wrong = settings("http://127.0.0.1:1");
    wrong["app"]["event_source"]["configs"]["catena_api_event_source"]["GrpcListenAddr"] = json!(8080);
    let mut interval = settings("http://127.0.0.1:1");
    interval["app"]["event_source"] = json!({"use": "virtual_server_event_source", "configs": {
        "virtual_server_event_source": {
            "strategy": "continuous_strategy", "continuous_strategy": {"RequestInterval": 5},
        },
    }});
    for (settings, said) in [
        (no_port, "catena_api_event_source: HttpListenAddr"),
        (unknown, "app.event_source.use"),
        (missing, "app.event_source.configs"),
        (wrong, "app.event_source.configs.catena_api_event_source.GrpcListenAddr"),
        (interval, "virtual_server_event_source.continuous_strategy.RequestInterval"),
    ] {
        std::fs::write(site.path("bad.json"), settings.to_string()).unwrap();
        let refused = site.run(&["sidecar", "--config", "bad.json"]).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
}
