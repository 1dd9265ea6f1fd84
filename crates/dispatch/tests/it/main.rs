//! The dispatcher from outside: plain sockets as devices, and a websocket client that is not its own as driver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod devices;
mod doors;
mod drivers;
mod faults;
mod golden;
mod harness;
mod many;
mod tokens;
mod udp;
