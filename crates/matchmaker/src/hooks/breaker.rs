//! A circuit breaker: a hook that keeps failing is left alone for a while, so that its players do not wait for what will
//! not come, and it is not kept down by being asked.

use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Breaker {
    /// Failures in a row that open it.
    most: u32,
    pause: Duration,
    failures: u32,
    /// Open until then; after it one call tries.
    until: Option<Instant>,
    /// That call is under way.
    trying: bool,
}

impl Breaker {
    pub(super) const fn new(most: u32, pause: Duration) -> Self {
        Self { most, pause, failures: 0, until: None, trying: false }
    }

    /// Whether a call may be made; its outcome is to be noted then.
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

    /// True if this opens it.
    pub(super) fn note(&mut self, worked: bool, now: Instant) -> bool {
        self.trying = false;
        if worked {
            (self.failures, self.until) = (0, None);
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        let opens = self.failures >= self.most;
        if opens {
            self.until = Some(now + self.pause);
        }
        opens
    }

    /// A call was broken off and says nothing.
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
        assert!(breaker.admit(now), "what was broken off counts for nothing");
        breaker.note(true, now);
        assert!(breaker.admit(now) && breaker.admit(now));
    }
}
