//! One call of a hook: its turn, the request and the answer, within one timeout.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};
use sortie_domain::ids::HookId;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::{BadHookOptions, HookError, HookOptions};

/// Maximum size of an answer, in bytes.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Maximum number of calls of one queue that wait for their turn at one hook.
pub const MAX_WAITING_CALLS: usize = 4_096;

/// The HTTP client of one hook, for all queues.
pub(super) struct Client {
    url: Url,
    http: reqwest::Client,
    authorization: Option<HeaderValue>,
    timeout: Duration,
    concurrency: usize,
    breaker_failures: u32,
    breaker_pause: Duration,
}

impl Client {
    pub(super) fn new(hook: &HookId, options: HookOptions) -> Result<Self, BadHookOptions> {
        let HookOptions { url, timeout, concurrency, breaker_failures, breaker_pause, key } = options;
        let http = sortie_tls::http_client(&url, None)
            .map_err(|source| BadHookOptions::Roots { hook: hook.clone(), source })?;
        // A redirect would send players' data, and the key, to a host that is not configured.
        let http = http.redirect(Policy::none()).build();
        let http = http.map_err(|source| BadHookOptions::Client { hook: hook.clone(), source })?;
        let parsed = Url::parse(&url).map_err(|_| BadHookOptions::Url { hook: hook.clone(), url })?;
        let authorization = key.map(|key| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.as_str()))
                .map_err(|_| BadHookOptions::Key { hook: hook.clone() })?;
            value.set_sensitive(true);
            Ok(value)
        });
        Ok(Self {
            url: parsed,
            http,
            authorization: authorization.transpose()?,
            timeout,
            concurrency: concurrency.max(1),
            breaker_failures,
            breaker_pause,
        })
    }

    async fn post(&self, question: String) -> Result<Vec<u8>, HookError> {
        let mut request = self.http.post(self.url.clone()).body(question);
        request = request.header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|error| unreachable("cannot be reached", &error))?;
        if response.status() != StatusCode::OK {
            return Err(HookError::Status(response.status().as_u16()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| unreachable("closed the connection", &error))?
        {
            answer.extend_from_slice(&chunk);
            if answer.len() > MAX_ANSWER_BYTES {
                return Err(HookError::TooLong);
            }
        }
        Ok(answer)
    }
}

/// The innermost cause: the error itself only says that the connection failed.
fn unreachable(what: &str, error: &reqwest::Error) -> HookError {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    HookError::Unreachable(format!("{what}: {deepest}"))
}

/// One queue's turns at one hook.
pub(super) struct Lane {
    name: String,
    client: Arc<Client>,
    turns: Semaphore,
    /// Permits for calls that wait or run.
    places: Arc<Semaphore>,
    breaker: Mutex<Breaker>,
}

impl Lane {
    pub(super) fn new(name: String, client: Arc<Client>) -> Self {
        Self {
            turns: Semaphore::new(client.concurrency),
            places: Arc::new(Semaphore::new(MAX_WAITING_CALLS + client.concurrency)),
            breaker: Mutex::new(Breaker::new(client.breaker_failures, client.breaker_pause)),
            name,
            client,
        }
    }

    /// Sends `question` and returns the answer as parsed by `read`.
    pub(super) async fn call<T>(
        &self,
        question: String,
        read: fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, HookError> {
        let deadline = Instant::now() + self.client.timeout;
        let _place = self.places.try_acquire().map_err(|_| HookError::Overloaded)?;
        let turn = timeout_at(deadline, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| HookError::Late)?.map_err(|_| HookError::Late)?;
        if !self.breaker().admit(Instant::now()) {
            return Err(HookError::Resting);
        }
        let noted = Noted { lane: self, done: false };
        let answer = timeout_at(deadline, self.client.post(question)).await.unwrap_or(Err(HookError::Late));
        let answer = answer.and_then(|answer| read(&answer).map_err(HookError::NoVerdict));
        noted.note(&answer);
        answer
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An admitted call, whose outcome has to be reported even if it is aborted.
struct Noted<'a> {
    lane: &'a Lane,
    done: bool,
}

impl Noted<'_> {
    fn note<T>(mut self, answer: &Result<T, HookError>) {
        self.done = true;
        let opens = self.lane.breaker().note(answer.is_ok(), Instant::now());
        if let Err(error) = answer
            && opens
        {
            let (hook, pause) = (&self.lane.name, self.lane.client.breaker_pause);
            tracing::warn!(%hook, %error, ?pause, "a hook failed too often and is not called for a while");
        }
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.lane.breaker().forget();
        }
    }
}
