//! `GET /v1/events`: every event as a CloudEvent, as server-sent events that can be resumed.
//!
//! `id` is the event's place in the log, so that a browser that reconnects with `Last-Event-ID` misses nothing. Broker
//! and matchmaker have a log each, and each stream follows one of them: a merged order would change with a restart, and
//! a single id could not say how far a reader is.

use std::convert::Infallible;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream::unfold;
use futures::{Stream, StreamExt as _};
use serde_json::Value;
use sortie_domain::broker::Broker;
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::{Cursor, Handle, Hosted, SubscribeError, Subscription, Unavailable};
use sortie_wire::cloud_event;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::auth::{Caller, Pass};
use crate::error::{ApiError, Form};
use crate::params::Params;
use crate::shares::OpenStream;
use crate::state::Api;

const LAST_EVENT_ID: &str = "last-event-id";

/// The values of the parameter `of`, which says whose log to follow; the first is the default.
pub(super) const LOGS: [&str; 2] = ["broker", "matchmaker"];

/// A machine whose log can be followed.
trait Logged: Hosted {
    fn kind(event: &Self::Event) -> &'static str;
    fn document(record: &Record<Self::Event>, source: &str) -> Value;
}

impl Logged for Broker {
    fn kind(event: &Self::Event) -> &'static str {
        event.kind()
    }

    fn document(record: &Record<Self::Event>, source: &str) -> Value {
        cloud_event::cloud_event(record, source)
    }
}

impl Logged for Matchmaker {
    fn kind(event: &Self::Event) -> &'static str {
        event.kind()
    }

    fn document(record: &Record<Self::Event>, source: &str) -> Value {
        cloud_event::matchmaker::cloud_event(record, source)
    }
}

/// Maximum number of types that one stream may ask for.
const MAX_TYPES: usize = 32;

/// `GET /v1/events`
pub(crate) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let heartbeat = api.options.limits.heartbeat;
    match open(api, &caller, &headers, &uri).await {
        Ok(events) => Sse::new(events).keep_alive(KeepAlive::new().interval(heartbeat)).into_response(),
        Err(error) => error.respond(Form::Native),
    }
}

type Shared<M> = Arc<Record<<M as sortie_domain::machine::Machine>::Event>>;

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<SseEvent, Infallible>> + Send>>;

/// The events that the caller asks for.
struct Wanted {
    cursor: Cursor,
    types: Vec<String>,
    pass: Pass,
    open: OpenStream,
}

struct EventStream<M: Logged> {
    api: Api,
    subscription: Subscription<M>,
    /// Already read, to check the cursor.
    first: Option<Shared<M>>,
    types: Vec<String>,
    pass: Pass,
    /// When to recheck the key if there are no events.
    looks: Interval,
    _permit: OwnedSemaphorePermit,
    _open: OpenStream,
}

/// Checks the cursor, so that a bad one is answered with an error and not with a broken stream.
async fn open(api: Api, caller: &Caller, headers: &HeaderMap, uri: &Uri) -> Result<Events, ApiError> {
    let mut params = Params::of(uri)?;
    let (from, of) = (params.one("from")?, params.one("of")?);
    let types = types(&params.all("type"))?;
    params.finish()?;
    let cursor = cursor(headers, from.as_deref())?;
    let wanted = Wanted { cursor, types, pass: caller.pass(), open: api.shares.stream(caller)? };
    match of.as_deref() {
        None | Some("broker") => {
            let broker = api.options.broker.clone();
            Ok(begin(api, &broker, wanted).await?.into_events().boxed())
        }
        Some("matchmaker") => {
            let maker = api.maker()?.clone();
            Ok(begin(api, &maker, wanted).await?.into_events().boxed())
        }
        Some(_) => {
            Err(ApiError::field("of", format!("must be {}", LOGS.map(|log| format!("`{log}`")).join(" or "))))
        }
    }
}

async fn begin<M: Logged>(api: Api, machine: &Handle<M>, wanted: Wanted) -> Result<EventStream<M>, ApiError> {
    let permit = api.log_stream()?;
    let (subscription, first) = subscribe(machine, wanted.cursor).await?;
    let mut looks = interval(api.options.limits.heartbeat);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Wanted { types, pass, open, .. } = wanted;
    Ok(EventStream { api, subscription, first, types, pass, looks, _permit: permit, _open: open })
}

/// Starts to follow a log, and reads the first event if there already is one.
async fn subscribe<M: Logged>(
    machine: &Handle<M>,
    cursor: Cursor,
) -> Result<(Subscription<M>, Option<Shared<M>>), ApiError> {
    loop {
        let mut subscription = machine.subscribe(cursor);
        let wanted = subscription.next_seq();
        let last = machine.query(M::last_seq).await?;
        if wanted > last + 1 {
            return Err(SubscribeError::Ahead { asked: wanted, last }.into());
        }
        if wanted == last + 1 {
            return Ok((subscription, None));
        }
        match subscription.next().await {
            Ok(first) => return Ok((subscription, Some(first))),
            // The oldest event has just been removed: try the one that is the oldest now.
            Err(SubscribeError::Gone { .. }) if cursor == Cursor::Earliest => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The header, which browsers send on their own when they reconnect, takes precedence over the URL.
fn cursor(headers: &HeaderMap, from: Option<&str>) -> Result<Cursor, ApiError> {
    let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default());
    if let Some(last) = last.filter(|text| !text.is_empty()) {
        let bad = || ApiError::field(LAST_EVENT_ID, "must be the id of an event, a number");
        return last.parse::<u64>().map(|seq| Cursor::From(seq.saturating_add(1))).map_err(|_| bad());
    }
    match from {
        None | Some("latest") => Ok(Cursor::Latest),
        Some("earliest") => Ok(Cursor::Earliest),
        Some(text) => {
            let bad =
                |_| ApiError::field("from", "must be `earliest`, `latest` or the id of an event, a number");
            text.parse().map(Cursor::From).map_err(bad)
        }
    }
}

fn types(values: &[String]) -> Result<Vec<String>, ApiError> {
    let types = values.iter().flat_map(|value| value.split(',')).map(|text| text.trim_end_matches('.'));
    let types: Vec<_> = types.filter(|text| !text.is_empty()).map(ToOwned::to_owned).collect();
    if types.len() > MAX_TYPES {
        return Err(ApiError::field("type", format!("has more than {MAX_TYPES} types")));
    }
    Ok(types)
}

/// Whether `kind` is one of `types` or below it: `sortie.match` has `sortie.match.ready` below it.
fn is_wanted(types: &[String], kind: &str) -> bool {
    let below = |of: &String| {
        kind.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    types.is_empty() || types.iter().any(below)
}

impl<M: Logged> EventStream<M> {
    fn into_events(self) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send {
        unfold(Some(self), |stream| async move {
            let mut stream = stream?;
            match stream.next().await {
                Ok(record) => {
                    let event = stream.show(&record);
                    Some((Ok(event), Some(stream)))
                }
                // The answer has begun: the error is sent as an event of its own, without an id.
                Err(error) => {
                    let text = String::from_utf8_lossy(&error.native_json()).into_owned();
                    Some((Ok(SseEvent::default().event("error").data(text)), None))
                }
            }
        })
    }

    async fn next(&mut self) -> Result<Shared<M>, ApiError> {
        loop {
            let record = match self.first.take() {
                Some(record) => record,
                None => tokio::select! {
                    biased;
                    () = self.api.options.closing.cancelled() => return Err(Unavailable::ShuttingDown.into()),
                    record = self.subscription.next() => record?,
                    _ = self.looks.tick() => {
                        self.pass.check()?;
                        continue;
                    }
                },
            };
            self.pass.check()?;
            if is_wanted(&self.types, M::kind(&record.event)) {
                return Ok(record);
            }
        }
    }

    fn show(&self, record: &Record<M::Event>) -> SseEvent {
        let document = M::document(record, &self.api.options.source).to_string();
        SseEvent::default().id(record.seq.to_string()).event(M::kind(&record.event)).data(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_match_whole_words_from_the_front() {
        let wanted = |list: &str, kind| is_wanted(&types(&[list.to_owned()]).unwrap(), kind);
        assert!(wanted("", "sortie.match.ready"));
        assert!(wanted("sortie.match", "sortie.match.ready"));
        assert!(wanted("sortie.seat,sortie.match.", "sortie.match.ready"));
        assert!(wanted("sortie.match.ready", "sortie.match.ready"));
        assert!(!wanted("sortie.mat", "sortie.match.ready"));
        assert!(!wanted("sortie.seat", "sortie.match.ready"));
    }

    #[test]
    fn the_header_counts_more_than_the_parameter() {
        let with =
            |last: &str| [(LAST_EVENT_ID.parse().unwrap(), last.parse().unwrap())].into_iter().collect();
        assert_eq!(cursor(&with("41"), Some("earliest")).unwrap(), Cursor::From(42));
        assert_eq!(cursor(&HeaderMap::new(), Some("41")).unwrap(), Cursor::From(41));
        assert_eq!(cursor(&HeaderMap::new(), None).unwrap(), Cursor::Latest);
        assert!(cursor(&with("x"), None).is_err());
        assert!(cursor(&HeaderMap::new(), Some("-1")).is_err());
    }
}
