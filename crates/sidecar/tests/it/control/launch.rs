//! Real programs: start, end and lifecycle.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sortie_sidecar::control::{ControlOptions, MAX_PROCESSES};
use sortie_sidecar::manager::CallRecord;
use sortie_wire::catena::server_manager::{MatchReadyRequest, RequestMatchRequest};
use tokio::task::JoinHandle;

use super::harness::{Launched, Sidecar, options, soon};

/// Reports its pid when it has started, and waits.
const SERVER: &str = "exec 9>\"$hold\"\necho $$ >\"$say\"\nexec sleep 1000\n";

fn hasty() -> ControlOptions {
    ControlOptions { stop_deadline: Duration::from_millis(50), ..options() }
}

fn line(server_id: &str, state: &str, message: &str) -> Launched {
    let [server_id, state, message] = [server_id, state, message].map(str::to_owned);
    Launched { server_id, state, message }
}

#[tokio::test]
async fn a_server_is_launched_followed_and_terminated() {
    let sidecar = Sidecar::start_with(options(), json!([{"matchId": "m1"}])).await;
    let mut program = sidecar.script("p", SERVER).await;
    let mut lines = sidecar.launch("p").await;
    let started = lines.next().await.unwrap();
    let id = started.server_id.clone();
    assert_eq!(started, line(&id, "STATE_STARTED", "its process runs"));
    program.says().await;
    // Its calls come through an event source.
    let ask = RequestMatchRequest { server_id: id.clone(), ..RequestMatchRequest::default() };
    let offer = sidecar.manager.request_match("catena_api_event_source", ask).await.unwrap();
    assert_eq!(offer.r#match.unwrap().match_id, "m1");
    let mut now = lines.next().await.unwrap();
    if now.state == "STATE_READY" {
        now = lines.next().await.unwrap();
    }
    assert_eq!(now, line(&id, "STATE_IN_MATCH", ""));
    assert_eq!(sidecar.states().await, BTreeMap::from([(id.clone(), "STATE_IN_MATCH".into())]));
    let answer = sidecar.ok("DELETE", &format!("/api/v1/servers/{id}"), json!(null)).await;
    assert_eq!(answer, json!({"terminated": true, "message": "signal: 15 (SIGTERM)"}));
    program.is_gone().await;
    let ended = line(&id, "STATE_TERMINATED", "its process has ended: signal: 15 (SIGTERM)");
    assert_eq!(lines.next().await, Some(ended));
    assert_eq!(lines.next().await, None);
    assert_eq!(sidecar.states().await, BTreeMap::from([(id.clone(), "STATE_TERMINATED".into())]));
    // The backend is told that its match is over.
    let is_end = |call: &CallRecord| call.call == "EndMatch" && call.server_id == id && call.match_id == "m1";
    let mut changes = sidecar.manager.changes();
    while !sidecar.manager.calls().iter().any(is_end) {
        soon(changes.changed()).await.unwrap();
    }
    // Repeating it is not an error.
    let again = sidecar.ok("DELETE", &format!("/api/v1/servers/{id}"), json!(null)).await;
    assert_eq!(again, answer);
}

#[tokio::test]
async fn a_caller_that_does_not_follow_reads_one_line() {
    let sidecar = Sidecar::start().await;
    let mut program = sidecar.script("p", SERVER).await;
    let answer = sidecar.ok("POST", "/api/v1/servers/launch", json!({"profileId": "p"})).await;
    assert_eq!(answer["result"]["payload"]["serverData"]["state"], json!("STATE_STARTED"));
    program.says().await;
    assert!(program.is_there());
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_with_all_that_it_started() {
    let sidecar = Sidecar::start_with(hasty(), json!([])).await;
    let script =
        "exec 9>\"$hold\"\ntrap '' TERM\nsleep 1000 &\necho there >\"$say\"\nwhile :; do sleep 1000; done\n";
    let mut program = sidecar.script("stubborn", script).await;
    let id = sidecar.launch("stubborn").await.next().await.unwrap().server_id;
    program.says().await;
    let answer = sidecar.ok("DELETE", &format!("/api/v1/servers/{id}"), json!(null)).await;
    assert_eq!(answer, json!({"terminated": true, "message": "signal: 9 (SIGKILL)"}));
    program.is_gone().await;
}

#[tokio::test]
async fn a_server_that_exits_is_gone_with_all_that_it_started() {
    let sidecar = Sidecar::start_with(options(), json!([{"matchId": "m1"}])).await;
    let script = "exec 9>\"$hold\"\nsleep 1000 &\necho there >\"$say\"\nread go <\"$say.go\"\nexit 3\n";
    let mut program = sidecar.script("brief", script).await;
    let go = program.folder.join("say.go");
    rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR).unwrap();
    let mut lines = sidecar.launch("brief").await;
    let id = lines.next().await.unwrap().server_id;
    program.says().await;
    let ask = RequestMatchRequest { server_id: id.clone(), ..RequestMatchRequest::default() };
    sidecar.manager.request_match("catena_api_event_source", ask).await.unwrap();
    let ready =
        MatchReadyRequest { server_id: id.clone(), match_id: "m1".into(), ..MatchReadyRequest::default() };
    sidecar.manager.match_ready("catena_api_event_source", ready).await.unwrap();
    soon(tokio::fs::write(go, "go\n")).await.unwrap();
    let ended = loop {
        match lines.next().await.unwrap() {
            ended if ended.state == "STATE_TERMINATED" => break ended,
            other => assert!(["STATE_READY", "STATE_IN_MATCH"].contains(&&*other.state), "{other:?}"),
        }
    };
    assert_eq!(ended, line(&id, "STATE_TERMINATED", "its process has ended: exit status: 3"));
    program.is_gone().await;
    let mut changes = sidecar.manager.changes();
    while !sidecar.manager.view().servers.is_empty() {
        soon(changes.changed()).await.unwrap();
    }
    assert!(sidecar.manager.calls().iter().any(|call| call.call == "EndMatch" && call.match_id == "m1"));
}

#[tokio::test]
async fn a_failed_start_is_reported() {
    let sidecar = Sidecar::start().await;
    let folder = sidecar.folder.path().to_owned();
    let plain = folder.join("plain.txt");
    std::fs::write(&plain, "#!/bin/sh\n").unwrap();
    let lost = folder.join("lost.sh");
    // Written by another process: a file that is still open for writing here could not be executed.
    let write = "echo '#!/no/such/interpreter' >\"$0\" && chmod +x \"$0\"";
    assert!(Command::new("sh").args(["-c", write]).arg(&lost).status().unwrap().success());
    for (id, command, says) in [
        ("none", "/no/such/program", "does not exist"),
        ("bare", "no-such-program-anywhere", "does not exist"),
        ("plain", plain.to_str().unwrap(), "the sidecar's user may execute"),
        ("folder", folder.to_str().unwrap(), "the sidecar's user may execute"),
        ("lost", lost.to_str().unwrap(), "the interpreter that it names"),
    ] {
        let profile = json!({"profiles": [{"profileId": id, "command": command}]});
        sidecar.ok("POST", "/api/v1/profiles", profile).await;
        let launch = json!({"profileId": id, "subscribe": true}).to_string();
        let (status, code, text) = sidecar.refused("POST", "/api/v1/servers/launch", launch).await;
        assert_eq!((status, &*code), (400, "invalid_field"), "{text}");
        assert!(text.contains(command) && text.contains(says), "{text}");
    }
    let (status, code, _) = sidecar.refused("POST", "/api/v1/servers/launch", r#"{"profileId": "x"}"#).await;
    assert_eq!((status, &*code), (404, "not_found"));
    let nul = r#"{"profileId": "none", "argumentOverride": ["a\u0000b"]}"#;
    let (status, _, text) = sidecar.refused("POST", "/api/v1/servers/launch", nul).await;
    assert_eq!((status, &*text), (400, "argumentOverride: must not contain a NUL byte"));
    let long = json!({"profileId": "none", "argumentOverride": ["x".repeat(100_000)]}).to_string();
    assert_eq!(sidecar.refused("POST", "/api/v1/servers/launch", long).await.0, 400);
    // None of them is registered as a server.
    let mut changes = sidecar.manager.changes();
    while !sidecar.states().await.is_empty() {
        soon(changes.changed()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_gets_its_arguments_as_they_are_and_no_secret() {
    let environment = BTreeMap::from([("CATENA_SIDECAR_HTTP".to_owned(), "localhost:8085".to_owned())]);
    // Cargo sets both for tests, so one of them serves as a secret.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some() && std::env::var_os("PATH").is_some());
    let pass_environment = vec!["CARGO_PKG_NAME".to_owned()];
    let options = ControlOptions { environment, pass_environment, ..options() };
    let sidecar = Sidecar::start_with(options, json!([])).await;
    let script = "echo \"$#|$1|$2|$3\" >\"$say\"\n\
        echo \"$SORTIE_SERVER_ID|$CATENA_SIDECAR_HTTP|${PATH:+path}|$CARGO_PKG_NAME|$CARGO_MANIFEST_DIR\" >\"$say\"\n";
    let mut program = sidecar.script("p", script).await;
    let id = sidecar.launch("p").await.next().await.unwrap().server_id;
    assert_eq!(program.says().await, "3|one|two words|$(three)");
    assert_eq!(program.says().await, format!("{id}|localhost:8085|path|sortie-sidecar|"));
    let script = program.folder.join("server.sh");
    let other = json!({"profileId": "p", "argumentOverride": [script, "; echo x", "-"]});
    sidecar.ok("POST", "/api/v1/servers/launch", other).await;
    assert_eq!(program.says().await, "2|; echo x|-|");
}

#[tokio::test]
async fn a_server_outlives_its_launcher() {
    let sidecar = Sidecar::start().await;
    let mut program = sidecar.script("p", SERVER).await;
    let mut lines = sidecar.launch("p").await;
    let id = lines.next().await.unwrap().server_id;
    drop(lines);
    program.says().await;
    assert_eq!(sidecar.states().await[&id], "STATE_STARTED");
    assert!(program.is_there());
}

async fn stopped(sidecar: &mut Sidecar) {
    sidecar.closing.cancel();
    soon(sidecar.served.take().unwrap()).await.unwrap();
}

#[tokio::test]
async fn servers_end_with_the_sidecar() {
    let mut sidecar = Sidecar::start_with(hasty(), json!([])).await;
    let mut program = sidecar.script("p", SERVER).await;
    let mut stubborn = sidecar.script("q", &format!("trap '' TERM\n{SERVER}")).await;
    let mut lines = sidecar.launch("p").await;
    lines.next().await.unwrap();
    sidecar.launch("q").await;
    program.says().await;
    stubborn.says().await;
    stopped(&mut sidecar).await;
    program.is_gone().await;
    stubborn.is_gone().await;
    assert_eq!(lines.next().await.unwrap().state, "STATE_TERMINATED");
    assert_eq!(lines.next().await, None);
    assert!(sidecar.manager.view().servers.is_empty());
}

#[tokio::test]
async fn servers_are_kept_if_configured() {
    let mut sidecar = Sidecar::start_with(ControlOptions { keep_servers: true, ..hasty() }, json!([])).await;
    let mut program = sidecar.script("p", SERVER).await;
    let mut lines = sidecar.launch("p").await;
    let id = lines.next().await.unwrap().server_id;
    let number: i32 = program.says().await.parse().unwrap();
    stopped(&mut sidecar).await;
    assert_eq!(lines.next().await, None);
    assert!(program.is_there());
    assert_eq!(sidecar.manager.view().servers[0].id, id);
    kill_process(Pid::from_raw(number).unwrap(), Signal::KILL).unwrap();
    program.is_gone().await;
}

#[tokio::test]
async fn an_aborted_sidecar_ends_its_servers() {
    let mut sidecar = Sidecar::start().await;
    let mut program = sidecar.script("p", SERVER).await;
    sidecar.launch("p").await;
    program.says().await;
    sidecar.served.take().inspect(JoinHandle::abort);
    program.is_gone().await;
}

#[tokio::test]
async fn there_is_a_most_of_servers() {
    let sidecar = Sidecar::start_with(hasty(), json!([])).await;
    let profile = json!({"profiles": [{"profileId": "p", "command": "sleep", "args": ["1000"]}]});
    sidecar.ok("POST", "/api/v1/profiles", profile).await;
    let launch = json!({"profileId": "p"});
    let mut ids = Vec::new();
    for _ in 0..MAX_PROCESSES {
        let answer = sidecar.ok("POST", "/api/v1/servers/launch", launch.clone()).await;
        let id: &Value = &answer["result"]["payload"]["serverData"]["serverId"];
        ids.push(id.as_str().unwrap().to_owned());
    }
    let (status, code, _) = sidecar.refused("POST", "/api/v1/servers/launch", launch.to_string()).await;
    assert_eq!((status, &*code), (429, "too_many"));
    sidecar.ok("DELETE", &format!("/api/v1/servers/{}", ids[7]), json!(null)).await;
    sidecar.ok("POST", "/api/v1/servers/launch", launch).await;
}
