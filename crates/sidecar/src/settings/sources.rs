//! The settings of the event sources that game servers call. The sources that run or simulate a game server parse their
//! own: here they are a [`Block`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sortie_serving::ListenAddr;

use super::reading::{SettingsError, join};
use super::secret::{KeyPlace, Secret};
use super::{Block, SettingsContext, Variables, as_text, duration, positive};

/// `catena_api_event_source`: at least one of the two addresses.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CatenaApiSettings {
    /// Where gRPC is served.
    #[serde(serialize_with = "as_text")]
    pub grpc_listen_addr: Option<ListenAddr>,
    /// Where HTTP is served; the same address for both on one port.
    #[serde(serialize_with = "as_text")]
    pub http_listen_addr: Option<ListenAddr>,
    /// The key that game servers must send; `None`: none.
    pub api_key: Option<Secret>,
}

/// The block in the file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct CatenaApiKeys {
    grpc_listen_addr: Option<ListenAddr>,
    http_listen_addr: Option<ListenAddr>,
    api_key: Option<Secret>,
    api_key_file: Option<PathBuf>,
    api_key_env: Option<String>,
}

impl CatenaApiKeys {
    pub(super) fn checked(
        self,
        path: &str,
        place: SettingsContext<'_>,
    ) -> Result<CatenaApiSettings, SettingsError> {
        if self.grpc_listen_addr.is_none() && self.http_listen_addr.is_none() {
            let problem = "GrpcListenAddr or HttpListenAddr must be given, like \"localhost:8085\"; or both";
            return Err(SettingsError::at(path, problem));
        }
        let key = KeyPlace {
            path,
            base: place.base,
            text: self.api_key,
            file: self.api_key_file,
            variable: self.api_key_env,
        };
        Ok(CatenaApiSettings {
            grpc_listen_addr: self.grpc_listen_addr,
            http_listen_addr: self.http_listen_addr,
            api_key: key.read(place.variables)?,
        })
    }
}

/// Where the Agones SDK looks for its server by default.
const SDK_GRPC_PORT: u16 = 9357;
/// The same for HTTP.
const SDK_HTTP_PORT: u16 = 9358;
/// Maximum number of counters, lists or ports, each.
const MAX_ENTRIES: usize = 64;

/// `agones_sdk_event_source`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgonesSettings {
    /// Where gRPC is served: `localhost:9357`, or the port in `AGONES_SDK_GRPC_PORT`.
    #[serde(serialize_with = "text")]
    pub grpc_listen_addr: ListenAddr,
    /// Where HTTP is served: `localhost:9358`, or the port in `AGONES_SDK_HTTP_PORT`.
    #[serde(serialize_with = "text")]
    pub http_listen_addr: ListenAddr,
    /// Which matches the server accepts, as JMESPath; empty: any.
    pub requirements: String,
    /// MatchReady waits until the server sets the label `match-ready`.
    pub ready_label: bool,
    /// When a silent server is given up.
    pub health: AgonesHealth,
    /// Namespace reported to the server.
    pub namespace: String,
    /// Name reported to the server; `None`: its server id.
    pub name: Option<String>,
    /// Address reported to the server if no resolver knows one.
    pub address: String,
    /// Ports reported to the server.
    pub ports: Vec<AgonesPort>,
    /// Initial player capacity.
    pub player_capacity: u32,
    /// Initial counters.
    pub counters: BTreeMap<String, AgonesCounter>,
    /// Initial lists.
    pub lists: BTreeMap<String, AgonesList>,
}

/// Agones' own defaults.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgonesHealth {
    /// Silence is ignored.
    pub disabled: bool,
    /// How often the server reports its health.
    #[serde(with = "duration")]
    pub period: Duration,
    /// Number of consecutive silent periods that make it unhealthy.
    pub failure_threshold: u32,
    /// Time from the start to the first period.
    #[serde(with = "duration")]
    pub initial_delay: Duration,
}

impl Default for AgonesHealth {
    fn default() -> Self {
        let (period, initial_delay) = (Duration::from_secs(5), Duration::from_secs(5));
        Self { disabled: false, period, failure_threshold: 3, initial_delay }
    }
}

/// A named port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct AgonesPort {
    /// Its name.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// A counter.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgonesCounter {
    /// Its initial value: 0 to `capacity`.
    pub count: i64,
    /// Its maximum.
    pub capacity: i64,
}

impl Default for AgonesCounter {
    fn default() -> Self {
        Self { count: 0, capacity: 1000 }
    }
}

/// A list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgonesList {
    /// Its initial values; at most `capacity`, without duplicates.
    pub values: Vec<String>,
    /// Its maximum number of values.
    pub capacity: i64,
}

impl Default for AgonesList {
    fn default() -> Self {
        Self { values: Vec::new(), capacity: 1000 }
    }
}

/// The block in the file.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct AgonesKeys {
    grpc_listen_addr: Option<ListenAddr>,
    http_listen_addr: Option<ListenAddr>,
    requirements: String,
    ready_label: bool,
    health: AgonesHealth,
    namespace: Option<String>,
    name: Option<String>,
    address: Option<String>,
    ports: Vec<AgonesPort>,
    player_capacity: u32,
    counters: BTreeMap<String, AgonesCounter>,
    lists: BTreeMap<String, AgonesList>,
}

impl AgonesKeys {
    pub(super) fn checked(self, path: &str, variables: &Variables) -> Result<AgonesSettings, SettingsError> {
        let at = |key: &str, problem: String| Err(SettingsError::at(join(path, key), problem));
        positive(path, "Health.Period", self.health.period)?;
        if self.health.failure_threshold == 0 {
            return at("Health.FailureThreshold", "must be at least 1".to_owned());
        }
        let sizes =
            [("Ports", self.ports.len()), ("Counters", self.counters.len()), ("Lists", self.lists.len())];
        if let Some((key, many)) = sizes.into_iter().find(|(_, many)| *many > MAX_ENTRIES) {
            return at(key, format!("has {many} entries, at most {MAX_ENTRIES} are allowed"));
        }
        for (name, counter) in &self.counters {
            if !(0..=counter.capacity).contains(&counter.count) {
                let problem =
                    format!("must be from 0 to its Capacity of {}, is {}", counter.capacity, counter.count);
                return at(&format!("Counters.{name}.Count"), problem);
            }
        }
        for (name, list) in &self.lists {
            if i64::try_from(list.values.len()).is_ok_and(|held| held > list.capacity) {
                let problem =
                    format!("holds {}, more than its Capacity of {}", list.values.len(), list.capacity);
                return at(&format!("Lists.{name}.Values"), problem);
            }
        }
        Ok(AgonesSettings {
            grpc_listen_addr: match self.grpc_listen_addr {
                Some(address) => address,
                None => localhost(path, "GrpcListenAddr", "AGONES_SDK_GRPC_PORT", SDK_GRPC_PORT, variables)?,
            },
            http_listen_addr: match self.http_listen_addr {
                Some(address) => address,
                None => localhost(path, "HttpListenAddr", "AGONES_SDK_HTTP_PORT", SDK_HTTP_PORT, variables)?,
            },
            requirements: self.requirements,
            ready_label: self.ready_label,
            health: self.health,
            namespace: self.namespace.unwrap_or_else(|| "default".to_owned()),
            name: self.name,
            address: self.address.unwrap_or_else(|| "127.0.0.1".to_owned()),
            ports: self.ports,
            player_capacity: self.player_capacity,
            counters: self.counters,
            lists: self.lists,
        })
    }
}

/// The port in the variable, or the usual one, on this machine only.
fn localhost(
    path: &str,
    key: &str,
    variable: &str,
    usual: u16,
    variables: &Variables,
) -> Result<ListenAddr, SettingsError> {
    let port = variables.get(variable).filter(|port| !port.is_empty());
    let port = port.map_or_else(|| usual.to_string(), Clone::clone);
    format!("localhost:{port}").parse().map_err(|error| {
        let problem = format!("not given, and the environment variable {variable} is invalid: {error}");
        SettingsError::at(join(path, key), problem)
    })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn text<S: serde::Serializer>(address: &ListenAddr, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}

/// An event source in use.
#[derive(Clone, PartialEq, Debug)]
pub enum EventSourceSettings {
    /// `catena_api_event_source`
    CatenaApi(CatenaApiSettings),
    /// `agones_sdk_event_source`
    AgonesSdk(Box<AgonesSettings>),
    /// `virtual_server_event_source`
    VirtualServer(Block),
    /// `process_event_source`
    Process(Block),
}

/// Every event source, by its name in the settings.
pub const EVENT_SOURCES: [&str; 4] = [
    "catena_api_event_source",
    "agones_sdk_event_source",
    "virtual_server_event_source",
    "process_event_source",
];

impl EventSourceSettings {
    /// Its name in the settings.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [catena, agones, virtual_server, process] = EVENT_SOURCES;
        match self {
            Self::CatenaApi(_) => catena,
            Self::AgonesSdk(_) => agones,
            Self::VirtualServer(_) => virtual_server,
            Self::Process(_) => process,
        }
    }
}
