//! Seats of a running match for the players of a ticket: for all of them, or for none.
//!
//! Taken one by one, because the broker knows seats of single players. A repetition after a crash finds those that it
//! has taken already and goes on; where one cannot be had, those of the same ticket are given back, and so are all of
//! them if the ticket was called off or its time was over meanwhile. What is left over because the process ended in
//! between expires by itself.

use std::time::Duration;

use sortie_domain::broker::model::{Match, MatchState, Seat, SeatState};
use sortie_domain::broker::{self, Broker};
use sortie_domain::ids::{MatchId, PlayerId};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::Named;
use sortie_engine::{CallError, Handle, Retry, Unavailable};

/// How long a seat is kept for its player, who is told of it at once.
pub(crate) const SEAT_TTL: Duration = Duration::from_secs(60);

pub(crate) struct Seats {
    broker: Handle<Broker>,
}

impl Seats {
    pub(crate) const fn new(broker: Handle<Broker>) -> Self {
        Self { broker }
    }

    pub(crate) async fn take(&self, match_id: MatchId, ticket: Named) -> Result<Command, Retry> {
        let none = |ticket: Named, match_id| Command::NotSeated { ticket: ticket.ticket, match_id };
        let Some(game) = self.find(&match_id).await? else { return Ok(none(ticket, match_id)) };
        let MatchState::Ready { connection, .. } = game.state else { return Ok(none(ticket, match_id)) };
        for player in &ticket.players {
            let command = broker::Command::ReserveSeat {
                match_id: match_id.clone(),
                player: player.clone(),
                ttl: SEAT_TTL,
            };
            match self.broker.call(command).await {
                // That one was taken by an attempt before this one.
                Ok(_) | Err(CallError::Refused(broker::Refusal::AlreadySeated(_))) => {}
                Err(CallError::Refused(refusal)) => {
                    tracing::debug!(%match_id, ticket = %ticket.ticket, %refusal, "no seats for a ticket");
                    self.give_back(&match_id, &ticket.players).await?;
                    return Ok(none(ticket, match_id));
                }
                Err(CallError::Unavailable(why)) => return Err(retry(why)),
            }
        }
        Ok(Command::Seated { ticket: ticket.ticket, match_id, connection: (*connection).clone() })
    }

    async fn find(&self, id: &MatchId) -> Result<Option<Match>, Retry> {
        let id = id.clone();
        self.broker.query(move |broker| broker.find_match(&id).cloned()).await.map_err(retry)
    }

    pub(crate) async fn give_back(&self, match_id: &MatchId, players: &[PlayerId]) -> Result<(), Retry> {
        let Some(game) = self.find(match_id).await? else { return Ok(()) };
        let is_one =
            |seat: &&Seat| matches!(seat.state, SeatState::Reserved { .. }) && players.contains(&seat.player);
        for seat in game.seats.values().filter(is_one) {
            let command = broker::Command::ReleaseSeat { seat: seat.id.clone() };
            if let Err(CallError::Unavailable(why)) = self.broker.call(command).await {
                return Err(retry(why));
            }
        }
        Ok(())
    }
}

fn retry(why: Unavailable) -> Retry {
    Retry::because(why.to_string())
}
