//! A player in a running match cannot start a ticket: it is told the match, to which the gateway leads it back.

use serde_json::{Value, json};
use sortie_api::PlayerRights;

use crate::auth::player_token;
use crate::harness::Server;
use crate::player_rights::{START, send, site};

async fn submit(server: &Server, order: Value) -> String {
    let (status, answer) = send(server, "POST", "/v1/matches", "client", &order).await;
    assert_eq!(status, 202, "{answer}");
    answer["match_id"].as_str().unwrap().to_owned()
}

async fn reserve(server: &Server, match_id: &str, player: &str) {
    let path = format!("/v1/matches/{match_id}/seats");
    let (status, answer) = send(server, "POST", &path, "client", &json!({ "player_id": player })).await;
    assert_eq!(status, 201, "{answer}");
}

async fn start(server: &Server, player: &str, more: Value) -> (u16, Value) {
    let mut order = json!({"queue": "pair", "players": [{"id": player}]});
    order.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    send(server, "POST", "/v1/tickets", &player_token(player), &order).await
}

async fn tickets_of(server: &Server, player: &str) -> Value {
    send(server, "GET", &format!("/v1/tickets?player={player}"), "client", &Value::Null).await.1["tickets"]
        .clone()
}

#[tokio::test]
async fn a_player_of_a_running_match_is_told_of_it_instead_of_starting_a_ticket() {
    let server = site(PlayerRights::default()).await;
    let named = submit(&server, json!({"players": ["ann"]})).await;
    let open = submit(&server, json!({"players": [], "capacity": 4})).await;
    reserve(&server, &open, "bob").await;
    for (player, id) in [("ann", &named), ("bob", &open)] {
        let message =
            format!("player {player} has a place in match {id}; come back to that match, or leave it first");
        let error = json!({"code": "already_in_match", "message": message, "match_id": id});
        assert_eq!(start(&server, player, json!({})).await, (409, json!({ "error": error })));
        assert_eq!(tickets_of(&server, player).await, json!([]));
    }
    // A backend knows whether a player whom a match names is still there.
    let order = json!({"queue": "pair", "players": [{"id": "ann"}]});
    assert_eq!(send(&server, "POST", "/v1/tickets", "client", &order).await.0, 201);
    let path = format!("/v1/matches/{open}");
    assert_eq!(send(&server, "DELETE", &path, "client", &Value::Null).await.0, 200);
    assert_eq!(start(&server, "bob", json!({})).await.0, 201);
}

#[tokio::test]
async fn a_player_is_not_told_in_which_match_others_are() {
    let rights = PlayerRights { may_name_others: sortie_api::NamingOthers::Yes, ..PlayerRights::default() };
    let server = site(rights).await;
    submit(&server, json!({"players": ["bob"]})).await;
    let (status, answer) = start(&server, "ann", json!({"players": [{"id": "ann"}, {"id": "bob"}]})).await;
    let error = json!({"code": "already_in_match", "message": "player bob has a place in a running match"});
    assert_eq!((status, answer), (409, json!({ "error": error })));
}

#[tokio::test]
async fn an_order_that_is_repeated_is_answered_with_its_ticket() {
    let server = site(PlayerRights::default()).await;
    let key = json!({"idempotency_key": "once"});
    let first = start(&server, "ann", key.clone()).await;
    assert_eq!(first.0, 201);
    submit(&server, json!({"players": ["ann"]})).await;
    assert_eq!(start(&server, "ann", key).await, first);
}

#[tokio::test]
async fn a_ticket_gives_way_to_a_seat_that_is_taken_at_the_same_time() {
    let server = site(PlayerRights::default()).await;
    let id = submit(&server, json!({"players": [], "capacity": 4})).await;
    reserve(&server, &id, "late").await;
    let (status, answer) = start(&server, "late", json!({})).await;
    assert_eq!(
        (status, &answer["error"]["code"], &answer["error"]["match_id"]),
        (409, &json!("already_in_match"), &json!(id))
    );
    assert_eq!(tickets_of(&server, "late").await, json!([]));
}

#[tokio::test]
async fn over_catena_s_contract_only_a_seat_keeps_a_player_from_starting_a_ticket() {
    let server = site(PlayerRights::default()).await;
    submit(&server, json!({"players": ["ann"]})).await;
    let open = submit(&server, json!({"players": [], "capacity": 4})).await;
    for player in ["bob", "late"] {
        reserve(&server, &open, player).await;
    }
    let account = |id: &str| {
        json!({"entity": {
            "id": id, "entityType": "ENTITY_TYPE_ACCOUNT", "metadata": {"queue_name": {"stringPayload": "pair"}},
        }})
    };
    for player in ["bob", "late"] {
        let (status, answer) = send(&server, "POST", START, &player_token(player), &account(player)).await;
        assert_eq!((status, &answer["code"]), (400, &json!(9)), "{answer}");
        let info = &answer["details"][0];
        assert_eq!(
            (&info["reason"], &info["metadata"]["match_id"]),
            (&json!("already_in_match"), &json!(open))
        );
        assert_eq!(tickets_of(&server, player).await, json!([]));
    }
    assert_eq!(send(&server, "POST", START, &player_token("ann"), &account("ann")).await.0, 200);
}

/// A ticket that a backend starts for players, by each contract: the status, the code, and the match that it names.
async fn by_backend(server: &Server, players: &[&str]) -> [(u16, Value, Value); 2] {
    let of_players: Vec<_> = players.iter().map(|id| json!({ "id": id })).collect();
    let order = json!({"queue": "pair", "players": of_players});
    let (status, answer) = send(server, "POST", "/v1/tickets", "client", &order).await;
    let native = (status, answer["error"]["code"].clone(), answer["error"]["match_id"].clone());
    let account = |id: &str| json!({"id": id, "entityType": "ENTITY_TYPE_ACCOUNT"});
    let mut entity = account(players[0]);
    if players.len() > 1 {
        let members: Vec<_> = players.iter().map(|id| account(id)).collect();
        entity = json!({"id": "party", "entityType": "ENTITY_TYPE_GROUP", "entities": members});
    }
    entity["metadata"] = json!({"queue_name": {"stringPayload": "pair"}});
    let order = json!({ "entity": entity });
    let path = "/api/v1/matchmaking/server/start";
    let (status, answer) = send(server, "POST", path, "client", &order).await;
    let info = &answer["details"][0];
    [native, (status, info["reason"].clone(), info["metadata"]["match_id"].clone())]
}

#[tokio::test]
async fn a_backend_starts_no_ticket_for_a_player_who_has_a_seat() {
    let server = site(PlayerRights::default()).await;
    let open = submit(&server, json!({"players": [], "capacity": 4})).await;
    reserve(&server, &open, "bob").await;
    let said = json!("already_in_match");
    for players in [&["bob"][..], &["eve", "bob"]] {
        let refused = [(409, said.clone(), json!(open)), (400, said.clone(), json!(open))];
        assert_eq!(by_backend(&server, players).await, refused, "{players:?}");
        for player in players {
            assert_eq!(tickets_of(&server, player).await, json!([]), "{player}");
        }
    }
    let path = format!("/v1/matches/{open}");
    assert_eq!(send(&server, "DELETE", &path, "client", &Value::Null).await.0, 200);
    assert_eq!(by_backend(&server, &["bob"]).await[0].0, 201, "its match is over");
}
