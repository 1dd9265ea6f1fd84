//! Golden documents in `contract/golden/catena`: `<name>.json` is the JSON exactly as it is sent, `<name>.hex` the
//! protobuf bytes of the same message. They were made with Google's Python implementation of both formats.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::messages;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract/golden/catena")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap().trim_end().to_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn names() -> BTreeSet<String> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// `request_match_response.none` is a `RequestMatchResponse`.
fn type_name(name: &str) -> String {
    let snake = name.split('.').next().unwrap();
    let words = snake.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect()
}

#[test]
fn json_and_protobuf_are_the_golden_ones_both_ways() {
    let types = messages::all();
    for name in names() {
        let suffix = format!(".{}", type_name(&name));
        let message = types.iter().find(|message| message.name.ends_with(&suffix)).expect(&name);
        let (json, proto) = (read(&format!("{name}.json")), read(&format!("{name}.hex")));

        let bytes = (message.json_to_proto)(json.as_bytes()).unwrap();
        assert_eq!(hex(&bytes), proto, "{name}: protobuf");
        assert_eq!(
            String::from_utf8((message.proto_to_json)(&bytes).unwrap()).unwrap(),
            json,
            "{name}: JSON"
        );
    }
}

#[test]
fn every_message_of_the_server_manager_has_a_golden_document() {
    let golden: BTreeSet<String> = names().iter().map(|name| type_name(name)).collect();
    for message in messages::all() {
        // The last two are nested in others.
        let Some(name) = message.name.strip_prefix("catena.catena_server_manager.") else { continue };
        if !["ServerInfo", "ServerMatchInfo"].contains(&name) {
            assert!(golden.contains(name), "{name}");
        }
    }
}

#[test]
fn a_map_entry_may_spell_out_its_default() {
    let matches = messages::all().into_iter().find(|message| message.name.ends_with(".Match")).unwrap();
    // Key "a" with an empty value: once left out, as prost writes it, once spelled out, as Google's code does.
    for bytes in [&b"\x22\x03\x0a\x01a"[..], b"\x22\x05\x0a\x01a\x12\x00"] {
        assert_eq!((matches.proto_to_json)(bytes).unwrap(), br#"{"playerProperties":{"a":""}}"#);
    }
}
