//! When to try again: after a failure, and when a server says so.
//!
//! A crate of its own because game servers, sidecars, drivers and the control plane all retry, and share nothing else.

use std::time::{Duration, SystemTime};

/// Exponential backoff with jitter, so that callers that failed at the same moment do not all come back at the same
/// moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Maximum delay after the first failure; doubles with each further one.
    pub first: Duration,
    /// Maximum delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after this many consecutive failures: half of the step, plus a random part of the other half.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_by(failures, fastrand::f64())
    }

    /// The same for callers with random numbers of their own: `chance`, from 0 to 1, is the part of the other half.
    #[must_use]
    pub fn delay_by(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let step = self.first.saturating_mul(1 << doublings).min(self.max);
        step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// The pause that a `Retry-After` header asks for, in seconds or until a date (RFC 9110, 10.2.3): zero for a date in the
/// past, `None` if the value is neither.
#[must_use]
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Only a number that is too large is left to fail.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn delays_double_up_to_the_maximum_and_vary_by_half(failures in 0_u32..1_000, chance in 0.0..1.0) {
            let backoff = Backoff { first: Duration::from_millis(250), max: Duration::from_secs(10) };
            let step = Duration::from_millis(250 << failures.saturating_sub(1).min(10)).min(backoff.max);
            for delay in [backoff.delay_by(failures, chance), backoff.delay(failures)] {
                prop_assert!(delay >= step / 2 && delay <= step, "{:?} after {}", delay, failures);
            }
        }
    }

    #[test]
    fn chance_decides_within_the_step() {
        let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };
        let delays = [0.0, 0.5, 1.0].map(|chance| backoff.delay_by(3, chance).as_millis());
        assert_eq!(delays, [2_000, 3_000, 4_000]);
    }

    #[test]
    fn retry_after_has_seconds_or_a_date() {
        // The examples of RFC 9110, a minute before the date.
        let now = UNIX_EPOCH + Duration::from_secs(946_684_799 - 60);
        let seconds = |value| retry_after(value, now).map(|pause| pause.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds(" 0 "), Some(0));
        assert_eq!(seconds("Fri, 31 Dec 1999 23:59:59 GMT"), Some(60));
        assert_eq!(seconds("Friday, 31-Dec-99 23:59:59 GMT"), Some(60));
        assert_eq!(seconds("Fri Dec 31 23:59:59 1999"), Some(60));
        assert_eq!(seconds("Thu, 30 Dec 1999 23:59:59 GMT"), Some(0));
        assert_eq!(seconds("99999999999999999999999"), Some(u64::MAX));
        for wrong in ["", "soon", "-1", "+5", "1.5", "5 s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
