//! The OpenAPI 3.1 description of everything that is served on the port, generated from the code.
//!
//! The table of rules lists the routes and who may call them. The Catena routes are described from the descriptors of
//! their messages, Sortie's own by [`Operation`]s, which take their schemas from the types that are read and written. A
//! route without a description fails a test.

mod catena;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use sortie_openapi::{Description, KEY_SCHEMES, Operation, Schemas, references};
use sortie_wire::schema::{self, Described};

use crate::auth::Permission;
use crate::codes;
use crate::native;
use crate::rules::{Access, RULES, Rule};

/// How a request may send a player token.
const PLAYER_SCHEMES: [&str; 2] = ["player", "session"];

const ABOUT: &str = "Sortie brings players and dedicated game servers together. Everything is on one port: Catena's \
    contract under `/api/v1` (and the same over gRPC), Sortie's own API under `/v1`, the players' door under \
    `/matchmaker`.";

/// The whole document. `others` describe other routes on the same port.
pub(crate) fn document(others: &[Description]) -> Value {
    let info = json!({
        "title": "Sortie",
        "version": env!("CARGO_PKG_VERSION"),
        "description": format!("{ABOUT}\n\n{}", errors()),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    others.iter().cloned().fold(description(), Description::merge).document(&info)
}

/// The routes of this crate.
fn description() -> Description {
    let described = schema::described();
    let mut schemas = Schemas::default();
    let natives = native::operations(&mut schemas);
    let mut operations = Vec::new();
    for rule in RULES {
        for (route, is_first) in rule.http.iter().zip(std::iter::once(true).chain(std::iter::repeat(false))) {
            let catena = rule.grpc.first().and_then(|name| described.methods.get(*name));
            let operation = match catena {
                Some(called) => Some(catena::operation(&described, called, route, is_first)),
                None => natives.iter().find(|one| one.route() == *route).cloned(),
            };
            operations.extend(operation.map(|operation| complete(operation, rule)));
        }
    }
    let ours = tags(Description::default()).operations(operations).types(schemas);
    let messages = reachable(&described, ours.paths());
    security_schemes(ours.schemas(messages).schemas([("Error".to_owned(), native_error())]))
}

/// Adds what follows from the rule and the path: who may call, parameters in the path, the error format.
fn complete(operation: Operation, rule: &Rule) -> Operation {
    let (permissions, players) = match rule.access {
        Access::Anybody => (&[][..], false),
        Access::Holders(permissions) => (permissions, false),
        Access::HoldersAndPlayers(permissions) => (permissions, true),
    };
    let who = match rule.access {
        Access::Anybody => "Needs no credentials.".to_owned(),
        Access::Holders(_) => format!("Needs {}.", a_key(permissions)),
        Access::HoldersAndPlayers(_) => format!("Needs {}, or a player token.", a_key(permissions)),
    };
    // One way for each sufficient permission, and for each way to send a key.
    let keys = permissions.iter().flat_map(|one| KEY_SCHEMES.map(|scheme| (scheme, Some(one.name()))));
    let players = PLAYER_SCHEMES.into_iter().filter(|_| players).map(|scheme| (scheme, None));
    let error = if operation.path().starts_with("/api/") { "google.rpc.Status" } else { "Error" };
    let id = json!({"type": "string", "minLength": 1, "maxLength": sortie_domain::ids::MAX_ID_BYTES});
    let names: Vec<_> = operation.path_names().map(ToOwned::to_owned).collect();
    let complete = operation.text(&who).security(keys.chain(players)).error(error);
    names.iter().fold(complete, |operation, name| operation.path_parameter(name, &id))
}

fn a_key(permissions: &[Permission]) -> String {
    let names: Vec<_> = permissions.iter().map(|one| format!("`{}`", one.name())).collect();
    format!("an API key with the permission {}", names.join(" or "))
}

fn security_schemes(ours: Description) -> Description {
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
    schemes.into_iter().fold(ours, |ours, (name, scheme)| ours.security_scheme(name, scheme))
}

fn tags(ours: Description) -> Description {
    ours.tag("Matches", "Matches, in Sortie's own API.")
        .tag("Seats", "Places of players in matches, for drop-in play.")
        .tag("Tickets", "Players who look for a match, and the queues where they wait.")
        .tag("Servers and fleets", "Running game servers, and the fleets that start them.")
        .tag("Events", "Every decision, as it is made.")
        .tag("CatenaServerManager", "Catena's contract: the calls of game servers.")
        .tag("CatenaMatchBroker", "Catena's contract: the calls of operators about the match broker.")
        .tag("CatenaMatchmaking", "Catena's contract: tickets of players who look for a match.")
        .tag("CatenaEvents", "Catena's contract: events for players and from their backends.")
        .tag("Health", "For probes.")
        .tag("Description", "This document, and the page that shows it.")
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
}
