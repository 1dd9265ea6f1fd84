//! Records of the broker as the log stores them: `contract/proto/sortie/log/v1/records.proto`.
//!
//! The stored form is a contract of its own, apart from the types of the domain: those may be renamed and rearranged
//! at will, and a log written years ago still reads. Protobuf, because it is compact, says of each field whether it
//! is there, and can be read by other programs.
//!
//! Both directions of a record come from one line of a table (`tables`), so that neither can forget a field; how
//! single values are stored is in `values`. The matchmaker's records, in a log of their own, are in [`matchmaker`].

pub mod matchmaker;
mod records;
mod tables;
mod values;

pub(crate) use values::whole_millis;

use prost::Message;
use sortie_domain::broker::{Event, Snapshot};
use sortie_domain::ids::BadId;

use crate::generated::sortie::log::v1 as log;

/// Records of one list of a snapshot that are held in their stored form at a time.
const SNAPSHOT_CHUNK: usize = 1_000;

/// Why stored bytes could not be read.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum StoredError {
    /// They are no such message at all.
    #[error("the bytes of a stored {message} are damaged: {source}")]
    Damaged {
        /// The message that they should be.
        message: &'static str,
        /// What is wrong with them.
        source: prost::DecodeError,
    },
    /// One field holds something that Sortie never writes there.
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
    /// Nothing that this version knows is there.
    #[error(
        "is missing, or of a kind that this version of Sortie does not know; use the version that wrote it"
    )]
    Missing,
    /// A number that stands for nothing in this version.
    #[error("has the number {0}, which this version of Sortie does not know; use the version that wrote it")]
    UnknownNumber(i32),
    /// Not a number.
    #[error("is not a number (NaN)")]
    NotANumber,
    /// No id.
    #[error("is no id: it {0}")]
    BadId(BadId),
    /// No properties.
    #[error("is no set of properties: it {0}")]
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

    /// `place` is where the form was found.
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

/// The stored form of a snapshot. Equal snapshots give equal bytes.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
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
    } = snapshot;
    let head =
        Form { seq: *seq, settings: settings.store(), configured: configured.store(), ..Form::default() };
    let mut out = Vec::new();
    append(&head, &mut out);
    append_list(health.iter().map(Stored::store), &mut out, |health| Form { health, ..Form::default() });
    append_list(matches.iter().map(Stored::store), &mut out, |matches| Form { matches, ..Form::default() });
    append_list(finished.iter().map(Stored::store), &mut out, |finished| Form {
        finished,
        ..Form::default()
    });
    append_list(servers.iter().map(Stored::store), &mut out, |servers| Form { servers, ..Form::default() });
    append_list(gone.iter().map(Stored::store), &mut out, |gone| Form { gone, ..Form::default() });
    append_list(allocations.iter().map(Stored::store), &mut out, |allocations| Form {
        allocations,
        ..Form::default()
    });
    append_list(closed_seats.iter().map(Stored::store), &mut out, |closed_seats| Form {
        closed_seats,
        ..Form::default()
    });
    out
}

/// Reads a snapshot's stored form.
///
/// # Errors
/// [`StoredError`] for bytes that [`encode_snapshot`] of this version would not have written, except that fields of
/// newer versions are ignored.
pub fn decode_snapshot(bytes: &[u8]) -> Result<Snapshot, StoredError> {
    const MESSAGE: &str = "StoredSnapshot";
    let place = |field| Place { message: MESSAGE, field };

    let stored: log::StoredSnapshot = decode(MESSAGE, bytes)?;
    Ok(Snapshot {
        seq: stored.seq,
        settings: Stored::load(stored.settings, place("settings"))?,
        configured: Stored::load(stored.configured, place("configured"))?,
        health: Stored::load(stored.health, place("health"))?,
        matches: Stored::load(stored.matches, place("matches"))?,
        finished: Stored::load(stored.finished, place("finished"))?,
        servers: Stored::load(stored.servers, place("servers"))?,
        gone: Stored::load(stored.gone, place("gone"))?,
        allocations: Stored::load(stored.allocations, place("allocations"))?,
        closed_seats: Stored::load(stored.closed_seats, place("closed_seats"))?,
    })
}

/// Appends one list of a snapshot in pieces, so that a state of a million matches is not held twice. The bytes of
/// messages one after the other are the bytes of a message with all their elements.
fn append_list<Form, Whole: Message>(
    mut list: impl Iterator<Item = Form>,
    out: &mut Vec<u8>,
    wrap: impl Fn(Vec<Form>) -> Whole,
) {
    loop {
        let chunk: Vec<Form> = list.by_ref().take(SNAPSHOT_CHUNK).collect();
        if chunk.is_empty() {
            return;
        }
        append(&wrap(chunk), out);
    }
}

fn append(message: &impl Message, out: &mut Vec<u8>) {
    let written = message.encode(out);
    debug_assert!(written.is_ok(), "a Vec has room as long as there is memory");
}

fn decode<M: Message + Default>(message: &'static str, bytes: &[u8]) -> Result<M, StoredError> {
    M::decode(bytes).map_err(|source| StoredError::Damaged { message, source })
}
