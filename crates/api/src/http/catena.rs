//! The Catena routes, one line per call.

use axum::Extension;
use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::header::{ACCEPT, UPGRADE};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::MethodFilter;
use sortie_wire::catena::events::SubscribeToEventsByTagRequest;
use sortie_wire::catena::match_broker::{
    AdminEndActiveMatchRequest, AdminGetActiveMatchByIdRequest, AdminXReconfigureMatchBrokerRequest,
};
use sortie_wire::catena::matchmaking::GetMatchmakingStatusRequest;

use super::routes::{Routes, answer};
use super::streams;
use crate::auth::Caller;
use crate::calls::{events, match_broker, matchmaking, server_manager};
use crate::error::{ApiError, Form};
use crate::params::Params;
use crate::player_feed::{LAST_EVENT_ID_PARAM, resumed};
use crate::state::Api;

const GET: (&str, MethodFilter) = ("GET", MethodFilter::GET);
const DELETE: (&str, MethodFilter) = ("DELETE", MethodFilter::DELETE);

/// Every route of the contract.
#[rustfmt::skip]
pub(crate) fn routes() -> Routes {
    Routes::default()
        .call_as("/api/v1/server/request_match", server_manager::request_match)
        .call_as("/api/v1/server/match_ready", server_manager::match_ready)
        .call_as("/api/v1/server/end_match", server_manager::end_match)
        .call("/api/v1/servers", server_manager::list_servers)
        .ask("/api/v1/servers", server_manager::list_servers)
        .call("/api/v1/server/allocate", server_manager::admin_allocate_server)
        .call("/api/v1/server/deallocate", server_manager::admin_deallocate_server)
        .ask("/api/v1/matchbroker/healthz", match_broker::get_service_health)
        .ask("/api/v1/matches", match_broker::list_queued_matches)
        .ask("/api/v1/matchbroker/admin/list-active-matches", match_broker::admin_list_active_matches)
        .about(GET, ("/api/v1/matchbroker/admin/match/{matchId}", "matchId"), |match_id| AdminGetActiveMatchByIdRequest { match_id }, |api, _, request| match_broker::admin_get_active_match_by_id(api, request))
        .about(DELETE, ("/api/v1/matchbroker/admin/delete/{matchId}", "matchId"), |match_id| AdminEndActiveMatchRequest { match_id }, |api, _, request| match_broker::admin_end_active_match(api, request))
        .ask("/api/v1/matchbroker/admin/allocators/available", match_broker::admin_get_available_allocators)
        .ask("/api/v1/matchbroker/admin/allocators/configured", match_broker::admin_get_configured_allocators)
        .ask("/api/v1/matchbroker/admin/config", match_broker::admin_x_get_match_broker_config)
        .post("/api/v1/matchbroker/admin/reconfigure", reconfigure)
        .call_as("/api/v1/matchmaking/start", matchmaking::start_matchmaking)
        .call_as("/api/v1/matchmaking/cancel", matchmaking::cancel_matchmaking)
        .about(GET, ("/api/v1/matchmaking/{ticketId}", "ticketId"), |ticket_id| GetMatchmakingStatusRequest { ticket_id }, matchmaking::get_matchmaking_status)
        .call_as("/api/v1/matchmaking/server/start", matchmaking::server_start_matchmaking)
        .call("/api/v1/matchmaking/server/cancel", matchmaking::server_cancel_matchmaking)
        .about(GET, ("/api/v1/matchmaking/server/{ticketId}", "ticketId"), |ticket_id| GetMatchmakingStatusRequest { ticket_id }, |api, _, request| matchmaking::server_get_matchmaking_status(api, request))
        .ask("/api/v1/matchmaking/tickets", matchmaking::list_tickets)
        .ask("/api/v1/matchmaking/healthz", matchmaking::get_service_health)
        .ask("/api/v1/matchmaking/admin/config", matchmaking::admin_x_get_matchmaker_config)
        .call("/api/v1/matchmaking/admin/config", matchmaking::admin_x_reconfigure_matchmaker)
        .get("/api/v1/events/subscribe", subscribe)
        .get("/api/v1/events/subscribe/tags", subscribe_by_tag)
        .call("/api/v1/events/emit", events::emit_update_event)
        .call("/api/v1/admin/events/emit", events::admin_emit_update_event)
}

async fn reconfigure(State(api): State<Api>, uri: Uri) -> Response {
    let change = || {
        let mut params = Params::of(&uri)?;
        let mut number = |name: &str| params.parsed(name, "a whole number of 32 bits");
        let request = AdminXReconfigureMatchBrokerRequest {
            fast_schedule: number("fastSchedule")?,
            server_max_lifetime_minutes: number("serverMaxLifetimeMinutes")?,
            match_pickup_time_seconds: number("matchPickupTimeSeconds")?,
            match_ready_time_seconds: number("matchReadyTimeSeconds")?,
            match_max_run_time_minutes: number("matchMaxRunTimeMinutes")?,
            schedule_frequency_seconds: number("scheduleFrequencySeconds")?,
            delay_allocation_seconds: number("delayAllocationSeconds")?,
        };
        params.finish().map(|()| request)
    };
    match change() {
        Ok(request) => answer(match_broker::admin_x_reconfigure_match_broker(api, request).await),
        Err(error) => error.respond(Form::Catena),
    }
}

/// In the form that the caller asks for: a websocket, server-sent events, or one document per line.
async fn subscribe(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let closing = api.options.closing.clone();
    let from = || {
        let mut params = Params::of(&uri)?;
        let from = params.one(LAST_EVENT_ID_PARAM)?;
        params.finish()?;
        resumed(&headers, from.as_deref())
    };
    let stream = match from() {
        Ok(from) => events::subscribe_to_events(api, &caller, from).await,
        Err(error) => Err(error),
    };
    match (upgrade, wants_events(&headers)) {
        (Ok(upgrade), _) => streams::socket(upgrade, stream, closing),
        (Err(rejection), _) if headers.contains_key(UPGRADE) && stream.is_ok() => {
            ApiError::field("upgrade", rejection).respond(Form::Catena)
        }
        (Err(_), true) => streams::server_sent(stream),
        (Err(_), false) => streams::lines(stream),
    }
}

/// Whether the caller asks for server-sent events.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.trim().starts_with("text/event-stream"))
}

async fn subscribe_by_tag(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Response {
    let request = || {
        let mut params = Params::of(&uri)?;
        let sender_id = params.one("senderId")?.unwrap_or_default();
        let event_tags = params.all("eventTags");
        params.finish().map(|()| SubscribeToEventsByTagRequest { sender_id, event_tags })
    };
    match request() {
        Ok(request) => streams::lines(events::subscribe_to_events_by_tag(api, &caller, request).await),
        Err(error) => error.respond(Form::Catena),
    }
}
