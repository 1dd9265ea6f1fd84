//! Opening a log: which of its files count, whether acknowledged records are missing, and how the log continues if that
//! loss is accepted.
//!
//! Consecutive segments form a run. If there is one run, and it reaches the acknowledged end, all is well. Otherwise a
//! snapshot decides: records before it are not needed, so gaps there, made by us or by hand, lose nothing. Any other
//! missing record up to the acknowledged end is a loss, and nothing is changed before an operator accepts it. Files of
//! no further use are then set aside in the folder `lost`, and never removed.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use super::disk::{Disk, sync_folder};
use super::end::{EndRecord, FILE, Found, Witnesses};
use super::errors::{Loss, OpenError, SnapshotError};
use super::segment::{self, Rest, Scan, Segment};
use super::snapshots::Snapshots;

/// The folder for files that a start set aside.
const LOST_FOLDER: &str = "lost";
/// Maximum number of files of one name that are set aside.
const MAX_LOST: u32 = 1_000;

/// One file of the folder `log`.
struct Piece {
    path: PathBuf,
    /// From its name.
    first_seq: u64,
    segment: Option<Segment>,
    rest: Rest,
    /// Why it cannot be read at all.
    unreadable: Option<&'static str>,
}

impl Piece {
    fn last_seq(&self) -> u64 {
        self.segment.as_ref().map_or(self.first_seq - 1, |segment| segment.last_seq)
    }

    /// Its damage: offset and description.
    fn damage(&self) -> Option<(u64, &'static str)> {
        match (&self.segment, self.unreadable, self.rest) {
            (_, Some(what), _) => Some((0, what)),
            (Some(segment), None, Rest::Changed(what)) => Some((segment.bytes, what)),
            (Some(segment), None, Rest::Torn) => Some((segment.bytes, "it breaks off")),
            _ => None,
        }
    }
}

/// How a log continues.
pub(super) struct Recovered {
    /// The segments that count, in order.
    pub(super) segments: Vec<Segment>,
    /// What follows the last of them.
    pub(super) rest: Rest,
    /// The last record before the first segment, or the last of all if there is no segment.
    pub(super) floor: u64,
    /// Files that no longer count: a snapshot includes their records, and something between them and the rest is
    /// missing.
    pub(super) strays: Vec<PathBuf>,
}

/// What was found, before anything is decided.
pub(super) struct Findings<'a> {
    pub(super) data: &'a Path,
    pub(super) end: Found,
    pub(super) snapshots: &'a Snapshots,
    witnesses: &'a Witnesses,
    pieces: Vec<Piece>,
    unbegun: Option<PathBuf>,
}

impl<'a> Findings<'a> {
    /// Reads every file of `folder`, which is `log` in the data folder, without changing anything.
    pub(super) fn look(
        data: &'a Path,
        folder: &Path,
        end: Found,
        snapshots: &'a Snapshots,
        witnesses: &'a Witnesses,
    ) -> Result<Self, OpenError> {
        let fail = |source| OpenError::Io { doing: "list", path: folder.to_owned(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            match segment::first_seq_of(&path) {
                Some(first_seq) => files.push((first_seq, path)),
                None => tracing::warn!(path = %path.display(), "not a log file; leaving it alone"),
            }
        }
        files.sort_unstable();
        let mut findings = Self { data, end, snapshots, witnesses, pieces: Vec::new(), unbegun: None };
        let count = files.len();
        for (index, (first_seq, path)) in files.into_iter().enumerate() {
            let is_last = index + 1 == count;
            let (segment, rest, unreadable) = match Segment::scan(&path, first_seq, end.record())? {
                Scan::Sound { segment, rest } => (Some(segment), rest, None),
                // A segment that `end` names was begun.
                Scan::Unbegun
                    if is_last && end.record().is_none_or(|end| end.seal.first_seq != first_seq) =>
                {
                    findings.unbegun = Some(path);
                    continue;
                }
                Scan::Unbegun => (None, Rest::Nothing, Some("its head is damaged")),
                Scan::Unreadable(what) => (None, Rest::Nothing, Some(what)),
            };
            findings.pieces.push(Piece { path, first_seq, segment, rest, unreadable });
        }
        Ok(findings)
    }

    /// Whether there is no sign that there has ever been a log.
    pub(super) fn is_new(&self) -> Result<bool, OpenError> {
        let snapshots = self.snapshots.list().map_err(snapshot_failed)?;
        Ok(self.pieces.is_empty() && snapshots.is_empty() && self.end == Found::Missing)
    }

    /// The last record known to have been acknowledged, from all sources.
    fn known_end(&self) -> u64 {
        self.own_end().max(self.witnesses.furthest().map_or(0, |(seq, _)| seq))
    }

    /// The same from the log's own files.
    fn own_end(&self) -> u64 {
        let pieces = self.pieces.iter().map(|piece| {
            let changed = matches!(piece.rest, Rest::Changed(_)) || piece.unreadable.is_some();
            // At least one more, but nobody knows how many.
            piece.last_seq() + u64::from(changed)
        });
        pieces.chain(self.end.record().map(|end| end.last_seq)).max().unwrap_or(0)
    }

    /// The runs, as ranges of `pieces`.
    fn runs(&self) -> Vec<std::ops::Range<usize>> {
        let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
        for (index, piece) in self.pieces.iter().enumerate() {
            let Some(segment) = &piece.segment else { continue };
            let before = index.checked_sub(1).and_then(|before| self.pieces.get(before)?.segment.as_ref());
            match runs.last_mut() {
                Some(run) if before.is_some_and(|before| before.is_before(segment)) => run.end = index + 1,
                _ => runs.push(index..index + 1),
            }
        }
        runs
    }

    /// Decides. With `accept` a loss is only logged, otherwise it is an error.
    pub(super) fn recover(mut self, accept: bool) -> Result<Recovered, OpenError> {
        self.check_end(accept)?;
        let (known_end, runs) = (self.known_end(), self.runs());
        let reach = |run: &std::ops::Range<usize>| {
            let last = run.end.checked_sub(1).and_then(|last| self.pieces.get(last));
            (self.pieces.get(run.start).map_or(1, |first| first.first_seq), last.map_or(0, Piece::last_seq))
        };
        let newest = self.snapshots.list().map_err(snapshot_failed)?.last().copied().unwrap_or(0);
        let whole = runs.last().map(reach);
        let plain = runs.len() <= 1
            && runs.first().map_or(0, ExactSizeIterator::len) == self.pieces.len()
            && whole.map_or(0, |(_, last)| last) >= known_end.max(newest)
            && whole.is_none_or(|(first, _)| first - 1 <= newest && (first == 1 || !accept));
        if plain {
            return self.take(runs.first(), 0);
        }
        // Read completely, because everything depends on it now.
        let snapshot = self.snapshots.newest_sound().map_err(snapshot_failed)?;
        let fits = |run: &&std::ops::Range<usize>| {
            let (first, last) = reach(run);
            first - 1 <= snapshot && last >= snapshot
        };
        let base = runs.iter().filter(fits).max_by_key(|run| reach(run).1).cloned();
        let last = base.as_ref().map_or(snapshot, |base| reach(base).1);
        // A log of a version without `end` may have continued beyond its newest snapshot.
        let unsure = self.end.record().is_none() && whole.map_or(0, |(_, last)| last) < newest;
        if last >= known_end.max(newest) && !unsure {
            if base.as_ref().is_none_or(|base| base.len() < self.pieces.len()) || runs.len() > 1 {
                tracing::warn!(
                    folder = %self.data.display(),
                    snapshot,
                    "files of the log are missing or damaged, but a snapshot includes their records: nothing is lost"
                );
            }
            return self.take(base.as_ref(), snapshot);
        }
        let to = (known_end > last && !unsure).then_some(known_end);
        if !accept {
            return Err(self.loss(last, to));
        }
        let loss = Loss { from: last + 1, to };
        tracing::warn!(
            folder = %self.data.display(), %loss,
            "continuing without acknowledged records because of --accept-loss; what is left of them is in the \
             folder `lost`"
        );
        self.set_aside(base.as_ref(), snapshot)?;
        self.take(base.as_ref(), snapshot)
    }

    /// Checks that `end` exists, unless the log predates it.
    fn check_end(&self, accept: bool) -> Result<(), OpenError> {
        let chained = self
            .pieces
            .iter()
            .any(|piece| piece.segment.as_ref().is_some_and(|segment| segment.before.is_some()));
        let missing = match self.end {
            Found::Sound(_) => false,
            Found::Damaged => true,
            Found::Missing => chained,
        };
        if !missing {
            return Ok(());
        }
        let error = OpenError::NoEnd { file: self.data.join(FILE), last_seq: self.known_end() };
        if !accept {
            return Err(error);
        }
        tracing::warn!(
            last_seq = self.known_end(),
            "continuing with the existing records because of --accept-loss; nobody knows whether there were others"
        );
        Ok(())
    }

    /// The error about the records after `last`.
    fn loss(&self, last: u64, to: Option<u64>) -> OpenError {
        let damaged = self.pieces.iter().find(|piece| {
            piece.damage().is_some() && piece.first_seq <= last + 1 && piece.last_seq() >= last
        });
        if let Some((piece, (offset, what))) = damaged.and_then(|piece| Some((piece, piece.damage()?))) {
            return OpenError::Damaged {
                file: piece.path.clone(),
                offset,
                what,
                loss: Loss { from: last + 1, to },
            };
        }
        let folder = self.data.to_owned();
        if let Some((seq, witness)) = self.witnesses.furthest()
            && seq > self.own_end()
            && self.own_end() == last
        {
            let loss = Loss { from: last + 1, to: Some(seq) };
            return OpenError::RolledBack { folder, witness: witness.to_owned(), loss };
        }
        // The first segment after the gap.
        let after = self.pieces.iter().find(|piece| piece.first_seq > last);
        let file = after.map(|piece| piece.path.clone());
        let foreign = after.is_some_and(|piece| piece.first_seq == last + 1);
        let to = match after {
            Some(piece) if !foreign => Some(piece.first_seq - 1),
            _ => to,
        };
        OpenError::Missing { folder, before: file, foreign, loss: Loss { from: last + 1, to } }
    }

    /// Sets aside what does not count: other runs, and a copy of a file that is about to be cut.
    fn set_aside(&self, base: Option<&std::ops::Range<usize>>, snapshot: u64) -> Result<(), OpenError> {
        let folder = self.data.join(LOST_FOLDER);
        super::disk::create_folder(&folder).map_err(|source| failed("create", &folder, source))?;
        let last = base.and_then(|base| base.end.checked_sub(1));
        for (index, piece) in self.pieces.iter().enumerate() {
            let target = free_name(&folder, &piece.path)?;
            let counts = base.is_some_and(|base| base.contains(&index));
            if !counts {
                fs::rename(&piece.path, &target)
                    .map_err(|source| failed("set aside", &piece.path, source))?;
            } else if Some(index) == last && piece.damage().is_some() {
                fs::copy(&piece.path, &target).map_err(|source| failed("copy", &piece.path, source))?;
            }
        }
        for seq in self.snapshots.list().map_err(snapshot_failed)? {
            if seq > snapshot {
                let path = self.snapshots.path(seq);
                let target = free_name(&folder, &path)?;
                fs::rename(&path, &target).map_err(|source| failed("set aside", &path, source))?;
            }
        }
        for folder in [&folder, &self.data.join("log"), &self.data.join("snapshots")] {
            sync_folder(folder).map_err(|source| failed("sync", folder, source))?;
        }
        Ok(())
    }

    /// The log that continues with the run `base`, or after `floor` without any segment.
    fn take(&mut self, base: Option<&std::ops::Range<usize>>, floor: u64) -> Result<Recovered, OpenError> {
        if let Some(path) = &self.unbegun {
            tracing::warn!(path = %path.display(), "removing a log file that was never begun");
            fs::remove_file(path).map_err(|source| failed("remove", path, source))?;
        }
        let mut recovered =
            Recovered { segments: Vec::new(), rest: Rest::Nothing, floor, strays: Vec::new() };
        for (index, piece) in std::mem::take(&mut self.pieces).into_iter().enumerate() {
            let counts = base.is_some_and(|base| base.contains(&index));
            match piece.segment {
                Some(segment) if counts => {
                    recovered.rest = piece.rest;
                    recovered.segments.push(segment);
                }
                _ => recovered.strays.push(piece.path),
            }
        }
        recovered.strays.retain(|path| path.exists());
        if let Some(first) = recovered.segments.first() {
            recovered.floor = first.first_seq - 1;
        }
        Ok(recovered)
    }
}

impl Recovered {
    /// Opens the last segment for appending and removes everything after its valid part. That part is synced: if the
    /// process was killed between write and sync, it is only in the system's cache.
    pub(super) fn open_tail(&self, disk: &dyn Disk) -> Result<Option<fs::File>, OpenError> {
        let Some(last) = self.segments.last() else { return Ok(None) };
        let fail = |source| failed("repair", &last.path, source);
        let file = OpenOptions::new().read(true).write(true).open(&last.path).map_err(fail)?;
        if self.rest == Rest::Torn {
            tracing::warn!(
                path = %last.path.display(),
                offset = last.bytes,
                last_seq = last.last_seq,
                "removing a torn batch at the end of the log that was never acknowledged"
            );
        }
        if self.rest != Rest::Nothing {
            disk.resize(&file, last.bytes).map_err(fail)?;
        }
        disk.sync(&file).map_err(fail)?;
        Ok(Some(file))
    }

    /// The end of this log.
    pub(super) fn end(&self, time: sortie_domain::time::Timestamp) -> EndRecord {
        match self.segments.last() {
            Some(last) => EndRecord::of(last, time),
            None => EndRecord { last_seq: self.floor, time, ..EndRecord::default() },
        }
    }
}

/// An unused name in `folder`.
fn free_name(folder: &Path, of: &Path) -> Result<PathBuf, OpenError> {
    let name = of.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names = (0..MAX_LOST).map(|number| match number {
        0 => folder.join(&name),
        _ => folder.join(format!("{name}.{number}")),
    });
    let free = names.into_iter().find(|path| !path.exists());
    free.ok_or_else(|| {
        failed("set aside", of, std::io::Error::other("there are too many files of this name"))
    })
}

fn failed(doing: &'static str, path: &Path, source: std::io::Error) -> OpenError {
    OpenError::Io { doing, path: path.to_owned(), source }
}

pub(super) fn snapshot_failed(error: SnapshotError) -> OpenError {
    OpenError::Snapshot(error)
}
