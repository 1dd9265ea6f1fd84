//! Bytes that Sortie did not write: damaged, of a newer version, or made to do harm.

use proptest::prelude::*;
use sortie_wire::stored::{StoredError, decode_event, decode_snapshot, encode_snapshot};

use super::{encoded, samples, strategies};

/// A field of protobuf that holds bytes: a message or a text. Field numbers below 16 and lengths below 128 only.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(number < 16 && length < 128);
    [&[number << 3 | 2, length], content].concat()
}

/// A field of protobuf that holds a number below 128.
fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

fn assert_names(error: &StoredError, field: &str, problem: &str) {
    let text = error.to_string();
    assert!(text.starts_with(&format!("{field} of a stored record")) && text.contains(problem), "{text}");
}

#[test]
fn a_bad_event_is_refused_with_the_field_named() {
    let match_with = |spec: &[u8]| bytes(3, &[bytes(1, b"m"), bytes(2, spec)].concat());
    for (stored, field, problem) in [
        (Vec::new(), "StoredEvent.event", "is missing"),
        // Field 1000: an event of a newer version.
        (b"\xc2\x3e\x00".to_vec(), "StoredEvent.event", "does not know"),
        (bytes(3, b""), "MatchQueued.id", "must not be empty"),
        (bytes(3, &bytes(1, b"a\nb")), "MatchQueued.id", "not printable ASCII"),
        (bytes(3, &bytes(1, b"m")), "MatchQueued.spec", "is missing"),
        (match_with(&bytes(1, b"")), "MatchSpec.players", "must not be empty"),
        (match_with(&bytes(2, b"[]")), "MatchSpec.properties", "must be a JSON object"),
        (match_with(&bytes(3, &bytes(1, b"\x01"))), "MatchSpec.player_properties", "not printable ASCII"),
        (match_with(&bytes(5, b"")), "MatchSpec.fleet", "must not be empty"),
        (bytes(7, &bytes(1, b"m")), "MatchEnded.cause", "the number 0"),
        (bytes(7, &[bytes(1, b"m"), number(3, 99)].concat()), "MatchEnded.cause", "the number 99"),
        (bytes(1, b""), "Configured.settings", "is missing"),
        (bytes(2, &bytes(1, &number(1, 3))), "Settings.fast_schedule", "the number 3"),
    ] {
        assert_names(&decode_event(&stored).unwrap_err(), field, problem);
    }
}

#[test]
fn a_bad_snapshot_is_refused_with_the_field_named() {
    let with = |list: u8, parts: &[&[u8]]| [bytes(2, b""), bytes(list, &parts.concat())].concat();
    let (id, spec): (&[u8], &[u8]) = (&bytes(1, b"x"), &bytes(2, b""));
    for (stored, field, problem) in [
        (Vec::new(), "StoredSnapshot.settings", "is missing"),
        (with(4, &[]), "FleetHealth.fleet", "must not be empty"),
        (with(5, &[id]), "Match.spec", "is missing"),
        (with(5, &[id, spec]), "Match.state", "is missing"),
        (with(6, &[id, spec, &bytes(5, b"")]), "Match.Ready.connection", "is missing"),
        (with(6, &[id, spec, &bytes(7, &number(2, 77))]), "Match.Failed.reason", "the number 77"),
        (with(7, &[id]), "Server.state", "is missing"),
        (with(8, &[id]), "GoneServer.cause", "the number 0"),
        (with(10, &[id]), "ClosedSeat.end", "the number 0"),
    ] {
        assert_names(&decode_snapshot(&stored).unwrap_err(), field, problem);
    }
}

#[test]
fn bytes_that_are_no_message_are_damaged() {
    // A length beyond the end; the end of a group that never began; a text that is not UTF-8.
    for stored in [&b"\x1a\x7f"[..], b"\x0c", b"\x1a\x03\x0a\x01\xff"] {
        assert!(matches!(decode_event(stored), Err(StoredError::Damaged { message: "StoredEvent", .. })));
    }
    assert!(matches!(
        decode_snapshot(b"\x1a\x7f"),
        Err(StoredError::Damaged { message: "StoredSnapshot", .. })
    ));
}

#[test]
fn fields_of_newer_versions_are_ignored() {
    for event in samples::events() {
        // Field 1000, a number.
        let stored = [encoded(&event), b"\xc0\x3e\x07".to_vec()].concat();
        assert_eq!(decode_event(&stored).unwrap(), event);
    }
}

#[test]
fn a_golden_snapshot_cut_or_changed_anywhere_does_no_harm() {
    let stored = encode_snapshot(&samples::snapshot());
    for position in 0..stored.len() {
        let _ = decode_snapshot(&stored[..position]);
        let mut changed = stored.clone();
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            changed[position] = value;
            // Everything that can still be read can be written again.
            if let Ok(snapshot) = decode_snapshot(&changed) {
                assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)), Ok(snapshot));
            }
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_do_harm(stored: Vec<u8>) {
        let _ = decode_event(&stored);
        let _ = decode_snapshot(&stored);
    }

    #[test]
    fn an_event_cut_or_changed_anywhere_does_no_harm(
        event in strategies::event(), position: prop::sample::Index, value: u8,
    ) {
        let mut stored = encoded(&event);
        let position = position.index(stored.len());
        let _ = decode_event(&stored[..position]);
        stored[position] = value;
        if let Ok(event) = decode_event(&stored) {
            prop_assert_eq!(decode_event(&encoded(&event)), Ok(event));
        }
    }
}
