//! One player, one place: a player who asks again gets its own seat, and a player in a match is led back to it.

use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::broker::model::{SeatState, ServerState};
use sortie_domain::broker::{Command, Event, Hints, Offer, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_gateway::{GameFleet, GatewayOptions, NameService};
use sortie_tokens::{Dialect, Token};

use crate::harness::{
    Chunks, Events, Script, World, arena, check, fleet_id, opened, options, seat_of, within,
};
use crate::queues::queues;
use crate::websocket::{hear_until, say};

const STREAM: &str = "/matchmaker/request/arena/1.0";

fn known(fleets: Vec<GameFleet>) -> GatewayOptions {
    GatewayOptions { dev: true, ..options(fleets) }
}

async fn world(options: GatewayOptions) -> World {
    World::start(Script { queues: Some(queues()), ..Script::default() }, options).await
}

fn request(world: &World, path: &str, player: &str, body: &Value) -> reqwest::RequestBuilder {
    world.http.post(world.url(path)).header("session-id", player).json(body)
}

async fn ask(world: &World, player: &str, body: &Value) -> Token {
    let answer = within(request(world, "/wannaplay", player, body).send()).await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, 200, "{text}");
    opened(&serde_json::from_str::<Value>(&text).unwrap()["connect_token"], Dialect::Standard)
}

async fn stream(world: &World, player: &str, body: &Value) -> Token {
    let answer = within(request(world, STREAM, player, body).send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    opened(&Chunks(answer).until("SessionReady").await["token"], Dialect::Standard)
}

async fn talk(world: &World, player: &str, mut body: Value) -> Token {
    let (Some(fields), Ok(player)) = (body.as_object_mut(), PlayerId::new(player)) else { panic!("{body}") };
    fields.extend([("game".to_owned(), "arena".into()), ("version".to_owned(), "1.0".into())]);
    let mut socket = world.websocket_of("/matchmaker/ws", player.as_str()).await;
    say(&mut socket, &body.to_string()).await;
    opened(&hear_until(&mut socket, "SessionReady").await["token"], Dialect::Standard)
}

/// The same player through each of the doors.
async fn by_each_door(world: &World, player: &str, body: &Value) -> [Token; 3] {
    [
        ask(world, player, body).await,
        stream(world, player, body).await,
        talk(world, player, body.clone()).await,
    ]
}

async fn seats(world: &World) -> usize {
    world.matches().await.iter().map(|game| game.seats.len()).sum()
}

async fn claim(world: &World, seat: &SeatId) -> Result<Reply, String> {
    let claimed = world.broker.call(Command::ClaimSeat { seat: seat.clone(), server: None }).await;
    claimed.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_player_who_asks_three_times_has_one_seat() {
    for capacity in [1, 4] {
        let world = World::start(Script::default(), known(vec![arena(capacity)])).await;
        let tokens = by_each_door(&world, "ann", &json!({})).await;
        let seat = seat_of(&tokens[0]);
        for token in &tokens {
            assert_eq!((seat_of(token), token.spec.client_id), (seat.clone(), tokens[0].spec.client_id));
            check(&world, token, "127.0.0.1:7001").await;
        }
        assert_ne!(tokens[0].spec.expire_timestamp, 0);
        assert_eq!((world.matches().await.len(), seats(&world).await), (1, 1));
        ask(&world, "bob", &json!({})).await;
        assert_eq!(seats(&world).await, 2, "another player has its own place");
    }
}

#[tokio::test]
async fn three_calls_at_once_have_one_seat_whatever_fleet_has_room() {
    let (near, far) = (fleet_id("near"), fleet_id("far"));
    let fleets = vec![
        GameFleet { fleet: near.clone(), preference: 1, ..arena(1) },
        GameFleet { fleet: far.clone(), preference: 2, ..arena(1) },
    ];
    let world = World::start_with_fleets(Script::held(), known(fleets), vec![(near, 1), (far, 1)]).await;
    let calls: Vec<_> =
        (0..3).map(|_| tokio::spawn(request(&world, "/wannaplay", "ann", &json!({})).send())).collect();
    world.events().reserved().await;
    while world.gateway.stats().waiting < 3 {
        tokio::task::yield_now().await;
    }
    world.let_boot(1);
    world.let_ready(1);
    let mut clients = std::collections::BTreeSet::new();
    for call in calls {
        let answer = within(call).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        clients.insert(opened(&answer["connect_token"], Dialect::Standard).spec.client_id);
    }
    assert_eq!((clients.len(), world.matches().await.len(), seats(&world).await), (1, 1, 1));
}

#[tokio::test]
async fn a_call_that_breaks_off_does_not_take_the_seat_of_another() {
    let world = World::start(Script::held(), known(vec![arena(4)])).await;
    let mut events = world.events();
    let first = Chunks(within(request(&world, STREAM, "ann", &json!({})).send()).await.unwrap());
    let (seat, _) = events.reserved().await;
    let mut second = Chunks(within(request(&world, STREAM, "ann", &json!({})).send()).await.unwrap());
    assert_eq!(second.until("SessionRequestAccepted").await, seat.as_str());
    drop(first);
    while world.gateway.stats().abandoned == 0 {
        tokio::task::yield_now().await;
    }
    world.let_boot(1);
    world.let_ready(1);
    let token = opened(&second.until("SessionReady").await["token"], Dialect::Standard);
    assert_eq!(seat_of(&token), seat);
    check(&world, &token, "127.0.0.1:7001").await;
}

#[tokio::test]
async fn a_call_that_breaks_off_after_the_player_was_told_does_not_take_the_seat() {
    let connection = |_, _: &_| crate::harness::details("game.example.com:7001");
    // The second call waits for the name service until it is aborted.
    let asked = AtomicUsize::new(0);
    let name_service = NameService::new(move |_, port| {
        let is_silent = asked.fetch_add(1, SeqCst) == 1;
        Box::pin(async move {
            if is_silent { std::future::pending().await } else { Ok(vec![([127, 0, 0, 1], port).into()]) }
        })
    });
    let options = GatewayOptions { name_service, ..known(vec![arena(4)]) };
    let world = World::start(Script { connection, ..Script::default() }, options).await;
    let seat = seat_of(&ask(&world, "ann", &json!({})).await);
    let mut second = Chunks(within(request(&world, STREAM, "ann", &json!({})).send()).await.unwrap());
    assert_eq!(second.until("SessionRequestAccepted").await, seat.as_str());
    drop(second);
    while world.gateway.stats().abandoned == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(seat_of(&ask(&world, "ann", &json!({})).await), seat);
}

#[tokio::test]
async fn a_guest_is_known_by_the_key_of_an_earlier_answer() {
    let world = World::with_capacity(4).await;
    let first = world.join().await;
    let key = first["player_key"].as_str().unwrap();
    let seat = seat_of(&opened(&first["connect_token"], Dialect::Standard));
    let again: Value = world.get(&format!("/wannaplay?player_key={key}")).await.json().await.unwrap();
    assert_eq!(seat_of(&opened(&again["connect_token"], Dialect::Standard)), seat);
    assert_eq!(again["player_key"], first["player_key"]);
    let body = json!({ "player_key": key });
    let mut chunks = Chunks(within(world.http.post(world.url(STREAM)).json(&body).send()).await.unwrap());
    let ready = chunks.until("SessionReady").await;
    assert_eq!(seat_of(&opened(&ready["token"], Dialect::Standard)), seat);
    assert_eq!(ready["player_key"], first["player_key"]);
    let mut socket = world.websocket("/matchmaker/ws").await;
    say(&mut socket, &body.to_string()).await;
    let ready = hear_until(&mut socket, "SessionReady").await;
    assert_eq!(seat_of(&opened(&ready["token"], Dialect::Standard)), seat);
    assert_eq!(seats(&world).await, 1);
    // Without it a guest is unknown; with one that was never issued nobody plays.
    let stranger = world.join().await;
    assert_ne!(seat_of(&opened(&stranger["connect_token"], Dialect::Standard)), seat);
    let answer = world.get(&format!("/wannaplay?player_key={key}x")).await;
    assert_eq!(answer.status(), 401);
    assert_eq!(seats(&world).await, 2);
}

#[tokio::test]
async fn players_who_are_known_otherwise_get_the_answer_that_bevygap_s_clients_know() {
    let world = World::start(Script::default(), known(vec![arena(4)])).await;
    let answer = within(request(&world, "/wannaplay", "ann", &json!({})).send()).await.unwrap();
    let answer: serde_json::Map<String, Value> = answer.json().await.unwrap();
    let names: Vec<_> = answer.keys().map(String::as_str).collect();
    assert_eq!(names, ["cert_digest", "connect_token", "gameserver_ip", "gameserver_port", "link"]);
}

#[tokio::test]
async fn a_player_of_a_running_match_is_led_back_and_may_claim_its_seat_once_more() {
    let world = World::start(Script::default(), known(vec![arena(2)])).await;
    let seat = seat_of(&ask(&world, "ann", &json!({})).await);
    claim(&world, &seat).await.unwrap();
    assert!(claim(&world, &seat).await.unwrap_err().contains("claimed already"));
    for token in by_each_door(&world, "ann", &json!({})).await {
        assert_eq!(seat_of(&token), seat);
        let game = world.matches().await.pop().unwrap();
        let SeatState::Claimed { again_until: Some(until), .. } = game.seats.get(&seat).unwrap().state else {
            panic!("the player is still there")
        };
        assert_eq!(token.spec.expire_timestamp, until.as_millis().div_ceil(1000));
    }
    claim(&world, &seat).await.unwrap();
    assert!(claim(&world, &seat).await.unwrap_err().contains("claimed already"));
    assert_eq!((world.matches().await.len(), seats(&world).await), (1, 1));
}

#[tokio::test]
async fn a_seat_that_was_released_and_a_match_that_is_over_lead_nowhere() {
    let world = World::start(Script::default(), known(vec![arena(1)])).await;
    let seat = seat_of(&ask(&world, "ann", &json!({})).await);
    world.broker.call(Command::ReleaseSeat { seat: seat.clone() }).await.unwrap();
    let second = seat_of(&ask(&world, "ann", &json!({})).await);
    assert_ne!(second, seat);
    let game = world.matches().await.into_iter().find(|game| game.seats.contains_key(&second)).unwrap();
    world.broker.call(Command::EndActiveMatch { id: game.id.clone() }).await.unwrap();
    let third = ask(&world, "ann", &json!({})).await;
    let now_in = world.matches().await.into_iter().find(|game| game.seats.contains_key(&seat_of(&third)));
    assert_ne!(now_in.unwrap().id, game.id);
}

#[tokio::test]
async fn without_rejoin_only_a_seat_that_nobody_has_taken_is_given_again() {
    let options = GatewayOptions { rejoin: false, ..known(vec![arena(1)]) };
    let world = World::start(Script::default(), options).await;
    let seat = seat_of(&ask(&world, "ann", &json!({})).await);
    assert_eq!(seat_of(&ask(&world, "ann", &json!({})).await), seat);
    claim(&world, &seat).await.unwrap();
    assert_ne!(seat_of(&ask(&world, "ann", &json!({})).await), seat);
    assert_eq!(world.matches().await.len(), 2);
}

/// A running match of two players with tickets.
async fn duel(world: &World) -> MatchId {
    let body = json!({"queue": "duel"});
    let (ann, _bob) = tokio::join!(ask(world, "ann", &body), ask(world, "bob", &body));
    check(world, &ann, "127.0.0.1:7001").await.id
}

#[tokio::test]
async fn a_player_who_starts_a_ticket_while_in_a_match_is_led_back_by_each_door() {
    let world = world(known(vec![arena(4)])).await;
    let id = duel(&world).await;
    let seat = |game: &sortie_domain::broker::model::Match| {
        game.seats.of_player(&PlayerId::new("ann").unwrap()).unwrap().id.clone()
    };
    let first = seat(&world.matches().await[0]);
    // Before the player has connected, and after.
    for claimed in [false, true] {
        if claimed {
            claim(&world, &first).await.unwrap();
        }
        for body in [json!({"queue": "duel"}), json!({"queue": "2v2"}), json!({})] {
            for token in by_each_door(&world, "ann", &body).await {
                assert_eq!(seat_of(&token), first, "{body}");
            }
        }
    }
    let matches = world.matches().await;
    assert_eq!((matches.len(), &matches[0].id), (1, &id));
}

#[tokio::test]
async fn a_player_who_is_named_in_a_match_comes_to_it() {
    let world = World::start(Script::held(), known(vec![arena(4)])).await;
    let spec = MatchSpec {
        players: vec![PlayerId::new("ann").unwrap()],
        fleet: Some(fleet_id("local")),
        ..MatchSpec::default()
    };
    world.let_boot(1);
    world.let_ready(1);
    let reply = world.broker.call(Command::SubmitMatch { id: None, spec }).await.unwrap();
    let Reply::Submitted { match_id } = reply else { panic!("{reply:?}") };
    let token = ask(&world, "ann", &json!({})).await;
    assert_eq!(check(&world, &token, "127.0.0.1:7001").await.id, match_id);
}

#[tokio::test]
async fn a_player_of_a_match_on_a_server_of_no_fleet_is_led_back_by_what_the_match_runs() {
    let world = World::start(Script::held(), known(vec![arena(4)])).await;
    let spec = MatchSpec {
        players: vec![PlayerId::new("ann").unwrap()],
        properties: Properties::parse(r#"{"game": "arena", "version": "1.0"}"#).unwrap(),
        ..MatchSpec::default()
    };
    world.broker.call(Command::SubmitMatch { id: None, spec }).await.unwrap();
    let server = ServerId::new("bare metal").unwrap();
    let request = Command::RequestMatch {
        server: server.clone(),
        requirements: String::new(),
        hints: Hints::NONE,
        most: 1,
        wait: None,
    };
    let reply = world.broker.call(request).await.unwrap();
    let Reply::Requested { offer: Some(offer), .. } = reply else { panic!("{reply:?}") };
    let (match_id, connection) = (offer.match_id.clone(), crate::harness::details("127.0.0.1:7009"));
    let ready = Command::MatchReady { server, match_id, connection, hints: Hints::NONE };
    world.broker.call(ready).await.unwrap();
    let token = ask(&world, "ann", &json!({})).await;
    assert_eq!(check(&world, &token, "127.0.0.1:7009").await.id, offer.match_id);
}

#[tokio::test]
async fn a_backend_gets_the_way_back_for_a_player_of_a_match() {
    let world = World::start(Script::default(), known(vec![arena(4)])).await;
    let seat = seat_of(&ask(&world, "ann", &json!({})).await);
    let id = world.matches().await[0].id.clone();
    let back = async |id: &str, player: &str| {
        let path = format!("/matchmaker/matches/{id}/rejoin");
        let request = world.http.post(world.url(&path)).json(&json!({ "player_id": player }));
        let answer = within(request.send()).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = back(id.as_str(), "ann").await;
    assert_eq!(status, 200, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let token = opened(&answer["connect_token"], Dialect::Standard);
    check(&world, &token, answer["link"].as_str().unwrap()).await;
    assert_eq!(seat_of(&token), seat);
    let (status, text) = back(id.as_str(), "bob").await;
    assert_eq!(status, 404);
    assert!(text.starts_with("player bob is not in match "), "{text}");
    assert_eq!(back("match-0", "ann").await, (404, "no match match-0 is known".to_owned()));
    world.broker.call(Command::EndActiveMatch { id: id.clone() }).await.unwrap();
    assert_eq!(back(id.as_str(), "ann").await.0, 410);
}

#[tokio::test]
async fn nobody_else_speaks_for_a_player() {
    let world = World::with_capacity(4).await;
    let first = world.join().await;
    let game = world.matches().await.pop().unwrap();
    let path = world.url(&format!("/matchmaker/matches/{}/rejoin", game.id));
    let player = game.players()[0].to_string();
    let stranger = world.http.post(&path).json(&json!({ "player_id": player }));
    assert_eq!(within(stranger.send()).await.unwrap().status(), 401);
    let guest = world.http.post(&path).json(&json!({ "player_key": first["player_key"] }));
    assert_eq!(within(guest.send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_name_that_leads_nowhere_takes_its_match_out_and_another_is_tried() {
    let connection = |number, _: &_| {
        crate::harness::details(if number == 1 { "no-such-host.invalid:7777" } else { "127.0.0.1:7002" })
    };
    let world = World::start(Script { connection, ..Script::default() }, options(vec![arena(2)])).await;
    let mut events = world.events();
    let failed = |event: &Event| match event {
        Event::MatchFailed { reason, .. } => Some(reason.name()),
        _ => None,
    };
    let gone = |event: &Event| match event {
        Event::ServerGone { cause, .. } => Some(cause.name()),
        _ => None,
    };
    let (answer, ()) = tokio::join!(world.join(), async {
        assert_eq!(events.find(failed).await.0, "unreachable");
        assert_eq!(events.find(gone).await.0, "unreachable");
    });
    assert_eq!(answer["link"], "127.0.0.1:7002");
    // Nor is anybody after.
    assert_eq!(world.join().await["link"], "127.0.0.1:7002");
    assert!(!world.gateway.stats().failed.contains_key("no_address"));
}

/// Lets the time pass for which the fleet backs off, whenever a server turns out to be unreachable: this many times.
async fn past_backoffs(world: &World, events: &mut Events, times: usize) {
    let unreachable = |event: &Event| match event {
        Event::ServerGone { cause, .. } => (cause.name() == "unreachable").then_some(()),
        _ => None,
    };
    for _ in 0..times {
        events.find(unreachable).await;
        world.clock.advance(Duration::from_secs(61));
    }
}

/// The connection details of six servers lead nowhere.
fn six_bad(number: u16, _: &Offer) -> Connection {
    crate::harness::details(if number <= 6 { "no-such-host.invalid:7777" } else { "127.0.0.1:7007" })
}

#[tokio::test]
async fn many_unreachable_servers_in_a_row_do_not_end_a_wait() {
    let script = Script { connection: six_bad, ..Script::default() };
    let world = World::start(script, options(vec![arena(2)])).await;
    let mut events = world.events();
    let (answer, ()) = tokio::join!(world.join(), past_backoffs(&world, &mut events, 6));
    assert_eq!(answer["link"], "127.0.0.1:7007");
}

/// Two players ask with the same body, and both are led to the first server that exists.
async fn both_get_past_six_bad_servers(world: &World, body: &Value) {
    let mut events = world.events();
    let (ann, bob, ()) =
        tokio::join!(ask(world, "ann", body), ask(world, "bob", body), past_backoffs(world, &mut events, 6));
    for token in [ann, bob] {
        check(world, &token, "127.0.0.1:7007").await;
    }
}

#[tokio::test]
async fn two_players_of_one_match_get_past_many_unreachable_servers() {
    let script = Script { connection: six_bad, ..Script::default() };
    let world = World::start(script, known(vec![arena(2)])).await;
    both_get_past_six_bad_servers(&world, &json!({})).await;
}

#[tokio::test]
async fn many_unreachable_servers_in_a_row_do_not_end_a_wait_in_a_queue() {
    let script = Script { queues: Some(queues()), connection: six_bad, ..Script::default() };
    let world = World::start(script, known(vec![arena(4)])).await;
    both_get_past_six_bad_servers(&world, &json!({"queue": "duel"})).await;
}

#[tokio::test]
async fn who_meets_only_unreachable_servers_hears_so_at_the_deadline() {
    let connection = |_, _: &_| crate::harness::details("no-such-host.invalid:7777");
    let options = GatewayOptions { wait_deadline: Duration::from_secs(2), ..options(vec![arena(2)]) };
    let world = World::start(Script { connection, ..Script::default() }, options).await;
    let mut events = world.events();
    let (answer, ()) = tokio::join!(world.post("/wannaplay"), past_backoffs(&world, &mut events, 4));
    assert_eq!(answer.status(), 502);
    let said = answer.text().await.unwrap();
    assert!(said.contains("connection details lead nowhere"), "{said}");
    assert_eq!(world.gateway.stats().failed["no_address"], 1);
}

/// A name service that fails this often before it answers.
fn failing(times: usize) -> NameService {
    let left = AtomicUsize::new(times);
    NameService::new(move |host, port| {
        assert_eq!(host, "game.example.com");
        let fails = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        Box::pin(async move {
            let text = "failed to lookup address information: Temporary failure in name resolution";
            if fails { Err(io::Error::other(text)) } else { Ok(vec![([127, 0, 0, 1], port).into()]) }
        })
    })
}

#[tokio::test]
async fn a_name_service_that_fails_for_a_moment_harms_no_server() {
    let connection = |_, _: &_| crate::harness::details("game.example.com:7002");
    let options = GatewayOptions { name_service: failing(2), ..options(vec![arena(2)]) };
    let world = World::start(Script { connection, ..Script::default() }, options).await;
    let first = world.join().await;
    assert_eq!(first["link"], "127.0.0.1:7002");
    let servers = world.broker.query(|broker| broker.servers(None, 10).items.len()).await.unwrap();
    assert_eq!(servers, 1, "one server was enough");
}

#[tokio::test]
async fn who_waits_for_a_name_service_in_vain_hears_of_it_and_the_match_stays() {
    let connection = |_, _: &_| crate::harness::details("game.example.com:7002");
    let options = GatewayOptions {
        name_service: failing(usize::MAX),
        wait_deadline: Duration::from_secs(2),
        ..options(vec![arena(2)])
    };
    let world = World::start(Script { connection, ..Script::default() }, options).await;
    let answer = world.post("/wannaplay").await;
    assert_eq!(answer.status(), 503);
    let said = answer.text().await.unwrap();
    assert!(said.contains("the name service did not resolve"), "{said}");
    assert_eq!(world.gateway.stats().failed["no_name_service"], 1);
    let states = world.broker.query(|broker| {
        let matches = broker.matches(&[], None, 10).items.into_iter().map(|game| game.state.name());
        let servers = broker.servers(None, 10).items.into_iter().map(|server| server.state);
        (matches.collect::<Vec<_>>(), servers.collect::<Vec<_>>())
    });
    assert_eq!(states.await.unwrap(), (vec!["ready"], vec![ServerState::Full]), "as it reported itself");
}

#[tokio::test]
async fn a_queue_s_match_that_nobody_can_reach_is_not_tried_again() {
    let connection = |number, _: &_| {
        crate::harness::details(if number == 1 { "no-such-host.invalid:7777" } else { "127.0.0.1:7002" })
    };
    let script = Script { queues: Some(queues()), connection, ..Script::default() };
    let world = World::start(script, known(vec![arena(4)])).await;
    let body = json!({"queue": "duel"});
    let (ann, bob) = tokio::join!(ask(&world, "ann", &body), ask(&world, "bob", &body));
    for token in [ann, bob] {
        check(&world, &token, "127.0.0.1:7002").await;
    }
}

impl World {
    async fn websocket_of(&self, path: &str, player: &str) -> crate::harness::WebSocket {
        use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("session-id", player.parse().unwrap());
        let (socket, _) = within(tokio_tungstenite::connect_async(request)).await.unwrap();
        socket
    }
}
