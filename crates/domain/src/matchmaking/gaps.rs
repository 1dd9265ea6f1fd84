//! Whether tickets of some sizes can fill the teams, and what is missing if they cannot: for explanations.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::mixes::Mix;
use super::rules::Ruleset;
use super::sizes::Filling;

/// Maximum cost of looking for a gap, in comparisons of two numbers. Beyond it, no gap is reported.
const MAX_WORK: u64 = 60_000;

/// Sizes that cannot fill the teams, although there are enough players.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SizeGap {
    /// Teams of a match.
    pub teams: u32,
    /// Players of a team.
    pub team: u32,
    /// Tickets by size, smallest first, including the explained one: players of a ticket, and the number of such
    /// tickets.
    pub sizes: Vec<(u16, usize)>,
    /// Tickets that would fill the teams together with some of those, with the fewest players, in the same form. Empty
    /// if nothing was found.
    pub missing: Vec<(u16, usize)>,
}

/// The gap between tickets of these sizes, one of which, of the size `own`, must be used, and full teams of at least
/// `least` players. `None` if the sizes work, if there are too few players at all, or if the search costs too much.
pub(crate) fn gap(rules: &Ruleset, own: u16, sizes: &BTreeMap<u16, usize>, least: u32) -> Option<SizeGap> {
    let queue = &rules.queue;
    let players: usize = sizes.iter().map(|(size, count)| usize::from(*size) * count).sum();
    if queue.teams == 0 {
        return None;
    }
    let (mut first, mut work) = (None, 0);
    for team in (least.max(queue.min_players_per_team).max(1)..=queue.players_per_team).rev() {
        let full = usize::try_from(queue.teams.saturating_mul(team)).unwrap_or(usize::MAX);
        let Ok(size) = u16::try_from(team) else { continue };
        if full > players || own > size {
            continue;
        }
        let asked = Asked { rules, own, size };
        if work > MAX_WORK || asked.completes(sizes, 0, &mut work) {
            return None;
        }
        first = first.or(Some((team, asked)));
    }
    let (team, asked) = first?;
    let missing = match rules.mixes(asked.size) {
        Some(mixes) => missing_of_mixes(mixes, own, sizes),
        None => asked.missing_solos(sizes, &mut work),
    };
    let sizes = sizes.iter().map(|(size, count)| (*size, *count)).collect();
    Some(SizeGap { teams: queue.teams, team, sizes, missing })
}

/// Teams of one size, with a ticket that must be in one of them.
struct Asked<'a> {
    rules: &'a Ruleset,
    own: u16,
    size: u16,
}

impl Asked<'_> {
    /// Whether tickets of these sizes, plus this many solos, fill the teams.
    fn completes(&self, sizes: &BTreeMap<u16, usize>, solos: usize, work: &mut u64) -> bool {
        let mut all = sizes.clone();
        *all.entry(1).or_default() += solos;
        all.retain(|size, count| *size <= self.size && *count > 0);
        let chosen: Vec<u16> = all.keys().rev().map(|size| u16::from(*size == self.own)).collect();
        let left = all
            .values()
            .rev()
            .zip(&chosen)
            .map(|(count, chosen)| u16::try_from(*count).unwrap_or(u16::MAX).saturating_sub(*chosen));
        let left: Vec<u16> = left.collect();
        let sizes: Vec<u16> = all.keys().rev().copied().collect();
        let mixes = self.rules.mixes(self.size);
        let is_there = |mix: &Mix| {
            let counts = (1..).zip(mix.iter());
            counts
                .into_iter()
                .all(|(size, count)| usize::from(*count) <= all.get(&size).copied().unwrap_or_default())
        };
        let possible = (0..).zip(mixes.unwrap_or_default());
        let possible: Vec<u32> = possible.filter(|(_, mix)| is_there(mix)).map(|(at, _)| at).collect();
        *work += mixes.map_or(0, <[Mix]>::len) as u64;
        let (teams, size) = (self.rules.queue.teams, self.size);
        Filling { sizes: &sizes, teams, size, mixes, possible: &possible }.completes(&chosen, &left, work)
    }

    /// The minimum number of solos that fill the teams, by bisection.
    fn missing_solos(&self, sizes: &BTreeMap<u16, usize>, work: &mut u64) -> Vec<(u16, usize)> {
        let (mut low, mut high) = (0, usize::from(self.size) * self.rules.queue.teams as usize);
        while high - low > 1 && *work <= MAX_WORK {
            let middle = usize::midpoint(low, high);
            if self.completes(sizes, middle, work) {
                high = middle;
            } else {
                low = middle;
            }
        }
        if high - low > 1 || !self.completes(sizes, high, work) { Vec::new() } else { Vec::from([(1, high)]) }
    }
}

/// What is missing for the mix that lacks the fewest players, then the fewest tickets.
fn missing_of_mixes(mixes: &[Mix], own: u16, sizes: &BTreeMap<u16, usize>) -> Vec<(u16, usize)> {
    let of_own = |mix: &&Mix| mix.get(usize::from(own).wrapping_sub(1)).is_some_and(|count| *count > 0);
    let lacks = |mix: &Mix| -> Vec<(u16, usize)> {
        let by_size = (1..).zip(mix.iter().map(|count| usize::from(*count)));
        let lacking = by_size
            .map(|(size, count)| (size, count.saturating_sub(sizes.get(&size).copied().unwrap_or_default())));
        lacking.filter(|(_, count)| *count > 0).collect()
    };
    let cost = |lacking: &Vec<(u16, usize)>| {
        let players: usize = lacking.iter().map(|(size, count)| usize::from(*size) * count).sum();
        (players, lacking.iter().map(|(_, count)| count).sum::<usize>())
    };
    mixes.iter().filter(of_own).map(lacks).min_by_key(cost).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::matchmaking::mixes::Mixes;
    use crate::matchmaking::settings::Queue;

    fn found(teams: u32, per_team: u32, own: u16, sizes: &[(u16, usize)]) -> Option<Vec<(u16, usize)>> {
        let queue =
            Queue { teams, players_per_team: per_team, min_players_per_team: per_team, ..Queue::default() };
        let rules = Ruleset::new(&queue, &mut Mixes::default());
        gap(&rules, own, &sizes.iter().copied().collect(), per_team).map(|gap| gap.missing)
    }

    #[test]
    fn what_is_missing_is_the_least_that_fills_the_teams() {
        assert_eq!(found(2, 3, 2, &[(2, 3)]), Some(vec![(1, 2)]), "2+1 and 2+1");
        assert_eq!(found(2, 5, 4, &[(4, 13)]), Some(vec![(1, 2)]));
        assert_eq!(found(2, 5, 3, &[(3, 4)]), Some(vec![(2, 2)]), "3+2 twice, with the fewest tickets");
        assert_eq!(found(2, 5, 4, &[(4, 1), (3, 4), (1, 1)]), Some(vec![(2, 1)]));
        assert_eq!(found(2, 3, 2, &[(2, 2)]), None, "these are too few players for any sizes");
        assert_eq!(found(2, 3, 2, &[(1, 2), (2, 2)]), None, "these do");
        assert_eq!(found(1, 60, 7, &[(7, 9)]), Some(vec![(1, 4)]), "8 sevens leave four places");
        assert_eq!(found(2, 250, 4, &[(4, 200)]), Some(vec![(1, 4)]), "two places on each team");
        assert_eq!(found(2, 250, 4, &[(4, 200), (2, 2)]), None);
    }
}
