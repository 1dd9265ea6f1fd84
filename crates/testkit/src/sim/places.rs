//! Free places by the word of game servers, which may be wrong: what the broker makes of it, by plain counting.

use sortie_domain::broker::model::{Match, SeatState};
use sortie_domain::broker::{Command, Reply};
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::machine::CallId;

use super::actors::Caller;
use super::world::World;

/// Most places that a server says of: enough for more than were ordered.
const MOST: u32 = 6;

impl World {
    /// Right or wrong: what counts is what is made of it.
    pub(super) fn say_free(&mut self, id: &ServerId, game: &MatchId) {
        let command = Command::ReportFreePlaces {
            match_id: game.clone(),
            server: Some(id.clone()).filter(|_| self.rng.bool()),
            free: self.rng.u32(0..=MOST),
        };
        self.input(command, Caller::Places);
    }

    /// How many places are free by what a server is about to say: less one for whoever is on the way.
    pub(super) fn expected_free(&self, command: &Command) -> Option<(MatchId, u32)> {
        let Command::ReportFreePlaces { match_id, free, .. } = command else { return None };
        let game = self.broker.find_match(match_id)?;
        Some((match_id.clone(), free.saturating_sub(coming(game))))
    }

    pub(super) fn check_places(&mut self, call: CallId, expected: Option<(MatchId, u32)>, from: usize) {
        let Some(Ok(reply)) = self.answer_since(call, from).cloned() else { return };
        match (reply, expected) {
            (Reply::Match(game), Some((_, expected))) if game.free_places() != expected => {
                let free = game.free_places();
                self.fail(format!("4: match {} has {free} free places, not {expected}", game.id));
            }
            (Reply::Seated { seat, game }, _) if matches!(seat.state, SeatState::Reserved { .. }) => {
                let sold_out = game.reported_free.is_some_and(|free| coming(&game) > free);
                if sold_out && !keeps_place(&game, &seat.player) {
                    self.fail(format!("4: match {} had no place for {}", game.id, seat.player));
                }
            }
            _ => {}
        }
    }
}

/// Who is on the way to a place of which the server speaks.
fn coming(game: &Match) -> u32 {
    let coming = game
        .seats
        .values()
        .filter(|seat| matches!(seat.state, SeatState::Reserved { .. }) && !keeps_place(game, &seat.player));
    u32::try_from(coming.count()).unwrap_or(u32::MAX)
}

fn keeps_place(game: &Match, player: &PlayerId) -> bool {
    game.spec.players.contains(player) && !game.seats.left().contains(player)
}
