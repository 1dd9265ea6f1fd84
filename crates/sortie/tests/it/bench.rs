//! `sortie bench` with little to do: that every call is answered and every figure is there. How large the figures are
//! is nobody's business here.

use serde_json::{Value, json};

use crate::site::{NONE, Site, idle_fleet};

/// Runs a benchmark that must succeed; its document.
async fn bench(site: &Site, arguments: &[&str]) -> Value {
    let finished = site.run(&[&["bench"], arguments, &["--json"]].concat()).await;
    assert_eq!(finished.code, Some(0), "{} {}", finished.stdout, finished.stderr);
    let document = finished.json();
    assert_eq!(document["bench"], json!(arguments[0]));
    assert_eq!(document["errors"], json!(0));
    assert_eq!(site.processes(), NONE, "processes are left");
    document
}

/// Nothing is left in the folder that was measured.
fn assert_clean(site: &Site) {
    let left: Vec<_> =
        std::fs::read_dir(site.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tmp"]);
}

/// These figures are there, and above 0.
fn assert_positive(document: &Value, names: &[&str]) {
    for name in names {
        assert!(document[name].as_f64() > Some(0.0), "{name} in {document}");
    }
}

/// So many calls were timed, at least one.
fn calls(summary: &Value) -> u64 {
    assert_positive(summary, &["count", "p50_ms", "p99_ms"]);
    summary["count"].as_u64().unwrap()
}

#[tokio::test]
async fn the_broker_answers_whole_lives_of_matches() {
    let site = Site::new();
    let document = bench(&site, &["broker", "--in-flight", "1,4", "--for", "300ms"]).await;
    let levels = document["levels"].as_array().unwrap();
    assert_eq!(levels.iter().map(|level| &level["in_flight"]).collect::<Vec<_>>(), [1, 4]);
    for level in levels {
        assert_eq!(level["connections"], level["in_flight"]);
        let figures = ["cycles", "calls_per_second", "health_per_second", "ratio", "syncs_per_second"];
        assert_positive(level, &figures);
        let cycles = level["cycles"].as_u64().unwrap();
        for call in ["submit", "request", "ready", "end"] {
            assert_eq!(calls(&level["calls"][call]), cycles, "{call}");
        }
        assert!(calls(&level["calls"]["health"]) > 0);
        for of in ["cycle", "health"] {
            assert!(level["cpu_us_per_call"][of]["rest"].is_f64(), "{level}");
        }
    }
    assert_eq!(document["scale"], Value::Null);
    assert_clean(&site);
}

#[tokio::test]
async fn a_running_control_plane_is_measured_and_left_alone() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    let control_plane = site.up(&[]).await;
    let own = control_plane.submit(json!({"players": ["p"]})).await;
    let arguments = ["bench", "broker", "--in-flight", "2", "--for", "100ms", "--json"];
    let finished = control_plane.run_ok(&site, &arguments).await;
    assert_positive(&finished.json()["levels"][0], &["cycles"]);
    let queued = control_plane.get("/v1/matches?state=queued,picked_up,ready").await;
    assert_eq!(queued["matches"].as_array().unwrap().len(), 1, "{queued}");
    assert_eq!(queued["matches"][0]["match_id"], json!(own));

    let refused = control_plane.run(&site, &["bench", "broker", "--queued", "10"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("leave --url out"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_long_queue_is_held_against_a_short_one() {
    let site = Site::new();
    let arguments = ["--queued", "300", "--filters", "40", "--waiting", "30"];
    let document =
        bench(&site, &[&["broker", "--in-flight", "1", "--for", "100ms"], &arguments[..]].concat()).await;
    let scale = &document["scale"];
    assert_eq!(scale["filters"], 40);
    for (case, queued, waiting) in [("small", 100, 10), ("large", 300, 30)] {
        let case = &scale[case];
        assert_eq!((&case["queued"], &case["waiting"]), (&json!(queued), &json!(waiting)));
        // Each of the requirements four times, and half of them fit.
        assert_eq!(calls(&case["requests"]), 160);
        assert_eq!((calls(&case["fitting"]), calls(&case["fruitless"])), (80, 80));
    }
    assert_positive(scale, &["p99_ratio"]);
    assert_positive(&scale["memory_mib"], &["before", "queued", "waiting"]);
    assert_clean(&site);
}

#[tokio::test]
async fn every_event_is_replayed() {
    let site = Site::new();
    let document = bench(&site, &["replay", "--events", "5000"]).await;
    assert!(document["events"].as_u64() >= Some(5000), "{document}");
    assert_positive(&document, &["bytes", "open_ms", "total_ms", "decode_ms", "events_per_second"]);
    assert_clean(&site);
}

#[tokio::test]
async fn players_join_where_a_server_is() {
    let site = Site::new();
    let document = bench(&site, &["gateway", "--in-flight", "1,4", "--for", "300ms"]).await;
    let levels = document["levels"].as_array().unwrap();
    assert_eq!(levels.len(), 2);
    for level in levels {
        assert_positive(level, &["joins_per_second", "health_per_second", "ratio"]);
        assert!(calls(&level["warm"]) > 0 && calls(&level["health"]) > 0);
    }
    assert_clean(&site);
}

#[tokio::test]
async fn a_sidecar_is_held_against_none() {
    let site = Site::new();
    let document = bench(&site, &["sidecar", "--in-flight", "1,4", "--for", "300ms"]).await;
    let levels = document["levels"].as_array().unwrap();
    let measured = levels.iter().map(|level| {
        let backend = level["backend"].as_str().unwrap();
        format!("{backend} {}", level["in_flight"])
    });
    assert_eq!(measured.collect::<Vec<_>>(), ["grpc 1", "grpc 4", "http 1", "http 4"]);
    for level in levels {
        for call in ["request", "ready", "end"] {
            let call = &level["calls"][call];
            assert!(calls(&call["through"]) > 0 && calls(&call["direct"]) > 0, "{level}");
            assert_positive(call, &["p99_ratio"]);
        }
    }
    assert_positive(&document["idle"], &["start_ms", "resident_mib"]);
    assert_clean(&site);
}

#[tokio::test]
async fn the_matchmakers_ticks_are_held_against_a_plain_scan() {
    let site = Site::new();
    let few =
        ["--tickets", "200", "--queue", "1v1-skill", "--arrivals", "20", "--warm-up", "5", "--seconds", "5"];
    let document = bench(&site, &[&["matchmaker"], &few[..]].concat()).await;
    let [steady] = &document["steady"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!((&steady["queue"], &steady["arrivals_per_second"]), (&json!("1v1-skill"), &json!(20)));
    assert_positive(steady, &["tickets_matched", "tickets_matched_per_second", "busy"]);
    for of in ["ticks", "starts"] {
        assert_positive(&steady[of], &["count", "p50_ms", "longest_ms", "longest_on_the_wall_ms"]);
    }
    let [crowd] = &document["crowds"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!(crowd["tickets"], 200);
    assert_positive(crowd, &["tickets_matched", "tickets_matched_per_second"]);
    assert_positive(&crowd["scan"], &["matched_share", "ms"]);
    assert_clean(&site);
}

#[tokio::test]
async fn each_kind_of_rule_and_hostile_input_is_held_against_its_goal() {
    let site = Site::new();
    let document = bench(&site, &["matchmaker", "--kinds", "--tickets", "200"]).await;
    let named = |list: &str, of: &str| {
        let found = document[list].as_array().unwrap().iter();
        found.map(|one| one[of].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let kinds = [
        "mixed-parties",
        "outliers",
        "not-blocked",
        "required",
        "preferred",
        "large-teams",
        "relaxed-distance",
    ];
    assert_eq!(named("kinds", "kind"), kinds);
    assert_eq!(
        named("hostile", "input"),
        ["explained", "formers", "blocked-parties", "several-queues", "several-queues-parties"]
    );
    for (list, goal) in [("kinds", 10.0), ("hostile", 20.0)] {
        for one in document[list].as_array().unwrap() {
            assert_eq!((&one["tickets"], &one["goal_ms"]), (&json!(200), &json!(goal)));
            assert_positive(one, &["longest_ms"]);
            assert_positive(&one["ticks"], &["count", "longest_ms"]);
        }
    }
    assert_eq!((&document["steady"], &document["crowds"]), (&json!([]), &json!([])));
    assert_clean(&site);
}

#[tokio::test]
async fn a_dispatcher_is_held_against_relays() {
    let site = Site::new();
    let few =
        ["--sizes", "64", "--devices", "1,3", "--rounds", "1", "--for", "200ms", "--idle-devices", "50"];
    let document = bench(&site, &[&["dispatch"], &few[..]].concat()).await;
    // In so short a time, on a machine that is busy, some of them may have done nothing.
    let relays = |figures: &Value| {
        for relay in ["plain", "minimal", "sortie"] {
            assert!(figures[relay].is_f64(), "{relay} in {figures}");
        }
    };
    let throughput = document["throughput"].as_array().unwrap();
    let of = |one: &Value| (one["is_up"] == true, one["bytes"].as_u64(), one["devices"].as_u64());
    let mut measured: Vec<_> = throughput.iter().map(of).collect();
    measured.sort_unstable();
    let wanted = [(false, 1), (false, 3), (true, 1), (true, 3)];
    assert_eq!(measured, wanted.map(|(is_up, devices)| (is_up, Some(64), Some(devices))));
    throughput.iter().for_each(|one| relays(&one["messages"]));
    let messages = throughput.iter().filter_map(|one| one["messages"]["sortie"].as_f64());
    assert!(messages.sum::<f64>() > 0.0, "{document}");
    let echo = document["echo"].as_array().unwrap();
    assert_eq!(echo.iter().map(|one| &one["devices"]).collect::<Vec<_>>(), [1, 3]);
    echo.iter().for_each(|one| relays(&one["p99_micros"]));
    let udp = document["udp"].as_array().unwrap();
    assert!(!udp.is_empty());
    udp.iter().for_each(|one| relays(&one["received"]));
    assert_eq!(document["memory"]["devices"], 50);
    assert_clean(&site);
}

#[tokio::test]
async fn one_case_of_a_dispatcher_is_shown_as_a_table() {
    let site = Site::new();
    let arguments =
        ["bench", "dispatch", "--case", "echo", "--devices", "1", "--rounds", "1", "--for", "50ms"];
    let finished = site.run(&arguments).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.stdout.lines().filter(|line| line.starts_with('|')).count() >= 3, "{}", finished.stdout);
    let refused = site.run(&["bench", "dispatch", "--devices", "0"]).await;
    assert!(refused.stderr.contains("must be a number from 1 to 20000"), "{}", refused.stderr);
}
