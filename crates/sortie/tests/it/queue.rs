//! Players who enter a queue at the gateway of a real process, over kills; and what was recorded of them, replayed.

use std::process::Stdio;

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::control_plane::{ControlPlane, Lines, READY, REQUEST};
use crate::site::{Site, idle_fleet, soon};

const STREAM: &str = "/matchmaker/request/arena/1";

fn config(players_per_team: u32) -> Value {
    let mut fleet = idle_fleet();
    fleet["game"] = "arena".into();
    fleet["version"] = "1".into();
    let queue = json!({"players_per_team": players_per_team});
    json!({
        "dev": true,
        "fleets": {"quiet": fleet},
        "matchmaker": {"tick": "10ms", "queues": {"duel": queue}},
    })
}

async fn enter(control_plane: &ControlPlane, player: &str) -> Lines {
    let request = control_plane.request("POST", STREAM).header("session-id", player);
    let answer = request.json(&json!({"queue": "duel"})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    Lines::of(answer)
}

/// Feedback up to the first of this kind, which is returned.
async fn until(lines: &mut Lines, kind: &str) -> Value {
    let found = async {
        loop {
            let line = lines.next().await.expect("more feedback");
            let feedback: Value = serde_json::from_str(&line).unwrap();
            assert!(feedback.get("Error").is_none() || kind == "Error", "{feedback}");
            if let Some(content) = feedback.get(kind) {
                return content.clone();
            }
        }
    };
    soon(kind, found).await
}

#[tokio::test]
async fn a_ticket_outlives_a_kill_and_ends_with_a_token() {
    let site = Site::with_config(&config(1));
    let control_plane = site.up(&[]).await;
    let mut ann = enter(&control_plane, "ann").await;
    let ticket = until(&mut ann, "SessionRequestAccepted").await;
    until(&mut ann, "ProgressReport").await;
    control_plane.kill().await;

    let control_plane = site.up(&[]).await;
    let mut ann = enter(&control_plane, "ann").await;
    assert_eq!(until(&mut ann, "SessionRequestAccepted").await, ticket);
    let mut bob = enter(&control_plane, "bob").await;
    let ask =
        json!({"serverId": "s", "requirements": "MatchProperties.queue_name == 'duel'", "hintFlags": 2});
    let id = soon("a match", async {
        loop {
            let answer = control_plane.ok("POST", REQUEST, ask.clone()).await;
            if let Some(id) = answer.pointer("/match/matchId").and_then(Value::as_str) {
                return id.to_owned();
            }
        }
    });
    let ready = json!({"serverId": "s", "matchId": id.await, "connectionDetails": "192.0.2.1:7000"});
    control_plane.ok("POST", READY, ready).await;
    for lines in [&mut ann, &mut bob] {
        let ready = until(lines, "SessionReady").await;
        assert_eq!((&ready["ip"], &ready["port"]), (&json!("192.0.2.1"), &json!(7000)));
        assert!(ready["token"].as_str().is_some_and(|token| token.len() > 1_000));
    }
    control_plane.stop().await;
}

/// A player at the websocket, whom nothing tells from others.
struct Talk {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    ticket: Value,
}

impl Talk {
    async fn enter(control_plane: &ControlPlane) -> Self {
        let url = control_plane.url.replace("http://", "ws://") + "/matchmaker/ws";
        let (socket, _) = soon("a websocket", connect_async(&url)).await.unwrap();
        let mut talk = Self { socket, ticket: Value::Null };
        talk.say(&json!({"game": "arena", "version": "1", "queue": "asked"})).await;
        talk.ticket = talk.until("SessionRequestAccepted", "").await;
        talk
    }

    async fn say(&mut self, message: &Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// Feedback up to the first of this kind that says this.
    async fn until(&mut self, kind: &str, part: &str) -> Value {
        let found = async {
            loop {
                let message = self.socket.next().await.expect("more feedback").unwrap();
                let Ok(feedback) = serde_json::from_str::<Value>(message.to_text().unwrap()) else {
                    continue;
                };
                if let Some(content) = feedback.get(kind).filter(|content| content.to_string().contains(part))
                {
                    return content.clone();
                }
            }
        };
        soon(kind, found).await
    }
}

#[tokio::test]
async fn players_agree_by_websocket_and_operators_see_it() {
    let mut config = config(1);
    config["matchmaker"]["queues"]["asked"] = json!({"players_per_team": 1, "accept": "60s"});
    let site = Site::with_config(&config);
    let control_plane = site.up(&[]).await;
    let arguments =
        ["events", "tail", "--of", "matchmaker", "--from", "earliest", "--type", "sortie.match", "--json"];
    let mut command = control_plane.command(&site, &arguments);
    let mut tail = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = soon("an event", lines.next_line()).await.unwrap().expect("another event");
        serde_json::from_str::<Value>(&line).unwrap()["type"].as_str().unwrap().to_owned()
    };
    let (mut ann, mut bob) = (Talk::enter(&control_plane).await, Talk::enter(&control_plane).await);
    for talk in [&mut ann, &mut bob] {
        talk.until("ProgressReport", "a match was found: accept it by ").await;
    }
    assert_eq!(next().await, "sortie.match.proposed");
    ann.say(&json!({"accept": bob.ticket})).await;
    ann.until("ProgressReport", "accept: no ticket ").await;
    bob.say(&json!({"accept": bob.ticket})).await;
    bob.until("ProgressReport", "1 of 2 players have").await;
    assert_eq!(next().await, "sortie.match.accepted");
    ann.say(&json!({"decline": ann.ticket})).await;
    assert_eq!(ann.until("Error", "").await, json!([410, "one of its players declined the match"]));
    assert_eq!(next().await, "sortie.match.dissolved");

    bob.until("ProgressReport", "waiting for players: 1st in queue asked").await;
    let mut cid = Talk::enter(&control_plane).await;
    for talk in [&mut bob, &mut cid] {
        talk.until("ProgressReport", "a match was found: accept it by ").await;
        let accept = json!({"accept": talk.ticket});
        talk.say(&accept).await;
    }
    let ask =
        json!({"serverId": "s", "requirements": "MatchProperties.queue_name == 'asked'", "hintFlags": 2});
    let id = soon("a match", async {
        loop {
            let answer = control_plane.ok("POST", REQUEST, ask.clone()).await;
            if let Some(id) = answer.pointer("/match/matchId").and_then(Value::as_str) {
                return id.to_owned();
            }
        }
    });
    let ready = json!({"serverId": "s", "matchId": id.await, "connectionDetails": "192.0.2.1:7000"});
    control_plane.ok("POST", READY, ready).await;
    for talk in [&mut bob, &mut cid] {
        assert_eq!(talk.until("SessionReady", "").await["ip"], "192.0.2.1");
    }
    drop((ann, bob, cid));
    control_plane.stop().await;
}

#[tokio::test]
async fn recorded_tickets_are_replayed_under_other_rules() {
    let site = Site::with_config(&config(2));
    let control_plane = site.up(&[]).await;
    for player in ["ann", "bob", "cid"] {
        until(&mut enter(&control_plane, player).await, "SessionRequestAccepted").await;
    }
    let data = site.data("");
    let data = data.to_str().unwrap();
    let refused = site.run(&["matchmaker", "replay", data]).await;
    assert_eq!(refused.code, Some(1), "its folder is in use");
    control_plane.stop().await;

    std::fs::write(site.path("new.json"), config(1).to_string()).unwrap();
    let new = site.path("new.json");
    let new = new.to_str().unwrap();
    let replayed = site.run(&["matchmaker", "replay", data, "--config", new, "--json"]).await;
    assert_eq!(replayed.code, Some(0), "{}", replayed.stderr);
    let document = replayed.json();
    assert_eq!(document["tickets"], 3);
    let of = |at: usize, name: &str| document["replays"][at]["queues"]["duel"][name].clone();
    assert_eq!((&document["replays"][0]["rules"], of(0, "matched")), (&json!("as recorded"), json!(0)));
    assert_eq!((&document["replays"][1]["rules"], of(1, "matched")), (&json!(new), json!(2)));
    let table = site.run(&["matchmaker", "replay", data, "--config", new]).await.stdout;
    assert!(table.contains("queue duel") && table.contains("as recorded"), "{table}");

    // The same from a file, which has no rules of its own.
    let exported = site.run(&["matchmaker", "export", data]).await;
    assert_eq!((exported.code, exported.stdout.lines().count()), (Some(0), 3), "{}", exported.stderr);
    std::fs::write(site.path("tickets.jsonl"), &exported.stdout).unwrap();
    let file = site.path("tickets.jsonl");
    let file = file.to_str().unwrap();
    let refused = site.run(&["matchmaker", "replay", file]).await;
    assert!(refused.stderr.contains("--config"), "{}", refused.stderr);
    let again = site.run(&["matchmaker", "replay", file, "--config", new, "--json"]).await.json();
    assert_eq!(again["replays"][0]["queues"], document["replays"][1]["queues"]);

    let nothing = site.run(&["matchmaker", "replay", site.path("tmp").to_str().unwrap()]).await;
    assert!(nothing.stderr.contains("there is no log of a matchmaker"), "{}", nothing.stderr);
}
