//! Recorded tickets against other rules: what would the waits and the matches have been?
//!
//! | where | what |
//! |---|---|
//! | [`recording`] | which tickets came, when, and when they were called off: from the events of a log |
//! | [`lines`] | the same as lines of JSON, to be kept, sent and made by other programs |
//! | [`run`] | the tickets once more, through the matchmaker itself, in virtual time |
//! | [`quality`] | what the rules measure of a match: spread of a rating, worst latency, balance of the teams |
//! | [`report`] | waits and quality, queue by queue |
//!
//! The rules are applied by the matchmaker that serves, so that there is no second opinion about them. What is not in a
//! recording is taken to go well: a server is there at once, every player accepts, hooks elsewhere have nothing against a
//! match (those that had something against a ticket are believed: it is left out), and no running match has free seats.
//!
//! The same recording and the same rules give the same report, to the last digit.

pub mod lines;
pub mod quality;
pub mod recording;
pub mod report;
pub mod run;

pub use quality::Measure;
pub use recording::{Arrival, Recorder, Recording};
pub use report::{QueueReport, Report, Shares};
pub use run::{ReplayError, Rules, replay};
