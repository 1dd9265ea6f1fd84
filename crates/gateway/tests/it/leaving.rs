//! Players who go away while they wait release their seats.

use sortie_domain::broker::Event;

use crate::harness::{Events, Script, World, arena, options, within};

async fn given_back(world: &World, events: &mut Events) {
    let (seat, _) = events.reserved().await;
    assert_eq!(events.closed(&seat).await, "released");
    let abandoned = |event: &Event| matches!(event, Event::MatchCancelled { .. }).then_some(());
    events.find(abandoned).await;
    assert_eq!(world.gateway.stats().abandoned, 1);
    assert_eq!(world.gateway.stats().waiting, 0);
}

#[tokio::test]
async fn a_player_leaves_who_waits_for_one_answer() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut events = world.events();
    let waiting = tokio::spawn(world.http.post(world.url("/wannaplay")).send());
    let reserved = |event: &Event| matches!(event, Event::SeatReserved { .. }).then_some(());
    world.events().find(reserved).await;
    waiting.abort();
    given_back(&world, &mut events).await;
}

#[tokio::test]
async fn a_player_leaves_who_reads_chunks() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut events = world.events();
    let mut chunks = world.stream("/matchmaker/request/arena/1.0").await;
    chunks.until("ProgressReport").await;
    drop(chunks);
    given_back(&world, &mut events).await;
}

#[tokio::test]
async fn a_player_drops_its_websocket() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut events = world.events();
    let mut socket = world.websocket("/matchmaker/ws").await;
    crate::websocket::say(&mut socket, r#"{"game": "arena", "version": "1.0"}"#).await;
    crate::websocket::hear_until(&mut socket, "ProgressReport").await;
    drop(socket);
    given_back(&world, &mut events).await;
}

#[tokio::test]
async fn a_player_closes_its_websocket() {
    let world = World::start(Script::held(), options(vec![arena(4)])).await;
    let mut events = world.events();
    let mut socket = world.websocket("/matchmaker/ws").await;
    crate::websocket::say(&mut socket, r#"{"game": "arena", "version": "1.0"}"#).await;
    crate::websocket::hear_until(&mut socket, "ProgressReport").await;
    within(socket.close(None)).await.unwrap();
    given_back(&world, &mut events).await;
}

#[tokio::test]
async fn a_seat_that_was_told_of_is_kept_when_the_player_leaves() {
    let world = World::with_capacity(4).await;
    let mut chunks = world.stream("/matchmaker/request/arena/1.0").await;
    chunks.until("SessionReady").await;
    drop(chunks);
    let answer = world.join().await;
    drop(answer);
    // A release would have come before this player's seat.
    world.join().await;
    assert_eq!(world.matches().await[0].seats.len(), 3);
    assert_eq!(world.gateway.stats().abandoned, 0);
}
