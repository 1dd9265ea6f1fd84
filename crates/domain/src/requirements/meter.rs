//! How much work requirements may cause in one step.
//!
//! A machine decides one thing after the other, so what one expression costs, everybody waits for. Work is counted where
//! it is done, in units of about a nanosecond, and never measured: the same inputs are cut at the same places
//! everywhere. Three limits together keep a step below 20 milliseconds: what is begun in it at most, and what the
//! last thing begun may cost at most, a document and one evaluation.

use core::sync::atomic::{AtomicU64, Ordering};

/// Once a step has done so much, nothing more is begun in it; what is left is done in later steps.
pub(crate) const STEP_WORK: u64 = 4_000_000;
/// Most work of evaluating one expression on one document. An expression that needs more does not fit that document.
pub(crate) const EVALUATION_WORK: u64 = 3_000_000;
/// Most work of making one document of its texts. On a match that needs more, expressions that look at its players are
/// not evaluated, and none of them fits.
pub(crate) const DOCUMENT_WORK: u64 = 5_000_000;

/// One value made, or one operator.
pub(crate) const NODE: u64 = 50;
/// Begin of an evaluation.
pub(super) const EVALUATION: u64 = 500;

/// Most work of looking up who may take a match: its own properties are made values, and hashed for each file.
const LOOK_UP_WORK: u64 = 5_000_000;
/// Most work of one step: what is begun while there is some left, and the last thing begun.
pub const MAX_STEP_WORK: u64 = STEP_WORK + LOOK_UP_WORK + DOCUMENT_WORK + EVALUATION_WORK;

/// Counts the work of one step, on one thread at a time; requirements move between threads with their machine.
#[derive(Debug)]
pub(crate) struct Meter(AtomicU64);

impl Meter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A step begins.
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

/// What came of looking for something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Search<T> {
    /// This is the first.
    Found(T),
    /// There is none.
    Nothing,
    /// The step's work was done before it was found: look again in a later step, which goes on from there.
    Unfinished,
}

/// Work of making values of a JSON text, at most: each value but the first comes after one of four characters.
pub(super) fn of_json(text: &str) -> u64 {
    let marks = text.bytes().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count();
    text.len() as u64 + NODE * (1 + marks as u64)
}
