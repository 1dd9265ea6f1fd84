//! What players hear about their tickets, in every form of stream, across breaks and restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, QueueId};
use sortie_domain::matchmaking::settings::{Hook, Settings};
use sortie_domain::matchmaking::{Command, Event as MakerEvent};
use sortie_wire::catena::events::SubscribeToEventsRequest;
use sortie_wire::catena::events::event::Payload;
use sortie_wire::catena::events::events_client::EventsClient;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::events::listen;
use crate::grpc::channel;
use crate::harness::{Pieces, Server, queues, soon};
use crate::schemas::check_answer;

const SUBSCRIBE: &str = "/api/v1/events/subscribe";

/// One event of a player: its id, type without the common prefix, ticket, and the additional data.
#[derive(Clone, PartialEq, Debug)]
struct Heard {
    id: String,
    kind: String,
    message: String,
    ticket: String,
    data: Value,
}

impl Heard {
    fn of(document: &Value) -> Option<Self> {
        check_answer("GET", SUBSCRIBE, 200, document);
        let event = &document["event"];
        let update = event.get("matchmakingStatusUpdateEvent")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = text(&update["type"]).replace("MATCHMAKING_STATUS_UPDATE_TYPE_", "");
        Some(Self {
            id: text(&event["eventId"]),
            kind: kind.replace("MATCHMAKING_STATUS_UPDATE_MATCHMAKING_", ""),
            message: text(&update["message"]),
            ticket: text(&update["ticketId"]),
            data: serde_json::from_str(update["additionalEventData"].as_str().unwrap()).unwrap(),
        })
    }
}

/// What comes next that is no sign of life, of which there may be any number.
async fn next(lines: &mut Pieces) -> Heard {
    soon(async {
        loop {
            if let Some(heard) = Heard::of(&lines.json().await) {
                return heard;
            }
        }
    })
    .await
}

async fn resume(server: &Server, player: &str, id: &str) -> Pieces {
    let headers = [("catena-session-id", player), ("last-event-id", id)];
    let response = server.open(SUBSCRIBE, &headers).await;
    assert_eq!(response.status(), 200);
    Pieces::of(response, "\n")
}

/// Takes the waiting match, and reports it ready.
async fn play(server: &Server) -> String {
    let taken = async {
        loop {
            let offer = server
                .ok("POST", "/api/v1/server/request_match", json!({"serverId": "s1", "hintFlags": 2}))
                .await;
            if let Some(id) = offer["match"]["matchId"].as_str() {
                return id.to_owned();
            }
        }
    };
    let id = soon(taken).await;
    let ready = json!({"serverId": "s1", "matchId": id, "connectionDetails": "a:1", "perPlayerConnectionDetails": {"p2": "b:2"}});
    server.ok("POST", "/api/v1/server/match_ready", ready).await;
    id
}

#[tokio::test]
async fn a_player_hears_of_the_ticket_once_each_and_nothing_of_its_match_beside() {
    let server = Server::start().await;
    let (mut first, mut second) = (listen(&server, "p1").await, listen(&server, "p2").await);
    let tickets = [server.ticket("duel", &["p1"]).await, server.ticket("duel", &["p2"]).await];
    let game = play(&server).await;
    for (lines, ticket, details) in [(&mut first, &tickets[0], "a:1"), (&mut second, &tickets[1], "b:2")] {
        let heard = [next(lines).await, next(lines).await, next(lines).await];
        let kinds = heard.each_ref().map(|heard| heard.kind.as_str());
        assert_eq!(kinds, ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]);
        assert!(heard.iter().all(|heard| heard.ticket == *ticket), "{heard:?}");
        assert_eq!((&heard[0].data, &heard[1].data), (&json!({}), &json!({"matchId": game})));
        assert_eq!(heard[2].message, details);
        assert_eq!(heard[2].data, json!({"matchId": game, "connectionDetails": details}));
    }
    // The broker reports the end of the match after that, as news of the ticket.
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{game}"), Value::Null).await;
    let over = next(&mut first).await;
    assert_eq!(
        (over.kind.as_str(), &over.ticket, &over.data["reason"]),
        ("CANCELLED", &tickets[0], &json!("admin"))
    );
    // Nothing came in between: the next is another ticket.
    let other = server.ticket("crowd", &["p1"]).await;
    assert_eq!(next(&mut first).await.ticket, other);
}

/// What two waiting players hear about a match that is over at the broker before the matchmaker knows that it was
/// ready.
async fn short_lived(said: impl FnOnce(MatchId) -> Command, wanted: &[&str]) {
    let mut server = Server::start().await;
    server.hold_news();
    let mut lines = listen(&server, "p1").await;
    server.ticket("duel", &["p1"]).await;
    server.ticket("duel", &["p2"]).await;
    let game = play(&server).await;
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{game}"), Value::Null).await;
    // Enough time to report the end too early.
    let another = server.submit(&["p1"]).await;
    let mut late = listen(&server, "p1").await;
    assert_eq!(next(&mut late).await.kind, "FINDING_SERVER");
    server.maker.as_ref().unwrap().call(said(MatchId::new(&game).unwrap())).await.unwrap();
    let mut heard = Vec::new();
    while heard.len() < wanted.len() {
        heard.push(soon(next(&mut lines)).await);
    }
    let kinds: Vec<_> = heard.iter().map(|heard| heard.kind.as_str()).collect();
    assert_eq!(kinds, wanted);
    assert_eq!(heard.last().unwrap().ticket, another);
    for _ in 0..2 {
        for at in 0..heard.len() - 1 {
            let mut lines = resume(&server, "p1", &heard[at].id).await;
            for wanted in &heard[at + 1..] {
                let found = soon(next(&mut lines)).await;
                assert_eq!((&found.kind, &found.ticket), (&wanted.kind, &wanted.ticket), "after {at}");
            }
        }
        server = server.restart().await;
        server.hold_news();
    }
}

#[tokio::test]
async fn a_match_that_is_over_before_its_players_are_told_of_it_ends_after_that() {
    let connection = Connection { details: "a:1".into(), per_player: BTreeMap::new() };
    let said = |match_id| Command::MatchReady { match_id, connection };
    short_lived(said, &["IN_PROGRESS", "FINDING_SERVER", "COMPLETED", "CANCELLED", "FINDING_SERVER"]).await;
}

#[tokio::test]
async fn a_match_that_is_over_before_the_matchmaker_hears_of_it_ends_once() {
    let said = |match_id| Command::MatchEnded { match_id, reason: "it was stopped".into() };
    short_lived(said, &["IN_PROGRESS", "FINDING_SERVER", "FAILED", "FINDING_SERVER"]).await;
}

#[tokio::test]
async fn ends_without_a_match_are_told_with_their_reason() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p1").await;
    let ticket = server.ticket("crowd", &["p1", "p2"]).await;
    assert_eq!(next(&mut lines).await.kind, "IN_PROGRESS");
    server.ok("DELETE", &format!("/v1/tickets/{ticket}"), Value::Null).await;
    let heard = next(&mut lines).await;
    assert_eq!((heard.kind.as_str(), heard.message.as_str()), ("CANCELLED", "it was cancelled on request"));
    server.ticket("crowd", &["p1"]).await;
    assert_eq!(next(&mut lines).await.kind, "IN_PROGRESS");
    server.clock.advance(Duration::from_secs(120));
    let heard = next(&mut lines).await;
    assert_eq!((heard.kind.as_str(), heard.message.as_str()), ("TIMED_OUT", "no match was found in time"));
    // No server for the match: its queue does not let tickets return.
    server.ticket("duel", &["p1"]).await;
    server.ticket("duel", &["p3"]).await;
    assert_eq!([next(&mut lines).await.kind, next(&mut lines).await.kind], ["IN_PROGRESS", "FINDING_SERVER"]);
    server
        .await_event(|record| matches!(record.event, sortie_domain::broker::Event::MatchQueued { .. }))
        .await;
    server.clock.advance(Duration::from_secs(90));
    let heard = next(&mut lines).await;
    assert_eq!(
        (heard.kind.as_str(), heard.message.as_str()),
        ("FAILED", "no server could be obtained in time")
    );
}

/// Lets players wait in this many queues at once.
async fn allow(server: &Server, queues_per_player: u32) {
    let settings = Settings { queues_per_player, ..queues() };
    server.maker.as_ref().unwrap().call(Command::Reconfigure { settings }).await.unwrap();
}

#[tokio::test]
async fn one_of_several_tickets_wins_and_the_others_end_with_the_reason() {
    let server = Server::start().await;
    server.ticket("duel", &["p1"]).await;
    let crowd = json!({"queue": "crowd", "players": [{"id": "p1"}], "idempotency_key": "crowd"}).to_string();
    let (status, answer) = server.send("POST", "/v1/tickets", crowd.clone()).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("player_waits")),
        "one is all, unless it is said"
    );
    allow(&server, 2).await;
    let (status, started) = server.send("POST", "/v1/tickets", crowd.clone()).await;
    assert_eq!(status, 201, "{started}");
    assert_eq!(
        server.send("POST", "/v1/tickets", crowd.clone()).await,
        (201, started.clone()),
        "it is one ticket"
    );
    let other = started["ticket_id"].as_str().unwrap();
    let third = json!({"queue": "asked", "players": [{"id": "p1"}]}).to_string();
    assert_eq!(server.send("POST", "/v1/tickets", third.clone()).await.0, 409);
    let listed = server.ok("GET", "/v1/tickets?player=p1", Value::Null).await;
    let queues: Vec<_> =
        listed["tickets"].as_array().unwrap().iter().map(|ticket| &ticket["queue"]).collect();
    assert_eq!(queues, ["duel", "crowd"]);
    let mut lines = listen(&server, "p1").await;
    let standing = [next(&mut lines).await, next(&mut lines).await];
    assert_eq!(standing[1].ticket, other);
    assert!(standing[0].id.is_empty() && !standing[1].id.is_empty(), "only the last says where to resume");

    server.ticket("duel", &["p2"]).await;
    assert_eq!(next(&mut lines).await.kind, "FINDING_SERVER");
    let shown = server.ok("GET", &format!("/v1/tickets/{other}"), Value::Null).await;
    assert_eq!(shown["state"], "on_hold");
    let told = server.ok("GET", &format!("/v1/tickets/{other}/explain"), Value::Null).await;
    assert_eq!(told["summary"], "on hold: one of its players is in a match of another queue");
    let mut late = listen(&server, "p1").await;
    let standing = [next(&mut late).await, next(&mut late).await];
    assert_eq!(standing[1].message, "on hold: one of its players is in a match of another queue");
    play(&server).await;
    let over = next(&mut lines).await;
    assert_eq!((over.kind.as_str(), over.ticket.as_str()), ("CANCELLED", other));
    assert_eq!(over.data, json!({"reason": "matched_elsewhere"}));
    assert_eq!(next(&mut lines).await.kind, "COMPLETED");
    let shown = server.ok("GET", &format!("/v1/tickets/{other}"), Value::Null).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("cancelled"), &json!("matched_elsewhere")));
    let told = server.ok("GET", &format!("/v1/tickets/{other}/explain"), Value::Null).await;
    let text = "the ticket is cancelled: one of its players got a match in another queue";
    assert_eq!(told["summary"], text);
    // Each is cancelled separately.
    let tickets = [server.ticket("crowd", &["p1"]).await, server.ticket("asked", &["p1"]).await];
    server.ok("DELETE", &format!("/v1/tickets/{}", tickets[0]), Value::Null).await;
    let left = server.ok("GET", &format!("/v1/tickets/{}", tickets[1]), Value::Null).await;
    assert_eq!(left["state"], "waiting");
}

#[tokio::test]
async fn a_ticket_that_takes_the_place_of_another_one_keeps_its_age() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p3").await;
    let old = server.ticket("crowd", &["p1", "p2", "p3"]).await;
    let before = server.ok("GET", &format!("/v1/tickets/{old}"), Value::Null).await;
    server.clock.advance(Duration::from_secs(30));
    let young = server.ticket("crowd", &["p9"]).await;
    let order = json!({
        "queue": "crowd", "players": [{"id": "p1"}, {"id": "p2"}], "replaces": old, "idempotency_key": "left",
    });
    let (status, started) = server.send("POST", "/v1/tickets", order.to_string()).await;
    assert_eq!(status, 201, "{started}");
    assert_eq!(
        server.send("POST", "/v1/tickets", order.to_string()).await,
        (201, started.clone()),
        "it is one"
    );
    let new = server
        .ok("GET", &format!("/v1/tickets/{}", started["ticket_id"].as_str().unwrap()), Value::Null)
        .await;
    assert_eq!((&new["state"], &new["replaces"]), (&json!("waiting"), &json!(old)));
    for time in ["started_at", "waits_since"] {
        assert_eq!(new[time], before[time], "{time}");
    }
    let listed = server.ok("GET", "/v1/tickets", Value::Null).await;
    let ids: Vec<_> =
        listed["tickets"].as_array().unwrap().iter().map(|ticket| &ticket["ticket_id"]).collect();
    assert_eq!(ids, [&new["ticket_id"], &json!(young)]);
    let shown = server.ok("GET", &format!("/v1/tickets/{old}"), Value::Null).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("cancelled"), &json!("replaced")));
    assert_eq!(next(&mut lines).await.kind, "IN_PROGRESS");
    let over = next(&mut lines).await;
    assert_eq!(
        (over.kind.as_str(), &over.data),
        ("CANCELLED", &json!({"reason": "replaced"})),
        "who left hears of it"
    );

    for (replaces, status, code) in [
        (old.as_str(), 409, "ticket_not_waiting"),
        ("nothing", 404, "ticket_not_found"),
        (young.as_str(), 400, "invalid_field"),
    ] {
        let order = json!({"queue": "crowd", "players": [{"id": "p4"}], "replaces": replaces}).to_string();
        let (answered, answer) = server.send("POST", "/v1/tickets", order).await;
        assert_eq!((answered, &answer["error"]["code"]), (status, &json!(code)), "{answer}");
    }
    // One in a match is not replaced.
    let first = server.ticket("duel", &["p5"]).await;
    server.ticket("duel", &["p6"]).await;
    let order = json!({"queue": "duel", "players": [{"id": "p5"}], "replaces": first}).to_string();
    server.await_ticket(|record| matches!(record.event, MakerEvent::MatchFormed { .. })).await;
    let (status, answer) = server.send("POST", "/v1/tickets", order).await;
    assert_eq!((status, &answer["error"]["code"]), (409, &json!("ticket_not_waiting")), "{answer}");
}

#[tokio::test]
async fn players_who_are_asked_hear_by_when_and_that_it_came_to_nothing() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p1").await;
    server.ticket("asked", &["p1"]).await;
    let second = server.ticket("asked", &["p2"]).await;
    assert_eq!(next(&mut lines).await.data, json!({}));
    let asked = next(&mut lines).await;
    assert_eq!(
        (asked.kind.as_str(), &asked.data["acceptUntil"]),
        ("IN_PROGRESS", &json!("2026-09-21T14:13:40.000Z"))
    );
    let mut late = listen(&server, "p1").await;
    assert_eq!(next(&mut late).await.data, asked.data, "players who come later are asked too");
    server.ok("POST", &format!("/v1/tickets/{second}/decline"), json!({"player_id": "p2"})).await;
    let back = next(&mut lines).await;
    assert_eq!((back.kind.as_str(), &back.data), ("IN_PROGRESS", &json!({"reason": "not_accepted"})));
}

#[tokio::test]
async fn whoever_comes_later_is_told_how_the_ticket_stands() {
    let server = Server::start().await;
    let ticket = server.ticket("duel", &["p1"]).await;
    let mut lines = listen(&server, "p1").await;
    let heard = next(&mut lines).await;
    assert_eq!(
        (heard.kind.as_str(), heard.message.as_str(), &heard.ticket),
        ("IN_PROGRESS", "waiting for other players", &ticket)
    );
    server.ticket("duel", &["p2"]).await;
    assert_eq!(next(&mut lines).await.kind, "FINDING_SERVER");
    let mut late = listen(&server, "p1").await;
    assert_eq!(next(&mut late).await.kind, "FINDING_SERVER");
    play(&server).await;
    for lines in [&mut lines, &mut late] {
        assert_eq!(next(lines).await.kind, "COMPLETED");
    }
    let mut last = listen(&server, "p1").await;
    let heard = next(&mut last).await;
    assert_eq!((heard.kind.as_str(), &heard.ticket), ("COMPLETED", &ticket));
}

/// The follower waits for the matchmaker's event about a match that is over, and does not know yet that another one is
/// ready.
#[tokio::test]
async fn a_player_who_comes_while_the_follower_lags_is_told_where_to_connect() {
    let mut server = Server::start().await;
    server.hold_news();
    let maker = server.maker.clone().unwrap();
    let ready = |id: &str| Command::MatchReady {
        match_id: MatchId::new(id).unwrap(),
        connection: Connection { details: "a:1".into(), per_player: BTreeMap::new() },
    };
    // While there is a listener the logs are followed.
    let _follows = listen(&server, "p1").await;
    for player in ["p1", "p2"] {
        server.ticket("duel", &[player]).await;
    }
    let over = play(&server).await;
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{over}"), Value::Null).await;
    let ticket = server.ticket("duel", &["p3"]).await;
    server.ticket("duel", &["p4"]).await;
    let game = play(&server).await;
    maker.call(ready(&game)).await.unwrap();

    let let_go_on = async {
        // A player whose standing has no match does not wait.
        let _begins = listen(&server, "p5").await;
        maker.call(ready(&over)).await.unwrap();
    };
    let (mut late, ()) = tokio::join!(listen(&server, "p3"), let_go_on);
    let heard = soon(next(&mut late)).await;
    assert_eq!((heard.kind.as_str(), &heard.ticket), ("COMPLETED", &ticket));
    assert_eq!(heard.data, json!({"matchId": game, "connectionDetails": "a:1"}));
    // And only once: the next is another ticket.
    let other = server.ticket("crowd", &["p3"]).await;
    assert_eq!(soon(next(&mut late)).await.ticket, other);
}

/// The news of tickets must be the same with breaks anywhere as without.
#[tokio::test]
async fn a_stream_is_resumed_anywhere_also_after_a_restart() {
    let server = Server::start().await;
    let mut whole = listen(&server, "p1").await;
    let submitted = server.submit(&["p1"]).await;
    server.ok("DELETE", &format!("/v1/matches/{submitted}"), Value::Null).await;
    server.ticket("duel", &["p1"]).await;
    server.ticket("duel", &["p2"]).await;
    let game = play(&server).await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(next(&mut whole).await);
    }
    server.ok("DELETE", &format!("/api/v1/matchbroker/admin/delete/{game}"), Value::Null).await;
    let waiting = server.ticket("crowd", &["p1"]).await;
    server.ok("DELETE", &format!("/v1/tickets/{waiting}"), Value::Null).await;
    while heard.len() < 8 {
        heard.push(next(&mut whole).await);
    }
    let told = |heard: &[Heard]| {
        let mut told: Vec<_> =
            heard.iter().map(|one| (one.kind.clone(), one.ticket.clone(), one.data.to_string())).collect();
        told.sort();
        told
    };
    let mut server = server;
    for life in 0..2 {
        for at in 0..heard.len() {
            let mut lines = resume(&server, "p1", &heard[at].id).await;
            let mut since = Vec::new();
            while since.len() < heard.len() - at - 1 {
                since.push(next(&mut lines).await);
            }
            assert_eq!(told(&since), told(&heard[at + 1..]), "after {} in life {life}", heard[at].id);
            // From there it can be resumed again, at once or event by event.
            if let Some(one) = since.first() {
                let mut lines = resume(&server, "p1", &one.id).await;
                let mut rest = Vec::new();
                while rest.len() < since.len() - 1 {
                    rest.push(next(&mut lines).await);
                }
                assert_eq!(told(&rest), told(&since[1..]), "after {} in life {life}", one.id);
            }
        }
        server = server.restart().await;
    }
    // Live from that position, and nothing twice.
    let mut lines = resume(&server, "p1", &heard[7].id).await;
    let another = server.ticket("crowd", &["p1"]).await;
    assert_eq!(next(&mut lines).await.ticket, another);
}

#[tokio::test]
async fn a_cursor_of_other_logs_is_refused() {
    let server = Server::start().await;
    for (id, status, reason) in
        [("x", 400, "invalid_field"), ("7000", 400, "cursor_ahead"), ("0.7000", 400, "cursor_ahead")]
    {
        let response = server.open(SUBSCRIBE, &[("catena-session-id", "p1"), ("last-event-id", id)]).await;
        let found = response.status().as_u16();
        let answer: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((found, &answer["details"][0]["reason"]), (status, &json!(reason)), "{id}");
    }
    let (status, _) = server.send("GET", "/api/v1/events/subscribe?from=1", "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn grpc_lines_server_sent_events_and_websockets_tell_the_same() {
    let server = Server::start().await;
    let mut lines = listen(&server, "p1").await;

    let mut events = EventsClient::new(channel(&server).await);
    let mut subscribe = tonic::Request::new(SubscribeToEventsRequest {});
    subscribe.metadata_mut().insert("catena-session-id", "p1".parse().unwrap());
    let mut over_grpc = soon(events.subscribe_to_events(subscribe)).await.unwrap().into_inner();

    let headers = [("catena-session-id", "p1"), ("accept", "text/event-stream")];
    let response = server.open(SUBSCRIBE, &headers).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut sent = Pieces::of(response, "\n\n");

    let mut request = format!("ws://{}{SUBSCRIBE}", server.address).into_client_request().unwrap();
    request.headers_mut().insert("catena-session-id", "p1".parse().unwrap());
    let (mut socket, _) = soon(tokio_tungstenite::connect_async(request)).await.unwrap();

    server.ticket("duel", &["p1"]).await;
    server.ticket("duel", &["p2"]).await;
    play(&server).await;
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(next(&mut lines).await);
    }
    for wanted in &heard {
        let update = loop {
            let event = soon(over_grpc.message()).await.unwrap().unwrap().event.unwrap();
            if let Some(Payload::MatchmakingStatusUpdateEvent(update)) = event.payload {
                break (event.event_id, update);
            }
        };
        assert_eq!(
            (&update.0, &update.1.ticket_id, &update.1.message),
            (&wanted.id, &wanted.ticket, &wanted.message)
        );
        let found = loop {
            let text = sent.next().await.unwrap();
            let data = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            if let Some(heard) = Heard::of(&serde_json::from_str(data).unwrap()) {
                let id = text.lines().find_map(|line| line.strip_prefix("id: "));
                assert_eq!(id, Some(heard.id.as_str()));
                break heard;
            }
        };
        assert_eq!(found, *wanted);
        let found = loop {
            let message = soon(socket.next()).await.unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            if let Some(heard) = Heard::of(&serde_json::from_str(&text).unwrap()) {
                break heard;
            }
        };
        assert_eq!(found, *wanted);
    }
    socket.send(Message::Ping(Vec::new().into())).await.unwrap();

    // Resumed by a parameter, for clients that can't send headers.
    let path = format!("ws://{}{SUBSCRIBE}?lastEventId={}", server.address, heard[1].id);
    let mut request = path.into_client_request().unwrap();
    request.headers_mut().insert("catena-session-id", "p1".parse().unwrap());
    let (mut resumed, _) = soon(tokio_tungstenite::connect_async(request)).await.unwrap();
    let found = loop {
        let Message::Text(text) = soon(resumed.next()).await.unwrap().unwrap() else { continue };
        if let Some(heard) = Heard::of(&serde_json::from_str(&text).unwrap()) {
            break heard;
        }
    };
    assert_eq!(found, heard[2]);
    // The shutdown of the process is reported.
    server.closing.cancel();
    let closed = soon(async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame,
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    });
    assert_eq!(u16::from(closed.await.unwrap().code), 1001);
}

/// Its players connect to the first of them.
#[tokio::test]
async fn a_match_without_a_server_is_told_to_players_and_as_a_new_match() {
    let server = Server::start().await;
    let mut settings = queues();
    let duel = settings.queues.get_mut(&QueueId::new("duel").unwrap()).unwrap();
    duel.hooks = vec![Hook::PeerToPeerHost("address".into())];
    server.maker.as_ref().unwrap().call(Command::Configure { settings }).await.unwrap();
    let tagged = server.open("/api/v1/events/subscribe/tags?eventTags=new-match", &[]).await;
    let mut tagged = Pieces::of(tagged, "\n");
    assert!(tagged.json().await["event"]["emptyEvent"].is_object());
    let mut players = [listen(&server, "p1").await, listen(&server, "p2").await];

    let host = json!({"id": "p1", "properties": {"address": "198.51.100.4:7000"}});
    server.ok("POST", "/v1/tickets", json!({"queue": "duel", "players": [host]})).await;
    server.ticket("duel", &["p2"]).await;
    let mut found = Vec::new();
    for lines in &mut players {
        let heard = [next(lines).await, next(lines).await, next(lines).await];
        assert_eq!(
            heard.each_ref().map(|heard| heard.kind.as_str()),
            ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"]
        );
        assert_eq!(heard[2].message, "198.51.100.4:7000");
        assert_eq!(heard[2].data["connectionDetails"], "198.51.100.4:7000");
        found.push(heard[2].data["matchId"].clone());
    }
    let told = tagged.json().await;
    check_answer("GET", "/api/v1/events/subscribe/tags", 200, &told);
    assert_eq!(told["eventTags"], json!(["new-match"]));
    let game = &told["event"]["newMatchEvent"]["match"];
    assert_eq!((&game["matchId"], &game["playerIds"]), (&found[0], &json!(["p1", "p2"])));
    assert_eq!(found[0], found[1]);
    let (status, answer) =
        server.send("GET", &format!("/v1/matches/{}", found[0].as_str().unwrap()), "").await;
    assert_eq!(status, 404, "the broker does not know it: {answer}");

    // A match that needs a server is reported once, from the broker's log.
    server.maker.as_ref().unwrap().call(Command::Configure { settings: queues() }).await.unwrap();
    let both = [server.ticket("duel", &["p1"]).await, server.ticket("duel", &["p2"]).await];
    let game = play(&server).await;
    let told = tagged.json().await;
    assert_eq!(told["event"]["newMatchEvent"]["match"]["matchId"], json!(game), "{both:?}");
    let submitted = server.submit(&["p4"]).await;
    assert_eq!(tagged.json().await["event"]["newMatchEvent"]["match"]["matchId"], json!(submitted));
}

#[tokio::test]
async fn a_websocket_that_is_none_is_refused() {
    let server = Server::start().await;
    let headers = [("catena-session-id", "p1"), ("upgrade", "websocket"), ("connection", "upgrade")];
    let response = server.open(SUBSCRIBE, &headers).await;
    assert_eq!(response.status(), 400);
}
