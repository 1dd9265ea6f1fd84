//! Golden documents in `contract/golden/matchmaker`: `<event>.hex` is the stored form of one of each event,
//! `<event>.json` the same event as it leaves the system, `<event>.players.json` what players hear about it, if they
//! do; `snapshot.hex` a snapshot with everything in it.
//!
//! A difference is a changed contract. For stored records that means: existing logs may no longer be readable.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::Event;
use sortie_domain::matchmaking::model::TicketSpec;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::matchmaker::{cloud_event, status_events};
use sortie_wire::stored::matchmaker::{decode_event, decode_snapshot, encode_snapshot};

use super::{encoded, samples};
use crate::stored::files::{assert_golden, contract, golden, hex, unhex};

const FOLDER: &str = "golden/matchmaker";

/// `sortie.ticket.started` is in `ticket.started`.
fn name(event: &Event) -> &'static str {
    event.kind().strip_prefix("sortie.").unwrap()
}

/// One of each event, with a place in a log.
fn records() -> impl Iterator<Item = Record<Event>> {
    (1..).zip(samples::events()).map(|(seq, event)| Record {
        seq,
        time: Timestamp::from_millis(1_800_000_000_000 + seq),
        event,
    })
}

/// What players hear about it; `None` if nothing.
fn heard(record: &Record<Event>) -> Option<Value> {
    let events: Vec<Value> =
        status_events(record, "/sortie/test").into_iter().map(|(_, document)| document).collect();
    (!events.is_empty()).then(|| events.into())
}

#[test]
fn stored_records_are_the_golden_ones() {
    let events = samples::events().into_iter();
    let mut documents: Vec<_> =
        events.map(|event| (format!("{}.hex", name(&event)), hex(&encoded(&event)))).collect();
    documents.push(("snapshot.hex".to_owned(), hex(&encode_snapshot(&samples::snapshot()))));
    assert_golden(FOLDER, documents);
}

#[test]
fn golden_records_can_be_read() {
    for event in samples::events() {
        let bytes = unhex(&golden(FOLDER, &format!("{}.hex", name(&event))));
        assert_eq!(decode_event(&bytes).unwrap(), event);
    }
    assert_eq!(decode_snapshot(&unhex(&golden(FOLDER, "snapshot.hex"))).unwrap(), samples::snapshot());
}

#[test]
fn events_leave_the_system_as_the_golden_ones() {
    let pretty = |document: &Value| serde_json::to_string_pretty(document).unwrap();
    let documents = records().flat_map(|record| {
        let name = name(&record.event);
        let own = (format!("{name}.json"), pretty(&cloud_event(&record, "/sortie/test")));
        let of_players = heard(&record).map(|heard| (format!("{name}.players.json"), pretty(&heard)));
        [Some(own), of_players]
    });
    assert_golden(FOLDER, documents.flatten().collect());
}

#[test]
fn every_event_has_its_golden_documents_and_nothing_else_does() {
    let kinds: BTreeSet<&str> = samples::events().iter().map(name).collect();
    let proto = fs::read_to_string(contract("proto/sortie/matchmaker/v1/records.proto")).unwrap();
    let (_, alternatives) = proto.split_once("oneof event {").unwrap();
    let (alternatives, _) = alternatives.split_once('}').unwrap();
    assert_eq!(kinds.len(), alternatives.matches(';').count(), "each event once");

    let of_players = records().filter(|record| heard(record).is_some());
    let mut expected: BTreeSet<String> =
        of_players.map(|record| format!("{}.players.json", name(&record.event))).collect();
    expected.extend(kinds.iter().flat_map(|kind| [format!("{kind}.hex"), format!("{kind}.json")]));
    expected.insert("snapshot.hex".to_owned());
    let files = fs::read_dir(contract(FOLDER)).unwrap();
    let found: BTreeSet<String> =
        files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_ttl_is_stored_and_leaves_the_system_in_seconds() {
    let record = records().find(|record| matches!(record.event, Event::TicketStarted { .. })).unwrap();
    let Event::TicketStarted { id, spec, queue, check, place } = record.event.clone() else { unreachable!() };
    assert_eq!(cloud_event(&record, "/sortie/test")["data"].get("ttl"), None);
    let spec = Arc::new(TicketSpec { ttl: Some(Duration::from_secs(30)), ..TicketSpec::clone(&spec) });
    let kept_alive = Record { event: Event::TicketStarted { id, spec, queue, check, place }, ..record };
    assert_eq!(cloud_event(&kept_alive, "/sortie/test")["data"]["ttl"], 30);
    let stored = encoded(&kept_alive.event);
    // Field 7, and 30,000 ms as a varint.
    assert!(stored.windows(4).any(|bytes| bytes == [0x38, 0xb0, 0xea, 0x01]));
    assert_eq!(decode_event(&stored).unwrap(), kept_alive.event);
}
