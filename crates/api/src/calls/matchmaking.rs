//! Service `catena.catena_matchmaking.CatenaMatchmaking`: tickets of players.
//!
//! A player starts tickets for itself and its party, and sees and cancels those that it is in. Any player of a ticket
//! may cancel it, so that nobody is stuck in a ticket that another player started. Backends with a key do the same for
//! every player.

use serde_json::json;
use sortie_domain::ids::TicketId;
use sortie_domain::matchmaking::model::{Status, Ticket, TicketSpec};
use sortie_domain::matchmaking::{Command, Refusal, Reply};
use sortie_domain::size::Size;
use sortie_wire::catena::common::{GetServiceHealthRequest, GetServiceHealthResponse};
use sortie_wire::catena::matchmaking::{
    AdminXGetMatchmakerConfigRequest, AdminXGetMatchmakerConfigResponse, AdminXReconfigureMatchmakerRequest,
    AdminXReconfigureMatchmakerResponse, CancelMatchmakingRequest, CancelMatchmakingResponse,
    GetMatchmakingStatusRequest, GetMatchmakingStatusResponse, ListTicketsRequest, ListTicketsResponse,
    MatchmakingStatus, MatchmakingTicketWithState, StartMatchmakingRequest, StartMatchmakingResponse,
};
use sortie_wire::cloud_event::rfc3339;

use super::match_broker::{MAX_LISTED, MAX_LISTED_BYTES, health};
use super::{entities, id, matchmaking_config};
use crate::auth::Caller;
use crate::error::ApiError;
use crate::names::state_name;
use crate::one_place::{self, Places};
use crate::player_order::{self, OwnRating};
use crate::sight::Sight;
use crate::state::Api;

/// Tickets queried from the matchmaker at once, so that listing them does not block other calls.
const TICKETS_AT_ONCE: usize = 1_000;

/// A player starts a ticket.
pub(crate) async fn start_matchmaking(
    api: Api,
    caller: Caller,
    request: StartMatchmakingRequest,
) -> Result<StartMatchmakingResponse, ApiError> {
    caller.player()?;
    let mut spec = entities::spec(request.entity)?;
    player_order::check(&api, &caller, &mut spec, "entity", OwnRating::TakenOut).await?;
    start(&api, &caller, spec).await
}

/// A backend starts a ticket.
pub(crate) async fn server_start_matchmaking(
    api: Api,
    caller: Caller,
    request: StartMatchmakingRequest,
) -> Result<StartMatchmakingResponse, ApiError> {
    start(&api, &caller, entities::spec(request.entity)?).await
}

async fn start(api: &Api, caller: &Caller, spec: TicketSpec) -> Result<StartMatchmakingResponse, ApiError> {
    one_place::check(api, caller, &spec, Places::Seats).await?;
    let start = Command::Start { id: None, spec: spec.clone() };
    let ticket = match api.call_maker(start).await.map_err(entities::named)? {
        Reply::Started { ticket } => ticket,
        other => return Err(ApiError::unexpected(&other)),
    };
    one_place::gives_way(api, caller, &spec, &ticket).await?;
    Ok(StartMatchmakingResponse { ticket_id: ticket.as_str().to_owned() })
}

/// A player cancels a ticket.
pub(crate) async fn cancel_matchmaking(
    api: Api,
    caller: Caller,
    request: CancelMatchmakingRequest,
) -> Result<CancelMatchmakingResponse, ApiError> {
    caller.player()?;
    let id = ticket_id(&request.ticket_id)?;
    find(&api, &caller, id.clone(), |_| ()).await?;
    cancel(&api, id).await
}

/// A backend cancels a ticket.
pub(crate) async fn server_cancel_matchmaking(
    api: Api,
    request: CancelMatchmakingRequest,
) -> Result<CancelMatchmakingResponse, ApiError> {
    cancel(&api, ticket_id(&request.ticket_id)?).await
}

async fn cancel(api: &Api, id: TicketId) -> Result<CancelMatchmakingResponse, ApiError> {
    match api.call_maker(Command::Cancel { id }).await? {
        Reply::Ticket(_) => Ok(CancelMatchmakingResponse {}),
        other => Err(ApiError::unexpected(&other)),
    }
}

/// The state of a player's ticket.
pub(crate) async fn get_matchmaking_status(
    api: Api,
    caller: Caller,
    request: GetMatchmakingStatusRequest,
) -> Result<GetMatchmakingStatusResponse, ApiError> {
    caller.player()?;
    let status = find(&api, &caller, ticket_id(&request.ticket_id)?, Ticket::status).await?;
    Ok(GetMatchmakingStatusResponse { status: status_message(status).into() })
}

/// The state of a ticket.
pub(crate) async fn server_get_matchmaking_status(
    api: Api,
    request: GetMatchmakingStatusRequest,
) -> Result<GetMatchmakingStatusResponse, ApiError> {
    let id = ticket_id(&request.ticket_id)?;
    let wanted = id.clone();
    let status = api.query_maker(move |maker| maker.ticket(&wanted).map(Ticket::status)).await?;
    let status = status.ok_or(Refusal::TicketNotFound(id))?;
    Ok(GetMatchmakingStatusResponse { status: status_message(status).into() })
}

/// Reads a ticket of the player whom the caller is or names; tickets of other players are not found.
async fn find<R: Send + 'static>(
    api: &Api,
    caller: &Caller,
    id: TicketId,
    wanted: impl FnOnce(&Ticket) -> R + Send + 'static,
) -> Result<R, ApiError> {
    let (sight, asked) = (Sight::Own(caller.player()?.clone()), id.clone());
    let found =
        api.query_maker(move |maker| sight.ticket(maker.ticket(&asked)?).map(|seen| wanted(seen.ticket())));
    found.await?.ok_or_else(|| Refusal::TicketNotFound(id).into())
}

/// Tickets that are not over, oldest first, at most [`MAX_LISTED`].
pub(crate) async fn list_tickets(api: Api, _: ListTicketsRequest) -> Result<ListTicketsResponse, ApiError> {
    let (mut tickets, mut after, mut bytes) = (Vec::new(), 0, 0);
    while tickets.len() < MAX_LISTED && bytes < MAX_LISTED_BYTES {
        let page = api.query_maker(move |maker| maker.tickets(after, TICKETS_AT_ONCE)).await?;
        let last = page.items.last().map_or(after, |ticket| ticket.place);
        bytes += page.items.iter().map(Size::byte_size).sum::<usize>();
        tickets.extend(page.items.iter().map(ticket_message));
        if !page.more {
            break;
        }
        after = last;
    }
    Ok(ListTicketsResponse { tickets })
}

fn ticket_message(ticket: &Ticket) -> MatchmakingTicketWithState {
    let mut state = json!({
        "queue": ticket.queue.as_str(), "state": state_name(&ticket.state), "startedAt": rfc3339(ticket.started_at),
    });
    if let Some(id) = ticket.match_id() {
        state["matchId"] = id.as_str().into();
    }
    MatchmakingTicketWithState {
        ticket_id: ticket.id.as_str().to_owned(),
        entity: Some(entities::tree(&ticket.spec)),
        status: status_message(ticket.status()).into(),
        matchmaker_state: state.to_string(),
    }
}

/// Whether calls are served.
pub(crate) async fn get_service_health(
    api: Api,
    _: GetServiceHealthRequest,
) -> Result<GetServiceHealthResponse, ApiError> {
    Ok(health("matchmaker", api.maker_not_serving().await.as_ref()))
}

/// The current queues, as far as the contract can show them.
pub(crate) async fn admin_x_get_matchmaker_config(
    api: Api,
    _: AdminXGetMatchmakerConfigRequest,
) -> Result<AdminXGetMatchmakerConfigResponse, ApiError> {
    let settings = api.query_maker(|maker| maker.settings().clone()).await?;
    let config = Some(matchmaking_config::message(&settings));
    Ok(AdminXGetMatchmakerConfigResponse { catena_matchmaker_config: config, ..Default::default() })
}

/// Changes the queues. Tickets stay where they are, even those of a removed queue.
pub(crate) async fn admin_x_reconfigure_matchmaker(
    api: Api,
    request: AdminXReconfigureMatchmakerRequest,
) -> Result<AdminXReconfigureMatchmakerResponse, ApiError> {
    let settings = api.query_maker(|maker| maker.settings().clone()).await?;
    let settings = matchmaking_config::changed(settings, &request.config)?;
    match api.call_maker(Command::Reconfigure { settings }).await.map_err(entities::named)? {
        Reply::Done => Ok(AdminXReconfigureMatchmakerResponse { success: true }),
        other => Err(ApiError::unexpected(&other)),
    }
}

fn ticket_id(text: &str) -> Result<TicketId, ApiError> {
    id("ticketId", text, TicketId::new)
}

const fn status_message(status: Status) -> MatchmakingStatus {
    match status {
        Status::InProgress => MatchmakingStatus::InProgress,
        Status::FindingServer => MatchmakingStatus::FindingServer,
        Status::Completed => MatchmakingStatus::Completed,
        Status::Failed => MatchmakingStatus::Failed,
        Status::Cancelled => MatchmakingStatus::Cancelled,
        Status::TimedOut => MatchmakingStatus::MatchmakingTimedOut,
    }
}
