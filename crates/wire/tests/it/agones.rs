//! Golden documents in `contract/golden/agones`, made with Google's Python implementation from the `.proto` files that
//! Agones publishes: `<name>.hex` is the protobuf, `<name>.json` the JSON of its HTTP gateway.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sortie_wire::agones::{alpha, beta, sdk};
use sortie_wire::json;

/// Messages in both forms.
const MESSAGES: [&str; 11] = [
    "add_list_value_request",
    "bool",
    "count",
    "counter",
    "duration",
    "game_server",
    "game_server.empty",
    "key_value",
    "list",
    "player_id",
    "player_id_list",
];
/// Messages as protobuf alone.
const REQUESTS: [&str; 2] = ["update_counter_request", "update_list_request"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract/golden/agones")
}

fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap().trim_end().to_owned()
}

fn bytes(name: &str) -> Vec<u8> {
    let text = read(&format!("{name}.hex"));
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Both forms, both directions. The order of JSON fields does not matter.
fn check<T: Message + Default + PartialEq + Debug + Serialize + DeserializeOwned>(name: &str) {
    let message = T::decode(&*bytes(name)).unwrap();
    let golden = read(&format!("{name}.json"));
    let written: Value = serde_json::from_slice(&json::encode(&message).unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(&golden).unwrap(), "{name}");
    let from_json: T = json::decode(golden.as_bytes()).unwrap();
    assert_eq!(from_json, message, "{name}");
    assert_eq!(from_json.encode_to_vec(), bytes(name), "{name}");
}

#[test]
fn messages_are_those_that_agones_publishes() {
    for name in MESSAGES {
        match name {
            "add_list_value_request" => check::<beta::AddListValueRequest>(name),
            "bool" => check::<alpha::Bool>(name),
            "count" => check::<alpha::Count>(name),
            "counter" => check::<beta::Counter>(name),
            "duration" => check::<sdk::Duration>(name),
            "game_server" | "game_server.empty" => check::<sdk::GameServer>(name),
            "key_value" => check::<sdk::KeyValue>(name),
            "list" => check::<beta::List>(name),
            "player_id" => check::<alpha::PlayerId>(name),
            "player_id_list" => check::<alpha::PlayerIdList>(name),
            other => panic!("{other} is not checked"),
        }
    }
}

#[test]
fn no_golden_document_is_left_out() {
    let entries = fs::read_dir(folder()).unwrap();
    let found: BTreeSet<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let both = MESSAGES.iter().flat_map(|name| [format!("{name}.hex"), format!("{name}.json")]);
    let wanted: BTreeSet<_> = both.chain(REQUESTS.map(|name| format!("{name}.hex"))).collect();
    assert_eq!(found, wanted);
}

#[test]
fn requests_without_json_are_those_that_agones_publishes() {
    let change = beta::CounterUpdateRequest {
        name: "rooms".to_owned(),
        count: Some(0),
        capacity: Some(9),
        count_diff: -2,
    };
    let request = beta::UpdateCounterRequest { counter_update_request: Some(change) };
    assert_eq!(request.encode_to_vec(), bytes(REQUESTS[0]));
    let list = beta::List { name: "teams".to_owned(), capacity: 3, values: vec!["red".to_owned()] };
    let paths = ["capacity", "values"].map(str::to_owned).to_vec();
    let request =
        beta::UpdateListRequest { list: Some(list), update_mask: Some(prost_types::FieldMask { paths }) };
    assert_eq!(request.encode_to_vec(), bytes(REQUESTS[1]));
}
