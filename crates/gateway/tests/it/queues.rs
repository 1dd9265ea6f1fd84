//! Players who enter a queue: ticket, match, seat and token at each door, and what becomes of a ticket whose player
//! goes away.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use sortie_domain::broker;
use sortie_domain::broker::model::SeatState;
use sortie_domain::ids::{PlayerId, QueueId, TicketId};
use sortie_domain::matchmaking::model::{
    CancelCause, Party, Player, Ticket, TicketEnd, TicketSpec, TicketState,
};
use sortie_domain::matchmaking::settings::{Hook, Measure, Queue, Rule, RuleKind, Settings};
use sortie_domain::matchmaking::{Command, Event, Matchmaker, Reply};
use sortie_engine::{Cursor, Subscription};
use sortie_gateway::{Gateway, GatewayOptions};
use sortie_tokens::Dialect;

use crate::harness::{Chunks, Script, World, arena, check, opened, options, within};
use crate::websocket::{hear_until, say};

const STREAM: &str = "/matchmaker/request/arena/1.0";
const WANNAPLAY: &str = "/matchmaker/wannaplay";

/// One against one, and two against two; matches are formed at once.
pub(crate) fn queues() -> Settings {
    let queue = |players_per_team| Queue {
        players_per_team,
        min_players_per_team: players_per_team,
        max_requeues: 0,
        ..Queue::default()
    };
    let queues = [("duel", queue(1)), ("2v2", queue(2))];
    let queues = queues.map(|(id, queue)| (QueueId::new(id).unwrap(), queue));
    Settings { queues: BTreeMap::from(queues), tick: Duration::ZERO, ..Settings::default() }
}

fn known() -> GatewayOptions {
    GatewayOptions { dev: true, ..options(vec![arena(4)]) }
}

async fn world(options: GatewayOptions) -> World {
    World::start(Script { queues: Some(queues()), ..Script::default() }, options).await
}

async fn ask(world: &World, path: &str, player: Option<&str>, body: &Value) -> reqwest::Response {
    let mut request = world.http.post(world.url(path)).json(body);
    if let Some(player) = player {
        request = request.header("session-id", player);
    }
    within(request.send()).await.unwrap()
}

async fn enter(world: &World, player: &str, queue: &str) -> Chunks {
    let answer = ask(world, STREAM, Some(player), &json!({ "queue": queue })).await;
    assert_eq!(answer.status(), 200);
    Chunks(answer)
}

async fn last(chunks: &mut Chunks) -> Value {
    chunks.rest().await.pop().unwrap()
}

async fn ticket_of(world: &World, player: &str) -> Option<Ticket> {
    let player = PlayerId::new(player).unwrap();
    world.maker().query(move |maker| maker.tickets_of(&player).next().cloned()).await.unwrap()
}

/// Waits until a ticket is cancelled, and returns it.
async fn called_off(events: &mut Subscription<Matchmaker>) -> String {
    let found = async {
        loop {
            if let Event::TicketCancelled { ticket, cause } = &events.next().await.unwrap().event {
                assert_eq!(*cause, CancelCause::Requested);
                return ticket.ticket.to_string();
            }
        }
    };
    within(found).await
}

#[tokio::test]
async fn ticket_match_seat_and_token_come_in_one_stream() {
    let world = world(known()).await;
    let mut ann = enter(&world, "ann", "duel").await;
    assert_eq!(ann.next().await, Some(json!("Acknowledged")));
    let ticket = ann.until("SessionRequestAccepted").await;
    assert_eq!(ticket_of(&world, "ann").await.unwrap().id.as_str(), ticket.as_str().unwrap());
    ann.reports("waiting for players: 1st in queue duel").await;
    let mut bob = enter(&world, "bob", "duel").await;
    let ready = [ann.until("SessionReady").await, bob.until("SessionReady").await];
    let mut games = Vec::new();
    for ready in &ready {
        assert_eq!((&ready["ip"], &ready["port"]), (&json!("127.0.0.1"), &json!(7001)));
        let game = check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
        let properties: Value = serde_json::from_str(game.spec.properties.text().unwrap()).unwrap();
        assert_eq!(properties, json!({"queue_name": "duel", "game": "arena", "version": "1.0"}));
        games.push(game.id);
    }
    assert_eq!(games[0], games[1]);
    assert_eq!((ann.next().await, bob.next().await), (None, None));
    assert_eq!(world.gateway.stats().queued.count(), 2);
}

#[tokio::test]
async fn a_waiting_player_hears_of_others_and_of_what_is_missing() {
    let world = world(known()).await;
    let mut ann = enter(&world, "ann", "2v2").await;
    ann.reports("1st in queue 2v2").await;
    let _bob = enter(&world, "bob", "2v2").await;
    ann.reports("1st in queue 2v2, 2 of 4 players in reach").await;
    // The same again after a while, as a sign of life.
    ann.reports("1st in queue 2v2, 2 of 4 players in reach").await;
}

#[tokio::test]
async fn every_door_leads_into_a_queue() {
    let world = world(known()).await;
    let waiting = async {
        let body = json!({"queue": "2v2", "properties": {"mode": "ranked"}, "latencies": {"eu": 20}});
        ask(&world, WANNAPLAY, Some("ann"), &body).await
    };
    let answering = async {
        let request = world.http.get(world.url("/wannaplay?queue=2v2")).header("session-id", "bob");
        within(request.send()).await.unwrap()
    };
    let streaming = async { enter(&world, "cid", "2v2").await.until("SessionReady").await };
    let talking = async {
        let mut socket = world.websocket("/matchmaker/ws").await;
        say(&mut socket, r#"{"queue": "2v2"}"#).await;
        hear_until(&mut socket, "SessionReady").await
    };
    let (ann, bob, cid, dee) = tokio::join!(waiting, answering, streaming, talking);
    for answer in [ann, bob] {
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["sortie-join"]),
            (200, &"queue".parse().unwrap())
        );
        let answer: Value = answer.json().await.unwrap();
        check(&world, &opened(&answer["connect_token"], Dialect::Standard), "127.0.0.1:7001").await;
    }
    for ready in [cid, dee] {
        check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
    }
    assert_eq!(world.matches().await.len(), 1);
}

#[tokio::test]
async fn a_ticket_survives_its_connection_and_is_found_again() {
    let world = world(known()).await;
    let mut first = enter(&world, "ann", "duel").await;
    let ticket = first.until("SessionRequestAccepted").await;
    first.until("ProgressReport").await;
    drop(first);
    let mut again = enter(&world, "ann", "duel").await;
    assert_eq!(again.until("SessionRequestAccepted").await, ticket);
    drop(again);
    // The match is formed while its player is away.
    let mut bob = enter(&world, "bob", "duel").await;
    bob.until("SessionReady").await;
    let mut back = enter(&world, "ann", "duel").await;
    assert_eq!(back.until("SessionRequestAccepted").await, ticket);
    let ready = back.until("SessionReady").await;
    check(&world, &opened(&ready["token"], Dialect::Standard), "127.0.0.1:7001").await;
    // Once the token was delivered, the next ticket is a new one.
    let mut next = enter(&world, "ann", "duel").await;
    assert_ne!(next.until("SessionRequestAccepted").await, ticket);
}

#[tokio::test]
async fn two_connections_of_a_player_have_one_ticket_and_one_seat() {
    let world = world(known()).await;
    let (mut one, mut other) = tokio::join!(enter(&world, "ann", "duel"), enter(&world, "ann", "duel"));
    let ticket = one.until("SessionRequestAccepted").await;
    assert_eq!(other.until("SessionRequestAccepted").await, ticket);
    let mut bob = enter(&world, "bob", "duel").await;
    let ready = [one.until("SessionReady").await, other.until("SessionReady").await];
    bob.until("SessionReady").await;
    let seats = ready.map(|ready| crate::harness::seat_of(&opened(&ready["token"], Dialect::Standard)));
    assert_eq!(seats[0], seats[1]);
    assert_eq!(world.matches().await.pop().unwrap().seats.len(), 2);
}

#[tokio::test]
async fn who_does_not_come_back_is_called_off() {
    let options = GatewayOptions { reconnect_grace: Duration::from_millis(50), ..known() };
    let world = world(options).await;
    let mut events = world.maker().subscribe(Cursor::Earliest);
    let mut ann = enter(&world, "ann", "duel").await;
    let ticket = ann.until("SessionRequestAccepted").await;
    drop(ann);
    assert_eq!(called_off(&mut events).await, ticket.as_str().unwrap());
}

#[tokio::test]
async fn whom_nothing_tells_from_others_is_called_off_at_once() {
    let options = GatewayOptions { reconnect_grace: Duration::from_secs(3600), ..known() };
    let world = world(options).await;
    let mut events = world.maker().subscribe(Cursor::Earliest);
    let mut somebody = Chunks(ask(&world, STREAM, None, &json!({"queue": "duel"})).await);
    let ticket = somebody.until("SessionRequestAccepted").await;
    drop(somebody);
    assert_eq!(called_off(&mut events).await, ticket.as_str().unwrap());
}

#[tokio::test]
async fn after_a_restart_tickets_are_found_or_called_off() {
    let options = GatewayOptions { reconnect_grace: Duration::from_secs(3600), ..known() };
    let world = world(options.clone()).await;
    let mut events = world.maker().subscribe(Cursor::Earliest);
    let mut ann = enter(&world, "ann", "2v2").await;
    let ticket = ann.until("SessionRequestAccepted").await;
    drop(ann);
    // Another gateway knows nothing of the first one.
    let restarted = |grace| {
        let options = GatewayOptions {
            matchmaker: Some(world.maker()),
            reconnect_grace: Duration::from_millis(grace),
            ..options.clone()
        };
        Gateway::new(world.broker.clone(), options).unwrap()
    };
    let _gateway = restarted(50);
    assert_eq!(called_off(&mut events).await, ticket.as_str().unwrap());
}

/// A ticket as a backend starts it.
fn party(queue: &str, players: &[&str]) -> TicketSpec {
    let players = players.iter().map(|id| Player::new(PlayerId::new(id).unwrap()));
    TicketSpec {
        queue: QueueId::new(queue).unwrap(),
        parties: vec![Party { id: None, players: players.collect() }],
        leader: None,
        properties: Default::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    }
}

async fn start(world: &World, spec: TicketSpec) -> TicketId {
    match world.maker().call(Command::Start { id: None, spec }).await.unwrap() {
        Reply::Started { ticket } => ticket,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_several_tickets_that_of_the_queue_asked_for_is_found() {
    let settings = Settings { queues_per_player: 2, ..queues() };
    let world = World::start(Script { queues: Some(settings), ..Script::default() }, known()).await;
    let large = start(&world, party("2v2", &["ann", "bob"])).await;
    let small = start(&world, party("duel", &["ann"])).await;
    let mut ann = enter(&world, "ann", "duel").await;
    assert_eq!(ann.until("SessionRequestAccepted").await, small.as_str());
    let mut cat = enter(&world, "cat", "duel").await;
    ann.until("SessionReady").await;
    cat.until("SessionReady").await;
    let over = world.maker().query(move |maker| maker.ticket(&large).unwrap().clone()).await.unwrap();
    let end = TicketEnd::Cancelled(CancelCause::MatchedElsewhere);
    assert!(matches!(&over.state, TicketState::Over { end: of, .. } if *of == end), "{:?}", over.state);
    // A player who may wait in another queue gets its own ticket there.
    start(&world, party("2v2", &["dan", "eve"])).await;
    let mut dan = enter(&world, "dan", "duel").await;
    dan.until("SessionRequestAccepted").await;
    let player = PlayerId::new("dan").unwrap();
    let count = world.maker().query(move |maker| maker.tickets_of(&player).count()).await.unwrap();
    assert_eq!(count, 2);
}

#[tokio::test]
async fn who_stays_in_a_party_that_changes_waits_on_and_who_leaves_hears_of_it() {
    let world = world(known()).await;
    let mut last_one = start(&world, party("2v2", &["ann", "bob"])).await;
    let (mut ann, mut bob) = (enter(&world, "ann", "2v2").await, enter(&world, "bob", "2v2").await);
    assert_eq!(ann.until("SessionRequestAccepted").await, last_one.as_str());
    bob.until("SessionRequestAccepted").await;
    // More often than the limit of a player's failed matches.
    for with in ["cat", "dan", "eve", "fay", "gus"] {
        let spec = TicketSpec { replaces: Some(last_one.clone()), ..party("2v2", &["ann", with]) };
        last_one = start(&world, spec).await;
        assert_eq!(ann.until("SessionRequestAccepted").await, last_one.as_str());
    }
    assert_eq!(last(&mut bob).await, json!({"Error": [410, "another ticket has taken its place"]}));
    start(&world, party("2v2", &["x", "y"])).await;
    ann.until("SessionReady").await;
}

#[tokio::test]
async fn a_ticket_that_others_have_started_is_found_and_stays_theirs() {
    let options = GatewayOptions { reconnect_grace: Duration::ZERO, ..known() };
    let world = world(options).await;
    let ticket = start(&world, party("2v2", &["ann", "bob"])).await;
    let mut ann = enter(&world, "ann", "2v2").await;
    assert_eq!(ann.until("SessionRequestAccepted").await, ticket.as_str());
    drop(ann);
    let mut others = Vec::new();
    for player in ["bob", "cid", "dee"] {
        others.push(enter(&world, player, "2v2").await);
    }
    for other in &mut others {
        other.until("SessionReady").await;
    }
    let mut ann = enter(&world, "ann", "duel").await;
    assert_ne!(ann.until("SessionRequestAccepted").await, ticket.as_str());
}

#[tokio::test]
async fn a_ticket_that_expires_or_finds_no_server_ends_with_the_reason() {
    let world = World::start(Script { queues: Some(queues()), ..Script::held() }, known()).await;
    let mut ann = enter(&world, "ann", "2v2").await;
    ann.until("ProgressReport").await;
    world.clock.advance(Duration::from_secs(121));
    assert_eq!(last(&mut ann).await, json!({"Error": [408, "no match was found in time"]}));

    let mut ann = enter(&world, "ann", "duel").await;
    let mut bob = enter(&world, "bob", "duel").await;
    ann.reports("a match was found; waiting for a server: 1st in the queue, one has been started").await;
    world.clock.advance(Duration::from_secs(91));
    for player in [&mut ann, &mut bob] {
        assert_eq!(last(player).await, json!({"Error": [503, "no server could be obtained in time"]}));
    }
    assert_eq!(world.gateway.stats().failed, BTreeMap::from([("ticket_failed", 2), ("ticket_timed_out", 1)]));
}

#[tokio::test]
async fn a_server_that_is_lost_while_a_player_waits_is_told_in_a_queue_too() {
    let world = World::start(Script { queues: Some(queues()), ..Script::held() }, known()).await;
    let mut ann = enter(&world, "ann", "duel").await;
    let _ben = enter(&world, "ben", "duel").await;
    ann.reports("a match was found; waiting for a server: 1st in the queue, one has been started").await;
    world.let_boot(1);
    ann.reports("a match was found; a server has the match and prepares it").await;
    let order = world.broker.query(|broker| broker.allocations().next().cloned()).await.unwrap().unwrap();
    let exited =
        broker::Command::ServerExited { allocation: order.id, status: "killed by signal 11".to_owned() };
    world.broker.call(exited).await.unwrap();
    let lost = "a match was found; the server that had the match is gone (the game server's process exited); waiting for \
                a server: 1st in the queue";
    let told = within(async {
        loop {
            let report = ann.until("ProgressReport").await;
            if report.as_str().unwrap().starts_with(lost) {
                return;
            }
        }
    });
    told.await;
}

#[tokio::test]
async fn one_answer_that_takes_too_long_leaves_the_ticket_in_its_place() {
    let options = GatewayOptions { wait_deadline: Duration::from_millis(50), ..known() };
    let world = world(options).await;
    let body = json!({"queue": "duel"});
    let answer = ask(&world, WANNAPLAY, Some("ann"), &body).await;
    assert_eq!(answer.status(), 408);
    let text = answer.text().await.unwrap();
    assert!(text.contains("keeps its place"), "{text}");
    let ticket = ticket_of(&world, "ann").await.unwrap();
    ask(&world, WANNAPLAY, Some("ann"), &body).await;
    assert_eq!(ticket_of(&world, "ann").await.unwrap().id, ticket.id);
}

#[tokio::test]
async fn fractions_of_latencies_are_rounded_up() {
    let world = world(known()).await;
    let body = json!({"queue": "2v2", "latencies": {"eu": 20.4, "us": 90.0}});
    let playing = ask(&world, WANNAPLAY, Some("ann"), &body);
    let waiting = async {
        loop {
            match ticket_of(&world, "ann").await {
                Some(ticket) => break ticket,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let ticket = tokio::select! {
        answer = playing => panic!("{answer:?}"),
        ticket = within(waiting) => ticket,
    };
    assert_eq!(ticket.spec.latencies.values().copied().collect::<Vec<_>>(), [21, 90]);
}

#[tokio::test]
async fn what_no_queue_can_do_is_refused() {
    let world = world(known()).await;
    for (body, status, says) in [
        (json!({"queue": "3v3"}), 404, "no queue 3v3 is configured"),
        (json!({"queue": "a b\u{e9}"}), 400, "queue: "),
        (json!({"queue": "duel", "properties": [1]}), 400, "properties: must be a JSON object"),
        (json!({"queue": "duel", "latencies": {"eu": "near"}}), 400, "latencies: must be milliseconds"),
        (json!({"queue": "duel", "latencies": {"eu": -1}}), 400, "latencies: must be milliseconds"),
        (json!({"queue": "duel", "latencies": {"eu": -0.5}}), 400, "latencies: must be milliseconds"),
        (
            json!({"queue": "duel", "latencies": {"eu": 4_294_967_295.5}}),
            400,
            "latencies: must be milliseconds",
        ),
        (json!({"queue": "duel", "game": "chess", "version": "1"}), 404, "there is no game chess 1"),
    ] {
        let answer = ask(&world, WANNAPLAY, Some("ann"), &body).await;
        assert_eq!(answer.status(), status, "{body}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(says), "{text}");
    }
    assert!(ticket_of(&world, "ann").await.is_none());

    let mut ann = enter(&world, "ann", "2v2").await;
    ann.until("ProgressReport").await;
    let answer = ask(&world, WANNAPLAY, Some("ann"), &json!({"queue": "duel"})).await;
    assert_eq!(answer.status(), 409);
    assert!(answer.text().await.unwrap().contains("cancel that one first"));
}

#[tokio::test]
async fn without_a_matchmaker_there_are_no_queues() {
    let world = World::with_capacity(4).await;
    let answer = ask(&world, WANNAPLAY, None, &json!({"queue": "duel"})).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("no matchmaker is configured"));
    // A player who names none is not asked about one.
    let answer = ask(&world, WANNAPLAY, None, &json!({"properties": 7, "queue": ""})).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_queue_without_game_servers_has_no_tokens() {
    let mut settings = queues();
    let duel = QueueId::new("duel").unwrap();
    settings.queues.get_mut(&duel).unwrap().hooks = vec![Hook::PeerToPeerHost("address".into())];
    let world = World::start(Script { queues: Some(settings), ..Script::default() }, known()).await;
    let answer = ask(&world, WANNAPLAY, Some("ann"), &json!({"queue": "duel"})).await;
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("have no game server"));
}

#[tokio::test]
async fn who_has_taken_the_seat_is_told_so() {
    let world = world(GatewayOptions { rejoin: false, ..known() }).await;
    let mut ann = enter(&world, "ann", "duel").await;
    ann.until("SessionRequestAccepted").await;
    drop(ann);
    enter(&world, "bob", "duel").await.until("SessionReady").await;
    let game = world.matches().await.pop().unwrap();
    let player = PlayerId::new("ann").unwrap();
    let reserve = sortie_domain::broker::Command::ReserveSeat {
        match_id: game.id,
        player: player.clone(),
        ttl: Duration::from_secs(30),
        elsewhere: sortie_domain::broker::SeatsElsewhere::Ignored,
    };
    let reply = world.broker.call(reserve).await.unwrap();
    let sortie_domain::broker::Reply::Seated { seat, .. } = reply else { panic!("{reply:?}") };
    let claim = sortie_domain::broker::Command::ClaimSeat { seat: seat.id, server: None };
    world.broker.call(claim).await.unwrap();
    let mut ann = enter(&world, "ann", "duel").await;
    assert_eq!(last(&mut ann).await["Error"][0], 409);
    let game = world.matches().await.pop().unwrap();
    assert!(
        game.seats
            .values()
            .any(|seat| seat.player == player && matches!(seat.state, SeatState::Claimed { .. }))
    );
}

#[tokio::test]
async fn what_a_player_says_of_its_worth_is_refused_at_every_door() {
    let level =
        RuleKind::Distance { property: "level".into(), measure: Measure::Ticket, most: 1.0, missing: 0.0 };
    let mut settings = queues();
    let rated = Queue { rules: vec![Rule::new("level", level)], ..Queue::default() };
    settings.queues.insert(QueueId::new("rated").unwrap(), rated);
    let script = || Script { queues: Some(settings.clone()), ..Script::default() };
    let body = json!({"queue": "rated", "properties": {"level": 99, "map": "forest"}});
    let strangers = World::start(script(), options(vec![arena(4)])).await;
    let answer = ask(&strangers, WANNAPLAY, None, &body).await;
    assert_eq!(answer.status(), 403);
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("properties.level: is not accepted from players"), "{text}");
    let mut chunks = Chunks(ask(&strangers, STREAM, None, &body).await);
    assert_eq!(chunks.until("Error").await[0], 403);
    let mut socket = strangers.websocket("/matchmaker/ws").await;
    let mut first = body.clone();
    (first["game"], first["version"]) = ("arena".into(), "1.0".into());
    say(&mut socket, &first.to_string()).await;
    assert_eq!(hear_until(&mut socket, "Error").await[0], 403);
    assert_eq!(strangers.gateway.stats().failed["rates_itself"], 3);
    let allowed = GatewayOptions { may_rate_themselves: true, ..options(vec![arena(4)]) };
    for options in [allowed, known()] {
        let world = World::start(script(), options).await;
        let mut chunks = Chunks(ask(&world, STREAM, Some("ann"), &body).await);
        chunks.until("SessionRequestAccepted").await;
    }
    let wish = json!({"queue": "rated", "properties": {"map": "forest"}});
    Chunks(ask(&strangers, STREAM, None, &wish).await).until("SessionRequestAccepted").await;
}
