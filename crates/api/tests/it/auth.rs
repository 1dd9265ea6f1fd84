//! Who may call what.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use ring::hmac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sortie_api::{ApiKey, Auth, KeyRing, KeySource, Limits, Permission, ServersOfKey};
use sortie_domain::ids::ServerId;
use sortie_identity::{Fetching, PlayerTokens, ServerKeys, TokenKeys, TokenOptions};
use sortie_wire::catena::server_manager::RequestMatchRequest;
use sortie_wire::catena::server_manager::catena_server_manager_client::CatenaServerManagerClient;
use tonic::Code;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::grpc::channel;
use crate::harness::{Pieces, Server, soon};

const SECRET: [u8; 32] = *b"the secret of the player tokens!";

pub(crate) fn key(text: &str, permission: Permission) -> ApiKey {
    let servers = ServersOfKey::default();
    ApiKey { name: text.into(), sha256: Sha256::digest(text).into(), permissions: vec![permission], servers }
}

pub(crate) fn keys() -> Auth {
    let keys = [
        key("game", Permission::GameServerMatch),
        key("client", Permission::Client),
        key("admin", Permission::Admin),
    ];
    Auth::keys(&keys).with_servers(ServerKeys::new(b"the secret of the servers"))
}

pub(crate) fn server_key(server: &str) -> String {
    ServerKeys::new(b"the secret of the servers").key(&ServerId::new(server).unwrap())
}

pub(crate) fn player_tokens() -> PlayerTokens {
    let options = TokenOptions {
        issuer: "the test".into(),
        audience: "sortie".into(),
        leeway: Duration::ZERO,
        keys: TokenKeys::Secret(SECRET.to_vec().into()),
        fetching: Fetching::default(),
    };
    PlayerTokens::new(options).unwrap()
}

pub(crate) fn player_token(player: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "the test", "aud": "sortie", "sub": player, "exp": now + 600});
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), message.as_bytes());
    format!("{message}.{}", encode(signature.as_ref()))
}

/// Credentials: a key, the own key of a server that was started here, a player token.
const CALLERS: [&str; 5] = ["game", "server", "client", "admin", "player"];

const GAME: &[&str] = &["game", "server", "admin"];
const CLIENT: &[&str] = &["client", "admin"];
const CLIENT_OR_GAME: &[&str] = &["game", "server", "client", "admin"];
pub(crate) const CLIENT_OR_PLAYER: &[&str] = &["client", "admin", "player"];
const ADMIN: &[&str] = &["admin"];
/// No credentials are needed.
const ANYBODY: &[&str] = &CALLERS;

/// Each route with the callers that may use it.
pub(crate) const TABLE: &[(&str, &[&str])] = &[
    ("POST /api/v1/server/request_match", GAME),
    ("POST /api/v1/server/match_ready", GAME),
    ("POST /api/v1/server/end_match", GAME),
    ("POST /api/v1/servers", ADMIN),
    ("GET /api/v1/servers", ADMIN),
    ("POST /api/v1/server/allocate", ADMIN),
    ("POST /api/v1/server/deallocate", ADMIN),
    ("GET /api/v1/matchbroker/healthz", ANYBODY),
    ("GET /api/v1/matches", CLIENT),
    ("GET /api/v1/matchbroker/admin/list-active-matches", ADMIN),
    ("GET /api/v1/matchbroker/admin/match/{matchId}", ADMIN),
    ("DELETE /api/v1/matchbroker/admin/delete/{matchId}", ADMIN),
    ("GET /api/v1/matchbroker/admin/allocators/available", ADMIN),
    ("GET /api/v1/matchbroker/admin/allocators/configured", ADMIN),
    ("GET /api/v1/matchbroker/admin/config", ADMIN),
    ("POST /api/v1/matchbroker/admin/reconfigure", ADMIN),
    ("POST /api/v1/matchmaking/start", CLIENT_OR_PLAYER),
    ("POST /api/v1/matchmaking/cancel", CLIENT_OR_PLAYER),
    ("GET /api/v1/matchmaking/{ticketId}", CLIENT_OR_PLAYER),
    ("POST /api/v1/matchmaking/server/start", CLIENT),
    ("POST /api/v1/matchmaking/server/cancel", CLIENT),
    ("GET /api/v1/matchmaking/server/{ticketId}", CLIENT),
    ("GET /api/v1/matchmaking/tickets", CLIENT),
    ("GET /api/v1/matchmaking/healthz", ANYBODY),
    ("GET /api/v1/matchmaking/admin/config", ADMIN),
    ("POST /api/v1/matchmaking/admin/config", ADMIN),
    ("GET /api/v1/events/subscribe", CLIENT_OR_PLAYER),
    ("GET /api/v1/events/subscribe/tags", CLIENT),
    ("POST /api/v1/events/emit", CLIENT),
    ("POST /api/v1/admin/events/emit", ADMIN),
    ("POST /v1/matches", CLIENT),
    ("GET /v1/matches", CLIENT),
    ("GET /v1/matches/{id}", CLIENT_OR_GAME),
    ("DELETE /v1/matches/{id}", CLIENT),
    ("GET /v1/matches/{id}/explain", CLIENT),
    ("POST /v1/matches/{id}/seats", CLIENT),
    ("GET /v1/matches/{id}/seats", CLIENT_OR_GAME),
    ("POST /v1/tickets", CLIENT_OR_PLAYER),
    ("GET /v1/tickets", CLIENT_OR_PLAYER),
    ("GET /v1/tickets/{id}", CLIENT_OR_PLAYER),
    ("DELETE /v1/tickets/{id}", CLIENT_OR_PLAYER),
    ("POST /v1/tickets/{id}/accept", CLIENT_OR_PLAYER),
    ("POST /v1/tickets/{id}/renew", CLIENT_OR_PLAYER),
    ("POST /v1/tickets/{id}/decline", CLIENT_OR_PLAYER),
    ("GET /v1/tickets/{id}/explain", CLIENT_OR_PLAYER),
    ("GET /v1/queues", CLIENT_OR_PLAYER),
    ("POST /v1/seats/{id}/claim", GAME),
    ("PUT /v1/matches/{id}/free-seats", GAME),
    ("DELETE /v1/seats/{id}", CLIENT_OR_GAME),
    ("GET /v1/servers", ADMIN),
    ("GET /v1/fleets", CLIENT),
    ("GET /v1/events", CLIENT),
    ("GET /healthz", ANYBODY),
    ("GET /readyz", ANYBODY),
    ("GET /openapi.json", ANYBODY),
    ("GET /docs", ANYBODY),
    ("GET /docs/{file}", ANYBODY),
];

/// Each method with the callers that may use it.
const METHODS: &[(&str, &[&str])] = &[
    ("catena.catena_server_manager.CatenaServerManager/RequestMatch", GAME),
    ("catena.catena_server_manager.CatenaServerManager/MatchReady", GAME),
    ("catena.catena_server_manager.CatenaServerManager/EndMatch", GAME),
    ("catena.catena_server_manager.CatenaServerManager/ListServers", ADMIN),
    ("catena.catena_server_manager.CatenaServerManager/AdminAllocateServer", ADMIN),
    ("catena.catena_server_manager.CatenaServerManager/AdminDeallocateServer", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/GetServiceHealth", ANYBODY),
    ("catena.catena_match_broker.CatenaMatchBroker/ListQueuedMatches", CLIENT),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminListActiveMatches", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminGetActiveMatchById", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminEndActiveMatch", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminGetAvailableAllocators", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminGetConfiguredAllocators", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminXGetMatchBrokerConfig", ADMIN),
    ("catena.catena_match_broker.CatenaMatchBroker/AdminXReconfigureMatchBroker", ADMIN),
    ("catena.catena_matchmaking.CatenaMatchmaking/StartMatchmaking", CLIENT_OR_PLAYER),
    ("catena.catena_matchmaking.CatenaMatchmaking/CancelMatchmaking", CLIENT_OR_PLAYER),
    ("catena.catena_matchmaking.CatenaMatchmaking/GetMatchmakingStatus", CLIENT_OR_PLAYER),
    ("catena.catena_matchmaking.CatenaMatchmaking/ServerStartMatchmaking", CLIENT),
    ("catena.catena_matchmaking.CatenaMatchmaking/ServerCancelMatchmaking", CLIENT),
    ("catena.catena_matchmaking.CatenaMatchmaking/ServerGetMatchmakingStatus", CLIENT),
    ("catena.catena_matchmaking.CatenaMatchmaking/ListTickets", CLIENT),
    ("catena.catena_matchmaking.CatenaMatchmaking/GetServiceHealth", ANYBODY),
    ("catena.catena_matchmaking.CatenaMatchmaking/AdminXGetMatchmakerConfig", ADMIN),
    ("catena.catena_matchmaking.CatenaMatchmaking/AdminXReconfigureMatchmaker", ADMIN),
    ("catena.events.Events/SubscribeToEvents", CLIENT_OR_PLAYER),
    ("catena.events.Events/SubscribeToEventsByTag", CLIENT),
    ("catena.events.Events/EmitUpdateEvent", CLIENT),
    ("catena.events.Events/AdminEmitUpdateEvent", ADMIN),
    ("grpc.health.v1.Health/Check", ANYBODY),
    ("grpc.health.v1.Health/Watch", ANYBODY),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", ANYBODY),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", ANYBODY),
];

/// What `caller` sends.
fn shown(caller: &str) -> Vec<(&'static str, String)> {
    match caller {
        "nobody" => vec![("catena-session-id", "p1".to_owned())],
        "player" => vec![("catena-session-id", player_token("p1"))],
        "server" => vec![("authorization", format!("Bearer {}", server_key("server-x")))],
        key => vec![("authorization", format!("Bearer {key}")), ("catena-session-id", "p1".to_owned())],
    }
}

async fn status(server: &Server, method: &str, path: &str, caller: &str) -> u16 {
    let request = server.request(method, path);
    let request = shown(caller).iter().fold(request, |request, (name, value)| request.header(*name, value));
    soon(request.send()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn each_route_opens_for_its_callers_only() {
    let server = Server::start_with(keys().with_players(player_tokens()), Limits::default()).await;
    let listed: BTreeSet<_> = sortie_api::routes().into_iter().collect();
    let tabled: BTreeSet<_> = TABLE.iter().map(|(route, _)| (*route).to_owned()).collect();
    assert_eq!(listed, tabled, "every route has a row here");
    for (route, openers) in TABLE {
        let (method, pattern) = route.split_once(' ').unwrap();
        let path = pattern
            .replace("{matchId}", "x")
            .replace("{ticketId}", "x")
            .replace("{id}", "x")
            .replace("{file}", "x");
        let anybody = *openers == ANYBODY;
        for stranger in ["nobody", "wrong"] {
            let status = status(&server, method, &path, stranger).await;
            assert_eq!(status == 401, !anybody, "{route} for {stranger}: {status}");
        }
        for caller in CALLERS {
            let status = status(&server, method, &path, caller).await;
            assert_ne!(status, 401, "{route} for {caller}");
            assert_eq!(status != 403, openers.contains(&caller), "{route} for {caller}: {status}");
        }
    }
    assert_eq!(status(&server, "HEAD", "/v1/matches", "nobody").await, 401);
    assert_eq!(status(&server, "GET", "/nothing", "nobody").await, 404);
}

/// The code with which a method answers an empty message.
async fn code(channel: &Channel, method: &str, caller: &str) -> Code {
    let mut request = tonic::Request::new(());
    for (name, value) in shown(caller) {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    let mut client = tonic::client::Grpc::new(channel.clone());
    soon(client.ready()).await.unwrap();
    let path = format!("/{method}").parse().unwrap();
    let codec: tonic_prost::ProstCodec<(), ()> = tonic_prost::ProstCodec::default();
    // Answers to single calls are streams of one message.
    soon(client.server_streaming(request, path, codec))
        .await
        .map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn each_method_opens_for_its_callers_only() {
    let server = Server::start_with(keys().with_players(player_tokens()), Limits::default()).await;
    let channel = channel(&server).await;
    let tabled: BTreeSet<_> = METHODS.iter().map(|(method, _)| (*method).to_owned()).collect();
    let mut published = reflected(channel.clone()).await;
    // Reflection does not list its own draft.
    published.insert("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo".to_owned());
    assert_eq!(published, tabled, "every method has a row here");
    for (method, openers) in METHODS {
        let anybody = *openers == ANYBODY;
        for stranger in ["nobody", "wrong"] {
            let code = code(&channel, method, stranger).await;
            assert_eq!(code == Code::Unauthenticated, !anybody, "{method} for {stranger}: {code:?}");
        }
        for caller in CALLERS {
            let code = code(&channel, method, caller).await;
            assert_ne!(code, Code::Unauthenticated, "{method} for {caller}");
            assert_eq!(
                code != Code::PermissionDenied,
                openers.contains(&caller),
                "{method} for {caller}: {code:?}"
            );
        }
    }
}

/// Every method of every service, as reflection lists them.
async fn reflected(channel: Channel) -> BTreeSet<String> {
    let mut client = ServerReflectionClient::new(channel);
    let mut ask = async |request: MessageRequest| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let answers = client.server_reflection_info(futures::stream::iter([request]));
        let mut answers = soon(answers).await.unwrap().into_inner();
        soon(answers.message()).await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(services) =
        ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list")
    };
    let mut methods = BTreeSet::new();
    for service in services.service {
        let answer = ask(MessageRequest::FileContainingSymbol(service.name.clone())).await;
        let MessageResponse::FileDescriptorResponse(files) = answer else {
            panic!("no file for {}", service.name)
        };
        for file in files.file_descriptor_proto {
            let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
            for found in &file.service {
                let name = format!("{}.{}", file.package(), found.name());
                methods.extend(found.method.iter().map(|method| format!("{name}/{}", method.name())));
            }
        }
    }
    methods
}

#[tokio::test]
async fn a_player_starts_tickets_of_its_own_and_does_not_rate_itself() {
    let server = Server::start_with(keys().with_players(player_tokens()), Limits::default()).await;
    let send = async |method: &str, path: &str, player: &str, body: String| {
        let request = server.request(method, path).bearer_auth(player_token(player)).body(body);
        let response = soon(request.send()).await.unwrap();
        (response.status().as_u16(), soon(response.json::<Value>()).await.unwrap())
    };
    let order = |player: &Value| json!({"queue": "duel", "players": [player]}).to_string();
    for (player, field) in
        [(json!({"id": "p2"}), "players"), (json!({"id": "p1", "ratings": {"mmr": 9000}}), "ratings")]
    {
        let (status, answer) = send("POST", "/v1/tickets", "p1", order(&player)).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"], &error["field"]),
            (403, &json!("forbidden"), &json!(field)),
            "{answer}"
        );
    }
    let (status, answer) = send("POST", "/v1/tickets", "p1", order(&json!({"id": "p1"}))).await;
    assert_eq!(status, 201, "{answer}");
    let path = format!("/v1/tickets/{}", answer["ticket_id"].as_str().unwrap());
    for (player, expected) in [("p1", 200), ("p2", 404)] {
        assert_eq!(send("GET", &path, player, String::new()).await.0, expected, "{player}");
    }
    let rated = server.request("POST", "/v1/tickets").bearer_auth("client");
    let rated = rated.body(order(&json!({"id": "p3", "ratings": {"mmr": 9000}})));
    assert_eq!(soon(rated.send()).await.unwrap().status(), 201, "a backend may");
}

#[tokio::test]
async fn a_player_hears_of_its_own_matches_only() {
    let server = Server::start_with(keys().with_players(player_tokens()), Limits::default()).await;
    let subscribe = "/api/v1/events/subscribe";
    let answer = async |headers: &[(&str, &str)]| {
        let response = server.open(subscribe, headers).await;
        (response.status().as_u16(), response)
    };
    let token = player_token("p1");
    let bearer = format!("Bearer {token}");
    for headers in [
        &[("authorization", bearer.as_str())][..],
        &[("catena-session-id", &token)],
        &[("session-id", &token)],
        &[("authorization", &bearer), ("catena-session-id", "p1")],
        &[("authorization", "Bearer client"), ("catena-session-id", &token)],
        &[("catena-api-key", "client"), ("authorization", &bearer)],
        &[("catena-api-key", "game"), ("catena-session-id", &token)],
    ] {
        let (status, response) = answer(headers).await;
        assert_eq!(status, 200, "{headers:?}");
        let mut lines = Pieces::of(response, "\n");
        lines.json().await;
        let order = json!({"players": ["p1"]});
        let made = server.request("POST", "/v1/matches").bearer_auth("client").body(order.to_string());
        assert_eq!(soon(made.send()).await.unwrap().status(), 202);
        assert_eq!(lines.json().await["event"]["recipientId"], "p1");
    }
    let other = player_token("p2");
    let other = other.as_str();
    let forged = format!("{}x", &token[..token.len() - 1]);
    for (headers, expected) in [
        (&[("authorization", bearer.as_str()), ("catena-session-id", other)][..], 403),
        (&[("authorization", "Bearer client"), ("catena-session-id", &forged)], 401),
        (&[("authorization", &format!("Bearer {forged}"))], 401),
        (&[("catena-session-id", &forged)], 401),
        (&[("catena-session-id", "p1")], 401),
        (&[("authorization", "Bearer wrong"), ("catena-session-id", &token)], 401),
    ] {
        assert_eq!(answer(headers).await.0, expected, "{headers:?}");
    }
    // A player with a token cannot speak for others by naming them.
    let (_, response) = answer(&[("authorization", &bearer), ("catena-session-id", "p2")]).await;
    assert_eq!(response.status(), 200);
    let mut lines = Pieces::of(response, "\n");
    lines.json().await;
    assert_eq!(lines.json().await["event"]["recipientId"], "p1");
}

#[tokio::test]
async fn without_player_tokens_a_token_is_an_unknown_key() {
    let server = Server::start_with(keys(), Limits::default()).await;
    let bearer = format!("Bearer {}", player_token("p1"));
    let response = server.open("/api/v1/events/subscribe", &[("authorization", &bearer)]).await;
    assert_eq!(response.status(), 401);
}

/// Keys that change while the server runs.
struct Changing(Mutex<Arc<KeyRing>>);

impl KeySource for Changing {
    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_opens_nothing_and_ends_what_it_opened() {
    streams_end_with(key("next", Permission::Client), 401).await;
}

#[tokio::test]
async fn a_key_that_loses_a_permission_loses_what_it_opened_with_it() {
    streams_end_with(key("client", Permission::GameServerMatch), 403).await;
}

/// Opens every kind of stream with a key that is then replaced by `next`, after which the key gets `refused`.
async fn streams_end_with(next: ApiKey, refused: u16) {
    let source = Arc::new(Changing(Mutex::new(Arc::new(KeyRing::of(&[key("client", Permission::Client)])))));
    let limits = Limits { heartbeat: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start_with(Auth::keys_from(source.clone()), limits).await;
    let headers = [("authorization", "Bearer client"), ("catena-session-id", "p1")];
    let tags = "/api/v1/events/subscribe/tags?eventTags=new-match";
    let mut streams = Vec::new();
    for path in ["/api/v1/events/subscribe", tags, "/v1/events"] {
        let response = server.open(path, &headers).await;
        assert_eq!(response.status(), 200, "{path}");
        streams.push(Pieces::of(response, "\n"));
    }
    *source.0.lock().unwrap() = Arc::new(KeyRing::of(&[next, key("other", Permission::Client)]));
    assert_eq!(status(&server, "GET", "/v1/matches", "client").await, refused);
    assert_eq!(status(&server, "GET", "/v1/matches", "other").await, 200);
    for mut stream in streams {
        soon(async { while stream.next().await.is_some() {} }).await;
    }
}

#[tokio::test]
async fn the_refusal_says_what_would_be_right() {
    let server = Server::start_with(keys(), Limits::default()).await;
    let response = server.request("GET", "/v1/matches").send().await.unwrap();
    assert_eq!(response.headers()["www-authenticate"], "Bearer");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "unauthenticated");
    let response =
        server.request("GET", "/api/v1/servers").header("catena-api-key", "game").send().await.unwrap();
    let answer: Value = response.json().await.unwrap();
    assert_eq!((&answer["code"], &answer["details"][0]["reason"]), (&json!(7), &json!("forbidden")));
    assert!(answer["message"].as_str().unwrap().contains("`admin`"));
    assert!(!answer.to_string().contains("game"), "{answer}");
}

#[tokio::test]
async fn the_same_rules_hold_over_grpc() {
    let server = Server::start_with(keys(), Limits::default()).await;
    let mut client = CatenaServerManagerClient::new(channel(&server).await);
    let request = |key: Option<&str>| {
        let message = RequestMatchRequest { server_id: "s1".into(), ..Default::default() };
        let mut request = tonic::Request::new(message);
        if let Some(key) = key {
            let value = MetadataValue::try_from(format!("Bearer {key}")).unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    };
    let refused = client.request_match(request(None)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let refused = client.request_match(request(Some("client"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    assert_eq!(sortie_wire::status::reason(&(&refused).into()).as_deref(), Some("forbidden"));
    client.request_match(request(Some("game"))).await.unwrap();
}
