//! Golden documents in `contract/golden/records`: `<event>.hex` is the stored form of one of each event,
//! `<event>.json` the same event as it leaves the system, `snapshot.hex` a snapshot with everything in it.
//!
//! A difference is a changed contract. For stored records that means: existing logs may no longer be readable.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use sortie_domain::broker::model::Gone;
use sortie_domain::broker::{Event, Past};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::machine::Record;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::cloud_event;
use sortie_wire::stored::{decode_event, decode_snapshot, encode_snapshot};

use super::files::{assert_golden, contract, golden, hex, unhex};
use super::{check_attributes, encoded, samples};

const FOLDER: &str = "golden/records";
/// Written by a version without budgets of bytes, games of fleets and times of servers that are gone; never written
/// again, but readable forever.
const BEFORE_BUDGETS: [&str; 2] = ["broker.reconfigured.before_budgets.hex", "snapshot.before_budgets.hex"];

/// `sortie.match.queued` is in `match.queued`.
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
fn records_from_before_the_budgets_are_read_with_what_held_then() {
    let [event, snapshot] = BEFORE_BUDGETS.map(|name| unhex(&golden(FOLDER, name)));
    let mut events = samples::events().into_iter();
    let reconfigured = events.find(|event| matches!(event, Event::Reconfigured { .. })).unwrap();
    assert_eq!(decode_event(&event).unwrap(), reconfigured);
    let read = decode_snapshot(&snapshot).unwrap();
    let mut now = samples::snapshot();
    if let Some(configured) = now.configured.as_mut().map(Arc::make_mut) {
        configured.fleets.iter_mut().for_each(|fleet| (fleet.game, fleet.is_default) = (None, false));
    }
    let unknown = |gone: &Gone| Gone { at: Timestamp::ZERO, ordered: false, ..*gone };
    let gone: Past<_, _> = now.gone.iter().map(|(id, gone)| (id.clone(), unknown(gone))).collect();
    assert_eq!((read.seq, &read.settings, &read.configured), (now.seq, &now.settings, &now.configured));
    assert!(read.matches.keys().eq(now.matches.keys()) && read.servers == now.servers);
    assert_eq!(read.finished.len(), 3);
    assert!(read.finished.iter().all(|(_, game)| !game.stripped));
    assert!(read.closed_seats == now.closed_seats && read.gone == gone);
    assert!(read.orders.is_empty() && read.ended_seats.is_empty());
    let seats = &read.matches[&MatchId::new("match-3").unwrap()].seats;
    assert!(seats.left().contains(&PlayerId::new("ben").unwrap()) && !seats.is_empty());
}

#[test]
fn events_leave_the_system_as_the_golden_ones() {
    let document = |record: Record<Event>| {
        let document = cloud_event(&record, "/sortie/test");
        check_attributes(&document, &record);
        (format!("{}.json", name(&record.event)), serde_json::to_string_pretty(&document).unwrap())
    };
    assert_golden(FOLDER, records().map(document).collect());
}

#[test]
fn every_event_has_its_golden_documents_and_nothing_else_does() {
    let kinds: BTreeSet<String> = samples::events().iter().map(|event| name(event).to_owned()).collect();
    let proto = fs::read_to_string(contract("proto/sortie/log/v1/records.proto")).unwrap();
    let (_, alternatives) = proto.split_once("oneof event {").unwrap();
    let (alternatives, _) = alternatives.split_once('}').unwrap();
    assert_eq!(kinds.len(), alternatives.matches(';').count(), "each event once");

    let mut expected: BTreeSet<String> =
        kinds.iter().flat_map(|kind| [format!("{kind}.hex"), format!("{kind}.json")]).collect();
    expected.insert("snapshot.hex".to_owned());
    expected.extend(BEFORE_BUDGETS.map(str::to_owned));
    let files = fs::read_dir(contract(FOLDER)).unwrap();
    let found: BTreeSet<String> =
        files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
}
