//! The gateway's configuration: games, keys, limits.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use serde_json::{Map, Value};
use sortie_domain::game::GameVersion;
use sortie_domain::ids::FleetId;
use sortie_domain::matchmaking::Matchmaker;
use sortie_engine::Handle;
use sortie_identity::PlayerTokens;
use sortie_serving::{Allowance, Allowances};
use sortie_tokens::{Dialect, PrivateKey};
use tokio_util::sync::CancellationToken;

use crate::address::NameService;

/// Maximum size of a body and of a websocket message, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// Maximum length of the name of a game and of a version, in characters.
pub const MAX_NAME_CHARS: usize = 30;
/// Default maximum number of waiting players.
pub const MAX_WAITS: usize = 20_000;
/// Default maximum time that a player is kept waiting.
pub const WAIT_DEADLINE: Duration = Duration::from_secs(120);
/// Default time between two progress reports.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// Default time for which a ticket waits after its player's connection is gone.
pub const RECONNECT_GRACE: Duration = Duration::from_secs(30);
/// Default maximum wait for the first message of a websocket, and for a body.
pub const FIRST_MESSAGE_DEADLINE: Duration = Duration::from_secs(10);
/// Default time after which each side of a game connection gives up a silent peer.
pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(15);

/// A fleet that runs a game.
#[derive(Clone, Debug)]
pub struct GameFleet {
    /// The game. Several fleets may run the same one.
    pub game: GameVersion,
    /// The fleet, which runs nothing else.
    pub fleet: FleetId,
    /// Fleets of one game are tried from the lowest number up, equal numbers by id.
    pub preference: i32,
    /// Capacity of a new match, in players.
    pub capacity: u32,
    /// How long a seat waits for its player once the match is ready, and how long the connect token is valid.
    pub seat_ttl: Duration,
    /// Format of the connect tokens.
    pub dialect: Dialect,
    /// Netcode protocol id of the game.
    pub protocol_id: u64,
    /// Further properties of a new match, in addition to `game` and `version`.
    pub properties: Map<String, Value>,
}

/// Whether a request's headers have a key that may speak for players.
pub type SpeaksForPlayers = Arc<dyn Fn(&HeaderMap) -> bool + Send + Sync>;

/// How a gateway behaves.
#[derive(Clone)]
pub struct GatewayOptions {
    /// The matchmaker; `None` if there are no queues.
    pub matchmaker: Option<Handle<Matchmaker>>,
    /// How long a ticket waits after its player's connection is gone.
    pub reconnect_grace: Duration,
    /// Every fleet that players can be sent to.
    pub games: Vec<GameFleet>,
    /// For players who name no game.
    pub default_game: Option<GameVersion>,
    /// Seals the connect tokens; the game servers have it too.
    pub private_key: PrivateKey,
    /// When each side of a game connection gives up a silent peer; whole seconds.
    pub token_timeout: Duration,
    /// Maximum time that a player is kept waiting.
    pub wait_deadline: Duration,
    /// Time between two progress reports.
    pub progress_interval: Duration,
    /// Maximum wait for the first message of a websocket, and for a body.
    pub first_message_deadline: Duration,
    /// Maximum number of waiting players.
    pub max_waits: usize,
    /// Limits of one address.
    pub per_address: Allowance,
    /// How often one player may call; shared with the other parts that take players' calls.
    pub player_calls: Allowances,
    /// Cancelled when the process is about to end: nobody can join any more, and waiting players are told.
    pub closing: CancellationToken,
    /// Networks of proxies whose forwarded addresses are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins of web pages that may call.
    pub cors_origins: Vec<String>,
    /// Replaces a player's loopback address.
    pub loopback_replacement: Option<IpAddr>,
    /// Development mode: every caller's address and player id are trusted.
    pub dev: bool,
    /// Verifies player tokens; `None` if players do not sign in.
    pub players: Option<PlayerTokens>,
    /// Whether players who are in a match, or belong to one, are led back to it when they ask for another of the game.
    pub rejoin: bool,
    /// Whether players have to sign in.
    pub must_sign_in: bool,
    /// Which callers are trusted about a player's address without being a proxy; `None` for none.
    pub speaks_for_players: Option<SpeaksForPlayers>,
    /// Resolves the host names of game servers.
    pub name_service: NameService,
    /// Whether players may send the numbers that rules use; in development mode they may.
    pub may_rate_themselves: bool,
}

impl GatewayOptions {
    /// These games, and the defaults for everything else.
    #[must_use]
    pub fn new(games: Vec<GameFleet>, private_key: PrivateKey) -> Self {
        Self {
            matchmaker: None,
            reconnect_grace: RECONNECT_GRACE,
            games,
            default_game: None,
            private_key,
            token_timeout: TOKEN_TIMEOUT,
            wait_deadline: WAIT_DEADLINE,
            progress_interval: PROGRESS_INTERVAL,
            first_message_deadline: FIRST_MESSAGE_DEADLINE,
            max_waits: MAX_WAITS,
            per_address: Allowance::NONE,
            player_calls: Allowances::new(Allowance::NONE),
            closing: CancellationToken::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            loopback_replacement: None,
            dev: false,
            players: None,
            rejoin: true,
            must_sign_in: false,
            speaks_for_players: None,
            name_service: NameService::default(),
            may_rate_themselves: false,
        }
    }

    pub(crate) fn check(&self) -> Result<(), BadOptions> {
        if self.progress_interval.is_zero() {
            return Err(BadOptions::NoProgressInterval);
        }
        self.origins().map(|_| ())
    }

    pub(crate) fn origins(&self) -> Result<Vec<HeaderValue>, BadOptions> {
        let origins = self.cors_origins.iter();
        // The CORS layer panics on a wildcard in a list.
        let parsed = origins.map(|origin| match HeaderValue::from_str(origin) {
            Ok(value) if origin != "*" => Ok(value),
            _ => Err(BadOptions::Origin(origin.clone())),
        });
        parsed.collect()
    }
}

/// Why options are invalid.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadOptions {
    /// No pause between progress reports.
    #[error("progress_interval: must be more than 0")]
    NoProgressInterval,
    /// An origin that no browser sends.
    #[error("cors_origins: {0:?} is not an origin: write each one like https://play.example.com")]
    Origin(String),
    /// A name that no player could ask for.
    #[error("game {game:?}: {problem}")]
    Name {
        /// The name or version.
        game: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A fleet runs more than one game, or one game twice.
    #[error("fleet {0} is listed twice: a fleet runs one game in one version")]
    Twice(FleetId),
    /// No fleet runs the default game.
    #[error("no fleet runs the default game {0}")]
    DefaultUnknown(GameVersion),
    /// The broker refuses the properties.
    #[error("properties of game {game}: {problem}")]
    Properties {
        /// The game.
        game: GameVersion,
        /// What is wrong with them.
        problem: String,
    },
}
