//! Trying again, within bounds: exponential delays with jitter.
//!
//! Jitter, because a fleet of game servers that lost the same platform at the same moment must not come back at the
//! same moment too.

use std::future::Future;
use std::time::Duration;

use crate::api_client::ApiError;

/// How often and how fast to try again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// Delay before the second try; doubles for each further one.
    pub(crate) first: Duration,
    /// Longest delay.
    pub(crate) longest: Duration,
    /// Tries in all.
    pub(crate) tries: u32,
}

impl Backoff {
    /// The delay after so many failures in a row: half of the step for certain, the other half by chance.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let step = self.first.saturating_mul(1 << doublings).min(self.longest);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Calls until it succeeds, is refused for good, or the tries run out; the last error then.
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
        Backoff { first: Duration::from_micros(1), longest: Duration::from_micros(4), tries: 4 };

    fn refused(status: u16) -> ApiError {
        ApiError::Refused { call: "claim seat", status, message: String::new() }
    }

    #[test]
    fn delays_grow_to_the_longest_and_vary() {
        let backoff =
            Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2), tries: 9 };
        for failures in 0..100_u32 {
            let step = Duration::from_millis(100 << failures.saturating_sub(1).min(5)).min(backoff.longest);
            let delay = backoff.delay(failures);
            assert!(delay >= step / 2 && delay <= step, "{delay:?} after {failures}");
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_so_often() {
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
    async fn a_refusal_for_good_is_not_tried_again() {
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
