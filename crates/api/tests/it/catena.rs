//! The Catena calls over HTTP.

use serde_json::{Value, json};
use sortie_domain::broker::event::Event;

use crate::harness::{Server, soon};

const REQUEST: &str = "/api/v1/server/request_match";
const READY: &str = "/api/v1/server/match_ready";
const END: &str = "/api/v1/server/end_match";

#[tokio::test]
async fn a_match_goes_through_its_whole_life() {
    let server = Server::start().await;
    let order = json!({"players": ["p1", "p2"], "properties": {"map":  "dust"}, "player_properties": {"p1": {"rank": 3}}});
    server.ok("POST", "/v1/matches", order).await;
    let queued = server.ok("GET", "/api/v1/matches", Value::Null).await;
    assert_eq!(queued["matches"].as_array().unwrap().len(), 1);

    let offer = server.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    let game = &offer["match"];
    assert_eq!(game["playerIds"], json!(["p1", "p2"]));
    assert_eq!(game["matchProperties"], r#"{"map":"dust"}"#);
    assert_eq!(game["playerProperties"], json!({"p1": r#"{"rank":3}"#}));
    let id = game["matchId"].as_str().unwrap();

    let ready = json!({"serverId": "s1", "matchId": id, "connectionDetails": "203.0.113.7:7777"});
    assert_eq!(server.ok("POST", READY, ready.clone()).await, json!({"matchId": id}));
    assert_eq!(server.ok("POST", READY, ready).await, json!({"matchId": id}), "idempotent");
    let active = server.ok("GET", "/api/v1/matchbroker/admin/list-active-matches", Value::Null).await;
    assert_eq!(active["matches"][0]["matchId"], id);
    let one = server.ok("GET", &format!("/api/v1/matchbroker/admin/match/{id}"), Value::Null).await;
    assert_eq!(one["match"]["matchId"], id);
    let servers = server.ok("POST", "/api/v1/servers", json!({})).await;
    assert_eq!(
        servers["servers"],
        json!([{"serverId": "s1", "requestedMatch": true, "matches": [{"matchId": id, "connectionString": "203.0.113.7:7777"}]}])
    );

    let ended = server.ok("POST", END, json!({"server_id": "s1", "match_id": id})).await;
    assert_eq!(ended, json!({"matchId": id}));
    let active = server.ok("GET", "/api/v1/matchbroker/admin/list-active-matches", Value::Null).await;
    assert_eq!(active, json!({}));
}

#[tokio::test]
async fn properties_reach_the_server_as_they_were_sent() {
    let server = Server::start().await;
    let text = "{ \"b\" : 1.0,\n \"a\": \"\\u00e9\" }";
    let game = json!({"matchId": "m1", "playerIds": ["p1"], "matchProperties": text});
    let emit = json!({"nestedEvent": {"newMatchEvent": {"match": game}}, "eventTags": ["new-match"]});
    let answer = server.ok("POST", "/api/v1/events/emit", emit).await;
    assert_eq!(answer, json!({"broadcastSuccess": true}));
    let offer = server.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    assert_eq!(offer["match"], game);
}

#[tokio::test]
async fn one_call_gets_several_matches_where_the_server_asks_for_them() {
    let server = Server::start().await;
    let mut ids = Vec::new();
    for player in ["p1", "p2", "p3", "p4"] {
        ids.push(server.submit(&[player]).await);
    }
    let offer = server.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    let fields: Vec<_> = offer.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["match"], "a server that does not ask for several sees no difference");
    let offer = server.ok("POST", REQUEST, json!({"serverId": "s1", "waitSeconds": 0})).await;
    assert_eq!(offer["match"]["matchId"], json!(ids[0]), "which it may not have heard about");
    assert_eq!(offer.get("matches"), None);

    let offer = server.ok("POST", REQUEST, json!({"serverId": "s2", "maxMatches": 2})).await;
    let matches = offer["matches"].as_array().unwrap();
    assert_eq!(matches.len(), 2);
    assert_eq!((&matches[0]["matchId"], &matches[1]["matchId"]), (&json!(ids[1]), &json!(ids[2])));
    assert_eq!(matches[1]["playerIds"], json!(["p3"]));
    assert_eq!(offer["match"], matches[0]);

    let offer = server.ok("POST", REQUEST, json!({"serverId": "s3", "max_matches": 1})).await;
    assert_eq!(offer["matches"], json!([{"matchId": ids[3], "playerIds": ["p4"]}]));
    let none = server.ok("POST", REQUEST, json!({"serverId": "s4", "maxMatches": 5})).await;
    assert_eq!(none, json!({}));
}

#[tokio::test]
async fn a_call_for_several_matches_collects_until_its_time_is_over() {
    let server = Server::start().await;
    let body = json!({"serverId": "s1", "maxMatches": 3, "waitSeconds": 10});
    let waiting = server.ok("POST", REQUEST, body);
    let submitting = async {
        server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
        let ids = [server.submit(&["p1"]).await, server.submit(&["p2"]).await];
        server.clock.advance(std::time::Duration::from_secs(10));
        ids
    };
    let (offer, ids) = soon(async { tokio::join!(waiting, submitting) }).await;
    let matches = offer["matches"].as_array().unwrap().iter().map(|game| game["matchId"].clone());
    assert_eq!(matches.collect::<Vec<_>>(), ids.map(Value::from));
}

#[tokio::test]
async fn what_a_call_has_collected_is_queued_again_when_its_connection_breaks() {
    let server = Server::start().await;
    let body = json!({"serverId": "s1", "maxMatches": 3, "waitSeconds": 300});
    let waiting = server.ok("POST", REQUEST, body);
    let collected = async {
        server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
        let ids = [server.submit(&["p1"]).await, server.submit(&["p2"]).await];
        server
            .await_event(
                |record| matches!(&record.event, Event::MatchPickedUp { id, .. } if id.as_str() == ids[1]),
            )
            .await;
        ids
    };
    let ids = soon(async {
        tokio::select! {
            answer = waiting => panic!("{answer}"),
            ids = collected => ids,
        }
    })
    .await;
    for id in ids {
        let back = |event: &Event| matches!(event, Event::MatchReturned { id: of, .. } if of.as_str() == id);
        soon(server.await_event(|record| back(&record.event))).await;
    }
}

#[tokio::test]
async fn a_waiting_server_gets_the_match_when_it_comes() {
    let server = Server::start().await;
    let waiting =
        server.ok("POST", REQUEST, json!({"serverId": "s1", "hintFlags": "HINT_FLAG_WILLING_TO_WAIT"}));
    let submitting = async {
        server.await_event(|record| matches!(record.event, Event::ServerRegistered { .. })).await;
        server.submit(&["p1"]).await
    };
    let (offer, id) = soon(async { tokio::join!(waiting, submitting) }).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
}

#[tokio::test]
async fn nothing_for_a_server_that_would_not_wait() {
    let server = Server::start().await;
    assert_eq!(server.ok("POST", REQUEST, json!({"serverId": "s1", "hintFlags": 16})).await, json!({}));
    let query =
        server.ok("POST", REQUEST, json!({"serverId": "s1", "requirements": "PlayerIds[?@ == 'p9']"}));
    server.submit(&["p1"]).await;
    assert_eq!(query.await, json!({}), "the match does not fit");
}

#[tokio::test]
async fn a_combination_of_hints_is_a_number() {
    let server = Server::start().await;
    let id = server.ready_match("s1", json!({"players": ["p1"]})).await;
    // SHUTDOWN and FULL.
    let end = json!({"serverId": "s1", "matchId": id, "hintFlags": 9});
    assert_eq!(server.ok("POST", END, end).await["matchId"], json!(id));
    server.await_event(|record| matches!(record.event, Event::ServerGone { .. })).await;
}

#[tokio::test]
async fn a_late_call_is_refused_with_the_answer_in_its_details() {
    let server = Server::start().await;
    server.submit(&["p1"]).await;
    let offer = server.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    let id = offer["match"]["matchId"].as_str().unwrap();
    server.clock.advance(std::time::Duration::from_secs(31));
    server.await_event(|record| matches!(record.event, Event::MatchFailed { .. })).await;

    let ready = json!({"serverId": "s1", "matchId": id, "connectionDetails": "x"});
    let (status, answer) = server.send("POST", READY, ready.to_string()).await;
    assert_eq!((status, &answer["code"]), (400, &json!(9)), "{answer}");
    assert_eq!(answer["details"][0]["reason"], "match_not_held");
    assert_eq!(
        answer["details"][1],
        json!({
            "@type": "type.googleapis.com/catena.catena_server_manager.MatchReadyResponse",
            "matchId": id, "hintFlags": "HINT_FLAG_SHUTDOWN",
        })
    );
    let end = json!({"serverId": "s1", "matchId": id});
    // The match failed on this server, so its report of the end is neither news nor an error.
    assert_eq!(server.ok("POST", END, end).await, json!({"matchId": id, "hintFlags": "HINT_FLAG_SHUTDOWN"}));
    let end = json!({"serverId": "s2", "matchId": id});
    let (status, answer) = server.send("POST", END, end.to_string()).await;
    let kind = "type.googleapis.com/catena.catena_server_manager.EndMatchResponse";
    assert_eq!((status, &answer["details"][1]), (400, &json!({"@type": kind, "matchId": id})), "{answer}");
    let again = server.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
    assert_eq!(again, json!({"hintFlags": "HINT_FLAG_SHUTDOWN"}));
}

#[tokio::test]
async fn administrators_start_and_stop_servers_and_end_matches() {
    let server = Server::start().await.with_fleet().await;
    let allocate = json!({"match": {"playerIds": ["p1"]}});
    let ordered = server.ok("POST", "/api/v1/server/allocate", allocate).await;
    let id = ordered["serverId"].as_str().unwrap().to_owned();
    let servers = server.ok("GET", "/api/v1/servers", Value::Null).await;
    assert_eq!(servers["servers"], json!([{"serverId": id, "originatingAllocator": "local"}]));
    let offer = server.ok("POST", REQUEST, json!({"serverId": id})).await;
    let game = offer["match"]["matchId"].as_str().unwrap();
    let gone = server.ok("POST", "/api/v1/server/deallocate", json!({"serverId": id})).await;
    assert_eq!(
        gone,
        json!({"success": true, "state": "SERVER_STATE_AVAILABLE", "matches": [{"matchId": game}]})
    );
    let view = server.ok("GET", &format!("/v1/matches/{game}"), Value::Null).await;
    assert_eq!((&view["state"], &view["reason"]), (&json!("failed"), &json!("server_deallocated")));

    let queued = server.submit(&["p2"]).await;
    let path = format!("/api/v1/matchbroker/admin/delete/{queued}");
    assert_eq!(server.ok("DELETE", &path, Value::Null).await, json!({"matchDeleted": true}));
    let (status, answer) = server.send("DELETE", &path, "").await;
    assert_eq!((status, &answer["details"][0]["reason"]), (400, &json!("match_over")), "{answer}");
}

#[tokio::test]
async fn settings_are_read_and_changed_one_by_one() {
    let server = Server::start().await;
    let config = "/api/v1/matchbroker/admin/config";
    let mut expected = json!({
        "fastSchedule": 1, "serverMaxLifetimeMinutes": 1440, "matchPickupTimeSeconds": 90, "matchReadyTimeSeconds": 30,
        "matchMaxRunTimeMinutes": 120, "scheduleFrequencySeconds": 30, "delayAllocationSeconds": 30,
    });
    assert_eq!(server.ok("GET", config, Value::Null).await, expected);
    let path = "/api/v1/matchbroker/admin/reconfigure?fastSchedule=2&matchMaxRunTimeMinutes=5&delayAllocationSeconds=0";
    assert_eq!(server.ok("POST", path, Value::Null).await, json!({"success": true}));
    expected["fastSchedule"] = json!(2);
    expected["matchMaxRunTimeMinutes"] = json!(5);
    expected.as_object_mut().unwrap().remove("delayAllocationSeconds");
    assert_eq!(server.ok("GET", config, Value::Null).await, expected);
}

#[tokio::test]
async fn health_and_allocators() {
    let mut server = Server::start().await;
    let health = server.ok("GET", "/api/v1/matchbroker/healthz", Value::Null).await;
    assert_eq!(health["healthy"], true);
    let available = server.ok("GET", "/api/v1/matchbroker/admin/allocators/available", Value::Null).await;
    assert_eq!(available, json!({"allocatorNames": ["local_process"]}));
    let configured = server.ok("GET", "/api/v1/matchbroker/admin/allocators/configured", Value::Null).await;
    let description = "processes on this machine";
    let one =
        json!({"name": "local", "description": description, "rawAllocatorConfiguration": r#"{"max":4}"#});
    assert_eq!(configured, json!({"allocators": [one]}));

    server.ok("GET", "/readyz", Value::Null).await;
    server.stop_engine().await;
    let health = server.ok("GET", "/api/v1/matchbroker/healthz", Value::Null).await;
    assert_eq!(health["healthy"], Value::Null, "{health}");
    let (status, answer) = server.send("GET", "/readyz", "").await;
    assert_eq!((status, &answer["error"]["code"]), (503, &json!("stopped")));
    server.ok("GET", "/healthz", Value::Null).await;
    let (status, _) = server.send("POST", REQUEST, r#"{"serverId":"s1"}"#).await;
    assert_eq!(status, 503);
}

#[tokio::test]
async fn what_fits_no_route_is_answered_in_json() {
    let server = Server::start().await;
    let (status, answer) = server.send("GET", "/api/v1/nothing", "").await;
    assert_eq!(
        (status, &answer["code"], &answer["details"][0]["reason"]),
        (404, &json!(5), &json!("not_found"))
    );
    let (status, answer) = server.send("GET", "/nothing", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    let response = server.request("PUT", "/v1/matches").send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"POST, GET".parse().unwrap())
    );
    let (status, answer) = server.send("GET", REQUEST, "").await;
    assert_eq!((status, &answer["code"]), (405, &json!(12)));
    let response =
        server.request("POST", REQUEST).header("content-type", "text/plain").body(r#"{"serverId":"s"}"#);
    assert_eq!(response.send().await.unwrap().status(), 200, "the content type does not matter");
}
