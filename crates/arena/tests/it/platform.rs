//! A stand-in for the platform: the calls of the contract over HTTP, and a matchmaker that fills one match after
//! another. It follows its script and records every call.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine;
use renetcode::ConnectToken;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::within;

pub(crate) const KEY: [u8; 32] = *b"a private key of the test, 32 by";
pub(crate) const PROTOCOL_ID: u64 = 0xa12e_4a00_0000_0001;
const TOKEN_BYTES: usize = 2048;
const TOKEN_LIFE_SECONDS: u64 = 30;

/// Deviations of the platform from normal operation.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) empty_answers: u32,
    pub(crate) request_failures: u32,
    pub(crate) claim_failures: u32,
    pub(crate) end_failures: u32,
    pub(crate) refuse_requests: bool,
    pub(crate) refuse_ready: bool,
    pub(crate) refuse_claims: bool,
    pub(crate) blank_tokens: bool,
    pub(crate) shutdown_hint: bool,
    pub(crate) token_timeout: i32,
    pub(crate) seats_per_match: usize,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            empty_answers: 0,
            request_failures: 0,
            claim_failures: 0,
            end_failures: 0,
            refuse_requests: false,
            refuse_ready: false,
            refuse_claims: false,
            blank_tokens: false,
            shutdown_hint: false,
            token_timeout: 5,
            seats_per_match: 4,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seat {
    Reserved,
    Claimed,
    Gone,
}

#[derive(Default)]
struct Match {
    given: bool,
    address: Option<String>,
    over: bool,
    seats: BTreeMap<String, Seat>,
}

impl Match {
    fn taken(&self) -> usize {
        self.seats.values().filter(|seat| **seat != Seat::Gone).count()
    }
}

struct World {
    script: Script,
    calls: Vec<String>,
    matches: BTreeMap<String, Match>,
    seats: u64,
}

impl World {
    fn new_match(&mut self) -> String {
        let id = format!("match-{}", self.matches.len() + 1);
        self.matches.insert(id.clone(), Match::default());
        id
    }

    /// Reserves a seat, in a new match if needed.
    fn reserve(&mut self) -> (String, String) {
        let places = self.script.seats_per_match;
        let open = self.matches.iter().find(|(_, m)| !m.over && m.taken() < places);
        let open = open.map(|(id, _)| id.clone());
        let match_id = open.unwrap_or_else(|| self.new_match());
        self.seats += 1;
        let seat_id = format!("seat-{}", self.seats);
        let seats = &mut self.matches.get_mut(&match_id).unwrap().seats;
        seats.insert(seat_id.clone(), Seat::Reserved);
        (match_id, seat_id)
    }

    fn match_of(&mut self, seat_id: &str) -> Option<(&String, &mut Match)> {
        self.matches.iter_mut().find(|(_, m)| m.seats.contains_key(seat_id))
    }
}

type Shared = Arc<watch::Sender<World>>;
type Answer = (StatusCode, Json<Value>);

fn ok(body: Value) -> Answer {
    (StatusCode::OK, Json(body))
}

fn error(status: u16, message: &str) -> Answer {
    (StatusCode::from_u16(status).unwrap(), Json(json!({"error": {"code": "scripted", "message": message}})))
}

fn fails(times: &mut u32) -> bool {
    let fails = *times > 0;
    *times = times.saturating_sub(1);
    fails
}

/// Changes the world and notifies those who wait for a change.
fn change<T>(shared: &Shared, change: impl FnOnce(&mut World) -> T) -> T {
    let mut result = None;
    shared.send_modify(|world| result = Some(change(world)));
    result.unwrap()
}

pub(crate) struct Platform {
    shared: Shared,
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Platform {
    pub(crate) async fn start(script: Script) -> Self {
        let world = World { script, calls: Vec::new(), matches: BTreeMap::new(), seats: 0 };
        let shared: Shared = Arc::new(watch::Sender::new(world));
        let routes = Router::new()
            .route("/api/v1/server/request_match", post(request_match))
            .route("/api/v1/server/match_ready", post(match_ready))
            .route("/api/v1/server/end_match", post(end_match))
            .route("/v1/seats/{seat}/claim", post(claim))
            .route("/v1/seats/{seat}", delete(release))
            .route("/v1/matches/{id}", get(view))
            .route("/matchmaker/wannaplay", post(wanna_play))
            .with_state(shared.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, address, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn queue_match(&self) {
        change(&self.shared, World::new_match);
    }

    pub(crate) fn cancel(&self, match_id: &str) {
        change(&self.shared, |world| world.matches.get_mut(match_id).unwrap().over = true);
    }

    /// Calls so far with this prefix.
    pub(crate) fn calls(&self, start: &str) -> Vec<String> {
        self.shared.borrow().calls.iter().filter(|call| call.starts_with(start)).cloned().collect()
    }

    pub(crate) async fn called(&self, call: &str) {
        self.called_in_order(&[call]).await;
    }

    /// Waits until these calls were made in this order, possibly with others in between.
    pub(crate) async fn called_in_order(&self, expected: &[&str]) {
        let happened = |world: &World| {
            let mut calls = world.calls.iter();
            expected.iter().all(|expected| calls.any(|call| call == expected))
        };
        within(self.shared.subscribe().wait_for(happened)).await.unwrap();
    }

    /// Address of the first match that is ready.
    pub(crate) async fn ready_address(&self) -> String {
        let address = |world: &World| world.matches.values().find_map(|m| m.address.clone());
        let mut changes = self.shared.subscribe();
        address(&within(changes.wait_for(|world| address(world).is_some())).await.unwrap()).unwrap()
    }
}

async fn request_match(State(shared): State<Shared>, Json(body): Json<Value>) -> Answer {
    assert_eq!(body["serverId"], "server-1");
    let mut changes = shared.subscribe();
    change(&shared, |world| world.calls.push(format!("request {}", body["hintFlags"])));
    loop {
        let answer = change_if(&shared, |world| {
            if world.script.refuse_requests {
                return Some(error(403, "no such server"));
            }
            if fails(&mut world.script.request_failures) {
                return Some(error(503, "away"));
            }
            if fails(&mut world.script.empty_answers) {
                return Some(ok(json!({"hintFlags": "HINT_FLAG_NO_HINT_FLAGS"})));
            }
            if world.script.shutdown_hint {
                return Some(ok(json!({"hintFlags": "HINT_FLAG_SHUTDOWN"})));
            }
            let (id, next) = world.matches.iter_mut().find(|(_, m)| !m.given && !m.over)?;
            next.given = true;
            Some(ok(json!({"match": {"matchId": id, "playerIds": [], "matchProperties": ""}})))
        });
        if let Some(answer) = answer {
            return answer;
        }
        changes.changed().await.unwrap();
    }
}

/// Changes the world only if there is an answer, so that waiting tasks do not wake each other.
fn change_if(shared: &Shared, change: impl FnOnce(&mut World) -> Option<Answer>) -> Option<Answer> {
    let mut answer = None;
    shared.send_if_modified(|world| {
        answer = change(world);
        answer.is_some()
    });
    answer
}

async fn match_ready(State(shared): State<Shared>, Json(body): Json<Value>) -> Answer {
    let match_id = body["matchId"].as_str().unwrap();
    change(&shared, |world| {
        world.calls.push(format!("ready {match_id}"));
        if world.script.refuse_ready {
            world.matches.get_mut(match_id).unwrap().over = true;
            return error(404, "no such match");
        }
        let address = body["connectionDetails"].as_str().unwrap().to_owned();
        world.matches.get_mut(match_id).unwrap().address = Some(address);
        ok(json!({"matchId": match_id}))
    })
}

async fn end_match(State(shared): State<Shared>, Json(body): Json<Value>) -> Answer {
    let match_id = body["matchId"].as_str().unwrap();
    change(&shared, |world| {
        world.calls.push(format!("end {match_id} hints {}", body["hintFlags"]));
        if fails(&mut world.script.end_failures) {
            return error(503, "away");
        }
        let ended = world.matches.get_mut(match_id).unwrap();
        ended.over = true;
        ended.seats.values_mut().for_each(|seat| *seat = Seat::Gone);
        ok(json!({"matchId": match_id, "hintFlags": 0}))
    })
}

async fn claim(State(shared): State<Shared>, Path(seat_id): Path<String>, Json(body): Json<Value>) -> Answer {
    assert_eq!(body["server_id"], "server-1");
    change(&shared, |world| {
        if fails(&mut world.script.claim_failures) {
            return error(503, "away");
        }
        world.calls.push(format!("claim {seat_id}"));
        if world.script.refuse_claims {
            return error(409, "this seat is taken");
        }
        let Some((match_id, found)) = world.match_of(&seat_id) else { return error(404, "no such seat") };
        match found.seats.get_mut(&seat_id) {
            Some(seat) if *seat == Seat::Reserved => *seat = Seat::Claimed,
            _ => return error(410, "the seat is gone"),
        }
        ok(json!({"seat_id": seat_id, "match_id": match_id, "player_id": "player", "state": "claimed"}))
    })
}

async fn release(State(shared): State<Shared>, Path(seat_id): Path<String>) -> Answer {
    change(&shared, |world| {
        world.calls.push(format!("release {seat_id}"));
        let Some((_, found)) = world.match_of(&seat_id) else { return error(404, "no such seat") };
        found.seats.insert(seat_id, Seat::Gone);
        ok(json!({}))
    })
}

async fn view(State(shared): State<Shared>, Path(match_id): Path<String>) -> Answer {
    let world = shared.borrow();
    let Some(found) = world.matches.get(&match_id) else { return error(404, "no such match") };
    let count = |wanted| found.seats.values().filter(|seat| **seat == wanted).count();
    let seats = json!({"reserved": count(Seat::Reserved), "claimed": count(Seat::Claimed)});
    ok(json!({"state": if found.over { "cancelled" } else { "ready" }, "seats": seats}))
}

async fn wanna_play(State(shared): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Answer {
    assert_eq!(body, json!({"game": "arena"}));
    let player_id = headers["catena-session-id"].to_str().unwrap();
    assert!(player_id.starts_with("bot-"), "{player_id}");
    let (match_id, seat_id) = change(&shared, World::reserve);
    let mut changes = shared.subscribe();
    let settled = |world: &World| {
        let found = &world.matches[&match_id];
        found.over || found.address.is_some()
    };
    let world = changes.wait_for(settled).await.unwrap();
    let Some(address) = &world.matches[&match_id].address else { return error(503, "no server") };
    let address: std::net::SocketAddr = address.parse().unwrap();
    let user_data = if world.script.blank_tokens { "" } else { seat_id.as_str() };
    let client_id = seat_id.trim_start_matches("seat-").parse().unwrap();
    ok(json!({
        "connect_token": token(address, client_id, user_data, world.script.token_timeout),
        "gameserver_ip": address.ip(),
        "gameserver_port": address.port(),
        "link": address.to_string(),
        "cert_digest": "",
    }))
}

/// A connect token in the standard's framing.
fn token(address: std::net::SocketAddr, client_id: u64, user_data: &str, timeout_seconds: i32) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut padded = [0; 256];
    padded[..user_data.len()].copy_from_slice(user_data.as_bytes());
    let token = ConnectToken::generate(
        now,
        PROTOCOL_ID,
        TOKEN_LIFE_SECONDS,
        client_id,
        timeout_seconds,
        vec![address],
        Some(&padded),
        &KEY,
    );
    let mut bytes = Vec::new();
    token.unwrap().write(&mut bytes).unwrap();
    let mut standard = bytes[8..].to_vec();
    standard.resize(TOKEN_BYTES, 0);
    base64::engine::general_purpose::STANDARD.encode(standard)
}
