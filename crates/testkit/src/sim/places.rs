//! Seats and free places: players who ask more than once, and game servers whose reports may be wrong. The broker's
//! result is checked by plain counting.

use sortie_domain::broker::model::{Match, Seat, SeatState};
use sortie_domain::broker::{Command, Event, Reply};
use sortie_domain::ids::{FleetId, MatchId, PlayerId, SeatId, ServerId};
use sortie_domain::machine::{CallId, Machine as _};

use super::actors::Caller;
use super::world::World;

/// Maximum number of places that a server reports: enough for more than were ordered.
const MOST: u32 = 6;

impl World {
    /// The number may be wrong: the broker's reaction is checked.
    pub(super) fn say_free(&mut self, id: &ServerId, game: &MatchId) {
        let command = Command::ReportFreePlaces {
            match_id: game.clone(),
            server: Some(id.clone()).filter(|_| self.rng.bool()),
            free: self.rng.u32(0..=MOST),
        };
        self.input(command, Caller::Places);
    }

    /// The expected free places after a server's report: minus one for each player on the way.
    pub(super) fn expected_free(&self, command: &Command) -> Option<(MatchId, u32)> {
        let Command::ReportFreePlaces { match_id, free, .. } = command else { return None };
        let game = self.broker.find_match(match_id)?;
        Some((match_id.clone(), free.saturating_sub(coming(game))))
    }

    /// A new player, or one who has a seat and asks again.
    pub(super) fn joiner(&mut self) -> Option<PlayerId> {
        let asks_again = self.rng.u8(0..4) == 0;
        let known = self.rng.choice(&self.seats).filter(|_| asks_again);
        let player =
            known.and_then(|seat| Some(self.broker.match_of_seat(seat)?.seats.get(seat)?.player.clone()));
        player.or_else(|| PlayerId::new(&format!("j{}", self.count)).ok())
    }

    /// A player who gets a new seat has none in another match of the game, whatever its version. Violations because
    /// fleets later got other games are fine.
    pub(super) fn check_one_place(&mut self, seat: &Seat, game: &Match, again: bool) {
        let of_player = self.broker.matches_of(&seat.player, &[], None, usize::MAX).items;
        let fleet = self.broker.fleet_of(game);
        let fleets = self.broker.fleets(None, usize::MAX).items;
        let name = |id: &FleetId| {
            let view = fleets.iter().find(|view| view.fleet.id == *id)?;
            Some(view.fleet.game.as_ref()?.name.as_str())
        };
        let is_same = |other: &FleetId| {
            fleet.is_some_and(|fleet| {
                fleet == other || name(fleet).is_some_and(|game| Some(game) == name(other))
            })
        };
        let places = |of: &&Match| {
            of.seats.of_player(&seat.player).is_some() && self.broker.fleet_of(of).is_some_and(is_same)
        };
        if !again && of_player.iter().filter(places).count() > 1 {
            self.fail(format!("4: player {} has two places in one game", seat.player));
        }
        let all = self.broker.snapshot().matches;
        let scanned: Vec<_> =
            all.values().filter(|of| of.has_player(&seat.player)).map(|of| &of.id).collect();
        if !of_player.iter().map(|of| &of.id).eq(scanned) {
            self.fail(format!("4: not every match of player {} is found by the player", seat.player));
        }
    }

    /// A seat is claimed once, and again if its player has asked for it again since.
    pub(super) fn claimed_by(&mut self, seat: &SeatId) {
        let of_seat = self.log.iter().rev().filter_map(|record| match &record.event {
            Event::SeatClaimed { seat: of, .. } if of == seat => Some(false),
            Event::SeatRenewed { seat: of, .. } if of == seat => Some(true),
            _ => None,
        });
        let renewed = of_seat.skip_while(|renewed| *renewed).nth(1) == Some(true);
        if !self.claimed.insert(seat.clone()) && !renewed {
            self.fail(format!("4: seat {seat} was claimed twice"));
        }
    }

    pub(super) fn check_places(&mut self, call: CallId, expected: Option<(MatchId, u32)>, from: usize) {
        let Some(Ok(reply)) = self.answer_since(call, from).cloned() else { return };
        match (reply, expected) {
            (Reply::Match(game), Some((_, expected))) if game.free_places() != expected => {
                let free = game.free_places();
                self.fail(format!("4: match {} has {free} free places, not {expected}", game.id));
            }
            (Reply::Seated { seat, game, again: false }, _)
                if matches!(seat.state, SeatState::Reserved { .. }) =>
            {
                let sold_out = game.reported_free.is_some_and(|free| coming(&game) > free);
                if sold_out && !keeps_place(&game, &seat.player) {
                    self.fail(format!("4: match {} had no place for {}", game.id, seat.player));
                }
            }
            _ => {}
        }
    }
}

/// The number of players on the way to a match.
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
