//! The dispatcher from outside: plain sockets as devices, and an independent websocket client as driver.
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
