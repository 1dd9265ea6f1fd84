//! What every allocator has to do, whatever its platform: one suite, run against each of them.
//!
//! An adapter implements [`Platform`] over the real thing or over a fake of it, and asserts that [`conforms`] is `Ok`.
//! With a [`Script`] the fake meets faults too, in virtual time (`start_paused`).

mod faults;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use sortie_allocators::{Address, Allocator, ErrorClass, StartOrder};
use sortie_domain::ids::{AllocationId, FleetId, ServerId};
use sortie_engine::Clock;
use tokio::time::{interval, timeout};

use crate::scripted::CreateFault;

/// Maximum time for one rule; virtual if time is paused.
const RULE_TIME: Duration = Duration::from_secs(1200);
/// Time between two checks.
const LOOK: Duration = Duration::from_millis(20);

/// One platform under test.
#[async_trait::async_trait]
pub(crate) trait Platform: Sync {
    /// Its allocator, with a fleet `eu`.
    fn allocator(&self) -> Arc<dyn Allocator>;

    /// The allocator of another installation on the same platform, with a fleet `eu`.
    fn of_another_installation(&self) -> Arc<dyn Allocator>;

    /// The platform's clock.
    fn clock(&self) -> Arc<dyn Clock>;

    /// Servers of `allocation` that the platform runs right now, found without the allocator.
    async fn running(&self, allocation: &AllocationId) -> usize;

    /// The same for the other installation.
    async fn running_of_others(&self, allocation: &AllocationId) -> usize;

    /// The address of the server of `allocation`, found without the allocator; `None` if the platform does not tell.
    async fn address(&self, allocation: &AllocationId) -> Option<Address>;

    /// Ends the server of `allocation` as if it had crashed.
    async fn crash(&self, allocation: &AllocationId);

    /// The next end of a server that the adapter reports on its own.
    async fn reported_exit(&self) -> AllocationId;

    /// Faults to order, where the platform is a fake.
    fn script(&self) -> Option<&dyn Script> {
        None
    }
}

/// Faults of a fake platform.
pub(crate) trait Script: Sync {
    /// The next call that creates a server meets this fault; several may be queued.
    fn create_meets(&self, fault: CreateFault);

    /// The next call, whichever it is, fails and does nothing; several may be queued.
    fn call_fails(&self, class: ErrorClass);
}

/// Why a rule is broken.
type Verdict = Result<(), String>;

/// `Err` with this text unless the condition holds.
macro_rules! ensure {
    ($is:expr, $($text:tt)*) => {
        if !$is {
            return Err(format!($($text)*));
        }
    };
}
use ensure;

/// An order for a server of `fleet`, with ids made from `name`.
pub(crate) fn order(name: &str, fleet: &str) -> StartOrder {
    StartOrder {
        allocation: AllocationId::new(&format!("allocation-{name}")).unwrap(),
        server: ServerId::new(&format!("server-{name}")).unwrap(),
        fleet: FleetId::new(fleet).unwrap(),
    }
}

/// Checks every rule; returns those that `platform` breaks, and how.
pub(crate) async fn conforms(platform: &impl Platform) -> Result<(), Vec<(&'static str, String)>> {
    let mut broken = Vec::new();
    macro_rules! rules {
        ($($name:literal: $rule:expr,)*) => {
            $(let verdict = timeout(RULE_TIME, $rule).await;
            if let Err(problem) = verdict.unwrap_or_else(|_| Err("takes forever".to_owned())) {
                broken.push(($name, problem));
            })*
        };
    }
    rules! {
        "one order is one server": rules::one_order_is_one_server(platform),
        "orders do not mix": rules::orders_do_not_mix(platform),
        "stops can be repeated": rules::stops_can_be_repeated(platform),
        "a stop ends a start in flight": rules::a_stop_ends_a_start_in_flight(platform),
        "an unknown fleet is refused": rules::an_unknown_fleet_is_refused(platform),
        "a list has all and only ours": rules::a_list_has_all_and_only_ours(platform),
        "what runs is described": rules::what_runs_is_described(platform),
        "an exit is visible": rules::an_exit_is_visible(platform),
        "strays are stopped at the start": rules::strays_are_stopped_at_the_start(platform),
    }
    if let Some(script) = platform.script() {
        rules! {
            "a lost answer is one server": faults::a_lost_answer_is_one_server(platform, script),
            "a doubled call is one server": faults::a_doubled_call_is_one_server(platform, script),
            "a server that appears late is one server": faults::a_late_server_is_one_server(platform, script),
            "a start that is given up leaves nothing": faults::a_start_given_up_leaves_nothing(platform, script),
            "a platform that throttles is left alone": faults::throttling_is_respected(platform, script),
            "capacity may come back": faults::capacity_may_come_back(platform, script),
            "a sweep stops strays and spares fresh ones": faults::a_sweep_spares_fresh_servers(platform, script),
        }
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

/// Starts the server of `order`, which has to succeed.
async fn started(allocator: &dyn Allocator, order: &StartOrder) -> Verdict {
    allocator.start(order).await.map(drop).map_err(|error| format!("start of {}: {error}", order.allocation))
}

/// Stops the server of `order`, which has to succeed.
async fn stopped(allocator: &dyn Allocator, order: &StartOrder) -> Verdict {
    let stopped = allocator.stop(&order.allocation, &order.server).await;
    stopped.map_err(|error| format!("stop of {}: {error}", order.allocation))
}

/// Returns when `count` servers of the order run.
async fn running_is(platform: &impl Platform, order: &StartOrder, count: usize) {
    let mut looks = interval(LOOK);
    while platform.running(&order.allocation).await != count {
        looks.tick().await;
    }
}
