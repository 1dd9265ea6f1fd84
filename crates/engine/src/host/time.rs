//! The clock as machines see it: never behind the log, never going back, never standing still.
//!
//! If the wall clock is behind the newest record (it was set back, or an earlier start was in the future), stamps
//! continue from that record, a tenth slower than the clock, until the clock has caught up. The log makes up one hour
//! in ten, and until then a deadline comes at most a ninth later than it should.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sortie_domain::machine::{Machine, Moment};
use sortie_domain::time::Timestamp;

use super::StartError;
use crate::clock::{Clock, Entropy};
use crate::log::Log;

/// While stamps are ahead of the clock, one in this many milliseconds is left out.
const SLOWER_BY_ONE_IN: u64 = 10;

/// How far the clock may be ahead of the last sign of life at a start with live matches or tickets: one hour.
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The same if there is nothing that a wrong clock could end: 31 days.
pub const MAX_IDLE_PAUSE: Duration = Duration::from_secs(31 * 24 * 3600);

/// How often the log records that its owner is alive, so that a start knows how long it was away: a minute.
const ALIVE_EVERY: Duration = Duration::from_secs(60);

/// How far the log may be ahead of the clock without a warning: a minute.
const NOTABLE_LEAD: Duration = Duration::from_secs(60);

/// What a start does about a clock that is far ahead of the log.
pub struct ClockGuard<M> {
    /// Accept any clock.
    pub accept: bool,
    /// Whether the machine has anything live that deadlines could end.
    pub is_live: fn(&M) -> bool,
}

impl<M> ClockGuard<M> {
    /// Accepts any clock.
    #[must_use]
    pub fn open() -> Self {
        Self { accept: true, is_live: |_| true }
    }
}

impl<M> fmt::Debug for ClockGuard<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClockGuard").field("accept", &self.accept).finish_non_exhaustive()
    }
}

/// Refuses a clock so far ahead of the last sign of life that live matches or tickets would be harmed.
pub(super) fn check<M: Machine>(
    guard: &ClockGuard<M>,
    machine: &M,
    last: Timestamp,
    now: Timestamp,
) -> Result<(), StartError> {
    let most = if (guard.is_live)(machine) { MAX_PAUSE } else { MAX_IDLE_PAUSE };
    if machine.last_seq() == 0 || now.since(last) <= most {
        return Ok(());
    }
    if !guard.accept {
        return Err(StartError::ClockAhead { last, now });
    }
    tracing::warn!(
        last_millis = last.as_millis(),
        now_millis = now.as_millis(),
        "the clock is far ahead of the log, which was accepted"
    );
    Ok(())
}

/// Stamps that continue from a record ahead of the clock.
#[derive(Clone, Copy, Debug)]
struct Lead {
    record: Timestamp,
    /// The clock's time at that moment.
    clock: Timestamp,
}

impl Lead {
    /// The stamp for the clock's time `now`.
    fn stamp(self, now: Timestamp) -> Timestamp {
        let elapsed = millis(now.since(self.clock));
        self.record + Duration::from_millis(elapsed - elapsed / SLOWER_BY_ONE_IN)
    }

    /// The clock's time when [`Lead::stamp`] is `stamp` for the first time.
    fn clock_at(self, stamp: Timestamp) -> Timestamp {
        let ahead = millis(stamp.since(self.record));
        let more = ahead.saturating_sub(1) / (SLOWER_BY_ONE_IN - 1);
        self.clock + Duration::from_millis(ahead.saturating_add(more))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) struct HostTime {
    clock: Arc<dyn Clock>,
    lead: Option<Lead>,
    entropy: Entropy,
    noted: Timestamp,
}

impl HostTime {
    pub(super) fn new(clock: Arc<dyn Clock>, entropy: Entropy, not_before: Timestamp) -> Self {
        let now = clock.now();
        let lead = (not_before > now).then_some(Lead { record: not_before, clock: now });
        if not_before.since(now) > NOTABLE_LEAD {
            tracing::warn!(
                record_millis = not_before.as_millis(),
                clock_millis = now.as_millis(),
                "the clock is behind the newest record of the log: stamps run a tenth slower until it has caught up"
            );
        }
        Self { clock, lead, entropy, noted: Timestamp::ZERO }
    }

    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        self.lead.map_or(now, |lead| lead.stamp(now).max(now))
    }

    pub(super) fn moment(&mut self) -> Moment {
        Moment { now: self.now(), entropy: self.entropy.draw() }
    }

    pub(super) fn wait_for(&self, deadline: Timestamp) -> Option<Duration> {
        let at = self.lead.map_or(deadline, |lead| lead.clock_at(deadline).min(deadline));
        self.clock.wait_for(at)
    }

    /// `wait`, or less if the log has to be told sooner that its owner is alive.
    pub(super) fn until_alive(&self, wait: Option<Duration>) -> Option<Duration> {
        let alive = self.clock.wait_for(self.clock.now() + ALIVE_EVERY);
        soonest(wait, alive)
    }

    /// Tells the log that its owner is alive, if it has not been told lately or if `at_once`.
    pub(super) fn show_alive(&mut self, log: &mut dyn Log, at_once: bool) {
        let now = self.now();
        if at_once || now.since(self.noted) >= ALIVE_EVERY {
            log.note_alive(now);
            self.noted = now;
        }
    }
}

/// The shorter of two waits; `None` means forever.
pub(super) fn soonest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const RECORD: Timestamp = Timestamp::from_millis(10_000_000);

    fn behind(by: Duration) -> (ManualClock, HostTime) {
        let clock = ManualClock::at(RECORD - by);
        let time = HostTime::new(Arc::new(clock.clone()), Entropy::seeded(1), RECORD);
        (clock, time)
    }

    #[test]
    fn a_clock_that_is_ahead_is_taken_as_it_is() {
        let clock = ManualClock::at(RECORD + Duration::from_secs(5));
        let time = HostTime::new(Arc::new(clock.clone()), Entropy::seeded(1), RECORD);
        assert_eq!(time.now(), RECORD + Duration::from_secs(5));
        clock.advance(Duration::from_secs(7));
        assert_eq!(time.now(), RECORD + Duration::from_secs(12));
    }

    #[test]
    fn stamps_go_on_from_the_record_a_tenth_slower_until_the_clock_has_caught_up() {
        let (clock, time) = behind(Duration::from_secs(100));
        assert_eq!(time.now(), RECORD);
        clock.advance(Duration::from_secs(500));
        assert_eq!(time.now(), RECORD + Duration::from_secs(450), "the lead is 50 s by now");
        clock.advance(Duration::from_secs(500));
        assert_eq!(time.now(), RECORD + Duration::from_secs(900), "caught up");
        clock.advance(Duration::from_secs(500));
        assert_eq!(time.now(), RECORD + Duration::from_secs(1400), "and by the clock from then on");
    }

    #[test]
    fn stamps_never_go_back_nor_stand_still() {
        let (clock, time) = behind(Duration::from_millis(40));
        let mut last = time.now();
        for _ in 0..1_000 {
            clock.advance(Duration::from_millis(2));
            assert!(time.now() > last, "{last:?}");
            last = time.now();
        }
        assert_eq!(last, clock.now());
    }

    #[test]
    fn a_deadline_is_waited_for_exactly_until_its_stamp_is_reached() {
        for behind_by in [0, 1, 7, 90, 1_000] {
            for ahead in 0..300 {
                let (clock, time) = behind(Duration::from_millis(behind_by));
                let deadline = RECORD + Duration::from_millis(ahead);
                let mut waited = 0;
                while time.wait_for(deadline).is_none() {
                    assert!(time.now() < deadline, "{behind_by} {ahead}");
                    clock.advance(Duration::from_millis(1));
                    waited += 1;
                }
                assert!(time.now() >= deadline, "{behind_by} {ahead}");
                assert!(waited <= ahead + ahead.div_ceil(9) + 1, "{waited} for {ahead}");
            }
        }
    }

    #[test]
    fn the_ends_of_time_do_no_harm() {
        let clock = ManualClock::at(Timestamp::ZERO);
        let end = Timestamp::from_millis(u64::MAX);
        let time = HostTime::new(Arc::new(clock.clone()), Entropy::seeded(1), end);
        clock.advance(Duration::from_secs(u64::MAX / 2_000));
        assert_eq!(time.now(), end);
        assert_eq!(time.wait_for(end), Some(Duration::ZERO));
    }
}
