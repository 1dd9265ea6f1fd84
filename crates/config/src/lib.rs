//! Configuration: reads a file, the environment and flags, and returns one checked [`Config`] or all problems at once.
//!
//! [`reference()`] is the one table of keys: keys that it does not list are refused, the others have the defaults
//! written there, and `docs/config.md` is rendered from it. Hence a small reader for that table instead of derived
//! structs: those stop at the first problem, and each default and meaning would have to be written again for the
//! documents.
//!
//! The result is plain data, in the domain's types if there are any. Nothing here opens a socket or a log; the only
//! files read in addition to the configuration are those that it names for keys and secrets.

mod catena;
mod checked;
mod contradictions;
mod dispatch;
mod edge;
mod environment;
mod finding;
mod fleets;
mod keys;
mod load;
mod markdown;
mod matchmaker;
mod model;
mod netcode;
mod parse;
mod plain;
mod platforms;
mod players;
mod secret;
mod section;
mod show;
mod source;

pub use catena::{CatenaImport, import_catena};
pub use environment::NOT_SETTINGS;
pub use finding::{Finding, MAX_FINDINGS, Problems};
pub use ipnet::IpNet;
pub use keys::{KeyDoc, Kind, Presence, reference};
pub use load::Overrides;
pub use markdown::{EXAMPLE, reference_markdown};
pub use matchmaker::{HookConfig, HookKey, MatchmakerConfig};
pub use model::{
    ApiKey, CallerLimits, Config, Dialect, DispatchConfig, DispatchLimits, Environment, FleetConfig,
    GameVersion, GatewayConfig, LimitsConfig, LogConfig, LogFormat, NamingOthers, Permission, Players,
    TlsConfig,
};
pub use netcode::{KEY_BYTES, KeySource, NetcodeKey};
pub use plain::{reference_json, reference_text};
pub use platforms::{AllocatorConfig, LocalProcessConfig, platform_names};
pub use players::{PlayerKeys, PlayerRightsConfig, PlayersConfig};
pub use secret::{Secret, SecretSource};
pub use show::HIDDEN;
