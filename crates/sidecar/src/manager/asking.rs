//! Requests for a match, called questions.
//!
//! A question runs in its own task, so that it is ended properly when nobody waits for it any more: the game server has
//! closed its connection, has died, or the sidecar ends. The question is then withdrawn. Ending the call is not enough,
//! because an answer in flight would be lost together with its match: the backend is notified by a second call, which
//! makes it answer the first one, and a match in that answer goes back to the backend's queue, unless the server asks
//! again within a moment.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sortie_wire::catena::server_manager::{EndMatchRequest, RequestMatchRequest, RequestMatchResponse};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::{Status, refusal};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;

use super::delivery::{self, Keep};
use super::ending::AtShutdown;
use super::held::{MAX_MATCHES, TooMany};
use super::queue::Call;
use super::view::Outcome;
use super::{CALL_TIME, Shared, check_id, too_many};
use crate::backend::{BackendError, HELD_CALL_TIME};

/// Maximum time that a server which is willing to wait is held while the backend is away, so that it does not ask in a
/// busy loop.
const AWAY_PAUSE: Duration = Duration::from_secs(5);
/// Maximum number of open questions, including those that nobody waits for any more.
const MAX_QUESTIONS: usize = 2 * MAX_MATCHES;
/// Timeout for the answer to a question after the backend was told that it is withdrawn.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(2);
/// How long a match that nobody waited for is kept for a server that asks again, e.g. because its client timed out.
const KEEP_TIME: Duration = Duration::from_secs(1);
/// The server requests nothing right now, and may ask again.
const WITHDRAW: u32 = HintFlag::Full as u32 | HintFlag::NotFull as u32;
/// The server is gone. FULL is for backends that ignore SHUTDOWN in requests for a match.
const LEAVE: u32 = HintFlag::Shutdown as u32 | HintFlag::Full as u32;

/// The backend's answer to a question; a match in it is already held.
type Answer = Result<u32, BackendError>;
type Response = Result<RequestMatchResponse, BackendError>;

/// Questions that the backend has not answered.
#[derive(Default)]
pub(super) struct Questions {
    last: u64,
    open: BTreeMap<u64, Question>,
    /// Questions that still need handling, including the open ones.
    unsettled: usize,
}

struct Question {
    server_id: String,
    /// Cancelled once nobody waits for the answer.
    withdrawn: CancellationToken,
    /// Cancelled once the backend was told that the server is leaving.
    left: CancellationToken,
}

impl Questions {
    /// Withdraws the questions of the server.
    pub(super) fn withdraw(&self, server_id: &str) {
        let of_server = self.open.values().filter(|question| question.server_id == server_id);
        of_server.for_each(|question| question.withdrawn.cancel());
    }

    /// Withdraws all questions.
    pub(super) fn withdraw_all(&self) {
        self.open.values().for_each(|question| question.withdrawn.cancel());
    }

    /// Whether every question was answered, and every match has reached its server or was handed back.
    pub(super) const fn are_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// For each open question of the server: the token that is cancelled once the backend was told that the server is
    /// leaving.
    fn leaving(&self, server_id: &str) -> Vec<CancellationToken> {
        let of_server = self.open.values().filter(|question| question.server_id == server_id);
        of_server.map(|question| question.left.clone()).collect()
    }

    /// Whether a question of the server is being withdrawn: the backend would mistake a new one for that.
    fn is_withdrawing(&self, server_id: &str) -> bool {
        let mut open = self.open.values();
        open.any(|question| question.server_id == server_id && question.withdrawn.is_cancelled())
    }
}

/// An open question; closed when dropped.
struct Open {
    shared: Arc<Shared>,
    number: u64,
    withdrawn: CancellationToken,
    left: CancellationToken,
}

impl Open {
    fn new(shared: &Arc<Shared>, server_id: &str) -> Result<Self, TooMany> {
        let mut state = shared.state();
        let questions = &mut state.questions;
        if questions.open.len() >= MAX_QUESTIONS {
            return Err(TooMany { what: "questions for a match", limit: MAX_QUESTIONS });
        }
        questions.last += 1;
        let number = questions.last;
        let (withdrawn, left) = (CancellationToken::new(), CancellationToken::new());
        let server_id = server_id.to_owned();
        let question = Question { server_id, withdrawn: withdrawn.clone(), left: left.clone() };
        questions.open.insert(number, question);
        drop(state);
        if shared.is_closing() {
            withdrawn.cancel();
        }
        Ok(Self { shared: Arc::clone(shared), number, withdrawn, left })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.state().questions.open.remove(&self.number);
        self.shared.changed();
    }
}

/// An unsettled question; settled when dropped.
struct Unsettled(Arc<Shared>);

impl Unsettled {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.state().questions.unsettled += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.state().questions.unsettled -= 1;
        self.0.changed();
    }
}

pub(super) async fn request_match(
    shared: &Arc<Shared>,
    source: &str,
    request: RequestMatchRequest,
) -> Result<RequestMatchResponse, Status> {
    let server_id = request.server_id.clone();
    let is_willing = request.hint_flags & HintFlag::WillingToWait as u32 != 0;
    match ask(shared, source, request).await {
        Ok(response) => Ok(response),
        Err(BackendError::Refused(status)) => Err(status),
        Err(BackendError::Away(_)) => {
            if is_willing {
                let _waits = Waits::begin(shared, &server_id).map_err(BackendError::status)?;
                let _it_is_nothing_either_way = timeout(AWAY_PAUSE, shared.back.notified()).await;
            }
            Ok(RequestMatchResponse::default())
        }
    }
}

/// Asks once. Also returns `Away` while older calls of the server wait for delivery: the backend would answer for an
/// outdated state.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    source: &str,
    request: RequestMatchRequest,
) -> Result<RequestMatchResponse, BackendError> {
    let (began, server_id) = (Instant::now(), request.server_id.clone());
    let result = asked(shared, source, request).await;
    let found = result.as_ref().ok().and_then(|response| response.r#match.as_ref());
    let outcome = match (&result, found) {
        (Ok(_), Some(_)) => Outcome::Answered,
        (Ok(_), None) => Outcome::Nothing,
        (Err(BackendError::Away(why)), _) => Outcome::Away(why.clone()),
        (Err(BackendError::Refused(status)), _) => Outcome::Refused(status.message.clone()),
    };
    let match_id = found.map_or("", |found| &found.match_id);
    shared.record(began, source, ("RequestMatch", &server_id, match_id), outcome);
    result
}

async fn asked(
    shared: &Arc<Shared>,
    source: &str,
    request: RequestMatchRequest,
) -> Result<RequestMatchResponse, BackendError> {
    let server_id = request.server_id.clone();
    shared.register(source, &server_id).map_err(BackendError::Refused)?;
    let _waits = Waits::begin(shared, &server_id)?;
    if shared.is_closing() {
        return Ok(RequestMatchResponse::default());
    }
    // Before the question, so that no change is missed.
    let mut changes = shared.changes.subscribe();
    loop {
        if let Some(response) = give(shared, &server_id) {
            return Ok(response);
        }
        if !shared.state().questions.is_withdrawing(&server_id) {
            break;
        }
        // The sender is part of the shared state.
        let _ = changes.changed().await;
    }
    if shared.is_closing() {
        return Ok(RequestMatchResponse::default());
    }
    if shared.state().queue.first_of(&server_id).is_some() {
        let why = "older calls of this server wait for delivery";
        return Err(BackendError::Away(why.to_owned()));
    }
    let mut waiter =
        Waiter::new(shared, source, request).map_err(|error| BackendError::Refused(too_many(&error)))?;
    let hints = match wait(shared, &server_id, &mut waiter, changes).await {
        Ok(hints) => hints?,
        Err(response) => return Ok(response),
    };
    let owed = shared.take_owed_hints(&server_id);
    let mut response = give(shared, &server_id).unwrap_or_default();
    response.hint_flags |= hints | owed;
    Ok(response)
}

/// Waits for the answer to the question, or for a match that another question has brought.
async fn wait(
    shared: &Shared,
    server_id: &str,
    waiter: &mut Waiter,
    mut changes: watch::Receiver<u64>,
) -> Result<Answer, RequestMatchResponse> {
    loop {
        tokio::select! {
            biased;
            answer = waiter.answer() => return Ok(answer),
            _ = changes.changed() => if let Some(response) = give(shared, server_id) {
                return Err(response);
            },
        }
    }
}

/// A match that is held and that the server may not know about.
fn give(shared: &Shared, server_id: &str) -> Option<RequestMatchResponse> {
    let (game, hint_flags) = shared.state().held.give(server_id)?;
    shared.changed();
    Some(RequestMatchResponse { r#match: Some(game), hint_flags, matches: Vec::new() })
}

/// A server that waits for an answer, which is a sign of life.
struct Waits<'s> {
    shared: &'s Shared,
    server_id: String,
}

impl<'s> Waits<'s> {
    fn begin(shared: &'s Shared, server_id: &str) -> Result<Self, BackendError> {
        let begun = shared.state().held.asks(server_id);
        begun.map_err(|error| BackendError::Refused(too_many(&error)))?;
        Ok(Self { shared, server_id: server_id.to_owned() })
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.state().held.asked(&self.server_id, now);
        self.shared.changed();
    }
}

/// A caller that waits for the answer; when dropped before that, the question is withdrawn.
struct Waiter {
    answer: oneshot::Receiver<Answer>,
    _withdraws: DropGuard,
}

impl Waiter {
    fn new(shared: &Arc<Shared>, source: &str, request: RequestMatchRequest) -> Result<Self, TooMany> {
        let open = Open::new(shared, &request.server_id)?;
        let (withdraws, unsettled) = (open.withdrawn.clone().drop_guard(), Unsettled::new(shared));
        let (tell, answer) = oneshot::channel();
        let (shared, source) = (Arc::clone(shared), source.to_owned());
        tokio::spawn(async move {
            let server_id = request.server_id.clone();
            let (answer, match_id) = question(&shared, &source, request, &open).await;
            drop(open);
            let _nobody_waits_any_more = tell.send(answer);
            if let Some(match_id) = match_id {
                see_to(&shared, &source, server_id, match_id).await;
            }
            drop(unsettled);
        });
        Ok(Self { answer, _withdraws: withdraws })
    }

    async fn answer(&mut self) -> Answer {
        let broken = |_| Err(BackendError::Away("the question was aborted".to_owned()));
        (&mut self.answer).await.unwrap_or_else(broken)
    }
}

/// Asks the backend. Also returns the match that is now held, if there is one.
async fn question(
    shared: &Arc<Shared>,
    source: &str,
    request: RequestMatchRequest,
    open: &Open,
) -> (Answer, Option<String>) {
    let server_id = request.server_id.clone();
    let asked = unless_withdrawn(shared, source, request, open).await;
    let response = match asked {
        Ok(response) => response,
        Err(error) => return (Err(error), None),
    };
    let Some(game) = response.r#match else { return (Ok(response.hint_flags), None) };
    if let Err(status) = check_id("matchId", &game.match_id) {
        let text = format!("the backend gave a match without a usable id: {}", status.message);
        tracing::error!(server_id, "{text}");
        return (Err(BackendError::Refused(refusal(Code::Internal, "internal", text))), None);
    }
    let match_id = game.match_id.clone();
    let is_held = shared.change(|held| held.hold(&server_id, game, response.hint_flags));
    if !is_held || shared.ending.get() == Some(&AtShutdown::EndMatches) {
        give_back(shared, source, server_id, match_id).await;
        return (Ok(response.hint_flags), None);
    }
    (Ok(response.hint_flags), Some(match_id))
}

async fn unless_withdrawn(
    shared: &Arc<Shared>,
    source: &str,
    request: RequestMatchRequest,
    open: &Open,
) -> Response {
    let server_id = request.server_id.clone();
    let is_willing = request.hint_flags & HintFlag::WillingToWait as u32 != 0;
    let limit = if is_willing { HELD_CALL_TIME } else { CALL_TIME };
    let asked = in_time(limit, shared.backend.request_match(request));
    tokio::pin!(asked);
    let answered = tokio::select! {
        biased;
        answered = &mut asked => Some(answered),
        () = open.withdrawn.cancelled() => withdraw(shared, source, (&server_id, &open.left), asked).await,
    };
    let Some(answered) = answered else {
        return Err(BackendError::Away("nobody is waiting for the answer any more".to_owned()));
    };
    shared.note(&answered);
    answered
}

/// Tells the backend that nobody waits for a question any more, and takes an answer that comes anyway. `None` if none
/// comes: then ending the call is what tells the backend.
async fn withdraw(
    shared: &Arc<Shared>,
    source: &str,
    (server_id, left): (&str, &CancellationToken),
    mut asked: Pin<&mut impl Future<Output = Response>>,
) -> Option<Response> {
    if shared.is_hintless() {
        return None;
    }
    let leaves = shared.state().held.is_over(server_id);
    if leaves {
        left.cancel();
    }
    let told = tell(shared, server_id, if leaves { LEAVE } else { WITHDRAW });
    tokio::pin!(told);
    let mut answered = None;
    let told = loop {
        tokio::select! {
            biased;
            response = &mut asked, if answered.is_none() => answered = Some(response),
            told = &mut told => break told,
        }
    };
    let game = told.as_ref().ok().and_then(|response| response.r#match.as_ref());
    if let Some(game) = game.filter(|game| check_id("matchId", &game.match_id).is_ok()) {
        // A backend that does not understand this has answered it as another question.
        hand_back(shared, source, server_id.to_owned(), game.match_id.clone()).await;
    }
    match (answered, told) {
        (Some(answered), _) => Some(answered),
        (None, Ok(_)) => timeout(LAST_ANSWER_TIME, asked).await.ok(),
        (None, Err(_)) => None,
    }
}

/// Tells the backend what the server wants instead of a match.
async fn tell(shared: &Shared, server_id: &str, hint_flags: u32) -> Response {
    let request =
        RequestMatchRequest { server_id: server_id.to_owned(), hint_flags, ..RequestMatchRequest::default() };
    in_time(CALL_TIME, shared.backend.request_match(request)).await
}

/// Tells the backend that a server is gone which it may count on for the next match, unless that is already clear from
/// a question being withdrawn or from the end of one of its matches. A backend that is away does not hear it, and will
/// find out on its own.
pub(super) fn take_leave(shared: &Arc<Shared>, server_id: &str) {
    let state = shared.state();
    let server = state.held.servers.get(server_id);
    let Some(server) = server.filter(|server| server.has_asked && server.matches.is_empty()) else { return };
    let (source, left) = (server.source.clone(), state.questions.leaving(server_id));
    drop(state);
    let unsettled = Unsettled::new(shared);
    let (shared, server_id) = (Arc::clone(shared), server_id.to_owned());
    tokio::spawn(async move {
        let _unsettled = unsettled;
        let mut changes = shared.changes.subscribe();
        while !shared.state().questions.leaving(&server_id).is_empty() && changes.changed().await.is_ok() {}
        // A server that has called since then is a new one.
        let is_over = shared.state().held.is_over(&server_id);
        if !is_over || shared.is_hintless() || left.iter().any(CancellationToken::is_cancelled) {
            return;
        }
        let told = tell(&shared, &server_id, LEAVE).await;
        if let Some(game) = told.ok().and_then(|response| response.r#match)
            && check_id("matchId", &game.match_id).is_ok()
        {
            // A backend that does not understand this has answered it as a question.
            hand_back(&shared, &source, server_id, game.match_id).await;
        }
    });
}

async fn in_time(limit: Duration, asked: impl Future<Output = Response>) -> Response {
    timeout(limit, asked).await.unwrap_or_else(|_| {
        Err(BackendError::Away(format!("no answer to RequestMatch within {} seconds", limit.as_secs())))
    })
}

/// Ensures that a match does not wait for a server that has stopped asking.
async fn see_to(shared: &Arc<Shared>, source: &str, server_id: String, match_id: String) {
    let mut changes = shared.changes.subscribe();
    let mut keep_until = None;
    loop {
        let Some(asks) = shared.state().held.ungiven(&server_id, &match_id) else { return };
        let until = if asks { None } else { keep_until.or_else(|| Some(Instant::now() + KEEP_TIME)) };
        keep_until = until;
        let is_over = shared.is_closing() || until.is_some_and(|until| until <= Instant::now());
        if is_over && shared.state().held.take_ungiven(&server_id, &match_id) {
            return hand_back(shared, source, server_id, match_id).await;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = shared.closing.cancelled(), if !is_over => {}
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {}
        }
    }
}

/// Returns the match to the backend's queue: no server knows about it.
async fn hand_back(shared: &Arc<Shared>, source: &str, server_id: String, match_id: String) {
    tracing::info!(server_id, match_id, "a match came after its server stopped waiting: handing it back");
    let hint_flags = if shared.is_hintless() { 0 } else { WITHDRAW };
    let call = Call::EndMatch(EndMatchRequest { server_id, match_id, hint_flags });
    if delivery::perform(shared, source, call.clone(), Keep::AtAnyRate).await.is_err() {
        // A refusal is logged with the call: the server does not have the match in any case.
        shared.apply(&call);
    }
}

/// Returns a match that came for a server that is gone.
async fn give_back(shared: &Arc<Shared>, source: &str, server_id: String, match_id: String) {
    tracing::warn!(server_id, match_id, "a match came for a server that is gone: handing it back");
    let call = delivery::end_call(&server_id, match_id);
    let _the_log_has_it = delivery::perform(shared, source, call, Keep::AtAnyRate).await;
    shared.forget(&server_id);
}

impl BackendError {
    fn status(self) -> Status {
        match self {
            Self::Refused(status) => status,
            Self::Away(why) => refusal(Code::Unavailable, "unavailable", why),
        }
    }
}
