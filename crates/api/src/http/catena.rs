//! The Catena routes, a line a call.

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::MethodFilter;
use futures::{Stream, StreamExt as _, stream};
use serde::Serialize;
use sortie_serving::json_response;
use sortie_wire::catena::events::SubscribeToEventsByTagRequest;
use sortie_wire::catena::match_broker::{
    AdminEndActiveMatchRequest, AdminGetActiveMatchByIdRequest, AdminXReconfigureMatchBrokerRequest,
};
use sortie_wire::json;

use super::routes::{Routes, answer};
use crate::auth::Caller;
use crate::calls::{events, match_broker, server_manager};
use crate::error::{ApiError, Form};
use crate::params::Params;
use crate::state::Api;

const GET: (&str, MethodFilter) = ("GET", MethodFilter::GET);
const DELETE: (&str, MethodFilter) = ("DELETE", MethodFilter::DELETE);

/// Every route of the contract.
#[rustfmt::skip]
pub(crate) fn routes() -> Routes {
    Routes::default()
        .call("/api/v1/server/request_match", server_manager::request_match)
        .call("/api/v1/server/match_ready", server_manager::match_ready)
        .call("/api/v1/server/end_match", server_manager::end_match)
        .call("/api/v1/servers", server_manager::list_servers)
        .ask("/api/v1/servers", server_manager::list_servers)
        .call("/api/v1/server/allocate", server_manager::admin_allocate_server)
        .call("/api/v1/server/deallocate", server_manager::admin_deallocate_server)
        .ask("/api/v1/matchbroker/healthz", match_broker::get_service_health)
        .ask("/api/v1/matches", match_broker::list_queued_matches)
        .ask("/api/v1/matchbroker/admin/list-active-matches", match_broker::admin_list_active_matches)
        .about(GET, "/api/v1/matchbroker/admin/match/{matchId}", |match_id| AdminGetActiveMatchByIdRequest { match_id }, match_broker::admin_get_active_match_by_id)
        .about(DELETE, "/api/v1/matchbroker/admin/delete/{matchId}", |match_id| AdminEndActiveMatchRequest { match_id }, match_broker::admin_end_active_match)
        .ask("/api/v1/matchbroker/admin/allocators/available", match_broker::admin_get_available_allocators)
        .ask("/api/v1/matchbroker/admin/allocators/configured", match_broker::admin_get_configured_allocators)
        .ask("/api/v1/matchbroker/admin/config", match_broker::admin_x_get_match_broker_config)
        .post("/api/v1/matchbroker/admin/reconfigure", reconfigure)
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

async fn subscribe(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Response {
    lines(events::subscribe_to_events(api, &caller).await)
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
        Ok(request) => lines(events::subscribe_to_events_by_tag(api, &caller, request).await),
        Err(error) => error.respond(Form::Catena),
    }
}

/// A document a line. The answer has begun when a stream breaks, so its error can only end it.
fn lines<S, T>(stream: Result<S, ApiError>) -> Response
where
    S: Stream<Item = Result<T, ApiError>> + Send + 'static,
    T: Serialize,
{
    let messages = match stream {
        Ok(messages) => messages,
        Err(error) => return error.respond(Form::Catena),
    };
    let documents = messages.map(|message| {
        let mut document = json::encode(&message?).map_err(ApiError::internal)?;
        document.push(b'\n');
        Ok::<_, ApiError>(Bytes::from(document))
    });
    let whole = documents.take_while(|document| std::future::ready(document.is_ok()));
    let whole = whole.flat_map(|document| stream::iter(document.map(Ok::<_, std::convert::Infallible>)));
    let mut response = json_response(StatusCode::OK, Vec::new());
    *response.body_mut() = Body::from_stream(whole);
    response
}
