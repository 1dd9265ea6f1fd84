//! Queues whose players have to accept a match: what they hear through each door, and how they answer.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::ids::{PlayerId, QueueId};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Queue, Settings};
use sortie_domain::matchmaking::{Command, Reply};
use sortie_gateway::GatewayOptions;
use sortie_serving::Allowance;
use sortie_tokens::Dialect;

use crate::harness::{Chunks, Script, WebSocket, World, arena, check, opened, options, within};
use crate::websocket::{hear_until, say};

const ASKS: &str = "a match was found: accept it by ";

/// One against one, and both have 20 seconds to accept.
async fn world(options: GatewayOptions) -> World {
    let queue = Queue {
        players_per_team: 1,
        min_players_per_team: 1,
        max_requeues: 0,
        accept: Some(Duration::from_secs(20)),
        ..Queue::default()
    };
    let queues = BTreeMap::from([(QueueId::new("asked").unwrap(), queue)]);
    let queues = Settings { queues, tick: Duration::ZERO, ..Settings::default() };
    World::start(Script { queues: Some(queues), ..Script::default() }, options).await
}

fn known() -> GatewayOptions {
    GatewayOptions { dev: true, ..options(vec![arena(4)]) }
}

/// A player at the websocket, with its ticket.
struct Talk {
    socket: WebSocket,
    ticket: String,
}

impl Talk {
    /// A player who cannot be identified.
    async fn enter(world: &World) -> Self {
        let mut socket = world.websocket("/matchmaker/ws").await;
        say(&mut socket, r#"{"queue": "asked"}"#).await;
        let ticket = hear_until(&mut socket, "SessionRequestAccepted").await;
        Self { socket, ticket: ticket.as_str().unwrap().to_owned() }
    }

    async fn say(&mut self, message: Value) {
        say(&mut self.socket, &message.to_string()).await;
    }

    /// Waits for a report that says this.
    async fn reports(&mut self, part: &str) -> String {
        let found = async {
            loop {
                let report = hear_until(&mut self.socket, "ProgressReport").await;
                let report = report.as_str().unwrap();
                if report.contains(part) {
                    return report.to_owned();
                }
            }
        };
        within(found).await
    }

    async fn ready(&mut self, world: &World) {
        let ready = hear_until(&mut self.socket, "SessionReady").await;
        check(world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
    }
}

async fn pair(world: &World) -> (Talk, Talk) {
    let (mut ann, mut bob) = (Talk::enter(world).await, Talk::enter(world).await);
    ann.reports(ASKS).await;
    bob.reports(ASKS).await;
    (ann, bob)
}

#[tokio::test]
async fn players_without_a_token_accept_where_they_wait() {
    let world = world(options(vec![arena(4)])).await;
    let (mut ann, mut bob) = pair(&world).await;
    let asked = ann.reports(ASKS).await;
    assert!(asked.ends_with("; 0 of 2 players have"), "{asked}");
    ann.say(json!({"accept": ann.ticket})).await;
    ann.reports("you have accepted the match: 1 of 2 players have").await;
    // Idempotent, and the match's id works as well.
    let game = world.maker().query(|maker| maker.formations().next().unwrap().id.to_string()).await.unwrap();
    ann.say(json!({"accept": game})).await;
    ann.reports("you have accepted the match: 1 of 2 players have").await;
    bob.reports("1 of 2 players have").await;
    bob.say(json!({"accept": game})).await;
    ann.ready(&world).await;
    bob.ready(&world).await;
}

#[tokio::test]
async fn who_declines_or_is_silent_leaves_and_the_other_waits_again() {
    let world = world(options(vec![arena(4)])).await;
    let (mut ann, mut bob) = pair(&world).await;
    ann.say(json!({"decline": ann.ticket})).await;
    ann.reports("you have declined the match").await;
    let left = hear_until(&mut ann.socket, "Error").await;
    assert_eq!(left, json!([410, "one of its players declined the match"]));
    bob.reports("waiting for players: 1st in queue asked").await;
    bob.say(json!({"accept": bob.ticket})).await;
    bob.reports("accept: ticket ").await;

    let mut cid = Talk::enter(&world).await;
    bob.reports(ASKS).await;
    bob.say(json!({"accept": bob.ticket})).await;
    bob.reports("you have accepted").await;
    world.clock.advance(Duration::from_secs(21));
    let left = hear_until(&mut cid.socket, "Error").await;
    assert_eq!(left, json!([410, "one of its players did not accept the match in time"]));
    bob.reports("waiting for players: 1st in queue asked").await;
    // Its ticket is still valid.
    let mut dee = Talk::enter(&world).await;
    bob.reports(ASKS).await;
    bob.say(json!({"accept": bob.ticket})).await;
    dee.say(json!({"accept": dee.ticket})).await;
    bob.ready(&world).await;
    dee.ready(&world).await;
}

#[tokio::test]
async fn votes_that_make_no_sense_are_told_so_and_others_are_let_pass() {
    let world = world(options(vec![arena(4)])).await;
    let (mut ann, bob) = pair(&world).await;
    for (message, told) in [
        (json!({"accept": bob.ticket}), "accept: no ticket "),
        (json!({"decline": bob.ticket}), "decline: no ticket "),
        (json!({"accept": "none"}), "accept: no ticket none is known"),
        (json!({"accept": ""}), "accept: id: "),
        (json!({"accept": "é"}), "accept: id: "),
        (json!({"accept": true}), "accept: must be the id"),
        (json!({"accept": ann.ticket, "decline": ann.ticket}), "not both"),
    ] {
        ann.say(message).await;
        ann.reports(told).await;
    }
    for chatter in ["are we there yet?", r#"{"accept""#, "[]", r#"{"queue": "asked"}"#] {
        say(&mut ann.socket, chatter).await;
    }
    ann.say(json!({"accept": ann.ticket})).await;
    ann.reports("you have accepted the match: 1 of 2 players have").await;
    // A player who wants any match is not asked.
    let mut socket = world.websocket("/matchmaker/ws").await;
    say(&mut socket, r#"{"game": "arena", "version": "1.0"}"#).await;
    hear_until(&mut socket, "SessionReady").await;
}

async fn enter(world: &World, player: &str) -> Chunks {
    let request = world.http.post(world.url("/matchmaker/request/arena/1.0")).header("session-id", player);
    Chunks(within(request.json(&json!({"queue": "asked"})).send()).await.unwrap())
}

async fn vote(world: &World, player: Option<&str>, id: &str, vote: &str) -> (u16, String) {
    let mut request = world.http.post(world.url(&format!("/matchmaker/tickets/{id}/{vote}")));
    if let Some(player) = player {
        request = request.header("session-id", player);
    }
    let answer = within(request.send()).await.unwrap();
    (answer.status().as_u16(), within(answer.text()).await.unwrap())
}

#[tokio::test]
async fn doors_without_a_way_back_are_answered_by_http() {
    let world = world(known()).await;
    let mut ann = enter(&world, "ann").await;
    let ticket = ann.until("SessionRequestAccepted").await.as_str().unwrap().to_owned();
    assert_eq!(vote(&world, Some("ann"), &ticket, "accept").await.0, 409, "there is no match yet");
    let mut bob = enter(&world, "bob").await;
    ann.reports("; 0 of 2 players have").await;
    for (player, id, status, says) in [
        (None, ticket.as_str(), 401, "the player is unknown"),
        (Some("bob"), &ticket, 404, "no ticket "),
        (Some("cid"), &ticket, 404, "no ticket "),
        (Some("ann"), "none", 404, "no ticket none is known"),
        (Some("ann"), "%C3%A9", 400, "id: "),
    ] {
        for one in ["accept", "decline"] {
            let (found, text) = vote(&world, player, id, one).await;
            assert!(found == status && text.contains(says), "{player:?} {id}: {found} {text}");
        }
    }
    for _ in 0..2 {
        let (status, answer) = vote(&world, Some("ann"), &ticket, "accept").await;
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["ticket_id"], ticket);
        let message = answer["message"].as_str().unwrap();
        assert!(message.starts_with("you have accepted the match: 1 of 2 players have"), "{message}");
    }
    let other = bob.until("SessionRequestAccepted").await;
    assert_eq!(vote(&world, Some("bob"), other.as_str().unwrap(), "accept").await.0, 200);
    for player in [&mut ann, &mut bob] {
        let ready = player.until("SessionReady").await;
        check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
    }
    assert_eq!(vote(&world, Some("ann"), &ticket, "decline").await.0, 409, "it is too late");
}

#[tokio::test]
async fn one_answer_says_that_the_match_is_to_be_accepted_first() {
    let world = world(known()).await;
    let wannaplay = async |player: &str| {
        let request = world.http.get(world.url("/wannaplay?queue=asked")).header("session-id", player);
        let answer = within(request.send()).await.unwrap();
        (answer.status().as_u16(), within(answer.text()).await.unwrap())
    };
    let (ann, bob) = tokio::join!(wannaplay("ann"), wannaplay("bob"));
    for (player, (status, text)) in [("ann", ann), ("bob", bob)] {
        assert_eq!(status, 428, "{text}");
        let path = text.split('`').nth(1).unwrap().strip_prefix("POST /matchmaker/tickets/").unwrap();
        let (ticket, _) = path.split_once('/').unwrap();
        assert_eq!(vote(&world, Some(player), ticket, "accept").await.0, 200);
    }
    let (ann, bob) = tokio::join!(wannaplay("ann"), wannaplay("bob"));
    for (status, text) in [ann, bob] {
        assert_eq!(status, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).unwrap();
        check(&world, &opened(&answer["connect_token"], Dialect::Standard), "127.0.0.1:7001").await;
    }
}

#[tokio::test]
async fn who_could_not_accept_cannot_enter() {
    let world = world(options(vec![arena(4)])).await;
    let before = world.maker().query(sortie_domain::machine::Machine::last_seq).await.unwrap();
    for path in ["/wannaplay", "/matchmaker/request/arena/1.0"] {
        let request = world.http.post(world.url(path)).json(&json!({"queue": "asked"}));
        let text = within(within(request.send()).await.unwrap().text()).await.unwrap();
        assert!(text.contains("its players have to accept their matches"), "{text}");
    }
    assert_eq!(world.maker().query(sortie_domain::machine::Machine::last_seq).await.unwrap(), before);
}

#[tokio::test]
async fn players_of_a_party_answer_each_for_themselves() {
    let queue = Queue {
        teams: 1,
        players_per_team: 2,
        min_players_per_team: 2,
        accept: Some(Duration::from_secs(20)),
        ..Queue::default()
    };
    let queues = BTreeMap::from([(QueueId::new("asked").unwrap(), queue)]);
    let queues = Settings { queues, tick: Duration::ZERO, ..Settings::default() };
    let world = World::start(Script { queues: Some(queues), ..Script::default() }, known()).await;
    let players = ["ann", "bob"].map(|id| Player::new(PlayerId::new(id).unwrap()));
    let spec = TicketSpec {
        queue: QueueId::new("asked").unwrap(),
        parties: vec![Party { id: None, players: players.to_vec() }],
        leader: None,
        properties: Default::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    };
    let started = world.maker().call(Command::Start { id: None, spec }).await.unwrap();
    let Reply::Started { ticket } = started else { panic!("{started:?}") };
    let (mut ann, mut bob) = (enter(&world, "ann").await, enter(&world, "bob").await);
    ann.reports("0 of 2 players have").await;
    assert_eq!(vote(&world, Some("ann"), ticket.as_str(), "accept").await.0, 200);
    bob.reports("1 of 2 players have").await;
    assert_eq!(vote(&world, Some("bob"), ticket.as_str(), "accept").await.0, 200);
    ann.until("SessionReady").await;
    bob.until("SessionReady").await;
}

#[tokio::test]
async fn votes_count_against_the_allowance_of_an_address() {
    let per_address = Allowance { rate: 1, burst: 3, waiting: 0 };
    let world = world(GatewayOptions { per_address, ..known() }).await;
    let mut found = Vec::new();
    for _ in 0..10 {
        found.push(vote(&world, Some("ann"), "none", "accept").await.0);
    }
    assert_eq!(found[..3], [404; 3]);
    assert!(found.contains(&429), "{found:?}");
}
