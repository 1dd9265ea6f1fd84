//! The HTTP client of the subcommands that talk to a running control plane.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::cli::Remote;
use crate::failure::Failure;
use crate::terminal::escaped;

/// Maximum wait for an answer that needs no waiting on the server's side.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Maximum wait for a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Maximum number of items per page.
const PAGE: usize = 1_000;

/// Client of one control plane.
pub(crate) struct ControlPlane {
    client: Client,
    remote: Remote,
}

impl ControlPlane {
    pub(crate) fn new(remote: Remote) -> Result<Self, Failure> {
        let client = sortie_tls::http_client(&remote.url, remote.ca.as_deref())?
            .connect_timeout(CONNECT_TIME)
            .build()?;
        Ok(Self { client, remote })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.remote.url.trim_end_matches('/'));
        let request = self.client.request(method, url);
        match &self.remote.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// The answer to a call; an error status becomes a failure with the server's own message.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let request = self.request(method, path).timeout(ANSWER_TIME);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = self.send(request).await?;
        Ok(response.json().await?)
    }

    /// An answer without an end.
    pub(crate) async fn stream(&self, path: &str, resume: Option<&str>) -> Result<Response, Failure> {
        let request = self.request(Method::GET, path);
        let request = match resume {
            Some(id) => request.header("last-event-id", id),
            None => request,
        };
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| {
            let hint = "is it running? start it with `sortie up`, or name another with --url";
            Failure::new(format!("cannot reach {}: {}; {hint}", self.remote.url, root(&error)))
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let said = serde_json::from_str::<Value>(&text).ok();
        let message = said.as_ref().and_then(|said| said.pointer("/error/message")).and_then(Value::as_str);
        Err(Failure::new(format!("{status}: {}", escaped(message.unwrap_or(&text)))))
    }

    /// Every item of a list, page by page.
    pub(crate) async fn list(&self, path: &str, items: &str) -> Result<Vec<Value>, Failure> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let page = self.call(Method::GET, &format!("{path}{separator}limit={PAGE}{after}"), None).await?;
            let found = page.get(items).and_then(Value::as_array);
            all.extend(found.cloned().unwrap_or_default());
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", escape(next)),
                None => return Ok(all),
            }
        }
    }
}

/// The innermost error, which the others only wrap.
fn root(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// `text` as a part of a URL.
pub(crate) fn escape(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
