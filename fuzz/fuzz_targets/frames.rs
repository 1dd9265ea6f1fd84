//! Any bytes in a segment file are a log that can be read and continued, or are refused.
//!
//! The first byte says how much of the file is sound, because nothing ever guesses a checksum: 0 nothing; 1 the
//! head; otherwise the head and the frames, whose bodies come from the input.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use sortie_domain::time::Timestamp;
use sortie_engine::log::{Batch, Disk, Log};
use sortie_engine::{EmbeddedLog, LogOptions};

const MARK: [u8; 4] = *b"mark";

/// Durability is not what is tried here, and is slow.
struct Hasty;

impl Disk for Hasty {
    fn sync(&self, _: &std::fs::File) -> std::io::Result<()> {
        Ok(())
    }
}

/// Head of a segment that begins with record 1: see `crates/engine/src/log/segment.rs`.
fn head() -> Vec<u8> {
    let mut bytes = b"SORTILOG".to_vec();
    bytes.extend_from_slice(&1_u32.to_le_bytes());
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&1_u64.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Length of the body (2 bytes), first record, number of records, then the body: as a frame of
/// `crates/engine/src/log/frame.rs`. What remains of `input` comes after it.
fn frame<'a>(input: &'a [u8], file: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    let (first_seq, rest) = rest.split_first()?;
    let (count, rest) = rest.split_first()?;
    let (body, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (first_seq, count) = (u64::from(*first_seq).to_le_bytes(), u32::from(*count).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(u32::from_le_bytes(MARK));
    hasher.update(&first_seq);
    hasher.update(&count);
    hasher.update(body);
    file.extend_from_slice(&MARK);
    file.extend_from_slice(&(body.len() as u32).to_le_bytes());
    file.extend_from_slice(&hasher.finalize().to_le_bytes());
    file.extend_from_slice(&first_seq);
    file.extend_from_slice(&count);
    file.extend_from_slice(body);
    Some(rest)
}

fn file(kind: u8, mut input: &[u8]) -> Vec<u8> {
    let mut file = if kind == 0 { Vec::new() } else { head() };
    if kind > 1 {
        while let Some(rest) = frame(input, &mut file) {
            input = rest;
        }
    }
    file.extend_from_slice(input);
    file
}

fn open(data: &Path) -> Option<EmbeddedLog> {
    EmbeddedLog::open_on(data, LogOptions::default(), Arc::new(Hasty)).ok()
}

/// Every record's number, from the first to the last.
fn read(log: &EmbeddedLog) -> Vec<u64> {
    let reader = log.reader();
    let (mut seqs, mut next) = (Vec::new(), reader.earliest_seq());
    while next <= reader.last_seq() {
        let batches = reader.read(next, 1 << 20).expect("what was found sound can be read");
        let read = batches.iter().flat_map(Batch::records).map(|record| record.seq);
        seqs.extend(read.filter(|seq| *seq >= next));
        next = seqs.last().expect("a record") + 1;
    }
    seqs
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let data = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(data.path().join("log")).expect("a folder");
    std::fs::write(data.path().join("log/00000000000000000001.log"), file(*kind, rest)).expect("written");
    let Some(mut log) = open(data.path()) else { return };
    let before = read(&log);
    let next = log.reader().last_seq() + 1;
    assert!(before.iter().copied().eq(1..next), "{before:?}");
    let mut batch = Batch::new(next);
    batch.push(Timestamp::from_millis(1), |payload| payload.push(1));
    log.append(&batch).expect("room for one more");
    drop(log);
    let again = open(data.path()).expect("it was sound");
    assert_eq!(read(&again).len(), before.len() + 1);
});
