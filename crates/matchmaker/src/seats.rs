//! Seats of a running match for the players of a ticket: for all of them, or for none.
//!
//! Seats are taken one by one, because the broker has one seat per player. A player who already has a seat, from an
//! earlier attempt or on its own, needs no other. If one cannot be taken, the seats that this process has taken for the
//! ticket are released; likewise if the ticket was cancelled or timed out in the meantime. A seat that a player took
//! elsewhere is never released. Seats left over because the process ended in between expire.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sortie_domain::broker::model::{Match, MatchState, Seat, SeatState};
use sortie_domain::broker::{self, Broker, Reply, SeatsElsewhere};
use sortie_domain::ids::{MatchId, SeatId, TicketId};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::Named;
use sortie_engine::{CallError, Handle, Retry, Unavailable};

/// How long a seat is kept for its player, who hears about it at once.
pub(crate) const SEAT_TTL: Duration = Duration::from_secs(60);

/// Number of newest taken seats that are remembered, to release them if their ticket was cancelled in the meantime.
const TAKEN_KEPT: usize = 10_000;

pub(crate) struct Seats {
    broker: Handle<Broker>,
    taken: Mutex<VecDeque<(TicketId, SeatId)>>,
}

impl Seats {
    pub(crate) const fn new(broker: Handle<Broker>) -> Self {
        Self { broker, taken: Mutex::new(VecDeque::new()) }
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
                elsewhere: SeatsElsewhere::Reserved,
            };
            match self.broker.call(command).await {
                Ok(Reply::Seated { seat, .. }) => self.note(&ticket.ticket, seat.id),
                Ok(_) | Err(CallError::Refused(broker::Refusal::AlreadySeated(_))) => {}
                Err(CallError::Refused(refusal)) => {
                    tracing::debug!(%match_id, ticket = %ticket.ticket, %refusal, "no seats for a ticket");
                    self.give_back(&match_id, &ticket.ticket).await?;
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

    /// Releases the seats that were taken for the ticket and not claimed.
    pub(crate) async fn give_back(&self, match_id: &MatchId, ticket: &TicketId) -> Result<(), Retry> {
        let Some(game) = self.find(match_id).await? else { return Ok(()) };
        for id in self.taken_for(ticket) {
            let reserved = |seat: &Seat| matches!(seat.state, SeatState::Reserved { .. });
            if game.seats.get(&id).is_some_and(reserved) {
                let command = broker::Command::ReleaseSeat { seat: id };
                if let Err(CallError::Unavailable(why)) = self.broker.call(command).await {
                    return Err(retry(why));
                }
            }
        }
        self.taken().retain(|(of, _)| of != ticket);
        Ok(())
    }

    fn note(&self, ticket: &TicketId, seat: SeatId) {
        let mut taken = self.taken();
        taken.push_back((ticket.clone(), seat));
        if taken.len() > TAKEN_KEPT {
            taken.pop_front();
        }
    }

    fn taken_for(&self, ticket: &TicketId) -> Vec<SeatId> {
        self.taken().iter().filter(|(of, _)| of == ticket).map(|(_, seat)| seat.clone()).collect()
    }

    fn taken(&self) -> MutexGuard<'_, VecDeque<(TicketId, SeatId)>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn retry(why: Unavailable) -> Retry {
    Retry::because(why.to_string())
}
