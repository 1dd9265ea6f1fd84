//! MatchReady and EndMatch, until the backend has accepted or refused them.
//!
//! A call goes to the backend at once. If the backend is away, the call is queued on disk and reported to the game
//! server as done. Calls of one server reach the backend in order: while some wait, newer ones wait behind them. Each
//! server with pending calls has a lane, a task that ends when there are none left.
//!
//! A refusal counts as delivered: the backend knows about it, and would refuse again. The exception is a refused API
//! key, which can be corrected.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sortie_wire::catena::server_manager::EndMatchRequest;
use sortie_wire::hints::HintFlag;
use sortie_wire::status::{Status, reason, refusal};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::held::Held;
use super::queue::{Call, Queued};
use super::view::Outcome;
use super::{BACKOFF, CALL_TIME, Shared, asking, not_kept};
use crate::backend::BackendError;

/// Number of lanes that deliver at the same time.
pub(super) const AT_ONCE: usize = 16;
/// Maximum pause between two attempts while the sidecar is shutting down.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What to do with a call that can be neither made nor written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keep {
    /// It fails: its caller can repeat it.
    OrFail,
    /// It is kept in memory: nobody would repeat it.
    AtAnyRate,
}

/// Applies a call to the held state. Returns true if the server exits, so that what was kept for it is free.
pub(super) fn apply(held: &mut Held, call: &Call) -> bool {
    match call {
        Call::MatchReady(request) => {
            held.ready(request);
            false
        }
        Call::EndMatch(request) => {
            let exits = request.hint_flags & HintFlag::Shutdown as u32 != 0;
            held.end(&request.server_id, &request.match_id, exits)
        }
    }
}

/// [`perform`] for a game server: continues if the game server disconnects, so that the backend and the held state
/// agree. Returns the answer's hints.
pub(super) async fn submit(shared: &Arc<Shared>, source: &str, call: Call) -> Result<u32, Status> {
    let (shared, source) = (Arc::clone(shared), source.to_owned());
    let task = tokio::spawn(async move { perform(&shared, &source, call, Keep::OrFail).await });
    task.await.unwrap_or_else(|_| Err(refusal(Code::Internal, "internal", "the call was aborted")))
}

/// Makes a call, or queues it.
pub(super) async fn perform(
    shared: &Arc<Shared>,
    source: &str,
    call: Call,
    keep: Keep,
) -> Result<u32, Status> {
    let began = Instant::now();
    let result = make_or_queue(shared, source, &call, keep).await;
    let outcome = match &result {
        Ok((_, outcome)) => outcome.clone(),
        Err(status) => Outcome::Refused(status.message.clone()),
    };
    shared.record(began, source, (call.name(), call.server_id(), call.match_id()), outcome);
    result.map(|(hints, _)| hints | shared.take_owed_hints(call.server_id()))
}

async fn make_or_queue(
    shared: &Arc<Shared>,
    source: &str,
    call: &Call,
    keep: Keep,
) -> Result<(u32, Outcome), Status> {
    let waits = "older calls of this server wait for delivery";
    if shared.has_queued(call.server_id()) {
        return enqueue(shared, source, vec![call.clone()], keep, waits).await;
    }
    let turn = shared.turn(call.server_id());
    let _turn = turn.lock().await;
    if shared.has_queued(call.server_id()) {
        return enqueue(shared, source, vec![call.clone()], keep, waits).await;
    }
    match shared.send(call).await {
        Ok(hints) => {
            shared.apply(call);
            Ok((hints, Outcome::Answered))
        }
        Err(BackendError::Refused(status)) => {
            shared.refused(call, &status);
            Err(status)
        }
        Err(BackendError::Away(why)) => enqueue(shared, source, vec![call.clone()], keep, &why).await,
    }
}

/// Writes calls to disk, and counts them as made from then on.
pub(super) async fn enqueue(
    shared: &Arc<Shared>,
    source: &str,
    calls: Vec<Call>,
    keep: Keep,
    why: &str,
) -> Result<(u32, Outcome), Status> {
    let writer = shared.queue_writer.lock().await;
    let mut queue = shared.state().queue.clone();
    for call in &calls {
        if keep == Keep::OrFail {
            queue
                .check_room(call)
                .map_err(|full| refusal(Code::ResourceExhausted, "too_many", full.to_string()))?;
        }
        queue.push(source, call.clone());
    }
    if let Err(error) = shared.store.save_queue(&queue).await {
        tracing::error!(%error, calls = calls.len(), "calls for the backend cannot be written to disk");
        if keep == Keep::OrFail {
            return Err(not_kept(why, &error));
        }
    }
    shared.state().queue = queue;
    drop(writer);
    for call in &calls {
        shared.apply(call);
        start(shared, call.server_id(), shared.is_closing());
    }
    Ok((0, Outcome::Queued))
}

/// Starts delivering the server's pending calls, unless that is in progress: at once, or after a pause, because the
/// backend was away a moment ago.
pub(super) fn start(shared: &Arc<Shared>, server_id: &str, at_once: bool) {
    if shared.state().lanes.insert(server_id.to_owned()) {
        tokio::spawn(lane(Arc::downgrade(shared), server_id.to_owned(), at_once));
    }
}

enum Step {
    Delivered,
    Away,
    Idle,
}

async fn lane(manager: Weak<Shared>, server_id: String, at_once: bool) {
    let mut failures = u32::from(!at_once);
    loop {
        if failures > 0 && !rest(&manager, failures).await {
            return;
        }
        let Some(shared) = manager.upgrade() else { return };
        let step = tokio::select! {
            biased;
            () = shared.stopped.cancelled() => return,
            step = shared.step(&server_id) => step,
        };
        match step {
            Step::Idle => return,
            Step::Delivered => failures = 0,
            Step::Away => failures += 1,
        }
    }
}

/// Waits before the next attempt, without keeping the manager alive. Returns false if there will be none.
async fn rest(manager: &Weak<Shared>, failures: u32) -> bool {
    let Some((closing, stopped)) =
        manager.upgrade().map(|shared| (shared.closing.clone(), shared.stopped.clone()))
    else {
        return false;
    };
    let pause = BACKOFF.delay(failures);
    let is_closing = closing.is_cancelled();
    tokio::select! {
        biased;
        () = stopped.cancelled() => false,
        () = closing.cancelled(), if !is_closing => true,
        () = sleep(if is_closing { pause.min(LAST_PAUSE) } else { pause }) => true,
    }
}

/// The server is gone: ends its matches.
pub(super) async fn server_gone(shared: &Arc<Shared>, server_id: &str, why: &str) {
    let Some(matches) = shared.change(|held| held.gone(server_id)) else { return };
    tracing::info!(server_id, why, matches = matches.len(), "a server is gone");
    asking::take_leave(shared, server_id);
    shared.state().questions.withdraw(server_id);
    shared.release(server_id);
    let (shared, server_id) = (Arc::clone(shared), server_id.to_owned());
    let _it_ends_by_itself = tokio::spawn(async move { finish(&shared, &server_id).await }).await;
}

/// Ends the remaining matches of a server that is gone, and forgets it.
pub(super) async fn finish(shared: &Arc<Shared>, server_id: &str) {
    let (source, matches) = {
        let state = shared.state();
        let source = state.held.servers.get(server_id).map(|server| server.source.clone());
        (source.unwrap_or_default(), state.held.matches_of(server_id))
    };
    for match_id in matches {
        let call = end_call(server_id, match_id);
        if let Err(status) = perform(shared, &source, call, Keep::AtAnyRate).await {
            tracing::warn!(server_id, text = status.message, "the backend refused the end of a match");
        }
    }
    shared.forget(server_id);
}

/// The call that ends a match of a server that is gone.
pub(super) fn end_call(server_id: &str, match_id: String) -> Call {
    let hint_flags = HintFlag::Shutdown as u32;
    Call::EndMatch(EndMatchRequest { server_id: server_id.to_owned(), match_id, hint_flags })
}

/// Whether the refusal is about the caller's key rather than the call: a key can be corrected.
fn is_about_the_key(status: &Status) -> bool {
    matches!(Code::from(status.code), Code::Unauthenticated | Code::PermissionDenied)
}

/// Whether the backend says that the server does not have the match, whatever was reported before.
fn is_lost(status: &Status) -> bool {
    let is_about_the_match =
        matches!(Code::from(status.code), Code::NotFound | Code::FailedPrecondition | Code::Aborted);
    is_about_the_match && reason(status).as_deref() != Some("already_ready")
}

impl Shared {
    /// Resumes what the last process left.
    pub(super) fn resume(self: &Arc<Self>) {
        let (unfinished, mut busy) = {
            let mut state = self.state();
            let queued: Vec<_> =
                state.queue.iter().map(|queued| queued.call.server_id().to_owned()).collect();
            let untold = state.held.all_untold();
            (state.held.unfinished(), [queued, untold].concat())
        };
        busy.sort_unstable();
        busy.dedup();
        for server_id in busy {
            start(self, &server_id, true);
        }
        for server_id in unfinished {
            let shared = Arc::clone(self);
            tokio::spawn(async move { finish(&shared, &server_id).await });
        }
    }

    fn has_queued(&self, server_id: &str) -> bool {
        self.state().queue.first_of(server_id).is_some()
    }

    fn turn(&self, server_id: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.state().turns.entry(server_id.to_owned()).or_default())
    }

    pub(super) fn forget(&self, server_id: &str) {
        self.change(|held| held.forget(server_id));
        let mut state = self.state();
        if !state.held.servers.contains_key(server_id) {
            state.turns.remove(server_id);
        }
    }

    pub(super) fn apply(&self, call: &Call) {
        if self.change(|held| apply(held, call)) {
            self.release(call.server_id());
        }
    }

    /// Hints that arrived when the server was no longer waiting for them.
    pub(super) fn take_owed_hints(&self, server_id: &str) -> u32 {
        let mut state = self.state();
        state.held.servers.get_mut(server_id).map_or(0, |server| std::mem::take(&mut server.owed_hints))
    }

    async fn send(self: &Arc<Self>, call: &Call) -> Result<u32, BackendError> {
        let answer = async {
            match call {
                Call::MatchReady(request) => {
                    let answer = self.backend.match_ready(request.clone()).await;
                    answer.map(|answer| answer.hint_flags)
                }
                Call::EndMatch(request) => {
                    let answer = self.backend.end_match(request.clone()).await;
                    answer.map(|answer| answer.hint_flags)
                }
            }
        };
        let result = timeout(CALL_TIME, answer).await.unwrap_or_else(|_| {
            let (name, seconds) = (call.name(), CALL_TIME.as_secs());
            Err(BackendError::Away(format!("no answer to {name} within {seconds} seconds")))
        });
        self.note(&result);
        result
    }

    /// Applies a refusal by the backend to the held state. A running match goes on in any case.
    fn refused(&self, call: &Call, status: &Status) {
        if !is_lost(status) {
            return;
        }
        match call {
            Call::MatchReady(request) => {
                self.change(|held| held.disown(&request.server_id, &request.match_id));
            }
            // It is over in any case.
            Call::EndMatch(_) => self.apply(call),
        }
    }

    /// Makes the next delivery for the server.
    async fn step(self: &Arc<Self>, server_id: &str) -> Step {
        let Ok(_permit) = self.deliveries.acquire().await else { return Step::Idle };
        let queued = {
            let mut state = self.state();
            let queued = state.queue.first_of(server_id).cloned();
            if queued.is_none() && state.held.untold(server_id).is_none() {
                state.lanes.remove(server_id);
                return Step::Idle;
            }
            queued
        };
        match queued {
            Some(queued) => self.deliver(queued).await,
            None => self.tell_again(server_id).await,
        }
    }

    async fn deliver(self: &Arc<Self>, queued: Queued) -> Step {
        let (began, call) = (Instant::now(), &queued.call);
        let outcome = match self.send(call).await {
            Err(BackendError::Away(_)) => return Step::Away,
            Err(BackendError::Refused(status)) if is_about_the_key(&status) => {
                tracing::error!(text = status.message, "the backend refuses the API key: retrying");
                return Step::Away;
            }
            Ok(hints) => {
                self.delivered(call, hints);
                Outcome::Delivered
            }
            Err(BackendError::Refused(status)) => {
                let (server_id, match_id) = (call.server_id(), call.match_id());
                let text = status.message.as_str();
                tracing::warn!(call = call.name(), server_id, match_id, text, "a queued call was refused");
                self.refused(call, &status);
                Outcome::Refused(status.message)
            }
        };
        self.dequeue(queued.number).await;
        self.record(began, &queued.source, (call.name(), call.server_id(), call.match_id()), outcome);
        Step::Delivered
    }

    fn delivered(&self, call: &Call, hints: u32) {
        let mut state = self.state();
        if matches!(call, Call::MatchReady(_)) {
            state.held.told(call.server_id(), call.match_id());
        }
        if let Some(server) = state.held.servers.get_mut(call.server_id()) {
            server.owed_hints |= hints & HintFlag::Shutdown as u32;
        }
    }

    /// If writing fails, the call stays in the file, and is delivered again after a restart.
    async fn dequeue(&self, number: u64) {
        let _writer = self.queue_writer.lock().await;
        let mut queue = self.state().queue.clone();
        queue.remove(number);
        if let Err(error) = self.store.save_queue(&queue).await {
            tracing::error!(%error, "the pending calls for the backend cannot be written to disk");
        }
        self.state().queue = queue;
        self.changed();
    }

    /// Reports a ready match again, because the backend may have forgotten it.
    async fn tell_again(self: &Arc<Self>, server_id: &str) -> Step {
        let turn = self.turn(server_id);
        let _turn = turn.lock().await;
        let untold = self.state().held.untold(server_id);
        let Some(request) = untold else { return Step::Delivered };
        let (began, call) = (Instant::now(), Call::MatchReady(request));
        let outcome = match self.send(&call).await {
            Err(BackendError::Away(_)) => return Step::Away,
            Ok(hints) => {
                self.delivered(&call, hints);
                Outcome::Delivered
            }
            Err(BackendError::Refused(status)) => {
                let (match_id, text) = (call.match_id(), status.message.as_str());
                tracing::warn!(
                    server_id,
                    match_id,
                    text,
                    "the backend does not know a match that is still running"
                );
                // It is not reported again, whatever the answer.
                self.state().held.told(server_id, match_id);
                self.refused(&call, &status);
                Outcome::Refused(status.message)
            }
        };
        self.record(began, "sidecar", (call.name(), server_id, call.match_id()), outcome);
        Step::Delivered
    }
}
