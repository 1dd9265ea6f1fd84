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
    assert!(checked.stdout.contains("the configuration is good"), "{}", checked.stdout);
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
