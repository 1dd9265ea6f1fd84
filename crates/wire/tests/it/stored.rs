//! Stored records and outgoing events: golden ones, arbitrary ones, and hostile bytes.

pub(crate) mod files;
mod golden;
mod hostile;
mod samples;
mod strategies;

use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use sortie_domain::broker::model::{Gone, GoneCause, Settings};
use sortie_domain::broker::{Broker, Event, Snapshot};
use sortie_domain::ids::ServerId;
use sortie_domain::machine::{Machine, Record};
use sortie_domain::size::Size;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::cloud_event;
use sortie_wire::stored::{
    PIECE_BYTES, SnapshotReadError, decode_event, decode_snapshot, encode_event, encode_snapshot,
    read_snapshot, write_snapshot,
};

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_event(event, &mut bytes);
    bytes
}

fn empty_snapshot() -> Snapshot {
    Broker::new().snapshot()
}

/// The attributes of a CloudEvent that every reader relies on.
fn check_attributes(document: &Value, record: &Record<Event>) {
    assert_eq!(document["specversion"], "1.0");
    assert_eq!(document["id"], record.seq.to_string());
    assert_eq!(document["source"], "/sortie/test");
    assert_eq!(document["type"], record.event.kind());
    assert_eq!(document["datacontenttype"], "application/json");
    assert!(document["data"].is_object(), "{document}");
    let about_the_broker = record.event.kind().starts_with("sortie.broker.");
    let subject = document.get("subject").map(|subject| subject.as_str().unwrap());
    assert_eq!(subject.is_none_or(str::is_empty), about_the_broker, "{document}");
    // `2026-11-21T09:18:00.000Z`
    let time = document["time"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.', "{time}");
}

proptest! {
    #[test]
    fn any_event_comes_back_as_it_was(event in strategies::event()) {
        prop_assert_eq!(decode_event(&encoded(&event)).unwrap(), event);
    }

    #[test]
    fn any_event_is_stored_in_no_more_bytes_than_are_counted_for_it(event in strategies::event()) {
        prop_assert!(encoded(&event).len() <= event.byte_size(), "{} bytes", encoded(&event).len());
    }

    #[test]
    fn any_snapshot_comes_back_as_it_was_and_gives_the_same_bytes_again(snapshot in strategies::snapshot()) {
        let bytes = encode_snapshot(&snapshot);
        let back = decode_snapshot(&bytes).unwrap();
        prop_assert_eq!(&back, &snapshot);
        prop_assert_eq!(encode_snapshot(&back), bytes);
    }

    #[test]
    fn any_event_leaves_as_a_cloud_event(event in strategies::event(), seq: u64, millis: u64) {
        let record = Record { seq, time: Timestamp::from_millis(millis), event };
        check_attributes(&cloud_event(&record, "/sortie/test"), &record);
    }
}

#[test]
fn events_are_appended_to_what_is_there() {
    let event = Event::ServerFull { server: ServerId::new("s").unwrap() };
    let mut bytes = b"before".to_vec();
    encode_event(&event, &mut bytes);
    assert_eq!(decode_event(bytes.strip_prefix(b"before").unwrap()).unwrap(), event);
}

fn exited() -> Gone {
    Gone { cause: GoneCause::Exited, at: Timestamp::from_millis(1_800_000_000_000), ordered: true }
}

#[test]
fn long_lists_of_a_snapshot_keep_their_order() {
    let gone = |number: u32| (ServerId::new(&format!("server {number}")).unwrap(), exited());
    let snapshot = Snapshot { gone: (0..2_500).rev().map(gone).collect(), ..empty_snapshot() };
    assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)).unwrap(), snapshot);
}

#[test]
fn a_large_snapshot_is_given_and_read_in_pieces_of_a_bounded_size() {
    let id = |number: u32| ServerId::new(&format!("{number:0>120}")).unwrap();
    let gone = (0..20_000).map(|number| (id(number), exited())).collect();
    let snapshot = Snapshot { seq: 7, gone, ..empty_snapshot() };
    let mut pieces = Vec::new();
    let taken = write_snapshot(&snapshot, &mut |piece| {
        pieces.push(piece.to_vec());
        Ok(())
    });
    taken.unwrap();
    assert!(pieces.len() > 5, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| (1..=PIECE_BYTES + 200).contains(&piece.len())));
    assert_eq!(pieces.concat(), encode_snapshot(&snapshot), "together they are one message");
    assert_eq!(read_snapshot(&mut pieces.into_iter().map(std::io::Result::Ok)).unwrap(), snapshot);
}

#[test]
fn a_sink_or_source_that_fails_ends_a_snapshot_with_its_error() {
    let snapshot = empty_snapshot();
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    let refused = write_snapshot(&snapshot, &mut |_| Err(full())).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
    let whole = encode_snapshot(&snapshot);
    let broken = read_snapshot(&mut [Ok(whole), Err(full())].into_iter());
    assert!(matches!(broken, Err(SnapshotReadError::Io(_))), "{broken:?}");
}

#[test]
fn a_broker_that_knows_nothing_is_stored_too() {
    let snapshot = empty_snapshot();
    assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)).unwrap(), snapshot);
}

#[test]
fn a_part_of_a_millisecond_is_rounded_up_and_what_cannot_be_stored_is_the_longest() {
    for (given, stored) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_nanos(1), Duration::from_millis(1)),
        (Duration::from_micros(1_001), Duration::from_millis(2)),
        (Duration::MAX, Duration::from_millis(u64::MAX)),
    ] {
        let event = |wait| Event::Reconfigured { settings: Settings { wait, ..Settings::default() } };
        assert_eq!(decode_event(&encoded(&event(given))).unwrap(), event(stored));
    }
}

#[test]
fn times_that_rfc_3339_cannot_write_are_its_last() {
    let time_of = |millis| {
        let event = Event::ServerFull { server: ServerId::new("s").unwrap() };
        let record = Record { seq: 1, time: Timestamp::from_millis(millis), event };
        cloud_event(&record, "/sortie/test")["time"].as_str().unwrap().to_owned()
    };
    assert_eq!(time_of(0), "1970-01-01T00:00:00.000Z");
    assert_eq!(time_of(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
    assert_eq!(time_of(u64::MAX), "9999-12-31T23:59:59.999Z");
}
