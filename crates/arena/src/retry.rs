//! Bounded retries of a call to the platform.

use std::future::Future;

use sortie_retry::Backoff;

use crate::api_client::ApiError;

/// Number and pace of retries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    /// Time between attempts.
    pub(crate) backoff: Backoff,
    /// Maximum number of attempts.
    pub(crate) tries: u32,
}

impl Retries {
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
            tokio::time::sleep(self.backoff.delay(failures)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const QUICK: Retries = Retries {
        backoff: Backoff { first: Duration::from_micros(1), max: Duration::from_micros(4) },
        tries: 4,
    };

    fn refused(status: u16) -> ApiError {
        ApiError::Refused { call: "claim seat", status, message: String::new() }
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
