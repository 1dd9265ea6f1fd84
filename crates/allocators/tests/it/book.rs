//! What a broker knows, for the tests of the comparison with it; and a clock that follows tokio's time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use sortie_allocators::{KnownOrder, Orders, StartOrder};
use sortie_domain::ids::AllocationId;
use sortie_domain::time::Timestamp;
use sortie_engine::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Time that the broker takes to answer.
pub(crate) const ANSWER_TIME: Duration = Duration::from_millis(5);

/// The orders of a broker.
#[derive(Default)]
pub(crate) struct Book {
    known: Mutex<BTreeMap<AllocationId, KnownOrder>>,
    gone: Mutex<BTreeMap<AllocationId, Vec<String>>>,
    news: Notify,
    /// The broker cannot take reports.
    is_full: Mutex<bool>,
}

impl Book {
    /// An order whose server has been started.
    pub(crate) fn place(&self, order: &StartOrder) {
        self.know(order, true);
    }

    /// An order whose start is in flight.
    pub(crate) fn order(&self, order: &StartOrder) {
        self.know(order, false);
    }

    fn know(&self, order: &StartOrder, is_placed: bool) {
        let known = KnownOrder { fleet: order.fleet.clone(), is_placed };
        self.known.lock().unwrap().insert(order.allocation.clone(), known);
    }

    pub(crate) fn forget(&self, order: &StartOrder) {
        self.known.lock().unwrap().remove(&order.allocation);
    }

    /// From now on no report becomes durable.
    pub(crate) fn fill_up(&self) {
        *self.is_full.lock().unwrap() = true;
    }

    /// What was reported of an order.
    pub(crate) fn reports(&self, order: &StartOrder) -> Vec<String> {
        self.gone.lock().unwrap().get(&order.allocation).cloned().unwrap_or_default()
    }

    /// The first report of an order, once there is one.
    pub(crate) async fn report(&self, order: &StartOrder) -> String {
        loop {
            let news = self.news.notified();
            if let Some(status) = self.reports(order).into_iter().next() {
                return status;
            }
            news.await;
        }
    }
}

#[async_trait::async_trait]
impl Orders for Book {
    async fn known(&self) -> Option<BTreeMap<AllocationId, KnownOrder>> {
        tokio::time::sleep(ANSWER_TIME).await;
        Some(self.known.lock().unwrap().clone())
    }

    async fn gone(&self, allocation: AllocationId, status: String) {
        self.gone.lock().unwrap().entry(allocation.clone()).or_default().push(status);
        self.news.notify_waiters();
        if *self.is_full.lock().unwrap() {
            return std::future::pending().await;
        }
        self.known.lock().unwrap().remove(&allocation);
    }
}

/// A clock that follows tokio's time, which tests can pause.
#[derive(Clone, Copy)]
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    /// Its time when it is created, in milliseconds since 1970.
    const START: u64 = 1_700_000_000_000;

    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Its time at `instant`.
    pub(crate) fn at(self, instant: Instant) -> Timestamp {
        Timestamp::from_millis(Self::START) + instant.duration_since(self.0)
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.at(Instant::now())
    }

    fn wait_for(&self, deadline: Timestamp) -> Option<Duration> {
        Some(deadline.since(self.now()))
    }
}
