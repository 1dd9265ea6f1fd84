//! The debug panel: one page that shows live what the sidecar holds and does.
//!
//! The page comes entirely from this process and works without a network; its policy makes browsers refuse anything
//! from elsewhere. It receives data and never markup: foreign names, e.g. of a match, are shown as text.

use std::convert::Infallible;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures::stream::{Stream, unfold};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::SourceStatus;
use super::state::{Control, StreamPermit};
use crate::manager::{CallRecord, ManagerView};

/// Minimum time between two updates of a page.
pub const SEND_PAUSE: Duration = Duration::from_millis(250);
/// Maximum time between two updates: the silence of a server grows without an event, and a page that hears nothing
/// should know that the sidecar is gone.
pub const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Only from this origin.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'",
);

/// The page and its files.
pub(super) fn routes() -> Router<Control> {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", include_str!("index.html"))))
        .route("/panel.js", get(|| file("text/javascript; charset=utf-8", include_str!("panel.js"))))
        .route("/panel.css", get(|| file("text/css; charset=utf-8", include_str!("panel.css"))))
        .route("/events", get(events))
}

async fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// Constant while the sidecar runs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct About<'a> {
    id: &'a str,
    hostname: &'a str,
    version: &'static str,
    began_ms: u64,
    resolver: Option<&'a str>,
    settings: &'a Value,
}

/// Changing state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Now {
    sources: Vec<SourceStatus>,
    #[serde(flatten)]
    held: ManagerView,
    calls: Vec<CallRecord>,
}

/// `GET /events`: one event `about`, then an event `now` after every change.
async fn events(State(control): State<Control>) -> Response {
    let permit = match control.stream_permit() {
        Ok(permit) => permit,
        Err(refused) => return refused.into_response(),
    };
    let mut response = Sse::new(Watch::new(control, permit).into_events()).into_response();
    guard(response.headers_mut());
    response
}

/// One open page.
struct Watch {
    held: watch::Receiver<u64>,
    sources: watch::Receiver<Vec<SourceStatus>>,
    control: Control,
    has_begun: bool,
    /// Whether there is an unsent change.
    is_stale: bool,
    not_before: Instant,
    _permit: StreamPermit,
}

impl Watch {
    fn new(control: Control, permit: StreamPermit) -> Self {
        Self {
            held: control.manager.changes(),
            sources: control.options.sources.clone(),
            control,
            has_begun: false,
            is_stale: true,
            not_before: Instant::now(),
            _permit: permit,
        }
    }

    fn into_events(self) -> impl Stream<Item = Result<Event, Infallible>> {
        unfold(self, |mut watch| async {
            let event = watch.next().await?;
            Some((Ok(event), watch))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        if !self.has_begun {
            self.has_begun = true;
            return event("about", &self.about());
        }
        let closing = self.control.closing.clone();
        tokio::select! {
            biased;
            () = closing.cancelled() => None,
            () = self.changed() => event("now", &self.now()),
        }
    }

    /// Returns when there is something to send and it may be sent.
    async fn changed(&mut self) {
        if !self.is_stale {
            tokio::select! {
                () = change(&mut self.held) => {}
                () = change(&mut self.sources) => {}
                () = tokio::time::sleep(SIGN_OF_LIFE) => {}
            }
            self.is_stale = true;
        }
        sleep_until(self.not_before).await;
        self.is_stale = false;
        self.not_before = Instant::now() + SEND_PAUSE;
    }

    fn about(&self) -> Value {
        let options = &self.control.options;
        let began = self.control.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        json!(About {
            id: &self.control.id,
            hostname: &options.hostname,
            version: env!("CARGO_PKG_VERSION"),
            began_ms: u64::try_from(began.as_millis()).unwrap_or(u64::MAX),
            resolver: options.resolver.as_deref(),
            settings: &options.settings,
        })
    }

    fn now(&mut self) -> Now {
        // Marked before reading, so that a change after it is noticed.
        self.held.mark_unchanged();
        let sources = self.sources.borrow_and_update().clone();
        Now { sources, held: self.control.manager.view(), calls: self.control.manager.calls() }
    }
}

/// Pending for ever once the sender is gone.
async fn change<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// `None`, which ends the stream, if serialization fails; it does not for these documents.
fn event(name: &'static str, document: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(document).ok()
}
