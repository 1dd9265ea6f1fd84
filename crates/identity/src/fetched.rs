//! Keys from a URL.
//!
//! They are fetched when a token needs them: the first time, when they are too old, and when a token names an unknown
//! key, because keys are rotated by adding one. Only one fetch runs at a time, and never more often than every
//! [`Fetching::pause`], so that nobody can use this process to flood the key server. A failed fetch changes nothing:
//! the current keys stay valid. There is no periodic task: an idle process would keep asking, and a starting one would
//! not find out any sooner that the URL is wrong.
//!
//! Redirects are not followed: anybody who could redirect this request could sign in as any player.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout};

use crate::error::{BadTokenOptions, TokenError};
use crate::jwks::{KeySet, MAX_DOCUMENT_BYTES};

/// How keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetching {
    /// Keys older than this are fetched again.
    pub refresh: Duration,
    /// Minimum time between two fetches.
    pub pause: Duration,
    /// Timeout of a fetch.
    pub deadline: Duration,
}

impl Default for Fetching {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            pause: Duration::from_secs(10),
            deadline: Duration::from_secs(5),
        }
    }
}

/// Keys from a URL. Clones share them.
#[derive(Clone)]
pub(crate) struct Fetched(Arc<Shared>);

struct Shared {
    url: Url,
    client: Client,
    limits: Fetching,
    known: RwLock<Known>,
    /// Held by the caller that fetches.
    turn: Arc<Mutex<()>>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When they were fetched.
    since: Option<Instant>,
    /// When the last fetch began, whatever its outcome.
    tried: Option<Instant>,
}

impl Fetched {
    /// Fetches nothing yet.
    pub(crate) fn new(url: &str, limits: Fetching) -> Result<Self, BadTokenOptions> {
        let parsed = Url::parse(url).map_err(|_| BadTokenOptions::Url(url.to_owned()))?;
        let client = sortie_tls::http_client(url, None)?;
        let client = client.redirect(Policy::none()).build().map_err(BadTokenOptions::Client)?;
        Ok(Self(Arc::new(Shared {
            url: parsed,
            client,
            limits,
            known: RwLock::default(),
            turn: Arc::default(),
        })))
    }

    /// Keys in which `find` finds what it looks for, or its error for the newest keys available.
    pub(crate) async fn find<T>(
        &self,
        find: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let known = self.0.known();
        let found = known.find(&find);
        if !matches!(found, Err(TokenError::UnknownKey | TokenError::KeysUnavailable)) {
            // One caller fetches; the others use the current keys.
            if self.0.is_old(&known)
                && let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned()
            {
                self.fetch(turn).await;
                return self.0.known().find(&find);
            }
            return found;
        }
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        // The previous holder of the turn may have fetched what is missing.
        let known = self.0.known();
        let found = known.find(&find);
        if found.is_ok() || !self.0.may_try(&known) {
            return found;
        }
        self.fetch(turn).await;
        self.0.known().find(&find)
    }

    /// Returns when the keys are as fresh as they can be. Runs as a task, because the caller may be cancelled while
    /// others wait.
    async fn fetch(&self, turn: OwnedMutexGuard<()>) {
        let shared = Arc::clone(&self.0);
        let fetching = tokio::spawn(async move {
            shared.fetch().await;
            drop(turn);
        });
        // It ends only on its own, or with the process.
        let _ = fetching.await;
    }
}

impl Known {
    fn find<T>(&self, find: impl Fn(&KeySet) -> Result<T, TokenError>) -> Result<T, TokenError> {
        self.keys.as_ref().map_or(Err(TokenError::KeysUnavailable), |keys| find(keys))
    }
}

impl Shared {
    fn known(&self) -> Known {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn may_try(&self, known: &Known) -> bool {
        known.tried.is_none_or(|tried| tried.elapsed() >= self.limits.pause)
    }

    fn is_old(&self, known: &Known) -> bool {
        known.since.is_none_or(|since| since.elapsed() >= self.limits.refresh) && self.may_try(known)
    }

    async fn fetch(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).tried = Some(Instant::now());
        let fetched = timeout(self.limits.deadline, self.get()).await;
        match fetched.unwrap_or_else(|_| Err(format!("did not answer within {:?}", self.limits.deadline))) {
            Ok(keys) => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                known.keys = Some(Arc::new(keys));
                known.since = Some(Instant::now());
            }
            Err(problem) => {
                tracing::error!("the keys of player tokens could not be fetched: {} {problem}", self.url);
            }
        }
    }

    /// The error text continues a sentence about the URL.
    async fn get(&self) -> Result<KeySet, String> {
        let asked = self.client.get(self.url.clone()).header(ACCEPT, "application/json").send().await;
        let mut response = asked.map_err(|error| format!("cannot be reached: {}", root(&error)))?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status()));
        }
        let mut document = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| format!("lost the connection: {}", root(&error)))?
        {
            document.extend_from_slice(&chunk);
            if document.len() > MAX_DOCUMENT_BYTES {
                return Err(format!("returned more than {MAX_DOCUMENT_BYTES} bytes"));
            }
        }
        KeySet::parse(&document)
    }
}

/// The innermost cause of an error: the outer ones say only that the connection failed.
fn root(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
