//! The embedded log on its own: appending, reading, segments, snapshots, retention, the lock, failing disks.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sortie_domain::time::Timestamp;
use sortie_engine::log::{
    AppendErrorKind, Batch, EmbeddedLog, Log, LogOptions, LogReader, MAX_BATCH_BYTES, MAX_PIECE_BYTES,
    OpenError, PieceSink, ReadError, SnapshotError, SnapshotStore,
};
use tempfile::tempdir;

use crate::damage::crc32;
use crate::disk::{Fault, FaultyDisk};

pub(crate) const TINY: LogOptions =
    LogOptions { segment_bytes: 200, retention_bytes: 600, accept_loss: false, expected: false };

/// The payload of record `seq`; lengths vary.
pub(crate) fn payload(seq: u64) -> Vec<u8> {
    format!("payload-{seq}-{}", "x".repeat((seq % 7) as usize)).into_bytes()
}

pub(crate) fn batch(first: u64, count: u64) -> Batch {
    let mut batch = Batch::new(first);
    for seq in first..first + count {
        batch.push(Timestamp::from_millis(1000 + seq), |out| out.extend(payload(seq)));
    }
    batch
}

pub(crate) fn fill(log: &mut EmbeddedLog, batches: u64) {
    for _ in 0..batches {
        let next = log.reader().last_seq() + 1;
        log.append(&batch(next, 1 + next % 3)).unwrap();
    }
}

/// Every record from `from` on; fails if one is not as it was written.
pub(crate) fn read_all(reader: &dyn LogReader, from: u64, chunk: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let next = from + seqs.len() as u64;
        let batches = reader.read(next, chunk).unwrap();
        if batches.is_empty() {
            return seqs;
        }
        for record in batches.iter().flat_map(Batch::records).filter(|record| record.seq >= next) {
            assert_eq!(record.payload, payload(record.seq));
            assert_eq!(record.time.as_millis(), 1000 + record.seq);
            seqs.push(record.seq);
        }
    }
}

pub(crate) fn open(data: &Path) -> EmbeddedLog {
    EmbeddedLog::open(data, TINY).unwrap()
}

fn segment_count(data: &Path) -> usize {
    fs::read_dir(data.join("log")).unwrap().count()
}

#[test]
fn records_come_back_from_any_place_across_segments_and_restarts() {
    let data = tempdir().unwrap();
    let mut log = open(data.path());
    fill(&mut log, 20);
    drop(log);
    let mut log = open(data.path());
    fill(&mut log, 20);
    assert!(segment_count(data.path()) > 5);
    let reader = log.reader();
    let last = reader.last_seq();
    for from in 1..=last + 1 {
        for chunk in [1, 100, 1 << 20] {
            assert_eq!(read_all(&*reader, from, chunk), (from..=last).collect::<Vec<_>>());
        }
    }
}

#[test]
fn many_small_batches_are_found_by_place() {
    let data = tempdir().unwrap();
    let mut log = EmbeddedLog::open(data.path(), LogOptions::default()).unwrap();
    let big = |seq| {
        let mut batch = Batch::new(seq);
        batch.push(Timestamp::ZERO, |out| out.extend([seq as u8; 50_000]));
        batch
    };
    (1..=60).for_each(|seq| log.append(&big(seq)).unwrap());
    for reader in [log.reader(), {
        drop(log);
        EmbeddedLog::open(data.path(), LogOptions::default()).unwrap().reader()
    }] {
        for from in 1..=60 {
            assert_eq!(reader.read(from, 1).unwrap(), [big(from)]);
        }
    }
}

#[test]
fn only_the_next_records_of_a_sensible_size_are_taken() {
    let data = tempdir().unwrap();
    let mut log = open(data.path());
    let kind = |result: Result<(), sortie_engine::log::AppendError>| result.unwrap_err().kind;
    assert_eq!(kind(log.append(&batch(2, 1))), AppendErrorKind::OutOfOrder);
    assert_eq!(kind(log.append(&Batch::new(1))), AppendErrorKind::BadSize);
    let mut huge = Batch::new(1);
    huge.push(Timestamp::ZERO, |out| out.extend(vec![0; MAX_BATCH_BYTES]));
    assert_eq!(kind(log.append(&huge)), AppendErrorKind::BadSize);
    log.append(&batch(1, 1)).unwrap();
    assert_eq!(kind(log.append(&batch(1, 1))), AppendErrorKind::OutOfOrder);
}

#[test]
fn a_second_opener_is_refused_and_told_by_whom() {
    let data = tempdir().unwrap();
    let log = open(data.path());
    match EmbeddedLog::open(data.path(), TINY).map(drop) {
        Err(error @ OpenError::Locked { pid, .. }) => {
            assert_eq!(pid, Some(std::process::id()));
            assert!(error.to_string().contains(data.path().to_str().unwrap()), "{error}");
            assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        }
        other => panic!("{other:?}"),
    }
    drop(log);
    open(data.path());
}

#[test]
fn a_lock_that_is_about_to_be_given_up_is_waited_for() {
    let data = tempdir().unwrap();
    let log = open(data.path());
    std::thread::scope(|scope| {
        let (began, begins) = std::sync::mpsc::sync_channel(1);
        let second = scope.spawn(move || {
            began.send(()).unwrap();
            EmbeddedLog::open(data.path(), TINY).map(drop)
        });
        begins.recv().unwrap();
        drop(log);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_snapshot_that_was_never_finished_is_removed_and_nothing_else() {
    let data = tempdir().unwrap();
    drop(open(data.path()));
    let at = |name: &str| data.path().join("snapshots").join(name);
    for name in ["00000000000000000007.tmp", "notes.tmp", "7.tmp"] {
        std::fs::write(at(name), "half of it").unwrap();
    }
    drop(open(data.path()));
    assert!(!at("00000000000000000007.tmp").exists(), "it wastes space");
    assert!(at("notes.tmp").exists() && at("7.tmp").exists(), "these are not the log's");
}

#[test]
fn a_failed_append_leaves_nothing_and_can_be_repeated() {
    for fault in [Fault::Full, Fault::SyncFails, Fault::FullAndCutFails] {
        // The first append also creates a segment; the second appends to one.
        for before in [0, 1, 7] {
            let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
            let mut log = EmbeddedLog::open_on(data.path(), TINY, Arc::clone(&disk) as _).unwrap();
            fill(&mut log, before);
            let last = log.reader().last_seq();
            disk.set(fault);
            for _ in 0..3 {
                let error = log.append(&batch(last + 1, 2)).unwrap_err();
                let full = matches!(fault, Fault::Full) || error.kind == AppendErrorKind::DiskFull;
                let expected = if full { AppendErrorKind::DiskFull } else { AppendErrorKind::DiskFailed };
                assert_eq!(error.kind, expected);
                assert!(log.probe().is_err());
                assert_eq!(read_all(&*log.reader(), 1, 99).len() as u64, last);
            }
            disk.set(Fault::None);
            log.probe().unwrap();
            assert_eq!(log.reader().last_seq(), last);
            log.append(&batch(last + 1, 2)).unwrap();
            drop(log);
            assert_eq!(read_all(&*open(data.path()).reader(), 1, 99).len() as u64, last + 2);
        }
    }
}

#[test]
fn reopening_after_a_failed_append_finds_what_was_durable() {
    // If only the sync fails, the whole batch is in the file before it is removed again.
    for fault in [Fault::Full, Fault::SyncFails, Fault::FullAndCutFails] {
        let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
        let mut log = EmbeddedLog::open_on(data.path(), TINY, Arc::clone(&disk) as _).unwrap();
        fill(&mut log, 4);
        let last = log.reader().last_seq();
        disk.set(fault);
        log.append(&batch(last + 1, 2)).unwrap_err();
        drop(log);
        assert_eq!(open(data.path()).reader().last_seq(), last);
    }
}

#[test]
fn what_could_not_be_removed_at_once_is_removed_before_the_next_append() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let mut log = EmbeddedLog::open_on(data.path(), TINY, Arc::clone(&disk) as _).unwrap();
    fill(&mut log, 1);
    let last = log.reader().last_seq();
    disk.set(Fault::FullAndCutFails);
    // More than the segment gets until it is full.
    log.append(&batch(last + 1, 200)).unwrap_err();
    disk.set(Fault::None);
    fill(&mut log, 20);
    let last = log.reader().last_seq();
    drop(log);
    assert_eq!(open(data.path()).reader().last_seq(), last);
}

/// What a snapshot of these tests consists of.
fn pieces(seq: u64) -> Vec<Vec<u8>> {
    (0..3).map(|piece| format!("state {seq}, piece {piece}").into_bytes()).collect()
}

pub(crate) fn save(store: &dyn SnapshotStore, seq: u64) -> Result<u64, SnapshotError> {
    let mut write = |sink: PieceSink<'_>| pieces(seq).iter().try_for_each(|piece| sink(piece));
    store.save(seq, Timestamp::from_millis(seq), &mut write)
}

/// The newest one, which must be what was written.
fn newest(store: &dyn SnapshotStore, at_most: u64) -> Option<u64> {
    let found = store.newest(at_most).unwrap()?;
    let read: Vec<_> = found.pieces.map(Result::unwrap).collect();
    assert_eq!((found.time, read), (Timestamp::from_millis(found.seq), pieces(found.seq)));
    Some(found.seq)
}

#[test]
fn the_newest_sound_snapshot_is_found_and_two_are_kept() {
    let data = tempdir().unwrap();
    let mut log = open(data.path());
    fill(&mut log, 20);
    let store = log.snapshots();
    assert_eq!(newest(&*store, u64::MAX), None);
    assert_eq!(save(&*store, 3).unwrap(), 0, "one is not enough to remove the records it includes");
    assert_eq!(save(&*store, 5).unwrap(), 3);
    assert_eq!(save(&*store, 9).unwrap(), 5);
    assert_eq!(fs::read_dir(data.path().join("snapshots")).unwrap().count(), 2);
    assert_eq!(newest(&*store, u64::MAX), Some(9));
    assert_eq!(newest(&*store, 8), Some(5));
    let file = data.path().join("snapshots").join(format!("{:020}.snap", 9));
    let sound = fs::read(&file).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x40;
        fs::write(&file, bytes).unwrap();
        assert_eq!(newest(&*store, u64::MAX), Some(5), "byte {at}");
        fs::write(&file, &sound[..at]).unwrap();
        assert_eq!(newest(&*store, u64::MAX), Some(5), "cut at {at}");
    }
}

/// As version 1 of the format was written: one payload after head and time, with one checksum.
#[test]
fn a_snapshot_in_one_piece_of_the_first_version_is_read() {
    let data = tempdir().unwrap();
    let log = open(data.path());
    let content = [&7_u64.to_le_bytes()[..], &70_u64.to_le_bytes(), b"the state"].concat();
    let head = [&b"SORTSNAP"[..], &1_u32.to_le_bytes(), &crc32(&content).to_le_bytes()].concat();
    let path = data.path().join("snapshots").join(format!("{:020}.snap", 7));
    let sound = [head, content].concat();
    fs::write(&path, &sound).unwrap();
    let found = log.snapshots().newest(u64::MAX).unwrap().unwrap();
    let read: Vec<_> = found.pieces.map(Result::unwrap).collect();
    assert_eq!((found.seq, found.time.as_millis(), read), (7, 70, vec![b"the state".to_vec()]));
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(log.snapshots().newest(u64::MAX).unwrap().is_none(), "byte {at}");
    }
}

#[test]
fn a_piece_that_is_too_large_or_empty_is_refused_and_leaves_nothing() {
    let data = tempdir().unwrap();
    let log = open(data.path());
    for bytes in [0, MAX_PIECE_BYTES + 1] {
        let piece = vec![1; bytes];
        let error = log.snapshots().save(5, Timestamp::ZERO, &mut |sink| sink(&piece)).unwrap_err();
        assert!(error.to_string().contains(&format!("a piece has {bytes} bytes")), "{error}");
    }
    assert_eq!(fs::read_dir(data.path().join("snapshots")).unwrap().count(), 0);
}

#[test]
fn a_snapshot_that_cannot_be_written_leaves_the_earlier_ones() {
    let (data, disk) = (tempdir().unwrap(), Arc::new(FaultyDisk::new()));
    let log = EmbeddedLog::open_on(data.path(), TINY, Arc::clone(&disk) as _).unwrap();
    let store = log.snapshots();
    save(&*store, 1).unwrap();
    for fault in [Fault::Full, Fault::SyncFails] {
        disk.set(fault);
        save(&*store, 2).unwrap_err();
        assert_eq!(newest(&*store, u64::MAX), Some(1));
        assert_eq!(fs::read_dir(data.path().join("snapshots")).unwrap().count(), 1);
    }
}

#[test]
fn old_segments_go_only_when_snapshots_stand_for_them_and_there_is_too_much() {
    let data = tempdir().unwrap();
    let mut log = open(data.path());
    fill(&mut log, 40);
    let (reader, before) = (log.reader(), segment_count(data.path()));
    log.retire(0);
    assert_eq!((reader.earliest_seq(), segment_count(data.path())), (1, before));
    log.retire(20);
    let earliest = reader.earliest_seq();
    assert!((2..=21).contains(&earliest), "{earliest}");
    log.retire(u64::MAX);
    let earliest = reader.earliest_seq();
    assert!(matches!(
        reader.read(1, 99),
        Err(ReadError::Gone { asked: 1, earliest: found }) if found == earliest
    ));
    let last = reader.last_seq();
    assert_eq!(read_all(&*reader, earliest, 99), (earliest..=last).collect::<Vec<_>>());
    save(&*log.snapshots(), last).unwrap();
    drop(log);
    let total: u64 = fs::read_dir(data.path().join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(total <= TINY.retention_bytes, "{total}");
    assert!(total > TINY.retention_bytes - TINY.segment_bytes - 200, "gave up too much: {total} left");
    let log = open(data.path());
    assert_eq!((log.reader().earliest_seq(), log.reader().last_seq()), (earliest, last));
}

/// An idle start with a clock that is ahead must not hide how long a later absence is.
#[test]
fn the_last_sign_of_life_goes_back_with_the_clock() {
    let data = tempdir().unwrap();
    let mut log = open(data.path());
    fill(&mut log, 1);
    for seconds in [9_000, 70] {
        log.note_alive(Timestamp::from_millis(1000 * seconds));
        assert_eq!(log.last_alive(), Timestamp::from_millis(1000 * seconds));
    }
    drop(log);
    assert_eq!(open(data.path()).last_alive(), Timestamp::from_millis(70_000));
}
