//! Is there a match for this ticket, and with which tickets?
//!
//! A newly possible match holds a ticket that is new or demands less than before. So each such ticket is the *root* of
//! a search, which only looks for matches that contain it; all others were looked for earlier. Other tickets are tried
//! oldest first.
//!
//! The work per turn of a search is bounded, but it never gives up: cut at its bound, it is kept ([`Hunt`]) and resumes
//! until it has found a match or has tried everything in reach. Tickets that arrive in between are roots of their own,
//! so it can ignore them; a search whose root demands less starts over.
//!
//! A search makes *passes*. Each gathers candidates in reach, oldest first, by useful sizes, more in each pass until
//! all are there (`gather`). Then, for each team size that some ticket asks for, it takes them one after the other
//! (`greedy`), which is enough in most pools. Then it tries every combination, up to a bound that grows with each pass
//! (`exhaust`), and candidates that are close in rating (`windows`): in the first pass `windows` comes last, since
//! older tickets have priority, and in all others first, since trying combinations takes long. A pass that left nothing
//! out is the last one. A pass starts over after a while if tickets in it have left, because other tickets may then be
//! neighbours.
//!
//! Of the matches in several pools, the one with the oldest ticket is taken, not the one in the best region: if there
//! were always others in a better region, a player with only one acceptable region would wait forever.
//!
//! | file | what |
//! |---|---|
//! | `gather` | candidates, by useful sizes |
//! | `greedy`, `exhaust`, `windows` | which of them are taken |
//! | `fill` | the teams of the chosen tickets, and the region |
//! | `last` | a last match for a ticket that expires |
//! | `set`, `verdicts` | what chosen tickets have in common; cached results of expressions |
//! | `unfinished` | searches that were cut |

use alloc::vec::Vec;
use core::mem;

use super::documents::Documents;
use super::forming::BYTES_PER_COMPARISON;
use super::packing::Teams;
use super::pools::{Pools, Slot, Waiting};
use super::rules::Ruleset;
use super::settings::MAX_DISTANCES;
use super::sizes::{Counts, Filling};
use super::{BrokenRule, is_broken};
use crate::ids::RegionId;
use exhaust::Exhaust;
use greedy::Greedy;
use set::{Reach, Set};
use windows::Windows;

mod exhaust;
mod fill;
mod gather;
mod greedy;
mod last;
mod set;
mod unfinished;
mod verdicts;
mod windows;

pub(crate) use unfinished::Unfinished;
pub(crate) use verdicts::Verdicts;

/// Maximum number of comparisons per turn of a search, in all pools of its ticket: each pool gets half of what is left.
pub(crate) const COMPARISONS_PER_TURN: u64 = 120_000;
/// Comparisons that the first pass spends on trying every combination, for each team size.
const COMBINING_AT_FIRST: u64 = 10_000;
/// That number grows by this factor with each pass.
const MORE_COMBINING: u64 = 16;
/// Turns after which a pass starts over if tickets have left.
const TURNS_BEFORE_ANEW: u32 = 6;
/// The number of candidates grows by this factor with each pass.
const GROWTH: u64 = 4;
/// Maximum number of candidates that one search keeps; of more in reach, the oldest.
const MAX_CANDIDATES: usize = 8_192;
/// The cost of looking at a ticket, in comparisons of two numbers.
const LOOK_COST: u64 = 16;
/// The cost of comparing two tickets by expressions, without the evaluation itself; in comparisons.
const PAIR_COST: u64 = 200;
/// The cost of caching the result of an expression, in comparisons.
const KNOWN_COST: u64 = 8;
/// Nanoseconds of evaluating an expression per comparison of two numbers.
pub(super) const EVALUATION_PER_COMPARISON: u64 = 8;

/// A match that can be formed.
pub(crate) struct Found {
    /// Tickets, by team.
    pub(crate) teams: Vec<Vec<Slot>>,
    pub(crate) region: Option<RegionId>,
}

/// The result of a turn.
pub(crate) enum Outcome {
    Found(Found),
    /// Everything in reach was tried.
    Nothing,
    Cut(Hunt),
}

/// A search for matches with a given ticket, between two turns.
pub(crate) struct Hunt {
    pools: Vec<InPool>,
    /// The number of turns so far.
    turns: u32,
}

/// Its progress in one pool.
struct InPool {
    pool: u32,
    pass: u32,
    /// Whether this pass leaves candidates out.
    leaves_out: bool,
    /// Turns since the pass began.
    turns: u32,
    field: Field,
    stage: Stage,
}

/// The tickets that may be taken, in the order of trying; the root is the first.
#[derive(Default)]
struct Field {
    list: Vec<Candidate>,
    /// Their sizes, largest first.
    sizes: Vec<u16>,
}

enum Stage {
    Begin,
    Gather(gather::Gather),
    /// The next team size.
    Team(u32),
    Greedy(Goal, Greedy),
    Exhaust(Goal, Exhaust),
    Windows(Goal, Windows),
    Done,
}

#[derive(Clone, Copy)]
struct Candidate {
    slot: Slot,
    size: u16,
    /// The index of its size in `sizes`.
    class: u16,
    misses: u8,
    edition: u16,
    place: u64,
    wanted: u32,
    values: [f64; MAX_DISTANCES],
    windows: [f64; MAX_DISTANCES],
}

/// The teams to be filled.
struct Goal {
    teams: Teams,
    players: u32,
    /// One of the tickets must ask for a team no larger than this.
    wanted: u32,
    /// The mixes of sizes that the candidates allow, if mixes are known.
    possible: Option<Vec<u32>>,
}

/// The end of a stage.
enum Flow<T> {
    Found(T),
    Nothing,
    /// The budget is spent, and the stage continues in the next turn.
    Cut,
}

/// The tickets of a match, by team.
type Made = Vec<Vec<Slot>>;

/// Looks for matches, and counts the cost.
pub(crate) struct Search<'a> {
    pools: &'a Pools,
    rules: &'a Ruleset,
    documents: &'a Documents,
    verdicts: &'a mut Verdicts,
    /// Total number of comparisons.
    pub(crate) cost: u64,
    /// Comparisons left for all pools, and for the current one.
    budget: u64,
    left: u64,
    broken: Option<BrokenRule>,
}

impl<'a> Search<'a> {
    pub(crate) const fn new(
        pools: &'a Pools,
        rules: &'a Ruleset,
        documents: &'a Documents,
        verdicts: &'a mut Verdicts,
        broken: Option<BrokenRule>,
    ) -> Self {
        Self { pools, rules, documents, verdicts, cost: 0, budget: COMPARISONS_PER_TURN, left: 0, broken }
    }

    /// Sets the maximum number of comparisons.
    pub(crate) fn within(mut self, budget: u64) -> Self {
        self.budget = self.budget.min(budget);
        self
    }

    fn broken(&self, rule: BrokenRule) -> bool {
        is_broken(self.broken, rule)
    }

    fn spend(&mut self, cost: u64) {
        self.cost += cost;
        self.left = self.left.saturating_sub(cost);
    }

    /// Looks for a match with the ticket.
    pub(crate) fn begin(&mut self, slot: Slot) -> Outcome {
        let Some(ticket) = self.pools.get(slot) else { return Outcome::Nothing };
        let per_team = self.rules.queue.players_per_team;
        if per_team == 0 || u32::from(ticket.profile.size) > per_team {
            return Outcome::Nothing;
        }
        let pools = ticket.pools.iter().map(|pool| InPool {
            pool: *pool,
            pass: 0,
            leaves_out: false,
            turns: 0,
            field: Field::default(),
            stage: Stage::Begin,
        });
        self.go_on(slot, Hunt { pools: pools.collect(), turns: 0 })
    }

    /// Runs one more turn.
    pub(crate) fn go_on(&mut self, slot: Slot, mut hunt: Hunt) -> Outcome {
        let Some(ticket) = self.pools.get(slot) else { return Outcome::Nothing };
        let mut oldest: Option<(u64, u32, Made)> = None;
        for pool in &mut hunt.pools {
            let share = self.budget / 2;
            self.left = share;
            let flow = self.turn(pool, slot, ticket);
            self.budget = self.budget.saturating_sub(share - self.left);
            match flow {
                Flow::Found(teams) => {
                    let place = self.oldest_beside(slot, &teams);
                    let is_older =
                        |of_other: u64| (place < of_other) != self.broken(BrokenRule::FormElsewhere);
                    if oldest.as_ref().is_none_or(|(of_other, ..)| is_older(*of_other)) {
                        oldest = Some((place, pool.pool, teams));
                    }
                }
                Flow::Nothing => pool.stage = Stage::Done,
                Flow::Cut => {}
            }
        }
        if let Some((_, pool, teams)) = oldest {
            let region = self.best_region(&teams, self.pools.region(pool));
            return Outcome::Found(Found { teams, region });
        }
        hunt.pools.retain(|pool| !matches!(pool.stage, Stage::Done));
        if hunt.pools.is_empty() {
            return Outcome::Nothing;
        }
        // The first pool has the largest share, so they take turns in being first.
        hunt.pools.rotate_left(1);
        hunt.turns = hunt.turns.saturating_add(1);
        Outcome::Cut(hunt)
    }

    /// Tries to give the place of the match's root to one of the roots whose own searches continue, oldest first: they
    /// are older, and this search was only so short thanks to what theirs have cached. Returns whether it did.
    pub(crate) fn give_way(&mut self, root: Slot, found: &mut Found, older: &[Slot]) -> bool {
        // Not taken from its share: the match that was found must not be lost by it.
        self.left = COMPARISONS_PER_TURN;
        let all: Vec<Slot> = found.teams.iter().flatten().copied().collect();
        let pools = self.pools;
        let Some(own) = pools.get(root) else { return false };
        let wanted = |slot: &Slot| pools.get(*slot).map_or(u32::MAX, |waiting| waiting.profile.wanted);
        for slot in older.iter().filter(|slot| !all.contains(slot)) {
            let Some(waiting) = pools.get(*slot) else { continue };
            let in_all_pools = own.pools.iter().all(|pool| waiting.pools.contains(pool));
            if waiting.profile.size != own.profile.size || !in_all_pools || wanted(slot) > wanted(&root) {
                continue;
            }
            let new = candidate(*slot, waiting, 0);
            let mut others = all.iter().filter(|other| **other != root);
            let goes = others.all(|other| {
                self.spend(1);
                let other = pools.get(*other).map(|waiting| candidate(*other, waiting, 0));
                other.is_some_and(|other| self.go_together(&other, &new) == Some(true))
            });
            if goes {
                let places = found.teams.iter_mut().flatten().filter(|place| **place == root);
                places.for_each(|place| *place = *slot);
                return true;
            }
        }
        false
    }

    /// The place of the oldest ticket of a match except for its root.
    fn oldest_beside(&self, root: Slot, teams: &[Vec<Slot>]) -> u64 {
        let others = teams.iter().flatten().filter(|other| **other != root);
        let places = others.filter_map(|other| Some(self.pools.get(*other)?.profile.place));
        places.min().unwrap_or(u64::MAX)
    }

    /// Runs one turn in one pool.
    fn turn(&mut self, search: &mut InPool, slot: Slot, ticket: &Waiting) -> Flow<Made> {
        self.spend(LOOK_COST);
        search.forget_departed(self);
        loop {
            match mem::replace(&mut search.stage, Stage::Done) {
                Stage::Begin => {
                    let Some(gather) = self.useful(search, ticket) else { return Flow::Nothing };
                    search.turns = 0;
                    search.field = Field { list: Vec::from([candidate(slot, ticket, 0)]), sizes: Vec::new() };
                    search.stage = Stage::Gather(gather);
                }
                Stage::Gather(mut gather) => {
                    if let Flow::Cut = self.gather(search, &mut gather, ticket) {
                        search.stage = Stage::Gather(gather);
                        return Flow::Cut;
                    }
                    search.leaves_out = gather.leaves_out;
                    self.put_in_order(&mut search.field);
                    search.stage = Stage::Team(self.rules.queue.players_per_team);
                }
                Stage::Team(size) => {
                    let Some(stage) = self.team(search, size) else { return Flow::Nothing };
                    search.stage = stage;
                    if self.left == 0 && !matches!(search.stage, Stage::Done) {
                        return Flow::Cut;
                    }
                }
                stage @ (Stage::Greedy(..) | Stage::Exhaust(..) | Stage::Windows(..)) => {
                    match self.choose(search, stage) {
                        Flow::Found(teams) => return Flow::Found(teams),
                        Flow::Cut => return Flow::Cut,
                        Flow::Nothing => {}
                    }
                }
                Stage::Done => return Flow::Nothing,
            }
        }
    }

    /// A part of one of the choosing stages; `Nothing` if the next stage follows.
    fn choose(&mut self, search: &mut InPool, stage: Stage) -> Flow<Made> {
        let field = &search.field;
        let (flow, back, next) = match stage {
            Stage::Greedy(goal, mut greedy) => match self.greedy(field, &goal, &mut greedy) {
                Flow::Found(chosen) => match self.fill(field, &goal, &chosen) {
                    Some(teams) => return Flow::Found(teams),
                    None => (Flow::Nothing, None, Some(self.after_greedy(field, goal, search.pass))),
                },
                Flow::Nothing => (Flow::Nothing, None, Some(self.after_greedy(field, goal, search.pass))),
                Flow::Cut => (Flow::Cut, Some(Stage::Greedy(goal, greedy)), None),
            },
            Stage::Exhaust(goal, mut exhaust) => {
                let most = COMBINING_AT_FIRST.saturating_mul(MORE_COMBINING.saturating_pow(search.pass));
                match self.exhaust(field, &goal, &mut exhaust, most) {
                    Flow::Found(teams) => return Flow::Found(teams),
                    Flow::Cut if exhaust.spent >= most => {
                        search.leaves_out = true;
                        let windows = if search.pass == 0 { Windows::over(self, field) } else { None };
                        let next = match windows {
                            Some(windows) => Stage::Windows(goal, windows),
                            None => goal.next_team(),
                        };
                        (Flow::Nothing, None, Some(next))
                    }
                    Flow::Cut => (Flow::Cut, Some(Stage::Exhaust(goal, exhaust)), None),
                    Flow::Nothing => (Flow::Nothing, None, Some(goal.next_team())),
                }
            }
            Stage::Windows(goal, mut windows) => match self.windows(field, &goal, &mut windows) {
                Flow::Found(teams) => return Flow::Found(teams),
                Flow::Nothing if search.pass > 0 => {
                    (Flow::Nothing, None, Some(self.exhaust_next(field, goal)))
                }
                Flow::Nothing => (Flow::Nothing, None, Some(goal.next_team())),
                Flow::Cut => (Flow::Cut, Some(Stage::Windows(goal, windows)), None),
            },
            other => (Flow::Nothing, Some(other), None),
        };
        if let Some(stage) = next.or(back) {
            search.stage = stage;
        }
        flow
    }

    fn after_greedy(&self, field: &Field, goal: Goal, pass: u32) -> Stage {
        let windows = if pass > 0 { Windows::over(self, field) } else { None };
        match windows {
            Some(windows) => Stage::Windows(goal, windows),
            None => self.exhaust_next(field, goal),
        }
    }

    /// How teams of at most this size are looked for; `None` after the last pass.
    fn team(&mut self, search: &mut InPool, size: u32) -> Option<Stage> {
        let queue = &self.rules.queue;
        let (count, least) = (queue.teams.max(1), queue.min_players_per_team.max(1));
        let any_size = self.broken(BrokenRule::ForgetSize);
        let wanted = search.field.list.iter().map(|candidate| candidate.wanted).min().unwrap_or_default();
        let least = if any_size { least } else { least.max(wanted) };
        for size in (least..=size).rev() {
            let Ok(per_team) = u16::try_from(size) else { continue };
            let teams = Teams { count, least: per_team, most: per_team };
            let goal = Goal {
                teams,
                players: count * size,
                wanted: if any_size { u32::MAX } else { size },
                possible: None,
            };
            if let Some((goal, greedy)) = self.aim(&search.field, goal) {
                return Some(Stage::Greedy(goal, greedy));
            }
        }
        if !search.leaves_out {
            return None;
        }
        search.pass += 1;
        Some(Stage::Begin)
    }

    /// The goal with the mixes that the candidates allow, and all candidates in their order; `None` if no sizes work.
    fn aim(&mut self, field: &Field, mut goal: Goal) -> Option<(Goal, Greedy)> {
        let own = field.list.first()?;
        if own.size > goal.teams.most {
            return None;
        }
        let mut chosen: Counts = alloc::vec![0; field.sizes.len()];
        if let Some(count) = chosen.get_mut(usize::from(own.class)) {
            *count = 1;
        }
        let left = field.counts(1..field.list.len());
        self.spend(field.list.len() as u64 / 8 + 1);
        if goal.teams.least == goal.teams.most
            && let Some(mixes) = self.rules.mixes(goal.teams.most)
        {
            self.spend(mixes.len() as u64);
            goal.possible = Some(field.possible(mixes));
        }
        let mut cost = 0;
        let completes = self.filling(field, &goal).completes(&chosen, &left, &mut cost);
        self.spend(cost);
        if !completes {
            return None;
        }
        let order = (1..field.list.len()).filter_map(|at| u16::try_from(at).ok()).collect();
        let greedy = Greedy::of(order, field, self.rules);
        Some((goal, greedy))
    }

    fn filling<'b>(&self, field: &'b Field, goal: &'b Goal) -> Filling<'b>
    where
        'a: 'b,
    {
        let (sizes, rules): (_, &'b Ruleset) = (&field.sizes, self.rules);
        if goal.teams.least != goal.teams.most {
            // Whether teams of different sizes can be made turns out when they are made.
            let size = u16::try_from(goal.players).unwrap_or(u16::MAX);
            return Filling { sizes, teams: 1, size, mixes: None, possible: &[] };
        }
        let mixes = goal.possible.as_ref().and_then(|_| rules.mixes(goal.teams.most));
        let possible = goal.possible.as_deref().unwrap_or_default();
        Filling { sizes, teams: goal.teams.count, size: goal.teams.most, mixes, possible }
    }

    /// Whether a candidate still waits at its place.
    fn is_here(&self, candidate: &Candidate) -> bool {
        self.pools.get(candidate.slot).is_some_and(|Waiting { profile, .. }| {
            (profile.place, profile.edition) == (candidate.place, candidate.edition)
        })
    }

    fn near(&self, one: &Candidate, other: &Candidate) -> bool {
        near(one, other, self.rules.distances()) || self.broken(BrokenRule::ForgetDistance)
    }

    fn judges_pairs(&self) -> bool {
        self.rules.compares_pairs() && !self.broken(BrokenRule::ForgetPairs)
    }

    /// Whether two candidates meet all of each other's demands; `None` if the budget is too small to say.
    fn go_together(&mut self, one: &Candidate, other: &Candidate) -> Option<bool> {
        if !self.near(one, other) {
            return Some(false);
        }
        if !self.judges_pairs() {
            return Some(true);
        }
        let pools = self.pools;
        let (Some(a), Some(b)) = (pools.get(one.slot), pools.get(other.slot)) else { return Some(false) };
        self.spend(1 + u64::from(one.size) + u64::from(other.size));
        if self.rules.is_blocked(&a.profile, &b.profile) {
            return Some(false);
        }
        self.meets(a, b)
    }

    /// Whether two tickets meet each other's expressions; `None` if the budget is too small to say.
    fn meets(&mut self, one: &Waiting, other: &Waiting) -> Option<bool> {
        if !self.rules.requires() {
            return Some(true);
        }
        let (one, other) = if one.profile.place <= other.profile.place { (one, other) } else { (other, one) };
        let (a, b) = (&one.profile, &other.profile);
        let (pair, demands) = ((a.place, b.place), self.rules.demands(a, b));
        self.spend(KNOWN_COST);
        if let Some(known) = self.verdicts.get(pair, demands) {
            return Some(known);
        }
        if self.left == 0 {
            return None;
        }
        let fits = self.rules.meet(a, b, self.documents);
        let evaluated = self.rules.take_evaluated() / EVALUATION_PER_COMPARISON;
        let judged = (a.judged + b.judged) as u64 / BYTES_PER_COMPARISON;
        self.spend(PAIR_COST + judged + evaluated + self.documents.take_read());
        if self.broken(BrokenRule::PairsAreDear) {
            self.left = 0;
            return Some(fits);
        }
        self.verdicts.insert(pair, demands, fits);
        Some(fits)
    }
}

impl Hunt {
    /// Its approximate size, in bytes.
    fn bytes(&self) -> usize {
        self.pools.iter().map(InPool::bytes).sum::<usize>() + mem::size_of::<Self>()
    }
}

impl InPool {
    fn bytes(&self) -> usize {
        let chosen = match &self.stage {
            Stage::Greedy(_, greedy) => greedy.bytes(),
            Stage::Exhaust(_, exhaust) => exhaust.bytes(),
            Stage::Windows(_, windows) => windows.bytes(),
            _ => 0,
        };
        mem::size_of::<Self>() + self.field.list.capacity() * mem::size_of::<Candidate>() + chosen
    }

    /// Undoes the choice of tickets that no longer wait.
    fn forget_departed(&mut self, search: &Search<'_>) {
        self.turns += 1;
        let field = &self.field;
        if self.turns > TURNS_BEFORE_ANEW && !field.list.iter().all(|candidate| search.is_here(candidate)) {
            self.stage = Stage::Begin;
            self.leaves_out = false;
            return;
        }
        let is_here = |index: u16| {
            field.list.get(usize::from(index)).is_some_and(|candidate| search.is_here(candidate))
        };
        match &mut self.stage {
            Stage::Greedy(_, greedy) if !greedy.chosen().iter().all(|index| is_here(*index)) => {
                let order = mem::take(&mut greedy.order);
                *greedy = Greedy::of(order, field, search.rules);
            }
            Stage::Exhaust(_, exhaust) => exhaust.forget(field, is_here),
            Stage::Windows(_, windows) => windows.forget(is_here),
            _ => {}
        }
    }
}

impl Field {
    fn get(&self, index: u16) -> Option<&Candidate> {
        self.list.get(usize::from(index))
    }

    /// The number of candidates of each size.
    fn counts(&self, range: core::ops::Range<usize>) -> Counts {
        let mut counts: Counts = alloc::vec![0; self.sizes.len()];
        for candidate in self.list.get(range).unwrap_or_default() {
            if let Some(count) = counts.get_mut(usize::from(candidate.class)) {
                *count += 1;
            }
        }
        counts
    }
}

impl Goal {
    /// The goal to try if this one cannot be reached.
    fn next_team(&self) -> Stage {
        Stage::Team(u32::from(self.teams.most).saturating_sub(1))
    }
}

impl Candidate {
    fn numbers(&self) -> impl Iterator<Item = (f64, f64)> {
        self.values.iter().copied().zip(self.windows.iter().copied())
    }
}

fn candidate(slot: Slot, waiting: &Waiting, misses: u8) -> Candidate {
    let profile = &waiting.profile;
    Candidate {
        slot,
        size: profile.size,
        class: 0,
        misses,
        edition: profile.edition,
        place: profile.place,
        wanted: profile.wanted,
        values: profile.values,
        windows: profile.windows,
    }
}

/// Whether each is within the windows of the other.
fn near(one: &Candidate, other: &Candidate, distances: usize) -> bool {
    let values = one.values.iter().zip(&other.values);
    let windows = one.windows.iter().zip(&other.windows);
    values.zip(windows).take(distances).all(|((a, b), (x, y))| (*a - *b).abs() <= x.min(*y))
}
