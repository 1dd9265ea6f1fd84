//! The checked configuration: plain data, every value within its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
pub use sortie_domain::broker::model::Game;
use sortie_domain::broker::model::{Fleet, Settings};
use sortie_domain::ids::FleetId;

use crate::finding::Finding;
use crate::matchmaker::MatchmakerConfig;
use crate::netcode::NetcodeKey;
use crate::platforms::AllocatorConfig;
use crate::players::{PlayerRightsConfig, PlayersConfig};
use crate::secret::{Secret, SecretSource};
use crate::show::shown;

/// An enum whose variants have names in the configuration.
macro_rules! choices {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every name, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($text),*];

            /// The name in the configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The variant of that name.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

choices! {
    /// Form of the lines on standard error.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choices! {
    /// What the holder of an API key may do.
    Permission {
        /// The calls of game servers.
        GameServerMatch = "game_server_match",
        /// The calls of players' backends.
        Client = "client",
        /// Everything that administrators may.
        Admin = "admin",
    }
}

choices! {
    /// Who gets a seat at the gateway.
    Players {
        /// Everybody; who signs in is known by the player id.
        Anyone = "anyone",
        /// Players with a token.
        SignedIn = "signed_in",
    }
}

choices! {
    /// Whether players may start tickets for others too.
    NamingOthers {
        /// Never.
        No = "no",
        /// In queues with the hooks `party_membership` and `validate_ticket`, which says who belongs together.
        PartyHook = "party_hook",
        /// In every queue.
        Yes = "yes",
    }
}

choices! {
    /// Format of a fleet's connect tokens.
    Dialect {
        /// The C reference and its bindings.
        Standard = "standard",
        /// renet and renetcode.
        Renet = "renet",
        /// Lightyear.
        Lightyear = "lightyear",
    }
}

/// The whole configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Folder of everything that lasts; absolute.
    pub data: PathBuf,
    /// Development mode: nobody needs a key. `listen` is a loopback address then.
    pub dev: bool,
    /// Hosts that callers may name where no key is needed: names in lower case, and addresses, without a port.
    pub dev_hosts: Vec<String>,
    /// What others are told to call, without a slash at its end; see [`Config::public_url_or`].
    pub public_url: Option<String>,
    /// Longest time of an ordered stop.
    pub shutdown_deadline: Duration,
    /// What the port speaks TLS with; plain HTTP without.
    pub tls: Option<TlsConfig>,
    /// Limits of connections and calls.
    pub limits: LimitsConfig,
    /// Log lines and the log of events.
    pub log: LogConfig,
    /// What the broker starts with.
    pub broker: Settings,
    /// Keys of the API, at most [`ApiKey::MAX`].
    pub api_keys: Vec<ApiKey>,
    /// How players sign in; `None` where they do not.
    pub players: Option<PlayersConfig>,
    /// What players may say in tickets that they start themselves.
    pub player_rights: PlayerRightsConfig,
    /// The key that seals connect tokens.
    pub netcode_key: Option<NetcodeKey>,
    /// The players' door.
    pub gateway: GatewayConfig,
    /// Ports on demand.
    pub dispatch: DispatchConfig,
    /// Fleets in the order of their ids, at most [`FleetConfig::MAX`].
    pub fleets: Vec<FleetConfig>,
    /// The matchmaker; `None` where there is none.
    pub matchmaker: Option<MatchmakerConfig>,
    /// What is allowed and most likely not meant.
    pub warnings: Vec<Finding>,
    /// What is worth knowing and may well be meant: for whoever asks how the configuration is.
    pub remarks: Vec<Finding>,
}

impl Config {
    /// Whether the data folder must hold at least one API key, because nobody could call anything otherwise.
    #[must_use]
    pub const fn needs_api_key(&self) -> bool {
        !self.dev && self.api_keys.is_empty()
    }

    /// Whether players can ask for connect tokens that nothing could seal: a fleet has a game and there is no
    /// netcode key.
    #[must_use]
    pub fn needs_netcode_key(&self) -> bool {
        self.netcode_key.is_none() && self.fleets.iter().any(|fleet| fleet.game.is_some())
    }

    /// The scheme of what is served.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The URL that others are told to call, given the address that was bound.
    #[must_use]
    pub fn public_url_or(&self, bound: SocketAddr) -> String {
        let reachable = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], bound.port())),
            IpAddr::V6(ip) if ip.is_unspecified() => {
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, bound.port()))
            }
            _ => bound,
        };
        self.public_url.clone().unwrap_or_else(|| format!("{}://{reachable}", self.scheme()))
    }
}

/// What the port speaks TLS with. Paths are absolute; what is in the files is not looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots that local game servers are to trust.
    pub ca: Option<PathBuf>,
}

/// Limits of connections and calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Connections at a time.
    pub connections: usize,
    /// Connections at a time from one address; `None` for no limit.
    pub connections_per_address: Option<usize>,
    /// Calls at a time on one HTTP/2 connection.
    pub calls_per_connection: u32,
    /// Longest body, in bytes.
    pub body: usize,
    /// Longest time of a body.
    pub body_time: Duration,
    /// Headers of a request, in bytes.
    pub headers: u32,
    /// How long an HTTP/1 connection may be idle, and its headers take.
    pub idle_time: Duration,
    /// Longest time of a TLS handshake.
    pub handshake_time: Duration,
    /// Longest time that a caller may take nothing of what is sent to it.
    pub stall_time: Duration,
    /// What callers may have open, and how often they may call.
    pub callers: CallerLimits,
}

/// What callers may have open at a time, and how often they may call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerLimits {
    /// Streams of players' events.
    pub player_streams: usize,
    /// Streams that follow a whole log.
    pub log_streams: usize,
    /// Streams about one player.
    pub streams_per_player: usize,
    /// Streams that one key has opened.
    pub streams_per_key: usize,
    /// Calls that wait for news of a match.
    pub waits: usize,
    /// Those of one key.
    pub waits_per_key: usize,
    /// Calls that anybody may make and that last.
    pub watches: usize,
    /// Those from one address.
    pub watches_per_address: usize,
    /// Calls a second of one player in the long run; 0 for no limit.
    pub rate_per_player: u32,
    /// Calls of one player at once after a pause.
    pub burst_per_player: u32,
}

/// Log lines, and the log of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Form of the lines.
    pub format: LogFormat,
    /// `level` or `level,module=level,…`: what tracing-subscriber's `EnvFilter` reads.
    pub level: String,
    /// Events kept beyond what the snapshots need, in bytes.
    pub retention: u64,
    /// Events between two snapshots.
    pub snapshot_every: u64,
}

/// One key of the API.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// Its name; no other key has it.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What its holder may do; never empty.
    pub permissions: Vec<Permission>,
    /// The fleets for whose game servers it speaks; empty: servers that register themselves.
    pub fleets: Vec<FleetId>,
}

impl ApiKey {
    /// Most keys in a configuration.
    pub const MAX: usize = 1_000;
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever sees the hash of a weak key can guess the key.
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("permissions", &self.permissions)
            .field("fleets", &self.fleets)
            .finish_non_exhaustive()
    }
}

/// The players' door.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// For players who name no game; one of the fleets, with a game.
    pub default_fleet: Option<FleetId>,
    /// Who gets a seat.
    pub players: Players,
    /// Longest time that a player is kept waiting.
    pub wait_deadline: Duration,
    /// Time between two progress reports.
    pub progress_interval: Duration,
    /// How long the ticket of a player whose connection is gone waits on.
    pub reconnect_grace: Duration,
    /// Whether players of running matches are led back to them.
    pub rejoin: bool,
    /// Networks whose word on a player's address is taken.
    pub trusted_proxies: Vec<IpNet>,
    /// Joins a second that one address may ask for in the long run; 0 for no limit.
    pub rate_per_address: u32,
    /// Joins that one address may ask for at once.
    pub burst_per_address: u32,
    /// Players from one address who may wait at a time; 0 for no limit.
    pub waiting_per_address: u32,
    /// Origins that may call, as browsers write them: no slash at the end.
    pub cors_origins: Vec<String>,
    /// Taken in place of a player's loopback address.
    pub loopback_ip_replacement: Option<IpAddr>,
}

/// Ports on demand, for drivers and their devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DispatchConfig {
    /// Whether a control plane has a dispatcher.
    pub enabled: bool,
    /// Where drivers come in; `None` for the control plane's own port.
    pub listen: Option<SocketAddr>,
    /// What drivers show, and where it came from: UTF-8.
    pub secret: Option<(SecretSource, Secret)>,
    /// What a port of its own speaks TLS with; without, that of the control plane. It has no `ca`.
    pub tls: Option<TlsConfig>,
    /// Addresses of this machine to open ports on; at least one.
    pub hosts: Vec<IpAddr>,
    /// Ports that may be opened; at least one range.
    pub allowed_ports: Vec<RangeInclusive<u16>>,
    /// Whether datagrams go only to addresses that have sent one.
    pub only_to_peers_that_spoke: bool,
    /// Every limit.
    pub limits: DispatchLimits,
}

/// Limits of a dispatcher; sizes are in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DispatchLimits {
    /// Drivers at a time.
    pub drivers: u32,
    /// Drivers at a time of one port.
    pub drivers_per_port: u32,
    /// Open ports at a time.
    pub ports: u32,
    /// Connected devices at a time.
    pub devices: u32,
    /// Entries of an accept list.
    pub accept_entries: u32,
    /// Longest message of a driver.
    pub message: u64,
    /// What waits for one driver.
    pub driver_queue: u64,
    /// What waits for all drivers.
    pub queue: u64,
    /// What waits for one device.
    pub device_backlog: u64,
    /// What waits for all devices.
    pub backlog: u64,
    /// A driver that takes nothing for so long is cut off.
    pub driver_stall: Duration,
    /// A full device that holds up its driver's other devices for so long is disconnected.
    pub device_patience: Duration,
    /// A device that takes nothing for so long is disconnected.
    pub device_stall: Duration,
    /// How long a device that sends no more stays connected.
    pub half_close_time: Duration,
    /// Such devices at a time.
    pub half_closed: u32,
    /// Time between two pings.
    pub ping_period: Duration,
    /// A driver that is silent for so long after a ping is cut off.
    pub ping_deadline: Duration,
    /// How long an end may take.
    pub close_time: Duration,
    /// Senders of datagrams that a port remembers.
    pub udp_peers_per_port: u32,
    /// Dispatch tokens at a time.
    pub tokens: u32,
    /// Longest life of a dispatch token.
    pub token_time: Duration,
}

/// One fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetConfig {
    /// What the broker knows of it.
    pub fleet: Fleet,
    /// For people.
    pub description: String,
    /// What its own servers ask for, where that was said: JMESPath over the match document.
    pub server_requirements: Option<String>,
    /// The game that players find it by, 1 to 30 characters of `[A-Za-z0-9 _-]`, in a version of 1 to 30 characters of
    /// `[A-Za-z0-9 _.-]`; `None` where the gateway does not use it.
    pub game: Option<Game>,
    /// Most players in a match that the gateway makes.
    pub capacity: u32,
    /// How long a seat waits for its player.
    pub seat_ttl: Duration,
    /// Format of its connect tokens.
    pub dialect: Dialect,
    /// Netcode protocol id.
    pub protocol_id: u64,
    /// The platform.
    pub allocator: AllocatorConfig,
}

impl FleetConfig {
    /// Most fleets in a configuration.
    pub const MAX: usize = 1_000;

    /// What operators may see of its allocator, as JSON; holds no secret.
    #[must_use]
    pub fn raw_configuration(&self) -> String {
        let mut raw = serde_json::Map::new();
        raw.insert("allocator".to_owned(), self.allocator.platform().into());
        raw.extend(self.allocator.describe());
        raw.insert("max".to_owned(), self.fleet.max.into());
        raw.insert("warm".to_owned(), self.fleet.warm.into());
        raw.insert("ready_deadline".to_owned(), shown(self.fleet.ready_deadline).into());
        serde_json::Value::Object(raw).to_string()
    }
}

/// Environment variables. Their values may be secrets, so `Debug` shows names only.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
