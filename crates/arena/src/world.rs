//! The rules of the game: a square field with players who walk on it.
//!
//! Pure, so that a server and a player compute the same: a player who knows which of its inputs were applied knows
//! exactly where it must be, and can detect a server that cheats or errs. Inputs are applied one by one in the order of
//! their numbers, none skipped and none twice, whatever happens to the packets.

use std::collections::{BTreeMap, VecDeque};
use std::ops::BitOr;

use crate::protocol::{Inputs, MAX_INPUTS, Placed, WorldUpdate};

/// Side length of the field, in units; positions run from 0 to this number.
pub const FIELD: u16 = 1000;
/// Units walked per input.
pub const STRIDE: u16 = 5;
/// Maximum number of players in a match.
pub const MAX_PLAYERS: usize = 64;
/// Maximum number of inputs saved up from ticks without one. Over any longer time a player moves at one input per tick,
/// however fast inputs are sent.
const MAX_CREDIT: u32 = 8;

/// Where something is, in units from the upper left corner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// To the right.
    pub x: u16,
    /// Downwards.
    pub y: u16,
}

/// Directions pressed at one moment: up 1, down 2, left 4, right 8. Opposite ones cancel out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Directions(u8);

impl Directions {
    /// Towards the upper edge.
    pub const UP: Self = Self(1);
    /// Towards the lower edge.
    pub const DOWN: Self = Self(2);
    /// Towards the left edge.
    pub const LEFT: Self = Self(4);
    /// Towards the right edge.
    pub const RIGHT: Self = Self(8);

    /// A set from its bits; `None` if a bit has no meaning.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }

    /// The set as bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    const fn holds(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Directions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Position {
    /// The position after one input.
    #[must_use]
    pub fn step(self, directions: Directions) -> Self {
        let walk = |from: u16, less: bool, more: bool| match (less, more) {
            (true, false) => from.saturating_sub(STRIDE),
            (false, true) => from.saturating_add(STRIDE).min(FIELD),
            _ => from,
        };
        Self {
            x: walk(self.x, directions.holds(Directions::LEFT), directions.holds(Directions::RIGHT)),
            y: walk(self.y, directions.holds(Directions::UP), directions.holds(Directions::DOWN)),
        }
    }

    /// Whether this is on the field.
    #[must_use]
    pub const fn is_on_field(self) -> bool {
        self.x <= FIELD && self.y <= FIELD
    }
}

struct Player {
    position: Position,
    applied: u32,
    waiting: VecDeque<Directions>,
    credit: u32,
}

/// The state of one match.
#[derive(Default)]
pub struct World {
    tick: u32,
    last_number: u16,
    players: BTreeMap<u16, Player>,
}

impl World {
    /// A player enters and gets a number; `None` if the world is full.
    pub fn join(&mut self) -> Option<u16> {
        if self.players.len() >= MAX_PLAYERS {
            return None;
        }
        let number = self.last_number.checked_add(1)?;
        self.last_number = number;
        let player =
            Player { position: entrance(number), applied: 0, waiting: VecDeque::new(), credit: MAX_CREDIT };
        self.players.insert(number, player);
        Some(number)
    }

    /// A player leaves.
    pub fn leave(&mut self, number: u16) {
        self.players.remove(&number);
    }

    /// Accepts a player's inputs. Skips those already known; those after a gap, or beyond the limit, are left for the
    /// player to send again.
    pub fn take_inputs(&mut self, number: u16, inputs: &Inputs) {
        let Some(player) = self.players.get_mut(&number) else { return };
        for (offset, directions) in inputs.directions.iter().enumerate() {
            let sequence = u64::from(inputs.first) + offset as u64;
            let expected = u64::from(player.applied) + player.waiting.len() as u64 + 1;
            if sequence == expected && player.waiting.len() < MAX_INPUTS {
                player.waiting.push_back(*directions);
            }
        }
    }

    /// Advances time by one tick.
    pub fn tick(&mut self) {
        self.tick = self.tick.saturating_add(1);
        for player in self.players.values_mut() {
            player.credit = (player.credit + 1).min(MAX_CREDIT);
            while player.credit > 0
                && player.applied < u32::MAX
                && let Some(directions) = player.waiting.pop_front()
            {
                player.position = player.position.step(directions);
                player.applied += 1;
                player.credit -= 1;
            }
        }
    }

    /// The update for a player; `None` if nobody has the number.
    #[must_use]
    pub fn update_for(&self, number: u16) -> Option<WorldUpdate> {
        let you = self.players.get(&number)?;
        let players = self
            .players
            .iter()
            .map(|(number, player)| Placed { number: *number, position: player.position })
            .collect();
        Some(WorldUpdate { tick: self.tick, you: number, applied: you.applied, players })
    }
}

/// Where a player of this number enters: spread over the field, the same in every run.
fn entrance(number: u16) -> Position {
    let spread = |factor: u32| (u32::from(number) * factor % u32::from(FIELD)) as u16;
    Position { x: spread(367), y: spread(619) }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn directions() -> impl Strategy<Value = Directions> {
        (0u8..16).prop_map(|bits| Directions::from_bits(bits).unwrap())
    }

    fn own(update: &WorldUpdate) -> Position {
        update.players.iter().find(|placed| placed.number == update.you).unwrap().position
    }

    #[test]
    fn a_step_moves_and_stops_at_the_edges() {
        let corner = Position { x: 0, y: FIELD };
        assert_eq!(corner.step(Directions::LEFT | Directions::DOWN), corner);
        assert_eq!(
            corner.step(Directions::RIGHT | Directions::UP),
            Position { x: STRIDE, y: FIELD - STRIDE }
        );
        assert_eq!(corner.step(Directions::RIGHT | Directions::LEFT), corner);
    }

    #[test]
    fn inputs_after_a_gap_wait_for_what_is_missing() {
        let mut world = World::default();
        let number = world.join().unwrap();
        world.take_inputs(number, &Inputs { first: 3, directions: vec![Directions::UP] });
        world.tick();
        assert_eq!(world.update_for(number).unwrap().applied, 0);
        world.take_inputs(number, &Inputs { first: 1, directions: vec![Directions::UP; 3] });
        world.tick();
        assert_eq!(world.update_for(number).unwrap().applied, 3);
    }

    #[test]
    fn nobody_moves_faster_than_one_input_a_tick() {
        let mut world = World::default();
        let number = world.join().unwrap();
        let ticks = 100;
        for _ in 0..ticks {
            let next = world.update_for(number).unwrap().applied + 1;
            world.take_inputs(number, &Inputs { first: next, directions: vec![Directions::UP; MAX_INPUTS] });
            world.tick();
        }
        assert!(world.update_for(number).unwrap().applied <= ticks + MAX_CREDIT);
    }

    #[test]
    fn a_world_is_limited_and_numbers_are_not_reused() {
        let mut world = World::default();
        let numbers: Vec<_> = (0..MAX_PLAYERS).map(|_| world.join().unwrap()).collect();
        assert_eq!(world.join(), None);
        world.leave(numbers[0]);
        assert!(world.update_for(numbers[0]).is_none());
        assert_eq!(world.join(), Some(MAX_PLAYERS as u16 + 1));
    }

    proptest! {
        #[test]
        fn lost_and_repeated_packets_change_nothing(
            walk in vec(directions(), 1..60),
            arrives in vec(any::<bool>(), 200),
        ) {
            let mut world = World::default();
            let number = world.join().unwrap();
            let mut expected = own(&world.update_for(number).unwrap());
            let mut applied = 0;
            for arrives in arrives.into_iter().chain(std::iter::repeat_n(true, 60)) {
                let unapplied = &walk[applied as usize..];
                if arrives && !unapplied.is_empty() {
                    let directions = unapplied[..unapplied.len().min(MAX_INPUTS)].to_vec();
                    world.take_inputs(number, &Inputs { first: applied + 1, directions });
                }
                world.tick();
                let update = world.update_for(number).unwrap();
                for directions in &walk[applied as usize..update.applied as usize] {
                    expected = expected.step(*directions);
                }
                applied = update.applied;
                prop_assert_eq!(own(&update), expected);
                prop_assert!(expected.is_on_field());
            }
            prop_assert_eq!(applied as usize, walk.len());
        }
    }
}
