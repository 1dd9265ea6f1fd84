//! Whether tickets of some sizes fill the teams exactly, and how.
//!
//! A search asks this with each ticket that it takes: can the remaining tickets complete the chosen ones? Only sizes
//! are considered, so that it never begins what the sizes rule out: parties of three alone never make a five against
//! five. The answer is exact if the mixes of sizes are known, and for one team. For several large teams, two ways are
//! tried: the chosen tickets are put into teams largest first, and each gap is filled largest first; if that fails,
//! team by team, trying every composition of a team that leaves something reachable, up to [`STEPS`].

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use super::mixes::Mix;
use crate::match_spec::MAX_PLAYERS;

/// Maximum number of steps of trying compositions of teams; beyond it, the answer is "not found".
const STEPS: usize = 2_000;
/// The number of words of a set of numbers of players.
const WORDS: usize = MAX_PLAYERS / 64 + 1;

/// Numbers of players that are sums of ticket sizes.
#[derive(Clone, Copy)]
struct Sums([u64; WORDS]);

impl Sums {
    const fn nothing() -> Self {
        let mut words = [0; WORDS];
        words[0] = 1;
        Self(words)
    }

    fn has(&self, sum: u16) -> bool {
        self.0.get(usize::from(sum) / 64).is_some_and(|word| word >> (sum % 64) & 1 == 1)
    }

    /// With up to `count` tickets of one more size.
    fn with(mut self, size: u16, count: u16) -> Self {
        let (mut left, mut part) = (usize::from(count).min(MAX_PLAYERS / usize::from(size.max(1))), 1);
        while left > 0 {
            let taken = part.min(left);
            self.shift(usize::from(size) * taken);
            left -= taken;
            part *= 2;
        }
        self
    }

    fn shift(&mut self, by: usize) {
        let (words, bits) = (by / 64, by % 64);
        for at in (words..WORDS).rev() {
            let low = self.0.get(at - words).copied().unwrap_or_default() << bits;
            let below = if bits > 0 && at > words { self.0.get(at - words - 1).copied() } else { None };
            let carried = below.map_or(0, |word| word >> (64 - bits));
            if let Some(word) = self.0.get_mut(at) {
                *word |= low | carried;
            }
        }
    }
}

/// The number of tickets of each size, in the order of [`Filling::sizes`].
pub(crate) type Counts = Vec<u16>;

/// The teams to be filled, all of one size.
#[derive(Clone, Copy)]
pub(crate) struct Filling<'a> {
    /// The available ticket sizes, largest first.
    pub(crate) sizes: &'a [u16],
    pub(crate) teams: u32,
    pub(crate) size: u16,
    /// The mixes of sizes that fill the teams, if they are known, and which of them the tickets at hand allow.
    pub(crate) mixes: Option<&'a [Mix]>,
    pub(crate) possible: &'a [u32],
}

impl Filling<'_> {
    /// Whether all chosen and some of the remaining tickets fill the teams. Adds the cost, in comparisons.
    pub(crate) fn completes(&self, chosen: &[u16], left: &[u16], cost: &mut u64) -> bool {
        let classes = self.sizes.len() as u64;
        if let Some(mixes) = self.mixes {
            *cost += self.possible.len() as u64 * classes / 4 + 1;
            return self
                .possible
                .iter()
                .any(|at| mixes.get(*at as usize).is_some_and(|mix| self.within(mix, chosen, left)));
        }
        let players = |counts: &[u16]| -> u32 {
            self.sizes.iter().zip(counts).map(|(size, count)| u32::from(*size) * u32::from(*count)).sum()
        };
        let (has, full) = (players(chosen), self.teams * u32::from(self.size));
        *cost += classes + 1;
        if has > full || has + players(left) < full {
            return false;
        }
        let needs = u16::try_from(full - has).unwrap_or(u16::MAX);
        let solos = if self.sizes.last() == Some(&1) { left.last().copied().unwrap_or_default() } else { 0 };
        if self.teams <= 1 {
            return solos >= needs || {
                *cost += classes * WORDS as u64;
                reachable(self.sizes, left).has(needs)
            };
        }
        self.plan(chosen, left, cost).is_some()
    }

    fn within(&self, mix: &Mix, chosen: &[u16], left: &[u16]) -> bool {
        let counts = self.sizes.iter().zip(chosen.iter().zip(left));
        counts.into_iter().all(|(size, (chosen, left))| {
            let wanted = mix.get(usize::from(*size).wrapping_sub(1)).copied().unwrap_or_default();
            (*chosen..=chosen.saturating_add(*left)).contains(&wanted)
        })
    }

    /// The number of tickets of each size for each team, with all chosen and some of the remaining tickets.
    pub(crate) fn plan(&self, chosen: &[u16], left: &[u16], cost: &mut u64) -> Option<Vec<Counts>> {
        self.largest_first(chosen, left, cost).or_else(|| {
            let available: Counts = chosen.iter().zip(left).map(|(a, b)| a.saturating_add(*b)).collect();
            let mut trying =
                Trying { filling: *self, steps: STEPS, failed: BTreeSet::new(), teams: Vec::new() };
            let found = trying.team(self.teams, &available, chosen);
            *cost += ((STEPS - trying.steps) * 8) as u64;
            found.then_some(trying.teams)
        })
    }

    fn largest_first(&self, chosen: &[u16], left: &[u16], cost: &mut u64) -> Option<Vec<Counts>> {
        let count = self.teams as usize;
        let mut teams: Vec<(u16, Counts)> = vec![(self.size, vec![0; self.sizes.len()]); count];
        for (class, (size, chosen)) in self.sizes.iter().zip(chosen).enumerate() {
            let mut rest = *chosen;
            for (room, counts) in &mut teams {
                if rest == 0 {
                    break;
                }
                let fit = rest.min(*room / (*size).max(1));
                *room -= fit * size;
                rest -= fit;
                bump(counts, class, fit);
            }
            if rest > 0 {
                return None;
            }
        }
        *cost += (count * self.sizes.len()) as u64 / 4 + 1;
        let mut left = left.to_vec();
        teams.sort_by_key(|(room, _)| core::cmp::Reverse(*room));
        for (room, counts) in &mut teams {
            if *room == 0 {
                continue;
            }
            *cost += (self.sizes.len() * WORDS) as u64 / 2;
            let behind = suffixes(self.sizes, &left);
            for (class, size) in self.sizes.iter().enumerate() {
                let most = left.get(class).copied().unwrap_or_default().min(*room / (*size).max(1));
                let rest = behind.get(class + 1)?;
                let take = (0..=most).rev().find(|take| rest.has(*room - take * size))?;
                *room -= take * size;
                bump(counts, class, take);
                if let Some(left) = left.get_mut(class) {
                    *left -= take;
                }
            }
        }
        Some(teams.into_iter().map(|(_, counts)| counts).collect())
    }
}

fn bump(counts: &mut [u16], class: usize, by: u16) {
    if let Some(count) = counts.get_mut(class) {
        *count += by;
    }
}

fn reachable(sizes: &[u16], counts: &[u16]) -> Sums {
    sizes.iter().zip(counts).fold(Sums::nothing(), |sums, (size, count)| sums.with(*size, *count))
}

/// What is reachable with the sizes from each one on, and with none.
fn suffixes(sizes: &[u16], counts: &[u16]) -> Vec<Sums> {
    let mut found = vec![Sums::nothing()];
    for (size, count) in sizes.iter().zip(counts).rev() {
        let sums = found.last().copied().unwrap_or_else(Sums::nothing).with(*size, *count);
        found.push(sums);
    }
    found.reverse();
    found
}

/// Fills team by team, with every composition.
struct Trying<'a> {
    filling: Filling<'a>,
    steps: usize,
    /// Known failures: the number of teams left, the tickets that were available, and those of them that had to be
    /// used.
    failed: BTreeSet<(u32, Counts, Counts)>,
    teams: Vec<Counts>,
}

/// One team being composed.
struct Team<'a> {
    left: u32,
    available: &'a [u16],
    must: &'a [u16],
    behind: Vec<Sums>,
    counts: Counts,
}

impl Trying<'_> {
    fn team(&mut self, left: u32, available: &[u16], must: &[u16]) -> bool {
        if left == 0 {
            return must.iter().all(|count| *count == 0);
        }
        let sizes = self.filling.sizes;
        let forced: u32 =
            sizes.iter().zip(must).map(|(size, count)| u32::from(*size) * u32::from(*count)).sum();
        let state = (left, available.to_vec(), must.to_vec());
        if forced > left * u32::from(self.filling.size) || self.failed.contains(&state) {
            return false;
        }
        let behind = suffixes(sizes, available);
        let mut team = Team { left, available, must, behind, counts: vec![0; sizes.len()] };
        if self.compose(&mut team, 0, self.filling.size) {
            return true;
        }
        self.failed.insert(state);
        false
    }

    /// Tries the team's tickets of this and the smaller sizes, for this much room.
    fn compose(&mut self, team: &mut Team<'_>, class: usize, room: u16) -> bool {
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        if room == 0 {
            let taken = team.counts.iter();
            let available: Counts = team.available.iter().zip(taken.clone()).map(|(a, b)| a - b).collect();
            let must: Counts = team.must.iter().zip(taken).map(|(a, b)| a.saturating_sub(*b)).collect();
            self.teams.push(team.counts.clone());
            let found = self.team(team.left - 1, &available, &must);
            if !found {
                self.teams.pop();
            }
            return found;
        }
        let Some(size) = self.filling.sizes.get(class).copied() else { return false };
        if !team.behind.get(class).is_some_and(|sums| sums.has(room)) {
            return false;
        }
        let most = team.available.get(class).copied().unwrap_or_default().min(room / size.max(1));
        for take in (0..=most).rev() {
            if let Some(count) = team.counts.get_mut(class) {
                *count = take;
            }
            if self.compose(team, class + 1, room - take * size) {
                return true;
            }
        }
        if let Some(count) = team.counts.get_mut(class) {
            *count = 0;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matchmaking::mixes::Mixes;

    fn filling<'a>(sizes: &'a [u16], teams: u32, size: u16) -> Filling<'a> {
        Filling { sizes, teams, size, mixes: None, possible: &[] }
    }

    fn plan(sizes: &[u16], teams: u32, size: u16, chosen: &[u16], left: &[u16]) -> Option<Vec<Counts>> {
        let found = filling(sizes, teams, size).plan(chosen, left, &mut 0)?;
        assert_eq!(found.len(), teams as usize);
        for team in &found {
            let players: u16 = team.iter().zip(sizes).map(|(count, size)| count * size).sum();
            assert_eq!(players, size, "{found:?}");
        }
        for (class, (chosen, left)) in chosen.iter().zip(left).enumerate() {
            let used: u16 = found.iter().map(|team| team[class]).sum();
            assert!((*chosen..=chosen + left).contains(&used), "{found:?}");
        }
        Some(found)
    }

    #[test]
    fn large_teams_are_filled_where_the_sizes_allow_it() {
        // 250 is 10 fives and 50 fours; next to 150, no sum of fives and fours fits.
        assert!(plan(&[5, 4], 2, 250, &[0, 0], &[20, 100]).is_some());
        assert!(plan(&[5, 4, 1], 2, 250, &[1, 0, 0], &[40, 60, 60]).is_some());
        assert!(plan(&[4], 2, 250, &[0], &[200]).is_none(), "250 is not a multiple of four");
        assert!(plan(&[7, 3], 2, 17, &[0, 0], &[4, 2]).is_some(), "7 + 7 + 3, twice");
        assert!(plan(&[7, 3], 2, 17, &[0, 0], &[3, 4]).is_none(), "three sevens are not enough");
        // Trios leave two seats each.
        assert!(plan(&[3, 2], 12, 5, &[0, 0], &[12, 12]).is_some());
        assert!(plan(&[3, 2], 12, 5, &[0, 0], &[20, 11]).is_none());
        assert!(plan(&[3, 2, 1], 12, 5, &[12, 0, 11], &[0, 30, 0]).is_none(), "an odd place is left");
        assert!(plan(&[3, 2, 1], 12, 5, &[12, 0, 12], &[0, 6, 0]).is_some());
    }

    #[test]
    fn one_team_takes_whatever_adds_up() {
        let completes = |sizes: &[u16], size, chosen: &[u16], left: &[u16]| {
            filling(sizes, 1, size).completes(chosen, left, &mut 0)
        };
        assert!(completes(&[3, 2], 60, &[1, 0], &[18, 3]), "18 trios and three duos");
        assert!(!completes(&[3, 2], 60, &[1, 0], &[18, 2]), "19 trios leave three, 18 leave six");
        assert!(completes(&[1], 1_000, &[1], &[999]));
        assert!(!completes(&[1], 1_000, &[1], &[998]));
        assert!(!completes(&[100, 99], 1_000, &[0, 1], &[10, 9]), "hundreds do not make up for a 99");
    }

    /// If the mixes are known, both ways agree.
    #[test]
    fn answers_agree_with_the_mixes() {
        for (teams, size) in [(2, 5), (3, 4), (4, 3)] {
            let known = Mixes::default().of(teams, size).unwrap();
            let possible: Vec<u32> = (0..known.len() as u32).collect();
            let sizes: Vec<u16> = (1..=size).rev().collect();
            let mut state = 7_u64;
            for _ in 0..400 {
                let mut next = |most: u64| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    u16::try_from((state >> 40) % (most + 1)).unwrap()
                };
                let chosen: Counts = sizes.iter().map(|_| next(1)).collect();
                let left: Counts = sizes.iter().map(|_| next(3)).collect();
                let exact =
                    Filling { mixes: Some(&known), possible: &possible, ..filling(&sizes, teams, size) };
                let found = exact.plan(&chosen, &left, &mut 0).is_some();
                assert_eq!(exact.completes(&chosen, &left, &mut 0), found, "{chosen:?} {left:?}");
            }
        }
    }
}
