//! Rules that hold on every platform, without any fault.

use std::collections::BTreeSet;
use std::sync::Arc;

use sortie_allocators::{ErrorClass, Reconciliation, StartOrder};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{Platform, Verdict, ensure, order, running_is, started, stopped};
use crate::book::Book;

pub(super) async fn one_order_is_one_server(platform: &impl Platform) -> Verdict {
    let (allocator, order) = (platform.allocator(), order("once", "eu"));
    let (first, second) = tokio::join!(allocator.start(&order), allocator.start(&order));
    ensure!(first.is_ok() && first == second, "two answers: {first:?} and {second:?}");
    started(allocator.as_ref(), &order).await?;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 1, "{running} servers run");
    stopped(allocator.as_ref(), &order).await?;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 0, "{running} servers run after the stop");
    Ok(())
}

pub(super) async fn orders_do_not_mix(platform: &impl Platform) -> Verdict {
    let (allocator, one, two) = (platform.allocator(), order("one", "eu"), order("two", "eu"));
    let (first, second) = tokio::join!(allocator.start(&one), allocator.start(&two));
    ensure!(first.is_ok() && second.is_ok() && first != second, "{first:?} and {second:?}");
    stopped(allocator.as_ref(), &one).await?;
    let running = (platform.running(&one.allocation).await, platform.running(&two.allocation).await);
    ensure!(running == (0, 1), "{running:?} servers run after the stop of the first");
    stopped(allocator.as_ref(), &two).await
}

pub(super) async fn stops_can_be_repeated(platform: &impl Platform) -> Verdict {
    let (allocator, order) = (platform.allocator(), order("twice", "eu"));
    stopped(allocator.as_ref(), &order).await?;
    started(allocator.as_ref(), &order).await?;
    let (first, second) =
        tokio::join!(stopped(allocator.as_ref(), &order), stopped(allocator.as_ref(), &order));
    first.and(second)?;
    stopped(allocator.as_ref(), &order).await?;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 0, "{running} servers run");
    Ok(())
}

pub(super) async fn a_stop_ends_a_start_in_flight(platform: &impl Platform) -> Verdict {
    let (allocator, order) = (platform.allocator(), order("in-flight", "eu"));
    // Its caller gives up.
    tokio::select! {
        biased;
        _ = allocator.start(&order) => {}
        () = tokio::task::yield_now() => {}
    }
    stopped(allocator.as_ref(), &order).await?;
    let running = platform.running(&order.allocation).await;
    ensure!(running == 0, "{running} servers run");
    Ok(())
}

pub(super) async fn an_unknown_fleet_is_refused(platform: &impl Platform) -> Verdict {
    let order = order("nowhere", "no-such-fleet");
    let refused = platform.allocator().start(&order).await;
    let is_right = matches!(&refused, Err(error) if error.class == ErrorClass::Invalid
        && error.message.contains("no-such-fleet"));
    ensure!(is_right, "{refused:?}");
    let running = platform.running(&order.allocation).await;
    ensure!(running == 0, "{running} servers run");
    Ok(())
}

pub(super) async fn a_list_has_all_and_only_ours(platform: &impl Platform) -> Verdict {
    let (ours, theirs) = (platform.allocator(), platform.of_another_installation());
    let (mine, others) = (["l1", "l2", "l3"], ["l1", "l4"]);
    for name in others {
        started(theirs.as_ref(), &order(name, "eu")).await?;
    }
    for name in mine {
        started(ours.as_ref(), &order(name, "eu")).await?;
    }
    sleep(ours.capabilities().list_lag).await;
    let list = ours.list().await.map_err(|error| error.to_string())?;
    ensure!(list.is_complete(), "the list is cut");
    let running = list.placements().iter().filter(|found| !found.state.has_ended());
    let mut listed: Vec<_> = running.map(|found| (found.allocation.clone(), found.server.clone())).collect();
    listed.sort();
    let ordered = mine.map(|name| order(name, "eu")).map(|order| (order.allocation, order.server));
    ensure!(listed == ordered, "lists {listed:?}");
    for name in mine {
        stopped(ours.as_ref(), &order(name, "eu")).await?;
    }
    for name in others {
        let order = order(name, "eu");
        let running = platform.running_of_others(&order.allocation).await;
        ensure!(running == 1, "{running} servers run of another installation's {}", order.allocation);
        stopped(theirs.as_ref(), &order).await?;
    }
    sleep(ours.capabilities().list_lag).await;
    let list = ours.list().await.map_err(|error| error.to_string())?;
    ensure!(list.placements().iter().all(|found| found.state.has_ended()), "still lists {list:?}");
    Ok(())
}

pub(super) async fn what_runs_is_described(platform: &impl Platform) -> Verdict {
    let (allocator, order) = (platform.allocator(), order("described", "eu"));
    let describe = async || allocator.describe(&order.allocation).await.map_err(|error| error.to_string());
    let before = describe().await?;
    ensure!(before.is_none(), "describes {before:?} before the start");
    started(allocator.as_ref(), &order).await?;
    // At once, even if a list lags.
    let described = describe().await?;
    let Some(found) = &described else { return Err("does not describe what runs".to_owned()) };
    ensure!((&found.allocation, &found.server) == (&order.allocation, &order.server), "describes {found:?}");
    ensure!(!found.state.has_ended(), "describes {found:?}");
    running_is(platform, &order, 1).await;
    let address = platform.address(&order.allocation).await;
    ensure!(found.address == address, "describes {found:?}, and it is at {address:?}");
    let now = platform.clock().now();
    // Some platforms report whole seconds.
    let is_now =
        found.started_at.is_none_or(|at| now.since(at).as_secs() < 60 && at.since(now).as_secs() < 1);
    ensure!(is_now, "was started at {:?}, and it is {now:?}", found.started_at);
    sleep(allocator.capabilities().list_lag).await;
    let list = allocator.list().await.map_err(|error| error.to_string())?;
    let listed = list.placements().iter().find(|found| found.allocation == order.allocation);
    let same = |a: &sortie_allocators::Placement| (a.id.clone(), a.address.clone(), a.started_at);
    ensure!(listed.map(same) == Some(same(found)), "describes {found:?}, lists {listed:?}");
    stopped(allocator.as_ref(), &order).await?;
    let after = describe().await?;
    ensure!(after.is_none_or(|found| found.state.has_ended()), "describes what it has stopped");
    Ok(())
}

/// The comparison with a broker that knows the orders in `book`; ends when it is dropped.
pub(super) fn compare(platform: &impl Platform, book: &Arc<Book>) -> AbortOnDropHandle<()> {
    let eu = order("", "eu").fleet;
    let orders = Arc::clone(book) as _;
    let compared = Reconciliation::new(orders, "was gone at the start").with(
        "tested",
        platform.allocator(),
        BTreeSet::from([eu]),
    );
    AbortOnDropHandle::new(tokio::spawn(compared.run(|| {})))
}

pub(super) async fn an_exit_is_visible(platform: &impl Platform) -> Verdict {
    let (allocator, order, book) = (platform.allocator(), order("exits", "eu"), Arc::new(Book::default()));
    started(allocator.as_ref(), &order).await?;
    book.place(&order);
    running_is(platform, &order, 1).await;
    platform.crash(&order.allocation).await;
    if allocator.capabilities().reports_exits {
        let reported = platform.reported_exit().await;
        ensure!(reported == order.allocation, "reports the exit of {reported}");
    } else {
        let comparison = compare(platform, &book);
        book.report(&order).await;
        drop(comparison);
    }
    stopped(allocator.as_ref(), &order).await
}

pub(super) async fn strays_are_stopped_at_the_start(platform: &impl Platform) -> Verdict {
    let (ours, theirs) = (platform.allocator(), platform.of_another_installation());
    let names = ["stray", "placed", "in-flight-too"];
    let [stray, placed, in_flight]: [StartOrder; 3] = names.map(|name| order(name, "eu"));
    let book = Arc::new(Book::default());
    for order in [&stray, &placed, &in_flight] {
        started(ours.as_ref(), order).await?;
        started(theirs.as_ref(), order).await?;
    }
    book.place(&placed);
    book.order(&in_flight);
    sleep(ours.capabilities().list_lag).await;
    let comparison = compare(platform, &book);
    running_is(platform, &stray, 0).await;
    drop(comparison);
    for order in [&placed, &in_flight] {
        let running = platform.running(&order.allocation).await;
        ensure!(running == 1, "{running} servers of the known order {} run", order.allocation);
        ensure!(book.reports(order).is_empty(), "{} was reported gone", order.allocation);
        stopped(ours.as_ref(), order).await?;
    }
    for order in [&stray, &placed, &in_flight] {
        let running = platform.running_of_others(&order.allocation).await;
        ensure!(running == 1, "{running} servers run of another installation's {}", order.allocation);
        stopped(theirs.as_ref(), order).await?;
    }
    Ok(())
}
