//! Whose data a caller may read and change: game servers by their keys.

use serde_json::{Value, json};
use sortie_api::{ApiKey, Auth, Limits, Permission, ServersOfKey};
use sortie_domain::ids::FleetId;
use sortie_identity::ServerKeys;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use sortie_wire::catena::server_manager::{EndMatchRequest, MatchReadyRequest, RequestMatchRequest};
use tonic::Code;

use crate::auth::{key, player_token, player_tokens, server_key};
use crate::grpc::channel;
use crate::harness::{Server, soon};

fn of_fleet(name: &str, fleet: &str) -> ApiKey {
    let servers = ServersOfKey::OfFleets(vec![FleetId::new(fleet).unwrap()]);
    ApiKey { servers, ..key(name, Permission::GameServerMatch) }
}

fn keys() -> Auth {
    let inherited = ApiKey { servers: ServersOfKey::Inherited, ..key("old", Permission::GameServerMatch) };
    let keys = [
        key("game", Permission::GameServerMatch),
        key("game2", Permission::GameServerMatch),
        of_fleet("local", "local"),
        of_fleet("other", "other"),
        inherited,
        key("client", Permission::Client),
        key("admin", Permission::Admin),
    ];
    Auth::keys(&keys)
        .with_players(player_tokens())
        .with_servers(ServerKeys::new(b"the secret of the servers"))
}

struct Site(Server);

impl Site {
    async fn start() -> Self {
        Self(Server::start_with(keys(), Limits::default()).await.with_fleet().await)
    }

    async fn call(&self, caller: &str, (method, path, body): &(&str, String, Value)) -> (u16, Value) {
        let request = self.0.request(method, path);
        let request = if caller.is_empty() { request } else { request.bearer_auth(caller) };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let response = soon(request.body(body).send()).await.unwrap();
        (response.status().as_u16(), soon(response.json()).await.unwrap())
    }

    async fn done(&self, caller: &str, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(caller, &(method, path.to_owned(), body)).await;
        assert!((200..300).contains(&status), "{method} {path} for {caller}: {status} {answer}");
        answer
    }

    /// A server of the fleet `local`.
    async fn started(&self) -> String {
        let answer = self.done("admin", "POST", "/api/v1/server/allocate", json!({})).await;
        answer["serverId"].as_str().unwrap().to_owned()
    }

    /// What an administrator sees of a match and its seats. Other things may change at the same time: platforms answer.
    async fn shown(&self, game: &str) -> [Value; 2] {
        let of_match = self.done("admin", "GET", &format!("/v1/matches/{game}"), Value::Null).await;
        [of_match, self.done("admin", "GET", &format!("/v1/matches/{game}/seats"), Value::Null).await]
    }

    /// A match that `server` has, ready, with a reserved seat: their ids.
    async fn plays(&self, key: &str, server: &str) -> (String, String) {
        let order = json!({"players": ["ann"], "capacity": 4, "properties": {"for": server}});
        self.done("client", "POST", "/v1/matches", order).await;
        let requirements = format!("MatchProperties.for == '{server}'");
        let ask = json!({"serverId": server, "requirements": requirements});
        let offer = self.done(key, "POST", "/api/v1/server/request_match", ask).await;
        let id = offer["match"]["matchId"].as_str().unwrap().to_owned();
        let ready = json!({"serverId": server, "matchId": id, "connectionDetails": "203.0.113.7:7777"});
        self.done(key, "POST", "/api/v1/server/match_ready", ready).await;
        let seat = json!({"player_id": "bob", "ttl_seconds": 60});
        let seat = self.done("client", "POST", &format!("/v1/matches/{id}/seats"), seat).await;
        (id, seat["seat_id"].as_str().unwrap().to_owned())
    }
}

/// Every call of a game server, about one server, its match and a seat of it; each with the answer to another game
/// server.
fn calls(server: &str, game: &str, seat: &str) -> Vec<((&'static str, String, Value), u16)> {
    let of = |path: &str| path.to_owned();
    let ready = json!({"serverId": server, "matchId": game, "connectionDetails": "203.0.113.7:7777"});
    vec![
        (("POST", of("/api/v1/server/request_match"), json!({"serverId": server})), 403),
        (("POST", of("/api/v1/server/match_ready"), ready), 403),
        (("GET", format!("/v1/matches/{game}"), Value::Null), 404),
        (("GET", format!("/v1/matches/{game}/seats"), Value::Null), 404),
        (("GET", format!("/v1/matches/{game}/seats?seen=0"), Value::Null), 404),
        (("PUT", format!("/v1/matches/{game}/free-seats"), json!({"free": 2})), 403),
        (("PUT", format!("/v1/matches/{game}/free-seats"), json!({"free": 2, "server_id": server})), 403),
        (("POST", format!("/v1/seats/{seat}/claim"), json!({"server_id": server})), 403),
        (("POST", format!("/v1/seats/{seat}/claim"), Value::Null), 403),
        (("DELETE", format!("/v1/seats/{seat}"), Value::Null), 403),
        (("POST", of("/api/v1/server/end_match"), json!({"serverId": server, "matchId": game})), 403),
    ]
}

#[tokio::test]
async fn a_game_server_gets_and_changes_its_own_only() {
    let site = Site::start().await;
    let (a, b) = (site.started().await, site.started().await);
    let (key_a, key_b) = (server_key(&a), server_key(&b));
    let (own, _) = site.plays(&key_a, &a).await;
    let (game, seat) = site.plays(&key_b, &b).await;
    let forged = format!("{}x", &key_b[..key_b.len() - 1]);
    let before = site.shown(&game).await;
    for (call, refused) in calls(&b, &game, &seat) {
        // Keys of other servers, and keys that do not speak for this one.
        for stranger in [&*key_a, "game", "old", "other"] {
            let (status, answer) = site.call(stranger, &call).await;
            assert_eq!(status, refused, "{call:?} for {stranger}: {answer}");
            assert!(!answer.to_string().contains("203.0.113"), "{answer}");
        }
        for (caller, expected) in [("", 401), (&*forged, 401), ("wrong", 401)] {
            assert_eq!(site.call(caller, &call).await.0, expected, "{call:?} for {caller:?}");
        }
        let clients = refused == 404 || call.0 == "DELETE";
        for (caller, may) in [("client", clients), (&*player_token("ann"), false)] {
            if !may {
                assert_eq!(site.call(caller, &call).await.0, 403, "{call:?} for {caller}");
            }
        }
    }
    // Having its own match does not give access to the other's.
    let mixed = json!({"serverId": a, "matchId": game});
    let (status, answer) = site.call(&key_a, &("POST", "/api/v1/server/end_match".to_owned(), mixed)).await;
    assert_eq!((status, &answer["details"][0]["reason"]), (400, &json!("match_not_held")), "{answer}");
    assert_eq!(site.shown(&game).await, before, "nothing has changed");
    for caller in [&*key_b, "local", "admin"] {
        for path in [format!("/v1/matches/{game}"), format!("/v1/matches/{game}/seats")] {
            site.done(caller, "GET", &path, Value::Null).await;
        }
    }
    site.done("client", "GET", &format!("/v1/matches/{game}/seats"), Value::Null).await;
    for ((method, path, body), _) in calls(&b, &game, &seat) {
        // A seat can be claimed only once.
        if body != Value::Null || !path.ends_with("/claim") {
            site.done(&key_b, method, &path, body).await;
        }
    }
    site.done("local", "POST", "/api/v1/server/end_match", json!({"serverId": a, "matchId": own})).await;
}

#[tokio::test]
async fn the_same_holds_over_grpc() {
    let site = Site::start().await;
    let (a, b) = (site.started().await, site.started().await);
    let (game, _) = site.plays(&server_key(&b), &b).await;
    let mut manager = CatenaServerManagerClient::new(channel(&site.0).await);
    let key = format!("Bearer {}", server_key(&a));
    macro_rules! code {
        ($method:ident, $message:expr) => {{
            let mut request = tonic::Request::new($message);
            request.metadata_mut().insert("authorization", key.parse().unwrap());
            soon(manager.$method(request)).await.map_or_else(|status| status.code(), |_| Code::Ok)
        }};
    }
    let ask = |server: &str| RequestMatchRequest { server_id: server.into(), ..Default::default() };
    let (server_id, match_id) = (b.clone(), game.clone());
    let ready = MatchReadyRequest {
        server_id: server_id.clone(),
        match_id: match_id.clone(),
        connection_details: "203.0.113.7:7777".into(),
        ..Default::default()
    };
    let before = site.shown(&game).await;
    assert_eq!(code!(request_match, ask(&b)), Code::PermissionDenied);
    assert_eq!(code!(match_ready, ready), Code::PermissionDenied);
    let end = EndMatchRequest { server_id, match_id, ..Default::default() };
    assert_eq!(code!(end_match, end), Code::PermissionDenied);
    assert_eq!(site.shown(&game).await, before, "nothing has changed");
    assert_eq!(code!(request_match, ask(&a)), Code::Ok);
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_to_exit_and_changes_nothing() {
    let site = Site::start().await;
    let server = site.started().await;
    let key = server_key(&server);
    let (game, seat) = site.plays(&key, &server).await;
    site.done("admin", "POST", "/api/v1/server/deallocate", json!({"serverId": server})).await;
    let never = server_key("server-of-long-ago");
    let ask = |server: &str| ("POST", "/api/v1/server/request_match".to_owned(), json!({"serverId": server}));
    let before = site.shown(&game).await;
    for (key, server) in [(&key, &*server), (&never, "server-of-long-ago")] {
        let (status, answer) = site.call(key, &ask(server)).await;
        assert_eq!((status, &answer["hintFlags"]), (200, &json!("HINT_FLAG_SHUTDOWN")), "{answer}");
    }
    let end = json!({"serverId": server, "matchId": game});
    let (status, answer) = site.call(&key, &("POST", "/api/v1/server/end_match".to_owned(), end)).await;
    assert!(status == 200 || status == 400, "{answer}");
    assert!(answer.to_string().contains("SHUTDOWN"), "{answer}");
    for (call, _) in calls(&server, &game, &seat) {
        if !call.1.starts_with("/api/") {
            let (status, answer) = site.call(&key, &call).await;
            assert!(
                [403, 404, 409, 410].contains(&status) || call.0 == "DELETE",
                "{call:?}: {status} {answer}"
            );
        }
    }
    assert_eq!(site.shown(&game).await, before, "nothing has changed");
    let servers = site.done("admin", "GET", "/v1/servers", Value::Null).await.to_string();
    assert!(!servers.contains("server-of-long-ago") && !servers.contains(&server), "{servers}");
}

#[tokio::test]
async fn who_registers_a_server_has_it() {
    let site = Site::start().await;
    let (game, seat) = site.plays("game", "own-1").await;
    let before = site.shown(&game).await;
    for (call, refused) in calls("own-1", &game, &seat) {
        for stranger in ["game2", "old", "local", &*server_key("server-1")] {
            let (status, answer) = site.call(stranger, &call).await;
            assert_eq!(status, refused, "{call:?} for {stranger}: {answer}");
        }
    }
    assert_eq!(site.shown(&game).await, before, "nothing has changed");
    for ((method, path, body), _) in calls("own-1", &game, &seat) {
        if body != Value::Null || !path.ends_with("/claim") {
            site.done("game", method, &path, body).await;
        }
    }
    // One key may have many, and a free id can be taken by any key.
    site.plays("game", "own-2").await;
    site.done("game2", "POST", "/api/v1/server/request_match", json!({"serverId": "own-3"})).await;
}

#[tokio::test]
async fn a_server_that_an_older_version_started_goes_on_with_the_key_that_it_has() {
    let site = Site::start().await;
    let (old, new) = (site.started().await, site.started().await);
    let (game, seat) = site.plays("old", &old).await;
    site.plays(&server_key(&new), &new).await;
    for ((method, path, body), _) in calls(&old, &game, &seat) {
        if body != Value::Null || !path.ends_with("/claim") {
            site.done("old", method, &path, body).await;
        }
    }
    let other = ("POST", "/api/v1/server/request_match".to_owned(), json!({"serverId": new}));
    assert_eq!(site.call("old", &other).await.0, 403, "a server with a key of its own");
}
