//! The subcommands that talk to a running control plane, and the event stream that one of them reads.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::control_plane::{ControlPlane, Events};
use crate::site::{Site, idle_fleet, signal, soon};

async fn quiet() -> (Site, ControlPlane) {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    (site, control_plane)
}

#[tokio::test]
async fn matches_are_submitted_listed_shown_and_cancelled() {
    let (site, control_plane) = quiet().await;
    let submit = ["match", "submit", "--player", "p1", "--player", "p2"];
    let submitted = control_plane.run_ok(&site, &submit).await;
    let first = submitted.stdout.trim();
    let more = [
        "--json",
        "--properties",
        r#"{"map": "dust"}"#,
        "--capacity",
        "4",
        "--fleet",
        "quiet",
        "--idempotency-key",
        "k",
    ];
    let submit: Vec<_> = submit.into_iter().chain(more).collect();
    let second = control_plane.run_ok(&site, &submit).await.json()["match_id"].clone();
    let again = control_plane.run_ok(&site, &submit).await.json();
    assert_eq!(again["match_id"], second, "the same key is the same match");
    let second = second.as_str().unwrap();

    let table = control_plane.run_ok(&site, &["match", "list"]).await.stdout;
    assert!(
        ["MATCH", "STATE", "PLAYERS", first, second, "p1 p2"].iter().all(|part| table.contains(part)),
        "{table}"
    );
    let list = control_plane.run_ok(&site, &["match", "list", "--json"]).await.json();
    assert_eq!(list.as_array().unwrap().len(), 2);
    let shown = control_plane.run_ok(&site, &["match", "show", second, "--json"]).await.json();
    assert_eq!(shown, control_plane.show(second).await);
    assert_eq!((&shown["properties"], &shown["capacity"]), (&json!({"map": "dust"}), &json!(4)));
    let shown = control_plane.run_ok(&site, &["match", "show", first]).await.stdout;
    assert!(shown.contains("queued"), "{shown}");

    let cancelled = control_plane.run_ok(&site, &["match", "cancel", first, "--json"]).await.json();
    assert_eq!((&cancelled["state"], &cancelled["reason"]), (&json!("cancelled"), &json!("requested")));
    let queued = control_plane.run_ok(&site, &["match", "list", "--state", "queued", "--json"]).await.json();
    assert_eq!(queued.as_array().unwrap().iter().map(|game| &game["match_id"]).collect::<Vec<_>>(), [second]);
}

#[tokio::test]
async fn a_player_of_a_match_gets_the_way_back() {
    let mut fleet = idle_fleet();
    (fleet["game"], fleet["version"]) = ("arena".into(), "1".into());
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": fleet}}));
    let control_plane = site.up(&[]).await;
    let order = json!({"players": ["p1"], "properties": {"game": "arena", "version": "1"}});
    let id = control_plane.ready_match("s1", order).await;
    control_plane.submit(json!({"players": ["p2"]})).await;
    let listed = control_plane.run_ok(&site, &["match", "list", "--player", "p1", "--json"]).await.json();
    let shown = control_plane.show(&id).await;
    assert_eq!(listed, json!([shown]));
    let back = ["match", "rejoin", &id, "--player", "p1"];
    let told = control_plane.run_ok(&site, &back).await.stdout;
    let address = shown["connection_details"].as_str().unwrap();
    assert!(told.contains("address") && told.contains(address) && told.contains("connect_token"), "{told}");
    let back: Vec<_> = back.into_iter().chain(["--json"]).collect();
    let given = control_plane.run_ok(&site, &back).await.json();
    // 2048 bytes in base64.
    assert_eq!((&given["link"], given["connect_token"].as_str().unwrap().len()), (&json!(address), 2732));
    let shown = control_plane.show(&id).await;
    assert_eq!(shown["seats"]["reserved"], 1, "the same seat both times");
    let refused = control_plane.run(&site, &["match", "rejoin", &id, "--player", "p2"]).await;
    assert!(refused.stderr.contains("player p2 is not in match"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_match_that_waits_is_explained() {
    let (site, control_plane) = quiet().await;
    let id = control_plane.submit(json!({"players": ["p"], "properties": {"map": "forest"}})).await;
    let request = json!({"serverId": "own", "requirements": "MatchProperties.map == 'desert'"});
    control_plane.ok("POST", "/api/v1/server/request_match", request).await;
    let told = control_plane.run_ok(&site, &["match", "explain", &id]).await.stdout;
    assert!(told.starts_with(&format!("{id} is queued: waiting for a server: 1st in the queue")), "{told}");
    for part in [
        "1 free server (own)",
        "MatchProperties.map == 'desert' (the match has \"forest\")",
        "fleet quiet",
        "Next, at 2",
    ] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let json = control_plane.run_ok(&site, &["match", "explain", &id, "--json"]).await.json();
    assert_eq!((&json["match_id"], &json["servers"][0]["verdict"]), (&json!(id), &json!("refused")));
    assert_eq!(json["fleets"][0]["fleet"], "quiet");
    control_plane.run_ok(&site, &["match", "cancel", &id]).await;
    let told = control_plane.run_ok(&site, &["match", "explain", &id]).await.stdout;
    assert!(told.contains("is cancelled: the match was cancelled on request"), "{told}");
    let unknown = control_plane.run(&site, &["match", "explain", "unknown"]).await;
    assert!(unknown.code == Some(1) && unknown.stderr.contains("404 Not Found: "), "{}", unknown.stderr);
}

#[tokio::test]
async fn servers_and_fleets_are_listed() {
    let (site, control_plane) = quiet().await;
    let id = control_plane.ready_match("my-server", json!({"players": ["p"]})).await;
    let table = control_plane.run_ok(&site, &["server", "list"]).await.stdout;
    assert!(["SERVER", "my-server", "available", &id].iter().all(|part| table.contains(part)), "{table}");
    let servers = control_plane.run_ok(&site, &["server", "list", "--json"]).await.json();
    assert_eq!((&servers[0]["server_id"], &servers[0]["matches"]), (&json!("my-server"), &json!([id])));
    let table = control_plane.run_ok(&site, &["fleet", "list"]).await.stdout;
    assert!(["FLEET", "WARM", "quiet"].iter().all(|part| table.contains(part)), "{table}");
    let fleets = control_plane.run_ok(&site, &["fleet", "list", "--json"]).await.json();
    assert_eq!(
        (&fleets[0]["fleet"], &fleets[0]["max"], &fleets[0]["live"]),
        (&json!("quiet"), &json!(1), &json!(0))
    );
}

#[tokio::test]
async fn refusals_come_in_the_control_planes_words() {
    let (site, control_plane) = quiet().await;
    for (arguments, text) in [
        (&["match", "show", "unknown"][..], "404 Not Found: "),
        (&["match", "cancel", "unknown"], "404 Not Found: "),
        (&["match", "submit", "--player", "p", "--player", "p"], "players: "),
        (&["match", "submit", "--player", ""], "players[0]: "),
        (&["match", "submit", "--player", "p", "--properties", "[1]"], "properties: "),
        (&["match", "submit", "--player", "p", "--properties", "{"], "--properties is not valid JSON"),
        (&["match", "submit", "--player", "p", "--fleet", "none"], "404 Not Found: "),
        (&["events", "tail", "--from", "first"], "from: "),
        (&["events", "tail", "--of", "matchmaker"], "there is no matchmaker"),
    ] {
        let finished = control_plane.run(&site, arguments).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(finished.stderr.contains(text), "{arguments:?}: {}", finished.stderr);
    }
    let url = control_plane.url.clone();
    control_plane.stop().await;
    let finished = site.run(&["fleet", "list", "--url", &url]).await;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains(&url) && finished.stderr.contains("sortie up"), "{}", finished.stderr);
}

#[tokio::test]
async fn events_are_followed_to_an_interrupt() {
    let (site, control_plane) = quiet().await;
    let id = control_plane.submit(json!({"players": ["p"]})).await;
    let arguments = ["events", "tail", "--from", "earliest", "--type", "sortie.match", "--json"];
    let mut command = control_plane.command(&site, &arguments);
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = soon("an event", lines.next_line()).await.unwrap().expect("another event");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    let event = next().await;
    assert_eq!((&event["type"], &event["subject"]), (&json!("sortie.match.queued"), &json!(id)));
    assert_eq!((&event["specversion"], &event["data"]["players"]), (&json!("1.0"), &json!(["p"])));
    control_plane.ok("DELETE", &format!("/v1/matches/{id}"), Value::Null).await;
    assert_eq!(next().await["type"], "sortie.match.cancelled");
    signal(i32::try_from(tail.id().unwrap()).unwrap(), Signal::INT);
    assert_eq!(soon("the end of the tail", tail.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_stream_of_events_is_resumed_where_it_broke_off() {
    let (_site, control_plane) = quiet().await;
    for player in ["a", "b", "c"] {
        control_plane.submit(json!({"players": [player]})).await;
    }
    let mut whole = control_plane.events().await;
    let seen = [whole.next().await, whole.next().await, whole.next().await];
    assert_eq!(seen.each_ref().map(|event| event["id"].clone()), ["1", "2", "3"]);
    let resumed = control_plane.request("GET", "/v1/events?from=earliest").header("last-event-id", "1");
    let mut resumed = Events::of(resumed).await;
    assert_eq!([resumed.next().await, resumed.next().await], seen[1..]);
    control_plane.submit(json!({"players": ["d"]})).await;
    whole.next().await;
    resumed.next().await;
    assert_eq!(whole.next().await, resumed.next().await);
    let (status, answer) = control_plane.send("GET", "/v1/events?from=1000000", "").await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("cursor_ahead")));
}

#[tokio::test]
async fn text_of_others_does_not_move_the_cursor() {
    let (site, control_plane) = quiet().await;
    let told = "a\u{9b}2J\u{202e}b\u{7f}";
    let order =
        json!({"players": ["p1"], "properties": {"text": told, "\u{2066}name": "\u{1b}]0;x\u{7}\r\n"}});
    let id = control_plane.submit(order).await;
    for arguments in
        [&["match", "show", &id][..], &["match", "show", "--json", &id], &["match", "list", "--json"]]
    {
        let shown = control_plane.run_ok(&site, arguments).await;
        let bad: Vec<_> = shown
            .stdout
            .chars()
            .filter(|one| *one != '\n' && sortie_domain::text::is_deceptive(*one))
            .collect();
        assert!(bad.is_empty(), "{bad:?} in {:?} of {arguments:?}", shown.stdout);
        assert!(shown.stdout.contains("a\\u009b2J\\u202eb\\u007f"), "{}", shown.stdout);
        if arguments == ["match", "show", "--json", &id] {
            assert_eq!(shown.json()["properties"]["text"], told, "JSON means the same");
        }
    }
    let refused = control_plane.run(&site, &["match", "show", "no\u{1b}[2Jbody"]).await;
    assert!(refused.code == Some(1) && !refused.stderr.contains('\u{1b}'), "{:?}", refused.stderr);
}
