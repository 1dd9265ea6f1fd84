//! A request for a match, as backends send it and the matchmaker forms it from tickets.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::content::{Digest, Digester};
use crate::ids::{FleetId, IdempotencyKey, PlayerId};
use crate::properties::Properties;
use crate::size::{ENTRY_BYTES, Size};

/// Maximum number of players that one match may name.
pub const MAX_PLAYERS: usize = 1_000;
/// Maximum number of seats of one match.
pub const MAX_CAPACITY: u32 = 10_000;
/// Maximum size of a match, in bytes as [`Size`] counts its order. It keeps a match's largest event, its text twice
/// with every player's id, far below the maximum batch of a log.
pub const MAX_MATCH_BYTES: usize = 4 << 20;

/// A request for a match.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct MatchSpec {
    /// The players, each once.
    pub players: Vec<PlayerId>,
    /// Properties of the match as a whole.
    pub properties: Properties,
    /// Properties of each player.
    pub player_properties: BTreeMap<PlayerId, Properties>,
    /// Total number of seats, for drop-in play; `None` if nobody can join later.
    pub capacity: Option<u32>,
    /// The one fleet whose servers may take it; `None` for any server.
    pub fleet: Option<FleetId>,
    /// The same order sent twice with one key is one match.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl MatchSpec {
    /// The digest of the order: equal for orders with the same content. It is stored, so its input must never change;
    /// new fields are left out if they are not set.
    #[must_use]
    pub fn content(&self) -> Digest {
        let Self { players, properties, player_properties, capacity, fleet, idempotency_key } = self;
        let mut digest = Digester::default();
        digest.number(players.len() as u64);
        for player in players {
            digest.tagged(b'p', player.as_str().as_bytes());
        }
        digest.digest(properties.content());
        let nothing = Properties::default();
        for (player, properties) in player_properties.iter().filter(|(_, of)| !of.same_content(&nothing)) {
            digest.tagged(b'o', player.as_str().as_bytes());
            digest.digest(properties.content());
        }
        if let Some(capacity) = capacity {
            digest.tag(b'c');
            digest.number(u64::from(*capacity));
        }
        if let Some(fleet) = fleet {
            digest.tagged(b'f', fleet.as_str().as_bytes());
        }
        if let Some(key) = idempotency_key {
            digest.tagged(b'k', key.as_str().as_bytes());
        }
        digest.finish()
    }

    /// The order without its properties: this may be kept for a match that is over.
    pub(crate) fn stripped(&self) -> Self {
        Self { properties: Properties::default(), player_properties: BTreeMap::new(), ..self.clone() }
    }

    /// The size of a live match's order in bytes: named players are also in the index of players.
    pub(crate) fn live_bytes(&self) -> usize {
        self.byte_size() + self.players.len() * ENTRY_BYTES
    }
}

impl Size for MatchSpec {
    fn byte_size(&self) -> usize {
        ENTRY_BYTES
            + self.players.byte_size()
            + self.properties.byte_size()
            + self.player_properties.byte_size()
            + self.fleet.byte_size()
            + self.idempotency_key.byte_size()
    }
}
