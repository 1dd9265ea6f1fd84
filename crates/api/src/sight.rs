//! Which parts of a ticket a caller may see: the one place that decides it.
//!
//! A ticket can only be shown through [`Seen`], and there is no `Seen` without a [`Sight`]; so a route cannot show a
//! player another player's data. A player sees everything of its own ticket except the data of the other players: of
//! these it sees the ids, and whether they have accepted a match.

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
    /// Tickets that one player is in, with only that player's own data.
    Own(PlayerId),
}

impl Sight {
    /// With the permission `client` everything, otherwise the tickets of the caller's player.
    ///
    /// # Errors
    /// `unauthenticated` if the caller has neither the permission nor a player.
    pub(crate) fn of(caller: &Caller) -> Result<Self, ApiError> {
        if caller.is_client() { Ok(Self::All) } else { caller.player().cloned().map(Self::Own) }
    }

    /// The ticket, if the caller may see it. A player cannot see others' tickets, so that ids cannot be probed.
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

/// A ticket that the caller may see, restricted to what it may see.
pub(crate) struct Seen<'a> {
    ticket: &'a Ticket,
    sight: &'a Sight,
}

impl<'a> Seen<'a> {
    /// The part for every player in it: everything except what [`Self::player`] and [`Self::details_for`] return.
    pub(crate) const fn ticket(&self) -> &'a Ticket {
        self.ticket
    }

    /// A player of the ticket; `Err`, of which only the id may be shown, for another player than the caller.
    pub(crate) fn player(&self, player: &'a Player) -> Result<&'a Player, &'a PlayerId> {
        if self.sight.is_for(&player.id) { Ok(player) } else { Err(&player.id) }
    }

    /// Connection details of players of the ticket who have their own; a player gets only its own.
    pub(crate) fn details_for(
        &self,
        connection: &'a sortie_domain::connection::Connection,
    ) -> impl Iterator<Item = (&'a PlayerId, &'a Arc<str>)> {
        let (ticket, sight) = (self.ticket, self.sight);
        let in_it = move |id: &PlayerId| ticket.spec.players().any(|player| player.id == *id);
        connection.per_player.iter().filter(move |(id, _)| in_it(id) && sight.is_for(id))
    }
}
