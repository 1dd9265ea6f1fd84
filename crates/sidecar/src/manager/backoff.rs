//! How long to wait before the next try: exponential with full jitter.
//!
//! Full jitter, because a fleet of sidecars that lost the same backend at the same moment must not come back at the same
//! moment too.

use std::time::Duration;

/// Longest delay before the second try.
const FIRST: Duration = Duration::from_millis(250);
/// Longest delay of all: a backend that comes back waits for a MatchReady no longer than that, and fails a match that is
/// not ready after 30 s.
const LONGEST: Duration = Duration::from_secs(10);
/// Shortest delay, so that a try that fails at once is not a loop that never rests.
const SHORTEST: Duration = Duration::from_millis(20);

/// The delay after so many failures in a row.
pub(super) fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let step = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    step.mul_f64(fastrand::f64()).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_steps_that_double_up_to_the_longest() {
        for failures in 0..200_u32 {
            let step = Duration::from_millis(250 << failures.saturating_sub(1).min(10)).min(LONGEST);
            let delay = delay(failures);
            assert!((SHORTEST..=step).contains(&delay), "{delay:?} after {failures}");
        }
    }
}
