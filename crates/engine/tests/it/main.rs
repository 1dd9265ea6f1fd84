//! The engine against real files, with a toy machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod backlog;
mod calls;
mod damage;
mod disk;
mod effects;
mod log;
mod parts;
mod refused;
mod restart;
mod shutdown;
mod subscriptions;
mod supervisor;
mod toy;
