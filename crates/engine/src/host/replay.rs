//! Rebuilds a machine from durable state: the newest readable snapshot, and every record after it.

use std::io;
use std::time::Instant;

use sortie_domain::machine::{Machine, Record};
use sortie_domain::time::Timestamp;

use crate::codec::{Codec, DecodeError};
use crate::log::{Log, LogReader, ReadError, SnapshotError, SnapshotStore};

/// About how much of the log is held in memory at once, in bytes.
const READ_BYTES: usize = 4 << 20;

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The snapshots could not be listed.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The log could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The log's first records were removed, and no snapshot that replaces them can be read.
    #[error(
        "the log begins with record {earliest_seq}, and there is no readable snapshot for the records before \
         it; restore the folder `snapshots` of the data folder from a backup"
    )]
    NoSnapshot {
        /// The first record of the log.
        earliest_seq: u64,
    },
    /// A record could not be decoded.
    #[error(
        "record {seq} of the log cannot be decoded: {source}. It was written by another version of this \
         program; run that version, or a newer one"
    )]
    Undecodable {
        /// Its sequence number.
        seq: u64,
        /// The decoder's error.
        source: DecodeError,
    },
    /// The clock is so far ahead of the last sign of life that a start would end the live matches or tickets.
    #[error("the clock is {} minutes ahead of the log", now.since(*last).as_secs() / 60)]
    ClockAhead {
        /// The newest record, or when the log's owner was last known to live.
        last: Timestamp,
        /// What the clock says.
        now: Timestamp,
    },
    /// The machine thread could not be started.
    #[error("cannot start the machine thread: {0}")]
    Thread(io::Error),
    /// The machine thread ended while it replayed the log: a bug of the machine.
    #[error("the machine thread ended while it replayed the log")]
    Died,
}

pub(super) struct Replayed<M> {
    pub(super) machine: M,
    /// The time of the last record.
    pub(super) time: Timestamp,
    pub(super) snapshot_seq: u64,
    pub(super) snapshot_time: Timestamp,
}

/// Rebuilds the machine from the log.
pub(super) fn replay<M: Machine>(
    log: &dyn Log,
    codec: Codec<M>,
    empty: &dyn Fn() -> M,
) -> Result<Replayed<M>, StartError> {
    let started = Instant::now();
    let mut replayed = newest_snapshot(&*log.snapshots(), codec)?.unwrap_or_else(|| Replayed {
        machine: empty(),
        time: Timestamp::ZERO,
        snapshot_seq: 0,
        snapshot_time: Timestamp::ZERO,
    });
    let records = catch_up(&mut replayed, &*log.reader(), codec)?;
    tracing::info!(
        snapshot_seq = replayed.snapshot_seq,
        records,
        millis = started.elapsed().as_millis() as u64,
        "replayed the log"
    );
    Ok(replayed)
}

fn newest_snapshot<M: Machine>(
    store: &dyn SnapshotStore,
    codec: Codec<M>,
) -> Result<Option<Replayed<M>>, SnapshotError> {
    let mut at_most = u64::MAX;
    while let Some(mut stored) = store.newest(at_most)? {
        match (codec.decode_snapshot)(&mut stored.pieces).map(M::restore) {
            Ok(machine) if machine.last_seq() == stored.seq => {
                let (time, seq) = (stored.time, stored.seq);
                return Ok(Some(Replayed { machine, time, snapshot_seq: seq, snapshot_time: time }));
            }
            Ok(_) => tracing::warn!(seq = stored.seq, "skipping a snapshot of another log position"),
            Err(error) => {
                tracing::warn!(seq = stored.seq, %error, "skipping a snapshot that cannot be decoded");
            }
        }
        let Some(before) = stored.seq.checked_sub(1) else { break };
        at_most = before;
    }
    Ok(None)
}

fn catch_up<M: Machine>(
    replayed: &mut Replayed<M>,
    reader: &dyn LogReader,
    codec: Codec<M>,
) -> Result<u64, StartError> {
    let first = replayed.machine.last_seq() + 1;
    let mut next = first;
    loop {
        let batches = reader.read(next, READ_BYTES).map_err(|error| match error {
            ReadError::Gone { earliest, .. } => StartError::NoSnapshot { earliest_seq: earliest },
            other => StartError::Read(other),
        })?;
        if batches.is_empty() {
            return Ok(next - first);
        }
        for raw in batches.iter().flat_map(|batch| batch.records()).skip_while(|raw| raw.seq < first) {
            let event = (codec.decode_event)(raw.payload)
                .map_err(|source| StartError::Undecodable { seq: raw.seq, source })?;
            replayed.machine.apply(&Record { seq: raw.seq, time: raw.time, event });
            replayed.time = replayed.time.max(raw.time);
            next = raw.seq + 1;
        }
    }
}
