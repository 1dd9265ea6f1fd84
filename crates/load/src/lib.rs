//! Loads that the matchmaker is measured under, and what they find.
//!
//! A crate of its own, because both the benchmark of `crates/domain` and `sortie bench matchmaker` use it, and because it
//! reads clocks, which nothing in `crates/domain` does.
//!
//! | where | what |
//! |---|---|
//! | [`case`] | the queues, and who comes to them |
//! | [`steady`] | many wait, and about as many leave as come |
//! | [`crowd`] | all come at once |
//! | [`rare`] | steps that look at much: other rules, a restart, the answer of a hook |
//! | [`kinds`] | each kind of rule and pool that makes searches long |
//! | [`hostile`] | inputs that were made to be bad |
//! | [`scan`] | the plain way: every ticket is compared with every other |
//! | [`host`] | a matchmaker in virtual time, and how long its steps take |
//! | [`times`] | percentiles |
//!
//! Time is virtual, so that a run has the same tickets, deadlines and matches on a slow machine; only how long the steps
//! take is real. That is measured by the processor's clock first, which what else the machine does affects little, and
//! by the clock on the wall beside it.

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
