//! Connections and bodies as peers see them, over a real socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod bodies;
mod connections;
mod ends;
mod harness;
mod pages;
mod stalls;
mod upgrades;
