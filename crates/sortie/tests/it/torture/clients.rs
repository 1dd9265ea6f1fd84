//! The load: those who want matches, those who play them, and those who join.

use std::sync::Arc;

use serde_json::{Value, json};

use super::world::{Answer, World};
use crate::control_plane::{END, READY, REQUEST};

const WILLING_TO_WAIT: u32 = 2;
const SEATS: u32 = 4;
/// Most acknowledged calls between two servers that are sent away.
const MAX_BETWEEN: u64 = 100;

/// What the servers of the test itself ask for.
const LIGHT: &str = "MatchProperties.light";

/// Refusals that a call may get from others having been faster, each of them with the truth of that moment.
fn check_expected(code: &str, expected: &[&str]) {
    assert!(expected.contains(&code), "{code} is none of {expected:?}");
}

/// Orders one match after the other, some of them twice, and cancels some.
pub(super) async fn submitter(world: Arc<World>, name: String, mut random: fastrand::Rng) {
    let mut number = 0;
    while !world.is_closing() {
        number += 1;
        let key = format!("{name}-{number}");
        let order = json!({
            "players": [key], "properties": {"light": true}, "capacity": SEATS, "idempotency_key": key,
        });
        for _ in 0..random.u32(1..=2) {
            let answer = world.settle("POST", "/v1/matches", &order).await.unwrap();
            world.journal().submitted(&key, answer["match_id"].as_str().unwrap());
        }
        if random.u8(..4) == 0 {
            let id = world.journal().submitted[&key].clone();
            match world.settle("DELETE", &format!("/v1/matches/{id}"), &Value::Null).await {
                Ok(game) => {
                    assert_eq!(game["state"], "cancelled");
                    world.journal().cancelled.insert(id);
                }
                Err(code) => check_expected(&code, &["match_over"]),
            }
        }
    }
}

/// A game server that nobody ordered: plays one match after the other, in no time.
pub(super) async fn server(world: Arc<World>, name: String, mut random: fastrand::Rng) {
    let mut incarnation = 0;
    while !world.is_closing() {
        let id = format!("{name}-{incarnation}");
        let request = json!({"serverId": id, "requirements": LIGHT, "hintFlags": WILLING_TO_WAIT});
        // Whoever lost the answer asks again, and is given again what was in it.
        let Answer::Acknowledged(answer) = world.call("POST", REQUEST, &request).await else { continue };
        if answer["hintFlags"] == "HINT_FLAG_SHUTDOWN" {
            incarnation += 1;
        }
        if let Some(game) = answer["match"]["matchId"].as_str() {
            world.journal().offered.insert((game.to_owned(), id.clone()));
            play(&world, &id, game, &mut random).await;
        }
    }
}

async fn play(world: &World, server: &str, game: &str, random: &mut fastrand::Rng) {
    let held = (game.to_owned(), server.to_owned());
    let ready = json!({"serverId": server, "matchId": game, "connectionDetails": "203.0.113.7:7777"});
    match world.settle("POST", READY, &ready).await {
        Ok(_) => drop(world.journal().ready.insert(held.clone())),
        Err(code) => return check_expected(&code, &["match_not_held"]),
    }
    if random.bool() {
        drop_in(world, server, game).await;
    }
    match world.settle("POST", END, &json!({"serverId": server, "matchId": game})).await {
        Ok(_) => drop(world.journal().ended.insert(held)),
        Err(code) => check_expected(&code, &["match_not_held"]),
    }
}

/// A player takes a seat of a match, and two claims of it race.
async fn drop_in(world: &World, server: &str, game: &str) {
    let path = format!("/v1/matches/{game}/seats");
    let player = json!({"player_id": format!("guest-{game}")});
    let seat = match world.call("POST", &path, &player).await {
        Answer::Acknowledged(seat) => seat["seat_id"].as_str().unwrap().to_owned(),
        Answer::Refused(code) => return check_expected(&code, &["match_over"]),
        Answer::Lost => return,
    };
    world.journal().reserved.insert(seat.clone());
    claim_twice(world, &seat, &json!({"server_id": server})).await;
}

async fn claim_twice(world: &World, seat: &str, body: &Value) {
    tokio::join!(claim(world, seat, body), claim(world, seat, body));
}

async fn claim(world: &World, seat: &str, body: &Value) {
    match world.call("POST", &format!("/v1/seats/{seat}/claim"), body).await {
        Answer::Acknowledged(_) => world.journal().claimed(seat),
        Answer::Refused(code) => check_expected(&code, &["already_claimed", "seat_over", "seat_not_found"]),
        Answer::Lost => {}
    }
}

/// A player who comes through the gateway, to a match on a server of the fleet.
pub(super) async fn joiner(world: Arc<World>, mut random: fastrand::Rng) {
    while !world.is_closing() {
        let answer = world.ask("POST", "/matchmaker/request/arena/1", &Value::Null).await;
        let Some((200, text)) = answer else { continue };
        let said: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let seat = said.iter().find_map(|one| one["SessionRequestAccepted"].as_str());
        let is_ready = said.last().is_some_and(|last| last["SessionReady"].is_object());
        let Some(seat) = seat.filter(|_| is_ready) else { continue };
        world.count();
        world.journal().reserved.insert(seat.to_owned());
        claim_twice(&world, seat, &Value::Null).await;
        if random.u8(..4) > 0 {
            let released = world.settle("DELETE", &format!("/v1/seats/{seat}"), &Value::Null).await;
            released
                .err()
                .into_iter()
                .for_each(|code| check_expected(&code, &["seat_over", "seat_not_found"]));
        }
    }
}

/// Sends servers of the fleet away, so that others are started for those who wait.
pub(super) async fn administrator(world: Arc<World>, mut random: fastrand::Rng) {
    while !world.is_closing() {
        let listed = world.settle("GET", "/v1/servers", &Value::Null).await.unwrap();
        let servers = listed["servers"].as_array().unwrap();
        let of_fleet: Vec<_> = servers.iter().filter(|server| server["fleet"].is_string()).collect();
        if let Some(server) = random.choice(&of_fleet) {
            let body = json!({"serverId": server["server_id"]});
            let sent_away = world.settle("POST", "/api/v1/server/deallocate", &body).await;
            sent_away.err().into_iter().for_each(|code| check_expected(&code, &["server_not_found"]));
        }
        let some = random.u64(1..=MAX_BETWEEN);
        tokio::select! {
            () = world.more_acknowledged(some) => {}
            () = world.closed() => {}
        }
    }
}
