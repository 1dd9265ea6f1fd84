//! The log as an event bus.
//!
//! A subscriber reads old records from the log's files and new ones from a live window of [`LIVE_WINDOW_RECORDS`]. The
//! window is shared and bounded: a subscriber that falls behind it reads from the files until it has caught up, so slow
//! subscribers lose time but cost no memory.

use std::collections::VecDeque;
use std::sync::Arc;

use sortie_domain::machine::Record;
use tokio::sync::broadcast::{self, error::RecvError};

use super::Hosted;
use crate::codec::{Codec, DecodeError};
use crate::log::{LogReader, ReadError};

/// Records kept for subscribers that follow closely.
pub const LIVE_WINDOW_RECORDS: usize = 4096;

/// About how much is read from the log at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// Where a subscription begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cursor {
    /// The oldest record that is still kept.
    Earliest,
    /// The next record to become durable.
    Latest,
    /// The record with this sequence number, which may be the next one.
    From(u64),
}

/// Why a subscription cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SubscribeError {
    /// The next records of the subscription are no longer kept.
    #[error("record {asked} is no longer kept, the earliest is {earliest}; subscribe again from there")]
    Gone {
        /// The requested record.
        asked: u64,
        /// The oldest record.
        earliest: u64,
    },
    /// The cursor is beyond the log's end: it comes from another log.
    #[error("record {asked} is ahead of the log, which ends with record {last}; is the cursor of this log?")]
    Ahead {
        /// The requested record.
        asked: u64,
        /// The last record.
        last: u64,
    },
    /// A record could not be read back.
    #[error("record {seq} cannot be decoded: {source}")]
    Undecodable {
        /// Its sequence number.
        seq: u64,
        /// The decoder's error.
        source: DecodeError,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(ReadError),
    /// The engine has ended; everything durable was delivered.
    #[error("the engine has ended")]
    Ended,
}

impl From<ReadError> for SubscribeError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone { asked, earliest } => Self::Gone { asked, earliest },
            other => Self::Read(other),
        }
    }
}

type Shared<M> = Arc<Record<<M as sortie_domain::machine::Machine>::Event>>;

/// Records of one log in order, from a cursor on.
pub struct Subscription<M: Hosted> {
    next_seq: u64,
    /// `None` once the engine has ended.
    live: Option<broadcast::Receiver<Shared<M>>>,
    /// Whether everything before the live window has been read.
    caught_up: bool,
    backlog: VecDeque<Shared<M>>,
    reader: Arc<dyn LogReader>,
    codec: Codec<M>,
}

impl<M: Hosted> Subscription<M> {
    pub(super) fn new(
        from: Cursor,
        live: Option<broadcast::Receiver<Shared<M>>>,
        reader: Arc<dyn LogReader>,
        codec: Codec<M>,
    ) -> Self {
        let next_seq = match from {
            Cursor::Earliest => reader.earliest_seq(),
            Cursor::Latest => reader.last_seq() + 1,
            Cursor::From(seq) => seq.max(1),
        };
        Self { next_seq, live, caught_up: false, backlog: VecDeque::new(), reader, codec }
    }

    /// Sequence number of the record that [`Subscription::next`] returns next: the cursor to resume with.
    #[must_use]
    pub const fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The next record, once it is durable. A dropped future loses nothing.
    ///
    /// # Errors
    /// [`SubscribeError`]; the subscription then keeps its position.
    pub async fn next(&mut self) -> Result<Arc<Record<M::Event>>, SubscribeError> {
        loop {
            while let Some(record) = self.backlog.pop_front() {
                if record.seq == self.next_seq {
                    return Ok(self.deliver(record));
                }
            }
            if !self.caught_up {
                self.read_backlog().await?;
                continue;
            }
            let Some(live) = &mut self.live else { return Err(SubscribeError::Ended) };
            match live.recv().await {
                Ok(record) if record.seq == self.next_seq => return Ok(self.deliver(record)),
                // Already read from the files.
                Ok(record) if record.seq < self.next_seq => {}
                Ok(_) | Err(RecvError::Lagged(_)) => self.caught_up = false,
                // The log may hold more than was announced before the end.
                Err(RecvError::Closed) => (self.live, self.caught_up) = (None, false),
            }
        }
    }

    fn deliver(&mut self, record: Shared<M>) -> Shared<M> {
        self.next_seq = record.seq + 1;
        record
    }

    async fn read_backlog(&mut self) -> Result<(), SubscribeError> {
        let (reader, from, codec) = (Arc::clone(&self.reader), self.next_seq, self.codec);
        let last = reader.last_seq();
        if from > last + 1 {
            return Err(SubscribeError::Ahead { asked: from, last });
        }
        let read = tokio::task::spawn_blocking(move || read_chunk::<M>(&*reader, from, codec));
        // Fails only if the runtime has ended or the decoder panicked.
        self.backlog = read.await.map_err(|_| SubscribeError::Ended)??;
        self.caught_up = self.backlog.is_empty();
        Ok(())
    }
}

fn read_chunk<M: Hosted>(
    reader: &dyn LogReader,
    from: u64,
    codec: Codec<M>,
) -> Result<VecDeque<Shared<M>>, SubscribeError> {
    let batches = reader.read(from, READ_BYTES)?;
    let records = batches.iter().flat_map(|batch| batch.records()).filter(|raw| raw.seq >= from);
    let decoded = records.map(|raw| match (codec.decode_event)(raw.payload) {
        Ok(event) => Ok(Arc::new(Record { seq: raw.seq, time: raw.time, event })),
        Err(source) => Err(SubscribeError::Undecodable { seq: raw.seq, source }),
    });
    decoded.collect()
}
