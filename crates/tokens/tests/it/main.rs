//! Tokens against the bytes of other implementations, against hostile bytes, and against a real renet server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod golden;
mod properties;
mod renet;
