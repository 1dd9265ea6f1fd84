//! Calls, queries, deadlines and callers that go away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use sortie_domain::time::Timestamp;
use sortie_engine::{
    CallError, Cursor, EmbeddedLog, Ended, EngineOptions, LogOptions, ManualClock, SystemClock, Unavailable,
    log::Log as _,
};
use tempfile::tempdir;
use tokio::sync::oneshot;

use crate::disk::{FaultyDisk, GatedDisk};
use crate::toy::{
    Command, Event, No, Reply, START, Setup, Toy, await_event, begin, events_until, hold, state,
};

#[tokio::test]
async fn replies_and_refusals_come_back_and_queries_read_ones_own_writes() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    assert_eq!(handle.call(Command::Add(3)).await.unwrap(), Reply::Sum(3));
    assert_eq!(handle.call(Command::Refuse).await, Err(CallError::Refused(No)));
    let later = begin(handle.call(Command::Add(4)));
    assert_eq!(state(&handle).await.sum, 7);
    assert_eq!(later.await.unwrap(), Reply::Sum(7));
    let stats = handle.stats();
    assert_eq!((stats.records, stats.last_seq, stats.accepting), (2, 2, true));
}

#[tokio::test]
async fn a_reply_leaves_only_after_its_records_are_durable() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(GatedDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Add(1)).await.unwrap();
    let ((entered, on_entered), (leave, on_leave)) = (oneshot::channel(), sync_channel(1));
    disk.hold_next_sync(entered, on_leave);
    let mut subscription = handle.subscribe(Cursor::From(2));
    let call = begin(handle.call(Command::Add(2)));
    on_entered.await.unwrap();
    let (call, next) = (begin(call), begin(subscription.next()));
    leave.send(()).unwrap();
    assert_eq!(call.await.unwrap(), Reply::Sum(3));
    assert_eq!(next.await.unwrap().event, Event::Added(2));
}

#[tokio::test]
async fn calls_that_wait_together_are_made_durable_together() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    let calls: Vec<_> = (0..100).map(|_| begin(handle.call(Command::Add(1)))).collect();
    held.leave.send(()).unwrap();
    first.await.unwrap();
    for (at, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), Reply::Sum(at as u64 + 2));
    }
    assert_eq!(handle.stats().batches, 2);
}

#[tokio::test]
async fn what_decides_nothing_does_not_touch_the_disk() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Add(1)).await.unwrap();
    let before = disk.operations.load(Ordering::SeqCst);
    for _ in 0..50 {
        handle.call(Command::Poll).await.unwrap();
        handle.call(Command::Refuse).await.unwrap_err();
    }
    assert_eq!(disk.operations.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let data = tempdir().unwrap();
    let options = EngineOptions { queued_inputs: 3, ..EngineOptions::default() };
    let engine = Setup { options, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    let calls: Vec<_> = (0..3).map(|_| begin(handle.call(Command::Add(1)))).collect();
    assert_eq!(handle.stats().queued, 3);
    let refused = handle.call(Command::Add(1)).await;
    assert_eq!(refused, Err(CallError::Unavailable(Unavailable::Overloaded)));
    assert_eq!(handle.query(|_| ()).await, Err(Unavailable::Overloaded));
    held.leave.send(()).unwrap();
    first.await.unwrap();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(state(&handle).await.sum, 4);
}

#[tokio::test]
async fn a_kept_call_is_answered_by_a_later_one() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(5)));
    state(&handle).await;
    assert_eq!(handle.stats().kept_calls, 1);
    handle.call(Command::Add(5)).await.unwrap();
    assert_eq!(kept.await.unwrap(), Reply::Woken(5));
    state(&handle).await;
    assert_eq!(handle.stats().kept_calls, 0);
}

#[tokio::test]
async fn a_kept_call_whose_caller_goes_is_abandoned() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(5)));
    state(&handle).await;
    drop(kept);
    let (waiting, abandoned) =
        handle.query(|toy: &Toy| (toy.waiting.len(), toy.abandoned.len())).await.unwrap();
    assert_eq!((waiting, abandoned), (0, 1));
    handle.call(Command::Add(5)).await.unwrap();
    let state = state(&handle).await;
    assert_eq!((state.seq, state.taken_back), (1, 0));
}

#[tokio::test]
async fn an_answer_that_arrived_nowhere_is_given_back() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    // The caller goes after the answer was sent, but before it looked.
    let kept = begin(handle.call(Command::WaitFor(5)));
    handle.call(Command::Add(5)).await.unwrap();
    drop(kept);
    await_event(&handle, Event::TakenBack(5)).await;
    // The caller goes while the machine decides.
    let (command, held) = hold(7);
    let call = begin(handle.call(command));
    held.entered.await.unwrap();
    drop(call);
    held.leave.send(()).unwrap();
    await_event(&handle, Event::TakenBack(7)).await;
    assert_eq!(state(&handle).await.taken_back, 12);
}

#[tokio::test]
async fn a_call_withdrawn_before_its_turn_does_nothing() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    drop(begin(handle.call(Command::Add(10))));
    held.leave.send(()).unwrap();
    first.await.unwrap();
    assert_eq!(state(&handle).await.sum, 1);
}

#[tokio::test]
async fn deadlines_fire_when_the_clock_says_so() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = Setup { clock: Arc::new(clock.clone()), ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    let mut subscription = handle.subscribe(Cursor::Earliest);
    for seconds in [30, 10, 20] {
        handle.call(Command::Alarm(Duration::from_secs(seconds))).await.unwrap();
    }
    let due = |seconds: u64| START.as_millis() + seconds * 1000;
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(state(&handle).await.alarms.len(), 3);
    clock.advance(Duration::from_millis(1));
    events_until(&mut subscription, &Event::Rang(due(10))).await;
    assert_eq!(state(&handle).await.alarms, [due(20), due(30)].into());
    clock.advance(Duration::from_secs(60));
    let events = events_until(&mut subscription, &Event::Rang(due(30))).await;
    assert_eq!(events, [Event::Rang(due(20)), Event::Rang(due(30))]);
}

#[tokio::test]
async fn deadlines_fire_by_the_system_clock_too() {
    let data = tempdir().unwrap();
    let engine = Setup { clock: Arc::new(SystemClock::start()), ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Alarm(Duration::from_millis(20))).await.unwrap();
    let mut subscription = handle.subscribe(Cursor::Earliest);
    let set = subscription.next().await.unwrap();
    let rang = subscription.next().await.unwrap();
    let Event::AlarmSet(due) = set.event else { panic!("{set:?}") };
    assert_eq!(rang.event, Event::Rang(due));
    assert!(rang.time.as_millis() >= due, "an alarm rang early");
}

#[tokio::test]
async fn time_never_falls_behind_the_log() {
    let data = tempdir().unwrap();
    let late = Timestamp::from_millis(9_000_000);
    let engine =
        Setup { clock: Arc::new(ManualClock::at(late)), ..Setup::default() }.start(data.path()).await;
    engine.handle().call(Command::Alarm(Duration::from_secs(5))).await.unwrap();
    engine.shutdown(Duration::ZERO).await;
    // The wall clock was set back while the process was down; stamps continue from the log, a tenth slower than the
    // clock.
    let clock = ManualClock::at(START);
    let engine = Setup { clock: Arc::new(clock.clone()), ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Add(1)).await.unwrap();
    assert_eq!(handle.subscribe(Cursor::From(2)).next().await.unwrap().time, late);
    clock.advance(Duration::from_millis(5_554));
    assert_eq!(state(&handle).await.alarms.len(), 1, "4,999 ms count");
    clock.advance(Duration::from_millis(1));
    await_event(&handle, Event::Rang(9_005_000)).await;
}

#[tokio::test]
async fn a_query_that_panics_harms_only_its_caller() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let asking = handle.clone();
    let asked = tokio::spawn(async move { asking.query(|_| -> () { panic!("oops") }).await });
    assert!(asked.await.unwrap_err().is_panic());
    handle.call(Command::Add(1)).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_panics_ends_the_engine_with_its_message() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Add(1)).await.unwrap();
    let stopped = Err(CallError::Unavailable(Unavailable::Stopped));
    assert_eq!(handle.call(Command::Panic).await, stopped);
    assert!(matches!(handle.ended().await, Ended::Failed(why) if why.contains("told to")));
    assert_eq!(handle.call(Command::Add(1)).await, stopped);
    // The folder is free again, and nothing durable is lost.
    let log = EmbeddedLog::open(data.path(), LogOptions::default()).unwrap();
    assert_eq!(log.reader().last_seq(), 1);
}
