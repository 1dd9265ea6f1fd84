//! `Any` as JSON and as protobuf.

use prost::Message as _;
use serde_json::{Value, json};
use sortie_wire::any::Any;
use sortie_wire::catena::events::{EmptyEvent, Event, PartyUpdateEvent, event::Payload};
use sortie_wire::catena::server_manager::{EndMatchRequest, Match, MatchReadyRequest};
use sortie_wire::json::{self as wire_json};

fn event(any: Any) -> Event {
    Event { payload: Some(Payload::AnyEvent(any)), ..Event::default() }
}

fn to_json(event: &Event) -> Value {
    serde_json::from_slice(&wire_json::encode(event).unwrap()).unwrap()
}

#[test]
fn it_is_the_well_known_any_on_the_wire() {
    let ours = Any::pack(&EmptyEvent {});
    let theirs = prost_types::Any { type_url: ours.type_url.clone(), value: ours.value.clone() };
    assert_eq!(ours.type_url, "type.googleapis.com/catena.events.EmptyEvent");
    assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
}

#[test]
fn a_known_type_is_shown_by_its_fields() {
    let request = EndMatchRequest { server_id: "s".into(), hint_flags: 1, ..EndMatchRequest::default() };
    let any = event(Any::pack(&request));
    let shown = json!({"anyEvent": {
        "@type": "type.googleapis.com/catena.catena_server_manager.EndMatchRequest",
        "serverId": "s",
        "hintFlags": "HINT_FLAG_SHUTDOWN",
    }});
    assert_eq!(to_json(&any), shown);
    assert_eq!(wire_json::decode::<Event>(shown.to_string().as_bytes()).unwrap(), any);
    let Some(Payload::AnyEvent(inner)) = any.payload else { panic!("no Any") };
    assert_eq!(inner.unpack::<EndMatchRequest>(), Some(request));
    assert_eq!(inner.unpack::<Match>(), None);
}

#[test]
fn canonical_json_holds_inside_too() {
    let document = br#"{"anyEvent":{"server_id":null,"perPlayerConnectionDetails":{"p":"x"},"hintFlags":3,
        "@type":"type.googleapis.com/catena.catena_server_manager.MatchReadyRequest","unknown":[null]}}"#;
    let any: Event = wire_json::decode(document).unwrap();
    let details = [("p".to_owned(), "x".to_owned())].into();
    let request = MatchReadyRequest {
        hint_flags: 3,
        per_player_connection_details: details,
        ..MatchReadyRequest::default()
    };
    assert_eq!(any, event(Any::pack(&request)));
}

#[test]
fn other_types_keep_their_bytes() {
    let game = event(Any { type_url: "type.googleapis.com/a.game.Thing".into(), value: vec![8, 1] });
    let shown = json!({"anyEvent": {"@type": "type.googleapis.com/a.game.Thing", "value": "CAE="}});
    assert_eq!(to_json(&game), shown);
    assert_eq!(wire_json::decode::<Event>(shown.to_string().as_bytes()).unwrap(), game);

    let empty = event(Any { type_url: "x/a.game.Thing".into(), value: Vec::new() });
    let document = json!({"anyEvent": {"@type": "x/a.game.Thing"}}).to_string();
    assert_eq!(wire_json::decode::<Event>(document.as_bytes()).unwrap(), empty);
}

#[test]
fn broken_bytes_of_a_known_type_are_still_passed_on() {
    let broken = Any { value: vec![0xff], ..Any::pack(&Match::default()) };
    let shown = to_json(&event(broken));
    assert_eq!(shown["anyEvent"]["value"], "/w==");
}

#[test]
fn one_inside_the_other_many_times_does_not_exhaust_the_stack() {
    let mut inner = event(Any::pack(&PartyUpdateEvent::default()));
    for _ in 0..300 {
        inner = event(Any::pack(&inner));
    }
    let shown = to_json(&inner);
    assert!(shown["anyEvent"]["value"].is_string(), "an Event contains an Any, so it stays opaque");
}

#[test]
fn errors_say_what_an_any_needs() {
    let refusal = |any: Value| {
        let document = json!({"nestedEvent": {"anyEvent": any}}).to_string();
        let error =
            wire_json::decode::<sortie_wire::catena::events::EmitUpdateEventRequest>(document.as_bytes());
        error.unwrap_err()
    };
    for (any, words) in [
        (json!({}), "\"@type\""),
        (json!({"@type": 7}), "\"@type\""),
        (json!({"@type": "x/a.game.Thing", "field": 1}), "base64"),
        (json!({"@type": "x/a.game.Thing", "value": "!"}), "base64"),
        (json!({"@type": "x/catena.match_broker.Match", "playerIds": [1]}), "playerIds[0]: "),
    ] {
        let error = refusal(any);
        assert_eq!(error.path, "nestedEvent.anyEvent");
        assert!(error.message.contains(words), "{error}");
    }
    assert!(wire_json::encode(&event(Any::default())).is_err());
}
