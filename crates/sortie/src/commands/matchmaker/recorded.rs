//! Recorded tickets: from the log in a data folder, or from a file that was exported from one.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use sortie_domain::machine::Record;
use sortie_engine::log::{Batch, Log as _};
use sortie_engine::{EmbeddedLog, LogOptions};
use sortie_replay::{Recorder, Recording, lines};
use sortie_wire::stored::matchmaker as stored;

use crate::failure::Failure;
use crate::used::FOLDER;

/// How much of a log is held in memory at once, roughly, in bytes.
const READ_BYTES: usize = 4 << 20;

/// The recording at `source`, a data folder or a file.
pub(super) fn of(source: &Path) -> Result<Recording, Failure> {
    if source.is_dir() {
        return of_folder(source);
    }
    let open = |error| Failure::of(format!("cannot read {}", source.display()), error);
    let file = BufReader::new(File::open(source).map_err(open)?);
    let arrivals = lines::read(file).map_err(open_line(source))?;
    Ok(Recording { arrivals, ..Recording::default() })
}

fn open_line(source: &Path) -> impl Fn(lines::BadLine) -> Failure + '_ {
    |error| Failure::of(format!("{} is not a recording of tickets", source.display()), error)
}

/// The recording in the matchmaker's log of a data folder, which must not be in use.
pub(super) fn of_folder(data: &Path) -> Result<Recording, Failure> {
    let log = EmbeddedLog::open(&log_folder(data)?, LogOptions::default())?;
    let mut recorder = Recorder::new();
    let reader = log.reader();
    let mut next = reader.earliest_seq();
    if next > 1
        && let Some(mut snapshot) = log.snapshots().newest(u64::MAX)?
    {
        // The records with the original settings were deleted; these are the closest ones left.
        recorder.begin(stored::read_snapshot(&mut snapshot.pieces)?.settings);
    }
    loop {
        let batches = reader.read(next, READ_BYTES)?;
        let Some(last) = batches.last() else { break };
        for raw in batches.iter().flat_map(Batch::records).filter(|raw| raw.seq >= next) {
            let event = stored::decode_event(raw.payload)
                .map_err(|error| Failure::of(format!("record {} cannot be decoded", raw.seq), error))?;
            recorder.note(&Record { seq: raw.seq, time: raw.time, event });
        }
        next = last.last_seq() + 1;
    }
    Ok(recorder.finish())
}

/// The matchmaker's own folder within the data folder, or that folder itself.
fn log_folder(data: &Path) -> Result<PathBuf, Failure> {
    let within = data.join(FOLDER);
    let folders = [within.as_path(), data];
    // Opening creates missing files, which must not happen in an arbitrary folder.
    let found = folders.into_iter().find(|folder| folder.join("log").is_dir());
    // The broker's log is in the data folder itself.
    let found = found.filter(|folder| *folder == within || data.ends_with(FOLDER));
    found.map(Path::to_path_buf).ok_or_else(|| {
        Failure::new(format!(
            "there is no log of a matchmaker in {}: name the data folder of a control plane with a matchmaker, or a \
             file written by `sortie matchmaker export`",
            data.display()
        ))
    })
}
