//! The published schemas against the types: every field and every enum value of every schema.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::messages;

/// The only recursive schema, and how deep samples of it go.
const RECURSIVE: (&str, usize) = ("Catena.Groups.Entity", 3);

static OPENAPI: LazyLock<Value> = LazyLock::new(|| {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract/catena/openapi.yaml");
    let mut openapi = serde_yaml_ng::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    int64_is_a_string(&mut openapi);
    openapi
});

/// The specification types 64-bit integers as JSON numbers; canonical JSON, which is really sent, writes them as
/// strings.
fn int64_is_a_string(node: &mut Value) {
    match node {
        Value::Object(fields) => {
            if fields.get("format") == Some(&json!("int64")) {
                fields.insert("type".into(), json!("string"));
            }
            fields.values_mut().for_each(int64_is_a_string);
        }
        Value::Array(items) => items.iter_mut().for_each(int64_is_a_string),
        _ => {}
    }
}

fn schemas() -> &'static Map<String, Value> {
    OPENAPI["components"]["schemas"].as_object().unwrap()
}

/// A validator of one published schema, references included.
pub(crate) fn validator(schema: &str) -> Validator {
    assert!(schemas().contains_key(schema), "no schema {schema}");
    let reference = format!("#/components/schemas/{schema}");
    jsonschema::draft4::new(&json!({"$ref": reference, "components": &OPENAPI["components"]})).unwrap()
}

fn resolve(node: &Value) -> &Value {
    match node.get("$ref").and_then(Value::as_str) {
        Some(reference) => &schemas()[reference.rsplit('/').next().unwrap()],
        None => node,
    }
}

/// Documents that fit `node` and together use each of its fields, one at a time, none with its default value.
fn samples(node: &Value) -> Vec<Value> {
    samples_within(node, RECURSIVE.1)
}

/// `deep` is how often the recursive schema may still be entered.
fn samples_within(node: &Value, deep: usize) -> Vec<Value> {
    let node = resolve(node);
    if let Some(values) = node.get("enum") {
        let names = values.as_array().unwrap().iter().filter(|value| value.is_string());
        return names.skip(1).cloned().collect();
    }
    match node["type"].as_str().unwrap() {
        "string" if node.get("format") == Some(&json!("int64")) => vec![json!("9007199254740993")],
        "string" => vec![json!("a \"text\" with ünicode")],
        "boolean" => vec![json!(true)],
        "integer" => vec![json!(-7)],
        "array" => samples_within(&node["items"], deep).into_iter().map(|item| json!([item, item])).collect(),
        "object" => objects(node, deep),
        other => panic!("type {other} in the specification"),
    }
}

fn objects(node: &Value, deep: usize) -> Vec<Value> {
    let holds_itself = std::ptr::eq(node, &schemas()[RECURSIVE.0]);
    let Some(deep) = deep.checked_sub(usize::from(holds_itself)) else { return Vec::new() };
    if std::ptr::eq(node, &schemas()["Google.Protobuf.WellKnownTypes.Any"]) {
        return vec![
            json!({"@type": "type.googleapis.com/catena.match_broker.Match", "matchId": "m"}),
            json!({"@type": "type.googleapis.com/a.game.Thing", "value": "AQI="}),
        ];
    }
    let Some(fields) = node.get("properties") else {
        return match node.get("additionalProperties") {
            Some(Value::Object(_)) => {
                let values = samples_within(&node["additionalProperties"], deep);
                values.into_iter().map(|value| json!({"a key": value, "z": value})).collect()
            }
            _ => vec![json!({})],
        };
    };
    let fields = fields.as_object().unwrap().iter();
    fields
        .flat_map(|(name, field)| {
            samples_within(field, deep).into_iter().map(move |value| json!({name.as_str(): value}))
        })
        .collect()
}

#[test]
fn every_schema_has_a_type() {
    let covered: Vec<&str> = messages::all().iter().map(|message| message.schema).collect();
    for (name, schema) in schemas() {
        let is_message = schema.get("enum").is_none();
        let is_covered = covered.contains(&name.as_str()) || name == "Google.Protobuf.WellKnownTypes.Any";
        assert!(is_covered || !is_message, "{name} has no message type");
    }
}

#[test]
fn every_field_of_every_schema_survives_json_to_protobuf_to_json() {
    for message in messages::all() {
        let validator = validator(message.schema);
        for sample in samples(&schemas()[message.schema]) {
            let out = message.json_to_json(sample.to_string().as_bytes()).unwrap();
            let out: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(out, sample, "{}", message.schema);
            validator.validate(&out).unwrap_or_else(|error| panic!("{}: {error}", message.schema));
        }
    }
}

#[test]
fn every_enum_value_is_taken_as_name_and_as_number() {
    let mut fields_seen = 0;
    for message in messages::all() {
        let Some(fields) = schemas()[message.schema].get("properties") else { continue };
        for (name, field) in fields.as_object().unwrap() {
            let Some(values) = resolve(field).get("enum").and_then(Value::as_array) else { continue };
            fields_seen += 1;
            let (names, numbers) = values.split_at(values.len() / 2);
            for (text, number) in names.iter().zip(numbers) {
                let proto = |value| (message.json_to_proto)(json!({name: value}).to_string().as_bytes());
                assert_eq!(proto(text).unwrap(), proto(number).unwrap(), "{}.{name}: {text}", message.schema);
            }
        }
    }
    assert!(fields_seen >= 12, "only {fields_seen} enum fields were found");
}

#[test]
fn fields_are_taken_in_snake_case_too() {
    for message in messages::all() {
        for sample in samples(&schemas()[message.schema]) {
            let snake: Map<String, Value> = sample
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (snake_case(name), value.clone()))
                .collect();
            let snake = (message.json_to_proto)(&serde_json::to_vec(&snake).unwrap()).unwrap();
            assert_eq!(snake, (message.json_to_proto)(sample.to_string().as_bytes()).unwrap(), "{sample}");
        }
    }
}

fn snake_case(name: &str) -> String {
    let parts = name
        .chars()
        .map(|c| if c.is_ascii_uppercase() { format!("_{}", c.to_ascii_lowercase()) } else { c.to_string() });
    parts.collect()
}

#[test]
fn defaults_are_left_out_and_nothing_is_left_over() {
    for message in messages::all() {
        assert_eq!((message.proto_to_json)(&[]).unwrap(), b"{}", "{}", message.schema);
        assert_eq!((message.json_to_proto)(b"{}").unwrap(), b"", "{}", message.schema);
    }
}

#[test]
fn the_validator_refuses_what_is_not_published() {
    let validator = validator("Catena.ServerManager.ServerInfo");
    assert!(validator.is_valid(&json!({"isFull": true})));
    assert!(!validator.is_valid(&json!({"IsFull": true})));
    assert!(!validator.is_valid(&json!({"isFull": "yes"})));
}
