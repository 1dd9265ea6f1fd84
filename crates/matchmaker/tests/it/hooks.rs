//! Hooks that answer, fail, hang, and are kept apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use sortie_domain::ids::{HookId, TicketId};
use sortie_domain::matchmaking::TicketVerdict;
use sortie_domain::matchmaking::model::{Status, TicketEnd, TicketState};
use sortie_domain::matchmaking::settings::{
    Hook, HookAddress, HookPoint, OnFailure, OutsideHook, Queue, Settings,
};
use sortie_matchmaker::hooks::{MAX_ANSWER_BYTES, MAX_WAITING_CALLS};
use sortie_matchmaker::{HookError, HookOptions, Hooks};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Mutex, Semaphore, mpsc};
use zeroize::Zeroizing;

use crate::world::{HookMap, World, duel, queue_id, settings, soon, spec};

/// Buffer of calls that a test has not read yet.
const NEWS: usize = 100;
/// Whether it is the expected failure.
type IsIt = fn(&HookError) -> bool;
/// A time that no test reaches.
const LONG: Duration = Duration::from_secs(600);

fn hook_id() -> HookId {
    HookId::new("hook").unwrap()
}

fn options(url: &str) -> HookOptions {
    HookOptions {
        url: url.to_owned(),
        timeout: LONG,
        concurrency: 2,
        breaker_failures: 100,
        breaker_pause: LONG,
        key: None,
    }
}

/// The hook of all queues.
fn of_all(options: HookOptions) -> HookMap {
    BTreeMap::from([((None, hook_id()), options)])
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A hook that always answers this.
async fn answering(status: StatusCode, body: impl Into<Bytes>) -> String {
    let body = body.into();
    serve(Router::new().route("/", post(move || async move { (status, body) }))).await
}

async fn ask(hooks: &Hooks, queue: &str) -> Result<TicketVerdict, HookError> {
    let ticket = TicketId::new("ticket-1").unwrap();
    hooks.validate_ticket(&queue_id(queue), &hook_id(), &ticket, &spec(queue, &["ann"])).await
}

#[tokio::test]
async fn a_hook_is_sent_the_ticket_and_the_key() {
    let (sender, mut received) = mpsc::channel(NEWS);
    let note = move |headers: HeaderMap, body: Bytes| {
        let sender = sender.clone();
        async move {
            sender.try_send((headers, body)).unwrap();
            r#"{"accept": true}"#
        }
    };
    let url = serve(Router::new().route("/", post(note))).await;
    let options = HookOptions { key: Some(Zeroizing::new("s3cret".to_owned())), ..options(&url) };
    assert!(!format!("{options:?}").contains("s3cret"));
    let hooks = Hooks::new(of_all(options)).unwrap();
    let verdict = soon("the verdict", ask(&hooks, "duel")).await;
    assert_eq!(verdict, Ok(TicketVerdict::ACCEPT));
    let (headers, body) = received.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer s3cret");
    assert_eq!(headers["content-type"], "application/json");
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let player = serde_json::json!(
        {"id": "ann", "ratings": {}, "latencies": {}, "blocked": [], "properties": {}}
    );
    let wanted = serde_json::json!({
        "hook": "validate_ticket", "name": "hook", "queue": "duel",
        "ticket": {
            "ticket_id": "ticket-1", "queue": "duel", "leader": null, "properties": {}, "latencies": {},
            "idempotency_key": null, "parties": [{"id": null, "players": [player]}],
        },
    });
    assert_eq!(body, wanted);
}

#[tokio::test]
async fn every_failure_has_its_name() {
    let elsewhere = answering(StatusCode::OK, r#"{"accept": true}"#).await;
    let redirect = move || async move { Redirect::temporary(&elsewhere) };
    let redirecting = serve(Router::new().route("/", post(redirect))).await;
    // The port is reserved, and nobody listens there.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = format!("http://{}/", bound.local_addr().unwrap());
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hanging = format!("http://{}/", silent.local_addr().unwrap());
    let failures: [(String, IsIt); 7] = [
        (answering(StatusCode::INTERNAL_SERVER_ERROR, "").await, |e| *e == HookError::Status(500)),
        (answering(StatusCode::NO_CONTENT, "").await, |e| *e == HookError::Status(204)),
        (redirecting, |e| *e == HookError::Status(307)),
        (answering(StatusCode::OK, "yes").await, |e| matches!(e, HookError::NoVerdict(_))),
        (answering(StatusCode::OK, vec![b' '; MAX_ANSWER_BYTES + 1]).await, |e| *e == HookError::TooLong),
        (closed, |e| matches!(e, HookError::Unreachable(_))),
        (hanging, |e| *e == HookError::Late),
    ];
    for (url, is) in failures {
        // Only the call that hangs waits for it.
        let timeout = if is(&HookError::Late) { Duration::from_millis(200) } else { LONG };
        let hooks = Hooks::new(of_all(HookOptions { timeout, ..options(&url) })).unwrap();
        let error = soon(&url, ask(&hooks, "duel")).await.unwrap_err();
        assert!(is(&error), "{url}: {error:?}");
    }
    let hooks = Hooks::new(HookMap::new()).unwrap();
    assert_eq!(ask(&hooks, "duel").await, Err(HookError::Unknown));
}

#[tokio::test]
async fn a_hook_that_keeps_failing_is_left_alone() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = |State(calls): State<Arc<AtomicUsize>>| async move {
        calls.fetch_add(1, Ordering::Relaxed);
        StatusCode::SERVICE_UNAVAILABLE
    };
    let url = serve(Router::new().route("/", post(count)).with_state(Arc::clone(&calls))).await;
    let hooks = Hooks::new(of_all(HookOptions { breaker_failures: 2, ..options(&url) })).unwrap();
    for _ in 0..2 {
        assert_eq!(soon("an answer", ask(&hooks, "duel")).await, Err(HookError::Status(503)));
    }
    for _ in 0..3 {
        assert_eq!(soon("no call", ask(&hooks, "duel")).await, Err(HookError::Resting));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    // Another queue counts its own failures.
    assert_eq!(soon("an answer", ask(&hooks, "other")).await, Err(HookError::Status(503)));
}

/// A hook that holds calls about queues named `slow…` until it is released, and answers all others.
#[derive(Clone)]
struct Holding {
    gate: Arc<Semaphore>,
    held: mpsc::Sender<()>,
}

async fn hold(State(holding): State<Holding>, body: Bytes) -> Response {
    let question: serde_json::Value = serde_json::from_slice(&body).unwrap();
    if question["queue"].as_str().is_some_and(|queue| queue.starts_with("slow")) {
        // A test that has heard enough does not read any more.
        let _ = holding.held.try_send(());
        let _passed = holding.gate.acquire().await.unwrap();
    }
    r#"{"accept": true}"#.into_response()
}

async fn holding() -> (String, Arc<Semaphore>, mpsc::Receiver<()>) {
    let (held, told) = mpsc::channel(NEWS);
    let gate = Arc::new(Semaphore::new(0));
    let state = Holding { gate: Arc::clone(&gate), held };
    (serve(Router::new().route("/", post(hold)).with_state(state)).await, gate, told)
}

#[tokio::test]
async fn a_queue_has_so_many_calls_at_a_time_and_so_many_that_wait() {
    let (url, gate, mut held) = holding().await;
    let hooks = Arc::new(Hooks::new(of_all(options(&url))).unwrap());
    let over = Arc::new(Mutex::new(0));
    let calls: Vec<_> = (0..MAX_WAITING_CALLS + 3)
        .map(|_| {
            let (hooks, over) = (Arc::clone(&hooks), Arc::clone(&over));
            tokio::spawn(async move {
                let answer = ask(&hooks, "slow").await;
                *over.lock().await += usize::from(answer == Err(HookError::Overloaded));
            })
        })
        .collect();
    for _ in 0..2 {
        soon("a call", held.recv()).await.unwrap();
    }
    // The one beyond the limit ends at once; the others wait.
    let refused = async {
        while *over.lock().await == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("the refusal", refused).await;
    assert!(held.try_recv().is_err(), "two at a time");
    gate.add_permits(Semaphore::MAX_PERMITS >> 1);
    for call in calls {
        soon("a call", call).await.unwrap();
    }
    assert_eq!(*over.lock().await, 1);
}

/// A queue of duels whose tickets are checked by the hook of all queues.
fn validated(on_failure: OnFailure, queues: &[&str]) -> Settings {
    let queues: Vec<(&str, Queue)> = queues.iter().map(|id| (*id, duel())).collect();
    let about = HookPoint::ValidateTicket;
    let hook = OutsideHook { id: hook_id(), about, timeout: LONG, on_failure, interval: None, address: None };
    Settings { hooks: vec![Hook::Outside(hook)], ..settings(&queues) }
}

#[tokio::test]
async fn a_slow_hook_of_one_queue_does_not_delay_another() {
    let (url, _gate, mut held) = holding().await;
    let world =
        World::with_hooks(validated(OnFailure::Accept, &["slow", "fast"]), of_all(options(&url))).await;
    // More than one queue may have at a time, and more than an engine runs effects at a time by default.
    let players: Vec<String> = (0..400).map(|number| format!("slow {number}")).collect();
    let mut waiting = Vec::new();
    for player in &players {
        waiting.push(world.ticket("slow", &[player]).await);
    }
    soon("a call that hangs", held.recv()).await.unwrap();
    let ann = world.ticket("fast", &["ann"]).await;
    world.ticket("fast", &["ben"]).await;
    world.serve("server").await;
    world.until_status(&ann, Status::Completed).await;
    for ticket in &waiting {
        assert!(matches!(world.find(ticket).await.state, TicketState::Validating(_)));
    }
}

#[tokio::test]
async fn a_hook_that_fails_is_what_was_configured() {
    let url = answering(StatusCode::BAD_GATEWAY, "").await;
    let world = World::with_hooks(validated(OnFailure::Accept, &["duel"]), of_all(options(&url))).await;
    let ann = world.ticket("duel", &["ann"]).await;
    world.until(&ann, "that it waits", |ticket| ticket.state == TicketState::Waiting).await;
    world.configure(validated(OnFailure::Refuse, &["duel"])).await;
    let ben = world.ticket("duel", &["ben"]).await;
    let ticket = world.until_status(&ben, Status::Failed).await;
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "hook hook did not answer");
    assert_eq!(world.heard(&ben).await, ["IN_PROGRESS", "FAILED"]);
}

#[tokio::test]
async fn a_question_that_was_open_at_a_kill_is_asked_again() {
    let (url, gate, mut held) = holding().await;
    let mut world = World::with_hooks(validated(OnFailure::Refuse, &["slow"]), of_all(options(&url))).await;
    let ann = world.ticket("slow", &["ann"]).await;
    soon("the question", held.recv()).await.unwrap();
    world.kill_maker();
    world.start_maker().await;
    soon("the question again", held.recv()).await.unwrap();
    gate.add_permits(10);
    world.until(&ann, "that it waits", |ticket| ticket.state == TicketState::Waiting).await;
}

/// The question is asked by what the log says about the hook; the key is read where the log says that it is.
#[tokio::test]
async fn the_hooks_of_a_removed_queue_survive_a_restart() {
    let (url, gate, mut held) = holding().await;
    let address = |key_env: Option<&str>| HookAddress {
        url: url.as_str().into(),
        concurrency: 4,
        breaker_failures: 5,
        breaker_pause: LONG,
        key_env: key_env.map(Into::into),
    };
    let queue = |key_env| {
        let (about, address) = (HookPoint::ValidateTicket, Some(address(key_env)));
        let on_failure = OnFailure::Refuse;
        let hook = OutsideHook { id: hook_id(), about, timeout: LONG, on_failure, interval: None, address };
        Queue { hooks: vec![Hook::Outside(hook)], ..duel() }
    };
    let places = ["slow", "slow-keyed"].map(|id| ((Some(queue_id(id)), hook_id()), options(&url)));
    let both = settings(&[("slow", queue(None)), ("slow-keyed", queue(Some("SORTIE_TEST_UNSET_KEY")))]);
    let mut world = World::with_hooks(both, places.into()).await;
    let ann = world.ticket("slow", &["ann"]).await;
    let ben = world.ticket("slow-keyed", &["ben"]).await;
    for _ in 0..2 {
        soon("the question", held.recv()).await.unwrap();
    }
    world.kill_maker();
    world.forget_hooks();
    world.start_maker().await;
    world.configure(settings(&[("new", duel())])).await;
    soon("the question again", held.recv()).await.unwrap();
    gate.add_permits(10);
    world.until(&ann, "that it waits", |ticket| ticket.state == TicketState::Waiting).await;
    // Without its key it is not called.
    let ticket = world.until_status(&ben, Status::Failed).await;
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "hook hook did not answer");
    assert!(held.try_recv().is_err());
}

#[tokio::test]
async fn a_queues_own_hook_comes_before_one_of_the_same_name() {
    let own = answering(StatusCode::OK, r#"{"accept": false, "reason": "own"}"#).await;
    let common = answering(StatusCode::OK, r#"{"accept": false, "reason": "common"}"#).await;
    let mut places = of_all(options(&common));
    places.insert((Some(queue_id("duel")), hook_id()), options(&own));
    let hooks = Hooks::new(places).unwrap();
    let reason = |queue: &'static str| {
        let hooks = &hooks;
        async move {
            match ask(hooks, queue).await.unwrap() {
                TicketVerdict::Refuse { reason } => reason,
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!((reason("duel").await, reason("other").await), ("own".to_owned(), "common".to_owned()));
}

const LONG_NUMBER: &str = "123456789012345678901234567890";

#[tokio::test]
async fn numbers_go_to_hooks_and_come_back_digit_by_digit() {
    let own = format!(r#"{{"id": {LONG_NUMBER}, "steam": 76561197980428155, "half": 0.50, "e": 1e2}}"#);
    let (sender, mut received) = mpsc::channel(NEWS);
    let answer = format!(r#"{{"accept": true, "properties": {own}}}"#);
    let note = move |body: Bytes| {
        let (sender, answer) = (sender.clone(), answer.clone());
        async move {
            sender.try_send(body).unwrap();
            answer
        }
    };
    let url = serve(Router::new().route("/", post(note))).await;
    let hooks = Hooks::new(of_all(options(&url))).unwrap();
    let ticket = TicketId::new("ticket-1").unwrap();
    let properties = sortie_domain::properties::Properties::parse(&own).unwrap();
    let mut asked = spec("duel", &["ann"]);
    asked.properties = properties.clone();
    asked.parties[0].players[0].properties = properties.clone();
    let (queue, hook) = (queue_id("duel"), hook_id());
    let verdict = hooks.validate_ticket(&queue, &hook, &ticket, &asked);
    let Ok(TicketVerdict::Accept { properties: Some(answered), .. }) = soon("the verdict", verdict).await
    else {
        panic!("no verdict")
    };
    assert_eq!(answered.text(), Some(&*own));
    let body = String::from_utf8(received.recv().await.unwrap().to_vec()).unwrap();
    assert_eq!(body.matches(&own).count(), 2, "{body}");
}

#[tokio::test]
async fn a_malformed_match_of_an_answer_spoils_no_other() {
    let answer = r#"{"matches": [{}, {"teams": [["a"], ["b"]]}, {"teams": null}]}"#;
    let url = answering(StatusCode::OK, answer).await;
    let hooks = Hooks::new(of_all(options(&url))).unwrap();
    let asked = (TicketId::new("a").unwrap(), Arc::new(spec("duel", &["a"])));
    let queue = queue_id("duel");
    let formed = soon("the matches", hooks.form_matches(&queue, &hook_id(), 1, &[asked])).await.unwrap();
    let [Err(first), Ok(only), Err(last)] = &formed[..] else { panic!("{formed:?}") };
    assert_eq!(only.teams.len(), 2);
    assert!(first.contains("teams") && last.contains("null"), "{first} {last}");
}
