//! The virtual server, from its settings to what the backend hears. Time is virtual.

use std::sync::Arc;
use std::time::Duration;

use sortie_sidecar::manager::{Manager, ManagerOptions};
use sortie_sidecar::resolver::Resolver;
use sortie_sidecar::resolver::fixed::{StaticOptions, StaticResolver};
use sortie_sidecar::source::virtual_server::{NAME, VirtualServer};
use sortie_sidecar::source::{EventSource, SourceError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::fake_backend::{FakeBackend, Mood, not_held};

const SHUTDOWN: u32 = 1;

struct Playing {
    backend: FakeBackend,
    manager: Manager,
    id: String,
    closing: CancellationToken,
    source: JoinHandle<Result<(), SourceError>>,
}

fn play_with(backend: FakeBackend, manager: Manager, settings: &str) -> Playing {
    let closing = CancellationToken::new();
    let source = VirtualServer::new(serde_json::from_str(settings).unwrap()).unwrap();
    let source = tokio::spawn(Box::new(source).run(manager.clone(), closing.clone()));
    Playing { id: manager.server_id_of(NAME), backend, manager, closing, source }
}

fn play(backend: FakeBackend, settings: &str) -> Playing {
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), None);
    play_with(backend, manager, settings)
}

impl Playing {
    /// Everything the backend heard except requests, without the server's id.
    fn heard(&self) -> Vec<String> {
        let heard = self.backend.heard().into_iter().filter(|call| !call.starts_with("RequestMatch"));
        heard.map(|call| call.replace(&format!(" {}", self.id), "")).collect()
    }

    async fn hears(&self, call: &str, rest: &str) {
        self.backend.hears(&format!("{call} {} {rest}", self.id)).await;
    }

    /// What the backend heard until the event source had nothing more to do.
    async fn done(mut self) -> Vec<String> {
        (&mut self.source).await.unwrap().unwrap();
        self.heard()
    }
}

#[tokio::test(start_paused = true)]
async fn one_match_follows_the_other_until_the_sidecar_ends() {
    let backend = FakeBackend::new();
    backend.has(&["a", "b"]);
    let settings = r#"{"strategy": "continuous_strategy", "ConnectionDetails": "here:7",
        "continuous_strategy": {"RequestInterval": "5s", "ReadyDelay": "1s", "MatchDuration": "10s"}}"#;
    let playing = play(backend, settings);
    playing.hears("EndMatch", "b 0").await;
    assert_eq!(
        playing.heard(),
        ["MatchReady a here:7", "EndMatch a 0", "MatchReady b here:7", "EndMatch b 0"]
    );
    playing.closing.cancel();
    assert_eq!(playing.done().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn players_are_sent_where_the_resolver_says() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let options: StaticOptions = serde_json::from_str(r#"{"Address": "play.example:9"}"#).unwrap();
    let resolver: Arc<dyn Resolver> = Arc::new(StaticResolver::new(options));
    let manager = Manager::new(ManagerOptions::default(), backend.shared(), Some(resolver));
    let heard = play_with(backend, manager, r#"{"strategy": "once"}"#).done().await;
    assert_eq!(heard, ["MatchReady a play.example:9", "EndMatch a 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_is_asked_again() {
    let backend = FakeBackend::new();
    backend.set(Mood::Away);
    let playing = play(backend.clone(), r#"{"strategy": "once_strategy"}"#);
    backend.hears_calls(3).await;
    backend.has(&["a"]);
    backend.set(Mood::Answers);
    assert_eq!(playing.done().await, ["MatchReady a 127.0.0.1:7777", "EndMatch a 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_during_a_match_hears_about_it_later() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let settings = r#"{"strategy": "once", "once": {"ReadyDelay": "1s", "MatchDuration": "10s"}}"#;
    let playing = play(backend.clone(), settings);
    backend.hears_calls(1).await;
    tokio::task::yield_now().await;
    backend.set(Mood::Away);
    let (manager, id) = (playing.manager.clone(), playing.id.clone());
    playing.done().await;
    assert!(manager.view().queued.len() == 2, "both calls wait");
    backend.forget_heard();
    backend.set(Mood::Answers);
    backend.hears(&format!("EndMatch {id} a 0")).await;
}

#[tokio::test(start_paused = true)]
async fn a_match_that_is_refused_at_ready_is_ended() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let settings = r#"{"strategy": "once", "once": {"ReadyDelay": "1s", "MatchDuration": "1h"}}"#;
    let playing = play(backend.clone(), settings);
    backend.hears_calls(1).await;
    tokio::task::yield_now().await;
    backend.set(not_held());
    assert_eq!(playing.done().await, ["MatchReady a 127.0.0.1:7777", "EndMatch a 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_the_backend_does_not_want_done() {
    let backend = FakeBackend::new();
    backend.set_hints(SHUTDOWN);
    let playing = play(backend, "{}");
    assert!(playing.done().await.is_empty());
    let backend = FakeBackend::new();
    backend.set_hints(SHUTDOWN);
    backend.has(&["a", "b"]);
    let heard = play(backend, "{}").done().await;
    assert_eq!(heard, ["MatchReady a 127.0.0.1:7777", "EndMatch a 0"], "what it has is played to its end");
}

#[tokio::test(start_paused = true)]
async fn several_matches_are_on_one_server() {
    let backend = FakeBackend::new();
    backend.has(&["a", "b", "c"]);
    let playing =
        play(backend, r#"{"strategy": "parallel", "parallel": {"Matches": 3, "MatchDuration": "1h"}}"#);
    for game in ["a", "b", "c"] {
        playing.hears("MatchReady", &format!("{game} 127.0.0.1:7777")).await;
    }
    let view = playing.manager.view();
    assert_eq!(view.servers.len(), 1);
    assert_eq!(view.servers[0].matches.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn chaos_reaches_the_backend() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let settings = r#"{"strategy": "chaos", "chaos": {"Seed": 1, "Behaviours": {"double_end": 1}}}"#;
    let playing = play(backend, settings);
    playing.hears("EndMatch", "a 0").await;
    playing.backend.hears_calls(5).await;
    assert_eq!(playing.heard(), ["MatchReady a 127.0.0.1:7777", "EndMatch a 0", "EndMatch a 0"]);
}

#[tokio::test(start_paused = true)]
async fn silence_makes_the_sidecar_report_it_gone() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let options = ManagerOptions { silent_after: Some(Duration::from_secs(10)), ..ManagerOptions::default() };
    let manager = Manager::new(options, backend.shared(), None);
    let settings =
        r#"{"strategy": "chaos", "chaos": {"ForgetAfter": "1h", "Behaviours": {"silent_after_taking": 1}}}"#;
    let playing = play_with(backend, manager, settings);
    playing.hears("EndMatch", "a 1").await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_plays_is_not_silent() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let options = ManagerOptions { silent_after: Some(Duration::from_secs(10)), ..ManagerOptions::default() };
    let manager = Manager::new(options, backend.shared(), None);
    let settings = r#"{"strategy": "once", "once": {"MatchDuration": "1h"}}"#;
    let heard = play_with(backend, manager, settings).done().await;
    assert_eq!(heard, ["MatchReady a 127.0.0.1:7777", "EndMatch a 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_match_from_before_a_restart_is_played_on() {
    let backend = FakeBackend::new();
    backend.has(&["a"]);
    let first = play(backend.clone(), r#"{"continuous_strategy": {"MatchDuration": "1h"}}"#);
    first.hears("MatchReady", "a 127.0.0.1:7777").await;
    first.closing.cancel();
    let manager = first.manager.clone();
    assert_eq!(first.done().await, ["MatchReady a 127.0.0.1:7777"], "what becomes of it is the manager's");
    let second = play_with(backend, manager, r#"{"continuous_strategy": {"MatchDuration": "1s"}}"#);
    second.hears("EndMatch", "a 0").await;
}

#[test]
fn bad_settings_are_refused_with_the_key() {
    let settings = serde_json::from_str(r#"{"ConnectionDetails": ""}"#).unwrap();
    let error = VirtualServer::new(settings).err().unwrap().to_string();
    assert_eq!(error, "ConnectionDetails: must say where players connect");
}
