//! The parts of the sidecar as the world meets them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod agones;
mod agones_faults;
mod agones_rest;
mod agones_site;
mod backend;
mod catena_api;
mod fake_backend;
mod manager;
mod manager_disk;
mod manager_kills;
mod manager_next;
