//! Records of the matchmaker as its log stores them: `contract/proto/sortie/matchmaker/v1/records.proto`.
//!
//! A separate package from the broker's, because the two machines have their own logs and share only the definition of
//! a match.

mod records;

use std::io;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};
use sortie_domain::ids::{IdempotencyKey, MatchId, QueueId};
use sortie_domain::matchmaking::model::{Formation, Offered, Round, Ticket};
use sortie_domain::matchmaking::order::UsedKey;
use sortie_domain::matchmaking::settings::Queue;
use sortie_domain::matchmaking::{Event, Snapshot};

use super::{
    FieldProblem, Pieces, Place, Sink, SnapshotReadError, Stored, StoredError, append, decode, extend,
};
use crate::generated::sortie::matchmaker::v1 as form;

/// Appends the stored form of an event to `out`.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    append(&form::StoredEvent { event: event.store() }, out);
}

/// Reads an event's stored form.
///
/// # Errors
/// [`StoredError`] for bytes that [`encode_event`] of this version would not have written, except that fields of
/// newer versions are ignored.
pub fn decode_event(bytes: &[u8]) -> Result<Event, StoredError> {
    let stored: form::StoredEvent = decode("StoredEvent", bytes)?;
    Event::load(stored.event, Place { message: "StoredEvent", field: "event" })
}

/// Passes the stored form of a snapshot to `sink`, in pieces of about [`PIECE_BYTES`](super::PIECE_BYTES). Equal
/// snapshots have equal pieces.
///
/// # Errors
/// The first error of `sink`.
pub fn write_snapshot(snapshot: &Snapshot, sink: Sink<'_>) -> io::Result<()> {
    use form::StoredSnapshot as Form;

    let Snapshot {
        seq,
        settings,
        configured,
        closed,
        tickets,
        over,
        formations,
        withdrawing,
        offers,
        rounds,
        keys,
    } = snapshot;
    let mut out = Pieces::new(sink);
    let (settings, configured) = (settings.store(), configured.store());
    out.add(&Form { seq: *seq, settings, configured, ..Form::default() })?;
    let closed = closed.iter().map(|(id, queue)| (id.clone(), queue.clone()).store());
    out.add_list(closed, |closed| Form { closed, ..Form::default() })?;
    let tickets = tickets.values().map(|ticket| Ticket::store(ticket));
    out.add_list(tickets, |tickets| Form { tickets, ..Form::default() })?;
    let over = over.values().map(|ticket| Ticket::store(ticket));
    out.add_list(over, |over| Form { over, ..Form::default() })?;
    let formations = formations.values().map(|formation| Formation::store(formation));
    out.add_list(formations, |formations| Form { formations, ..Form::default() })?;
    let withdrawing = withdrawing.iter().map(Stored::store);
    out.add_list(withdrawing, |withdrawing| Form { withdrawing, ..Form::default() })?;
    let offers = offers.values().map(|offered| Offered::store(offered));
    out.add_list(offers, |offers| Form { offers, ..Form::default() })?;
    let rounds = rounds.iter().map(|(queue, round)| (queue.clone(), round.clone()).store());
    out.add_list(rounds, |rounds| Form { rounds, ..Form::default() })?;
    let keys = keys.iter().map(|(key, used)| (key.clone(), used.clone()).store());
    out.add_list(keys, |keys| Form { keys, ..Form::default() })?;
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
    let (mut closed, mut tickets, mut over) = (OrdMap::new(), OrdMap::new(), OrdMap::new());
    let (mut formations, mut withdrawing, mut offers) = (OrdMap::new(), OrdSet::new(), OrdMap::new());
    let (mut rounds, mut keys) = (OrdMap::new(), OrdMap::new());
    let placed = |ticket: Ticket| (ticket.place, Arc::new(ticket));
    for piece in pieces {
        let part: form::StoredSnapshot = decode(MESSAGE, &piece?)?;
        seq = part.seq.max(seq);
        settings = part.settings.or(settings);
        configured = part.configured.or(configured);
        extend(&mut closed, part.closed, place("closed"), |closed: (QueueId, Queue)| closed)?;
        extend(&mut tickets, part.tickets, place("tickets"), placed)?;
        extend(&mut over, part.over, place("over"), placed)?;
        extend(&mut formations, part.formations, place("formations"), |formation: Formation| {
            (formation.id.clone(), Arc::new(formation))
        })?;
        extend(&mut withdrawing, part.withdrawing, place("withdrawing"), |id: MatchId| id)?;
        extend(&mut offers, part.offers, place("offers"), |offered: Offered| {
            (offered.offer.match_id.clone(), Arc::new(offered))
        })?;
        extend(&mut rounds, part.rounds, place("rounds"), |round: (QueueId, Round)| round)?;
        extend(&mut keys, part.keys, place("keys"), |key: (IdempotencyKey, UsedKey)| key)?;
    }
    let (settings, configured) =
        (Stored::load(settings, place("settings"))?, Stored::load(configured, place("configured"))?);
    Ok(Snapshot {
        seq,
        settings,
        configured,
        closed,
        tickets,
        over,
        formations,
        withdrawing,
        offers,
        rounds,
        keys,
    })
}

/// The stored form of a small snapshot as a whole: all pieces of [`write_snapshot`] together.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
    super::whole(|sink| write_snapshot(snapshot, sink))
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
