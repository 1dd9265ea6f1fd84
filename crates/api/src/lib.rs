//! gRPC and HTTP on one port, for game servers, players' backends, players and operators.
//!
//! | module | contents |
//! |---|---|
//! | `calls` | every Catena call, once, for both transports |
//! | `grpc`, `http` | the transports: one line per call |
//! | `native` | Sortie's own JSON under `/v1`, and health |
//! | `openapi`, `docs` | the description of the whole API, generated from the code, and the page that shows it |
//! | `player_feed` | which players hear about which tickets and matches |
//! | `rules` | who may call what, in one table |
//! | `holders` | which game servers a key speaks for |
//! | `servers` | what a caller may do with game servers and their matches |
//! | `sight` | which parts of a ticket a caller sees |
//! | `player_order` | what a ticket that a player starts may contain |
//! | `one_place` | refuses tickets for players in a running match |
//! | `gate`, [`auth`] | enforce the rules, for both transports |
//! | `error` | one error, in the form of each transport |
//!
//! Nothing is decided here. A call becomes a command of the broker or the matchmaker and its reply an answer, so that
//! calls through other doors meet the same rules.

pub mod auth;
mod calls;
mod codes;
mod docs;
mod error;
mod gate;
mod grpc;
mod health;
mod holders;
mod http;
mod names;
mod native;
mod one_place;
mod openapi;
mod options;
mod params;
mod player_feed;
mod player_order;
mod router;
mod rules;
mod servers;
mod shares;
mod sight;
mod state;

pub use auth::{ApiKey, Auth, KeyRing, KeySource, Permission};
pub use codes::codes;
pub use holders::ServersOfKey;
pub use options::{
    ApiOptions, Check, ConfiguredAllocator, LeadsBack, Limits, NamingOthers, PlayerRights, Problem,
};
pub use router::{router, routes};
pub use rules::calls;
