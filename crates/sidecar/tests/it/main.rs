//! The sidecar's parts, together and from outside.

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
