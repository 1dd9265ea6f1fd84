//! Service `catena.catena_match_broker.CatenaMatchBroker`.

use std::time::Duration;

use sortie_domain::broker::model::{FastSchedule, Match, MatchState, Settings, SettingsChange};
use sortie_domain::broker::{Command, Reply};
use sortie_domain::size::Size;
use sortie_wire::catena::common::{ComponentHealth, GetServiceHealthRequest, GetServiceHealthResponse};
use sortie_wire::catena::match_broker::{
    AdminEndActiveMatchRequest, AdminEndActiveMatchResponse, AdminGetActiveMatchByIdRequest,
    AdminGetActiveMatchByIdResponse, AdminGetAvailableAllocatorsRequest, AdminGetAvailableAllocatorsResponse,
    AdminGetConfiguredAllocatorsRequest, AdminGetConfiguredAllocatorsResponse, AdminListActiveMatchesRequest,
    AdminListActiveMatchesResponse, AdminXGetMatchBrokerConfigRequest, AdminXGetMatchBrokerConfigResponse,
    AdminXReconfigureMatchBrokerRequest, AdminXReconfigureMatchBrokerResponse, AllocatorConfiguration,
    ListQueuedMatchesRequest, ListQueuedMatchesResponse,
};

use super::convert::Shown;
use super::{match_id, refused};
use crate::error::ApiError;
use crate::state::Api;

/// Maximum number of matches in one list. The contract has no pages; `/v1/matches` has.
pub(crate) const MAX_LISTED: usize = 10_000;
/// A list that reaches this many bytes gets no further item: 4 MiB, the maximum message size of common gRPC clients.
pub(crate) const MAX_LISTED_BYTES: usize = 4 << 20;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Whether calls are served.
pub(crate) async fn get_service_health(
    api: Api,
    _: GetServiceHealthRequest,
) -> Result<GetServiceHealthResponse, ApiError> {
    Ok(health("broker", api.broker_not_serving().await.as_ref()))
}

/// The health of a service of one component.
pub(super) fn health(component: &str, problem: Option<&ApiError>) -> GetServiceHealthResponse {
    let component = ComponentHealth {
        component: component.to_owned(),
        healthy: problem.is_none(),
        status: problem.map_or_else(|| "serving".to_owned(), ApiError::message),
    };
    GetServiceHealthResponse { healthy: problem.is_none(), components: vec![component] }
}

/// The first of them, within the limits of a list.
fn listed<'a>(matches: impl Iterator<Item = &'a Match>) -> Vec<Shown> {
    let mut total = 0;
    let within = |game: &&Match| {
        let fits = total < MAX_LISTED_BYTES;
        total += game.byte_size();
        fits
    };
    matches.take(MAX_LISTED).take_while(within).map(Shown::from).collect()
}

/// Matches that wait for a server, oldest first, at most [`MAX_LISTED`].
pub(crate) async fn list_queued_matches(
    api: Api,
    _: ListQueuedMatchesRequest,
) -> Result<ListQueuedMatchesResponse, ApiError> {
    let queued = api.query(|broker| listed(broker.queued())).await?;
    Ok(ListQueuedMatchesResponse { matches: queued.into_iter().map(Into::into).collect() })
}

/// Matches on a server, by id, at most [`MAX_LISTED`].
pub(crate) async fn admin_list_active_matches(
    api: Api,
    _: AdminListActiveMatchesRequest,
) -> Result<AdminListActiveMatchesResponse, ApiError> {
    let active = api.query(|broker| listed(broker.active())).await?;
    Ok(AdminListActiveMatchesResponse { matches: active.into_iter().map(Into::into).collect() })
}

/// A match on a server.
pub(crate) async fn admin_get_active_match_by_id(
    api: Api,
    request: AdminGetActiveMatchByIdRequest,
) -> Result<AdminGetActiveMatchByIdResponse, ApiError> {
    let id = match_id(&request.match_id)?;
    let wanted = id.clone();
    let is_active = |game: &&Match| !game.state.is_over() && game.state != MatchState::Queued;
    let found =
        api.query(move |broker| broker.find_match(&wanted).filter(is_active).map(Shown::from)).await?;
    match found {
        Some(shown) => Ok(AdminGetActiveMatchByIdResponse { r#match: Some(shown.into()) }),
        None => Err(sortie_domain::broker::Refusal::MatchNotFound(id).into()),
    }
}

/// An administrator ends a match, whatever its state.
pub(crate) async fn admin_end_active_match(
    api: Api,
    request: AdminEndActiveMatchRequest,
) -> Result<AdminEndActiveMatchResponse, ApiError> {
    let id = match_id(&request.match_id)?;
    match api.call(Command::EndActiveMatch { id }).await.map_err(refused)? {
        Reply::Match(_) => Ok(AdminEndActiveMatchResponse { match_deleted: true }),
        other => Err(ApiError::unexpected(&other)),
    }
}

/// The allocators that this build has.
pub(crate) async fn admin_get_available_allocators(
    api: Api,
    _: AdminGetAvailableAllocatorsRequest,
) -> Result<AdminGetAvailableAllocatorsResponse, ApiError> {
    Ok(AdminGetAvailableAllocatorsResponse { allocator_names: api.options.available_allocators.clone() })
}

/// The allocators of the fleets.
pub(crate) async fn admin_get_configured_allocators(
    api: Api,
    _: AdminGetConfiguredAllocatorsRequest,
) -> Result<AdminGetConfiguredAllocatorsResponse, ApiError> {
    let allocators = api.options.allocators.iter().map(|allocator| AllocatorConfiguration {
        name: allocator.name.clone(),
        description: allocator.description.clone(),
        requirements: allocator.requirements.clone(),
        raw_allocator_configuration: allocator.raw_configuration.clone(),
    });
    Ok(AdminGetConfiguredAllocatorsResponse { allocators: allocators.collect() })
}

/// The current settings, rounded up to whole numbers of their units.
pub(crate) async fn admin_x_get_match_broker_config(
    api: Api,
    _: AdminXGetMatchBrokerConfigRequest,
) -> Result<AdminXGetMatchBrokerConfigResponse, ApiError> {
    let settings: Settings = api.query(|broker| broker.settings().clone()).await?;
    Ok(AdminXGetMatchBrokerConfigResponse {
        fast_schedule: match settings.fast_schedule {
            FastSchedule::OnSchedule => 0,
            FastSchedule::UnlessFree => 1,
            FastSchedule::Always => 2,
        },
        server_max_lifetime_minutes: units(settings.server_max_lifetime, MINUTE),
        match_pickup_time_seconds: units(settings.match_pickup_time, SECOND),
        match_ready_time_seconds: units(settings.match_ready_time, SECOND),
        match_max_run_time_minutes: units(settings.match_max_run_time, MINUTE),
        schedule_frequency_seconds: units(settings.schedule_frequency, SECOND),
        delay_allocation_seconds: units(settings.delay_allocation, SECOND),
    })
}

/// Changes the settings in the request.
pub(crate) async fn admin_x_reconfigure_match_broker(
    api: Api,
    request: AdminXReconfigureMatchBrokerRequest,
) -> Result<AdminXReconfigureMatchBrokerResponse, ApiError> {
    let minutes = |field, value| duration(field, value, MINUTE);
    let seconds = |field, value| duration(field, value, SECOND);
    let change = SettingsChange {
        fast_schedule: request.fast_schedule.map(fast_schedule).transpose()?,
        server_max_lifetime: minutes("serverMaxLifetimeMinutes", request.server_max_lifetime_minutes)?,
        match_pickup_time: seconds("matchPickupTimeSeconds", request.match_pickup_time_seconds)?,
        match_ready_time: seconds("matchReadyTimeSeconds", request.match_ready_time_seconds)?,
        match_max_run_time: minutes("matchMaxRunTimeMinutes", request.match_max_run_time_minutes)?,
        schedule_frequency: seconds("scheduleFrequencySeconds", request.schedule_frequency_seconds)?,
        delay_allocation: seconds("delayAllocationSeconds", request.delay_allocation_seconds)?,
        wait: None,
    };
    match api.call(Command::Reconfigure { change }).await.map_err(refused)? {
        Reply::Done => Ok(AdminXReconfigureMatchBrokerResponse { success: true }),
        other => Err(ApiError::unexpected(&other)),
    }
}

fn units(duration: Duration, unit: Duration) -> i32 {
    i32::try_from(duration.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(i32::MAX)
}

fn duration(field: &str, value: Option<i32>, unit: Duration) -> Result<Option<Duration>, ApiError> {
    let Some(value) = value else { return Ok(None) };
    match u32::try_from(value) {
        Ok(value) => Ok(Some(unit * value)),
        Err(_) => Err(ApiError::field(field, "must not be negative")),
    }
}

fn fast_schedule(value: i32) -> Result<FastSchedule, ApiError> {
    match value {
        0 => Ok(FastSchedule::OnSchedule),
        1 => Ok(FastSchedule::UnlessFree),
        2 => Ok(FastSchedule::Always),
        _ => Err(ApiError::field("fastSchedule", "must be 0, 1 or 2")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_up_to_whole_units_and_never_overflow() {
        assert_eq!(units(Duration::from_secs(90), MINUTE), 2);
        assert_eq!(units(Duration::from_millis(1), SECOND), 1);
        assert_eq!(units(Duration::ZERO, SECOND), 0);
        assert_eq!(units(Duration::MAX, SECOND), i32::MAX);
        assert!(duration("x", Some(i32::MAX), MINUTE).is_ok());
        assert_eq!(duration("x", Some(-1), MINUTE).unwrap_err().message(), "x: must not be negative");
    }
}
