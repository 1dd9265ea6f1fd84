//! What one caller may have open, how often a player may call, and how much it may send.

use serde_json::{Value, json};
use sortie_api::Limits;
use sortie_serving::Allowance;
use sortie_wire::catena::events::SubscribeToEventsRequest;
use sortie_wire::catena::events::events_client::EventsClient;
use sortie_wire::catena::matchmaking::catena_matchmaking_client::CatenaMatchmakingClient;
use sortie_wire::catena::matchmaking::{CancelMatchmakingRequest, GetMatchmakingStatusRequest};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::auth::{CLIENT_OR_PLAYER, TABLE, keys, player_token, player_tokens};
use crate::grpc::channel;
use crate::harness::{Server, soon};

const SUBSCRIBE: &str = "/api/v1/events/subscribe";
/// The documented limit, in bytes.
const PLAYERS_BODY: usize = 64 << 10;

async fn server(limits: Limits) -> Server {
    Server::start_with(keys().with_players(player_tokens()), limits).await
}

/// A request in the name of a player, by its own token.
fn by_player<T>(player: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let token = player_token(player).parse().unwrap();
    request.metadata_mut().insert("catena-session-id", token);
    request
}

/// Every route that players may call.
fn players_routes() -> impl Iterator<Item = (&'static str, String)> {
    let theirs = TABLE.iter().filter(|(_, openers)| *openers == CLIENT_OR_PLAYER);
    theirs.map(|(route, _)| {
        let (method, path) = route.split_once(' ').unwrap();
        (method, path.replace("{id}", "x").replace("{ticketId}", "x"))
    })
}

async fn websocket(server: &Server, player: &str) -> Result<impl Sized, u16> {
    let mut request = format!("ws://{}{SUBSCRIBE}", server.address).into_client_request().unwrap();
    let token = HeaderValue::from_str(&player_token(player)).unwrap();
    request.headers_mut().insert("catena-session-id", token);
    match soon(connect_async(request)).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_player_has_so_many_streams_whatever_their_form() {
    let server = server(Limits { streams_per_player: 4, ..Limits::default() }).await;
    let token = player_token("p1");
    let shown = [("catena-session-id", token.as_str())];
    let lines = server.open(SUBSCRIBE, &shown).await;
    let sse = server.open(SUBSCRIBE, &[shown[0], ("accept", "text/event-stream")]).await;
    let socket = websocket(&server, "p1").await.ok().unwrap();
    let mut grpc = EventsClient::new(channel(&server).await);
    let subscribe = |player| by_player(player, SubscribeToEventsRequest::default());
    let stream = soon(grpc.subscribe_to_events(subscribe("p1"))).await.unwrap();
    for accept in ["application/json", "text/event-stream"] {
        let refused = server.open(SUBSCRIBE, &[shown[0], ("accept", accept)]).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &"5".parse().unwrap())
        );
        let answer: Value = soon(refused.json()).await.unwrap();
        assert_eq!(answer["details"][0]["reason"], "too_many");
        assert_eq!(answer["message"], "too many streams of events of one player: at most 4 are allowed");
    }
    assert_eq!(websocket(&server, "p1").await.err(), Some(429));
    let refused = soon(grpc.subscribe_to_events(subscribe("p1"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // Others have their own.
    soon(grpc.subscribe_to_events(subscribe("p2"))).await.unwrap();
    drop((lines, sse, socket, stream));
    // Their end is noticed eventually.
    while websocket(&server, "p1").await.is_err() {}
}

#[tokio::test]
async fn a_key_has_so_many_streams_whomever_it_names() {
    let server = server(Limits { streams_per_key: 2, ..Limits::default() }).await;
    let open = async |path: &str, key: &str, player: &str| {
        let key = format!("Bearer {key}");
        server.open(path, &[("authorization", &key), ("catena-session-id", player)]).await
    };
    let held = [open(SUBSCRIBE, "client", "p1").await, open("/v1/events", "client", "p2").await];
    assert!(held.iter().all(|response| response.status() == 200));
    for path in [SUBSCRIBE, "/v1/events", "/api/v1/events/subscribe/tags?eventTags=new-match"] {
        assert_eq!(open(path, "client", "p3").await.status(), 429, "{path}");
        assert_eq!(open(path, "admin", "p3").await.status(), 200, "{path}: another key");
    }
    assert!(websocket(&server, "p1").await.is_ok(), "the player with its own token");
}

#[tokio::test]
async fn a_key_has_so_many_calls_that_wait() {
    let server = server(Limits { waits_per_key: 1, ..Limits::default() }).await;
    let ask = |key: &str, method: &str, path: &str| {
        server.request(method, path).header("authorization", format!("Bearer {key}"))
    };
    let made: Value = soon(ask("client", "POST", "/v1/matches").body(r#"{"players": ["p1"]}"#).send())
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let seats = format!("/v1/matches/{}/seats", made["match_id"].as_str().unwrap());
    let now: Value = soon(ask("client", "GET", &seats).send()).await.unwrap().json().await.unwrap();
    let news = format!("{seats}?seen={}", now["seen"]);
    let (first, second) = (ask("client", "GET", &news).send(), ask("client", "GET", &news).send());
    // One of the two waits long.
    let refused = soon(async {
        tokio::select! {
            one = first => one,
            other = second => other,
        }
    });
    assert_eq!(refused.await.unwrap().status(), 429);
    assert_eq!(
        soon(ask("client", "GET", &seats).send()).await.unwrap().status(),
        200,
        "this one does not wait"
    );
}

#[tokio::test]
async fn few_calls_of_a_key_wait_for_the_seats_of_one_match() {
    let server = server(Limits::default()).await;
    let ask = |key: &str, method: &str, path: &str| {
        server.request(method, path).header("authorization", format!("Bearer {key}"))
    };
    let made =
        soon(ask("client", "POST", "/v1/matches").body(r#"{"players": ["p1"]}"#).send()).await.unwrap();
    let made: Value = soon(made.json()).await.unwrap();
    let seats = format!("/v1/matches/{}/seats", made["match_id"].as_str().unwrap());
    let now: Value = soon(ask("client", "GET", &seats).send()).await.unwrap().json().await.unwrap();
    let news = format!("{seats}?seen={}", now["seen"]);
    // Sixteen wait long, and the seventeenth is refused, whichever comes last.
    let calls: Vec<_> = (0..17).map(|_| Box::pin(ask("client", "GET", &news).send())).collect();
    let (refused, _, _) = soon(futures::future::select_all(calls)).await;
    assert_eq!(refused.unwrap().status(), 429);
}

#[tokio::test]
async fn an_address_has_so_many_calls_that_need_nothing_and_last() {
    let server = server(Limits { watches_per_address: 2, ..Limits::default() }).await;
    let channel = channel(&server).await;
    let mut health = HealthClient::new(channel.clone());
    let watch = HealthCheckRequest { service: String::new() };
    let first = soon(health.watch(watch.clone())).await.unwrap();
    let mut reflection = ServerReflectionClient::new(channel);
    let talk = || futures::stream::pending::<ServerReflectionRequest>();
    let second = soon(reflection.server_reflection_info(talk())).await.unwrap();
    assert_eq!(soon(health.watch(watch.clone())).await.unwrap_err().code(), Code::ResourceExhausted);
    let refused = soon(reflection.server_reflection_info(talk())).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    soon(health.check(watch.clone())).await.unwrap();
    drop((first, second));
    // Their end is noticed eventually.
    while soon(health.watch(watch.clone())).await.is_err() {}
}

#[tokio::test]
async fn a_player_calls_so_often() {
    let allowance = Allowance { rate: 1, burst: 3, waiting: 0 };
    let auth = keys().with_players(player_tokens());
    let server = Server::start_with_player_calls(auth, allowance).await;
    for (number, (method, path)) in players_routes().enumerate() {
        let player = format!("p{number}");
        let ask = async |header: &'static str, value: String, method: &str| {
            let response = soon(server.request(method, &path).header(header, value).send()).await.unwrap();
            (response.status().as_u16(), response.headers().get("retry-after").cloned())
        };
        let mine = async || ask("catena-session-id", player_token(&player), method).await;
        for _ in 0..3 {
            assert_ne!(mine().await.0, 429, "{method} {path}");
        }
        assert_eq!(mine().await, (429, Some("1".parse().unwrap())), "{method} {path}");
        let other = ask("catena-session-id", player_token(&format!("other {number}")), method).await;
        assert_ne!(other.0, 429, "{method} {path}: another player");
        for _ in 0..5 {
            let response = server.request(method, &path).header("authorization", "Bearer client");
            let response = soon(response.header("catena-session-id", &player).send()).await.unwrap();
            assert_ne!(response.status(), 429, "{method} {path}: a backend speaks for many");
        }
    }
    let mut client = CatenaMatchmakingClient::new(channel(&server).await);
    let status = || by_player("p", GetMatchmakingStatusRequest { ticket_id: "x".to_owned() });
    for _ in 0..3 {
        assert_eq!(soon(client.get_matchmaking_status(status())).await.unwrap_err().code(), Code::NotFound);
    }
    let refused = soon(client.get_matchmaking_status(status())).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "too many calls of this player; try again in 1 s")
    );
    // All calls share one allowance.
    let refused = server.open(SUBSCRIBE, &[("catena-session-id", &player_token("p"))]).await;
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn a_player_sends_at_most_64_kib() {
    let server = server(Limits::default()).await;
    let token = player_token("p1");
    for (method, path) in players_routes().filter(|(method, _)| *method == "POST") {
        let send = async |header: &str, value: &str, bytes: usize| {
            let request = server.request(method, &path).header(header, value).body(" ".repeat(bytes));
            soon(request.send()).await.unwrap().status().as_u16()
        };
        assert_ne!(send("catena-session-id", &token, PLAYERS_BODY).await, 413, "{path}");
        assert_eq!(send("catena-session-id", &token, PLAYERS_BODY + 1).await, 413, "{path}");
        assert_ne!(send("authorization", "Bearer client", PLAYERS_BODY + 1).await, 413, "{path}: a backend");
    }
    let mut client = CatenaMatchmakingClient::new(channel(&server).await);
    let long = CancelMatchmakingRequest { ticket_id: "x".repeat(PLAYERS_BODY) };
    let refused = soon(client.cancel_matchmaking(by_player("p1", long.clone()))).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "the message is longer than 65536 bytes")
    );
    let mut by_backend = Request::new(long);
    by_backend.metadata_mut().insert("authorization", "Bearer client".parse().unwrap());
    by_backend.metadata_mut().insert("catena-session-id", "p1".parse().unwrap());
    let refused = soon(client.cancel_matchmaking(by_backend)).await.unwrap_err();
    assert_ne!(refused.code(), Code::ResourceExhausted, "{refused}");
}

#[tokio::test]
async fn what_needs_nothing_takes_next_to_nothing() {
    let server = server(Limits::default()).await;
    let mut health = HealthClient::new(channel(&server).await);
    let refused = soon(health.check(HealthCheckRequest { service: "x".repeat(4_096) })).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let answer = server.ok("GET", "/api/v1/matchbroker/healthz", json!(null)).await;
    assert!(answer.is_object());
}

/// A key made by hand may serve many game servers.
#[tokio::test]
async fn a_key_has_so_many_game_servers_that_wait_for_a_match() {
    let server = server(Limits { waits_per_key: 1, ..Limits::default() }).await;
    let ask = |id: &str, hints: u32| {
        let path = "/api/v1/server/request_match";
        let call = server.request("POST", path).header("authorization", "Bearer game");
        call.body(json!({ "serverId": id, "hintFlags": hints }).to_string()).send()
    };
    // One of the two waits long.
    let refused = soon(async {
        tokio::select! {
            one = ask("s1", 2) => one,
            other = ask("s2", 2) => other,
        }
    });
    assert_eq!(refused.await.unwrap().status(), 429);
    assert_eq!(soon(ask("s3", 0)).await.unwrap().status(), 200, "this one does not wait");
}
