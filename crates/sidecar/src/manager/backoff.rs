//! Pause before the next attempt: exponential backoff with full jitter.
//!
//! Full jitter, so that sidecars that lost the same backend at the same moment do not all come back at the same moment.

use std::time::Duration;

/// Maximum delay before the second attempt.
const FIRST: Duration = Duration::from_millis(250);
/// Maximum delay: the longest that a backend that comes back waits for a MatchReady; it fails matches that are not
/// ready after 30 s.
const MAX: Duration = Duration::from_secs(10);
/// Minimum delay, so that immediate failures do not become a busy loop.
const MIN: Duration = Duration::from_millis(20);

/// The delay after this many consecutive failures.
pub(super) fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST.saturating_mul(1 << doublings).min(MAX);
    step.mul_f64(fastrand::f64()).max(MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_steps_that_double_up_to_the_maximum() {
        for failures in 0..200_u32 {
            let step = Duration::from_millis(250 << failures.saturating_sub(1).min(10)).min(MAX);
            let delay = delay(failures);
            assert!((MIN..=step).contains(&delay), "{delay:?} after {failures}");
        }
    }
}
