//! What a caller may see of a ticket: the one place that decides it.
//!
//! A ticket is shown by way of [`Seen`] only, and there is no `Seen` without a [`Sight`]; so a route cannot show a
//! player what is another's. Of a ticket that a player is in, it sees the whole but for what belongs to the other players:
//! of these it sees who they are, and whether they have agreed to a match.

use std::sync::Arc;

use sortie_domain::ids::PlayerId;
use sortie_domain::matchmaking::model::{Player, Ticket};

use crate::auth::Caller;
use crate::error::ApiError;

/// How much a caller sees.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// Everything.
    All,
    /// What one player is in, and there what is its own.
    Own(PlayerId),
}

impl Sight {
    /// With the permission `client` everything, else what the caller's player is in.
    ///
    /// # Errors
    /// `unauthenticated` if the caller has neither the permission nor a player.
    pub(crate) fn of(caller: &Caller) -> Result<Self, ApiError> {
        if caller.is_client() { Ok(Self::All) } else { caller.player().cloned().map(Self::Own) }
    }

    /// The ticket, if it is there for the caller. To a player those of others are not, so that nobody can try ids.
    pub(crate) fn ticket<'a>(&'a self, ticket: &'a Ticket) -> Option<Seen<'a>> {
        let is_own = match self {
            Self::All => true,
            Self::Own(seer) => ticket.spec.players().any(|player| player.id == *seer),
        };
        is_own.then_some(Seen { ticket, sight: self })
    }

    fn is_for(&self, player: &PlayerId) -> bool {
        match self {
            Self::All => true,
            Self::Own(seer) => seer == player,
        }
    }
}

/// A ticket that its caller may see, as far as it may.
pub(crate) struct Seen<'a> {
    ticket: &'a Ticket,
    sight: &'a Sight,
}

impl<'a> Seen<'a> {
    /// What is everybody's who is in it: everything but what [`Self::player`] and [`Self::details_for`] have.
    pub(crate) const fn ticket(&self) -> &'a Ticket {
        self.ticket
    }

    /// A player of the ticket; of another player than the caller only the id.
    pub(crate) fn player(&self, player: &'a Player) -> Result<&'a Player, &'a PlayerId> {
        if self.sight.is_for(&player.id) { Ok(player) } else { Err(&player.id) }
    }

    /// Where the players of the ticket connect who have details of their own; of these the caller's.
    pub(crate) fn details_for(
        &self,
        connection: &'a sortie_domain::connection::Connection,
    ) -> impl Iterator<Item = (&'a PlayerId, &'a Arc<str>)> {
        let (ticket, sight) = (self.ticket, self.sight);
        let in_it = move |id: &PlayerId| ticket.spec.players().any(|player| player.id == *id);
        connection.per_player.iter().filter(move |(id, _)| in_it(id) && sight.is_for(id))
    }
}
