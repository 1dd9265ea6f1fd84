//! Matches that servers prepare and may never have heard about: the answer may have been lost on its way, or with the
//! previous process. A server that asks for a match while it has such a match gets it again: at once, if the process
//! has restarted since, if the server was never seen with two matches to prepare, or if it asks for several and the
//! match was in its last answer; otherwise if no other match fits, because a server with room for several may ask for
//! the next one while it prepares the first. This does no harm to a server that knows the match; otherwise we would
//! wait for it forever, and the server has no room for another.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::command::Offer;
use crate::ids::{MatchId, ServerId};
use crate::time::Timestamp;

/// Minimum time between two repetitions of a match: limits how often a server that prepares one match and asks for
/// others hears about the first one.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Maximum number of matches of one server that are searched for one to give again.
const MAX_LOOKED_AT: usize = 100;

/// By server, the matches that it prepares.
#[derive(Default)]
pub(crate) struct Untold {
    /// Whether the state's matches have been gathered, which happens before the first input.
    pub(super) is_gathered: bool,
    by_server: BTreeMap<ServerId, BTreeMap<MatchId, Given>>,
    /// Servers that prepared two matches at once, or asked for several with one call.
    several: BTreeSet<ServerId>,
    /// By server, the matches of the last answer that had any: at most [`MAX_OFFERS`](super::MAX_OFFERS).
    latest: BTreeMap<ServerId, Vec<MatchId>>,
}

/// Which matches a server may get again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// All that it prepares.
    Any,
    /// Those that the previous process gave it.
    Before,
    /// Those, and the matches of its last answer.
    Latest,
}

/// How a match was given to its server.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// The number of the pickup.
    pickup: u32,
    /// Time from which it may be given again.
    from: Timestamp,
    /// Whether it was given again before.
    again: bool,
    /// Whether the previous process gave it.
    before: bool,
}

impl Untold {
    /// Records that a match was given to a server, which may get it again from `from` on.
    pub(crate) fn insert(&mut self, server: &ServerId, id: &MatchId, pickup: u32, from: Timestamp) {
        let given = self.by_server.entry(server.clone()).or_default();
        let again = given.get(id).is_some_and(|known| known.again && known.pickup == pickup);
        given.insert(id.clone(), Given { pickup, from, again, before: false });
        if given.len() > 1 {
            self.note_several(server);
        }
    }

    /// Records that the server takes several matches at once.
    pub(crate) fn note_several(&mut self, server: &ServerId) {
        if !self.several.contains(server) {
            self.several.insert(server.clone());
        }
    }

    /// Records that a server is answered with these matches.
    pub(super) fn note_answered(&mut self, server: &ServerId, offers: &[Offer]) {
        if !offers.is_empty() {
            let matches = offers.iter().map(|offer| offer.match_id.clone()).collect();
            self.latest.insert(server.clone(), matches);
        }
    }

    /// Whether the server is known to take several matches at once. A server that takes one at a time and asks while it
    /// has a match that it is not ready for has not heard about that match.
    pub(crate) fn is_several(&self, server: &ServerId) -> bool {
        self.several.contains(server)
    }

    /// Records that the previous process gave a match to a server.
    pub(crate) fn insert_of_before(&mut self, server: &ServerId, id: &MatchId, pickup: u32) {
        let given = Given { pickup, from: Timestamp::ZERO, again: false, before: true };
        let all = self.by_server.entry(server.clone()).or_default();
        all.insert(id.clone(), given);
        if all.len() > 1 {
            self.note_several(server);
        }
    }

    /// Matches that the server may get again now, with their pickups.
    pub(super) fn of(
        &self,
        server: &ServerId,
        now: Timestamp,
        lost: Lost,
    ) -> impl Iterator<Item = (&MatchId, u32)> {
        let latest = self.latest.get(server).filter(|_| lost == Lost::Latest);
        let is_meant = move |id: &MatchId, given: &Given| {
            lost == Lost::Any || given.before || latest.is_some_and(|latest| latest.contains(id))
        };
        let given = self.by_server.get(server).into_iter().flatten();
        let given = given.filter(move |(id, given)| given.from <= now && is_meant(id, given));
        given.map(|(id, given)| (id, given.pickup)).take(MAX_LOOKED_AT)
    }

    /// When the server may next get a match again.
    pub(crate) fn next_after(&self, server: &ServerId, now: Timestamp) -> Option<Timestamp> {
        let given = self.by_server.get(server).into_iter().flatten().take(MAX_LOOKED_AT);
        given.map(|(_, given)| given.from).filter(|from| *from > now).min()
    }

    /// Records that the server gets the match again.
    pub(crate) fn note_given_again(&mut self, server: &ServerId, id: &MatchId, now: Timestamp) {
        if let Some(given) = self.by_server.get_mut(server).and_then(|given| given.get_mut(id)) {
            (given.from, given.again, given.before) = (now + AGAIN_AFTER, true, false);
        }
    }

    /// Whether the server got the match again.
    pub(crate) fn was_given_again(&self, server: &ServerId, id: &MatchId) -> bool {
        self.by_server.get(server).and_then(|given| given.get(id)).is_some_and(|given| given.again)
    }

    /// Forgets a match that the server does not prepare any more.
    pub(crate) fn remove(&mut self, server: &ServerId, id: &MatchId) {
        if let Some(given) = self.by_server.get_mut(server) {
            given.remove(id);
            if given.is_empty() {
                self.by_server.remove(server);
            }
        }
    }

    /// Forgets a server that is gone.
    pub(crate) fn forget(&mut self, server: &ServerId) {
        self.by_server.remove(server);
        self.several.remove(server);
        self.latest.remove(server);
    }
}
