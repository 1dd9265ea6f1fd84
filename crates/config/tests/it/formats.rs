//! Three formats, one configuration; defaults; where paths start.

use std::net::{IpAddr, Ipv4Addr};
use std::path::absolute;
use std::time::Duration;

use sortie_config::{
    CallerLimits, Config, Dialect, Game, KeySource, LocalProcessConfig, LogFormat, Overrides, Permission,
};
use sortie_domain::broker::model::{FastSchedule, Settings};

use crate::{FLEET, FULL, Folder, GAME_KEY, toml};

fn local(config: &Config, fleet: usize) -> &LocalProcessConfig {
    config.fleets[fleet].allocator.settings().unwrap()
}

#[test]
fn the_same_settings_in_three_formats_give_the_same_configuration() {
    let tree: serde_json::Value = toml::from_str(FULL).unwrap();
    let folder = Folder::with("sortie.toml", FULL);
    let expected = folder.load(&[GAME_KEY]).unwrap();
    let json = serde_json::to_string_pretty(&tree).unwrap();
    let yaml = serde_yaml_ng::to_string(&tree).unwrap();
    for (name, text) in [("sortie.json", &json), ("sortie.yaml", &yaml), ("sortie.YML", &yaml)] {
        let file = folder.dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let config = Config::load(Some(&file), crate::owned(&[GAME_KEY]), Overrides::default()).unwrap();
        assert_eq!(config, expected, "{name}");
    }
}

#[test]
fn every_key_arrives() {
    let folder = Folder::with("sortie.toml", FULL);
    let config = folder.load(&[GAME_KEY]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7500");
    assert!(config.dev);
    assert_eq!(config.public_url.as_deref(), Some("https://sortie.example.com/api"));
    assert_eq!((config.log.format, config.log.level.as_str()), (LogFormat::Json, "warn,sortie_engine=debug"));
    assert_eq!((config.log.retention, config.log.snapshot_every), (1536 << 20, 5000));
    let broker = Settings {
        fast_schedule: FastSchedule::Always,
        server_max_lifetime: Duration::from_secs(4 * 3600),
        match_pickup_time: Duration::from_millis(90_005),
        match_ready_time: Duration::from_secs(45),
        match_max_run_time: Duration::from_secs(3 * 3600),
        schedule_frequency: Duration::from_secs(5),
        delay_allocation: Duration::ZERO,
        wait: Duration::from_secs(20),
        lifetime_ends_matches: true,
        suspect_time: Duration::from_secs(15),
        waiting_bytes: 300 << 20,
        kept_bytes: 80 << 20,
    };
    assert_eq!(config.broker, broker);
    assert_eq!(config.api_keys.len(), 2);
    assert_eq!((config.api_keys[0].sha256[0], config.api_keys[0].sha256[31]), (0x2c, 0xae));
    assert_eq!(config.api_keys[1].permissions, [Permission::Client, Permission::Admin]);
    let key = config.netcode_key.as_ref().unwrap();
    assert_eq!(key.bytes().as_slice(), (0..32).collect::<Vec<u8>>());
    let gateway = &config.gateway;
    assert_eq!(gateway.default_fleet.as_ref().unwrap().as_str(), "arena");
    assert_eq!(gateway.wait_deadline, Duration::from_secs(60));
    assert_eq!(gateway.progress_interval, Duration::from_millis(500));
    assert_eq!(gateway.reconnect_grace, Duration::from_secs(45));
    assert!(!gateway.rejoin);
    let proxies: Vec<_> = gateway.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
    let web = ["https://play.example.com", "http://localhost:8080", "https://a.example"];
    let apps = ["capacitor://localhost", "tauri://localhost", "null"];
    assert_eq!(gateway.cors_origins, [web, apps].concat());
    assert_eq!(config.dev_hosts, ["box.lan", "2001:db8::1"]);
    assert_eq!(config.limits.stall_time, Duration::from_secs(20));
    let callers = CallerLimits {
        player_streams: 1001,
        log_streams: 1002,
        streams_per_player: 3,
        streams_per_key: 1004,
        waits: 1005,
        waits_per_key: 1006,
        watches: 1007,
        watches_per_address: 8,
        rate_per_player: 9,
        burst_per_player: 10,
    };
    assert_eq!(config.limits.callers, callers);
    assert_eq!(gateway.loopback_ip_replacement, Some(IpAddr::from(Ipv4Addr::new(203, 0, 113, 7))));
    let warned: Vec<_> = config.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warned, ["fleets.\"big maps\""], "it takes any match");
}

#[test]
fn every_key_of_a_fleet_arrives() {
    let folder = Folder::with("sortie.toml", FULL);
    let config = folder.load(&[GAME_KEY]).unwrap();
    let arena = &config.fleets[0];
    assert_eq!(arena.fleet.id.as_str(), "arena");
    assert_eq!(arena.description, "Duels");
    assert_eq!(arena.fleet.requirements, "MatchProperties.game == 'arena'");
    assert_eq!((arena.fleet.max, arena.fleet.warm, arena.fleet.preference), (4, 1, -3));
    assert_eq!(
        (arena.fleet.ready_deadline, arena.seat_ttl),
        (Duration::from_secs(20), Duration::from_secs(15))
    );
    assert_eq!(arena.game, Some(Game { name: "arena".to_owned(), version: "1.0".to_owned() }));
    assert_eq!((arena.capacity, arena.dialect), (2, Dialect::Lightyear));
    assert_eq!(arena.protocol_id, 0xffee_ddcc_bbaa_9988);
    let local = local(&config, 0);
    assert_eq!(local.arguments, ["--port", "{port}"]);
    assert_eq!(local.environment.0["TOKEN"], "hunter2");
    assert_eq!(local.ports, 9000..=9003);
    assert_eq!(local.address.to_string(), "192.0.2.9");
    assert_eq!((local.stop_grace, local.reaper_period), (Duration::from_secs(3), Duration::from_secs(10)));
    assert_eq!((local.output_limit, local.max_run_time), (64 << 10, Some(Duration::from_secs(5 * 3600))));
    assert_eq!(config.fleets[1].fleet.id.as_str(), "big maps");
}

#[test]
fn without_a_file_everything_is_at_its_default() {
    let config = Config::load(None, std::iter::empty(), Overrides::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:7400");
    assert_eq!(config.data, absolute("data").unwrap());
    assert_eq!(
        config.broker,
        Settings::default(),
        "the defaults of the domain and of the table are the same"
    );
    assert_eq!((config.dev, config.fleets.len()), (false, 0));
    assert!(config.needs_api_key() && !config.needs_netcode_key());
}

#[test]
fn an_empty_file_of_any_format_is_as_good_as_none() {
    let none = Config::load(None, std::iter::empty(), Overrides::default()).unwrap();
    for (name, text) in [("a.toml", ""), ("a.yaml", ""), ("a.json", "{}"), ("b.yaml", "broker: ~\nfleets:\n")]
    {
        assert_eq!(Folder::with(name, text).load(&[]).unwrap(), none, "{name} {text}");
    }
}

#[test]
fn a_fleet_needs_little() {
    let config = toml(FLEET).unwrap();
    let fleet = &config.fleets[0];
    assert_eq!((fleet.fleet.max, fleet.fleet.warm, fleet.capacity, fleet.protocol_id), (2, 0, 8, 0));
    assert_eq!(fleet.fleet.ready_deadline, Duration::from_secs(30));
    let local = local(&config, 0);
    assert_eq!((local.ports.clone(), local.output_limit), (7800..=7899, 1 << 20));
    assert_eq!((local.max_run_time, local.working_folder.clone()), (None, None));
    assert!(config.needs_netcode_key(), "a fleet with a game and no key");
}

#[test]
fn two_fleets_may_have_the_same_game_and_version() {
    let second = "[fleets.cloud]\nmax = 2\ngame = 'arena'\nversion = '1.0'\npreference = 1\nlocal_process.path = 'arena'\n";
    assert_eq!(toml(&format!("{FLEET}{second}")).unwrap().fleets.len(), 2);
}

#[test]
fn relative_paths_start_at_the_file_and_others_at_the_working_folder() {
    let folder = Folder::with("sortie.toml", FULL);
    let config = folder.load(&[GAME_KEY]).unwrap();
    let root = absolute(folder.dir.path()).unwrap();
    assert_eq!(config.data, root.join("state"));
    assert_eq!(local(&config, 0).path, root.join("servers/arena"));
    assert_eq!(local(&config, 0).working_folder, Some(root.join("servers")));
    assert_eq!(local(&config, 1).path.to_str(), Some("/opt/big"));

    let variables =
        [GAME_KEY, ("SORTIE_DATA", "elsewhere"), ("SORTIE_FLEETS__ARENA__LOCAL_PROCESS__PATH", "bin/arena")];
    let config = folder.load(&variables).unwrap();
    assert_eq!(config.data, absolute("elsewhere").unwrap());
    assert_eq!(local(&config, 0).path, absolute("bin/arena").unwrap());

    let flag = Overrides { data: Some("flagged".into()), ..Overrides::default() };
    assert_eq!(folder.load_with(&variables, flag).unwrap().data, absolute("flagged").unwrap());
}

#[test]
fn the_netcode_key_comes_in_three_forms() {
    let raw: Vec<u8> = (0..32).collect();
    let hexadecimal = format!("{}\n", GAME_KEY.1);
    let base64 = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let folder = Folder::with("sortie.toml", "netcode.key_file = 'secret.key'");
    let file = folder.dir.path().join("secret.key");
    for form in [raw.as_slice(), hexadecimal.as_bytes(), base64.as_bytes()] {
        std::fs::write(&file, form).unwrap();
        let key = folder.load(&[]).unwrap().netcode_key.unwrap();
        assert_eq!(key.bytes().as_slice(), raw);
        assert_eq!(key.source(), &KeySource::File(absolute(&file).unwrap()));
    }
    let by_variable = Folder::with("sortie.toml", "netcode.key_env = 'SORTIE_OWN_KEY'");
    let key = by_variable.load(&[("SORTIE_OWN_KEY", base64)]).unwrap().netcode_key.unwrap();
    assert_eq!(key.bytes().as_slice(), raw, "a variable that the configuration names is no unknown setting");
}

#[test]
fn the_public_url_follows_the_address_that_was_bound() {
    let config = toml("listen = '127.0.0.1:0'").unwrap();
    assert_eq!(config.public_url_or("127.0.0.1:4711".parse().unwrap()), "http://127.0.0.1:4711");
    assert_eq!(config.public_url_or("0.0.0.0:4711".parse().unwrap()), "http://127.0.0.1:4711");
    assert_eq!(config.public_url_or("[::]:4711".parse().unwrap()), "http://[::1]:4711");
    let config = toml("public_url = 'https://sortie.example.com/'").unwrap();
    assert_eq!(config.public_url_or("127.0.0.1:4711".parse().unwrap()), "https://sortie.example.com");
}

#[test]
fn what_is_allowed_and_hardly_meant_gives_warnings() {
    let warnings = |text: &str| {
        let config = toml(text).unwrap();
        config.warnings.into_iter().map(|warning| warning.path).collect::<Vec<_>>()
    };
    let quiet = "";
    assert_eq!(warnings(quiet), [""; 0], "the defaults go together");
    assert_eq!(warnings("broker.server_max_lifetime = '2h'"), ["broker.server_max_lifetime"]);
    assert_eq!(warnings(&format!("{quiet}listen = '0.0.0.0:7400'")), ["public_url"]);
    let two = "[fleets.a]\nmax = 2\nlocal_process = { path = 'a', ports = '9000-9001' }\n\
               [fleets.b]\nmax = 2\nlocal_process = { path = 'b', ports = '9001-9002' }\n";
    assert_eq!(warnings(two), ["fleets.a", "fleets.a", "fleets.b"], "ports, and matches");
    let hidden = "[fleets.a]\nmax = 2\nlocal_process = { path = 'a', environment.KEY = '(hidden)' }\n";
    assert_eq!(warnings(&format!("{quiet}{hidden}")), ["fleets.a.local_process.environment"]);
}
