//! Settings of a Catena node as a configuration.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use sortie_config::{CatenaImport, Config, LocalProcessConfig, Problems, import_catena};
use sortie_domain::broker::model::{FastSchedule, Settings};
use sortie_domain::matchmaking::settings::ExpirationAction;

use crate::Folder;

/// As an operator may have it: comments, a comma too many, keys in any case, other parts of the node.
const SETTINGS: &str = r#"{
  // The node.
  "Logging": { "Level": "debug" },
  "Catena": {
    "Matchmaker": {
      "StatusExpirationMinutes": 5,
      "CustomHooks": "CatenaPartyMembershipHooks",
      "matchmakingqueues": {
        "ranked": {
          "QueueName": "ranked",
          "Teams": 2,
          "PlayersPerTeam": 5,
          "MinPlayersPerTeam": 3,
          "TicketExpirationSeconds": 90,
          "ExpirationAction": "minimum",
          "CustomStrategy": "MyStrategy",
          "CustomHooks": "Studio.BanHooks",
        },
        "everybody": { "Teams": 0, "ExpirationAction": "minimum", "TicketExpirationSeconds": "0" },
      },
    },
    "matchbroker": {
      "FastSchedule": 2,
      "ServerMaxLifetimeMinutes": 130, /* longer than a match */
      "MatchPickupTimeSeconds": "45",
      "MatchReadyTimeSeconds": 20,
      "MatchMaxRunTimeMinutes": 60,
      "ScheduleFrequencySeconds": 0,
      "DelayAllocationSeconds": 0,
      "NewIdea": "hunter2",
      "Allocators": [
        {
          "Allocator": "CatenaLocalBareMetalAllocator",
          "AllocatorDescription": "duels",
          "Requirements": "MatchProperties.mode == 'duel'",
          "Configuration": {
            "GameServerPath": "/opt/game/server",
            "GameServerArguments": "-batchmode -map \"two words\"",
            "GameServerEnvironment": { "TOKEN": "s3cret", "LEVEL": 3 },
            "ReadyDeadlineSeconds": 12,
            "ReaperConfiguration": { "AllocatorReaperPeriodSeconds": 7, "MaxRunTimeMinutes": 90 },
          },
        },
        {
          "Allocator": "MultiplayServerAllocator",
          "Configuration": { "KeyId": "k", "SecretKey": "hunter2" },
        },
        {
          "Allocator": "CatenaLocalBareMetalAllocator",
          "Requirements": "",
          "Configuration": { "GameServerPath": "bin/server", "GameServerArguments": "{port}" },
        },
      ],
    },
  },
}"#;

fn import(text: &str) -> Result<CatenaImport, Problems> {
    import_catena(&Folder::with("settings.json", text).dir.path().join("settings.json"))
}

fn imported(text: &str) -> (Config, Vec<String>) {
    let import = import(text).unwrap_or_else(|problems| panic!("{problems}"));
    let config = Folder::with("sortie.toml", &import.toml).load(&[]);
    (config.unwrap_or_else(|problems| panic!("{problems}\n{}", import.toml)), import.notes)
}

fn problems(text: &str) -> Vec<(String, String)> {
    let problems = import(text).unwrap_err();
    problems.list.into_iter().map(|finding| (finding.path, finding.text)).collect()
}

#[test]
fn the_configuration_does_the_same() {
    let (config, _) = imported(SETTINGS);
    let seconds = Duration::from_secs;
    assert_eq!(config.broker.fast_schedule, FastSchedule::Always);
    assert_eq!(config.broker.server_max_lifetime, seconds(130 * 60));
    assert_eq!(config.broker.match_pickup_time, seconds(45));
    assert_eq!(config.broker.match_ready_time, seconds(20));
    assert_eq!(config.broker.match_max_run_time, seconds(3600));
    assert_eq!(config.broker.schedule_frequency, seconds(1));
    assert_eq!(config.broker.delay_allocation, Duration::ZERO);

    let [first, second] = &config.fleets[..] else { panic!("{:?}", config.fleets) };
    assert_eq!((first.fleet.preference, second.fleet.preference), (0, 2));
    assert_eq!(first.fleet.requirements, "MatchProperties.mode == 'duel'");
    assert_eq!((first.description.as_str(), second.fleet.requirements.as_str()), ("duels", ""));
    assert_eq!(first.fleet.ready_deadline, seconds(12));
    let local = first.allocator.settings::<LocalProcessConfig>().unwrap();
    assert_eq!(local.path.to_str(), Some("/opt/game/server"));
    assert_eq!(local.arguments, ["-batchmode", "-map", "two words"]);
    assert_eq!(local.environment.0["TOKEN"], "s3cret");
    assert_eq!(local.environment.0["LEVEL"], "3");
    assert_eq!((local.reaper_period, local.max_run_time), (seconds(7), Some(seconds(90 * 60))));
    let warned: Vec<_> = config.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warned, ["fleets.local-2"], "it takes any match");

    let matchmaker = config.matchmaker.unwrap().settings;
    assert_eq!((matchmaker.status_expiration, matchmaker.hooks.len()), (seconds(300), 1));
    let [everybody, ranked] = &matchmaker.queues.values().collect::<Vec<_>>()[..] else {
        panic!("{matchmaker:?}")
    };
    assert_eq!((ranked.teams, ranked.players_per_team, ranked.min_players_per_team), (2, 5, 3));
    assert_eq!((ranked.ticket_expiration, everybody.ticket_expiration), (seconds(90), seconds(1)));
    assert_eq!(everybody.full(), None);
    assert_eq!(everybody.expiration_action, ExpirationAction::Minimum);
}

#[test]
fn a_matchmaker_alone_will_do_and_what_is_wrong_with_it_is_named() {
    let queue = |queue: Value| json!({"Matchmaker": {"MatchmakingQueues": {"q": queue}}}).to_string();
    let (config, notes) = imported(&queue(json!({"QueueName": "duel", "Teams": 2, "PlayersPerTeam": 1})));
    let matchmaker = config.matchmaker.unwrap();
    assert_eq!(matchmaker.settings.queues.keys().next().unwrap().as_str(), "duel");
    assert_eq!(notes.len(), 1, "{notes:?}");
    for (wrong, place) in [
        (json!({"Teams": 2}), "Matchmaker.MatchmakingQueues.q.PlayersPerTeam"),
        (json!({"Teams": 0, "ExpirationAction": "wait"}), "Matchmaker.MatchmakingQueues.q.ExpirationAction"),
        (json!({"Teams": "x"}), "Matchmaker.MatchmakingQueues.q.Teams"),
        (json!([]), "Matchmaker.MatchmakingQueues.q"),
    ] {
        let found = problems(&queue(wrong));
        assert!(found.iter().any(|(path, _)| path == place), "{place} is not in {found:?}");
    }
}

#[test]
fn what_is_not_as_it_was_is_said_in_the_notes_and_in_the_file() {
    let import = import(SETTINGS).unwrap();
    for (path, text) in [
        ("Logging", "left out"),
        ("Catena.Matchmaker.CustomHooks", "`party_membership`"),
        ("Catena.Matchmaker.matchmakingqueues.ranked.CustomStrategy", "left out"),
        ("Catena.Matchmaker.matchmakingqueues.ranked.CustomHooks", "`validate_ticket`"),
        ("Catena.Matchmaker.matchmakingqueues.everybody.TicketExpirationSeconds", "1s was used"),
        ("Catena.matchbroker.NewIdea", "left out"),
        ("Catena.matchbroker.ScheduleFrequencySeconds", "1s was used"),
        ("Catena.matchbroker.Allocators[0].Configuration", "max = 50"),
        ("Catena.matchbroker.Allocators[1].Allocator", "\"MultiplayServerAllocator\" was left out"),
        ("Catena.matchbroker.Allocators[2].Configuration.GameServerPath", "not an absolute path"),
        ("Catena.matchbroker.Allocators[2].Configuration.GameServerArguments", "`{port}`"),
    ] {
        let is_it = |line: &str| line.contains(&format!("{path}: ")) && line.contains(text);
        assert!(import.notes.iter().any(|note| is_it(note)), "{path}: {text} is not in {:#?}", import.notes);
        let comment = import.toml.lines().any(|line| line.starts_with('#') && is_it(line));
        assert!(comment, "{path} is not in {}", import.toml);
    }
    let said = format!("{:?} {import:?}", import.notes);
    assert!(!said.contains("hunter2") && !said.contains("s3cret"), "{said}");
    assert!(!import.toml.contains("hunter2"), "{}", import.toml);
}

#[test]
fn a_bare_block_will_do_and_what_is_not_given_has_its_default() {
    let (config, notes) = imported(r#"{"MATCHBROKER": {"Allocators": []}}"#);
    let defaults = Folder::with("sortie.toml", "").load(&[]).unwrap();
    let lifetime = Duration::from_secs(10 * 60);
    let theirs = Settings { server_max_lifetime: lifetime, lifetime_ends_matches: true, ..defaults.broker };
    assert_eq!((&config.broker, config.fleets.len()), (&theirs, 0), "their lifetime and what it means");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(imported("\u{feff}{\"MatchBroker\": {}} // the end").1[0].contains("FastSchedule"));
}

#[test]
fn a_fleet_whose_requirements_are_none_is_left_out() {
    let local = json!({"GameServerPath": "/s"});
    let entry =
        json!({"Allocator": "CatenaLocalBareMetalAllocator", "Requirements": "a[", "Configuration": local});
    let (config, notes) = imported(&json!({"MatchBroker": {"Allocators": [entry]}}).to_string());
    assert!(config.fleets.is_empty());
    assert!(notes.iter().any(|note| note.contains("Requirements: the fleet was left out")), "{notes:?}");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let broker = |block: Value| json!({"Catena": {"MatchBroker": block}}).to_string();
    let of = |entry: Value| broker(json!({"Allocators": [{}, entry]}));
    let local = |configuration: Value| {
        of(json!({"Allocator": "CatenaLocalBareMetalAllocator", "Configuration": configuration}))
    };
    let at = "Catena.MatchBroker.Allocators[1]";
    for (text, place, said) in [
        (broker(json!({"FastSchedule": 3})), "Catena.MatchBroker.FastSchedule".to_owned(), "0, 1 or 2"),
        (
            broker(json!({"MatchReadyTimeSeconds": -1})),
            "Catena.MatchBroker.MatchReadyTimeSeconds".into(),
            "is -1",
        ),
        (
            broker(json!({"MatchReadyTimeSeconds": 1e300})),
            "Catena.MatchBroker.MatchReadyTimeSeconds".into(),
            "whole",
        ),
        (
            broker(json!({"MatchReadyTimeSeconds": "soon"})),
            "Catena.MatchBroker.MatchReadyTimeSeconds".into(),
            "text",
        ),
        (broker(json!({"Allocators": {}})), "Catena.MatchBroker.Allocators".into(), "a list"),
        (
            broker(json!({"fastschedule": 1, "FastSchedule": 1})),
            "Catena.MatchBroker.fastschedule".into(),
            "once",
        ),
        (broker(json!([])), "Catena.MatchBroker".into(), "an object"),
        (of(json!(3)), at.into(), "an object"),
        (of(json!({})), format!("{at}.Allocator"), "class"),
        (
            of(json!({"Allocator": "CatenaLocalBareMetalAllocator"})),
            format!("{at}.Configuration"),
            "must be there",
        ),
        (local(json!({})), format!("{at}.Configuration.GameServerPath"), "program"),
        (local(json!({"GameServerPath": 1})), format!("{at}.Configuration.GameServerPath"), "text"),
        (
            local(json!({"GameServerPath": "/s", "GameServerArguments": [1]})),
            format!("{at}.Configuration.GameServerArguments"),
            "texts",
        ),
        (
            local(json!({"GameServerPath": "/s", "GameServerEnvironment": {"A": {}}})),
            format!("{at}.Configuration.GameServerEnvironment.A"),
            "text",
        ),
        (json!({"Catena": {}}).to_string(), "MatchBroker".into(), "not there"),
    ] {
        let found = problems(&text);
        let is_it = |(path, text): &(String, String)| *path == place && text.contains(said);
        assert!(found.iter().any(is_it), "{place}: {said} is not in {found:?}");
    }
    // What the configuration itself does not take is a problem and not a file.
    let local = json!({"GameServerPath": "/s", "GameServerArguments": ["a\u{0}b"]});
    let nul = broker(
        json!({"Allocators": [{"Allocator": "CatenaLocalBareMetalAllocator", "Configuration": local}]}),
    );
    assert!(problems(&nul).iter().any(|(_, text)| text.contains("NUL")), "{:?}", problems(&nul));
}

#[test]
fn what_is_no_json_is_refused() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let many = format!("[{}]", "0,".repeat(200_000));
    for (text, said) in [
        ("", "not valid JSON"),
        ("{", "line 1"),
        ("{\"a\": 1,\n \"a\": 2}", "given twice"),
        ("{\"a\": /1}", "does not begin a comment"),
        ("{\"a", "not valid JSON"),
        ("[]", "must hold an object"),
        (&deep, "recursion limit"),
        (&many, "more than 100000 values"),
    ] {
        let found = problems(text);
        assert!(found[0].1.contains(said), "{said}: {found:?}");
    }
    let missing = import_catena(std::path::Path::new("/nowhere/settings.json")).unwrap_err();
    assert!(missing.to_string().contains("cannot be opened"), "{missing}");
}

/// Any JSON, with keys that mean something more often than not.
fn any_json() -> impl Strategy<Value = Value> {
    let names = vec![
        "Catena",
        "MatchBroker",
        "FastSchedule",
        "ServerMaxLifetimeMinutes",
        "MatchPickupTimeSeconds",
        "Allocators",
        "Allocator",
        "AllocatorDescription",
        "Requirements",
        "Configuration",
        "GameServerPath",
        "GameServerArguments",
        "GameServerEnvironment",
        "ReadyDeadlineSeconds",
        "ReaperConfiguration",
        "MaxRunTimeMinutes",
        "other\nkey",
    ];
    let text = prop_oneof![
        Just("CatenaLocalBareMetalAllocator".to_owned()),
        Just("/opt/server".to_owned()),
        "\\PC{0,12}",
        "[\"\\\\ a\t\n\u{0}]{0,12}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..200_u32).prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let key = prop::sample::select(names.clone()).prop_map(ToOwned::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..6).prop_map(|table| table.into_iter().collect()),
        ]
    })
}

/// Settings in which every value is of the right kind.
fn settings() -> impl Strategy<Value = Value> {
    let number = || prop_oneof![0..200_u32, Just(i32::MAX as u32), 0..=i32::MAX as u32];
    let variables = prop::collection::btree_map("[A-Z]{1,8}", "\\PC{0,20}", 0..4);
    let entry = (
        prop_oneof![3 => Just("CatenaLocalBareMetalAllocator"), 1 => Just("CatenaGameLiftAllocator")],
        "\\PC{0,30}",
        prop_oneof![Just(""), Just("a == 'b'"), Just("PlayerIds[0]"), Just("a[")],
        "/[a-z]{1,9}/[a-z ]{0,9}x",
        "[\"\\\\ a-z\t\n]{0,40}",
        variables,
        (number(), number(), number()),
    );
    let entry = entry.prop_map(|(class, description, requirements, path, arguments, variables, times)| {
        json!({
            "Allocator": class, "AllocatorDescription": description, "Requirements": requirements,
            "Configuration": {
                "GameServerPath": path, "GameServerArguments": arguments, "GameServerEnvironment": variables,
                "ReadyDeadlineSeconds": times.0,
                "ReaperConfiguration": {
                    "AllocatorReaperPeriodSeconds": times.1, "MaxRunTimeMinutes": times.2,
                },
            },
        })
    });
    let timers = prop::collection::vec(number(), 6);
    (0..3, timers, prop::collection::vec(entry, 0..6)).prop_map(|(mode, timers, allocators)| {
        json!({"Catena": {"MatchBroker": {
            "FastSchedule": mode, "ServerMaxLifetimeMinutes": timers[0], "MatchPickupTimeSeconds": timers[1],
            "MatchReadyTimeSeconds": timers[2], "MatchMaxRunTimeMinutes": timers[3],
            "ScheduleFrequencySeconds": timers[4], "DelayAllocationSeconds": timers[5],
            "Allocators": allocators,
        }}})
    })
}

proptest! {
    #[test]
    fn settings_of_the_right_kinds_become_a_configuration_with_the_same_values(settings in settings()) {
        let (config, _) = imported(&settings.to_string());
        let broker = &settings["Catena"]["MatchBroker"];
        let year = 366 * 24 * 3600;
        let same = |name: &str, unit: u64, least: u64, ours: Duration| {
            let wanted = (broker[name].as_u64().unwrap() * unit).clamp(least, year);
            assert_eq!(ours, Duration::from_secs(wanted), "{name}");
        };
        same("ServerMaxLifetimeMinutes", 60, 1, config.broker.server_max_lifetime);
        assert!(config.broker.lifetime_ends_matches, "a server older than that has failed");
        same("MatchPickupTimeSeconds", 1, 1, config.broker.match_pickup_time);
        same("MatchReadyTimeSeconds", 1, 1, config.broker.match_ready_time);
        same("MatchMaxRunTimeMinutes", 60, 1, config.broker.match_max_run_time);
        same("ScheduleFrequencySeconds", 1, 1, config.broker.schedule_frequency);
        same("DelayAllocationSeconds", 1, 0, config.broker.delay_allocation);
        let allocators = broker["Allocators"].as_array().unwrap();
        let is_taken = |entry: &&Value| entry["Allocator"] == "CatenaLocalBareMetalAllocator" && entry["Requirements"] != "a[";
        let taken: Vec<_> = allocators.iter().filter(is_taken).collect();
        let mut fleets: Vec<_> = config.fleets.iter().collect();
        fleets.sort_by_key(|fleet| fleet.fleet.preference);
        prop_assert_eq!(taken.len(), fleets.len());
        for (entry, fleet) in taken.into_iter().zip(fleets) {
            let local = fleet.allocator.settings::<LocalProcessConfig>().unwrap();
            prop_assert_eq!(&entry["Requirements"], &json!(fleet.fleet.requirements));
            let of = &entry["Configuration"];
            prop_assert_eq!(&of["GameServerPath"], &json!(local.path.to_str()));
            prop_assert_eq!(&of["GameServerEnvironment"], &json!(local.environment.0));
        }
    }

    #[test]
    fn anything_is_taken_or_refused(broker in any_json(), text in "[\\PC\n]{0,80}") {
        for text in [broker.to_string(), json!({"MatchBroker": broker}).to_string(), text] {
            if let Ok(import) = import(&text) {
                let config = Folder::with("sortie.toml", &import.toml).load(&[]);
                prop_assert!(config.is_ok(), "{:?} of {}", config, import.toml);
            }
        }
    }
}
