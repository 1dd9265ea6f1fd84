//! Bounded retries with exponential backoff and jitter.
//!
//! Jitter, so that game servers that lost the same platform at the same moment do not all come back at the same moment.

use std::future::Future;
use std::time::Duration;

use crate::api_client::ApiError;

/// Number and pace of retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Delay before the second attempt; doubles for each further one.
    pub(crate) first: Duration,
    /// Maximum delay.
    pub(crate) max: Duration,
    /// Maximum number of attempts.
    pub(crate) tries: u32,
}

impl Backoff {
    /// The delay after this many consecutive failures: half of the step, plus a random part of the other half.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let step = self.first.saturating_mul(1 << doublings).min(self.max);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Calls until it succeeds, is refused permanently, or the attempts run out; then returns the last error.
    pub(crate) async fn run<T, F>(&self, mut call: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut failures = 0;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            failures += 1;
            if error.is_lasting() || failures >= self.tries {
                return Err(error);
            }
            tracing::debug!(%error, failures, "trying again");
            tokio::time::sleep(self.delay(failures)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Backoff =
        Backoff { first: Duration::from_micros(1), max: Duration::from_micros(4), tries: 4 };

    fn refused(status: u16) -> ApiError {
        ApiError::Refused { call: "claim seat", status, message: String::new() }
    }

    #[test]
    fn delays_grow_to_the_maximum_and_vary() {
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(2), tries: 9 };
        for failures in 0..100_u32 {
            let step = Duration::from_millis(100 << failures.saturating_sub(1).min(5)).min(backoff.max);
            let delay = backoff.delay(failures);
            assert!(delay >= step / 2 && delay <= step, "{delay:?} after {failures}");
        }
    }

    #[tokio::test]
    async fn temporary_failures_are_retried_a_limited_number_of_times() {
        let mut calls = 0;
        let result: Result<(), _> = QUICK
            .run(|| {
                calls += 1;
                async { Err(refused(503)) }
            })
            .await;
        assert!(matches!(result, Err(ApiError::Refused { status: 503, .. })));
        assert_eq!(calls, QUICK.tries);
    }

    #[tokio::test]
    async fn a_permanent_refusal_is_not_retried() {
        let mut calls = 0;
        let result: Result<(), _> = QUICK
            .run(|| {
                calls += 1;
                async { Err(refused(409)) }
            })
            .await;
        assert!(result.is_err());
        assert_eq!(calls, 1);
    }
}
