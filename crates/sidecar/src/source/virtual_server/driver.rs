//! Carries out the planner's actions in real time.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use sortie_wire::catena::server_manager::{EndMatchRequest, MatchReadyRequest};
use sortie_wire::status::Status;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::NAME;
use super::planner::{Action, Answer, Planner};
use crate::manager::{Manager, Next};
use crate::source::wants_shutdown;

/// Interval of the server's signs of life, unless it should look dead.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(1);

/// Why a virtual server has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Its last match is over.
    Done,
    /// The sidecar is shutting down; the server may still hold matches.
    Closing,
}

/// The calls of one virtual server.
pub(super) struct Calls<'a> {
    pub(super) manager: &'a Manager,
    pub(super) server_id: &'a str,
    pub(super) requirements: &'a str,
    /// Address for players without a resolver.
    pub(super) connection_details: &'a str,
    /// Minimum time between two unsuccessful requests.
    pub(super) pace: Duration,
    pub(super) closing: &'a CancellationToken,
}

/// The outcome of reporting a match as ready or over.
#[derive(Default)]
struct Outcome {
    /// The match that was refused as ready.
    refused: Option<String>,
    shut_down: bool,
}

type Running<'a, T> = Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>;

/// Runs one virtual server.
pub(super) struct VirtualDriver<'a> {
    planner: Planner,
    calls: &'a Calls<'a>,
    started: Instant,
    /// Actions after the call in flight: one at a time, so that the backend receives them in order. At most the steps
    /// of the held matches.
    queue: VecDeque<Action>,
    calling: Running<'a, Outcome>,
    asking: Running<'a, Result<Next, Status>>,
}

impl<'a> VirtualDriver<'a> {
    pub(super) fn new(planner: Planner, calls: &'a Calls<'a>) -> Self {
        let queue = VecDeque::new();
        Self { planner, calls, started: Instant::now(), queue, calling: None, asking: None }
    }

    pub(super) async fn run(mut self) -> End {
        let mut signs_of_life = signs_of_life();
        loop {
            self.begin();
            if self.planner.is_done() && self.calling.is_none() {
                return End::Done;
            }
            let due = self.planner.due();
            tokio::select! {
                () = self.calls.closing.cancelled() => break,
                outcome = settled(&mut self.calling) => self.called(outcome),
                asked = settled(&mut self.asking) => self.asked(asked),
                () = at(due.map(|due| self.started + due)) => {}
                _ = signs_of_life.tick() => {
                    if !self.planner.is_silent() {
                        self.calls.manager.heard_from(self.calls.server_id);
                    }
                }
            }
        }
        // An aborted call would leave open whether the backend has received it.
        if let Some(calling) = self.calling.take() {
            calling.await;
        }
        End::Closing
    }

    /// Starts what is due and allowed.
    fn begin(&mut self) {
        while let Some(action) = self.planner.next(self.started.elapsed()) {
            self.queue.push_back(action);
        }
        while self.calling.is_none() {
            let calls = self.calls;
            match self.queue.pop_front() {
                Some(Action::Ask) => self.asking = Some(Box::pin(calls.ask())),
                Some(Action::Ready { match_id }) => self.calling = Some(Box::pin(calls.ready(match_id))),
                Some(Action::End { match_id }) => self.calling = Some(Box::pin(calls.end(match_id))),
                None => return,
            }
        }
    }

    fn called(&mut self, outcome: Outcome) {
        if let Some(match_id) = outcome.refused {
            self.planner.refused(self.started.elapsed(), &match_id);
        }
        if outcome.shut_down {
            self.planner.shut_down();
        }
    }

    fn asked(&mut self, asked: Result<Next, Status>) {
        let answer = match asked {
            Ok(Next::Match(game)) => {
                tracing::info!(match_id = game.match_id, players = game.player_ids.len(), "took a match");
                Answer::Match(game.match_id)
            }
            Ok(Next::Shutdown) => {
                tracing::info!(server_id = self.calls.server_id, "the backend wants no more of this server");
                self.planner.shut_down();
                Answer::Nothing
            }
            Ok(Next::Closing) => Answer::Nothing,
            Err(status) => {
                tracing::warn!(
                    error = status.message,
                    "the request for a match was refused; check the API key"
                );
                Answer::Nothing
            }
        };
        self.planner.answered(self.started.elapsed(), answer);
    }
}

impl Calls<'_> {
    async fn ask(&self) -> Result<Next, Status> {
        let Self { manager, server_id, requirements, pace, closing, .. } = *self;
        manager.next_match(NAME, server_id, requirements, pace, closing).await
    }

    async fn ready(&self, match_id: String) -> Outcome {
        let connection_details = match self.manager.address_of(self.server_id).await {
            Ok(Some(address)) => address.to_string(),
            Ok(None) => self.connection_details.to_owned(),
            Err(error) => {
                tracing::error!(match_id, %error, "a match is unreachable: ending it");
                return Outcome { refused: Some(match_id), ..Outcome::default() };
            }
        };
        let request = MatchReadyRequest {
            server_id: self.server_id.to_owned(),
            match_id: match_id.clone(),
            connection_details,
            ..MatchReadyRequest::default()
        };
        match self.manager.match_ready(NAME, request).await {
            Ok(response) => Outcome { refused: None, shut_down: wants_shutdown(response.hint_flags) },
            Err(status) => {
                tracing::warn!(match_id, error = status.message, "ready was refused");
                Outcome { refused: Some(match_id), ..Outcome::default() }
            }
        }
    }

    async fn end(&self, match_id: String) -> Outcome {
        let request = EndMatchRequest {
            server_id: self.server_id.to_owned(),
            match_id: match_id.clone(),
            ..EndMatchRequest::default()
        };
        match self.manager.end_match(NAME, request).await {
            Ok(response) => Outcome { refused: None, shut_down: wants_shutdown(response.hint_flags) },
            Err(status) => {
                tracing::warn!(match_id, error = status.message, "the end of a match was refused");
                Outcome::default()
            }
        }
    }
}

fn signs_of_life() -> Interval {
    let mut ticks = interval(SIGN_OF_LIFE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The result of the call in flight, which is then removed; pending if there is none.
async fn settled<T>(running: &mut Running<'_, T>) -> T {
    let Some(call) = running else { return pending().await };
    let outcome = call.await;
    *running = None;
    outcome
}

/// Waits until `time`; for ever without one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
