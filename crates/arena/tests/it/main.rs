//! The game server and the bots over real sockets, against a small stand-in for the platform.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;
mod platform;

use std::time::Duration;

use sortie_arena::{Arrivals, BotEvent, FailureReason, StopReason};

use harness::{Arena, bots, hear, play_bots, within};
use platform::{Platform, Script};

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn bots_play_and_the_match_ends_when_they_have_left() {
    let platform = Platform::start(Script { empty_answers: 2, ..Script::default() }).await;
    let arena = Arena::start(&platform, |options| options.bind = "0.0.0.0:0".parse().unwrap());
    let summary = play_bots(&platform, 4, millis(300)).await;
    assert_eq!(summary.failed.len(), 0, "{:?}", summary.failed);
    assert_eq!((summary.started, summary.left, summary.rejoining), (4, 4, 0));
    assert_eq!((summary.join.count(), summary.first_update.count()), (4, 4));
    assert!(summary.updates > 0);

    platform.called("end match-1 hints 0").await;
    // The next request comes only after the end, and repeats what this server is willing to do.
    platform
        .called_in_order(&["request 6", "request 6", "ready match-1", "end match-1 hints 0", "request 6"])
        .await;
    for seat in 1..=4 {
        platform.called_in_order(&[&format!("claim seat-{seat}"), &format!("release seat-{seat}")]).await;
    }
    let summary = arena.stop().await.unwrap();
    assert_eq!((summary.matches, summary.admitted, summary.turned_away), (1, 4, 0));
}

#[tokio::test]
async fn datagrams_of_strangers_do_not_disturb() {
    let platform = Platform::start(Script::default()).await;
    let arena = Arena::start(&platform, |_| {});
    platform.queue_match();
    let address = platform.ready_address().await;
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for first in 0..=255 {
        stranger.send_to(&[first; 40], &address).await.unwrap();
    }
    let summary = play_bots(&platform, 2, millis(200)).await;
    assert_eq!((summary.left, summary.failures()), (2, 0), "{:?}", summary.failed);
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn a_player_with_a_refused_seat_gets_the_reason() {
    let platform = Platform::start(Script { refuse_claims: true, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    let summary = play_bots(&platform, 1, millis(200)).await;
    assert_eq!(
        summary.failed.into_iter().collect::<Vec<_>>(),
        [(FailureReason::Dismissed(sortie_arena::protocol::Farewell::SeatRefused), 1)]
    );
    assert_eq!((summary.joined, summary.rejoining), (0, 2));
    // A refusal is final: no claim is repeated, and a seat that was never claimed is not released.
    assert_eq!(platform.calls("claim"), ["claim seat-1", "claim seat-2", "claim seat-3"]);
    assert_eq!(platform.calls("release").len(), 0);
    assert_eq!(arena.stop().await.unwrap().turned_away, 3);
}

#[tokio::test]
async fn a_token_without_a_seat_is_turned_away_without_asking() {
    let platform = Platform::start(Script { blank_tokens: true, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    let summary = play_bots(&platform, 1, millis(200)).await;
    assert_eq!(summary.failures(), 1);
    assert_eq!(platform.calls("claim").len(), 0);
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn bots_outlive_matches_that_end_by_the_clock() {
    let platform = Platform::start(Script::default()).await;
    let arena = Arena::start(&platform, |options| options.match_length = Some(millis(300)));
    let summary = play_bots(&platform, 2, millis(1000)).await;
    assert_eq!((summary.left, summary.failures()), (2, 0), "{:?}", summary.failed);
    assert!(summary.rejoining >= 2 && summary.joined > summary.left);
    platform.called_in_order(&["ready match-1", "end match-1 hints 0", "ready match-2"]).await;
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn a_hint_to_shut_down_is_followed() {
    let platform = Platform::start(Script { shutdown_hint: true, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    let summary = arena.finished().await.unwrap();
    assert_eq!((summary.reason, summary.matches), (StopReason::Hinted, 0));
}

#[tokio::test]
async fn stopping_ends_the_match_and_says_that_the_server_exits() {
    let platform = Platform::start(Script::default()).await;
    let arena = Arena::start(&platform, |_| {});
    let (mut events, playing) =
        bots(&platform, Arrivals::Spread { players: 1, over: millis(0) }, millis(60_000));
    hear(&mut events, |event| matches!(event, BotEvent::Joined { .. })).await;
    let summary = arena.stop().await.unwrap();
    assert_eq!((summary.reason, summary.matches, summary.admitted), (StopReason::Asked, 1, 1));
    assert_eq!(platform.calls("end"), ["end match-1 hints 1"]);
    let told = hear(&mut events, |event| matches!(event, BotEvent::Rejoining { .. })).await;
    let stopping = FailureReason::Dismissed(sortie_arena::protocol::Farewell::ServerStopping);
    assert_eq!(told, BotEvent::Rejoining { bot: 1, reason: stopping });
    let summary = playing.stop().await;
    assert_eq!((summary.left, summary.failures()), (1, 0));
}

#[tokio::test]
async fn stopping_does_not_wait_for_a_platform_that_is_away() {
    let platform = Platform::start(Script { end_failures: u32::MAX, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    platform.queue_match();
    platform.ready_address().await;
    assert_eq!(arena.stop().await.unwrap().reason, StopReason::Asked);
}

#[tokio::test]
async fn a_cancelled_match_sends_its_players_away() {
    let platform = Platform::start(Script::default()).await;
    let arena = Arena::start(&platform, |options| options.check_every = millis(20));
    let (mut events, playing) =
        bots(&platform, Arrivals::Spread { players: 1, over: millis(0) }, millis(60_000));
    hear(&mut events, |event| matches!(event, BotEvent::Joined { .. })).await;
    platform.cancel("match-1");
    let told = hear(&mut events, |event| matches!(event, BotEvent::Rejoining { .. })).await;
    let cancelled = FailureReason::Dismissed(sortie_arena::protocol::Farewell::MatchCancelled);
    assert_eq!(told, BotEvent::Rejoining { bot: 1, reason: cancelled });
    hear(&mut events, |event| matches!(event, BotEvent::Joined { .. })).await;
    assert_eq!(platform.calls("end").len(), 0);
    assert_eq!(playing.stop().await.failures(), 0);
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn a_match_that_may_not_begin_is_dropped() {
    let platform = Platform::start(Script { refuse_ready: true, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    platform.queue_match();
    platform.called_in_order(&["request 6", "ready match-1", "request 6"]).await;
    assert_eq!(platform.calls("ready").len(), 1);
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn a_platform_that_is_away_is_asked_again() {
    let script = Script { request_failures: 2, end_failures: 2, claim_failures: 2, ..Script::default() };
    let platform = Platform::start(script).await;
    let arena = Arena::start(&platform, |_| {});
    let summary = play_bots(&platform, 1, millis(100)).await;
    assert_eq!((summary.left, summary.failures()), (1, 0), "{:?}", summary.failed);
    platform
        .called_in_order(&["end match-1 hints 0", "end match-1 hints 0", "end match-1 hints 0", "request 6"])
        .await;
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_wanted_gives_up() {
    let platform = Platform::start(Script { refuse_requests: true, ..Script::default() }).await;
    let arena = Arena::start(&platform, |options| options.max_pause = millis(1));
    let error = arena.finished().await.unwrap_err();
    assert!(error.to_string().contains("403"), "{error}");
}

#[tokio::test]
async fn the_seat_of_a_player_who_falls_silent_is_released() {
    let platform = Platform::start(Script { token_timeout: 1, ..Script::default() }).await;
    let arena = Arena::start(&platform, |_| {});
    let (mut events, playing) =
        bots(&platform, Arrivals::Spread { players: 1, over: millis(0) }, millis(60_000));
    hear(&mut events, |event| matches!(event, BotEvent::Joined { .. })).await;
    playing.vanish();
    platform.called_in_order(&["claim seat-1", "release seat-1", "end match-1 hints 0"]).await;
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn several_matches_are_played_at_once_where_allowed() {
    let platform = Platform::start(Script { seats_per_match: 1, ..Script::default() }).await;
    let arena = Arena::start(&platform, |options| options.max_matches = 2);
    let (mut events, playing) =
        bots(&platform, Arrivals::Spread { players: 2, over: millis(0) }, millis(60_000));
    for _ in 0..2 {
        hear(&mut events, |event| matches!(event, BotEvent::Joined { .. })).await;
    }
    assert_eq!(platform.calls("ready").len(), 2);
    assert_eq!(platform.calls("end").len(), 0);
    // While a match is running, the server is not willing to shut down.
    assert_eq!(platform.calls("request"), ["request 6", "request 2"]);
    assert_eq!(playing.stop().await.left, 2);
    arena.stop().await.unwrap();
}

#[tokio::test]
async fn bots_keep_arriving_until_the_time_is_over() {
    let platform = Platform::start(Script::default()).await;
    let arena = Arena::start(&platform, |options| options.empty_after = millis(5000));
    let arrivals = Arrivals::Keep { players: 3, lasting: millis(800) };
    let (_events, playing) = bots(&platform, arrivals, millis(100));
    let summary = within(playing.finished()).await;
    assert!(summary.started > 3, "{summary:?}");
    assert_eq!((summary.left, summary.failures()), (summary.started, 0), "{:?}", summary.failed);
    arena.stop().await.unwrap();
}
