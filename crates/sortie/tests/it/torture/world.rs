//! What all clients share: the way to the control plane, which dies and comes back at the same address, and what it
//! has acknowledged.

use std::sync::{Mutex, MutexGuard};

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::sync::watch;

use super::journal::Journal;

/// What became of a call.
pub(super) enum Answer {
    /// It was carried out, and said so.
    Acknowledged(Value),
    /// It was refused: the code of the error.
    Refused(String),
    /// Nobody knows whether it was carried out: the control plane died. It is back by now.
    Lost,
}

pub(super) struct World {
    http: Client,
    url: String,
    key: String,
    /// Control planes that have begun to serve so far.
    lives: watch::Sender<u32>,
    /// Calls acknowledged so far.
    acknowledged: watch::Sender<u64>,
    closing: watch::Sender<bool>,
    journal: Mutex<Journal>,
}

impl World {
    pub(super) fn new(url: String, key: String) -> Self {
        // No connection outlives its call, so that one to a dead control plane is never tried.
        let http = sortie_tls::http_client(&url, None).unwrap().pool_max_idle_per_host(0).build().unwrap();
        Self {
            http,
            url,
            key,
            lives: watch::Sender::new(0),
            acknowledged: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            journal: Mutex::default(),
        }
    }

    pub(super) fn journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().unwrap()
    }

    /// Another control plane serves.
    pub(super) fn serves(&self) {
        self.lives.send_modify(|lives| *lives += 1);
    }

    pub(super) fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Returns when so many more calls were acknowledged.
    pub(super) async fn more_acknowledged(&self, more: u64) {
        let wanted = self.acknowledged() + more;
        self.acknowledged.subscribe().wait_for(|now| *now >= wanted).await.unwrap();
    }

    /// Nothing new is begun from now on.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    pub(super) async fn closed(&self) {
        self.closing.subscribe().wait_for(|closing| *closing).await.unwrap();
    }

    fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.key)
    }

    /// Status and text of an answer that arrived whole; waits for the next control plane where none did.
    pub(super) async fn ask(&self, method: &str, path: &str, body: &Value) -> Option<(u16, String)> {
        let mut lives = self.lives.subscribe();
        let life = *lives.borrow();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answered = async {
            let response = self.request(method, path).body(body).send().await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.text().await?))
        };
        match answered.await {
            Ok(answer) => Some(answer),
            Err(_) => {
                lives.wait_for(|now| *now > life).await.unwrap();
                None
            }
        }
    }

    /// Makes a call once.
    pub(super) async fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let Some((status, text)) = self.ask(method, path, body).await else { return Answer::Lost };
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if (200..300).contains(&status) {
            self.count();
            return Answer::Acknowledged(answer);
        }
        let code = [&answer["error"]["code"], &answer["details"][0]["reason"]];
        let code = code.into_iter().find_map(Value::as_str);
        Answer::Refused(code.unwrap_or_else(|| panic!("{method} {path}: {status} {text}")).to_owned())
    }

    /// Makes a call that does no harm when it is made twice until its outcome is known: the answer, or the code of
    /// the error.
    pub(super) async fn settle(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        loop {
            match self.call(method, path, body).await {
                Answer::Acknowledged(answer) => return Ok(answer),
                Answer::Refused(code) => return Err(code),
                Answer::Lost => {}
            }
        }
    }

    /// Something was acknowledged.
    pub(super) fn count(&self) {
        self.acknowledged.send_modify(|count| *count += 1);
    }
}
