//! The sidecar stands between a game server and its control plane, so that the game speaks one small contract, or none,
//! and runs anywhere.
//!
//! ```text
//! game server ──▶ event source ──▶ manager ──▶ backend ──▶ control plane
//!                                     │
//!                                     └── resolver: where players reach the server
//! ```
//!
//! | what | where |
//! |---|---|
//! | the servers and matches of this sidecar, and all calls about them | [`manager`] |
//! | where a game server's calls come from | [`source`] |
//! | who answers them | [`backend`] |
//! | where players reach a server | [`resolver`] |
//! | the settings file | [`settings`] |
//! | the sidecar's own API and debug panel | [`control`] |
//! | assembly of the parts | [`Sidecar`] |
//! | programs that this sidecar starts | `child` |
//! | HTTP answers of all ports | `http_answer` |
//!
//! Everything uses the messages of the Catena server manager: it is the contract on both sides of a sidecar, and event
//! sources for other protocols translate to it.

pub mod backend;
mod child;
pub mod control;
mod http_answer;
pub mod manager;
pub mod resolver;
pub mod settings;
mod sidecar;
pub mod source;

pub use sidecar::{Listening, Sidecar, StartError};
