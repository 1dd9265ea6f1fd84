//! The checked configuration: plain data, every value within its limits.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use sortie_domain::broker::model::{Fleet, Settings};
pub use sortie_domain::game::GameVersion;
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
    /// Format of the lines on standard error.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object per line.
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
        /// Everything.
        Admin = "admin",
    }
}

choices! {
    /// Who gets a seat at the gateway.
    Players {
        /// Everybody; players who sign in are known by their player id.
        Anyone = "anyone",
        /// Players with a token.
        SignedIn = "signed_in",
    }
}

choices! {
    /// Whether players may start tickets for others, too.
    NamingOthers {
        /// Never.
        No = "no",
        /// In queues with the hooks `party_membership` and `validate_ticket`; the latter decides who belongs together.
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
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Folder of all persistent data; absolute.
    pub data: PathBuf,
    /// Development mode: nobody needs a key, and `listen` is a loopback address.
    pub dev: bool,
    /// Hosts that callers may name if no key is needed: names in lower case, and addresses, without a port.
    pub dev_hosts: Vec<String>,
    /// The URL for others to call, without a slash at its end; see [`Config::public_url_or`].
    pub public_url: Option<String>,
    /// Maximum time of a graceful shutdown.
    pub shutdown_deadline: Duration,
    /// The TLS files of the port; `None` for plain HTTP.
    pub tls: Option<TlsConfig>,
    /// Limits of connections and calls.
    pub limits: LimitsConfig,
    /// Log lines and the log of events.
    pub log: LogConfig,
    /// Initial settings of the broker.
    pub broker: Settings,
    /// Keys of the API, at most [`ApiKey::MAX`].
    pub api_keys: Vec<ApiKey>,
    /// How players sign in; `None` if they do not.
    pub players: Option<PlayersConfig>,
    /// What players may state in tickets that they start themselves.
    pub player_rights: PlayerRightsConfig,
    /// The key that seals connect tokens.
    pub netcode_key: Option<NetcodeKey>,
    /// The API for players.
    pub gateway: GatewayConfig,
    /// Ports on demand.
    pub dispatch: DispatchConfig,
    /// Fleets in the order of their ids, at most [`FleetConfig::MAX`].
    pub fleets: Vec<FleetConfig>,
    /// The matchmaker; `None` if there is none.
    pub matchmaker: Option<MatchmakerConfig>,
    /// Settings that are allowed but most likely not intended.
    pub warnings: Vec<Finding>,
    /// Remarks that are useful to know but may well be intended; shown by `sortie config check`.
    pub remarks: Vec<Finding>,
}

impl Config {
    /// Whether the data folder must contain at least one API key, because nobody could call anything otherwise.
    #[must_use]
    pub const fn needs_api_key(&self) -> bool {
        !self.dev && self.api_keys.is_empty()
    }

    /// Whether players can ask for connect tokens that nothing could seal: a fleet has a game and there is no netcode
    /// key.
    #[must_use]
    pub fn needs_netcode_key(&self) -> bool {
        self.netcode_key.is_none() && self.fleets.iter().any(|fleet| fleet.game.is_some())
    }

    /// The URL scheme of the port.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The URL for others to call, given the address that was bound.
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

/// The TLS files of a port. Paths are absolute; the files are not read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsConfig {
    /// The certificate chain.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots that local game servers trust.
    pub ca: Option<PathBuf>,
}

/// Limits of connections and calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitsConfig {
    /// Maximum number of connections.
    pub connections: usize,
    /// Maximum number of connections from one address; `None` for no limit.
    pub connections_per_address: Option<usize>,
    /// Maximum number of concurrent calls on one HTTP/2 connection.
    pub calls_per_connection: u32,
    /// Maximum size of a body, in bytes.
    pub body: usize,
    /// Maximum time for a body to arrive.
    pub body_time: Duration,
    /// Maximum total size of a request's headers, in bytes.
    pub headers: u32,
    /// How long an HTTP/1 connection may be idle, and how long the headers of its next request may take.
    pub idle_time: Duration,
    /// Maximum time of a TLS handshake.
    pub handshake_time: Duration,
    /// Maximum time for which a caller may read nothing of what is sent to it.
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
    /// Those with one key.
    pub waits_per_key: usize,
    /// Long-lived calls that need no key.
    pub watches: usize,
    /// Those from one address.
    pub watches_per_address: usize,
    /// Sustained calls per second of one player; 0 for no limit.
    pub rate_per_player: u32,
    /// Calls of one player at once after a pause.
    pub burst_per_player: u32,
}

/// Log lines, and the log of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogConfig {
    /// Format of the lines.
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
    /// Its name, which is unique.
    pub name: String,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What its holder may do; never empty.
    pub permissions: Vec<Permission>,
    /// The fleets whose servers the key speaks for; empty: servers that register themselves.
    pub fleets: Vec<FleetId>,
}

impl ApiKey {
    /// Maximum number of keys in a configuration.
    pub const MAX: usize = 1_000;
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A weak key can be guessed from its hash.
        f.debug_struct("ApiKey")
            .field("name", &self.name)
            .field("permissions", &self.permissions)
            .field("fleets", &self.fleets)
            .finish_non_exhaustive()
    }
}

/// The API for players.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatewayConfig {
    /// For players who name no game; one of the fleets, with a game.
    pub default_fleet: Option<FleetId>,
    /// Who gets a seat.
    pub players: Players,
    /// Maximum time that a player waits.
    pub wait_deadline: Duration,
    /// Time between two progress reports.
    pub progress_interval: Duration,
    /// How long the ticket of a disconnected player keeps waiting.
    pub reconnect_grace: Duration,
    /// Whether players of running matches are led back to them.
    pub rejoin: bool,
    /// Networks that are trusted to report a player's address.
    pub trusted_proxies: Vec<IpNet>,
    /// Sustained joins per second of one address; 0 for no limit.
    pub rate_per_address: u32,
    /// Joins that one address may request at once.
    pub burst_per_address: u32,
    /// Maximum number of waiting players from one address; 0 for no limit.
    pub waiting_per_address: u32,
    /// Allowed origins, as browsers write them: no slash at the end.
    pub cors_origins: Vec<String>,
    /// Used instead of a player's loopback address.
    pub loopback_ip_replacement: Option<IpAddr>,
}

/// Ports on demand, for drivers and their devices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DispatchConfig {
    /// Whether a control plane has a dispatcher.
    pub enabled: bool,
    /// Address for drivers; `None` for the control plane's own port.
    pub listen: Option<SocketAddr>,
    /// The secret that drivers send, and its source: UTF-8.
    pub secret: Option<(SecretSource, Secret)>,
    /// TLS of a separate port for drivers; `None`: that of the control plane. It has no `ca`.
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
    /// Maximum number of drivers.
    pub drivers: u32,
    /// Maximum number of drivers of one port.
    pub drivers_per_port: u32,
    /// Maximum number of open ports.
    pub ports: u32,
    /// Maximum number of connected devices.
    pub devices: u32,
    /// Maximum number of entries of an accept list.
    pub accept_entries: u32,
    /// Maximum size of a driver's message.
    pub message: u64,
    /// Maximum size of one driver's queue.
    pub driver_queue: u64,
    /// Maximum size of all drivers' queues.
    pub queue: u64,
    /// Maximum size of one device's queue.
    pub device_backlog: u64,
    /// Maximum size of all devices' queues.
    pub backlog: u64,
    /// A driver that reads nothing for this long is disconnected.
    pub driver_stall: Duration,
    /// A device whose full queue holds up its driver's other devices for this long is disconnected.
    pub device_patience: Duration,
    /// A device that reads nothing for this long is disconnected.
    pub device_stall: Duration,
    /// How long a device that has closed its sending side stays connected.
    pub half_close_time: Duration,
    /// Maximum number of such devices.
    pub half_closed: u32,
    /// Time between two pings.
    pub ping_period: Duration,
    /// A driver that is silent for this long after a ping is disconnected.
    pub ping_deadline: Duration,
    /// Maximum time of a close.
    pub close_time: Duration,
    /// Maximum number of datagram senders that a port remembers.
    pub udp_peers_per_port: u32,
    /// Maximum number of dispatch tokens.
    pub tokens: u32,
    /// Maximum lifetime of a dispatch token.
    pub token_time: Duration,
}

/// One fleet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FleetConfig {
    /// The broker's part of it.
    pub fleet: Fleet,
    /// For people.
    pub description: String,
    /// The requirements of its own servers, if given: JMESPath over the match document.
    pub server_requirements: Option<String>,
    /// The game by which players find it, 1 to 30 characters of `[A-Za-z0-9 _-]`, and its version of 1 to 30 characters
    /// of `[A-Za-z0-9 _.-]`; `None` if the gateway does not use the fleet.
    pub game: Option<GameVersion>,
    /// Maximum number of players in a match that the gateway makes.
    pub capacity: u32,
    /// How long a seat is reserved for its player.
    pub seat_ttl: Duration,
    /// Format of its connect tokens.
    pub dialect: Dialect,
    /// Netcode protocol id.
    pub protocol_id: u64,
    /// The platform.
    pub allocator: AllocatorConfig,
}

impl FleetConfig {
    /// Maximum number of fleets in a configuration.
    pub const MAX: usize = 1_000;

    /// What operators may see of its allocator, as JSON; contains no secret.
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
