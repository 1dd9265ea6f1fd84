//! Candidates with similar ratings: if teams must be even, or tickets close to one another, the root's neighbours in
//! rating may make a match when the oldest do not.
//!
//! The candidates are sorted by rating and taken one after the other from some position below the root on; each of
//! those positions is tried in turn. So a ticket that fits with nobody does not keep others from playing. The match
//! found may have younger tickets than necessary: they are replaced by older ones while it stays a valid match.

use alloc::vec::Vec;
use core::mem;

use super::{BrokenRule, Field, Flow, Goal, Greedy, Made, Search};

/// Maximum number of players of a match for which every starting position is tried; in larger ones, this many evenly
/// spaced ones.
const PLACES: usize = 64;
/// Comparisons that are spent on letting older tickets in.
const GIVING_WAY: u64 = 60_000;
/// How many tickets from the starting position on are considered, per player of a match.
const REACH: usize = 3;

/// Its progress.
pub(super) struct Windows {
    /// Indexes of candidates by rating, including the root's.
    sorted: Vec<u16>,
    /// The position of the root among them.
    root: usize,
    /// How far below the root it begins.
    below: usize,
    greedy: Option<Greedy>,
}

impl Windows {
    /// `None` if no number distinguishes the candidates.
    pub(super) fn over(search: &Search<'_>, field: &Field) -> Option<Self> {
        let balances = search.rules.balances();
        let numbers = balances || search.rules.distances() > 0;
        if !numbers || search.broken(BrokenRule::OutlierKeepsAll) {
            return None;
        }
        let key = |index: u16| {
            let candidate = field.get(index);
            let waiting =
                candidate.filter(|_| balances).and_then(|candidate| search.pools.get(candidate.slot));
            let rating =
                waiting.map(|waiting| waiting.profile.rating / f64::from(waiting.profile.size.max(1)));
            rating.or_else(|| candidate?.values.first().copied()).unwrap_or_default()
        };
        let mut sorted: Vec<(f64, u16)> = (0..field.list.len())
            .filter_map(|at| u16::try_from(at).ok())
            .map(|index| (key(index), index))
            .collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let sorted: Vec<u16> = sorted.into_iter().map(|(_, index)| index).collect();
        let root = sorted.iter().position(|index| *index == 0)?;
        Some(Self { sorted, root, below: 0, greedy: None })
    }

    pub(super) fn bytes(&self) -> usize {
        2 * self.sorted.len() + self.greedy.as_ref().map_or(0, Greedy::bytes)
    }

    pub(super) fn forget(&mut self, is_here: impl Fn(u16) -> bool) {
        if self.greedy.as_ref().is_some_and(|greedy| !greedy.chosen().iter().all(|index| is_here(*index))) {
            self.greedy = None;
        }
    }

    /// Those from the starting position on, without the root.
    fn order(&self, players: usize) -> Option<Vec<u16>> {
        let from = self.root.checked_sub(self.below)?;
        let behind = self.sorted.get(from..)?.iter().copied().filter(|index| *index != 0);
        Some(behind.take(REACH * players).collect())
    }
}

impl Search<'_> {
    /// A match of tickets that are close to one another.
    pub(super) fn windows(&mut self, field: &Field, goal: &Goal, state: &mut Windows) -> Flow<Made> {
        let players = goal.players as usize;
        let stride = players.div_ceil(PLACES).max(1);
        while state.below < players {
            if self.left == 0 {
                return Flow::Cut;
            }
            let mut greedy = match state.greedy.take() {
                Some(greedy) => greedy,
                None => {
                    let Some(order) = state.order(players) else { break };
                    self.spend(1 + order.len() as u64 / 4);
                    Greedy::of(order, field, self.rules)
                }
            };
            match self.greedy(field, goal, &mut greedy) {
                Flow::Cut => {
                    state.greedy = Some(greedy);
                    return Flow::Cut;
                }
                Flow::Found(chosen) => {
                    if let Some(teams) = self.fill(field, goal, &chosen) {
                        return Flow::Found(self.let_older_in(field, goal, chosen, teams));
                    }
                }
                Flow::Nothing => {}
            }
            state.below += stride;
        }
        Flow::Nothing
    }

    /// The same match, with younger tickets replaced by older ones if they fit.
    fn let_older_in(&mut self, field: &Field, goal: &Goal, mut chosen: Vec<u16>, mut teams: Made) -> Made {
        let begun = self.cost;
        'again: loop {
            chosen.sort_unstable();
            for older in (1..field.list.len()).filter_map(|at| u16::try_from(at).ok()) {
                if chosen.binary_search(&older).is_ok() {
                    continue;
                }
                for at in (0..chosen.len()).rev() {
                    if self.cost - begun > GIVING_WAY {
                        return teams;
                    }
                    let Some(younger) = chosen.get(at).copied().filter(|younger| *younger > older) else {
                        break;
                    };
                    let Some(instead) = self.instead(field, goal, &chosen, younger, older) else { continue };
                    if let Some(made) = self.fill(field, goal, &instead) {
                        teams = made;
                        let _ = mem::replace(&mut chosen, instead);
                        continue 'again;
                    }
                }
            }
            return teams;
        }
    }

    /// The chosen ones with `older` in the place of `younger`, if they go together.
    fn instead(
        &mut self,
        field: &Field,
        goal: &Goal,
        chosen: &[u16],
        younger: u16,
        older: u16,
    ) -> Option<Vec<u16>> {
        self.spend(1);
        let (out, new) = (field.get(younger)?, *field.get(older)?);
        if out.size != new.size || !self.is_here(&new) {
            return None;
        }
        let mut wanted = new.wanted;
        let mut instead = Vec::with_capacity(chosen.len());
        for index in chosen.iter().copied().filter(|index| *index != younger) {
            let other = *field.get(index)?;
            self.spend(1);
            if !self.go_together(&other, &new)? {
                return None;
            }
            wanted = wanted.min(other.wanted);
            instead.push(index);
        }
        instead.push(older);
        (wanted <= goal.wanted).then_some(instead)
    }
}
