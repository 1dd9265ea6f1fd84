//! Fleets: which one is asked for a server, how many servers it may run, and the consequences of failures.

use std::time::Duration;

use sortie_domain::broker::model::{Fleet, Settings, SettingsChange};
use sortie_domain::broker::{Command, FIRST_BACKOFF, Hints, MAX_BACKOFF, Refusal};

use crate::table::{MS, Table, bound_to, fleet, game, secs, spec, submit, with_properties};

fn configure(fleets: Vec<Fleet>) -> Command {
    Command::Configure { settings: Settings::default(), fleets }
}

fn fleets_of(orders: &[(String, Option<sortie_domain::ids::MatchId>)]) -> Vec<&str> {
    orders.iter().map(|(fleet, _)| fleet.as_str()).collect()
}

#[test]
fn a_fleet_never_runs_more_servers_than_its_maximum() {
    let mut table = Table::with_fleets(vec![Fleet { max: 2, ..fleet("eu") }]);
    let ids = ["a", "b", "c"].map(|id| table.submit(id, spec(&[])));
    assert_eq!(table.allocations().len(), 2);
    assert_eq!(table.allocation_for(&ids[2]), None);
    // A server that is leaving, or being stopped, still runs.
    let first = table.allocation_for(&ids[0]).unwrap();
    table.ok(Command::DeallocateServer { server: first.server.clone() });
    assert_eq!((table.allocation_state(&first.id), table.allocation_for(&ids[2])), ("stopping", None));
    assert_eq!(table.allocations().len(), 2);
    table.stopped(&first);
    assert_eq!(table.allocations().len(), 2);
    assert_eq!(table.allocation_for(&ids[0]).map(|order| order.state.name()), Some("ordered"));
}

#[test]
fn a_younger_match_does_not_wait_for_an_older_one_that_no_open_fleet_can_serve() {
    let map = |name: &str| format!("MatchProperties.map == '{name}'");
    let mut table = Table::with_fleets(vec![
        Fleet { requirements: map("forest"), max: 1, ..fleet("forest") },
        Fleet { requirements: map("desert"), max: 1, ..fleet("desert") },
    ]);
    let forest = || with_properties(r#"{"map":"forest"}"#);
    let desert = || with_properties(r#"{"map":"desert"}"#);
    table.submit("first forest", forest());
    let first_desert = table.submit("first desert", desert());
    let next_forest = table.submit("next forest", forest());
    let next_desert = table.submit("next desert", desert());
    let order = table.allocation_for(&first_desert).unwrap();
    table.ok(Command::CancelMatch { id: first_desert });
    table.ok(Command::DeallocateServer { server: order.server.clone() });
    table.stopped(&order);
    assert_eq!(table.allocation_for(&next_forest), None, "its fleet is at its maximum");
    assert!(table.allocation_for(&next_desert).is_some(), "its fleet has room");
}

#[test]
fn fleets_are_tried_in_order_of_preference_then_of_id() {
    let mut table = Table::with_fleets(vec![
        Fleet { preference: 2, max: 1, ..fleet("a") },
        Fleet { preference: 1, max: 1, ..fleet("c") },
        Fleet { preference: 1, max: 1, ..fleet("b") },
        Fleet { preference: -1, max: 1, ..fleet("d") },
    ]);
    let mark = table.mark();
    for id in ["1", "2", "3", "4", "5"] {
        table.submit(id, spec(&[]));
    }
    assert_eq!(fleets_of(&table.orders_since(mark)), ["d", "b", "c", "a"]);
}

#[test]
fn a_fleet_is_asked_only_for_matches_that_fit_it() {
    let forest = Fleet { requirements: "MatchProperties.map == 'forest'".into(), ..fleet("a") };
    let mut table = Table::with_fleets(vec![forest, Fleet { preference: 1, ..fleet("b") }]);
    let mark = table.mark();
    table.submit("f", with_properties(r#"{"map":"forest"}"#));
    table.submit("d", with_properties(r#"{"map":"desert"}"#));
    assert_eq!(fleets_of(&table.orders_since(mark)), ["a", "b"]);
}

#[test]
fn the_warm_pool_is_filled_at_once_and_kept_full() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 2, max: 4, ..fleet("eu") }]);
    let orders = table.allocations();
    assert_eq!(orders.len(), 2);
    for order in &orders {
        assert_eq!(table.poll(&order.server), None);
    }
    table.advance(secs(60));
    assert_eq!(table.allocations().len(), 2, "two idle ones are enough");

    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.orders_since(mark), [], "a free server is expected to take it");
    assert_eq!(table.poll(&orders[0].server), Some(id));
    assert_eq!(table.orders_since(mark), [("eu".into(), None)], "another one takes its place");
    let replacement = table.allocations().into_iter().find(|order| order.state.is_pending()).unwrap();
    table.start_failed(&replacement);
    table.advance(FIRST_BACKOFF);
    assert_eq!(table.orders_since(mark).len(), 2, "and again when that one failed");
}

#[test]
fn the_warm_pool_ends_at_the_maximum() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 2, max: 2, ..fleet("eu") }]);
    let first = table.allocations().remove(0);
    table.poll(&first.server);
    table.picked_up("m", &first.server);
    assert_eq!(table.allocations().len(), 2);
    table.refused("invalid_field", configure(vec![Fleet { warm: 3, max: 2, ..fleet("eu") }]));
}

#[test]
fn a_warm_server_that_ends_its_match_makes_its_replacement_surplus() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let first = table.allocations().remove(0).server;
    table.poll(&first);
    let id = table.running("m", &first);
    let second = table.allocations().into_iter().find(|order| order.state.is_pending()).unwrap().server;
    table.poll(&second);
    assert_eq!(table.end(&first, &id), Hints::NONE);
    assert_eq!(table.request(&second, "", Hints::WILLING_TO_SHUTDOWN).1, Hints::SHUTDOWN);
    assert_eq!(table.request(&first, "", Hints::WILLING_TO_SHUTDOWN).1, Hints::NONE);
}

#[test]
fn when_one_fleet_fails_the_next_is_asked() {
    let mut table = Table::with_fleets(vec![fleet("a"), Fleet { preference: 1, ..fleet("b") }]);
    let id = table.submit("m", spec(&[]));
    let first = table.allocation_for(&id).unwrap();
    let mark = table.mark();
    table.start_failed(&first);
    assert_eq!(table.orders_since(mark), [("b".into(), Some(id.clone()))], "at once");
    assert_eq!(table.server_state(&first.server), "gone");
    assert_eq!(table.health("a").last_error.as_deref(), Some("no capacity"));
    assert_eq!(table.allocations().len(), 1);
}

#[test]
fn when_a_fleets_server_is_not_heard_of_the_next_fleet_is_asked() {
    let mut table = Table::with_fleets(vec![
        Fleet { ready_deadline: secs(20), ..fleet("a") },
        Fleet { preference: 1, ..fleet("b") },
    ]);
    let id = table.submit("m", spec(&[]));
    let mark = table.mark();
    table.advance(secs(20) - MS);
    assert_eq!(table.orders_since(mark), []);
    table.advance(MS);
    assert_eq!(table.orders_since(mark), [("b".into(), Some(id))]);
}

#[test]
fn a_failing_fleet_is_left_alone_twice_as_long_each_time() {
    let settings = Settings { match_pickup_time: secs(3600), ..Settings::default() };
    let mut table = Table::with(settings, vec![fleet("eu")]);
    let id = table.submit("m", spec(&[]));
    let mut expected = FIRST_BACKOFF;
    for failures in 1..10 {
        let order = table.allocation_for(&id).expect("ordered again");
        table.start_failed(&order);
        let health = table.health("eu");
        assert_eq!((health.failures, health.backoff_until.since(table.now())), (failures, expected));
        table.advance(expected - MS);
        assert_eq!(table.allocation_for(&id), None);
        table.advance(MS);
        expected = (expected * 2).min(MAX_BACKOFF);
    }
    assert_eq!(expected, Duration::from_secs(60));
}

#[test]
fn a_server_that_works_clears_its_fleet() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", spec(&[]));
    for backoff in [secs(1), secs(2)] {
        table.start_failed(&table.allocation_for(&id).unwrap());
        table.advance(backoff);
    }
    let order = table.allocation_for(&id).unwrap();
    table.started(&order);
    assert_eq!(table.health("eu").failures, 2, "starting is not enough");
    assert_eq!(table.poll(&order.server), Some(id.clone()));
    assert_eq!(table.health("eu").failures, 2, "nor is asking for a match");
    table.ready(&order.server, &id);
    assert_eq!(table.health("eu"), Default::default());
}

#[test]
fn an_order_of_an_administrator_says_why_no_fleet_can_serve_it() {
    let mut table = Table::with_fleets(vec![
        Fleet { max: 1, ..fleet("full") },
        Fleet { preference: 1, ..fleet("failing") },
        Fleet { preference: 2, requirements: "MatchId == 'x'".into(), ..fleet("other") },
    ]);
    table.submit("1", spec(&[]));
    table.submit("2", spec(&[]));
    let failing = table.allocations().into_iter().find(|order| order.fleet.as_str() == "failing").unwrap();
    table.start_failed(&failing);
    let refusal = table.refused("no_fleet", Command::AllocateServer { id: None, spec: Some(spec(&["ann"])) });
    let Refusal::NoFleet { why } = &refusal else { panic!("{refusal}") };
    let why: Vec<_> = why.iter().map(|(fleet, reason)| (fleet.as_str(), *reason)).collect();
    assert_eq!(
        why,
        [
            ("failing", "failed and backs off"),
            ("full", "runs its maximum of servers"),
            ("other", "does not fit the match"),
        ]
    );
}

#[test]
fn a_removed_fleet_takes_its_servers_and_its_matches_with_it() {
    let mut table = Table::with_fleets(vec![fleet("eu"), Fleet { preference: 1, ..fleet("us") }]);
    let (host, pending) = (table.idle_server(), table.order());
    let running = table.running("running", &host);
    let free = table.submit("free", spec(&[]));
    let bound = table.submit("bound", bound_to("eu"));
    table.done(configure(vec![Fleet { preference: 1, ..fleet("us") }]));
    assert_eq!(table.state(&running), "failed: fleet_removed");
    assert_eq!(table.state(&bound), "failed: fleet_removed");
    assert_eq!((table.server_state(&host), table.server_state(&pending.server)), ("gone", "gone"));
    assert_eq!((table.stops(&host), table.stops(&pending.server)), (1, 1));
    // A match that is not bound to a fleet gets its server from another one.
    assert_eq!(table.state(&free), "queued");
    assert_eq!(table.allocation_for(&free).map(|order| order.fleet.to_string()), Some("us".into()));
    table.refused("fleet_not_found", submit(&game("n"), bound_to("eu")));
}

#[test]
fn the_same_configuration_again_changes_nothing() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    table.change(SettingsChange { match_ready_time: Some(secs(7)), ..SettingsChange::default() });
    let mark = table.mark();
    table.done(configure(vec![fleet("eu")]));
    assert_eq!(table.kinds_since(mark), [""; 0]);
    assert_eq!(table.broker.settings().match_ready_time, secs(7), "changes at run time stay");
    table.restart();
    table.done(configure(vec![fleet("eu")]));
    assert_eq!(table.broker.settings().match_ready_time, secs(7), "after a restart too");

    table.done(configure(vec![Fleet { max: 11, ..fleet("eu") }]));
    assert_eq!(table.broker.settings(), &Settings::default(), "an edited file is applied as it is written");
}

#[test]
fn a_changed_fleet_keeps_its_servers_and_counts_by_its_new_limits() {
    let mut table = Table::with_fleets(vec![Fleet { max: 1, ..fleet("eu") }]);
    let host = table.idle_server();
    let running = table.running("running", &host);
    let queued = table.submit("queued", spec(&[]));
    assert_eq!(table.allocation_for(&queued), None);
    table.done(configure(vec![Fleet { max: 2, ..fleet("eu") }]));
    assert!(table.allocation_for(&queued).is_some());
    assert_eq!(table.state(&running), "ready");
    table.done(configure(vec![Fleet { max: 1, ..fleet("eu") }]));
    assert_eq!(table.allocations().len(), 2, "a lower maximum stops no running server");
}

#[test]
fn fleets_are_listed_with_what_runs_of_them() {
    let mut table = Table::with_fleets(vec![fleet("eu"), fleet("us")]);
    let (idle, busy) = (table.idle_server(), table.idle_server());
    table.order();
    table.running("m", &busy);
    let page = table.broker.fleets(None, 1);
    assert!(page.more);
    let eu = &page.items[0];
    assert_eq!((eu.fleet.id.as_str(), eu.live, eu.pending, eu.idle), ("eu", 3, 1, 1));
    let rest = table.broker.fleets(Some(&eu.fleet.id), 10);
    assert_eq!((rest.items[0].fleet.id.as_str(), rest.items[0].live, rest.more), ("us", 0, false));
    assert_eq!(table.server_state(&idle), "available");
}

#[test]
fn a_fleet_given_twice_is_refused() {
    let mut table = Table::new();
    let refusal = table.refused("invalid_field", configure(vec![fleet("eu"), fleet("us"), fleet("eu")]));
    assert_eq!(refusal.to_string(), "fleets: eu is listed twice");
}
