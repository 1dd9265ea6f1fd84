//! When a new server is ordered: `FastSchedule`, `ScheduleFrequencySeconds`, `DelayAllocationSeconds`.

use sortie_domain::broker::model::{FastSchedule, Fleet, Settings, SettingsChange};
use sortie_domain::broker::{Command, Effect, Event, Hints};
use sortie_domain::ids::MatchId;

use crate::table::{MS, Table, fleet, fleet_id, on, ready, request, secs, server, spec, with_properties};

/// A broker with one fleet and a delay that is not a multiple of the schedule's period.
fn table(fast_schedule: FastSchedule) -> Table {
    let settings = Settings { schedule_frequency: secs(10), delay_allocation: secs(25), ..on(fast_schedule) };
    Table::with(settings, vec![fleet("eu")])
}

/// The matches for which servers were ordered since `mark`.
fn ordered(table: &Table, mark: usize) -> Vec<Option<MatchId>> {
    table.orders_since(mark).into_iter().map(|(_, for_match)| for_match).collect()
}

/// Advances to the moment of an order: nothing before, one order for `id` then.
fn ordered_after(table: &mut Table, seconds: u64, id: &MatchId) {
    let mark = table.mark();
    table.advance(secs(seconds) - MS);
    assert_eq!(ordered(table, mark), []);
    table.advance(MS);
    assert_eq!(ordered(table, mark), [Some(id.clone())]);
}

#[test]
fn schedule_0_orders_on_the_schedule_after_the_delay() {
    let mut table = table(FastSchedule::OnSchedule);
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(ordered(&table, mark), []);
    // The schedule runs at 0, 10, 20 and 30 seconds; 25 have passed only at the last.
    ordered_after(&mut table, 30, &id);
    table.advance(secs(50));
    assert_eq!(ordered(&table, mark).len(), 1, "one server is enough");
}

#[test]
fn schedule_0_counts_each_match_for_itself() {
    let mut table = table(FastSchedule::OnSchedule);
    let first = table.submit("first", spec(&[]));
    table.advance(secs(6));
    let second = table.submit("second", spec(&[]));
    ordered_after(&mut table, 24, &first);
    ordered_after(&mut table, 10, &second);
}

#[test]
fn schedule_0_orders_nothing_for_a_match_that_an_existing_server_takes() {
    let mut table = table(FastSchedule::OnSchedule);
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    table.advance(secs(29));
    assert_eq!(table.poll(&server("host")), Some(id));
    table.advance(secs(10));
    assert_eq!(ordered(&table, mark), []);
}

#[test]
fn schedule_0_orders_at_no_other_occasion() {
    let mut table = table(FastSchedule::OnSchedule);
    let lost = table.order();
    let id = table.submit("m", spec(&[]));
    let mark = table.mark();
    table.start_failed(&lost);
    table.change(SettingsChange { wait: Some(secs(1)), ..SettingsChange::default() });
    table.submit("n", spec(&[]));
    table.advance(secs(29));
    assert_eq!(ordered(&table, mark), []);
    table.advance(secs(1));
    assert_eq!(ordered(&table, mark)[0], Some(id));
}

#[test]
fn schedule_0_reuses_a_server_on_its_way_whose_match_is_gone() {
    let mut table = table(FastSchedule::OnSchedule);
    let first = table.submit("first", spec(&[]));
    table.advance(secs(30));
    let order = table.allocation_for(&first).unwrap();
    table.ok(Command::CancelMatch { id: first });
    let second = table.submit("second", spec(&[]));
    let mark = table.mark();
    table.advance(secs(30));
    assert_eq!(ordered(&table, mark), []);
    assert_eq!(table.allocation_for(&second).map(|found| found.id), Some(order.id));
}

#[test]
fn schedule_1_orders_at_once_where_no_server_is_free() {
    let mut table = table(FastSchedule::UnlessFree);
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(ordered(&table, mark), [Some(id)]);
}

#[test]
fn schedule_1_gives_a_free_server_the_delay_first() {
    let mut table = table(FastSchedule::UnlessFree);
    let host = table.idle_server();
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(ordered(&table, mark), []);
    ordered_after(&mut table, 30, &id);
    assert_eq!(table.poll(&host), Some(id));
}

#[test]
fn schedule_1_does_not_order_for_a_match_that_the_free_server_takes() {
    let mut table = table(FastSchedule::UnlessFree);
    let host = table.idle_server();
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    table.advance(secs(25));
    assert_eq!(table.poll(&host), Some(id));
    table.advance(secs(25));
    assert_eq!(ordered(&table, mark), []);
}

#[test]
fn schedule_1_counts_on_a_free_server_for_one_match_only() {
    let mut table = table(FastSchedule::UnlessFree);
    table.idle_server();
    let mark = table.mark();
    table.submit("first", spec(&[]));
    let second = table.submit("second", spec(&[]));
    assert_eq!(ordered(&table, mark), [Some(second)]);
}

#[test]
fn schedule_1_counts_on_a_free_server_again_once_its_match_is_gone() {
    let mut table = table(FastSchedule::UnlessFree);
    table.idle_server();
    let mark = table.mark();
    let first = table.submit("first", spec(&[]));
    table.ok(Command::CancelMatch { id: first });
    table.submit("second", spec(&[]));
    assert_eq!(ordered(&table, mark), []);
}

#[test]
fn schedule_1_counts_only_on_servers_that_the_match_fits() {
    let mut table = table(FastSchedule::UnlessFree);
    let host = table.idle_server();
    table.request(&host, "MatchProperties.map == 'forest'", Hints::NONE);
    let mark = table.mark();
    let desert = table.submit("desert", with_properties(r#"{"map":"desert"}"#));
    table.submit("forest", with_properties(r#"{"map":"forest"}"#));
    assert_eq!(ordered(&table, mark), [Some(desert)], "its last requirements tell what it would take");
}

#[test]
fn schedule_1_does_not_count_on_busy_or_full_servers() {
    let mut table = table(FastSchedule::UnlessFree);
    let (busy, full) = (table.idle_server(), server("full"));
    let running = table.running("running", &busy);
    table.noted(ready(&busy, &running, "203.0.113.7:7777", Hints::NOT_FULL));
    table.request(&full, "", Hints::FULL);
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(ordered(&table, mark), [Some(id)]);
}

#[test]
fn schedule_1_orders_at_once_when_the_free_server_goes() {
    let mut table = table(FastSchedule::UnlessFree);
    let host = table.idle_server();
    let id = table.submit("m", spec(&[]));
    let mark = table.mark();
    table.ok(Command::DeallocateServer { server: host });
    assert_eq!(ordered(&table, mark), [Some(id)]);
}

#[test]
fn schedule_1_needs_no_new_server_where_one_waits() {
    let mut table = table(FastSchedule::UnlessFree);
    let call = table.kept(request(&server("host"), "", Hints::WILLING_TO_WAIT));
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.offered(call).map(|offer| offer.match_id), Some(id));
    assert_eq!(ordered(&table, mark), []);
}

#[test]
fn schedule_1_passes_an_order_on_when_another_server_takes_its_match() {
    let mut table = table(FastSchedule::UnlessFree);
    let first = table.submit("first", spec(&[]));
    let order = table.allocation_for(&first).unwrap();
    assert_eq!(table.poll(&server("stranger")), Some(first));
    let mark = table.mark();
    let second = table.submit("second", with_properties(r#"{"map":"x"}"#));
    // The stranger runs a match now, so it is not free; the server on its way will do.
    assert_eq!(table.kinds_since(mark), ["match.queued", "allocation.assigned"]);
    assert_eq!(table.allocation_for(&second).map(|found| found.id), Some(order.id));
}

#[test]
fn two_servers_that_take_each_others_match_leave_no_match_without_one() {
    let mut table = table(FastSchedule::UnlessFree);
    let first = table.submit("first", spec(&[]));
    let second = table.submit("second", spec(&[]));
    let orders = [&first, &second].map(|id| table.allocation_for(id).unwrap());
    let mark = table.mark();
    assert_eq!(table.poll(&orders[1].server), Some(first));
    assert_eq!(table.allocation_for(&second).map(|found| found.id), Some(orders[0].id.clone()));
    assert_eq!(table.poll(&orders[0].server), Some(second));
    assert_eq!(ordered(&table, mark), []);
}

#[test]
fn an_order_is_not_passed_on_to_a_match_that_is_over() {
    let mut table = table(FastSchedule::UnlessFree);
    let picky = table.submit("picky", spec(&[]));
    let idle = table.allocation_for(&picky).unwrap().server;
    // The fleet takes the match, but its server does not.
    assert_eq!(table.request(&idle, "MatchId != 'picky'", Hints::NONE), (None, Hints::NONE));
    table.ok(Command::CancelMatch { id: picky });
    table.request(&idle, "MatchId == 'nothing'", Hints::NONE);
    let next = table.submit("next", spec(&[]));
    let on_its_way = table.allocation_for(&next).unwrap();
    assert_eq!(table.poll(&idle), Some(next));
    // The server on its way has no match, so that the next match can have it.
    let last = table.submit("last", spec(&[]));
    assert_eq!(table.allocation_for(&last).map(|found| found.id), Some(on_its_way.id));
}

#[test]
fn an_order_is_not_passed_on_to_a_match_that_has_another() {
    let mut table = table(FastSchedule::UnlessFree);
    let picky = table.submit("picky", spec(&[]));
    let idle = table.allocation_for(&picky).unwrap().server;
    assert_eq!(table.request(&idle, "MatchId != 'picky'", Hints::NONE), (None, Hints::NONE));
    table.advance(secs(10));
    let second_order = table.allocation_for(&picky).expect("its server did not want it");
    table.request(&idle, "MatchId == 'nothing'", Hints::NONE);
    let next = table.submit("next", spec(&[]));
    assert_eq!(
        table.request(&idle, "MatchId == 'next'", Hints::NONE).0.map(|offer| offer.match_id),
        Some(next)
    );
    assert_eq!(table.allocation_for(&picky).map(|found| found.id), Some(second_order.id));
    assert_eq!(table.poll(&server("stranger")), Some(picky));
    assert!(
        table.allocations().iter().all(|order| order.for_match.is_none()),
        "they are not needed any more"
    );
}

#[test]
fn schedule_2_orders_one_server_for_every_match() {
    let mut table = table(FastSchedule::Always);
    table.idle_server();
    let mark = table.mark();
    let ids = ["a", "b", "c"].map(|id| table.submit(id, spec(&[])));
    assert_eq!(ordered(&table, mark), ids.map(Some));
    table.advance(secs(50));
    assert_eq!(ordered(&table, mark).len(), 3);
}

#[test]
fn schedule_2_does_not_reuse_a_server_that_was_ordered_for_another_match() {
    let mut table = table(FastSchedule::Always);
    let first = table.submit("first", spec(&[]));
    table.ok(Command::CancelMatch { id: first });
    let mark = table.mark();
    let second = table.submit("second", spec(&[]));
    assert_eq!(ordered(&table, mark), [Some(second)]);
}

#[test]
fn schedule_2_orders_a_server_also_for_a_match_that_a_waiting_one_takes() {
    let mut table = table(FastSchedule::Always);
    table.kept(request(&server("host"), "", Hints::WILLING_TO_WAIT));
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.state(&id), "picked_up");
    assert_eq!(ordered(&table, mark), [Some(id.clone())]);
    assert_eq!(table.allocation_for(&id), None, "the ordered server is for the next match");
}

#[test]
fn a_match_that_found_no_fleet_with_room_gets_a_server_as_soon_as_there_is_one() {
    for mode in [FastSchedule::UnlessFree, FastSchedule::Always] {
        let mut table = Table::with(on(mode), vec![Fleet { max: 1, ..fleet("eu") }]);
        let first = table.submit("first", spec(&[]));
        let order = table.allocation_for(&first).unwrap();
        let second = table.submit("second", spec(&[]));
        assert_eq!(table.allocation_for(&second), None);
        table.poll(&order.server);
        let mark = table.mark();
        table.exited(&order);
        // The returned match is the older one; the fleet, which has failed, backs off for a second.
        table.advance(secs(1));
        assert_eq!(ordered(&table, mark), [Some(first)]);
    }
}

#[test]
fn changed_settings_count_for_matches_in_the_queue() {
    let mut table = table(FastSchedule::OnSchedule);
    let id = table.submit("m", spec(&[]));
    table.advance(secs(1));
    let mark = table.mark();
    let at_once =
        SettingsChange { fast_schedule: Some(FastSchedule::UnlessFree), ..SettingsChange::default() };
    table.change(at_once);
    assert_eq!(ordered(&table, mark), [Some(id)]);

    let mut table = self::table(FastSchedule::OnSchedule);
    let id = table.submit("m", spec(&[]));
    table.advance(secs(1));
    table.change(SettingsChange {
        schedule_frequency: Some(secs(2)),
        delay_allocation: Some(secs(5)),
        ..SettingsChange::default()
    });
    // The schedule ran at 0 and continues at 2, 4 and 6 seconds.
    ordered_after(&mut table, 5, &id);
}

#[test]
fn without_a_delay_the_schedule_alone_decides() {
    let settings =
        Settings { delay_allocation: secs(0), schedule_frequency: secs(10), ..on(FastSchedule::OnSchedule) };
    let mut table = Table::with(settings, vec![fleet("eu")]);
    let first = table.submit("first", spec(&[]));
    assert!(table.allocation_for(&first).is_some(), "the schedule was due");
    table.advance(secs(1));
    let second = table.submit("second", spec(&[]));
    ordered_after(&mut table, 9, &second);
}

#[test]
fn an_order_says_for_which_match_and_from_which_fleet_it_is() {
    let mut table = table(FastSchedule::Always);
    let id = table.submit("m", spec(&[]));
    let Some(Event::AllocationOrdered { allocation, server, fleet, for_match }) =
        table.since(0).find(|event| matches!(event, Event::AllocationOrdered { .. })).cloned()
    else {
        panic!("nothing was ordered")
    };
    assert_eq!((fleet, for_match), (fleet_id("eu"), Some(id)));
    let start = Effect::Start { allocation, server, fleet: fleet_id("eu") };
    assert_eq!(table.effects, [start]);
}
