//! What a player can verify of the server's updates: a bot that only counted packets would not notice a server that
//! mixes up its players.
//!
//! The bot computes its own position from the inputs that the server reports as applied, and compares.

use std::collections::VecDeque;

use crate::protocol::{Inputs, MAX_INPUTS, WorldUpdate};
use crate::world::{Directions, Position};

/// Maximum number of inputs not yet reported as applied; beyond it the bot stands still.
const MAX_UNAPPLIED: usize = 64;
/// Maximum number of consecutive updates older than one already seen: a network reorders a few packets, not all.
const MAX_STALE: u32 = 40;
/// Maximum number of consecutive updates while the maximum number of inputs waits to be applied.
const MAX_IGNORING: u32 = 40;

/// What is wrong with an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("the player is not in its own world")]
    Absent,
    #[error("the player is called {now} and was called {before}")]
    Renamed { before: u16, now: u16 },
    #[error("{applied} inputs were applied, but {sent} were sent and {before} already applied")]
    Applied { applied: u32, before: u32, sent: u32 },
    #[error("the player is at {told:?}, but its inputs lead to {expected:?}")]
    Misplaced { told: Position, expected: Position },
    #[error("a player is off the field, at {0:?}")]
    OffField(Position),
    #[error("time does not advance: still at tick {0}")]
    Stuck(u32),
    #[error("none of the last {MAX_UNAPPLIED} inputs were applied")]
    Ignored,
}

struct Known {
    number: u16,
    tick: u32,
    position: Position,
}

/// Follows one visit to one server.
#[derive(Default)]
pub(crate) struct Check {
    known: Option<Known>,
    applied: u32,
    unapplied: VecDeque<Directions>,
    stale: u32,
    ignoring: u32,
    updates: u64,
}

impl Check {
    /// Number of accepted updates.
    pub(crate) const fn updates(&self) -> u64 {
        self.updates
    }

    /// Adds an input. Returns what to send: every input that the server has not applied yet, oldest first.
    pub(crate) fn walk(&mut self, directions: Directions) -> Inputs {
        if self.unapplied.len() < MAX_UNAPPLIED {
            self.unapplied.push_back(directions);
        }
        let directions = self.unapplied.iter().copied().take(MAX_INPUTS).collect();
        Inputs { first: self.applied.saturating_add(1), directions }
    }

    /// Checks an update. Returns whether it was news, i.e. not overtaken by a later one.
    pub(crate) fn take(&mut self, update: &WorldUpdate) -> Result<bool, Wrong> {
        let own = update.players.iter().find(|placed| placed.number == update.you).ok_or(Wrong::Absent)?;
        if let Some(off) = update.players.iter().find(|placed| !placed.position.is_on_field()) {
            return Err(Wrong::OffField(off.position));
        }
        let sent = self.applied.saturating_add(self.unapplied.len() as u32);
        let Some(known) = &self.known else {
            // The first update sets where the walk begins; no input can have been applied before it was sent.
            if update.applied > sent {
                return Err(Wrong::Applied { applied: update.applied, before: 0, sent });
            }
            return self.begin(update, own.position);
        };
        if known.number != update.you {
            return Err(Wrong::Renamed { before: known.number, now: update.you });
        }
        if update.tick <= known.tick {
            return self.take_stale(known.tick);
        }
        if !(self.applied..=sent).contains(&update.applied) {
            return Err(Wrong::Applied { applied: update.applied, before: self.applied, sent });
        }
        let expected = self.follow(known.position, update.applied);
        if expected != own.position {
            return Err(Wrong::Misplaced { told: own.position, expected });
        }
        self.accept(update, expected)
    }

    fn begin(&mut self, update: &WorldUpdate, position: Position) -> Result<bool, Wrong> {
        self.follow(position, update.applied);
        self.accept(update, position)
    }

    fn take_stale(&mut self, tick: u32) -> Result<bool, Wrong> {
        self.stale += 1;
        if self.stale > MAX_STALE { Err(Wrong::Stuck(tick)) } else { Ok(false) }
    }

    /// Walks the inputs that have been applied, and forgets them.
    fn follow(&mut self, from: Position, applied: u32) -> Position {
        let newly = (applied - self.applied) as usize;
        self.applied = applied;
        self.unapplied.drain(..newly).fold(from, Position::step)
    }

    fn accept(&mut self, update: &WorldUpdate, position: Position) -> Result<bool, Wrong> {
        self.known = Some(Known { number: update.you, tick: update.tick, position });
        self.stale = 0;
        self.ignoring = if self.unapplied.len() < MAX_UNAPPLIED { 0 } else { self.ignoring + 1 };
        if self.ignoring > MAX_IGNORING {
            return Err(Wrong::Ignored);
        }
        self.updates += 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    /// A bot and a world in which it has a number and is followed.
    fn playing() -> (Check, World, u16) {
        let (mut check, mut world) = (Check::default(), World::default());
        let number = world.join().unwrap();
        world.tick();
        assert_eq!(check.take(&world.update_for(number).unwrap()), Ok(true));
        (check, world, number)
    }

    fn next(check: &mut Check, world: &mut World, number: u16) -> WorldUpdate {
        world.take_inputs(number, &check.walk(Directions::UP | Directions::LEFT));
        world.tick();
        world.update_for(number).unwrap()
    }

    #[test]
    fn an_honest_server_is_believed() {
        let (mut check, mut world, number) = playing();
        for _ in 0..100 {
            let update = next(&mut check, &mut world, number);
            assert_eq!(check.take(&update), Ok(true));
        }
        assert_eq!(check.updates(), 101);
    }

    #[test]
    fn an_overtaken_update_is_not_news() {
        let (mut check, mut world, number) = playing();
        let early = next(&mut check, &mut world, number);
        let late = next(&mut check, &mut world, number);
        assert_eq!(check.take(&late), Ok(true));
        assert_eq!(check.take(&early), Ok(false));
    }

    #[test]
    fn every_lie_is_found() {
        let lie = |spoil: fn(&mut WorldUpdate)| {
            let (mut check, mut world, number) = playing();
            let mut update = next(&mut check, &mut world, number);
            spoil(&mut update);
            check.take(&update).unwrap_err()
        };
        assert!(matches!(lie(|update| update.players.clear()), Wrong::Absent));
        assert!(matches!(lie(|update| update.players[0].position.x += 1), Wrong::Misplaced { .. }));
        assert!(matches!(lie(|update| update.players[0].position.y = 2000), Wrong::OffField(_)));
        assert!(matches!(lie(|update| update.applied += 1), Wrong::Applied { .. }));
        assert!(matches!(lie(|update| update.applied = 0), Wrong::Misplaced { .. }));
        let renamed = lie(|update| {
            update.you += 1;
            update.players[0].number += 1;
        });
        assert!(matches!(renamed, Wrong::Renamed { .. }));
    }

    #[test]
    fn a_world_that_stands_still_is_found() {
        let (mut check, world, number) = playing();
        let update = world.update_for(number).unwrap();
        let first_complaint = (1..).find(|_| check.take(&update).is_err());
        assert_eq!(first_complaint, Some(MAX_STALE + 1));
    }

    #[test]
    fn a_server_that_ignores_its_player_is_found() {
        let (mut check, mut world, number) = playing();
        let mut updates = std::iter::repeat_with(|| {
            check.walk(Directions::UP);
            world.tick();
            check.take(&world.update_for(number).unwrap())
        });
        assert_eq!(updates.by_ref().take(MAX_UNAPPLIED).find(Result::is_err), None);
        assert_eq!(updates.find(Result::is_err), Some(Err(Wrong::Ignored)));
    }

    #[test]
    fn inputs_are_bounded_while_the_server_is_silent() {
        let (mut check, _, _) = playing();
        for _ in 0..1000 {
            assert!(check.walk(Directions::UP).directions.len() <= MAX_INPUTS);
        }
        assert_eq!(check.unapplied.len(), MAX_UNAPPLIED);
    }
}
