//! One player, one place, whichever way: a seat at once, a ticket, another version of the game; and rejoining an
//! unreachable match.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::broker::model::{Seat, ServerState};
use sortie_domain::broker::{Command, Event, Reply, SeatsElsewhere};
use sortie_domain::ids::{MatchId, PlayerId, QueueId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking;
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Queue, Settings};
use sortie_domain::properties::Properties;
use sortie_gateway::{GameFleet, GatewayOptions, NameService};
use sortie_tokens::Dialect;

use crate::harness::{Script, World, arena, details, fleet_id, game, opened, options, seat_of, within};

/// Matches of one player, and of two.
fn queues() -> Settings {
    let queue = |players| Queue {
        teams: 1,
        players_per_team: players,
        min_players_per_team: players,
        max_requeues: 0,
        ..Queue::default()
    };
    let queues = [("solo", queue(1)), ("pair", queue(2))];
    let queues = queues.map(|(id, queue)| (QueueId::new(id).unwrap(), queue));
    Settings { queues: BTreeMap::from(queues), tick: Duration::ZERO, ..Settings::default() }
}

fn known(fleets: Vec<GameFleet>) -> GatewayOptions {
    GatewayOptions { dev: true, ..options(fleets) }
}

async fn world(script: Script, options: GatewayOptions) -> World {
    World::start(Script { queues: Some(queues()), ..script }, options).await
}

fn player(id: &str) -> PlayerId {
    PlayerId::new(id).unwrap()
}

async fn ask(world: &World, path: &str, who: &str, body: &Value) -> (u16, String) {
    let request = world.http.post(world.url(path)).header("session-id", who).json(body);
    let answer = within(request.send()).await.unwrap();
    (answer.status().as_u16(), within(answer.text()).await.unwrap())
}

/// The token in an answer of either format.
fn token(answer: &str) -> Option<sortie_tokens::Token> {
    let last: Value = serde_json::from_str(answer.lines().last()?).ok()?;
    let token = last.get("connect_token").or_else(|| last.get("SessionReady")?.get("token"))?;
    Some(opened(token, Dialect::Standard))
}

async fn seats_of(world: &World, who: &str) -> Vec<Seat> {
    let player = player(who);
    let games = world.broker.query(move |broker| broker.matches_of(&player, &[], None, 100).items);
    let games = games.await.unwrap();
    games
        .iter()
        .filter_map(|game| game.seats.values().find(|seat| seat.player.as_str() == who).cloned())
        .collect()
}

async fn waits(world: &World, who: &str) -> bool {
    let player = player(who);
    world.maker().query(move |maker| maker.tickets_of(&player).next().is_some()).await.unwrap()
}

async fn ticket(world: &World, who: &str, queue: &str) {
    let spec = TicketSpec {
        queue: QueueId::new(queue).unwrap(),
        parties: vec![Party { id: None, players: vec![Player::new(player(who))] }],
        leader: None,
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    };
    world.maker().call(matchmaking::Command::Start { id: None, spec }).await.unwrap();
}

async fn submit(world: &World, spec: MatchSpec) -> MatchId {
    match world.broker.call(Command::SubmitMatch { id: None, spec }).await.unwrap() {
        Reply::Submitted { match_id } => match_id,
        other => panic!("{other:?}"),
    }
}

/// A match of the game that names these players.
fn named(players: &[&str]) -> MatchSpec {
    let players = players.iter().map(|id| player(id)).collect();
    MatchSpec { players, fleet: Some(fleet_id("local")), ..MatchSpec::default() }
}

async fn seat(world: &World, match_id: &MatchId, who: &str) -> Seat {
    let (match_id, ttl) = (match_id.clone(), Duration::from_secs(30));
    let reserve =
        Command::ReserveSeat { match_id, player: player(who), ttl, elsewhere: SeatsElsewhere::Ignored };
    match world.broker.call(reserve).await.unwrap() {
        Reply::Seated { seat, .. } => seat,
        other => panic!("{other:?}"),
    }
}

async fn claim(world: &World, seat: &Seat) {
    world.broker.call(Command::ClaimSeat { seat: seat.id.clone(), server: None }).await.unwrap();
}

async fn ready(world: &World, id: &MatchId) {
    let mut seen = 0;
    loop {
        let watch = Command::WatchMatch { id: id.clone(), seen };
        let Reply::Match(game) = within(world.broker.call(watch)).await.unwrap() else { panic!() };
        if game.state.name() == "ready" {
            return;
        }
        seen = game.changed_seq;
    }
}

async fn state(world: &World, id: &MatchId) -> &'static str {
    let id = id.clone();
    world.broker.query(move |broker| broker.find_match(&id).unwrap().state.name()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_both_ways_at_once_a_player_has_one_place() {
    let world = world(Script::default(), known(vec![arena(4)])).await;
    let ways = [
        ("/wannaplay", json!({})),
        ("/wannaplay", json!({"queue": "solo"})),
        ("/matchmaker/request/arena/1.0", json!({})),
        ("/matchmaker/request/arena/1.0", json!({"queue": "solo"})),
    ];
    for round in 0..25 {
        let who = format!("player-{round}");
        let (a, b, c, d) = tokio::join!(
            ask(&world, ways[0].0, &who, &ways[0].1),
            ask(&world, ways[1].0, &who, &ways[1].1),
            ask(&world, ways[2].0, &who, &ways[2].1),
            ask(&world, ways[3].0, &who, &ways[3].1),
        );
        let given: BTreeSet<_> = [&a, &b, &c, &d]
            .iter()
            .filter_map(|(_, text)| token(text))
            .map(|token| seat_of(&token))
            .collect();
        assert_eq!(given.len(), 1, "{a:?} {b:?} {c:?} {d:?}");
        for (status, text) in [&a, &b] {
            assert!(*status == 200 || *status == 409, "{status} {text}");
        }
        let seats = seats_of(&world, &who).await;
        assert_eq!(seats.iter().map(|seat| seat.id.clone()).collect::<BTreeSet<_>>(), given);
        assert!(!waits(&world, &who).await);
    }
}

#[tokio::test]
async fn a_player_who_waits_by_a_ticket_gets_no_seat_beside_it() {
    let world = world(Script::default(), known(vec![arena(4)])).await;
    ticket(&world, "ann", "pair").await;
    let (status, text) = ask(&world, "/wannaplay", "ann", &json!({})).await;
    assert_eq!(status, 409, "{text}");
    assert!(text.starts_with("player ann is in ticket "), "{text}");
    assert_eq!(seats_of(&world, "ann").await, []);
    assert!(waits(&world, "ann").await, "the ticket came first");
}

#[tokio::test]
async fn a_seat_that_was_taken_at_once_counts_more_than_the_match_of_a_ticket() {
    let world = world(Script::default(), known(vec![arena(1)])).await;
    ticket(&world, "ann", "solo").await;
    let id = loop {
        let games = world.broker.query(|broker| {
            broker.matches_of(&player("ann"), &["ready"], None, 1).items.first().map(|game| game.id.clone())
        });
        if let Some(id) = games.await.unwrap() {
            break id;
        }
        tokio::task::yield_now().await;
    };
    // The state if the process ends between two of its checks.
    let other = submit(&world, MatchSpec { capacity: Some(1), players: Vec::new(), ..named(&[]) }).await;
    let taken = seat(&world, &other, "ann").await;
    ready(&world, &other).await;
    let (status, text) = ask(&world, "/wannaplay", "ann", &json!({"queue": "solo"})).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(seat_of(&token(&text).unwrap()), taken.id);
    assert_eq!(seats_of(&world, "ann").await.len(), 1);
    let (status, text) = ask(&world, &format!("/matchmaker/matches/{id}/rejoin"), "ann", &json!({})).await;
    assert_eq!(status, 409, "{text}");
    assert!(text.contains(other.as_str()), "{text}");
}

#[tokio::test]
async fn without_rejoin_a_reserved_seat_is_given_for_a_ticket_too() {
    let options = GatewayOptions { rejoin: false, ..known(vec![arena(4)]) };
    let world = world(Script::default(), options).await;
    let first = seat_of(&token(&ask(&world, "/wannaplay", "ann", &json!({})).await.1).unwrap());
    let again = ask(&world, "/wannaplay", "ann", &json!({"queue": "solo"})).await.1;
    assert_eq!(seat_of(&token(&again).unwrap()), first);
    assert_eq!(seats_of(&world, "ann").await.len(), 1);
}

fn two_versions() -> Vec<GameFleet> {
    vec![arena(4), GameFleet { game: game("arena", "2.0"), fleet: fleet_id("new"), ..arena(4) }]
}

#[tokio::test]
async fn a_player_in_a_match_is_told_so_when_it_asks_for_another_version() {
    for claimed in [false, true] {
        let world = world(Script::default(), known(two_versions())).await;
        ask(&world, "/wannaplay", "ann", &json!({})).await;
        let first = seats_of(&world, "ann").await.pop().unwrap();
        if claimed {
            claim(&world, &first).await;
        }
        let said = format!("you are in match {} of arena 1.0, which is another version", first.match_id);
        let other = json!({"game": "arena", "version": "2.0"});
        for body in [other.clone(), json!({"game": "arena", "version": "2.0", "queue": "solo"})] {
            let (status, text) = ask(&world, "/wannaplay", "ann", &body).await;
            assert_eq!(status, 409, "{text}");
            assert!(text.starts_with(&said), "{text}");
        }
        let (status, text) = ask(&world, "/matchmaker/request/arena/2.0", "ann", &json!({})).await;
        assert_eq!(status, 200);
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last["Error"][0], 409, "{text}");
        assert_eq!(seats_of(&world, "ann").await.len(), 1);
        assert!(!waits(&world, "ann").await);
        // Once the player has left.
        world.broker.call(Command::ReleaseSeat { seat: first.id }).await.unwrap();
        assert_eq!(ask(&world, "/wannaplay", "ann", &other).await.0, 200);
        assert_eq!(seats_of(&world, "ann").await.len(), 1);
    }
}

#[tokio::test]
async fn without_rejoin_a_player_in_a_match_may_play_another_version() {
    let options = GatewayOptions { rejoin: false, ..known(two_versions()) };
    let world = world(Script::default(), options).await;
    let other = json!({"game": "arena", "version": "2.0"});
    ask(&world, "/wannaplay", "ann", &json!({})).await;
    assert_eq!(ask(&world, "/wannaplay", "ann", &other).await.0, 409, "an unclaimed seat counts");
    claim(&world, &seats_of(&world, "ann").await.pop().unwrap()).await;
    assert_eq!(ask(&world, "/wannaplay", "ann", &other).await.0, 200);
    assert_eq!(seats_of(&world, "ann").await.len(), 2);
}

#[tokio::test]
async fn nobody_comes_back_to_a_match_that_is_not_ready() {
    let world = world(Script::held(), known(vec![arena(4)])).await;
    let id = submit(&world, named(&["ann"])).await;
    // From here on, nothing is written unless somebody calls.
    world.events().find(|event| matches!(event, Event::AllocationStarted { .. }).then_some(())).await;
    let (path, seq) = (format!("/matchmaker/matches/{id}/rejoin"), world.last_seq().await);
    let (status, text) = ask(&world, &path, "ann", &json!({})).await;
    assert_eq!((status, text), (409, format!("match {id} is not ready, so nobody can be in it yet")));
    assert_eq!(world.last_seq().await, seq, "no seat is taken, not even for a moment");
    world.let_boot(1);
    world.let_ready(1);
    ready(&world, &id).await;
    assert_eq!(ask(&world, &path, "ann", &json!({})).await.0, 200);
    assert_eq!(seats_of(&world, "ann").await.len(), 1);
}

/// A server with a host name that stops resolving once `gone` is set.
fn vanishing() -> (Script, NameService, &'static AtomicBool) {
    let gone: &'static AtomicBool = Box::leak(Box::default());
    let name_service = NameService::new(move |_, port| {
        let text = "failed to lookup address information: Name or service not known";
        Box::pin(async move {
            if gone.load(SeqCst) {
                Err(io::Error::other(text))
            } else {
                Ok(vec![([127, 0, 0, 1], port).into()])
            }
        })
    });
    let script = Script { connection: |_, _| details("game.example.com:7001"), ..Script::default() };
    (script, name_service, gone)
}

#[tokio::test]
async fn a_match_that_nobody_can_come_back_to_is_over() {
    let (script, name_service, gone) = vanishing();
    let world = world(script, GatewayOptions { name_service, ..known(vec![arena(4)]) }).await;
    gone.store(true, SeqCst);
    let id = submit(&world, named(&["ann", "bob"])).await;
    ready(&world, &id).await;
    let path = format!("/matchmaker/matches/{id}/rejoin");
    for _ in 0..2 {
        let (status, text) = ask(&world, &path, "ann", &json!({})).await;
        assert_eq!((status, text), (410, format!("match {id} is over: it is failed")));
    }
    assert_eq!(state(&world, &id).await, "failed");
    gone.store(false, SeqCst);
    assert_eq!(ask(&world, "/wannaplay", "ann", &json!({})).await.0, 200, "in another match");
}

#[tokio::test]
async fn a_match_with_players_that_nobody_else_can_come_back_to_goes_on() {
    let (script, name_service, gone) = vanishing();
    let world = world(script, GatewayOptions { name_service, ..known(vec![arena(4)]) }).await;
    let id = submit(&world, named(&["ann", "bob"])).await;
    ready(&world, &id).await;
    claim(&world, &seat(&world, &id, "bob").await).await;
    gone.store(true, SeqCst);
    let path = format!("/matchmaker/matches/{id}/rejoin");
    let (status, text) = ask(&world, &path, "ann", &json!({})).await;
    assert_eq!(status, 503, "{text}");
    assert!(text.starts_with(&format!("nobody can connect to match {id} for now")), "{text}");
    assert_eq!(state(&world, &id).await, "ready");
    let servers = world.broker.query(|broker| broker.servers(None, 10).items);
    assert!(matches!(servers.await.unwrap()[0].state, ServerState::Draining { .. }));
    gone.store(false, SeqCst);
    assert_eq!(ask(&world, &path, "ann", &json!({})).await.0, 200);
}
