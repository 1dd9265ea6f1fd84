//! The sidecar, part by part.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod resolver_ec2;
mod resolver_options;
mod resolver_ports;
mod settings;
mod settings_problems;
