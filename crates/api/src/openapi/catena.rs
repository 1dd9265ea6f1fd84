//! The Catena routes, described from the descriptors of their messages.

use serde_json::{Value, json};
use sortie_openapi::{Operation, PLACE};
use sortie_wire::schema::{Described, Method};

/// Routes whose whole request is in the query, although their method allows a body.
const BY_QUERY: [&str; 1] = ["POST /api/v1/matchbroker/admin/reconfigure"];

/// The service whose name collides with one of Sortie's own.
const EVENTS: &str = "catena.events.Events";

/// Calls of a player, who is named in a header.
const SESSION: [(&str, &str); 4] = [
    (EVENTS, "SubscribeToEvents"),
    (MATCHMAKING, "StartMatchmaking"),
    (MATCHMAKING, "CancelMatchmaking"),
    (MATCHMAKING, "GetMatchmakingStatus"),
];

/// The matchmaking service.
const MATCHMAKING: &str = "catena.catena_matchmaking.CatenaMatchmaking";

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("../../../../contract/golden/catena/", $name, ".json"))
    };
}

/// Bodies by the message's full name: the golden documents of the contract.
const EXAMPLES: [(&str, &str); 5] = [
    ("catena.catena_server_manager.RequestMatchRequest", golden!("request_match_request")),
    ("catena.catena_server_manager.MatchReadyRequest", golden!("match_ready_request")),
    ("catena.catena_server_manager.EndMatchRequest", golden!("end_match_request")),
    ("catena.catena_server_manager.AdminAllocateServerRequest", golden!("admin_allocate_server_request")),
    ("catena.catena_server_manager.AdminDeallocateServerRequest", golden!("admin_deallocate_server_request")),
];

/// The description of `route`, which calls `called`. An operation with several routes is named after the first.
pub(super) fn operation(described: &Described, called: &Method, route: &str, is_first: bool) -> Operation {
    let method = route.split_once(' ').unwrap_or_default().0;
    let mut id = format!("{}_{}", called.service, called.name);
    if !is_first {
        id = format!("{id}_{method}");
    }
    let tag = match called.service.rsplit('.').next() {
        _ if called.service == EVENTS => "CatenaEvents",
        last => last.unwrap_or_default(),
    };
    let grpc = format!("Over gRPC: `{}/{}`.", called.service, called.name);
    let text = if called.comment.is_empty() { grpc } else { format!("{} {grpc}", called.comment) };
    let many = if called.streams {
        "Success: one of these per line, as long as the stream is open"
    } else {
        "Success"
    };
    let operation = Operation::new(route, tag, &id, &called.name).text(&text).media(
        200,
        many,
        "application/json",
        &media(&called.output),
    );
    let names: Vec<_> = operation.path_names().map(ToOwned::to_owned).collect();
    let (in_path, in_query) = fields(described, called, &names);
    let by_query = method != "POST" || BY_QUERY.contains(&route);
    let parameters =
        in_path.into_iter().chain(in_query.into_iter().filter(|_| by_query)).chain(session(called));
    let operation = parameters.fold(operation, Operation::parameter);
    if by_query { operation } else { operation.body_media(false, &media(&called.input)) }
}

fn media(message: &str) -> Value {
    let mut media = json!({"schema": {"$ref": format!("{PLACE}{message}")}});
    let example = EXAMPLES.iter().find(|(name, _)| *name == message);
    if let Some(example) = example.and_then(|(_, text)| serde_json::from_str::<Value>(text).ok()) {
        media["example"] = example;
    }
    media
}

/// The request's fields as parameters: those in the path, and the others.
fn fields(described: &Described, called: &Method, path: &[String]) -> (Vec<Value>, Vec<Value>) {
    let request = described.schemas.get(&called.input);
    let fields = request.and_then(|schema| schema["properties"].as_object()).into_iter().flatten();
    let is_in_path = |name: &String| path.contains(name);
    let parameter = |name: &String, schema: &Value| {
        let place = if is_in_path(name) { "path" } else { "query" };
        json!({"name": name, "in": place, "required": is_in_path(name), "schema": schema})
    };
    let (in_path, in_query): (Vec<_>, Vec<_>) = fields.partition(|(name, _)| is_in_path(name));
    let all = |list: Vec<(&String, &Value)>| {
        list.into_iter().map(|(name, schema)| parameter(name, schema)).collect()
    };
    (all(in_path), all(in_query))
}

/// The player header of players' calls, and the header that resumes a stream.
fn session(called: &Method) -> Vec<Value> {
    let is_of_player = SESSION.contains(&(called.service.as_str(), called.name.as_str()));
    let player = is_of_player.then(|| {
        json!({
            "name": "catena-session-id", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "The player: a player token, or together with an API key the player id in plain text. \
                Optional if `authorization` has a player token. Older clients send `session-id`.",
        })
    });
    let resumes = is_of_player && called.streams;
    let resumed = resumes.then(|| {
        json!({
            "name": "last-event-id", "in": "header", "required": false, "schema": {"type": "string"},
            "description": "Resumes after the event with this `eventId`, instead of starting with the state of \
                tickets and matches. Clients that can't send headers use the parameter `lastEventId`.",
        })
    });
    player.into_iter().chain(resumed).collect()
}
