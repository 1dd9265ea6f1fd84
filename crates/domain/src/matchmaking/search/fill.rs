//! The teams of the tickets that were chosen, and the region.

use alloc::vec;
use alloc::vec::Vec;

use super::{Field, Goal, Made, Search};
use crate::ids::RegionId;
use crate::matchmaking::BrokenRule;
use crate::matchmaking::packing::{Item, even_out, pack};
use crate::matchmaking::pools::Slot;
use crate::matchmaking::sizes::Counts;

/// The cost of a step of filling teams, in comparisons of two numbers.
const PACK_COST: u64 = 20;
/// Maximum number of tickets for which filling teams is tried ticket by ticket; beyond it, by the number of tickets of
/// each size.
const TRIED: usize = 40;

impl Search<'_> {
    /// The chosen tickets by team, if they fill the teams.
    pub(super) fn fill(&mut self, field: &Field, goal: &Goal, chosen: &[u16]) -> Option<Made> {
        let mut tickets: Vec<(u64, Slot, u16)> = chosen
            .iter()
            .filter_map(|index| field.get(*index))
            .map(|candidate| (candidate.place, candidate.slot, candidate.class))
            .collect();
        // By age, regardless of which ticket made the match possible.
        tickets.sort_unstable();
        let slots: Vec<Slot> = tickets.iter().map(|(_, slot, _)| *slot).collect();
        self.spend(slots.len() as u64);
        if goal.teams.count <= 1 {
            return Some(Vec::from([slots]));
        }
        let is_uniform = goal.teams.least == goal.teams.most;
        if !self.rules.balances() && is_uniform && slots.len() > TRIED {
            return self.by_sizes(field, goal, &tickets);
        }
        let waiting = || slots.iter().filter_map(|slot| self.pools.get(*slot));
        let items: Vec<Item> = waiting()
            .map(|waiting| Item { size: waiting.profile.size, rating: waiting.profile.rating })
            .collect();
        let limit = waiting().map(|waiting| waiting.profile.balance).fold(f64::INFINITY, f64::min);
        let limit = if self.broken(BrokenRule::ForgetBalance) { f64::INFINITY } else { limit };
        let (team_of, steps) = pack(&items, goal.teams, self.rules.balances().then_some(limit));
        self.spend(PACK_COST * steps as u64);
        let Some(team_of) = team_of else {
            if !is_uniform || (self.rules.balances() && slots.len() <= TRIED) {
                return None;
            }
            let teams = self.by_sizes(field, goal, &tickets)?;
            return if self.rules.balances() {
                self.evened_out(&slots, &items, &teams, limit)
            } else {
                Some(teams)
            };
        };
        let mut teams = vec![Vec::new(); goal.teams.count as usize];
        for (slot, team) in slots.into_iter().zip(team_of) {
            if let Some(team) = teams.get_mut(team as usize) {
                team.push(slot);
            }
        }
        Some(teams)
    }

    /// The same tickets in teams that are as even as required.
    fn evened_out(
        &mut self,
        slots: &[Slot],
        items: &[Item],
        teams: &[Vec<Slot>],
        limit: f64,
    ) -> Option<Made> {
        let team_of = |slot: &Slot| teams.iter().position(|team| team.contains(slot));
        let team_of = slots.iter().map(|slot| team_of(slot).and_then(|team| u32::try_from(team).ok()));
        let mut team_of: Vec<u32> = team_of.collect::<Option<_>>()?;
        let (apart, steps) = even_out(items, teams.len(), &mut team_of);
        self.spend(PACK_COST * steps as u64 + (slots.len() * slots.len()) as u64 / 8);
        if apart > limit {
            return None;
        }
        let mut made = vec![Vec::new(); teams.len()];
        for (slot, team) in slots.iter().zip(team_of) {
            if let Some(team) = made.get_mut(team as usize) {
                team.push(*slot);
            }
        }
        Some(made)
    }

    /// Teams by the number of tickets of each size that they get: of each size, the oldest go to the first team.
    fn by_sizes(&mut self, field: &Field, goal: &Goal, tickets: &[(u64, Slot, u16)]) -> Option<Made> {
        let mut chosen: Counts = vec![0; field.sizes.len()];
        let mut of_size: Vec<Vec<(u64, Slot)>> = vec![Vec::new(); field.sizes.len()];
        for (place, slot, class) in tickets.iter().rev() {
            let class = usize::from(*class);
            if let (Some(count), Some(line)) = (chosen.get_mut(class), of_size.get_mut(class)) {
                *count += 1;
                line.push((*place, *slot));
            }
        }
        let (nobody, mut cost) = (vec![0; field.sizes.len()], 0);
        let plan = self.filling(field, goal).plan(&chosen, &nobody, &mut cost);
        self.spend(cost);
        let teams = plan?.into_iter().map(|counts| {
            let mut team: Vec<(u64, Slot)> = Vec::new();
            for (count, line) in counts.into_iter().zip(&mut of_size) {
                let rest = line.len().saturating_sub(usize::from(count));
                team.extend(line.drain(rest..));
            }
            team.sort_unstable();
            team.into_iter().map(|(_, slot)| slot).collect()
        });
        Some(teams.collect())
    }

    /// The region with the best worst round trip of all players.
    pub(super) fn best_region(&self, teams: &[Vec<Slot>], of_pool: Option<&RegionId>) -> Option<RegionId> {
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
