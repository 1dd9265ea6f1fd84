//! The next match, for event sources that ask on their own.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sortie_wire::catena::server_manager::{Match, RequestMatchRequest, RequestMatchResponse};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::Status;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{BACKOFF, Manager, asking, check_id};
use crate::backend::BackendError;

/// Minimum pause between two questions without a match, whatever the pace.
const MIN_PACE: Duration = Duration::from_millis(20);
const HINTS: u32 = HintFlag::WillingToWait as u32 | HintFlag::WillingToShutdown as u32;

/// The outcome of waiting for a match.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// A match, which the server now holds.
    Match(Match),
    /// The backend wants the server to exit.
    Shutdown,
    /// The caller's token was cancelled, or the sidecar is shutting down.
    Closing,
}

impl Manager {
    /// Asks until there is a match, with `WILLING_TO_WAIT` and `WILLING_TO_SHUTDOWN` if the backend supports hints. Two
    /// questions without a match begin at least `pace` apart, so that a backend that answers at once is not flooded;
    /// one that holds the call is asked again at once. While the backend is away, it is asked with backoff. Dropping
    /// the future withdraws the question, see [`Self::request_match`].
    ///
    /// # Errors
    /// A refusal by the backend, or by [`Self::register`]: retrying is useless.
    pub async fn next_match(
        &self,
        source: &'static str,
        server_id: &str,
        requirements: &str,
        pace: Duration,
        closing: &CancellationToken,
    ) -> Result<Next, Status> {
        check_id("serverId", server_id)?;
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let hint_flags = if self.0.is_hintless() { 0 } else { HINTS };
            let request = RequestMatchRequest {
                server_id: server_id.to_owned(),
                requirements: requirements.to_owned(),
                hint_flags,
                ..RequestMatchRequest::default()
            };
            let Some(asked) = self.unless(closing, asking::ask(&self.0, source, request)).await else {
                return Ok(Next::Closing);
            };
            let pause = match asked {
                Ok(response) => {
                    failures = 0;
                    if let Some(next) = next_of(response) {
                        return Ok(next);
                    }
                    self.unless(closing, sleep_until(began + pace.max(MIN_PACE))).await
                }
                Err(BackendError::Away(_)) => {
                    failures += 1;
                    self.unless(closing, sleep(BACKOFF.delay(failures))).await
                }
                Err(BackendError::Refused(status)) if hint_flags != 0 && is_about_hints(&status) => {
                    tracing::warn!(
                        text = status.message,
                        "the backend does not support hints: asking without them"
                    );
                    self.0.is_hintless.store(true, Ordering::Relaxed);
                    Some(())
                }
                Err(BackendError::Refused(status)) => return Err(status),
            };
            if pause.is_none() {
                return Ok(Next::Closing);
            }
        }
    }

    async fn unless<F: Future>(&self, closing: &CancellationToken, future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = closing.cancelled() => None,
            () = self.0.closing.cancelled() => None,
            output = future => Some(output),
        }
    }
}

fn next_of(response: RequestMatchResponse) -> Option<Next> {
    match response.r#match {
        Some(game) => Some(Next::Match(game)),
        None if response.hint_flags & HintFlag::Shutdown as u32 != 0 => Some(Next::Shutdown),
        None => None,
    }
}

fn is_about_hints(status: &Status) -> bool {
    let names_them = |text: &str| text.contains("hintFlags") || text.contains("hint_flags");
    status.code == i32::from(Code::InvalidArgument) && names_them(&status.message)
}
