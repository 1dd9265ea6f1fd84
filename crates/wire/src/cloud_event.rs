//! Events as they leave the system: [CloudEvents
//! 1.0](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md) in JSON.
//!
//! A separate form from the stored one: it is read by people and other programs, so it has names where the log has
//! numbers, and objects where the log has text.
//!
//! `data` has every field of the event, `null` if it is not set. A cause has a `text` for people. Names of durations
//! end in `_ms` (milliseconds, rounded up). A client id is a string, because many JSON readers keep only 53 bits of a
//! number. Events of the matchmaker are in [`matchmaker`].

pub mod matchmaker;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sortie_domain::broker::Event;
use sortie_domain::broker::model::{FastSchedule, Fleet, Settings};
use sortie_domain::ids::MatchId;
use sortie_domain::machine::Record;
use sortie_domain::time::Timestamp;

use crate::documents;
use crate::stored::whole_millis;

/// The end of the year 9999, the last one in RFC 3339.
const LAST_MILLIS: u64 = 253_402_300_799_999;

/// `record` as a CloudEvent from `source`, a non-empty URI reference.
#[must_use]
pub fn cloud_event(record: &Record<Event>, source: &str) -> Value {
    let Record { seq, time, event } = record;
    envelope(&seq.to_string(), *time, source, event.kind(), subject(event), data(event))
}

fn envelope(
    id: &str,
    time: Timestamp,
    source: &str,
    kind: &str,
    subject: Option<&str>,
    data: Value,
) -> Value {
    let mut document = json!({
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": kind,
        "time": rfc3339(time),
        "datacontenttype": "application/json",
    });
    document["data"] = data;
    // CloudEvents attributes that are not set must be omitted.
    if let Some(subject) = subject {
        document["subject"] = subject.into();
    }
    document
}

/// RFC 3339, UTC, milliseconds; at most the end of the year 9999, the limit of RFC 3339.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let since_epoch = Duration::from_millis(time.as_millis().min(LAST_MILLIS));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since_epoch).to_string()
}

/// The id of the event's subject: the match for matches and their seats, otherwise the server or the allocation.
fn subject(event: &Event) -> Option<&str> {
    match event {
        Event::Configured { .. } | Event::Reconfigured { .. } => None,
        Event::MatchQueued { id, .. }
        | Event::MatchPickedUp { id, .. }
        | Event::MatchReturned { id, .. }
        | Event::MatchReady { id, .. }
        | Event::MatchEnded { id, .. }
        | Event::MatchFailed { id, .. }
        | Event::MatchCancelled { id, .. }
        | Event::MatchPlacesReported { id, .. } => Some(id.as_str()),
        Event::SeatReserved { match_id, .. }
        | Event::SeatRenewed { match_id, .. }
        | Event::SeatClaimed { match_id, .. }
        | Event::SeatClosed { match_id, .. } => Some(match_id.as_str()),
        Event::ServerRegistered { server }
        | Event::ServerAvailable { server }
        | Event::ServerFull { server }
        | Event::ServerNotFull { server }
        | Event::ServerDraining { server, .. }
        | Event::ServerGone { server, .. } => Some(server.as_str()),
        Event::AllocationOrdered { allocation, .. }
        | Event::AllocationAssigned { allocation, .. }
        | Event::AllocationStarted { allocation }
        | Event::AllocationStopOrdered { allocation, .. }
        | Event::AllocationEnded { allocation, .. } => Some(allocation.as_str()),
    }
}

fn data(event: &Event) -> Value {
    match event {
        Event::Configured { settings, fleets } => json!({
            "settings": settings_data(settings), "fleets": fleets.iter().map(fleet_data).collect::<Value>(),
        }),
        Event::Reconfigured { settings } => json!({ "settings": settings_data(settings) }),
        Event::MatchQueued { id, spec } => documents::match_spec(id, spec),
        Event::MatchPickedUp { id, server } => {
            json!({ "match_id": id.as_str(), "server_id": server.as_str() })
        }
        Event::MatchReturned { id, server, reason } => {
            let mut data = json!({ "match_id": id.as_str(), "server_id": server.as_str() });
            if let Some(reason) = reason {
                (data["reason"], data["text"]) = (reason.name().into(), reason.text().into());
            }
            data
        }
        Event::MatchReady { id, server, players, connection } => json!({
            "match_id": id.as_str(), "server_id": server.as_str(),
            "players": documents::players(players), "connection": documents::connection(connection),
        }),
        Event::MatchEnded { id, players, cause } => json!({
            "match_id": id.as_str(), "players": documents::players(players), "cause": cause.name(), "text": cause.text(),
        }),
        Event::MatchFailed { id, players, reason } => json!({
            "match_id": id.as_str(), "players": documents::players(players), "reason": reason.name(), "text": reason.text(),
        }),
        Event::MatchCancelled { id, players, cause } => json!({
            "match_id": id.as_str(), "players": documents::players(players), "cause": cause.name(), "text": cause.text(),
        }),
        Event::MatchPlacesReported { id, free } => json!({ "match_id": id.as_str(), "free": free }),
        Event::SeatReserved { seat, match_id, player, client_id, ttl } => json!({
            "seat_id": seat.as_str(), "match_id": match_id.as_str(), "player_id": player.as_str(),
            "client_id": client_id.to_string(), "ttl_ms": whole_millis(*ttl),
        }),
        Event::SeatRenewed { seat, match_id } | Event::SeatClaimed { seat, match_id } => {
            json!({ "seat_id": seat.as_str(), "match_id": match_id.as_str() })
        }
        Event::SeatClosed { seat, match_id, end } => json!({
            "seat_id": seat.as_str(), "match_id": match_id.as_str(), "end": end.name(), "text": end.text(),
        }),
        Event::ServerRegistered { server }
        | Event::ServerAvailable { server }
        | Event::ServerFull { server }
        | Event::ServerNotFull { server } => json!({ "server_id": server.as_str() }),
        Event::ServerDraining { server, cause } | Event::ServerGone { server, cause } => {
            json!({ "server_id": server.as_str(), "cause": cause.name(), "text": cause.text() })
        }
        Event::AllocationOrdered { allocation, server, fleet, for_match } => json!({
            "allocation_id": allocation.as_str(), "server_id": server.as_str(), "fleet": fleet.as_str(),
            "for_match_id": for_match.as_ref().map(MatchId::as_str),
        }),
        Event::AllocationAssigned { allocation, for_match } => {
            json!({ "allocation_id": allocation.as_str(), "for_match_id": for_match.as_str() })
        }
        Event::AllocationStarted { allocation } => json!({ "allocation_id": allocation.as_str() }),
        Event::AllocationStopOrdered { allocation, fleet, error }
        | Event::AllocationEnded { allocation, fleet, error } => json!({
            "allocation_id": allocation.as_str(), "fleet": fleet.as_str(), "error": error.as_deref(),
        }),
    }
}

fn settings_data(settings: &Settings) -> Value {
    let fast_schedule = match settings.fast_schedule {
        FastSchedule::OnSchedule => "on_schedule",
        FastSchedule::UnlessFree => "unless_free",
        FastSchedule::Always => "always",
    };
    json!({
        "fast_schedule": fast_schedule,
        "server_max_lifetime_ms": whole_millis(settings.server_max_lifetime),
        "lifetime_ends_matches": settings.lifetime_ends_matches,
        "suspect_time_ms": whole_millis(settings.suspect_time),
        "match_pickup_time_ms": whole_millis(settings.match_pickup_time),
        "match_ready_time_ms": whole_millis(settings.match_ready_time),
        "match_max_run_time_ms": whole_millis(settings.match_max_run_time),
        "schedule_frequency_ms": whole_millis(settings.schedule_frequency),
        "delay_allocation_ms": whole_millis(settings.delay_allocation),
        "waiting_bytes": settings.waiting_bytes,
        "kept_bytes": settings.kept_bytes,
        "wait_ms": whole_millis(settings.wait),
    })
}

fn fleet_data(fleet: &Fleet) -> Value {
    json!({
        "fleet": fleet.id.as_str(),
        "requirements": fleet.requirements,
        "max": fleet.max,
        "warm": fleet.warm,
        "ready_deadline_ms": whole_millis(fleet.ready_deadline),
        "max_run_time_ms": fleet.max_run_time.map(whole_millis),
        "preference": fleet.preference,
        "game": fleet.game.as_ref().map(|game| json!({ "name": game.name, "version": game.version })),
        "is_default": fleet.is_default,
    })
}
