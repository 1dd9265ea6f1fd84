//! Invalid requests change nothing.

use sortie_gateway::MAX_BODY_BYTES;

use crate::harness::{Script, World, arena, options};

#[tokio::test]
async fn an_unknown_game_is_told_what_there_is() {
    let world = World::with_capacity(4).await;
    let before = world.last_seq().await;
    let text = "there is no game arena 2; there is: arena 1.0";
    let answer = world.get("/wannaplay?game=arena&version=2").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.text().await.unwrap(), text);
    let answer = world.post("/matchmaker/request/arena/2").await;
    assert_eq!(answer.status(), 404);
    let feedback: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(feedback, serde_json::json!({"Error": [404, text]}));
    assert_eq!(world.last_seq().await, before);
    assert_eq!(world.gateway.stats().failed["unknown_game"], 2);
}

#[tokio::test]
async fn bad_names_are_refused() {
    let world = World::with_capacity(4).await;
    let before = world.last_seq().await;
    let long = "a".repeat(31);
    for (path, field) in [
        ("/wannaplay?game=arena", "version"),
        ("/wannaplay?version=1.0", "game"),
        ("/wannaplay?game=a%2Fb&version=1.0", "game"),
        ("/wannaplay?game=arena&version=1%00", "version"),
        (&format!("/wannaplay?game={long}&version=1.0"), "game"),
        ("/matchmaker/request/a.b/1.0", "game"),
        ("/matchmaker/request/arena/1*", "version"),
        (&format!("/matchmaker/request/arena/{long}"), "version"),
    ] {
        let answer = world.post(path).await;
        assert_eq!(answer.status(), 400, "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(&format!("{field}: ")), "{path}: {text}");
    }
    assert_eq!(world.last_seq().await, before);
}

#[tokio::test]
async fn without_a_default_a_game_must_be_named() {
    let options = sortie_gateway::GatewayOptions { default_game: None, ..options(vec![arena(4)]) };
    let world = World::start(Script::default(), options).await;
    let answer = world.post("/wannaplay").await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.text().await.unwrap(), "name a game and a version; there is: arena 1.0");
}

#[tokio::test]
async fn bad_bodies_and_addresses_are_refused() {
    let options = sortie_gateway::GatewayOptions { dev: true, ..options(vec![arena(4)]) };
    let world = World::start(Script::default(), options).await;
    let before = world.last_seq().await;
    let post = async |path: &str, body: Vec<u8>| {
        let answer = world.http.post(world.url(path)).body(body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    for path in ["/wannaplay", "/matchmaker/request/arena/1.0"] {
        for body in ["{", "[1]x", r#"{"game": 1}"#, "\u{ff}", &"[".repeat(10_000)] {
            let (status, text) = post(path, body.into()).await;
            assert_eq!(status, 400, "{body}");
            assert!(text.contains("body: must be empty or JSON"), "{text}");
        }
        let (status, text) = post(path, br#"{"client_ip": "here"}"#.to_vec()).await;
        assert_eq!(status, 400);
        assert!(text.contains("client_ip: must be an IP address"), "{text}");
        let (status, _) = post(path, vec![b' '; MAX_BODY_BYTES + 1]).await;
        assert_eq!(status, 413);
    }
    let request = world.http.post(world.url("/wannaplay")).header("session-id", "x".repeat(200));
    assert_eq!(request.send().await.unwrap().status(), 400);
    assert_eq!(world.last_seq().await, before);
    assert_eq!(world.gateway.stats().failed["invalid"], 15);
}

#[tokio::test]
async fn other_methods_and_paths_are_not_served() {
    let world = World::with_capacity(4).await;
    assert_eq!(world.get("/matchmaker/request/arena/1.0").await.status(), 405);
    assert_eq!(world.get("/matchmaker/nothing").await.status(), 404);
    // Not a websocket.
    assert!(world.get("/matchmaker/ws").await.status().is_client_error());
}
