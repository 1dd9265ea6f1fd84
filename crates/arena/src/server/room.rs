//! One match on this server: its world, its players, and its timers.
//!
//! Pure: time is an argument, and the host acts on the results.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::{Inputs, ServerMessage};
use crate::world::World;

/// State of a match, seen from this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// The platform is being told that players can connect. They may be faster than its answer.
    Opening,
    /// The platform knows.
    Open,
    /// The platform is being told that the match is over. No more players are admitted.
    Ending,
}

/// What is due in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nothing.
    Nothing,
    /// Ask the platform for the state of the match.
    Check,
    /// The match has reached its maximum length.
    TimeIsUp,
}

/// A player who has been admitted.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) seat_id: String,
    number: u16,
}

/// Timers of a room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) empty_after: Duration,
    pub(crate) match_length: Option<Duration>,
    pub(crate) check_every: Duration,
}

pub(crate) struct Room {
    pub(crate) stage: Stage,
    world: World,
    players: BTreeMap<u64, Seated>,
    pace: Pace,
    ends_at: Option<Instant>,
    check_at: Instant,
    is_checking: bool,
}

impl Room {
    pub(crate) fn new(pace: Pace, now: Instant) -> Self {
        Self {
            stage: Stage::Opening,
            world: World::default(),
            players: BTreeMap::new(),
            pace,
            ends_at: None,
            check_at: now,
            is_checking: false,
        }
    }

    /// The platform knows that players can connect.
    pub(crate) fn open(&mut self, now: Instant) {
        self.stage = Stage::Open;
        self.ends_at = self.pace.match_length.map(|length| now + length);
        self.check_later(now);
    }

    /// Whether players may still enter.
    pub(crate) fn admits(&self) -> bool {
        self.stage != Stage::Ending
    }

    /// Admits a player; returns the seat id as an error if the room is full.
    pub(crate) fn admit(&mut self, client_id: u64, seat_id: String) -> Result<(), String> {
        let Some(number) = self.world.join() else { return Err(seat_id) };
        self.players.insert(client_id, Seated { seat_id, number });
        Ok(())
    }

    /// A player is gone; returns the seat to release.
    pub(crate) fn remove(&mut self, client_id: u64, now: Instant) -> Option<Seated> {
        let seated = self.players.remove(&client_id)?;
        self.world.leave(seated.number);
        if self.players.is_empty() {
            self.check_later(now);
        }
        Some(seated)
    }

    /// Stops admitting players; returns the clients in the room.
    pub(crate) fn close(&mut self) -> Vec<u64> {
        self.stage = Stage::Ending;
        std::mem::take(&mut self.players).into_keys().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.players.is_empty()
    }

    pub(crate) fn take_inputs(&mut self, client_id: u64, inputs: &Inputs) {
        if let Some(seated) = self.players.get(&client_id) {
            self.world.take_inputs(seated.number, inputs);
        }
    }

    /// Advances the world by one tick.
    pub(crate) fn tick(&mut self) {
        self.world.tick();
    }

    /// The update for each player.
    pub(crate) fn updates(&self) -> impl Iterator<Item = (u64, ServerMessage)> + '_ {
        self.players.keys().filter_map(|client_id| Some((*client_id, self.update_for(*client_id)?)))
    }

    /// The update for one player.
    pub(crate) fn update_for(&self, client_id: u64) -> Option<ServerMessage> {
        let seated = self.players.get(&client_id)?;
        self.world.update_for(seated.number).map(ServerMessage::World)
    }

    /// Returns what is due at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.stage != Stage::Open {
            return Due::Nothing;
        }
        if self.ends_at.is_some_and(|ends_at| ends_at <= now) {
            return Due::TimeIsUp;
        }
        if self.is_checking || now < self.check_at {
            return Due::Nothing;
        }
        self.is_checking = true;
        Due::Check
    }

    /// A check was answered, or has failed.
    pub(crate) fn checked(&mut self, now: Instant) {
        self.is_checking = false;
        self.check_later(now);
    }

    fn check_later(&mut self, now: Instant) {
        let pause = if self.is_empty() { self.pace.empty_after } else { self.pace.check_every };
        self.check_at = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        empty_after: Duration::from_secs(2),
        match_length: Some(Duration::from_secs(60)),
        check_every: Duration::from_secs(10),
    };

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn an_empty_room_is_checked_soon_and_a_full_one_rarely() {
        let start = Instant::now();
        let mut room = Room::new(PACE, start);
        assert_eq!(room.due(seconds(start, 5)), Due::Nothing);
        room.open(start);
        assert_eq!(room.due(seconds(start, 1)), Due::Nothing);
        assert_eq!(room.due(seconds(start, 2)), Due::Check);
        assert_eq!(room.due(seconds(start, 5)), Due::Nothing);
        room.admit(1, "seat-1".to_owned()).unwrap();
        room.checked(seconds(start, 5));
        assert_eq!(room.due(seconds(start, 14)), Due::Nothing);
        assert_eq!(room.remove(1, seconds(start, 14)).unwrap().seat_id, "seat-1");
        assert_eq!(room.due(seconds(start, 15)), Due::Nothing);
        assert_eq!(room.due(seconds(start, 16)), Due::Check);
    }

    #[test]
    fn a_match_has_a_maximum_length_and_a_closed_room_is_left_alone() {
        let start = Instant::now();
        let mut room = Room::new(PACE, start);
        room.open(start);
        room.admit(7, "seat-7".to_owned()).unwrap();
        assert_eq!(room.due(seconds(start, 60)), Due::TimeIsUp);
        assert_eq!(room.close(), [7]);
        assert!(!room.admits());
        assert_eq!(room.due(seconds(start, 61)), Due::Nothing);
    }

    #[test]
    fn only_admitted_players_get_updates() {
        let mut room = Room::new(PACE, Instant::now());
        room.admit(1, "seat-1".to_owned()).unwrap();
        room.admit(2, "seat-2".to_owned()).unwrap();
        let told: Vec<_> = room.updates().map(|(client_id, _)| client_id).collect();
        assert_eq!(told, [1, 2]);
        assert!(room.update_for(3).is_none());
    }
}
