//! What is refused, and what the user is told.

use std::path::Path;

use sortie_config::{Config, Finding, MAX_FINDINGS, Overrides};
use sortie_config_file::MAX_FILE_BYTES;

use crate::{FLEET, FULL, Folder, GAME_KEY, problems, toml};

/// Asserts that `text` has exactly one problem, which begins with `expected`.
#[track_caller]
fn one(text: &str, expected: &str) {
    let found = problems(text);
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "{text}\n  gave {found:#?}\n  not {expected}"
    );
}

#[test]
fn each_bad_value_at_the_top_is_one_problem() {
    one("listen = 'localhost'", "listen: must be an IP address and a port, like \"127.0.0.1:7400\"");
    one("listen = 7400", "listen: must be an IP address and a port");
    one("data = ''", "data: must not be empty");
    one("dev = 1", "dev: must be true or false, is 1");
    one(
        "dev = true\nlisten = '0.0.0.0:7400'\npublic_url = 'http://a'",
        "listen: is 0.0.0.0:7400, but in development mode",
    );
    one("public_url = 'sortie.example.com'", "public_url: must be an http or https URL");
    one("public_url = 'ftp://sortie.example.com'", "public_url: must be an http or https URL");
    one(
        "public_url = 'https://a.example?x=1'",
        "public_url: must be an http or https URL like \"https://play.example.com\", without",
    );
    one("log.format = 'jsn'", "log.format: must be \"text\" or \"json\", is \"jsn\"; did you mean \"json\"?");
    one("log.level = 'loud'", "log.level: must be one of off, error");
    one("log.level = 'info,=debug'", "log.level: must be one of off, error");
    one("log.retention = '1'", "log.retention: must be a byte size with a unit");
    one("log.retention = 1024", "log.retention: must be a byte size with a unit");
    one("log.retention = '2PiB'", "log.retention: must be from 0B to 1PiB, is \"2PiB\"");
    one("log.snapshot_every = 0", "log.snapshot_every: must be an integer from 1 to 1000000000, is 0");
    one("log = 'text'", "log: must be a table, is text");
    one("limits.body = '32MiB'", "limits.body: must be from 1KiB to 4MiB, is \"32MiB\"");
}

#[test]
fn each_bad_setting_of_the_broker_is_one_problem() {
    one("broker.fast_schedule = 3", "broker.fast_schedule: must be an integer from 0 to 2, is 3");
    one("broker.wait = 30", "broker.wait: must be a duration with a unit, like \"30s\" or \"2h\"; 30 is not");
    one("broker.wait = '30'", "broker.wait: must be a duration with a unit");
    one("broker.wait = nan", "broker.wait: must be a duration with a unit");
    one("broker.wait = '367d'", "broker.wait: must be at most 366 days");
    one("broker.match_ready_time = '10ms'", "broker.match_ready_time: must be at least 1 second");
    one(
        "broker.server_max_lifetime = '99999999999999999999y'",
        "broker.server_max_lifetime: must be a duration",
    );
    assert_eq!(
        problems("[broker]\nwait = '367d'\nmatch_pickup_time = '0s'\nschedule_frequency = '1ms'").len(),
        3
    );
}

#[test]
fn each_bad_api_key_is_one_problem() {
    let key = |name: &str, hash: &str, permissions: &str| {
        format!("[[api_keys]]\nname = '{name}'\nsha256 = '{hash}'\npermissions = [{permissions}]\n")
    };
    let (one_hash, other_hash) = ("a".repeat(64), "b".repeat(64));
    one(&key("", &one_hash, "'admin'"), "api_keys[0].name: must have 1 to 64 characters");
    one(&key("né", &one_hash, "'admin'"), "api_keys[0].name: must be of printable ASCII characters; 'é'");
    one(&key("a", "hunter2", "'admin'"), "api_keys[0].sha256: must be the SHA-256 of the key");
    one(&key("a", &one_hash[1..], "'admin'"), "api_keys[0].sha256: must be the SHA-256 of the key");
    one(&key("a", &"g".repeat(64), "'admin'"), "api_keys[0].sha256: must be the SHA-256 of the key");
    one(&key("a", &one_hash, ""), "api_keys[0].permissions: must name at least one");
    one(
        &key("a", &one_hash, "'admin', 'clinet'"),
        "api_keys[0].permissions: entry 1 must be \"game_server_match\" or \"client\" or \"admin\", is \"clinet\"; did you mean \"client\"?",
    );
    let twice = key("a", &one_hash, "'admin'");
    one(
        &(twice.clone() + &key("a", &other_hash, "'admin'")),
        "api_keys[1].name: \"a\" names an earlier key too",
    );
    one(&(twice + &key("b", &one_hash, "'admin'")), "api_keys[1].sha256: is that of an earlier key");
    let of_fleets =
        |permissions, fleets| key("a", &one_hash, permissions) + &format!("fleets = [{fleets}]\n");
    let config = toml(&of_fleets("'game_server_match'", "'eu', 'us'")).unwrap();
    assert_eq!(config.api_keys[0].fleets.iter().map(ToString::to_string).collect::<Vec<_>>(), ["eu", "us"]);
    one(&of_fleets("'game_server_match'", "''"), "api_keys[0].fleets: entry 0 must not be empty");
    for others in ["'admin'", "'game_server_match', 'client'"] {
        one(
            &of_fleets(others, "'eu'"),
            "api_keys[0].fleets: needs `game_server_match` as the only permission",
        );
    }
    one("api_keys = 'x'", "api_keys: must be a list of tables, is text");
    one("api_keys = ['x']", "api_keys[0]: must be a table, is text");
    let found = problems("api_keys = [{}]");
    assert_eq!(found, ["name", "sha256", "permissions"].map(|key| format!("api_keys[0].{key}: is required")));
    one(
        &format!("api_keys = [{}]", "{},".repeat(1001)).replace(",]", "]"),
        "api_keys: has 1001 entries, at most 1000",
    );
}

#[test]
fn each_bad_netcode_key_is_one_problem_and_never_quoted() {
    one("netcode = { key_file = 'a', key_env = 'B' }", "netcode.key_env: is given together with `key_file`");
    one("netcode.key_file = 'missing'", "netcode.key_file: names a file that cannot be opened");
    one("netcode.key_env = 'MISSING'", "netcode.key_env: names the variable MISSING, which is not set");
    one("netcode.key_env = 'AAECAwQFBgc='", "netcode.key_env: must be the name of an environment variable");
    let folder = Folder::with("sortie.toml", "netcode.key_env = 'KEY'");
    for bad in
        ["", "hunter2", &GAME_KEY.1[2..], &"00".repeat(33), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="]
    {
        let text = folder.load(&[("KEY", bad)]).unwrap_err().to_string();
        assert!(text.contains("netcode.key_env: does not lead to a valid key"), "{text}");
        assert!(bad.is_empty() || !text.contains(bad), "{text}");
    }
}

#[test]
fn each_bad_setting_of_the_gateway_is_one_problem() {
    one("gateway.default_fleet = ''", "gateway.default_fleet: must not be empty");
    one(
        &format!("gateway.default_fleet = 'arean'\n{FLEET}"),
        "gateway.default_fleet: names a fleet that is not configured; did you mean \"arena\"?",
    );
    let without = "gateway.default_fleet = 'a'\n[fleets.a]\nmax = 1\nlocal_process.path = 'a'";
    one(without, "gateway.default_fleet: names a fleet without a `game`");
    one("gateway.wait_deadline = '2h'", "gateway.wait_deadline: must be from 1s to 1h, is \"2h\"");
    one(
        "gateway.progress_interval = '1ms'",
        "gateway.progress_interval: must be from 100ms to 1m, is \"1ms\"",
    );
    one("gateway.trusted_proxies = '10.0.0.0/8'", "gateway.trusted_proxies: must be a list, is text");
    one("gateway.trusted_proxies = ['10.0.0.0/33']", "gateway.trusted_proxies: entry 0 must be a network");
    one(
        "gateway.trusted_proxies = ['10.0.0.1/8']",
        "gateway.trusted_proxies: entry 0 must be a network: write \"10.0.0.0/8\"",
    );
    one(
        "gateway.cors_origins = ['https://a.example/x']",
        "gateway.cors_origins: entry 0 must be an origin without a path",
    );
    for foreign in ["*", "https://*.example.com", "https://play.example.com:*", "*://localhost"] {
        one(
            &format!("gateway.cors_origins = ['{foreign}']"),
            "gateway.cors_origins: entry 0 must be an origin like \"https://play.example.com\", \"capacitor://localhost\" or \"null\": `*` is not supported",
        );
    }
    for wrong in
        ["play.example.com", "https://", "mailto:me@example.com", "NULL", "localhost:8080", "file:///"]
    {
        one(
            &format!("gateway.cors_origins = ['{wrong}']"),
            "gateway.cors_origins: entry 0 must be an origin like",
        );
    }
    one(
        "gateway.cors_origins = ['https://me:secret@a.example']",
        "gateway.cors_origins: entry 0 must be an origin like \"https://play.example.com\", \"capacitor://localhost\" or \"null\", without user, query or fragment",
    );
    one("dev_hosts = ['box.lan:7400']", "dev_hosts: entry 0 must be a name like \"sortie.example.com\"");
    one("dev_hosts = ['http://box.lan']", "dev_hosts: entry 0 must be a name like");
    one("dev_hosts = ['*']", "dev_hosts: entry 0 must be a name like");
    one(
        "gateway.loopback_ip_replacement = '127.0.0.2'",
        "gateway.loopback_ip_replacement: must not be a loopback",
    );
    one(
        "gateway.loopback_ip_replacement = '0.0.0.0'",
        "gateway.loopback_ip_replacement: must be the IP address of one",
    );
}

#[test]
fn each_bad_setting_of_a_fleet_is_one_problem() {
    let fleet = |settings: &str| format!("{FLEET}[fleets.b]\nlocal_process.path = 'b'\n{settings}");
    one(&fleet(""), "fleets.b.max: is required");
    one(&fleet("max = 0"), "fleets.b.max: must be an integer from 1 to 10000, is 0");
    one(&fleet("max = 1.5"), "fleets.b.max: must be an integer from 1 to 10000, is 1.5");
    one(&fleet("max = '1'"), "fleets.b.max: must be an integer from 1 to 10000, is \"1\"");
    one(&fleet("max = 1\nwarm = 2"), "fleets.b.warm: is 2, more than `max`, which is 1");
    one(&fleet("max = 1\nwarm = -1"), "fleets.b.warm: must be an integer from 0");
    one(
        &fleet("max = 1\npreference = 2147483648"),
        "fleets.b.preference: must be an integer from -2147483648",
    );
    one(
        &fleet("max = 1\nallocator = 'agones'"),
        "fleets.b.allocator: must be \"local_process\", is \"agones\"",
    );
    one(
        &fleet("max = 1\nrequirements = 'MatchProperties.map =='"),
        "fleets.b.requirements: not a valid JMESPath expression: at character 22",
    );
    one(&fleet("max = 1\nready_deadline = '25h'"), "fleets.b.ready_deadline: must be from 1s to 1day");
    one(&fleet("max = 1\ngame = 'a'"), "fleets.b.version: is required with `game`");
    one(&fleet("max = 1\nversion = '1'"), "fleets.b.game: is required with `version`");
    one(
        &fleet("max = 1\nversion = '1'\ngame = 'a.b'"),
        "fleets.b.game: must be of letters, digits, space, `_` and `-`; '.'",
    );
    one(
        &fleet(&format!("max = 1\nversion = '{}'\ngame = 'a'", "1".repeat(31))),
        "fleets.b.version: must have 1 to 30",
    );
    one(&fleet("max = 1\ncapacity = 10001"), "fleets.b.capacity: must be an integer from 1 to 10000");
    one(&fleet("max = 1\nseat_ttl = '0s'"), "fleets.b.seat_ttl: must be from 1s");
    one(
        &fleet("max = 1\ndialect = 'netcode'"),
        "fleets.b.dialect: must be \"standard\" or \"renet\" or \"lightyear\"",
    );
    for bad in ["-1", "'0x'", "'0x+1'", "'+-1'", "'0x11223344556677889'", "''", "1.0"] {
        one(
            &fleet(&format!("max = 1\nprotocol_id = {bad}")),
            "fleets.b.protocol_id: must be an integer from 0 to",
        );
    }
    one(&format!("[fleets.\"{}\"]\nmax = 1\nlocal_process.path = 'x'", "x".repeat(129)), "fleets.\"xxx");
    one("[fleets.'']\nmax = 1\nlocal_process.path = 'x'", "fleets.\"\": the fleet's name must not be empty");
    one("[fleets]\na = 1", "fleets.a: must be a table, is a number");
}

#[test]
fn each_bad_setting_of_local_processes_is_one_problem() {
    let local =
        |settings: &str| format!("[fleets.b]\nmax = 3\n[fleets.b.local_process]\npath = 'b'\n{settings}");
    one("[fleets.b]\nmax = 3", "fleets.b.local_process.path: is required");
    one(
        &local("arguments = ['a', 1, 'b', true]"),
        "fleets.b.local_process.arguments: entry 1 must be text in quotes, is a number; entry 3",
    );
    one(
        &local("environment = ['A=b']"),
        "fleets.b.local_process.environment: must be a table of texts, is a list",
    );
    one(
        &local("environment = { A = 1, 'B=' = 'x' }"),
        "fleets.b.local_process.environment: \"A\" must be text in quotes, is a number; \"B=\"",
    );
    one(
        &local("working_folder = \"a\\u0000\""),
        "fleets.b.local_process.working_folder: must not hold a NUL",
    );
    one(
        &local("ports = '9000-9001'"),
        "fleets.b.local_process.ports: has 2 ports, too few for `max`, which is 3",
    );
    for bad in ["'9010-9000'", "'0-10'"] {
        one(&local(&format!("ports = {bad}")), "fleets.b.local_process.ports: must go from a lower port");
    }
    for bad in ["'9000-70000'", "'a-b'", "9000", "'-'"] {
        one(&local(&format!("ports = {bad}")), "fleets.b.local_process.ports: must be ports like");
    }
    one(
        &local("address = '0.0.0.0'"),
        "fleets.b.local_process.address: must be the IP address of one machine",
    );
    one(&local("stop_grace = '11m'"), "fleets.b.local_process.stop_grace: must be from 0s to 10m");
    one(&local("output_limit = '1KiB'"), "fleets.b.local_process.output_limit: must be from 4KiB to 1GiB");
    one(&local("max_run_time = '0s'"), "fleets.b.local_process.max_run_time: must be from 1s");
    one(&local("reaper_period = 'often'"), "fleets.b.local_process.reaper_period: must be a duration");
}

#[test]
fn an_unknown_key_is_refused_with_what_was_meant() {
    one("lisen = '127.0.0.1:1'", "lisen: unknown key; did you mean `listen`?");
    one(
        "broker.match_pickup_tme = '1s'",
        "broker.match_pickup_tme: unknown key; did you mean `match_pickup_time`?",
    );
    one(
        "match_pickup_time = '1s'",
        "match_pickup_time: unknown key; did you mean `broker.match_pickup_time`?",
    );
    one("log.xyzzy = 1", "log.xyzzy: unknown key; known here: format, level, retention, snapshot_every");
    one("[[api_key]]\nname = 'x'", "api_key: unknown key; did you mean `api_keys`?");
    one(
        &format!("{FLEET}[fleets.arena.docker]\nimage = 'x'"),
        "fleets.arena.docker: unknown key; known here: allocator,",
    );
    one("\"a b\\n\" = 1", "\"a b\\n\": unknown key");
}

#[test]
fn all_problems_come_at_once_in_the_order_of_sections() {
    let text = "listen = 1\nlisen = 2\n[log]\nformat = 'x'\n[broker]\nwait = 1\n[[api_keys]]\nname = 'a'\n\
                [gateway]\ndefault_fleet = 'none'\n[fleets.a]\nwarm = 3\n[fleets.a.local_process]\nports = 'x'\n";
    let paths: Vec<_> = toml(text).unwrap_err().list.into_iter().map(|finding| finding.path).collect();
    assert_eq!(
        paths,
        [
            "lisen",
            "listen",
            "log.format",
            "broker.wait",
            "api_keys[0].sha256",
            "api_keys[0].permissions",
            "gateway.default_fleet",
            "fleets.a.max",
            "fleets.a.local_process.path",
            "fleets.a.local_process.ports",
        ]
    );
    let shown = toml("listen = 1\ndev = 2").unwrap_err().to_string();
    assert!(shown.starts_with("2 problems in the configuration:\n  listen: "), "{shown}");
    assert!(toml("dev = 2").unwrap_err().to_string().starts_with("1 problem in the configuration:\n  dev: "));
}

#[test]
fn half_of_a_certificate_is_none() {
    for (given, missing) in
        [("certificate = 'a'", "tls.key"), ("key = 'a'", "tls.certificate"), ("ca = 'a'", "tls.ca")]
    {
        let found = toml(&format!("[tls]\n{given}")).unwrap_err();
        assert_eq!(found.list.len(), 1, "{found}");
        assert_eq!(found.list[0].path, missing, "{found}");
    }
    let both = toml("[tls]\ncertificate = 'a'\nkey = 'b'").unwrap();
    assert_eq!(both.public_url_or("0.0.0.0:7400".parse().unwrap()), "https://127.0.0.1:7400");
}

#[test]
fn the_list_of_problems_has_a_limit() {
    let many: String = (0..MAX_FINDINGS + 5).map(|number| format!("xyzzy{number} = 1\n")).collect();
    let found = toml(&many).unwrap_err();
    assert_eq!((found.list.len(), found.unlisted), (MAX_FINDINGS, 5));
    assert!(found.to_string().ends_with("\n  and 5 more"));
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let refusal = |name: &str, text: &str| {
        let found = Folder::with(name, text).load(&[("SORTIE_NONSENSE", "1")]).unwrap_err().list;
        assert_eq!(found.len(), 1, "{found:?}");
        found.first().map(Finding::to_string).unwrap()
    };
    assert!(refusal("sortie.conf", "").contains("sortie.conf: must be named .toml, .json, .yaml or .yml"));
    assert!(refusal("a.toml", "listen = ").contains("a.toml: is not valid TOML"));
    assert!(refusal("a.json", "{\"listen\": }").contains("a.json: is not valid JSON"));
    assert!(refusal("a.json", "{} x").contains("a.json: is not valid JSON"));
    assert!(refusal("a.yaml", "listen: [").contains("a.yaml: is not valid YAML"));
    assert!(refusal("a.json", "[]").contains("a.json: must hold a table"));
    let large = "#".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1);
    assert!(refusal("a.toml", &large).contains("a.toml: is larger than 1048576 bytes"));
    let missing = Config::load(Some(Path::new("/nowhere/a.toml")), std::iter::empty(), Overrides::default());
    assert!(missing.unwrap_err().to_string().contains("/nowhere/a.toml: cannot be opened"));
    let folder = Folder::with("a.toml", "");
    std::fs::write(&folder.file, b"listen = '\xff'").unwrap();
    assert!(folder.load(&[]).unwrap_err().to_string().contains("is not UTF-8 at byte 10"));
}

#[test]
fn secrets_are_quoted_nowhere() {
    let config = Folder::with("sortie.toml", FULL).load(&[GAME_KEY]).unwrap();
    let debug = format!("{config:?}");
    for secret in ["hunter2", "fcde2b2e", "2c26b46b", GAME_KEY.1, "[0, 1, 2, 3", "252, 222"] {
        assert!(!debug.contains(secret), "{secret} in {debug}");
    }
    let shown = config.show();
    for secret in ["hunter2", GAME_KEY.1] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    let text = FULL
        .replace("TOKEN = \"hunter2\"", "TOKEN = [\"hunter2\"]")
        .replace("https://sortie", "https://u:hunter2@sortie");
    let found = Folder::with("sortie.toml", &text).load(&[GAME_KEY]).unwrap_err();
    assert_eq!(found.list.len(), 2, "{found}");
    assert!(!found.to_string().contains("hunter2"), "{found}");
}

#[test]
fn players_sign_in_with_tokens_that_can_be_checked_or_not_at_all() {
    let players = |more: &str| problems(&format!("[players]\nissuer = 'i'\naudience = 'a'\n{more}"));
    let found = players("");
    assert!(
        found[0].starts_with("players: needs keys to check tokens with") && found.len() == 1,
        "{found:?}"
    );
    let found = players("jwks_file = 'a'\njwks_url = 'https://b.example'");
    assert_eq!(found, ["players.jwks_url: is given together with `jwks_file`; keep one of them"]);
    for (given, missing) in [("issuer", "audience"), ("audience", "issuer")] {
        let found = problems(&format!("players = {{ {given} = 'x', jwks_file = 'a' }}"));
        assert!(
            found[0].starts_with(&format!("players.{missing}: is required")) && found.len() == 1,
            "{found:?}"
        );
    }
    for (bad, problem) in [
        ("jwks_url = 'ftp://b.example'", "players.jwks_url: must be an http or https URL"),
        ("secret_file = 'missing'", "players.secret_file: names a file that cannot be opened"),
        ("secret_env = 'MISSING'", "players.secret_env: names the variable MISSING"),
        ("secret_env = 'not a name'", "players.secret_env: must be the name of an environment variable"),
        ("jwks_file = 'a'\nleeway = '11m'", "players.leeway: "),
        ("jwks_file = 'a'\nleeway = '1500ms'", "players.leeway: must be whole seconds"),
    ] {
        let found = players(bad);
        assert!(found[0].starts_with(problem) && found.len() == 1, "{bad}: {found:?}");
    }
    let folder =
        Folder::with("sortie.toml", "players = { issuer = 'i', audience = 'a', secret_env = 'SORTIE_OWN' }");
    let found = folder.load(&[("SORTIE_OWN", "hunter2")]).unwrap_err().to_string();
    assert!(found.contains("a secret of 7 bytes") && !found.contains("hunter2"), "{found}");
    assert!(folder.load(&[("SORTIE_OWN", GAME_KEY.1)]).is_ok());
    one("gateway.players = 'signed_in'", "gateway.players: is `signed_in`, but `[players]` does not say");
    let warned = Folder::with(
        "sortie.toml",
        "players = { issuer = 'i', audience = 'a', jwks_url = 'http://b.example' }",
    );
    let warnings = warned.load(&[]).unwrap().warnings;
    assert!(warnings.iter().any(|warning| warning.path == "players.jwks_url"), "{warnings:?}");
}

#[test]
fn dispatch_says_everything_that_is_wrong_at_once() {
    let found = problems(
        "[dispatch]\nlisten = '3000'\nsecret_file = 'missing'\nhosts = []\nallowed_ports = ['0-10', '9-8', '7000']\n\
         tls.certificate = 'a.pem'\nlimits = { drivers = 0, message = '1KiB', driver_stal = '1s', ping_period = '2h' }",
    );
    for (path, text) in [
        ("dispatch.listen", "must be an IP address and a port"),
        ("dispatch.secret_file", "names a file that cannot be opened"),
        ("dispatch.hosts", "must have an address at least"),
        ("dispatch.allowed_ports", "entry 0 must go from a lower port"),
        ("dispatch.tls.key", "is required with `certificate`"),
        ("dispatch.limits.drivers", "must be an integer from 1 to 1000000"),
        ("dispatch.limits.message", "must be from 128KiB to 64MiB"),
        ("dispatch.limits.driver_stal", "did you mean `driver_stall`?"),
        ("dispatch.limits.ping_period", "must be from 1s to 1h"),
    ] {
        let one = found.iter().find(|problem| problem.starts_with(&format!("{path}: ")));
        assert!(one.is_some_and(|problem| problem.contains(text)), "{path}: {text}\n{found:#?}");
    }
    assert_eq!(found.len(), 9, "{found:#?}");
}

#[test]
fn drivers_show_a_secret_unless_only_this_machine_can_reach_them() {
    let open = "dev = true\ndispatch = { enabled = true, listen = '0.0.0.0:3000' }";
    one(open, "dispatch.listen: is 0.0.0.0:3000, but in development mode and without a secret everybody");
    assert!(toml(&open.replace("0.0.0.0", "127.0.0.1")).is_ok());
    assert!(toml(&open.replace("dev = true", "dev = false")).is_ok(), "drivers need a dispatch token");
    assert!(toml(&open.replace("enabled = true", "enabled = false")).is_ok());
    for (given, problem) in [
        ("secret_env = 'A'\nsecret_file = 'b'", "dispatch.secret_env: is given together with `secret_file`"),
        ("secret_env = 'MISSING'", "dispatch.secret_env: names the variable MISSING, which is not set"),
        ("secret_env = 'a secret'", "dispatch.secret_env: must be the name of an environment variable"),
    ] {
        one(&format!("[dispatch]\n{given}"), problem);
    }
    let folder = Folder::with("sortie.toml", "dispatch.secret_env = 'SORTIE_DRIVERS'");
    for (secret, is_short) in [("a long and shared secret", false), ("short", true)] {
        let warnings = folder.load(&[("SORTIE_DRIVERS", secret)]).unwrap().warnings;
        let is_told = warnings.iter().any(|warning| warning.path == "dispatch.secret_env");
        assert_eq!(is_told, is_short, "{warnings:?}");
    }
    let unused =
        toml("dispatch = { enabled = true, tls = { certificate = 'a', key = 'b' } }").unwrap().warnings;
    assert!(unused.iter().any(|warning| warning.path == "dispatch.tls"), "{unused:?}");
}
