//! Questions for a match.
//!
//! A question runs in a task of its own, so that a game server that breaks off its call does not break off what the
//! backend has begun: a match that comes then is held, and given when the server asks next. A question that nobody waits
//! for is taken over by the next equal one rather than asked twice.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use sortie_wire::catena::server_manager::{RequestMatchRequest, RequestMatchResponse};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::{Status, refusal};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::delivery::{self, Keep};
use super::ending::AtShutdown;
use super::view::Outcome;
use super::{CALL_TIME, HELD_CALL_TIME, Shared, check_id, too_many};
use crate::backend::BackendError;

/// Longest time that a server which is willing to wait is kept while the backend is away, so that it does not ask in a
/// loop that never rests.
const AWAY_PAUSE: Duration = Duration::from_secs(5);
/// Most questions of one server that nobody waits for.
const MAX_ORPHANS: usize = 16;

/// What the backend said of a question; a match is held by then.
type Answer = Result<u32, BackendError>;

/// Questions that nobody waits for, by server.
pub(super) type Orphans = BTreeMap<String, Vec<Question>>;

/// One that was asked.
pub(super) struct Question {
    requirements: String,
    hint_flags: u32,
    answer: oneshot::Receiver<Answer>,
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

/// Asks once. `Away` also while older calls of the server wait to be delivered: the backend would answer about a state
/// that is over.
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
    // Before the question, so that nothing that comes is missed.
    let changes = shared.changes.subscribe();
    if let Some(response) = give(shared, &server_id) {
        return Ok(response);
    }
    if shared.state().queue.first_of(&server_id).is_some() {
        let why = "older calls of this server wait to be delivered";
        return Err(BackendError::Away(why.to_owned()));
    }
    let mut waiter = Waiter::new(shared, source, request);
    let hints = match wait(shared, &server_id, &mut waiter, changes).await {
        Ok(hints) => hints?,
        Err(response) => return Ok(response),
    };
    let owed = shared.take_owed_hints(&server_id);
    let mut response = give(shared, &server_id).unwrap_or_default();
    response.hint_flags |= hints | owed;
    Ok(response)
}

/// The answer to the question; or a match that another one has brought meanwhile.
async fn wait(
    shared: &Shared,
    server_id: &str,
    waiter: &mut Waiter<'_>,
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

/// A match that is held and that the server may not know of.
fn give(shared: &Shared, server_id: &str) -> Option<RequestMatchResponse> {
    let (game, hint_flags) = shared.state().held.give(server_id)?;
    Some(RequestMatchResponse { r#match: Some(game), hint_flags })
}

/// A server waits for an answer: that it does is a sign of life.
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
    }
}

/// Whoever waits for a question. The question is an orphan if the waiter goes before the answer comes.
struct Waiter<'s> {
    shared: &'s Shared,
    server_id: String,
    question: Option<Question>,
}

impl<'s> Waiter<'s> {
    fn new(shared: &'s Arc<Shared>, source: &str, request: RequestMatchRequest) -> Self {
        let server_id = request.server_id.clone();
        let orphan = shared.state().adopt(&request);
        let question = orphan.unwrap_or_else(|| {
            let (tell, answer) = oneshot::channel();
            let (requirements, hint_flags) = (request.requirements.clone(), request.hint_flags);
            let (shared, source) = (Arc::clone(shared), source.to_owned());
            tokio::spawn(async move {
                let answer = question(&shared, &source, request).await;
                let _nobody_waits_any_more = tell.send(answer);
            });
            Question { requirements, hint_flags, answer }
        });
        Self { shared, server_id, question: Some(question) }
    }

    async fn answer(&mut self) -> Answer {
        let broken = || Err(BackendError::Away("the question was broken off".to_owned()));
        let Some(question) = &mut self.question else { return broken() };
        let answer = (&mut question.answer).await;
        self.question = None;
        answer.unwrap_or_else(|_| broken())
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(question) = self.question.take() else { return };
        let mut state = self.shared.state();
        let orphans = state.orphans.entry(mem::take(&mut self.server_id)).or_default();
        orphans.retain_mut(Question::is_open);
        if orphans.len() < MAX_ORPHANS {
            orphans.push(question);
        }
    }
}

impl Question {
    fn is_open(&mut self) -> bool {
        matches!(self.answer.try_recv(), Err(oneshot::error::TryRecvError::Empty))
    }
}

impl super::State {
    /// The question that somebody asked in the same words and does not wait for any more.
    fn adopt(&mut self, request: &RequestMatchRequest) -> Option<Question> {
        let orphans = self.orphans.get_mut(&request.server_id)?;
        orphans.retain_mut(Question::is_open);
        let is_same = |question: &Question| {
            question.requirements == request.requirements && question.hint_flags == request.hint_flags
        };
        let adopted = orphans.iter().position(is_same).map(|index| orphans.swap_remove(index));
        if orphans.is_empty() {
            self.orphans.remove(&request.server_id);
        }
        adopted
    }
}

async fn question(shared: &Arc<Shared>, source: &str, request: RequestMatchRequest) -> Answer {
    let is_willing = request.hint_flags & HintFlag::WillingToWait as u32 != 0;
    let limit = if is_willing { HELD_CALL_TIME } else { CALL_TIME };
    let server_id = request.server_id.clone();
    let result = timeout(limit, shared.backend.request_match(request)).await.unwrap_or_else(|_| {
        Err(BackendError::Away(format!("no answer to RequestMatch within {} seconds", limit.as_secs())))
    });
    shared.note(&result);
    let response = result?;
    let Some(game) = response.r#match else { return Ok(response.hint_flags) };
    if let Err(status) = check_id("matchId", &game.match_id) {
        let text = format!("the backend gave a match without a usable id: {}", status.message);
        tracing::error!(server_id, "{text}");
        return Err(BackendError::Refused(refusal(Code::Internal, "internal", text)));
    }
    let match_id = game.match_id.clone();
    let is_held = shared.change(|held| held.hold(&server_id, game, response.hint_flags));
    if !is_held || shared.ending.get() == Some(&AtShutdown::EndMatches) {
        give_back(shared, source, server_id, match_id).await;
    }
    Ok(response.hint_flags)
}

/// Ends a match that came for a server which is gone.
async fn give_back(shared: &Arc<Shared>, source: &str, server_id: String, match_id: String) {
    tracing::warn!(server_id, match_id, "a match came for a server that is gone: it is ended");
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
