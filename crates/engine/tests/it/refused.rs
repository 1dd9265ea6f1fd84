//! A log that refuses: nothing acknowledged is lost, nothing refused remains, and it recovers automatically.

use std::sync::Arc;
use std::time::Duration;

use sortie_engine::{CallError, Cursor, ManualClock, Unavailable};
use tempfile::tempdir;

use crate::disk::{Fault, FaultyDisk};
use crate::toy::{Command, Event, Reply, START, Setup, begin, events_until, hold, state};

#[tokio::test]
async fn a_disk_that_fails_makes_calls_unavailable_until_it_works_again() {
    for (fault, why) in [
        (Fault::Full, Unavailable::DiskFull),
        (Fault::SyncFails, Unavailable::DiskFailed),
        (Fault::FullAndCutFails, Unavailable::DiskFull),
    ] {
        let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
        let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
        let handle = engine.handle();
        handle.call(Command::Add(1)).await.unwrap();
        let kept = begin(handle.call(Command::WaitFor(100)));
        let before = state(&handle).await;

        disk.set(fault);
        assert_eq!(handle.call(Command::Add(10)).await, Err(CallError::Unavailable(why)));
        assert_eq!(kept.await, Err(CallError::Unavailable(why)));
        for _ in 0..3 {
            let again = handle.call(Command::Add(10)).await;
            assert!(matches!(again, Err(CallError::Unavailable(_))), "{again:?}");
        }
        assert_eq!(state(&handle).await, before, "{fault:?}");
        assert!(!handle.stats().accepting && handle.stats().refused.is_some());

        disk.set(Fault::None);
        assert_eq!(handle.call(Command::Add(2)).await.unwrap(), Reply::Sum(3));
        assert!(handle.stats().accepting && handle.stats().refused.is_none());
        let after = state(&handle).await;
        let events = events_until(&mut handle.subscribe(Cursor::Earliest), &Event::Added(2)).await;
        assert_eq!(events, [Event::Added(1), Event::Added(2)]);
        drop(engine);
        let engine = Setup::default().start(data.path()).await;
        assert_eq!(state(&engine.handle()).await, after);
    }
}

#[tokio::test]
async fn all_calls_of_a_refused_batch_are_void_together() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let engine = Setup { disk: Arc::clone(&disk) as _, ..Setup::default() }.start(data.path()).await;
    let handle = engine.handle();
    let (command, held) = hold(1);
    let first = begin(handle.call(command));
    held.entered.await.unwrap();
    let calls: Vec<_> = (0..20).map(|_| begin(handle.call(Command::Add(1)))).collect();
    let poll = begin(handle.call(Command::Poll));
    disk.set(Fault::Full);
    held.leave.send(()).unwrap();
    let void = Err(CallError::Unavailable(Unavailable::DiskFull));
    assert_eq!(first.await, void);
    for call in calls {
        assert_eq!(call.await, void);
    }
    // Its answer might contain what is void now.
    assert_eq!(poll.await, void);
    assert_eq!(state(&handle).await.seq, 0);
}

#[tokio::test]
async fn a_deadline_that_could_not_be_written_fires_when_the_disk_works_again() {
    let (data, disk, clock) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()), ManualClock::at(START));
    let engine = Setup { disk: Arc::clone(&disk) as _, clock: Arc::new(clock.clone()), ..Setup::default() }
        .start(data.path())
        .await;
    let handle = engine.handle();
    handle.call(Command::Alarm(Duration::from_secs(1))).await.unwrap();
    disk.set(Fault::Full);
    clock.advance(Duration::from_secs(2));
    state(&handle).await;
    assert_eq!(handle.call(Command::Poll).await, Err(CallError::Unavailable(Unavailable::DiskFull)));
    assert_eq!(state(&handle).await.alarms.len(), 1);
    disk.set(Fault::None);
    // Nobody calls: the engine retries on its own.
    let rang = Event::Rang(START.as_millis() + 1000);
    events_until(&mut handle.subscribe(Cursor::Earliest), &rang).await;
    assert!(handle.stats().accepting);
}
