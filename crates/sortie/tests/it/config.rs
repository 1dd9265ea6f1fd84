//! The configuration by the command line.

use serde_json::{Value, json};

use crate::site::{Site, finish, idle_fleet};

#[tokio::test]
async fn every_problem_is_told_at_once() {
    let mut fleet = idle_fleet();
    fleet["max"] = json!(0);
    fleet["requirements"] = json!("a[");
    let config = json!({
        "listen": "nowhere", "brokr": {}, "broker": {"wait": "soon"}, "fleets": {"bad": fleet},
    });
    let site = Site::with_config(&config);
    for command in [&["config", "check"][..], &["config", "show"], &["up"]] {
        let finished = site.run(command).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{command:?}");
        for problem in [
            "sortie.toml",
            "listen: ",
            "brokr: ",
            "did you mean",
            "broker.wait: ",
            "fleets.bad.max: ",
            "fleets.bad.requirements: ",
        ] {
            assert!(finished.stderr.contains(problem), "{problem} is not in {}", finished.stderr);
        }
    }
}

#[tokio::test]
async fn a_good_one_is_shown_as_it_counts_and_can_be_read_again() {
    let site =
        Site::with_config(&json!({"dev": true, "broker": {"wait": "7s"}, "fleets": {"quiet": idle_fleet()}}));
    let checked = site.run(&["config", "check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert!(checked.stdout.contains("the configuration is valid"), "{}", checked.stdout);
    let shown = site.run(&["config", "show"]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let parsed: toml::Table = shown.stdout.parse().unwrap();
    assert_eq!(parsed["broker"]["wait"].as_str(), Some("7s"));
    assert_eq!(parsed["broker"]["match_pickup_time"].as_str(), Some("1m 30s"), "defaults are written out");

    std::fs::write(site.path("again.toml"), &shown.stdout).unwrap();
    let again = site.run(&["config", "show", "--config", "again.toml"]).await;
    assert_eq!(again.stdout, shown.stdout, "{}", again.stderr);
    let json = serde_json::to_string(&parsed).unwrap();
    std::fs::write(site.path("again.json"), json).unwrap();
    let again = site.run(&["config", "show", "--config", "again.json"]).await;
    assert_eq!(again.stdout, shown.stdout, "{}", again.stderr);
}

#[tokio::test]
async fn contradictions_are_warned_of() {
    let mut fleet = idle_fleet();
    fleet["requirements"] = json!("MatchProperties.map == 'desert'");
    fleet["server_requirements"] = json!("MatchProperties.map == 'forest'");
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": fleet}}));
    let checked = site.run(&["config", "check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let warning = "warning: fleets.quiet.requirements: and what the fleet's own servers ask for can never both be met: \
                   MatchProperties.map cannot be \"desert\" and \"forest\"";
    assert!(checked.stdout.contains(warning), "{}", checked.stdout);
}

/// What `config show` says with these variables and flags.
async fn shown(site: &Site, variables: &[(&str, &str)], flags: &[&str]) -> Result<Value, String> {
    let mut command = site.sortie(&["config", "show"]);
    command.args(flags).envs(variables.iter().copied());
    let finished = finish(command).await;
    if finished.code == Some(0) {
        return Ok(serde_json::to_value(finished.stdout.parse::<toml::Table>().unwrap()).unwrap());
    }
    Err(finished.stderr)
}

#[tokio::test]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let site = Site::with_config(
        &json!({"listen": "127.0.0.1:1", "broker": {"wait": "7s"}, "fleets": {"quiet": idle_fleet()}}),
    );
    let of_file = shown(&site, &[], &[]).await.unwrap();
    assert_eq!((&of_file["listen"], &of_file["broker"]["wait"]), (&json!("127.0.0.1:1"), &json!("7s")));
    let variables =
        [("SORTIE_LISTEN", "127.0.0.1:2"), ("SORTIE_BROKER__WAIT", "9s"), ("SORTIE_FLEETS__QUIET__MAX", "3")];
    let of_environment = shown(&site, &variables, &[]).await.unwrap();
    assert_eq!(of_environment["listen"], "127.0.0.1:2");
    assert_eq!(of_environment["broker"]["wait"], "9s");
    assert_eq!(of_environment["fleets"]["quiet"]["max"], 3);
    let of_flag = shown(&site, &variables, &["--listen", "127.0.0.1:3"]).await.unwrap();
    assert_eq!((&of_flag["listen"], &of_flag["broker"]["wait"]), (&json!("127.0.0.1:3"), &json!("9s")));

    let wrong = shown(&site, &[("SORTIE_BROKER__WAIT", "soon")], &[]).await.unwrap_err();
    assert!(wrong.contains("broker.wait: ") && wrong.contains("SORTIE_BROKER__WAIT"), "{wrong}");
    let unknown = shown(&site, &[("SORTIE_BROKER__WAITS", "9s")], &[]).await.unwrap_err();
    assert!(unknown.contains("SORTIE_BROKER__WAITS") && unknown.contains("SORTIE_BROKER__WAIT"), "{unknown}");
    // What game servers are given is no setting of ours.
    assert!(shown(&site, &[("SORTIE_SERVER_ID", "s"), ("SORTIE_PORT", "1")], &[]).await.is_ok());
}

#[tokio::test]
async fn a_file_that_is_named_has_to_be_there() {
    let site = Site::new();
    let finished = site.run(&["up", "--config", "missing.toml"]).await;
    assert_eq!(finished.code, Some(1));
    assert!(finished.stderr.contains("missing.toml"), "{}", finished.stderr);
    let finished = site.run(&["up", "--dev", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(finished.code, Some(1), "without keys it is for this machine only");
    assert!(finished.stderr.contains("loopback"), "{}", finished.stderr);
}

#[tokio::test]
async fn the_reference_names_every_key_in_each_form() {
    let site = Site::new();
    let markdown = site.run(&["config", "reference", "--format", "markdown"]).await;
    assert_eq!(markdown.stdout, include_str!("../../../../docs/config.md"));
    let json = site.run(&["config", "reference", "--format", "json"]).await;
    let rows: Vec<Value> = serde_json::from_str(&json.stdout).unwrap();
    let text = site.run(&["config", "reference"]).await.stdout;
    assert!(rows.len() > 40, "{}", rows.len());
    for row in &rows {
        let (key, meaning) = (row["key"].as_str().unwrap(), row["meaning"].as_str().unwrap());
        assert!(text.lines().any(|line| line == key), "{key} is not in {text}");
        assert!(text.contains(meaning), "{key}: {text}");
    }
    let of = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(of("fleets.<name>.max")["required"], true);
    assert_eq!(of("broker.fast_schedule")["default"], 1);
    assert_eq!(of("log.snapshot_every")["unit"], "events");
    assert_eq!(of("log.format")["choices"], json!(["text", "json"]));
}

const CATENA: &str = r#"{"Catena": {"MatchBroker": {
    // As they have it.
    "FastSchedule": 0, "MatchPickupTimeSeconds": 77, "NotOurs": {"Secret": "hunter2"},
    "Allocators": [
        {"Allocator": "CatenaLocalBareMetalAllocator", "AllocatorDescription": "duels", "Configuration": {
            "GameServerPath": "/bin/true", "GameServerArguments": "-x \"y z\"",
            "GameServerEnvironment": {"TOKEN": "s3cret"}}},
        {"Allocator": "CatenaGameLiftAllocator", "Configuration": {"FleetArn": "hunter2"}},
    ],
}}}"#;

#[tokio::test]
async fn settings_of_catena_become_a_configuration_that_counts() {
    let site = Site::new();
    std::fs::write(site.path("settings.json"), CATENA).unwrap();
    let import = ["config", "import-catena", "settings.json"];
    let written = site.run(&[&import[..], &["--output", "sortie.toml"]].concat()).await;
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{}", written.stderr);
    for said in ["NotOurs: ", "\"CatenaGameLiftAllocator\" was left out", "max = 50"] {
        assert!(written.stderr.contains(said), "{said} is not in {}", written.stderr);
    }
    assert!(!written.stderr.contains("hunter2") && !written.stderr.contains("s3cret"), "{}", written.stderr);
    let checked = site.run(&["config", "check"]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let shown = shown(&site, &[], &[]).await.unwrap();
    assert_eq!(
        (&shown["broker"]["fast_schedule"], &shown["broker"]["match_pickup_time"]),
        (&json!(0), &json!("1m 17s"))
    );
    let fleet = &shown["fleets"]["local-0"];
    assert_eq!(
        (&fleet["description"], &fleet["local_process"]["arguments"]),
        (&json!("duels"), &json!(["-x", "y z"]))
    );
    assert_eq!(shown["fleets"].as_object().unwrap().len(), 1);

    let printed = site.run(&import).await;
    assert_eq!(printed.stdout, std::fs::read_to_string(site.path("sortie.toml")).unwrap());
}

#[tokio::test]
async fn an_import_overwrites_nothing_unless_told_to_and_writes_nothing_that_is_wrong() {
    let site = Site::new();
    std::fs::write(site.path("settings.json"), CATENA).unwrap();
    std::fs::write(site.path("mine.toml"), "mine").unwrap();
    let import = ["config", "import-catena", "settings.json", "--output", "mine.toml"];
    let refused = site.run(&import).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(site.path("mine.toml")).unwrap(), "mine");
    let forced = site.run(&[&import[..], &["--force"]].concat()).await;
    assert_eq!(forced.code, Some(0), "{}", forced.stderr);
    assert!(std::fs::read_to_string(site.path("mine.toml")).unwrap().contains("local-0"));

    let wrong = CATENA.replace("77", "-77");
    std::fs::write(site.path("settings.json"), wrong).unwrap();
    let failed = site.run(&["config", "import-catena", "settings.json", "--output", "new.toml"]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    assert!(failed.stderr.contains("Catena.MatchBroker.MatchPickupTimeSeconds: "), "{}", failed.stderr);
    assert!(!site.path("new.toml").exists(), "nothing is written");
}
