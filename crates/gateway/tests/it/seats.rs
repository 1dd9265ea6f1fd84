//! Which player gets a seat in which match.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sortie_domain::broker::Command;
use sortie_gateway::{GameFleet, GatewayOptions};
use sortie_tokens::Dialect;

use crate::harness::{Script, World, arena, check, fleet_id, opened, options, seat_of, within};

#[tokio::test]
async fn the_second_player_joins_the_running_match_with_one_call() {
    let world = World::with_capacity(2).await;
    let first = opened(&world.join().await["connect_token"], Dialect::Standard);
    let before = world.last_seq().await;
    let second = opened(&world.join().await["connect_token"], Dialect::Standard);
    let game = check(&world, &second, "127.0.0.1:7001").await;
    assert!(game.seats.contains_key(&seat_of(&first)));
    assert_ne!(first.spec.client_id, second.spec.client_id);
    assert_eq!(world.last_seq().await, before + 1, "the seat and nothing else");
    let stats = world.gateway.stats();
    // The first is warm too if the server was waiting by then.
    assert_eq!((stats.cold.count() + stats.warm.count(), stats.waiting), (2, 0));
    assert!(stats.warm.count() >= 1);
}

#[tokio::test]
async fn a_full_match_is_followed_by_a_new_one() {
    let world = World::with_capacity(1).await;
    let links = [world.join().await, world.join().await].map(|answer| answer["link"].clone());
    assert_eq!(links, ["127.0.0.1:7001", "127.0.0.1:7002"]);
    assert_eq!(world.matches().await.len(), 2);
}

#[tokio::test]
async fn a_hundred_players_at_once_fill_ten_matches() {
    let world = World::with_capacity(10).await;
    let asked: Vec<_> =
        (0..100).map(|_| tokio::spawn(world.http.post(world.url("/wannaplay")).send())).collect();
    let (mut clients, mut by_server) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<_>>::new());
    for answer in asked {
        let answer = within(answer).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let answer: serde_json::Value = answer.json().await.unwrap();
        let token = opened(&answer["connect_token"], Dialect::Standard);
        assert!(clients.insert(token.spec.client_id), "a client id was given twice");
        let link = answer["link"].as_str().unwrap().to_owned();
        assert!(by_server.entry(link).or_default().insert(seat_of(&token)), "a seat was given twice");
    }
    let matches = world.matches().await;
    assert_eq!(matches.len(), 10);
    assert!(matches.iter().all(|game| game.seats.len() == 10));
    let mut known: Vec<BTreeSet<_>> =
        matches.iter().map(|game| game.seats.keys().cloned().collect()).collect();
    let mut given: Vec<BTreeSet<_>> = by_server.into_values().collect();
    known.sort();
    given.sort();
    assert_eq!(known, given);
}

#[tokio::test]
async fn another_seat_is_sought_when_the_first_is_lost() {
    let world = World::start(Script::held(), options(vec![arena(2)])).await;
    let mut events = world.events();
    let mut staying = world.stream("/matchmaker/request/arena/1.0").await;
    let (_, game) = events.reserved().await;
    let mut losing = world.stream("/matchmaker/request/arena/1.0").await;
    let (lost, same_game) = events.reserved().await;
    assert_eq!(game, same_game);
    world.broker.call(Command::ReleaseSeat { seat: lost.clone() }).await.unwrap();
    let (found, _) = events.reserved().await;
    assert_eq!(losing.until("SessionRequestAccepted").await, lost.as_str());
    assert_eq!(losing.until("SessionRequestAccepted").await, found.as_str());
    world.let_boot(1);
    world.let_ready(1);
    for chunks in [&mut staying, &mut losing] {
        let ready = chunks.until("SessionReady").await;
        assert_eq!(
            check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await.id,
            game
        );
    }
}

#[tokio::test]
async fn the_search_ends_after_three_lost_seats() {
    let world = World::start(Script::held(), options(vec![arena(2)])).await;
    let mut events = world.events();
    let _staying = world.stream("/matchmaker/request/arena/1.0").await;
    events.reserved().await;
    let mut losing = world.stream("/matchmaker/request/arena/1.0").await;
    for _ in 0..3 {
        let (lost, _) = events.reserved().await;
        world.broker.call(Command::ReleaseSeat { seat: lost }).await.unwrap();
    }
    let last = losing.rest().await.pop().unwrap();
    assert_eq!(last["Error"][0], 503);
}

fn two_fleets() -> GatewayOptions {
    let near = GameFleet { fleet: fleet_id("near"), preference: 1, ..arena(2) };
    let far = GameFleet { fleet: fleet_id("far"), preference: 2, ..arena(2) };
    options(vec![far, near])
}

#[tokio::test]
async fn the_preferred_fleet_is_filled_before_the_next() {
    let fleets = vec![(fleet_id("near"), 1), (fleet_id("far"), 1)];
    let world = World::start_with_fleets(Script::default(), two_fleets(), fleets).await;
    let mut used = Vec::new();
    for _ in 0..4 {
        let token = opened(&world.join().await["connect_token"], Dialect::Standard);
        let seat = seat_of(&token);
        let matches = world.matches().await;
        let game = matches.iter().find(|game| game.seats.contains_key(&seat)).unwrap();
        used.push(game.spec.fleet.as_ref().unwrap().to_string());
    }
    assert_eq!(used, ["near", "near", "far", "far"]);
}

#[tokio::test]
async fn a_fleet_that_the_broker_does_not_know_is_passed_over() {
    let world = World::start_with_fleets(Script::default(), two_fleets(), vec![(fleet_id("far"), 1)]).await;
    world.join().await;
    assert_eq!(world.matches().await[0].spec.fleet, Some(fleet_id("far")));

    let world = World::start_with_fleets(Script::default(), two_fleets(), Vec::new()).await;
    let answer = world.post("/wannaplay").await;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await.unwrap().starts_with("no fleet "));
}

#[tokio::test]
async fn the_seat_lives_as_long_as_its_fleet_says() {
    let fleet = GameFleet { seat_ttl: Duration::from_secs(45), ..arena(4) };
    let world = World::start(Script::default(), options(vec![fleet])).await;
    world.join().await;
    let matches = world.matches().await;
    assert_eq!(matches[0].spec.capacity, Some(4));
    assert!(matches[0].seats.values().all(|seat| seat.ttl == Duration::from_secs(45)));
}

#[tokio::test]
async fn players_name_themselves_in_development_only() {
    for dev in [true, false] {
        let options = GatewayOptions { dev, ..options(vec![arena(4)]) };
        let world = World::start(Script::default(), options).await;
        let request = world.http.post(world.url("/wannaplay")).header("session-id", "hugo");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let players = world.matches().await[0].players();
        assert_eq!(players[0].as_str() == "hugo", dev);
        assert_eq!(players[0].as_str().starts_with("player-"), !dev);
    }
}
