//! Which peers have sent datagrams to a port, and over which of its sockets.

use std::collections::HashMap;
use std::net::SocketAddr;

/// Addresses; the oldest are forgotten when there are too many.
///
/// Two generations rather than an LRU order: remembering costs one look-up per datagram, and half of all addresses are
/// forgotten at a time.
pub(super) struct Peers {
    max: usize,
    young: HashMap<SocketAddr, usize>,
    old: HashMap<SocketAddr, usize>,
}

impl Peers {
    /// Remembers at most `max` addresses, and at least half as many.
    pub(super) fn new(max: usize) -> Self {
        Self { max, young: HashMap::new(), old: HashMap::new() }
    }

    pub(super) fn note(&mut self, peer: SocketAddr, socket: usize) {
        if self.young.len() >= self.max.div_ceil(2) && !self.young.contains_key(&peer) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(peer, socket);
    }

    /// The socket over which `peer` last sent something.
    pub(super) fn socket(&self, peer: &SocketAddr) -> Option<usize> {
        self.young.get(peer).or_else(|| self.old.get(peer)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut peers = Peers::new(4);
        for port in 1..=6 {
            peers.note(peer(port), usize::from(port));
        }
        let known: Vec<_> = (1..=6).filter(|port| peers.socket(&peer(*port)).is_some()).collect();
        assert_eq!(known, [3, 4, 5, 6]);
        assert_eq!(peers.socket(&peer(6)), Some(6));
        // A peer that sends again counts as new.
        peers.note(peer(3), 1);
        peers.note(peer(7), 1);
        assert_eq!(peers.socket(&peer(3)), Some(1));
    }

    #[test]
    fn a_peer_that_keeps_speaking_takes_one_place() {
        let mut peers = Peers::new(2);
        for _ in 0..10 {
            peers.note(peer(1), 0);
        }
        peers.note(peer(2), 0);
        assert!(peers.socket(&peer(1)).is_some());
    }
}
