//! Steps that are larger than the log takes at once, inputs that can never be written, and work left for later.

use std::sync::Arc;
use std::time::Duration;

use sortie_engine::log::MAX_BATCH_BYTES;
use sortie_engine::{CallError, Cursor, ManualClock, Unavailable};
use tempfile::tempdir;

use crate::disk::{Fault, FaultyDisk};
use crate::toy::{Command, Event, Reply, START, Setup, begin, events_until, hold, state};

/// Events that take more than one batch, and less than two.
const BURST: u64 = 1_300_000;

#[tokio::test]
async fn a_step_that_is_larger_than_the_largest_batch_is_made_durable_in_parts() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    assert_eq!(handle.call(Command::Burst(BURST)).await.unwrap(), Reply::Sum(BURST));
    let stats = handle.stats();
    assert_eq!((stats.records, stats.batches, stats.accepting), (BURST, 2, true));
    assert_eq!(handle.call(Command::Add(1)).await.unwrap(), Reply::Sum(BURST + 1));
    drop(engine);
    let engine = Setup::default().start(data.path()).await;
    assert_eq!(state(&engine.handle()).await.sum, BURST + 1);
}

#[tokio::test]
async fn a_disk_that_fills_between_two_parts_leaves_the_first_and_no_answer() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    handle.call(Command::Add(1)).await.unwrap();
    disk.fail_after_syncs(1, Fault::Full);
    let burst = handle.call(Command::Burst(BURST)).await;
    assert_eq!(burst, Err(CallError::Unavailable(Unavailable::DiskFull)));
    let left = state(&handle).await;
    assert!(left.sum > 1 && left.sum < BURST, "{}", left.sum);
    assert_eq!(handle.stats().last_seq, left.seq);
    disk.set(Fault::None);
    assert_eq!(handle.call(Command::Add(2)).await.unwrap(), Reply::Sum(left.sum + 2));
    drop(engine);
    let engine = Setup::default().start(data.path()).await;
    assert_eq!(state(&engine.handle()).await.sum, left.sum + 2);
}

#[tokio::test]
async fn an_input_that_can_never_be_written_is_refused_alone() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(1_000)));
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    // All of them wait for one commit.
    let before = begin(handle.call(Command::Add(10)));
    let huge = begin(handle.call(Command::Pad(MAX_BATCH_BYTES)));
    let after = begin(handle.call(Command::Add(100)));
    held.leave.send(()).unwrap();
    assert_eq!(first.await.unwrap(), Reply::Woken(1));
    assert_eq!(before.await.unwrap(), Reply::Sum(11));
    assert_eq!(huge.await, Err(CallError::Unavailable(Unavailable::BatchTooLarge)));
    assert_eq!(after.await.unwrap(), Reply::Sum(111));
    assert_eq!(kept.await, Err(CallError::Unavailable(Unavailable::Interrupted)));
    let stats = handle.stats();
    assert_eq!((stats.accepting, stats.refused, stats.failed_batches), (true, None, 0));
    assert_eq!(handle.call(Command::Pad(MAX_BATCH_BYTES - 100)).await.unwrap(), Reply::Fine);
    let before = state(&handle).await;
    drop(engine);
    let engine = Setup::default().start(data.path()).await;
    assert_eq!(state(&engine.handle()).await, before);
}

#[tokio::test]
async fn inputs_take_turns_with_a_long_backlog_of_deadlines() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = Setup { clock: Arc::new(clock.clone()), ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    let alarms = 3 * sortie_domain::machine::STEP_RECORDS as u64;
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    let after = |n| Duration::from_secs(10) + Duration::from_millis(n);
    let set: Vec<_> = (0..alarms).map(|n| begin(handle.call(Command::Alarm(after(n))))).collect();
    held.leave.send(()).unwrap();
    first.await.unwrap();
    for call in set {
        call.await.unwrap();
    }
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    clock.advance(Duration::from_secs(3600));
    let (call, left) = (begin(handle.call(Command::Add(1))), begin(state(&handle)));
    held.leave.send(()).unwrap();
    first.await.unwrap();
    assert_eq!(call.await.unwrap(), Reply::Sum(3));
    let left = left.await.alarms.len() as u64;
    assert!(left > 0 && left < alarms, "{left} of {alarms} have not rung");
    let last = START.as_millis() + 10_000 + alarms - 1;
    events_until(&mut handle.subscribe(Cursor::Earliest), &Event::Rang(last)).await;
    assert_eq!(state(&handle).await.alarms.len(), 0);
}

#[tokio::test]
async fn an_answer_whose_return_could_not_be_written_is_taken_back_later() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    let kept = begin(handle.call(Command::WaitFor(5)));
    handle.call(Command::Add(5)).await.unwrap();
    // The answer has arrived, and nobody has read it.
    disk.set(Fault::Full);
    drop(kept);
    // By now the machine has tried to take it back, and could not.
    state(&handle).await;
    assert_eq!((state(&handle).await.taken_back, handle.stats().accepting), (0, false));
    disk.set(Fault::None);
    events_until(&mut handle.subscribe(Cursor::Earliest), &Event::TakenBack(5)).await;
    assert_eq!(state(&handle).await.taken_back, 5);
}
