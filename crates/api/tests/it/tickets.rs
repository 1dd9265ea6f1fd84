//! Tickets: Catena's calls over HTTP and gRPC, and Sortie's own.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::matchmaking::Event;
use sortie_wire::catena::common::{Entity, EntityMetadata, EntityType, GetServiceHealthRequest};
use sortie_wire::catena::matchmaking::catena_matchmaking_client::CatenaMatchmakingClient;
use sortie_wire::catena::matchmaking::*;
use sortie_wire::status;
use tonic::{Code, Request};

use crate::grpc::channel;
use crate::harness::{Server, soon};
use crate::schemas::check_answer;

const START: &str = "/api/v1/matchmaking/start";
const CANCEL: &str = "/api/v1/matchmaking/cancel";

/// A call of a player.
async fn call(server: &Server, player: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = server.request(method, path).header("catena-session-id", player).body(body);
    let response = soon(request.send()).await.unwrap();
    let (status, text) = (response.status().as_u16(), soon(response.text()).await.unwrap());
    let answer =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"));
    if path.starts_with("/api/") {
        check_answer(method, path, status, &answer);
    }
    (status, answer)
}

fn account(id: &str) -> Value {
    json!({"id": id, "entityType": "ENTITY_TYPE_ACCOUNT"})
}

fn group(queue: &str, players: &[&str]) -> Value {
    let accounts: Vec<_> = players.iter().map(|id| account(id)).collect();
    let metadata = json!({"queue_name": {"stringPayload": queue}, "mode": {"stringPayload": "fast"}});
    json!({"entity": {"id": "party-1", "entityType": 3, "entities": accounts, "metadata": metadata}})
}

fn alone(queue: &str, player: &str) -> Value {
    let mut entity = account(player);
    entity["metadata"] = json!({"queue_name": {"stringPayload": queue}, "level": {"intPayload": "7"}});
    json!({"entity": entity})
}

async fn status_of(server: &Server, ticket: &str) -> Value {
    server.ok("GET", &format!("/api/v1/matchmaking/server/{ticket}"), Value::Null).await["status"].clone()
}

#[tokio::test]
async fn two_players_find_each_other_and_a_server() {
    let server = Server::start().await;
    let (status, first) = call(&server, "p1", "POST", START, alone("duel", "p1")).await;
    assert_eq!(status, 200, "{first}");
    let first = first["ticketId"].as_str().unwrap();
    assert_eq!(status_of(&server, first).await, "MATCHMAKING_STATUS_IN_PROGRESS");
    let second = server.ok("POST", "/api/v1/matchmaking/server/start", alone("duel", "p2")).await;
    server.await_ticket(|record| matches!(record.event, Event::MatchSubmitted { .. })).await;
    assert_eq!(status_of(&server, first).await, "MATCHMAKING_STATUS_FINDING_SERVER");

    let offer = server.ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1"})).await;
    let game = offer["match"]["matchId"].as_str().unwrap();
    assert_eq!(offer["match"]["playerIds"], json!(["p1", "p2"]));
    assert_eq!(offer["match"]["playerProperties"]["p1"], r#"{"level":7}"#);
    let ready = json!({
        "serverId": "s1", "matchId": game, "connectionDetails": "a:1", "perPlayerConnectionDetails": {"p2": "b:2"},
    });
    server.ok("POST", "/api/v1/server/match_ready", ready).await;
    server.await_ticket(|record| matches!(record.event, Event::MatchReady { .. })).await;
    assert_eq!(status_of(&server, first).await, "MATCHMAKING_STATUS_COMPLETED");

    let shown = server.ok("GET", &format!("/v1/tickets/{first}"), Value::Null).await;
    assert_eq!((&shown["state"], &shown["match_id"]), (&json!("completed"), &json!(game)));
    assert_eq!((&shown["connection_details"], &shown["queue"]), (&json!("a:1"), &json!("duel")));
    assert_eq!(shown.get("per_player_connection_details"), None, "those of others are not shown");
    let second = second["ticketId"].as_str().unwrap();
    let shown = server.ok("GET", &format!("/v1/tickets/{second}"), Value::Null).await;
    assert_eq!(shown["per_player_connection_details"], json!({"p2": "b:2"}));
    let (code, answer) = server.send("DELETE", &format!("/v1/tickets/{second}"), "").await;
    assert_eq!((code, &answer["error"]["code"]), (410, &json!("ticket_over")));
}

#[tokio::test]
async fn a_party_is_started_by_its_leader_and_called_off_by_any_of_it() {
    let server = Server::start().await;
    let (status, started) = call(&server, "p1", "POST", START, group("crowd", &["p1", "p2"])).await;
    assert_eq!(status, 200, "{started}");
    let ticket = started["ticketId"].as_str().unwrap();
    let listed = server.ok("GET", "/api/v1/matchmaking/tickets", Value::Null).await;
    let one = &listed["tickets"][0];
    assert_eq!((&one["ticketId"], &one["entity"]["id"]), (&json!(ticket), &json!("party-1")));
    assert_eq!(one["entity"]["metadata"]["leader"], json!({"stringPayload": "p1"}));
    assert_eq!(one["entity"]["entities"].as_array().unwrap().len(), 2);
    let state: Value = serde_json::from_str(one["matchmakerState"].as_str().unwrap()).unwrap();
    assert_eq!(state, json!({"queue": "crowd", "state": "waiting", "startedAt": "2026-09-21T14:13:20.000Z"}));

    let (code, answer) = call(&server, "p2", "POST", START, alone("crowd", "p2")).await;
    assert_eq!((code, &answer["details"][0]["reason"]), (400, &json!("player_waits")));
    let path = format!("/api/v1/matchmaking/{ticket}");
    let (code, answer) = call(&server, "p3", "GET", &path, Value::Null).await;
    assert_eq!((code, &answer["details"][0]["reason"]), (404, &json!("ticket_not_found")));
    let body = json!({"ticketId": ticket});
    assert_eq!(call(&server, "p3", "POST", CANCEL, body.clone()).await.0, 404);
    let (code, answer) = call(&server, "p2", "GET", &path, Value::Null).await;
    assert_eq!((code, &answer), (200, &json!({"status": "MATCHMAKING_STATUS_IN_PROGRESS"})));
    assert_eq!(call(&server, "p2", "POST", CANCEL, body.clone()).await, (200, json!({})));
    assert_eq!(call(&server, "p1", "POST", CANCEL, body).await, (200, json!({})), "idempotent");
    assert_eq!(status_of(&server, ticket).await, "MATCHMAKING_STATUS_CANCELLED");
    assert_eq!(server.ok("GET", "/api/v1/matchmaking/tickets", Value::Null).await, json!({}));
}

#[tokio::test]
async fn what_a_ticket_may_not_be_is_refused_and_leaves_no_trace() {
    let server = Server::start().await;
    let before = server.state().await;
    let mixed = json!([account("p1"), {"entityType": "ENTITY_TYPE_GROUP", "entities": [account("p2")]}]);
    let mut mixture = group("duel", &[]);
    mixture["entity"]["entities"] = mixed;
    let mut elsewhere = alone("duel", "p1");
    elsewhere["entity"]["metadata"]["leader"] = json!({"stringPayload": "p2"});
    for (body, code, reason, text) in [
        (json!({}), 400, "invalid_field", "entity: is missing"),
        (
            json!({"entity": account("p1")}),
            400,
            "invalid_field",
            "entity: the metadata of the top entity must",
        ),
        (mixture, 400, "invalid_field", "entity: entity \"party-1\" contains accounts and groups"),
        (group("duel", &["p1", "p1"]), 400, "invalid_field", "entity: names player p1 twice"),
        (group("duel", &["p1", "p2"]), 400, "invalid_field", "entity: has 2 players, and a team"),
        (
            alone("none", "p1"),
            404,
            "queue_not_found",
            "entity.metadata.queue_name: no queue none is configured",
        ),
        (
            alone("duel", "p9"),
            403,
            "forbidden",
            "entity: a player can only start its own tickets: p1 must be",
        ),
        (elsewhere, 403, "forbidden", "leader: only the leader of a party starts its ticket"),
    ] {
        let (status, answer) = call(&server, "p1", "POST", START, body).await;
        assert_eq!((status, &answer["details"][0]["reason"]), (code, &json!(reason)), "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with(text), "{answer}");
    }
    assert!(server.state().await == before);
    let (status, answer) = server.send("POST", START, alone("duel", "p1").to_string()).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (401, &json!("unauthenticated")));
}

#[tokio::test]
async fn queues_are_read_and_changed_and_no_ticket_is_lost() {
    let server = Server::start().await;
    let ticket = server.ticket("crowd", &["p1"]).await;
    let path = "/api/v1/matchmaking/admin/config";
    let config = server.ok("GET", path, Value::Null).await["catenaMatchmakerConfig"].clone();
    let duel = json!({
        "queueName": "duel", "teams": "2", "minPlayersPerTeam": "1", "playersPerTeam": "1",
        "ticketExpirationSeconds": "120", "expirationAction": "drop",
    });
    assert_eq!(
        (&config["matchmakingQueues"]["duel"], &config["statusExpirationMinutes"]),
        (&duel, &json!("10"))
    );
    let block = json!({"Matchmaker": {
        "MatchmakingQueues": {"solo": {"Teams": 2, "PlayersPerTeam": 1, "TicketExpirationSeconds": 60}},
        "StatusExpirationMinutes": 3,
    }});
    let changed = server.ok("POST", path, json!({"config": block.to_string()})).await;
    assert_eq!(changed, json!({"success": true}));
    let after = server.ok("GET", path, Value::Null).await["catenaMatchmakerConfig"].clone();
    let names: Vec<_> = after["matchmakingQueues"].as_object().unwrap().keys().collect();
    assert_eq!((names, &after["statusExpirationMinutes"]), (vec![&"solo".to_owned()], &json!("3")));
    assert_eq!(
        status_of(&server, &ticket).await,
        "MATCHMAKING_STATUS_IN_PROGRESS",
        "its queue is gone, it is not"
    );
    let (status, _) =
        server.send("POST", "/api/v1/matchmaking/server/start", alone("duel", "p2").to_string()).await;
    assert_eq!(status, 404);
    // Restored, and the ticket is among others again.
    server.ok("POST", path, json!({"config": json!({"catenaMatchmakerConfig": config}).to_string()})).await;
    server.ok("POST", "/api/v1/matchmaking/server/start", alone("duel", "p2")).await;
    let (status, answer) =
        server.send("POST", path, json!({"config": r#"{"Queues": {}}"#}).to_string()).await;
    assert_eq!((status, answer["message"].as_str().unwrap()), (400, "config.queues: is not a setting"));
    let none = json!({"config": r#"{"matchmakingQueues": {"a": {"teams": 2}}}"#});
    let (status, answer) = server.send("POST", path, none.to_string()).await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["message"].as_str().unwrap().starts_with("config: queue a "), "{answer}");
}

#[tokio::test]
async fn the_same_over_grpc() {
    let server = Server::start().await;
    let mut client = CatenaMatchmakingClient::new(channel(&server).await);
    let queue_name = EntityMetadata { string_payload: Some("crowd".into()), ..Default::default() };
    let entity = Entity {
        id: "p1".into(),
        entity_type: EntityType::Account.into(),
        metadata: [("queue_name".to_owned(), queue_name)].into(),
        ..Default::default()
    };
    let order = StartMatchmakingRequest { entity: Some(entity) };
    let as_player = |player: &str, order: StartMatchmakingRequest| {
        let mut request = Request::new(order);
        request.metadata_mut().insert("catena-session-id", player.parse().unwrap());
        request
    };
    let refused = soon(client.start_matchmaking(as_player("p2", order.clone()))).await.unwrap_err();
    assert_eq!(
        (refused.code(), status::reason(&(&refused).into()).as_deref()),
        (Code::PermissionDenied, Some("forbidden"))
    );
    let started = soon(client.start_matchmaking(as_player("p1", order.clone()))).await.unwrap().into_inner();
    let again = soon(client.server_start_matchmaking(order)).await.unwrap_err();
    assert_eq!(
        (again.code(), status::reason(&(&again).into()).as_deref()),
        (Code::FailedPrecondition, Some("player_waits"))
    );
    let ticket_id = started.ticket_id;
    let listed = soon(client.list_tickets(ListTicketsRequest {})).await.unwrap().into_inner();
    assert_eq!((listed.tickets.len(), &listed.tickets[0].ticket_id), (1, &ticket_id));
    let ask = GetMatchmakingStatusRequest { ticket_id: ticket_id.clone() };
    let found = soon(client.server_get_matchmaking_status(ask.clone())).await.unwrap().into_inner();
    assert_eq!(found.status(), MatchmakingStatus::InProgress);
    soon(client.server_cancel_matchmaking(CancelMatchmakingRequest { ticket_id })).await.unwrap();
    let found = soon(client.server_get_matchmaking_status(ask)).await.unwrap().into_inner();
    assert_eq!(found.status(), MatchmakingStatus::Cancelled);
    assert!(soon(client.get_service_health(GetServiceHealthRequest {})).await.unwrap().into_inner().healthy);
    let bad = AdminXReconfigureMatchmakerRequest { config: "{".into() };
    assert_eq!(
        soon(client.admin_x_reconfigure_matchmaker(bad)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn without_a_matchmaker_its_calls_say_so() {
    let server = Server::start_without_matchmaker().await;
    for (method, path) in [("GET", "/v1/tickets"), ("GET", "/v1/queues"), ("GET", "/v1/tickets/t/explain")] {
        let (status, answer) = server.send(method, path, "").await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("no_matchmaker")), "{path}");
    }
    let (status, answer) = call(&server, "p1", "POST", START, alone("duel", "p1")).await;
    assert_eq!(
        (status, &answer["code"], &answer["details"][0]["reason"]),
        (404, &json!(12), &json!("no_matchmaker"))
    );
    let health = server.ok("GET", "/api/v1/matchmaking/healthz", Value::Null).await;
    assert_eq!(health["components"][0]["status"], "there is no matchmaker: none is configured");
    server.ok("GET", "/readyz", Value::Null).await;
    let mut client = CatenaMatchmakingClient::new(channel(&server).await);
    let refused = soon(client.list_tickets(ListTicketsRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_native_ticket_is_shown_as_it_stands() {
    let server = Server::start().await;
    let order = json!({
        "queue": "crowd",
        "parties": [
            {"id": "one", "players": [{"id": "p1", "ratings": {"mmr": 12.5}, "latencies": {"eu": 20}, "blocked": ["z"]}]},
            {"players": [{"id": "p2", "properties": {"skin": "red"}}]},
        ],
        "leader": "p1", "properties": {"map": "dust"}, "latencies": {"eu": 30}, "idempotency_key": "k",
    });
    let started = server.ok("POST", "/v1/tickets", order.clone()).await;
    assert_eq!(server.ok("POST", "/v1/tickets", order).await, started, "the same key is the same ticket");
    let id = started["ticket_id"].as_str().unwrap();
    let shown = server.ok("GET", &format!("/v1/tickets/{id}"), Value::Null).await;
    assert_eq!(
        shown,
        json!({
            "ticket_id": id, "queue": "crowd", "state": "waiting", "leader": "p1", "properties": {"map": "dust"},
            "parties": [
                {"id": "one", "players": [
                    {"id": "p1", "ratings": {"mmr": 12.5}, "latencies": {"eu": 20}, "blocked": ["z"], "properties": {}},
                ]},
                {"players": [{"id": "p2", "properties": {"skin": "red"}}]},
            ],
            "latencies": {"eu": 30}, "requeues": 0,
            "started_at": "2026-09-21T14:13:20.000Z", "waits_since": "2026-09-21T14:13:20.000Z",
        })
    );
    let cancelled = server.ok("DELETE", &format!("/v1/tickets/{id}"), Value::Null).await;
    assert_eq!((&cancelled["state"], &cancelled["reason"]), (&json!("cancelled"), &json!("requested")));
    for (body, field) in [
        (json!({"queue": "crowd"}), "players"),
        (json!({"queue": "", "players": [{"id": "p"}]}), "queue"),
        (json!({"queue": "crowd", "players": [{"id": ""}]}), "players[0].id"),
        (json!({"queue": "crowd", "players": [{"id": "p", "latencies": {"": 1}}]}), "players[0].latencies"),
        (
            json!({"queue": "crowd", "players": [{"id": "p", "latencies": {"eu": -0.5}}]}),
            "players[0].latencies",
        ),
        (
            json!({"queue": "crowd", "players": [{"id": "p"}], "latencies": {"eu": 4_294_967_295.5}}),
            "latencies",
        ),
        (json!({"queue": "crowd", "players": [{"id": "p", "properties": [1]}]}), "players[0].properties"),
        (json!({"queue": "crowd", "players": [{"id": "p"}], "leader": "q"}), "leader"),
        (json!({"queue": "crowd", "parties": [{"players": []}]}), "players"),
        (json!({"queue": "crowd", "parties": [{"id": "\u{e9}", "players": []}]}), "parties[0].id"),
    ] {
        let (status, answer) = server.send("POST", "/v1/tickets", body.to_string()).await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!(field)), "{answer}");
    }
}

#[tokio::test]
async fn a_ticket_with_a_ttl_is_renewed_until_it_is_over() {
    let server = Server::start().await;
    let order = |ttl: Value| json!({"queue": "crowd", "players": [{"id": "p1"}], "ttl": ttl});
    for ttl in [json!(0), json!(601)] {
        let (status, answer) = server.send("POST", "/v1/tickets", order(ttl).to_string()).await;
        assert_eq!((status, &answer["error"]["field"]), (400, &json!("ttl")), "{answer}");
    }
    let started = server.ok("POST", "/v1/tickets", order(json!(30))).await;
    let path = format!("/v1/tickets/{}", started["ticket_id"].as_str().unwrap());
    let shown = server.ok("GET", &path, Value::Null).await;
    assert_eq!((&shown["ttl"], &shown["renew_by"]), (&json!(30), &json!("2026-09-21T14:13:50.000Z")));
    let renewed = server.ok("POST", &format!("{path}/renew"), Value::Null).await;
    assert_eq!((&renewed["state"], &renewed["ttl"]), (&json!("waiting"), &json!(30)));
    server.ok("DELETE", &path, Value::Null).await;
    let (status, answer) = server.send("POST", &format!("{path}/renew"), String::new()).await;
    assert_eq!((status, &answer["error"]["code"]), (410, &json!("ticket_over")), "{answer}");
    let (status, _) = server.send("POST", "/v1/tickets/none/renew", String::new()).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn fractions_of_latencies_are_rounded_up() {
    let server = Server::start().await;
    let order = json!({
        "queue": "crowd", "latencies": {"eu": 20.4, "us": 90},
        "players": [{"id": "p1", "latencies": {"eu": 20.0, "us": 0.25}}],
    });
    let started = server.ok("POST", "/v1/tickets", order).await;
    let id = started["ticket_id"].as_str().unwrap();
    let shown = server.ok("GET", &format!("/v1/tickets/{id}"), Value::Null).await;
    assert_eq!(shown["latencies"], json!({"eu": 21, "us": 90}));
    assert_eq!(shown["parties"][0]["players"][0]["latencies"], json!({"eu": 20, "us": 1}));
}

#[tokio::test]
async fn tickets_and_queues_have_pages() {
    let server = Server::start().await;
    let mut started = Vec::new();
    for player in 0..5 {
        started.push(server.ticket("crowd", &[&format!("p{player}")]).await);
    }
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.ok("GET", &format!("/v1/tickets?limit=2{after}"), Value::Null).await;
        let tickets = page["tickets"].as_array().unwrap();
        found.extend(tickets.iter().map(|ticket| ticket["ticket_id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(found, started);
    let own = server.ok("GET", "/v1/tickets?player=p3", Value::Null).await;
    assert_eq!(
        (own["tickets"].as_array().unwrap().len(), &own["tickets"][0]["ticket_id"]),
        (1, &json!(started[3]))
    );
    let first = server.ok("GET", "/v1/queues?limit=2", Value::Null).await;
    let names = |page: &Value| {
        page["queues"].as_array().unwrap().iter().map(|one| one["queue"].clone()).collect::<Vec<_>>()
    };
    assert_eq!((names(&first), &first["next"]), (vec![json!("asked"), json!("crowd")], &json!("crowd")));
    assert_eq!(
        (&first["queues"][0]["accept_seconds"], &first["queues"][1]["waiting"]),
        (&json!(20.0), &json!(5))
    );
    let rest = server.ok("GET", "/v1/queues?limit=2&after=crowd", Value::Null).await;
    assert_eq!((names(&rest), rest.get("next")), (vec![json!("duel")], None));
}

#[tokio::test]
async fn a_match_is_made_when_all_agree_and_not_when_one_declines() {
    let server = Server::start().await;
    let (first, second) = (server.ticket("asked", &["p1"]).await, server.ticket("asked", &["p2"]).await);
    server.await_ticket(|record| matches!(record.event, Event::MatchProposed { .. })).await;
    let accept = |ticket: &str| format!("/v1/tickets/{ticket}/accept");
    let (code, answer) = server.send("POST", &accept(&first), "").await;
    assert_eq!((code, &answer["error"]["field"]), (400, &json!("player_id")));
    let (code, answer) = server.send("POST", &accept(&first), r#"{"player_id":"p2"}"#).await;
    assert_eq!((code, &answer["error"]["code"]), (409, &json!("not_in_match")));
    let shown = server.ok("POST", &accept(&first), json!({"player_id": "p1"})).await;
    let step =
        json!({"until": "2026-09-21T14:13:40.000Z", "accepted": ["p1"], "players_accepted": 1, "players": 2});
    assert_eq!((&shown["state"], &shown["accept"]), (&json!("proposed"), &step));
    let (code, answer) =
        call(&server, "p2", "POST", &format!("/v1/tickets/{second}/decline"), Value::Null).await;
    assert_eq!((code, &answer["state"], &answer["reason"]), (200, &json!("cancelled"), &json!("declined")));
    let shown = server.ok("GET", &format!("/v1/tickets/{first}"), Value::Null).await;
    assert_eq!((&shown["state"], shown.get("accept")), (&json!("waiting"), None));
    let (code, answer) = server.send("POST", &accept(&first), r#"{"player_id":"p1"}"#).await;
    assert_eq!((code, &answer["error"]["code"]), (409, &json!("nothing_to_accept")));

    let third = server.ticket("asked", &["p3"]).await;
    let proposals = |record: &sortie_domain::machine::Record<Event>| match &record.event {
        Event::MatchProposed { teams, .. } => {
            teams.iter().flatten().any(|named| named.ticket.as_str() == third)
        }
        _ => false,
    };
    server.await_ticket(proposals).await;
    server.ok("POST", &accept(&first), json!({"player_id": "p1"})).await;
    let (code, answer) = call(&server, "p3", "POST", &accept(&third), Value::Null).await;
    assert_eq!((code, &answer["state"]), (200, &json!("finding_server")));
}

#[tokio::test]
async fn why_a_ticket_waits_is_told_as_data_and_in_words() {
    let server = Server::start().await;
    server.ticket("crowd", &["p1"]).await;
    let ticket = server.ticket("crowd", &["p2"]).await;
    server.clock.advance(Duration::from_secs(5));
    let told = server.ok("GET", &format!("/v1/tickets/{ticket}/explain"), Value::Null).await;
    assert_eq!(
        (&told["state"], &told["ahead"], &told["in_reach"]),
        (&json!("waiting"), &json!(1), &json!(1))
    );
    assert_eq!((&told["waited_seconds"], &told["players_wanted"]), (&json!(5.0), &json!(200)));
    assert_eq!(told["expires_at"], "2026-09-21T14:15:20.000Z");
    assert_eq!(told["summary"], "waiting for other players: 1 tickets are older");
    assert!(told["sentences"][0].as_str().unwrap().starts_with("2 players are in reach"), "{told}");
    server.clock.advance(Duration::from_secs(120));
    server.await_ticket(|record| matches!(&record.event, Event::TicketTimedOut { ticket: named } if named.ticket.as_str() == ticket)).await;
    let told = server.ok("GET", &format!("/v1/tickets/{ticket}/explain"), Value::Null).await;
    assert_eq!(
        (&told["state"], &told["summary"]),
        (&json!("timed_out"), &json!("no match was found in time"))
    );
    let typo = json!({"queue": "crwod", "players": [{"id": "p3"}]});
    let (code, answer) = server.send("POST", "/v1/tickets", typo.to_string()).await;
    let error = &answer["error"];
    assert_eq!((code, &error["code"], &error["field"]), (404, &json!("queue_not_found"), &json!("queue")));
    assert!(
        error["message"].as_str().unwrap().ends_with("no queue crwod is configured; did you mean crowd?")
    );
    let (code, answer) = server.send("GET", "/v1/tickets/none/explain", "").await;
    assert_eq!((code, &answer["error"]["code"]), (404, &json!("ticket_not_found")));
}
