//! The description of the API: against the published contract, and against answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::Server;
use crate::schemas::OPENAPI as PUBLISHED;

async fn described() -> Value {
    Server::start().await.ok("GET", "/openapi.json", Value::Null).await
}

/// The schema that `node` is or refers to.
fn resolve<'a>(document: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
        None => node,
    }
}

/// Where `ours` differs from `theirs` in names: of properties, and of values.
fn differences(ours: (&Value, &Value), theirs: (&Value, &Value), path: &str, depth: u32) -> Vec<String> {
    let (mine, published) = (resolve(ours.0, ours.1), resolve(theirs.0, theirs.1));
    if depth == 0 || path.ends_with("anyEvent") || path.ends_with("hintFlags") || path.ends_with("details[]")
    {
        return Vec::new();
    }
    let names = |node: &Value, key: &str| -> BTreeSet<String> {
        match &node[key] {
            Value::Object(fields) => fields.keys().cloned().collect(),
            Value::Array(values) => values.iter().map(Value::to_string).collect(),
            _ => BTreeSet::new(),
        }
    };
    let mut found = Vec::new();
    for key in ["properties", "enum"] {
        if names(mine, key) != names(published, key) {
            found.push(format!("{path}: {key} {:?} and {:?}", names(mine, key), names(published, key)));
        }
    }
    for name in names(mine, "properties") {
        let below = (&mine["properties"][&name], &published["properties"][&name]);
        found.extend(differences(
            (ours.0, below.0),
            (theirs.0, below.1),
            &format!("{path}.{name}"),
            depth - 1,
        ));
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if mine[key].is_object() || published[key].is_object() {
            let below = format!("{path}{mark}");
            found.extend(differences((ours.0, &mine[key]), (theirs.0, &published[key]), &below, depth - 1));
        }
    }
    found
}

fn parameters(document: &Value, operation: &Value) -> BTreeSet<String> {
    let list = operation["parameters"].as_array().into_iter().flatten().map(|one| resolve(document, one));
    // The header that names the player is not published as a parameter.
    list.filter(|one| one["in"] != "header").map(|one| format!("{} {}", one["in"], one["name"])).collect()
}

#[tokio::test]
async fn the_catena_operations_are_those_that_are_published() {
    let mut ours = described().await;
    // Sortie's own fields come in addition to the published ones.
    for (message, field) in [("Request", "maxMatches"), ("Request", "waitSeconds"), ("Response", "matches")] {
        let place =
            format!("/components/schemas/catena.catena_server_manager.RequestMatch{message}/properties");
        let fields = ours.pointer_mut(&place).unwrap().as_object_mut().unwrap();
        assert!(fields.remove(field).is_some(), "{message} has no {field}");
    }
    let mut compared = 0;
    for (path, item) in PUBLISHED["paths"].as_object().unwrap() {
        for (method, theirs) in item.as_object().unwrap() {
            let mine = &ours["paths"][path][method];
            let what = format!("{method} {path}");
            assert_eq!(mine["operationId"], theirs["operationId"], "{what}");
            assert_eq!(parameters(&ours, mine), parameters(&PUBLISHED, theirs), "{what}");
            let body = "/requestBody/content/application~1json/schema";
            let answer = "/responses/200/content/application~1json/schema";
            let error = "/responses/default/content/application~1json/schema";
            for at in [body, answer, error] {
                let (mine, theirs) = (mine.pointer(at), theirs.pointer(at));
                assert_eq!(mine.is_some(), theirs.is_some(), "{what} {at}");
                let (Some(mine), Some(theirs)) = (mine, theirs) else { continue };
                let found = differences((&ours, mine), (&PUBLISHED, theirs), "", 12);
                assert!(found.is_empty(), "{what} {at}: {found:#?}");
            }
            compared += 1;
        }
    }
    assert!(compared >= 29, "only {compared} operations were compared");
}

#[tokio::test]
async fn the_comparison_notices_a_difference() {
    let ours = json!({"type": "object", "properties": {"matchId": {"type": "string"}}});
    let theirs = json!({"type": "object", "properties": {"matchID": {"type": "string"}}});
    assert_eq!(differences((&ours, &ours), (&theirs, &theirs), "", 3).len(), 1);
    assert!(differences((&ours, &ours), (&ours, &ours), "", 3).is_empty());
}

#[tokio::test]
async fn every_named_example_fits_its_schema() {
    let ours = described().await;
    let mut checked = 0;
    for (path, item) in ours["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let media = &operation["requestBody"]["content"]["application/json"];
            if media["example"].is_null() {
                continue;
            }
            let schema = json!({"allOf": [media["schema"]], "components": ours["components"]});
            let validator = jsonschema::draft202012::new(&schema).unwrap();
            validator.validate(&media["example"]).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
            checked += 1;
        }
    }
    assert!(checked >= 8, "only {checked} examples were found");
}
