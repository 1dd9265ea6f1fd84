//! What a restart brings back.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sortie_domain::machine::Machine;
use sortie_domain::time::Timestamp;
use sortie_engine::host::{MAX_IDLE_PAUSE, MAX_PAUSE};
use sortie_engine::log::{Batch, Log, LogOptions, Loss, OpenError};
use sortie_engine::{
    CallError, Clock as _, ClockGuard, EmbeddedLog, Ended, Engine, EngineOptions, LateLog, ManualClock,
    Parts, StartError, Unavailable,
};
use tempfile::tempdir;

use crate::toy::{Command, Event, START, Setup, Toy, await_event, codec, state};

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                // A snapshot in the making has its final name by now, or an old one is gone.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

const SMALL: LogOptions =
    LogOptions { segment_bytes: 300, retention_bytes: 0, accept_loss: false, expected: false };

fn small(every: u64) -> Setup {
    let options = EngineOptions { snapshot_every_records: every, ..EngineOptions::default() };
    Setup { log: SMALL, options, ..Setup::default() }
}

async fn work(engine: &Engine<crate::toy::Toy>, rounds: u64) {
    for round in 0..rounds {
        let handle = engine.handle();
        handle.call(Command::Add(round)).await.unwrap();
        handle.call(Command::Alarm(Duration::from_secs(round))).await.unwrap();
        handle.call(Command::Start { lane: round, job: round }).await.unwrap();
        handle.call(Command::Done(round)).await.unwrap();
    }
}

#[tokio::test]
async fn at_any_reply_the_files_alone_give_the_same_state() {
    let data = tempdir().unwrap();
    let engine = small(10).start(data.path()).await;
    let handle = engine.handle();
    for round in 0..40 {
        handle.call(Command::Add(round)).await.unwrap();
        handle.call(Command::Alarm(Duration::from_secs(round + 1))).await.unwrap();
        if round % 8 == 0 {
            // In the order in which they are written: a copy of the log is refused if it lacks what `end` or a snapshot
            // names.
            let (copied, now) = (tempdir().unwrap(), state(&handle).await);
            fs::copy(data.path().join("end"), copied.path().join("end")).unwrap();
            fs::create_dir(copied.path().join("log")).unwrap();
            copy(&data.path().join("log"), &copied.path().join("log"));
            fs::create_dir(copied.path().join("snapshots")).unwrap();
            copy(&data.path().join("snapshots"), &copied.path().join("snapshots"));
            let other = Setup::default().start(copied.path()).await;
            assert_eq!(state(&other.handle()).await, now);
        }
    }
}

#[tokio::test]
async fn a_crash_loses_nothing_that_was_answered() {
    let data = tempdir().unwrap();
    let mut before = None;
    for _ in 0..5 {
        let engine = Setup::default().start(data.path()).await;
        if let Some(before) = before {
            assert_eq!(state(&engine.handle()).await, before);
        }
        work(&engine, 3).await;
        before = Some(state(&engine.handle()).await);
        drop(engine);
    }
}

#[tokio::test]
async fn snapshots_are_taken_and_old_records_given_up() {
    let data = tempdir().unwrap();
    let engine = small(20).start(data.path()).await;
    work(&engine, 60).await;
    let before = state(&engine.handle()).await;
    assert_eq!(engine.shutdown(Duration::ZERO).await, Ended::Ordered);
    let log = EmbeddedLog::open(data.path(), SMALL).unwrap();
    assert!(log.reader().earliest_seq() > 100, "{}", log.reader().earliest_seq());
    drop(log);
    let engine = small(20).start(data.path()).await;
    assert_eq!(state(&engine.handle()).await, before);
    assert_eq!(engine.handle().stats().snapshot_seq, before.seq);
}

#[tokio::test]
async fn the_earlier_snapshot_serves_when_the_newest_is_damaged() {
    let data = tempdir().unwrap();
    let engine = small(20).start(data.path()).await;
    work(&engine, 30).await;
    let before = state(&engine.handle()).await;
    engine.shutdown(Duration::ZERO).await;
    let folder = data.path().join("snapshots");
    let spoil = |name: &Path| {
        let mut bytes = fs::read(name).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(name, bytes).unwrap();
    };
    spoil(&folder.join(format!("{:020}.snap", before.seq)));
    let engine = small(1000).start(data.path()).await;
    assert_eq!(state(&engine.handle()).await, before);
    assert!(engine.handle().stats().snapshot_seq < before.seq);
    drop(engine);

    for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        if entry.path() != folder.join(format!("{:020}.snap", before.seq)) {
            spoil(&entry.path());
        }
    }
    match Engine::start(small(1000).parts(data.path())).await.map(drop) {
        Err(StartError::NoSnapshot { earliest_seq }) => assert!(earliest_seq > 1),
        other => panic!("{other:?}"),
    }
    fs::remove_dir_all(&folder).unwrap();
    match EmbeddedLog::open(data.path(), SMALL).map(drop) {
        Err(OpenError::Missing { loss: Loss { from: 1, to: Some(to) }, .. }) => assert!(to > 1),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_decoded_is_passed_over() {
    let data = tempdir().unwrap();
    let engine = Setup::default().start(data.path()).await;
    work(&engine, 3).await;
    let before = state(&engine.handle()).await;
    engine.shutdown(Duration::ZERO).await;
    let mut parts = Setup::default().parts(data.path());
    parts.codec.decode_snapshot = |_| Err(sortie_engine::DecodeError::new("of another version"));
    let engine = Engine::start(parts).await.unwrap();
    assert_eq!(state(&engine.handle()).await, before);
    assert_eq!(engine.handle().stats().snapshot_seq, 0);
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_is_named() {
    let data = tempdir().unwrap();
    let mut log = EmbeddedLog::open(data.path(), LogOptions::default()).unwrap();
    let mut batch = Batch::new(1);
    for text in ["1 5", "1 6", "no event", "1 7"] {
        batch.push(Timestamp::ZERO, |out| out.extend_from_slice(text.as_bytes()));
    }
    log.append(&batch).unwrap();
    drop(log);
    match Engine::start(Setup::default().parts(data.path())).await.map(drop) {
        Err(StartError::Undecodable { seq: 3, source }) => assert!(!source.to_string().is_empty()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn alarms_set_before_a_restart_ring_after_it() {
    let (data, clock) = (tempdir().unwrap(), sortie_engine::ManualClock::at(crate::toy::START));
    let setup = || Setup { clock: std::sync::Arc::new(clock.clone()), ..Setup::default() };
    let engine = setup().start(data.path()).await;
    engine.handle().call(Command::Alarm(Duration::from_secs(9))).await.unwrap();
    drop(engine);
    clock.advance(Duration::from_secs(9));
    let engine = setup().start(data.path()).await;
    await_event(&engine.handle(), Event::Rang(crate::toy::START.as_millis() + 9000)).await;
}

/// Something live: an alarm.
fn guard(accept: bool) -> ClockGuard<Toy> {
    ClockGuard { accept, is_live: |toy| !toy.state.alarms.is_empty() }
}

fn at(clock: &ManualClock) -> Setup {
    Setup { clock: Arc::new(clock.clone()), ..Setup::default() }
}

#[tokio::test]
async fn a_clock_far_ahead_is_refused_where_something_lives() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = at(&clock).start(data.path()).await;
    engine.handle().call(Command::Alarm(Duration::from_secs(9))).await.unwrap();
    drop(engine);
    let start = async |accept| Engine::start_guarded(at(&clock).parts(data.path()), guard(accept)).await;
    clock.advance(MAX_PAUSE + Duration::from_millis(1));
    match start(false).await.map(drop) {
        Err(StartError::ClockAhead { last, now }) => assert_eq!((last, now), (START, clock.now())),
        other => panic!("{other:?}"),
    }
    let engine = start(true).await.unwrap();
    await_event(&engine.handle(), Event::Rang(START.as_millis() + 9000)).await;
}

#[tokio::test]
async fn a_pause_within_the_hour_or_with_nothing_that_lives_is_none_of_its_business() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let start = async || Engine::start_guarded(at(&clock).parts(data.path()), guard(false)).await;
    let engine = start().await.unwrap();
    engine.handle().call(Command::Alarm(Duration::from_secs(9))).await.unwrap();
    drop(engine);
    clock.advance(MAX_PAUSE);
    let engine = start().await.unwrap();
    await_event(&engine.handle(), Event::Rang(START.as_millis() + 9000)).await;
    drop(engine);
    let idle_since = clock.now();
    clock.advance(MAX_IDLE_PAUSE);
    let engine = start().await.unwrap();
    state(&engine.handle()).await;
    drop(engine);
    // Nothing was decided, but the log was told that its owner was alive.
    clock.advance(MAX_IDLE_PAUSE + Duration::from_millis(1));
    match start().await.map(drop) {
        Err(StartError::ClockAhead { last, .. }) => assert_eq!(last, idle_since + MAX_IDLE_PAUSE),
        other => panic!("{other:?}"),
    }
}

/// It does not say how long its process lived after the last record.
#[tokio::test]
async fn a_log_of_an_earlier_version_is_not_taken_for_one_of_long_ago() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = at(&clock).start(data.path()).await;
    engine.handle().call(Command::Alarm(3 * MAX_IDLE_PAUSE)).await.unwrap();
    drop(engine);
    crate::damage::make_old(data.path());
    clock.advance(2 * MAX_IDLE_PAUSE);
    let start = async || Engine::start_guarded(at(&clock).parts(data.path()), guard(false)).await;
    let engine = start().await.unwrap();
    // From then on it does.
    state(&engine.handle()).await;
    drop(engine);
    clock.advance(MAX_PAUSE + Duration::from_millis(1));
    assert!(matches!(start().await.map(drop), Err(StartError::ClockAhead { .. })));
}

#[tokio::test]
async fn a_long_life_without_records_is_no_absence() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = at(&clock).start(data.path()).await;
    engine.handle().call(Command::Alarm(3 * MAX_PAUSE)).await.unwrap();
    clock.advance(2 * MAX_PAUSE);
    state(&engine.handle()).await;
    drop(engine);
    clock.advance(MAX_PAUSE);
    let engine = Engine::start_guarded(at(&clock).parts(data.path()), guard(false)).await.unwrap();
    await_event(&engine.handle(), Event::Rang((START + 3 * MAX_PAUSE).as_millis())).await;
}

#[tokio::test]
async fn after_a_start_in_the_future_stamps_come_back_to_the_clock() {
    let (data, future) = (tempdir().unwrap(), ManualClock::at(START + Duration::from_secs(1_000)));
    let engine = at(&future).start(data.path()).await;
    engine.handle().call(Command::Add(1)).await.unwrap();
    drop(engine);
    let clock = ManualClock::at(START);
    let engine = at(&clock).start(data.path()).await;
    let set = async |after: u64| {
        engine.handle().call(Command::Alarm(Duration::from_secs(after))).await.unwrap();
        *state(&engine.handle()).await.alarms.last().unwrap()
    };
    // In milliseconds after the start of these tests.
    let since = |stamp: u64| stamp - START.as_millis();
    assert_eq!(since(set(9_000).await), 10_000_000, "it continues where the log ends");
    clock.advance(Duration::from_secs(9_999));
    let due = set(10_000).await;
    assert_eq!(since(due), 9_999_100 + 10_000_000, "nine of ten seconds count");
    assert_eq!(state(&engine.handle()).await.alarms.len(), 2);
    clock.advance(Duration::from_secs(1));
    await_event(&engine.handle(), Event::Rang(START.as_millis() + 10_000_000)).await;
    clock.advance(Duration::from_secs(10));
    assert_eq!(since(set(20_000).await), 10_010_000 + 20_000_000, "and all of them once it has caught up");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_is_counted_and_explained_until_one_can() {
    let data = tempdir().unwrap();
    let engine = small(1).start(data.path()).await;
    let handle = engine.handle();
    let folder = data.path().join("snapshots");
    fs::remove_dir_all(&folder).unwrap();
    while handle.stats().failed_snapshots == 0 {
        handle.call(Command::Add(1)).await.unwrap();
    }
    let problem = handle.snapshot_problem().unwrap();
    assert!(
        problem.contains("No such file") && !problem.contains(data.path().to_str().unwrap()),
        "{problem}"
    );
    assert!(handle.stats().accepting);
    fs::create_dir(&folder).unwrap();
    while handle.stats().snapshot_seq == 0 {
        handle.call(Command::Add(1)).await.unwrap();
    }
    assert_eq!((handle.snapshot_problem(), handle.stats().snapshot_time), (None, START));
}

#[tokio::test]
async fn a_machine_that_was_only_prepared_does_nothing_and_leaves_nothing() {
    let (data, clock) = (tempdir().unwrap(), ManualClock::at(START));
    let engine = at(&clock).start(data.path()).await;
    engine.handle().call(Command::Alarm(Duration::from_secs(9))).await.unwrap();
    drop(engine);
    let last = || EmbeddedLog::open(data.path(), LogOptions::default()).unwrap().reader().last_seq();
    let before = last();
    clock.advance(Duration::from_secs(60));
    let prepared = Engine::prepare(at(&clock).parts(data.path()), guard(false)).await.unwrap();
    let handle = prepared.handle();
    let waits = tokio::time::timeout(Duration::from_millis(100), handle.call(Command::Add(1))).await;
    assert!(waits.is_err(), "it does not run: {waits:?}");
    drop(prepared);
    assert_eq!(last(), before, "what was due waits");
    assert!(handle.call(Command::Add(1)).await.is_err());
    let engine = Engine::prepare(at(&clock).parts(data.path()), guard(false)).await.unwrap().run();
    await_event(&engine.handle(), Event::Rang(START.as_millis() + 9000)).await;
}

#[tokio::test]
async fn a_log_that_there_is_no_room_for_is_made_as_soon_as_there_is() {
    let (data, room) = (tempdir().unwrap(), Arc::new(AtomicBool::new(false)));
    let late = |room: &Arc<AtomicBool>| {
        let (folder, room) = (data.path().join("log-of-it"), Arc::clone(room));
        LateLog::new(move || {
            if room.load(Ordering::SeqCst) {
                return EmbeddedLog::open(&folder, LogOptions::default());
            }
            let source = ErrorKind::StorageFull.into();
            Err(OpenError::Io { doing: "create", path: folder.clone(), source })
        })
    };
    let parts = Parts { log: Box::new(late(&room)), ..Setup::default().parts(data.path()) };
    let engine = Engine::start(parts).await.unwrap();
    let handle = engine.handle();
    for _ in 0..2 {
        let refused = handle.call(Command::Add(1)).await;
        assert!(matches!(refused, Err(CallError::Unavailable(Unavailable::DiskFull))), "{refused:?}");
        assert_eq!(state(&handle).await.seq, 0, "what there is can be read");
    }
    room.store(true, Ordering::SeqCst);
    handle.call(Command::Add(5)).await.unwrap();
    let read = tokio::time::timeout(Duration::from_secs(60), await_event(&handle, Event::Added(5))).await;
    assert!(read.is_ok(), "it can be read from the log");
    let before = state(&handle).await;
    assert_eq!(engine.shutdown(Duration::ZERO).await, Ended::Ordered);
    let engine = Setup::default().start(&data.path().join("log-of-it")).await;
    assert_eq!(state(&engine.handle()).await, before);
}

#[test]
fn the_codec_of_these_tests_is_sound() {
    let mut toy = crate::toy::Toy::default();
    toy.state.finished = vec![4, 5];
    toy.state.jobs = [(1, 2)].into();
    toy.state.alarms = [7, 8].into();
    let mut pieces = Vec::new();
    let mut sink = |piece: &[u8]| {
        pieces.push(Ok(piece.to_vec()));
        Ok(())
    };
    (codec().encode_snapshot)(&toy.snapshot(), &mut sink).unwrap();
    assert!(pieces.len() > 1);
    assert_eq!((codec().decode_snapshot)(&mut pieces.into_iter()).unwrap(), toy.state);
}
