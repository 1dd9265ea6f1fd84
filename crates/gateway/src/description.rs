//! The routes as a part of an OpenAPI 3.1 document, to be merged with other routes.

use serde_json::{Value, json};
use sortie_openapi::{Description, Operation, Schemas};

use crate::feedback::Feedback;
use crate::http::{Asked, Returning, WannaplayAnswer};
use crate::vote::VoteAnswer;

const TAG: &str = "Players";

/// The routes as a part of an OpenAPI document.
#[must_use]
pub fn description() -> Description {
    let mut schemas = Schemas::default();
    let operations = operations(&mut schemas);
    let about = "The players' door. A player gets a seat in a match, and a connect token for its server. Where \
        `gateway.players` is `signed_in`, a player token has to be shown: as `authorization: Bearer <token>`, \
        `catena-session-id: <token>` or `token` in the query, the body or the first message.";
    Description::default().tag(TAG, about).operations(operations).types(schemas)
}

fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    vec![
        page("GET /", "page"),
        page("GET /matchmaker", "matchmakerPage"),
        wannaplay("GET /wannaplay", "wannaplayGet", schemas),
        join(wannaplay("POST /wannaplay", "wannaplay", schemas), schemas),
        wannaplay("GET /matchmaker/wannaplay", "matchmakerWannaplayGet", schemas),
        join(wannaplay("POST /matchmaker/wannaplay", "matchmakerWannaplay", schemas), schemas),
        join(request(schemas), schemas),
        websocket(),
        rejoin(schemas),
        vote("POST /matchmaker/tickets/{id}/accept", "matchmakerAccept", "Accept a match", schemas),
        vote("POST /matchmaker/tickets/{id}/decline", "matchmakerDecline", "Decline a match", schemas),
    ]
}

/// An operation without errors; players are identified by what they send, not by a security scheme.
fn operation(route: &str, id: &str, summary: &str) -> Operation {
    let operation = Operation::new(route, TAG, id, summary).security([]);
    let names: Vec<_> = operation.path_names().map(ToOwned::to_owned).collect();
    names.iter().fold(operation, |operation, name| operation.path_parameter(name, &text()))
}

fn text() -> Value {
    json!({"type": "string"})
}

/// The other responses are plain text.
fn refused(operation: Operation, why: &str) -> Operation {
    operation.content("default", why, "text/plain", &text())
}

/// Adds the body of requests for a seat.
fn join(operation: Operation, schemas: &mut Schemas) -> Operation {
    operation
        .body::<Asked>(schemas, false, &json!({"game": "arena", "version": "1"}))
        .body_text("Optional. Values in the query take precedence.")
}

fn page(route: &str, id: &str) -> Operation {
    operation(route, id, "A page that describes this service").content(200, "The page", "text/html", &text())
}

fn wannaplay(route: &str, id: &str, schemas: &mut Schemas) -> Operation {
    let text = "Waits until there is a seat. Idempotent: a player who has a seat gets the same one, with a fresh \
        token, and so does a player of a running match (`gateway.rejoin`); unused seats are released. A guest is \
        recognized by the `player_key` of an earlier answer. A player of a running match who asks for another \
        version of its game, or who has a waiting ticket and asks without its `queue`, is refused (409). With a \
        `queue`, starts a ticket, or finds the player's existing one, and waits for its match; if that takes \
        longer than the gateway waits (408), asking again soon keeps the ticket's place. If a match has to be \
        accepted (428), the player accepts it by `/matchmaker/tickets/{id}/accept` and asks again.";
    let operation = operation(route, id, "Request a seat, get one answer")
        .text(text)
        .queries(&["game", "version", "client_ip", "token", "player_key", "queue"])
        .answer::<WannaplayAnswer>(schemas, 200, "The seat");
    refused(operation, "No seat, and why; `retry-after` says when to retry if that may help")
}

fn vote(route: &str, id: &str, summary: &str, schemas: &mut Schemas) -> Operation {
    let text = "For a player of a ticket whose match has to be accepted, in a queue with `accept`; `id` is the \
        ticket's or the match's. Idempotent. Declining removes the ticket, with all its players, from the queue.";
    let operation = operation(route, id, summary)
        .text(text)
        .queries(&["token"])
        .body::<Asked>(schemas, false, &json!({"token": "…"}))
        .body_text("Optional: only a `token` is read.")
        .answer::<VoteAnswer>(schemas, 200, "The vote counts");
    refused(
        operation,
        "The vote does not count, and why: 401 for a caller who cannot be identified, 404 if the player has no such \
         ticket or match, 409 if no vote is open (any more)",
    )
}

fn rejoin(schemas: &mut Schemas) -> Operation {
    let text = "Lets a player who is named in a running match, or has a seat in it, come back: the same seat, \
        with a fresh token. If the seat is claimed, the server may let the player in again. A backend names the \
        player; a player sends its token or its key.";
    let operation = operation("POST /matchmaker/matches/{id}/rejoin", "matchmakerRejoin", "Rejoin a match")
        .text(text)
        .queries(&["token", "player_key"])
        .body::<Returning>(schemas, false, &json!({"player_id": "ann"}))
        .body_text("Optional for a player who sends a token.")
        .answer::<WannaplayAnswer>(schemas, 200, "The seat");
    refused(
        operation,
        "Cannot rejoin, and why: 404 if there is no such match or the player is not in it, 409 while it is not ready \
         or if the player has a seat in another match of the game, 410 if it is over, 503 while nobody can connect \
         to it",
    )
}

fn request(schemas: &mut Schemas) -> Operation {
    let route = "POST /matchmaker/request/{game}/{version}";
    operation(route, "request", "Request a seat, with progress reports")
        .text("The same as wannaplay, with progress.")
        .queries(&["client_ip", "token", "player_key", "queue"])
        .answer::<Feedback>(
            schemas,
            200,
            "One of these per line, while the player waits; the last is SessionReady or Error",
        )
        .answer::<Feedback>(schemas, "default", "No seat, and why")
}

fn websocket() -> Operation {
    let text = "A websocket. The first message is the player's, a text like `{\"game\": \"…\", \"version\": \"…\"}`; \
        then each message is a `Feedback`, the last of them SessionReady or Error. A first message that is not a \
        request is answered with a text that begins with `ERR`. When a ProgressReport asks to accept a match, the \
        player sends `{\"accept\": \"…\"}` or `{\"decline\": \"…\"}`, with the id of the ticket or of the match; a \
        ProgressReport has the result. Other messages are ignored.";
    let operation = operation("GET /matchmaker/ws", "requestByWebsocket", "Request a seat by websocket")
        .text(text)
        .queries(&["game", "version", "client_ip", "token", "player_key", "queue"])
        .bare(101, "Switched to the websocket protocol");
    refused(operation, "No websocket, and why")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes;

    #[test]
    fn every_path_is_described_and_nothing_else_is() {
        let description = description();
        let described: BTreeSet<_> = description.paths().keys().map(String::as_str).collect();
        let served = BTreeSet::from(routes().map(|(path, _)| path));
        assert_eq!(
            described, served,
            "crates/gateway/src/description.rs must describe each path of http::routes"
        );
    }

    #[test]
    fn the_words_for_waiting_are_those_that_are_sent() {
        let description = description().document(&json!({}));
        let feedback = serde_json::to_string(&description["components"]["schemas"]["Feedback"]).unwrap();
        for name in ["Acknowledged", "SessionRequestAccepted", "ProgressReport", "SessionReady", "Error"] {
            assert!(feedback.contains(&format!("\"{name}\"")), "{name} is not in {feedback}");
        }
    }
}
