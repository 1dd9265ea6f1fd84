//! Ports that a resolver assigns to servers: each to one server, and free as far as this machine can tell.
//!
//! A port is tested when it is assigned, and bound by the server a moment later. If another program takes it in
//! between, the server fails to start with an error from its system. Passing it a bound socket would close that gap,
//! but no engine accepts one.
//!
//! A server that is already running has bound its port, so a test would skip exactly the right one. Hence
//! [`Ports::claim`] for a known port, and no test if there is only one port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::{OptionsError, ResolveError};

/// Maximum number of entries in `AvailablePorts`.
pub const MAX_RANGES: usize = 64;
/// Maximum number of ports tested for one server. Each takes some microseconds, while others wait.
pub const MAX_TESTS: usize = 1024;

/// Ports from the lower to the higher one, inclusive; neither is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", try_from = "RangeKeys")]
pub struct PortRange {
    min: u16,
    max: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RangeKeys {
    min: u16,
    max: u16,
}

impl PortRange {
    /// The range.
    ///
    /// # Errors
    /// The range is empty or contains port 0.
    pub const fn new(min: u16, max: u16) -> Result<Self, &'static str> {
        if min == 0 || min > max {
            return Err("Min must be a port from 1 to 65535, and Max must not be less");
        }
        Ok(Self { min, max })
    }
}

impl TryFrom<RangeKeys> for PortRange {
    type Error = &'static str;

    fn try_from(keys: RangeKeys) -> Result<Self, Self::Error> {
        Self::new(keys.min, keys.max)
    }
}

/// The ports of one resolver.
pub struct Ports(Kind);

enum Kind {
    /// No port is known.
    None,
    /// The same for every server.
    Fixed(u16),
    /// Each server gets its own.
    Pool(Pool),
}

struct Pool {
    /// In ascending order, without overlaps.
    ranges: Vec<RangeInclusive<u16>>,
    is_free: Box<dyn Fn(u16) -> bool + Send + Sync>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    by_server: BTreeMap<String, u16>,
    taken: BTreeSet<u16>,
    /// The port that was tested last. The search continues after it, so that a port rests before it is reused and
    /// players of the last server do not end up on the next.
    /// players of the last server do not end up talking to the next.
    last: u16,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::None => f.write_str("Ports::None"),
            Kind::Fixed(port) => f.debug_tuple("Ports::Fixed").field(port).finish(),
            Kind::Pool(pool) => f.debug_tuple("Ports::Pool").field(&pool.ranges).finish(),
        }
    }
}

impl Ports {
    /// No port, or the same one for every server.
    #[must_use]
    pub const fn fixed(port: Option<u16>) -> Self {
        Self(match port {
            Some(port) => Kind::Fixed(port),
            None => Kind::None,
        })
    }

    /// Each server gets a port of these ranges; none if there are no ranges.
    ///
    /// # Errors
    /// There are more than [`MAX_RANGES`].
    pub fn of(ranges: &[PortRange]) -> Result<Self, OptionsError> {
        Self::with(ranges, Box::new(is_free))
    }

    /// Like [`Self::of`], with another test for free ports.
    ///
    /// # Errors
    /// Like [`Self::of`].
    pub fn with(
        ranges: &[PortRange],
        is_free: Box<dyn Fn(u16) -> bool + Send + Sync>,
    ) -> Result<Self, OptionsError> {
        if ranges.len() > MAX_RANGES {
            let problem = format!("has {} entries, at most {MAX_RANGES} are allowed", ranges.len());
            return Err(OptionsError::new("AvailablePorts", problem));
        }
        if ranges.is_empty() {
            return Ok(Self(Kind::None));
        }
        let ranges = merged(ranges);
        Ok(Self(Kind::Pool(Pool { ranges, is_free, state: Mutex::default() })))
    }

    /// The port of a server, the same until it is released; `None` if the resolver knows no port.
    ///
    /// # Errors
    /// Every port is assigned or in use.
    pub fn get(&self, server_id: &str) -> Result<Option<u16>, ResolveError> {
        match &self.0 {
            Kind::None => Ok(None),
            Kind::Fixed(port) => Ok(Some(*port)),
            Kind::Pool(pool) => pool.get(server_id).map(Some),
        }
    }

    /// Records that the server listens on this port: it is assigned to the server, if it is in the ranges and no other
    /// server has it. The server's previous port is released.
    pub fn claim(&self, server_id: &str, port: u16) {
        if let Kind::Pool(pool) = &self.0 {
            pool.claim(server_id, port);
        }
    }

    /// Releases the server's port.
    pub fn release(&self, server_id: &str) {
        if let Kind::Pool(pool) = &self.0 {
            pool.lock().forget(server_id);
        }
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = u16> {
        self.ranges.iter().cloned().flatten()
    }

    fn get(&self, server_id: &str) -> Result<u16, ResolveError> {
        let mut state = self.lock();
        if let Some(port) = state.by_server.get(server_id) {
            return Ok(*port);
        }
        let last = state.last;
        let ordered = self.all().filter(|port| *port > last).chain(self.all().filter(|port| *port <= last));
        let open: Vec<u16> = ordered.filter(|port| !state.taken.contains(port)).take(MAX_TESTS).collect();
        if open.is_empty() {
            let given = state.taken.len();
            let problem = format!(
                "all {given} ports of AvailablePorts are assigned to servers of this sidecar: add some"
            );
            return Err(ResolveError(problem));
        }
        let is_only = self.all().nth(1).is_none();
        let port = open.iter().copied().find(|port| is_only || (self.is_free)(*port));
        state.last = port.or(open.last().copied()).unwrap_or(last);
        let Some(port) = port else {
            let tried = open.len();
            let problem = format!(
                "none of the {tried} remaining ports of AvailablePorts is free: other programs have bound them. \
                 Add some, or let the server say in its connection details which one it listens on"
            );
            return Err(ResolveError(problem));
        };
        state.give(server_id, port);
        Ok(port)
    }

    fn claim(&self, server_id: &str, port: u16) {
        let mut state = self.lock();
        let has_it = state.by_server.get(server_id) == Some(&port);
        let may_have_it =
            self.ranges.iter().any(|range| range.contains(&port)) && !state.taken.contains(&port);
        if may_have_it {
            state.forget(server_id);
            state.give(server_id, port);
        } else if !has_it {
            tracing::warn!(
                server_id,
                port,
                "the server's port is not in AvailablePorts, or belongs to another server"
            );
        }
    }
}

impl State {
    fn give(&mut self, server_id: &str, port: u16) {
        self.taken.insert(port);
        self.by_server.insert(server_id.to_owned(), port);
    }

    fn forget(&mut self, server_id: &str) {
        if let Some(port) = self.by_server.remove(server_id) {
            self.taken.remove(&port);
        }
    }
}

/// The same ports in ascending order, without duplicates.
fn merged(ranges: &[PortRange]) -> Vec<RangeInclusive<u16>> {
    let mut sorted: Vec<_> = ranges.iter().map(|range| (range.min, range.max)).collect();
    sorted.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (min, max) in sorted {
        match merged.last_mut() {
            Some((_, end)) if min <= *end => *end = max.max(*end),
            _ => merged.push((min, max)),
        }
    }
    merged.into_iter().map(|(min, max)| min..=max).collect()
}

/// Whether nothing on this machine is bound to `port`. Binding to every address fails even if only one is taken.
fn is_free(port: u16) -> bool {
    let every_address = (Ipv4Addr::UNSPECIFIED, port);
    UdpSocket::bind(every_address).is_ok() && TcpListener::bind(every_address).is_ok()
}
