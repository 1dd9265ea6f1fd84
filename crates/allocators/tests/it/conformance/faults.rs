//! Rules that hold whatever a platform does: lost and doubled answers, throttling, no capacity, servers that appear
//! late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sortie_allocators::{
    ErrorClass, Fleets, MAX_CAPACITY_ATTEMPTS, MAX_START_ATTEMPTS, MAX_START_PAUSE, SWEEP_PERIOD, StartOrder,
};
use sortie_domain::broker::{Command, Effect};
use sortie_engine::{EffectLimits, Performer as _, Retry};
use tokio::time::sleep;

use super::rules::compare;
use super::{Platform, Script, Verdict, ensure, order, started, stopped};
use crate::book::Book;
use crate::scripted::CreateFault;

fn fleets(platform: &impl Platform) -> Fleets {
    let eu = order("", "eu").fleet;
    Fleets::new(BTreeMap::from([(eu, platform.allocator())]), Vec::new())
}

fn start(order: &StartOrder) -> Effect {
    let StartOrder { allocation, server, fleet } = order.clone();
    Effect::Start { allocation, server, fleet }
}

/// The outcome of an order, however often it is retried, and the requested pauses.
async fn outcome(fleets: &Fleets, order: &StartOrder) -> (Command, Vec<Duration>) {
    let mut pauses = Vec::new();
    loop {
        match fleets.perform(start(order)).await {
            Ok(outcome) => return (outcome.unwrap(), pauses),
            Err(Retry { after, .. }) => {
                pauses.extend(after);
                sleep(after.unwrap_or(EffectLimits::default().backoff.first)).await;
            }
        }
    }
}

/// Starts the order through [`Fleets`], which has to result in one server.
async fn ends_with_one_server(platform: &impl Platform, order: &StartOrder) -> Verdict {
    let (outcome, _) = outcome(&fleets(platform), order).await;
    let is_started = outcome == Command::AllocationStarted { allocation: order.allocation.clone() };
    ensure!(is_started, "{outcome:?}");
    let running = platform.running(&order.allocation).await;
    ensure!(running == 1, "{running} servers run");
    Ok(())
}

pub(super) async fn a_lost_answer_is_one_server(platform: &impl Platform, script: &dyn Script) -> Verdict {
    let order = order("lost-answer", "eu");
    script.create_meets(CreateFault::Lost);
    let fleets = fleets(platform);
    let lost = fleets.perform(start(&order)).await;
    ensure!(lost.is_err(), "{lost:?}");
    // After a restart the first attempt is forgotten.
    ends_with_one_server(platform, &order).await?;
    let (again, _) = outcome(&fleets, &order).await;
    ensure!(matches!(again, Command::AllocationStarted { .. }), "{again:?}");
    let running = platform.running(&order.allocation).await;
    ensure!(running == 1, "{running} servers run");
    stopped(platform.allocator().as_ref(), &order).await?;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 0, "{running} servers run after the stop");
    Ok(())
}

pub(super) async fn a_doubled_call_is_one_server(platform: &impl Platform, script: &dyn Script) -> Verdict {
    let order = order("doubled", "eu");
    script.create_meets(CreateFault::Twice);
    ends_with_one_server(platform, &order).await?;
    stopped(platform.allocator().as_ref(), &order).await
}

pub(super) async fn a_late_server_is_one_server(platform: &impl Platform, script: &dyn Script) -> Verdict {
    let (order, by) = (order("late", "eu"), Duration::from_secs(20));
    script.create_meets(CreateFault::Late(by));
    ends_with_one_server(platform, &order).await?;
    sleep(by).await;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 1, "{running} servers run when the first call has been carried out too");
    stopped(platform.allocator().as_ref(), &order).await
}

pub(super) async fn a_start_given_up_leaves_nothing(
    platform: &impl Platform,
    script: &dyn Script,
) -> Verdict {
    let (one, two) = (order("given-up", "eu"), order("given-up-late", "eu"));
    // The server exists, and every lookup of it fails for now.
    script.create_meets(CreateFault::Lost);
    let fleets_of_one = fleets(platform);
    let first = fleets_of_one.perform(start(&one)).await;
    ensure!(first.is_err(), "{first:?}");
    for _ in 0..MAX_START_ATTEMPTS {
        script.call_fails(ErrorClass::Unreachable);
        let next = fleets_of_one.perform(start(&one)).await;
        let is_failed = matches!(next, Ok(Some(Command::AllocationFailed { .. })));
        ensure!(!is_failed, "reports {next:?} without having looked");
    }
    let (outcome, _) = outcome(&fleets_of_one, &one).await;
    let is_started = matches!(outcome, Command::AllocationStarted { .. });
    let running = platform.running(&one.allocation).await;
    ensure!(running == usize::from(is_started), "{outcome:?}, and {running} servers run");
    stopped(platform.allocator().as_ref(), &one).await?;
    // The server appears when nobody expects it any more.
    let by = Duration::from_secs(100);
    for _ in 0..MAX_START_ATTEMPTS {
        script.create_meets(CreateFault::Late(by));
    }
    let (outcome, _) = self::outcome(&fleets(platform), &two).await;
    ensure!(matches!(outcome, Command::AllocationFailed { .. }), "{outcome:?}");
    let comparison = compare(platform, &Arc::default());
    sleep(by + 5 * SWEEP_PERIOD).await;
    drop(comparison);
    let running = platform.running(&two.allocation).await;
    ensure!(running == 0, "{running} servers run of an order that has failed");
    Ok(())
}

pub(super) async fn throttling_is_respected(platform: &impl Platform, script: &dyn Script) -> Verdict {
    let (burst, long) = (order("burst", "eu"), order("long-throttle", "eu"));
    let pause = Duration::from_secs(3);
    let throttled = |pause| CreateFault::Refused(ErrorClass::Throttled { retry_after: Some(pause) });
    for _ in 0..3 {
        script.create_meets(throttled(pause));
    }
    let (outcome, pauses) = outcome(&fleets(platform), &burst).await;
    ensure!(matches!(outcome, Command::AllocationStarted { .. }), "{outcome:?}");
    ensure!(pauses == [pause; 3], "paused for {pauses:?}");
    stopped(platform.allocator().as_ref(), &burst).await?;
    // Another fleet gets the order instead of waiting for so long.
    script.create_meets(throttled(MAX_START_PAUSE + pause));
    let (outcome, pauses) = self::outcome(&fleets(platform), &long).await;
    ensure!(matches!(outcome, Command::AllocationFailed { .. }), "{outcome:?}");
    ensure!(pauses.is_empty(), "paused for {pauses:?}");
    Ok(())
}

pub(super) async fn capacity_may_come_back(platform: &impl Platform, script: &dyn Script) -> Verdict {
    let (soon, never) = (order("capacity", "eu"), order("no-capacity", "eu"));
    let refuse = || script.create_meets(CreateFault::Refused(ErrorClass::NoCapacity));
    (1..MAX_CAPACITY_ATTEMPTS).for_each(|_| refuse());
    ends_with_one_server(platform, &soon).await?;
    stopped(platform.allocator().as_ref(), &soon).await?;
    (0..MAX_CAPACITY_ATTEMPTS).for_each(|_| refuse());
    let (outcome, _) = outcome(&fleets(platform), &never).await;
    ensure!(matches!(outcome, Command::AllocationFailed { .. }), "{outcome:?}");
    let running = platform.running(&never.allocation).await;
    ensure!(running == 0, "{running} servers run");
    Ok(())
}

pub(super) async fn a_sweep_spares_fresh_servers(platform: &impl Platform, _: &dyn Script) -> Verdict {
    let (ours, theirs) = (platform.allocator(), platform.of_another_installation());
    let [old, fresh, known] = ["old", "fresh", "known"].map(|name| order(name, "eu"));
    let book = Arc::new(Book::default());
    started(ours.as_ref(), &known).await?;
    started(theirs.as_ref(), &old).await?;
    book.place(&known);
    let comparison = compare(platform, &book);
    sleep(SWEEP_PERIOD / 2).await;
    started(ours.as_ref(), &old).await?;
    // The third sweep finds a stray that is on the list and young.
    let age = ours.capabilities().list_lag + Duration::from_secs(1);
    sleep(5 * SWEEP_PERIOD / 2 - age).await;
    started(ours.as_ref(), &fresh).await?;
    sleep(2 * age).await;
    let running = (platform.running(&old.allocation).await, platform.running(&fresh.allocation).await);
    ensure!(running == (0, 1), "{running:?} of an old stray and a fresh one run");
    sleep(3 * SWEEP_PERIOD).await;
    drop(comparison);
    let running = (platform.running(&fresh.allocation).await, platform.running(&known.allocation).await);
    ensure!(running == (0, 1), "{running:?} of a stray and a known server run");
    let running = platform.running_of_others(&old.allocation).await;
    ensure!(running == 1, "{running} of another installation's servers run");
    stopped(ours.as_ref(), &known).await?;
    stopped(theirs.as_ref(), &old).await
}
