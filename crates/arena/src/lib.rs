//! The built-in game: a small arena on a real network, with a game server and bots that play on it.
//!
//! For trying out an installation before it has a game, and as the reference for writing a game server. Therefore it
//! uses only public contracts (HTTP, netcode over UDP) and none of the platform's own crates: whatever works here works
//! for any game, in any language.
//!
//! * [`server`] requests matches, plays them and admits players by their seats: start there to write a game server.
//! * [`bot`] is the other side: players who request a place from the gateway, connect, play and verify what they see.
//! * [`protocol`] and [`world`] are the game itself, pure, and the same on both sides.
//! * [`api_client`] has every call that either side makes to the platform.

pub mod api_client;
pub mod bot;
mod packet_guard;
pub mod protocol;
mod retry;
pub mod server;
pub mod world;

pub use api_client::ApiKey;
pub use bot::{Arrivals, BotEvent, FailureReason, Latency, PlayError, PlayOptions, PlaySummary, play};
pub use server::{NetcodeKey, ServeError, ServeOptions, ServeSummary, StopReason, serve};
