//! Stored records of the matchmaker, and its outgoing events: golden ones, arbitrary ones, hostile bytes.

mod golden;
mod hostile;
mod samples;
mod strategies;

use proptest::prelude::*;
use sortie_domain::machine::{Machine, Record};
use sortie_domain::matchmaking::{Event, Matchmaker};
use sortie_domain::size::Size;
use sortie_domain::time::Timestamp;
use sortie_wire::cloud_event::matchmaker::{TICKET_STATUS, cloud_event, status_events};
use sortie_wire::stored::matchmaker::{decode_event, decode_snapshot, encode_event, encode_snapshot};

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_event(event, &mut bytes);
    bytes
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
        let document = cloud_event(&record, "/sortie/test");
        prop_assert_eq!(&document["type"], record.event.kind());
        prop_assert_eq!(&document["id"], &seq.to_string());
        prop_assert!(document["data"].is_object() && document["time"].is_string());
        for (count, (player, heard)) in status_events(&record, "/sortie/test").into_iter().enumerate() {
            prop_assert_eq!(&heard["type"], TICKET_STATUS);
            prop_assert_eq!(&heard["id"], &format!("{seq}.{count}"));
            prop_assert_eq!(&heard["data"]["player_id"], player.as_str());
        }
    }
}

#[test]
fn a_matchmaker_that_knows_nothing_is_stored_too() {
    let snapshot = Matchmaker::new().snapshot();
    assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)).unwrap(), snapshot);
}

/// Settings from before there were budgets.
#[test]
fn records_without_budgets_are_read_with_those_of_then() {
    let old = [0x0a, 0x08, 0x0a, 0x06, 0x10, 0xc0, 0xcf, 0x24, 0x18, 0x64];
    let Event::Configured { settings } = decode_event(&old).unwrap() else { panic!() };
    assert_eq!((settings.waiting_bytes, settings.kept_bytes), (512 << 20, 128 << 20));
    assert_eq!(settings.status_expiration.as_secs(), 600);
}

#[test]
fn long_lists_of_a_snapshot_keep_their_order() {
    let withdrawing = (0..2_500).map(|number| samples::match_id(&format!("match {number:04}"))).collect();
    let snapshot = sortie_domain::matchmaking::Snapshot { withdrawing, ..Matchmaker::new().snapshot() };
    assert_eq!(decode_snapshot(&encode_snapshot(&snapshot)).unwrap(), snapshot);
}

#[test]
fn where_a_player_connects_is_told_to_that_player_only() {
    let ready =
        samples::events().into_iter().find(|event| matches!(event, Event::MatchReady { .. })).unwrap();
    let record = Record { seq: 7, time: Timestamp::ZERO, event: ready };
    let heard = status_events(&record, "/sortie/test");
    let of = |player: &str| heard.iter().find(|(id, _)| id.as_str() == player).unwrap().1.to_string();
    assert!(of("ann").contains("203.0.113.7:7777") && !of("ann").contains("2001:db8::7"));
    assert!(of("ben").contains("2001:db8::7") && !of("ben").contains("203.0.113.7"));
}
