//! Records of the past, within a budget of bytes: finished matches, servers that are gone, seats that are over, and
//! orders that are remembered so that a repeated order makes no second match.
//!
//! What is forgotten depends only on the records, so that a replay forgets the same. Each record makes room for about
//! what it added and a little more; a lowered budget is reached gradually, record by record.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use super::indexes::Indexes;
use super::model::{Gone, Match, SeatEnd};
use super::past::Past;
use crate::content::Digest;
use crate::ids::{IdempotencyKey, MatchId, SeatId, ServerId};
use crate::size::{ENTRY_BYTES, Size};
use crate::time::Timestamp;

/// Maximum number of finished matches that can still be queried.
pub const FINISHED_KEPT: usize = 10_000;
/// Maximum number of gone servers that are told so when they call.
pub const GONE_KEPT: usize = 10_000;
/// Maximum number of released or expired seats that can still be queried; and the same number for seats of finished
/// matches.
pub const CLOSED_SEATS_KEPT: usize = 10_000;
/// How long an order is remembered at least after its match is over, if the budget suffices.
pub const ORDERS_KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// Remembered orders may take one part in this many of the budget.
const ORDERS_SHARE: usize = 2;
/// Bytes that each record frees in addition to those that it added, so that a lowered budget is reached.
const ROOM_BYTES: usize = 4 * 1024;
/// Work of forgetting one entry, counted as bytes: limits how many small entries are forgotten for one that was added.
const ENTRY_WORK: usize = 256;

/// An order whose match is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PastOrder {
    /// Its idempotency key.
    pub key: Option<IdempotencyKey>,
    /// The digest of its content.
    pub content: Digest,
    /// When its match was over.
    pub over_at: Timestamp,
}

impl Size for PastOrder {
    fn byte_size(&self) -> usize {
        // The key is also in an index.
        3 * ENTRY_BYTES + self.key.byte_size()
    }
}

/// The records of the past.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) finished: Past<MatchId, Arc<Match>>,
    pub(crate) gone: Past<ServerId, Gone>,
    pub(crate) closed_seats: Past<SeatId, SeatEnd>,
    /// The seats that matches had when they ended, match by match.
    pub(crate) ended_seats: Past<MatchId, Arc<[SeatId]>>,
    pub(crate) orders: Past<MatchId, PastOrder>,
    /// Number of seats in `ended_seats`.
    ended: usize,
    /// Finished matches that still have properties, by their places.
    with_properties: BTreeMap<u64, MatchId>,
}

impl Kept {
    /// The records of a snapshot.
    pub(crate) fn of(
        finished: Past<MatchId, Arc<Match>>,
        gone: Past<ServerId, Gone>,
        closed_seats: Past<SeatId, SeatEnd>,
        ended_seats: Past<MatchId, Arc<[SeatId]>>,
        orders: Past<MatchId, PastOrder>,
    ) -> Self {
        let ended = ended_seats.iter().map(|(_, seats)| seats.len()).sum();
        let with_properties = finished.places().filter(|(_, _, game)| has_properties(game));
        let with_properties = with_properties.map(|(place, id, _)| (place, id.clone())).collect();
        Self { finished, gone, closed_seats, ended_seats, orders, ended, with_properties }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.finished.bytes()
            + self.gone.bytes()
            + self.closed_seats.bytes()
            + self.ended_seats.bytes()
            + self.orders.bytes()
    }

    /// Adds a finished match and its seats.
    pub(crate) fn finish(&mut self, game: Match, seats: Arc<[SeatId]>, at: Timestamp, index: &mut Indexes) {
        let order =
            PastOrder { key: game.spec.idempotency_key.clone(), content: game.spec.content(), over_at: at };
        let id = game.id.clone();
        self.orders.push(id.clone(), order);
        if !seats.is_empty() {
            self.ended += seats.len();
            self.ended_seats.push(id.clone(), seats);
        }
        let has_properties = has_properties(&game);
        let place = self.finished.push(id.clone(), Arc::new(game));
        if has_properties {
            self.with_properties.insert(place, id);
        }
        while self.finished.len() > FINISHED_KEPT && self.forget_match(index).is_some() {}
        while self.ended > CLOSED_SEATS_KEPT && self.forget_ended_seats(index).is_some() {}
    }

    pub(crate) fn close_seat(&mut self, seat: SeatId, end: SeatEnd) {
        self.closed_seats.push(seat, end);
        if self.closed_seats.len() > CLOSED_SEATS_KEPT {
            self.closed_seats.pop_oldest();
        }
    }

    pub(crate) fn server_gone(&mut self, server: ServerId, gone: Gone) {
        self.gone.push(server, gone);
        if self.gone.len() > GONE_KEPT {
            self.gone.pop_oldest();
        }
    }

    /// Enforces the budget of `budget` bytes: forgets old orders, then properties of finished matches, then those
    /// matches, then the rest, oldest first. `before` is the size before this record.
    pub(crate) fn make_room(&mut self, budget: usize, before: usize, now: Timestamp, index: &mut Indexes) {
        let mut work = ROOM_BYTES + 2 * self.bytes().saturating_sub(before);
        while work > 0 {
            let before = self.bytes();
            let old = self.orders.oldest().is_some_and(|order| order.over_at + ORDERS_KEPT_FOR <= now);
            let done = if old || self.orders.bytes() > budget / ORDERS_SHARE {
                self.forget_order(index)
            } else if before > budget {
                self.strip_match()
                    .or_else(|| self.forget_match(index))
                    .or_else(|| self.forget_ended_seats(index))
                    .or_else(|| self.closed_seats.pop_oldest().map(drop))
                    .or_else(|| self.gone.pop_oldest().map(drop))
            } else {
                None
            };
            if done.is_none() {
                break;
            }
            work = work.saturating_sub((before.saturating_sub(self.bytes())).max(ENTRY_WORK));
        }
    }

    /// Removes the properties of the oldest finished match that has any.
    fn strip_match(&mut self) -> Option<()> {
        let (_, id) = self.with_properties.pop_first()?;
        let game = self.finished.get(&id)?;
        let spec = Arc::new(game.spec.stripped());
        let game = Match { spec, stripped: true, ..Match::clone(game) };
        self.finished.replace(&id, Arc::new(game));
        Some(())
    }

    fn forget_match(&mut self, index: &mut Indexes) -> Option<()> {
        let (place, id, game) = self.finished.pop_oldest()?;
        self.with_properties.remove(&place);
        if self.orders.get(&id).is_none() {
            index.forget_key(&id, game.spec.idempotency_key.as_ref());
        }
        Some(())
    }

    fn forget_order(&mut self, index: &mut Indexes) -> Option<()> {
        let (_, id, order) = self.orders.pop_oldest()?;
        if self.finished.get(&id).is_none() {
            index.forget_key(&id, order.key.as_ref());
        }
        Some(())
    }

    fn forget_ended_seats(&mut self, index: &mut Indexes) -> Option<()> {
        let (_, id, seats) = self.ended_seats.pop_oldest()?;
        self.ended -= seats.len();
        seats.iter().for_each(|seat| index.forget_seat(seat, &id));
        Some(())
    }
}

fn has_properties(game: &Match) -> bool {
    game.spec.properties.text().is_some() || !game.spec.player_properties.is_empty()
}
