//! The routes as part of an OpenAPI 3.1 document, for servers that combine them with other routes.

use serde_json::{Map, Value, json};
use sortie_serving::Schemas;

use crate::http::FAMILIES;
use crate::hub::{DispatchStats, Listing};
use crate::native::{IssuedToken, TokenRequest};

const TAG: &str = "Dispatch";
/// The driver's credential: a bearer token, or a query parameter.
const SECRET: &str = "dispatch";
const IN_QUERY: &str = "dispatchQuery";

/// `{"tags", "paths", "components": {"schemas", "securitySchemes"}}` of an OpenAPI 3.1 document. Routes under `/v1`
/// return `Error`.
#[must_use]
pub fn description() -> Value {
    let mut schemas = Schemas::default();
    let request = schemas.read::<TokenRequest>();
    let mut paths = Map::new();
    paths.insert(
        "/v1/dispatch/tokens".to_owned(),
        json!({"post": tokens(&request, &schemas.written::<IssuedToken>())}),
    );
    paths.insert("/v1/dispatch/stats".to_owned(), json!({"get": stats(&schemas.written::<DispatchStats>())}));
    for (family, id) in FAMILIES.into_iter().zip(["server", "dispatch"]) {
        family_paths(&mut paths, family, id, &schemas.written::<Listing>());
    }
    let about = "Ports on demand: a driver opens a TCP or UDP port over a websocket, and exchanges binary frames with the \
        devices that connect to it. Docs: docs/dispatch.md.";
    let secret = "The secret of drivers, or a dispatch token.";
    json!({
        "tags": [{"name": TAG, "description": about}],
        "paths": paths,
        "components": {"schemas": schemas.into_definitions(), "securitySchemes": {
            SECRET: {"type": "http", "scheme": "bearer", "description": secret},
            IN_QUERY: {"type": "apiKey", "in": "query", "name": "bearer_token", "description": secret},
        }},
    })
}

fn operation(id: &str, summary: &str, text: &str, security: &Value, responses: &Value) -> Value {
    json!({
        "tags": [TAG], "operationId": id, "summary": summary, "description": text, "security": security,
        "responses": responses,
    })
}

fn answer(text: &str, schema: &Value) -> Value {
    json!({"description": text, "content": {"application/json": {"schema": schema}}})
}

/// Security of the routes that are not about one port.
fn operators() -> Value {
    json!([{"bearer": ["admin"]}, {"key": ["admin"]}, {SECRET: []}, {IN_QUERY: []}])
}

fn native_error() -> Value {
    answer("An error; see the table of codes", &json!({"$ref": "#/components/schemas/Error"}))
}

/// The error shape of the contract's paths.
fn plain_error() -> Value {
    let schema = json!({
        "type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"],
        "additionalProperties": false,
    });
    answer("What was wrong, and what is valid", &schema)
}

fn tokens(request: &Value, token: &Value) -> Value {
    let text = "A short-lived token for some ports and devices, to be handed to a driver. Needs an API key with the \
        permission `admin`, or the secret of drivers.";
    let responses = json!({"201": answer("The token", token), "default": native_error()});
    let mut tokens =
        operation("issueDispatchToken", "Create a dispatch token", text, &operators(), &responses);
    let example =
        json!({"ports": [7777], "accept": ["0.0.0.0/0", "::/0"], "protocol": "udp", "expires_in": "2h"});
    tokens["requestBody"] =
        json!({"required": true, "content": {"application/json": {"schema": request, "example": example}}});
    tokens
}

fn stats(stats: &Value) -> Value {
    let text = "Traffic in total and per port and driver. Needs an API key with the permission `admin`, or \
        the secret of drivers.";
    let responses = json!({"200": answer("The statistics", stats), "default": native_error()});
    operation("dispatchStats", "Show the dispatcher's traffic", text, &operators(), &responses)
}

fn family_paths(paths: &mut Map<String, Value>, family: &str, id: &str, listing: &Value) {
    let get = |operation: Value| json!({"get": operation});
    let (open, text) = (json!([]), "Needs no credentials.");
    let status = json!({"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]});
    let texts = |names: &[&str]| -> Map<String, Value> {
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect()
    };
    let version = json!({
        "type": "object",
        "properties": texts(&["service", "version", "commit", "build_time", "platform_version"]),
        "required": ["service", "version", "commit", "build_time"],
    });
    let of = |schema: &Value| json!({"200": answer("It is", schema)});
    let listed = json!({"200": answer("Drivers and devices of each port", listing), "401": plain_error()});
    let who = "Needs the secret of drivers, or an API key with the permission `admin`.";
    paths.insert(
        family.to_owned(),
        get(operation(&format!("{id}Listing"), "Count drivers and devices", who, &operators(), &listed)),
    );
    paths.insert(
        format!("{family}/healthz"),
        get(operation(
            &format!("{id}Healthz"),
            "Check that the dispatcher is alive",
            text,
            &open,
            &of(&status),
        )),
    );
    paths.insert(
        format!("{family}/version"),
        get(operation(&format!("{id}Version"), "Show the dispatcher's version", text, &open, &of(&version))),
    );
    for protocol in ["tcp", "udp"] {
        let operation = websocket(&format!("{id}_{protocol}_dispatch"), protocol);
        paths.insert(format!("{family}/{protocol}_dispatch"), get(operation));
    }
}

fn websocket(id: &str, protocol: &str) -> Value {
    let text = "A websocket. The port is open while the websocket is. Needs the secret of drivers, or a dispatch token for the port \
        and the devices.";
    let mut responses = Map::new();
    responses
        .insert("101".to_owned(), json!({"description": "The websocket: binary frames, one message each"}));
    for status in [400, 401, 403, 409, 422, 426, 503] {
        responses.insert(status.to_string(), plain_error());
    }
    let mut websocket = operation(
        id,
        &format!("Open a {} port", protocol.to_uppercase()),
        text,
        &json!([{SECRET: []}, {IN_QUERY: []}]),
        &Value::Object(responses),
    );
    let parameter = |name: &str, schema: Value, text: &str| json!({"name": name, "in": "query", "required": true, "schema": schema, "description": text});
    websocket["parameters"] = json!([
        parameter(
            "port",
            json!({"type": "integer", "minimum": 1, "maximum": 65535}),
            "The port that devices connect to."
        ),
        parameter(
            "accept",
            json!({"type": "string", "example": "10.0.0.0/8,192.0.2.7"}),
            "Addresses and ranges of devices, separated by commas.",
        ),
    ]);
    websocket
}
