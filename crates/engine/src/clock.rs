//! Time and entropy: the two things a machine may not get for itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sortie_domain::time::Timestamp;

/// Called when time has been moved, so that waiting threads check the clock again.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// A source of time.
pub trait Clock: Send + Sync {
    /// The time now. Never goes back.
    fn now(&self) -> Timestamp;

    /// How long to wait for `deadline`; `None` if waiting does not help: such a clock calls the waker when it moves.
    fn wait_for(&self, deadline: Timestamp) -> Option<Duration>;

    /// Keeps `waker` to call it when time is moved. Clocks that run on their own don't need it.
    fn on_move(&self, _waker: Waker) {}
}

/// A wall clock that cannot be right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadClock {
    /// Times are counted from 1970.
    #[error("the system's clock is at a time before the year 1970: set it, then start again")]
    TooEarly,
    /// Years are written with four digits.
    #[error("the system's clock is at a time after the year 9999: set it, then start again")]
    TooLate,
}

/// Checks that times around `now` can be counted and written.
///
/// # Errors
/// [`BadClock`].
pub fn check_wall_clock(now: SystemTime) -> Result<(), BadClock> {
    /// The first second of the year 10000, since 1970.
    const TOO_LATE: Duration = Duration::from_secs(253_402_300_800);
    match now.duration_since(UNIX_EPOCH) {
        Err(_) => Err(BadClock::TooEarly),
        Ok(since) if since >= TOO_LATE => Err(BadClock::TooLate),
        Ok(_) => Ok(()),
    }
}

/// The wall clock, read once, and the monotonic clock since: stamps that people can read, and durations that a
/// corrected wall clock cannot bend.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    base: Duration,
    started: Instant,
}

impl SystemClock {
    /// Reads the wall clock.
    #[must_use]
    pub fn start() -> Self {
        // A wall clock before 1970 counts as 1970: both are wrong.
        let base = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { base, started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let millis = (self.base + self.started.elapsed()).as_millis();
        Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    fn wait_for(&self, deadline: Timestamp) -> Option<Duration> {
        let deadline = Duration::from_millis(deadline.as_millis());
        Some(deadline.saturating_sub(self.base + self.started.elapsed()))
    }
}

/// A clock that moves only when told to, for tests.
#[derive(Clone, Default)]
pub struct ManualClock {
    inner: Arc<Mutex<ManualTime>>,
}

#[derive(Default)]
struct ManualTime {
    now: Timestamp,
    wakers: Vec<Waker>,
}

impl ManualClock {
    /// A clock that stays at `now`.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let clock = Self::default();
        clock.lock().now = now;
        clock
    }

    /// Moves the clock forward and wakes the threads that wait for it.
    pub fn advance(&self, by: Duration) {
        let wakers = {
            let mut time = self.lock();
            time.now = time.now + by;
            time.wakers.clone()
        };
        wakers.iter().for_each(|wake| wake());
    }

    fn lock(&self) -> MutexGuard<'_, ManualTime> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ManualClock({:?})", self.lock().now)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn wait_for(&self, deadline: Timestamp) -> Option<Duration> {
        (deadline <= self.now()).then_some(Duration::ZERO)
    }

    fn on_move(&self, waker: Waker) {
        self.lock().wakers.push(waker);
    }
}

/// Random bits. The generator is cryptographic because ids are made of them, and some ids are worth guessing.
pub struct Entropy(StdRng);

impl Entropy {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// The operating system's error if it has no random bits.
    pub fn system() -> Result<Self, getrandom::Error> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self(StdRng::from_seed(seed)))
    }

    /// The same bits for the same seed, for tests.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn draw(&mut self) -> [u64; 2] {
        self.0.random()
    }
}

impl fmt::Debug for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entropy")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_outside_of_what_can_be_written_is_named() {
        let second = Duration::from_secs(1);
        // date --date=10000-01-01T00:00:00Z +%s
        let end = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
        assert_eq!(check_wall_clock(UNIX_EPOCH), Ok(()));
        assert_eq!(check_wall_clock(end - second), Ok(()));
        assert_eq!(check_wall_clock(UNIX_EPOCH - second), Err(BadClock::TooEarly));
        assert_eq!(check_wall_clock(end), Err(BadClock::TooLate));
    }
}
