//! The content of a ticket's order: the same order under one key is one ticket.

use alloc::collections::BTreeMap;
use core::time::Duration;

use super::model::{Player, TicketSpec};
use crate::content::{Digest, Digester};
use crate::ids::{IdempotencyKey, RegionId, TicketId};
use crate::size::{ENTRY_BYTES, Size};
use crate::time::Timestamp;

/// Minimum time for which an idempotency key is remembered after its use, within the budget.
pub const KEY_LASTS: Duration = Duration::from_secs(24 * 3_600);

/// An idempotency key whose ticket is forgotten, or has lost its properties.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedKey {
    /// The ticket.
    pub ticket: TicketId,
    /// The digest of its order.
    pub content: Digest,
    /// When the key was used.
    pub used_at: Timestamp,
}

/// The overhead of a key in addition to its texts: entries in the map and in an index. In bytes.
pub(crate) const USED_KEY_BYTES: usize = 6 * ENTRY_BYTES;

impl Size for (&IdempotencyKey, &UsedKey) {
    fn byte_size(&self) -> usize {
        USED_KEY_BYTES + self.0.byte_size() + self.1.ticket.byte_size()
    }
}

impl TicketSpec {
    /// The digest of the order: equal for equal orders, however they are written. It is stored, so its input must never
    /// change; new fields are left out if they are not set.
    #[must_use]
    pub fn content(&self) -> Digest {
        let Self { queue, parties, leader, properties, latencies, idempotency_key, ttl, replaces } = self;
        let mut digest = Digester::default();
        digest.tagged(b'q', queue.as_str().as_bytes());
        digest.number(parties.len() as u64);
        for party in parties {
            digest.tag(u8::from(party.id.is_some()));
            digest.tagged(b'i', party.id.as_deref().unwrap_or_default().as_bytes());
            digest.number(party.players.len() as u64);
            party.players.iter().for_each(|player| add_player(player, &mut digest));
        }
        if let Some(leader) = leader {
            digest.tagged(b'l', leader.as_str().as_bytes());
        }
        digest.digest(properties.content());
        add_latencies(latencies, &mut digest);
        if let Some(key) = idempotency_key {
            digest.tagged(b'k', key.as_str().as_bytes());
        }
        if let Some(ttl) = ttl {
            digest.tagged(b't', &ttl.as_secs().to_le_bytes());
        }
        if let Some(replaces) = replaces {
            digest.tagged(b'o', replaces.as_str().as_bytes());
        }
        digest.finish()
    }

    /// Whether both have the same content.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self == other || self.content() == other.content()
    }
}

fn add_player(player: &Player, digest: &mut Digester) {
    digest.tagged(b'p', player.id.as_str().as_bytes());
    digest.number(player.ratings.len() as u64);
    for (name, rating) in &player.ratings {
        digest.tagged(b'r', name.as_bytes());
        // Both zeros are the same number.
        digest.number(if *rating == 0.0 { 0 } else { rating.to_bits() });
    }
    add_latencies(&player.latencies, digest);
    digest.number(player.blocked.len() as u64);
    player.blocked.iter().for_each(|blocked| digest.tagged(b'b', blocked.as_str().as_bytes()));
    digest.digest(player.properties.content());
}

fn add_latencies(latencies: &BTreeMap<RegionId, u32>, digest: &mut Digester) {
    digest.number(latencies.len() as u64);
    for (region, latency) in latencies {
        digest.tagged(b'g', region.as_str().as_bytes());
        digest.number(u64::from(*latency));
    }
}
