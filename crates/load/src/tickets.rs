//! Shared parts of the loads: settings with enough room, tickets, a hook that forms matches.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::ids::{BadId, HookId, QueueId};
use sortie_domain::matchmaking::model::{Party, Player, TicketSpec};
use sortie_domain::matchmaking::settings::{Hook, HookPoint, OnFailure, OutsideHook, Queue, Settings};
use sortie_domain::properties::Properties;

/// Room for a million tickets and more, in bytes.
const WAITING_BYTES: u64 = 16 << 30;

/// A small generator (xorshift64), so that every run has the same tickets.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) const fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // It is below `end`, so it fits.
        ((self.0 >> 16) % if end == 0 { 1 } else { end as u64 }) as u32
    }

    pub(crate) fn any_of<T: Copy>(&mut self, of: &[T], otherwise: T) -> T {
        of.get(self.below(of.len() as u32) as usize).copied().unwrap_or(otherwise)
    }
}

/// Settings with these queues, with room for all tickets of a load.
pub(crate) fn settings(queues: BTreeMap<QueueId, Queue>) -> Settings {
    Settings { queues, waiting_bytes: WAITING_BYTES, ..Settings::default() }
}

/// A ticket of one party.
pub(crate) fn spec(queue: QueueId, players: Vec<Player>) -> TicketSpec {
    TicketSpec {
        queue,
        leader: None,
        parties: vec![Party { id: None, players }],
        properties: Properties::default(),
        latencies: BTreeMap::new(),
        idempotency_key: None,
        ttl: None,
        replaces: None,
    }
}

/// A hook that forms matches, with a timeout that is long enough for every load.
///
/// # Errors
/// None: its name is valid.
pub(crate) fn former() -> Result<Hook, BadId> {
    let (id, about) = (HookId::new("former")?, HookPoint::FormMatch);
    let (timeout, on_failure) = (Duration::from_secs(600), OnFailure::Refuse);
    Ok(Hook::Outside(OutsideHook { id, about, timeout, on_failure, interval: None, address: None }))
}
