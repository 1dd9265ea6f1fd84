//! The tunnel between a real dispatcher and plain sockets, and with fake dispatchers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod datagrams;
mod dispatchers;
mod harness;
mod streams;
