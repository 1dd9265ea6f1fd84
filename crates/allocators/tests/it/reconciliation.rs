//! The comparison of platforms and broker, in virtual time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sortie_allocators::{Allocator, ErrorClass, Reconciliation, SWEEP_PERIOD, StartOrder};
use sortie_domain::ids::FleetId;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::book::{ANSWER_TIME, Book};
use crate::conformance::order;
use crate::scripted::{LATENCY, LIST_LAG, Scripted};

/// Enough for every list of a round to be requested.
const MOMENT: Duration = Duration::from_secs(1);
/// Enough sweeps for everything that takes two of them.
const SOME_SWEEPS: Duration = Duration::from_secs(5 * SWEEP_PERIOD.as_secs());

/// A platform with the fleet `eu`, and the broker.
struct Setup {
    cloud: Arc<Scripted>,
    book: Arc<Book>,
    settled: Arc<AtomicUsize>,
}

impl Setup {
    fn new() -> Self {
        Self { cloud: Arc::new(Scripted::new("eu")), book: Arc::default(), settled: Arc::default() }
    }

    fn comparison(&self) -> Reconciliation {
        Reconciliation::new(Arc::clone(&self.book) as _, "was gone at the start").with(
            "cloud",
            Arc::clone(&self.cloud) as _,
            fleets(["eu"]),
        )
    }

    fn run(&self, comparison: Reconciliation) -> AbortOnDropHandle<()> {
        let settled = Arc::clone(&self.settled);
        let count = move || {
            settled.fetch_add(1, Ordering::Relaxed);
        };
        AbortOnDropHandle::new(tokio::spawn(comparison.run(count)))
    }

    /// Starts the comparison.
    fn compare(&self) -> AbortOnDropHandle<()> {
        self.run(self.comparison())
    }

    /// A running server with a known order.
    async fn placed(&self, name: &str) -> StartOrder {
        let order = order(name, "eu");
        self.cloud.start(&order).await.unwrap();
        self.book.place(&order);
        order
    }

    fn settled(&self) -> usize {
        self.settled.load(Ordering::Relaxed)
    }
}

fn fleets<const N: usize>(names: [&str; N]) -> BTreeSet<FleetId> {
    names.map(|name| FleetId::new(name).unwrap()).into()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_its_platform_has_lost_is_reported_once() {
    let setup = Setup::new();
    let (lost, other) = (setup.placed("lost").await, setup.placed("other").await);
    sleep(LIST_LAG).await;
    let _comparison = setup.compare();
    sleep(SWEEP_PERIOD / 2).await;
    setup.cloud.vanish(&lost.allocation);
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&lost), ["is not on its platform any more"]);
    assert_eq!(setup.book.reports(&other), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_lost_before_the_start_is_reported_so_and_then_the_start_is_over() {
    let setup = Setup::new();
    let lost = order("lost", "eu");
    setup.book.place(&lost);
    let _comparison = setup.compare();
    sleep(MOMENT).await;
    assert_eq!(setup.book.reports(&lost), [""; 0], "the list may lag");
    assert_eq!(setup.settled(), 0);
    assert_eq!(setup.book.report(&lost).await, "was gone at the start");
    sleep(SOME_SWEEPS).await;
    assert_eq!((setup.book.reports(&lost).len(), setup.settled()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_start_is_not_over_while_a_report_is_not_durable() {
    let setup = Setup::new();
    let lost = order("lost", "eu");
    setup.book.place(&lost);
    setup.book.fill_up();
    let _comparison = setup.compare();
    setup.book.report(&lost).await;
    sleep(SOME_SWEEPS).await;
    assert_eq!((setup.book.reports(&lost).len(), setup.settled()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_list_may_not_show_yet_is_not_gone() {
    let setup = Setup::new();
    let _comparison = setup.compare();
    sleep(SWEEP_PERIOD - LIST_LAG / 2).await;
    let fresh = setup.placed("fresh").await;
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&fresh), [""; 0]);
    assert!(setup.cloud.runs(&fresh.allocation));
}

#[tokio::test(start_paused = true)]
async fn an_order_whose_start_is_in_flight_is_never_gone() {
    let setup = Setup::new();
    let in_flight = order("in-flight", "eu");
    setup.book.order(&in_flight);
    let _comparison = setup.compare();
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&in_flight), [""; 0]);
}

/// The broker is asked before and after the platforms: at the start, with an exact list, one check has to be enough.
#[tokio::test(start_paused = true)]
async fn an_order_that_changes_while_the_platforms_are_asked_is_not_gone() {
    let setup = Setup::new();
    setup.cloud.list_exactly();
    let (starting, ending, lost) =
        (order("starting", "eu"), setup.placed("ending").await, order("lost", "eu"));
    setup.book.order(&starting);
    setup.book.place(&lost);
    let _comparison = setup.compare();
    // The broker has been asked, and the platform not yet.
    sleep(ANSWER_TIME + LATENCY / 2).await;
    setup.cloud.vanish(&ending.allocation);
    setup.book.forget(&ending);
    // The platform has answered, and the broker is asked again.
    sleep(LATENCY / 2 + ANSWER_TIME / 2).await;
    setup.book.place(&starting);
    setup.cloud.start(&starting).await.unwrap();
    assert_eq!(setup.book.report(&lost).await, "was gone at the start");
    for order in [&starting, &ending] {
        assert_eq!(setup.book.reports(order), [""; 0], "{}", order.allocation);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cut_list_makes_no_server_gone_and_still_shows_strays() {
    let setup = Setup::new();
    let (lost, stray) = (order("lost", "eu"), order("stray", "eu"));
    setup.book.place(&lost);
    setup.cloud.start(&stray).await.unwrap();
    sleep(LIST_LAG).await;
    setup.cloud.cut_lists();
    let _comparison = setup.compare();
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&lost), [""; 0]);
    assert!(!setup.cloud.runs(&stray.allocation));
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_gives_no_list_is_asked_again_and_then_compared_as_at_the_start() {
    let setup = Setup::new();
    let (placed, stray) = (setup.placed("placed").await, order("stray", "eu"));
    setup.cloud.start(&stray).await.unwrap();
    setup.cloud.fail_lists(true);
    let _comparison = setup.compare();
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&placed), [""; 0]);
    assert!(setup.cloud.runs(&stray.allocation) && setup.settled() == 0);
    setup.cloud.fail_lists(false);
    sleep(SWEEP_PERIOD / 2).await;
    assert!(!setup.cloud.runs(&stray.allocation), "at once, and not after two sweeps");
    assert!(setup.cloud.runs(&placed.allocation) && setup.settled() == 1);
    // A later outage does no harm either.
    setup.cloud.fail_lists(true);
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&placed), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_ended_server_is_reported_in_its_platforms_words_and_cleared_away() {
    let setup = Setup::new();
    let crashed = setup.placed("crashed").await;
    let _comparison = setup.compare();
    sleep(SWEEP_PERIOD / 2).await;
    setup.cloud.crash(&crashed.allocation);
    assert_eq!(setup.book.report(&crashed).await, "exit status 3");
    assert!(setup.cloud.describe(&crashed.allocation).await.unwrap().is_some());
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.cloud.describe(&crashed.allocation).await.unwrap(), None);
    assert_eq!(setup.book.reports(&crashed).len(), 1);
}

/// The server of an order that ends stays on lists for a while, and is not stopped a second time.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_known_when_it_is_seen_again_is_left_alone() {
    let setup = Setup::new();
    let placed = setup.placed("placed").await;
    let _comparison = setup.compare();
    sleep(3 * SWEEP_PERIOD / 2).await;
    setup.book.forget(&placed);
    sleep(SWEEP_PERIOD).await;
    setup.book.place(&placed);
    sleep(SOME_SWEEPS).await;
    assert!(setup.cloud.runs(&placed.allocation));
    assert_eq!(setup.cloud.stops(), []);
}

#[tokio::test(start_paused = true)]
async fn a_stray_that_cannot_be_stopped_is_stopped_later() {
    let setup = Setup::new();
    let stray = order("stray", "eu");
    setup.cloud.start(&stray).await.unwrap();
    sleep(LIST_LAG).await;
    let _comparison = setup.compare();
    // The comparison has the list, and has begun to stop the stray.
    sleep(2 * ANSWER_TIME + LATENCY + LATENCY / 2).await;
    setup.cloud.fail_with(ErrorClass::Unreachable, "away");
    setup.cloud.fail_with(ErrorClass::Throttled { retry_after: Some(Duration::from_secs(10)) }, "busy");
    sleep(SWEEP_PERIOD / 2).await;
    assert!(!setup.cloud.runs(&stray.allocation));
}

/// While a platform is unreachable, rounds follow each other faster than a stray becomes old.
#[tokio::test(start_paused = true)]
async fn two_lists_in_a_short_time_do_not_condemn_a_server() {
    let setup = Setup::new();
    let (us, stray) = (Arc::new(Scripted::new("us")), order("stray", "eu"));
    us.fail_lists(true);
    let _comparison = setup.run(setup.comparison().with("us", us as _, fleets(["us"])));
    sleep(MOMENT).await;
    setup.cloud.start(&stray).await.unwrap();
    sleep(LIST_LAG + Duration::from_secs(20)).await;
    assert!(setup.cloud.runs(&stray.allocation));
    sleep(SWEEP_PERIOD).await;
    assert!(!setup.cloud.runs(&stray.allocation));
}

/// A fleet that moved to another platform, and one that was removed: their servers stay where they were.
#[tokio::test(start_paused = true)]
async fn a_server_on_another_platform_than_its_fleets_is_not_gone() {
    let setup = Setup::new();
    let us = Arc::new(Scripted::new("us"));
    let (moved, removed, lost) = (order("moved", "us"), order("removed", "gone"), order("lost", "gone"));
    // Both are on the first platform, whose allocator knows them without their fleets.
    for order in [&moved, &removed] {
        let here = StartOrder { fleet: FleetId::new("eu").unwrap(), ..order.clone() };
        setup.cloud.start(&here).await.unwrap();
    }
    [&moved, &removed, &lost].into_iter().for_each(|order| setup.book.place(order));
    sleep(LIST_LAG).await;
    us.fail_lists(true);
    let _comparison = setup.run(setup.comparison().with("us", Arc::clone(&us) as _, fleets(["us"])));
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&lost), [""; 0], "the platform that says nothing may have it");
    us.fail_lists(false);
    sleep(SOME_SWEEPS).await;
    assert_eq!(setup.book.reports(&lost), ["was gone at the start"]);
    for order in [&moved, &removed] {
        assert_eq!(setup.book.reports(order), [""; 0]);
        assert!(setup.cloud.runs(&order.allocation));
    }
}
