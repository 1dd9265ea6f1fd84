//! Time as an argument.
//!
//! Machines never ask for the time: every input carries a [`Timestamp`]. The host derives it from a wall clock read
//! once at start and a monotonic clock after that, and never lets it fall behind the last record of the log. So the
//! difference of two timestamps is a duration by the monotonic clock, while the number itself is a wall-clock time that
//! is accurate enough for people.

use core::ops::{Add, Sub};
use core::time::Duration;

/// Milliseconds since the Unix epoch. Never goes back within one log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch: earlier than, or equal to, every other timestamp.
    pub const ZERO: Self = Self(0);

    /// A timestamp from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`; zero if `earlier` is the later one.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// `Duration` in whole milliseconds, rounded up, so that a deadline never fires early.
const fn millis_ceil(duration: Duration) -> u64 {
    let nanos = duration.as_nanos().div_ceil(1_000_000);
    if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis_ceil(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis_ceil(duration)))
    }
}
