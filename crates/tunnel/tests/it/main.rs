//! The tunnel between a real dispatcher and plain sockets, and before dispatchers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod datagrams;
mod dispatchers;
mod harness;
mod streams;
