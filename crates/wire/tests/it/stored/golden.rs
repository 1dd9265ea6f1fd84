//! Golden documents in `contract/golden/records`: `<event>.hex` is the stored form of one of each event,
//! `<event>.json` the same event as it leaves the system, `snapshot.hex` a snapshot with everything in it.
//!
//! A difference is a changed contract. For stored records that means: logs that are out there may no longer read.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use sortie_domain::broker::Event;
use sortie_domain::machine::Record;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::cloud_event;
use sortie_wire::stored::{decode_event, decode_snapshot, encode_snapshot};

use super::{check_attributes, encoded, samples};

fn contract(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract").join(path)
}

fn golden(file: &str) -> String {
    let text = fs::read_to_string(contract("golden/records").join(file));
    text.unwrap_or_default().trim_end().to_owned()
}

/// `sortie.match.queued` is in `match.queued`.
fn name(event: &Event) -> &'static str {
    event.kind().strip_prefix("sortie.").unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(48).map(|chunk| chunk.iter().map(|byte| format!("{byte:02x}")).collect());
    lines.collect::<Vec<String>>().join("\n")
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|character| !character.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// One of each event, with a place in a log.
fn records() -> impl Iterator<Item = Record<Event>> {
    (1..).zip(samples::events()).map(|(seq, event)| Record {
        seq,
        time: Timestamp::from_millis(1_800_000_000_000 + seq),
        event,
    })
}

/// Compares every `(file, content)` and shows all that differ in full, ready to be looked at or copied.
fn assert_golden(documents: Vec<(String, String)>) {
    let differing = documents.into_iter().filter(|(file, content)| golden(file) != *content);
    let shown: Vec<String> = differing.map(|(file, content)| format!("=== {file}\n{content}")).collect();
    assert!(shown.is_empty(), "not as in contract/golden/records:\n{}", shown.join("\n"));
}

#[test]
fn stored_records_are_the_golden_ones() {
    let events = samples::events().into_iter();
    let mut documents: Vec<_> =
        events.map(|event| (format!("{}.hex", name(&event)), hex(&encoded(&event)))).collect();
    documents.push(("snapshot.hex".to_owned(), hex(&encode_snapshot(&samples::snapshot()))));
    assert_golden(documents);
}

#[test]
fn golden_records_can_be_read() {
    for event in samples::events() {
        let bytes = unhex(&golden(&format!("{}.hex", name(&event))));
        assert_eq!(decode_event(&bytes).unwrap(), event);
    }
    assert_eq!(decode_snapshot(&unhex(&golden("snapshot.hex"))).unwrap(), samples::snapshot());
}

#[test]
fn events_leave_the_system_as_the_golden_ones() {
    let document = |record: Record<Event>| {
        let document = cloud_event(&record, "/sortie/test");
        check_attributes(&document, &record);
        (format!("{}.json", name(&record.event)), serde_json::to_string_pretty(&document).unwrap())
    };
    assert_golden(records().map(document).collect());
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
    let files = fs::read_dir(contract("golden/records")).unwrap();
    let found: BTreeSet<String> =
        files.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, expected);
}
