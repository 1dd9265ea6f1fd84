//! Calls to the platform, each in its own task, so that the game never waits for one.
//!
//! A set of tasks rather than a channel: it is bounded by the calls in flight, it cannot lose an outcome, and dropping
//! it stops everything.

use std::sync::Arc;
use std::time::Duration;

use sortie_retry::Backoff;
use tokio::task::{AbortHandle, JoinSet};

use crate::api_client::{ApiClient, ApiError, ClaimedSeat, Hints, MatchView, Offer};
use crate::retry::Retries;

/// For calls that decide a match's fate: retried for about a minute.
const SETTLE: Retries = Retries {
    backoff: Backoff { first: Duration::from_millis(100), max: Duration::from_secs(8) },
    tries: 14,
};
/// For calls that a player waits for: retried for about three seconds.
const ADMIT: Retries =
    Retries { backoff: Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) }, tries: 7 };

/// The outcome of a call.
#[derive(Debug)]
pub(crate) enum Outcome {
    Asked(Result<Offer, ApiError>),
    Readied { match_id: String, result: Result<Hints, ApiError> },
    Ended { match_id: String, result: Result<Hints, ApiError> },
    Claimed { client_id: u64, seat_id: String, result: Result<ClaimedSeat, ApiError> },
    Released { seat_id: String, result: Result<(), ApiError> },
    Checked { match_id: String, result: Result<MatchView, ApiError> },
}

struct Caller {
    api: ApiClient,
    server_id: String,
    requirements: String,
}

/// The calls in flight.
pub(crate) struct Calls {
    caller: Arc<Caller>,
    tasks: JoinSet<Outcome>,
}

impl Calls {
    pub(crate) fn new(api: ApiClient, server_id: String, requirements: String) -> Self {
        Self { caller: Arc::new(Caller { api, server_id, requirements }), tasks: JoinSet::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The next outcome; `None` for a call that was aborted. Waits for ever if no call is in flight; cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Outcome> {
        match self.tasks.join_next().await {
            Some(Ok(outcome)) => Some(outcome),
            Some(Err(error)) => {
                if !error.is_cancelled() {
                    tracing::error!(%error, "a call was aborted");
                }
                None
            }
            None => std::future::pending().await,
        }
    }

    pub(crate) fn request_match(&mut self, hints: Hints) -> AbortHandle {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let Caller { api, server_id, requirements } = &*caller;
            Outcome::Asked(api.request_match(server_id, requirements, hints).await)
        })
    }

    pub(crate) fn match_ready(&mut self, match_id: String, connection_details: String) {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let call = || caller.api.match_ready(&caller.server_id, &match_id, &connection_details);
            let result = SETTLE.run(call).await;
            Outcome::Readied { match_id, result }
        });
    }

    pub(crate) fn end_match(&mut self, match_id: String, hints: Hints) {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let result = SETTLE.run(|| caller.api.end_match(&caller.server_id, &match_id, hints)).await;
            Outcome::Ended { match_id, result }
        });
    }

    pub(crate) fn claim(&mut self, client_id: u64, seat_id: String) {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let result = ADMIT.run(|| caller.api.claim_seat(&seat_id, &caller.server_id)).await;
            Outcome::Claimed { client_id, seat_id, result }
        });
    }

    pub(crate) fn release(&mut self, seat_id: String) {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let result = SETTLE.run(|| caller.api.release_seat(&seat_id)).await;
            Outcome::Released { seat_id, result }
        });
    }

    pub(crate) fn check(&mut self, match_id: String) {
        let caller = self.caller.clone();
        self.tasks.spawn(async move {
            let result = caller.api.get_match(&match_id).await;
            Outcome::Checked { match_id, result }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_aborted_call_wakes_a_waiter_for_the_last_one() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = ApiClient::new(&format!("http://{}", silent.local_addr().unwrap()), None, None).unwrap();
        let mut calls = Calls::new(api, "server-1".to_owned(), String::new());
        let request = calls.request_match(Hints::NONE);
        silent.accept().await.unwrap();
        request.abort();
        assert!(calls.next().await.is_none());
        assert!(calls.is_empty());
    }
}
