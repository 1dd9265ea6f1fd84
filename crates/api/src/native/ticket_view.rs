//! A ticket as it is shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sortie_domain::ids::PlayerId;
use sortie_domain::matchmaking::Matchmaker;
use sortie_domain::matchmaking::model::{Party, Player, Stage, Ticket, TicketEnd, TicketState};

use super::{raw, rfc3339};
use crate::error::ApiError;
use crate::names::{STATES, state_name};
use crate::sight::Seen;

/// A ticket as it is shown. Times are RFC 3339.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Ticket")]
pub(super) struct TicketView {
    ticket_id: String,
    /// The queue that it is in, which a hook may have chosen.
    queue: String,
    #[schemars(extend("enum" = STATES))]
    state: &'static str,
    /// The stable name of the reason why it is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The same in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    parties: Vec<PartyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<String>,
    #[schemars(with = "BTreeMap<String, Value>")]
    properties: Box<RawValue>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latencies: BTreeMap<String, u32>,
    /// The match that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    match_id: Option<String>,
    /// Set while its players have to accept the match.
    #[serde(skip_serializing_if = "Option::is_none")]
    accept: Option<AcceptView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_details: Option<String>,
    /// Details of those of the ticket's players who have their own; a player sees only its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    per_player_connection_details: BTreeMap<String, String>,
    /// The ticket whose place it has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// How often it was requeued because no server was available.
    requeues: u32,
    /// When it was started, or the first of the tickets that it has replaced.
    #[schemars(extend("format" = "date-time"))]
    started_at: String,
    /// Start of its wait, without time in matches that came to nothing and time on hold.
    #[schemars(extend("format" = "date-time"))]
    waits_since: String,
    /// Seconds after which it is cancelled unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    /// When it is cancelled unless it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    renew_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    over_at: Option<String>,
}

/// Players who came together.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Party")]
struct PartyView {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    players: Vec<PlayerView>,
}

/// One player of a ticket. A player sees only the ids of the others.
#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "TicketPlayer")]
struct PlayerView {
    id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ratings: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    latencies: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    blocked: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    properties: Option<Box<RawValue>>,
}

/// The match waits until all of its players have accepted it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AcceptStep")]
struct AcceptView {
    #[schemars(extend("format" = "date-time"))]
    until: String,
    /// Players of this ticket who have accepted.
    accepted: Vec<String>,
    /// Numbers of players of the match who have accepted, and of all its players.
    players_accepted: usize,
    players: usize,
}

/// A ticket, with what is known of the match that it is in.
pub(super) fn view(maker: &Matchmaker, seen: &Seen<'_>) -> Result<TicketView, ApiError> {
    let ticket = seen.ticket();
    let spec = &ticket.spec;
    let (over_at, end) = match &ticket.state {
        TicketState::Over { at, end } => (Some(*at), Some(end)),
        _ => (None, None),
    };
    let (reason, message) = match end {
        Some(TicketEnd::Failed { cause, detail, .. }) => {
            let text = if detail.is_empty() { cause.text() } else { detail };
            (Some(cause.name()), Some(text.to_owned()))
        }
        Some(TicketEnd::Cancelled(cause)) => (Some(cause.name()), Some(cause.text().to_owned())),
        _ => (None, None),
    };
    let connection = match end {
        Some(TicketEnd::Completed { connection, .. }) => Some(connection),
        _ => None,
    };
    let per_player = connection.into_iter().flat_map(|connection| seen.details_for(connection));
    Ok(TicketView {
        ticket_id: ticket.id.to_string(),
        queue: ticket.queue.to_string(),
        state: state_name(&ticket.state),
        reason,
        message,
        parties: spec.parties.iter().map(|party| party_view(seen, party)).collect::<Result<_, _>>()?,
        leader: spec.leader.as_ref().map(ToString::to_string),
        properties: raw(&spec.properties)?,
        latencies: spec.latencies.iter().map(|(region, latency)| (region.to_string(), *latency)).collect(),
        match_id: ticket.match_id().map(ToString::to_string),
        accept: accept_view(maker, ticket),
        connection_details: connection.map(|connection| connection.details.as_ref().to_owned()),
        per_player_connection_details: per_player
            .map(|(player, details)| (player.to_string(), details.as_ref().to_owned()))
            .collect(),
        replaces: spec.replaces.as_ref().map(ToString::to_string),
        requeues: ticket.requeues,
        started_at: rfc3339(ticket.started_at),
        waits_since: rfc3339(ticket.waits_since),
        ttl: spec.ttl.map(|ttl| ttl.as_secs()),
        renew_by: maker.renew_by(ticket).map(rfc3339),
        over_at: over_at.map(rfc3339),
    })
}

fn party_view<'a>(seen: &Seen<'a>, party: &'a Party) -> Result<PartyView, ApiError> {
    let players = party.players.iter().map(|player| player_view(seen.player(player)));
    let players = players.collect::<Result<_, _>>()?;
    Ok(PartyView { id: party.id.as_deref().map(str::to_owned), players })
}

fn player_view(player: Result<&Player, &PlayerId>) -> Result<PlayerView, ApiError> {
    let player = match player {
        Ok(player) => player,
        Err(id) => return Ok(PlayerView { id: id.to_string(), ..PlayerView::default() }),
    };
    Ok(PlayerView {
        id: player.id.to_string(),
        ratings: player.ratings.iter().map(|(name, rating)| (name.to_string(), *rating)).collect(),
        latencies: player.latencies.iter().map(|(region, latency)| (region.to_string(), *latency)).collect(),
        blocked: player.blocked.iter().map(ToString::to_string).collect(),
        properties: Some(raw(&player.properties)?),
    })
}

fn accept_view(maker: &Matchmaker, ticket: &Ticket) -> Option<AcceptView> {
    let TicketState::Proposed { match_id, .. } = &ticket.state else { return None };
    let formation = maker.formation(match_id)?;
    let Stage::Accepting { until, accepted } = &formation.stage else { return None };
    let own = ticket.spec.players().map(|player| &player.id);
    Some(AcceptView {
        until: rfc3339(*until),
        accepted: own.filter(|player| accepted.contains(*player)).map(ToString::to_string).collect(),
        players_accepted: accepted.len(),
        players: formation.tickets().map(|named| named.players.len()).sum(),
    })
}
