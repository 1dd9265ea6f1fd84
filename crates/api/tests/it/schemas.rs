//! Answers against the published contract.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};

pub(crate) static OPENAPI: LazyLock<Value> = LazyLock::new(|| {
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

/// Checks an answer to `method path` against its published schema.
pub(crate) fn check_answer(method: &str, path: &str, status: u16, answer: &Value) {
    let path = path.split('?').next().unwrap();
    let operation = operation(method, path);
    let outcome = if status == 200 { "200" } else { "default" };
    let schema = &operation["responses"][outcome]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "nothing is published for {method} {path} {status}");
    let schema = json!({"allOf": [schema], "components": &OPENAPI["components"]});
    let validator = jsonschema::draft4::new(&schema).unwrap();
    let mut answer = answer.clone();
    // Sortie's own addition: the matches of one answer, each of which is as published.
    if path == "/api/v1/server/request_match"
        && let Some(Value::Array(matches)) =
            answer.as_object_mut().and_then(|fields| fields.remove("matches"))
    {
        for game in matches {
            check_answer(method, path, status, &json!({ "match": game }));
        }
    }
    validator
        .validate(&answer)
        .unwrap_or_else(|error| panic!("{method} {path} {status}: {error} in {answer}"));
}

fn operation(method: &str, path: &str) -> &'static Value {
    // Listing servers also works with GET, which is not published.
    let method = if path == "/api/v1/servers" { "post" } else { &method.to_lowercase() };
    let paths = OPENAPI["paths"].as_object().unwrap();
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(path).all(|(wanted, part)| wanted.starts_with('{') || *wanted == part)
    };
    let mut known: Vec<_> =
        paths.iter().filter(|(pattern, item)| fits(pattern) && item.get(method).is_some()).collect();
    // An exact pattern takes precedence over one with a parameter.
    known.sort_by_key(|(pattern, _)| pattern.contains('{'));
    let known = known.first();
    &known.unwrap_or_else(|| panic!("{method} {path} is not published")).1[method]
}

#[test]
fn the_check_notices_what_is_not_published() {
    let wrong = std::panic::catch_unwind(|| {
        check_answer("POST", "/api/v1/server/end_match", 200, &json!({"matchID": "m"}));
    });
    assert!(wrong.is_err());
    check_answer("POST", "/api/v1/server/end_match", 200, &json!({"matchId": "m"}));
}
