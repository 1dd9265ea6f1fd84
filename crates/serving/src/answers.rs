//! The responses of one connection, and which of them the peer does not read on HTTP/2.
//!
//! On HTTP/2 a peer that reads its connection can still refuse the bytes of a single response, by granting it no window
//! ([RFC 9113, section 5.2](https://www.rfc-editor.org/rfc/rfc9113#section-5.2)). What is queued for it then waits
//! forever, with everything that it holds, above all a slot among the event streams. The connection shows nothing of
//! that, so each response is watched: its body is polled for the next piece only when there is a window for it.
//!
//! The connection stays open, because others may share it, as behind a proxy. It is closed if it has only such
//! responses.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::activity::{Activity, UnderWay};

/// Maximum size of a piece that is handed over, in bytes: progress on a long body is seen by its pieces.
const PIECE_BYTES: usize = 16 << 10;
/// Checks of the responses per stall time.
const LOOKS: u32 = 4;

/// Minimum time between two checks.
const MIN_PAUSE: Duration = Duration::from_millis(1);

/// The error of a response that the peer does not read.
#[derive(Debug)]
struct NotTaken;

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the peer reads nothing of this response")
    }
}

impl Error for NotTaken {}

/// The responses in progress on one connection: at most as many as it has calls. Clones share them.
#[derive(Clone)]
pub(crate) struct Answers {
    watched: Arc<Mutex<Vec<Weak<Mutex<Answer>>>>>,
    activity: Activity,
    closing: CancellationToken,
}

/// One response.
struct Answer {
    /// `None` once it has been given up.
    body: Option<Body>,
    /// Since when nothing more was polled; `None` while something is.
    untaken_since: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Answers {
    pub(crate) fn new(activity: Activity, closing: CancellationToken) -> Self {
        Self { watched: Arc::default(), activity, closing }
    }

    /// A call begins.
    pub(crate) fn call(&self) -> UnderWay {
        self.activity.begin()
    }

    /// Watches the same body from here on, and keeps `call` until its end.
    pub(crate) fn watch(&self, body: Body, call: UnderWay) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let answer = Answer { body: Some(body), untaken_since: Some(Instant::now()) };
        let answer = Arc::new(Mutex::new(answer));
        let mut watched = lock(&self.watched);
        if watched.len() == watched.capacity() {
            watched.retain(|answer| answer.strong_count() > 0);
        }
        watched.push(Arc::downgrade(&answer));
        drop(watched);
        let closing = self.closing.clone();
        Body::new(Watched { answer, rest: Bytes::new(), is_long: false, closing, _call: call })
    }

    /// The same body, which keeps `call` until its end.
    pub(crate) fn count(body: Body, call: UnderWay) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(body.map_frame(move |frame| {
            let _lasts_as_long = &call;
            frame
        }))
    }

    /// Aborts responses of which nothing is read for `stall_time`. Returns when the connection has no others.
    pub(crate) async fn give_up_stalled(&self, stall_time: Duration) {
        let mut looks = interval((stall_time / LOOKS).max(MIN_PAUSE));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let stalled = self.look(stall_time);
            if stalled > 0 && stalled == self.activity.count() {
                return;
            }
        }
    }

    /// How many have been aborted; updated as more are.
    fn look(&self, stall_time: Duration) -> usize {
        let mut watched = lock(&self.watched);
        let mut open = Vec::with_capacity(watched.len());
        watched.retain(|answer| answer.upgrade().inspect(|answer| open.push(Arc::clone(answer))).is_some());
        drop(watched);
        let mut stalled = 0;
        for answer in open {
            let mut answer = lock(&answer);
            if answer.untaken_since.is_some_and(|since| since.elapsed() >= stall_time) {
                stalled += 1;
                // With everything that it holds; the lock comes after it.
                let body = answer.body.take();
                drop(answer);
                drop(body);
            }
        }
        stalled
    }
}

/// A body that is handed over in pieces.
///
/// h2 takes a piece as soon as there is a window for its first byte, and keeps the rest. So that the rest of a long
/// response is not forgotten there, the last byte is a piece of its own: once it is taken, there was a window for all
/// others.
struct Watched {
    answer: Arc<Mutex<Answer>>,
    /// The rest of the last part of the body.
    rest: Bytes,
    /// Whether that part is longer than one piece.
    is_long: bool,
    closing: CancellationToken,
    _call: UnderWay,
}

impl Watched {
    fn piece(&mut self) -> Frame<Bytes> {
        let rest = self.rest.len();
        let is_last_alone = rest > 1 && (self.is_long || self.closing.is_cancelled());
        Frame::data(self.rest.split_to(PIECE_BYTES.min(rest - usize::from(is_last_alone))))
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let shared = Arc::clone(&self.answer);
        let mut answer = lock(&shared);
        if !self.rest.is_empty() && answer.body.is_some() {
            answer.untaken_since = Some(Instant::now());
            return Poll::Ready(Some(Ok(self.piece())));
        }
        answer.untaken_since = None;
        let Some(body) = &mut answer.body else { return Poll::Ready(Some(Err(NotTaken.into()))) };
        let next = ready!(Pin::new(body).poll_frame(context));
        answer.untaken_since = Some(Instant::now());
        Poll::Ready(next.map(|frame| match frame?.into_data() {
            Ok(data) => {
                self.is_long = data.len() > PIECE_BYTES;
                self.rest = data;
                Ok(self.piece())
            }
            Err(trailers) => Ok(trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.answer);
        self.rest.is_empty() && answer.body.as_ref().is_some_and(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let answer = lock(&self.answer);
        let Some(body) = &answer.body else { return SizeHint::default() };
        let (hint, rest) = (body.size_hint(), self.rest.len() as u64);
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower().saturating_add(rest));
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole
    }
}
