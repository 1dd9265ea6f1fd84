//! Players who sign in, at each of the doors.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::{SinkExt as _, StreamExt as _};
use ring::hmac;
use serde_json::{Value, json};
use sortie_domain::broker::Event;
use sortie_gateway::GatewayOptions;
use sortie_identity::{Fetching, PlayerTokens, TokenKeys, TokenOptions};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Script, World, arena, options, within};

const SECRET: [u8; 32] = *b"the secret of the player tokens!";
/// The year 2100.
const LATER: u64 = 4_102_444_800;
const WANNAPLAY: &str = "/matchmaker/wannaplay";

fn tokens() -> PlayerTokens {
    let options = TokenOptions {
        issuer: "the test".into(),
        audience: "sortie".into(),
        leeway: Duration::ZERO,
        keys: TokenKeys::Secret(SECRET.to_vec().into()),
        fetching: Fetching::default(),
    };
    PlayerTokens::new(options).unwrap()
}

fn token(player: &str, expires: u64) -> String {
    let claims = json!({"iss": "the test", "aud": "sortie", "sub": player, "exp": expires});
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.to_string().as_bytes()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), message.as_bytes());
    format!("{message}.{}", encode(signature.as_ref()))
}

async fn world(must_sign_in: bool) -> World {
    let options = GatewayOptions { players: Some(tokens()), must_sign_in, ..options(vec![arena(8)]) };
    World::start(Script::default(), options).await
}

/// The player of each seat that was ever reserved, in order.
async fn seated(world: &World, count: usize) -> Vec<String> {
    let mut events = world.events();
    let mut players = Vec::new();
    while players.len() < count {
        let player = events.find(|event| match event {
            Event::SeatReserved { player, .. } => Some(player.to_string()),
            _ => None,
        });
        players.push(player.await.0);
    }
    players
}

/// What a websocket hears last, after this first message.
async fn last_of_websocket(world: &World, path: &str, first: Value) -> String {
    let mut socket = world.websocket(path).await;
    within(socket.send(Message::text(first.to_string()))).await.unwrap();
    let mut last = String::new();
    while let Some(Ok(message)) = within(socket.next()).await {
        if let Message::Text(text) = message {
            last = text.to_string();
        }
    }
    last
}

#[tokio::test]
async fn whoever_has_signed_in_is_the_player_of_the_seat() {
    let world = world(true).await;
    let url = world.url(WANNAPLAY);
    let bearer = world.http.post(&url).bearer_auth(token("by bearer", LATER));
    assert_eq!(within(bearer.send()).await.unwrap().status(), 200);
    let session = world.http.post(&url).header("catena-session-id", token("by session", LATER));
    assert_eq!(within(session.send()).await.unwrap().status(), 200);
    let body = world.http.post(&url).body(json!({"token": token("by body", LATER)}).to_string());
    assert_eq!(within(body.send()).await.unwrap().status(), 200);
    let query = format!("/matchmaker/request/arena/1.0?token={}", token("by query", LATER));
    world.stream(&query).await.until("SessionReady").await;
    let first = json!({"game": "arena", "version": "1.0", "token": token("by message", LATER)});
    let heard = last_of_websocket(&world, "/matchmaker/ws", first).await;
    assert!(heard.contains("SessionReady"), "{heard}");
    let path = format!("/matchmaker/ws?token={}", token("by address", LATER));
    assert!(last_of_websocket(&world, &path, json!({})).await.contains("SessionReady"));
    let expected = ["by bearer", "by session", "by body", "by query", "by message", "by address"];
    assert_eq!(seated(&world, 6).await, expected);
}

#[tokio::test]
async fn nobody_else_gets_a_seat_where_players_must_sign_in() {
    let world = world(true).await;
    let answer = world.post(WANNAPLAY).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["www-authenticate"]),
        (401, &"Bearer".parse().unwrap())
    );
    assert!(answer.text().await.unwrap().starts_with("sign in first"));
    let expired = token("p", 1);
    for (name, value, problem) in [
        ("authorization", format!("Bearer {expired}"), "has expired"),
        ("authorization", "Bearer sortie_0123".to_owned(), "not a player token"),
        ("authorization", "Basic cDpw".to_owned(), "not a player token"),
        ("catena-session-id", format!("{}AAAA", token("p", LATER)), "signature"),
        ("catena-session-id", "somebody-else".to_owned(), "sign in first"),
    ] {
        let answer = within(world.http.post(world.url(WANNAPLAY)).header(name, &value).send()).await.unwrap();
        assert_eq!(answer.status(), 401, "{value}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(problem) && !text.contains(&value), "{text}");
    }
    let answer = world.post("/matchmaker/request/arena/1.0").await;
    assert_eq!(answer.status(), 401);
    let feedback: Value = answer.json().await.unwrap();
    assert_eq!(feedback["Error"][0], 401);
    let heard = last_of_websocket(&world, "/matchmaker/ws", json!({"token": expired})).await;
    assert!(heard.starts_with("ERR ") && heard.contains("expired"), "{heard}");
    assert_eq!(world.matches().await.len(), 0);
}

#[tokio::test]
async fn where_anyone_may_play_a_token_still_says_who() {
    let world = world(false).await;
    assert_eq!(world.post(WANNAPLAY).await.status(), 200);
    let with = |text: String| world.http.post(world.url(WANNAPLAY)).bearer_auth(text).send();
    assert_eq!(within(with(token("p1", LATER))).await.unwrap().status(), 200);
    assert_eq!(within(with(token("p1", 1))).await.unwrap().status(), 401, "a bad token is not ignored");
    let players = seated(&world, 2).await;
    assert!(players[0].starts_with("player-"), "{players:?}");
    assert_eq!(players[1], "p1");
}
