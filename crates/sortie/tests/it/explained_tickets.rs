//! What `sortie ticket explain` says, and what becomes of answers of hooks that are wrong: in metrics and in the log.

use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::control_plane::{ControlPlane, REQUEST};
use crate::site::{Site, idle_fleet, soon};

/// Refuses everybody, with a text that would clear a terminal.
async fn refuse(Json(_): Json<Value>) -> Json<Value> {
    Json(json!({"accept": false, "reason": "banned\u{1b}[2J"}))
}

/// The oldest two in a match, behind others that are wrong in each way.
async fn form(Json(asked): Json<Value>) -> Json<Value> {
    let ids: Vec<&Value> =
        asked["tickets"].as_array().unwrap().iter().map(|ticket| &ticket["ticket_id"]).collect();
    let [first, second, ..] = ids[..] else { return Json(json!({"matches": []})) };
    Json(json!({"matches": [
        {"teams": "\u{1b}[2J"},
        {"teams": [[first], [first]]},
        {"teams": [["left-long-ago"], [second]]},
        {"teams": [[first, second]]},
        {"teams": [[first], [second]]},
        {"teams": [[second], [first]]},
    ]}))
}

async fn hooks() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/form", post(form)).route("/refuse", post(refuse));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}")
}

async fn up() -> (Site, ControlPlane) {
    let url = hooks().await;
    let hook = |kind: &str, name: &str, path: &str| json!([{"kind": kind, "name": name, "url": format!("{url}{path}"), "on_failure": "refuse"}]);
    let levels = json!({"level": {"kind": "equal", "property": "level"}});
    let duel = json!({"teams": 2, "players_per_team": 1});
    let with = |more: Value| {
        let mut queue = duel.clone();
        queue.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        queue
    };
    let queues = json!({
        "duel": duel,
        "picky": with(json!({"hooks": hook("validate_ticket", "bouncer", "/refuse")})),
        "formed": with(json!({"hooks": hook("form_match", "former", "/form")})),
        "levels": with(json!({"rules": levels})),
        "trios": {"teams": 2, "players_per_team": 3},
    });
    let site = Site::with_config(&json!({
        "dev": true,
        "fleets": {"quiet": idle_fleet()},
        "matchmaker": {"tick": "10ms", "queues": queues},
    }));
    let control_plane = site.up(&[]).await;
    (site, control_plane)
}

async fn start(control_plane: &ControlPlane, queue: &str, players: &[&str], properties: Value) -> String {
    let players: Vec<_> = players.iter().map(|id| json!({"id": id})).collect();
    let order = json!({"queue": queue, "players": players, "properties": properties});
    let started = control_plane.ok("POST", "/v1/tickets", order).await;
    started["ticket_id"].as_str().unwrap().to_owned()
}

/// What is said of a ticket once `part` is said of it.
async fn said(site: &Site, control_plane: &ControlPlane, ticket: &str, part: &str) -> String {
    let saying = async {
        loop {
            let told = control_plane.run_ok(site, &["ticket", "explain", ticket]).await.stdout;
            if told.contains(part) {
                return told;
            }
        }
    };
    soon(part, saying).await
}

#[tokio::test]
async fn why_tickets_wait_and_fail_is_said_in_plain_words() {
    let (site, control_plane) = up().await;
    let none = || json!({});
    let banned = start(&control_plane, "picky", &["eve"], none()).await;
    let text = "The ticket failed because a rule of the operator refused it (the hook `bouncer`): banned";
    let told = said(&site, &control_plane, &banned, text).await;
    assert!(!told.contains('\u{1b}') && told.contains("[2J"), "{told:?}");

    start(&control_plane, "levels", &["a"], json!({"level": "40"})).await;
    let number = start(&control_plane, "levels", &["b"], json!({"level": 40})).await;
    let text = "The rule `level` keeps 1 ticket out; 1 of them only because of a JSON type: `level` is 40 in this ticket \
                and \"40\" there.";
    said(&site, &control_plane, &number, text).await;

    let mut pair = String::new();
    for players in [["c", "d"], ["e", "f"], ["g", "h"]] {
        pair = start(&control_plane, "trios", &players, none()).await;
    }
    let text = "parties of 2+2+2 cannot make 3v3 without splitting a party; 2 single players more";
    said(&site, &control_plane, &pair, text).await;

    let (ann, _ben) = (
        start(&control_plane, "duel", &["ann"], none()).await,
        start(&control_plane, "duel", &["ben"], none()).await,
    );
    let told = said(&site, &control_plane, &ann, "It is in the match ").await;
    let (_, id) = told.split_once("It is in the match ").unwrap();
    let id = id.lines().next().unwrap().trim_end_matches('.').to_owned();
    let asked = async {
        loop {
            let offer = control_plane.ok("POST", REQUEST, json!({"serverId": "s1"})).await;
            if offer["match"]["matchId"] == json!(id) {
                return;
            }
        }
    };
    soon("the match", asked).await;
    control_plane.ok("POST", "/api/v1/server/end_match", json!({"serverId": "s1", "matchId": id})).await;
    let text = format!(
        "It returned to the queue once because no server was found: the match {id} (the game server gave \
         the match up before it was ready)."
    );
    said(&site, &control_plane, &ann, &text).await;
    control_plane.stop().await;
}

#[tokio::test]
async fn matches_of_a_hook_that_are_ignored_are_counted_by_cause_and_logged() {
    let (site, control_plane) = up().await;
    let first = start(&control_plane, "formed", &["ann"], json!({})).await;
    start(&control_plane, "formed", &["ben"], json!({})).await;
    said(&site, &control_plane, &first, "It is in the match ").await;
    let metrics =
        async || control_plane.request("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    let count = |metrics: &str, cause: &str| {
        let wanted =
            ["queue=\"formed\"".to_owned(), "hook=\"former\"".to_owned(), format!("cause=\"{cause}\"")];
        let mut lines = metrics.lines().filter(|line| line.starts_with("sortie_hook_ignored_matches_total{"));
        let line = lines.find(|line| wanted.iter().all(|part| line.contains(part)));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
    };
    let told = metrics().await;
    for (cause, matches) in [("malformed", 1), ("named_twice", 1), ("not_waiting", 2), ("teams", 1)] {
        assert_eq!(count(&told, cause), Some(matches), "{cause} in {told}");
    }
    let logged = || {
        let stderr = site.stderr();
        let lines = stderr.lines().filter(|line| line.contains("matches of a hook's answer are ignored"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let line = soon("a line", async {
        while logged().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    line.await;
    let lines = logged();
    let [line] = &lines[..] else { panic!("{lines:?}") };
    for part in ["formed", "former", "5", "matches[0]: ", "[2J"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("\u{1b}[2J"), "{line:?}");
    control_plane.stop().await;
}
