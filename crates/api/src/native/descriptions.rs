//! What each route of Sortie's own API, and each route for probes and readers, is described by in `/openapi.json`.

use serde_json::{Value, json};
use sortie_serving::Schemas;

use super::event_stream::LOGS;
use super::explain::ExplanationView;
use super::listing::{Fleets, MAX_PAGE, PAGE, Servers};
use super::matches::{MatchView, Matches, Order, STATES, Submitted};
use super::queues::Queues;
use super::seats::{Claim, FreeSeats, MatchSeats, Released, Reserve, SeatView};
use super::ticket_explain::ExplanationView as TicketExplanation;
use super::ticket_view::TicketView;
use super::tickets::{Order as TicketOrder, Started, Tickets, Vote};
use crate::openapi::Operation;

/// One for each route that is not of the Catena contract.
pub(crate) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut operations = matches(schemas);
    operations.extend(seats(schemas));
    operations.extend(tickets(schemas));
    operations.extend(listings(schemas));
    operations.extend([events()]);
    operations.extend(health());
    operations.extend(description());
    operations
}

fn matches(schemas: &mut Schemas) -> Vec<Operation> {
    const TAG: &str = "Matches";
    let order = json!({"players": ["alice", "bob"], "properties": {"game": "arena"}});
    let states = json!({"type": "array", "items": {"type": "string", "enum": STATES}});
    let list = Operation::new("GET /v1/matches", TAG, "listMatches", "List matches, by id")
        .query("state", &states, "Only those in one of these states; several parameters, or commas.")
        .query(
            "player",
            &json!({"type": "string"}),
            "Only those that are not over and name this player, or in which the player has a seat.",
        )
        .answer::<Matches>(schemas, 200, "A page of matches");
    vec![
        Operation::new("POST /v1/matches", TAG, "submitMatch", "Submit a match to be played")
            .body::<Order>(schemas, true, &order)
            .answer::<Submitted>(schemas, 202, "It is queued"),
        paged(list),
        Operation::new("GET /v1/matches/{id}", TAG, "showMatch", "Show a match")
            .text("Matches that are over are shown until they are forgotten. To a game server: those that it has.")
            .answer::<MatchView>(schemas, 200, "The match"),
        Operation::new("DELETE /v1/matches/{id}", TAG, "cancelMatch", "Cancel a match").answer::<MatchView>(
            schemas,
            200,
            "The match, which is over",
        ),
        Operation::new(
            "GET /v1/matches/{id}/explain",
            TAG,
            "explainMatch",
            "Explain why a match waits or failed",
        )
        .text("As data, and in the same words that players hear.")
        .answer::<ExplanationView>(schemas, 200, "The explanation"),
    ]
}

fn seats(schemas: &mut Schemas) -> Vec<Operation> {
    const TAG: &str = "Seats";
    let reserve = json!({"player_id": "carol", "ttl_seconds": 30});
    vec![
        Operation::new("POST /v1/matches/{id}/seats", TAG, "reserveSeat", "Reserve a seat for a player")
            .body::<Reserve>(schemas, true, &reserve)
            .answer::<SeatView>(schemas, 201, "The seat"),
        Operation::new(
            "GET /v1/matches/{id}/seats",
            TAG,
            "listSeats",
            "List the seats of a match: who comes",
        )
        .text(
            "With `seen`, answered when there is news of the match, or after 15 seconds. To a game server: of matches \
             that it has.",
        )
        .query("seen", &json!({"type": "integer", "minimum": 0}), "`seen` of the answer before.")
        .answer::<MatchSeats>(schemas, 200, "Its seats"),
        Operation::new("POST /v1/seats/{id}/claim", TAG, "claimSeat", "Claim a seat: its player is there")
            .text("For the game server that has the seat's match.")
            .body::<Claim>(schemas, false, &json!({"server_id": "server-1"}))
            .answer::<SeatView>(schemas, 200, "The seat"),
        Operation::new("DELETE /v1/seats/{id}", TAG, "releaseSeat", "Give a seat back")
            .text("For the backend, and for the game server that has the seat's match.")
            .answer::<Released>(schemas, 200, "It is free"),
        Operation::new(
            "PUT /v1/matches/{id}/free-seats",
            TAG,
            "reportFreeSeats",
            "Say how many seats are free",
        )
        .text("For the game server of a match that is ready. To say the same again does no harm.")
        .body::<FreeSeats>(schemas, true, &json!({"free": 2, "server_id": "server-1"}))
        .answer::<MatchView>(schemas, 200, "The match"),
    ]
}

fn tickets(schemas: &mut Schemas) -> Vec<Operation> {
    const TAG: &str = "Tickets";
    let players =
        json!([{"id": "alice", "ratings": {"mmr": 1200}, "latencies": {"eu-1": 24}}, {"id": "bob"}]);
    let order =
        json!({"queue": "ranked", "players": players, "leader": "alice", "properties": {"map": "dust"}});
    let vote = json!({"player_id": "alice"});
    let (text, place) = (json!({"type": "string"}), json!({"type": "string"}));
    let limit = json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE});
    let new = |route, id, summary| Operation::new(route, TAG, id, summary);
    vec![
        new("POST /v1/tickets", "startTicket", "Start a ticket: players want to play")
            .text(
                "A player starts tickets for itself, and for others where `players.may_name_others` lets it; it says \
                 nothing that the queue's rules judge by. Its players hear what becomes of it as events. A player is in \
                 one ticket of a queue, and in tickets of as many queues as `matchmaker.queues_per_player` allows; one \
                 more is refused with 409, and so is `replaces` of a ticket that does not wait any more. A player of a \
                 running match is refused (409 `already_in_match`, with `match_id`) and comes back to it by \
                 `POST /matchmaker/matches/{id}/rejoin`.",
            )
            .body::<TicketOrder>(schemas, true, &order)
            .answer::<Started>(schemas, 201, "It is taken"),
        new("GET /v1/tickets", "listTickets", "List tickets that are not over, oldest first")
            .text("To a player: those that it is in.")
            .query("player", &text, "Only those of this player.")
            .query("after", &place, "The page begins after this place: `next` of the page before.")
            .query("limit", &limit, "Most items of the page.")
            .answer::<Tickets>(schemas, 200, "A page of tickets"),
        new("GET /v1/tickets/{id}", "showTicket", "Show a ticket")
            .text(
                "Tickets that are over are shown for a while. To a player: those that it is in, and of the others in \
                 them their ids.",
            )
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("DELETE /v1/tickets/{id}", "cancelTicket", "Call a ticket off").answer::<TicketView>(
            schemas,
            200,
            "The ticket, which is over",
        ),
        new("POST /v1/tickets/{id}/renew", "renewTicket", "Say that a ticket's client is still there")
            .text(
                "A ticket that was started with `ttl` lives for that many seconds from now on. To renew one without `ttl` \
                 does no harm; one that is over is refused with 410.",
            )
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("POST /v1/tickets/{id}/accept", "acceptMatch", "Agree to the match that a ticket is in")
            .body::<Vote>(schemas, false, &vote)
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("POST /v1/tickets/{id}/decline", "declineMatch", "Decline the match that a ticket is in")
            .text("The ticket is called off; the others go back to their places.")
            .body::<Vote>(schemas, false, &vote)
            .answer::<TicketView>(schemas, 200, "The ticket, which is over"),
        new("GET /v1/tickets/{id}/explain", "explainTicket", "Explain why a ticket still waits")
            .text("As data and in words.")
            .answer::<TicketExplanation>(schemas, 200, "The explanation"),
        paged(new("GET /v1/queues", "listQueues", "List queues, by name").answer::<Queues>(
            schemas,
            200,
            "A page of queues",
        )),
    ]
}

fn listings(schemas: &mut Schemas) -> [Operation; 2] {
    const TAG: &str = "Servers and fleets";
    let servers = Operation::new("GET /v1/servers", TAG, "listServers", "List game servers, by id");
    let fleets = Operation::new("GET /v1/fleets", TAG, "listFleets", "List fleets, by id");
    [
        paged(servers.answer::<Servers>(schemas, 200, "A page of servers")),
        paged(fleets.answer::<Fleets>(schemas, 200, "A page of fleets")),
    ]
}

fn paged(operation: Operation) -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE});
    let after = json!({"type": "string"});
    operation.query("after", &after, "The page begins after this id: `next` of the page before.").query(
        "limit",
        &limit,
        "Most items of the page.",
    )
}

fn events() -> Operation {
    let types = json!({"type": "array", "items": {"type": "string"}, "example": ["sortie.match"]});
    let from = json!({"type": "string", "default": "latest", "example": "earliest"});
    let of = json!({"type": "string", "enum": LOGS, "default": LOGS[0]});
    Operation::new("GET /v1/events", "Events", "followEvents", "Follow every event")
        .text(
            "Server-sent events that do not end. The data of each is a CloudEvent 1.0 in JSON, its id the event's place \
             in the log, its name the event's type, like `sortie.match.ready` or `sortie.ticket.started`. An event named `error`, without an id, \
             says why the stream ends.",
        )
        .query("of", &of, "Whose log is followed, the broker's or the matchmaker's. Each has ids of its own.")
        .query("from", &from, "Where to begin: `earliest`, `latest`, or an event's id.")
        .query("type", &types, "Only these types and those below them; several parameters, or commas.")
        .header("last-event-id", &json!({"type": "string"}), "Goes on after this event. Counts more than `from`.")
        .content(200, "The stream", "text/event-stream", &json!({"type": "string"}))
}

fn health() -> [Operation; 2] {
    let status = |name: &str| -> Value {
        json!({"type": "object", "properties": {"status": {"const": name}}, "required": ["status"]})
    };
    let texts = json!({"code": {"type": "string"}, "message": {"type": "string"}});
    let problem = json!({"type": "object", "properties": texts, "required": ["code", "message"]});
    let ready = json!({
        "type": "object",
        "properties": {
            "status": {"enum": ["ready", "degraded"]},
            "problems": {"type": "array", "items": problem},
        },
        "required": ["status"],
    });
    [
        Operation::new("GET /healthz", "Health", "healthz", "Whether the process lives").content(
            200,
            "It does",
            "application/json",
            &status("ok"),
        ),
        Operation::new("GET /readyz", "Health", "readyz", "Whether calls are served").content(
            200,
            "They are; `degraded` where something else is wrong, which `problems` says",
            "application/json",
            &ready,
        ),
    ]
}

fn description() -> [Operation; 3] {
    const TAG: &str = "Description";
    let document = json!({"type": "object", "required": ["openapi", "info", "paths"]});
    [
        Operation::new("GET /openapi.json", TAG, "openapi", "This document").content(
            200,
            "OpenAPI 3.1",
            "application/json",
            &document,
        ),
        Operation::new("GET /docs", TAG, "docs", "A page to read this document and try the calls").content(
            200,
            "The page",
            "text/html",
            &json!({"type": "string"}),
        ),
        Operation::new("GET /docs/{file}", TAG, "docsFile", "The files of that page").content(
            200,
            "The file, packed by gzip where it is large",
            "*/*",
            &json!({}),
        ),
    ]
}
