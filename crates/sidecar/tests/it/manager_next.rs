//! Waiting for the next match.

use std::time::Duration;

use sortie_sidecar::manager::{Manager, ManagerOptions, Next};
use sortie_wire::status::refusal;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::fake_backend::{FakeBackend, Mood, game};

const SOURCE: &str = "virtual_server_event_source";
const PACE: Duration = Duration::from_secs(5);

fn manager(backend: &FakeBackend) -> Manager {
    Manager::new(ManagerOptions::default(), backend.shared(), None)
}

async fn next(manager: &Manager) -> Result<Next, sortie_wire::status::Status> {
    manager.next_match(SOURCE, "s", "", PACE, &CancellationToken::new()).await
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_answers_at_once_is_asked_at_the_pace() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { next(&manager).await }
    });
    let began = Instant::now();
    backend.hears_calls(4).await;
    assert_eq!(began.elapsed().as_secs(), 15);
    backend.has(&["m1"]);
    assert_eq!(waiting.await.unwrap(), Ok(Next::Match(game("m1"))));
    assert_eq!(backend.heard()[0], "RequestMatch s 6");
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_is_asked_again_until_it_is_back() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Away);
    let waiting = tokio::spawn({
        let manager = manager.clone();
        async move { next(&manager).await }
    });
    backend.hears_calls(10).await;
    backend.has(&["m1"]);
    backend.set(Mood::Answers);
    assert_eq!(waiting.await.unwrap(), Ok(Next::Match(game("m1"))));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_knows_no_hints_is_asked_without() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    let text = "hintFlags: 6 has unknown bits";
    backend.set(Mood::Refuses(refusal(Code::InvalidArgument, "invalid_field", text)));
    // Without hints, the same refusal is about something else.
    assert_eq!(next(&manager).await.unwrap_err().message, text);
    assert_eq!(backend.heard(), ["RequestMatch s 6", "RequestMatch s 0"]);
    backend.set(Mood::Answers);
    backend.has(&["m1"]);
    assert_eq!(next(&manager).await, Ok(Next::Match(game("m1"))));
    assert_eq!(backend.heard()[2], "RequestMatch s 0");
}

#[tokio::test(start_paused = true)]
async fn the_backends_hint_and_refusals_end_the_wait() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set_hints(1);
    assert_eq!(next(&manager).await, Ok(Next::Shutdown));
    let text = "this call needs an API key";
    backend.set(Mood::Refuses(refusal(Code::Unauthenticated, "unauthenticated", text)));
    assert_eq!(next(&manager).await.unwrap_err().message, text);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_the_wait_and_loses_no_match() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    for mood in [Mood::Silent, Mood::Away, Mood::Answers] {
        backend.set(mood);
        let closing = CancellationToken::new();
        let cancel = async {
            sleep(Duration::from_secs(1)).await;
            closing.cancel();
        };
        let (next, ()) = tokio::join!(manager.next_match(SOURCE, "s", "", PACE, &closing), cancel);
        assert_eq!(next, Ok(Next::Closing));
    }
    // The aborted request brings a match: it goes to the next request, which follows at once.
    backend.set(Mood::Silent);
    let closing = CancellationToken::new();
    let cancel = async {
        sleep(Duration::from_secs(1)).await;
        closing.cancel();
    };
    let (_, ()) = tokio::join!(manager.next_match(SOURCE, "s", "", PACE, &closing), cancel);
    backend.has(&["m1"]);
    backend.set(Mood::Answers);
    assert_eq!(next(&manager).await, Ok(Next::Match(game("m1"))));
}
