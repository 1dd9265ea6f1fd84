//! Corner cases of canonical JSON, in input and output.

use proptest::prelude::*;
use prost::Message as _;
use serde_json::json;
use sortie_wire::catena::common::{EntityMetadata, Platform};
use sortie_wire::catena::events::{
    AccountsEvent, Event, PartyEventValue, PartyUpdateEvent, party_event_value,
};
use sortie_wire::catena::match_broker::{AdminXReconfigureMatchBrokerRequest, Match};
use sortie_wire::catena::server_manager::{
    AdminDeallocateServerResponse, EndMatchRequest, MatchReadyRequest, RequestMatchRequest,
    RequestMatchResponse, ServerState,
};
use sortie_wire::json::{
    self as wire_json, JsonError, MAX_DOCUMENT_BYTES, MAX_MESSAGE_BYTES, MAX_PATH_BYTES,
};

fn decode<T: serde::de::DeserializeOwned>(document: &str) -> Result<T, JsonError> {
    wire_json::decode(document.as_bytes())
}

fn encode<T: serde::Serialize>(message: &T) -> String {
    String::from_utf8(wire_json::encode(message).unwrap()).unwrap()
}

fn refusal<T: serde::de::DeserializeOwned + std::fmt::Debug>(document: &str) -> JsonError {
    decode::<T>(document).unwrap_err()
}

mod hints {
    use super::*;

    fn read(value: &str) -> Result<u32, JsonError> {
        decode::<EndMatchRequest>(&format!("{{\"hintFlags\":{value}}}")).map(|request| request.hint_flags)
    }

    #[test]
    fn out_one_flag_is_a_name_and_a_combination_a_number() {
        let out = |hint_flags| encode(&EndMatchRequest { hint_flags, ..EndMatchRequest::default() });
        assert_eq!(out(0), "{}");
        assert_eq!(out(1), r#"{"hintFlags":"HINT_FLAG_SHUTDOWN"}"#);
        assert_eq!(out(16), r#"{"hintFlags":"HINT_FLAG_NOT_FULL"}"#);
        assert_eq!(out(3), r#"{"hintFlags":3}"#);
        assert_eq!(out(32), r#"{"hintFlags":32}"#);
    }

    #[test]
    fn in_names_numbers_and_numbers_in_strings() {
        for (value, bits) in [
            ("0", 0),
            ("1", 1),
            ("3", 3),
            ("31", 31),
            ("16.0", 16),
            ("\"3\"", 3),
            ("\"0\"", 0),
            ("\"HINT_FLAG_NO_HINT_FLAGS\"", 0),
            ("\"HINT_FLAG_WILLING_TO_SHUTDOWN\"", 4),
            ("null", 0),
        ] {
            assert_eq!(read(value), Ok(bits), "{value}");
        }
        assert_eq!(decode::<EndMatchRequest>(r#"{"hint_flags":"HINT_FLAG_FULL"}"#).unwrap().hint_flags, 8);
    }

    #[test]
    fn in_anything_else_is_refused_by_name() {
        let values = [
            "32",
            "33",
            "-1",
            "1.5",
            "4294967297",
            "99999999999999999999",
            "\"32\"",
            "\"\"",
            "\"SHUTDOWN\"",
            "\"-1\"",
            "true",
            "[1]",
            "{}",
            "[\"HINT_FLAG_FULL\"]",
        ];
        for value in values {
            let error = read(value).unwrap_err();
            assert_eq!(error.path, "hintFlags", "{value}");
            assert!(error.message.contains("from 0 to 31"), "{value}: {error}");
        }
    }

    #[test]
    fn a_key_of_a_map_with_that_name_is_only_a_key() {
        let document = r#"{"perPlayerConnectionDetails":{"hintFlags":"1","hint_flags":"x"}}"#;
        let request: MatchReadyRequest = decode(document).unwrap();
        assert_eq!(request.per_player_connection_details["hintFlags"], "1");
        assert_eq!(request.hint_flags, 0);
        assert_eq!(encode(&request), document);
    }
}

#[test]
fn null_is_the_default_of_every_kind_of_field() {
    let same = |with_nulls: RequestMatchResponse| assert_eq!(with_nulls, RequestMatchResponse::default());
    same(decode(r#"{"match":null,"hintFlags":null}"#).unwrap());

    let game: Match =
        decode(r#"{"matchId":null,"playerIds":null,"matchProperties":null,"playerProperties":null}"#)
            .unwrap();
    assert_eq!(game, Match::default());

    let accounts: AccountsEvent =
        decode(r#"{"type":null,"isNewAccount":null,"newPlatformType":null,"platforms":null}"#).unwrap();
    assert_eq!(accounts, AccountsEvent::default());

    let settings: AdminXReconfigureMatchBrokerRequest =
        decode(r#"{"fastSchedule":null,"delayAllocationSeconds":0}"#).unwrap();
    assert_eq!((settings.fast_schedule, settings.delay_allocation_seconds), (None, Some(0)));

    let value: PartyEventValue =
        decode(r#"{"intValue":null,"stringValue":null,"playerValue":null}"#).unwrap();
    assert_eq!(value.value, None);
    let event: Event = decode(r#"{"anyEvent":null,"emptyEvent":{}}"#).unwrap();
    assert!(event.payload.is_some());
}

#[test]
fn null_is_no_element_no_entry_and_no_document() {
    assert_eq!(refusal::<Match>(r#"{"playerIds":["a",null]}"#).path, "playerIds[1]");
    assert_eq!(refusal::<Match>(r#"{"playerProperties":{"a":null}}"#).path, r#"playerProperties["a"]"#);
    assert_eq!(refusal::<PartyUpdateEvent>(r#"{"eventPayload":{"a":null}}"#).path, r#"eventPayload["a"]"#);
    assert_eq!(refusal::<AccountsEvent>(r#"{"platforms":[null]}"#).path, "platforms[0]");
    assert_eq!(refusal::<Match>("null").path, "");
}

#[test]
fn sixty_four_bit_integers_are_strings_out_and_either_in() {
    let int = |value: &str| {
        decode::<EntityMetadata>(&format!("{{\"intPayload\":{value}}}")).map(|data| data.int_payload)
    };
    assert_eq!(int("9007199254740993"), Ok(Some(9_007_199_254_740_993)));
    assert_eq!(int("\"-9223372036854775808\""), Ok(Some(i64::MIN)));
    assert_eq!(int("3.0"), Ok(Some(3)));
    assert_eq!(int("5e2"), Ok(Some(500)));
    assert_eq!(int("null"), Ok(None));
    for wrong in ["1.5", "\"1.5\"", "\"\"", "true", "[]", "9223372036854775808", "1e300"] {
        assert_eq!(int(wrong).unwrap_err().path, "intPayload", "{wrong}");
    }
    let data = EntityMetadata { int_payload: Some(0), ..EntityMetadata::default() };
    assert_eq!(encode(&data), r#"{"intPayload":"0"}"#);
}

#[test]
fn unknown_fields_are_ignored_however_they_look() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let request: RequestMatchRequest =
        decode(&format!(r#"{{"future":{deep},"serverId":"s","other":{{"match":null}}}}"#)).unwrap();
    assert_eq!(request.server_id, "s");
}

#[test]
fn unknown_enum_values_are_refused_by_field() {
    let state = |value: &str| refusal::<AdminDeallocateServerResponse>(&format!("{{\"state\":{value}}}"));
    for wrong in ["\"FULL\"", "\"server_state_full\"", "7", "-1", "1.5", "true", "[]", "{}", "99999999999"] {
        let error = state(wrong);
        assert_eq!(error.path, "state", "{wrong}");
        assert!(error.message.contains("SERVER_STATE_FULL"), "{wrong}: {error}");
        assert!(!error.message.contains("expected expected"), "{error}");
    }
    let accounts = refusal::<AccountsEvent>(r#"{"platforms":["PLATFORM_STEAM","STEAM"]}"#);
    assert_eq!(accounts.path, "platforms[1]");
}

#[test]
fn an_enum_number_without_a_name_cannot_be_written() {
    let message = AdminDeallocateServerResponse { state: 42, ..AdminDeallocateServerResponse::default() };
    assert!(wire_json::encode(&message).unwrap_err().to_string().contains("42"));
    assert_eq!(ServerState::try_from(3), Ok(ServerState::Full));
    assert_eq!(Platform::Custom as i32, 99);
}

#[test]
fn errors_name_the_field() {
    let request = r#"{"match":{"matchId":"m","playerIds":[7]}}"#;
    let error = refusal::<RequestMatchResponse>(request);
    assert_eq!(error.path, "match.playerIds[0]");
    assert!(error.message.contains("expected a string"), "{error}");
    assert!(error.to_string().starts_with("match.playerIds[0]: "), "{error}");

    let table = [
        (r#"{"match":[]}"#, "match"),
        (r#"{"match":"m"}"#, "match"),
        (r#"{"match":{"match_id":{}}}"#, "match.match_id"),
        (r#"{"match":{"playerProperties":{"p 1":5}}}"#, r#"match.playerProperties["p 1"]"#),
        (r#"{"match":{"playerProperties":[]}}"#, "match.playerProperties"),
        (r#"{"match":{"playerIds":{}}}"#, "match.playerIds"),
        (r#"{"match":{"playerIds":"p"}}"#, "match.playerIds"),
    ];
    for (document, path) in table {
        assert_eq!(refusal::<RequestMatchResponse>(document).path, path, "{document}");
    }
    let number = refusal::<AdminXReconfigureMatchBrokerRequest>(r#"{"fastSchedule":[]}"#);
    assert!(number.message.starts_with("must be a number"), "{number}");
    let twice = refusal::<Match>(r#"{"matchId":"a","match_id":"b"}"#);
    assert!(twice.message.contains("duplicate field `matchId`"), "{twice}");
    let both = refusal::<PartyEventValue>(r#"{"intValue":1,"boolValue":true}"#);
    assert!(both.message.contains("boolValue"), "{both}");
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    for document in
        ["", "{", "{\"matchId\":\"a\"} x", "[]", "{\"matchId\":\"\\ud800\"}", "{'matchId':1}", "{} {}"]
    {
        assert!(!refusal::<Match>(document).message.is_empty(), "{document}");
    }
    let broken_text = wire_json::decode::<Match>(b"{\"matchId\":\"\xff\"}").unwrap_err();
    assert_eq!(broken_text.path, "matchId");
    let error = refusal::<Match>("{\"matchId\":\"a\",\n}");
    assert!(error.message.contains("line 2 column 1"), "{error}");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let open = "[".repeat(10_000);
    for field in ["playerIds", "matchId", "playerProperties"] {
        assert_eq!(refusal::<Match>(&format!("{{\"{field}\":{open}")).path.split('[').next(), Some(field));
    }
    let objects = "{\"a\":".repeat(10_000);
    let error = refusal::<Event>(&format!("{{\"anyEvent\":{{\"@type\":\"x/y\",\"value\":{objects}"));
    assert!(error.path.starts_with("anyEvent"), "{error}");
    assert!(error.message.contains("recursion limit"), "{error}");
}

#[test]
fn documents_and_errors_have_limits() {
    let text = "x".repeat(MAX_DOCUMENT_BYTES);
    let error = refusal::<Match>(&format!("{{\"matchId\":\"{text}\"}}"));
    assert!(error.message.contains("at most 4194304"), "{error}");

    let long = "ü".repeat(5_000);
    let error = refusal::<AccountsEvent>(&format!("{{\"type\":\"{long}\"}}"));
    assert!(error.message.len() <= MAX_MESSAGE_BYTES && error.message.ends_with('…'), "{error}");
    let error = refusal::<Match>(&format!("{{\"playerProperties\":{{\"{long}\":1}}}}"));
    assert!(error.path.len() <= MAX_PATH_BYTES && error.path.ends_with('…'), "{error}");
}

#[test]
fn a_set_default_in_a_oneof_is_kept() {
    let value = PartyEventValue { value: Some(party_event_value::Value::BoolValue(false)) };
    assert_eq!(encode(&value), r#"{"boolValue":false}"#);
    assert_eq!(decode::<PartyEventValue>(r#"{"boolValue":false}"#).unwrap(), value);
}

proptest! {
    #[test]
    fn any_match_survives_json(
        match_id in any::<String>(),
        player_ids in prop::collection::vec(any::<String>(), 0..4),
        match_properties in any::<String>(),
        player_properties in prop::collection::btree_map(any::<String>(), any::<String>(), 0..4),
        hint_flags in 0_u32..32,
    ) {
        let game = Match { match_id, player_ids, match_properties, player_properties };
        let message = RequestMatchResponse { r#match: Some(game), hint_flags, matches: Vec::new() };
        prop_assert_eq!(&decode::<RequestMatchResponse>(&encode(&message)).unwrap(), &message);
        prop_assert_eq!(&RequestMatchResponse::decode(message.encode_to_vec().as_slice()).unwrap(), &message);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = wire_json::decode::<Event>(&bytes);
    }

    #[test]
    fn a_broken_document_is_read_or_refused(at in 0_usize..120, byte in any::<u8>()) {
        let mut document = json!({"eventId": "e", "anyEvent": {"@type": "x/catena.match_broker.Match", "playerIds": ["p"]},
            "recipientId": null}).to_string().into_bytes();
        let length = document.len();
        document[at % length] = byte;
        let _ = wire_json::decode::<Event>(&document);
    }
}
