//! What waiting players hear, and how waits fail.

use std::time::Duration;

use sortie_domain::broker::words::summary;
use sortie_domain::broker::{Command, Event};
use sortie_gateway::GatewayOptions;

use crate::harness::{Script, World, arena, details, options, within};

const STREAM: &str = "/matchmaker/request/arena/1.0";

#[tokio::test]
async fn a_waiting_player_hears_how_far_it_is() {
    let world = World::start(Script::held(), options(vec![arena(1)])).await;
    let mut first = world.stream(STREAM).await;
    first.reports("waiting for a server: 1st in the queue, one has been started").await;
    let mut second = world.stream(STREAM).await;
    second.reports("waiting for a server: 2nd in the queue, one has been started").await;
    world.let_boot(1);
    first.reports("a server has the match and prepares it").await;
    second.reports("waiting for a server: 1st in the queue, one has been started").await;
    // The same again after a while, as a sign of life.
    second.reports("waiting for a server: 1st in the queue, one has been started").await;
    world.let_ready(1);
    first.until("SessionReady").await;
    world.let_boot(1);
    world.let_ready(1);
    second.until("SessionReady").await;
}

#[tokio::test]
async fn a_player_hears_the_summary_of_the_explanation() {
    let world = World::start(Script::held(), options(vec![arena(1)])).await;
    let mut events = world.events();
    let mut chunks = world.stream(STREAM).await;
    let (_, id) = events.reserved().await;
    let explained = async || {
        let id = id.clone();
        let explained = world.broker.query(move |broker| broker.explain(&id)).await.unwrap().unwrap();
        summary(&explained.standing)
    };
    chunks.reports("waiting for a server: 1st in the queue, one has been started").await;
    assert_eq!(explained().await, "waiting for a server: 1st in the queue, one has been started");
    world.let_boot(1);
    chunks.reports("a server has the match and prepares it").await;
    assert_eq!(explained().await, "a server has the match and prepares it");
}

#[tokio::test]
async fn the_first_report_names_the_address_that_was_taken() {
    let options = GatewayOptions { dev: true, ..options(vec![arena(1)]) };
    let world = World::start(Script::held(), options).await;
    let mut chunks = world.stream("/matchmaker/request/arena/1.0?client_ip=81.128.172.55").await;
    let report = chunks.until("ProgressReport").await;
    assert!(report.as_str().unwrap().starts_with("joining from 81.128.172.55: waiting"), "{report}");
    let report = chunks.until("ProgressReport").await;
    assert!(report.as_str().unwrap().starts_with("waiting"), "{report}");
}

#[tokio::test]
async fn a_match_that_gets_no_server_in_time_fails_with_its_reason() {
    let world = World::start(Script::held(), options(vec![arena(2)])).await;
    let mut events = world.events();
    let mut chunks = world.stream(STREAM).await;
    events.reserved().await;
    let waiting = tokio::spawn(world.http.get(world.url("/wannaplay")).send());
    events.reserved().await;
    world.clock.advance(Duration::from_secs(91));
    let last = chunks.rest().await.pop().unwrap();
    assert_eq!(last, serde_json::json!({"Error": [503, "no server could be obtained in time"]}));
    let answer = within(waiting).await.unwrap().unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "no server could be obtained in time");
    assert_eq!(world.gateway.stats().failed["pickup_timeout"], 2);
}

#[tokio::test]
async fn a_cancelled_match_is_gone() {
    let world = World::start(Script::held(), options(vec![arena(2)])).await;
    let mut events = world.events();
    let mut chunks = world.stream(STREAM).await;
    let (_, id) = events.reserved().await;
    world.broker.call(Command::CancelMatch { id }).await.unwrap();
    let last = chunks.rest().await.pop().unwrap();
    assert_eq!(last, serde_json::json!({"Error": [410, "the match was cancelled on request"]}));
}

#[tokio::test]
async fn whoever_waits_too_long_is_told_so_and_gives_the_seat_back() {
    let options = GatewayOptions { wait_deadline: Duration::from_millis(100), ..options(vec![arena(1)]) };
    let world = World::start(Script::held(), options).await;
    let mut events = world.events();
    let answer = world.post("/wannaplay").await;
    assert_eq!(answer.status(), 408);
    let (seat, _) = events.reserved().await;
    assert_eq!(events.closed(&seat).await, "released");
    let last = world.stream(STREAM).await.rest().await.pop().unwrap();
    assert_eq!(last["Error"][0], 408);
    let (seat, _) = events.reserved().await;
    assert_eq!(events.closed(&seat).await, "released");
    assert_eq!(world.gateway.stats().failed["deadline"], 2);
}

#[tokio::test]
async fn a_server_that_gives_no_address_is_of_no_use() {
    let connection = |_, _: &_| details("password: swordfish");
    let world = World::start(Script { connection, ..Script::default() }, options(vec![arena(2)])).await;
    let mut events = world.events();
    let picked_up = |event: &Event| matches!(event, Event::MatchPickedUp { .. }).then_some(());
    // Its report is refused, so that it does not become ready in time.
    let (answer, ()) = tokio::join!(world.post("/wannaplay"), async {
        events.find(picked_up).await;
        world.clock.advance(Duration::from_secs(31));
    });
    assert_eq!(answer.status(), 503);
    assert!(!answer.text().await.unwrap().contains("swordfish"));
    let failed = |event: &Event| match event {
        Event::MatchFailed { reason, .. } => Some(reason.name()),
        _ => None,
    };
    assert_eq!(events.find(failed).await.0, "ready_timeout");
}

#[tokio::test]
async fn too_many_players_are_turned_away() {
    let options = GatewayOptions { max_waits: 1, ..options(vec![arena(1)]) };
    let world = World::start(Script::held(), options).await;
    let mut first = world.stream(STREAM).await;
    first.until("ProgressReport").await;
    assert_eq!(world.gateway.stats().waiting, 1);
    for answer in [world.post("/wannaplay").await, world.post(STREAM).await] {
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "5");
    }
    world.let_boot(1);
    world.let_ready(1);
    first.until("SessionReady").await;
    assert_eq!(first.next().await, None);
    assert_eq!(world.gateway.stats().waiting, 0);
}

#[tokio::test]
async fn without_a_broker_there_is_no_matchmaker() {
    let mut world = World::start(Script::held(), options(vec![arena(1)])).await;
    let mut waiting = world.stream(STREAM).await;
    waiting.until("ProgressReport").await;
    world.shut_down().await;
    let last = waiting.rest().await.pop().unwrap();
    assert_eq!(last["Error"][0], 503);
    let answer = world.post("/wannaplay").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "5");
    assert!(answer.text().await.unwrap().starts_with("no matchmaker"));
}
