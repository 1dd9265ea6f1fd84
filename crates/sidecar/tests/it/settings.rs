//! Valid settings files, and their meaning.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sortie_sidecar::Sidecar;
use sortie_sidecar::resolver::ResolverSettings;
use sortie_sidecar::settings::{
    AgonesSettings, AtShutdown, BackendSettings, CatenaApiSettings, CatenaBackendSettings, Encoder,
    EventSourceSettings, Level, Loaded, Settings, SettingsError, Variables, load,
};
use tempfile::TempDir;

/// A folder with a settings file, removed when dropped.
pub(crate) struct Folder {
    pub(crate) dir: TempDir,
    pub(crate) file: PathBuf,
}

impl Folder {
    pub(crate) fn with(name: &str, text: &str) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        Self { dir, file }
    }

    pub(crate) fn load(&self, given: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
        load(&self.file, &variables(given))
    }
}

pub(crate) fn variables(given: &[(&str, &str)]) -> Variables {
    given.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// The settings of `app` as JSON, which must cause no warnings.
pub(crate) fn app(text: &str, given: &[(&str, &str)]) -> Settings {
    let loaded = Folder::with("config.json", &format!("{{\"app\": {{{text}}}}}")).load(given).unwrap();
    assert_eq!(loaded.warnings, [], "{text}");
    loaded.settings
}

/// An event source, for tests of other settings.
pub(crate) const SOURCE: &str = r#""event_source": {"use": "virtual_server_event_source"}"#;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn catena_api(settings: &Settings) -> &CatenaApiSettings {
    match settings.event_sources.as_slice() {
        [EventSourceSettings::CatenaApi(settings)] => settings,
        other => panic!("{other:?}"),
    }
}

fn agones(text: &str, given: &[(&str, &str)]) -> AgonesSettings {
    let text = format!(
        r#""event_source": {{"use": "agones_sdk_event_source", "configs": {{"agones_sdk_event_source": {text}}}}}"#
    );
    match app(&text, given).event_sources.as_slice() {
        [EventSourceSettings::AgonesSdk(settings)] => (**settings).clone(),
        other => panic!("{other:?}"),
    }
}

fn catena_backend(settings: &Settings) -> &CatenaBackendSettings {
    match &settings.backend {
        BackendSettings::Catena(settings) => settings,
        BackendSettings::Noop(other) => panic!("{other:?}"),
    }
}

#[test]
fn the_file_of_the_documentation_works_as_it_is() {
    let Loaded { settings, warnings } =
        load(&data("seed.json"), &variables(&[("HOME", "/home/me")])).unwrap();
    assert_eq!(warnings, []);
    let source = catena_api(&settings);
    assert_eq!(source.grpc_listen_addr.as_ref().unwrap().to_string(), ":8080");
    assert_eq!(source.http_listen_addr.as_ref().unwrap().to_string(), ":8085");
    assert_eq!((settings.resolver, settings.backend.name()), (None, "noop_backend"));
    let sidecar = &settings.sidecar;
    assert!(!sidecar.override_connection_details && sidecar.auto_populate_ids);
    assert_eq!((sidecar.debug_panel_addr.clone(), sidecar.silent_after), (None, None));
    assert_eq!(sidecar.data_folder, Path::new("/home/me/.local/state/sortie-sidecar"));
    assert_eq!(sidecar.at_shutdown, AtShutdown::End);
    assert_eq!(sidecar.shutdown_deadline, Duration::from_secs(10));
    assert_eq!((settings.logging.level, settings.logging.encoder), (Level::Info, Encoder::Console));
}

/// Checks the copy against the documentation, if that is available.
#[test]
fn the_copy_of_the_documentation_is_exact() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let Ok(text) = std::fs::read_to_string(shared.join("seeds/catena-sidecar-event-source.md")) else {
        return;
    };
    let copy = std::fs::read_to_string(data("seed.json")).unwrap();
    assert!(text.contains(&format!("```json lines\n{copy}```")), "{copy}");
}

#[test]
fn every_key_of_the_catena_sidecar_arrives() {
    let Loaded { settings, warnings } = load(&data("full.jsonc"), &Variables::new()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(settings.motd.as_deref(), Some("Hello"));
    assert_eq!((settings.logging.level, settings.logging.encoder), (Level::Debug, Encoder::Console));
    assert_eq!(catena_api(&settings).grpc_listen_addr.as_ref().unwrap().to_string(), "0.0.0.0:8080");
    assert_eq!(catena_backend(&settings).url, "https://sortie.example.com");
    let Some(ResolverSettings::Ec2(ec2)) = &settings.resolver else { panic!("{:?}", settings.resolver) };
    assert_eq!((ec2.metadata_base_url.as_str(), ec2.available_ports.len()), ("http://169.254.169.254", 1));
    assert_eq!(settings.sidecar.debug_panel_addr.as_ref().unwrap().to_string(), "localhost:8081");
    assert!(settings.sidecar.override_connection_details && settings.sidecar.auto_populate_ids);
}

#[test]
fn toml_means_the_same() {
    let home = variables(&[("HOME", "/home/me")]);
    let json = load(&data("full.jsonc"), &home).unwrap();
    assert_eq!(load(&data("full.toml"), &home).unwrap(), json);
}

#[test]
fn keys_and_names_are_found_in_any_case() {
    let pascal = app(
        r#""event_source": {"use": ["catena_api_event_source"], "configs": {"catena_api_event_source":
           {"GrpcListenAddr": ":1"}}}, "logging": {"level": "warn"}, "sidecar": {"ServerHealth": {"SilentAfter": "1m"},
           "MatchManagementStrategy": {"AutoPopulateIDs": false}}"#,
        &[],
    );
    let snake = app(
        r#""EventSource": {"Use": "CatenaApiEventSource", "Configs": {"CatenaAPIEventSource":
           {"grpc_listen_addr": ":1", "httpListenAddr": null}}}, "LOGGING": {"Level": "WARNING"},
           "sidecar": {"server_health": {"silentAfter": "60s"},
           "match_management_strategy": {"auto_populate_ids": false}}"#,
        &[],
    );
    assert_eq!(snake, pascal);
    assert_eq!((pascal.logging.level.name(), pascal.sidecar.auto_populate_ids), ("warn", false));
}

#[test]
fn the_levels_of_the_catena_sidecar_are_known() {
    for (level, name) in [("trace", "trace"), ("dpanic", "error"), ("panic", "error"), ("fatal", "error")] {
        let settings =
            app(&format!(r#"{SOURCE}, "logging": {{"level": "{level}", "encoder": "JSON"}}"#), &[]);
        assert_eq!((settings.logging.level.name(), settings.logging.encoder), (name, Encoder::Json));
    }
}

#[test]
fn several_event_sources_run_at_once() {
    let settings = app(
        r#""event_source": {"use": ["process_event_source", "agones_sdk_event_source", "virtual_server_event_source"],
           "configs": {"process_event_source": {"Command": "game"}}}"#,
        &[],
    );
    let names: Vec<_> = settings.event_sources.iter().map(EventSourceSettings::name).collect();
    assert_eq!(names, ["process_event_source", "agones_sdk_event_source", "virtual_server_event_source"]);
}

#[test]
fn a_block_is_read_where_it_is_used() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Program {
        command: String,
        #[serde(with = "sortie_sidecar::settings::duration")]
        ready_deadline: Duration,
    }
    let text = |deadline: &str| {
        format!(
            r#""event_source": {{"use": "process_event_source", "configs": {{"process_event_source":
               {{"command": "game", "ReadyDeadline": {deadline}, "Comand": 1}}}}}}"#
        )
    };
    let read = |deadline| {
        let mut warnings = Vec::new();
        let settings = app(&text(deadline), &[]);
        let [EventSourceSettings::Process(block)] = settings.event_sources.as_slice() else { panic!() };
        (block.read::<Program>(&mut warnings), warnings)
    };
    let (program, warnings) = read("\"1m30s\"");
    let program = program.unwrap();
    assert_eq!((program.command.as_str(), program.ready_deadline), ("game", Duration::from_secs(90)));
    let warnings: Vec<_> = warnings.iter().map(ToString::to_string).collect();
    let path = "app.event_source.configs.process_event_source";
    assert_eq!(
        warnings,
        [format!("{path}.Comand: unknown key, ignored; did you mean `command`?")
            .replace("`command`", "`Command`")]
    );
    let error = read("90").0.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{path}.ReadyDeadline: invalid type: integer `90`, expected a duration with a unit, like \"5s\", \"1m30s\" \
             or \"250ms\""
        )
    );
}

#[test]
fn agones_has_its_own_defaults() {
    let settings = agones("null", &[]);
    assert_eq!(settings.grpc_listen_addr.to_string(), "localhost:9357");
    assert_eq!(settings.http_listen_addr.to_string(), "localhost:9358");
    let health = &settings.health;
    let (period, delay) = (Duration::from_secs(5), Duration::from_secs(5));
    assert_eq!((health.disabled, health.period, health.initial_delay), (false, period, delay));
    assert_eq!((health.failure_threshold, settings.ready_label), (3, false));
    assert_eq!((settings.namespace.as_str(), settings.name), ("default", None));
}

#[test]
fn agones_ports_come_from_where_its_sdk_finds_them() {
    let given = [("AGONES_SDK_GRPC_PORT", "10001"), ("AGONES_SDK_HTTP_PORT", "10002")];
    let settings = agones("{}", &given);
    assert_eq!(settings.grpc_listen_addr.to_string(), "localhost:10001");
    assert_eq!(settings.http_listen_addr.to_string(), "localhost:10002");
    let settings = agones(r#"{"GrpcListenAddr": "127.0.0.1:1", "HttpListenAddr": ":2"}"#, &given);
    assert_eq!(settings.grpc_listen_addr.to_string(), "127.0.0.1:1");
    assert_eq!(settings.http_listen_addr.to_string(), ":2");
}

#[test]
fn every_key_of_agones_arrives() {
    let settings = agones(
        r#"{"Requirements": "a == 'b'", "ReadyLabel": true, "Namespace": "games", "Name": "one",
            "Health": {"Disabled": true, "Period": "1s", "FailureThreshold": 7, "InitialDelay": "0s"},
            "Ports": [{"Name": "game", "Port": 7777}], "Address": "10.0.0.9", "PlayerCapacity": 16,
            "Counters": {"rooms": {"Count": 1, "Capacity": 10}, "kills": {}},
            "Lists": {"players": {"Values": ["a"], "Capacity": 2}}}"#,
        &[],
    );
    assert_eq!((settings.requirements.as_str(), settings.ready_label), ("a == 'b'", true));
    assert_eq!((settings.namespace.as_str(), settings.name.as_deref()), ("games", Some("one")));
    assert_eq!((settings.health.disabled, settings.health.failure_threshold), (true, 7));
    assert_eq!(
        (settings.health.period, settings.health.initial_delay),
        (Duration::from_secs(1), Duration::ZERO)
    );
    assert_eq!((settings.ports[0].name.as_str(), settings.ports[0].port), ("game", 7777));
    assert_eq!((settings.address.as_str(), settings.player_capacity), ("10.0.0.9", 16));
    assert_eq!((settings.counters["rooms"].count, settings.counters["rooms"].capacity), (1, 10));
    assert_eq!((settings.counters["kills"].count, settings.counters["kills"].capacity), (0, 1000));
    assert_eq!((settings.lists["players"].values.len(), settings.lists["players"].capacity), (1, 2));
}

#[test]
fn without_a_backend_the_environment_says_which() {
    assert_eq!(app(SOURCE, &[("SORTIE_API", " ")]).backend.name(), "noop_backend");
    let given = [
        ("SORTIE_API", "http://127.0.0.1:7400"),
        ("SORTIE_API_KEY", "s3cret\n"),
        ("SORTIE_CA", "/etc/ca.pem"),
    ];
    let settings = app(SOURCE, &given);
    let backend = catena_backend(&settings);
    assert_eq!(backend.url, "http://127.0.0.1:7400");
    assert_eq!(backend.api_key.as_ref().unwrap().text(), "s3cret");
    assert_eq!(backend.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    let named = app(&format!(r#"{SOURCE}, "backend": {{"use": "catena_backend"}}"#), &given);
    assert_eq!(named.backend, settings.backend);
}

#[test]
fn the_key_of_the_environment_goes_to_the_url_of_the_environment_only() {
    let text = format!(
        r#"{SOURCE}, "backend": {{"use": "catena_backend", "configs": {{"catena_backend": {{"url": "grpc://there:1"}}}}}}"#
    );
    let settings = app(&text, &[("SORTIE_API", "http://here:1"), ("SORTIE_API_KEY", "s3cret")]);
    let backend = catena_backend(&settings);
    assert_eq!((backend.url.as_str(), backend.api_key.as_ref()), ("grpc://there:1", None));
}

#[test]
fn keys_come_from_three_places_and_paths_start_at_the_file() {
    let text = |key: &str| {
        format!(
            r#"{{"app": {{{SOURCE}, "backend": {{"use": "catena_backend", "configs": {{"catena_backend":
               {{"url": "https://sortie.example.com", {key}, "CaFile": "ca.pem"}}}}}},
               "sidecar": {{{key}, "DataFolder": "state"}}}}}}"#
        )
    };
    for key in [r#""ApiKey": "s3cret""#, r#""ApiKeyFile": "key.txt""#, r#""api_key_env": "KEY""#] {
        let folder = Folder::with("config.json", &text(key));
        std::fs::write(folder.dir.path().join("key.txt"), "s3cret\n").unwrap();
        let settings = folder.load(&[("KEY", "s3cret")]).unwrap().settings;
        let backend = catena_backend(&settings);
        assert_eq!(backend.api_key.as_ref().unwrap().text(), "s3cret", "{key}");
        assert_eq!(settings.sidecar.api_key, backend.api_key, "{key}");
        assert_eq!(backend.ca_file, Some(folder.dir.path().join("ca.pem")));
        assert_eq!(settings.sidecar.data_folder, folder.dir.path().join("state"));
        let shown = format!("{settings:?} {}", settings.shown());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[test]
fn a_noop_backend_has_its_matches_beside_the_file() {
    let folder = Folder::with(
        "config.json",
        &format!(
            r#"{{"app": {{{SOURCE}, "backend": {{"use": "noop_backend", "configs": {{"noop_backend":
               {{"Matches": "matches.json", "Repeat": true}}}}}}}}}}"#
        ),
    );
    let settings = folder.load(&[]).unwrap().settings;
    let BackendSettings::Noop(noop) = &settings.backend else { panic!() };
    assert_eq!((noop.matches.clone(), noop.repeat), (Some(folder.dir.path().join("matches.json")), true));
}

#[test]
fn the_data_folder_follows_the_conventions() {
    let folder = |given: &[(&str, &str)]| app(SOURCE, given).sidecar.data_folder;
    let home = ("HOME", "/home/me");
    assert_eq!(folder(&[]), Path::new("./sortie-sidecar"));
    assert_eq!(folder(&[home]), Path::new("/home/me/.local/state/sortie-sidecar"));
    assert_eq!(folder(&[home, ("XDG_STATE_HOME", "/state")]), Path::new("/state/sortie-sidecar"));
    assert_eq!(
        folder(&[home, ("XDG_STATE_HOME", "state")]),
        Path::new("/home/me/.local/state/sortie-sidecar")
    );
    assert_eq!(folder(&[home, ("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")]), Path::new("/var/lib/one"));
}

#[test]
fn a_server_started_by_a_control_plane_is_configured_by_its_environment() {
    let given = [
        ("HOME", "/home/me"),
        ("SORTIE_SERVER_ID", "server-1"),
        ("SORTIE_API", "http://127.0.0.1:7400"),
        ("SORTIE_PORT", "7801"),
    ];
    let address = |settings: &Settings| match &settings.resolver {
        Some(ResolverSettings::Static(options)) => options.address.to_string(),
        other => panic!("{other:?}"),
    };
    let settings = app(SOURCE, &given);
    assert_eq!(settings.server_id.as_deref(), Some("server-1"));
    assert_eq!(settings.sidecar.data_folder, Path::new("/home/me/.local/state/sortie-sidecar/server-1"));
    assert!(settings.sidecar.is_folder_temporary);
    assert_eq!(address(&settings), "127.0.0.1:7801");
    assert!(!settings.sidecar.override_connection_details, "the game server may know better");

    let public = [&given[..], &[("SORTIE_PUBLIC_ADDRESS", "203.0.113.7:7801")]].concat();
    let settings = app(SOURCE, &public);
    assert_eq!(address(&settings), "203.0.113.7:7801");
    assert!(settings.sidecar.override_connection_details);

    let wrong = [&given[..], &[("SORTIE_PUBLIC_ADDRESS", "nowhere:0")]].concat();
    let folder = Folder::with("config.json", &format!(r#"{{"app": {{{SOURCE}}}}}"#));
    let error = folder.load(&wrong).unwrap_err().to_string();
    assert!(error.starts_with("SORTIE_PUBLIC_ADDRESS: "), "{error}");
    let odd = [("SORTIE_SERVER_ID", "../1")];
    let error = folder.load(&odd).unwrap_err().to_string();
    assert!(error.starts_with("app.sidecar.DataFolder: "), "{error}");
}

#[test]
fn settings_of_the_sidecar_itself_are_read() {
    let text = format!(
        r#"{SOURCE}, "resolver": {{"use": "interface_resolver"}}, "sidecar": {{"ServerHealth": {{"SilentAfter": "90s"}},
           "Shutdown": {{"Matches": "Keep", "Deadline": "1m"}}}}"#
    );
    let sidecar = app(&text, &[]).sidecar;
    assert!(sidecar.override_connection_details, "there is a resolver");
    assert_eq!(
        (sidecar.silent_after, sidecar.at_shutdown),
        (Some(Duration::from_secs(90)), AtShutdown::Keep)
    );
    assert_eq!(sidecar.shutdown_deadline, Duration::from_secs(60));
}

#[test]
fn the_shown_settings_are_an_equivalent_file() {
    let given = variables(&[("HOME", "/home/me")]);
    let settings = load(&data("full.jsonc"), &given).unwrap().settings;
    let folder = Folder::with("config.json", &settings.shown().to_string());
    assert_eq!(load(&folder.file, &given).unwrap(), Loaded { settings, warnings: Vec::new() });
}

#[test]
fn what_is_shown_holds_no_secret() {
    let settings = app(
        r#""event_source": {"use": ["process_event_source", "agones_sdk_event_source"], "configs": {
           "process_event_source": {"Command": "game", "Env": {"A": "s3cret"}, "environment": ["B=s3cret"],
           "SteamApiKey": "s3cret", "Inner": [{"rcon_password": "s3cret"}]}}},
           "sidecar": {"ApiKey": "s3cret"}"#,
        &[("SORTIE_API", "http://here"), ("SORTIE_API_KEY", "s3cret")],
    );
    let shown = settings.shown();
    assert!(!shown.to_string().contains("s3cret"), "{shown}");
    let process = &shown["app"]["event_source"]["configs"]["process_event_source"];
    assert_eq!((process["Command"].as_str(), process["Env"]["A"].as_str()), (Some("game"), Some("(hidden)")));
    assert_eq!(shown["app"]["backend"]["configs"]["catena_backend"]["ApiKey"], "(hidden)");
    assert!(!format!("{settings:?}").contains("s3cret"));
}

/// Every key below `value`.
fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(table) => {
            found.extend(table.keys().cloned());
            table.values().for_each(|value| keys(value, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_in_the_guide() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sidecar.md");
    let guide = std::fs::read_to_string(path).unwrap();
    let mut found = Vec::new();
    for name in ["static", "ec2", "edgegap", "docker", "kubernetes", "interface"] {
        let text = format!(
            r#""event_source": {{"use": ["catena_api_event_source", "agones_sdk_event_source"], "configs":
               {{"catena_api_event_source": {{"GrpcListenAddr": ":1"}}, "agones_sdk_event_source":
               {{"Ports": [{{"Name": "a", "Port": 1}}], "Counters": {{"Count": {{}}}}, "Lists": {{"Values": {{}}}}}}}}}},
               "backend": {{"use": "{}", "configs": {{"catena_backend": {{"url": "http://x"}}}}}},
               "resolver": {{"use": "{name}_resolver", "configs": {{"static_resolver": {{"Address": "x"}}}}}}"#,
            if name == "ec2" { "noop_backend" } else { "catena_backend" },
        );
        keys(&app(&text, &[]).shown(), &mut found);
    }
    found.retain(|key| !matches!(key.as_str(), "app" | "use" | "configs"));
    assert!(found.len() > 100, "{found:?}");
    let is_there = |key: &&String| {
        [format!("`{key}`"), format!(".{key}`"), format!("`{key}."), format!("\"{key}\":")]
            .iter()
            .any(|form| guide.contains(form.as_str()))
    };
    let missing: Vec<_> = found.iter().filter(|key| !is_there(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

const OPEN: &str = r#"{"GrpcListenAddr": "0.0.0.0:0", "HttpListenAddr": "[::]:0"}"#;

fn with_catena_api(settings: &str, sidecar: &str) -> Settings {
    let configs = format!(r#"{{"catena_api_event_source": {settings}}}"#);
    let sources = format!(r#""event_source": {{"use": "catena_api_event_source", "configs": {configs}}}"#);
    app(&format!(r#"{sources}, "sidecar": {sidecar}"#), &[("SORTIE_TEST_KEY", "s3cret")])
}

#[test]
fn an_event_source_can_have_a_key_and_ports_further_names() {
    let keyed = r#"{"HttpListenAddr": ":1", "ApiKeyEnv": "SORTIE_TEST_KEY"}"#;
    let settings = with_catena_api(keyed, r#"{"AllowedHosts": ["sidecar", "2001:db8::1"]}"#);
    assert_eq!(catena_api(&settings).api_key.as_ref().unwrap().text(), "s3cret");
    assert_eq!(settings.sidecar.allowed_hosts, ["sidecar", "2001:db8::1"]);
    assert!(!settings.shown().to_string().contains("s3cret"));
}

#[test]
fn programs_inherit_named_variables_except_keys() {
    let text = r#"{"app": {
        "event_source": {"use": "catena_api_event_source", "configs": {"catena_api_event_source":
            {"HttpListenAddr": ":1", "ApiKeyEnv": "KEY_OF_SERVERS"}}},
        "backend": {"use": "catena_backend", "configs": {"catena_backend":
            {"url": "http://x", "apikeyenv": "KEY_OF_BACKEND"}}},
        "sidecar": {"pass_environment": ["GAME_MODE", "KEY_OF_SERVERS", "*", "KEY_OF_BACKEND", "LD_LIBRARY_PATH"]}}}"#;
    let folder = Folder::with("config.json", text);
    let loaded = folder.load(&[("KEY_OF_SERVERS", "s3cret"), ("KEY_OF_BACKEND", "s3cret")]).unwrap();
    assert_eq!(loaded.settings.sidecar.pass_environment, ["GAME_MODE", "LD_LIBRARY_PATH"]);
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let path = "app.sidecar.PassEnvironment: ";
    let key = "is not inherited: it contains a key of the sidecar, according to an ApiKeyEnv";
    assert_eq!(
        warnings,
        [
            format!("{path}KEY_OF_SERVERS {key}"),
            format!(
                "{path}* is not a pattern, but the name of a variable that does not exist: name each variable"
            ),
            format!("{path}KEY_OF_BACKEND {key}"),
        ]
    );
    let shown = loaded.settings.shown();
    assert_eq!(
        shown["app"]["sidecar"]["PassEnvironment"],
        serde_json::json!(["GAME_MODE", "LD_LIBRARY_PATH"])
    );
}

#[tokio::test]
async fn named_variables_reach_the_program() {
    let folder = TempDir::new().unwrap();
    let matches = folder.path().join("matches.json");
    std::fs::write(&matches, r#"[{"matchId": "a", "playerIds": ["p"]}]"#).unwrap();
    let script = "env > env.tmp; mv env.tmp env";
    let text = serde_json::json!({
        "event_source": {"use": "process_event_source", "configs": {"process_event_source":
            {"Command": "/bin/sh", "Args": ["-c", script], "WorkingDirectory": folder.path(), "PortRange": "21000-21999"}}},
        "backend": {"use": "noop_backend", "configs": {"noop_backend": {"Matches": matches}}},
        "sidecar": {"DataFolder": folder.path().join("data"), "PassEnvironment": ["CARGO_PKG_NAME"]},
    });
    let text = text.to_string();
    let settings = app(text.strip_prefix('{').unwrap().strip_suffix('}').unwrap(), &[]);
    let sidecar = Sidecar::start(settings, &Variables::new(), &mut Vec::new()).await.unwrap();
    let closing = tokio_util::sync::CancellationToken::new();
    let run = tokio::spawn(sidecar.run(closing.clone()));
    let mut looks = tokio::time::interval(Duration::from_millis(5));
    let variables = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            looks.tick().await;
            if let Ok(text) = std::fs::read_to_string(folder.path().join("env")) {
                return text;
            }
        }
    });
    let variables = variables.await.unwrap();
    closing.cancel();
    run.await.unwrap().unwrap();
    assert!(variables.lines().any(|line| line == "CARGO_PKG_NAME=sortie-sidecar"), "{variables}");
    assert!(!variables.contains("CARGO_MANIFEST_DIR"), "{variables}");
}

#[tokio::test]
async fn ports_that_others_can_reach_without_a_key_are_warned_of() {
    let warned = async |source: &str| {
        let folder = TempDir::new().unwrap();
        let data = format!(r#"{{"DataFolder": {:?}}}"#, folder.path());
        let mut warnings = Vec::new();
        let sidecar = Sidecar::start(with_catena_api(source, &data), &Variables::new(), &mut warnings).await;
        assert!(!sidecar.unwrap().listening().is_empty());
        warnings.into_iter().map(|note| (note.path, note.text)).collect::<Vec<_>>()
    };
    let found = warned(OPEN).await;
    let paths: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
    let block = "app.event_source.configs.catena_api_event_source";
    assert_eq!(paths, [format!("{block}.GrpcListenAddr"), format!("{block}.HttpListenAddr")]);
    for (_, text) in &found {
        assert!(text.contains("can be reached from other machines") && text.contains("ApiKeyFile"), "{text}");
        assert!(text.contains("listen on localhost:"), "{text}");
    }
    let keyed = OPEN.replace('}', r#", "ApiKey": "s3cret"}"#);
    assert_eq!(warned(&keyed).await, []);
    assert_eq!(warned(r#"{"GrpcListenAddr": "localhost:0", "HttpListenAddr": "127.0.0.1:0"}"#).await, []);
}
