//! Events of the matchmaker: as operators see them, and as players see them.
//!
//! A player hears about each change of a ticket's status once, as an event of the type [`TICKET_STATUS`]. Its id is the
//! sequence number of the record, a dot, and a count within the record, so that resuming from it misses nothing.
//! Connection details are only sent to the player they are for.

use serde_json::{Value, json};
use sortie_domain::ids::{MatchId, PlayerId, RegionId};
use sortie_domain::machine::Record;
use sortie_domain::matchmaking::Event;
use sortie_domain::matchmaking::event::Notice;
use sortie_domain::matchmaking::model::{Check, SeatOffer};
use sortie_domain::matchmaking::settings::Settings;
use sortie_domain::time::Timestamp;

use super::{envelope, rfc3339};
use crate::documents;
use crate::stored::whole_millis;

/// The type of players' events.
pub const TICKET_STATUS: &str = "sortie.ticket.status";

/// `record` as a CloudEvent from `source`, a non-empty URI reference.
#[must_use]
pub fn cloud_event(record: &Record<Event>, source: &str) -> Value {
    let Record { seq, time, event } = record;
    envelope(&seq.to_string(), *time, source, event.kind(), subject(event), data(event))
}

/// The players who hear about `record`, each with the CloudEvent from `source`.
#[must_use]
pub fn status_events(record: &Record<Event>, source: &str) -> Vec<(PlayerId, Value)> {
    let mut of_ticket = Vec::new();
    let notices = record.event.notices(&mut of_ticket);
    let heard = notices.iter().flat_map(|notice| notice.players.iter().map(move |player| (player, notice)));
    let documents = heard.zip(0_u32..).map(|((player, notice), count)| {
        let id = format!("{}.{count}", record.seq);
        let (subject, data) = (Some(notice.ticket.as_str()), status_data(player, notice));
        (player.clone(), envelope(&id, record.time, source, TICKET_STATUS, subject, data))
    });
    documents.collect()
}

fn status_data(player: &PlayerId, notice: &Notice<'_>) -> Value {
    json!({
        "ticket_id": notice.ticket.as_str(),
        "player_id": player.as_str(),
        "status": notice.status.name(),
        "message": notice.message,
        "match_id": notice.match_id.map(MatchId::as_str),
        "connection": notice.connection.map(|connection| &**connection.for_player(player)),
    })
}

/// The id of the event's subject: the match, otherwise the ticket, otherwise the queue.
fn subject(event: &Event) -> Option<&str> {
    Some(match event {
        Event::Configured { .. } | Event::Reconfigured { .. } => return None,
        Event::TicketStarted { id, .. } | Event::TicketChecked { id, .. } | Event::TicketRenewed { id } => {
            id.as_str()
        }
        Event::TicketCancelled { ticket, .. }
        | Event::TicketFailed { ticket, .. }
        | Event::TicketTimedOut { ticket }
        | Event::TicketSeated { ticket, .. }
        | Event::TicketReturned { ticket, .. } => ticket.ticket.as_str(),
        Event::MatchProposed { id, .. }
        | Event::MatchAccepted { id, .. }
        | Event::MatchChecked { id, .. }
        | Event::MatchFormed { id, .. }
        | Event::MatchSubmitted { id }
        | Event::MatchDissolved { id, .. }
        | Event::MatchWithdrawn { id }
        | Event::MatchReady { id, .. } => id.as_str(),
        Event::SeatsOffered { offer } => offer.match_id.as_str(),
        Event::SeatsWithdrawn { match_id } | Event::SeatsTaken { match_id, .. } => match_id.as_str(),
        Event::RoundBegun { queue, .. } | Event::RoundEnded { queue, .. } => queue.as_str(),
    })
}

fn data(event: &Event) -> Value {
    match event {
        Event::Configured { settings } | Event::Reconfigured { settings } => settings_data(settings),
        Event::TicketStarted { id, spec, queue, check, .. }
        | Event::TicketChecked { id, spec, queue, check, .. } => {
            let mut ticket = documents::ticket_spec(id, spec);
            ticket["queue"] = queue.as_str().into();
            ticket["check"] = check_data(check.as_ref());
            ticket
        }
        Event::TicketCancelled { ticket, cause } => json!({
            "ticket": documents::named(ticket), "cause": cause.name(), "text": cause.text(),
        }),
        Event::TicketRenewed { id } => json!({ "ticket_id": id.as_str() }),
        Event::TicketFailed { ticket, cause, detail, hook, match_id } => {
            let mut data = json!({
                "ticket": documents::named(ticket), "cause": cause.name(), "text": cause.text(), "detail": **detail,
            });
            if let Some(hook) = hook {
                data["hook"] = hook.as_str().into();
            }
            if let Some(id) = match_id {
                data["match_id"] = id.as_str().into();
            }
            data
        }
        Event::TicketTimedOut { ticket } => json!({ "ticket": documents::named(ticket) }),
        Event::SeatsOffered { offer } => offer_data(offer),
        Event::SeatsWithdrawn { match_id } => json!({ "match_id": match_id.as_str() }),
        Event::SeatsTaken { match_id, ticket, until } => json!({
            "match_id": match_id.as_str(), "ticket": documents::named(ticket), "until": rfc3339(*until),
        }),
        Event::TicketSeated { match_id, ticket, connection } => json!({
            "match_id": match_id.as_str(), "ticket": documents::named(ticket),
            "connection": documents::connection(connection),
        }),
        Event::TicketReturned { match_id, ticket } => {
            json!({ "match_id": match_id.as_str(), "ticket": documents::named(ticket) })
        }
        Event::RoundBegun { queue, number, after, check } => json!({
            "queue": queue.as_str(), "number": number, "after": after, "check": check_data(Some(check)),
        }),
        Event::RoundEnded { queue, after } => json!({ "queue": queue.as_str(), "after": after }),
        of_match => match_data(of_match),
    }
}

fn match_data(event: &Event) -> Value {
    match event {
        Event::MatchProposed { id, queue, teams, region, spec, accept_until, check } => json!({
            "match": documents::match_spec(id, spec), "queue": queue.as_str(), "teams": documents::teams(teams),
            "region": region.as_ref().map(RegionId::as_str), "accept_until": accept_until.map(rfc3339),
            "check": check_data(check.as_ref()),
        }),
        Event::MatchAccepted { id, player } => {
            json!({ "match_id": id.as_str(), "player_id": player.as_str() })
        }
        Event::MatchChecked { id, spec, check } => {
            json!({ "match": documents::match_spec(id, spec), "check": check_data(Some(check)) })
        }
        Event::MatchFormed { id, queue, teams, region, spec } => json!({
            "match": documents::match_spec(id, spec), "queue": queue.as_str(), "teams": documents::teams(teams),
            "region": region.as_ref().map(RegionId::as_str),
        }),
        Event::MatchDissolved { id, cause, returned, heard, withdraw, reason } => {
            let mut data = json!({
                "match_id": id.as_str(), "cause": cause.name(), "text": cause.text(),
                "returned": documents::tickets(returned), "heard": heard, "withdraw": withdraw,
            });
            if !reason.is_empty() {
                data["reason"] = (**reason).into();
            }
            data
        }
        Event::MatchReady { id, tickets, connection } => json!({
            "match_id": id.as_str(), "tickets": documents::tickets(tickets),
            "connection": documents::connection(connection),
        }),
        other => json!({ "match_id": subject(other) }),
    }
}

fn check_data(check: Option<&Check>) -> Value {
    let until = |until: Timestamp| rfc3339(until);
    check.map_or(Value::Null, |check| json!({ "hook": check.hook.as_str(), "until": until(check.until) }))
}

fn offer_data(offer: &SeatOffer) -> Value {
    let SeatOffer { match_id, queue, seats, region, properties, ratings, players } = offer;
    json!({
        "match_id": match_id.as_str(), "queue": queue.as_str(), "seats": seats,
        "region": region.as_ref().map(RegionId::as_str), "properties": documents::properties(properties),
        "ratings": documents::ratings(ratings), "players": documents::players(players),
    })
}

/// The queues and their times. Rules and hooks are in the configuration.
fn settings_data(settings: &Settings) -> Value {
    let queues = settings.queues.iter().map(|(id, queue)| {
        let data = json!({
            "teams": queue.teams, "players_per_team": queue.players_per_team,
            "min_players_per_team": queue.min_players_per_team,
            "ticket_expiration_ms": whole_millis(queue.ticket_expiration),
            "rules": queue.rules.iter().map(|rule| &*rule.name).collect::<Value>(),
        });
        (id.to_string(), data)
    });
    json!({
        "queues": Value::Object(queues.collect()),
        "status_expiration_ms": whole_millis(settings.status_expiration),
        "waiting_bytes": settings.waiting_bytes,
        "kept_bytes": settings.kept_bytes,
        "queues_per_player": settings.queues_per_player,
        "tick_ms": whole_millis(settings.tick),
    })
}
