//! The descriptions in `/openapi.json` of the routes of Sortie's own API, of probes and of the documentation.

use serde_json::{Value, json};
use sortie_openapi::{Operation, Schemas};

use super::event_stream::LOGS;
use super::explain::ExplanationView;
use super::listing::{Fleets, MAX_PAGE, PAGE, Servers};
use super::matches::{MatchView, Matches, Order, STATES, Submitted};
use super::queues::Queues;
use super::seats::{Claim, FreeSeats, MatchSeats, Released, Reserve, SeatView};
use super::ticket_explain::ExplanationView as TicketExplanation;
use super::ticket_view::TicketView;
use super::tickets::{Order as TicketOrder, Started, Tickets, Vote};

/// One operation for each route outside the Catena contract.
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
        .query(
            "state",
            &states,
            "Only matches in one of these states; repeat the parameter, or separate by commas.",
        )
        .query(
            "player",
            &json!({"type": "string"}),
            "Only matches that are not over and name this player, or in which the player has a seat.",
        )
        .answer::<Matches>(schemas, 200, "A page of matches");
    vec![
        Operation::new("POST /v1/matches", TAG, "submitMatch", "Submit a match to be played")
            .body::<Order>(schemas, true, &order)
            .answer::<Submitted>(schemas, 202, "It is queued"),
        paged(list),
        Operation::new("GET /v1/matches/{id}", TAG, "showMatch", "Show a match")
            .text(
                "Matches that are over are shown until they are forgotten. A game server sees only its own.",
            )
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
        .text("As data, and in the same words as the players' messages.")
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
            "List the seats of a match",
        )
        .text(
            "With `seen`, answered when there is news of the match, or after 15 seconds. For a game server: only \
             its own matches.",
        )
        .query("seen", &json!({"type": "integer", "minimum": 0}), "`seen` of the previous answer.")
        .answer::<MatchSeats>(schemas, 200, "Its seats"),
        Operation::new("POST /v1/seats/{id}/claim", TAG, "claimSeat", "Claim a seat: its player has connected")
            .text("For the game server that has the seat's match.")
            .body::<Claim>(schemas, false, &json!({"server_id": "server-1"}))
            .answer::<SeatView>(schemas, 200, "The seat"),
        Operation::new("DELETE /v1/seats/{id}", TAG, "releaseSeat", "Release a seat")
            .text("For the backend, and for the game server that has the seat's match.")
            .answer::<Released>(schemas, 200, "It is released"),
        Operation::new(
            "PUT /v1/matches/{id}/free-seats",
            TAG,
            "reportFreeSeats",
            "Report how many seats are free",
        )
        .text("For the game server of a match that is ready. Idempotent.")
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
        new("POST /v1/tickets", "startTicket", "Start a ticket")
            .text(
                "A player starts tickets for itself, and for others if `players.may_name_others` allows it, without \
                 values that the queue's rules use. Its players receive its progress as events. A player is in at \
                 most one ticket of a queue, and in tickets of at most `matchmaker.queues_per_player` queues; further \
                 tickets are refused with 409, and so is `replaces` of a ticket that is not waiting any more. A \
                 player of a running match is refused (409 `already_in_match`, with `match_id`) and can rejoin it by \
                 `POST /matchmaker/matches/{id}/rejoin`; tickets of backends are refused for players who have a seat.",
            )
            .body::<TicketOrder>(schemas, true, &order)
            .answer::<Started>(schemas, 201, "It is accepted"),
        new("GET /v1/tickets", "listTickets", "List tickets that are not over, oldest first")
            .text("A player sees only tickets that it is in.")
            .query("player", &text, "Only tickets of this player.")
            .query("after", &place, "The page begins after this place: `next` of the previous page.")
            .query("limit", &limit, "Maximum number of items.")
            .answer::<Tickets>(schemas, 200, "A page of tickets"),
        new("GET /v1/tickets/{id}", "showTicket", "Show a ticket")
            .text(
                "Tickets that are over are shown for a while. A player sees only tickets that it is in, and only the \
                 ids of their other players.",
            )
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("DELETE /v1/tickets/{id}", "cancelTicket", "Cancel a ticket").answer::<TicketView>(
            schemas,
            200,
            "The ticket, which is over",
        ),
        new("POST /v1/tickets/{id}/renew", "renewTicket", "Renew a ticket: its client is still there")
            .text(
                "A ticket that was started with `ttl` lives for that many seconds from now on. Renewing one without \
                 `ttl` has no effect; one that is over is refused with 410.",
            )
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("POST /v1/tickets/{id}/accept", "acceptMatch", "Accept the match that a ticket is in")
            .body::<Vote>(schemas, false, &vote)
            .answer::<TicketView>(schemas, 200, "The ticket"),
        new("POST /v1/tickets/{id}/decline", "declineMatch", "Decline the match that a ticket is in")
            .text("The ticket is cancelled; the others go back to their places.")
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
    operation.query("after", &after, "The page begins after this id: `next` of the previous page.").query(
        "limit",
        &limit,
        "Maximum number of items.",
    )
}

fn events() -> Operation {
    let types = json!({"type": "array", "items": {"type": "string"}, "example": ["sortie.match"]});
    let from = json!({"type": "string", "default": "latest", "example": "earliest"});
    let of = json!({"type": "string", "enum": LOGS, "default": LOGS[0]});
    Operation::new("GET /v1/events", "Events", "followEvents", "Follow every event")
        .text(
            "An endless stream of server-sent events. The data of each is a CloudEvent 1.0 in JSON, its id the \
             event's place in the log, its name the event's type, like `sortie.match.ready` or \
             `sortie.ticket.started`. An event named `error`, without an id, says why the stream ends.",
        )
        .query("of", &of, "Which log to follow, the broker's or the matchmaker's. Each has its own ids.")
        .query("from", &from, "Where to start: `earliest`, `latest`, or an event's id.")
        .query("type", &types, "Only these types and those below them; repeat the parameter, or separate by commas.")
        .header("last-event-id", &json!({"type": "string"}), "Resumes after this event. Takes precedence over `from`.")
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
        Operation::new("GET /healthz", "Health", "healthz", "Liveness: whether the process runs").content(
            200,
            "It runs",
            "application/json",
            &status("ok"),
        ),
        Operation::new("GET /readyz", "Health", "readyz", "Readiness: whether calls are served").content(
            200,
            "They are; `degraded` if there are other problems, which `problems` lists",
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
            "The file, compressed with gzip if it is large",
            "*/*",
            &json!({}),
        ),
    ]
}
