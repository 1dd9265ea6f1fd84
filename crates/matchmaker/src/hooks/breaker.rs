//! A circuit breaker: a hook that keeps failing is not called for a while, so that its players do not wait for
//! timeouts, and calls do not keep it from recovering.

use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Breaker {
    /// Consecutive failures that open it.
    max_failures: u32,
    pause: Duration,
    failures: u32,
    /// Open until then; after that one call tries.
    until: Option<Instant>,
    /// That call is in flight.
    trying: bool,
}

impl Breaker {
    pub(super) const fn new(max_failures: u32, pause: Duration) -> Self {
        Self { max_failures, pause, failures: 0, until: None, trying: false }
    }

    /// Whether a call may be made; if so, its outcome must be reported to [`Self::note`] or [`Self::forget`].
    pub(super) fn admit(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if until <= now && !self.trying => {
                self.trying = true;
                true
            }
            Some(_) => false,
        }
    }

    /// Reports a call's outcome. True if this opens the breaker.
    pub(super) fn note(&mut self, worked: bool, now: Instant) -> bool {
        self.trying = false;
        if worked {
            (self.failures, self.until) = (0, None);
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = self.failures >= self.max_failures;
        if opens {
            self.until = Some(now + self.pause);
        }
        opens
    }

    /// A call was aborted: it says nothing about the hook.
    pub(super) const fn forget(&mut self) {
        self.trying = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let (mut now, pause) = (Instant::now(), Duration::from_secs(10));
        let mut breaker = Breaker::new(2, pause);
        assert!(breaker.admit(now) && !breaker.note(false, now));
        assert!(breaker.admit(now) && !breaker.note(true, now), "a success in between");
        assert!(!breaker.note(false, now));
        assert!(breaker.note(false, now));
        assert!(!breaker.admit(now));
        now += pause;
        assert!(breaker.admit(now));
        assert!(!breaker.admit(now), "only one tries");
        assert!(breaker.note(false, now), "it fails again");
        assert!(!breaker.admit(now));
        now += pause;
        assert!(breaker.admit(now));
        breaker.forget();
        assert!(breaker.admit(now), "an aborted call does not count");
        breaker.note(true, now);
        assert!(breaker.admit(now) && breaker.admit(now));
    }
}
