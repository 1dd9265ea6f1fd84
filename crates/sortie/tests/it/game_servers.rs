//! Game servers that speak the published contracts and nothing else.

use std::path::Path;

use serde_json::{Value, json};

use crate::control_plane::{END, READY, REQUEST};
use crate::matchmaker::crowd;
use crate::python;
use crate::site::{Site, fleet, idle_fleet, soon};

const WILLING_TO_WAIT: u32 = 2;

#[tokio::test]
async fn a_game_server_needs_nothing_but_http() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let nothing = control_plane.ok("POST", REQUEST, json!({"serverId": "lobby-1"})).await;
    assert_eq!(nothing, json!({}), "there is no match, and it would not wait");

    let wanted = "MatchProperties.map == 'dust'";
    let request = json!({"serverId": "lobby-1", "requirements": wanted, "hintFlags": WILLING_TO_WAIT});
    let waiting = control_plane.ok("POST", REQUEST, request);
    let submitting = async {
        control_plane.submit(json!({"players": ["p1"], "properties": {"map": "ice"}})).await;
        control_plane.submit(json!({"players": ["p2", "p3"], "properties": {"map": "dust"}})).await
    };
    let (offer, id) =
        Box::pin(soon("a match for a server that waits", async { tokio::join!(waiting, submitting) })).await;
    assert_eq!(offer["match"]["matchId"], json!(id));
    assert_eq!(offer["match"]["playerIds"], json!(["p2", "p3"]));
    assert_eq!(control_plane.show(&id).await["state"], "picked_up");

    let ready = json!({
        "serverId": "lobby-1", "matchId": id, "connectionDetails": "play.example.com:7777",
        "perPlayerConnectionDetails": {"p3": "play.example.com:7778"},
    });
    assert_eq!(control_plane.ok("POST", READY, ready).await, json!({"matchId": id}));
    let shown = control_plane.show(&id).await;
    assert_eq!((&shown["state"], &shown["server_id"]), (&json!("ready"), &json!("lobby-1")));
    assert_eq!(shown["connection_details"], "play.example.com:7777");
    assert_eq!(shown["per_player_connection_details"], json!({"p3": "play.example.com:7778"}));

    let end = json!({"serverId": "lobby-1", "matchId": id});
    assert_eq!(control_plane.ok("POST", END, end).await, json!({"matchId": id}));
    let shown = control_plane.show(&id).await;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("ended"), &json!("server")));
}

#[tokio::test]
async fn a_game_server_in_python_learns_grpc_from_reflection() {
    let site = Site::with_config(&json!({"fleets": {"quiet": idle_fleet()}}));
    let create = ["key", "create", "--name", "server", "--permission", "admin", "--json"];
    let key = site.run(&create).await.json()["key"].as_str().unwrap().to_owned();
    let control_plane = site.up(&[]).await;
    let address = control_plane.url.strip_prefix("http://").unwrap();
    let said = python::run(&site, "grpc_game_server.py", &[address, &key]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
}

#[tokio::test]
async fn every_answer_over_http_is_as_published() {
    let script = python::script("fleet_server.py");
    // So that a server is started when one is asked for, and not for any match that waits.
    let only = json!({"requirements": "contains(PlayerIds, 'p4')"});
    let server = fleet(python::interpreter(), &[script.to_str().unwrap(), "silent"], 2, &only);
    let site = Site::with_config(&json!({"dev": true, "fleets": {"local": server}, "matchmaker": crowd()}));
    let control_plane = site.up(&[]).await;
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contract/catena/openapi.yaml");
    let contract: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(contract).unwrap()).unwrap();
    std::fs::write(site.path("openapi.json"), contract.to_string()).unwrap();
    let said = python::run(&site, "published_answers.py", &[&control_plane.url, "openapi.json"]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
}
