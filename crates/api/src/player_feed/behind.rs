//! The players for whom the broker's log has not been told far enough yet.
//!
//! The machines' states, from which a stream's standing is read, are ahead of the follower, and the two logs are told
//! at different paces. If the matchmaker's event that a player can connect has been told and the broker's has not, the
//! follower cannot tell a player who starts to listen: that player's stream has to start later.

use std::collections::{HashMap, VecDeque};

use sortie_domain::ids::PlayerId;

/// Maximum number of players who are remembered individually. Beyond that the oldest count for everybody.
const MAX_PLAYERS: usize = 50_000;

/// Places of the broker's log, by player.
#[derive(Default)]
pub(super) struct Behind {
    by_player: HashMap<PlayerId, u64>,
    /// Ordered by place.
    order: VecDeque<(u64, PlayerId)>,
    /// A place for all players.
    everybody: u64,
}

impl Behind {
    /// Notes that a player can connect, which the broker's log tells at `seq` at the latest. Places never decrease.
    pub(super) fn note(&mut self, player: &PlayerId, seq: u64) {
        self.by_player.insert(player.clone(), seq);
        self.order.push_back((seq, player.clone()));
        while self.order.len() > MAX_PLAYERS {
            let Some((seq, player)) = self.order.pop_front() else { return };
            self.everybody = self.everybody.max(seq);
            self.forget(seq, &player);
        }
    }

    /// The broker's log has been told up to `seq`.
    pub(super) fn told(&mut self, seq: u64) {
        while let Some((_, player)) = self.order.pop_front_if(|(place, _)| *place <= seq) {
            self.forget(seq, &player);
        }
    }

    /// How far the broker's log has to be told before a stream of the player begins.
    pub(super) fn needed(&self, player: &PlayerId) -> u64 {
        self.by_player.get(player).copied().unwrap_or_default().max(self.everybody)
    }

    fn forget(&mut self, seq: u64, player: &PlayerId) {
        if self.by_player.get(player).is_some_and(|place| *place <= seq) {
            self.by_player.remove(player);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(number: usize) -> PlayerId {
        PlayerId::new(&format!("p{number}")).unwrap()
    }

    #[test]
    fn a_player_waits_for_the_last_place_that_was_noted_and_not_longer() {
        let mut behind = Behind::default();
        behind.note(&player(1), 5);
        behind.note(&player(2), 6);
        behind.note(&player(1), 8);
        assert_eq!([1, 2, 3].map(|number| behind.needed(&player(number))), [8, 6, 0]);
        behind.told(6);
        assert_eq!([1, 2].map(|number| behind.needed(&player(number))), [8, 0]);
        behind.told(8);
        assert!(behind.by_player.is_empty() && behind.order.is_empty());
    }

    #[test]
    fn beyond_the_limit_everybody_waits_for_the_oldest() {
        let mut behind = Behind::default();
        for number in 0..=MAX_PLAYERS {
            behind.note(&player(number), 7 + number as u64);
        }
        assert_eq!((behind.by_player.len(), behind.order.len()), (MAX_PLAYERS, MAX_PLAYERS));
        assert_eq!([0, 1].map(|number| behind.needed(&player(number))), [7, 8]);
    }
}
