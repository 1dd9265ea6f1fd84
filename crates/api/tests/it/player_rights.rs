//! What players may put into their own tickets, and what they see of tickets that they share with others.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_api::{Auth, Limits, NamingOthers, Permission, PlayerRights};
use sortie_domain::ids::{HookId, QueueId};
use sortie_domain::matchmaking::settings::{
    Hook, HookPoint, Measure, OnFailure, OutsideHook, Queue, Rule, RuleKind, Settings,
};
use sortie_domain::matchmaking::{Command, Event};
use sortie_wire::catena::common::{Entity, EntityMetadata, EntityType};
use sortie_wire::catena::matchmaking::StartMatchmakingRequest;
use sortie_wire::catena::matchmaking::catena_matchmaking_client::CatenaMatchmakingClient;

use crate::auth::{key, player_token, player_tokens};
use crate::grpc::channel;
use crate::harness::{Server, soon};

/// `pair` is for two on one team, `asked` asks them first, `party` has the hook for parties, `checked` has another hook
/// that checks them, `rated` uses ratings, `wide` is for three.
pub(crate) async fn site(rights: PlayerRights) -> Server {
    let auth = Auth::keys(&[key("client", Permission::Client), key("game", Permission::GameServerMatch)]);
    let server =
        Server::start_for_players(auth.with_players(player_tokens()), Limits::default(), rights).await;
    let pair = Queue { teams: 1, players_per_team: 2, min_players_per_team: 2, ..Queue::default() };
    let asked = Queue { accept: Some(Duration::from_secs(20)), ..pair.clone() };
    let party = Queue { hooks: vec![Hook::PartyMembership], ..pair.clone() };
    let friends = OutsideHook {
        id: HookId::new("friends").unwrap(),
        about: HookPoint::ValidateTicket,
        timeout: Duration::from_secs(20),
        on_failure: OnFailure::Refuse,
        interval: None,
        address: None,
    };
    let hooks = vec![Hook::PartyMembership, Hook::Outside(friends)];
    let checked = Queue { hooks, ..pair.clone() };
    let skill =
        RuleKind::Distance { property: "mmr".into(), measure: Measure::Average, most: 10.0, missing: 0.0 };
    let level =
        RuleKind::Distance { property: "level".into(), measure: Measure::Ticket, most: 1.0, missing: 0.0 };
    let rules = vec![Rule::new("skill", skill), Rule::new("level", level)];
    let rated = Queue { rules, ..pair.clone() };
    let wide = Queue { players_per_team: 3, min_players_per_team: 3, ..pair.clone() };
    let queues = [
        ("pair", pair),
        ("asked", asked),
        ("party", party),
        ("checked", checked),
        ("rated", rated),
        ("wide", wide),
    ];
    let queues = queues.map(|(name, queue)| (QueueId::new(name).unwrap(), queue)).into();
    let settings = Settings { queues, tick: Duration::ZERO, ..Settings::default() };
    server.maker.as_ref().unwrap().call(Command::Configure { settings }).await.unwrap();
    server
}

pub(crate) async fn send(
    server: &Server,
    method: &str,
    path: &str,
    bearer: &str,
    body: &Value,
) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = soon(server.request(method, path).bearer_auth(bearer).body(body).send()).await.unwrap();
    (response.status().as_u16(), soon(response.json()).await.unwrap())
}

fn secretive(id: &str) -> Value {
    json!({
        "id": id, "ratings": {"mmr": 1234}, "latencies": {"eu": 77},
        "blocked": [format!("enemy-of-{id}")], "properties": {"secret": format!("secret-of-{id}")},
    })
}

async fn started(server: &Server, queue: &str) -> String {
    let order = json!({"queue": queue, "players": [secretive("ann"), secretive("bob")], "leader": "ann"});
    let (status, answer) = send(server, "POST", "/v1/tickets", "client", &order).await;
    assert_eq!(status, 201, "{answer}");
    answer["ticket_id"].as_str().unwrap().to_owned()
}

/// What `ann` may see: her own data, and only the id of `bob`.
fn check_seen_by_ann(answer: &Value) {
    let shown = answer.to_string();
    for own in ["enemy-of-ann", "secret-of-ann", "\"id\":\"bob\""] {
        assert!(shown.contains(own), "{own} in {shown}");
    }
    for others in ["enemy-of-bob", "secret-of-bob", "bobs-door"] {
        assert!(!shown.contains(others), "{others} in {shown}");
    }
    let bob = answer.pointer("/parties/0/players/1").or(answer.pointer("/tickets/0/parties/0/players/1"));
    assert_eq!(bob, Some(&json!({"id": "bob"})));
}

#[tokio::test]
async fn a_player_sees_of_others_in_its_ticket_that_they_are_there() {
    let server = site(PlayerRights::default()).await;
    let ann = player_token("ann");
    let ticket = started(&server, "asked").await;
    let path = format!("/v1/tickets/{ticket}");
    server.await_ticket(|record| matches!(record.event, Event::MatchProposed { .. })).await;
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", "/v1/tickets".to_owned()),
        ("POST", format!("{path}/accept")),
        ("POST", format!("{path}/decline")),
    ] {
        let (status, answer) = send(&server, method, &path, &ann, &Value::Null).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        check_seen_by_ann(&answer);
    }
    let ticket = started(&server, "wide").await;
    let (status, answer) =
        send(&server, "DELETE", &format!("/v1/tickets/{ticket}"), &ann, &Value::Null).await;
    assert_eq!(status, 200, "{answer}");
    check_seen_by_ann(&answer);
    let (_, all) = send(&server, "GET", &format!("/v1/tickets/{ticket}"), "client", &Value::Null).await;
    assert!(all.to_string().contains("secret-of-bob"), "a backend sees all of it: {all}");
    assert_eq!(send(&server, "GET", &path, &player_token("eve"), &Value::Null).await.0, 404);
}

#[tokio::test]
async fn a_player_sees_where_it_connects_itself_and_not_where_others_do() {
    let server = site(PlayerRights::default()).await;
    let ticket = started(&server, "pair").await;
    let ask = json!({"serverId": "s1"});
    let asked = async || send(&server, "POST", "/api/v1/server/request_match", "game", &ask).await.1;
    let id = soon(async {
        loop {
            if let Some(id) = asked().await["match"]["matchId"].as_str() {
                return id.to_owned();
            }
        }
    });
    let ready = json!({
        "serverId": "s1", "matchId": id.await, "connectionDetails": "203.0.113.7:7777",
        "perPlayerConnectionDetails": {"ann": "anns-door", "bob": "bobs-door"},
    });
    assert_eq!(send(&server, "POST", "/api/v1/server/match_ready", "game", &ready).await.0, 200);
    let id = ticket.clone();
    server
        .await_ticket(move |record| {
            matches!(&record.event, Event::MatchReady { tickets, .. }
                if tickets.iter().any(|named| named.ticket.as_str() == id))
        })
        .await;
    let path = format!("/v1/tickets/{ticket}");
    for (player, own) in [("ann", "anns-door"), ("bob", "bobs-door")] {
        for method in ["GET", "DELETE"] {
            let (_, answer) = send(&server, method, &path, &player_token(player), &Value::Null).await;
            if method == "GET" {
                assert_eq!(answer["per_player_connection_details"], json!({ player: own }), "{answer}");
            }
            let other = if player == "ann" { "bobs-door" } else { "anns-door" };
            assert!(!answer.to_string().contains(other), "{method} for {player}: {answer}");
        }
    }
    let (_, all) = send(&server, "GET", &path, "client", &Value::Null).await;
    assert_eq!(all["per_player_connection_details"], json!({"ann": "anns-door", "bob": "bobs-door"}));
}

fn party_of_two(queue: &str) -> Value {
    json!({"queue": queue, "players": [{"id": "ann"}, {"id": "bob"}]})
}

/// The same order over Catena's contract.
fn group(queue: &str) -> Value {
    let account = |id: &str| json!({"id": id, "entityType": "ENTITY_TYPE_ACCOUNT"});
    json!({"entity": {
        "id": "party", "entityType": "ENTITY_TYPE_GROUP", "entities": [account("ann"), account("bob")],
        "metadata": {"queue_name": {"stringPayload": queue}},
    }})
}

pub(crate) const START: &str = "/api/v1/matchmaking/start";

#[tokio::test]
async fn a_player_names_others_only_where_that_is_allowed() {
    for (naming, opens) in [
        (NamingOthers::No, &[][..]),
        (NamingOthers::default(), &["checked"]),
        (NamingOthers::Yes, &["pair", "party", "checked"]),
    ] {
        for queue in ["pair", "party", "checked"] {
            for (path, order) in [("/v1/tickets", party_of_two(queue)), (START, group(queue))] {
                let server = site(PlayerRights { may_name_others: naming, ..PlayerRights::default() }).await;
                let (status, answer) = send(&server, "POST", path, &player_token("ann"), &order).await;
                assert_eq!(status < 300, opens.contains(&queue), "{naming:?} {path} {queue}: {answer}");
                if status >= 300 {
                    assert_eq!(status, 403, "{answer}");
                    assert!(answer.to_string().contains("forbidden"), "{answer}");
                }
            }
        }
    }
    let server = site(PlayerRights::default()).await;
    let path = "/api/v1/matchmaking/server/start";
    assert_eq!(send(&server, "POST", path, "client", &group("pair")).await.0, 200, "a backend may");
}

fn account(metadata: &Value) -> Value {
    json!({"entity": {"id": "ann", "entityType": "ENTITY_TYPE_ACCOUNT", "metadata": metadata}})
}

/// What the matchmaker has of ann's ticket.
async fn held(server: &Server) -> String {
    let player = sortie_domain::ids::PlayerId::new("ann").unwrap();
    let maker = server.maker.as_ref().unwrap();
    let spec =
        maker.query(move |maker| maker.tickets_of(&player).next().map(|ticket| ticket.spec.clone())).await;
    let spec = spec.unwrap().expect("a ticket");
    let ratings: Vec<_> = spec.players().flat_map(|player| player.ratings.values()).collect();
    let of_player = spec.players().map(|player| player.properties.text().unwrap_or_default().to_owned());
    format!("{ratings:?} {:?} {:?}", spec.properties.text(), of_player.collect::<Vec<_>>())
}

#[tokio::test]
async fn over_catena_s_contract_what_a_player_says_of_its_worth_is_left_out() {
    let metadata = json!({
        "queue_name": {"stringPayload": "rated"}, "mmr": {"intPayload": "9000"}, "level": {"intPayload": "7"},
        "ratings": {"jsonPayload": "{\"mmr\":9000}"}, "map": {"stringPayload": "dust"},
        "properties": {"jsonPayload": "{\"mmr\":9000,\"level\":7}"},
    });
    let server = site(PlayerRights::default()).await;
    let ann = player_token("ann");
    assert_eq!(send(&server, "POST", START, &ann, &account(&metadata)).await.0, 200);
    let known = held(&server).await;
    assert!(known.starts_with("[] ") && known.contains("dust"), "{known}");
    assert!(!known.contains("9000") && !known.contains("mmr") && !known.contains("level"), "{known}");

    let server = site(PlayerRights::default()).await;
    let mut client = CatenaMatchmakingClient::new(channel(&server).await);
    let text = |text: &str| EntityMetadata { string_payload: Some(text.into()), ..Default::default() };
    let number = EntityMetadata { int_payload: Some(9000), ..Default::default() };
    let entity = Entity {
        id: "ann".into(),
        entity_type: EntityType::Account.into(),
        metadata: [("queue_name".to_owned(), text("rated")), ("mmr".to_owned(), number)].into(),
        ..Default::default()
    };
    let mut request = tonic::Request::new(StartMatchmakingRequest { entity: Some(entity) });
    request.metadata_mut().insert("catena-session-id", ann.parse().unwrap());
    soon(client.start_matchmaking(request)).await.unwrap();
    assert!(!held(&server).await.contains("9000"), "over gRPC");

    let server = site(PlayerRights { may_rate_themselves: true, ..PlayerRights::default() }).await;
    assert_eq!(send(&server, "POST", START, &ann, &account(&metadata)).await.0, 200);
    assert!(held(&server).await.starts_with("[7.0, 9000.0] "), "{}", held(&server).await);

    let server = site(PlayerRights::default()).await;
    let path = "/api/v1/matchmaking/server/start";
    assert_eq!(send(&server, "POST", path, "client", &account(&metadata)).await.0, 200);
    assert!(held(&server).await.starts_with("[7.0, 9000.0] "), "a backend may");
}

#[tokio::test]
async fn natively_what_a_player_says_of_its_worth_is_refused() {
    let order = |of_ticket: Value, player: Value| {
        let mut player = player;
        player["id"] = "ann".into();
        json!({"queue": "rated", "players": [player], "properties": of_ticket})
    };
    let ann = player_token("ann");
    for (order, field) in [
        (order(json!({}), json!({"ratings": {"mmr": 9000}})), "ratings"),
        (order(json!({"mmr": 9000}), json!({})), "properties.mmr"),
        (order(json!({"level": 7}), json!({})), "properties.level"),
        (order(json!({}), json!({"properties": {"mmr": 9000}})), "properties.mmr"),
    ] {
        let server = site(PlayerRights::default()).await;
        let (status, answer) = send(&server, "POST", "/v1/tickets", &ann, &order).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["field"]), (403, &json!("forbidden"), &json!(field)));
        assert_eq!(send(&server, "POST", "/v1/tickets", "client", &order).await.0, 201, "a backend may");
        let server = site(PlayerRights { may_rate_themselves: true, ..PlayerRights::default() }).await;
        assert_eq!(send(&server, "POST", "/v1/tickets", &ann, &order).await.0, 201, "{answer}");
    }
    let server = site(PlayerRights::default()).await;
    let allowed = order(
        json!({"map": "dust"}),
        json!({"blocked": ["eve"], "latencies": {"eu": 20}, "properties": {"skin": 3}}),
    );
    let (status, answer) = send(&server, "POST", "/v1/tickets", &ann, &allowed).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test]
async fn an_idempotency_key_of_a_player_is_its_own() {
    let server = site(PlayerRights::default()).await;
    let order =
        |player: &str| json!({"queue": "pair", "players": [{"id": player}], "idempotency_key": "once"});
    let start = async |player: &str| {
        send(&server, "POST", "/v1/tickets", &player_token(player), &order(player)).await
    };
    let (first, again, other) = (start("ann").await, start("ann").await, start("bob").await);
    assert_eq!((first.0, &again), (201, &first));
    assert_eq!(other.0, 201, "{other:?}");
    assert_ne!(other.1, first.1);
}

/// A player's data about the players it brings along is ignored, even if it may rate itself.
#[tokio::test]
async fn a_player_says_of_others_no_more_than_who_they_are() {
    let rights = PlayerRights { may_name_others: NamingOthers::Yes, may_rate_themselves: true };
    let ann = player_token("ann");
    for (field, said) in [
        ("ratings", json!({"mmr": 1})),
        ("latencies", json!({"eu": 999})),
        ("blocked", json!(["eve"])),
        ("properties", json!({"skin": 3})),
    ] {
        let of = |id: &str| json!({"id": id, field: said});
        let order = |players: [Value; 2]| json!({"queue": "pair", "players": players, "leader": "ann"});
        let server = site(rights).await;
        let others = order([json!({"id": "ann"}), of("bob")]);
        let (status, answer) = send(&server, "POST", "/v1/tickets", &ann, &others).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["field"]), (403, &json!("forbidden"), &json!("players")));
        let own = order([of("ann"), json!({"id": "bob"})]);
        let (status, answer) = send(&server, "POST", "/v1/tickets", &ann, &own).await;
        assert_eq!(status, 201, "{field} of itself: {answer}");

        // Over Catena's contract, where such numbers may be anywhere, it is left out.
        let server = site(rights).await;
        let mut entity = group("pair");
        // A member without a special meaning is a property.
        let metadata = match field {
            "properties" => json!({"skin": {"stringPayload": "red"}}),
            field => json!({ field: {"jsonPayload": said.to_string()} }),
        };
        for account in entity["entity"]["entities"].as_array_mut().unwrap() {
            account["metadata"] = metadata.clone();
        }
        let (status, answer) = send(&server, "POST", START, &ann, &entity).await;
        assert_eq!(status, 200, "{answer}");
        let id = sortie_domain::ids::PlayerId::new("ann").unwrap();
        let maker = server.maker.as_ref().unwrap();
        let spec =
            maker.query(move |maker| maker.tickets_of(&id).next().map(|ticket| ticket.spec.clone())).await;
        let spec = spec.unwrap().expect("a ticket");
        for player in spec.players() {
            let is_bare = *player == sortie_domain::matchmaking::model::Player::new(player.id.clone());
            assert_eq!(is_bare, player.id.as_str() == "bob", "{field}: {player:?}");
        }
    }
}

/// A player may replace tickets that it is in; others' tickets are not found.
#[tokio::test]
async fn a_player_replaces_its_own_ticket_only() {
    let rights = PlayerRights { may_name_others: NamingOthers::Yes, ..PlayerRights::default() };
    let server = site(rights).await;
    let order = |player: &str, old: &str, players: &[&str]| {
        let players: Vec<Value> = players.iter().map(|id| json!({"id": id})).collect();
        json!({"queue": "wide", "players": players, "replaces": old, "idempotency_key": format!("of {player}")})
    };
    let party = json!({"queue": "wide", "players": [{"id": "ann"}, {"id": "bob"}]});
    let (status, answer) = send(&server, "POST", "/v1/tickets", &player_token("ann"), &party).await;
    assert_eq!(status, 201, "{answer}");
    let old = answer["ticket_id"].as_str().unwrap();
    let eve = player_token("eve");
    for replaces in [old, "nothing"] {
        let (status, answer) =
            send(&server, "POST", "/v1/tickets", &eve, &order("eve", replaces, &["eve", "ann"])).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("ticket_not_found")), "{answer}");
    }
    let ann = player_token("ann");
    let alone = order("ann", old, &["ann"]);
    let (status, started) = send(&server, "POST", "/v1/tickets", &ann, &alone).await;
    assert_eq!(status, 201, "{started}");
    assert_eq!(
        send(&server, "POST", "/v1/tickets", &ann, &alone).await,
        (201, started.clone()),
        "it is the same ticket"
    );
    let path = format!("/v1/tickets/{old}");
    let (_, shown) = send(&server, "GET", &path, &player_token("bob"), &Value::Null).await;
    assert_eq!(shown["reason"], "replaced", "{shown}");
    // The same order again, when the old ticket is forgotten.
    let forgetful = Settings {
        status_expiration: Duration::ZERO,
        ..server.maker.as_ref().unwrap().query(|maker| maker.settings().clone()).await.unwrap()
    };
    server.maker.as_ref().unwrap().call(Command::Reconfigure { settings: forgetful }).await.unwrap();
    assert_eq!(send(&server, "GET", &path, "client", &Value::Null).await.0, 404);
    assert_eq!(send(&server, "POST", "/v1/tickets", &ann, &alone).await, (201, started));
}
