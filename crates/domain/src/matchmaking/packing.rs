//! How tickets of different sizes fill teams.
//!
//! Exact where that is small: for the usual team sizes every mix of ticket sizes that fills the teams is worked out
//! once, so that a search knows at once whether the sizes at hand can do at all. A pool of nothing but parties of three
//! has no five against five, and that must not take a search to find out. Where there are too many mixes, sizes are
//! tried with a bound; for large matches the first try nearly always does.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

/// Most mixes of ticket sizes that are worked out for one queue and team size.
const MAX_MIXES: usize = 4096;
/// Largest team whose mixes are worked out, in players.
const MAX_MIXED_TEAM: u16 = 16;
/// Steps that one packing takes at most.
pub(crate) const PACKING_STEPS: usize = 2_000;

/// How many tickets of each size: `counts[size - 1]`.
pub(crate) type Mix = Box<[u16]>;

/// Every mix of ticket sizes that fills `teams` teams of `size` exactly; `None` where there are too many.
pub(crate) fn mixes(teams: u32, size: u16) -> Option<Vec<Mix>> {
    if size > MAX_MIXED_TEAM {
        return None;
    }
    let mut patterns = Vec::new();
    partitions(size, size, &mut vec![0; usize::from(size)], &mut patterns);
    let mut found: BTreeSet<Mix> = BTreeSet::from([Box::from(vec![0; usize::from(size)])]);
    for _ in 0..teams.max(1) {
        let mut next = BTreeSet::new();
        for mix in &found {
            for pattern in &patterns {
                next.insert(mix.iter().zip(pattern).map(|(a, b)| a + b).collect());
                if next.len() > MAX_MIXES {
                    return None;
                }
            }
        }
        found = next;
    }
    Some(found.into_iter().collect())
}

/// Every way to write `left` as a sum of numbers up to `largest`.
fn partitions(left: u16, largest: u16, counts: &mut Vec<u16>, found: &mut Vec<Vec<u16>>) {
    if left == 0 {
        found.push(counts.clone());
        return;
    }
    for part in (1..=largest.min(left)).rev() {
        let Some(place) = usize::from(part).checked_sub(1) else { continue };
        bump(counts, place, 1);
        partitions(left - part, part, counts, found);
        bump(counts, place, -1);
    }
}

fn bump(counts: &mut [u16], place: usize, by: i16) {
    if let Some(count) = counts.get_mut(place) {
        *count = count.saturating_add_signed(by);
    }
}

/// The teams to be filled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Teams {
    pub(crate) count: u32,
    /// Fewest players of a team.
    pub(crate) least: u16,
    /// Most players of a team.
    pub(crate) most: u16,
}

/// One ticket, as packing sees it: players, and the sum of their ratings.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Item {
    pub(crate) size: u16,
    pub(crate) rating: f64,
}

/// The team of each item, or `None` if none was found: within [`PACKING_STEPS`], so for sure only where there are few
/// items. With `most_apart`, the most even teams found, if the averages of their ratings are that near. Beside it, the
/// steps that it took.
pub(crate) fn pack(items: &[Item], teams: Teams, most_apart: Option<f64>) -> (Option<Vec<u32>>, usize) {
    let mut order: Vec<usize> = (0..items.len()).collect();
    // Large ones first, since they have the least choice; then the strong ones, so that the weak ones even out.
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
        even: most_apart.is_some(),
        filled: vec![Item { size: 0, rating: 0.0 }; count],
        team_of: vec![0; items.len()],
        best: None,
        steps: PACKING_STEPS,
    };
    packing.place(0);
    let near = packing.best.filter(|(apart, _)| most_apart.is_none_or(|most| *apart <= most));
    (near.map(|(_, team_of)| team_of), PACKING_STEPS - packing.steps)
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
    /// Places the items from the `at`-th of the order on. True where there is nothing better to be found.
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

    /// Teams with room, the weakest first where they are to be even; of those that are alike, one.
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
            // Back to nothing exactly, so that rounding does not tell apart what is alike.
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

    /// How far the averages of teams are apart.
    fn apart(&self) -> f64 {
        let averages = self.filled.iter().filter(|filled| filled.size > 0);
        let averages = averages.map(|filled| filled.rating / f64::from(filled.size));
        let (least, most) = averages.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), average| {
            (least.min(average), most.max(average))
        });
        if most < least { 0.0 } else { most - least }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(items: &[Item], teams: Teams, most_apart: Option<f64>) -> Option<Vec<u32>> {
        super::pack(items, teams, most_apart).0
    }

    fn solo(rating: f64) -> Item {
        Item { size: 1, rating }
    }

    fn party(size: u16) -> Item {
        Item { size, rating: f64::from(size) }
    }

    const TWO_OF_FIVE: Teams = Teams { count: 2, least: 5, most: 5 };

    #[test]
    fn mixes_are_those_that_fill_the_teams() {
        let two_of_two = mixes(2, 2).unwrap();
        let found: Vec<&[u16]> = two_of_two.iter().map(|mix| &**mix).collect();
        assert_eq!(found, [&[0, 2][..], &[2, 1], &[4, 0]]);
        // Three and three leave two and two, not four.
        let fives = mixes(2, 5).unwrap();
        let has = |counts: [u16; 5]| fives.iter().any(|mix| **mix == counts);
        assert!(has([0, 2, 2, 0, 0]) && has([1, 0, 0, 1, 1]) && has([10, 0, 0, 0, 0]));
        assert!(!has([0, 0, 2, 1, 0]), "3 + 3 + 4 is ten, and no two teams of five");
        assert_eq!(mixes(20, 3).unwrap().len(), 231);
        assert!(mixes(12, 5).is_none() && mixes(1, 60).is_none());
    }

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

    #[test]
    fn teams_may_differ_in_size_within_their_bounds() {
        let teams = Teams { count: 2, least: 1, most: 3 };
        let packed = pack(&[party(1); 5], teams, None).unwrap();
        assert_eq!(packed.iter().filter(|team| **team == 0).count(), 3);
        assert_eq!(pack(&[party(3)], teams, None), None, "one team would be empty");
        assert!(pack(&[party(1); 60], Teams { count: 20, least: 3, most: 3 }, None).is_some());
    }
}
