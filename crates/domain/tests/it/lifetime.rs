//! How old servers become, how they are replaced and dismissed, and when one that is gone may come back.

use sortie_domain::broker::model::{Allocation, Fleet, GoneCause, Settings};
use sortie_domain::broker::{AGAIN_AFTER, Command, Event, Hints, LEAVE_TIME, Reply};
use sortie_domain::ids::ServerId;
use sortie_domain::match_spec::MatchSpec;

use crate::table::{MS, Table, at, end, fleet, fleet_id, ready, request, secs, server, spec};

/// A lifetime of an hour, and matches of at most twenty minutes: no match for servers older than 40 minutes.
fn settings() -> Settings {
    Settings {
        server_max_lifetime: secs(3600),
        match_ready_time: secs(30),
        match_max_run_time: secs(20 * 60 - 30),
        ..Settings::default()
    }
}

const LAST_PICKUP: u64 = 40 * 60;

fn gone_since(table: &Table, mark: usize) -> Vec<(ServerId, GoneCause)> {
    let gone = table.since(mark).filter_map(|event| match event {
        Event::ServerGone { server, cause } => Some((server.clone(), *cause)),
        _ => None,
    });
    gone.collect()
}

#[test]
fn a_server_gets_no_match_that_could_outlast_it() {
    let mut table = Table::with(settings(), Vec::new());
    let (host, other) = (server("host"), server("other"));
    table.poll(&host);
    table.advance(secs(LAST_PICKUP) - MS);
    let id = table.running("at the last moment", &host);
    table.advance(MS);
    let late = table.submit("late", spec(&[]));
    assert_eq!(table.sent_away(&host), Hints::NONE, "it has a match to end");
    assert_eq!((table.state(&late), table.server_state(&host)), ("queued".into(), "draining"));
    assert_eq!(table.poll(&other), Some(late));
    table.advance(secs(20 * 60 - 30) - MS - MS);
    assert_eq!(table.state(&id), "ready");
    table.advance(MS);
    assert_eq!(table.state(&id), "ended: max_run_time", "by its own limit");
    assert_eq!(table.server_state(&host), "gone");
}

#[test]
fn a_server_whose_platform_stops_it_gets_no_match_that_could_last_until_then() {
    // Half of the lifetime of all servers, so no match for those older than 10 minutes.
    let soon = Fleet { max_run_time: Some(secs(1800)), ..fleet("short") };
    let late = Fleet { max_run_time: Some(secs(7200)), ..fleet("long") };
    let mut table = Table::with(settings(), vec![late, soon]);
    let servers = ["short", "long"].map(|name| {
        let id = table.submit(name, MatchSpec { fleet: Some(fleet_id(name)), ..spec(&[]) });
        let server = table.allocation_for(&id).unwrap().server;
        assert_eq!(table.poll(&server), Some(id.clone()));
        table.ready(&server, &id);
        (server, id)
    });
    let [(short, _), (long, of_long)] = servers;
    table.end(&long, &of_long);
    let states = |table: &Table| [&short, &long].map(|server| table.server_state(server));
    table.advance(secs(600) - MS);
    assert_eq!(states(&table), ["available", "available"]);
    table.advance(MS);
    assert_eq!(states(&table), ["draining", "available"]);
    table.restart();
    assert_eq!(states(&table), ["draining", "available"]);
    table.advance(secs(LAST_PICKUP - 600) - MS);
    assert_eq!(table.server_state(&long), "available");
    table.advance(MS);
    assert_eq!(table.server_state(&long), "gone", "its platform would let it run longer");
}

#[test]
fn an_old_server_that_waits_is_told_to_exit_and_one_with_a_match_after_its_end() {
    let mut table = Table::with(settings(), vec![fleet("eu")]);
    let (idle, busy) = (table.order().server, table.order().server);
    table.poll(&busy);
    table.poll(&idle);
    table.advance(secs(LAST_PICKUP - 10));
    let id = table.running("m", &busy);
    let call = table.kept(request(&idle, "", Hints::WILLING_TO_WAIT));
    let mark = table.mark();
    table.advance(secs(10));
    let told = Reply::Requested { offer: None, more: Vec::new(), hints: Hints::SHUTDOWN };
    assert_eq!(table.answer(call), Some(Ok(told)));
    assert_eq!(gone_since(&table, mark), [(idle.clone(), GoneCause::Aged)]);
    assert_eq!(table.stops(&idle), 0, "it exits on its own");
    table.advance(LEAVE_TIME);
    assert_eq!(table.stops(&idle), 1, "or is stopped");
    assert_eq!(table.state(&id), "ready");
    assert_eq!(table.end(&busy, &id), Hints::SHUTDOWN);
    assert_eq!(table.server_state(&busy), "gone");
}

#[test]
fn matches_outlive_a_lifetime_that_is_shorter_than_they_are() {
    let short = Settings { server_max_lifetime: secs(600), ..Settings::default() };
    let mut table = Table::with(short, Vec::new());
    let (host, late) = (server("host"), server("late"));
    table.poll(&late);
    let id = table.running("m", &host);
    table.advance(secs(300) - MS);
    assert_eq!((table.server_state(&host), table.server_state(&late)), ("available", "available"));
    table.advance(MS);
    assert_eq!((table.server_state(&host), table.server_state(&late)), ("draining", "gone"), "half of it");
    table.advance(secs(7200) - secs(300) - MS);
    assert_eq!(table.state(&id), "ready");
    table.advance(MS);
    assert_eq!(table.state(&id), "ended: max_run_time");
}

#[test]
fn the_defaults_leave_time_for_the_longest_match() {
    let settings = Settings::default();
    assert!(settings.server_max_lifetime > settings.longest_match());
    assert_eq!(settings.last_pickup_age(None), Some(secs(24 * 3600 - 7230)));
    let literal = Settings { lifetime_ends_matches: true, ..settings };
    assert_eq!(literal.last_pickup_age(None), None);
    assert_eq!(literal.replacement_stages(&fleet("eu")).next(), None);
}

/// How many servers of the one fleet are idle.
fn idle(table: &Table) -> usize {
    table.broker.fleets(None, 1).items[0].idle
}

#[test]
fn a_warm_server_is_replaced_before_it_is_too_old() {
    let mut table = Table::with(settings(), vec![Fleet { warm: 2, max: 4, ..fleet("eu") }]);
    let old: Vec<_> = table.allocations().into_iter().map(|order| order.server).collect();
    old.iter().for_each(|server| drop(table.poll(server)));
    // The fleet's ready deadline is a minute.
    table.advance(secs(LAST_PICKUP - 60) - MS);
    assert_eq!(table.allocations().len(), 2);
    let mark = table.mark();
    table.advance(MS);
    assert_eq!(table.orders_since(mark), [("eu".into(), None), ("eu".into(), None)]);
    assert_eq!((gone_since(&table, mark), idle(&table)), (vec![], 2), "they stay until others are ready");
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.poll(&old[0]), Some(id), "and take matches like any other");
    let new = table.allocations().into_iter().map(|order| order.server).filter(|new| !old.contains(new));
    let new: Vec<_> = new.collect();
    assert_eq!((table.poll(&new[0]), idle(&table)), (None, 2));
    assert_eq!(table.poll(&new[1]), None);
    assert_eq!(gone_since(&table, mark), [(old[1].clone(), GoneCause::Aged)]);
    assert_eq!(idle(&table), 2);
    assert_eq!(table.sent_away(&old[1]), Hints::SHUTDOWN);
}

#[test]
fn a_replacement_is_not_surplus_while_the_old_server_is_still_there() {
    let mut table = Table::with(settings(), vec![Fleet { warm: 1, max: 3, ..fleet("eu") }]);
    let old = table.allocations().remove(0).server;
    table.poll(&old);
    table.advance(secs(LAST_PICKUP - 60));
    let mut servers = table.allocations().into_iter().map(|order| order.server);
    let new = servers.find(|server| *server != old).unwrap();
    let mark = table.mark();
    table.kept(request(&new, "", Hints::WILLING_TO_WAIT.with(Hints::WILLING_TO_SHUTDOWN)));
    assert_eq!(gone_since(&table, mark), [(old, GoneCause::Aged)]);
    assert_eq!((table.server_state(&new), idle(&table)), ("available", 1));
    table.advance(secs(60));
    assert_eq!(table.orders_since(mark), []);
}

#[test]
fn a_pool_without_room_for_replacements_is_filled_up_again_when_its_servers_are_too_old() {
    let mut table = Table::with(settings(), vec![Fleet { warm: 1, max: 1, ..fleet("eu") }]);
    let old = table.allocations().remove(0);
    table.poll(&old.server);
    table.advance(secs(LAST_PICKUP) - MS);
    assert_eq!((table.server_state(&old.server), idle(&table)), ("available", 1));
    table.advance(MS);
    assert_eq!(table.sent_away(&old.server), Hints::SHUTDOWN);
    table.exited(&old);
    assert_eq!(table.allocations().len(), 1, "another one is ordered");
}

/// Servers of the fleet, which is then full, all of the same age.
fn pool(fleet: Fleet) -> (Table, Vec<Allocation>) {
    let mut table = Table::with(settings(), vec![fleet]);
    let orders = table.allocations();
    orders.iter().for_each(|order| drop(table.poll(&order.server)));
    (table, orders)
}

/// Servers without a match that were ordered since; each calls, and what is replaced by it exits.
fn replace(table: &mut Table, known: &mut Vec<Allocation>) {
    let new = table.allocations().into_iter().filter(|order| known.iter().all(|known| known.id != order.id));
    let new: Vec<_> = new.collect();
    for order in new {
        assert_eq!(table.poll(&order.server), None);
        known.push(order);
    }
    let gone: Vec<_> = known.iter().filter(|order| table.server_state(&order.server) == "gone").collect();
    gone.into_iter().for_each(|order| table.exited(order));
}

#[test]
fn servers_of_one_age_are_replaced_in_turn_if_there_is_room_for_one_replacement() {
    let (mut table, mut known) = pool(Fleet { warm: 4, max: 5, ..fleet("eu") });
    // A round takes at most the ready deadline of a minute and 30 seconds to exit; two have to be replaced while two
    // rounds remain for the others, the third while one remains.
    let starts = [60 + 3 * 90, 60 + 3 * 90, 60 + 90, 60].map(|ahead| LAST_PICKUP - ahead);
    let mut now = 0;
    for (at, left) in starts.into_iter().zip([3, 2, 1, 0]) {
        if at > now {
            table.advance(secs(at - now) - MS);
            assert_eq!((table.allocations().len(), idle(&table)), (4, 4), "not before {at} s");
            table.advance(MS);
            now = at;
        }
        assert_eq!((table.allocations().len(), idle(&table)), (5, 4), "{at} s");
        replace(&mut table, &mut known);
        let old = known[..4].iter().filter(|order| table.server_state(&order.server) == "available");
        assert_eq!((old.count(), idle(&table)), (left, 4), "{at} s");
    }
    table.advance(secs(3600 - now));
    assert_eq!(idle(&table), 4);
}

#[test]
fn one_server_at_a_time_is_missing_in_a_pool_without_room_for_replacements() {
    let (mut table, mut known) = pool(Fleet { warm: 3, max: 3, ..fleet("eu") });
    let at = LAST_PICKUP - 3 * 90;
    table.advance(secs(at) - MS);
    assert_eq!(idle(&table), 3);
    table.advance(MS);
    assert_eq!((table.allocations().len(), idle(&table)), (3, 2), "one goes before there is another one");
    table.advance(secs(20));
    assert_eq!(idle(&table), 2, "no other one follows it before it is replaced");
    replace(&mut table, &mut known);
    assert_eq!((table.allocations().len(), idle(&table)), (3, 2), "the one that exited is replaced");
    replace(&mut table, &mut known);
    assert_eq!(idle(&table), 3, "two old ones are left, and time for one round is enough");
    table.advance(secs(2 * 90 - 20) - MS);
    assert_eq!(idle(&table), 3);
    table.advance(MS);
    assert_eq!(idle(&table), 2);
    replace(&mut table, &mut known);
    replace(&mut table, &mut known);
    table.advance(secs(90) - MS);
    assert_eq!(idle(&table), 3, "the last one stays until it is too old");
    table.advance(MS);
    assert_eq!(idle(&table), 2);
}

#[test]
fn matches_that_take_the_room_for_replacements_do_not_empty_the_pool() {
    let (mut table, mut known) = pool(Fleet { warm: 2, max: 3, ..fleet("eu") });
    table.advance(secs(LAST_PICKUP - 600));
    let busy = known[0].server.clone();
    table.running("m", &busy);
    replace(&mut table, &mut known);
    assert_eq!((table.allocations().len(), idle(&table)), (3, 2));
    // The new server is young, so the old one has until its ready deadline before it is too old.
    table.advance(secs(540));
    assert_eq!(idle(&table), 1, "there is no room for its replacement");
    assert_eq!(table.server_state(&busy), "available");
    replace(&mut table, &mut known);
    replace(&mut table, &mut known);
    assert_eq!(idle(&table), 2);
}

#[test]
fn servers_of_a_short_life_are_not_replaced_again_and_again() {
    let short = Settings { server_max_lifetime: secs(60), ..Settings::default() };
    let mut table =
        Table::with(short, vec![Fleet { warm: 1, max: 10, ready_deadline: secs(60), ..fleet("eu") }]);
    let old = table.allocations().remove(0).server;
    table.poll(&old);
    table.advance(secs(15) - MS);
    assert_eq!(table.allocations().len(), 1);
    table.advance(MS);
    assert_eq!(table.allocations().len(), 2, "half of the time in which it takes matches has passed");
}

#[test]
fn a_server_of_no_fleet_that_was_too_old_comes_back_as_a_new_one() {
    let mut table = Table::with(settings(), Vec::new());
    let host = server("bare metal");
    table.poll(&host);
    table.advance(secs(LAST_PICKUP));
    assert_eq!(table.server_state(&host), "gone");
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
    assert_eq!(table.poll(&host), None, "it was started again");
    assert_eq!(table.server_state(&host), "available");
    let id = table.running("m", &host);
    table.advance(secs(LAST_PICKUP));
    assert_eq!(table.end(&host, &id), Hints::SHUTDOWN);
    assert_eq!(table.poll(&host), None, "it was told with the answer to its last call");
}

#[test]
fn who_was_told_to_exit_while_it_waited_comes_back_at_once() {
    let mut table = Table::with(settings(), Vec::new());
    let host = server("bare metal");
    table.poll(&host);
    table.advance(secs(LAST_PICKUP - 1));
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    table.advance(secs(1));
    let told = Reply::Requested { offer: None, more: Vec::new(), hints: Hints::SHUTDOWN };
    assert_eq!(table.answer(call), Some(Ok(told)));
    assert_eq!(table.poll(&host), None);
}

#[test]
fn a_restart_does_not_keep_a_server_of_no_fleet_away() {
    let mut table = Table::with(settings(), Vec::new());
    let host = server("bare metal");
    table.poll(&host);
    table.advance(secs(LAST_PICKUP));
    table.restart();
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN, "it may not have heard that");
    assert_eq!(table.poll(&host), None);
}

#[test]
fn suspicion_of_a_server_of_no_fleet_ends_by_time() {
    let mut table = Table::new();
    let host = server("bare metal");
    let id = table.picked_up("m", &host);
    table.advance(secs(30));
    assert_eq!(table.state(&id), "failed: ready_timeout");
    for _ in 0..2 {
        assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
        table.advance(secs(29));
        table.restart();
    }
    table.advance(secs(2) - MS);
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
    table.advance(MS);
    assert_eq!(table.poll(&host), None, "a minute later it is a server like any other");
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn the_id_of_an_ordered_server_never_comes_back() {
    let mut table = Table::with(settings(), vec![fleet("eu")]);
    let order = table.order();
    table.poll(&order.server);
    table.advance(secs(LAST_PICKUP));
    table.exited(&order);
    table.restart();
    table.advance(secs(3600));
    for _ in 0..2 {
        assert_eq!(table.sent_away(&order.server), Hints::SHUTDOWN);
    }
}

#[test]
fn a_server_with_a_match_is_not_told_to_exit() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let (stuck, second, third) =
        (table.picked_up("first", &host), table.picked_up("second", &host), table.picked_up("third", &host));
    for id in [&second, &third] {
        table.ready(&host, id);
    }
    table.advance(AGAIN_AFTER);
    assert_eq!(table.poll(&host).as_ref(), Some(&stuck), "it may not have heard about it");
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    table.advance(secs(30) - AGAIN_AFTER - MS);
    assert!(table.answer(call).is_none());
    table.advance(MS);
    assert_eq!(
        (table.state(&stuck), table.server_state(&host)),
        ("failed: ready_timeout".into(), "draining")
    );
    let nothing = |hints| Reply::Requested { offer: None, more: Vec::new(), hints };
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::NONE))));
    assert_eq!(table.end(&host, &second), Hints::NONE, "it has the third one");
    let late = table.refused("match_not_held", ready(&host, &stuck, "203.0.113.7:7777", Hints::NONE));
    assert_eq!(late.hints(), Hints::NONE);
    assert_eq!(table.noted(ready(&host, &third, &at("203.0.113.7:7777").details, Hints::NONE)), Hints::NONE);
    assert_eq!(table.sent_away(&host), Hints::NONE);
    // A server that is willing to wait is held until it has no match left, instead of asking repeatedly.
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    table.submit("another", spec(&[]));
    assert!(table.answer(call).is_none());
    assert_eq!(table.end(&host, &third), Hints::SHUTDOWN);
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::SHUTDOWN))));
    assert_eq!(table.server_state(&host), "gone");
}

#[test]
fn a_draining_server_goes_when_its_last_match_comes_back() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let stuck = table.picked_up("stuck", &host);
    table.advance(secs(10));
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.request(&host, "", Hints::NONE).0.map(|offer| offer.match_id).as_ref(), Some(&stuck));
    let (offer, hints) = table.request(&host, "", Hints::NONE);
    assert_eq!(offer.as_ref().map(|offer| &offer.match_id), Some(&id));
    // The deadline of the other match comes before it is known that nobody has heard about this one.
    table.advance(secs(20));
    assert_eq!(
        (table.state(&stuck), table.server_state(&host)),
        ("failed: ready_timeout".into(), "draining")
    );
    table.undelivered(Reply::Requested { offer, more: Vec::new(), hints });
    assert_eq!((table.state(&id), table.server_state(&host)), ("queued".into(), "gone"));
    assert_eq!(table.stops(&host), 1);
}

#[test]
fn no_server_is_ordered_for_a_match_that_comes_back_too_late() {
    let settings = Settings { match_pickup_time: secs(20), ..Settings::default() };
    let mut table = Table::with(settings, vec![fleet("eu")]);
    let order = table.order();
    let id = table.submit("m", spec(&[]));
    table.advance(secs(19));
    assert_eq!(table.poll(&order.server), Some(id.clone()));
    let other = table.submit("other", spec(&[]));
    table.advance(secs(1));
    let mark = table.mark();
    table.exited(&order);
    assert_eq!(table.orders_since(mark), []);
    table.advance(MS);
    assert_eq!(table.state(&id), "failed: pickup_timeout");
    assert!(table.allocation_for(&other).is_some());
}

#[test]
fn a_match_that_comes_back_too_late_goes_to_a_server_that_waits() {
    let settings = Settings { match_pickup_time: secs(20), ..Settings::default() };
    let mut table = Table::with(settings, Vec::new());
    let host = server("host");
    let id = table.submit("m", spec(&[]));
    let (offer, hints) = table.request(&host, "", Hints::NONE);
    table.advance(secs(20));
    let call = table.kept(request(&server("other"), "", Hints::WILLING_TO_WAIT));
    table.undelivered(Reply::Requested { offer, more: Vec::new(), hints });
    assert_eq!(table.offered(call).map(|offer| offer.match_id), Some(id));
}

#[test]
fn a_server_that_exits_with_its_calls_waiting_is_told_so_once() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    table.poll(&order.server);
    let id = table.running("m", &order.server);
    let call = table.kept(request(&order.server, "", Hints::WILLING_TO_WAIT));
    table.noted(end(&order.server, &id, Hints::SHUTDOWN));
    let told = Reply::Requested { offer: None, more: Vec::new(), hints: Hints::SHUTDOWN };
    assert_eq!(table.answer(call), Some(Ok(told)));
    table.ok(Command::SubmitMatch { id: None, spec: spec(&[]) });
}
