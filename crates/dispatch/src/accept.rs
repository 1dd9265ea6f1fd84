//! Which devices a driver accepts: the addresses and ranges of `accept` in the query.

use std::net::IpAddr;

use ipnet::IpNet;
use thiserror::Error;

/// Why a list of addresses is invalid.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AcceptError {
    /// The list is empty.
    #[error("is empty: give IP addresses or ranges like 192.0.2.0/24, separated by commas")]
    Empty,
    /// An entry is neither an address nor a range.
    #[error("{0:?} is neither an IP address nor a range like 192.0.2.0/24")]
    Entry(String),
    /// There are more entries than allowed.
    #[error("has more than {max} entries: use ranges")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// Addresses and ranges. IPv4-mapped IPv6 counts as IPv4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptList {
    /// Sorted, for binary search.
    hosts: Vec<IpAddr>,
    /// None lies within another.
    ranges: Vec<IpNet>,
}

impl AcceptList {
    /// Parses a comma-separated list. Drops duplicates and entries that lie within a range of the list.
    ///
    /// # Errors
    /// [`AcceptError`]: the first of at most `max` entries that is wrong.
    pub fn parse(text: &str, max: usize) -> Result<Self, AcceptError> {
        Self::collect(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()), max)
    }

    /// Like [`AcceptList::parse`], for entries that are split already.
    ///
    /// # Errors
    /// The same.
    pub fn collect<'a>(entries: impl IntoIterator<Item = &'a str>, max: usize) -> Result<Self, AcceptError> {
        let mut nets = Vec::new();
        for (place, entry) in entries.into_iter().enumerate() {
            if place >= max {
                return Err(AcceptError::TooMany { max });
            }
            nets.push(net(entry).ok_or_else(|| AcceptError::Entry(shortened(entry)))?);
        }
        if nets.is_empty() {
            return Err(AcceptError::Empty);
        }
        let nets = IpNet::aggregate(&nets);
        let (hosts, ranges): (Vec<_>, Vec<_>) =
            nets.into_iter().partition(|net| net.prefix_len() == net.max_prefix_len());
        let mut hosts: Vec<IpAddr> = hosts.iter().map(IpNet::addr).collect();
        hosts.sort_unstable();
        Ok(Self { hosts, ranges })
    }

    /// Whether the driver accepts the device at `ip`, which must be in canonical form.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.hosts.binary_search(&ip).is_ok() || self.ranges.iter().any(|range| range.contains(&ip))
    }

    /// Whether this list covers every address of `other`.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let covers = |range: &IpNet| self.ranges.iter().any(|own| own.contains(range));
        other.hosts.iter().all(|host| self.contains(*host)) && other.ranges.iter().all(covers)
    }

    /// Every entry, addresses first.
    pub fn entries(&self) -> impl Iterator<Item = String> {
        let hosts = self.hosts.iter().map(ToString::to_string);
        hosts.chain(self.ranges.iter().map(ToString::to_string))
    }
}

/// An address or a range; IPv4-mapped ranges become IPv4 ranges.
fn net(entry: &str) -> Option<IpNet> {
    let net = match entry.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => entry.parse::<IpNet>().ok()?,
    };
    let mapped_bits = net.prefix_len().checked_sub(96);
    match (net.addr().to_canonical(), mapped_bits) {
        (ip @ IpAddr::V4(_), Some(bits)) if net.addr().is_ipv6() => IpNet::new(ip, bits).ok(),
        _ => Some(net.trunc()),
    }
}

/// Keeps the error short.
fn shortened(entry: &str) -> String {
    entry.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(text: &str) -> AcceptList {
        AcceptList::parse(text, 16).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_and_ranges_of_both_families() {
        let accept = list("192.0.2.7, 10.1.0.0/16,2001:db8::/32,2001:db9::1");
        for inside in ["192.0.2.7", "10.1.255.255", "2001:db8:1::5", "2001:db9::1"] {
            assert!(accept.contains(ip(inside)), "{inside}");
        }
        for outside in ["192.0.2.8", "10.2.0.0", "2001:db9::2", "::1"] {
            assert!(!accept.contains(ip(outside)), "{outside}");
        }
        // The host bits of a range are ignored.
        assert_eq!(list("10.1.2.3/16"), list("10.1.0.0/16"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(list("::ffff:192.0.2.7"), list("192.0.2.7"));
        assert_eq!(list("::ffff:10.0.0.0/104"), list("10.0.0.0/8"));
    }

    #[test]
    fn duplicates_are_ignored() {
        assert_eq!(list("192.0.2.7,192.0.2.7,192.0.2.7/32"), list("192.0.2.7"));
        assert_eq!(list("10.1.2.3,10.0.0.0/8").entries().collect::<Vec<_>>(), ["10.0.0.0/8"]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        assert_eq!(AcceptList::parse("", 16), Err(AcceptError::Empty));
        assert_eq!(AcceptList::parse(" , ", 16), Err(AcceptError::Empty));
        for bad in ["example.org", "192.0.2.7/33", "192.0.2", "1.2.3.4:80", "[::1]"] {
            assert_eq!(AcceptList::parse(bad, 16), Err(AcceptError::Entry(bad.to_owned())));
        }
        let long = "10.0.0.1,".repeat(17);
        assert_eq!(AcceptList::parse(&long, 16), Err(AcceptError::TooMany { max: 16 }));
    }

    #[test]
    fn a_list_covers_its_subsets() {
        let all = list("10.0.0.0/8,192.0.2.7");
        assert!(all.covers(&list("10.1.0.0/16,192.0.2.7,10.9.9.9")));
        assert!(!all.covers(&list("0.0.0.0/0")));
        assert!(!all.covers(&list("192.0.2.0/24")));
        assert!(!list("192.0.2.7").covers(&all));
    }

    proptest! {
        #[test]
        fn a_list_contains_exactly_the_addresses_of_its_entries(
            hosts in prop::collection::vec(any::<[u8; 4]>(), 0..6),
            ranges in prop::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 1..6),
            asked: [u8; 4],
            near in any::<prop::sample::Index>(),
        ) {
            let nets: Vec<IpNet> = ranges
                .iter()
                .map(|(ip, bits)| IpNet::new(IpAddr::from(*ip), *bits).unwrap())
                .chain(hosts.iter().map(|ip| IpNet::from(IpAddr::from(*ip))))
                .collect();
            let text = nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let accept = list(&text);
            for ip in [IpAddr::from(asked), near.get(&nets).addr()] {
                prop_assert_eq!(accept.contains(ip), nets.iter().any(|net| net.contains(&ip)));
            }
        }
    }
}
