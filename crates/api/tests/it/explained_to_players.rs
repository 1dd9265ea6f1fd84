//! `explain` of a ticket as the player sees who is in it: why it waits or failed, and nothing of what belongs to others.

use std::time::Duration;

use serde_json::{Value, json};
use sortie_api::{Auth, Limits, Permission, PlayerRights};
use sortie_domain::broker::{self, Event as BrokerEvent};
use sortie_domain::ids::{HookId, MatchId, QueueId};
use sortie_domain::matchmaking::settings::{
    Hook, HookPoint, OnFailure, OutsideHook, Queue, Rule, RuleKind, Settings,
};
use sortie_domain::matchmaking::{Command, Event, MatchVerdict};

use crate::auth::{key, player_token, player_tokens};
use crate::harness::Server;
use crate::player_rights::send;

/// `duel` is for two whom a hook looks at, `free` for two without that, `level` for two of one level.
async fn site() -> Server {
    let keys = [key("client", Permission::Client), key("game", Permission::GameServerMatch)];
    let auth = Auth::keys(&keys).with_players(player_tokens());
    let server = Server::start_for_players(auth, Limits::default(), PlayerRights::default()).await;
    let (id, timeout) = (HookId::new("referee").unwrap(), Duration::from_secs(5));
    let referee = OutsideHook {
        id,
        about: HookPoint::NewMatch,
        timeout,
        on_failure: OnFailure::Refuse,
        interval: None,
        address: None,
    };
    let free = Queue { players_per_team: 1, min_players_per_team: 1, max_requeues: 0, ..Queue::default() };
    let duel = Queue { hooks: vec![Hook::Outside(referee)], ..free.clone() };
    let rules = vec![
        Rule::new("same level", RuleKind::Equal { property: "level".into() }),
        Rule::new("no enemies", RuleKind::NotBlocked),
    ];
    let level = Queue { rules, ..free.clone() };
    let queues = [("duel", duel), ("free", free), ("level", level)];
    let queues = queues.map(|(name, queue)| (QueueId::new(name).unwrap(), queue)).into();
    let settings = Settings { queues, tick: Duration::ZERO, ..Settings::default() };
    server.maker.as_ref().unwrap().call(Command::Configure { settings }).await.unwrap();
    server
}

async fn start(server: &Server, queue: &str, player: Value, properties: Value) -> String {
    let order = json!({"queue": queue, "players": [player], "properties": properties});
    let (status, answer) = send(server, "POST", "/v1/tickets", "client", &order).await;
    assert_eq!(status, 201, "{answer}");
    answer["ticket_id"].as_str().unwrap().to_owned()
}

/// Tickets of `ann` and `bob`, who are put into one match.
async fn both(server: &Server, queue: &str) -> (String, String) {
    let ann = start(server, queue, json!({"id": "ann"}), json!({})).await;
    (ann, start(server, queue, json!({"id": "bob"}), json!({})).await)
}

async fn asked_by(server: &Server, player: &str, ticket: &str) -> (u16, Value) {
    let path = format!("/v1/tickets/{ticket}/explain");
    send(server, "GET", &path, &player_token(player), &Value::Null).await
}

/// What `ann` reads of her ticket, in which there is none of these texts.
async fn told_ann(server: &Server, ticket: &str, hidden: &[&str]) -> Value {
    let (status, told) = asked_by(server, "ann", ticket).await;
    assert_eq!(status, 200, "{told}");
    for text in hidden {
        assert!(!told.to_string().contains(text), "{text} in {told}");
    }
    told
}

fn says(told: &Value, sentence: &str) {
    assert!(told["sentences"].as_array().unwrap().contains(&json!(sentence)), "{sentence:?}: {told:#}");
}

/// Waits for a match of the queue, as the operator sees it; gives its id.
async fn match_of(server: &Server, ticket: &str, is_formed: fn(&Event) -> bool) -> String {
    server.await_ticket(|record| is_formed(&record.event)).await;
    let path = format!("/v1/tickets/{ticket}/explain");
    let (_, told) = send(server, "GET", &path, "client", &Value::Null).await;
    told["match_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_player_reads_by_which_hook_and_in_which_match_its_ticket_failed() {
    let server = site().await;
    let (ticket, other) = both(&server, "duel").await;
    let match_id = match_of(&server, &ticket, |event| matches!(event, Event::MatchProposed { .. })).await;
    let told = told_ann(&server, &ticket, &["bob", &other]).await;
    assert_eq!(told["match_id"], json!(match_id));
    let outcome = MatchVerdict::Refuse { reason: "not tonight".to_owned() };
    let (id, hook) = (MatchId::new(&match_id).unwrap(), HookId::new("referee").unwrap());
    let refuse = Command::MatchChecked { match_id: id, hook, outcome };
    server.maker.as_ref().unwrap().call(refuse).await.unwrap();
    let told = told_ann(&server, &ticket, &["bob", &other]).await;
    let failure =
        json!({"cause": "refused", "detail": "not tonight", "hook": "referee", "match_id": match_id});
    assert_eq!((&told["state"], &told["failure"]), (&json!("failed"), &failure));
    says(
        &told,
        &format!(
            "The ticket failed because a rule of the operator refused it (the hook `referee`): not tonight. \
             It was in the match {match_id}."
        ),
    );
    // One of others is not there, and neither is what nobody has.
    for unknown in [other.as_str(), "nothing"] {
        let (status, answer) = asked_by(&server, "ann", unknown).await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!("ticket_not_found")), "{answer}");
    }
    let path = format!("/v1/tickets/{ticket}/explain");
    assert_eq!(send(&server, "GET", &path, "game", &Value::Null).await.0, 403);
    assert_eq!(send(&server, "GET", &path, "nobody", &Value::Null).await.0, 401);
}

#[tokio::test]
async fn a_player_reads_why_a_server_was_lost_and_nothing_of_servers_and_fleets() {
    let server = site().await.with_fleet().await;
    let (ticket, other) = both(&server, "free").await;
    let match_id = match_of(&server, &ticket, |event| matches!(event, Event::MatchFormed { .. })).await;
    let id = MatchId::new(&match_id).unwrap();
    server.await_event(|record| matches!(record.event, BrokerEvent::AllocationStarted { .. })).await;
    let order =
        server.broker.query(move |broker| broker.allocation_for(&id).cloned()).await.unwrap().unwrap();
    let request = json!({"serverId": order.server.as_str()});
    let (status, offer) = send(&server, "POST", "/api/v1/server/request_match", "game", &request).await;
    assert_eq!((status, &offer["match"]["matchId"]), (200, &json!(match_id)), "{offer}");
    let exited = broker::Command::ServerExited {
        allocation: order.id.clone(),
        status: "killed by signal 11".to_owned(),
    };
    server.broker.call(exited).await.unwrap();

    let hidden = ["bob", &other, order.server.as_str(), order.fleet.as_str(), "signal 11"];
    let told = told_ann(&server, &ticket, &hidden).await;
    assert_eq!((&told["state"], &told["match_id"]), (&json!("finding_server"), &json!(match_id)));
    let lost = "a match was found; the server that had the match is gone (the game server's process exited); waiting for a server";
    let summary = told["summary"].as_str().unwrap();
    assert!(summary.starts_with(lost), "{summary}");
    says(
        &told,
        "Servers have taken the match 1 of at most 3 times and ended before it was ready; the last time: \
         the game server's process exited.",
    );
    let explained = format!("/v1/matches/{match_id}/explain");
    assert_eq!(send(&server, "GET", &explained, &player_token("ann"), &Value::Null).await.0, 403);

    // Nobody else takes it in time: the ticket has no server, and says in which match.
    server.clock.advance(Duration::from_secs(600));
    server.await_ticket(|record| matches!(record.event, Event::TicketFailed { .. })).await;
    let told = told_ann(&server, &ticket, &hidden).await;
    let detail = told["failure"]["detail"].as_str().unwrap();
    let failure = json!({"cause": "no_server", "detail": detail, "match_id": match_id});
    assert_eq!((&told["state"], &told["failure"]), (&json!("failed"), &failure));
    let sentences = told["sentences"].to_string();
    assert!(sentences.contains(&format!("{detail}. It was in the match {match_id}.")), "{sentences}");
}

#[tokio::test]
async fn of_others_who_wait_a_player_reads_how_many_there_are() {
    let server = site().await;
    let mallory = json!({"id": "mallory", "blocked": ["ann"], "properties": {"secret": "of-mallory"}});
    let mallory = start(&server, "level", mallory, json!({"level": 40, "secret": "words-of-mallory"})).await;
    let bob = start(&server, "level", json!({"id": "bob"}), json!({"level": 4711})).await;
    let ann = start(&server, "level", json!({"id": "ann"}), json!({"level": 40})).await;
    let told = told_ann(&server, &ann, &["mallory", &mallory, "bob", &bob, "4711"]).await;
    let kept_out = json!([{"rule": "no enemies", "tickets": 1}, {"rule": "same level", "tickets": 1}]);
    assert_eq!((&told["state"], &told["kept_out"]), (&json!("waiting"), &kept_out));
    assert_eq!((&told["looked_at"], &told["in_reach"]), (&json!(2), &json!(0)));
    assert_eq!(asked_by(&server, "mallory", &ann).await.0, 404);
}
