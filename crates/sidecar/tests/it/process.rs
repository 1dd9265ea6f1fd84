//! Programs as game servers: what they receive, and what the backend hears. The programs are shells.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sortie_sidecar::manager::{Manager, ManagerOptions};
use sortie_sidecar::source::process::{NAME, ProcessSource};
use sortie_sidecar::source::{EventSource, SourceError};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_backend::{FakeBackend, game};

const SHUTDOWN: u32 = 1;
/// Ports that only these tests use.
pub(crate) const PORTS: &str = "24100-24399";

/// A running event source.
pub(crate) struct Running {
    pub(crate) backend: FakeBackend,
    pub(crate) manager: Manager,
    pub(crate) id: String,
    pub(crate) closing: CancellationToken,
    /// Working folder of the programs.
    pub(crate) folder: TempDir,
    source: JoinHandle<Result<(), SourceError>>,
}

/// Runs `script` for each match, with additional settings.
pub(crate) fn run(backend: FakeBackend, script: &str, more: &Value) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = json!({
        "Command": "/bin/sh", "Args": ["-c", script, "game"], "WorkingDirectory": folder.path(),
        "PortRange": PORTS, "StopDeadline": "5s",
    });
    let more = more.as_object().cloned().unwrap_or_default();
    settings.as_object_mut().unwrap().extend(more);
    let source = ProcessSource::new(serde_json::from_value(settings).unwrap()).unwrap();
    // Cargo sets it for tests.
    let source = source.passing(&["CARGO_PKG_NAME".to_owned()]);
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
    let closing = CancellationToken::new();
    let source = tokio::spawn(Box::new(source).run(manager.clone(), closing.clone()));
    Running { id: manager.server_id_of(NAME), backend, manager, closing, folder, source }
}

impl Running {
    /// Everything the backend heard except requests: without the server's id, and with PORT for the port.
    pub(crate) fn heard(&self) -> Vec<String> {
        let heard = self.backend.heard().into_iter().filter(|call| !call.starts_with("RequestMatch"));
        heard
            .map(|call| {
                let call = call.replace(&format!(" {}", self.id), "");
                call.split_once("127.0.0.1:").map_or(call.clone(), |(before, _)| format!("{before}PORT"))
            })
            .collect()
    }

    /// Waits until the backend has heard about the match with this prefix.
    pub(crate) async fn hears(&self, call: &str, game: &str) {
        let beginning = format!("{call} {} {game} ", self.id);
        let mut changes = self.manager.changes();
        while !self.backend.heard().iter().any(|call| call.starts_with(&beginning)) {
            changes.changed().await.unwrap();
        }
    }

    /// Waits until the event source has nothing more to do.
    pub(crate) async fn done(&mut self) -> Vec<String> {
        (&mut self.source).await.unwrap().unwrap();
        self.heard()
    }

    /// Shuts the sidecar down.
    pub(crate) async fn close(&mut self) -> Vec<String> {
        self.closing.cancel();
        self.done().await
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap()
    }
}

/// Whether this process exists and has not ended.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn a_match_lives_as_long_as_its_program() {
    let backend = FakeBackend::new();
    let mut with_data = game("a");
    with_data.match_properties = r#"{"map": "dust; touch pwned"}"#.to_owned();
    backend.has_match(with_data);
    backend.has(&["b"]);
    let script = r#"env > "$SORTIE_MATCH_ID.env"; printf '%s\n' "$@" > "$SORTIE_MATCH_ID.args""#;
    let args = json!([
        "-c",
        script,
        "game",
        "{match_id}",
        "--map={property:map}",
        "{port}",
        "{public_address}",
        "{server_id}"
    ]);
    let mut running = run(backend, script, &json!({"Args": args, "Env": {"MINE": "is {match_id}"}}));
    running.hears("EndMatch", "b").await;
    assert_eq!(running.heard(), ["MatchReady a PORT", "EndMatch a 0", "MatchReady b PORT", "EndMatch b 0"]);
    let variables = running.text("a.env");
    let variable = |name: &str| {
        variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let port = variable("SORTIE_PORT").unwrap();
    assert_eq!(variable("SORTIE_PUBLIC_ADDRESS"), Some(format!("127.0.0.1:{port}")));
    assert_eq!(variable("SORTIE_PLAYER_IDS").as_deref(), Some(r#"["p1"]"#));
    assert_eq!(variable("SORTIE_MATCH_PROPERTIES").as_deref(), Some(r#"{"map": "dust; touch pwned"}"#));
    assert_eq!(variable("SORTIE_PLAYER_PROPERTIES").as_deref(), Some("{}"));
    assert_eq!(variable("SORTIE_SERVER_ID").as_ref(), Some(&running.id));
    assert_eq!(variable("MINE").as_deref(), Some("is a"));
    assert_eq!(variable("CARGO_PKG_NAME").as_deref(), Some("sortie-sidecar"), "it is named");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert_eq!(variable("CARGO_MANIFEST_DIR"), None, "nobody names it");
    assert_eq!(variable("HOME"), std::env::var("HOME").ok());
    let expected = format!("a\n--map=dust; touch pwned\n{port}\n127.0.0.1:{port}\n{}\n", running.id);
    assert_eq!(running.text("a.args"), expected);
    assert!(!running.file("pwned").exists());
    running.close().await;
}

#[tokio::test]
async fn a_line_of_output_says_that_it_is_ready() {
    for stream in [1, 2] {
        let backend = FakeBackend::new();
        backend.has(&["a"]);
        let script = format!(
            "echo starting; while [ ! -e go ]; do sleep 0.01; done; echo 'now: READY 7' >&{stream}; read x"
        );
        let mut running = run(backend, &script, &json!({"ReadyPattern": "READY [0-9]+$", "MatchLine": true}));
        let mut changes = running.manager.changes();
        while running.manager.view().servers.iter().all(|server| server.matches.is_empty()) {
            changes.changed().await.unwrap();
        }
        assert!(running.heard().is_empty());
        std::fs::write(running.file("go"), "").unwrap();
        running.hears("MatchReady", "a").await;
        running.close().await;
    }
}

#[tokio::test]
async fn a_port_that_answers_says_that_it_is_ready() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let mut running = run(backend, "sleep 1000", &json!({"ReadyPort": port}));
    running.hears("MatchReady", "a").await;
    assert_eq!(running.close().await, ["MatchReady a PORT", "EndMatch a 1"]);
}

#[tokio::test]
async fn a_match_file_is_removed_after_its_match() {
    let backend = FakeBackend::new();
    let mut long = game("a");
    long.match_properties = json!({"long": "x".repeat(1_000_000)}).to_string();
    backend.has_match(long);
    let script = r#"cp -p "$SORTIE_MATCH_FILE" copy; echo "$SORTIE_MATCH_FILE" > path"#;
    let mut running = run(backend, script, &json!({"MatchFile": true}));
    running.hears("EndMatch", "a").await;
    let document: Value = serde_json::from_str(&running.text("copy")).unwrap();
    assert_eq!(document["matchId"], "a");
    assert_eq!(document["matchProperties"]["long"].as_str().map(str::len), Some(1_000_000));
    assert!(!Path::new(running.text("path").trim()).exists());
    assert_eq!(running.close().await, ["MatchReady a PORT", "EndMatch a 0"]);
}

#[tokio::test]
async fn a_program_that_is_started_ahead_gets_its_match_by_line_and_file() {
    let backend = FakeBackend::new();
    let script =
        r#"echo $$ >> pids; echo up; read line; echo "$line" >> lines; cat "$SORTIE_MATCH_FILE" >> files"#;
    let more = json!({"Start": "ahead", "MatchLine": true, "MatchFile": true, "ReadyPattern": "^up$",
        "RequestInterval": "10ms"});
    let mut running = run(backend.clone(), script, &more);
    backend.hears_calls(2).await;
    assert!(is_alive(&running.text("pids")), "it waits before there is a match");
    backend.has(&["a", "b"]);
    running.hears("EndMatch", "b").await;
    running.close().await;
    let heard = running.heard();
    assert_eq!(heard[..4], ["MatchReady a PORT", "EndMatch a 0", "MatchReady b PORT", "EndMatch b 0"]);
    let ids = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["matchId"].take()).collect()
    };
    assert_eq!(ids(&running.text("lines")), ["a", "b"]);
    assert_eq!(ids(&running.text("files")), ["a", "b"]);
    assert!(running.text("pids").lines().all(|pid| !is_alive(pid)));
}

#[tokio::test]
async fn each_program_is_a_server_of_its_own() {
    let backend = FakeBackend::new();
    backend.has(&["a", "b"]);
    let mut running = run(backend, "sleep 1000", &json!({"Matches": 2}));
    let mut changes = running.manager.changes();
    let ready = |running: &Running| {
        let servers = running.manager.view().servers;
        servers
            .into_iter()
            .filter(|server| server.matches.iter().any(|held| held.is_ready))
            .collect::<Vec<_>>()
    };
    while ready(&running).len() < 2 {
        changes.changed().await.unwrap();
    }
    let servers = ready(&running);
    assert_eq!([&servers[0].id, &servers[1].id], [&running.id, &format!("{}-2", running.id)]);
    let details = |at: usize| servers[at].matches[0].connection_details.clone();
    assert_ne!(details(0), details(1), "each has a port of its own");
    running.close().await;
}

#[tokio::test]
async fn a_backend_that_wants_no_more_lets_the_match_end() {
    let backend = FakeBackend::new();
    backend.has(&["a", "b"]);
    backend.set_hints(SHUTDOWN);
    let mut running = run(backend, "while [ ! -e go ]; do sleep 0.01; done", &json!({}));
    running.hears("MatchReady", "a").await;
    std::fs::write(running.file("go"), "").unwrap();
    assert_eq!(running.done().await, ["MatchReady a PORT", "EndMatch a 0"]);
}
