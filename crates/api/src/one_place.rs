//! One player, one place, for tickets that a player starts without a key: one who is in a running match comes back to that
//! match instead, which the gateway leads to.
//!
//! A backend with a key knows what its players do and is not checked.

use std::sync::Arc;

use sortie_domain::broker::model::Match;
use sortie_domain::broker::{Broker, Refusal};
use sortie_domain::ids::{MatchId, PlayerId, TicketId};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{Ticket, TicketSpec};
use sortie_domain::time::Timestamp;

use crate::auth::Caller;
use crate::codes::{Code, Kind};
use crate::error::ApiError;
use crate::state::Api;

/// Finds the live match that a player is led back to; `None` where there is none.
pub type LeadsBack = Arc<dyn for<'a> Fn(&'a Broker, &PlayerId, Timestamp) -> Option<&'a Match> + Send + Sync>;

/// Which places in matches keep a player from starting a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Places {
    /// Seats, and those that are kept for players whom a match names.
    All,
    /// Seats alone: clients of a contract that knows no way back may have left a match that goes on.
    Seats,
}

/// Another player than the caller is in a match, which is not the caller's to know.
const OTHER_IN_MATCH: Code = Code { name: "already_in_match", kind: Kind::Conflict };

/// Makes sure that no player of a new ticket is in a running match. The repetition of an order that led to a ticket is
/// answered with that ticket, whatever became of it.
///
/// # Errors
/// `already_in_match`, with the match where it is the caller's.
pub(crate) async fn check(
    api: &Api,
    caller: &Caller,
    spec: &TicketSpec,
    places: Places,
) -> Result<(), ApiError> {
    if let Some(key) = spec.idempotency_key.clone()
        && api.query_maker(move |maker| maker.ticket_of_key(&key).is_some()).await?
    {
        return Ok(());
    }
    match find(api, spec, places).await? {
        Some((player, match_id)) => Err(refusal(caller, player, match_id)),
        None => Ok(()),
    }
}

/// Calls a ticket off that was started just now, if one of its players has taken a seat since [`check`].
///
/// # Errors
/// As [`check`].
pub(crate) async fn gives_way(
    api: &Api,
    caller: &Caller,
    spec: &TicketSpec,
    ticket: &TicketId,
) -> Result<(), ApiError> {
    let Some((player, match_id)) = find(api, spec, Places::Seats).await? else { return Ok(()) };
    let id = ticket.clone();
    let own = api.query_maker(move |maker| maker.ticket(&id).and_then(Ticket::match_id).cloned()).await?;
    // The seat may be one that the ticket has led to. Where the ticket is over, its match is refused to the player.
    if own.as_ref() == Some(&match_id)
        || api.call_maker(Command::Cancel { id: ticket.clone() }).await.is_err()
    {
        return Ok(());
    }
    Err(refusal(caller, player, match_id))
}

async fn find(api: &Api, spec: &TicketSpec, places: Places) -> Result<Option<(PlayerId, MatchId)>, ApiError> {
    let Some(leads_back) = api.options.leads_back.clone() else { return Ok(None) };
    let (players, now) = (spec.player_ids(), api.now());
    let of_player = move |broker: &Broker, player: PlayerId| {
        let game = leads_back(broker, &player, now)?;
        let counts = places == Places::All || game.seats.of_player(&player).is_some();
        counts.then(|| (player, game.id.clone()))
    };
    api.query(move |broker| players.into_iter().find_map(|player| of_player(broker, player))).await
}

fn refusal(caller: &Caller, player: PlayerId, match_id: MatchId) -> ApiError {
    if caller.player_named() == Some(&player) {
        return Refusal::AlreadyInMatch { player, match_id }.into();
    }
    OTHER_IN_MATCH.error(format!("player {player} has a place in a match that runs"))
}
