//! Following the log.

use std::time::Duration;

use sortie_engine::host::LIVE_WINDOW_RECORDS;
use sortie_engine::{Cursor, EngineOptions, LogOptions, SubscribeError, Subscription};
use tempfile::tempdir;
use tokio::runtime::Builder;

use crate::toy::{Command, Setup, Toy, begin, state};

fn small_segments() -> Setup {
    let log = LogOptions { segment_bytes: 300, ..LogOptions::default() };
    Setup { log, ..Setup::default() }
}

/// The next `count` sequence numbers.
async fn take(subscription: &mut Subscription<Toy>, count: u64) -> Vec<u64> {
    let mut seqs = Vec::new();
    for _ in 0..count {
        seqs.push(subscription.next().await.unwrap().seq);
    }
    seqs
}

#[tokio::test]
async fn old_records_then_new_ones_without_gap_or_repetition() {
    let data = tempdir().unwrap();
    let engine = small_segments().start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Burst(50)).await.unwrap();
    let mut earliest = handle.subscribe(Cursor::Earliest);
    let mut middle = handle.subscribe(Cursor::From(20));
    let mut latest = handle.subscribe(Cursor::Latest);
    assert_eq!(take(&mut earliest, 10).await, (1..=10).collect::<Vec<_>>());
    for _ in 0..50 {
        handle.call(Command::Add(1)).await.unwrap();
    }
    assert_eq!(take(&mut earliest, 90).await, (11..=100).collect::<Vec<_>>());
    assert_eq!(take(&mut middle, 81).await, (20..=100).collect::<Vec<_>>());
    assert_eq!(take(&mut latest, 50).await, (51..=100).collect::<Vec<_>>());
    let waiting = begin(latest.next());
    handle.call(Command::Add(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().seq, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_while_others_write_misses_nothing() {
    let data = tempdir().unwrap();
    let engine = small_segments().start(data.path()).await;
    let handle = engine.handle();
    let writer = tokio::spawn({
        let handle = handle.clone();
        async move {
            for _ in 0..400 {
                handle.call(Command::Add(1)).await.unwrap();
            }
        }
    });
    let followers: Vec<_> = (0..8)
        .map(|at| {
            let handle = handle.clone();
            tokio::spawn(async move {
                // Each begins at another moment of the writing.
                take(&mut handle.subscribe(Cursor::Earliest), at * 40 + 1).await;
                let mut subscription = handle.subscribe(Cursor::Earliest);
                assert_eq!(take(&mut subscription, 400).await, (1..=400).collect::<Vec<_>>());
            })
        })
        .collect();
    writer.await.unwrap();
    for follower in followers {
        follower.await.unwrap();
    }
}

#[tokio::test]
async fn a_cursor_resumes_after_a_restart() {
    let data = tempdir().unwrap();
    let engine = small_segments().start(data.path()).await;
    engine.handle().call(Command::Burst(30)).await.unwrap();
    let mut subscription = engine.handle().subscribe(Cursor::Earliest);
    take(&mut subscription, 13).await;
    let cursor = subscription.next_seq();
    drop(engine);
    let engine = small_segments().start(data.path()).await;
    engine.handle().call(Command::Burst(10)).await.unwrap();
    let mut subscription = engine.handle().subscribe(Cursor::From(cursor));
    assert_eq!(take(&mut subscription, 27).await, (14..=40).collect::<Vec<_>>());
}

#[test]
fn a_slow_subscriber_falls_out_of_the_window_and_still_gets_everything() {
    // With one thread for blocking work, work queued after a read runs when the read is over.
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let data = tempdir().unwrap();
        let engine = Setup::default().start(data.path()).await;
        let handle = engine.handle();
        let mut subscription = handle.subscribe(Cursor::Earliest);
        handle.call(Command::Add(1)).await.unwrap();
        take(&mut subscription, 1).await;
        let reading = begin(subscription.next());
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        // It has caught up and listens from here on, but does not read.
        drop(begin(reading));
        let many = LIVE_WINDOW_RECORDS as u64 + 1000;
        handle.call(Command::Burst(many)).await.unwrap();
        handle.call(Command::Burst(many)).await.unwrap();
        assert_eq!(take(&mut subscription, 2 * many).await, (2..=2 * many + 1).collect::<Vec<_>>());
        handle.call(Command::Add(1)).await.unwrap();
        assert_eq!(take(&mut subscription, 1).await, [2 * many + 2]);
    });
}

#[tokio::test]
async fn a_cursor_older_than_the_log_is_told_where_it_begins() {
    let data = tempdir().unwrap();
    let log = LogOptions { segment_bytes: 300, retention_bytes: 0, ..LogOptions::default() };
    let options = EngineOptions { snapshot_every_records: 20, ..EngineOptions::default() };
    let setup = || Setup { log, options, ..Setup::default() };
    let engine = setup().start(data.path()).await;
    for _ in 0..100 {
        engine.handle().call(Command::Add(1)).await.unwrap();
    }
    engine.shutdown(Duration::ZERO).await;
    let engine = setup().start(data.path()).await;
    let handle = engine.handle();
    let earliest = handle.subscribe(Cursor::Earliest).next_seq();
    assert!(earliest > 1);
    match handle.subscribe(Cursor::From(1)).next().await {
        Err(SubscribeError::Gone { asked: 1, earliest: told }) => assert_eq!(told, earliest),
        other => panic!("{other:?}"),
    }
    let mut subscription = handle.subscribe(Cursor::Earliest);
    assert_eq!(take(&mut subscription, 101 - earliest).await, (earliest..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_cursor_of_another_log_is_refused() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Burst(3)).await.unwrap();
    match handle.subscribe(Cursor::From(5)).next().await {
        Err(SubscribeError::Ahead { asked: 5, last: 3 }) => {}
        other => panic!("{other:?}"),
    }
    let mut next = handle.subscribe(Cursor::From(4));
    let waiting = begin(next.next());
    handle.call(Command::Add(1)).await.unwrap();
    assert_eq!(waiting.await.unwrap().seq, 4);
}

#[tokio::test]
async fn a_subscription_delivers_what_is_durable_and_then_ends_with_the_engine() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let mut idle = handle.subscribe(Cursor::Earliest);
    drop(begin(idle.next()));
    handle.call(Command::Burst(5)).await.unwrap();
    state(&handle).await;
    engine.shutdown(Duration::ZERO).await;
    for mut subscription in [idle, handle.subscribe(Cursor::Earliest)] {
        assert_eq!(take(&mut subscription, 5).await, [1, 2, 3, 4, 5]);
        assert!(matches!(subscription.next().await, Err(SubscribeError::Ended)));
    }
}
