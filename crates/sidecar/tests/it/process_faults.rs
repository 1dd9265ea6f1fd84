//! Misbehaving programs, and backends that are away.

use std::time::Duration;

use serde_json::json;
use sortie_sidecar::manager::{Manager, ManagerOptions};
use sortie_sidecar::source::EventSource;
use sortie_sidecar::source::process::{NAME, ProcessSource};
use tokio_util::sync::CancellationToken;

use crate::fake_backend::{FakeBackend, Mood, game, not_held};
use crate::process::{Running, is_alive, run};

/// Runs it for one match, which must be given up, and returns what the backend heard.
async fn given_up(script: &str, more: &serde_json::Value) -> (Running, Vec<String>) {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let mut running = run(backend, script, more);
    running.hears("EndMatch", "a").await;
    let heard = running.close().await;
    (running, heard)
}

#[tokio::test]
async fn a_program_that_ends_before_it_is_ready_loses_its_match() {
    let (_, heard) = given_up("echo no luck; exit 3", &json!({"ReadyPattern": "READY"})).await;
    assert_eq!(heard, ["EndMatch a 0"]);
}

#[tokio::test]
async fn a_program_that_is_never_ready_is_ended_with_all_that_it_started() {
    let script = "sleep 1000 & echo $! > child; echo $$ > pid; sleep 1000";
    let more = json!({"ReadyPattern": "READY", "ReadyDeadline": "300ms"});
    let (running, heard) = given_up(script, &more).await;
    assert_eq!(heard, ["EndMatch a 0"]);
    assert!(!is_alive(&running.text("pid")));
    gone(&running.text("child")).await;
}

/// The process was killed, but nobody here is notified when it is gone.
async fn gone(pid: &str) {
    while is_alive(pid) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_port_that_never_answers_is_not_ready() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let more = json!({"ReadyPort": closed, "ReadyDeadline": "300ms"});
    let (_, heard) = given_up("sleep 1000", &more).await;
    assert_eq!(heard, ["EndMatch a 0"]);
}

#[tokio::test]
async fn a_program_that_ignores_sigterm_is_killed() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let script = "trap '' TERM; echo $$ > pid; echo up; while :; do sleep 0.05; done";
    let mut running = run(backend, script, &json!({"StopDeadline": "100ms", "ReadyPattern": "up"}));
    running.hears("MatchReady", "a").await;
    assert_eq!(running.close().await, ["MatchReady a PORT", "EndMatch a 1"]);
    assert!(!is_alive(&running.text("pid")));
}

#[tokio::test]
async fn a_program_may_end_well_when_the_sidecar_ends() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let script = "trap 'echo saved > saved; exit 0' TERM; echo up; while :; do sleep 0.05; done";
    let mut running = run(backend, script, &json!({"ReadyPattern": "up"}));
    running.hears("MatchReady", "a").await;
    running.close().await;
    assert_eq!(running.text("saved"), "saved\n");
}

#[tokio::test]
async fn output_of_any_kind_does_no_harm() {
    let script = r"printf 'bad \377\376\n'; head -c 10000000 /dev/zero | tr '\0' x; printf '\nREADY\n'; head -c 3000000 /dev/urandom";
    let (_, heard) = given_up(script, &json!({"ReadyPattern": "^READY$"})).await;
    assert_eq!(heard, ["MatchReady a PORT", "EndMatch a 0"]);
}

#[tokio::test]
async fn a_program_that_cannot_be_started_costs_one_match_and_a_pause() {
    for command in ["/does/not/exist", "/etc/passwd", "no-such-program-anywhere"] {
        let backend = FakeBackend::new();
        backend.has(&["a", "b"]);
        let mut running = run(backend, "", &json!({"Command": command}));
        running.hears("EndMatch", "a").await;
        assert_eq!(running.close().await, ["EndMatch a 0"], "{command}");
    }
    let (_, heard) = given_up("true", &json!({"WorkingDirectory": "/does/not/exist"})).await;
    assert_eq!(heard, ["EndMatch a 0"]);
}

#[tokio::test]
async fn hostile_matches_start_nothing() {
    for properties in
        ["no json", "[]", r#"{"map": "a\u0000b"}"#, &json!({"map": "x".repeat(200_000)}).to_string()]
    {
        let backend = FakeBackend::new();
        let mut hostile = game("a");
        hostile.match_properties = properties.to_owned();
        backend.has_match(hostile);
        let args = json!(["-c", "touch started", "game", "{property:map}"]);
        let mut running = run(backend, "", &json!({ "Args": args }));
        running.hears("EndMatch", "a").await;
        assert_eq!(running.close().await, ["EndMatch a 0"]);
        assert!(!running.file("started").exists());
    }
}

#[tokio::test]
async fn a_match_that_is_refused_at_ready_ends_its_program() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let script = "echo $$ > pid; while [ ! -e go ]; do sleep 0.01; done; echo up; sleep 1000";
    let mut running = run(backend.clone(), script, &json!({"ReadyPattern": "up"}));
    let mut changes = running.manager.changes();
    while running.manager.view().servers.iter().all(|server| server.matches.is_empty()) {
        changes.changed().await.unwrap();
    }
    backend.set(not_held());
    std::fs::write(running.file("go"), "").unwrap();
    running.hears("EndMatch", "a").await;
    assert_eq!(running.close().await, ["MatchReady a PORT", "EndMatch a 0"]);
    assert!(!is_alive(&running.text("pid")));
}

#[tokio::test]
async fn a_backend_that_is_away_does_no_harm_to_a_match() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let script = "while [ ! -e go ]; do sleep 0.01; done; echo up; while [ ! -e end ]; do sleep 0.01; done";
    let mut running = run(backend.clone(), script, &json!({"ReadyPattern": "up"}));
    let mut changes = running.manager.changes();
    while running.manager.view().servers.iter().all(|server| server.matches.is_empty()) {
        changes.changed().await.unwrap();
    }
    backend.set(Mood::Away);
    for file in ["go", "end"] {
        std::fs::write(running.file(file), "").unwrap();
    }
    while running.manager.view().queued.len() < 2 {
        changes.changed().await.unwrap();
    }
    backend.forget_heard();
    backend.set(Mood::Answers);
    running.hears("EndMatch", "a").await;
    let heard = running.close().await;
    assert_eq!(heard, ["MatchReady a PORT", "EndMatch a 0"], "in their order");
}

#[tokio::test]
async fn a_program_that_fails_in_its_match_ends_it() {
    let (_, heard) = given_up("exit 9", &json!({})).await;
    assert_eq!(heard, ["MatchReady a PORT", "EndMatch a 0"]);
}

#[tokio::test]
async fn a_program_that_waits_and_dies_is_started_again() {
    let backend = FakeBackend::new();
    let script = "echo $$ >> pids; echo up; if [ ! -e again ]; then touch again; exit 1; fi; read line";
    let more = json!({"Start": "ahead", "MatchLine": true, "ReadyPattern": "up", "RequestInterval": "10ms"});
    let mut running = run(backend.clone(), script, &more);
    backend.hears_calls(1).await;
    while running.text("pids").lines().count() < 2 {
        backend.hears_calls(backend.heard().len() + 1).await;
    }
    backend.has(&["a"]);
    running.hears("EndMatch", "a").await;
    assert_eq!(running.close().await[..2], ["MatchReady a PORT", "EndMatch a 0"]);
}

#[tokio::test]
async fn matches_of_an_earlier_sidecar_are_ended() {
    let backend = FakeBackend::new();
    backend.has(&["old"]);
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
    let id = manager.server_id_of(NAME);
    let asked = crate::fake_backend::ask(&id);
    manager.request_match(NAME, asked).await.unwrap();
    manager.match_ready(NAME, crate::fake_backend::ready(&id, "old", "here:1")).await.unwrap();
    let settings = json!({"Command": "true", "PortRange": crate::process::PORTS});
    let source = Box::new(ProcessSource::new(serde_json::from_value(settings).unwrap()).unwrap());
    let closing = CancellationToken::new();
    let source = tokio::spawn(source.run(manager, closing.clone()));
    backend.hears(&format!("EndMatch {id} old 1")).await;
    closing.cancel();
    source.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_an_address_for_players_nothing_is_asked() {
    let backend = FakeBackend::new();
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
    let settings = serde_json::from_value(json!({"Command": "true"})).unwrap();
    let source = Box::new(ProcessSource::new(settings).unwrap());
    let error = source.run(manager, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("process_event_source: players cannot be sent anywhere"), "{error}");
    assert!(backend.heard().is_empty());
}
