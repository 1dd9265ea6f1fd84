//! Matches, tickets and their parts as JSON, as they leave the system: in events and at hooks.
//!
//! Every field is present, `null` if it is not set. Properties are JSON objects.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sortie_domain::connection::Connection;
use sortie_domain::ids::{FleetId, IdempotencyKey, MatchId, PlayerId, RegionId, TicketId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::matchmaking::model::{Named, Party, Player, TicketSpec};
use sortie_domain::properties::Properties;

/// A list of ids.
#[must_use]
pub fn players(players: &[PlayerId]) -> Value {
    players.iter().map(PlayerId::as_str).collect()
}

/// A match as it was ordered. When written as text, its properties are unchanged, digit by digit.
#[derive(Serialize)]
pub struct MatchDocument<'a> {
    match_id: &'a str,
    players: Vec<&'a str>,
    properties: Exact<'a>,
    player_properties: BTreeMap<&'a str, Exact<'a>>,
    capacity: Option<u32>,
    fleet: Option<&'a str>,
    idempotency_key: Option<&'a str>,
}

impl<'a> MatchDocument<'a> {
    /// The document of this match.
    #[must_use]
    pub fn new(id: &'a MatchId, spec: &'a MatchSpec) -> Self {
        let MatchSpec { players, properties, player_properties, capacity, fleet, idempotency_key } = spec;
        let of_players = player_properties.iter().map(|(player, own)| (player.as_str(), Exact(own)));
        Self {
            match_id: id.as_str(),
            players: players.iter().map(PlayerId::as_str).collect(),
            properties: Exact(properties),
            player_properties: of_players.collect(),
            capacity: *capacity,
            fleet: fleet.as_ref().map(FleetId::as_str),
            idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
        }
    }
}

/// Properties as a JSON object, with their original text.
struct Exact<'a>(&'a Properties);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.text().map(serde_json::from_str::<&RawValue>) {
            Some(Ok(raw)) => raw.serialize(serializer),
            Some(Err(_)) => self.0.text().serialize(serializer),
            None => Map::new().serialize(serializer),
        }
    }
}

/// A document as a value. Numbers that do not fit into 64 bits are rounded to the nearest one that does.
fn value(document: &impl Serialize) -> Value {
    serde_json::to_value(document).unwrap_or_default()
}

/// A match as it was ordered.
#[must_use]
pub fn match_spec(id: &MatchId, spec: &MatchSpec) -> Value {
    value(&MatchDocument::new(id, spec))
}

/// Properties as a JSON object. A text that is not one, which the domain would not have accepted, is shown as a string:
/// an event that cannot be sent would block all later ones.
#[must_use]
pub fn properties(properties: &Properties) -> Value {
    value(&Exact(properties))
}

/// Where players connect.
#[must_use]
pub fn connection(connection: &Connection) -> Value {
    let Connection { details, per_player } = connection;
    let of_players =
        per_player.iter().map(|(player, details)| (player.as_str().to_owned(), (**details).into()));
    json!({ "details": **details, "per_player": of_players.collect::<Map<_, _>>() })
}

/// A ticket as it was ordered. When written as text, its properties are unchanged, digit by digit.
#[derive(Serialize)]
pub struct TicketDocument<'a> {
    ticket_id: &'a str,
    queue: &'a str,
    parties: Vec<PartyDocument<'a>>,
    leader: Option<&'a str>,
    properties: Exact<'a>,
    latencies: BTreeMap<&'a str, u32>,
    idempotency_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<&'a str>,
}

#[derive(Serialize)]
struct PartyDocument<'a> {
    id: Option<&'a str>,
    players: Vec<PlayerDocument<'a>>,
}

#[derive(Serialize)]
struct PlayerDocument<'a> {
    id: &'a str,
    ratings: BTreeMap<&'a str, f64>,
    latencies: BTreeMap<&'a str, u32>,
    blocked: Vec<&'a str>,
    properties: Exact<'a>,
}

impl<'a> TicketDocument<'a> {
    /// The document of this ticket.
    #[must_use]
    pub fn new(id: &'a TicketId, spec: &'a TicketSpec) -> Self {
        let TicketSpec { queue, parties, leader, properties, latencies: of_all, .. } = spec;
        let TicketSpec { idempotency_key, ttl, replaces, .. } = spec;
        let party = |party: &'a Party| PartyDocument {
            id: party.id.as_deref(),
            players: party.players.iter().map(PlayerDocument::new).collect(),
        };
        Self {
            ticket_id: id.as_str(),
            queue: queue.as_str(),
            parties: parties.iter().map(party).collect(),
            leader: leader.as_ref().map(PlayerId::as_str),
            properties: Exact(properties),
            latencies: latencies(of_all),
            idempotency_key: idempotency_key.as_ref().map(IdempotencyKey::as_str),
            ttl: ttl.map(|ttl| ttl.as_secs()),
            replaces: replaces.as_ref().map(TicketId::as_str),
        }
    }
}

impl<'a> PlayerDocument<'a> {
    fn new(player: &'a Player) -> Self {
        let Player { id, ratings, latencies: measured, blocked, properties } = player;
        Self {
            id: id.as_str(),
            ratings: ratings.iter().map(|(name, rating)| (&**name, *rating)).collect(),
            latencies: latencies(measured),
            blocked: blocked.iter().map(PlayerId::as_str).collect(),
            properties: Exact(properties),
        }
    }
}

/// A ticket as it was ordered.
#[must_use]
pub fn ticket_spec(id: &TicketId, spec: &TicketSpec) -> Value {
    value(&TicketDocument::new(id, spec))
}

/// Numbers by name.
#[must_use]
pub fn ratings<'a>(ratings: impl IntoIterator<Item = (&'a Box<str>, &'a f64)>) -> Value {
    let entries = ratings.into_iter().map(|(name, rating)| (name.to_string(), json!(rating)));
    Value::Object(entries.collect())
}

fn latencies(latencies: &BTreeMap<RegionId, u32>) -> BTreeMap<&str, u32> {
    latencies.iter().map(|(region, latency)| (region.as_str(), *latency)).collect()
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
