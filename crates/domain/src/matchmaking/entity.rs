//! Tickets as Catena's contract sends them: trees of entities.
//!
//! An account is one player; a group or a match holds all accounts or all groups, never a mix. The metadata of the top
//! entity names the queue (`queue_name`) and may hold `leader`, `idempotency_key`, `latencies` (a JSON object of region
//! to milliseconds, where a fraction is rounded up) and `properties` (a JSON object); every other entry becomes a
//! property. The metadata of an account may hold `latencies`, `ratings` (a JSON object of name to number) and `blocked`
//! (a JSON list of player ids); every other entry becomes a property of the player, and if it is a whole number, also a
//! rating.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use jmespath::{Rcvar, Variable};

use super::command::Refusal;
use super::json;
use super::model::{MAX_LATENCY, MAX_TICKET_PLAYERS, Party, Player, TicketSpec, whole_millis};
use crate::ids::{IdempotencyKey, PlayerId, QueueId, RegionId};
use crate::properties::Properties;

/// Maximum nesting depth of entities.
pub const MAX_ENTITY_DEPTH: usize = 4;

/// The kind of an entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntityKind {
    /// Unknown.
    Other,
    /// One player.
    Account,
    /// A party.
    Group,
    /// Several parties.
    Match,
}

/// A metadata value of an entity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Metadata {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// JSON.
    Json(String),
}

/// One entity of a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entity {
    /// Its id; for an account, the player's.
    pub id: String,
    /// Its kind.
    pub kind: EntityKind,
    /// The entities in it.
    pub entities: Vec<Self>,
    /// Its metadata by name.
    pub metadata: BTreeMap<String, Metadata>,
}

/// The ticket that a tree of entities asks for.
///
/// # Errors
/// [`Refusal::InvalidField`] with what is wrong with the tree.
pub fn ticket(top: &Entity) -> Result<TicketSpec, Refusal> {
    let mut parties = Vec::new();
    collect(top, None, 0, &mut parties)?;
    let mut notes = Notes::of(top);
    let queue = notes.text("queue_name")?.ok_or_else(|| {
        Refusal::field("entity", "the metadata of the top entity must contain `queue_name`")
    })?;
    let queue = QueueId::new(&queue).map_err(|problem| Refusal::field("queue_name", problem))?;
    let leader = notes.text("leader")?;
    let leader = leader.map(|id| PlayerId::new(&id).map_err(|problem| Refusal::field("leader", problem)));
    let key = notes.text("idempotency_key")?;
    let key = key
        .map(|key| IdempotencyKey::new(&key).map_err(|problem| Refusal::field("idempotency_key", problem)));
    // The latencies and properties of a single account are its player's.
    let (latencies, properties) = match top.kind {
        EntityKind::Account => (BTreeMap::new(), notes.properties("properties")?),
        _ => (notes.latencies()?, notes.properties("properties")?),
    };
    Ok(TicketSpec {
        queue,
        parties,
        leader: leader.transpose()?,
        properties,
        latencies,
        idempotency_key: key.transpose()?,
        ttl: None,
        replaces: None,
    })
}

fn collect(
    entity: &Entity,
    party: Option<usize>,
    depth: usize,
    parties: &mut Vec<Party>,
) -> Result<(), Refusal> {
    if depth >= MAX_ENTITY_DEPTH {
        let problem = format!("entities are nested deeper than {MAX_ENTITY_DEPTH}");
        return Err(Refusal::field("entity", problem));
    }
    match entity.kind {
        EntityKind::Account => {
            let player = player(entity)?;
            match party.and_then(|party| parties.get_mut(party)) {
                Some(party) => party.players.push(player),
                None => parties.push(Party { id: None, players: Vec::from([player]) }),
            }
            let count: usize = parties.iter().map(|party| party.players.len()).sum();
            if count > MAX_TICKET_PLAYERS {
                let problem = format!("contains more than {MAX_TICKET_PLAYERS} accounts");
                return Err(Refusal::field("entity", problem));
            }
            Ok(())
        }
        EntityKind::Group | EntityKind::Match => collect_children(entity, depth, parties),
        EntityKind::Other => {
            let problem = format!("entity {:?} must be an account, a group or a match", shown(&entity.id));
            Err(Refusal::field("entity", problem))
        }
    }
}

fn collect_children(entity: &Entity, depth: usize, parties: &mut Vec<Party>) -> Result<(), Refusal> {
    let id = shown(&entity.id);
    let accounts = entity.entities.iter().filter(|child| child.kind == EntityKind::Account).count();
    let groups = entity.entities.iter().filter(|child| child.kind == EntityKind::Group).count();
    if accounts > 0 && groups > 0 {
        let problem = format!(
            "entity {id:?} contains accounts and groups; it must contain only accounts or only groups"
        );
        return Err(Refusal::field("entity", problem));
    }
    if accounts + groups == 0 {
        let problem = format!("entity {id:?} contains neither accounts nor groups");
        return Err(Refusal::field("entity", problem));
    }
    let party = (accounts > 0).then(|| {
        let id = (!entity.id.is_empty()).then(|| Box::from(id));
        parties.push(Party { id, players: Vec::new() });
        parties.len() - 1
    });
    entity.entities.iter().try_for_each(|child| collect(child, party, depth + 1, parties))
}

fn player(entity: &Entity) -> Result<Player, Refusal> {
    if !entity.entities.is_empty() {
        let problem = format!("account {:?} contains entities, but it is a single player", shown(&entity.id));
        return Err(Refusal::field("entity", problem));
    }
    let id = PlayerId::new(&entity.id).map_err(|problem| Refusal::field("entity.id", problem))?;
    let mut notes = Notes::of(entity);
    // These belong to the ticket, if the account is the whole ticket.
    for name in ["queue_name", "leader", "idempotency_key", "properties"] {
        notes.entries.remove(name);
    }
    let latencies = notes.latencies()?;
    let mut ratings = notes.ratings()?;
    let blocked = notes.blocked()?;
    for (name, value) in &notes.entries {
        if let Metadata::Integer(number) = value {
            ratings.entry(Box::from(name.as_str())).or_insert(*number as f64);
        }
    }
    let properties = notes.rest()?;
    Ok(Player { id, ratings, latencies, blocked, properties })
}

/// The parsed metadata of an entity.
struct Notes {
    entries: BTreeMap<String, Metadata>,
}

impl Notes {
    fn of(entity: &Entity) -> Self {
        Self { entries: entity.metadata.clone() }
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, Refusal> {
        match self.entries.remove(name) {
            None => Ok(None),
            Some(Metadata::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::field(name, "must be a text")),
        }
    }

    fn json(&mut self, name: &'static str) -> Result<Option<Variable>, Refusal> {
        let text = match self.entries.remove(name) {
            None => return Ok(None),
            Some(Metadata::Json(text) | Metadata::Text(text)) => text,
            Some(Metadata::Integer(_)) => return Err(Refusal::field(name, "must be JSON")),
        };
        // Limits and validation are those of properties.
        if text.len() > crate::properties::MAX_PROPERTIES_BYTES {
            return Err(Refusal::field(name, "is too long"));
        }
        Variable::from_json(&text).map(Some).map_err(|problem| Refusal::field(name, problem))
    }

    fn object(&mut self, name: &'static str) -> Result<BTreeMap<String, Rcvar>, Refusal> {
        match self.json(name)? {
            None => Ok(BTreeMap::new()),
            Some(value) => {
                value.as_object().cloned().ok_or_else(|| Refusal::field(name, "must be a JSON object"))
            }
        }
    }

    fn latencies(&mut self) -> Result<BTreeMap<RegionId, u32>, Refusal> {
        let latencies = self.object("latencies")?.into_iter().map(|(region, value)| {
            let region = RegionId::new(&region).map_err(|problem| Refusal::field("latencies", problem))?;
            let problem = || format!("must be milliseconds from 0 to {MAX_LATENCY}");
            let latency = value.as_number().and_then(whole_millis);
            Ok((region, latency.ok_or_else(|| Refusal::field("latencies", problem()))?))
        });
        latencies.collect()
    }

    fn ratings(&mut self) -> Result<BTreeMap<Box<str>, f64>, Refusal> {
        let ratings = self.object("ratings")?.into_iter().map(|(name, value)| {
            let rating = value.as_number().ok_or_else(|| Refusal::field("ratings", "must be numbers"))?;
            Ok((Box::from(name.as_str()), rating))
        });
        ratings.collect()
    }

    fn blocked(&mut self) -> Result<Vec<PlayerId>, Refusal> {
        let Some(value) = self.json("blocked")? else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| Refusal::field("blocked", "must be a JSON list"))?;
        let players = list.iter().map(|value| {
            let id = value.as_string().ok_or_else(|| Refusal::field("blocked", "must contain player ids"))?;
            PlayerId::new(id).map_err(|problem| Refusal::field("blocked", problem))
        });
        players.collect()
    }

    /// The object under `name`, with every other entry as a separate property; all values stay as they were written.
    fn properties(&mut self, name: &'static str) -> Result<Properties, Refusal> {
        let text = match self.entries.get(name) {
            Some(Metadata::Json(text) | Metadata::Text(text)) => text.clone(),
            _ => String::new(),
        };
        self.object(name)?;
        // These belong to players.
        for of_player in ["latencies", "ratings", "blocked"] {
            self.entries.remove(of_player);
        }
        self.with_rest(&text)
    }

    fn rest(&self) -> Result<Properties, Refusal> {
        self.with_rest("")
    }

    /// The members of a validated object, and every other entry.
    fn with_rest(&self, object: &str) -> Result<Properties, Refusal> {
        let mut members: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
            json::by_name(object).into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
        for (name, value) in &self.entries {
            let value = match value {
                Metadata::Text(text) => Cow::Owned(json::quoted(text)),
                Metadata::Integer(number) => Cow::Owned(number.to_string()),
                Metadata::Json(text) => {
                    Variable::from_json(text).map_err(|problem| Refusal::field("metadata", problem))?;
                    Cow::Borrowed(text.trim())
                }
            };
            members.entry(Cow::Borrowed(name)).or_insert(value);
        }
        if members.is_empty() {
            return Ok(Properties::default());
        }
        let mut text = String::from("{");
        for (name, value) in &members {
            json::push(&mut text, &json::quoted(name), value);
        }
        text.push('}');
        Properties::parse(&text).map_err(|problem| Refusal::field("properties", problem))
    }
}

/// An id for use in messages.
fn shown(id: &str) -> &str {
    match id.char_indices().nth(crate::ids::MAX_ID_BYTES) {
        Some((end, _)) => id.get(..end).unwrap_or_default(),
        None => id,
    }
}
