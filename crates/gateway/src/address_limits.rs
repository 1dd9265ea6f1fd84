//! How often one address may join, and how many of its players may wait.
//!
//! A rate is kept as a single time for each address: the one at which its allowance would be whole again (the generic
//! cell rate algorithm). The same entry counts who waits, so that one bounded map does for both; the well-known crate
//! for this has no bound on its map. Time is an argument.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sortie_serving::network;

/// Most addresses that are remembered. What is idle is forgotten first; if nothing is, all further ones share one
/// allowance, so that a flood from many addresses does not get past by their number.
const MAX_ADDRESSES: usize = 50_000;
/// Stands for all addresses that there is no room for.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// What one address may do. An IPv6 address stands for its /64, which is what one household or host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressLimits {
    /// Joins a second in the long run; 0 for no limit.
    pub rate: u32,
    /// Joins at once after a pause; at least 1.
    pub burst: u32,
    /// Players who wait at a time; 0 for no limit.
    pub waiting: u32,
}

impl AddressLimits {
    /// No limits.
    pub const NONE: Self = Self { rate: 0, burst: 1, waiting: 0 };
}

/// Why an address has to wait before it may join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TooMany {
    /// It joins too often; the next one is all right after this time.
    Joins(Duration),
    /// Too many of its players wait.
    Waiting,
}

/// Least time between two looks for addresses to forget, which go through all of them.
const SWEEP_PERIOD: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Memory {
    entries: BTreeMap<IpAddr, Entry>,
    swept: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    whole_at: Instant,
    waiting: u32,
}

impl Entry {
    /// Takes one of the allowance.
    fn spend(&mut self, rate: u32, burst: u32, now: Instant) -> Result<(), TooMany> {
        let Some(period) = Duration::from_secs(1).checked_div(rate) else { return Ok(()) };
        let whole_at = self.whole_at.max(now) + period;
        let allowance = period * burst;
        if whole_at > now + allowance {
            return Err(TooMany::Joins(whole_at - allowance - now));
        }
        self.whole_at = whole_at;
        Ok(())
    }
}

/// Remembers addresses. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Addresses {
    limits: AddressLimits,
    most: usize,
    memory: Arc<Mutex<Memory>>,
}

/// One of the players who wait. Gives the place back when it is dropped.
pub(crate) struct Turn {
    address: IpAddr,
    memory: Arc<Mutex<Memory>>,
}

impl Addresses {
    pub(crate) fn new(limits: AddressLimits) -> Self {
        Self { limits, most: MAX_ADDRESSES, memory: Arc::default() }
    }

    /// Lets a player from `address` join at `now`; `None` where nothing is limited. What is refused costs the address
    /// nothing.
    pub(crate) fn enter(&self, address: IpAddr, now: Instant) -> Result<Option<Turn>, TooMany> {
        let AddressLimits { rate, burst, waiting } = self.limits;
        if rate == 0 && waiting == 0 {
            return Ok(None);
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let address = self.place(&mut memory, network(address), now);
        let entry = memory.entries.entry(address).or_insert(Entry { whole_at: now, waiting: 0 });
        if waiting > 0 && entry.waiting >= waiting {
            return Err(TooMany::Waiting);
        }
        entry.spend(rate, burst, now)?;
        entry.waiting += 1;
        Ok(Some(Turn { address, memory: Arc::clone(&self.memory) }))
    }

    /// Lets a player from `address`, who perhaps waits already, call at `now`: that costs as much as a join.
    pub(crate) fn pass(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        let AddressLimits { rate, burst, .. } = self.limits;
        if rate == 0 {
            return Ok(());
        }
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let address = self.place(&mut memory, network(address), now);
        memory.entries.entry(address).or_insert(Entry { whole_at: now, waiting: 0 }).spend(rate, burst, now)
    }

    /// Where `address` is counted.
    fn place(&self, memory: &mut Memory, address: IpAddr, now: Instant) -> IpAddr {
        let Memory { entries, swept } = memory;
        if entries.len() < self.most || entries.contains_key(&address) {
            return address;
        }
        if swept.is_none_or(|swept| now.saturating_duration_since(swept) >= SWEEP_PERIOD) {
            *swept = Some(now);
            entries.retain(|_, entry| entry.waiting > 0 || entry.whole_at > now);
        }
        if entries.len() < self.most { address } else { OTHERS }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = memory.entries.get_mut(&self.address) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn addresses(rate: u32, burst: u32, waiting: u32) -> Addresses {
        Addresses::new(AddressLimits { rate, burst, waiting })
    }

    /// How many of `tries` come in.
    fn entered(addresses: &Addresses, address: &str, now: Instant, tries: usize) -> usize {
        let address = address.parse().unwrap();
        (0..tries).filter(|_| addresses.enter(address, now).is_ok()).count()
    }

    #[test]
    fn whoever_waits_may_call_as_often_as_others_may_join() {
        let (addresses, now, address) = (addresses(1, 3, 1), Instant::now(), "1.2.3.4".parse().unwrap());
        let _waits = addresses.enter(address, now).unwrap();
        assert_eq!(addresses.enter(address, now).err(), Some(TooMany::Waiting));
        assert_eq!([(); 2].map(|()| addresses.pass(address, now)), [Ok(()); 2]);
        assert_eq!(addresses.pass(address, now), Err(TooMany::Joins(SECOND)));
        assert_eq!(addresses.pass(address, now + SECOND), Ok(()));
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (addresses, start) = (addresses(2, 5, 0), Instant::now());
        assert_eq!(entered(&addresses, "1.2.3.4", start, 50), 5);
        let refused = addresses.enter("1.2.3.4".parse().unwrap(), start).err();
        assert_eq!(refused, Some(TooMany::Joins(SECOND / 2)));
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
        addresses.most = 3;
        let count = |now| (0..50).map(|n| entered(&addresses, &format!("10.0.0.{n}"), now, 1)).sum::<usize>();
        assert_eq!(count(start), 4, "three, and one of all the others");
        assert_eq!(addresses.memory.lock().unwrap().entries.len(), 4);
        assert_eq!(count(start + 2 * SECOND), 4, "the idle ones were forgotten");
        assert_eq!(addresses.memory.lock().unwrap().entries.len(), 4);
    }

    #[test]
    fn without_limits_nothing_is_remembered() {
        let addresses = Addresses::new(AddressLimits::NONE);
        assert_eq!(entered(&addresses, "1.2.3.4", Instant::now(), 1000), 1000);
        assert!(addresses.memory.lock().unwrap().entries.is_empty());
    }
}
