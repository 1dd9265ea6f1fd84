//! gRPC and HTTP on one port: what game servers, players' backends, players and operators call.
//!
//! | where | what |
//! |---|---|
//! | `calls` | every Catena call, once, for both transports |
//! | `grpc`, `http` | the transports: a line a call |
//! | `native` | Sortie's own JSON under `/v1`, and health |
//! | `openapi`, `docs` | the description of all of it, made from the code, and the page that shows it |
//! | `player_feed` | who hears of which ticket and which match |
//! | `rules` | who may call what, all of it in one table |
//! | `servers` | which game servers a caller speaks for, and what is theirs |
//! | `sight` | what a caller sees of what it may ask for |
//! | `player_order` | what a ticket may say that a player starts |
//! | `one_place` | that a player in a running match starts no ticket |
//! | `gate`, [`auth`] | enforce the rules, for both transports |
//! | `error` | one error, in the form that each transport gives it |
//!
//! Nothing is decided here. A call becomes a command of the broker or the matchmaker and its reply an answer, so that whatever comes
//! in through another door meets the same rules.

pub mod auth;
mod calls;
mod codes;
mod docs;
mod error;
mod gate;
mod grpc;
mod health;
mod http;
mod native;
mod one_place;
mod openapi;
mod params;
mod player_feed;
mod player_order;
mod router;
mod rules;
mod servers;
mod shares;
mod sight;
mod state;

pub use auth::{ApiKey, Auth, KeyRing, KeySource, Permission, ServersOfKey};
pub use codes::codes;
pub use one_place::LeadsBack;
pub use player_order::{NamingOthers, PlayerRights};
pub use router::{router, routes};
pub use rules::calls;
pub use state::{ApiOptions, Check, ConfiguredAllocator, Limits, Problem};
