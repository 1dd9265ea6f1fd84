//! Ports of a range for programs: one each, and free as far as the machine can tell.
//!
//! A port is tested here and bound by the program a moment later. Another program may take it in between; the program
//! then exits before it is ready, and the match is given up. A bound socket, handed over, would close that gap, but no
//! engine takes one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The ports that programs have.
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: BTreeSet<u16>,
    /// The port leased last. The search goes on behind it, so that a port rests before it is used again and players of
    /// the last match do not end up in the next.
    last: u16,
}

/// A port in use; free again when dropped.
pub(super) struct PortLease {
    pub(super) port: u16,
    ports: Arc<Ports>,
}

impl Drop for PortLease {
    fn drop(&mut self) {
        self.ports.state().taken.remove(&self.port);
    }
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Arc<Self> {
        Arc::new(Self { range, state: Mutex::default() })
    }

    /// A port that no program has and nothing else is bound to; `None` if there is none.
    pub(super) fn lease(self: &Arc<Self>) -> Option<PortLease> {
        let mut state = self.state();
        let last = state.last;
        let behind = self.range.clone().filter(|port| *port > last);
        let before = self.range.clone().filter(|port| *port <= last);
        let port = behind.chain(before).find(|port| !state.taken.contains(port) && is_free(*port))?;
        state.taken.insert(port);
        state.last = port;
        Some(PortLease { port, ports: Arc::clone(self) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing on this machine is bound to `port`. Binding to every address fails too if a single one is taken.
fn is_free(port: u16) -> bool {
    let every_address = (Ipv4Addr::UNSPECIFIED, port);
    UdpSocket::bind(every_address).is_ok() && TcpListener::bind(every_address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_bound_is_not_leased_and_a_lease_ends_when_dropped() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let ports = Ports::new(port..=port);
        assert!(ports.lease().is_none(), "port {port} is bound");
        drop(udp);
        let lease = ports.lease().expect("it is free again");
        assert_eq!(lease.port, port);
        assert!(ports.lease().is_none(), "it is leased");
        drop(lease);
        assert!(ports.lease().is_some());
    }
}
