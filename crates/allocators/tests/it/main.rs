//! The allocators against the real thing: processes, files, ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod conformance;
mod fake;
mod fleets;
#[cfg(target_os = "linux")]
mod local_process;
