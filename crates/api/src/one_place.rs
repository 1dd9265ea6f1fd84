//! One player, one place, for tickets: a player in a running match rejoins that match through the gateway instead,
//! whoever starts the ticket.
//!
//! A backend with a key is only held to seats: it may know that a player whom a match merely names has left it, and
//! nothing but the match's end would say so here. It can release a seat.

use sortie_domain::broker::{Broker, Refusal};
use sortie_domain::ids::{MatchId, PlayerId, TicketId};
use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{Ticket, TicketSpec};

use crate::auth::Caller;
use crate::codes::{Code, Kind};
use crate::error::ApiError;
use crate::state::Api;

/// Which places in matches keep a player from starting a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Places {
    /// Seats, and places kept for players whom a match names.
    All,
    /// Only seats: backends, and clients of a contract without rejoining, may know that a player has left a match that
    /// continues.
    Seats,
}

/// Another player than the calling player is in a match, whose id the caller may not see.
const OTHER_IN_MATCH: Code = Code { name: "already_in_match", kind: Kind::Conflict };

/// Checks that no player of a new ticket is in a running match. A repeated order is answered with its ticket, whatever
/// became of it.
///
/// # Errors
/// `already_in_match`, with the match if it is the caller's or the caller is a backend.
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

/// Cancels a ticket that was just started, if one of its players has taken a seat since [`check`].
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
    // The seat may come from the ticket itself. If the ticket is over, the player cannot join its match.
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
    if caller.is_client() || caller.player_named() == Some(&player) {
        return Refusal::AlreadyInMatch { player, match_id }.into();
    }
    OTHER_IN_MATCH.error(format!("player {player} has a place in a running match"))
}
