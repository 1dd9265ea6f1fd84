//! The engine's shutdown.

use std::time::Duration;

use sortie_engine::{CallError, EmbeddedLog, Ended, LogOptions, Unavailable};
use tempfile::tempdir;

use crate::effects::{Worker, with};
use crate::toy::{Command, Reply, Setup, begin, hold, state};

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn what_is_queued_is_done_and_what_is_kept_is_told() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(100)));
    state(&handle).await;
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    let queued = begin(handle.call(Command::Add(2)));
    let stopping = begin(engine.shutdown(LONG));
    let shutting_down = Unavailable::ShuttingDown;
    assert_eq!(handle.call(Command::Add(4)).await, Err(CallError::Unavailable(shutting_down)));
    assert_eq!(handle.query(|_| ()).await, Err(shutting_down));
    held.leave.send(()).unwrap();
    assert_eq!(stopping.await, Ended::Ordered);
    assert_eq!(first.await.unwrap(), Reply::Woken(1));
    assert_eq!(queued.await.unwrap(), Reply::Sum(3));
    assert_eq!(kept.await, Err(CallError::Unavailable(shutting_down)));
    assert_eq!(handle.call(Command::Add(4)).await, Err(CallError::Unavailable(Unavailable::Stopped)));

    let engine = Setup::default().start(data.path()).await;
    assert_eq!(state(&engine.handle()).await.sum, 3);
    assert_eq!(engine.handle().stats().snapshot_seq, 2, "the shutdown wrote a snapshot");
}

#[tokio::test]
async fn effects_that_run_may_finish() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let engine = with(&worker).start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Start { lane: 1, job: 1 }).await.unwrap();
    handle.call(Command::Start { lane: 1, job: 2 }).await.unwrap();
    worker.await_begun(1).await;
    let stopping = begin(engine.shutdown(LONG));
    worker.leave.add_permits(100);
    assert_eq!(stopping.await, Ended::Ordered);
    let engine = Setup::default().start(data.path()).await;
    let state = state(&engine.handle()).await;
    assert_eq!((state.finished, state.jobs.len()), (vec![1], 1), "job 2 had not begun");
}

#[tokio::test]
async fn effects_that_do_not_finish_are_broken_off_at_the_deadline() {
    let (data, worker) = (tempdir().unwrap(), Worker::with_leave(0));
    let engine = with(&worker).start(data.path()).await;
    engine.handle().call(Command::Start { lane: 1, job: 1 }).await.unwrap();
    worker.await_begun(1).await;
    assert_eq!(engine.shutdown(Duration::from_millis(5)).await, Ended::Ordered);
    let engine = Setup::default().start(data.path()).await;
    assert_eq!(state(&engine.handle()).await.jobs.len(), 1);
}

#[tokio::test]
async fn the_folder_is_free_after_a_shutdown_and_after_a_drop() {
    let data = tempdir().unwrap();
    let open = || EmbeddedLog::open(data.path(), LogOptions::default()).map(drop);
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    open().unwrap_err();
    engine.shutdown(LONG).await;
    assert_eq!(handle.ended().await, Ended::Ordered);
    open().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(1)));
    open().unwrap_err();
    drop(engine);
    open().unwrap();
    assert_eq!(handle.ended().await, Ended::Killed);
    assert_eq!(kept.await, Err(CallError::Unavailable(Unavailable::Stopped)));
}
