//! Keys: who may call, and where secrets may not show.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::json;

use crate::control_plane::{ControlPlane, REQUEST};
use crate::python;
use crate::site::{NOBODY, Site, idle_fleet, soon};

/// Makes a key with these permissions; gives it.
async fn create(site: &Site, name: &str, permissions: &[&str]) -> String {
    let mut arguments = vec!["key", "create", "--json", "--name", name];
    arguments.extend(permissions.iter().flat_map(|one| ["--permission", one]));
    let finished = site.run(&arguments).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.json()["key"].as_str().unwrap().to_owned()
}

fn mode(site: &Site, name: &str) -> u32 {
    std::fs::metadata(site.data(name)).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn without_a_key_it_does_not_start() {
    let site = Site::new();
    let said = site.refused(&[]).await;
    assert!(said.contains("sortie key create") && said.contains("--dev"), "{said}");
    // What it says is right.
    let command = said.lines().last().unwrap().split('`').nth(1).unwrap().strip_prefix("sortie ").unwrap();
    let finished = site.run(&command.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(finished.code, Some(0), "{command}: {}", finished.stderr);
    let mut control_plane = site.up(&[]).await;
    control_plane.key = finished.stdout.lines().next().map(str::to_owned);
    control_plane.get("/v1/servers").await;
}

#[tokio::test]
async fn a_key_permits_what_it_was_made_for() {
    let site = Site::new();
    let server = create(&site, "server", &["game_server_match"]).await;
    let client = create(&site, "client", &["client"]).await;
    let admin = create(&site, "admin", &["admin"]).await;
    let again = site.run(&["key", "create", "--name", "admin", "--permission", "admin"]).await;
    assert!(again.code == Some(1) && again.stderr.contains("\"admin\""), "{}", again.stderr);
    let unknown = site.run(&["key", "create", "--name", "x", "--permission", "root"]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("game_server_match"), "{}", unknown.stderr);

    let control_plane = site.up(&[]).await;
    let status = async |header: &str, value: &str, method: &str, path: &str| {
        let request = control_plane.request(method, path).header(header, value);
        request.body(r#"{"serverId": "s"}"#).send().await.unwrap().status().as_u16()
    };
    let bearer = |key: &str| format!("Bearer {key}");
    for (key, request_match, list_matches, list_servers) in
        [(&server, 200, 403, 403), (&client, 403, 200, 403), (&admin, 200, 200, 200)]
    {
        let calls = [
            ("POST", REQUEST, request_match),
            ("GET", "/v1/matches", list_matches),
            ("GET", "/v1/servers", list_servers),
        ];
        for (method, path, expected) in calls {
            assert_eq!(status("authorization", &bearer(key), method, path).await, expected, "{path}");
            assert_eq!(status("catena-api-key", key, method, path).await, expected, "{path}");
        }
    }
    for wrong in [bearer("sortie_wrong"), bearer(""), admin.clone(), bearer(&admin[..admin.len() - 1])] {
        assert_eq!(status("authorization", &wrong, "GET", "/v1/matches").await, 401, "{wrong}");
    }
    assert_eq!(status("accept", "*/*", "GET", "/v1/matches").await, 401, "no key");
    assert_eq!(status("accept", "*/*", "GET", "/healthz").await, 200, "probes need none");
    let (_, answer) = control_plane.send("GET", "/v1/matches", "").await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("authorization: Bearer"), "{message}");

    let finished = control_plane.run(&site, &["match", "list"]).await;
    assert!(finished.code == Some(1) && finished.stderr.contains("401"), "{}", finished.stderr);
    let finished = control_plane.run(&site, &["match", "list", "--key", &client]).await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let finished = control_plane.run(&site, &["server", "list", "--key", &client]).await;
    assert!(finished.code == Some(1) && finished.stderr.contains("`admin`"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_game_server_that_is_started_here_has_a_key_of_its_own() {
    let living = json!({"max": 2, "local_process": {"path": "/bin/sleep", "arguments": ["1000"]}});
    let site = Site::with_config(&json!({"fleets": {"eu": living}}));
    let admin = create(&site, "admin", &["admin"]).await;
    let arguments =
        ["key", "create", "--json", "--name", "eu", "--permission", "game_server_match", "--fleet", "eu"];
    let of_fleet = site.run(&arguments).await.json()["key"].as_str().unwrap().to_owned();
    let by_hand = create(&site, "by hand", &["game_server_match"]).await;
    let listed = site.run(&["key", "list"]).await.stdout;
    assert!(listed.contains("FLEETS") && listed.contains("eu"), "{listed}");
    let mut control_plane = site.up(&[]).await;
    control_plane.key = Some(admin);
    let mut servers = Vec::new();
    for _ in 0..2 {
        let answer = control_plane.ok("POST", "/api/v1/server/allocate", json!({})).await;
        servers.push(answer["serverId"].as_str().unwrap().to_owned());
    }
    let kept = std::fs::read_to_string(site.data("game_server.key")).unwrap();
    let keys = sortie_identity::ServerKeys::new(kept.trim().as_bytes());
    let [own, other] =
        [&servers[0], &servers[1]].map(|id| keys.key(&sortie_domain::ids::ServerId::new(id).unwrap()));
    control_plane.key = None;
    let ask = async |key: &str| {
        let request = control_plane.request("POST", REQUEST).header("authorization", format!("Bearer {key}"));
        let body = json!({"serverId": servers[0]}).to_string();
        request.body(body).send().await.unwrap().status().as_u16()
    };
    for (key, expected) in
        [(&other, 403), (&by_hand, 403), (&of_fleet, 200), (&own, 200), (&kept.trim().to_owned(), 403)]
    {
        assert_eq!(ask(key).await, expected);
    }
}

#[tokio::test]
async fn keys_are_made_and_revoked_while_the_control_plane_runs() {
    let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
    let configured = json!([{"name": "configured", "sha256": hash, "permissions": ["client"]}]);
    let site = Site::with_config(&json!({ "api_keys": configured }));
    let control_plane = site.up(&[]).await;
    let status = async |key: &str| {
        let request = control_plane.request("GET", "/v1/matches").header("catena-api-key", key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("foo").await, 200);
    // Each time the next call counts, however soon it comes.
    for name in ["one", "two", "one"] {
        let key = create(&site, name, &["client"]).await;
        assert_eq!(status(&key).await, 200, "{name} is made");
        let listed = site.run(&["key", "list", "--json"]).await.json();
        let listed = listed.as_array().unwrap();
        let entries: Vec<_> = listed.iter().map(|key| [&key["name"], &key["source"]]).collect();
        assert_eq!(entries, [[&json!(name), &json!("file")], [&json!("configured"), &json!("config")]]);
        assert_eq!(listed[0]["permissions"], json!(["client"]));
        assert!(listed[0]["created_at"].as_str().unwrap().ends_with('Z'));
        let table = site.run(&["key", "list"]).await.stdout;
        assert!(table.contains(name) && !table.contains(hash) && !table.contains(&key), "{table}");
        let revoked = site.run(&["key", "revoke", "--json", "--name", name]).await;
        assert_eq!((revoked.code, revoked.json()["revoked"].as_bool()), (Some(0), Some(true)));
        assert_eq!(status(&key).await, 401, "{name} is revoked");
    }
    assert_eq!(status("foo").await, 200, "those of the configuration stay");
    for (name, says) in [("one", "no key named \"one\""), ("configured", "in the configuration")] {
        let refused = site.run(&["key", "revoke", "--name", name]).await;
        assert!(refused.code == Some(1) && refused.stderr.contains(says), "{}", refused.stderr);
    }
    let taken = site.run(&["key", "create", "--name", "configured", "--permission", "admin"]).await;
    assert!(taken.code == Some(1) && taken.stderr.contains("another name"), "{}", taken.stderr);

    let key = create(&site, "last", &["client"]).await;
    assert_eq!(status(&key).await, 200);
    std::fs::write(site.data("api_keys.json"), "half of it").unwrap();
    assert_eq!(status(&key).await, 200, "a damaged file takes nothing away");
    assert!(site.stderr().contains("is damaged"), "{}", site.stderr());
    std::fs::remove_file(site.data("api_keys.json")).unwrap();
    assert_eq!(status(&key).await, 401, "without the file there is no key of it");
}

#[tokio::test]
async fn secrets_are_kept_from_others_and_from_the_log() {
    let config = json!({"dev": true, "log": {"level": "trace"}, "fleets": {"quiet": idle_fleet()}});
    let site = Site::with_config(&config);
    let key = create(&site, "admin", &["admin"]).await;
    // Development mode makes a netcode key. The other run asks for keys.
    let control_plane = site.up(&[]).await;
    control_plane.get("/v1/matches").await;
    control_plane.stop().await;
    site.configure(&json!({"log": config["log"], "netcode": {"key_file": "data/netcode.key"}}));
    let mut control_plane = site.up(&[]).await;
    control_plane.key = Some(key.clone());
    control_plane.run_ok(&site, &["server", "list"]).await;
    let address = control_plane.url.strip_prefix("http://").unwrap();
    python::run(&site, "grpc_game_server.py", &[address, &key]).await;
    control_plane.stop().await;

    for name in ["netcode.key", "game_server.key", "api_keys.json"] {
        assert_eq!(mode(&site, name), 0o600, "{name}");
    }
    let kept = |name: &str| std::fs::read_to_string(site.data(name)).unwrap().trim().to_owned();
    let (stderr, keys) = (site.stderr(), kept("api_keys.json"));
    assert!(stderr.contains("TRACE"), "the log says all it can");
    let hash = keys.split('"').find(|part| part.len() == 64).unwrap();
    for secret in [&key, hash, &kept("netcode.key"), &kept("game_server.key")] {
        let line = stderr.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is in the log");
    }
    assert!(!keys.contains(&key), "the key itself is kept nowhere");
}

#[tokio::test]
async fn an_address_joins_so_often() {
    let mut game = idle_fleet();
    (game["game"], game["version"]) = (json!("g"), json!("1"));
    let gateway = json!({"rate_per_address": 1, "burst_per_address": 1, "wait_deadline": "1s"});
    let netcode = json!({"key_file": "netcode.key"});
    let site = Site::with_config(&json!({"gateway": gateway, "netcode": netcode, "fleets": {"quiet": game}}));
    std::fs::write(site.path("netcode.key"), "07".repeat(32)).unwrap();
    create(&site, "admin", &["admin"]).await;
    let control_plane = site.up(&[]).await;
    let path = "/matchmaker/wannaplay?game=g&version=1";
    let join = || control_plane.request("POST", path).send();
    let answers = soon("the answers", futures::future::join_all((0..20).map(|_| join()))).await;
    let refused: Vec<_> = answers.into_iter().flatten().filter(|answer| answer.status() == 429).collect();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|answer| answer.headers()["retry-after"] == "1"));
}

/// Who owns a file, and its mode.
fn owner(site: &Site, name: &str) -> (u32, u32) {
    let found = std::fs::metadata(site.data(name)).unwrap();
    (found.uid(), found.mode() & 0o777)
}

/// The control plane runs as a user of its own, and keys are made and revoked by root.
#[tokio::test]
async fn root_may_change_the_keys_of_another_user() {
    let Some(site) = Site::of_nobody() else { return };
    let give = |path: &std::path::Path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    std::fs::create_dir(site.path("data")).unwrap();
    give(&site.path("data"));
    let keys = [create(&site, "one", &["client"]).await, create(&site, "two", &["client"]).await];
    assert_eq!([owner(&site, "api_keys.json"), owner(&site, "api_keys.lock")], [(NOBODY, 0o600); 2]);
    let mut command = site.command(site.path("sortie"));
    command.args(["up", "--listen", "127.0.0.1:0"]).uid(NOBODY).gid(NOBODY);
    let log = std::fs::File::options().create(true).append(true).open(site.path("stderr")).unwrap();
    let control_plane = ControlPlane::start(command, log, site.path("stderr")).await;
    let status = async |path: &str, key: &str| {
        let request = control_plane.request("GET", path).header("catena-api-key", key);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("/v1/matches", &keys[0]).await, status("/v1/matches", &keys[1]).await), (200, 200));
    let revoked = site.run(&["key", "revoke", "--name", "one"]).await;
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    let says = format!("the control plane (process {}) refuses it", control_plane.pid);
    assert!(revoked.stdout.contains(&says), "{}", revoked.stdout);
    assert_eq!((status("/v1/matches", &keys[0]).await, status("/v1/matches", &keys[1]).await), (401, 200));
    assert_eq!([owner(&site, "api_keys.json"), owner(&site, "api_keys.lock")], [(NOBODY, 0o600); 2]);

    // A file that it may not read, as earlier versions of the command left it: no key of it is good, and that shows.
    std::os::unix::fs::chown(site.data("api_keys.json"), Some(0), Some(0)).unwrap();
    assert_eq!((status("/v1/matches", &keys[1]).await, status("/readyz", "").await), (503, 503));
    let listed = site.run(&["key", "list"]).await;
    assert!(listed.code == Some(1) && listed.stderr.contains("cannot read"), "{}", listed.stderr);
    give(&site.data("api_keys.json"));
    assert_eq!((status("/v1/matches", &keys[1]).await, status("/readyz", "").await), (200, 200));

    // And as root it is not started with the folder of another user.
    control_plane.stop().await;
    let said = site.refused(&[]).await;
    assert!(said.contains(&NOBODY.to_string()) && said.contains("chown"), "{said}");
    let revoked = site.run(&["key", "revoke", "--name", "two"]).await;
    assert!(
        revoked.code == Some(0) && revoked.stdout.contains("no control plane runs"),
        "{}",
        revoked.stdout
    );
}

/// What the user of the data folder can put there before root works in it.
#[tokio::test]
async fn root_is_not_led_to_files_outside_the_data_folder() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root can become another user: nothing was tested");
        return;
    }
    let site = Site::new();
    let (victim, theirs) = (site.path("victim"), site.path("theirs"));
    std::fs::write(&victim, "precious").unwrap();
    std::fs::create_dir(&theirs).unwrap();
    std::fs::write(theirs.join("a.json"), "precious").unwrap();
    std::fs::create_dir(site.path("data")).unwrap();
    std::os::unix::fs::chown(site.path("data"), Some(NOBODY), Some(NOBODY)).unwrap();
    let link = |to: &std::path::Path, name: &str| std::os::unix::fs::symlink(to, site.data(name)).unwrap();
    let create = ["key", "create", "--name", "a", "--permission", "client"];
    let restore = ["restore", "--force", "--data", "data"];
    let cases = [
        (&victim, "api_keys.lock", &create[..]),
        (&victim, "lock", &restore[..]),
        (&theirs, "servers", &restore[..]),
    ];
    for (to, name, command) in cases {
        link(to, name);
        let refused = site.run(command).await;
        assert_eq!(refused.code, Some(1), "{name}: {}", refused.stdout);
        std::fs::remove_file(site.data(name)).unwrap();
        for (path, is) in [(&victim, "precious"), (&theirs.join("a.json"), "precious")] {
            let found = std::fs::metadata(path).unwrap();
            assert_eq!((found.uid(), std::fs::read_to_string(path).unwrap().as_str()), (0, is), "{name}");
        }
    }
    std::fs::hard_link(&victim, site.data("api_keys.lock")).unwrap();
    assert_eq!(site.run(&create).await.code, Some(1));
    assert_eq!(std::fs::metadata(&victim).unwrap().uid(), 0);
}

/// Whether a user of its own can use what root makes before it starts.
#[tokio::test]
async fn what_root_makes_in_the_folder_of_another_user_belongs_to_that_user() {
    let Some(site) = Site::of_nobody() else { return };
    create(&site, "a", &["client"]).await;
    assert_eq!([owner(&site, ""), owner(&site, "api_keys.json")], [(NOBODY, 0o700), (NOBODY, 0o600)]);
    std::fs::create_dir(site.data("servers")).unwrap();
    std::fs::write(site.data("servers/a.json"), "{}").unwrap();
    let restored = site.run(&["restore", "--force", "--data", "data"]).await;
    assert_eq!(restored.code, Some(0), "{}", restored.stderr);
    assert_eq!(owner(&site, "servers/of-another"), (NOBODY, 0o700));
    assert!(site.data("servers/of-another/a.json").exists());
    assert_eq!([owner(&site, "lock"), owner(&site, "installation.json")], [(NOBODY, 0o600); 2]);
}

#[tokio::test]
async fn the_data_folder_is_private_whatever_the_umask_says() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}, "matchmaker": {}}));
    let mut command = site.command("/bin/sh");
    let run = "umask 000 && exec \"$0\" up --listen 127.0.0.1:0";
    command.args(["-c", run, env!("CARGO_BIN_EXE_sortie")]);
    let log = std::fs::File::options().create(true).append(true).open(site.path("stderr")).unwrap();
    let control_plane = ControlPlane::start(command, log, site.path("stderr")).await;
    control_plane.submit(json!({"players": ["p"]})).await;
    create(&site, "admin", &["admin"]).await;
    control_plane.stop().await;
    let open =
        std::process::Command::new("find").arg(site.path("data")).args(["-perm", "/077"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&open.stdout), "");
}

#[tokio::test]
async fn a_game_server_key_that_is_none_is_refused() {
    let site = Site::with_config(&json!({"dev": true, "fleets": {"quiet": idle_fleet()}}));
    std::fs::create_dir(site.path("data")).unwrap();
    for bad in ["", "x", "sortie_abc"] {
        std::fs::write(site.data("game_server.key"), bad).unwrap();
        let said = site.refused(&[]).await;
        assert!(
            said.contains("game_server.key") && said.contains("64 hexadecimal digits"),
            "{bad:?}: {said}"
        );
    }
}
