//! How much work requirements may cause in one step.
//!
//! A machine decides one thing after the other, so everybody waits while one expression is evaluated. Work is counted
//! where it is done, in units of about a nanosecond, and never measured: the same inputs are cut at the same places
//! everywhere. Three limits together keep a step below 20 milliseconds: the work after which nothing more is begun, and
//! the maximum cost of the last thing begun, which is a document and one evaluation.

use core::sync::atomic::{AtomicU64, Ordering};

/// Once a step has done this much work, nothing more is begun in it; the rest is done in later steps.
pub(crate) const STEP_WORK: u64 = 4_000_000;
/// Maximum work of evaluating one expression on one document. An expression that needs more does not fit that document.
pub(crate) const EVALUATION_WORK: u64 = 3_000_000;
/// Maximum work of making one document from its texts. If a match needs more, expressions that look at its players are
/// not evaluated, and none of them fits.
pub(crate) const DOCUMENT_WORK: u64 = 5_000_000;

/// Creating one value, or one operator.
pub(crate) const NODE: u64 = 50;
/// Starting an evaluation.
pub(super) const EVALUATION: u64 = 500;

/// Maximum work of looking up who may take a match: its own properties are parsed, and hashed for each file.
const LOOK_UP_WORK: u64 = 5_000_000;
/// Maximum work of one step: what is begun while there is some left, and the last thing begun.
pub const MAX_STEP_WORK: u64 = STEP_WORK + LOOK_UP_WORK + DOCUMENT_WORK + EVALUATION_WORK;

/// Counts the work of one step, on one thread at a time; requirements move between threads with their machine.
#[derive(Debug)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Begins a step.
    pub(super) fn begin(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub(super) fn spend(&self, work: u64) {
        self.0.store(self.spent().saturating_add(work), Ordering::Relaxed);
    }

    pub(super) fn spent(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether nothing more is to be begun in this step.
    pub(super) fn is_spent(&self) -> bool {
        self.spent() >= STEP_WORK
    }
}

/// The result of looking for something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Search<T> {
    /// This is the first.
    Found(T),
    /// There is none.
    Nothing,
    /// The step's work limit was reached before it was found: a later step continues from there.
    Unfinished,
}

/// Maximum work of parsing a JSON text: each value but the first comes after one of four characters.
pub(super) fn of_json(text: &str) -> u64 {
    let marks = text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    text.len() as u64 + NODE * (1 + marks as u64)
}
