//! Every Catena call, once, for both transports: a message in, a message or an error out.

pub(crate) mod convert;
mod entities;
pub(crate) mod events;
pub(crate) mod match_broker;
pub(crate) mod matchmaking;
pub(crate) mod matchmaking_config;
pub(crate) mod server_manager;

use sortie_domain::broker::Refusal;
use sortie_domain::ids::{BadId, MatchId, ServerId};
use sortie_engine::CallError;

use crate::error::ApiError;

/// Reads the id in `field`.
fn id<T>(field: &str, text: &str, new: fn(&str) -> Result<T, BadId>) -> Result<T, ApiError> {
    new(text).map_err(|problem| ApiError::field(field, problem))
}

fn server_id(text: &str) -> Result<ServerId, ApiError> {
    id("serverId", text, ServerId::new)
}

fn match_id(text: &str) -> Result<MatchId, ApiError> {
    id("matchId", text, MatchId::new)
}

/// The broker's error, with Catena's names for the fields.
fn refused(error: CallError<Refusal>) -> ApiError {
    ApiError::from(error).renamed(|field| {
        let name = match field {
            "connection_details" => "connectionDetails",
            "per_player_connection_details" => "perPlayerConnectionDetails",
            "players" => "playerIds",
            "fast_schedule" => "fastSchedule",
            "server_max_lifetime" => "serverMaxLifetimeMinutes",
            "match_pickup_time" => "matchPickupTimeSeconds",
            "match_ready_time" => "matchReadyTimeSeconds",
            "match_max_run_time" => "matchMaxRunTimeMinutes",
            "schedule_frequency" => "scheduleFrequencySeconds",
            "delay_allocation" => "delayAllocationSeconds",
            _ => return None,
        };
        Some(name.to_owned())
    })
}
