//! What the clients were told. None of it may be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use super::history::History;

/// Match id and server id.
type Held = (String, String);

#[derive(Clone, Default)]
pub(super) struct Journal {
    /// The match of each idempotency key.
    pub(super) submitted: BTreeMap<String, String>,
    pub(super) cancelled: BTreeSet<String>,
    pub(super) offered: BTreeSet<Held>,
    pub(super) ready: BTreeSet<Held>,
    pub(super) ended: BTreeSet<Held>,
    pub(super) reserved: BTreeSet<String>,
    /// How often a claim of each seat was acknowledged.
    pub(super) claimed: BTreeMap<String, u32>,
}

impl Journal {
    /// Notes that the order of `key` is the match `id`.
    pub(super) fn submitted(&mut self, key: &str, id: &str) {
        let before = self.submitted.insert(key.to_owned(), id.to_owned());
        assert!(before.as_deref().is_none_or(|before| before == id), "{key} was {before:?} and is {id}");
    }

    /// Notes that the claim of a seat was acknowledged.
    pub(super) fn claimed(&mut self, seat: &str) {
        let times = self.claimed.entry(seat.to_owned()).or_default();
        *times += 1;
        assert_eq!(*times, 1, "{seat} was claimed twice");
    }

    /// Compares with what is in the log.
    pub(super) fn check(&self, history: &History) {
        for (key, id) in &self.submitted {
            assert_eq!(history.game(id).key.as_deref(), Some(key.as_str()), "{id} is the match of {key}");
        }
        for id in &self.cancelled {
            assert_eq!(history.game(id).state, "cancelled", "{id} was cancelled");
        }
        for (id, server) in &self.offered {
            assert!(history.game(id).holders.contains(server), "{server} was given {id}");
        }
        for (id, server) in &self.ready {
            assert_eq!(history.game(id).ready_on.as_ref(), Some(server), "{id} was ready on {server}");
        }
        for (id, server) in &self.ended {
            assert!(history.game(id).is_over(), "{server} ended {id}");
        }
        for seat in self.reserved.iter().chain(self.claimed.keys()) {
            assert!(history.seats.contains_key(seat), "{seat} was reserved");
        }
        for seat in self.claimed.keys() {
            assert!(history.seats[seat].claimed, "{seat} was claimed");
        }
    }
}
