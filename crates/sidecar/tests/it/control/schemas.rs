//! Checks answers against the published contract.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::{Value, json};

static PUBLISHED: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let read = |name: &str| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../contract/catena").join(name);
        let mut document = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        close(&mut document);
        document
    };
    vec![read("sidecar-servermanager.swagger.json"), read("sidecar-hub.swagger.json")]
});

/// The published schemas allow additional fields; ours have only the listed ones.
fn close(document: &mut Value) {
    match document {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object)
                && !fields.contains_key("additionalProperties")
            {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Checks an answer to `method path` against its published schema.
pub(super) fn check_answer(method: &str, path: &str, status: u16, answer: &Value) {
    let (document, operation) = operation(method, path);
    let outcome = if status == 200 { "200" } else { "default" };
    let schema = &operation["responses"][outcome]["schema"];
    assert!(schema.is_object(), "nothing is published for {method} {path} {status}");
    let schema = json!({"allOf": [schema], "definitions": document["definitions"]});
    let validator = jsonschema::draft4::new(&schema).unwrap();
    validator
        .validate(answer)
        .unwrap_or_else(|error| panic!("{method} {path} {status}: {error} in {answer}"));
}

fn operation(method: &str, path: &str) -> (&'static Value, &'static Value) {
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(path).all(|(wanted, part)| wanted.starts_with('{') || *wanted == part)
    };
    let found = PUBLISHED.iter().find_map(|document| {
        let mut paths = document["paths"].as_object().unwrap().iter();
        let item =
            paths.find(|(pattern, item)| fits(pattern) && item.get(method.to_lowercase()).is_some())?;
        Some((document, &item.1[method.to_lowercase()]))
    });
    found.unwrap_or_else(|| panic!("{method} {path} is not published"))
}

#[test]
fn the_check_detects_unpublished_fields() {
    let check = |answer: Value| {
        std::panic::catch_unwind(move || check_answer("DELETE", "/api/v1/servers/x", 200, &answer)).is_ok()
    };
    assert!(check(json!({"terminated": true, "message": ""})));
    assert!(!check(json!({"terminated": "yes"})));
    assert!(!check(json!({"isTerminated": true})));
}
