//! The routes as part of an OpenAPI 3.1 document, for servers that combine them with other routes.

use serde_json::{Map, Value, json};
use sortie_openapi::{ADMIN_KEY, Description, Operation, Schemas};

use crate::http::FAMILIES;
use crate::hub::{DispatchStats, Listing};
use crate::native::{IssuedToken, TokenRequest};

const TAG: &str = "Dispatch";
/// The driver's credential: a bearer token, or a query parameter.
const SECRET: &str = "dispatch";
const IN_QUERY: &str = "dispatchQuery";
/// [`Operation::security`] of websockets.
const DRIVERS: [(&str, Option<&str>); 2] = [(SECRET, None), (IN_QUERY, None)];

/// The routes as a part of an OpenAPI document. Routes under `/v1` return `Error`.
#[must_use]
pub fn description() -> Description {
    let mut schemas = Schemas::default();
    let mut operations = vec![tokens(&mut schemas), stats(&mut schemas)];
    for (family, id) in FAMILIES.into_iter().zip(["server", "dispatch"]) {
        operations.extend(family_operations(family, id, &mut schemas));
    }
    let about = "Ports on demand: a driver opens a TCP or UDP port over a websocket, and exchanges binary frames with the \
        devices that connect to it. Docs: docs/dispatch.md.";
    let secret = "The secret of drivers, or a dispatch token.";
    let in_query = json!({"type": "apiKey", "in": "query", "name": "bearer_token", "description": secret});
    Description::default()
        .tag(TAG, about)
        .operations(operations)
        .types(schemas)
        .security_scheme(SECRET, json!({"type": "http", "scheme": "bearer", "description": secret}))
        .security_scheme(IN_QUERY, in_query)
}

fn operation(route: &str, id: &str, summary: &str, text: &str) -> Operation {
    Operation::new(route, TAG, id, summary).text(text)
}

/// Makes it a route that is not about one port.
fn for_operators(operation: Operation) -> Operation {
    operation.security(ADMIN_KEY.into_iter().chain(DRIVERS))
}

/// Adds an error in the shape of the contract's paths.
fn refused(operation: Operation, status: u16) -> Operation {
    let schema = json!({
        "type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"],
        "additionalProperties": false,
    });
    operation.content(status, "What was wrong, and what is valid", "application/json", &schema)
}

fn tokens(schemas: &mut Schemas) -> Operation {
    let text = "A short-lived token for some ports and devices, to be handed to a driver. Needs an API key with the \
        permission `admin`, or the secret of drivers.";
    let example =
        json!({"ports": [7777], "accept": ["0.0.0.0/0", "::/0"], "protocol": "udp", "expires_in": "2h"});
    let tokens = operation("POST /v1/dispatch/tokens", "issueDispatchToken", "Create a dispatch token", text)
        .body::<TokenRequest>(schemas, true, &example)
        .answer::<IssuedToken>(schemas, 201, "The token")
        .error("Error");
    for_operators(tokens)
}

fn stats(schemas: &mut Schemas) -> Operation {
    let text = "Traffic in total and per port and driver. Needs an API key with the permission `admin`, or \
        the secret of drivers.";
    let stats = operation("GET /v1/dispatch/stats", "dispatchStats", "Show the dispatcher's traffic", text)
        .answer::<DispatchStats>(schemas, 200, "The statistics")
        .error("Error");
    for_operators(stats)
}

fn family_operations(family: &str, id: &str, schemas: &mut Schemas) -> Vec<Operation> {
    let anybody = |path: &str, name: &str, summary: &str, schema: &Value| {
        operation(&format!("GET {family}/{path}"), &format!("{id}{name}"), summary, "Needs no credentials.")
            .security([])
            .content(200, "It is", "application/json", schema)
    };
    let status = json!({"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]});
    let texts = |names: &[&str]| -> Map<String, Value> {
        names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect()
    };
    let version = json!({
        "type": "object",
        "properties": texts(&["service", "version", "commit", "build_time", "platform_version"]),
        "required": ["service", "version", "commit", "build_time"],
    });
    let who = "Needs the secret of drivers, or an API key with the permission `admin`.";
    let listing =
        operation(&format!("GET {family}"), &format!("{id}Listing"), "Count drivers and devices", who)
            .answer::<Listing>(schemas, 200, "Drivers and devices of each port");
    let mut operations = vec![
        for_operators(refused(listing, 401)),
        anybody("healthz", "Healthz", "Check that the dispatcher is alive", &status),
        anybody("version", "Version", "Show the dispatcher's version", &version),
    ];
    operations.extend(["tcp", "udp"].map(|protocol| websocket(family, id, protocol)));
    operations
}

fn websocket(family: &str, id: &str, protocol: &str) -> Operation {
    let text = "A websocket. The port is open while the websocket is. Needs the secret of drivers, or a dispatch token for the port \
        and the devices.";
    let route = format!("GET {family}/{protocol}_dispatch");
    let summary = format!("Open a {} port", protocol.to_uppercase());
    let port = json!({"type": "integer", "minimum": 1, "maximum": 65535});
    let accept = json!({"type": "string", "example": "10.0.0.0/8,192.0.2.7"});
    let websocket = operation(&route, &format!("{id}_{protocol}_dispatch"), &summary, text)
        .security(DRIVERS)
        .required_query("port", &port, "The port that devices connect to.")
        .required_query("accept", &accept, "Addresses and ranges of devices, separated by commas.")
        .bare(101, "The websocket: binary frames, one message each");
    [400, 401, 403, 409, 422, 426, 503].into_iter().fold(websocket, refused)
}
