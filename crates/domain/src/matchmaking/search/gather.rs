//! Candidates: tickets in reach of the root, oldest first, of useful sizes.
//!
//! The mixes that fill the teams determine how many tickets of a size can be useful, so tickets that combine with
//! nobody never hide those that do, however many there are. If only sizes matter, that many of the oldest tickets of
//! each size are all that a search needs. If rules keep tickets apart, each pass takes more of them.

use alloc::vec::Vec;

use super::{
    Candidate, EVALUATION_PER_COMPARISON, Field, Flow, GROWTH, InPool, LOOK_COST, MAX_CANDIDATES, Search,
    candidate,
};
use crate::matchmaking::BrokenRule;
use crate::matchmaking::mixes::Mix;
use crate::matchmaking::pools::Waiting;
use crate::matchmaking::sizes::{Counts, Filling};

/// Additional candidates of one size in the first pass if rules keep tickets apart, beyond two for each useful one.
const CANDIDATES_OF_SIZE: usize = 32;
/// Additional players of candidates after which the first pass stops, beyond two for each of a match.
const PLAYERS: usize = 32;

/// The progress of gathering.
pub(super) struct Gather {
    /// By size, how many may be kept, and how many are.
    sizes: Vec<(u16, usize, usize)>,
    /// The place of the last ticket that was looked at.
    after: u64,
    players: usize,
    /// The number of players after which it stops.
    enough: usize,
    /// Whether it left out a ticket that may matter.
    pub(super) leaves_out: bool,
}

impl Gather {
    /// All tickets that fit a team of `per_team`, enough of each size for two matches of `most` players.
    pub(super) fn everybody(counts: &[(u16, u32)], per_team: u16, most: u32) -> Self {
        let of_size = |size: u16| 2 * most as usize / usize::from(size.max(1)) + CANDIDATES_OF_SIZE;
        let sizes = counts.iter().filter(|(size, _)| *size <= per_team);
        let sizes = sizes.map(|(size, _)| (*size, of_size(*size), 0)).collect();
        Self { sizes, after: 0, players: 0, enough: usize::MAX, leaves_out: false }
    }

    fn wants(&self, size: u16) -> bool {
        self.sizes.iter().any(|(of, most, kept)| *of == size && kept < most)
    }

    fn keep(&mut self, size: u16) {
        self.sizes.iter_mut().filter(|(of, ..)| *of == size).for_each(|(.., kept)| *kept += 1);
        self.players += usize::from(size);
    }
}

impl Search<'_> {
    /// Whether only sizes distinguish the tickets of a pool.
    fn is_plain(&self) -> bool {
        self.rules.distances() == 0 && !self.judges_pairs() && !self.rules.balances()
    }

    /// The plan of a pass; `None` if the sizes in the pool cannot fill the teams with the ticket.
    pub(super) fn useful(&mut self, search: &InPool, ticket: &Waiting) -> Option<Gather> {
        let queue = &self.rules.queue;
        let (count, least) = (queue.teams.max(1), queue.min_players_per_team.max(1));
        if self.pools.players(search.pool) < count * least {
            return None;
        }
        let full = (count * queue.players_per_team) as usize;
        let growth = usize::try_from(GROWTH.saturating_pow(search.pass)).unwrap_or(usize::MAX);
        let plain = self.is_plain();
        let beyond = |useful: usize| match plain {
            true if queue.players_per_team == least => useful,
            true => useful.saturating_mul(growth),
            false => (2 * useful + CANDIDATES_OF_SIZE).saturating_mul(growth),
        };
        let any_size = self.broken(BrokenRule::CandidatesOfOneSize);
        let enough = match full {
            _ if any_size => 2 * full + PLAYERS,
            _ if self.judges_pairs() || self.rules.balances() => usize::MAX,
            // With two players, any other one works.
            0..=2 => growth,
            _ => (2 * full + PLAYERS).saturating_mul(growth),
        };
        let sizes: Vec<(u16, usize, usize)> = if queue.players_per_team == 1 || any_size {
            let counts = self.pools.counts(search.pool).iter();
            let counts = counts.filter(|(size, _)| u32::from(*size) <= queue.players_per_team);
            counts.map(|(size, _)| (*size, beyond(full), 0)).collect()
        } else {
            let useful = self.useful_sizes(search.pool, ticket.profile.size);
            useful.into_iter().map(|(size, most)| (size, beyond(most), 0)).collect()
        };
        if sizes.is_empty() {
            return None;
        }
        Some(Gather { sizes, after: 0, players: 0, enough, leaves_out: false })
    }

    /// The sizes in the mixes that fill teams with the ticket and are available in the pool, and how many of each are
    /// useful.
    fn useful_sizes(&mut self, pool: u32, own: u16) -> Vec<(u16, usize)> {
        let queue = &self.rules.queue;
        let counts = self.pools.counts(pool);
        let teams = queue.teams.max(1);
        let mut found: Vec<(u16, usize)> = Vec::new();
        let mut cost = 0;
        for size in queue.min_players_per_team.max(1)..=queue.players_per_team {
            let Ok(size) = u16::try_from(size) else { continue };
            if size < own {
                continue;
            }
            if self.broken(BrokenRule::SmallTeamsOnly) && self.rules.mixes(size).is_none() {
                continue;
            }
            match self.rules.mixes(size) {
                Some(mixes) => {
                    cost += mixes.len() as u64;
                    mixes
                        .iter()
                        .filter(|mix| is_there(mix, counts, own))
                        .for_each(|mix| note(&mut found, mix));
                }
                None => note_unmixed(&mut found, counts, (teams, size, own), &mut cost),
            }
        }
        self.spend(cost);
        found
    }

    /// Takes candidates until there are enough, all are taken, or the budget is spent.
    pub(super) fn gather(&mut self, search: &mut InPool, gather: &mut Gather, ticket: &Waiting) -> Flow<()> {
        let Some(own) = search.field.list.first().copied() else { return Flow::Nothing };
        let mut others = {
            let relaxed = ticket.relaxed && !self.broken(BrokenRule::FewCells);
            self.pools.near(search.pool, ticket, relaxed, gather.after)
        };
        self.spend(LOOK_COST * others.looks());
        loop {
            if self.left == 0 {
                return Flow::Cut;
            }
            let Some((place, slot)) = others.next(|size| gather.wants(size)) else { break };
            self.spend(LOOK_COST);
            if let Some(waiting) = self.pools.get(slot) {
                if !gather.wants(waiting.profile.size) {
                    gather.after = place;
                    continue;
                }
                let mut next = candidate(slot, waiting, 0);
                match self.go_together(&own, &next) {
                    // It is looked at again.
                    None => return Flow::Cut,
                    Some(true) => {
                        if self.rules.prefers() {
                            next.misses =
                                self.rules.misses(&ticket.profile, &waiting.profile, self.documents);
                            self.spend(
                                self.documents.take_read()
                                    + self.rules.take_evaluated() / EVALUATION_PER_COMPARISON,
                            );
                        }
                        gather.keep(next.size);
                        search.field.list.push(next);
                    }
                    Some(false) => {}
                }
            }
            gather.after = place;
            if search.field.list.len() >= MAX_CANDIDATES {
                break;
            }
            if gather.players >= gather.enough && self.is_content(gather, own.size) {
                gather.leaves_out = true;
                break;
            }
        }
        let is_full = gather.sizes.iter().any(|(_, most, kept)| kept >= most);
        let queue = &self.rules.queue;
        let matters = !self.is_plain() || queue.players_per_team > queue.min_players_per_team;
        gather.leaves_out |= is_full && matters;
        gather.leaves_out &=
            search.field.list.len() < MAX_CANDIDATES && !self.broken(BrokenRule::CandidatesOfOneSize);
        Flow::Nothing
    }

    /// Whether the gathered sizes fill the teams.
    fn is_content(&mut self, gather: &Gather, own: u16) -> bool {
        let queue = &self.rules.queue;
        let full = queue.teams.max(1) * queue.players_per_team;
        if full <= 2 || self.broken(BrokenRule::CandidatesOfOneSize) {
            return true;
        }
        let mut sizes: Vec<(u16, u16)> = gather
            .sizes
            .iter()
            .map(|(size, _, kept)| (*size, u16::try_from(*kept).unwrap_or(u16::MAX)))
            .collect();
        if !sizes.iter().any(|(size, _)| *size == own) {
            sizes.push((own, 0));
        }
        sizes.sort_by(|a, b| b.cmp(a));
        let chosen: Counts = sizes.iter().map(|(size, _)| u16::from(*size == own)).collect();
        let (sizes, left): (Vec<u16>, Counts) = sizes.into_iter().unzip();
        let (teams, mut cost) = (queue.teams.max(1), 0);
        let found = u16::try_from(queue.players_per_team).is_ok_and(|size| {
            let mixes = self.rules.mixes(size);
            let possible: Vec<u32> = (0..mixes.map_or(0, <[Mix]>::len) as u32).collect();
            Filling { sizes: &sizes, teams, size, mixes, possible: &possible }
                .completes(&chosen, &left, &mut cost)
        });
        self.spend(cost);
        found
    }

    /// By preference, then oldest first, behind the root; each with the index of its size.
    pub(super) fn put_in_order(&self, field: &mut Field) {
        let Field { list, sizes } = field;
        let others = list.get_mut(1..).unwrap_or_default();
        others.sort_by_key(|candidate| (candidate.misses, candidate.place));
        if self.broken(BrokenRule::FormNewest) {
            others.reverse();
        }
        if self.broken(BrokenRule::FillNewest) {
            others.get_mut(1..).unwrap_or_default().reverse();
        }
        sizes.clear();
        for Candidate { size, .. } in list.iter() {
            if let Err(at) = sizes.binary_search_by(|of| size.cmp(of)) {
                sizes.insert(at, *size);
            }
        }
        for candidate in list {
            let at = sizes.binary_search_by(|of| candidate.size.cmp(of)).unwrap_or_default();
            candidate.class = u16::try_from(at).unwrap_or_default();
        }
    }
}

impl Field {
    /// The mixes that contain the root and for which there are enough candidates of each size.
    pub(super) fn possible(&self, mixes: &[Mix]) -> Vec<u32> {
        let counts = self.counts(0..self.list.len());
        let mut by_size: Vec<(u16, u32)> =
            self.sizes.iter().copied().zip(counts.into_iter().map(u32::from)).collect();
        by_size.reverse();
        let own = self.list.first().map_or(0, |own| own.size);
        let mixes = mixes.iter().enumerate().filter(|(_, mix)| is_there(mix, &by_size, own));
        mixes.filter_map(|(at, _)| u32::try_from(at).ok()).collect()
    }
}

/// Whether there are as many tickets of each size as a mix needs, and it has one of the size `own`. Counts are by size.
fn is_there(mix: &Mix, counts: &[(u16, u32)], own: u16) -> bool {
    let mut counts = counts.iter().peekable();
    let enough = |(at, needs): (usize, &u16)| {
        let size = at + 1;
        while counts.next_if(|(of, _)| usize::from(*of) < size).is_some() {}
        let there = counts.peek().filter(|(of, _)| usize::from(*of) == size).map_or(0, |(_, count)| *count);
        u32::from(*needs) <= there
    };
    mix.get(usize::from(own).wrapping_sub(1)).is_some_and(|needs| *needs > 0)
        && mix.iter().enumerate().all(enough)
}

fn note(found: &mut Vec<(u16, usize)>, mix: &Mix) {
    for (size, needs) in (1..).zip(mix.iter()).filter(|(_, needs)| **needs > 0) {
        raise(found, size, usize::from(*needs));
    }
}

fn raise(found: &mut Vec<(u16, usize)>, size: u16, most: usize) {
    match found.iter_mut().find(|(of, _)| *of == size) {
        Some((_, known)) => *known = most.max(*known),
        None => found.push((size, most)),
    }
}

/// All sizes that fit a team, if the teams can be filled with everything that is there.
fn note_unmixed(
    found: &mut Vec<(u16, usize)>,
    counts: &[(u16, u32)],
    (teams, size, own): (u32, u16, u16),
    cost: &mut u64,
) {
    let most = |of: u16| teams as usize * usize::from(size / of.max(1));
    let there: Vec<(u16, usize)> = counts
        .iter()
        .rev()
        .filter(|(of, _)| *of <= size)
        .map(|(of, count)| (*of, most(*of).min(*count as usize)))
        .collect();
    let sizes: Vec<u16> = there.iter().map(|(of, _)| *of).collect();
    let chosen: Counts = sizes.iter().map(|of| u16::from(*of == own)).collect();
    let left = there.iter().map(|(of, count)| count.saturating_sub(usize::from(*of == own)));
    let left: Counts = left.map(|count| u16::try_from(count).unwrap_or(u16::MAX)).collect();
    let filling = Filling { sizes: &sizes, teams, size, mixes: None, possible: &[] };
    if filling.completes(&chosen, &left, cost) {
        there.into_iter().for_each(|(of, _)| raise(found, of, most(of)));
    }
}
