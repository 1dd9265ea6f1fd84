//! The OpenAPI 3.1 description of everything that is served on the port, generated from the code.
//!
//! The table of rules lists the routes and who may call them. The Catena routes are described from the descriptors of
//! their messages, Sortie's own by [`Operation`]s, which take their schemas from the types that are read and written. A
//! route without a description fails a test.

mod catena;
mod operation;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sortie_serving::Schemas;
use sortie_wire::schema::{self, Described, PLACE};

pub(crate) use operation::Operation;

use crate::auth::Permission;
use crate::codes;
use crate::native;
use crate::rules::{Access, RULES, Rule};

/// How a request may send its key: the names of the security schemes.
const SCHEMES: [&str; 2] = ["bearer", "key"];
/// How a request may send a player token.
const PLAYER_SCHEMES: [&str; 2] = ["player", "session"];

const ABOUT: &str = "Sortie brings players and dedicated game servers together. Everything is on one port: Catena's \
    contract under `/api/v1` (and the same over gRPC), Sortie's own API under `/v1`, the players' door under \
    `/matchmaker`.";

/// The whole document. `others` are parts (`tags`, `paths`, `components.schemas` and `.securitySchemes`) that describe
/// other routes on the same port.
pub(crate) fn document(others: &[Value]) -> Value {
    let described = schema::described();
    let mut schemas = Schemas::default();
    let natives = native::operations(&mut schemas);
    let mut paths = Map::new();
    for rule in RULES {
        for (route, is_first) in rule.http.iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
            let Some((method, path)) = route.split_once(' ') else { continue };
            let catena = rule.grpc.first().and_then(|name| described.methods.get(*name));
            let operation = match catena {
                Some(called) => Some(catena::operation(&described, called, route, is_first)),
                None => natives.iter().find(|one| one.route() == *route).map(|one| one.document().clone()),
            };
            let Some(mut operation) = operation else { continue };
            complete(&mut operation, rule, path);
            insert(&mut paths, path, &method.to_lowercase(), operation);
        }
    }
    let mut all = schemas.into_definitions();
    all.extend(reachable(&described, &paths));
    all.insert("Error".to_owned(), native_error());
    let (mut tags, mut schemes) = (tags(), security_schemes());
    for part in others {
        merge(part, &mut tags, &mut paths, &mut all);
        for (name, scheme) in part["components"]["securitySchemes"].as_object().into_iter().flatten() {
            schemes.entry(name.clone()).or_insert_with(|| scheme.clone());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sortie",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{ABOUT}\n\n{}", errors()),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the server of this document"}],
        "tags": tags,
        "paths": paths,
        "components": {"securitySchemes": schemes, "schemas": all},
    })
}

fn insert(paths: &mut Map<String, Value>, path: &str, method: &str, operation: Value) {
    let item = paths.entry(path.to_owned()).or_insert_with(|| json!({}));
    item[method] = operation;
}

/// Adds what follows from the rule and the path: who may call, parameters in the path, the error format.
fn complete(operation: &mut Value, rule: &Rule, path: &str) {
    let (security, who) = match rule.access {
        Access::Anybody => (json!([]), "Needs no credentials.".to_owned()),
        Access::Holders(permissions) => (security(permissions), format!("Needs {}.", a_key(permissions))),
        Access::HoldersAndPlayers(permissions) => {
            let mut security = security(permissions);
            if let Some(ways) = security.as_array_mut() {
                ways.extend(PLAYER_SCHEMES.map(|scheme| json!({scheme: []})));
            }
            (security, format!("Needs {}, or a player token.", a_key(permissions)))
        }
    };
    let text = operation["description"].as_str().map(|text| format!("{text}\n\n")).unwrap_or_default();
    operation["description"] = format!("{text}{who}").into();
    operation["security"] = security;
    for name in names_in(path) {
        let mut known = operation["parameters"].as_array().into_iter().flatten();
        if !known.any(|one| one["name"] == name && one["in"] == "path") {
            let schema =
                json!({"type": "string", "minLength": 1, "maxLength": sortie_domain::ids::MAX_ID_BYTES});
            operation::add_parameter(
                operation,
                json!({"name": name, "in": "path", "required": true, "schema": schema}),
            );
        }
    }
    let error = if path.starts_with("/api/") { "google.rpc.Status" } else { "Error" };
    operation["responses"]["default"] = json!({
        "description": "An error; see the table of codes",
        "content": {"application/json": {"schema": {"$ref": format!("{PLACE}{error}")}}},
    });
}

/// The names of the parameters in a path.
fn names_in(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn a_key(permissions: &[Permission]) -> String {
    let names: Vec<_> = permissions.iter().map(|one| format!("`{}`", one.name())).collect();
    format!("an API key with the permission {}", names.join(" or "))
}

/// One requirement for each sufficient permission, and for each way to send a key.
fn security(permissions: &[Permission]) -> Value {
    let of = |one: &Permission| SCHEMES.map(|scheme| json!({scheme: [one.name()]}));
    permissions.iter().flat_map(of).collect()
}

fn security_schemes() -> Map<String, Value> {
    let about = "An API key, created by `sortie key create`. It has permissions: `game_server_match` for the calls of \
        game servers, `client` for those of players' backends, `admin` for everything. In development mode (`--dev`) \
        no key is needed.";
    let player = "A player token: a JWT as configured in `[players]`, whose subject is the player id.";
    let schemes = [
        ("bearer", json!({"type": "http", "scheme": "bearer", "description": about})),
        ("key", json!({"type": "apiKey", "in": "header", "name": "catena-api-key", "description": about})),
        ("player", json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": player})),
        (
            "session",
            json!({"type": "apiKey", "in": "header", "name": "catena-session-id", "description": player}),
        ),
    ];
    schemes.into_iter().map(|(name, scheme)| (name.to_owned(), scheme)).collect()
}

fn tags() -> Vec<Value> {
    let tag = |name: &str, text: &str| json!({"name": name, "description": text});
    vec![
        tag("Matches", "Matches, in Sortie's own API."),
        tag("Seats", "Places of players in matches, for drop-in play."),
        tag("Tickets", "Players who look for a match, and the queues where they wait."),
        tag("Servers and fleets", "Running game servers, and the fleets that start them."),
        tag("Events", "Every decision, as it is made."),
        tag("CatenaServerManager", "Catena's contract: the calls of game servers."),
        tag("CatenaMatchBroker", "Catena's contract: the calls of operators about the match broker."),
        tag("CatenaMatchmaking", "Catena's contract: tickets of players who look for a match."),
        tag("CatenaEvents", "Catena's contract: events for players and from their backends."),
        tag("Health", "For probes."),
        tag("Description", "This document, and the page that shows it."),
    ]
}

/// The table of codes from the contract.
fn errors() -> String {
    include_str!("../../../../contract/errors.md").replacen("# Error codes", "## Error codes", 1)
}

fn native_error() -> Value {
    json!({
        "type": "object",
        "description": "An error of Sortie's own API.",
        "properties": {"error": {
            "type": "object",
            "properties": {
                "code": {"type": "string", "enum": codes::codes(), "description": "Stable, for programs."},
                "message": {"type": "string", "description": "What was wrong and what would be right, for people."},
                "field": {"type": "string", "description": "The wrong field, parameter or header."},
                "earliest": {"type": "integer", "minimum": 0, "description": "The oldest event that is kept."},
                "match_id": {"type": "string", "description": "The match that the player is in."},
            },
            "required": ["code", "message"],
            "additionalProperties": false,
        }},
        "required": ["error"],
        "additionalProperties": false,
    })
}

/// The schemas that `paths` refer to, and those that they refer to.
fn reachable(described: &Described, paths: &Map<String, Value>) -> Map<String, Value> {
    let mut found = BTreeSet::new();
    let mut left: Vec<String> = paths.values().flat_map(references).collect();
    let mut schemas = Map::new();
    while let Some(name) = left.pop() {
        let Some(schema) = described.schemas.get(&name) else { continue };
        if found.insert(name.clone()) {
            left.extend(references(schema));
            schemas.insert(name, schema.clone());
        }
    }
    schemas
}

fn references(node: &Value) -> Vec<String> {
    match node {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(PLACE));
            own.map(ToOwned::to_owned).into_iter().chain(fields.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Adds the parts of `other`. Existing entries stay.
fn merge(
    part: &Value,
    tags: &mut Vec<Value>,
    paths: &mut Map<String, Value>,
    schemas: &mut Map<String, Value>,
) {
    tags.extend(part["tags"].as_array().into_iter().flatten().cloned());
    for (path, item) in part["paths"].as_object().into_iter().flatten() {
        paths.entry(path.clone()).or_insert_with(|| item.clone());
    }
    for (name, schema) in part["components"]["schemas"].as_object().into_iter().flatten() {
        schemas.entry(name.clone()).or_insert_with(|| schema.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented() -> BTreeSet<String> {
        let document = document(&[]);
        let paths = document["paths"].as_object().unwrap();
        let of = |(path, item): (&String, &Value)| {
            let methods: Vec<_> =
                item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
            methods.into_iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let documented = documented();
        for route in RULES.iter().flat_map(|rule| rule.http) {
            assert!(
                documented.contains(*route),
                "{route} has no description: add an Operation for it to crates/api/src/native/descriptions.rs"
            );
        }
        let ruled = RULES.iter().map(|rule| rule.http.len()).sum::<usize>();
        assert_eq!(documented.len(), ruled, "{documented:#?}");
        for operation in native::operations(&mut Schemas::default()) {
            let is_ruled = documented.contains(operation.route());
            assert!(is_ruled, "{} is described in native/descriptions.rs and has no rule", operation.route());
        }
    }

    #[test]
    fn every_operation_can_be_told_from_every_other_and_has_a_tag_that_is_explained() {
        let document = document(&[]);
        let known: BTreeSet<_> = document["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| &tag["name"])
            .map(Value::to_string)
            .collect();
        let mut ids = BTreeSet::new();
        for operation in document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
        {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{operation:#}");
            assert!(known.contains(&operation["tags"][0].to_string()), "{operation:#}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(&[]);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for name in references(&document) {
            assert!(schemas.contains_key(&name), "{name} is missing");
        }
    }

    #[test]
    fn security_is_what_the_rules_say() {
        let document = document(&[]);
        let of = |path: &str, method: &str| document["paths"][path][method]["security"].clone();
        assert_eq!(of("/healthz", "get"), json!([]));
        assert_eq!(of("/v1/servers", "get"), json!([{"bearer": ["admin"]}, {"key": ["admin"]}]));
        let both = of("/v1/matches/{id}", "get");
        assert_eq!(both.as_array().unwrap().len(), 4, "{both}");
        let text = document["paths"]["/v1/servers"]["get"]["description"].as_str().unwrap();
        assert!(text.contains("the permission `admin`"), "{text}");
    }

    #[test]
    fn what_others_serve_is_added() {
        let other = json!({
            "tags": [{"name": "Door"}],
            "paths": {"/door": {"get": {}}, "/healthz": {"get": {"summary": "another"}}},
            "components": {"schemas": {"Key": {"type": "string"}}, "securitySchemes": {"knock": {"type": "http"}}},
        });
        let document = document(&[other]);
        assert!(document["paths"]["/door"]["get"].is_object());
        assert_ne!(document["paths"]["/healthz"]["get"]["summary"], "another");
        assert_eq!(document["components"]["schemas"]["Key"]["type"], "string");
        assert_eq!(document["components"]["securitySchemes"]["knock"]["type"], "http");
        assert!(document["tags"].as_array().unwrap().contains(&json!({"name": "Door"})));
    }
}
