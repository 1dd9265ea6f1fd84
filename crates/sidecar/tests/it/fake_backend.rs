//! A scripted backend that records the calls it receives.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sortie_sidecar::backend::{Backend, BackendError};
use sortie_wire::catena::server_manager::{
    EndMatchRequest, EndMatchResponse, Match, MatchReadyRequest, MatchReadyResponse, RequestMatchRequest,
    RequestMatchResponse,
};
use sortie_wire::status::{Status, refusal};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Code;

/// How it answers calls.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Mood {
    Answers,
    /// Holds requests that are willing to wait until there is a match, or the request is withdrawn.
    Holds,
    Away,
    /// Never answers.
    Silent,
    Refuses(Status),
}

#[derive(Clone)]
pub(crate) struct FakeBackend(Arc<Inner>);

struct Inner {
    mood: watch::Sender<Mood>,
    matches: Mutex<VecDeque<Match>>,
    /// Hints of every answer.
    hints: Mutex<u32>,
    /// `RequestMatch server hints`, `MatchReady server match details`, `EndMatch server match hints`; all received
    /// calls, accepted or not.
    heard: watch::Sender<Vec<String>>,
    /// Servers that have withdrawn their request, once.
    withdrawn: watch::Sender<BTreeSet<String>>,
    /// Number of open requests.
    open: watch::Sender<usize>,
}

/// An open request; closed when its call ends.
struct OpenQuestion<'a>(&'a Inner);

impl<'a> OpenQuestion<'a> {
    fn new(inner: &'a Inner) -> Self {
        inner.open.send_modify(|open| *open += 1);
        Self(inner)
    }
}

impl Drop for OpenQuestion<'_> {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Timeout for a call that must come.
const PATIENCE: Duration = Duration::from_secs(120);
const FULL: u32 = 8;
const WILLING_TO_WAIT: u32 = 2;

pub(crate) fn game(id: &str) -> Match {
    Match { match_id: id.to_owned(), player_ids: vec!["p1".to_owned()], ..Match::default() }
}

pub(crate) fn ask(server: &str) -> RequestMatchRequest {
    RequestMatchRequest { server_id: server.to_owned(), ..RequestMatchRequest::default() }
}

pub(crate) fn ready(server: &str, game: &str, details: &str) -> MatchReadyRequest {
    MatchReadyRequest {
        server_id: server.to_owned(),
        match_id: game.to_owned(),
        connection_details: details.to_owned(),
        ..MatchReadyRequest::default()
    }
}

pub(crate) fn end(server: &str, game: &str) -> EndMatchRequest {
    EndMatchRequest { server_id: server.to_owned(), match_id: game.to_owned(), hint_flags: 0 }
}

pub(crate) fn not_held() -> Mood {
    Mood::Refuses(refusal(Code::FailedPrecondition, "match_not_held", "not yours any more"))
}

impl FakeBackend {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            mood: watch::Sender::new(Mood::Answers),
            matches: Mutex::default(),
            hints: Mutex::default(),
            heard: watch::Sender::default(),
            withdrawn: watch::Sender::default(),
            open: watch::Sender::default(),
        }))
    }

    pub(crate) fn shared(&self) -> Arc<dyn Backend> {
        Arc::new(self.clone())
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.0.mood.send_replace(mood);
    }

    pub(crate) fn set_hints(&self, hints: u32) {
        *self.0.hints.lock().unwrap() = hints;
    }

    pub(crate) fn has(&self, ids: &[&str]) {
        self.0.matches.lock().unwrap().extend(ids.iter().map(|id| game(id)));
        self.0.withdrawn.send_modify(|_| ());
    }

    pub(crate) fn has_match(&self, game: Match) {
        self.0.matches.lock().unwrap().push_back(game);
    }

    /// Removes its match.
    pub(crate) fn takes_back(&self) {
        self.0.matches.lock().unwrap().clear();
    }

    pub(crate) fn heard(&self) -> Vec<String> {
        self.0.heard.borrow().clone()
    }

    pub(crate) fn forget_heard(&self) {
        self.0.heard.send_modify(Vec::clear);
    }

    pub(crate) async fn hears(&self, what: &str) {
        let mut heard = self.0.heard.subscribe();
        let hears = timeout(PATIENCE, heard.wait_for(|heard| heard.iter().any(|call| call == what))).await;
        assert!(hears.is_ok_and(|heard| heard.is_ok()), "not {what}, but {:?}", self.heard());
    }

    /// Waits until no request is open.
    pub(crate) async fn is_left(&self) {
        let mut open = self.0.open.subscribe();
        let left = timeout(PATIENCE, open.wait_for(|open| *open == 0)).await;
        assert!(left.is_ok_and(|open| open.is_ok()), "a question is open after {:?}", self.heard());
    }

    pub(crate) async fn hears_calls(&self, count: usize) {
        self.0.heard.subscribe().wait_for(|heard| heard.len() >= count).await.unwrap();
    }

    async fn take(&self, call: String) -> Result<u32, BackendError> {
        self.0.heard.send_modify(|heard| heard.push(call));
        let mut mood = self.0.mood.subscribe();
        let now = mood.wait_for(|mood| *mood != Mood::Silent).await.unwrap().clone();
        match now {
            Mood::Away => Err(BackendError::Away("connection refused".to_owned())),
            Mood::Refuses(status) => Err(BackendError::Refused(status)),
            Mood::Answers | Mood::Holds | Mood::Silent => Ok(*self.0.hints.lock().unwrap()),
        }
    }
}

#[async_trait]
impl Backend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake_backend"
    }

    async fn request_match(
        &self,
        request: RequestMatchRequest,
    ) -> Result<RequestMatchResponse, BackendError> {
        let call = format!("RequestMatch {} {}", request.server_id, request.hint_flags);
        let _open = OpenQuestion::new(&self.0);
        let hint_flags = self.take(call).await?;
        let nothing = Ok(RequestMatchResponse { hint_flags, ..Default::default() });
        if request.hint_flags & FULL != 0 {
            self.0.withdrawn.send_modify(|withdrawn| _ = withdrawn.insert(request.server_id));
            return nothing;
        }
        let holds = *self.0.mood.borrow() == Mood::Holds && request.hint_flags & WILLING_TO_WAIT != 0;
        let mut news = self.0.withdrawn.subscribe();
        loop {
            let game = self.0.matches.lock().unwrap().pop_front();
            if game.is_some() || !holds {
                return Ok(RequestMatchResponse { r#match: game, hint_flags, matches: Vec::new() });
            }
            if self.0.withdrawn.send_if_modified(|withdrawn| withdrawn.remove(&request.server_id)) {
                return nothing;
            }
            news.changed().await.unwrap();
        }
    }

    async fn match_ready(&self, request: MatchReadyRequest) -> Result<MatchReadyResponse, BackendError> {
        let (server, game) = (&request.server_id, &request.match_id);
        let call = format!("MatchReady {server} {game} {}", request.connection_details);
        let hint_flags = self.take(call).await?;
        Ok(MatchReadyResponse { match_id: request.match_id, hint_flags })
    }

    async fn end_match(&self, request: EndMatchRequest) -> Result<EndMatchResponse, BackendError> {
        let call = format!("EndMatch {} {} {}", request.server_id, request.match_id, request.hint_flags);
        let hint_flags = self.take(call).await?;
        Ok(EndMatchResponse { match_id: request.match_id, hint_flags })
    }
}
