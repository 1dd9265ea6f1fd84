//! How often one address or one player may call, and how many calls of one address may wait.
//!
//! A rate is stored as a single time per caller: the time at which its allowance is full again (the generic cell rate
//! algorithm). The same entry counts waiting calls, so one bounded map does both; the well-known crate for this has no
//! bound on its map. Time is an argument.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::shares::network;

/// Maximum number of callers that are remembered. Idle ones are forgotten first; if none is idle, all further callers
/// share one allowance, so that a flood of many callers does not get past the limit.
const MAX_CALLERS: usize = 50_000;

/// The limits of one caller. An IPv6 address counts as its /64, which is what one household or host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Sustained calls per second; 0 for no limit.
    pub rate: u32,
    /// Calls at once after a pause; at least 1.
    pub burst: u32,
    /// Calls that wait at a time; 0 for no limit.
    pub waiting: u32,
}

impl Allowance {
    /// No limits.
    pub const NONE: Self = Self { rate: 0, burst: 1, waiting: 0 };
}

/// Why a caller has to retry later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooMany {
    /// It calls too often; the next call is allowed after this time.
    Calls(Duration),
    /// Too many of its calls wait.
    Waiting,
}

/// Who has an allowance. Names are stored as hashes with a key of this process: that makes them short, and nobody can
/// choose a name with the same hash as another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Caller {
    Address(IpAddr),
    Name(u64),
    /// All callers for whom there is no room.
    Others,
}

/// Minimum time between two searches for callers to forget, which go through all of them.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Memory {
    entries: BTreeMap<Caller, Entry>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    whole_at: Instant,
    waiting: u32,
}

impl Entry {
    /// Takes one call from the allowance.
    fn spend(&mut self, rate: u32, burst: u32, now: Instant) -> Result<(), TooMany> {
        let Some(period) = Duration::from_secs(1).checked_div(rate) else { return Ok(()) };
        let whole_at = self.whole_at.max(now) + period;
        let allowance = period * burst;
        if whole_at > now + allowance {
            return Err(TooMany::Calls(whole_at - allowance - now));
        }
        self.whole_at = whole_at;
        Ok(())
    }
}

/// Remembers callers. Clones share what is remembered.
#[derive(Clone)]
pub struct Allowances {
    each: Allowance,
    max: usize,
    hash: RandomState,
    memory: Arc<Mutex<Memory>>,
}

/// A waiting call. Returns its slot when dropped.
pub struct Turn {
    caller: Caller,
    memory: Arc<Mutex<Memory>>,
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Allowances {
    /// The same limits for each caller.
    #[must_use]
    pub fn new(each: Allowance) -> Self {
        Self { each, max: MAX_CALLERS, hash: RandomState::new(), memory: Arc::default() }
    }

    /// Lets a call from `address` begin to wait at `now`; `None` if nothing is limited. A refused call does not count
    /// against the address.
    ///
    /// # Errors
    /// [`TooMany`]
    pub fn enter(&self, address: IpAddr, now: Instant) -> Result<Option<Turn>, TooMany> {
        let Allowance { rate, burst, waiting } = self.each;
        if rate == 0 && waiting == 0 {
            return Ok(None);
        }
        let mut memory = lock(&self.memory);
        let caller = self.place(&mut memory, Caller::Address(network(address)), now);
        let entry = memory.entries.entry(caller).or_insert(Entry { whole_at: now, waiting: 0 });
        if waiting > 0 && entry.waiting >= waiting {
            return Err(TooMany::Waiting);
        }
        entry.spend(rate, burst, now)?;
        entry.waiting += 1;
        Ok(Some(Turn { caller, memory: Arc::clone(&self.memory) }))
    }

    /// Lets `address`, which may have a waiting call already, call at `now`: that costs as much as [`Self::enter`].
    ///
    /// # Errors
    /// [`TooMany::Calls`]
    pub fn pass(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        self.spend(now, || Caller::Address(network(address)))
    }

    /// The same for a caller with this name.
    ///
    /// # Errors
    /// [`TooMany::Calls`]
    pub fn pass_named(&self, name: &str, now: Instant) -> Result<(), TooMany> {
        self.spend(now, || Caller::Name(self.hash.hash_one(name)))
    }

    fn spend(&self, now: Instant, caller: impl FnOnce() -> Caller) -> Result<(), TooMany> {
        let Allowance { rate, burst, .. } = self.each;
        if rate == 0 {
            return Ok(());
        }
        let mut memory = lock(&self.memory);
        let caller = self.place(&mut memory, caller(), now);
        memory.entries.entry(caller).or_insert(Entry { whole_at: now, waiting: 0 }).spend(rate, burst, now)
    }

    /// The entry for `caller`.
    fn place(&self, memory: &mut Memory, caller: Caller, now: Instant) -> Caller {
        let Memory { entries, swept } = memory;
        if entries.len() < self.max || entries.contains_key(&caller) {
            return caller;
        }
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PERIOD) {
            *swept = Some(now);
            entries.retain(|_, entry| entry.waiting > 0 || entry.whole_at > now);
        }
        if entries.len() < self.max { caller } else { Caller::Others }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(entry) = lock(&self.memory).entries.get_mut(&self.caller) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(rate: u32, burst: u32, waiting: u32) -> Allowances {
        Allowances::new(Allowance { rate, burst, waiting })
    }

    /// How many of `tries` are allowed.
    fn entered(addresses: &Allowances, address: &str, now: Instant, tries: usize) -> usize {
        let address = address.parse().unwrap();
        (0..tries).filter(|_| addresses.enter(address, now).is_ok()).count()
    }

    #[test]
    fn waiting_callers_may_call_as_often_as_others_may_join() {
        let (addresses, now, address) = (addresses(1, 3, 1), Instant::now(), "1.2.3.4".parse().unwrap());
        let _waits = addresses.enter(address, now).unwrap();
        assert_eq!(addresses.enter(address, now).err(), Some(TooMany::Waiting));
        assert_eq!([(); 2].map(|()| addresses.pass(address, now)), [Ok(()); 2]);
        assert_eq!(addresses.pass(address, now), Err(TooMany::Calls(SECOND)));
        assert_eq!(addresses.pass(address, now + SECOND), Ok(()));
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (addresses, start) = (addresses(2, 5, 0), Instant::now());
        assert_eq!(entered(&addresses, "1.2.3.4", start, 50), 5);
        let refused = addresses.enter("1.2.3.4".parse().unwrap(), start).err();
        assert_eq!(refused, Some(TooMany::Calls(SECOND / 2)));
        assert_eq!(entered(&addresses, "1.2.3.4", start + SECOND / 2, 50), 1, "when it was told to come");
        assert_eq!(entered(&addresses, "1.2.3.4", start + SECOND * 5 / 2, 50), 4);
        assert_eq!(entered(&addresses, "1.2.3.4", start + 1000 * SECOND, 50), 5, "never more than a burst");
    }

    #[test]
    fn each_address_has_its_own_and_a_64_of_ipv6_is_one() {
        let (addresses, start) = (addresses(1, 1, 0), Instant::now());
        for (address, entries) in [
            ("1.2.3.4", 1),
            ("::ffff:1.2.3.4", 0),
            ("1.2.3.5", 1),
            ("2001:db8::1", 1),
            ("2001:db8::ffff:ffff:ffff:ffff", 0),
            ("2001:db8:0:1::1", 1),
        ] {
            assert_eq!(entered(&addresses, address, start, 3), entries, "{address}");
        }
    }

    #[test]
    fn so_many_wait_at_a_time() {
        let (addresses, now, ip) = (addresses(0, 1, 2), Instant::now(), "1.2.3.4".parse().unwrap());
        let first = addresses.enter(ip, now).unwrap();
        let _second = addresses.enter(ip, now).unwrap();
        assert_eq!(addresses.enter(ip, now).err(), Some(TooMany::Waiting));
        drop(first);
        assert!(addresses.enter(ip, now).is_ok());
    }

    #[test]
    fn a_flood_of_addresses_is_remembered_within_bounds() {
        let (mut addresses, start) = (addresses(1, 1, 0), Instant::now());
        addresses.max = 3;
        let count = |now| (0..50).map(|n| entered(&addresses, &format!("10.0.0.{n}"), now, 1)).sum::<usize>();
        assert_eq!(count(start), 4, "three, and one of all the others");
        assert_eq!(addresses.memory.lock().unwrap().entries.len(), 4);
        assert_eq!(count(start + 2 * SECOND), 4, "the idle ones were forgotten");
        assert_eq!(addresses.memory.lock().unwrap().entries.len(), 4);
    }

    #[test]
    fn without_limits_nothing_is_remembered() {
        let addresses = Allowances::new(Allowance::NONE);
        assert_eq!(entered(&addresses, "1.2.3.4", Instant::now(), 1000), 1000);
        assert!(addresses.memory.lock().unwrap().entries.is_empty());
    }

    #[test]
    fn a_name_has_an_allowance_of_its_own() {
        let (named, now) = (addresses(2, 2, 0), Instant::now());
        let calls = |name: &str, now| (0..5).filter(|_| named.pass_named(name, now).is_ok()).count();
        assert_eq!([calls("alice", now), calls("bob", now), calls("alice", now)], [2, 2, 0]);
        assert_eq!(named.pass_named("alice", now), Err(TooMany::Calls(SECOND / 2)));
        assert_eq!(calls("alice", now + SECOND / 2), 1);
    }
}
