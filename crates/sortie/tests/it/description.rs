//! The description of the API that a running control plane gives.

use serde_json::{Value, json};

use crate::matchmaker::crowd;
use crate::python;
use crate::site::{Site, fleet, idle_fleet};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[tokio::test]
async fn catena_answers_are_as_described() {
    let script = python::script("fleet_server.py");
    // So that a server is started when one is asked for, and not for any match that waits.
    let only = json!({"requirements": "contains(PlayerIds, 'p4')"});
    let server = fleet(python::interpreter(), &[script.to_str().unwrap(), "silent"], 2, &only);
    let site = Site::with_config(&json!({"dev": true, "fleets": {"local": server}, "matchmaker": crowd()}));
    let control_plane = site.up(&[]).await;
    let described = control_plane.ok("GET", "/openapi.json", Value::Null).await;
    std::fs::write(site.path("openapi.json"), described.to_string()).unwrap();
    let said = python::run(&site, "published_answers.py", &[&control_plane.url, "openapi.json"]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
}

#[tokio::test]
async fn the_description_is_valid_and_all_other_answers_are_as_described() {
    // Without a fleet of its own it has the arena.
    let site = Site::with_config(&json!({"dispatch": {"enabled": true}, "matchmaker": crowd()}));
    let control_plane = site.up(&["--dev"]).await;
    let said = python::run(&site, "described_answers.py", &[&control_plane.url]).await.stdout;
    assert_eq!(said.trim().lines().last(), Some("done"), "{said}");
}

#[tokio::test]
async fn what_is_described_is_served_and_by_no_other_method() {
    let site = Site::with_config(
        &json!({"dev": true, "dispatch": {"enabled": true}, "fleets": {"quiet": idle_fleet()}, "matchmaker": crowd()}),
    );
    let control_plane = site.up(&[]).await;
    let described = control_plane.ok("GET", "/openapi.json", Value::Null).await;
    for (path, item) in described["paths"].as_object().unwrap() {
        let called = path.replace(['{', '}'], "");
        for method in METHODS {
            let response = control_plane.request(method, &called).body("{").send().await.unwrap();
            let is_served = response.status() != 405;
            let is_described = item.get(method.to_lowercase()).is_some();
            assert_eq!(is_served, is_described, "{method} {path}: {}", response.status());
            let body = if response.status() == 404 { response.text().await.unwrap() } else { String::new() };
            assert!(!body.contains("nothing is at this path"), "{method} {path} is described and not served");
        }
    }
}
