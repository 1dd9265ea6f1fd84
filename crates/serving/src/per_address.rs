//! How many connections one address has.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections, as many as there are: the limit of all of them is the limit of this map.
pub(crate) struct PerAddress {
    most: Option<usize>,
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One of an address's connections. Gives its turn back when it is dropped.
pub(crate) struct Turn {
    network: IpAddr,
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

impl PerAddress {
    /// At most `most` for each address; `None` for no limit.
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self { most, open: Arc::default() }
    }

    /// `None` if the address has as many as it may; `Some(None)` where nothing is counted.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Option<Turn>> {
        let Some(most) = self.most else { return Some(None) };
        let network = network(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Some(Turn { network, open: Arc::clone(&self.open) }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

/// What one household or host has: an IPv4 address, the /64 of an IPv6 one.
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
        let addresses = PerAddress::new(Some(2));
        let enter = |address: &str| addresses.enter(address.parse().unwrap());
        let held = [enter("1.2.3.4"), enter("::ffff:1.2.3.4")];
        assert!(held.iter().all(Option::is_some));
        assert!(enter("1.2.3.4").is_none());
        let other = [enter("2001:db8::1"), enter("2001:db8::ffff:1:2:3"), enter("2001:db8:0:1::1")];
        assert!(other.iter().all(Option::is_some));
        assert!(enter("2001:db8::9").is_none());
        drop((held, other));
        assert!(addresses.open.lock().unwrap().is_empty());
        assert!(PerAddress::new(None).enter("1.2.3.4".parse().unwrap()).is_some());
    }
}
