//! A running `sortie up`, and its HTTP interface.

use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::{Client, Method, RequestBuilder, Response};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::site::{Finished, PATIENCE, Site, finish, signal, soon};

pub(crate) const REQUEST: &str = "/api/v1/server/request_match";
pub(crate) const READY: &str = "/api/v1/server/match_ready";
pub(crate) const END: &str = "/api/v1/server/end_match";

/// Lines of its log that are shown when a test fails.
const SHOWN_LINES: usize = 100;

/// A control plane that serves; killed when dropped.
pub(crate) struct ControlPlane {
    child: Child,
    stderr: PathBuf,
    http: Client,
    pub(crate) pid: i32,
    pub(crate) url: String,
    /// Shown with every call, if there is one.
    pub(crate) key: Option<String>,
}

impl ControlPlane {
    /// Waits until it says where it listens.
    pub(crate) async fn start(mut command: Command, log: File, stderr: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let pid = i32::try_from(child.id().unwrap()).unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = soon("the first line of `sortie up`", lines.next_line()).await.unwrap();
        let said = || std::fs::read_to_string(&stderr).unwrap_or_default();
        let line = line.unwrap_or_else(|| panic!("it ended: {}", said()));
        let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}: {}", said()));
        let url = url.to_owned();
        // Beside what it writes, where it speaks TLS.
        let ca = url.starts_with("https").then(|| stderr.with_file_name("ca.pem"));
        let http = sortie_tls::http_client(&url, ca.as_deref()).unwrap().build().unwrap();
        Self { child, stderr, http, pid, url, key: None }
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(self.pid, which);
    }

    /// How it ends by itself.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        soon("the end of `sortie up`", self.child.wait()).await.unwrap()
    }

    /// Asks it to end, which it does without complaint.
    pub(crate) async fn stop(self) {
        self.signal(Signal::TERM);
        let stderr = self.stderr.clone();
        let status = self.ended().await;
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(stderr).unwrap());
    }

    /// Ends it as a power cut would.
    pub(crate) async fn kill(self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended().await.code(), None);
    }

    /// `sortie` with these arguments, told to talk to this one.
    pub(crate) fn command(&self, site: &Site, arguments: &[&str]) -> Command {
        let mut command = site.sortie(arguments);
        command.args(["--url", &self.url]);
        command.args(self.key.iter().flat_map(|key| ["--key", key]));
        command
    }

    /// Runs `sortie` to its end, told to talk to this one.
    pub(crate) async fn run(&self, site: &Site, arguments: &[&str]) -> Finished {
        finish(self.command(site, arguments)).await
    }

    /// The same, which must succeed.
    pub(crate) async fn run_ok(&self, site: &Site, arguments: &[&str]) -> Finished {
        let finished = self.run(site, arguments).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {} {}", finished.stdout, finished.stderr);
        finished
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let request = self.http.request(method.parse::<Method>().unwrap(), format!("{}{path}", self.url));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Status and answer; null for an answer that is no JSON.
    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let call = async {
            let response = self.request(method, path).body(body.into()).send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        let what = format!("{method} {path}");
        let (status, text) = soon(&what, call).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        (status, serde_json::from_slice(&text).unwrap_or_default())
    }

    /// The answer of a call that must succeed.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = self.send(method, path, body).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ok("GET", path, Value::Null).await
    }

    /// Submits a match; gives its id.
    pub(crate) async fn submit(&self, order: Value) -> String {
        self.ok("POST", "/v1/matches", order).await["match_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn show(&self, id: &str) -> Value {
        self.get(&format!("/v1/matches/{id}")).await
    }

    /// A match that a game server of this name has ready.
    pub(crate) async fn ready_match(&self, server: &str, order: Value) -> String {
        let id = self.submit(order).await;
        let offer = self.ok("POST", REQUEST, json!({"serverId": server})).await;
        assert_eq!(offer["match"]["matchId"], json!(id));
        let ready = json!({"serverId": server, "matchId": id, "connectionDetails": "203.0.113.7:7777"});
        self.ok("POST", READY, ready).await;
        id
    }

    /// Every event from the first one on.
    pub(crate) async fn events(&self) -> Events {
        Events::of(self.request("GET", "/v1/events?from=earliest")).await
    }

    /// The first event of this type, about `subject` if one is given.
    pub(crate) async fn event(&self, kind: &str, subject: Option<&str>) -> Value {
        self.events().await.find(kind, subject).await
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.stderr).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n"));
        }
    }
}

/// Server-sent events.
pub(crate) struct Events {
    lines: Lines,
}

impl Events {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = soon("events", request.send()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { lines: Lines::of(response) }
    }

    /// The next event, a CloudEvent. Its id and type are also those of the stream.
    pub(crate) async fn next(&mut self) -> Value {
        soon("another event", self.read()).await
    }

    async fn read(&mut self) -> Value {
        let (mut id, mut kind) = (String::new(), String::new());
        loop {
            let line = self.lines.next().await.expect("another event");
            match line.split_once(':').map(|(name, value)| (name, value.trim())) {
                Some(("id", value)) => value.clone_into(&mut id),
                Some(("event", value)) => value.clone_into(&mut kind),
                Some(("data", value)) => {
                    let event: Value = serde_json::from_str(value).unwrap();
                    assert_eq!((&event["id"], &event["type"]), (&json!(id), &json!(kind)));
                    return event;
                }
                _ => {}
            }
        }
    }

    /// The next event of this type, about `subject` if one is given.
    pub(crate) async fn find(&mut self, kind: &str, subject: Option<&str>) -> Value {
        let mut passed = Vec::new();
        let find = async {
            loop {
                let event = self.next().await;
                if event["type"] == kind && subject.is_none_or(|subject| event["subject"] == subject) {
                    return event;
                }
                passed.push(event.to_string());
            }
        };
        let found = tokio::time::timeout(PATIENCE, find).await;
        found.unwrap_or_else(|_| {
            panic!("no {kind} {}, but\n{}", subject.unwrap_or_default(), passed.join("\n"))
        })
    }
}

/// The lines of an answer, as they come.
pub(crate) struct Lines {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: VecDeque<u8>,
}

impl Lines {
    pub(crate) fn of(response: Response) -> Self {
        Self { chunks: response.bytes_stream().boxed(), buffer: VecDeque::new() }
    }

    /// The next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let chunk = soon("more of an answer", self.chunks.next()).await?;
            self.buffer.extend(chunk.unwrap());
        }
    }
}
