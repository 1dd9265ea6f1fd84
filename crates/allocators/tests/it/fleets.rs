//! Effects in, commands out.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_allocators::{Allocator, AllocatorError, Fleets, MAX_START_ATTEMPTS};
use sortie_domain::broker::{Command, Effect};
use sortie_domain::ids::{AllocationId, FleetId};
use sortie_engine::{Performer, Retry};

use crate::conformance::order;
use crate::fake::Fake;

struct Setup {
    eu: Arc<Fake>,
    us: Arc<Fake>,
    left_behind: Arc<Fake>,
    fleets: Fleets,
}

fn setup() -> Setup {
    let [eu, us, left_behind] = ["eu", "us", "none"].map(|fleet| Arc::new(Fake::new(fleet)));
    let allocators = BTreeMap::from([
        (FleetId::new("eu").unwrap(), Arc::clone(&eu) as Arc<dyn Allocator>),
        (FleetId::new("us").unwrap(), Arc::clone(&us) as Arc<dyn Allocator>),
    ]);
    let fleets = Fleets::new(allocators, Some(Arc::clone(&left_behind) as Arc<dyn Allocator>));
    Setup { eu, us, left_behind, fleets }
}

fn start(name: &str, fleet: &str) -> Effect {
    let order = order(name, fleet);
    Effect::Start { allocation: order.allocation, server: order.server, fleet: order.fleet }
}

fn stop(name: &str, fleet: &str) -> Effect {
    let order = order(name, fleet);
    Effect::Stop { allocation: order.allocation, server: order.server, fleet: order.fleet }
}

fn allocation(name: &str) -> AllocationId {
    order(name, "eu").allocation
}

#[tokio::test]
async fn an_effect_goes_to_the_allocator_of_its_fleet() {
    let Setup { eu, us, fleets, .. } = setup();
    let started = fleets.perform(start("a", "us")).await;
    assert_eq!(started, Ok(Some(Command::AllocationStarted { allocation: allocation("a") })));
    assert!(us.runs(&allocation("a")) && !eu.runs(&allocation("a")));
    let stopped = fleets.perform(stop("a", "us")).await;
    assert_eq!(stopped, Ok(Some(Command::AllocationStopped { allocation: allocation("a") })));
    assert!(!us.runs(&allocation("a")));
}

/// A fleet whose servers are slow to stop keeps neither its own starts nor another fleet waiting.
#[tokio::test]
async fn each_fleet_has_permits_for_starts_and_for_stops() {
    let Setup { fleets, .. } = setup();
    let effects = [start("a", "eu"), stop("a", "eu"), start("a", "us"), stop("a", "us"), stop("a", "gone")];
    let groups: std::collections::BTreeSet<_> = effects.iter().map(|effect| fleets.group(effect)).collect();
    assert_eq!(groups.len(), effects.len(), "{groups:?}");
    assert_eq!(fleets.group(&start("a", "eu")), fleets.group(&start("b", "eu")));
    // Fleets that are not configured any more are without number.
    assert_eq!(fleets.group(&stop("a", "gone")), fleets.group(&stop("a", "gone too")));
}

#[tokio::test]
async fn stops_take_permits_only_where_they_are_work() {
    let Setup { eu, left_behind, fleets, .. } = setup();
    assert!(!fleets.only_waits(&start("a", "eu")) && !fleets.only_waits(&stop("a", "eu")));
    eu.only_wait();
    assert!(fleets.only_waits(&stop("a", "eu")));
    assert!(!fleets.only_waits(&start("a", "eu")) && !fleets.only_waits(&stop("a", "us")));
    left_behind.only_wait();
    assert!(fleets.only_waits(&stop("a", "gone")));
}

#[tokio::test]
async fn effects_of_one_allocation_share_a_key() {
    let Setup { fleets, .. } = setup();
    assert_eq!(fleets.key(&start("a", "eu")), fleets.key(&stop("a", "eu")));
    assert_ne!(fleets.key(&start("a", "eu")), fleets.key(&start("b", "eu")));
}

#[tokio::test]
async fn a_permanent_error_fails_the_allocation_and_a_transient_one_is_tried_again() {
    let Setup { eu, fleets, .. } = setup();
    eu.fail_with(AllocatorError::permanent("path /x does not exist"));
    let failed =
        Command::AllocationFailed { allocation: allocation("a"), error: "path /x does not exist".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    eu.fail_with(AllocatorError::transient("busy"));
    assert_eq!(fleets.perform(start("b", "eu")).await, Err(Retry::because("busy")));
    let started = Command::AllocationStarted { allocation: allocation("b") };
    assert_eq!(fleets.perform(start("b", "eu")).await, Ok(Some(started)));
}

#[tokio::test]
async fn an_order_that_cannot_be_carried_out_for_long_is_taken_back_and_has_failed() {
    let Setup { eu, fleets, .. } = setup();
    for _ in 1..MAX_START_ATTEMPTS {
        eu.fail_with(AllocatorError::transient("busy"));
        assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("busy")));
    }
    // Taking it back may itself have to be tried again.
    eu.fail_with(AllocatorError::transient("busy"));
    eu.fail_with(AllocatorError::transient("cannot stop"));
    assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("cannot stop")));
    assert_eq!(eu.stops(), []);
    eu.fail_with(AllocatorError::transient("still busy"));
    let failed = Command::AllocationFailed { allocation: allocation("a"), error: "still busy".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    assert_eq!(eu.stops(), [allocation("a")]);
    // Another order has its own attempts.
    eu.fail_with(AllocatorError::transient("busy"));
    assert_eq!(fleets.perform(start("b", "eu")).await, Err(Retry::because("busy")));
}

#[tokio::test]
async fn a_stop_is_tried_again_whatever_the_error() {
    let Setup { eu, fleets, .. } = setup();
    eu.fail_with(AllocatorError::permanent("key revoked"));
    assert_eq!(fleets.perform(stop("a", "eu")).await, Err(Retry::because("key revoked")));
    let stopped = Command::AllocationStopped { allocation: allocation("a") };
    assert_eq!(fleets.perform(stop("a", "eu")).await, Ok(Some(stopped)));
}

#[tokio::test]
async fn fleets_that_are_not_configured_start_nothing_and_stop_what_is_left() {
    let Setup { left_behind, fleets, .. } = setup();
    match fleets.perform(start("a", "gone")).await {
        Ok(Some(Command::AllocationFailed { error, .. })) => assert!(error.contains("gone"), "{error}"),
        other => panic!("{other:?}"),
    }
    let stopped = Command::AllocationStopped { allocation: allocation("a") };
    assert_eq!(fleets.perform(stop("a", "gone")).await, Ok(Some(stopped.clone())));
    assert_eq!(left_behind.stops(), [allocation("a")]);
    let nobody = Fleets::new(BTreeMap::new(), None);
    assert_eq!(nobody.perform(stop("a", "gone")).await, Ok(Some(stopped)));
}
