//! Records of the broker as the log stores them: `contract/proto/sortie/log/v1/records.proto`.
//!
//! The stored form is a contract of its own, separate from the types of the domain: those may be renamed and rearranged
//! at will, and a log written years ago can still be read. Protobuf, because it is compact, knows for each field
//! whether it is set, and can be read by other programs.
//!
//! Both directions of a record come from one row of a table (`tables`), so that neither can forget a field; `values`
//! stores single values. The matchmaker's records, in a log of their own, are in [`matchmaker`].

pub mod matchmaker;
mod records;
mod tables;
mod values;

pub(crate) use values::whole_millis;

use std::io;
use std::sync::Arc;

use imbl::OrdMap;
use prost::Message;
use sortie_domain::broker::model::{Allocation, Match, Server};
use sortie_domain::broker::{Event, Past, Snapshot};
use sortie_domain::ids::{BadId, MatchId};

use crate::generated::sortie::log::v1 as log;

/// A piece of a snapshot is complete when it reaches this size, in bytes: 256 KiB. So the maximum is this plus one
/// record.
pub const PIECE_BYTES: usize = 256 << 10;

/// Why stored bytes could not be read.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum StoredError {
    /// The bytes are not such a message.
    #[error("the bytes of a stored {message} are damaged: {source}")]
    Damaged {
        /// The expected message.
        message: &'static str,
        /// The decoder's error.
        source: prost::DecodeError,
    },
    /// A field has a value that Sortie never writes there.
    #[error("{message}.{field} of a stored record {problem}")]
    Field {
        /// The message, as the `.proto` file names it.
        message: &'static str,
        /// Its field.
        field: &'static str,
        /// What is wrong with it.
        problem: FieldProblem,
    },
}

/// What is wrong with one field of a stored record.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldProblem {
    /// The value is missing or of a kind that this version does not know.
    #[error(
        "is missing, or of a kind that this version of Sortie does not know; use the version that wrote it"
    )]
    Missing,
    /// A number that has no meaning in this version.
    #[error("has the number {0}, which this version of Sortie does not know; use the version that wrote it")]
    UnknownNumber(i32),
    /// Not a number.
    #[error("is not a number (NaN)")]
    NotANumber,
    /// Not the 16 bytes of a digest.
    #[error("does not have the 16 bytes of a digest")]
    NotADigest,
    /// Not an id.
    #[error("is not an id: it {0}")]
    BadId(BadId),
    /// Not a set of properties.
    #[error("is not a set of properties: it {0}")]
    BadProperties(String),
}

/// A field of a message, for errors.
#[derive(Clone, Copy)]
struct Place {
    message: &'static str,
    field: &'static str,
}

impl Place {
    const fn has(self, problem: FieldProblem) -> StoredError {
        StoredError::Field { message: self.message, field: self.field, problem }
    }
}

/// A value of the domain that is stored as a `Form`.
trait Stored<Form>: Sized {
    fn store(&self) -> Form;

    /// `place` is the place of the form.
    fn load(form: Form, place: Place) -> Result<Self, StoredError>;
}

/// Appends the stored form of an event to `out`.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    append(&log::StoredEvent { event: event.store() }, out);
}

/// Reads an event's stored form.
///
/// # Errors
/// [`StoredError`] for bytes that [`encode_event`] of this version would not have written, except that fields of
/// newer versions are ignored.
pub fn decode_event(bytes: &[u8]) -> Result<Event, StoredError> {
    let stored: log::StoredEvent = decode("StoredEvent", bytes)?;
    Event::load(stored.event, Place { message: "StoredEvent", field: "event" })
}

/// Passes the stored form of a snapshot to `sink`, in pieces of about [`PIECE_BYTES`]. Equal snapshots have equal
/// pieces.
///
/// # Errors
/// The first error of `sink`.
pub fn write_snapshot(snapshot: &Snapshot, sink: Sink<'_>) -> io::Result<()> {
    use log::StoredSnapshot as Form;

    let Snapshot {
        seq,
        settings,
        configured,
        health,
        matches,
        finished,
        servers,
        gone,
        allocations,
        closed_seats,
        ended_seats,
        orders,
    } = snapshot;
    let head =
        Form { seq: *seq, settings: settings.store(), configured: configured.store(), ..Form::default() };
    let mut out = Pieces::new(sink);
    out.add(&head)?;
    out.add_list(pairs(health.iter()), |health| Form { health, ..Form::default() })?;
    out.add_list(matches.values().map(Stored::store), |matches| Form { matches, ..Form::default() })?;
    let finished = finished.iter().map(|(_, game)| game.store());
    out.add_list(finished, |finished| Form { finished, ..Form::default() })?;
    out.add_list(servers.values().map(Stored::store), |servers| Form { servers, ..Form::default() })?;
    out.add_list(pairs(gone.iter()), |gone| Form { gone, ..Form::default() })?;
    let allocations = allocations.values().map(Stored::store);
    out.add_list(allocations, |allocations| Form { allocations, ..Form::default() })?;
    out.add_list(pairs(closed_seats.iter()), |closed_seats| Form { closed_seats, ..Form::default() })?;
    out.add_list(pairs(ended_seats.iter()), |ended_seats| Form { ended_seats, ..Form::default() })?;
    out.add_list(pairs(orders.iter()), |orders| Form { orders, ..Form::default() })?;
    out.finish()
}

/// Reads a snapshot's stored form from its pieces, which may be a single one.
///
/// # Errors
/// [`SnapshotReadError`] for pieces that [`write_snapshot`] of this version would not have written, except that fields
/// of newer versions are ignored, and for the first error among `pieces`.
pub fn read_snapshot(
    pieces: &mut dyn Iterator<Item = io::Result<Vec<u8>>>,
) -> Result<Snapshot, SnapshotReadError> {
    const MESSAGE: &str = "StoredSnapshot";
    let place = |field| Place { message: MESSAGE, field };

    let (mut seq, mut settings, mut configured) = (0, None, None);
    let (mut health, mut matches, mut servers, mut allocations) =
        (OrdMap::new(), OrdMap::new(), OrdMap::new(), OrdMap::new());
    let (mut finished, mut gone, mut closed_seats) = (Past::default(), Past::default(), Past::default());
    let (mut ended_seats, mut orders) = (Past::default(), Past::default());
    for piece in pieces {
        let part: log::StoredSnapshot = decode(MESSAGE, &piece?)?;
        seq = part.seq.max(seq);
        settings = part.settings.or(settings);
        configured = part.configured.or(configured);
        extend(&mut health, part.health, place("health"), |pair| pair)?;
        extend(&mut matches, part.matches, place("matches"), keyed)?;
        extend(&mut finished, part.finished, place("finished"), keyed)?;
        extend(&mut servers, part.servers, place("servers"), |server: Server| (server.id.clone(), server))?;
        extend(&mut gone, part.gone, place("gone"), |pair| pair)?;
        extend(&mut allocations, part.allocations, place("allocations"), |order: Allocation| {
            (order.id.clone(), order)
        })?;
        extend(&mut closed_seats, part.closed_seats, place("closed_seats"), |pair| pair)?;
        extend(&mut ended_seats, part.ended_seats, place("ended_seats"), |pair| pair)?;
        extend(&mut orders, part.orders, place("orders"), |pair| pair)?;
    }
    let (settings, configured) =
        (Stored::load(settings, place("settings"))?, Stored::load(configured, place("configured"))?);
    Ok(Snapshot {
        seq,
        settings,
        configured,
        health,
        matches,
        finished,
        servers,
        gone,
        allocations,
        closed_seats,
        ended_seats,
        orders,
    })
}

fn keyed(game: Arc<Match>) -> (MatchId, Arc<Match>) {
    (game.id.clone(), game)
}

/// The stored form of key-value pairs.
fn pairs<'a, Key: Clone + 'a, Value: Clone + 'a, Form>(
    entries: impl Iterator<Item = (&'a Key, &'a Value)>,
) -> impl Iterator<Item = Form>
where
    (Key, Value): Stored<Form>,
{
    entries.map(|(key, value)| (key.clone(), value.clone()).store())
}

/// The stored form of a small snapshot as a whole: all pieces of [`write_snapshot`] together.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    whole(|sink| write_snapshot(snapshot, sink))
}

/// Reads the output of [`encode_snapshot`].
///
/// # Errors
/// As [`read_snapshot`].
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, StoredError> {
    read_snapshot(&mut std::iter::once(Ok(bytes.to_vec()))).map_err(|error| match error {
        SnapshotReadError::Stored(error) => error,
        // Cannot happen: nothing is read from a file.
        SnapshotReadError::Io(_) => {
            Place { message: "StoredSnapshot", field: "seq" }.has(FieldProblem::Missing)
        }
    })
}

/// The concatenated output of `write`.
fn whole(write: impl FnOnce(Sink<'_>) -> io::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write(&mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    debug_assert!(written.is_ok(), "the sink takes everything");
    bytes
}

/// Takes one piece of a snapshot.
pub type Sink<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// Why a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotReadError {
    /// A piece could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A piece is damaged.
    #[error(transparent)]
    Stored(#[from] StoredError),
}

/// Writes a snapshot in pieces, so that a state of a million matches is not held twice. Concatenated protobuf messages
/// are a message with all their elements, so each piece is a message, and so are all of them together.
struct Pieces<'a> {
    sink: Sink<'a>,
    piece: Vec<u8>,
}

impl<'a> Pieces<'a> {
    fn new(sink: Sink<'a>) -> Self {
        Self { sink, piece: Vec::new() }
    }

    fn add(&mut self, message: &impl Message) -> io::Result<()> {
        append(message, &mut self.piece);
        if self.piece.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds the elements of one list, each wrapped in a message by `wrap`.
    fn add_list<Element, Whole: Message>(
        &mut self,
        mut list: impl Iterator<Item = Element>,
        wrap: impl Fn(Vec<Element>) -> Whole,
    ) -> io::Result<()> {
        list.try_for_each(|element| self.add(&wrap(vec![element])))
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            (self.sink)(&self.piece)?;
            self.piece.clear();
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()
    }
}

/// Adds the elements of one list of a piece to `all`, each converted by `entry`.
fn extend<T: Stored<Form>, Form, Entry>(
    all: &mut impl Extend<Entry>,
    part: Vec<Form>,
    place: Place,
    entry: impl Fn(T) -> Entry,
) -> Result<(), StoredError> {
    for form in part {
        all.extend([entry(T::load(form, place)?)]);
    }
    Ok(())
}

fn append(message: &impl Message, out: &mut Vec<u8>) {
    let written = message.encode(out);
    debug_assert!(written.is_ok(), "a Vec has room as long as there is memory");
}

fn decode<M: Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, StoredError> {
    M::decode(bytes).map_err(|source| StoredError::Damaged { message, source })
}
