//! The next match, for event sources that ask by themselves.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sortie_wire::catena::server_manager::{Match, RequestMatchRequest, RequestMatchResponse};
use sortie_wire::hints::HintFlag;
use sortie_wire::status::Status;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Manager, asking, backoff, check_id};
use crate::backend::BackendError;

/// Shortest pause between two questions that were answered empty, whatever the pace.
const SHORTEST_PACE: Duration = Duration::from_millis(20);
const HINTS: u32 = HintFlag::WillingToWait as u32 | HintFlag::WillingToShutdown as u32;

/// What came of waiting for a match.
#[derive(Clone, PartialEq, Debug)]
pub enum Next {
    /// One came. It is held by the server from here on.
    Match(Match),
    /// The backend wants the server to end.
    Shutdown,
    /// The caller's token was cancelled, or the sidecar ends.
    Closing,
}

impl Manager {
    /// Asks until there is a match, with `WILLING_TO_WAIT` and `WILLING_TO_SHUTDOWN`, as long as the backend knows
    /// hints. Two questions that were answered without a match begin at least `pace` apart, so that a backend that
    /// answers at once is not asked without end; one that holds the call is asked again at once. While the backend is
    /// away it is asked with backoff. To drop the future withdraws the question, as [`Self::request_match`] says.
    ///
    /// # Errors
    /// What the backend refused with, or [`Self::register`] would: asking again the same way cannot help.
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
                    self.unless(closing, sleep_until(began + pace.max(SHORTEST_PACE))).await
                }
                Err(BackendError::Away(_)) => {
                    failures += 1;
                    self.unless(closing, sleep(backoff::delay(failures))).await
                }
                Err(BackendError::Refused(status)) if hint_flags != 0 && is_about_hints(&status) => {
                    tracing::warn!(text = status.message, "the backend knows no hints: asking without");
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
