//! A seat is given back, unless its player has been told of it.

use sortie_domain::broker::{Broker, Command};
use sortie_domain::ids::SeatId;
use sortie_engine::Handle;
use tokio::runtime::Handle as Runtime;

/// A seat that nobody knows of yet. Dropped, it is given back.
pub(crate) struct SeatGuard {
    broker: Handle<Broker>,
    runtime: Runtime,
    seat: Option<SeatId>,
}

impl SeatGuard {
    /// Guards `seat`. Only inside of a tokio runtime, which gives the seat back later.
    pub(crate) fn new(broker: Handle<Broker>, seat: SeatId) -> Self {
        Self { broker, runtime: Runtime::current(), seat: Some(seat) }
    }

    /// The player has the seat, or it is no more.
    pub(crate) fn keep(mut self) {
        self.seat = None;
    }
}

impl Drop for SeatGuard {
    fn drop(&mut self) {
        let Some(seat) = self.seat.take() else { return };
        let broker = self.broker.clone();
        self.runtime.spawn(async move {
            match broker.call(Command::ReleaseSeat { seat: seat.clone() }).await {
                Ok(_) => tracing::debug!(%seat, "gave a seat back"),
                // It is over by itself, or expires.
                Err(error) => tracing::debug!(%seat, %error, "could not give a seat back"),
            }
        });
    }
}
