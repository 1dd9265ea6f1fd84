//! A match of whatever tickets there are, for a ticket that expires: teams of at least the minimum, with as many
//! players as possible.

use alloc::vec::Vec;

use super::gather::Gather;
use super::{Field, Flow, Found, Goal, InPool, Made, Search, Set, Stage, candidate};
use crate::match_spec::MAX_PLAYERS;
use crate::matchmaking::packing::Teams;
use crate::matchmaking::pools::{Slot, Waiting};

impl Search<'_> {
    /// The last match that the ticket may have; of those in several pools, the one with the oldest ticket. Only one
    /// turn is spent on it, because there is no later one.
    pub(crate) fn last(&mut self, slot: Slot) -> Option<Found> {
        let ticket = self.pools.get(slot)?;
        let mut oldest: Option<(u64, u32, Made)> = None;
        for pool in &ticket.pools {
            let share = self.budget / 2;
            self.left = share;
            let teams = self.last_in(*pool, slot, ticket);
            self.budget = self.budget.saturating_sub(share - self.left);
            let Some(teams) = teams else { continue };
            let place = self.oldest_beside(slot, &teams);
            if oldest.as_ref().is_none_or(|(of_other, ..)| place < *of_other) {
                oldest = Some((place, *pool, teams));
            }
        }
        let (_, pool, teams) = oldest?;
        let region = self.best_region(&teams, self.pools.region(pool));
        Some(Found { teams, region })
    }

    fn last_in(&mut self, pool: u32, slot: Slot, ticket: &Waiting) -> Option<Made> {
        let queue = &self.rules.queue;
        if self.pools.players(pool) < queue.teams.max(1) * queue.min_players_per_team.max(1) {
            return None;
        }
        let most = queue.full().unwrap_or(MAX_PLAYERS as u32);
        let per_team =
            u16::try_from(queue.players_per_team).ok().filter(|most| *most > 0).unwrap_or(u16::MAX);
        let mut gather = Gather::everybody(self.pools.counts(pool), per_team, most);
        let field = Field { list: Vec::from([candidate(slot, ticket, 0)]), sizes: Vec::new() };
        let mut search = InPool { pool, pass: 0, leaves_out: false, turns: 0, field, stage: Stage::Done };
        let _ = self.gather(&mut search, &mut gather, ticket);
        self.put_in_order(&mut search.field);
        if queue.teams <= 1 {
            return self.whoever_is_there(&search.field, most);
        }
        self.uneven_teams(&search.field, most)
    }

    /// One team of tickets that go together, oldest first.
    fn whoever_is_there(&mut self, field: &Field, most: u32) -> Option<Made> {
        let mut set = Set::new(field.sizes.len(), self.rules.distances());
        let own = field.list.first()?;
        self.take(field, &mut set, 0, own);
        for (index, next) in field.list.iter().enumerate().skip(1) {
            let Ok(index) = u16::try_from(index) else { break };
            if u32::from(next.size) > most - set.players {
                continue;
            }
            match self.joins(field, &set, next) {
                Some(true) => self.take(field, &mut set, index, next),
                Some(false) => {}
                None => break,
            }
        }
        let mut slots: Vec<(u64, Slot)> = set
            .chosen
            .iter()
            .filter_map(|index| field.get(*index))
            .map(|candidate| (candidate.place, candidate.slot))
            .collect();
        slots.sort_unstable();
        let enough = set.players >= self.rules.queue.min_players_per_team.max(1);
        enough.then(|| Vec::from([slots.into_iter().map(|(_, slot)| slot).collect()]))
    }

    /// As many as there are, unless a team would be too small or too large.
    fn uneven_teams(&mut self, field: &Field, most: u32) -> Option<Made> {
        let queue = &self.rules.queue;
        let (count, least) = (queue.teams, queue.min_players_per_team.max(1));
        let players: u32 = field.list.iter().map(|candidate| u32::from(candidate.size)).sum();
        let (low, high) = (u16::try_from(least).ok()?, u16::try_from(queue.players_per_team).ok()?);
        let teams = Teams { count, least: low, most: high };
        (count * least..=most.min(players)).rev().find_map(|players| {
            let goal = Goal { teams, players, wanted: u32::MAX, possible: None };
            let (goal, mut greedy) = self.aim(field, goal)?;
            if let Flow::Found(chosen) = self.greedy(field, &goal, &mut greedy)
                && let Some(made) = self.fill(field, &goal, &chosen)
            {
                return Some(made);
            }
            let Stage::Exhaust(goal, mut exhaust) = self.exhaust_next(field, goal) else { return None };
            match self.exhaust(field, &goal, &mut exhaust, u64::MAX) {
                Flow::Found(made) => Some(made),
                Flow::Nothing | Flow::Cut => None,
            }
        })
    }
}
