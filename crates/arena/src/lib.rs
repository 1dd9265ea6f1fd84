//! The built-in game: a small arena on a real network, with a game server and bots that play on it.
//!
//! It is what an installation is tried with before there is a game for it, and the reference for how a game server
//! is written. Therefore it uses public contracts only (HTTP, netcode over UDP) and none of the platform's own
//! crates: whatever works here works for any game, in any language.
//!
//! * [`server`] asks for matches, plays them and admits players by their seats: begin there to write a game server.
//! * [`bot`] is the other side: players who ask the gateway for a place, connect, play and verify what they see.
//! * [`protocol`] and [`world`] are the game itself, pure, and the same on both sides.
//! * [`api_client`] is every call that either side makes to the platform.

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
