//! Recorded tickets with different rules: what would the waits and the matches have been?
//!
//! | where | what |
//! |---|---|
//! | [`recording`] | which tickets came, when, and when they were cancelled: from the events of a log |
//! | [`lines`] | the same as lines of JSON, to be kept, sent and made by other programs |
//! | [`run`] | runs the tickets through the matchmaker itself, in virtual time |
//! | [`quality`] | what the rules measure of a match: spread of a rating, worst latency, balance of the teams |
//! | [`report`] | waits and quality per queue |
//!
//! The rules are applied by the production matchmaker, so that results cannot differ. Anything that a recording does
//! not contain is assumed to go well: a server is there at once, every player accepts, external hooks accept every
//! match (tickets that they refused are left out), and no running match has free seats.
//!
//! The same recording and the same rules yield exactly the same report.

pub mod lines;
pub mod quality;
pub mod recording;
pub mod report;
pub mod run;

pub use quality::Measure;
pub use recording::{Arrival, Recorder, Recording};
pub use report::{Percentiles, QueueReport, Report};
pub use run::{ReplayError, Rules, replay};
