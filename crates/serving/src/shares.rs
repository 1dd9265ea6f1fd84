//! How many of something each caller may have at a time: connections of an address, streams of a player or a key.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what each caller has. An entry exists while its count is above zero: the limit on the total also limits this
/// map. Clones share the counts.
#[derive(Clone)]
pub struct Shares<K: Ord> {
    max: Option<usize>,
    open: Arc<Mutex<BTreeMap<K, usize>>>,
}

/// One of what a caller has. Returned when dropped.
pub struct Share<K: Ord> {
    of: K,
    open: Arc<Mutex<BTreeMap<K, usize>>>,
}

impl<K: Ord + Clone> Shares<K> {
    /// At most `max` for each caller; `None` for no limit.
    #[must_use]
    pub fn new(max: Option<usize>) -> Self {
        Self { max, open: Arc::default() }
    }

    /// One more for `of`: `None` if it has reached its maximum; `Some(None)` if nothing is counted.
    #[must_use]
    pub fn enter(&self, of: K) -> Option<Option<Share<K>>> {
        let Some(max) = self.max else { return Some(None) };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&of) {
            Some(count) if *count >= max => return None,
            Some(count) => *count += 1,
            None if max == 0 => return None,
            None => drop(open.insert(of.clone(), 1)),
        }
        Some(Some(Share { of, open: Arc::clone(&self.open) }))
    }
}

impl<K: Ord> Drop for Share<K> {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.of);
            }
        }
    }
}

/// What one household or host has: an IPv4 address, or the /64 of an IPv6 one.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_gets_it_back() {
        let addresses = Shares::new(Some(2));
        let enter = |address: &str| addresses.enter(network(address.parse().unwrap()));
        let held = [enter("1.2.3.4"), enter("::ffff:1.2.3.4")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("1.2.3.4").is_none());
        let other = [enter("2001:db8::1"), enter("2001:db8::ffff:1:2:3"), enter("2001:db8:0:1::1")];
        assert!(other.iter().all(Option::is_some));
        assert!(enter("2001:db8::9").is_none());
        drop((held, other));
        assert!(addresses.open.lock().unwrap().is_empty());
        assert!(Shares::new(None).enter(1).is_some());
    }
}
