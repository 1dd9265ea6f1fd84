//! Effects in, commands out.

use std::collections::BTreeMap;
use std::sync::Arc;

use sortie_allocators::{Allocator, ErrorClass, Fleets, MAX_START_ATTEMPTS, MAX_STOP_PAUSE};
use sortie_domain::broker::{Command, Effect};
use sortie_domain::ids::{AllocationId, FleetId};
use sortie_engine::{Performer, Retry};

use crate::conformance::order;
use crate::scripted::{CreateFault, Scripted};

struct Setup {
    eu: Arc<Scripted>,
    us: Arc<Scripted>,
    left_behind: Arc<Scripted>,
    fleets: Fleets,
}

fn setup() -> Setup {
    let [eu, us, left_behind] = ["eu", "us", "none"].map(|fleet| Arc::new(Scripted::new(fleet)));
    let allocators = BTreeMap::from([
        (FleetId::new("eu").unwrap(), Arc::clone(&eu) as Arc<dyn Allocator>),
        (FleetId::new("us").unwrap(), Arc::clone(&us) as Arc<dyn Allocator>),
    ]);
    let fleets = Fleets::new(allocators, vec![Arc::clone(&left_behind) as Arc<dyn Allocator>]);
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

#[tokio::test(start_paused = true)]
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
#[tokio::test(start_paused = true)]
async fn each_fleet_has_permits_for_starts_and_for_stops() {
    let Setup { fleets, .. } = setup();
    let effects = [start("a", "eu"), stop("a", "eu"), start("a", "us"), stop("a", "us"), stop("a", "gone")];
    let groups: std::collections::BTreeSet<_> = effects.iter().map(|effect| fleets.group(effect)).collect();
    assert_eq!(groups.len(), effects.len(), "{groups:?}");
    assert_eq!(fleets.group(&start("a", "eu")), fleets.group(&start("b", "eu")));
    // The number of fleets that are no longer configured is unlimited.
    assert_eq!(fleets.group(&stop("a", "gone")), fleets.group(&stop("a", "gone too")));
}

#[tokio::test(start_paused = true)]
async fn stops_take_permits_only_where_they_are_work() {
    let Setup { eu, left_behind, fleets, .. } = setup();
    assert!(!fleets.only_waits(&start("a", "eu")) && !fleets.only_waits(&stop("a", "eu")));
    eu.only_wait();
    assert!(fleets.only_waits(&stop("a", "eu")));
    assert!(!fleets.only_waits(&start("a", "eu")) && !fleets.only_waits(&stop("a", "us")));
    left_behind.only_wait();
    assert!(fleets.only_waits(&stop("a", "gone")));
}

#[tokio::test(start_paused = true)]
async fn effects_of_one_allocation_share_a_key() {
    let Setup { fleets, .. } = setup();
    assert_eq!(fleets.key(&start("a", "eu")), fleets.key(&stop("a", "eu")));
    assert_ne!(fleets.key(&start("a", "eu")), fleets.key(&start("b", "eu")));
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_fails_the_allocation_and_a_transient_one_is_tried_again() {
    let Setup { eu, fleets, .. } = setup();
    eu.fail_with(ErrorClass::Invalid, "path /x does not exist");
    let failed =
        Command::AllocationFailed { allocation: allocation("a"), error: "path /x does not exist".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    eu.fail_with(ErrorClass::Conflict, "busy");
    assert_eq!(fleets.perform(start("b", "eu")).await, Err(Retry::because("busy")));
    let started = Command::AllocationStarted { allocation: allocation("b") };
    assert_eq!(fleets.perform(start("b", "eu")).await, Ok(Some(started)));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_cannot_be_carried_out_for_long_is_taken_back_and_has_failed() {
    let Setup { eu, fleets, .. } = setup();
    for _ in 1..MAX_START_ATTEMPTS {
        eu.fail_with(ErrorClass::Conflict, "busy");
        assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("busy")));
    }
    // The cancellation may itself have to be retried.
    eu.fail_with(ErrorClass::Conflict, "busy");
    eu.fail_with(ErrorClass::Conflict, "cannot stop");
    assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("cannot stop")));
    assert_eq!(eu.stops(), []);
    eu.fail_with(ErrorClass::Conflict, "still busy");
    let failed = Command::AllocationFailed { allocation: allocation("a"), error: "still busy".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    assert_eq!(eu.stops(), [allocation("a")]);
    // Another order has its own attempts.
    eu.fail_with(ErrorClass::Conflict, "busy");
    assert_eq!(fleets.perform(start("b", "eu")).await, Err(Retry::because("busy")));
}

fn unknown(fleet: &Scripted) {
    fleet.create_meets(CreateFault::Lost);
}

#[tokio::test(start_paused = true)]
async fn after_an_unknown_outcome_the_platform_is_asked_before_the_order_is_given_again() {
    let Setup { eu, fleets, .. } = setup();
    let started = Ok(Some(Command::AllocationStarted { allocation: allocation("a") }));
    unknown(&eu);
    assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("no answer")));
    assert_eq!(fleets.perform(start("a", "eu")).await, started);
    assert_eq!(eu.creates(), [allocation("a")], "it was there");
    // A server that does not exist is ordered again.
    eu.create_meets(CreateFault::Late(std::time::Duration::from_secs(3600)));
    assert_eq!(fleets.perform(start("b", "eu")).await, Err(Retry::because("no answer")));
    let started = Ok(Some(Command::AllocationStarted { allocation: allocation("b") }));
    assert_eq!(fleets.perform(start("b", "eu")).await, started);
    assert_eq!(eu.creates(), ["a", "b", "b"].map(allocation));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_reported_while_the_server_may_run() {
    let Setup { eu, fleets, .. } = setup();
    unknown(&eu);
    assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("no answer")));
    // Neither a permanent error nor one that counts as the last tells anything about the first attempt.
    for _ in 0..MAX_START_ATTEMPTS {
        eu.fail_with(ErrorClass::Auth, "expired");
        eu.fail_with(ErrorClass::Auth, "still expired");
        assert!(fleets.perform(start("a", "eu")).await.is_err());
    }
    assert_eq!(eu.stops(), []);
    let started = Command::AllocationStarted { allocation: allocation("a") };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(started)));
    assert_eq!(eu.creates(), [allocation("a")]);
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_outcome_stays_unknown_is_cancelled() {
    let Setup { eu, fleets, .. } = setup();
    for _ in 0..MAX_START_ATTEMPTS {
        eu.create_meets(CreateFault::Late(std::time::Duration::from_secs(3600)));
    }
    for _ in 1..MAX_START_ATTEMPTS {
        assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("no answer")));
    }
    let failed = Command::AllocationFailed { allocation: allocation("a"), error: "no answer".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    assert_eq!(eu.stops(), [allocation("a")]);
}

/// The first attempt may still succeed, whatever the last one says.
#[tokio::test(start_paused = true)]
async fn an_order_with_an_unknown_outcome_is_taken_back_whatever_the_last_error() {
    let Setup { eu, fleets, .. } = setup();
    eu.create_meets(CreateFault::Late(std::time::Duration::from_secs(3600)));
    eu.create_meets(CreateFault::Refused(ErrorClass::Quota));
    assert_eq!(fleets.perform(start("a", "eu")).await, Err(Retry::because("no answer")));
    let failed = Command::AllocationFailed { allocation: allocation("a"), error: "refused".to_owned() };
    assert_eq!(fleets.perform(start("a", "eu")).await, Ok(Some(failed)));
    assert_eq!(eu.stops(), [allocation("a")]);
}

/// The table of error classes: how often the same fleet is tried, and whether leftovers are stopped.
#[tokio::test(start_paused = true)]
async fn each_class_of_errors_has_its_number_of_attempts() {
    for (class, attempts, takes_back) in [
        (ErrorClass::Throttled { retry_after: None }, 7, false),
        (ErrorClass::NoCapacity, 3, false),
        (ErrorClass::Quota, 1, false),
        (ErrorClass::Conflict, 7, true),
        (ErrorClass::UnknownOutcome, 7, true),
        (ErrorClass::Auth, 2, false),
        (ErrorClass::Invalid, 1, false),
        (ErrorClass::Image, 2, true),
        (ErrorClass::BootFailed, 2, true),
        (ErrorClass::Unreachable, 7, false),
        (ErrorClass::Lost, 1, false),
    ] {
        let Setup { eu, fleets, .. } = setup();
        for attempt in 1..=attempts {
            eu.create_meets(CreateFault::Refused(class));
            let outcome = fleets.perform(start("a", "eu")).await;
            assert_eq!(outcome.is_ok(), attempt == attempts, "{class:?}, attempt {attempt}: {outcome:?}");
        }
        assert_eq!(eu.stops().len(), usize::from(takes_back), "{class:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_tried_again_when_the_platform_wants_it_but_not_later_than_its_limit() {
    let Setup { eu, fleets, .. } = setup();
    for (asked, granted) in [(MAX_STOP_PAUSE / 2, MAX_STOP_PAUSE / 2), (2 * MAX_STOP_PAUSE, MAX_STOP_PAUSE)] {
        eu.fail_with(ErrorClass::Throttled { retry_after: Some(asked) }, "busy");
        let retry = Retry { after: Some(granted), reason: "busy".to_owned() };
        assert_eq!(fleets.perform(stop("a", "eu")).await, Err(retry));
    }
}

/// With several platforms nobody knows which of them a removed fleet was on.
#[tokio::test(start_paused = true)]
async fn a_server_of_a_removed_fleet_is_stopped_on_every_platform() {
    let [one, two] = ["eu", "us"].map(|fleet| Arc::new(Scripted::new(fleet)));
    two.start(&order("a", "us")).await.unwrap();
    let everywhere = vec![Arc::clone(&one) as Arc<dyn Allocator>, Arc::clone(&two) as Arc<dyn Allocator>];
    let fleets = Fleets::new(BTreeMap::new(), everywhere);
    one.only_wait();
    assert!(!fleets.only_waits(&stop("a", "gone")), "one of the two has work to do");
    one.fail_with(ErrorClass::Unreachable, "away");
    assert_eq!(fleets.perform(stop("a", "gone")).await, Err(Retry::because("away")));
    let stopped = Command::AllocationStopped { allocation: allocation("a") };
    assert_eq!(fleets.perform(stop("a", "gone")).await, Ok(Some(stopped)));
    assert!(!two.runs(&allocation("a")));
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_tried_again_whatever_the_error() {
    let Setup { eu, fleets, .. } = setup();
    eu.fail_with(ErrorClass::Invalid, "key revoked");
    assert_eq!(fleets.perform(stop("a", "eu")).await, Err(Retry::because("key revoked")));
    let stopped = Command::AllocationStopped { allocation: allocation("a") };
    assert_eq!(fleets.perform(stop("a", "eu")).await, Ok(Some(stopped)));
}

#[tokio::test(start_paused = true)]
async fn fleets_that_are_not_configured_start_nothing_and_stop_what_is_left() {
    let Setup { left_behind, fleets, .. } = setup();
    match fleets.perform(start("a", "gone")).await {
        Ok(Some(Command::AllocationFailed { error, .. })) => assert!(error.contains("gone"), "{error}"),
        other => panic!("{other:?}"),
    }
    let stopped = Command::AllocationStopped { allocation: allocation("a") };
    assert_eq!(fleets.perform(stop("a", "gone")).await, Ok(Some(stopped.clone())));
    assert_eq!(left_behind.stops(), [allocation("a")]);
    let nobody = Fleets::new(BTreeMap::new(), Vec::new());
    assert_eq!(nobody.perform(stop("a", "gone")).await, Ok(Some(stopped)));
}
