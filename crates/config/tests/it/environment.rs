//! Variables over the file, flags over variables.

use std::time::Duration;

use sortie_config::{Config, LocalProcessConfig, NOT_SETTINGS, Overrides, Permission};

use crate::{FLEET, FULL, Folder, GAME_KEY};

fn refusal(text: &str, variables: &[(&str, &str)]) -> String {
    Folder::with("sortie.toml", text).load(variables).unwrap_err().to_string()
}

#[test]
fn defaults_then_file_then_variables_then_flags() {
    let listen = |text: &str, variables: &[(&str, &str)], flag: Option<&str>| {
        let overrides = Overrides { listen: flag.map(|flag| flag.parse().unwrap()), ..Overrides::default() };
        Folder::with("sortie.toml", text).load_with(variables, overrides).unwrap().listen.port()
    };
    let (file, variable) = ("listen = '127.0.0.1:1'", [("SORTIE_LISTEN", "127.0.0.1:2")]);
    assert_eq!(listen("", &[], None), 7400);
    assert_eq!(listen(file, &[], None), 1);
    assert_eq!(listen(file, &variable, None), 2);
    assert_eq!(listen(file, &variable, Some("127.0.0.1:3")), 3);
}

#[test]
fn variables_reach_every_level() {
    let variables = [
        GAME_KEY,
        ("SORTIE_DEV", "false"),
        ("SORTIE_BROKER__MATCH_PICKUP_TIME", "10s"),
        ("SORTIE_LOG__SNAPSHOT_EVERY", "7"),
        ("SORTIE_GATEWAY__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.0/24"),
        ("SORTIE_GATEWAY__CORS_ORIGINS", r#"["https://a.example"]"#),
        ("SORTIE_API_KEYS__1__PERMISSIONS", "admin"),
        ("SORTIE_FLEETS__ARENA__MAX", "3"),
        ("SORTIE_FLEETS__ARENA__PROTOCOL_ID", "0x10"),
        ("SORTIE_FLEETS__BIG_MAPS__WARM", "1"),
        ("SORTIE_FLEETS__ARENA__LOCAL_PROCESS__ENVIRONMENT__Mixed__Case", "1"),
        ("SORTIE_MATCHMAKER__QUEUES__ARENA__PLAYERS_PER_TEAM", "6"),
        ("SORTIE_MATCHMAKER__QUEUES__ARENA__RULES__PING__MOST", "70.5"),
        ("SORTIE_MATCHMAKER__QUEUES__ARENA__HOOKS__0__TIMEOUT", "4s"),
        ("SORTIE_MATCHMAKER__QUEUES__ARENA__RULES__ARENA__WIDEN__1__MOST", "500"),
    ];
    let config = Folder::with("sortie.toml", FULL).load(&variables).unwrap();
    assert!(!config.dev);
    assert_eq!(config.broker.match_pickup_time, Duration::from_secs(10));
    assert_eq!(config.log.snapshot_every, 7);
    assert_eq!(config.gateway.trusted_proxies.len(), 2);
    assert_eq!(config.gateway.cors_origins, ["https://a.example"]);
    assert_eq!(config.api_keys[1].permissions, [Permission::Admin]);
    assert_eq!((config.fleets[0].fleet.max, config.fleets[0].protocol_id), (3, 16));
    assert_eq!(config.fleets[1].fleet.warm, 1, "a name with a space is found");
    let local = config.fleets[0].allocator.settings::<LocalProcessConfig>().unwrap();
    assert_eq!(local.environment.0["Mixed__Case"], "1");
    let matchmaker = config.matchmaker.unwrap();
    let arena = matchmaker.settings.queues.values().next().unwrap();
    assert_eq!((arena.players_per_team, arena.rules[0].widen[1].value), (6, 500.0));
    assert_eq!(arena.rules[7].kind, sortie_domain::matchmaking::settings::RuleKind::Latency { most: 70.5 });
    let hook = matchmaker.hooks.values().find(|hook| hook.url.ends_with("/maps")).unwrap();
    assert_eq!(hook.timeout, Duration::from_secs(4));
    assert_eq!(local.environment.0["RUST_LOG"], "debug", "the file's other values stay");
}

#[test]
fn variables_alone_make_a_configuration() {
    let variables = [
        ("SORTIE_API_KEYS__0__NAME", "backend"),
        ("SORTIE_API_KEYS__0__SHA256", "fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"),
        ("SORTIE_API_KEYS__0__PERMISSIONS", "client,admin"),
        ("SORTIE_FLEETS__ARENA__MAX", "1"),
        ("SORTIE_FLEETS__ARENA__LOCAL_PROCESS__PATH", "arena"),
    ];
    let config = Config::load(None, crate::owned(&variables), Overrides::default()).unwrap();
    assert_eq!((config.api_keys.len(), config.fleets[0].fleet.id.as_str()), (1, "arena"));
    assert!(!config.needs_api_key());
}

#[test]
fn what_game_servers_are_given_sets_nothing() {
    let plain = Folder::with("sortie.toml", FLEET);
    let ignored: Vec<_> =
        NOT_SETTINGS.iter().map(|name| (*name, "x")).chain([("PATH", "x"), ("LISTEN", "x")]).collect();
    assert_eq!(plain.load(&ignored).unwrap(), plain.load(&[]).unwrap());
}

#[test]
fn a_variable_that_sets_nothing_is_refused_with_what_was_meant() {
    for (name, meant) in [
        ("SORTIE_BROKER__MATCH_PICKUP", "SORTIE_BROKER__MATCH_PICKUP_TIME"),
        ("SORTIE_BROKER_WAIT", "SORTIE_BROKER__WAIT"),
        ("SORTIE_FLEETS__ARENA__MAXX", "SORTIE_FLEETS__ARENA__MAX"),
        ("SORTIE_API_KEYS__3__NAMES", "SORTIE_API_KEYS__3__NAME"),
    ] {
        let text = refusal(FLEET, &[(name, "1")]);
        assert!(text.contains(&format!("{name}: does not name a setting; did you mean {meant}?")), "{text}");
    }
    for name in [
        "SORTIE_",
        "SORTIE___",
        "SORTIE_BROKER",
        "SORTIE_WHATEVER",
        "SORTIE_FLEETS____MAX",
        "SORTIE_LISTEN__X",
    ] {
        let text = refusal("", &[(name, "1")]);
        assert!(text.contains(&format!("{name}: does not name a setting")), "{text}");
    }
}

#[test]
fn a_bad_value_names_its_variable() {
    let text = refusal(FLEET, &[("SORTIE_FLEETS__ARENA__MAX", "many"), ("SORTIE_DEV", "yes")]);
    assert!(text.contains("fleets.arena.max: must be an integer from 1 to 10000, is \"many\" (set by SORTIE_FLEETS__ARENA__MAX)"), "{text}");
    assert!(text.contains("dev: must be true or false, is \"yes\" (set by SORTIE_DEV)"), "{text}");
    let text =
        refusal("", &[("SORTIE_API_KEYS__99999999999__NAME", "x"), ("SORTIE_API_KEYS__1000__NAME", "x")]);
    assert_eq!(text.matches("must be a position in a list: 0, 1, … 999").count(), 2, "{text}");
    let text = refusal("broker = 5", &[("SORTIE_BROKER__WAIT", "1s")]);
    assert!(
        text.contains("SORTIE_BROKER__WAIT: sets a key of a table that is a number in the file"),
        "{text}"
    );
}

#[test]
fn a_variable_that_fits_two_names_is_refused() {
    let two =
        "[fleets.a-b]\nmax = 1\nlocal_process.path = 'a'\n[fleets.a_b]\nmax = 1\nlocal_process.path = 'a'\n";
    let text = refusal(two, &[("SORTIE_FLEETS__A_B__MAX", "2")]);
    assert!(text.contains("SORTIE_FLEETS__A_B__MAX: fits both \"a-b\" and \"a_b\""), "{text}");
}
