//! Ports for servers: each is used by one server, and free as far as the machine can tell.
//!
//! A port is chosen and tested here and bound by the server a moment later. Another program may take it in between; the
//! server then exits and the broker orders another one. Handing the server a bound socket would close that gap, but no
//! game engine accepts one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::lock;

/// The ports of every live server, of all fleets.
#[derive(Default)]
pub(super) struct Ports {
    state: Mutex<State>,
    /// Makes the memory outlive the process: an empty file per returned port, whose modification time says when.
    /// Separate files, because then nothing else has to be written with it, and a kill leaves nothing half-written.
    folder: Option<PathBuf>,
}

/// Each port has its own entry, so that fleets whose ranges overlap share one memory: there are at most 65,536 ports to
/// remember.
#[derive(Default)]
struct State {
    taken: BTreeSet<u16>,
    /// When used ports were returned, in the order of `returns`. Ports that were never used come first, then the one
    /// that was returned first, so that players of the last server do not end up talking to the next one.
    rested_since: BTreeMap<u16, u64>,
    /// How many ports were returned.
    returns: u64,
}

impl State {
    fn give_back(&mut self, port: u16) {
        self.taken.remove(&port);
        self.returns += 1;
        self.rested_since.insert(port, self.returns);
    }

    /// The free ports of `range`, in the order in which they were returned.
    fn by_rest(&self, range: &RangeInclusive<u16>) -> Vec<u16> {
        let mut free: Vec<_> = range.clone().filter(|port| !self.taken.contains(port)).collect();
        free.sort_by_key(|port| self.rested_since.get(port));
        free
    }
}

/// A port in use; returned when dropped.
pub(super) struct PortLease {
    port: u16,
    ports: Arc<Ports>,
}

impl PortLease {
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Calls `spawn` while no port is being tested. A new process has copies of our sockets until it runs its program:
    /// that of a test would block the port for the server for which it was tested.
    pub(super) fn while_none_is_tested<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let _tests_wait = lock(&self.ports.state);
        spawn()
    }
}

impl Drop for PortLease {
    fn drop(&mut self) {
        lock(&self.ports.state).give_back(self.port);
        self.ports.remember(self.port);
    }
}

impl Ports {
    /// Ports with the memory of earlier control planes in `folder`, which is created if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created or read.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut given_back = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(port) = name.to_str().and_then(|name| name.parse::<u16>().ok()) {
                given_back.push((entry.metadata()?.modified()?, port));
            }
        }
        given_back.sort_unstable();
        let mut state = State::default();
        given_back.into_iter().for_each(|(_, port)| state.give_back(port));
        Ok(Self { state: Mutex::new(state), folder: Some(folder.to_owned()) })
    }

    /// For the next process.
    fn remember(&self, port: u16) {
        let Some(folder) = &self.folder else { return };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(folder.join(port.to_string()));
        let touched = file.and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = touched {
            tracing::warn!(port, %error, "a restart will not know that this port was used just now");
        }
    }

    /// The port of `range` that was returned first among those that no live server has and nothing else has bound;
    /// `None` if there is none.
    pub(super) fn lease(self: &Arc<Self>, range: &RangeInclusive<u16>) -> Option<PortLease> {
        let mut state = lock(&self.state);
        let port = state.by_rest(range).into_iter().find(|port| is_free(*port))?;
        state.taken.insert(port);
        Some(PortLease { port, ports: Arc::clone(self) })
    }

    /// The port of a server that is already running.
    pub(super) fn claim(self: &Arc<Self>, port: u16) -> PortLease {
        lock(&self.state).taken.insert(port);
        PortLease { port, ports: Arc::clone(self) }
    }
}

/// Whether nothing on this machine has bound `port`. Binding to every address also fails if a single one is taken.
fn is_free(port: u16) -> bool {
    let every_address = (Ipv4Addr::UNSPECIFIED, port);
    UdpSocket::bind(every_address).is_ok() && TcpListener::bind(every_address).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

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
        let ports = Arc::new(Ports::default());
        let range = free_ports(2);
        let first = *range.start();
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

    /// Leases a port and returns it at once.
    fn used(ports: &Arc<Ports>, range: &RangeInclusive<u16>) -> u16 {
        ports.lease(range).expect("a free port").port()
    }

    #[test]
    fn a_port_rests_as_long_as_possible_even_if_ranges_overlap() {
        let ports = Arc::new(Ports::default());
        let range = free_ports(4);
        let first = *range.start();
        let (a, b, both) = (first..=first + 1, first + 2..=first + 3, first + 1..=first + 2);
        // One fleet after the other, each with its own range: every port of a range is used before one is used twice.
        let of_a_and_b: Vec<_> = (0..4).flat_map(|_| [used(&ports, &a), used(&ports, &b)]).collect();
        let once_each = [first, first + 2, first + 1, first + 3];
        assert_eq!(of_a_and_b, [once_each, once_each].concat());
        // A fleet whose range overlaps both takes the port that was returned first.
        assert_eq!(used(&ports, &a), first);
        assert_eq!([used(&ports, &both), used(&ports, &both)], [first + 2, first + 1]);
        assert_eq!([used(&ports, &a), used(&ports, &a)], [first, first + 1]);
        assert_eq!([used(&ports, &b), used(&ports, &b)], [first + 3, first + 2]);
    }

    #[test]
    fn a_port_rests_from_when_it_is_given_back_and_not_from_when_it_was_leased() {
        let ports = Arc::new(Ports::default());
        let range = free_ports(3);
        let first = *range.start();
        let held = ports.lease(&range).expect("first");
        assert_eq!([used(&ports, &range), used(&ports, &range)], [first + 1, first + 2]);
        drop(held);
        assert_eq!([0; 3].map(|_| used(&ports, &range)), [first + 1, first + 2, first]);
        // The same applies to the port of a server that was taken over.
        drop(ports.claim(first + 1));
        assert_eq!([0; 3].map(|_| used(&ports, &range)), [first + 2, first, first + 1]);
    }

    #[test]
    fn a_restart_gives_out_those_ports_last_that_were_used_a_moment_ago() {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().join("ports");
        let open = || Arc::new(Ports::open(&folder).unwrap());
        let range = free_ports(4);
        let first = *range.start();
        let ports = open();
        let held = ports.lease(&range).expect("first");
        assert_eq!(used(&ports, &range), first + 1);
        // The timestamps of two moments must differ.
        let earlier = SystemTime::now() - std::time::Duration::from_secs(60);
        File::create(folder.join((first + 1).to_string())).unwrap().set_modified(earlier).unwrap();
        drop(held);
        drop(ports);
        // The process is killed here.
        let ports = open();
        let order: Vec<_> = (0..4).map(|_| used(&ports, &range)).collect();
        assert_eq!(order, [first + 2, first + 3, first + 1, first]);
    }

    /// A few consecutive free ports, which cannot be reserved: they are searched for.
    fn free_ports(count: u16) -> RangeInclusive<u16> {
        let first = (20_000..60_000)
            .step_by(usize::from(count))
            .find(|first| (*first..first + count).all(is_free))
            .expect("free ports in a row");
        first..=first + count - 1
    }
}
