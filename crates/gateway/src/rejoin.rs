//! Back into a match: a player who is in one and asks again is led to it, and a backend, an operator or the player names
//! the match to come back to.

use serde_json::Value;
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

impl Inner {
    /// A seat in the match that a player is in or belongs to, of the game that it asks for, or of any where it names none;
    /// `None` where there is no such match.
    ///
    /// # Errors
    /// [`JoinError`] if the broker is not there.
    pub(crate) async fn lead_back<'a>(
        &'a self,
        player: &PlayerId,
        candidates: Option<&'a Candidates>,
    ) -> Result<Option<Reserved<'a>>, JoinError> {
        if !self.options.rejoin {
            return Ok(None);
        }
        let fleets: Vec<FleetId> = match candidates {
            Some(candidates) => candidates.iter().map(|candidate| candidate.fleet.fleet.clone()).collect(),
            None => self.options.games.iter().map(|game| game.fleet.clone()).collect(),
        };
        let (of, at) = (player.clone(), now());
        let found = self.broker.query(move |broker| {
            // Of a server that belongs to no fleet, the match says what it runs.
            let of_game =
                |_: &Match, fleet: Option<&FleetId>| fleet.is_none_or(|fleet| fleets.contains(fleet));
            let (game, fleet) = broker.own_match(&of, true, at, of_game)?;
            Some((game.clone(), fleet.cloned()))
        });
        let Some((game, fleet)) = found.await? else { return Ok(None) };
        let Some(fleet) = self.fleet_of(&game, fleet.as_ref(), candidates) else { return Ok(None) };
        match self.call_back(&game.id, player, fleet).await {
            Ok(reserved) => Ok(Some(reserved)),
            // It ended meanwhile.
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
        match self.broker.call(Command::Rejoin { match_id: match_id.clone(), player, ttl }).await? {
            Reply::Seated { seat, game, again } => {
                let guard = SeatGuard::new(self.broker.clone(), &self.held, seat.id.clone(), again);
                Ok(Reserved { fleet, seat: seat.id, guard, game })
            }
            _ => Err(CallError::Refused(Refusal::MatchNotFound(match_id))),
        }
    }

    /// How the tokens for a match's server are made: as its fleet says, or where it has none, the fleet of the game that
    /// the match names.
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
        let properties: Value = serde_json::from_str(game.spec.properties.text()?).ok()?;
        let text = |name: &str| properties.get(name).and_then(Value::as_str);
        let (name, version) = (text("game")?, text("version")?);
        let is_named = |fleet: &&GameFleet| fleet.game.name == name && fleet.game.version == version;
        match candidates {
            Some(candidates) => candidates.iter().map(Candidate::fleet).find(is_named),
            None => all.iter().find(is_named),
        }
    }

    /// The way into a certain match for one of its players.
    ///
    /// # Errors
    /// [`JoinError::NoRejoin`] if the match is over, not ready, not known or none of the player's.
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
        let address = self.reach(&id, details, self.lookup_until()).await?.ok_or(JoinError::NoAddress)?;
        let token = token(&self.options, fleet, seat, expires_at, address)?;
        let (given, way) = (Given::Seat(reserved.guard), Way::Warm);
        Ok(Admission { address, token, given, way, player_key: None })
    }
}
