//! The allocators: one conformance suite, against a scripted platform in virtual time and against real processes, files
//! and ports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod book;
mod conformance;
mod fleets;
#[cfg(target_os = "linux")]
mod local_process;
mod reconciliation;
mod scripted;
