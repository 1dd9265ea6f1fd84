//! The comparison of platforms and broker, and the ends of game servers: the link between `sortie_allocators` and the
//! broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sortie_allocators::{ExitListener, KnownOrder, Orders, Reconciliation, ServerExit};
use sortie_domain::broker::model::{Allocation, AllocationState};
use sortie_domain::broker::{Broker, Command};
use sortie_domain::ids::AllocationId;
use sortie_engine::supervisor::Supervisor;
use sortie_engine::{CallError, Handle, Unavailable};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::installation::Installation;
use crate::platforms::Platforms;
use crate::role::spawn_work;

/// Pause before a report or question is sent again to a broker that could not take it.
const PAUSE: Duration = Duration::from_millis(500);
/// Reported for a server that was lost while no control plane ran.
const GONE: &str = "was gone when the control plane started";
/// Reported for the servers in the log of a copied data folder.
const LEFT_WITH_ORIGINAL: &str = "has stayed with the installation that the data folder was copied from";

/// Gives the broker, which starts later, to the allocators.
pub(crate) type TellBroker = watch::Sender<Option<Handle<Broker>>>;

/// Reports the ends of servers to the broker, as soon as there is one.
struct ExitReporter(watch::Receiver<Option<Handle<Broker>>>);

/// A listener for allocators, and the sender that gives it the broker.
pub(crate) fn exits() -> (TellBroker, Arc<dyn ExitListener>) {
    let (tell, told) = watch::channel(None);
    (tell, Arc::new(ExitReporter(told)))
}

#[async_trait]
impl ExitListener for ExitReporter {
    async fn exited(&self, exit: ServerExit) {
        let mut broker = self.0.clone();
        let Ok(Some(broker)) = broker.wait_for(Option::is_some).await.map(|broker| broker.clone()) else {
            return std::future::pending().await;
        };
        let ServerExit { allocation, status, .. } = exit;
        // Servers that we stopped do not count against their fleet.
        report(&broker, || match exit.with_control_plane {
            true => Command::AllocationStopped { allocation: allocation.clone() },
            false => Command::ServerExited { allocation: allocation.clone(), status: status.clone() },
        })
        .await;
    }
}

/// Returns when the broker has stored the report. Never returns if the broker has stopped; the next broker gets the
/// report.
async fn report(broker: &Handle<Broker>, command: impl Fn() -> Command) {
    while let Err(CallError::Unavailable(_)) = broker.call(command()).await {
        sleep(PAUSE).await;
    }
}

/// What the comparison asks the broker.
struct OrdersOfBroker(Handle<Broker>);

#[async_trait]
impl Orders for OrdersOfBroker {
    async fn known(&self) -> Option<BTreeMap<AllocationId, KnownOrder>> {
        loop {
            let known = |broker: &Broker| broker.allocations().map(known).collect();
            match self.0.query(known).await {
                Ok(known) => return Some(known),
                Err(Unavailable::ShuttingDown | Unavailable::Stopped) => return None,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    async fn gone(&self, allocation: AllocationId, status: String) {
        let command = || Command::ServerExited { allocation: allocation.clone(), status: status.clone() };
        report(&self.0, command).await;
    }
}

fn known(order: &Allocation) -> (AllocationId, KnownOrder) {
    let is_placed = match order.state {
        AllocationState::Started | AllocationState::Live | AllocationState::Leaving { .. } => true,
        AllocationState::Ordered | AllocationState::Stopping => false,
    };
    (order.id.clone(), KnownOrder { fleet: order.fleet.clone(), is_placed })
}

/// Compares what runs with what the broker knows, now and periodically. In a task of its own, so that nobody waits for
/// it: a platform may be unreachable, a server may be slow to stop, and on a full disk a report waits for room, while
/// callers need their answers.
pub(crate) fn spawn(
    supervisor: &mut Supervisor,
    broker: Handle<Broker>,
    platforms: &Platforms,
    installation: Installation,
) {
    let was_copied = installation.was_copied();
    let gone = if was_copied { LEFT_WITH_ORIGINAL } else { GONE };
    let orders = Arc::new(OrdersOfBroker(broker));
    let comparison = Reconciliation::new(orders, gone);
    let comparison = platforms.compared_by(comparison);
    let settled = move || {
        if was_copied {
            installation.forget_the_original();
        }
    };
    spawn_work(supervisor, "the comparison of platforms and broker", comparison.run(settled));
}
