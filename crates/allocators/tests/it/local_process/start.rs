//! How servers are started, and what they are given.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use sortie_allocators::{Allocator, ErrorClass, ServerEnvironment};

use super::harness::{Harness, eventually, kill, own_duration, sleepers, taken_port};
use crate::conformance::order;
use sortie_allocators::local_process::LocalFleet;
use sortie_domain::ids::ServerId;

#[tokio::test]
async fn a_server_is_started_once_even_if_the_caller_gives_up() {
    let harness = Harness::new();
    let opened = harness.open(harness.fleet("echo $$ >> starts; exec sleep 1000")).await;
    let order = order("a", "eu");
    tokio::select! {
        biased;
        _ = opened.allocator.start(&order) => panic!("it cannot be ready at the first look"),
        () = std::future::ready(()) => {}
    }
    opened.allocator.start(&order).await.unwrap();
    harness.line("starts").await;
    opened.allocator.start(&order).await.unwrap();
    harness.processes_are(1).await;
    opened.allocator.stop(&order.allocation, &order.server).await.unwrap();
    opened.allocator.start(&order).await.expect("carried out before, so the answer is the same");
    assert_eq!(harness.processes(None), [] as [i32; 0]);
    assert_eq!(harness.line("starts").await.lines().count(), 1);
}

#[tokio::test]
async fn a_stop_that_overtakes_the_start_waits_for_it() {
    let harness = Harness::new();
    let opened = harness.open(harness.fleet("exec sleep 1000")).await;
    let order = order("a", "eu");
    let start = opened.allocator.start(&order);
    let stop = opened.allocator.stop(&order.allocation, &order.server);
    let (started, stopped) = tokio::join!(biased; start, stop);
    started.unwrap();
    stopped.unwrap();
    assert_eq!(harness.processes(None), [] as [i32; 0]);
}

fn told_everything(harness: &Harness) -> LocalFleet {
    let mut fleet = harness
        .fleet("env > env.tmp; for a; do echo \"$a\"; done > arguments; mv env.tmp env; exec sleep 1000");
    fleet.process.arguments.extend(
        ["game", "--port={port}", "--name={server_id}@{fleet}", "--json={\"port\":{port}}", "{other}"]
            .map(str::to_owned),
    );
    fleet.process.environment = BTreeMap::from(
        [("GAME_PORT", "{port}"), ("SORTIE_API", "http://public:1"), ("SORTIE_ALLOCATION_ID", "stolen")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    fleet.environment = ServerEnvironment {
        api: "http://127.0.0.1:8080".to_owned(),
        api_key: Some(Arc::new(|server: &ServerId| format!("the api key of {server}"))),
        ca: Some("/etc/ca.pem".to_owned()),
        netcode_key: Some("the netcode key".to_owned()),
        protocol_id: Some(7),
    };
    fleet
}

async fn environment(harness: &Harness) -> BTreeMap<String, String> {
    let text = harness.line("env").await;
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

#[tokio::test]
async fn a_server_gets_its_port_its_ids_and_the_control_plane() {
    let harness = Harness::new();
    let opened = harness.open(told_everything(&harness)).await;
    let order = order("a", "eu");
    let started = opened.allocator.start(&order).await.unwrap();
    let environment = environment(&harness).await;
    let port = environment["SORTIE_PORT"].clone();
    assert!((21_000..=29_999).contains(&port.parse().unwrap()), "{port}");
    assert!(started.placement.contains(&port), "{}", started.placement);
    let expected = [
        ("SORTIE_API", "http://public:1"),
        ("SORTIE_API_KEY", "the api key of server-a"),
        ("SORTIE_CA", "/etc/ca.pem"),
        ("SORTIE_NETCODE_KEY", "the netcode key"),
        ("SORTIE_PROTOCOL_ID", "7"),
        ("SORTIE_FLEET", "eu"),
        ("SORTIE_SERVER_ID", "server-a"),
        ("SORTIE_ALLOCATION_ID", "allocation-a"),
        ("GAME_PORT", &port),
    ];
    for (name, value) in expected {
        assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(environment.contains_key("PATH"));
    let arguments = std::fs::read_to_string(harness.out("arguments")).unwrap();
    let expected = [
        format!("--port={port}"),
        "--name=server-a@eu".to_owned(),
        format!("--json={{\"port\":{port}}}"),
        "{other}".to_owned(),
    ];
    assert_eq!(arguments.lines().collect::<Vec<_>>(), expected);
}

/// Runs itself again, with secrets in the environment: a running test cannot set variables.
#[tokio::test]
async fn a_server_inherits_what_is_on_the_list_and_what_its_fleet_names() {
    const SECRETS: [&str; 3] =
        ["SORTIE_SECRET_OF_THE_CONTROL_PLANE", "PLACE_SERVER_SECRET", "A_SECRET_OF_ANY_NAME"];
    const INHERITED: [&str; 5] = ["HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];
    if std::env::var_os(SECRETS[0]).is_none() {
        let this = "local_process::start::a_server_inherits_what_is_on_the_list_and_what_its_fleet_names";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(["--exact", this]).env("NAMED", "y").envs(SECRETS.map(|name| (name, "x")));
        let folder = std::env::temp_dir();
        let output = again.envs(INHERITED.map(|name| (name, &folder))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let harness = Harness::new();
    let mut fleet = told_everything(&harness);
    fleet.process.pass_environment = ["NAMED", "NOT_SET", SECRETS[0]].map(str::to_owned).to_vec();
    let opened = harness.open(fleet).await;
    opened.allocator.start(&order("a", "eu")).await.unwrap();
    let environment = environment(&harness).await;
    assert_eq!(environment.get("NAMED").map(String::as_str), Some("y"));
    for name in INHERITED {
        assert_eq!(environment.get(name).map(Into::into), std::env::var_os(name), "{name}");
    }
    assert!(environment.contains_key("PATH"));
    for name in SECRETS {
        assert!(!environment.contains_key(name), "{name}");
    }
}

/// The program that enters the control group before the server leaves no trace in it.
#[tokio::test]
async fn a_server_begins_as_if_nothing_had_run_before_it() {
    let harness = Harness::new();
    let script = "tr '\\0' '\\n' < /proc/$$/cmdline > cmdline; \
        tr '\\0' '\\n' < /proc/$$/environ > environ; readlink /proc/$$/cwd > cwd; cat /proc/$$/stat > stat; \
        echo $$ > pid; exec sleep 1000";
    let mut fleet = harness.fleet(script);
    fleet.process.arguments.extend(["--", "-x", "", "--help"].map(str::to_owned));
    let variables = [("LD_LIBRARY_PATH", "/no/such/libraries"), ("EMPTY", ""), ("A", "b=c\nd")];
    fleet.process.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let arguments = fleet.process.arguments.clone();
    let opened = harness.open(fleet).await;
    let order = order("a", "eu");
    opened.allocator.start(&order).await.unwrap();
    let pid = harness.pid("pid").await;
    let read = |name: &str| std::fs::read_to_string(harness.out(name)).unwrap();

    assert_eq!(read("cmdline"), format!("/bin/sh\n{}\n", arguments.join("\n")));
    let environ = read("environ");
    for (name, value) in variables {
        assert!(format!("\n{environ}").contains(&format!("\n{name}={value}\n")), "{environ}");
    }
    assert!(!environ.contains("HIDDEN"), "{environ}");
    assert_eq!(read("cwd").trim_end(), harness.out("").canonicalize().unwrap().to_str().unwrap());

    let stat = read("stat");
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(harness.record(&order)).unwrap()).unwrap();
    assert_eq!(record["pid"], pid);
    assert_eq!(fields[5 - 3], pid.to_string(), "it leads its process group");
    assert_eq!(record["process_start_ticks"].to_string(), fields[22 - 3]);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    if let Some(group) = harness.control_group(&order) {
        assert!(
            groups.lines().any(|line| line.starts_with("0::")
                && line.ends_with(group.file_name().unwrap().to_str().unwrap()))
        );
    }
}

/// The output of a program that is run as a server, and its output to a pipe when it is run directly.
async fn as_server_and_directly(path: &str, arguments: &[&str]) -> [String; 2] {
    let harness = Harness::new();
    let mut fleet = harness.fleet("");
    fleet.process.path = path.into();
    fleet.process.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let mut opened = harness.open(fleet).await;
    opened.allocator.start(&order("a", "eu")).await.unwrap();
    assert_eq!(opened.exit().await.status, "exit status 0");
    let mut direct = std::process::Command::new(path);
    let direct = direct.args(arguments).stdin(std::process::Stdio::null()).output().unwrap();
    [
        std::fs::read_to_string(harness.kept("allocation-a.log")).unwrap(),
        String::from_utf8(direct.stdout).unwrap(),
    ]
}

#[tokio::test]
async fn a_server_has_its_output_and_no_other_open_file() {
    let listings = as_server_and_directly("/bin/ls", &["-l", "/proc/self/fd"]).await;
    // Mode, number and kind: `lr-x------ 1 root root 64 Nov 30 16:48 0 -> /dev/null`.
    let [seen, direct] = listings.map(|listing| -> Vec<String> {
        let lines = listing.lines().filter_map(|line| line.split_once(" -> "));
        lines
            .map(|(before, target)| {
                let (mode, number) = (before.split(' ').next().unwrap(), before.rsplit(' ').next().unwrap());
                let kind = target.split(':').next().unwrap().replace(|c: char| c.is_ascii_digit(), "");
                format!("{mode} {number} {kind}")
            })
            .collect()
    });
    assert_eq!(seen, direct);
    assert!(
        seen.starts_with(&["lr-x------ 0 /dev/null".to_owned(), "l-wx------ 1 pipe".to_owned()]),
        "{seen:?}"
    );
}

#[tokio::test]
async fn a_server_begins_with_the_signals_that_every_program_has() {
    let statuses = as_server_and_directly("/bin/cat", &["/proc/self/status"]).await;
    let [seen, direct] = statuses.map(|status| {
        ["SigIgn:", "SigBlk:", "SigCgt:"].map(|name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        })
    });
    assert_eq!(seen, direct);
    let sigpipe = 1 << (13 - 1);
    assert_eq!((seen[0] & sigpipe, seen[1]), (0, 0));
}

#[tokio::test]
async fn a_server_that_cannot_be_run_is_a_permanent_error_that_names_the_path() {
    let harness = Harness::new();
    let file = |name: &str, text: &str, mode: u32| {
        let path = harness.out(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let link = harness.out("link");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let cases = [
        (harness.out("missing"), "does not exist"),
        ("sortie-no-such-program".into(), "does not exist"),
        (file("plain", "#!/bin/sh\n", 0o644), "may execute"),
        (harness.out(""), "may execute"),
        (file("no-interpreter", "#!/no/such/interpreter\n", 0o755), "interpreter"),
        (file("no-program", "\u{1}\u{2}", 0o755), "not a program"),
        (file("file", "", 0o644).join("below"), "does not exist"),
        (link, "circle"),
    ];
    for (number, (path, problem)) in cases.into_iter().enumerate() {
        let mut fleet = harness.fleet("");
        fleet.process.path.clone_from(&path);
        let opened = harness.open(fleet).await;
        let order = order(&number.to_string(), "eu");
        let error = opened.allocator.start(&order).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        assert!(error.message.contains(problem), "{error}");
        assert!(error.message.contains(path.to_str().unwrap()), "{error}");
        assert!(!harness.record(&order).exists());
        assert!(!harness.kept(&format!("{}.log", order.allocation)).exists());
    }
}

#[tokio::test]
async fn arguments_that_no_program_can_be_given_are_a_permanent_error() {
    let harness = Harness::new();
    for (argument, problem) in [("a\0b".to_owned(), "NUL byte"), ("x".repeat(1 << 20), "too long")] {
        let mut fleet = harness.fleet("");
        fleet.process.arguments.push(argument);
        let opened = harness.open(fleet).await;
        let error = opened.allocator.start(&order("a", "eu")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid, "{error}");
        assert!(error.message.contains(problem), "{error}");
    }
}

#[tokio::test]
async fn a_working_folder_that_is_none_is_a_permanent_error_that_names_it() {
    let harness = Harness::new();
    std::fs::write(harness.out("file"), "").unwrap();
    for name in ["missing", "file"] {
        let mut fleet = harness.fleet("exec sleep 1000");
        fleet.process.working_folder = Some(harness.out(name));
        let opened = harness.open(fleet).await;
        let error = opened.allocator.start(&order("a", "eu")).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Invalid);
        assert!(error.message.contains(harness.out(name).to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn fleets_share_their_ports_and_get_them_back() {
    let harness = Harness::new();
    let (socket, port) = taken_port();
    let mut fleet = harness.fleet("exec sleep 1000");
    fleet.process.ports = port..=port;
    let opened = harness.open_with([("eu", fleet.clone()), ("us", fleet)], true).await;
    let (one, two) = (order("one", "eu"), order("two", "us"));
    let error = opened.allocator.start(&one).await.expect_err("another program has the port");
    assert_eq!(error.class, ErrorClass::Conflict);
    assert!(error.message.contains("fleet eu") && error.message.contains(&port.to_string()), "{error}");
    drop(socket);
    opened.starts(&one).await;
    let error = opened.allocator.start(&two).await.expect_err("the other fleet's server has the port");
    assert_eq!(error.class, ErrorClass::Conflict);
    opened.allocator.stop(&one.allocation, &one.server).await.unwrap();
    opened.starts(&two).await;
}

#[tokio::test]
async fn a_disk_that_keeps_no_record_leaves_no_server() {
    let harness = Harness::new();
    let opened = harness.open(harness.fleet("exec sleep 1000")).await;
    let order = order("a", "eu");
    // A folder in place of the record: renaming the record over it fails.
    std::fs::create_dir(harness.record(&order)).unwrap();
    let error = opened.allocator.start(&order).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unreachable);
    assert!(error.message.contains("record"), "{error}");
    assert_eq!(harness.processes(None), [] as [i32; 0]);
    std::fs::remove_dir(harness.record(&order)).unwrap();
    opened.allocator.start(&order).await.unwrap();
    harness.processes_are(1).await;
}

#[tokio::test]
async fn what_a_server_started_before_it_could_not_be_recorded_is_killed() {
    let harness = Harness::new();
    let (named, bare) = (own_duration(), own_duration());
    let script = format!("env -i setsid -f sleep {bare}; setsid -f sleep {named}; exec sleep 1000");
    let opened = harness.open(harness.fleet(&script)).await;
    let order = order("a", "eu");
    // A pipe in place of the record: opening it waits for a reader, and its content cannot be made durable.
    let pipe = harness.record(&order).with_extension("tmp");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = async {
        eventually("a daemon", || sleepers(&named).first().copied()).await;
        tokio::fs::File::open(&pipe).await.unwrap()
    };
    let (started, _reader) = tokio::join!(opened.allocator.start(&order), reader);
    let error = started.unwrap_err();
    assert!(error.message.contains("record"), "{error}");
    assert_eq!(sleepers(&named), [] as [i32; 0]);
    if harness.has_control_groups() {
        assert_eq!(sleepers(&bare), [] as [i32; 0]);
    }
    sleepers(&bare).into_iter().for_each(kill);
}
