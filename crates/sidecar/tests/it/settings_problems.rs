//! Settings that are refused or odd: every message names the key and says what is valid.

use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use sortie_sidecar::settings::load;

use crate::settings::{Folder, SOURCE, variables};

/// The problems of the settings of `app`.
fn problems(text: &str, given: &[(&str, &str)]) -> String {
    let folder = Folder::with("config.json", &format!("{{\"app\": {{{text}}}}}"));
    folder.load(given).unwrap_err().to_string()
}

/// Next to an event source, `text` has exactly this problem.
fn one(text: &str, problem: &str) {
    assert_eq!(problems(&format!("{SOURCE}, {text}"), &[]), problem, "{text}");
}

/// An event source with these settings has exactly this problem.
fn source(name: &str, settings: &str, problem: &str) {
    let text = format!(r#""event_source": {{"use": "{name}", "configs": {{"{name}": {settings}}}}}"#);
    assert_eq!(problems(&text, &[]), format!("app.event_source.configs.{name}{problem}"), "{text}");
}

fn resolver(name: &str, settings: &str, problem: &str) {
    let text = format!(r#""resolver": {{"use": "{name}", "configs": {{"{name}": {settings}}}}}"#);
    one(&text, &format!("app.resolver.configs.{name}{problem}"));
}

fn backend(settings: &str, problem: &str) {
    let text =
        format!(r#""backend": {{"use": "catena_backend", "configs": {{"catena_backend": {settings}}}}}"#);
    one(&text, &format!("app.backend.configs.catena_backend{problem}"));
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = Folder::with("config.json", text).load(&[]).unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn files_that_are_none() {
    let problem = |name: &str, text: &[u8]| {
        let folder = Folder::with(name, "");
        std::fs::write(&folder.file, text).unwrap();
        let error = folder.load(&[]).unwrap_err().to_string();
        let path = format!("{}: ", folder.file.display());
        error.strip_prefix(&path).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    assert_eq!(problem("config.yaml", b"{}"), "must be named .json or .toml, after its format");
    assert_eq!(problem("config", b"{}"), "must be named .json or .toml, after its format");
    assert_eq!(problem("config.json", b"[]"), "must hold a table of settings at its top, is a list");
    assert!(problem("config.json", b"").starts_with("is not valid JSON: EOF"));
    assert!(problem("config.json", b"{\"app\": {\"a\": 1, \"a\": 2}}").contains("\"a\" is given twice"));
    assert!(problem("config.json", b"{\"app\" / 1}").contains("a slash does not begin a comment"));
    assert!(problem("config.toml", b"app = 1\noops").contains("is not valid TOML"));
    assert_eq!(problem("config.json", b"{\"\xff\"}"), "is not UTF-8 at byte 2");
    let large = [b" ".repeat(1 << 20), b"{}".to_vec()].concat();
    assert_eq!(problem("config.json", &large), "is larger than 1048576 bytes");
    let missing = load(Path::new("/nowhere/config.json"), &variables(&[])).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/config.json: cannot be opened: "), "{missing}");
}

#[test]
fn blocks_that_are_none() {
    let error = Folder::with("config.json", r#"{"app": 5}"#).load(&[]).unwrap_err().to_string();
    assert_eq!(error, "app: must be a table of settings, is a number");
    let error = Folder::with("config.json", r#"{"motd": ["a"]}"#).load(&[]).unwrap_err().to_string();
    assert_eq!(error, "motd: invalid type: sequence, expected a string");
    one(r#""logging": "debug""#, "app.logging: must be a table of settings, is text");
    one(r#""sidecar": []"#, "app.sidecar: must be a table of settings, is a list");
    one(r#""backend": true"#, "app.backend: must be a table of settings, is true or false");
    let error = problems(r#""event_source": {"use": "noop", "configs": []}"#, &[]);
    assert_eq!(error, "app.event_source.configs: invalid type: sequence, expected a map");
}

#[test]
fn an_event_source_is_needed() {
    let problem = "app.event_source: must be given: the source of game servers' calls, e.g. \
                   \"catena_api_event_source\"";
    assert_eq!(problems("", &[]), problem);
    assert_eq!(Folder::with("config.toml", "").load(&[]).unwrap_err().to_string(), problem);
    let names = "\"catena_api_event_source\" or \"agones_sdk_event_source\" or \"virtual_server_event_source\" or \
                 \"process_event_source\"";
    for text in ["{}", r#"{"configs": {}}"#, r#"{"use": []}"#] {
        let error = problems(&format!(r#""event_source": {text}"#), &[]);
        assert_eq!(error, format!("app.event_source.use: must be given: the event source to use, {names}"));
    }
    let error = problems(r#""event_source": {"use": "catena_api_event_sorce"}"#, &[]);
    let wanted = "is \"catena_api_event_sorce\"; did you mean `catena_api_event_source`?";
    assert_eq!(error, format!("app.event_source.use: must be {names}, {wanted}"));
    let error = problems(r#""event_source": {"use": "kafka"}"#, &[]);
    assert_eq!(error, format!("app.event_source.use: must be {names}, is \"kafka\""));
}

#[test]
fn what_stands_after_use() {
    let event_source = |names: &str| problems(&format!(r#""event_source": {{"use": {names}}}"#), &[]);
    assert_eq!(
        event_source("5"),
        "app.event_source.use: invalid type: integer `5`, expected a name in quotes, or a list of names"
    );
    assert_eq!(
        event_source(r#"["virtual_server_event_source", 5]"#),
        "app.event_source.use[1]: invalid type: integer `5`, expected a string"
    );
    assert_eq!(
        event_source(r#"["virtual_server_event_source", "virtual_server_event_source"]"#),
        "app.event_source.use: names virtual_server_event_source twice"
    );
    let many = format!("[{}]", vec!["\"a\""; 17].join(","));
    assert_eq!(event_source(&many), "app.event_source.use: has more than 16 names");
    one(
        r#""resolver": {"use": ["ec2_resolver", "docker_resolver"]}"#,
        "app.resolver.use: names 2, but there can be only one resolver",
    );
    one(
        r#""backend": {"use": "catena"}"#,
        "app.backend.use: must be \"catena_backend\" or \"noop_backend\", is \"catena\"",
    );
}

#[test]
fn some_parts_require_settings() {
    for name in ["catena_api_event_source", "process_event_source"] {
        let error = problems(&format!(r#""event_source": {{"use": "{name}"}}"#), &[]);
        let path = format!("app.event_source.configs.{name}");
        assert_eq!(error, format!("{path}: is missing: {name} is in use and requires settings"));
    }
    one(
        r#""resolver": {"use": "static_resolver", "configs": {}}"#,
        "app.resolver.configs.static_resolver: is missing: static_resolver is in use and requires settings",
    );
    one(
        r#""backend": {"use": "catena_backend"}"#,
        "app.backend.configs.catena_backend.url: must be given, like \"https://sortie.example.com\", here or in the \
         environment variable SORTIE_API",
    );
}

#[test]
fn addresses_to_listen_on() {
    let name = "catena_api_event_source";
    let either = ": GrpcListenAddr or HttpListenAddr must be given, like \"localhost:8085\"; or both";
    source(name, "{}", either);
    source(name, "null", ": is missing: catena_api_event_source is in use and requires settings");
    source(
        name,
        r#"{"GrpcListenAddr": "localhost"}"#,
        ".GrpcListenAddr: \"localhost\" has no port: write host:port, like \"localhost:8080\", or \":8080\" for every \
         address of this machine",
    );
    source(
        name,
        r#"{"httpListenAddr": ":http"}"#,
        ".HttpListenAddr: \"http\" is not a port: a port is a number from 0 to 65535, 0 for a free one",
    );
    source(
        name,
        r#"{"HttpListenAddr": 8085}"#,
        ".HttpListenAddr: invalid type: integer `8085`, expected a string",
    );
    source(
        name,
        r#"{"HttpListenAddr": ":1", "http_listen_addr": ":2"}"#,
        ": duplicate field `HttpListenAddr`",
    );
    one(
        r#""sidecar": {"DebugPanelAddr": "8081"}"#,
        "app.sidecar.DebugPanelAddr: \"8081\" has no port: write host:port, like \"localhost:8080\", or \":8080\" for \
         every address of this machine",
    );
    let variable = problems(
        r#""event_source": {"use": "agones_sdk_event_source"}"#,
        &[("AGONES_SDK_GRPC_PORT", "many")],
    );
    assert_eq!(
        variable,
        "app.event_source.configs.agones_sdk_event_source.GrpcListenAddr: not given, and the environment variable \
         AGONES_SDK_GRPC_PORT is invalid: \"many\" is not a port: a port is a number from 0 to 65535, 0 for a free one"
    );
}

#[test]
fn what_agones_cannot_be_told() {
    let agones = |settings: &str, problem: &str| source("agones_sdk_event_source", settings, problem);
    agones(r#"{"Health": {"Period": "0s"}}"#, ".Health.Period: must be longer than 0s");
    agones(r#"{"Health": {"FailureThreshold": 0}}"#, ".Health.FailureThreshold: must be at least 1");
    agones(
        r#"{"Counters": {"rooms": {"Count": 3, "Capacity": 2}}}"#,
        ".Counters.rooms.Count: must be from 0 to its Capacity of 2, is 3",
    );
    agones(
        r#"{"Lists": {"players": {"Values": ["a", "b"], "Capacity": 1}}}"#,
        ".Lists.players.Values: holds 2, more than its Capacity of 1",
    );
    agones(
        r#"{"Counters": {"rooms": {"Count": -1}}}"#,
        ".Counters.rooms.Count: must be from 0 to its Capacity of 1000, is -1",
    );
    agones(r#"{"Ports": [{"Name": "game"}]}"#, ".Ports[0]: missing field `Port`");
    let many: Vec<_> = (0..65).map(|number| format!(r#""c{number}": {{}}"#)).collect();
    agones(
        &format!(r#"{{"Counters": {{{}}}}}"#, many.join(",")),
        ".Counters: has 65 entries, at most 64 are allowed",
    );
}

#[test]
fn durations() {
    let right = "a duration with a unit, like \"5s\", \"1m30s\" or \"250ms\"";
    let sidecar = |settings: &str, problem: &str| {
        one(&format!(r#""sidecar": {{{settings}}}"#), &format!("app.sidecar.{problem}"));
    };
    sidecar(
        r#""Shutdown": {"Deadline": 10}"#,
        &format!("Shutdown.Deadline: invalid type: integer `10`, expected {right}"),
    );
    sidecar(
        r#""Shutdown": {"Deadline": "10"}"#,
        &format!(
            "Shutdown.Deadline: must be {right}; \"10\" is not: time unit needed, for example 10sec or 10ms"
        ),
    );
    sidecar(r#""Shutdown": {"Deadline": "0s"}"#, "Shutdown.Deadline: must be longer than 0s");
    sidecar(r#""Shutdown": {"Deadline": "11m"}"#, "Shutdown.Deadline: must be at most 10m");
    sidecar(r#""ServerHealth": {"SilentAfter": "0ms"}"#, "ServerHealth.SilentAfter: must be longer than 0s");
    sidecar(r#""ServerHealth": {"SilentAfter": "8d"}"#, "ServerHealth.SilentAfter: must be at most 7days");
    sidecar(
        r#""ServerHealth": {"SilentAfter": true}"#,
        &format!("ServerHealth.SilentAfter: invalid type: boolean `true`, expected {right}"),
    );
}

#[test]
fn other_values_of_the_sidecar() {
    one(
        r#""sidecar": {"Shutdown": {"Matches": "kep"}}"#,
        "app.sidecar.Shutdown.Matches: must be \"end\" or \"keep\", is \"kep\"; did you mean `keep`?",
    );
    one(
        r#""sidecar": {"MatchManagementStrategy": {"AutoPopulateIDs": "yes"}}"#,
        "app.sidecar.MatchManagementStrategy.AutoPopulateIDs: invalid type: string \"yes\", expected a boolean",
    );
    one(r#""sidecar": {"DataFolder": ""}"#, "app.sidecar.DataFolder: must not be empty");
    one(
        r#""logging": {"encoder": "xml"}"#,
        "app.logging.encoder: must be \"console\" or \"json\", is \"xml\"",
    );
    one(r#""logging": {"encoder": 1}"#, "app.logging.encoder: must be \"console\" or \"json\", is a number");
    let error = problems(&format!(r#"{SOURCE}, "logging": {{"level": "verbose"}}"#), &[]);
    assert!(error.starts_with("app.logging.level: must be \"trace\" or \"debug\" or \"info\" or"), "{error}");
}

#[test]
fn urls() {
    let right = "must be a URL like \"https://sortie.example.com\" or \"grpc://10.0.0.5:7400\"";
    let url =
        |text: &str, why: &str| backend(&format!(r#"{{"url": "{text}"}}"#), &format!(".url: {right}{why}"));
    url("", ": relative URL without a base");
    url("sortie.example.com", ": relative URL without a base");
    url("ftp://x", ", with http, https, grpc or grpcs; is \"ftp://x\"");
    url("grpc://", ", with a host and without query and fragment; is \"grpc://\"");
    url("https://x/?a=b", ", with a host and without query and fragment; is \"https://x/?a=b\"");
    url("https://me:s3cret@x", ", without user and password: give a key as ApiKeyFile or ApiKeyEnv");
    let error = problems(SOURCE, &[("SORTIE_API", "here")]);
    assert_eq!(error, format!("SORTIE_API: {right}: relative URL without a base"));
}

#[test]
fn api_keys() {
    let url = r#""url": "https://x""#;
    let key = |settings: &str, problem: &str| backend(&format!("{{{url}, {settings}}}"), problem);
    key(r#""ApiKey": """#, ".ApiKey: is empty: it must contain an API key");
    key(r#""ApiKey": 12345"#, ".ApiKey: must be text in quotes, is a number");
    key(
        r#""ApiKey": "s3 cret""#,
        ".ApiKey: contains invalid characters: an API key is visible ASCII without spaces",
    );
    key(
        &format!(r#""ApiKey": "{}""#, "x".repeat(4097)),
        ".ApiKey: has more than 4096 bytes, too many for an API key",
    );
    key(r#""ApiKeyEnv": "KEY""#, ".ApiKeyEnv: the environment variable KEY is not set");
    key(
        r#""ApiKey": "a", "ApiKeyEnv": "KEY""#,
        ".ApiKey: give one of ApiKey, ApiKeyFile and ApiKeyEnv, not several",
    );
    let text = format!(r#"{SOURCE}, "sidecar": {{"ApiKeyEnv": "KEY"}}"#);
    let wrong = problems(&text, &[("KEY", "s3cret\u{e4}")]);
    assert_eq!(
        wrong,
        "app.sidecar.ApiKeyEnv: KEY contains invalid characters: an API key is visible ASCII without spaces"
    );
    let wrong = problems(&text, &[("KEY", "\n")]);
    assert_eq!(wrong, "app.sidecar.ApiKeyEnv: KEY is empty: it must contain an API key");
    let wrong = problems(SOURCE, &[("SORTIE_API", "http://x"), ("SORTIE_API_KEY", "a b")]);
    assert!(wrong.starts_with("SORTIE_API_KEY: contains invalid characters"), "{wrong}");
}

#[test]
fn files_with_api_keys() {
    let text = format!(r#"{{"app": {{{SOURCE}, "sidecar": {{"ApiKeyFile": "key"}}}}}}"#);
    let folder = Folder::with("config.json", &text);
    let file = folder.dir.path().join("key");
    let problem = || {
        let error = folder.load(&[]).unwrap_err().to_string();
        let path = format!("app.sidecar.ApiKeyFile: {} ", file.display());
        error.strip_prefix(&path).unwrap_or_else(|| panic!("{error}")).to_owned()
    };
    assert!(problem().starts_with("cannot be opened: "));
    std::fs::write(&file, "\n").unwrap();
    assert_eq!(problem(), "is empty: it must contain an API key");
    std::fs::write(&file, "one\ntwo").unwrap();
    assert!(problem().starts_with("contains invalid characters"));
    std::fs::write(&file, b"\xff").unwrap();
    assert_eq!(problem(), "is not UTF-8 at byte 0");
}

#[test]
fn options_of_resolvers() {
    let right = "must be the address where players reach this machine, like \"203.0.113.7\", \
                 \"play.example.com:7777\" or \"[2001:db8::7]:7777\"";
    resolver("static_resolver", "{}", ": missing field `Address`");
    resolver(
        "static_resolver",
        r#"{"Address": "http://x"}"#,
        &format!(".Address: {right}; \"http://x\" has no port from 1 to 65535 after its colon"),
    );
    let range = "Min must be a port from 1 to 65535, and Max must not be less";
    for ports in [r#"{"Min": 0, "Max": 1}"#, r#"{"Min": 2, "Max": 1}"#] {
        let settings = format!(r#"{{"AvailablePorts": [{{"Min": 1, "Max": 1}}, {ports}]}}"#);
        resolver("ec2_resolver", &settings, &format!(".AvailablePorts[1]: {range}"));
    }
    resolver(
        "ec2_resolver",
        r#"{"AvailablePorts": [{"Min": 1, "Max": 65536}]}"#,
        ".AvailablePorts[0].Max: invalid value: integer `65536`, expected u16",
    );
    resolver(
        "interface_resolver",
        r#"{"Family": "ipv5"}"#,
        ".Family: must be \"ipv4\" or \"ipv6\", is \"ipv5\"; did you mean `ipv4`?",
    );
    resolver("docker_resolver", r#"{"Port": -1}"#, ".Port: invalid value: integer `-1`, expected u16");
}

#[test]
fn inherited_variables_must_be_valid_names() {
    for (names, problem) in [
        (r#"["A", ""]"#, "must be names of variables: not empty, and without `=`"),
        (r#"["A=s3cret"]"#, "must be names of variables: not empty, and without `=`"),
        (
            r#"["SORTIE_API_KEY"]"#,
            "names a variable that begins with SORTIE_, which configures the sidecar: pass what programs need under \
             another name",
        ),
    ] {
        one(
            &format!(r#""sidecar": {{"PassEnvironment": {names}}}"#),
            &format!("app.sidecar.PassEnvironment: {problem}"),
        );
    }
    let many = serde_json::json!(vec!["A"; 1001]);
    one(
        &format!(r#""sidecar": {{"PassEnvironment": {many}}}"#),
        "app.sidecar.PassEnvironment: has more than 1000 entries",
    );
}

#[test]
fn problems_of_several_blocks_are_reported_together() {
    let error =
        problems(r#""logging": {"encoder": "xml"}, "backend": {}, "sidecar": {"DataFolder": ""}"#, &[]);
    let paths: Vec<_> = error.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        ["app.logging.encoder", "app.event_source", "app.backend.use", "app.sidecar.DataFolder"]
    );
}

#[test]
fn unknown_keys_are_warnings() {
    let text = format!(
        r#"{{"mtod": "x", "app": {{{SOURCE}, "event_sauce": 1, "logging": {{"levle": 1}},
           "sidecar": {{"DebugPanelAdress": ":1", "Shutdown": {{"Soon": true}}}},
           "backend": {{"use": "noop_backend", "configs": {{"noop_backend": {{}}, "catena_backnd": {{}}}}}}}}}}"#
    );
    assert_eq!(
        warnings(&text),
        [
            "mtod: unknown key, ignored; did you mean `motd`?",
            "app.event_sauce: unknown key, ignored; did you mean `event_source`?",
            "app.logging.levle: unknown key, ignored; did you mean `level`?",
            "app.backend.configs.catena_backnd: there is no such backend, ignored; did you mean `catena_backend`?",
            "app.sidecar.DebugPanelAdress: unknown key, ignored; did you mean `DebugPanelAddr`?",
            "app.sidecar.Shutdown.Soon: unknown key, ignored",
        ]
    );
}

#[test]
fn replacing_details_without_a_resolver_is_a_warning() {
    let text = format!(
        r#"{{"app": {{{SOURCE}, "sidecar": {{"MatchManagementStrategy": {{"OverrideConnectionDetails": true}}}}}}}}"#
    );
    assert_eq!(
        warnings(&text),
        [
            "app.sidecar.MatchManagementStrategy.OverrideConnectionDetails: has no effect: there is no app.resolver, so \
          game servers' own details are sent"
        ]
    );
}

#[test]
fn a_flood_of_unknown_keys_is_cut() {
    let keys: Vec<_> = (0..5000).map(|number| format!(r#""{}{number}": 0"#, "k".repeat(90))).collect();
    let found = warnings(&format!(r#"{{"app": {{{SOURCE}, {}}}}}"#, keys.join(",")));
    assert_eq!(found.len(), 100);
    assert!(found.iter().all(|one| one.len() < 200), "{}", found[0]);
}

#[test]
fn unused_settings_are_not_checked() {
    let text = format!(
        r#"{{"app": {{{SOURCE}, "resolver": {{"use": "interface_resolver", "configs": {{"static_resolver": 5}}}}}}}}"#
    );
    assert_eq!(warnings(&text), Vec::<String>::new());
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,12}|[0-9]{1,22}(ns|s|m|h|y)|:[0-9]{1,6}".prop_map(Value::from),
    ];
    let key = "use|configs|Min|Max|Address|url|ApiKey|GrpcListenAddr|Health|Period|Counters|Shutdown|Deadline|[a-z]{1,3}";
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(key, inner, 0..4).prop_map(|table| table.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_is_settings_or_a_problem_of_a_key(
        block in prop_oneof![
            Just(("logging", "")), Just(("sidecar", "")), Just(("backend", "catena_backend")),
            Just(("backend", "noop_backend")), Just(("resolver", "ec2_resolver")),
            Just(("resolver", "static_resolver")), Just(("resolver", "interface_resolver")),
            Just(("event_source", "catena_api_event_source")), Just(("event_source", "agones_sdk_event_source")),
            Just(("event_source", "")),
        ],
        value in value(),
    ) {
        let (key, name) = block;
        let value = match name {
            "" => value,
            name => json!({"use": name, "configs": {name: value}}),
        };
        let mut app = json!({"event_source": {"use": "virtual_server_event_source"}});
        app[key] = value;
        let folder = Folder::with("config.json", &json!({"app": app}).to_string());
        match folder.load(&[]) {
            Ok(loaded) => prop_assert!(loaded.settings.shown().is_object()),
            Err(error) => {
                let begin = format!("app.{key}");
                prop_assert!(error.problems.iter().all(|one| one.path.starts_with(&begin)), "{error}");
                prop_assert!(!error.problems.is_empty() && error.to_string().len() < 4000, "{error}");
            }
        }
    }

    #[test]
    fn any_text_is_settings_or_a_problem(text in "\\PC*", name in "config\\.(json|toml)") {
        let error = Folder::with(&name, &text).load(&[]).unwrap_err();
        prop_assert!(!error.problems.is_empty());
    }
}
