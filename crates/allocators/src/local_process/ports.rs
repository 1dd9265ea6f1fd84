//! Ports for servers: one server each, and free as far as the machine can tell.
//!
//! A port is chosen and tested here and bound by the server a moment later. Another program may take it in
//! between; the server then exits and the broker orders another. Handing the server a bound socket would close
//! that gap, but no engine takes one.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use super::lock;

/// The ports of every live server.
#[derive(Default)]
pub(super) struct Ports {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    taken: BTreeSet<u16>,
    /// The port leased last. The search goes on behind it, so that a port rests before it is used again and
    /// players of the last server do not end up talking to the next.
    last: u16,
}

/// A port in use; free again when dropped.
pub(super) struct PortLease {
    port: u16,
    ports: Arc<Ports>,
}

impl PortLease {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Does `spawn` while no port is being tested. A new process holds copies of our sockets until it runs its
    /// program: that of a test would keep the port from the server that it was tested for.
    pub(super) fn while_none_is_tested<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let _tests_wait = lock(&self.ports.state);
        spawn()
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        lock(&self.ports.state).taken.remove(&self.port);
    }
}

impl Ports {
    /// A port of `range` that no live server has and nothing else is bound to; `None` if there is none.
    pub(super) fn lease(self: &Arc<Self>, range: &RangeInclusive<u16>) -> Option<PortLease> {
        let mut state = lock(&self.state);
        let last = state.last;
        let behind = range.clone().filter(|port| *port > last);
        let before = range.clone().filter(|port| *port <= last);
        let port = behind.chain(before).find(|port| !state.taken.contains(port) && is_free(*port))?;
        state.taken.insert(port);
        state.last = port;
        Some(PortLease { port, ports: Arc::clone(self) })
    }

    /// The port that a server which is already running was given.
    pub(super) fn claim(self: &Arc<Self>, port: u16) -> PortLease {
        lock(&self.state).taken.insert(port);
        PortLease { port, ports: Arc::clone(self) }
    }
}

/// Whether nothing on this machine is bound to `port`. Binding to every address fails too if a single one is
/// taken.
fn is_free(port: u16) -> bool {
    let every_address = (Ipv4Addr::UNSPECIFIED, port);
    UdpSocket::bind(every_address).is_ok() && TcpListener::bind(every_address).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_bound_or_leased_is_not_leased() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ports = Arc::new(Ports::default());
        for port in [udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port()] {
            assert!(ports.lease(&(port..=port)).is_none(), "port {port} is bound");
        }
    }

    #[test]
    fn a_lease_ends_when_dropped_and_the_next_one_is_another_port() {
        // A few free ports in a row are hard to promise: look for two neighbours.
        let ports = Arc::new(Ports::default());
        let first = (20_000..60_000)
            .step_by(2)
            .find(|port| is_free(*port) && is_free(port + 1))
            .expect("two free ports in a row");
        let range = first..=first + 1;
        let one = ports.lease(&range).expect("first");
        let two = ports.lease(&range).expect("second");
        assert_eq!((one.port(), two.port()), (first, first + 1));
        assert!(ports.lease(&range).is_none());
        drop(one);
        assert_eq!(ports.lease(&range).expect("freed").port(), first);
        let claimed = ports.claim(first);
        drop(two);
        assert_eq!(ports.lease(&range).expect("the other").port(), first + 1);
        drop(claimed);
    }
}
