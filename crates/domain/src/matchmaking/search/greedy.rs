//! Takes candidates one after the other: each that goes with all taken ones, if the sizes of the remaining ones can
//! complete them.
//!
//! In most pools this is enough, and it takes one pass over the candidates, however large the match is.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::{Candidate, Field, Flow, Goal, Reach, Search, Set, near};
use crate::matchmaking::BrokenRule;
use crate::matchmaking::rules::Ruleset;
use crate::matchmaking::sizes::Counts;

/// Its progress.
pub(super) struct Greedy {
    /// Indexes of candidates, in the order in which they were taken.
    pub(super) order: Vec<u16>,
    at: usize,
    set: Set,
    /// The number of remaining candidates of each size.
    left: Counts,
    /// Sizes of which no more can be used: the chosen tickets leave no room for them, and never will again.
    closed: Vec<bool>,
}

impl Greedy {
    /// Starts with the root chosen.
    pub(super) fn of(order: Vec<u16>, field: &Field, rules: &Ruleset) -> Self {
        let mut left: Counts = vec![0; field.sizes.len()];
        for candidate in order.iter().filter_map(|index| field.get(*index)) {
            if let Some(count) = left.get_mut(usize::from(candidate.class)) {
                *count += 1;
            }
        }
        let closed = vec![false; field.sizes.len()];
        let set = Set::new(field.sizes.len(), rules.distances());
        Self { order, at: 0, set, left, closed }
    }

    pub(super) fn chosen(&self) -> &[u16] {
        &self.set.chosen
    }

    pub(super) fn bytes(&self) -> usize {
        let hashes = self.set.inside.len() + self.set.blocked.len();
        mem::size_of::<Self>() + 2 * self.order.len() + 4 * self.set.chosen.len() + 16 * hashes
    }

    fn is_closed(&self, class: u16) -> bool {
        self.closed.get(usize::from(class)).copied().unwrap_or_default()
    }

    /// Moves on from a candidate.
    fn pass(&mut self, candidate: &Candidate) {
        self.at += 1;
        if let Some(count) = self.left.get_mut(usize::from(candidate.class)) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Search<'_> {
    /// The candidates that fill the teams.
    pub(super) fn greedy(&mut self, field: &Field, goal: &Goal, greedy: &mut Greedy) -> Flow<Vec<u16>> {
        if greedy.set.chosen.is_empty()
            && let Some(own) = field.list.first()
        {
            self.take(field, &mut greedy.set, 0, own);
        }
        while greedy.set.players < goal.players {
            let Some(index) = greedy.order.get(greedy.at).copied() else { return Flow::Nothing };
            if self.left == 0 {
                return Flow::Cut;
            }
            self.spend(1);
            let Some(next) = field.get(index).copied() else { return Flow::Nothing };
            if greedy.is_closed(next.class)
                || u32::from(next.size) > goal.players - greedy.set.players
                || !self.is_here(&next)
            {
                greedy.pass(&next);
                continue;
            }
            let Some(fits) = self.joins(field, &greedy.set, &next) else { return Flow::Cut };
            greedy.pass(&next);
            if !fits {
                continue;
            }
            if self.completes(field, goal, greedy, &next) {
                self.take(field, &mut greedy.set, index, &next);
            } else if let Some(closed) = greedy.closed.get_mut(usize::from(next.class)) {
                *closed = true;
            }
        }
        if greedy.set.wanted > goal.wanted {
            return Flow::Nothing;
        }
        Flow::Found(greedy.set.chosen.clone())
    }

    /// Whether the remaining candidates can complete the chosen ones and `next`.
    fn completes(&mut self, field: &Field, goal: &Goal, greedy: &mut Greedy, next: &Candidate) -> bool {
        let class = usize::from(next.class);
        let mut bump = |by: fn(u16) -> u16| {
            if let Some(count) = greedy.set.counts.get_mut(class) {
                *count = by(*count);
            }
        };
        bump(|count| count + 1);
        let mut cost = 0;
        let found = self.filling(field, goal).completes(&greedy.set.counts, &greedy.left, &mut cost);
        let mut bump = |by: fn(u16) -> u16| {
            if let Some(count) = greedy.set.counts.get_mut(class) {
                *count = by(*count);
            }
        };
        bump(|count| count - 1);
        self.spend(cost);
        found
    }

    pub(super) fn take(&mut self, field: &Field, set: &mut Set, index: u16, candidate: &Candidate) {
        set.add(index, candidate);
        if !self.judges_pairs() || field.list.is_empty() {
            return;
        }
        if let Some(waiting) = self.pools.get(candidate.slot) {
            let blocked = self.rules.blocked_by(&waiting.profile);
            let players = waiting.profile.players();
            self.spend(4 * (blocked.len() + players.len()) as u64);
            set.inside.extend(players);
            set.blocked.extend(blocked);
        }
    }

    /// Whether a candidate goes with all chosen ones; `None` if the budget is too small to say.
    pub(super) fn joins(&mut self, field: &Field, set: &Set, next: &Candidate) -> Option<bool> {
        let distances = self.rules.distances();
        self.spend(distances as u64);
        if !self.broken(BrokenRule::ForgetDistance) {
            match set.reaches(next) {
                Reach::Beyond => return Some(false),
                Reach::Within => {}
                Reach::AtTheEnd => {
                    self.spend(set.chosen.len() as u64);
                    let mut chosen = set.chosen.iter().filter_map(|index| field.get(*index));
                    if !chosen.all(|other| near(other, next, distances)) {
                        return Some(false);
                    }
                }
            }
        }
        if !self.judges_pairs() {
            return Some(true);
        }
        let pools = self.pools;
        let Some(waiting) = pools.get(next.slot) else { return Some(false) };
        if self.is_blocked(set, waiting) {
            return Some(false);
        }
        if self.rules.requires() {
            for index in &set.chosen {
                let other = field.get(*index).and_then(|other| pools.get(other.slot));
                if !self.meets(other?, waiting)? {
                    return Some(false);
                }
            }
        }
        Some(true)
    }

    /// Whether a chosen ticket and this one have blocked each other, in either direction.
    fn is_blocked(&mut self, set: &Set, ticket: &crate::matchmaking::pools::Waiting) -> bool {
        let (players, blocked) = (ticket.profile.players(), self.rules.blocked_by(&ticket.profile));
        self.spend(1 + 2 * (players.len() + blocked.len().min(set.inside.len())) as u64);
        let blocks = if blocked.len() < set.inside.len() {
            blocked.iter().any(|whom| set.inside.contains(whom))
        } else {
            set.inside.iter().any(|whom| blocked.binary_search(whom).is_ok())
        };
        blocks || players.iter().any(|player| set.blocked.contains(player))
    }
}
