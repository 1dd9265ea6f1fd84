//! The example in Python: hooks that share no code with us.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sortie_domain::ids::HookId;
use sortie_domain::matchmaking::model::{Status, TicketEnd, TicketState};
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, OutsideHook, Queue};
use sortie_matchmaker::HookOptions;
use zeroize::Zeroizing;

use crate::world::{HookMap, World, duel, queue_id, settings};

/// The example server, killed when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(key: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hooks_server.py");
        let mut child = Command::new("python3")
            .arg(script)
            .args([
                "--port",
                "0",
                "--banned",
                "mallory",
                "--maps",
                "harbour",
                "--ratings",
                r#"{"ann": 1800}"#,
            ])
            .env("HOOK_KEY", key)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { child, url }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_is_fine = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A queue with all three hooks of the example.
fn queue(server: &Server, key: &str) -> (Queue, HookMap) {
    let (mut queue, mut places) = (duel(), BTreeMap::new());
    for (name, path, about) in [
        ("bans", "/validate", HookPoint::ValidateTicket),
        ("pairs", "/form", HookPoint::FormMatch),
        ("maps", "/map", HookPoint::NewMatch),
    ] {
        let id = HookId::new(name).unwrap();
        let timeout = Duration::from_secs(30);
        let hook = OutsideHook {
            id: id.clone(),
            about,
            timeout,
            on_failure: OnFailure::Refuse,
            interval: None,
            address: None,
        };
        queue.hooks.push(Hook::Outside(hook));
        let options = HookOptions {
            url: format!("{}{path}", server.url),
            timeout,
            concurrency: 4,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
            key: Some(Zeroizing::new(key.to_owned())),
        };
        places.insert((Some(queue_id("duel")), id), options);
    }
    (queue, places)
}

#[tokio::test]
async fn the_example_refuses_forms_and_chooses() {
    let server = Server::start("s3cret");
    let (queue, places) = queue(&server, "s3cret");
    let world = World::with_hooks(settings(&[("duel", queue)]), places).await;
    let banned = world.ticket("duel", &["mallory"]).await;
    let ticket = world.until_status(&banned, Status::Failed).await;
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "mallory may not play");

    let (ann, _) = (world.ticket("duel", &["ann"]).await, world.ticket("duel", &["ben"]).await);
    let match_id = world.serve("server").await;
    let ticket = world.until_status(&ann, Status::Completed).await;
    assert_eq!(ticket.spec.players().next().unwrap().ratings["mmr"], 1800.0);
    let broker = world.broker();
    let spec = broker.query(move |broker| broker.find_match(&match_id).unwrap().spec.clone()).await.unwrap();
    let properties: serde_json::Value = serde_json::from_str(spec.properties.text().unwrap()).unwrap();
    assert_eq!(properties["map"], "harbour");
    assert_eq!(properties["queue_name"], "duel");
}

#[tokio::test]
async fn a_wrong_key_is_a_failure_and_its_default_counts() {
    let server = Server::start("s3cret");
    let (queue, places) = queue(&server, "wrong");
    let world = World::with_hooks(settings(&[("duel", queue)]), places).await;
    let ann = world.ticket("duel", &["ann"]).await;
    let ticket = world.until_status(&ann, Status::Failed).await;
    let TicketState::Over { end: TicketEnd::Failed { detail, .. }, .. } = ticket.state else { panic!() };
    assert_eq!(&*detail, "hook bans did not answer");
}
