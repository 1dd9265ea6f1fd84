//! How tickets of different sizes fill teams.
//!
//! Exact for small teams: for the usual team sizes every mix of ticket sizes that fills the teams is computed once
//! (`mixes`), so that a search knows at once whether the sizes at hand can work at all. If there are too many mixes,
//! `sizes` answers without them.
//!
//! Even teams are made in three ways, because no single way is good for all: a bound detects sets that cannot be even;
//! small sets are tried in every way; and the result is improved by exchanging tickets of one size between two teams,
//! which is what makes large teams even.

use alloc::vec;
use alloc::vec::Vec;

/// Maximum number of steps of one packing.
const PACKING_STEPS: usize = 2_000;
/// Maximum number of tickets for which every way to make two teams is tried within these steps.
const TRIED: usize = 12;
/// Steps with more tickets than that, in addition to one per ticket.
const STEPS_OF_MANY: usize = 200;
/// Maximum number of exchanges of two tickets that even out teams.
const EXCHANGES: usize = 64;
/// Averages with a smaller relative difference count as equal.
const ROUNDING: f64 = 1e-9;

/// The teams to be filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Teams {
    pub(crate) count: u32,
    /// Minimum number of players of a team.
    pub(crate) least: u16,
    /// Maximum number of players of a team.
    pub(crate) most: u16,
}

/// One ticket, as packing sees it: players, and the sum of their ratings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Item {
    pub(crate) size: u16,
    pub(crate) rating: f64,
}

/// The team of each item, or `None` if none was found: within [`PACKING_STEPS`], so this is only certain for few items.
/// With `max_apart`, the most even teams found, if their average ratings differ by at most that. Also returns the
/// number of steps.
pub(crate) fn pack(items: &[Item], teams: Teams, max_apart: Option<f64>) -> (Option<Vec<u32>>, usize) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    // Large ones first, since they have the least choice; then strong ones, so that weak ones even them out.
    let key = |at: &usize| items.get(*at).map_or((0, 0.0), |item| (item.size, item.rating));
    order.sort_by(|a, b| {
        let ((size_a, rating_a), (size_b, rating_b)) = (key(a), key(b));
        size_b.cmp(&size_a).then(rating_b.total_cmp(&rating_a)).then(a.cmp(b))
    });
    let count = teams.count.max(1) as usize;
    let mut packing = Packing {
        items,
        order,
        teams,
        even: max_apart.is_some(),
        filled: vec![Item { size: 0, rating: 0.0 }; count],
        team_of: vec![0; items.len()],
        best: None,
        steps: PACKING_STEPS,
    };
    let limit = max_apart.unwrap_or(f64::INFINITY);
    if least_apart(items, teams) > limit * (1.0 + ROUNDING) + ROUNDING {
        return (None, 1 + items.len() / 8);
    }
    let steps =
        if items.len() <= TRIED || max_apart.is_none() { PACKING_STEPS } else { STEPS_OF_MANY + items.len() };
    packing.steps = steps;
    packing.place(0);
    let taken = steps - packing.steps;
    let Some((apart, mut team_of)) = packing.best else { return (None, taken) };
    if max_apart.is_none() || apart == 0.0 || items.len() <= TRIED {
        return ((apart <= limit).then_some(team_of), taken);
    }
    let (apart, exchanges) = even_out(items, count, &mut team_of);
    ((apart <= limit).then_some(team_of), taken + exchanges)
}

/// A lower bound for the difference of the averages of full teams of these items, by the best possible places of the
/// strongest and the weakest item.
fn least_apart(items: &[Item], teams: Teams) -> f64 {
    if teams.count < 2 || teams.least != teams.most {
        return 0.0;
    }
    let by_player = |item: &Item| item.rating / f64::from(item.size.max(1));
    let mut sorted: Vec<Item> = items.to_vec();
    sorted.sort_by(|a, b| by_player(a).total_cmp(&by_player(b)));
    let all: f64 = items.iter().map(|item| item.rating).sum();
    let others = f64::from((teams.count - 1) * u32::from(teams.most));
    // The team of the last of these, completed by the first.
    let apart = |sorted: &mut dyn Iterator<Item = &Item>, own: Option<&Item>| {
        let Some(own) = own else { return 0.0 };
        let (mut room, mut sum) = (teams.most.saturating_sub(own.size), own.rating);
        for item in sorted {
            let taken = item.size.min(room);
            sum += by_player(item) * f64::from(taken);
            room -= taken;
        }
        sum / f64::from(teams.most) - (all - sum) / others
    };
    let strongest = apart(&mut sorted.iter(), sorted.last());
    let weakest = -apart(&mut sorted.iter().rev(), sorted.first());
    strongest.max(weakest).max(0.0)
}

/// Exchanges tickets of one size between the strongest and the weakest team while that makes the teams more even.
/// Returns their final difference, and the number of steps.
pub(crate) fn even_out(items: &[Item], count: usize, team_of: &mut [u32]) -> (f64, usize) {
    let mut steps = 0;
    let mut apart = f64::INFINITY;
    for _ in 0..EXCHANGES {
        let averages = averages(items, count, team_of);
        let order = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        let teams = || averages.iter().copied().enumerate();
        let (Some(weakest), Some(strongest)) = (teams().min_by(order), teams().max_by(order)) else { break };
        apart = strongest.1 - weakest.1;
        steps += 1 + items.len() / 16;
        let Some((one, other)) = exchange(items, team_of, strongest, weakest) else { break };
        team_of.swap(one, other);
        let exchanged = spread(&self::averages(items, count, team_of));
        if exchanged >= apart - ROUNDING * apart.abs() {
            team_of.swap(one, other);
            break;
        }
        apart = exchanged;
    }
    (apart, steps)
}

/// The two tickets of one size whose exchange makes these two teams most even, by index.
fn exchange(
    items: &[Item],
    team_of: &[u32],
    (strong, most): (usize, f64),
    (weak, least): (usize, f64),
) -> Option<(usize, usize)> {
    let of_team = |team: usize| {
        let of = items.iter().enumerate().zip(team_of);
        of.filter(move |(_, of)| **of as usize == team).map(|((at, item), _)| (at, *item))
    };
    let players: u16 = of_team(strong).map(|(_, item)| item.size).sum();
    // The amount that the team would have to lose to be as strong as the other.
    let wanted = (most - least) / 2.0 * f64::from(players);
    let mut weaker: Vec<(u16, f64, usize)> =
        of_team(weak).map(|(at, item)| (item.size, item.rating, at)).collect();
    let order = |a: &(u16, f64, usize), size: u16, rating: f64| a.0.cmp(&size).then(a.1.total_cmp(&rating));
    weaker.sort_by(|a, b| order(a, b.0, b.1).then(a.2.cmp(&b.2)));
    let mut best: Option<(f64, usize, usize)> = None;
    for (at, item) in of_team(strong) {
        let place = weaker.partition_point(|other| order(other, item.size, item.rating - wanted).is_lt());
        for (size, rating, other) in weaker.get(place.saturating_sub(1)..).unwrap_or_default().iter().take(2)
        {
            let off = (item.rating - rating - wanted).abs();
            if *size == item.size && item.rating > *rating && best.is_none_or(|(least, ..)| off < least) {
                best = Some((off, at, *other));
            }
        }
    }
    best.map(|(_, one, other)| (one, other))
}

fn averages(items: &[Item], count: usize, team_of: &[u32]) -> Vec<f64> {
    let mut teams = vec![Item { size: 0, rating: 0.0 }; count];
    for (item, team) in items.iter().zip(team_of) {
        if let Some(team) = teams.get_mut(*team as usize) {
            team.size += item.size;
            team.rating += item.rating;
        }
    }
    teams.into_iter().filter(|team| team.size > 0).map(|team| team.rating / f64::from(team.size)).collect()
}

/// The difference of these averages.
fn spread(averages: &[f64]) -> f64 {
    let (least, most) = averages.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| {
        (least.min(*value), most.max(*value))
    });
    if most < least { 0.0 } else { most - least }
}

struct Packing<'a> {
    items: &'a [Item],
    order: Vec<usize>,
    teams: Teams,
    even: bool,
    filled: Vec<Item>,
    team_of: Vec<u32>,
    best: Option<(f64, Vec<u32>)>,
    steps: usize,
}

impl Packing<'_> {
    /// Places the items from the `at`-th in order on. True if nothing better can be found.
    fn place(&mut self, at: usize) -> bool {
        let Some((index, item)) =
            self.order.get(at).and_then(|index| Some((*index, *self.items.get(*index)?)))
        else {
            return self.note();
        };
        for team in self.choices(item) {
            if self.steps == 0 {
                return true;
            }
            self.steps -= 1;
            self.add(index, team, item, 1.0);
            if self.place(at + 1) {
                return true;
            }
            self.add(index, team, item, -1.0);
        }
        false
    }

    /// Teams with room, the weakest first if they must be even; only one of several identical ones.
    fn choices(&self, item: Item) -> Vec<usize> {
        let room = |filled: &Item| filled.size + item.size <= self.teams.most;
        let mut choices: Vec<(usize, Item)> =
            self.filled.iter().copied().enumerate().filter(|(_, filled)| room(filled)).collect();
        if self.even {
            choices.sort_by(|(a, one), (b, other)| one.rating.total_cmp(&other.rating).then(a.cmp(b)));
        } else if self.teams.least < self.teams.most {
            // Teams may differ in size, so they are kept about equal.
            choices.sort_by_key(|(team, filled)| (filled.size, *team));
        }
        let mut seen: Vec<Item> = Vec::new();
        choices.retain(|(_, filled)| {
            let alike = seen
                .iter()
                .any(|other| other.size == filled.size && (!self.even || other.rating == filled.rating));
            seen.push(*filled);
            !alike
        });
        choices.into_iter().map(|(team, _)| team).collect()
    }

    fn add(&mut self, index: usize, team: usize, item: Item, sign: f64) {
        if let Some(filled) = self.filled.get_mut(team) {
            filled.size = if sign > 0.0 { filled.size + item.size } else { filled.size - item.size };
            // Reset to exactly 0, so that rounding errors do not make identical teams differ.
            filled.rating = if filled.size == 0 { 0.0 } else { filled.rating + sign * item.rating };
        }
        if let Some(place) = self.team_of.get_mut(index) {
            *place = u32::try_from(team).unwrap_or(u32::MAX);
        }
    }

    fn note(&mut self) -> bool {
        if self.filled.iter().any(|filled| filled.size < self.teams.least) {
            return false;
        }
        let apart = if self.even { self.apart() } else { 0.0 };
        if self.best.as_ref().is_none_or(|(best, _)| apart < *best) {
            self.best = Some((apart, self.team_of.clone()));
        }
        apart == 0.0
    }

    fn apart(&self) -> f64 {
        let filled = self.filled.iter().filter(|filled| filled.size > 0);
        let averages: Vec<f64> = filled.map(|filled| filled.rating / f64::from(filled.size)).collect();
        spread(&averages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(items: &[Item], teams: Teams, max_apart: Option<f64>) -> Option<Vec<u32>> {
        super::pack(items, teams, max_apart).0
    }

    fn solo(rating: f64) -> Item {
        Item { size: 1, rating }
    }

    fn party(size: u16) -> Item {
        Item { size, rating: f64::from(size) }
    }

    const TWO_OF_FIVE: Teams = Teams { count: 2, least: 5, most: 5 };

    #[test]
    fn parties_are_never_parted() {
        let items = [party(3), party(3), party(2), party(2)];
        let teams = pack(&items, TWO_OF_FIVE, None).unwrap();
        for team in 0..2 {
            let size: u16 =
                items.iter().zip(&teams).filter(|(_, of)| **of == team).map(|(item, _)| item.size).sum();
            assert_eq!(size, 5);
        }
        assert_eq!(pack(&[party(3), party(3), party(4)], TWO_OF_FIVE, None), None);
        assert_eq!(pack(&[party(3), party(3), party(3)], TWO_OF_FIVE, None), None);
    }

    #[test]
    fn teams_are_as_even_as_they_can_be() {
        let ratings = [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 2.0].map(solo);
        let teams = pack(&ratings, TWO_OF_FIVE, Some(0.0)).expect("28 and 28");
        let sum = |team| -> f64 {
            ratings.iter().zip(&teams).filter(|(_, of)| **of == team).map(|(item, _)| item.rating).sum()
        };
        assert_eq!((sum(0), sum(1)), (28.0, 28.0));
        let uneven = [solo(100.0), solo(1.0), solo(1.0), solo(1.0)];
        let two = Teams { count: 2, least: 2, most: 2 };
        assert_eq!(pack(&uneven, two, Some(10.0)), None);
        assert!(pack(&uneven, two, Some(49.5)).is_some());
    }

    fn apart(items: &[Item], team_of: &[u32]) -> f64 {
        spread(&averages(items, 2, team_of))
    }

    #[test]
    fn large_teams_are_evened_out() {
        let two = Teams { count: 2, least: 100, most: 100 };
        let ratings: Vec<Item> = (0..200).map(|n| solo(f64::from(n * n % 1_009) * 3.0)).collect();
        let teams = pack(&ratings, two, Some(1.0)).expect("sums within 100 of 300,000");
        assert!(apart(&ratings, &teams) <= 1.0);
        // Duos and solos, in teams of fifty.
        let parties =
            (0..50_u16).map(|n| Item { size: if n % 5 == 0 { 2 } else { 1 }, rating: f64::from(n * 40) });
        let parties: Vec<Item> = parties.collect();
        let two = Teams { count: 2, least: 30, most: 30 };
        let teams = pack(&parties, two, Some(20.0)).unwrap();
        assert!(apart(&parties, &teams) <= 20.0);
    }

    /// Checks the bound by trying everything.
    #[test]
    fn sets_that_cannot_be_even_are_told_without_trying() {
        let two = Teams { count: 2, least: 3, most: 3 };
        for outlier in [0.0, 500.0, 1_500.0, 1_800.0, 2_500.0, 4_000.0] {
            let items: Vec<Item> = [outlier, 1_500.0, 1_510.0, 1_490.0, 1_505.0, 1_495.0].map(solo).to_vec();
            let all = (0..64_u32).filter(|bits| bits.count_ones() == 3);
            let best = all.map(|bits| apart(&items, &(0..6).map(|at| bits >> at & 1).collect::<Vec<_>>()));
            let best = best.fold(f64::INFINITY, f64::min);
            assert!(least_apart(&items, two) <= best + 1e-9, "{outlier}: {best}");
            assert!(least_apart(&items, two) > best - 15.0, "{outlier}: the bound is of use");
            assert!(pack(&items, two, Some(best + 1e-6)).is_some());
            assert_eq!(pack(&items, two, Some(best - 1e-3)), None);
        }
    }

    #[test]
    fn teams_may_differ_in_size_within_their_bounds() {
        let teams = Teams { count: 2, least: 1, most: 3 };
        let packed = pack(&[party(1); 5], teams, None).unwrap();
        assert_eq!(packed.iter().filter(|team| **team == 0).count(), 3);
        assert_eq!(pack(&[party(3)], teams, None), None, "one team would be empty");
        assert!(pack(&[party(1); 60], Teams { count: 20, least: 3, most: 3 }, None).is_some());
    }
}
