//! One player, one place, across the two ways in: a seat taken at once, and a ticket of the matchmaker.
//!
//! The broker knows the seats, the matchmaker the tickets, and calls may come both ways at the same time. So each way
//! checks the other one twice: before it takes a place, when the player is told about the existing place; and after,
//! when a ticket gives way to a seat. In any order of the four checks, one of them sees the other way's place. If the
//! process ends in between, the broker refuses the second seat.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use sortie_domain::broker::model::Match;
use sortie_domain::broker::{Broker, SeatsElsewhere};
use sortie_domain::ids::{FleetId, MatchId, PlayerId, TicketId};
use sortie_domain::matchmaking::model::Ticket;
use sortie_domain::matchmaking::{Command, Refusal};
use sortie_domain::properties::Properties;
use sortie_domain::time::Timestamp;

use crate::error::JoinError;
use crate::join::now;
use crate::options::GameFleet;
use crate::{Gateway, Inner};
use sortie_domain::game::GameVersion;

/// The games that fleets run.
#[derive(Clone)]
pub(crate) struct Runs(Arc<BTreeMap<FleetId, GameVersion>>);

impl Runs {
    pub(crate) fn new(fleets: &[GameFleet]) -> Self {
        Self(Arc::new(fleets.iter().map(|fleet| (fleet.fleet.clone(), fleet.game.clone())).collect()))
    }

    /// The game of a match: its fleet's, or without a fleet the one that the match names, if a fleet runs it.
    pub(crate) fn game(&self, game: &Match, fleet: Option<&FleetId>) -> Option<GameVersion> {
        if let Some(fleet) = fleet {
            return self.0.get(fleet).cloned();
        }
        let (name, version) = named(&game.spec.properties);
        let named = GameVersion { name: name?, version: version? };
        self.0.values().any(|known| *known == named).then_some(named)
    }
}

/// The values of `game` and `version`.
fn named(properties: &Properties) -> (Option<String>, Option<String>) {
    let read = || serde_json::from_str::<Value>(properties.text()?).ok();
    let properties = read().unwrap_or_default();
    let text = |name: &str| properties.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    (text("game"), text("version"))
}

impl Gateway {
    /// The live match that a player is led back to, of any game of this gateway. Leading players of running matches
    /// back is optional.
    #[must_use]
    pub fn own_match<'a>(&self, broker: &'a Broker, player: &PlayerId, now: Timestamp) -> Option<&'a Match> {
        let (runs, rejoin) = (&self.inner.games.runs, self.inner.options.rejoin);
        let of_game = |game: &Match, fleet: Option<&FleetId>| runs.game(game, fleet).is_some();
        broker.own_match(player, rejoin, now, of_game).map(|(game, _)| game)
    }
}

impl Inner {
    /// Which seats in other matches block a seat in the match that a ticket or a call names.
    pub(crate) const fn elsewhere(&self) -> SeatsElsewhere {
        if self.options.rejoin { SeatsElsewhere::All } else { SeatsElsewhere::Reserved }
    }

    /// Checks that the player has no waiting ticket for a match of the game `name`.
    ///
    /// # Errors
    /// [`JoinError::TicketRefused`] if it does.
    pub(crate) async fn check_waits_nowhere(&self, player: &PlayerId, name: &str) -> Result<(), JoinError> {
        match self.tickets_of(player, name).await.into_iter().next() {
            Some(ticket) => {
                let (player, ticket) = (player.clone(), ticket.id);
                Err(JoinError::TicketRefused(Box::new(Refusal::PlayerWaits { player, ticket })))
            }
            None => Ok(()),
        }
    }

    /// After the player has taken a seat in a match of the game `name`: cancels tickets that were started concurrently.
    pub(crate) async fn call_off_ticket(&self, player: &PlayerId, name: &str, seated: &MatchId) {
        for ticket in self.tickets_of(player, name).await {
            if ticket.match_id() != Some(seated) {
                self.cancel(ticket.id).await;
            }
        }
    }

    /// The tickets of a player that are not over and may lead to a match of the game `name`. If the matchmaker does not
    /// answer, there are none, so that players can still play.
    async fn tickets_of(&self, player: &PlayerId, name: &str) -> Vec<Ticket> {
        let Some(desk) = &self.desk else { return Vec::new() };
        let player = player.clone();
        let tickets =
            desk.maker.query(move |maker| maker.tickets_of(&player).cloned().collect::<Vec<_>>()).await;
        let mut tickets = tickets.unwrap_or_default();
        tickets.retain(|ticket| named(&ticket.spec.properties).0.is_none_or(|wanted| wanted == name));
        tickets
    }

    /// After the player has started a ticket for a match of the game `name`, or of any game: cancels it if the player
    /// has taken a seat concurrently. Returns whether it did.
    ///
    /// # Errors
    /// [`JoinError`] if the broker is unavailable.
    pub(crate) async fn gives_way(
        &self,
        player: &PlayerId,
        name: Option<String>,
        ticket: &TicketId,
    ) -> Result<bool, JoinError> {
        let (of, at, rejoin, runs) = (player.clone(), now(), self.options.rejoin, self.games.runs.clone());
        let found = self.broker.query(move |broker| {
            let seated = |game: &Match, fleet: Option<&FleetId>| {
                let is_game = |of: GameVersion| name.as_ref().is_none_or(|name| *name == of.name);
                game.seats.of_player(&of).is_some() && runs.game(game, fleet).is_some_and(is_game)
            };
            broker.own_match(&of, rejoin, at, seated).map(|(game, _)| game.id.clone())
        });
        let Some(seated) = found.await? else { return Ok(false) };
        let Some(desk) = &self.desk else { return Ok(false) };
        let id = ticket.clone();
        let own = desk.maker.query(move |maker| maker.ticket(&id).and_then(Ticket::match_id).cloned());
        // The seat may come from the ticket itself.
        Ok(own.await? != Some(seated) && self.cancel(ticket.clone()).await)
    }

    /// Cancels the ticket; false if it could not be cancelled.
    async fn cancel(&self, id: TicketId) -> bool {
        let Some(desk) = &self.desk else { return false };
        match desk.maker.call(Command::Cancel { id: id.clone() }).await {
            Ok(_) => true,
            // Its match is ready, in which the broker refuses a second seat.
            Err(error) => {
                tracing::debug!(ticket = %id, %error, "a ticket does not give way to a seat");
                false
            }
        }
    }
}
