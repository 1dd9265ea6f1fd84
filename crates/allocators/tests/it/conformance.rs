//! What every allocator has to do, whatever its platform: one body, run against each of them.

use sortie_allocators::{Allocator, ErrorKind, StartOrder};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};

use crate::fake::Fake;

/// One platform under test.
#[async_trait::async_trait]
pub(crate) trait Platform: Sync {
    /// Its allocator, with a fleet `eu`.
    fn allocator(&self) -> &dyn Allocator;

    /// Servers of `allocation` that the platform runs right now, found without the allocator.
    async fn running(&self, allocation: &AllocationId) -> usize;
}

/// An order for a server of `fleet`, with ids made from `name`.
pub(crate) fn order(name: &str, fleet: &str) -> StartOrder {
    StartOrder {
        allocation: AllocationId::new(&format!("allocation-{name}")).unwrap(),
        server: ServerId::new(&format!("server-{name}")).unwrap(),
        fleet: FleetId::new(fleet).unwrap(),
    }
}

/// Fails where `platform` does not do what every allocator has to.
pub(crate) async fn conforms(platform: &impl Platform) {
    one_order_is_one_server(platform).await;
    orders_do_not_mix(platform).await;
    stopping_can_be_repeated(platform).await;
    an_unknown_fleet_is_refused(platform).await;
}

async fn one_order_is_one_server(platform: &impl Platform) {
    let order = order("once", "eu");
    let (first, second) =
        tokio::join!(platform.allocator().start(&order), platform.allocator().start(&order));
    assert_eq!(first.unwrap(), second.unwrap());
    platform.allocator().start(&order).await.unwrap();
    assert_eq!(platform.running(&order.allocation).await, 1);
    platform.allocator().stop(&order.allocation, &order.server).await.unwrap();
    assert_eq!(platform.running(&order.allocation).await, 0, "stop returns when nothing is left");
}

async fn orders_do_not_mix(platform: &impl Platform) {
    let (one, two) = (order("one", "eu"), order("two", "eu"));
    let (first, second) = tokio::join!(platform.allocator().start(&one), platform.allocator().start(&two));
    assert_ne!(first.unwrap(), second.unwrap());
    platform.allocator().stop(&one.allocation, &one.server).await.unwrap();
    assert_eq!(platform.running(&one.allocation).await, 0);
    assert_eq!(platform.running(&two.allocation).await, 1);
    platform.allocator().stop(&two.allocation, &two.server).await.unwrap();
}

async fn stopping_can_be_repeated(platform: &impl Platform) {
    let order = order("twice", "eu");
    let stop = || platform.allocator().stop(&order.allocation, &order.server);
    stop().await.expect("one that was never started is stopped");
    platform.allocator().start(&order).await.unwrap();
    let (first, second) = tokio::join!(stop(), stop());
    first.unwrap();
    second.unwrap();
    stop().await.unwrap();
    assert_eq!(platform.running(&order.allocation).await, 0);
}

async fn an_unknown_fleet_is_refused(platform: &impl Platform) {
    let order = order("nowhere", "no-such-fleet");
    let error = platform.allocator().start(&order).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Permanent);
    assert!(error.message.contains("no-such-fleet"), "{error}");
    assert_eq!(platform.running(&order.allocation).await, 0);
}

#[async_trait::async_trait]
impl Platform for Fake {
    fn allocator(&self) -> &dyn Allocator {
        self
    }

    async fn running(&self, allocation: &AllocationId) -> usize {
        usize::from(self.runs(allocation))
    }
}

#[tokio::test]
async fn the_fake_conforms() {
    conforms(&Fake::new("eu")).await;
}
