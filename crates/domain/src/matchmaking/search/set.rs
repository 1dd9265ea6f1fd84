//! Tickets that are chosen one after the other, and whether one more goes with all of them.
//!
//! Numbers and blocked players are compared with the combined limits of all chosen tickets, not ticket by ticket: a
//! match of a thousand is chosen in one pass.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::Candidate;
use crate::matchmaking::settings::MAX_DISTANCES;
use crate::matchmaking::sizes::Counts;

/// A number within this relative distance of a combined limit is compared with each ticket's: sums of numbers are
/// rounded.
const ROUNDING: f64 = 1e-9;

/// The result of comparing a number with the chosen tickets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    Within,
    Beyond,
    /// So close to a limit that each ticket must be compared.
    AtTheEnd,
}

/// The chosen tickets, as indexes of candidates, and their combined limits.
#[derive(Clone, Default)]
pub(super) struct Set {
    pub(super) chosen: Vec<u16>,
    /// By size.
    pub(super) counts: Counts,
    pub(super) players: u32,
    /// The smallest team size that one of them asks for.
    pub(super) wanted: u32,
    numbers: Vec<Number>,
    /// Hashes of the chosen players, and of those that they block.
    pub(super) inside: BTreeSet<u64>,
    pub(super) blocked: BTreeSet<u64>,
}

/// The combined limits of one number.
#[derive(Clone, Copy)]
struct Number {
    /// The minimum and maximum of their own numbers.
    least: f64,
    most: f64,
    /// The range that is within the windows of all.
    from: f64,
    to: f64,
}

impl Set {
    pub(super) fn new(classes: usize, distances: usize) -> Self {
        let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
        let number = Number { least: high, most: low, from: low, to: high };
        Self {
            counts: vec![0; classes],
            numbers: vec![number; distances.min(MAX_DISTANCES)],
            wanted: u32::MAX,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, index: u16, candidate: &Candidate) {
        self.chosen.push(index);
        if let Some(count) = self.counts.get_mut(usize::from(candidate.class)) {
            *count += 1;
        }
        self.players += u32::from(candidate.size);
        self.wanted = self.wanted.min(candidate.wanted);
        for (number, (value, window)) in self.numbers.iter_mut().zip(candidate.numbers()) {
            number.least = number.least.min(value);
            number.most = number.most.max(value);
            number.from = number.from.max(value - window);
            number.to = number.to.min(value + window);
        }
    }

    /// Whether a candidate's numbers are within the windows of all chosen ones, and theirs within its own.
    pub(super) fn reaches(&self, candidate: &Candidate) -> Reach {
        let mut found = Reach::Within;
        for (number, (value, window)) in self.numbers.iter().zip(candidate.numbers()) {
            if (value - number.least).abs() > window || (value - number.most).abs() > window {
                return Reach::Beyond;
            }
            let slack = ROUNDING * (1.0 + value.abs());
            if value < number.from - slack || value > number.to + slack {
                return Reach::Beyond;
            }
            if value < number.from + slack || value > number.to - slack {
                found = Reach::AtTheEnd;
            }
        }
        found
    }
}
