//! The parts of the sidecar as the world meets them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod backend;
mod catena_api;
mod fake_backend;
mod manager;
mod manager_disk;
mod manager_kills;
mod manager_next;
mod resolver_ec2;
mod resolver_options;
mod resolver_ports;
mod settings;
mod settings_problems;
