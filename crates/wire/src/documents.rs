//! Matches, tickets and what they are made of as JSON, wherever that leaves the system: in events and at hooks.
//!
//! Every field is there, `null` where it is not set. Properties are the objects that they are.

use serde_json::{Map, Value, json};
use sortie_domain::broker::model::{Connection, MatchSpec, Properties};
use sortie_domain::ids::{FleetId, IdempotencyKey, MatchId, PlayerId, RegionId, TicketId};
use sortie_domain::matchmaking::model::{Named, Party, Player, TicketSpec};

/// A list of ids.
#[must_use]
pub fn players(players: &[PlayerId]) -> Value {
    players.iter().map(PlayerId::as_str).collect()
}

/// A match as it was asked for.
#[must_use]
pub fn match_spec(id: &MatchId, spec: &MatchSpec) -> Value {
    let MatchSpec { players: named, properties: own, player_properties, capacity, fleet, idempotency_key } =
        spec;
    let of_players =
        player_properties.iter().map(|(player, own)| (player.as_str().to_owned(), properties(own)));
    json!({
        "match_id": id.as_str(),
        "players": players(named),
        "properties": properties(own),
        "player_properties": of_players.collect::<Map<_, _>>(),
        "capacity": capacity,
        "fleet": fleet.as_ref().map(FleetId::as_str),
        "idempotency_key": idempotency_key.as_ref().map(IdempotencyKey::as_str),
    })
}

/// Properties as the object that they are. A text that is none, which the domain would not have taken, is shown as it
/// is: an event that cannot be sent would stop all those behind it.
#[must_use]
pub fn properties(properties: &Properties) -> Value {
    let Some(text) = properties.text() else { return json!({}) };
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// Where players connect.
#[must_use]
pub fn connection(connection: &Connection) -> Value {
    let Connection { details, per_player } = connection;
    let of_players =
        per_player.iter().map(|(player, details)| (player.as_str().to_owned(), (**details).into()));
    json!({ "details": **details, "per_player": of_players.collect::<Map<_, _>>() })
}

/// A ticket as it was asked for.
#[must_use]
pub fn ticket_spec(id: &TicketId, spec: &TicketSpec) -> Value {
    let TicketSpec { queue, parties, leader, properties: own, latencies: of_all, idempotency_key, ttl } =
        spec;
    let mut document = json!({
        "ticket_id": id.as_str(),
        "queue": queue.as_str(),
        "parties": parties.iter().map(party).collect::<Value>(),
        "leader": leader.as_ref().map(PlayerId::as_str),
        "properties": properties(own),
        "latencies": latencies(of_all),
        "idempotency_key": idempotency_key.as_ref().map(IdempotencyKey::as_str),
    });
    if let Some(ttl) = ttl {
        document["ttl"] = ttl.as_secs().into();
    }
    document
}

fn party(party: &Party) -> Value {
    json!({ "id": party.id, "players": party.players.iter().map(player).collect::<Value>() })
}

fn player(player: &Player) -> Value {
    let Player { id, ratings: own, latencies: measured, blocked, properties: of_player } = player;
    json!({
        "id": id.as_str(),
        "ratings": ratings(own),
        "latencies": latencies(measured),
        "blocked": players(blocked),
        "properties": properties(of_player),
    })
}

/// Numbers by name.
#[must_use]
pub fn ratings<'a>(ratings: impl IntoIterator<Item = (&'a Box<str>, &'a f64)>) -> Value {
    let entries = ratings.into_iter().map(|(name, rating)| (name.to_string(), json!(rating)));
    Value::Object(entries.collect())
}

fn latencies<'a>(latencies: impl IntoIterator<Item = (&'a RegionId, &'a u32)>) -> Value {
    let entries = latencies.into_iter().map(|(region, latency)| (region.to_string(), json!(latency)));
    Value::Object(entries.collect())
}

/// Tickets and their players, by team.
#[must_use]
pub fn teams(teams: &[Vec<Named>]) -> Value {
    teams.iter().map(|team| tickets(team)).collect()
}

/// Tickets and their players.
#[must_use]
pub fn tickets(tickets: &[Named]) -> Value {
    tickets.iter().map(named).collect()
}

/// A ticket and its players.
#[must_use]
pub fn named(named: &Named) -> Value {
    json!({ "ticket_id": named.ticket.as_str(), "players": players(&named.players) })
}
