//! Files that are not as they were left: torn while they were written, which is repaired, or missing, swapped or
//! changed afterwards, which is reported and needs consent.

use std::fs;
use std::path::{Path, PathBuf};

use sortie_engine::log::{EmbeddedLog, Log, LogOptions, Loss, OpenError};
use tempfile::{TempDir, tempdir};

use crate::log::{TINY, batch, fill, open, read_all, save};

const HEAD_BYTES: usize = 48;
const UNCHAINED_HEAD_BYTES: usize = 28;
const FRAME_HEAD_BYTES: usize = 24;

const ACCEPTING: LogOptions = LogOptions { accept_loss: true, ..TINY };

fn segments(data: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(data.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

fn first_seq(segment: &Path) -> u64 {
    segment.file_stem().unwrap().to_str().unwrap().parse().unwrap()
}

fn last_seq(data: &Path) -> u64 {
    open(data).reader().last_seq()
}

/// Every file of a data folder except its lock, by name.
fn content(data: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for folder in [data, &data.join("log"), &data.join("snapshots")] {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_file() && !path.ends_with("lock") {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

/// A log of one segment.
struct Written {
    data: TempDir,
    path: PathBuf,
    /// Where each of its batches begins and the last one ends.
    ends: Vec<usize>,
    /// The file `end` after each batch.
    acknowledged: Vec<Vec<u8>>,
}

fn one_segment(batches: u64) -> Written {
    let data = tempdir().unwrap();
    let (mut ends, mut acknowledged) = (vec![HEAD_BYTES], vec![Vec::new()]);
    for _ in 0..batches {
        fill(&mut EmbeddedLog::open(data.path(), LogOptions::default()).unwrap(), 1);
        ends.push(fs::metadata(&segments(data.path())[0]).unwrap().len() as usize);
        acknowledged.push(fs::read(data.path().join("end")).unwrap());
    }
    let path = segments(data.path()).remove(0);
    Written { data, path, ends, acknowledged }
}

impl Written {
    /// As if everything after this many batches had never been acknowledged.
    fn acknowledge(&self, batches: usize) {
        fs::write(self.data.path().join("end"), &self.acknowledged[batches]).unwrap();
    }
}

/// The error of opening, which must not change anything.
fn refused(data: &Path) -> OpenError {
    let before = content(data);
    let error = match EmbeddedLog::open(data, TINY) {
        Ok(_) => panic!("was opened"),
        Err(error) => error,
    };
    assert!(content(data) == before, "something was changed");
    error
}

fn loss(error: &OpenError) -> Loss {
    match error {
        OpenError::Damaged { loss, .. } | OpenError::Missing { loss, .. } => *loss,
        other => panic!("{other}"),
    }
}

/// Continues with the records up to `last`, accepts more, and is intact from then on.
fn goes_on(data: &Path, options: LogOptions, last: u64) {
    let mut log = EmbeddedLog::open(data, options).unwrap();
    assert_eq!(log.reader().last_seq(), last);
    log.append(&batch(last + 1, 2)).unwrap();
    drop(log);
    let log = open(data);
    let reader = log.reader();
    let (from, to) = (reader.earliest_seq(), reader.last_seq());
    assert_eq!(to, last + 2);
    assert_eq!(read_all(&*reader, from, 99), (from..=to).collect::<Vec<_>>());
}

/// Refuses because `from` to `to` are lost; continues without them when told to.
fn loses(data: &Path, from: u64, to: u64) {
    let error = refused(data);
    assert_eq!(loss(&error).from, from, "{error}");
    assert!(loss(&error).to.is_none_or(|said| said <= to), "{error}");
    let text = error.to_string();
    assert!(text.contains("--accept-loss") && text.contains(&from.to_string()), "{text}");
    goes_on(data, ACCEPTING, from - 1);
}

#[test]
fn a_batch_that_was_never_acknowledged_and_broke_off_at_any_byte_is_removed() {
    let log = one_segment(4);
    let whole = fs::read(&log.path).unwrap();
    let (begin, end) = (log.ends[3], log.ends[4]);
    fs::write(&log.path, &whole[..begin]).unwrap();
    log.acknowledge(3);
    let before = last_seq(log.data.path());
    for cut in begin..end {
        let within_head = cut < begin + FRAME_HEAD_BYTES - 4;
        let garbage: &[&[u8]] = if within_head { &[b"", &[0; 300], &[0xa5; 100]] } else { &[b"", &[0; 300]] };
        for garbage in garbage {
            fs::write(&log.path, [&whole[..cut], garbage].concat()).unwrap();
            log.acknowledge(3);
            drop(EmbeddedLog::open(log.data.path(), LogOptions::default()).unwrap());
            assert_eq!(fs::metadata(&log.path).unwrap().len() as usize, begin);
            goes_on(log.data.path(), LogOptions::default(), before);
        }
    }
}

#[test]
fn an_acknowledged_batch_that_is_cut_or_changed_at_any_byte_is_missed() {
    let log = one_segment(4);
    let whole = fs::read(&log.path).unwrap();
    let all = last_seq(log.data.path());
    let before = all - u64::from(batch(1, 1).len() + (all - 1) as u32 % 3);
    for at in log.ends[3]..log.ends[4] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        for bytes in [whole[..at].to_vec(), [&whole[..at], &[0; 300]].concat(), flipped] {
            fs::write(&log.path, bytes).unwrap();
            log.acknowledge(4);
            let error = refused(log.data.path());
            let lost = loss(&error);
            assert!(lost.from > before.saturating_sub(3) && lost.to == Some(all), "byte {at}: {error}");
        }
    }
    let mut flipped = whole;
    flipped[log.ends[4] - 1] ^= 1;
    fs::write(&log.path, &flipped).unwrap();
    let from = loss(&refused(log.data.path())).from;
    loses(log.data.path(), from, all);
    // The removed part is kept for inspection.
    let aside = log.data.path().join("lost").join(log.path.file_name().unwrap());
    assert!(fs::read(aside).unwrap() == flipped);
}

/// After a power cut `end` may be stale; a complete batch was not torn by it.
#[test]
fn a_whole_batch_with_a_changed_bit_is_damage_even_if_nothing_says_that_it_was_acknowledged() {
    let log = one_segment(4);
    let whole = fs::read(&log.path).unwrap();
    for at in log.ends[3] + FRAME_HEAD_BYTES..log.ends[4] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&log.path, &bytes).unwrap();
        log.acknowledge(3);
        match refused(log.data.path()) {
            OpenError::Damaged { offset, .. } => assert_eq!(offset, log.ends[3] as u64, "byte {at}"),
            other => panic!("byte {at}: {other}"),
        }
    }
}

#[test]
fn damage_before_a_sound_batch_stops_with_its_place_and_changes_nothing() {
    let log = one_segment(5);
    let whole = fs::read(&log.path).unwrap();
    for at in 0..log.ends[4] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&log.path, &bytes).unwrap();
        let begin = if at < HEAD_BYTES { 0 } else { *log.ends.iter().rfind(|end| **end <= at).unwrap() };
        match refused(log.data.path()) {
            OpenError::Damaged { file, offset, .. } => {
                assert_eq!((file, offset), (log.path.clone(), begin as u64), "byte {at}");
            }
            other => panic!("byte {at}: {other}"),
        }
    }
    fs::write(&log.path, whole).unwrap();
    open(log.data.path());
}

#[test]
fn a_missing_piece_in_the_middle_is_damage() {
    let log = one_segment(5);
    let whole = fs::read(&log.path).unwrap();
    let (begin, end) = (log.ends[2], log.ends[3]);
    // A whole batch is missing: the rest is valid, but not consecutive. Then only some bytes are missing.
    for bytes in
        [[&whole[..begin], &whole[end..]].concat(), [&whole[..begin + 5], &whole[begin + 9..]].concat()]
    {
        fs::write(&log.path, bytes).unwrap();
        let error = refused(log.data.path());
        assert!(matches!(error, OpenError::Damaged { offset, .. } if offset == begin as u64), "{error}");
    }
}

#[test]
fn a_cut_at_the_end_of_an_earlier_segment_is_no_broken_off_batch() {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 12);
    let first = segments(data.path()).remove(0);
    let whole = fs::read(&first).unwrap();
    for cut in [whole.len() - 1, whole.len() - 30] {
        fs::write(&first, &whole[..cut]).unwrap();
        let error = refused(data.path());
        assert!(matches!(&error, OpenError::Damaged { file, .. } if *file == first), "{error}");
    }
}

/// A log of several segments, without a snapshot.
fn many_segments() -> TempDir {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 20);
    assert!(segments(data.path()).len() >= 6);
    data
}

#[test]
fn removed_segments_are_missed_wherever_they_were() {
    let count = segments(many_segments().path()).len();
    for from in 0..count {
        for to in from + 1..=count {
            let data = many_segments();
            let (paths, all) = (segments(data.path()), last_seq(data.path()));
            paths[from..to].iter().for_each(|path| fs::remove_file(path).unwrap());
            loses(data.path(), first_seq(&paths[from]), all);
        }
    }
}

#[test]
fn what_is_gone_says_which_records_and_where() {
    let data = many_segments();
    let (paths, all) = (segments(data.path()), last_seq(data.path()));
    fs::remove_file(&paths[2]).unwrap();
    match refused(data.path()) {
        OpenError::Missing { before, loss, foreign: false, .. } => {
            let to = first_seq(&paths[3]) - 1;
            assert_eq!(
                (before.as_ref(), loss),
                (Some(&paths[3]), Loss { from: first_seq(&paths[2]), to: Some(to) })
            );
        }
        other => panic!("{other}"),
    }
    paths[3..].iter().for_each(|path| fs::remove_file(path).unwrap());
    match refused(data.path()) {
        OpenError::Missing { before: None, loss, .. } => {
            assert_eq!(loss, Loss { from: first_seq(&paths[2]), to: Some(all) });
        }
        other => panic!("{other}"),
    }
}

#[test]
fn removed_segments_below_a_snapshot_never_stop_a_start() {
    let count = segments(many_segments().path()).len();
    for from in 0..count {
        for to in from + 1..=count {
            let data = many_segments();
            let (paths, all) = (segments(data.path()), last_seq(data.path()));
            // In the middle of the log; the records of a later segment are still needed.
            let snapshot = first_seq(&paths[count / 2]);
            save(&*open(data.path()).snapshots(), snapshot).unwrap();
            paths[from..to].iter().for_each(|path| fs::remove_file(path).unwrap());
            let gone = first_seq(&paths[from])..paths.get(to).map_or(all + 1, |next| first_seq(next));
            if gone.end <= snapshot + 1 {
                goes_on(data.path(), TINY, all);
            } else {
                loses(data.path(), gone.start.max(snapshot + 1), all);
            }
        }
    }
}

#[test]
fn a_snapshot_of_the_last_record_stands_for_the_whole_log() {
    for spoil in [
        &|path: &Path| fs::remove_file(path).unwrap() as _,
        &|path: &Path| fs::write(path, vec![7; 300]).unwrap() as _,
        &|path: &Path| fs::write(path, &fs::read(path).unwrap()[..90]).unwrap() as _,
    ] as [&dyn Fn(&Path); 3]
    {
        let data = many_segments();
        let all = last_seq(data.path());
        save(&*open(data.path()).snapshots(), all).unwrap();
        segments(data.path()).iter().for_each(|path| spoil(path));
        goes_on(data.path(), TINY, all);
        // Disconnected files are removed together with the next old segments.
        let mut log = open(data.path());
        log.retire(all);
        drop(log);
        assert_eq!(segments(data.path()).len(), 1);
        open(data.path());
    }
}

#[test]
fn a_damaged_snapshot_stands_for_nothing() {
    let data = many_segments();
    let (paths, all) = (segments(data.path()), last_seq(data.path()));
    save(&*open(data.path()).snapshots(), all).unwrap();
    let path = data.path().join("snapshots").join(format!("{all:020}.snap"));
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    fs::remove_file(&paths[1]).unwrap();
    loses(data.path(), first_seq(&paths[1]), all);
}

#[test]
fn exchanged_segments_are_noticed() {
    let data = many_segments();
    let (paths, all) = (segments(data.path()), last_seq(data.path()));
    let (one, other) = (fs::read(&paths[1]).unwrap(), fs::read(&paths[3]).unwrap());
    fs::write(&paths[1], other).unwrap();
    fs::write(&paths[3], one).unwrap();
    loses(data.path(), first_seq(&paths[1]), all);
}

#[test]
fn a_segment_of_another_log_with_the_same_records_is_noticed_in_any_place() {
    let other = many_segments();
    for index in 0..segments(other.path()).len() {
        let data = many_segments();
        let (paths, theirs) = (segments(data.path()), segments(other.path()));
        fs::copy(&theirs[index], &paths[index]).unwrap();
        let error = refused(data.path());
        assert!(loss(&error).from <= first_seq(&paths[index]) + 9, "{error}");
    }
}

/// The same files in an earlier state, as a backup of single files would have them.
#[test]
fn an_older_state_of_the_last_segment_is_noticed() {
    let data = tempdir().unwrap();
    let mut log = EmbeddedLog::open(data.path(), LogOptions::default()).unwrap();
    fill(&mut log, 3);
    let (path, before) = (segments(data.path()).remove(0), log.reader().last_seq());
    let old = fs::read(&path).unwrap();
    fill(&mut log, 3);
    let all = log.reader().last_seq();
    drop(log);
    fs::write(&path, old).unwrap();
    loses(data.path(), before + 1, all);
}

#[test]
fn a_segment_that_was_never_begun_is_removed() {
    let data = tempdir().unwrap();
    fill(&mut open(data.path()), 12);
    let (last, count) = (last_seq(data.path()), segments(data.path()).len());
    let unbegun = data.path().join("log").join(format!("{:020}.log", last + 1));
    for length in [0, 5, HEAD_BYTES] {
        fs::write(&unbegun, vec![0; length]).unwrap();
        assert_eq!(last_seq(data.path()), last);
        assert_eq!(segments(data.path()).len(), count);
    }
    // Longer than a head: something was written to it once.
    fs::write(&unbegun, vec![0; HEAD_BYTES + 1]).unwrap();
    assert!(matches!(refused(data.path()), OpenError::Damaged { offset: 0, .. }));
}

#[test]
fn a_frame_of_another_log_proves_nothing() {
    let (log, other) = (one_segment(3), one_segment(5));
    let foreign = fs::read(other.path).unwrap()[other.ends[3]..].to_vec();
    let whole = fs::read(&log.path).unwrap();
    fs::write(&log.path, [&whole[..log.ends[3] - 20], &foreign[..10]].concat()).unwrap();
    log.acknowledge(2);
    open(log.data.path());
    assert_eq!(fs::metadata(&log.path).unwrap().len() as usize, log.ends[2]);
}

#[test]
fn a_later_format_is_refused_by_name() {
    let log = one_segment(1);
    let mut bytes = fs::read(&log.path).unwrap();
    bytes[8] = 3;
    let checksum = crc32(&bytes[..HEAD_BYTES - 4]);
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&checksum.to_le_bytes());
    fs::write(&log.path, bytes).unwrap();
    let error = refused(log.data.path());
    assert!(matches!(error, OpenError::UnknownVersion { version: 3, .. }), "{error}");
}

/// CRC-32 (IEEE) bit by bit, so that the format is checked by other code than the code that writes it.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

/// Makes it the folder of an older program, without chained segments and `end`.
pub(crate) fn make_old(data: &Path) {
    for path in segments(data) {
        let bytes = fs::read(&path).unwrap();
        let mut head = bytes[..UNCHAINED_HEAD_BYTES - 4].to_vec();
        head[8] = 1;
        let checksum = crc32(&head);
        head.extend_from_slice(&checksum.to_le_bytes());
        fs::write(path, [&head, &bytes[HEAD_BYTES..]].concat()).unwrap();
    }
    fs::remove_file(data.join("end")).unwrap();
}

#[test]
fn a_folder_of_the_first_format_is_opened_and_guarded_from_then_on() {
    let data = many_segments();
    let all = last_seq(data.path());
    make_old(data.path());
    goes_on(data.path(), TINY, all);
    fill(&mut open(data.path()), 12);
    let (paths, all) = (segments(data.path()), last_seq(data.path()));
    let last = paths.last().unwrap();
    fs::remove_file(last).unwrap();
    loses(data.path(), first_seq(last), all);
}

#[test]
fn a_broken_off_batch_of_the_first_format_is_removed() {
    let log = one_segment(4);
    make_old(log.data.path());
    let whole = fs::read(&log.path).unwrap();
    let old_end = |batch: usize| log.ends[batch] - HEAD_BYTES + UNCHAINED_HEAD_BYTES;
    fs::write(&log.path, &whole[..old_end(4) - 3]).unwrap();
    open(log.data.path());
    assert_eq!(fs::metadata(&log.path).unwrap().len() as usize, old_end(3));
}

#[test]
fn a_log_of_the_first_format_that_ends_before_its_snapshot_is_refused() {
    let log = one_segment(4);
    let seq = last_seq(log.data.path());
    save(&*open(log.data.path()).snapshots(), seq).unwrap();
    make_old(log.data.path());
    let whole = fs::read(&log.path).unwrap();
    fs::write(&log.path, &whole[..whole.len() - 1]).unwrap();
    let error = refused(log.data.path());
    assert_eq!(loss(&error).from, seq + 1, "the state up to {seq} is in the snapshot: {error}");
    goes_on(log.data.path(), ACCEPTING, seq);
}

#[test]
fn a_log_without_its_end_file_is_refused() {
    for spoil in [
        &|path: &Path| fs::remove_file(path).unwrap() as _,
        &|path: &Path| fs::write(path, []).unwrap() as _,
        &|path: &Path| fs::write(path, vec![0; 5000]).unwrap() as _,
    ] as [&dyn Fn(&Path); 3]
    {
        let data = many_segments();
        let all = last_seq(data.path());
        spoil(&data.path().join("end"));
        let error = refused(data.path());
        assert!(matches!(error, OpenError::NoEnd { last_seq, .. } if last_seq == all), "{error}");
        assert!(error.to_string().contains("--accept-loss"), "{error}");
        goes_on(data.path(), ACCEPTING, all);
    }
}

#[test]
fn one_broken_half_of_the_end_file_does_no_harm() {
    for at in [10, 4096 + 10] {
        let data = many_segments();
        let all = last_seq(data.path());
        let path = data.path().join("end");
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert_eq!(last_seq(data.path()), all);
        let last = segments(data.path()).pop().unwrap();
        fs::remove_file(&last).unwrap();
        loses(data.path(), first_seq(&last), all);
    }
}

#[test]
fn an_empty_folder_that_should_have_a_log_is_refused() {
    let data = tempdir().unwrap();
    let expecting = LogOptions { expected: true, ..TINY };
    match EmbeddedLog::open(data.path(), expecting).map(drop) {
        Err(error @ OpenError::Gone { .. }) => {
            assert!(error.to_string().contains("--accept-loss"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let accepting = LogOptions { accept_loss: true, ..expecting };
    fill(&mut EmbeddedLog::open(data.path(), accepting).unwrap(), 3);
    let all = last_seq(data.path());
    goes_on(data.path(), expecting, all);
    // The folder `log` alone, while `end` is still there.
    fs::remove_dir_all(data.path().join("log")).unwrap();
    loses_everything(data.path(), all + 2);
}

fn loses_everything(data: &Path, all: u64) {
    match EmbeddedLog::open(data, TINY).map(drop) {
        Err(OpenError::Missing { loss, .. }) => assert_eq!(loss, Loss { from: 1, to: Some(all) }),
        other => panic!("{other:?}"),
    }
    goes_on(data, ACCEPTING, 0);
}

/// A log with witnesses outside its folder, one of them in a folder that does not exist.
struct Witnessed {
    site: TempDir,
    data: PathBuf,
    witnesses: Vec<PathBuf>,
}

impl Witnessed {
    fn new() -> Self {
        let site = tempdir().unwrap();
        let (data, other) = (site.path().join("data"), site.path().join("other"));
        fs::create_dir(&other).unwrap();
        let witnesses = vec![other.join("end-of-log"), site.path().join("absent/end-of-log")];
        Self { site, data, witnesses }
    }

    fn open(&self, options: LogOptions) -> Result<EmbeddedLog, OpenError> {
        EmbeddedLog::open_witnessed(&self.data, options, self.witnesses.clone())
    }

    /// Fills it up to the returned record.
    fn fill(&self, batches: u64) -> u64 {
        let mut log = self.open(TINY).unwrap();
        fill(&mut log, batches);
        log.reader().last_seq()
    }

    fn aside(&self) -> PathBuf {
        self.site.path().join("aside")
    }

    /// Keeps the whole log as it is now.
    fn back_up(&self) {
        copy(&self.data, &self.aside());
    }

    /// Puts it back.
    fn roll_back(&self) {
        fs::remove_dir_all(&self.data).unwrap();
        copy(&self.aside(), &self.data);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn an_older_state_of_the_whole_log_is_noticed_and_needs_leave() {
    for batches in [0, 1, 7] {
        let log = Witnessed::new();
        let before = log.fill(batches);
        log.back_up();
        let all = log.fill(5);
        log.roll_back();
        let was = content(&log.data);
        match log.open(TINY).map(drop) {
            Err(error @ OpenError::RolledBack { loss, .. }) => {
                assert_eq!(loss, Loss { from: before + 1, to: Some(all) });
                let text = error.to_string();
                assert!(text.contains("other/end-of-log") && text.contains("--accept-loss"), "{text}");
            }
            // It was always empty.
            Err(OpenError::Gone { .. }) if batches == 0 => {}
            other => panic!("{other:?}"),
        }
        assert!(content(&log.data) == was, "nothing has changed");
        assert_eq!(log.open(ACCEPTING).unwrap().reader().last_seq(), before);
        assert_eq!(log.open(TINY).unwrap().reader().last_seq(), before, "the loss was accepted");
        assert!(log.fill(1) > before);
    }
}

#[test]
fn a_log_that_was_removed_as_a_whole_is_missed_by_its_witness() {
    let log = Witnessed::new();
    log.fill(3);
    fs::remove_dir_all(&log.data).unwrap();
    assert!(matches!(log.open(TINY).map(drop), Err(OpenError::Gone { .. })));
    assert_eq!(log.open(ACCEPTING).unwrap().reader().last_seq(), 0);
    log.fill(1);
}

/// After a power cut it may be.
#[test]
fn a_witness_that_is_behind_missing_or_spoilt_stops_nothing() {
    let log = Witnessed::new();
    log.fill(3);
    let old = fs::read(&log.witnesses[0]).unwrap();
    let all = log.fill(3);
    let spoil: [&dyn Fn(&Path); 4] = [
        &|path| fs::write(path, &old).unwrap(),
        &|path| fs::remove_file(path).unwrap(),
        &|path| fs::write(path, "spoilt").unwrap(),
        &|path| {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        },
    ];
    for spoil in spoil {
        spoil(&log.witnesses[0]);
        assert_eq!(log.fill(0), all);
    }
    // Also while it cannot be written.
    assert!(log.fill(2) > all);
}

#[test]
fn a_witness_is_behind_for_a_moment_at_most_while_nothing_is_appended() {
    let log = Witnessed::new();
    let mut open = log.open(TINY).unwrap();
    fill(&mut open, 4);
    while open.settle().is_some() {
        std::thread::yield_now();
    }
    let written = fs::read(&log.witnesses[0]).unwrap();
    drop(open);
    assert!(fs::read(&log.witnesses[0]).unwrap() == written, "the end has nothing to add");
    assert!(!log.witnesses[1].exists());
}
