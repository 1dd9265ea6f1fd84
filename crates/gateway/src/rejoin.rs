//! Back into a match: a player who is in one and asks again is led back to it, or the player, a backend or an operator
//! names the match to rejoin.

use sortie_domain::broker::model::{Match, MatchState};
use sortie_domain::broker::{Command, Refusal, Reply};
use sortie_domain::ids::{FleetId, MatchId, PlayerId};
use sortie_engine::CallError;

use crate::Inner;
use crate::admission::{Admission, Given, Way, token};
use crate::error::JoinError;
use crate::follow::Reserved;
use crate::games::{Candidate, Candidates};
use crate::join::now;
use crate::options::GameFleet;
use crate::seat_guard::SeatGuard;
use sortie_domain::game::GameVersion;

impl Inner {
    /// The seat that a player has reserved, or, if players are led back, a seat in the match that the player is in or
    /// belongs to; of the requested game, or of any game if none is named. `None` if there is no such match.
    ///
    /// # Errors
    /// [`JoinError::OtherVersion`] if the match is one of the same game in another version, to which the player's
    /// client could not connect; [`JoinError`] if the broker is unavailable.
    pub(crate) async fn lead_back<'a>(
        &'a self,
        player: &PlayerId,
        candidates: Option<&'a Candidates>,
    ) -> Result<Option<Reserved<'a>>, JoinError> {
        let asked = candidates.and_then(|candidates| Some(candidates.first()?.fleet.game.clone()));
        let (of, at, rejoin, runs) = (player.clone(), now(), self.options.rejoin, self.games.runs.clone());
        let found = self.broker.query(move |broker| {
            let own = |is_wanted: &dyn Fn(&GameVersion) -> bool| {
                let of_game = |game: &Match, fleet: Option<&FleetId>| {
                    runs.game(game, fleet).is_some_and(|game| is_wanted(&game))
                };
                let (game, fleet) = broker.own_match(&of, rejoin, at, of_game)?;
                Some((game.clone(), fleet.cloned(), runs.game(game, fleet)?))
            };
            let Some(asked) = asked else { return own(&|_| true).map(|own| (own, true)) };
            let of_version = own(&|game| *game == asked).map(|own| (own, true));
            of_version.or_else(|| own(&|game| game.name == asked.name).map(|own| (own, false)))
        });
        let (game, fleet) = match found.await? {
            None => return Ok(None),
            Some(((game, fleet, _), true)) => (game, fleet),
            Some(((game, _, other), false)) => {
                return Err(JoinError::OtherVersion { match_id: game.id, game: other });
            }
        };
        let Some(fleet) = self.fleet_of(&game, fleet.as_ref(), candidates) else { return Ok(None) };
        match self.call_back(&game.id, player, fleet).await {
            Ok(reserved) => Ok(Some(reserved)),
            // It has ended in the meantime.
            Err(CallError::Refused(_)) => Ok(None),
            Err(CallError::Unavailable(why)) => Err(why.into()),
        }
    }

    async fn call_back<'a>(
        &'a self,
        match_id: &MatchId,
        player: &PlayerId,
        fleet: &'a GameFleet,
    ) -> Result<Reserved<'a>, CallError<Refusal>> {
        let (match_id, player, ttl) = (match_id.clone(), player.clone(), fleet.seat_ttl);
        let elsewhere = self.elsewhere();
        let rejoin = Command::Rejoin { match_id: match_id.clone(), player, ttl, elsewhere };
        match self.broker.call(rejoin).await? {
            Reply::Seated { seat, game, again } => {
                let guard = SeatGuard::new(self.broker.clone(), &self.held, seat.id.clone(), again);
                Ok(Reserved { fleet, seat: seat.id, guard, game })
            }
            _ => Err(CallError::Refused(Refusal::MatchNotFound(match_id))),
        }
    }

    /// How tokens for a match's server are made: by its fleet, or without one by the fleet of the game that the match
    /// names.
    fn fleet_of<'a>(
        &'a self,
        game: &Match,
        fleet: Option<&FleetId>,
        candidates: Option<&'a Candidates>,
    ) -> Option<&'a GameFleet> {
        let all = &self.options.games;
        if let Some(id) = fleet {
            return all.iter().find(|game| game.fleet == *id);
        }
        let named = self.games.runs.game(game, None)?;
        let is_named = |fleet: &&GameFleet| fleet.game == named;
        match candidates {
            Some(candidates) => candidates.iter().map(Candidate::fleet).find(is_named),
            None => all.iter().find(is_named),
        }
    }

    /// The admission to a certain match for one of its players.
    ///
    /// # Errors
    /// [`JoinError::NoRejoin`] if the match is over, not ready, not known or not the player's, or the player has a seat
    /// in another match of the game; [`JoinError::Unreachable`] if nobody can connect to it, but players are in it.
    pub(crate) async fn rejoin(&self, id: &str, player: &PlayerId) -> Result<Admission, JoinError> {
        let id = MatchId::new(id).map_err(|bad| JoinError::invalid("match_id", bad.to_string()))?;
        let wanted = id.clone();
        let found = self.broker.query(move |broker| {
            let game = broker.find_match(&wanted)?;
            Some((game.clone(), broker.fleet_of(game).cloned()))
        });
        let refused = |refusal| JoinError::NoRejoin(Box::new(refusal));
        let (game, fleet) = found.await?.ok_or_else(|| refused(Refusal::MatchNotFound(id.clone())))?;
        if !matches!(game.state, MatchState::Ready { .. }) {
            let state = game.state.name();
            let over = game.state.is_over();
            return Err(refused(if over {
                Refusal::MatchOver { match_id: id, state }
            } else {
                Refusal::NotReady(id)
            }));
        }
        let fleet = self.fleet_of(&game, fleet.as_ref(), None).ok_or(JoinError::NoGame)?;
        let reserved = self.call_back(&id, player, fleet).await.map_err(|error| match error {
            CallError::Refused(refusal) => refused(refusal),
            CallError::Unavailable(why) => why.into(),
        })?;
        let seat = reserved.game.seats.get(&reserved.seat);
        let (MatchState::Ready { connection, .. }, Some(seat)) = (&reserved.game.state, seat) else {
            return Err(refused(Refusal::NotReady(id)));
        };
        let expires_at = seat.claimable_until().ok_or(JoinError::AlreadyPlays)?;
        let details = connection.for_player(player);
        let Some(address) = self.reach(&id, details, self.lookup_until()).await? else {
            return Err(self.no_way_back(id).await?);
        };
        let token = token(&self.options, fleet, seat, expires_at, address)?;
        let (given, way) = (Given::Seat(reserved.guard), Way::Warm);
        Ok(Admission { address, token, given, way, player_key: None })
    }

    /// Why a player cannot rejoin a match that nobody can connect to, which was reported to the broker.
    async fn no_way_back(&self, id: MatchId) -> Result<JoinError, JoinError> {
        let wanted = id.clone();
        let found = self.broker.query(move |broker| {
            let state = &broker.find_match(&wanted)?.state;
            state.is_over().then(|| state.name())
        });
        Ok(match found.await? {
            Some(state) => JoinError::NoRejoin(Box::new(Refusal::MatchOver { match_id: id, state })),
            None => JoinError::Unreachable(id),
        })
    }
}
