//! Tries every combination of candidates, in their order; each step keeps only those that go with all chosen so far.

use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::{Candidate, Field, Flow, Goal, Made, Search, Stage};
use crate::matchmaking::sizes::Counts;

/// Its progress.
#[derive(Default)]
pub(super) struct Exhaust {
    /// The chosen tickets besides the root: one for each of the frames except the last.
    chosen: Vec<u16>,
    frames: Vec<Frame>,
    /// Comparisons spent.
    pub(super) spent: u64,
}

/// The candidates that go with all that are chosen, from the last of these on.
struct Frame {
    rest: Vec<u16>,
    at: usize,
    players: u32,
    counts: Counts,
    /// Whether one of the chosen ones asks for a team as small as this.
    asked_for: bool,
}

/// Those that go with one more chosen ticket.
struct Rest {
    list: Vec<u16>,
    counts: Counts,
    asked_for: bool,
}

impl Exhaust {
    pub(super) fn bytes(&self) -> usize {
        let frames = self
            .frames
            .iter()
            .map(|frame| mem::size_of::<Frame>() + 2 * frame.rest.len() + 2 * frame.counts.len());
        mem::size_of::<Self>() + frames.sum::<usize>()
    }

    /// Goes back to the deepest choice in which all tickets still wait. With only the root chosen, there is one frame.
    pub(super) fn forget(&mut self, field: &Field, is_here: impl Fn(u16) -> bool) {
        let whole = self.chosen.iter().position(|index| !is_here(*index)).unwrap_or(self.chosen.len());
        if whole < self.chosen.len() && !field.list.is_empty() {
            self.chosen.truncate(whole);
            self.frames.truncate(whole + 1);
        }
    }
}

impl Search<'_> {
    /// What follows if taking the candidates one after the other failed.
    pub(super) fn exhaust_next(&self, field: &Field, goal: Goal) -> Stage {
        let Some(own) = field.list.first() else { return Stage::Done };
        let rest = (1..field.list.len()).filter_map(|at| u16::try_from(at).ok()).collect();
        let mut counts: Counts = vec![0; field.sizes.len()];
        bump(&mut counts, own, 1);
        let asked_for = own.wanted <= goal.wanted;
        let frame = Frame { rest, at: 0, players: u32::from(own.size), counts, asked_for };
        Stage::Exhaust(goal, Exhaust { chosen: Vec::new(), frames: Vec::from([frame]), spent: 0 })
    }

    /// Continues until this much was spent on it.
    pub(super) fn exhaust(
        &mut self,
        field: &Field,
        goal: &Goal,
        state: &mut Exhaust,
        most: u64,
    ) -> Flow<Made> {
        loop {
            if self.left == 0 || state.spent >= most {
                return Flow::Cut;
            }
            let before = self.cost;
            let flow = self.combine(field, goal, state);
            state.spent += self.cost - before;
            if let Some(flow) = flow {
                return flow;
            }
        }
    }

    /// One step towards the next combination; `None` if it needs more steps.
    fn combine(&mut self, field: &Field, goal: &Goal, state: &mut Exhaust) -> Option<Flow<Made>> {
        let Some(frame) = state.frames.last_mut() else { return Some(Flow::Nothing) };
        self.spend(1);
        let needs = goal.players - frame.players;
        let Some(index) = frame.rest.get(frame.at).copied().filter(|_| needs > 0) else {
            state.frames.pop();
            state.chosen.pop();
            return None;
        };
        let next =
            field.get(index).copied().filter(|next| u32::from(next.size) <= needs && self.is_here(next));
        let Some(next) = next else {
            frame.at += 1;
            return None;
        };
        let behind = frame.rest.get(frame.at + 1..).unwrap_or_default();
        let Some(rest) = self.beside(field, goal, &next, behind, needs) else { return Some(Flow::Cut) };
        frame.at += 1;
        let asked_for = frame.asked_for || next.wanted <= goal.wanted;
        let (mut counts, players) = (frame.counts.clone(), frame.players + u32::from(next.size));
        bump(&mut counts, &next, 1);
        let mut cost = 0;
        let completes = (asked_for || rest.asked_for)
            && self.filling(field, goal).completes(&counts, &rest.counts, &mut cost);
        self.spend(cost);
        if !completes {
            return None;
        }
        if players == goal.players {
            if !asked_for {
                return None;
            }
            let chosen: Vec<u16> =
                [0].into_iter().chain(state.chosen.iter().copied()).chain([index]).collect();
            return self.fill(field, goal, &chosen).map(Flow::Found);
        }
        state.chosen.push(index);
        state.frames.push(Frame { rest: rest.list, at: 0, players, counts, asked_for });
        None
    }

    /// Those of `behind` that go with `next` as well; `None` if the budget is too small to say.
    fn beside(
        &mut self,
        field: &Field,
        goal: &Goal,
        next: &Candidate,
        behind: &[u16],
        needs: u32,
    ) -> Option<Rest> {
        let room = needs - u32::from(next.size);
        let mut rest = Rest { list: Vec::new(), counts: vec![0; field.sizes.len()], asked_for: false };
        self.spend(1 + behind.len() as u64);
        if room == 0 {
            return Some(rest);
        }
        rest.list.reserve(behind.len());
        for index in behind {
            let Some(other) = field.get(*index).copied() else { continue };
            if u32::from(other.size) <= room && self.go_together(next, &other)? {
                rest.list.push(*index);
                bump(&mut rest.counts, &other, 1);
                rest.asked_for |= other.wanted <= goal.wanted;
            }
        }
        Some(rest)
    }
}

fn bump(counts: &mut Counts, candidate: &Candidate, by: u16) {
    if let Some(count) = counts.get_mut(usize::from(candidate.class)) {
        *count += by;
    }
}
