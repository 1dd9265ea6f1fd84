//! Conversions between the tree of entities that Catena's contract has for a ticket and the matchmaker's tickets.

use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::RawValue;
use sortie_domain::matchmaking::entity::{self, EntityKind, Metadata};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::properties::Properties;
use sortie_wire::catena::common::{Entity, EntityMetadata, EntityType};

use crate::error::ApiError;

/// The ticket that a tree asks for.
pub(super) fn spec(message: Option<Entity>) -> Result<TicketSpec, ApiError> {
    let top = message.ok_or_else(|| ApiError::field("entity", "is missing"))?;
    let top = read(top)?;
    entity::ticket(&top).map_err(|refusal| named(refusal.into()))
}

/// The same error, with Catena's name for the field.
pub(super) fn named(error: ApiError) -> ApiError {
    error.renamed(|field| match field {
        "queue_name" | "leader" | "idempotency_key" | "latencies" | "ratings" | "blocked" | "properties" => {
            Some(format!("entity.metadata.{field}"))
        }
        "metadata" => Some("entity.metadata".to_owned()),
        "settings" => Some("config".to_owned()),
        _ => None,
    })
}

/// The depth is limited by the decoder of the message.
fn read(message: Entity) -> Result<entity::Entity, ApiError> {
    let kind = match message.entity_type() {
        EntityType::Account => EntityKind::Account,
        EntityType::Group => EntityKind::Group,
        EntityType::Match => EntityKind::Match,
        EntityType::Unspecified | EntityType::Generic => EntityKind::Other,
    };
    let metadata = message.metadata.into_iter().map(|(name, value)| match value {
        EntityMetadata { string_payload: Some(text), int_payload: None, json_payload: None } => {
            Ok((name, Metadata::Text(text)))
        }
        EntityMetadata { string_payload: None, int_payload: Some(number), json_payload: None } => {
            Ok((name, Metadata::Integer(number)))
        }
        EntityMetadata { string_payload: None, int_payload: None, json_payload: Some(json) } => {
            Ok((name, Metadata::Json(json)))
        }
        _ => {
            let shown: String = name.chars().take(sortie_domain::ids::MAX_ID_BYTES).collect();
            let problem = format!("entry {shown:?} must have one of stringPayload, intPayload, jsonPayload");
            Err(ApiError::field("entity.metadata", problem))
        }
    });
    Ok(entity::Entity {
        id: message.id,
        kind,
        metadata: metadata.collect::<Result<_, _>>()?,
        entities: message.entities.into_iter().map(read).collect::<Result<_, _>>()?,
    })
}

/// A tree that asks for the same ticket.
pub(super) fn tree(spec: &TicketSpec) -> Entity {
    let mut top = match spec.parties.as_slice() {
        [Party { id: None, players }] if players.len() == 1 => {
            players.first().map(account).unwrap_or_default()
        }
        [party] => group(party),
        parties => Entity {
            entity_type: EntityType::Match.into(),
            entities: parties.iter().map(group).collect(),
            ..Entity::default()
        },
    };
    top.metadata.insert("queue_name".to_owned(), text(spec.queue.as_str()));
    if let Some(leader) = &spec.leader {
        top.metadata.insert("leader".to_owned(), text(leader.as_str()));
    }
    if let Some(key) = &spec.idempotency_key {
        top.metadata.insert("idempotency_key".to_owned(), text(key.as_str()));
    }
    if let Some(properties) = spec.properties.text() {
        top.metadata.insert("properties".to_owned(), raw(properties));
    }
    if !spec.latencies.is_empty() {
        let latencies = spec.latencies.iter().map(|(region, latency)| (region.as_str(), latency));
        top.metadata
            .insert("latencies".to_owned(), raw(&json!(latencies.collect::<BTreeMap<_, _>>()).to_string()));
    }
    top
}

fn group(party: &Party) -> Entity {
    Entity {
        id: party.id.as_deref().unwrap_or_default().to_owned(),
        entity_type: EntityType::Group.into(),
        entities: party.players.iter().map(account).collect(),
        ..Entity::default()
    }
}

fn account(player: &Player) -> Entity {
    let mut metadata = properties(&player.properties);
    if !player.latencies.is_empty() {
        let latencies = player.latencies.iter().map(|(region, latency)| (region.as_str(), latency));
        metadata
            .insert("latencies".to_owned(), raw(&json!(latencies.collect::<BTreeMap<_, _>>()).to_string()));
    }
    if !player.ratings.is_empty() {
        let ratings = player.ratings.iter().map(|(name, rating)| (&**name, rating));
        metadata.insert("ratings".to_owned(), raw(&json!(ratings.collect::<BTreeMap<_, _>>()).to_string()));
    }
    if !player.blocked.is_empty() {
        let blocked: Vec<_> = player.blocked.iter().map(sortie_domain::ids::PlayerId::as_str).collect();
        metadata.insert("blocked".to_owned(), raw(&json!(blocked).to_string()));
    }
    Entity {
        id: player.id.as_str().to_owned(),
        entity_type: EntityType::Account.into(),
        metadata,
        ..Entity::default()
    }
}

/// Properties of a player are entries of their own.
fn properties(properties: &Properties) -> BTreeMap<String, EntityMetadata> {
    let document: BTreeMap<String, &RawValue> =
        serde_json::from_str(properties.text().unwrap_or("{}")).unwrap_or_default();
    let entries = document.into_iter().map(|(name, value)| {
        let value = match (serde_json::from_str::<String>(value.get()), value.get().parse::<i64>()) {
            (Ok(own), _) => text(&own),
            (_, Ok(number)) => EntityMetadata { int_payload: Some(number), ..EntityMetadata::default() },
            _ => raw(value.get()),
        };
        (name, value)
    });
    entries.collect()
}

fn text(text: &str) -> EntityMetadata {
    EntityMetadata { string_payload: Some(text.to_owned()), ..EntityMetadata::default() }
}

fn raw(json: &str) -> EntityMetadata {
    EntityMetadata { json_payload: Some(json.to_owned()), ..EntityMetadata::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(entries: &[(&str, EntityMetadata)]) -> BTreeMap<String, EntityMetadata> {
        entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    fn an_account(id: &str) -> Entity {
        let ratings = raw(r#"{"mmr":1200.0}"#);
        let entries =
            [("latencies", raw(r#"{"eu":20}"#)), ("ratings", ratings), ("blocked", raw(r#"["z"]"#))];
        let mut entries = metadata(&entries);
        entries.insert("skin".to_owned(), text("red"));
        let entity_type = EntityType::Account.into();
        Entity { id: id.to_owned(), entity_type, metadata: entries, ..Entity::default() }
    }

    fn a_group(id: &str, players: &[&str]) -> Entity {
        Entity {
            id: id.to_owned(),
            entity_type: EntityType::Group.into(),
            entities: players.iter().map(|player| an_account(player)).collect(),
            ..Entity::default()
        }
    }

    #[test]
    fn what_is_shown_of_a_ticket_asks_for_the_same_again() {
        let of_ticket = [
            ("queue_name", text("ranked")),
            ("leader", text("a")),
            ("idempotency_key", text("k")),
            ("properties", raw(r#"{"map":"dust"}"#)),
        ];
        let mut alone = an_account("a");
        alone.metadata.extend(metadata(&of_ticket));
        let mut party = a_group("party", &["a", "b"]);
        party.metadata = metadata(&of_ticket);
        party.metadata.insert("latencies".to_owned(), raw(r#"{"us":90}"#));
        let parties = vec![a_group("one", &["a", "b"]), a_group("two", &["c"])];
        let several = Entity {
            entity_type: EntityType::Match.into(),
            entities: parties,
            metadata: metadata(&of_ticket),
            ..Entity::default()
        };
        for (top, players) in [(alone, 1), (party, 2), (several, 3)] {
            let asked = spec(Some(top)).unwrap();
            assert_eq!((asked.size(), asked.queue.as_str()), (players, "ranked"));
            let shown = spec(Some(tree(&asked))).unwrap();
            assert_eq!(shown.parties.iter().map(|party| party.players.len()).sum::<usize>(), players);
            assert_eq!((&shown.queue, &shown.leader), (&asked.queue, &asked.leader));
            assert_eq!(
                (&shown.latencies, &shown.idempotency_key),
                (&asked.latencies, &asked.idempotency_key)
            );
            let of = |spec: &TicketSpec| {
                let players = spec.players();
                let of = players.map(|one| {
                    (one.id.clone(), one.latencies.clone(), one.ratings.clone(), one.blocked.clone())
                });
                of.collect::<Vec<_>>()
            };
            assert_eq!(of(&shown), of(&asked));
        }
    }

    #[test]
    fn what_is_wrong_is_named_as_the_contract_names_it() {
        let mut empty = an_account("a");
        empty.metadata.insert("odd".to_owned(), EntityMetadata::default());
        let mut elsewhere = an_account("a");
        elsewhere.metadata.insert("queue_name".to_owned(), raw("3"));
        for (top, field) in [
            (None, "entity: "),
            (Some(Entity::default()), "entity: "),
            (Some(an_account("a")), "entity: the metadata of the top entity must contain `queue_name`"),
            (Some(empty), "entity.metadata: entry \"odd\" must have one of"),
            (Some(elsewhere), "entity.metadata.queue_name: must be a text"),
        ] {
            let message = spec(top).unwrap_err().message();
            assert!(message.starts_with(field), "{message}");
        }
    }
}
