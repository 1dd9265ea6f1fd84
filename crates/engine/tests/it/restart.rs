//! What a restart brings back.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use sortie_domain::machine::Machine;
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Log, LogOptions};
use sortie_engine::{EmbeddedLog, Ended, Engine, EngineOptions, StartError};
use tempfile::tempdir;

use crate::toy::{Command, Event, Setup, await_event, codec, state};

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

const SMALL: LogOptions = LogOptions { segment_bytes: 300, retention_bytes: 0 };

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
            // The log first: a snapshot that is newer than the log's copy would rightly be refused.
            let (copied, now) = (tempdir().unwrap(), state(&handle).await);
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
    let newest = folder.join(format!("{:020}.snap", before.seq));
    let mut bytes = fs::read(&newest).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&newest, bytes).unwrap();
    let engine = small(1000).start(data.path()).await;
    assert_eq!(state(&engine.handle()).await, before);
    assert!(engine.handle().stats().snapshot_seq < before.seq);
    drop(engine);

    fs::remove_dir_all(&folder).unwrap();
    match Engine::start(small(1000).parts(data.path())).await.map(drop) {
        Err(StartError::NoSnapshot { earliest_seq }) => assert!(earliest_seq > 1),
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

#[test]
fn the_codec_of_these_tests_is_sound() {
    let mut toy = crate::toy::Toy::default();
    toy.state.finished = vec![4, 5];
    toy.state.jobs = [(1, 2)].into();
    toy.state.alarms = [7, 8].into();
    let bytes = (codec().encode_snapshot)(&toy.snapshot());
    assert_eq!((codec().decode_snapshot)(&bytes).unwrap(), toy.state);
}
