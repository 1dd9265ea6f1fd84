//! Loads under which the matchmaker is measured, and their results.
//!
//! A separate crate, because both the benchmark of `crates/domain` and `sortie bench matchmaker` use it, and because it
//! reads clocks, which nothing in `crates/domain` does.
//!
//! | where | what |
//! |---|---|
//! | [`case`] | the queues, and their tickets |
//! | [`steady`] | many tickets wait, and about as many leave as arrive |
//! | [`crowd`] | all tickets at once |
//! | [`rare`] | expensive steps: new rules, a restart, the answer of a hook |
//! | [`kinds`] | each kind of rule and pool that makes searches long |
//! | [`hostile`] | deliberately bad inputs |
//! | [`scan`] | the plain way: every ticket is compared with every other |
//! | [`host`] | a matchmaker in virtual time, and how long its steps take |
//! | [`times`] | percentiles |
//!
//! Time is virtual, so that a run has the same tickets, deadlines and matches on a slow machine; only the durations of
//! steps are real. They are measured primarily in CPU time, which other load on the machine hardly affects, and also in
//! wall time.

pub mod case;
pub mod crowd;
mod driver;
pub mod host;
pub mod hostile;
pub mod kinds;
pub mod rare;
pub mod scan;
pub mod steady;
mod tickets;
pub mod times;

pub use case::Case;
