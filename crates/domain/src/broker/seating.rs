//! The seats of a match and the players who left it: seats by id and by player, with counts of each kind that are
//! updated with each change. A change of one seat costs the same in a match of 10,000 seats as in one of ten, and
//! copies, which go out with each answer, are cheap.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::model::{Seat, SeatState};
use crate::ids::{PlayerId, SeatId};
use crate::size::Size;
use crate::time::Timestamp;

/// Bytes counted for a seat in addition to its ids: its entries here and in the indexes of the broker.
const SEAT_BYTES: usize = 320;

/// The live seats of a match.
#[derive(Clone, Default, Debug)]
pub struct Seats {
    /// The players that the order names, each of whom has a place without a seat; gathered with the first seat.
    named: Option<Arc<BTreeSet<PlayerId>>>,
    by_id: OrdMap<SeatId, Seat>,
    by_player: OrdMap<PlayerId, SeatId>,
    /// Named players who were in the match and released their seat.
    left: OrdSet<PlayerId>,
    claimed: u32,
    strangers: Count,
    returned: Count,
    bytes: usize,
}

/// Seats of one kind of player.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Count {
    pub(super) reserved: u32,
    pub(super) claimed: u32,
}

impl Count {
    pub(super) const fn all(self) -> u32 {
        self.reserved.saturating_add(self.claimed)
    }

    pub(super) const fn and(self, other: Self) -> Self {
        Self {
            reserved: self.reserved.saturating_add(other.reserved),
            claimed: self.claimed.saturating_add(other.claimed),
        }
    }

    const fn of(&mut self, state: SeatState) -> &mut u32 {
        match state {
            SeatState::Reserved { .. } => &mut self.reserved,
            SeatState::Claimed { .. } => &mut self.claimed,
        }
    }
}

/// The same seats, and the same players who left. Everything else follows from these and the order.
impl PartialEq for Seats {
    fn eq(&self, other: &Self) -> bool {
        self.by_id == other.by_id && self.left == other.left
    }
}

impl Seats {
    /// Seats of a match whose order names `players`, of whom some have `left`.
    #[must_use]
    pub fn of(
        players: &[PlayerId],
        seats: impl IntoIterator<Item = Seat>,
        left: impl IntoIterator<Item = PlayerId>,
    ) -> Self {
        let mut all = Self::default();
        left.into_iter().for_each(|player| all.note_left(player));
        for seat in seats {
            all.insert(players, seat);
        }
        all
    }

    /// A seat by its id.
    #[must_use]
    pub fn get(&self, id: &SeatId) -> Option<&Seat> {
        self.by_id.get(id)
    }

    /// Whether there is such a seat.
    #[must_use]
    pub fn contains_key(&self, id: &SeatId) -> bool {
        self.by_id.contains_key(id)
    }

    /// The seat of a player.
    #[must_use]
    pub fn of_player(&self, player: &PlayerId) -> Option<&Seat> {
        self.by_player.get(player).and_then(|id| self.by_id.get(id))
    }

    /// Seats by id.
    pub fn iter(&self) -> impl Iterator<Item = (&SeatId, &Seat)> {
        self.by_id.iter()
    }

    /// Ids of seats, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &SeatId> {
        self.by_id.keys()
    }

    /// Seats, in the order of their ids.
    pub fn values(&self) -> impl Iterator<Item = &Seat> {
        self.by_id.values()
    }

    /// Number of seats.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Number of claimed seats.
    #[must_use]
    pub const fn claimed(&self) -> u32 {
        self.claimed
    }

    /// Named players who were in the match and released their seat.
    #[must_use]
    pub const fn left(&self) -> &OrdSet<PlayerId> {
        &self.left
    }

    /// Seats of players whom the order does not name.
    pub(super) const fn strangers(&self) -> Count {
        self.strangers
    }

    /// Seats of named players who had left before.
    pub(super) const fn returned(&self) -> Count {
        self.returned
    }

    /// Whether `player` is one of the order's `players`.
    pub(super) fn names(&self, players: &[PlayerId], player: &PlayerId) -> bool {
        match &self.named {
            Some(named) => named.contains(player),
            None => players.contains(player),
        }
    }

    /// Adds a seat for a player who has none; returns whether it was added.
    pub(super) fn insert(&mut self, players: &[PlayerId], seat: Seat) -> bool {
        if self.by_player.contains_key(&seat.player) || self.by_id.contains_key(&seat.id) {
            return false;
        }
        if self.named.is_none() && !players.is_empty() {
            self.named = Some(Arc::new(players.iter().cloned().collect()));
        }
        self.count(&seat, true);
        self.bytes += seat_bytes(&seat);
        self.by_player.insert(seat.player.clone(), seat.id.clone());
        self.by_id.insert(seat.id.clone(), seat);
        true
    }

    pub(super) fn remove(&mut self, id: &SeatId) -> Option<Seat> {
        let seat = self.by_id.remove(id)?;
        self.count(&seat, false);
        self.bytes -= seat_bytes(&seat);
        self.by_player.remove(&seat.player);
        Some(seat)
    }

    pub(super) fn claim(&mut self, id: &SeatId, at: Timestamp) {
        let Some(before) = self.by_id.get(id).cloned() else { return };
        let after = Seat { state: SeatState::Claimed { at, again_until: None }, ..before.clone() };
        self.count(&before, false);
        self.count(&after, true);
        self.by_id.insert(id.clone(), after);
    }

    /// Renews the deadline to claim the seat; returns the seat before and after.
    pub(super) fn renew(&mut self, id: &SeatId, until: Timestamp) -> Option<(Seat, Seat)> {
        let before = self.by_id.get(id)?.clone();
        let state = match before.state {
            SeatState::Reserved { .. } => SeatState::Reserved { expires_at: Some(until) },
            SeatState::Claimed { at, .. } => SeatState::Claimed { at, again_until: Some(until) },
        };
        let after = Seat { state, ..before.clone() };
        self.by_id.insert(id.clone(), after.clone());
        Some((before, after))
    }

    /// Starts the time to claim the reserved seats.
    pub(super) fn wait_from(&mut self, at: Timestamp) {
        let waiting = self.by_id.values().map(|seat| {
            let mut seat = seat.clone();
            if let SeatState::Reserved { expires_at } = &mut seat.state {
                *expires_at = Some(at + seat.ttl);
            }
            (seat.id.clone(), seat)
        });
        self.by_id = waiting.collect();
    }

    /// Records that a named player has left.
    pub(super) fn note_left(&mut self, player: PlayerId) {
        if self.left.contains(&player) {
            return;
        }
        let seat = self.of_player(&player).cloned();
        seat.iter().for_each(|seat| self.count(seat, false));
        self.bytes += player.byte_size();
        self.left.insert(player);
        seat.iter().for_each(|seat| self.count(seat, true));
    }

    fn count(&mut self, seat: &Seat, there: bool) {
        let named = self.named.as_ref().is_some_and(|named| named.contains(&seat.player));
        let kind = if !named {
            Some(&mut self.strangers)
        } else if self.left.contains(&seat.player) {
            Some(&mut self.returned)
        } else {
            None
        };
        let claimed = matches!(seat.state, SeatState::Claimed { .. }).then_some(&mut self.claimed);
        for count in kind.map(|count| count.of(seat.state)).into_iter().chain(claimed) {
            *count = if there { *count + 1 } else { count.saturating_sub(1) };
        }
    }
}

impl Size for Seats {
    fn byte_size(&self) -> usize {
        self.bytes
    }
}

fn seat_bytes(seat: &Seat) -> usize {
    SEAT_BYTES + seat.id.byte_size() + seat.match_id.byte_size() + seat.player.byte_size()
}
