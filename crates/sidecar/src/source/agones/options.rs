//! The settings of this source.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sortie_serving::ListenAddr;

use super::counts::{Counter, Counts, List, MAX_PLAYERS, Players};
use crate::settings::AgonesSettings;

/// Agones' default port for gRPC.
pub const DEFAULT_GRPC_PORT: u16 = 9357;
/// Agones' default port for HTTP.
pub const DEFAULT_HTTP_PORT: u16 = 9358;
/// Maximum number of counters, and of lists.
pub const MAX_COUNTS: usize = 100;
/// Maximum number of ports.
pub const MAX_PORTS: usize = 100;

/// Silence after which a server is lost: `period` times `failure_threshold`, plus `initial_delay` after its first call.
/// The defaults are those of Agones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthOptions {
    /// `Period`: how often the server reports its health, 5 s by default.
    pub period: Duration,
    /// `FailureThreshold`: number of silent periods, 3 by default.
    pub failure_threshold: u32,
    /// `InitialDelay`: 5 s by default.
    pub initial_delay: Duration,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { period: Duration::from_secs(5), failure_threshold: 3, initial_delay: Duration::from_secs(5) }
    }
}

/// The settings, with the names of their keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgonesOptions {
    /// `GrpcListenAddr`: `localhost:9357` by default.
    pub grpc_listen: ListenAddr,
    /// `HttpListenAddr`: `localhost:9358` by default.
    pub http_listen: ListenAddr,
    /// Names of this machine that callers may use, in addition to its own address and its loopback names; none by
    /// default.
    pub allowed_hosts: Vec<String>,
    /// `Requirements`: a JMESPath expression over the matches that the server can run; empty, the default, means any.
    pub requirements: String,
    /// `ReadyLabel`: players connect once the server has set the label `match-ready`, rather than as soon as it has the
    /// match. `false` by default.
    pub ready_label: bool,
    /// `Health`; `None`, for `Disabled`, if the server need not report its health.
    pub health: Option<HealthOptions>,
    /// `Name`: the server's name; if empty, the default, the server id.
    pub name: String,
    /// `Namespace`: `default` by default.
    pub namespace: String,
    /// `Address`: the server's address if there is no resolver; `127.0.0.1` by default.
    pub address: String,
    /// `Ports`: the server's ports by name, none by default. Players are sent to the first, unless a resolver knows
    /// one.
    pub ports: Vec<(String, u16)>,
    /// `Counters`: by name, with `Count` and `Capacity`; none by default.
    pub counters: BTreeMap<String, Counter>,
    /// `Lists`: by name, with `Capacity` and `Values`; none by default.
    pub lists: BTreeMap<String, List>,
    /// `PlayerCapacity`: maximum number of players until the server changes it; 0 by default.
    pub player_capacity: u32,
}

impl Default for AgonesOptions {
    fn default() -> Self {
        Self {
            grpc_listen: local(DEFAULT_GRPC_PORT),
            http_listen: local(DEFAULT_HTTP_PORT),
            allowed_hosts: Vec::new(),
            requirements: String::new(),
            ready_label: false,
            health: Some(HealthOptions::default()),
            name: String::new(),
            namespace: "default".to_owned(),
            address: "127.0.0.1".to_owned(),
            ports: Vec::new(),
            counters: BTreeMap::new(),
            lists: BTreeMap::new(),
            player_capacity: 0,
        }
    }
}

/// `localhost` with a port.
fn local(port: u16) -> ListenAddr {
    format!("localhost:{port}")
        .parse()
        .unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())
}

impl From<&AgonesSettings> for AgonesOptions {
    fn from(settings: &AgonesSettings) -> Self {
        let health = &settings.health;
        let counters = settings.counters.iter().map(|(name, counter)| {
            let (count, capacity) = (counter.count, counter.capacity);
            (name.clone(), Counter { count, capacity })
        });
        let lists = settings.lists.iter().map(|(name, list)| {
            (name.clone(), List { capacity: list.capacity, values: list.values.clone() })
        });
        Self {
            grpc_listen: settings.grpc_listen_addr.clone(),
            http_listen: settings.http_listen_addr.clone(),
            allowed_hosts: Vec::new(),
            requirements: settings.requirements.clone(),
            ready_label: settings.ready_label,
            health: (!health.disabled).then_some(HealthOptions {
                period: health.period,
                failure_threshold: health.failure_threshold,
                initial_delay: health.initial_delay,
            }),
            name: settings.name.clone().unwrap_or_default(),
            namespace: settings.namespace.clone(),
            ports: settings.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
            counters: counters.collect(),
            lists: lists.collect(),
            address: settings.address.clone(),
            player_capacity: settings.player_capacity,
        }
    }
}

impl AgonesOptions {
    /// Checks the settings; returns the first problem, with its key.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(health) = &self.health {
            if health.period.is_zero() {
                return Err(
                    "Health.Period: must not be zero; to switch it off, set Health.Disabled".to_owned()
                );
            }
            if health.failure_threshold == 0 {
                return Err("Health.FailureThreshold: must be at least 1".to_owned());
            }
        }
        for (key, count, max) in [
            ("Counters", self.counters.len(), MAX_COUNTS),
            ("Lists", self.lists.len(), MAX_COUNTS),
            ("Ports", self.ports.len(), MAX_PORTS),
        ] {
            if count > max {
                return Err(format!("{key}: has {count} entries, at most {max} are allowed"));
            }
        }
        for (name, counter) in &self.counters {
            counter.check().map_err(|problem| format!("Counters.{name}: {problem}"))?;
        }
        for (name, list) in &self.lists {
            list.check().map_err(|problem| format!("Lists.{name}: {problem}"))?;
        }
        if usize::try_from(self.player_capacity).is_ok_and(|capacity| capacity > MAX_PLAYERS) {
            return Err(format!("PlayerCapacity: must be at most {MAX_PLAYERS}"));
        }
        Ok(())
    }

    pub(super) fn counts(&self) -> Counts {
        Counts {
            counters: self.counters.clone(),
            lists: self.lists.clone(),
            players: Players { capacity: self.player_capacity.into(), ids: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{AgonesCounter, AgonesHealth, AgonesList, AgonesPort};

    #[test]
    fn the_defaults_are_those_of_agones() {
        let options = AgonesOptions::default();
        assert_eq!(options.check(), Ok(()));
        assert_eq!(options.grpc_listen.to_string(), "localhost:9357");
        assert_eq!(options.http_listen.to_string(), "localhost:9358");
    }

    #[test]
    fn settings_become_options() {
        let health = AgonesHealth { disabled: true, ..AgonesHealth::default() };
        let settings = AgonesSettings {
            grpc_listen_addr: ":1".parse().unwrap(),
            http_listen_addr: ":2".parse().unwrap(),
            requirements: "x".to_owned(),
            ready_label: true,
            health,
            namespace: "games".to_owned(),
            name: Some("gs".to_owned()),
            address: "10.0.0.7".to_owned(),
            ports: vec![AgonesPort { name: "game".to_owned(), port: 9000 }],
            player_capacity: 8,
            counters: [("rooms".to_owned(), AgonesCounter { count: 1, capacity: i64::MAX })].into(),
            lists: [("teams".to_owned(), AgonesList { values: vec!["red".to_owned()], capacity: 2 })].into(),
        };
        let wanted = AgonesOptions {
            grpc_listen: ":1".parse().unwrap(),
            http_listen: ":2".parse().unwrap(),
            allowed_hosts: Vec::new(),
            requirements: "x".to_owned(),
            ready_label: true,
            health: None,
            namespace: "games".to_owned(),
            name: "gs".to_owned(),
            address: "10.0.0.7".to_owned(),
            ports: vec![("game".to_owned(), 9000)],
            player_capacity: 8,
            counters: [("rooms".to_owned(), Counter { count: 1, capacity: i64::MAX })].into(),
            lists: [("teams".to_owned(), List { capacity: 2, values: vec!["red".to_owned()] })].into(),
        };
        assert_eq!(AgonesOptions::from(&settings), wanted);
        let watched = AgonesSettings { health: AgonesHealth::default(), ..settings };
        assert_eq!(AgonesOptions::from(&watched).health, Some(HealthOptions::default()));
    }

    #[test]
    fn invalid_settings_are_reported_with_their_key() {
        let zero = HealthOptions { period: Duration::ZERO, ..HealthOptions::default() };
        let never = HealthOptions { failure_threshold: 0, ..HealthOptions::default() };
        let counters = BTreeMap::from([("rooms".to_owned(), Counter { count: 2, capacity: 1 })]);
        let lists = BTreeMap::from([("teams".to_owned(), List { capacity: -1, values: Vec::new() })]);
        let ports = vec![("p".to_owned(), 1); MAX_PORTS + 1];
        let d = AgonesOptions::default;
        for (options, key) in [
            (AgonesOptions { health: Some(zero), ..d() }, "Health.Period: "),
            (AgonesOptions { health: Some(never), ..d() }, "Health.FailureThreshold: "),
            (AgonesOptions { counters, ..d() }, "Counters.rooms: "),
            (AgonesOptions { lists, ..d() }, "Lists.teams: "),
            (AgonesOptions { ports, ..d() }, "Ports: "),
            (AgonesOptions { player_capacity: 10_001, ..d() }, "PlayerCapacity: "),
        ] {
            let problem = options.check().unwrap_err();
            assert!(problem.starts_with(key), "{problem}");
        }
    }
}
