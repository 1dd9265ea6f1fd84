//! The parts of the sidecar, tested from outside.

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
mod control;
mod fake_backend;
mod manager;
mod manager_disk;
mod manager_kills;
mod manager_next;
mod process;
mod process_faults;
mod resolver_ec2;
mod resolver_options;
mod resolver_ports;
mod settings;
mod settings_problems;
mod virtual_server;
