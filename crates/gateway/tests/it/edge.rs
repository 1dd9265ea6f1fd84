//! Checks before the doors: limits for each address, and the shutdown of the process.

use std::sync::Arc;

use reqwest::Client;
use serde_json::Value;
use sortie_gateway::GatewayOptions;
use sortie_serving::Allowance;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Error as SocketError;

use crate::harness::{Chunks, Script, World, arena, options, within};
use crate::websocket::hear_until;

const JOIN: &str = "/matchmaker/wannaplay";

/// So slow that no test reaches the next join.
fn one_join() -> GatewayOptions {
    GatewayOptions {
        per_address: Allowance { rate: 1, burst: 1, waiting: 0 },
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        cors_origins: vec!["https://play.example.com".to_owned()],
        ..options(vec![arena(8)])
    }
}

#[tokio::test]
async fn whoever_joins_too_often_is_told_when_to_come_again() {
    let limits = Allowance { rate: 1, burst: 1, waiting: 0 };
    let options = GatewayOptions { trusted_proxies: Vec::new(), per_address: limits, ..one_join() };
    let world = World::start(Script::default(), options).await;
    let answers = (0..50).map(|_| world.http.post(world.url(JOIN)).send());
    let answers = within(futures::future::join_all(answers)).await;
    let refused: Vec<_> = answers.into_iter().flatten().filter(|answer| answer.status() == 429).collect();
    // A slow machine may see some seconds go by.
    assert!(refused.len() > 10, "{}", refused.len());
    for answer in refused {
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(answer.text().await.unwrap(), "too many joins from your address; try again in 1 s");
    }
}

/// Status of a join that a trusted proxy passes on for `address`.
async fn passed_on(http: &Client, url: &str, address: &str) -> u16 {
    let request = http.post(url).header("x-forwarded-for", "6.6.6.6").header("x-forwarded-for", address);
    within(request.send()).await.unwrap().status().as_u16()
}

#[tokio::test]
async fn players_behind_a_trusted_proxy_are_told_apart() {
    let limits = Allowance { rate: 0, burst: 1, waiting: 1 };
    let world = World::start(Script::held(), GatewayOptions { per_address: limits, ..one_join() }).await;
    let mut first = within(
        world
            .http
            .post(world.url("/matchmaker/request/arena/1.0"))
            .header("x-forwarded-for", "1.1.1.1")
            .send(),
    )
    .await
    .unwrap();
    assert!(within(first.chunk()).await.unwrap().is_some());
    // Entries that a player puts before the proxy's change nothing.
    assert_eq!(passed_on(&world.http, &world.url(JOIN), "1.1.1.1").await, 429);
    assert_eq!(passed_on(&world.http, &world.url("/matchmaker/request/arena/1.0"), "2.2.2.2").await, 200);
    let refused = world.http.post(world.url("/matchmaker/request/arena/1.0"));
    let refused = refused.header("x-forwarded-for", "1.1.1.1").header("origin", "https://play.example.com");
    let refused = within(refused.send()).await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["access-control-allow-origin"], "https://play.example.com");
    let line: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(line["Error"][0], 429, "{line}");
    // The proxy itself is not limited.
    let mut own = world.stream("/matchmaker/request/arena/1.0").await;
    let mut another = world.stream("/matchmaker/request/arena/1.0").await;
    assert!(own.next().await.is_some() && another.next().await.is_some());
    // The place is free again when the player is gone.
    drop(first);
    within(async {
        while passed_on(&world.http, &world.url("/matchmaker/request/arena/1.0"), "1.1.1.1").await == 429 {}
    })
    .await;
}

#[tokio::test]
async fn a_websocket_is_refused_before_it_is_one() {
    let limits = Allowance { rate: 0, burst: 1, waiting: 1 };
    let options = GatewayOptions { trusted_proxies: Vec::new(), per_address: limits, ..one_join() };
    let world = World::start(Script::held(), options).await;
    let _waits = world.websocket("/matchmaker/ws").await;
    let url = world.url("/matchmaker/ws").replace("http", "ws");
    match within(connect_async(url)).await.map(|_| ()).unwrap_err() {
        SocketError::Http(answer) => {
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], "5");
        }
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn at_the_end_whoever_waits_is_told_and_nobody_joins() {
    let options = options(vec![arena(8)]);
    let closing = options.closing.clone();
    let world = World::start(Script::held(), options).await;
    let mut chunks = world.stream("/matchmaker/request/arena/1.0").await;
    chunks.until("SessionRequestAccepted").await;
    let mut silent = world.websocket("/matchmaker/ws").await;
    closing.cancel();
    let told = chunks.rest().await;
    assert_eq!(told.last().unwrap()["Error"][0], 503, "{told:?}");
    let answer = world.post(JOIN).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"].to_str().unwrap()), (503, &"5"));
    // A connection that has not sent a request: it is told and closed, and then the gateway is.
    assert_eq!(hear_until(&mut silent, "Error").await[0], 503);
    drop(silent);
    within(world.gateway.closed()).await;
}

#[tokio::test]
async fn an_address_that_a_player_names_never_beats_its_proxy() {
    let base = GatewayOptions {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        speaks_for_players: Some(Arc::new(|headers| headers.contains_key("a-key"))),
        ..options(vec![arena(8)])
    };
    let stranger = GatewayOptions { trusted_proxies: Vec::new(), ..base.clone() };
    let named = "/matchmaker/request/arena/1.0?client_ip=5.5.5.5";
    for (options, headers, expected) in [
        (&base, &[("x-forwarded-for", "2.2.2.2")][..], "2.2.2.2"),
        (&base, &[], "127.0.0.1"),
        (&stranger, &[("x-forwarded-for", "2.2.2.2")], "127.0.0.1"),
        (&base, &[("x-forwarded-for", "2.2.2.2"), ("a-key", "1")], "5.5.5.5"),
        (&stranger, &[("a-key", "1")], "5.5.5.5"),
    ] {
        let world = World::start(Script::held(), options.clone()).await;
        for by_body in [false, true] {
            let path = if by_body { "/matchmaker/request/arena/1.0" } else { named };
            let request = world.http.post(world.url(path));
            let request = if by_body { request.body(r#"{"client_ip": "5.5.5.5"}"#) } else { request };
            let request =
                headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let mut chunks = Chunks(within(request.send()).await.unwrap());
            let report = chunks.until("ProgressReport").await;
            let told = format!("joining from {expected}: ");
            assert!(report.as_str().unwrap().starts_with(&told), "{report} for {headers:?}");
        }
    }
}
