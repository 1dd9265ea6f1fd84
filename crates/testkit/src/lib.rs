//! Simulations that drive the machines through virtual time, and prove that they find bugs.
//!
//! A network simulator is not needed: the machines are pure, so the whole world around them (clients, game servers,
//! platforms, the log, crashes) fits into one ordered agenda and one seeded random number generator. The seed
//! determines the schedule, so failures can be replayed.

pub mod matchmaking;
pub mod oracle;
pub mod sim;
