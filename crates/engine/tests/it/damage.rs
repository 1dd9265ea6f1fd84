//! Files that are not as they were left: broken off at the end, which is mended, or damaged, which is not.

use std::fs;
use std::path::{Path, PathBuf};

use sortie_engine::log::{EmbeddedLog, Log, LogOptions, OpenError, StoredSnapshot};
use tempfile::{TempDir, tempdir};

use crate::log::{TINY, batch, fill, open, read_all};

const HEAD_BYTES: usize = 28;

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(data.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A log of one segment, and where each of its batches begins and the last one ends.
fn one_segment(batches: u64) -> (TempDir, PathBuf, Vec<usize>) {
    let data = tempdir().unwrap();
    let mut ends = vec![HEAD_BYTES];
    for _ in 0..batches {
        fill(&mut EmbeddedLog::open(data.path(), LogOptions::default()).unwrap(), 1);
        ends.push(fs::metadata(&segments(data.path())[0]).unwrap().len() as usize);
    }
    let path = segments(data.path()).remove(0);
    (data, path, ends)
}

fn open_error(data: &Path) -> OpenError {
    match EmbeddedLog::open(data, TINY) {
        Ok(_) => panic!("was opened"),
        Err(error) => error,
    }
}

#[test]
fn a_batch_broken_off_at_any_byte_is_removed_and_the_log_goes_on() {
    let (data, path, ends) = one_segment(4);
    let whole = fs::read(&path).unwrap();
    let all = open(data.path()).reader().last_seq();
    fs::write(&path, &whole[..ends[3]]).unwrap();
    let before = open(data.path()).reader().last_seq();
    assert!(before < all);
    for cut in ends[3]..ends[4] {
        for garbage in [&b""[..], &[0; 300], &[0xa5; 100]] {
            fs::write(&path, [&whole[..cut], garbage].concat()).unwrap();
            let mut log = EmbeddedLog::open(data.path(), LogOptions::default()).unwrap();
            assert_eq!(log.reader().last_seq(), before, "cut at {cut}");
            assert_eq!(fs::metadata(&path).unwrap().len() as usize, ends[3]);
            log.append(&batch(before + 1, 2)).unwrap();
            drop(log);
            assert_eq!(read_all(&*open(data.path()).reader(), 1, 99).len() as u64, before + 2);
        }
    }
}

#[test]
fn damage_before_a_sound_batch_stops_with_its_place_and_changes_nothing() {
    let (data, path, ends) = one_segment(5);
    let whole = fs::read(&path).unwrap();
    for at in 0..ends[4] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let begin = ends.iter().rfind(|end| **end <= at).map_or(0, |end| *end);
        match open_error(data.path()) {
            OpenError::Damaged { file, offset, .. } => {
                assert_eq!((file, offset), (path.clone(), begin as u64), "byte {at}");
            }
            other => panic!("byte {at}: {other}"),
        }
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, whole).unwrap();
    open(data.path());
}

#[test]
fn a_missing_piece_in_the_middle_is_damage() {
    let (data, path, ends) = one_segment(5);
    let whole = fs::read(&path).unwrap();
    // A whole batch is gone: what follows is sound, but does not follow.
    fs::write(&path, [&whole[..ends[2]], &whole[ends[3]..]].concat()).unwrap();
    assert!(matches!(open_error(data.path()), OpenError::Damaged { offset, .. } if offset == ends[2] as u64));
    // Only some bytes are gone.
    fs::write(&path, [&whole[..ends[2] + 5], &whole[ends[2] + 9..]].concat()).unwrap();
    assert!(matches!(open_error(data.path()), OpenError::Damaged { offset, .. } if offset == ends[2] as u64));
}

#[test]
fn damage_at_the_end_of_an_earlier_segment_is_no_broken_off_batch() {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 12);
    let first = segments(data.path()).remove(0);
    let whole = fs::read(&first).unwrap();
    for cut in [whole.len() - 1, whole.len() - 30] {
        fs::write(&first, &whole[..cut]).unwrap();
        assert!(matches!(open_error(data.path()), OpenError::Damaged { file, .. } if file == first));
    }
}

#[test]
fn missing_segments_are_noticed() {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 30);
    let paths = segments(data.path());
    fs::remove_file(&paths[2]).unwrap();
    assert!(matches!(open_error(data.path()), OpenError::Discontinuous { file, .. } if file == paths[3]));
}

#[test]
fn a_segment_that_was_never_begun_is_removed() {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 12);
    let (last, count) = (open(data.path()).reader().last_seq(), segments(data.path()).len());
    let unbegun = data.path().join("log").join(format!("{:020}.log", last + 1));
    for length in [0, 5, HEAD_BYTES] {
        fs::write(&unbegun, vec![0; length]).unwrap();
        assert_eq!(open(data.path()).reader().last_seq(), last);
        assert_eq!(segments(data.path()).len(), count);
    }
    // Longer than a head: something was written to it once.
    fs::write(&unbegun, vec![0; HEAD_BYTES + 1]).unwrap();
    assert!(matches!(open_error(data.path()), OpenError::Damaged { offset: 0, .. }));
}

#[test]
fn a_frame_of_another_log_proves_nothing() {
    let (data, path, ends) = one_segment(3);
    let (_other, other_path, other_ends) = one_segment(5);
    let foreign = fs::read(other_path).unwrap()[other_ends[3]..].to_vec();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..ends[3] - 4], &foreign[..]].concat()).unwrap();
    open(data.path());
    assert_eq!(fs::metadata(&path).unwrap().len() as usize, ends[2]);
}

#[test]
fn a_later_format_is_refused_by_name() {
    let (data, path, _) = one_segment(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let checksum = crc32(&bytes[..HEAD_BYTES - 4]);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let error = open_error(data.path());
    assert!(matches!(error, OpenError::UnknownVersion { version: 2, .. }), "{error}");
}

/// CRC-32 (IEEE) bit by bit, so that the format is held to something other than the code that writes it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[test]
fn a_log_that_ends_before_its_snapshot_is_refused_and_left_alone() {
    let (data, path, ends) = one_segment(4);
    let log = open(data.path());
    let seq = log.reader().last_seq();
    log.snapshots().save(&StoredSnapshot { seq, time: Default::default(), payload: Vec::new() }).unwrap();
    drop(log);
    let torn = fs::read(&path).unwrap()[..ends[4] - 1].to_vec();
    fs::write(&path, &torn).unwrap();
    match open_error(data.path()) {
        OpenError::BehindSnapshot { last_seq, snapshot_seq, .. } => {
            assert!(last_seq < seq);
            assert_eq!(snapshot_seq, seq);
        }
        other => panic!("{other}"),
    }
    assert_eq!(fs::read(&path).unwrap(), torn);
}
