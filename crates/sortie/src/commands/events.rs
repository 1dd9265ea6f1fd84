//! `sortie events tail`: server-sent events, one per line, resumed after a lost connection.

use std::process::ExitCode;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;

use super::output::{line, note};
use super::signals::Signals;
use crate::cli::{self, EventsAction, Tail};
use crate::failure::Failure;
use crate::remote::{ControlPlane, escape};
use crate::terminal::escaped;

/// Pause before reconnecting.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Maximum length of a line of the stream, in bytes.
const MAX_LINE_BYTES: usize = 4 << 20;

pub(crate) async fn run(options: cli::Events) -> Result<ExitCode, Failure> {
    let EventsAction::Tail(tail) = options.action;
    let mut signals = Signals::listen()?;
    tokio::select! {
        result = follow(&tail) => result?,
        _ = signals.next() => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn follow(tail: &Tail) -> Result<(), Failure> {
    let control_plane = ControlPlane::new(tail.remote.clone())?;
    let types: String = tail.types.iter().map(|name| format!("&type={}", escape(name))).collect();
    let path = format!("/v1/events?of={}&from={}{types}", tail.of.name(), escape(&tail.from));
    let mut last = None;
    // The first connection must succeed; later ones are retried.
    let mut response = control_plane.stream(&path, None).await?;
    loop {
        let mut chunks = response.bytes_stream();
        let mut buffer = Vec::new();
        while let Some(Ok(chunk)) = chunks.next().await {
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let text: Vec<u8> = buffer.drain(..=end).collect();
                take_line(&String::from_utf8_lossy(&text), &mut last, tail.remote.json)?;
            }
            if buffer.len() > MAX_LINE_BYTES {
                return Err(Failure::new("the control plane sent a line that is too long"));
            }
        }
        response = reconnect(&control_plane, &path, last.as_deref()).await;
    }
}

async fn reconnect(control_plane: &ControlPlane, path: &str, last: Option<&str>) -> reqwest::Response {
    loop {
        tokio::time::sleep(RECONNECT_PAUSE).await;
        match control_plane.stream(path, last).await {
            Ok(response) => return response,
            Err(failure) => note(format_args!("sortie: {failure}; retrying")),
        }
    }
}

/// One line of a stream, see <https://html.spec.whatwg.org/multipage/server-sent-events.html>.
fn take_line(text: &str, last: &mut Option<String>, json: bool) -> Result<(), Failure> {
    let text = text.trim_end_matches(['\r', '\n']);
    if let Some(id) = text.strip_prefix("id:") {
        *last = Some(id.trim().to_owned());
    }
    let Some(data) = text.strip_prefix("data:").map(str::trim) else { return Ok(()) };
    match serde_json::from_str::<Value>(data) {
        Ok(event) if !json => {
            let part = |name: &str| escaped(event.get(name).and_then(Value::as_str).unwrap_or_default());
            let details = event.get("data").map(ToString::to_string).unwrap_or_default();
            line(format_args!(
                "{:>8}  {}  {:<28} {}  {details}",
                part("id"),
                part("time"),
                part("type"),
                part("subject")
            ))
        }
        _ => line(data),
    }
}
