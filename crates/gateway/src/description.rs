//! The routes as a part of an OpenAPI 3.1 document, to be merged with other routes.

use serde_json::{Value, json};
use sortie_serving::Schemas;

use crate::feedback::Feedback;
use crate::http::{Asked, Returning, WannaplayAnswer};
use crate::vote::VoteAnswer;

const TAG: &str = "Players";

/// `{"tags", "paths", "components": {"schemas"}}` of an OpenAPI 3.1 document.
#[must_use]
pub fn description() -> Value {
    let mut schemas = Schemas::default();
    let paths = paths(&mut schemas);
    let about = "The players' door. A player gets a seat in a match, and a connect token for its server. Where \
        `gateway.players` is `signed_in`, a player token has to be shown: as `authorization: Bearer <token>`, \
        `catena-session-id: <token>` or `token` in the query, the body or the first message.";
    json!({
        "tags": [{"name": TAG, "description": about}],
        "paths": paths,
        "components": {"schemas": schemas.into_definitions()},
    })
}

fn paths(schemas: &mut Schemas) -> Value {
    let asked = schemas.read::<Asked>();
    let (answer, feedback) = (schemas.written::<WannaplayAnswer>(), schemas.written::<Feedback>());
    let voted = schemas.written::<VoteAnswer>();
    let join = |id: &str| wannaplay(id, &answer);
    let join_with = |id: &str| with_body(join(id), &asked);
    json!({
        "/": {"get": page("page")},
        "/matchmaker": {"get": page("matchmakerPage")},
        "/wannaplay": {"get": join("wannaplayGet"), "post": join_with("wannaplay")},
        "/matchmaker/wannaplay": {
            "get": join("matchmakerWannaplayGet"), "post": join_with("matchmakerWannaplay"),
        },
        "/matchmaker/request/{game}/{version}": {"post": with_body(request(&feedback), &asked)},
        "/matchmaker/ws": {"get": websocket()},
        "/matchmaker/matches/{id}/rejoin": {"post": rejoin(&schemas.read::<Returning>(), &answer)},
        "/matchmaker/tickets/{id}/accept": {"post": vote("matchmakerAccept", "Accept a match", &asked, &voted)},
        "/matchmaker/tickets/{id}/decline": {
            "post": vote("matchmakerDecline", "Decline a match", &asked, &voted),
        },
    })
}

fn operation(id: &str, summary: &str, text: &str, responses: &Value) -> Value {
    json!({
        "tags": [TAG], "operationId": id, "summary": summary, "description": text, "security": [],
        "responses": responses,
    })
}

fn with_body(mut operation: Value, asked: &Value) -> Value {
    operation["requestBody"] = json!({
        "description": "Optional. Values in the query take precedence.",
        "content": {"application/json": {"schema": asked, "example": {"game": "arena", "version": "1"}}},
    });
    operation
}

fn page(id: &str) -> Value {
    let html = json!({"200": {
        "description": "The page", "content": {"text/html": {"schema": {"type": "string"}}},
    }});
    operation(id, "A page that describes this service", "", &html)
}

fn query(names: &[&str]) -> Vec<Value> {
    let parameter = |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    names.iter().map(parameter).collect()
}

fn wannaplay(id: &str, answer: &Value) -> Value {
    let text = "Waits until there is a seat. Idempotent: a player who has a seat gets the same one, with a fresh \
        token, and so does a player of a running match (`gateway.rejoin`); unused seats are released. A guest is \
        recognized by the `player_key` of an earlier answer. A player of a running match who asks for another \
        version of its game, or who has a waiting ticket and asks without its `queue`, is refused (409). With a \
        `queue`, starts a ticket, or finds the player's existing one, and waits for its match; if that takes \
        longer than the gateway waits (408), asking again soon keeps the ticket's place. If a match has to be \
        accepted (428), the player accepts it by `/matchmaker/tickets/{id}/accept` and asks again.";
    let responses = json!({
        "200": {"description": "The seat", "content": {"application/json": {"schema": answer}}},
        "default": {
            "description": "No seat, and why; `retry-after` says when to retry if that may help",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    });
    let mut operation = operation(id, "Request a seat, get one answer", text, &responses);
    operation["parameters"] = query(&["game", "version", "client_ip", "token", "player_key", "queue"]).into();
    operation
}

fn vote(id: &str, summary: &str, asked: &Value, voted: &Value) -> Value {
    let text = "For a player of a ticket whose match has to be accepted, in a queue with `accept`; `id` is the \
        ticket's or the match's. Idempotent. Declining removes the ticket, with all its players, from the queue.";
    let responses = json!({
        "200": {"description": "The vote counts", "content": {"application/json": {"schema": voted}}},
        "default": {
            "description": "The vote does not count, and why: 401 for a caller who cannot be identified, 404 if the \
                player has no such ticket or match, 409 if no vote is open (any more)",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    });
    let mut operation = with_body(operation(id, summary, text, &responses), asked);
    operation["requestBody"]["description"] = "Optional: only a `token` is read.".into();
    operation["requestBody"]["content"]["application/json"]["example"] = json!({"token": "…"});
    let mut parameters = vec![in_path("id")];
    parameters.extend(query(&["token"]));
    operation["parameters"] = parameters.into();
    operation
}

fn rejoin(returning: &Value, answer: &Value) -> Value {
    let text = "Lets a player who is named in a running match, or has a seat in it, come back: the same seat, \
        with a fresh token. If the seat is claimed, the server may let the player in again. A backend names the \
        player; a player sends its token or its key.";
    let responses = json!({
        "200": {"description": "The seat", "content": {"application/json": {"schema": answer}}},
        "default": {
            "description": "Cannot rejoin, and why: 404 if there is no such match or the player is not in it, 409 while \
                it is not ready or if the player has a seat in another match of the game, 410 if it is over, 503 while \
                nobody can connect to it",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    });
    let mut operation =
        with_body(operation("matchmakerRejoin", "Rejoin a match", text, &responses), returning);
    operation["requestBody"]["description"] = "Optional for a player who sends a token.".into();
    operation["requestBody"]["content"]["application/json"]["example"] = json!({"player_id": "ann"});
    let mut parameters = vec![in_path("id")];
    parameters.extend(query(&["token", "player_key"]));
    operation["parameters"] = parameters.into();
    operation
}

fn in_path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn request(feedback: &Value) -> Value {
    let lines =
        |text: &str| json!({"description": text, "content": {"application/json": {"schema": feedback}}});
    let responses = json!({
        "200": lines("One of these per line, while the player waits; the last is SessionReady or Error"),
        "default": lines("No seat, and why"),
    });
    let text = "The same as wannaplay, with progress.";
    let mut operation = operation("request", "Request a seat, with progress reports", text, &responses);
    let mut parameters = vec![in_path("game"), in_path("version")];
    parameters.extend(query(&["client_ip", "token", "player_key", "queue"]));
    operation["parameters"] = parameters.into();
    operation
}

fn websocket() -> Value {
    let text = "A websocket. The first message is the player's, a text like `{\"game\": \"…\", \"version\": \"…\"}`; \
        then each message is a `Feedback`, the last of them SessionReady or Error. A first message that is not a \
        request is answered with a text that begins with `ERR`. When a ProgressReport asks to accept a match, the \
        player sends `{\"accept\": \"…\"}` or `{\"decline\": \"…\"}`, with the id of the ticket or of the match; a \
        ProgressReport has the result. Other messages are ignored.";
    let responses = json!({
        "101": {"description": "Switched to the websocket protocol"},
        "default": {
            "description": "No websocket, and why", "content": {"text/plain": {"schema": {"type": "string"}}},
        },
    });
    let mut operation = operation("requestByWebsocket", "Request a seat by websocket", text, &responses);
    operation["parameters"] = query(&["game", "version", "client_ip", "token", "player_key", "queue"]).into();
    operation
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes;

    #[test]
    fn every_path_is_described_and_nothing_else_is() {
        let description = description();
        let described: BTreeSet<_> =
            description["paths"].as_object().unwrap().keys().map(String::as_str).collect();
        let served = BTreeSet::from(routes().map(|(path, _)| path));
        assert_eq!(
            described, served,
            "crates/gateway/src/description.rs must describe each path of http::routes"
        );
    }

    #[test]
    fn the_words_for_waiting_are_those_that_are_sent() {
        let description = description();
        let feedback = serde_json::to_string(&description["components"]["schemas"]["Feedback"]).unwrap();
        for name in ["Acknowledged", "SessionRequestAccepted", "ProgressReport", "SessionReady", "Error"] {
            assert!(feedback.contains(&format!("\"{name}\"")), "{name} is not in {feedback}");
        }
    }
}
