//! Bytes that Sortie did not write: damaged, of a newer version, or made to do harm.

use proptest::prelude::*;
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::Matchmaker;
use sortie_wire::stored::matchmaker::{decode_event, decode_snapshot, encode_snapshot};

use super::{encoded, samples, strategies};

/// A field of protobuf that holds bytes: a message or a text. Field numbers below 16 and lengths below 128 only.
fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(number < 16 && length < 128);
    [&[number << 3 | 2, length], content].concat()
}

#[test]
fn a_bad_event_is_refused_with_the_field_named() {
    let started = |spec: &[u8]| bytes(2, &[bytes(1, b"t"), bytes(2, spec), bytes(3, b"q")].concat());
    // A double that is not a number, as the value 2 of an entry of the map 2.
    let nan = [bytes(1, b"mmr"), [&[2 << 3 | 1][..], &f64::NAN.to_le_bytes()].concat()].concat();
    let player = bytes(2, &bytes(2, &[bytes(1, b"p"), bytes(2, &nan)].concat()));
    let spec = [bytes(1, b"q"), player].concat();
    for (stored, field, problem) in [
        (Vec::new(), "StoredEvent.event", "is missing"),
        // Field 1000: an event of a newer version.
        (b"\xc2\x3e\x00".to_vec(), "StoredEvent.event", "does not know"),
        (bytes(1, b""), "Configured.settings", "is missing"),
        (bytes(2, b""), "TicketStarted.id", "must not be empty"),
        (started(b""), "TicketSpec.queue", "must not be empty"),
        (started(&spec), "Player.ratings", "not a number"),
        (bytes(4, &bytes(1, &bytes(1, b"t"))), "TicketCancelled.cause", "the number 0"),
        (bytes(14, &bytes(1, b"m")), "MatchReady.connection", "is missing"),
        (bytes(15, b""), "SeatsOffered.offer", "is missing"),
        // Field 22.
        (b"\xb2\x01\x00".to_vec(), "Reconfigured.settings", "is missing"),
    ] {
        let text = decode_event(&stored).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{field} of a stored record")) && text.contains(problem), "{text}");
    }
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
        for value in [0, 0x7f, 0xff] {
            changed[position] = value;
            // Everything that can still be read can be written again, and restored by a matchmaker.
            if let Ok(snapshot) = decode_snapshot(&changed) {
                assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)), Ok(snapshot.clone()));
                let _ = Matchmaker::restore(snapshot).outstanding();
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
