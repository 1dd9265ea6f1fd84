//! Records of the matchmaker as its log stores them: `contract/proto/sortie/matchmaker/v1/records.proto`.
//!
//! A package of its own beside the broker's, because the two machines have logs of their own and share nothing but
//! what a match is.

mod records;

use sortie_domain::matchmaking::{Event, Snapshot};

use super::{Place, Stored, StoredError, append, append_list, decode};
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

/// The stored form of a snapshot. Equal snapshots give equal bytes.
#[must_use]
pub fn encode_snapshot(snapshot: &Snapshot) -> Vec<u8> {
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
    } = snapshot;
    let mut out = Vec::new();
    let (settings, configured) = (settings.store(), configured.store());
    append(&Form { seq: *seq, settings, configured, ..Form::default() }, &mut out);
    append_list(closed, &mut out, |closed| Form { closed, ..Form::default() });
    append_list(tickets, &mut out, |tickets| Form { tickets, ..Form::default() });
    append_list(over, &mut out, |over| Form { over, ..Form::default() });
    append_list(formations, &mut out, |formations| Form { formations, ..Form::default() });
    append_list(withdrawing, &mut out, |withdrawing| Form { withdrawing, ..Form::default() });
    append_list(offers, &mut out, |offers| Form { offers, ..Form::default() });
    append_list(rounds, &mut out, |rounds| Form { rounds, ..Form::default() });
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

    let stored: form::StoredSnapshot = decode(MESSAGE, bytes)?;
    Ok(Snapshot {
        seq: stored.seq,
        settings: Stored::load(stored.settings, place("settings"))?,
        configured: Stored::load(stored.configured, place("configured"))?,
        closed: Stored::load(stored.closed, place("closed"))?,
        tickets: Stored::load(stored.tickets, place("tickets"))?,
        over: Stored::load(stored.over, place("over"))?,
        formations: Stored::load(stored.formations, place("formations"))?,
        withdrawing: Stored::load(stored.withdrawing, place("withdrawing"))?,
        offers: Stored::load(stored.offers, place("offers"))?,
        rounds: Stored::load(stored.rounds, place("rounds"))?,
    })
}
