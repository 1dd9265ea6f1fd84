//! The simulations that drive the machines through virtual time, and show that they find bugs.
//!
//! Why not a network simulator: the machines are pure, so the whole world around them (clients, game servers,
//! platforms, the log, crashes) fits into one ordered agenda and one seeded generator of random numbers. A seed
//! is the whole schedule; a failing one replays.

pub mod matchmaking;
pub mod oracle;
pub mod sim;
