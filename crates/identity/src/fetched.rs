//! Keys from a URL.
//!
//! They are fetched when a token needs them: the first time, when they have become old, and when a token names a key
//! that is not among them, because keys are rotated by adding one. Whatever happens, one fetch runs at a time and not
//! more often than every [`Fetching::pause`], so that nobody can use this process to flood the one with the keys. A
//! fetch that fails changes nothing: the keys there are hold. Why no task that fetches by the clock: a process that
//! nobody calls would go on asking, and one that starts could not say any sooner that the URL is wrong.
//!
//! Redirects are not followed: whoever could redirect this request could sign in as any player.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::ring;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::jwks::{KeySet, MAX_DOCUMENT_BYTES};
use crate::token::{BadTokenOptions, TokenError};

/// How keys are fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fetching {
    /// Keys that are older are fetched anew.
    pub refresh: Duration,
    /// Least time from one fetch to the next.
    pub pause: Duration,
    /// Longest time that a fetch takes.
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
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    limits: Fetching,
    known: RwLock<Known>,
    /// Held by whoever fetches.
    turn: Arc<Mutex<()>>,
}

#[derive(Clone, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When they were fetched.
    since: Option<Instant>,
    /// When a fetch was last begun, whatever came of it.
    tried: Option<Instant>,
}

impl Fetched {
    /// Nothing is fetched yet.
    pub(crate) fn new(url: &str, limits: Fetching) -> Result<Self, BadTokenOptions> {
        let url: Uri = url.parse().map_err(|_| BadTokenOptions::Url(url.to_owned()))?;
        let tls = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(ring::default_provider())
            .map_err(BadTokenOptions::NoRoots)?;
        let connector = tls.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self(Arc::new(Shared { url, client, limits, known: RwLock::default(), turn: Arc::default() })))
    }

    /// Keys in which `find` finds what it looks for, or its error about the newest there are.
    pub(crate) async fn find<T>(
        &self,
        find: impl Fn(&KeySet) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let known = self.0.known();
        let found = known.find(&find);
        if !matches!(found, Err(TokenError::UnknownKey | TokenError::KeysUnavailable)) {
            // One caller fetches; for all others the keys there are will do.
            if self.0.is_old(&known)
                && let Ok(turn) = Arc::clone(&self.0.turn).try_lock_owned()
            {
                self.fetch(turn).await;
                return self.0.known().find(&find);
            }
            return found;
        }
        let turn = Arc::clone(&self.0.turn).lock_owned().await;
        // Whoever had the turn before may have fetched what is missing.
        let known = self.0.known();
        let found = known.find(&find);
        if found.is_ok() || !self.0.may_try(&known) {
            return found;
        }
        self.fetch(turn).await;
        self.0.known().find(&find)
    }

    /// Returns when the keys there can be are there. In a task, because the caller may go away while others wait.
    async fn fetch(&self, turn: tokio::sync::OwnedMutexGuard<()>) {
        let shared = Arc::clone(&self.0);
        let fetching = tokio::spawn(async move {
            shared.fetch().await;
            drop(turn);
        });
        // It ends in no other way than by itself, or with the process.
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

    /// The problem of a URL that gives none continues a sentence.
    async fn get(&self) -> Result<KeySet, String> {
        let request = Request::get(self.url.clone()).header(header::ACCEPT, "application/json");
        let request = request.body(Empty::new()).map_err(|error| format!("cannot be asked: {error}"))?;
        let response = self.client.request(request).await.map_err(|error| {
            // The cause is what helps: the error itself says only that it was the connection.
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("cannot be reached: {}", cause.unwrap_or_else(|| error.to_string()))
        })?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT_BYTES).collect().await;
        let body = body.map_err(|error| format!("gave no document: {error}"))?;
        KeySet::parse(&body.to_bytes())
    }
}
