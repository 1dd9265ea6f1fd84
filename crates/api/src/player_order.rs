//! What a ticket that a player starts without a key may contain: the same for every door.
//!
//! A player speaks for itself. Other players would have to consent, which the player cannot prove, and ratings come
//! from others. Exceptions are configured ([`PlayerRights`]).

use sha2::{Digest, Sha256};
use sortie_domain::ids::{IdempotencyKey, PlayerId};
use sortie_domain::matchmaking::Matchmaker;
use sortie_domain::matchmaking::model::{Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Hook, HookPoint};

use crate::auth::Caller;
use crate::codes;
use crate::error::ApiError;
use crate::options::NamingOthers;
use crate::state::Api;

/// What happens to a number that a player may not send about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OwnRating {
    /// The ticket is refused.
    Refused,
    /// The ticket is accepted without it, as clients expect of a contract that has such numbers anywhere.
    TakenOut,
}

/// Checks that a player starts a ticket of its own: it is among the players, leads them, brings others only if allowed,
/// and sends no numbers that rules use. `field` names the players.
///
/// # Errors
/// `forbidden`, naming the field; `unauthenticated` if the caller speaks for no player.
pub(crate) async fn check(
    api: &Api,
    caller: &Caller,
    spec: &mut TicketSpec,
    field: &str,
    own_rating: OwnRating,
) -> Result<(), ApiError> {
    as_own(caller, spec, field)?;
    if caller.is_client() {
        return Ok(());
    }
    if let Some(key) = &spec.idempotency_key {
        spec.idempotency_key = Some(own_key(caller.player()?, key)?);
    }
    let (rights, queue) = (api.options.player_rights, spec.queue.clone());
    let asked = move |maker: &Matchmaker| {
        let settings = maker.settings();
        let own = settings.queues.get(&queue).map(|queue| queue.hooks.as_slice()).unwrap_or_default();
        let hooks = || settings.hooks.iter().chain(own);
        let has_parties = hooks().any(|hook| matches!(hook, Hook::PartyMembership));
        // The built-in hook does not know who belongs together, so another one has to check it.
        let validates =
            |hook: &Hook| matches!(hook, Hook::Outside(hook) if hook.about == HookPoint::ValidateTicket);
        (has_parties && hooks().any(validates), maker.rated(&queue))
    };
    let (has_party_hook, rated) = api.query_maker(asked).await?;
    let may_name = match rights.may_name_others {
        NamingOthers::No => false,
        NamingOthers::PartyHook => has_party_hook,
        NamingOthers::Yes => true,
    };
    if spec.size() > 1 && !may_name {
        let problem = "a player can only start tickets for itself in this queue: others have to agree, so a backend \
            with a key starts the tickets of parties (`players.may_name_others`)";
        return Err(codes::FORBIDDEN.error(problem).about(field));
    }
    for_others(caller.player()?, spec, field, own_rating)?;
    if rights.may_rate_themselves {
        return Ok(());
    }
    match own_rating {
        OwnRating::TakenOut => rated.iter().for_each(|rated| rated.take_from(spec)),
        OwnRating::Refused => {
            if let Some(said) = rated.iter().find_map(|rated| rated.said_in(spec)) {
                let problem = "is not accepted from players: a backend with a key starts rated tickets, or a hook \
                    `validate_ticket` supplies the ratings";
                return Err(codes::FORBIDDEN.error(problem).about(said));
            }
        }
    }
    Ok(())
}

/// Of the players whom it brings along, a player may send only the ids.
fn for_others(
    player: &PlayerId,
    spec: &mut TicketSpec,
    field: &str,
    own_rating: OwnRating,
) -> Result<(), ApiError> {
    let others = spec.parties.iter_mut().flat_map(|party| &mut party.players);
    for other in others.filter(|other| other.id != *player) {
        let bare = Player::new(other.id.clone());
        if own_rating == OwnRating::Refused && *other != bare {
            let problem = "a player sends blocked players, latencies, ratings and properties only of itself";
            return Err(codes::FORBIDDEN.error(problem).about(field));
        }
        *other = bare;
    }
    Ok(())
}

/// Scopes a player's keys to the player: nobody else can take one first, or learn that it is taken.
fn own_key(player: &PlayerId, key: &IdempotencyKey) -> Result<IdempotencyKey, ApiError> {
    let digest =
        Sha256::new().chain_update(player.as_str()).chain_update([0]).chain_update(key.as_str()).finalize();
    let digits = base16ct::lower::encode_string(&digest);
    IdempotencyKey::new(&format!("player-{digits}")).map_err(ApiError::internal)
}

fn as_own(caller: &Caller, spec: &mut TicketSpec, field: &str) -> Result<(), ApiError> {
    let player = caller.player()?;
    if !spec.players().any(|one| one.id == *player) {
        let problem = format!("a player can only start its own tickets: {player} must be among the players");
        return Err(codes::FORBIDDEN.error(problem).about(field));
    }
    match &spec.leader {
        Some(leader) if leader != player => {
            let problem = format!("only the leader of a party starts its ticket: {player} is not the leader");
            Err(codes::FORBIDDEN.error(problem).about("leader"))
        }
        None if spec.size() > 1 => {
            spec.leader = Some(player.clone());
            Ok(())
        }
        _ => Ok(()),
    }
}
