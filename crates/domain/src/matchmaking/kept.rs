//! Retention of what is over: for how long, and within how many bytes.
//!
//! All of it follows from the records and the settings, so that a replay forgets the same. The amount that is forgotten
//! per event is bounded, so that no event takes long, but larger than what one event can add.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::model::{Party, Player, Ticket, TicketSpec, TicketState};
use super::names::hash;
use super::order::{KEY_LASTS, USED_KEY_BYTES, UsedKey};
use super::state::{Indexes, State, bytes};
use crate::ids::IdempotencyKey;
use crate::size::Size;
use crate::time::Timestamp;

/// Maximum number of kept tickets that are over; the oldest are dropped first, before their time if necessary.
pub const OVER_KEPT: usize = 1_000_000;
/// Maximum number of expired statuses that are forgotten with one event.
const FORGOTTEN_PER_EVENT: usize = 16;
/// Maximum number of tickets that are dropped, or lose their properties, with one event because of the budget. It is
/// more than one event can end: a match has at most a thousand.
const EVICTED_PER_EVENT: usize = 2_048;
/// Maximum number of bytes that are forgotten with one event because of the budget.
const EVICTED_BYTES_PER_EVENT: u64 = 8 << 20;

impl State {
    /// Forgets what has expired or exceeds the budget: first the properties of all, then the tickets, oldest first in
    /// both cases. Keys of dropped tickets take at most half of the budget.
    pub(super) fn forget_old(&mut self, now: Timestamp) {
        let kept = self.settings.status_expiration;
        for _ in 0..FORGOTTEN_PER_EVENT {
            let oldest = self.index.over_order.first();
            if oldest.is_none_or(|(at, _, _)| *at + kept > now) {
                break;
            }
            self.forget_oldest(now);
        }
        for _ in 0..FORGOTTEN_PER_EVENT {
            let oldest = self.index.key_order.first();
            if oldest.is_none_or(|(used_at, _)| *used_at + KEY_LASTS > now) {
                break;
            }
            self.forget_oldest_key();
        }
        let least = self.index.kept_bytes.saturating_sub(EVICTED_BYTES_PER_EVENT);
        for _ in 0..EVICTED_PER_EVENT {
            if self.index.kept_bytes < least {
                break;
            }
            let too_many = self.over.len() > OVER_KEPT;
            if !too_many && self.index.kept_bytes <= self.settings.kept_bytes {
                break;
            }
            if !too_many && self.strip_oldest(now) {
                continue;
            }
            let mostly_keys = self.index.key_bytes > self.settings.kept_bytes / 2;
            let forgotten = if mostly_keys && !too_many {
                self.forget_oldest_key()
            } else {
                self.forget_oldest(now) || self.forget_oldest_key()
            };
            if !forgotten {
                break;
            }
        }
    }

    /// From now on the key of a ticket that is over is remembered without the ticket.
    fn remember_key(&mut self, ticket: &Ticket, now: Timestamp) {
        let asked = ticket.asked_for();
        let Some(key) = asked.idempotency_key.clone() else { return };
        if self.index.by_key.get(&key) == Some(&ticket.id) {
            self.index.by_key.remove(&key);
        } else {
            // A newer ticket has used it since.
            return;
        }
        if ticket.started_at + KEY_LASTS <= now {
            return;
        }
        let ticket =
            UsedKey { ticket: ticket.id.clone(), content: asked.content(), used_at: ticket.started_at };
        self.index.enter_key(&key, &ticket);
        self.keys.insert(key, ticket);
    }

    /// The key belongs to a new ticket from now on.
    pub(super) fn forget_key(&mut self, key: &IdempotencyKey) {
        if let Some(used) = self.keys.remove(key) {
            self.index.key_order.remove(&(used.used_at, key.clone()));
            let bytes = bytes(&(key, &used));
            self.index.kept_bytes -= bytes;
            self.index.key_bytes -= bytes;
        }
    }

    fn forget_oldest_key(&mut self) -> bool {
        let Some((_, key)) = self.index.key_order.first().cloned() else { return false };
        self.forget_key(&key);
        true
    }

    /// Drops the properties of the oldest ticket that still has some which its status does not need.
    fn strip_oldest(&mut self, now: Timestamp) -> bool {
        let Some((_, _, place)) = self.index.full.pop_first() else { return false };
        if let Some(ticket) = self.over.get(&place).cloned() {
            self.remember_key(&ticket, now);
        }
        if let Some(ticket) = self.over.get_mut(&place) {
            self.index.kept_bytes -= bytes(&**ticket);
            let ticket = Arc::make_mut(ticket);
            ticket.spec = Arc::new(bare(&ticket.spec));
            ticket.asked = None;
            self.index.kept_bytes += bytes(ticket);
        }
        true
    }

    fn forget_oldest(&mut self, now: Timestamp) -> bool {
        let Some((_, _, place)) = self.index.over_order.pop_first() else { return false };
        let Some(ticket) = self.over.remove(&place) else { return true };
        self.index.leave_over(&ticket);
        self.remember_key(&ticket, now);
        true
    }
}

impl Indexes {
    /// Adds a key whose ticket no longer holds the original order.
    pub(super) fn enter_key(&mut self, key: &IdempotencyKey, used: &UsedKey) {
        self.key_order.insert((used.used_at, key.clone()));
        let bytes = bytes(&(key, used));
        self.kept_bytes += bytes;
        self.key_bytes += bytes;
    }

    /// Adds a ticket that is over.
    pub(super) fn enter_over(&mut self, ticket: &Ticket) {
        let TicketState::Over { at, .. } = &ticket.state else { return };
        let order = (*at, ticket.changed_seq, ticket.place);
        self.over_order.insert(order);
        if gains(ticket) {
            self.full.insert(order);
        }
        self.kept_bytes += bytes(ticket);
        self.by_id.insert(hash(0, ticket.id.as_str()), ticket.place);
        if let Some(key) = &ticket.spec.idempotency_key {
            self.by_key.insert(key.clone(), ticket.id.clone());
        }
    }

    fn leave_over(&mut self, ticket: &Ticket) {
        if let TicketState::Over { at, .. } = &ticket.state {
            self.full.remove(&(*at, ticket.changed_seq, ticket.place));
        }
        self.kept_bytes -= bytes(ticket);
        self.by_id.remove(hash(0, ticket.id.as_str()), ticket.place);
    }
}

/// The part of the order that a status shows: the players. The key is remembered separately.
pub(super) fn bare(spec: &TicketSpec) -> TicketSpec {
    let party = |party: &Party| {
        let players: Vec<Player> =
            party.players.iter().map(|player| Player::new(player.id.clone())).collect();
        Party { id: party.id.clone(), players }
    };
    TicketSpec {
        queue: spec.queue.clone(),
        parties: spec.parties.iter().map(party).collect(),
        leader: spec.leader.clone(),
        properties: Default::default(),
        latencies: Default::default(),
        idempotency_key: None,
        ttl: spec.ttl,
        replaces: spec.replaces.clone(),
    }
}

/// Whether a ticket that is over takes less without its properties, if its key is then remembered separately.
fn gains(ticket: &Ticket) -> bool {
    let spare = ticket.byte_size() - ticket.asked.byte_size() - ticket.spec.byte_size();
    let key = ticket.asked_for().idempotency_key.as_ref();
    let key = key.map_or(0, |key| USED_KEY_BYTES + key.byte_size() + ticket.id.byte_size());
    spare + bare(&ticket.spec).byte_size() + key < ticket.byte_size()
}
