//! A sidecar's own API on a free port, and programs that report their state.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use sortie_sidecar::backend::{NoopBackend, NoopOptions};
use sortie_sidecar::control::{ControlOptions, ControlPort, SourceStatus};
use sortie_sidecar::manager::{Manager, ManagerOptions};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::schemas::check_answer;

/// Maximum wait in any test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Awaits something that the test needs to go on.
pub(super) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it never happened")
}

/// A sidecar under test; everything it started ends with it.
pub(super) struct Sidecar {
    pub(super) address: SocketAddr,
    pub(super) manager: Manager,
    pub(super) closing: CancellationToken,
    pub(super) served: Option<JoinHandle<()>>,
    pub(super) sources: watch::Sender<Vec<SourceStatus>>,
    pub(super) folder: TempDir,
    client: Client,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.closing.cancel();
        self.served.take().inspect(JoinHandle::abort);
    }
}

pub(super) fn options() -> ControlOptions {
    ControlOptions::new("localhost:0".parse().unwrap())
}

impl Sidecar {
    pub(super) async fn start() -> Self {
        Self::start_with(options(), json!([])).await
    }

    /// Starts with a backend that has these matches.
    pub(super) async fn start_with(mut options: ControlOptions, matches: Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("matches.json");
        fs::write(&file, matches.to_string()).unwrap();
        let backend = NoopBackend::new(&NoopOptions { matches: Some(file), repeat: false }).unwrap();
        let manager = Manager::new(ManagerOptions::default(), Arc::new(backend), None);
        let (sources, seen) = watch::channel(Vec::new());
        options.sources = seen;
        let port = ControlPort::bind(options).await.unwrap();
        let address = port.address();
        let closing = CancellationToken::new();
        let served = tokio::spawn(port.run(manager.clone(), closing.clone()));
        let client = sortie_tls::http_client("http:", None).unwrap();
        // A pooled connection could be closed by the server just when it is reused.
        let client = client.pool_max_idle_per_host(0).build().unwrap();
        Self { address, manager, closing, served: Some(served), sources, folder, client }
    }

    pub(super) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let host =
            if self.address.ip().is_unspecified() { "localhost" } else { &self.address.ip().to_string() };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let url = format!("http://{host}:{}{path}", self.address.port());
        self.client.request(method.parse().unwrap(), url)
    }

    /// Sends `body` and returns the JSON answer, which must follow the published schema.
    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let response = soon(self.request(method, path).body(body).send()).await.unwrap();
        let status = response.status().as_u16();
        let text = soon(response.text()).await.unwrap();
        let answer =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{method} {path}: {error}: {text}"));
        check_answer(method, path, status, &answer);
        (status, answer)
    }

    /// The answer to a request that must succeed.
    pub(super) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, body).await;
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// The error of a request that must fail: status, stable code, text.
    pub(super) async fn refused(
        &self,
        method: &str,
        path: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, String, String) {
        let (status, answer) = self.send(method, path, body).await;
        assert!(status >= 400, "{method} {path}: {status} {answer}");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (status, text(&answer["details"][0]["reason"]), text(&answer["message"]))
    }

    /// Registers a profile that runs `script` in a shell, with the pipes of a [`Program`] in `$say` and `$hold`.
    pub(super) async fn script(&self, id: &str, script: &str) -> Program {
        let program = Program::new(self.folder.path().join(id));
        let path = program.folder.join("server.sh");
        let (say, hold) = (program.folder.join("say"), program.folder.join("hold"));
        let head = format!("say='{}'\nhold='{}'\n", say.display(), hold.display());
        fs::write(&path, head + script).unwrap();
        let args = json!([path, "one", "two words", "$(three)"]);
        let profile = json!({"profileId": id, "command": "sh", "args": args});
        self.ok("POST", "/api/v1/profiles", json!({"profiles": [profile]})).await;
        program
    }

    /// Launches and follows.
    pub(super) async fn launch(&self, profile: &str) -> Lines {
        let body = json!({"profileId": profile, "subscribe": true}).to_string();
        let response = soon(self.request("POST", "/api/v1/servers/launch").body(body).send()).await.unwrap();
        assert_eq!(response.status(), 200);
        Lines { response, rest: String::new() }
    }

    /// State by server id.
    pub(super) async fn states(&self) -> BTreeMap<String, String> {
        let answer = self.ok("GET", "/api/v1/servers", json!(null)).await;
        let servers = answer["servers"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        servers.map(|server| (text(&server["serverId"]), text(&server["state"]))).collect()
    }
}

/// The output of a launched program, and whether any of its processes is left.
pub(super) struct Program {
    pub(super) folder: PathBuf,
    said: BufReader<pipe::Receiver>,
    held: pipe::Receiver,
}

impl Program {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        for name in ["say", "hold"] {
            mkfifoat(CWD, folder.join(name), Mode::RUSR | Mode::WUSR).unwrap();
        }
        let open = |options: &mut pipe::OpenOptions, name| options.open_receiver(folder.join(name)).unwrap();
        // Also open for writing, so that it does not end between two writers.
        let said = BufReader::new(open(pipe::OpenOptions::new().read_write(true), "say"));
        let held = open(&mut pipe::OpenOptions::new(), "hold");
        Self { folder, said, held }
    }

    /// The next line that it wrote to `$say`.
    pub(super) async fn says(&mut self) -> String {
        let mut line = String::new();
        soon(self.said.read_line(&mut line)).await.unwrap();
        line.trim_end().to_owned()
    }

    /// Returns when no process has `$hold` open any more. One must have had it open.
    pub(super) async fn is_gone(&mut self) {
        soon(self.held.read_to_end(&mut Vec::new())).await.unwrap();
    }

    /// Whether a process still has `$hold` open.
    pub(super) fn is_there(&self) -> bool {
        self.held.try_read(&mut [0]).is_err()
    }
}

/// The lines of a launch.
pub(super) struct Lines {
    response: Response,
    rest: String,
}

impl Lines {
    /// The next state and its text; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> Option<Launched> {
        let line = loop {
            if let Some((line, rest)) = self.rest.split_once('\n') {
                let line = line.to_owned();
                self.rest = rest.to_owned();
                break line;
            }
            let chunk = soon(self.response.chunk()).await.unwrap()?;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        };
        let line: Value = serde_json::from_str(&line).unwrap();
        check_answer("POST", "/api/v1/servers/launch", 200, &line);
        let payload = &line["result"]["payload"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Some(Launched {
            server_id: text(&payload["serverData"]["serverId"]),
            state: text(&payload["serverData"]["state"]),
            message: text(&payload["message"]),
        })
    }
}

/// A line of a launch.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Launched {
    pub(super) server_id: String,
    pub(super) state: String,
    pub(super) message: String,
}
