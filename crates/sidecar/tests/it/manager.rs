//! The manager between game servers and an unreliable backend. Time is virtual.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sortie_sidecar::manager::{
    AtShutdown, Manager, ManagerOptions, Next, Outcome, ServerState, ShutdownReport,
};
use sortie_sidecar::resolver::{Address, ResolveError, Resolver};
use sortie_wire::catena::server_manager::RequestMatchRequest;
use sortie_wire::status::{reason, refusal};
use tokio::time::{Instant, advance, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::fake_backend::{FakeBackend, Mood, ask, end, game, not_held, ready};

const SOURCE: &str = "catena_api_event_source";
const WAIT: u32 = 2;

fn manager(backend: &FakeBackend) -> Manager {
    Manager::new(ManagerOptions::default(), backend.shared(), None)
}

/// A server that holds these matches.
async fn with_matches(backend: &FakeBackend, manager: &Manager, server: &str, ids: &[&str]) {
    backend.has(ids);
    for id in ids {
        let response = manager.request_match(SOURCE, ask(server)).await.unwrap();
        assert_eq!(response.r#match, Some(game(id)));
    }
}

/// Waits until the manager has nothing left to deliver.
async fn delivered(manager: &Manager) {
    let mut changes = manager.changes();
    while !manager.view().queued.is_empty() {
        changes.changed().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn omitted_ids_are_filled_in() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    let id = manager.server_id_of(SOURCE);
    with_matches(&backend, &manager, "", &["m1"]).await;
    let response = manager.match_ready(SOURCE, ready("", "", "h:1")).await.unwrap();
    assert_eq!(response.match_id, "m1");
    manager.end_match(SOURCE, end("", "")).await.unwrap();
    let heard =
        [format!("RequestMatch {id} 0"), format!("MatchReady {id} m1 h:1"), format!("EndMatch {id} m1 0")];
    assert_eq!(backend.heard(), heard);
    assert_eq!(manager.view().servers[0].state, ServerState::Ready);
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_match_is_refused_with_the_candidates() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    let none = manager.end_match(SOURCE, end("s", "")).await.unwrap_err();
    assert_eq!(none.code, i32::from(Code::InvalidArgument));
    assert_eq!(none.message, "matchId: must be given: server s holds no match");
    with_matches(&backend, &manager, "s", &["m1", "m2"]).await;
    let several = manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap_err();
    assert_eq!(several.message, "matchId: must be given: server s holds 2 matches: m1, m2");
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    assert_eq!(manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap().match_id, "m2");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_filled_in_if_so_configured() {
    let backend = FakeBackend::new();
    let options = ManagerOptions { auto_populate_ids: false, ..ManagerOptions::default() };
    let manager = Manager::new(options, backend.shared(), None);
    let refused = manager.request_match(SOURCE, ask("")).await.unwrap_err();
    assert_eq!(refused.message, "serverId: must be given: AutoPopulateIDs is off");
    with_matches(&backend, &manager, "s", &["m1"]).await;
    let refused = manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap_err();
    assert_eq!(refused.message, "matchId: must be given: AutoPopulateIDs is off");
}

#[tokio::test(start_paused = true)]
async fn ids_that_are_none_are_refused() {
    let manager = manager(&FakeBackend::new());
    for id in ["ä", "a\nb", &"x".repeat(129)] {
        let refused = manager.request_match(SOURCE, ask(id)).await.unwrap_err();
        assert_eq!(reason(&refused).as_deref(), Some("invalid_field"), "{id:?}");
        assert!(manager.match_ready(SOURCE, ready("s", id, "")).await.is_err());
    }
    assert!(manager.register(SOURCE, "").is_err());
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_is_away_there_is_no_match_and_calls_wait_in_order() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1"]).await;
    backend.set(Mood::Away);
    let response = manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap();
    assert_eq!((response.match_id.as_str(), response.hint_flags), ("m1", 0));
    manager.end_match(SOURCE, end("s", "")).await.unwrap();
    assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap().r#match, None);
    assert_eq!(manager.request_match(SOURCE, ask("other")).await.unwrap().r#match, None);
    let view = manager.view();
    let waiting: Vec<_> = view.queued.iter().map(|queued| (queued.call, queued.match_id.as_str())).collect();
    assert_eq!(waiting, [("MatchReady", "m1"), ("EndMatch", "m1")]);
    assert_eq!(view.backend.away.unwrap().why, "connection refused");

    backend.forget_heard();
    backend.set(Mood::Answers);
    delivered(&manager).await;
    assert_eq!(backend.heard(), ["MatchReady s m1 h:1", "EndMatch s m1 0"]);
    assert_eq!(manager.view().backend.away, None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_call_does_not_overtake_older_ones_and_other_servers_do_not_wait() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Away);
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    backend.set(Mood::Answers);
    // Its lane has not retried yet: virtual time stands still.
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    manager.end_match(SOURCE, end("t", "m9")).await.unwrap();
    delivered(&manager).await;
    assert_eq!(backend.heard()[1..], ["EndMatch t m9 0", "MatchReady s m1 h:1", "EndMatch s m1 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_says_nothing_is_away() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Silent);
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    assert_eq!(manager.view().queued.len(), 1);
    assert_eq!(manager.request_match(SOURCE, ask("t")).await.unwrap().r#match, None);
    let why = manager.view().backend.away.unwrap().why;
    assert!(why.starts_with("no answer to "), "{why}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_willing_to_wait_waits_for_the_backend_too() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Away);
    let began = Instant::now();
    let request = RequestMatchRequest { hint_flags: WAIT, ..ask("s") };
    assert_eq!(manager.request_match(SOURCE, request).await.unwrap().r#match, None);
    assert!(began.elapsed() > Duration::ZERO, "it could ask again at once, without end");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_passed_to_the_game_server_and_not_queued() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1"]).await;
    backend.set(not_held());
    let refused = manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap_err();
    assert_eq!(reason(&refused).as_deref(), Some("match_not_held"));
    assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap_err().message, "not yours any more");
    assert!(manager.view().queued.is_empty());
    // Its calls after its next match are about that match.
    backend.set(Mood::Answers);
    with_matches(&backend, &manager, "s", &["m2"]).await;
    assert_eq!(manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap().match_id, "m2");
}

#[tokio::test(start_paused = true)]
async fn a_late_refusal_counts_as_delivered() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Away);
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    backend.set(not_held());
    delivered(&manager).await;
    let outcomes: Vec<_> = manager.calls().into_iter().map(|call| call.outcome).collect();
    let refused = Outcome::Refused("not yours any more".to_owned());
    assert_eq!(outcomes, [Outcome::Queued, Outcome::Queued, refused.clone(), refused]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_was_away_is_told_about_ready_matches() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1", "m2"]).await;
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    backend.set(Mood::Away);
    manager.request_match(SOURCE, ask("s")).await.unwrap();
    backend.forget_heard();
    backend.set(Mood::Answers);
    backend.hears("MatchReady s m1 h:1").await;
    let mut changes = manager.changes();
    while manager.view().backend.away.is_some() {
        changes.changed().await.unwrap();
    }
    // Once, and nothing about the match that is not ready.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.heard(), ["MatchReady s m1 h:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_forgot_a_match_does_not_end_it() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1"]).await;
    manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap();
    backend.set(Mood::Away);
    manager.request_match(SOURCE, ask("t")).await.unwrap();
    backend.set(not_held());
    let mut changes = manager.changes();
    while !manager.view().servers[0].matches[0].is_disowned {
        changes.changed().await.unwrap();
    }
    let server = &manager.view().servers[0];
    assert!(server.matches[0].is_ready && server.state == ServerState::InMatch);
    backend.set(Mood::Answers);
    assert_eq!(manager.end_match(SOURCE, end("s", "")).await.unwrap().match_id, "m1");
}

struct FixedResolver(Result<Address, ResolveError>);

#[async_trait]
impl Resolver for FixedResolver {
    fn name(&self) -> &'static str {
        "fixed_resolver"
    }

    async fn resolve(&self, _: &str) -> Result<Address, ResolveError> {
        self.0.clone()
    }

    fn release(&self, _: &str) {}
}

fn resolving(backend: &FakeBackend, result: Result<Address, ResolveError>) -> Manager {
    let options = ManagerOptions { override_connection_details: true, ..ManagerOptions::default() };
    Manager::new(options, backend.shared(), Some(Arc::new(FixedResolver(result))))
}

#[tokio::test(start_paused = true)]
async fn the_resolvers_address_replaces_what_the_game_server_sent() {
    let backend = FakeBackend::new();
    let manager = resolving(&backend, Ok(Address { host: "203.0.113.9".to_owned(), port: None }));
    let mut request = ready("s", "m1", "10.0.0.1:7777");
    request.per_player_connection_details.insert("p1".to_owned(), "own".to_owned());
    manager.match_ready(SOURCE, request).await.unwrap();
    assert_eq!(backend.heard(), ["MatchReady s m1 203.0.113.9:7777"]);
    let server = manager.view().servers.remove(0);
    assert_eq!(server.address.as_deref(), Some("203.0.113.9"));
    assert_eq!(server.matches[0].per_player_connection_details["p1"], "own");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_an_address_is_not_ready() {
    let backend = FakeBackend::new();
    let manager = resolving(&backend, Err(ResolveError("every port is taken".to_owned())));
    let refused = manager.match_ready(SOURCE, ready("s", "m1", "10.0.0.1:7777")).await.unwrap_err();
    assert_eq!(refused.message, "the server's address is unknown: every port is taken");
    assert!(backend.heard().is_empty());
}

/// Makes a request of a server that is willing to wait, and aborts it.
async fn breaks_off(manager: &Manager, server: &str) {
    let request = RequestMatchRequest { hint_flags: WAIT, ..ask(server) };
    let asked = manager.request_match(SOURCE, request);
    assert!(timeout(Duration::from_secs(1), asked).await.is_err(), "nothing came meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_question_that_nobody_waits_for_any_more_is_withdrawn() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Holds);
    breaks_off(&manager, "s").await;
    backend.is_left().await;
    assert_eq!(backend.heard(), ["RequestMatch s 2", "RequestMatch s 24"]);
    // So the next match is another server's, and nothing has to be handed back.
    backend.has(&["m1"]);
    assert_eq!(manager.request_match(SOURCE, ask("t")).await.unwrap().r#match, Some(game("m1")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.heard()[2..], ["RequestMatch t 0"]);
}

#[tokio::test(start_paused = true)]
async fn a_match_in_flight_is_handed_back_unless_the_server_asks_again() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Silent);
    breaks_off(&manager, "s").await;
    backend.hears("RequestMatch s 24").await;
    backend.has(&["m1"]);
    backend.set(Mood::Answers);
    backend.hears("EndMatch s m1 24").await;
    backend.forget_heard();

    backend.set(Mood::Silent);
    breaks_off(&manager, "s").await;
    backend.hears("RequestMatch s 24").await;
    backend.has(&["m2"]);
    // It asks while the question is being withdrawn.
    let again = manager.request_match(SOURCE, ask("s"));
    let answers = async {
        tokio::task::yield_now().await;
        backend.set(Mood::Answers);
    };
    let (again, ()) = tokio::join!(again, answers);
    assert_eq!(again.unwrap().r#match, Some(game("m2")));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(backend.heard(), ["RequestMatch s 2", "RequestMatch s 24"]);
    assert_eq!(manager.view().servers[0].matches.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_questions_of_one_server_the_other_one_gets_the_match() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Silent);
    let other = tokio::spawn({
        let (manager, request) = (manager.clone(), RequestMatchRequest { hint_flags: WAIT, ..ask("s") });
        async move { manager.request_match(SOURCE, request).await }
    });
    breaks_off(&manager, "s").await;
    backend.hears("RequestMatch s 24").await;
    backend.has(&["m1"]);
    backend.set(Mood::Answers);
    assert_eq!(other.await.unwrap().unwrap().r#match, Some(game("m1")));
    sleep(Duration::from_secs(60)).await;
    assert!(!backend.heard().iter().any(|call| call.starts_with("EndMatch")), "{:?}", backend.heard());
}

/// Such a backend understands only the end of the call.
#[tokio::test(start_paused = true)]
async fn a_call_to_a_silent_backend_or_one_without_hints_is_ended() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Silent);
    breaks_off(&manager, "s").await;
    backend.is_left().await;
    assert_eq!(backend.heard(), ["RequestMatch s 2", "RequestMatch s 24"]);

    let text = "hintFlags: 6 has unknown bits";
    backend.set(Mood::Refuses(refusal(Code::InvalidArgument, "invalid_field", text)));
    let pace = Duration::from_secs(1);
    manager.next_match(SOURCE, "s", "", pace, &CancellationToken::new()).await.unwrap_err();
    backend.set(Mood::Silent);
    backend.forget_heard();
    breaks_off(&manager, "s").await;
    backend.is_left().await;
    assert_eq!(backend.heard(), ["RequestMatch s 2"]);
}

#[tokio::test(start_paused = true)]
async fn the_question_of_a_server_that_is_gone_is_withdrawn() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Holds);
    // Somebody else still holds its connection.
    let asking = tokio::spawn({
        let (manager, request) = (manager.clone(), RequestMatchRequest { hint_flags: WAIT, ..ask("s") });
        async move { manager.request_match(SOURCE, request).await }
    });
    backend.hears("RequestMatch s 2").await;
    manager.server_gone("s", "its process exited").await;
    assert_eq!(asking.await.unwrap().unwrap().r#match, None);
    assert_eq!(backend.heard(), ["RequestMatch s 2", "RequestMatch s 9"], "it takes its leave");
    // It still plays another match: taking its leave would end that match in the wrong way.
    backend.set(Mood::Answers);
    with_matches(&backend, &manager, "t", &["m1"]).await;
    backend.set(Mood::Holds);
    breaks_off(&manager, "t").await;
    backend.forget_heard();
    manager.server_gone("t", "its process exited").await;
    backend.hears("EndMatch t m1 1").await;
    assert!(!backend.heard().contains(&"RequestMatch t 9".to_owned()), "{:?}", backend.heard());
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_withdraws_questions() {
    for (how, withdraws) in
        [(AtShutdown::EndMatches, "RequestMatch s 9"), (AtShutdown::KeepMatches, "RequestMatch s 24")]
    {
        let backend = FakeBackend::new();
        let manager = manager(&backend);
        backend.set(Mood::Holds);
        let asking = tokio::spawn({
            let manager = manager.clone();
            async move {
                let pace = Duration::from_secs(1);
                manager.next_match(SOURCE, "s", "", pace, &CancellationToken::new()).await
            }
        });
        backend.hears("RequestMatch s 6").await;
        let report = manager.shutdown(how, Duration::from_secs(60)).await;
        assert_eq!(report, ShutdownReport { undelivered: 0, kept: 0 });
        assert_eq!(asking.await.unwrap(), Ok(Next::Closing));
        assert_eq!(backend.heard(), ["RequestMatch s 6", withdraws]);

        // A match in flight then goes back, before the end.
        let manager = self::manager(&backend);
        backend.set(Mood::Silent);
        breaks_off(&manager, "s").await;
        backend.has(&["m1"]);
        let answers = async {
            tokio::task::yield_now().await;
            backend.set(Mood::Answers);
        };
        backend.forget_heard();
        let (report, ()) = tokio::join!(manager.shutdown(how, Duration::from_secs(60)), answers);
        assert_eq!(report, ShutdownReport { undelivered: 0, kept: 0 });
        let handed_back: Vec<_> =
            backend.heard().into_iter().filter(|call| call.starts_with("EndMatch s m1")).collect();
        assert_eq!(handed_back.len(), 1, "{:?}", backend.heard());
    }
}

#[tokio::test(start_paused = true)]
async fn the_backend_hears_that_a_free_server_is_gone_after_its_question_was_withdrawn() {
    // Like an event source, which aborts its calls before the manager ends.
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Holds);
    breaks_off(&manager, "s").await;
    backend.is_left().await;
    manager.shutdown(AtShutdown::EndMatches, Duration::from_secs(60)).await;
    assert_eq!(backend.heard(), ["RequestMatch s 2", "RequestMatch s 24", "RequestMatch s 9"]);

    // The next sidecar takes over the server.
    let manager = self::manager(&backend);
    breaks_off(&manager, "t").await;
    backend.forget_heard();
    manager.shutdown(AtShutdown::KeepMatches, Duration::from_secs(60)).await;
    assert!(!backend.heard().contains(&"RequestMatch t 9".to_owned()), "{:?}", backend.heard());

    // A server whose process exits between two questions.
    let manager = self::manager(&backend);
    breaks_off(&manager, "u").await;
    backend.is_left().await;
    manager.server_gone("u", "its process exited").await;
    backend.hears("RequestMatch u 9").await;
}

fn watching(backend: &FakeBackend) -> Manager {
    let options = ManagerOptions { silent_after: Some(Duration::from_secs(60)), ..ManagerOptions::default() };
    Manager::new(options, backend.shared(), None)
}

#[tokio::test(start_paused = true)]
async fn a_server_that_falls_silent_is_gone_and_its_matches_end() {
    let backend = FakeBackend::new();
    let manager = watching(&backend);
    with_matches(&backend, &manager, "s", &["m1", "m2"]).await;
    manager.match_ready(SOURCE, ready("s", "m1", "h:1")).await.unwrap();
    for _ in 0..5 {
        sleep(Duration::from_secs(50)).await;
        manager.heard_from("s");
    }
    assert_eq!(manager.view().servers.len(), 1);
    backend.forget_heard();
    backend.hears_calls(2).await;
    assert_eq!(backend.heard(), ["EndMatch s m1 1", "EndMatch s m2 1"]);
    let mut changes = manager.changes();
    while !manager.view().servers.is_empty() {
        changes.changed().await.unwrap();
    }
    // It calls again, as a new server.
    with_matches(&backend, &manager, "s", &["m3"]).await;
    assert_eq!(manager.match_ready(SOURCE, ready("s", "", "h:1")).await.unwrap().match_id, "m3");
}

#[tokio::test(start_paused = true)]
async fn a_held_question_and_a_voucher_are_signs_of_life() {
    let backend = FakeBackend::new();
    let manager = watching(&backend);
    manager.register(SOURCE, "vouched").unwrap();
    manager.vouch_for("vouched");
    backend.set(Mood::Silent);
    let request = RequestMatchRequest { hint_flags: WAIT, ..ask("held") };
    let held = tokio::spawn({
        let manager = manager.clone();
        async move { manager.request_match(SOURCE, request).await }
    });
    tokio::task::yield_now().await;
    for _ in 0..4 {
        advance(Duration::from_secs(10)).await;
        tokio::task::yield_now().await;
    }
    assert!(manager.view().servers.iter().any(|server| server.id == "held" && server.is_asking));
    backend.set(Mood::Answers);
    held.await.unwrap().unwrap();
    sleep(Duration::from_secs(200)).await;
    let left: Vec<_> = manager.view().servers.into_iter().map(|server| server.id).collect();
    assert_eq!(left, ["vouched"]);
}

#[tokio::test(start_paused = true)]
async fn a_match_that_comes_for_a_server_that_is_gone_ends_at_once() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Silent);
    let request = RequestMatchRequest { hint_flags: WAIT, ..ask("s") };
    assert!(timeout(Duration::from_secs(1), manager.request_match(SOURCE, request)).await.is_err());
    manager.server_gone("s", "its process exited").await;
    backend.has(&["m1"]);
    backend.set(Mood::Answers);
    backend.hears("EndMatch s m1 1").await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_server_waits_for_the_backend_too() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1"]).await;
    backend.set(Mood::Away);
    manager.server_gone("s", "its process exited").await;
    assert!(manager.view().servers.is_empty());
    backend.forget_heard();
    backend.set(Mood::Answers);
    delivered(&manager).await;
    assert_eq!(backend.heard(), ["EndMatch s m1 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_hint_is_passed_on_with_the_next_answer() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.set(Mood::Away);
    manager.end_match(SOURCE, end("s", "m1")).await.unwrap();
    backend.set_hints(1);
    backend.set(Mood::Answers);
    delivered(&manager).await;
    backend.set_hints(0);
    assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap().hint_flags, 1);
    assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap().hint_flags, 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_matches_end_or_stay() {
    let backend = FakeBackend::new();
    for (how, heard, kept) in
        [(AtShutdown::EndMatches, vec!["EndMatch s m1 1"], 0), (AtShutdown::KeepMatches, vec![], 1)]
    {
        let manager = manager(&backend);
        with_matches(&backend, &manager, "s", &["m1"]).await;
        backend.forget_heard();
        let report = manager.shutdown(how, Duration::from_secs(10)).await;
        assert_eq!(report, ShutdownReport { undelivered: 0, kept });
        assert_eq!(backend.heard(), heard);
        // Nothing new is started.
        backend.has(&["m2"]);
        assert_eq!(manager.request_match(SOURCE, ask("s")).await.unwrap().r#match, None);
        assert_eq!(backend.heard(), heard);
        backend.takes_back();
    }
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_does_not_wait_for_a_backend_that_stays_away() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    with_matches(&backend, &manager, "s", &["m1"]).await;
    backend.set(Mood::Silent);
    let report = manager.shutdown(AtShutdown::EndMatches, Duration::from_secs(3)).await;
    assert_eq!(report, ShutdownReport { undelivered: 1, kept: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_match_without_an_id_is_the_backends_fault() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    backend.has(&[""]);
    let refused = manager.request_match(SOURCE, ask("s")).await.unwrap_err();
    assert_eq!(refused.code, i32::from(Code::Internal));
    assert!(manager.view().servers[0].matches.is_empty());
}

#[tokio::test(start_paused = true)]
async fn calls_are_remembered_up_to_a_limit() {
    let backend = FakeBackend::new();
    let manager = manager(&backend);
    let text = "no such server";
    backend.set(Mood::Refuses(refusal(Code::NotFound, "server_not_found", text)));
    for count in 0..250 {
        let _ = manager.end_match(SOURCE, end("s", &format!("m{count}"))).await;
    }
    let calls = manager.calls();
    assert_eq!(calls.len(), 200);
    let (first, last) = (&calls[0], &calls[199]);
    assert_eq!((first.match_id.as_str(), last.match_id.as_str()), ("m50", "m249"));
    assert_eq!((last.call, last.server_id.as_str()), ("EndMatch", "s"));
    assert_eq!(last.outcome, Outcome::Refused(text.to_owned()));
}
