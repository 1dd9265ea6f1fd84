//! The contracts of the broker and of the matchmaker, sentence by sentence, as examples in virtual time.
//!
//! The simulation in `testkit` looks for schedules that break an invariant; these tests specify what a single call,
//! timer or setting does. Each one plays a few calls on a [`table::Table`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, too, fail by panicking"
)]

mod again;
mod allocations;
mod budgets;
mod explain;
mod fleets;
mod idempotency;
mod index;
mod lifetime;
mod limits;
mod matches;
mod matchmaking;
mod places;
mod properties;
mod schedule;
mod seats;
mod servers;
mod steps;
mod table;
mod timers;
mod waiting;
mod whose;
mod work;
