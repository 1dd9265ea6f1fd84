//! Releases a seat, unless its player has heard about it.
//!
//! A player who asks again while an earlier call still waits gets the same seat, so several calls may hold it. It is
//! released when the last of them is gone, if none has told the player; never if an earlier answer has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sortie_domain::broker::{Broker, Command};
use sortie_domain::ids::SeatId;
use sortie_engine::Handle;
use tokio::runtime::Handle as Runtime;

/// The seats that calls hold here: at most one for each waiting player.
#[derive(Default)]
pub(crate) struct HeldSeats(Mutex<BTreeMap<SeatId, Held>>);

#[derive(Default)]
struct Held {
    /// Calls that have got the seat and have not ended.
    calls: usize,
    /// Whether one of them was the first to get it.
    is_new: bool,
    /// Whether one of them has told the player.
    is_told: bool,
}

impl HeldSeats {
    fn seats(&self) -> MutexGuard<'_, BTreeMap<SeatId, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, seat: &SeatId, is_new: bool) {
        let mut seats = self.seats();
        let held = seats.entry(seat.clone()).or_default();
        held.calls += 1;
        held.is_new |= is_new;
    }

    /// Removes one call that holds the seat; returns whether to release it.
    fn leave(&self, seat: &SeatId, is_told: bool) -> bool {
        let mut seats = self.seats();
        let Some(held) = seats.get_mut(seat) else { return false };
        held.calls = held.calls.saturating_sub(1);
        held.is_told |= is_told;
        let (last, nobodys) = (held.calls == 0, held.is_new && !held.is_told);
        if last {
            seats.remove(seat);
        }
        last && nobodys
    }
}

/// A seat that this call holds. Dropping it releases the seat if the player has not heard about it.
pub(crate) struct SeatGuard {
    broker: Handle<Broker>,
    runtime: Runtime,
    held: Arc<HeldSeats>,
    seat: SeatId,
    is_told: bool,
}

impl SeatGuard {
    /// Guards `seat`; `again` says that its player had it before. Must be called inside a tokio runtime, which releases
    /// the seat later.
    pub(crate) fn new(broker: Handle<Broker>, held: &Arc<HeldSeats>, seat: SeatId, again: bool) -> Self {
        held.enter(&seat, !again);
        Self { broker, runtime: Runtime::current(), held: Arc::clone(held), seat, is_told: false }
    }

    /// Called when the player has been told about the seat.
    pub(crate) fn keep(mut self) {
        self.is_told = true;
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        if !self.held.leave(&self.seat, self.is_told) {
            return;
        }
        let (broker, seat) = (self.broker.clone(), self.seat.clone());
        self.runtime.spawn(async move {
            match broker.call(Command::ReleaseSeat { seat: seat.clone() }).await {
                Ok(_) => tracing::debug!(%seat, "released a seat"),
                // The seat is over already, or expires.
                Err(error) => tracing::debug!(%seat, %error, "could not release a seat"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_given_back_with_its_last_call_if_nobody_was_told() {
        let seat = SeatId::new("seat-1").unwrap();
        let held = HeldSeats::default();
        // No call has told the player, in either order.
        for [first, second] in [[true, false], [false, true]] {
            held.enter(&seat, first);
            held.enter(&seat, second);
            assert!(!held.leave(&seat, false), "another call still waits for it");
            assert!(held.leave(&seat, false));
        }
        // One of two calls has told the player.
        held.enter(&seat, true);
        held.enter(&seat, false);
        assert!(!held.leave(&seat, true) && !held.leave(&seat, false));
        // An earlier answer has told the player.
        held.enter(&seat, false);
        assert!(!held.leave(&seat, false));
        assert!(held.seats().is_empty());
    }
}
