//! Is there a match for this ticket, and of whom?
//!
//! A match that has become possible holds a ticket that came or demands less than before. So each such ticket is looked
//! at once, and only for matches with itself in them; all else was looked at earlier. Candidates come oldest first
//! and are tried in that order, each time with only those left that go with all chosen so far. On a pool of a few dozen
//! tickets in reach that is exhaustive; beyond that it stops at a stated number of steps.
//!
//! Of the matches in several pools, the one with the oldest ticket is taken, and not the one in the best region: where
//! there are always others in a better region, somebody who bears one region only would wait for ever.

use alloc::vec::Vec;

use super::documents::Documents;
use super::forming::BYTES_PER_COMPARISON;
use super::packing::{Item, Mix, Teams, pack};
use super::pools::{Pools, Slot, Waiting};
use super::rules::Ruleset;
use super::settings::MAX_DISTANCES;
use super::{BrokenRule, is_broken};

use crate::broker::model::MAX_PLAYERS;
use crate::ids::RegionId;

/// Tickets in a pool that one search looks at, beyond four for each player of the match.
pub(crate) const LOOKS_PER_SEARCH: usize = 256;
/// Candidates of one size that one search keeps, beyond two for each that a match can hold.
const CANDIDATES_OF_SIZE: usize = 32;
/// Comparisons that one search makes at most, in all pools of its ticket: in each, half of what is left.
const COMPARISONS_PER_SEARCH: u64 = 80_000;
/// What looking at a ticket costs, in comparisons of two numbers.
const LOOK_COST: u64 = 16;
/// What comparing two tickets by an expression or a list costs, likewise.
const PAIR_COST: u64 = 400;
/// What a step of filling teams costs, likewise.
const PACK_COST: u64 = 20;

/// A match that can be formed.
pub(crate) struct Found {
    /// Tickets, by team.
    pub(crate) teams: Vec<Vec<Slot>>,
    pub(crate) region: Option<RegionId>,
}

/// What a search may find.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Aim {
    /// Teams of one size, no smaller than one of their tickets asks for.
    Equal,
    /// Whoever is there, with teams of at least the minimum: for a ticket that expires.
    Last,
}

/// Looks for matches; counts what that costs.
pub(crate) struct Search<'a> {
    pools: &'a Pools,
    rules: &'a Ruleset,
    documents: &'a Documents,
    /// Comparisons made, in all.
    pub(crate) cost: u64,
    /// Whether a search ended before it had seen everything.
    pub(crate) cut: bool,
    /// Comparisons that are left for all pools, and for the one that is searched.
    budget: u64,
    left: u64,
    broken: Option<BrokenRule>,
}

#[derive(Clone, Copy)]
struct Candidate {
    slot: Slot,
    size: u16,
    misses: u8,
    place: u64,
    wanted: u32,
    values: [f64; MAX_DISTANCES],
    windows: [f64; MAX_DISTANCES],
}

/// One attempt: candidates, and the teams that are to be filled.
struct Attempt<'a> {
    candidates: &'a [Candidate],
    teams: Teams,
    players: u32,
    /// Somebody in it must ask for a team no larger than this.
    wanted: u32,
    mixes: Option<Vec<&'a Mix>>,
    chosen: Vec<u16>,
    counts: Vec<u16>,
}

impl<'a> Search<'a> {
    pub(crate) const fn new(
        pools: &'a Pools,
        rules: &'a Ruleset,
        documents: &'a Documents,
        broken: Option<BrokenRule>,
    ) -> Self {
        Self { pools, rules, documents, cost: 0, cut: false, budget: COMPARISONS_PER_SEARCH, left: 0, broken }
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        is_broken(self.broken, rule)
    }

    /// The match for the ticket, if there is one.
    pub(crate) fn find(&mut self, slot: Slot, aim: Aim) -> Option<Found> {
        let ticket = self.pools.get(slot)?;
        let queue = &self.rules.queue;
        if aim == Aim::Equal
            && (queue.players_per_team == 0 || u32::from(ticket.profile.size) > queue.players_per_team)
        {
            return None;
        }
        let mut oldest: Option<(u64, u32, Vec<Vec<Slot>>)> = None;
        for pool in &ticket.pools {
            let share = self.budget / 2;
            self.left = share;
            let teams = self.find_in(*pool, slot, ticket, aim);
            self.budget = self.budget.saturating_sub(share - self.left);
            let Some(teams) = teams else { continue };
            let others = teams.iter().flatten().filter(|other| **other != slot);
            let places = others.filter_map(|other| Some(self.pools.get(*other)?.profile.place));
            let place = places.min().unwrap_or(u64::MAX);
            let is_older = |of_other: u64| (place < of_other) != self.broken(BrokenRule::FormElsewhere);
            if oldest.as_ref().is_none_or(|(of_other, ..)| is_older(*of_other)) {
                oldest = Some((place, *pool, teams));
            }
        }
        let (_, pool, teams) = oldest?;
        let region = self.best_region(&teams, self.pools.region(pool));
        Some(Found { teams, region })
    }

    fn find_in(&mut self, pool: u32, slot: Slot, ticket: &Waiting, aim: Aim) -> Option<Vec<Vec<Slot>>> {
        self.spend(LOOK_COST);
        let queue = &self.rules.queue;
        let least = queue.teams.max(1) * queue.min_players_per_team.max(1);
        if self.pools.players(pool) < least {
            return None;
        }
        if aim == Aim::Equal && !self.sizes_can_do(pool) {
            return None;
        }
        let candidates = self.candidates(pool, slot, ticket)?;
        match aim {
            Aim::Equal => self.equal_teams(&candidates),
            Aim::Last if queue.teams <= 1 => self.whoever_is_there(&candidates),
            Aim::Last => self.uneven_teams(&candidates),
        }
    }

    /// Whether the sizes in a pool can fill teams at all.
    fn sizes_can_do(&mut self, pool: u32) -> bool {
        let queue = &self.rules.queue;
        if queue.teams.max(1) * queue.players_per_team <= 2 {
            // Whoever is in the pool besides the ticket will do.
            return true;
        }
        let Ok(most) = u16::try_from(queue.players_per_team) else { return true };
        let counts: Vec<u32> = (1..=most).map(|size| self.pools.count(pool, size)).collect();
        let mut sizes = queue.min_players_per_team.max(1)..=queue.players_per_team;
        let mut looked = 0;
        let found = sizes.any(|size| {
            let mixes = u16::try_from(size).ok().and_then(|size| self.rules.mixes(size));
            let Some(mixes) = mixes else { return true };
            mixes.iter().any(|mix| {
                looked += 1;
                mix.iter().zip(&counts).all(|(needs, has)| u32::from(*needs) <= *has)
            })
        });
        self.spend(looked);
        found
    }

    /// The ticket itself, then those that go with it: by preference, then oldest first.
    fn candidates(&mut self, pool: u32, slot: Slot, ticket: &Waiting) -> Option<Vec<Candidate>> {
        let own = candidate(slot, ticket, 0);
        let most = self.rules.queue.full().unwrap_or(MAX_PLAYERS as u32) as usize;
        let per_team = self.rules.queue.players_per_team;
        let largest = if per_team == 0 { u16::MAX } else { u16::try_from(per_team).unwrap_or(u16::MAX) };
        let looks = LOOKS_PER_SEARCH + 4 * most;
        // Enough for two matches, where all that matters are numbers; of two players, any other one will do.
        let enough = match most {
            _ if self.rules.compares_pairs() || self.rules.balances() => usize::MAX,
            0..=2 => 1,
            _ => 2 * most + CANDIDATES_OF_SIZE,
        };
        let mut kept: alloc::collections::BTreeMap<u16, usize> = alloc::collections::BTreeMap::new();
        let mut found = Vec::new();
        let (mut looked, mut players) = (0, 0);
        let others = self.pools.near(pool, ticket);
        self.spend(LOOK_COST * others.looks());
        for other in others {
            looked += 1;
            if looked > looks || self.left == 0 {
                self.cut = true;
                break;
            }
            let Some(waiting) = self.pools.get(other) else { continue };
            let mut next = candidate(other, waiting, 0);
            if next.size > largest {
                continue;
            }
            let of_size = kept.entry(next.size).or_default();
            if *of_size >= CANDIDATES_OF_SIZE + 2 * most / usize::from(next.size.max(1)) {
                self.cut = true;
                if players > 4 * most + LOOKS_PER_SEARCH {
                    break;
                }
                continue;
            }
            if !self.near(&own, &next) || !self.pair_fits(ticket, waiting) {
                continue;
            }
            if self.rules.compares_pairs() {
                next.misses = self.rules.misses(&ticket.profile, &waiting.profile, self.documents);
                self.spend(self.documents.take_read());
            }
            *of_size += 1;
            players += usize::from(next.size);
            found.push(next);
            if players >= enough {
                self.cut |= most > 2;
                break;
            }
        }
        self.spend(looked as u64 * LOOK_COST);
        found.sort_by_key(|candidate| (candidate.misses, candidate.place));
        if self.broken(BrokenRule::FormNewest) {
            found.reverse();
        }
        if self.broken(BrokenRule::FillNewest) {
            found.get_mut(1..).unwrap_or_default().reverse();
        }
        found.insert(0, own);
        Some(found)
    }

    fn pair_fits(&mut self, one: &Waiting, other: &Waiting) -> bool {
        if !self.rules.compares_pairs() || self.broken(BrokenRule::ForgetPairs) {
            return true;
        }
        let judged = one.profile.judged + other.profile.judged;
        let fits = self.rules.pair_fits(&one.profile, &other.profile, self.documents);
        self.spend(PAIR_COST + judged as u64 / BYTES_PER_COMPARISON + self.documents.take_read());
        fits
    }

    fn spend(&mut self, cost: u64) {
        self.cost += cost;
        self.left = self.left.saturating_sub(cost);
    }

    /// The largest teams of one size for which somebody asks.
    fn equal_teams(&mut self, candidates: &[Candidate]) -> Option<Vec<Vec<Slot>>> {
        let queue = &self.rules.queue;
        let count = queue.teams.max(1);
        let (least, most) = (queue.min_players_per_team.max(1), queue.players_per_team);
        let any_size = self.broken(BrokenRule::ForgetSize);
        for size in (least..=most).rev() {
            if !any_size && !candidates.iter().any(|candidate| candidate.wanted <= size) {
                continue;
            }
            let Ok(per_team) = u16::try_from(size) else { continue };
            let teams = Teams { count, least: per_team, most: per_team };
            let mixes = self.rules.mixes(per_team);
            let wanted = if any_size { u32::MAX } else { size };
            if let Some(found) = self.attempt(candidates, teams, count * size, wanted, mixes) {
                return Some(found);
            }
        }
        None
    }

    /// As many as there are, as long as no team is too small or too large.
    fn uneven_teams(&mut self, candidates: &[Candidate]) -> Option<Vec<Vec<Slot>>> {
        let queue = &self.rules.queue;
        let (count, least) = (queue.teams, queue.min_players_per_team.max(1));
        let players: u32 = candidates.iter().map(|candidate| u32::from(candidate.size)).sum();
        let (Ok(low), Ok(high)) = (u16::try_from(least), u16::try_from(queue.players_per_team)) else {
            return None;
        };
        let teams = Teams { count, least: low, most: high };
        let most = queue.full().unwrap_or(players).min(players);
        (count * least..=most)
            .rev()
            .find_map(|wanted| self.attempt(candidates, teams, wanted, u32::MAX, None))
    }

    /// One team of whoever goes together, the oldest first.
    fn whoever_is_there(&mut self, candidates: &[Candidate]) -> Option<Vec<Vec<Slot>>> {
        let queue = &self.rules.queue;
        let most = queue.full().unwrap_or(MAX_PLAYERS as u32);
        let (mut chosen, mut players): (Vec<Candidate>, u32) = (Vec::new(), 0);
        for next in candidates {
            if self.left == 0 {
                self.cut = true;
                break;
            }
            self.spend(1 + chosen.len() as u64 / 4);
            let fits = players + u32::from(next.size) <= most
                && chosen.iter().all(|other| self.go_together(other, next));
            if fits {
                players += u32::from(next.size);
                chosen.push(*next);
            }
        }
        chosen.sort_by_key(|candidate| candidate.place);
        let enough = players >= queue.min_players_per_team.max(1);
        enough.then(|| Vec::from([chosen.into_iter().map(|candidate| candidate.slot).collect()]))
    }

    /// Fills the teams with the first candidate and others.
    fn attempt(
        &mut self,
        candidates: &[Candidate],
        teams: Teams,
        players: u32,
        wanted: u32,
        mixes: Option<&[Mix]>,
    ) -> Option<Vec<Vec<Slot>>> {
        let own = candidates.first()?;
        if own.size > teams.most {
            return None;
        }
        self.spend(mixes.map_or(0, |mixes| mixes.len() as u64) + candidates.len() as u64 / 8);
        if self.left == 0 {
            self.cut = true;
            return None;
        }
        let mixes = mixes.map(|mixes| possible(mixes, candidates));
        if mixes.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let counts = alloc::vec![0; usize::from(teams.most)];
        let mut attempt = Attempt { candidates, teams, players, wanted, mixes, chosen: Vec::new(), counts };
        let rest: Vec<u16> = (1..candidates.len()).filter_map(|at| u16::try_from(at).ok()).collect();
        attempt.choose(0);
        if !attempt.sizes_fit() {
            return None;
        }
        self.extend(&mut attempt, &rest, u32::from(own.size), own.wanted <= wanted)
    }

    /// Adds candidates of `rest`, all of which go with everyone chosen so far.
    fn extend(
        &mut self,
        attempt: &mut Attempt<'_>,
        rest: &[u16],
        players: u32,
        asked_for: bool,
    ) -> Option<Vec<Vec<Slot>>> {
        let needs = attempt.players - players;
        if needs == 0 {
            return if asked_for { self.fill(attempt) } else { None };
        }
        for (at, index) in rest.iter().enumerate() {
            if self.left == 0 {
                self.cut = true;
                return None;
            }
            let Some(next) = attempt.candidates.get(usize::from(*index)).copied() else { continue };
            if u32::from(next.size) > needs {
                continue;
            }
            let asked_for = asked_for || next.wanted <= attempt.wanted;
            let left = self.compatible(attempt, &next, rest.get(at + 1..).unwrap_or_default(), needs);
            let enough = u32::from(next.size) + left.1 >= needs && (asked_for || left.2);
            if !enough {
                continue;
            }
            attempt.choose(*index);
            self.spend(attempt.mixes.as_ref().map_or(0, |mixes| mixes.len() as u64));
            if attempt.sizes_fit()
                && let Some(found) = self.extend(attempt, &left.0, players + u32::from(next.size), asked_for)
            {
                return Some(found);
            }
            attempt.unchoose();
        }
        None
    }

    /// Those of `rest` that go with `next` as well, how many players they are, and whether one of them asks for a team
    /// as small as this.
    fn compatible(
        &mut self,
        attempt: &Attempt<'_>,
        next: &Candidate,
        rest: &[u16],
        needs: u32,
    ) -> (Vec<u16>, u32, bool) {
        let room = needs - u32::from(next.size);
        let mut found = (Vec::with_capacity(rest.len()), 0, false);
        for index in rest {
            let Some(other) = attempt.candidates.get(usize::from(*index)) else { continue };
            if u32::from(other.size) <= room && self.go_together(next, other) {
                found.0.push(*index);
                found.1 += u32::from(other.size);
                found.2 |= other.wanted <= attempt.wanted;
            }
        }
        self.spend(1 + rest.len() as u64);
        found
    }

    fn near(&self, one: &Candidate, other: &Candidate) -> bool {
        near(one, other, self.rules.distances()) || self.broken(BrokenRule::ForgetDistance)
    }

    fn go_together(&mut self, one: &Candidate, other: &Candidate) -> bool {
        if !self.near(one, other) {
            return false;
        }
        if !self.rules.compares_pairs() {
            return true;
        }
        let pools = self.pools;
        let (Some(one), Some(other)) = (pools.get(one.slot), pools.get(other.slot)) else { return false };
        self.pair_fits(one, other)
    }

    /// The chosen tickets by team, if they fill the teams.
    fn fill(&mut self, attempt: &Attempt<'_>) -> Option<Vec<Vec<Slot>>> {
        let mut chosen: Vec<(u64, Slot)> =
            attempt.chosen().map(|candidate| (candidate.place, candidate.slot)).collect();
        // By age, whoever it was that made the match possible.
        chosen.sort_unstable();
        let chosen: Vec<Slot> = chosen.into_iter().map(|(_, slot)| slot).collect();
        if attempt.teams.count <= 1 {
            return Some(Vec::from([chosen]));
        }
        let waiting = || chosen.iter().filter_map(|slot| self.pools.get(*slot));
        let items: Vec<Item> = waiting()
            .map(|waiting| Item { size: waiting.profile.size, rating: waiting.profile.rating })
            .collect();
        let limit = waiting().map(|waiting| waiting.profile.balance).fold(f64::INFINITY, f64::min);
        let limit = if self.broken(BrokenRule::ForgetBalance) { f64::INFINITY } else { limit };
        let (team_of, steps) = pack(&items, attempt.teams, self.rules.balances().then_some(limit));
        self.spend(PACK_COST * steps as u64);
        let team_of = team_of?;
        let mut teams = alloc::vec![Vec::new(); attempt.teams.count as usize];
        for (slot, team) in chosen.into_iter().zip(team_of) {
            if let Some(team) = teams.get_mut(team as usize) {
                team.push(slot);
            }
        }
        Some(teams)
    }

    /// The region in which the worst round trip of all is best.
    fn best_region(&self, teams: &[Vec<Slot>], of_pool: Option<&RegionId>) -> Option<RegionId> {
        let of_pool = of_pool?;
        let mut tickets = teams.iter().flatten().filter_map(|slot| self.pools.get(*slot));
        let mut common: Vec<(RegionId, u32)> = tickets.next().map_or_else(Vec::new, |first| {
            let regions = first.profile.regions.iter();
            regions.filter_map(|(region, latency)| Some((region.clone()?, *latency))).collect()
        });
        if self.broken(BrokenRule::AnyRegion) {
            return common.into_iter().next().map(|(region, _)| region);
        }
        for ticket in tickets {
            common.retain_mut(|(region, worst)| {
                let regions = &ticket.profile.regions;
                let own = regions.iter().find(|(of, _)| of.as_ref() == Some(&*region));
                own.is_some_and(|(_, latency)| {
                    *worst = (*worst).max(*latency);
                    true
                })
            });
        }
        let best = common.into_iter().min_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Some(best.map_or_else(|| of_pool.clone(), |(region, _)| region))
    }
}

impl Attempt<'_> {
    fn choose(&mut self, index: u16) {
        self.chosen.push(index);
        self.count(index, 1);
    }

    fn unchoose(&mut self) {
        if let Some(index) = self.chosen.pop() {
            self.count(index, -1);
        }
    }

    fn count(&mut self, index: u16, by: i16) {
        let size = self.candidates.get(usize::from(index)).map_or(0, |candidate| candidate.size);
        if let Some(count) = self.counts.get_mut(usize::from(size).wrapping_sub(1)) {
            *count = count.saturating_add_signed(by);
        }
    }

    /// Whether the sizes chosen so far are part of some mix that fills the teams.
    fn sizes_fit(&self) -> bool {
        self.mixes.as_ref().is_none_or(|mixes| {
            mixes.iter().any(|mix| mix.iter().zip(&self.counts).all(|(most, count)| count <= most))
        })
    }

    fn chosen(&self) -> impl Iterator<Item = &Candidate> {
        self.chosen.iter().filter_map(|index| self.candidates.get(usize::from(*index)))
    }
}

fn candidate(slot: Slot, waiting: &Waiting, misses: u8) -> Candidate {
    let profile = &waiting.profile;
    Candidate {
        slot,
        size: profile.size,
        misses,
        place: profile.place,
        wanted: profile.wanted,
        values: profile.values,
        windows: profile.windows,
    }
}

/// Whether each is within the other's windows.
fn near(one: &Candidate, other: &Candidate, distances: usize) -> bool {
    let values = one.values.iter().zip(&other.values);
    let windows = one.windows.iter().zip(&other.windows);
    values.zip(windows).take(distances).all(|((a, b), (x, y))| (*a - *b).abs() <= x.min(*y))
}

/// The mixes for which there are enough candidates of each size.
fn possible<'a>(mixes: &'a [Mix], candidates: &[Candidate]) -> Vec<&'a Mix> {
    let mut counts: Vec<u16> = Vec::new();
    for candidate in candidates {
        let at = usize::from(candidate.size.max(1)) - 1;
        if counts.len() <= at {
            counts.resize(at + 1, 0);
        }
        if let Some(count) = counts.get_mut(at) {
            *count = count.saturating_add(1);
        }
    }
    let enough = |mix: &&Mix| {
        let mut needs = mix.iter().enumerate();
        needs.all(|(at, needs)| *needs <= counts.get(at).copied().unwrap_or_default())
    };
    mixes.iter().filter(enough).collect()
}
