//! How long matches waited recently. Only this process remembers it.
//!
//! It is not in the log: an estimate for people is not a decision, and after a restart old waits say little about the
//! current servers.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::FleetId;

/// Maximum number of waits that are remembered, of all fleets together.
const WAITS_KEPT: usize = 1_000;

/// The newest waits, each under a key: for the broker the fleet, for the matchmaker the queue.
pub(crate) struct Waits<K = Option<FleetId>> {
    newest: VecDeque<(K, Duration)>,
}

impl<K> Default for Waits<K> {
    fn default() -> Self {
        Self { newest: VecDeque::new() }
    }
}

/// A summary of some waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shares {
    pub(crate) seen: usize,
    pub(crate) p50: Duration,
    pub(crate) p90: Duration,
}

/// How long matches waited from being queued until players could connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypicalWait {
    /// The fleet whose servers took them; `None` for all.
    pub fleet: Option<FleetId>,
    /// The number of waits.
    pub seen: usize,
    /// Their median.
    pub p50: Duration,
    /// Their 90th percentile.
    pub p90: Duration,
}

impl<K> Waits<K> {
    pub(crate) fn note(&mut self, of: K, wait: Duration) {
        if self.newest.len() == WAITS_KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back((of, wait));
    }

    /// The waits with a wanted key, in ascending order.
    pub(crate) fn sorted(&self, wanted: impl Fn(&K) -> bool) -> Vec<Duration> {
        let found = self.newest.iter().filter(|(of, _)| wanted(of));
        let mut waits: Vec<Duration> = found.map(|(_, wait)| *wait).collect();
        waits.sort_unstable();
        waits
    }
}

impl Shares {
    /// Of waits in ascending order; `None` if there are none.
    pub(crate) fn of(sorted: &[Duration]) -> Option<Self> {
        let share =
            |tenths: usize| sorted.get((sorted.len() * tenths).div_ceil(10).saturating_sub(1)).copied();
        Some(Self { seen: sorted.len(), p50: share(5)?, p90: share(9)? })
    }
}

impl Waits {
    /// Of one fleet, or of all; `None` if there are none.
    pub(crate) fn typical(&self, fleet: Option<&FleetId>) -> Option<TypicalWait> {
        let waits = self.sorted(|of| fleet.is_none() || of.as_ref() == fleet);
        let Shares { seen, p50, p90 } = Shares::of(&waits)?;
        Some(TypicalWait { fleet: fleet.cloned(), seen, p50, p90 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_waits_of_a_fleet_count() {
        let (eu, us) = (FleetId::new("eu").unwrap(), FleetId::new("us").unwrap());
        let mut waits: Waits = Waits::default();
        assert_eq!(waits.typical(None), None);
        for seconds in (1..=10).rev() {
            waits.note(Some(eu.clone()), Duration::from_secs(seconds));
        }
        waits.note(None, Duration::from_secs(100));
        let found = waits.typical(Some(&eu)).unwrap();
        assert_eq!((found.seen, found.p50.as_secs(), found.p90.as_secs()), (10, 5, 9));
        assert_eq!(waits.typical(None).unwrap().seen, 11);
        assert_eq!(waits.typical(Some(&us)), None);
        for _ in 0..WAITS_KEPT {
            waits.note(Some(us.clone()), Duration::ZERO);
        }
        assert_eq!(waits.typical(Some(&eu)), None, "they were too long ago");
        assert_eq!(waits.typical(None).unwrap().seen, WAITS_KEPT);
    }
}
