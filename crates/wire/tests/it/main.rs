//! The wire contract as others see it: published schemas, golden bytes, corner cases of canonical JSON.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a broken expectation fails the test"
)]

mod agones;
mod any;
mod canonical;
mod golden;
mod messages;
mod schemas;
mod services;
mod status;
mod stored;
mod stored_matchmaker;
