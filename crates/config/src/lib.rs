//! Configuration: a file, the environment and flags in, one checked [`Config`] or every problem at once out.
//!
//! [`reference()`] is the one table of keys: what it does not list is refused, what it lists is read with the
//! default written there, and `docs/config.md` is its rendering. Hence a small reader over that table rather
//! than derived structs: those stop at the first problem, and would need each default and meaning a second
//! time for the documents.
//!
//! What comes out is plain data in the domain's types where it has them. Nothing here opens a socket or a log;
//! the only files read beside the configuration are those that it names for keys and secrets.

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
    ApiKey, CallerLimits, Config, Dialect, DispatchConfig, DispatchLimits, Environment, FleetConfig, Game,
    GatewayConfig, LimitsConfig, LogConfig, LogFormat, NamingOthers, Permission, Players, TlsConfig,
};
pub use netcode::{KEY_BYTES, KeySource, NetcodeKey};
pub use plain::{reference_json, reference_text};
pub use platforms::{AllocatorConfig, LocalProcessConfig, platform_names};
pub use players::{PlayerKeys, PlayerRightsConfig, PlayersConfig};
pub use secret::{Secret, SecretSource};
pub use show::HIDDEN;
