//! Records of the matchmaker as its log stores them: `contract/proto/sortie/matchmaker/v1/records.proto`.
//!
//! A package of its own beside the broker's, because the two machines have logs of their own and share nothing but
//! what a match is.

mod records;

use std::sync::Arc;

use sortie_domain::ids::{IdempotencyKey, MatchId, QueueId};
use sortie_domain::matchmaking::model::{Formation, Offered, Round, Ticket};
use sortie_domain::matchmaking::order::UsedKey;
use sortie_domain::matchmaking::settings::Queue;
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
        keys,
    } = snapshot;
    let mut out = Vec::new();
    let (settings, configured) = (settings.store(), configured.store());
    append(&Form { seq: *seq, settings, configured, ..Form::default() }, &mut out);
    let closed = closed.iter().map(|(id, queue)| (id.clone(), queue.clone()).store());
    append_list(closed, &mut out, |closed| Form { closed, ..Form::default() });
    let tickets = tickets.values().map(|ticket| Ticket::store(ticket));
    append_list(tickets, &mut out, |tickets| Form { tickets, ..Form::default() });
    let over = over.values().map(|ticket| Ticket::store(ticket));
    append_list(over, &mut out, |over| Form { over, ..Form::default() });
    let formations = formations.values().map(|formation| Formation::store(formation));
    append_list(formations, &mut out, |formations| Form { formations, ..Form::default() });
    let withdrawing = withdrawing.iter().map(Stored::store);
    append_list(withdrawing, &mut out, |withdrawing| Form { withdrawing, ..Form::default() });
    let offers = offers.values().map(|offered| Offered::store(offered));
    append_list(offers, &mut out, |offers| Form { offers, ..Form::default() });
    let rounds = rounds.iter().map(|(queue, round)| (queue.clone(), round.clone()).store());
    append_list(rounds, &mut out, |rounds| Form { rounds, ..Form::default() });
    let keys = keys.iter().map(|(key, used)| (key.clone(), used.clone()).store());
    append_list(keys, &mut out, |keys| Form { keys, ..Form::default() });
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
        closed: each(stored.closed, place("closed"), |(id, queue): (QueueId, Queue)| (id, queue))?,
        tickets: each(stored.tickets, place("tickets"), |ticket: Ticket| (ticket.place, Arc::new(ticket)))?,
        over: each(stored.over, place("over"), |ticket: Ticket| (ticket.place, Arc::new(ticket)))?,
        formations: each(stored.formations, place("formations"), |formation: Formation| {
            (formation.id.clone(), Arc::new(formation))
        })?,
        withdrawing: each(stored.withdrawing, place("withdrawing"), |id: MatchId| id)?,
        offers: each(stored.offers, place("offers"), |offered: Offered| {
            (offered.offer.match_id.clone(), Arc::new(offered))
        })?,
        rounds: each(stored.rounds, place("rounds"), |(queue, round): (QueueId, Round)| (queue, round))?,
        keys: each(stored.keys, place("keys"), |(key, used): (IdempotencyKey, UsedKey)| (key, used))?,
    })
}

/// What the elements of a list are collected in, one after the other, so that none is held twice.
fn each<T: Stored<Form>, Form, Entry, All: FromIterator<Entry>>(
    list: Vec<Form>,
    place: Place,
    entry: impl Fn(T) -> Entry,
) -> Result<All, StoredError> {
    list.into_iter().map(|form| T::load(form, place).map(&entry)).collect()
}
