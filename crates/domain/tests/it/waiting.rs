//! Servers that would rather wait for a match than ask again (`WILLING_TO_WAIT`).

use sortie_domain::broker::model::{Fleet, SettingsChange};
use sortie_domain::broker::{Command, Hints, MAX_OFFERS, MAX_REQUEST_WAIT, Offer, Reply};
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::machine::CallId;
use std::time::Duration;

use crate::table::{MS, Table, bound_to, fleet, ready, request, secs, server, spec, with_properties};

const WAIT: Hints = Hints::WILLING_TO_WAIT;

/// A server begins to wait.
fn waits(table: &mut Table, host: &ServerId, requirements: &str) -> CallId {
    table.kept(request(host, requirements, WAIT))
}

fn offered(table: &mut Table, call: CallId) -> Option<MatchId> {
    table.offered(call).map(|offer| offer.match_id)
}

fn nothing(hints: Hints) -> Reply {
    Reply::Requested { offer: None, more: Vec::new(), hints }
}

#[test]
fn a_waiting_server_gets_a_match_the_moment_one_comes() {
    let mut table = Table::new();
    let host = server("host");
    let call = waits(&mut table, &host, "");
    table.advance(secs(29));
    let id = table.submit("m", spec(&["ann"]));
    let offer = table.offered(call).unwrap();
    assert_eq!((offer.match_id, offer.server, offer.pickup), (id.clone(), host, 1));
    assert_eq!(table.state(&id), "picked_up");
}

#[test]
fn a_server_willing_to_wait_need_not_wait_for_what_is_there() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&[]));
    let (offer, _) = table.request(&server("host"), "", WAIT);
    assert_eq!(offer.map(|offer| offer.match_id), Some(id));
}

#[test]
fn waiting_ends_at_its_deadline_with_nothing() {
    let mut table = Table::new();
    let host = server("host");
    let call = waits(&mut table, &host, "");
    table.advance(secs(30) - MS);
    assert!(table.answer(call).is_none());
    table.advance(MS);
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::NONE))));
    assert_eq!(table.server_state(&host), "available", "it is free, and will ask again");
}

#[test]
fn a_server_that_waited_in_vain_and_is_not_needed_goes_if_it_is_willing() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let warm = table.allocations().remove(0).server;
    let both = WAIT.with(Hints::WILLING_TO_SHUTDOWN);
    let first = table.kept(request(&warm, "", both));
    table.advance(secs(30));
    assert_eq!(table.answer(first), Some(Ok(nothing(Hints::NONE))), "the warm pool needs it");

    let first = table.kept(request(&warm, "", both));
    let second = table.order().server;
    assert_eq!(table.request(&second, "", both), (None, Hints::SHUTDOWN), "no need to wait to know that");
    table.advance(secs(30));
    assert_eq!(table.answer(first), Some(Ok(nothing(Hints::NONE))));
}

#[test]
fn a_willing_server_that_became_surplus_while_it_waited_is_told_at_its_deadline() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let warm = table.allocations().remove(0).server;
    let call = table.kept(request(&warm, "", WAIT.with(Hints::WILLING_TO_SHUTDOWN)));
    let order = table.order();
    assert_eq!(table.poll(&order.server), None);
    assert!(table.answer(call).is_none());
    table.advance(secs(30));
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::SHUTDOWN))));
    assert_eq!((table.server_state(&warm), table.server_state(&order.server)), ("gone", "available"));
}

#[test]
fn a_match_goes_to_the_server_that_has_waited_longest() {
    let mut table = Table::new();
    let calls = ["c", "a", "b"].map(|id| {
        table.advance(secs(1));
        // Different texts, so that the servers share no expression.
        waits(&mut table, &server(id), &format!("MatchId != 'not {id}'"))
    });
    for call in calls {
        let id = table.submit(&format!("for {call:?}"), spec(&[]));
        assert_eq!(offered(&mut table, call), Some(id));
    }
}

#[test]
fn a_waiting_server_gets_only_what_fits_it() {
    let mut table = Table::new();
    let forest = waits(&mut table, &server("a"), "MatchProperties.map == 'forest'");
    let desert = waits(&mut table, &server("b"), "MatchProperties.map == 'desert'");
    let id = table.submit("d", with_properties(r#"{"map":"desert"}"#));
    assert_eq!(offered(&mut table, desert), Some(id));
    assert!(table.answer(forest).is_none());
    let city = table.submit("c", with_properties(r#"{"map":"city"}"#));
    assert!(table.answer(forest).is_none());
    assert_eq!(table.state(&city), "queued");
}

#[test]
fn a_match_of_one_fleet_goes_to_a_waiting_server_of_that_fleet() {
    let mut table = Table::with_fleets(vec![fleet("eu"), fleet("us")]);
    let stranger = waits(&mut table, &server("stranger"), "");
    let european = table.order().server;
    let european = waits(&mut table, &european, "");
    let id = table.submit("m", bound_to("eu"));
    assert_eq!(offered(&mut table, european), Some(id));
    table.submit("n", bound_to("us"));
    assert!(table.answer(stranger).is_none());
}

#[test]
fn a_server_that_hung_up_gets_nothing() {
    let mut table = Table::new();
    let (gone, there) = (waits(&mut table, &server("a"), ""), waits(&mut table, &server("b"), ""));
    table.abandon(gone);
    let id = table.submit("m", spec(&[]));
    assert_eq!(offered(&mut table, there), Some(id));
    let left = table.submit("n", spec(&[]));
    assert_eq!(table.state(&left), "queued");
    table.advance(secs(60));
    assert!(table.answer(gone).is_none());
}

#[test]
fn a_match_that_never_reached_its_server_is_back_in_its_old_place() {
    let mut table = Table::new();
    let first = table.submit("first", spec(&[]));
    let second = table.submit("second", spec(&[]));
    let reply = table.ok(request(&server("a"), "", Hints::NONE));
    assert_eq!(table.state(&first), "picked_up");
    table.undelivered(reply);
    assert_eq!((table.state(&first), table.find(&first).server.clone()), ("queued".into(), None));
    assert_eq!(table.broker.place_in_queue(&first), Some(0));
    assert_eq!(table.poll(&server("b")), Some(first));
    assert_eq!(table.poll(&server("b")), Some(second));
}

#[test]
fn a_match_that_never_reached_its_server_goes_to_one_that_waits() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&[]));
    let reply = table.ok(request(&server("a"), "", Hints::NONE));
    let call = waits(&mut table, &server("b"), "");
    table.undelivered(reply);
    let offer = table.offered(call).unwrap();
    assert_eq!((offer.match_id, offer.pickup), (id, 2));
}

#[test]
fn an_answer_that_was_lost_takes_back_nothing_that_has_moved_on() {
    let mut table = Table::new();
    let host = server("host");
    let lost = |table: &mut Table, reply: &Reply, id: &MatchId, state: &str| {
        let mark = table.mark();
        table.undelivered(reply.clone());
        assert_eq!((table.state(id).as_str(), table.kinds_since(mark)), (state, vec![]));
    };
    let id = table.submit("m", spec(&[]));
    let first = table.ok(request(&host, "", Hints::NONE));
    table.undelivered(first.clone());
    // The same server has taken it once more.
    let second = table.ok(request(&host, "", Hints::NONE));
    lost(&mut table, &first, &id, "picked_up");
    table.noted(ready(&host, &id, "203.0.113.7:7777", Hints::NONE));
    lost(&mut table, &second, &id, "ready");
    table.end(&host, &id);
    lost(&mut table, &second, &id, "ended: server");

    let id = table.submit("n", spec(&[]));
    let reply = table.ok(request(&host, "", Hints::NONE));
    table.ok(Command::CancelMatch { id: id.clone() });
    lost(&mut table, &reply, &id, "cancelled: requested");
}

#[test]
fn one_server_may_wait_for_several_matches() {
    let mut table = Table::new();
    let host = server("host");
    let calls = [(); 3].map(|()| waits(&mut table, &host, ""));
    let ids = ["a", "b", "c"].map(|id| table.submit(id, spec(&[])));
    assert_eq!(calls.map(|call| offered(&mut table, call)), ids.map(Some));
    assert_eq!(table.known_server(&host).unwrap().matches.len(), 3);
}

#[test]
fn a_server_that_became_full_waits_no_longer() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.running("m", &host);
    let call = waits(&mut table, &host, "");
    table.noted(ready(&host, &id, "203.0.113.7:7777", Hints::FULL));
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::NONE))));
}

#[test]
fn a_waiting_server_that_is_no_longer_wanted_is_told_at_once() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (stopped, exited, pulled) = (table.order(), table.order(), table.order());
    let calls = [&stopped, &exited, &pulled].map(|order| waits(&mut table, &order.server, ""));
    table.ok(Command::DeallocateServer { server: stopped.server });
    assert_eq!(table.answer(calls[0]), Some(Ok(nothing(Hints::SHUTDOWN))));
    table.exited(&exited);
    assert_eq!(table.answer(calls[1]), Some(Ok(nothing(Hints::SHUTDOWN))));
    table.done(Command::Configure { settings: table.broker.settings().clone(), fleets: Vec::new() });
    assert_eq!(table.answer(calls[2]), Some(Ok(nothing(Hints::SHUTDOWN))));
}

#[test]
fn how_long_servers_are_held_can_be_changed() {
    let mut table = Table::new();
    let host = server("host");
    table.change(SettingsChange { wait: Some(secs(5)), ..SettingsChange::default() });
    let call = waits(&mut table, &host, "");
    table.advance(secs(5) - MS);
    assert!(table.answer(call).is_none());
    table.advance(MS);
    assert!(table.answer(call).is_some());
    table.change(SettingsChange { wait: Some(Duration::ZERO), ..SettingsChange::default() });
    assert_eq!(table.request(&host, "", WAIT), (None, Hints::NONE), "nobody is held");
}

#[test]
fn a_match_whose_answer_a_restart_may_have_lost_is_given_to_its_server_again() {
    let mut table = Table::new();
    let host = server("host");
    let (id, other) = (table.picked_up("m", &host), table.picked_up("n", &host));
    let next = table.submit("next", spec(&[]));
    assert_eq!(table.poll(&host), Some(next.clone()), "while nothing was lost, nothing is given again");
    table.noted(ready(&host, &other, "203.0.113.7:7777", Hints::NONE));
    table.restart();
    let last = table.submit("last", spec(&[]));
    let events = table.log.len();
    assert_eq!((table.poll(&host), table.poll(&host)), (Some(id), Some(next)), "but not those it spoke of");
    assert_eq!(table.log.len(), events, "nothing has changed");
    assert_eq!(table.poll(&server("other")), Some(last), "others never get them");
    assert_eq!(table.poll(&host), None, "once is enough");
}

#[test]
fn a_match_given_again_stays_with_its_server_even_if_that_answer_is_lost_too() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    table.restart();
    let (offer, hints) = table.request(&host, "", WAIT);
    table.undelivered(Reply::Requested { offer, more: Vec::new(), hints });
    assert_eq!(table.state(&id), "picked_up", "the server may have had it from the first answer");
    assert_eq!(table.poll(&server("other")), None);
    assert_eq!(table.poll(&host), Some(id));
}

#[test]
fn a_restart_forgets_who_waited_and_nothing_else() {
    let mut table = Table::new();
    let host = server("host");
    let call = waits(&mut table, &host, "");
    table.restart();
    let id = table.submit("m", spec(&[]));
    assert!(table.answer(call).is_none());
    assert_eq!(table.state(&id), "queued", "nothing is given to a connection that is no more");
    let (offer, _) = table.request(&host, "", WAIT);
    assert_eq!(offer.map(|Offer { match_id, .. }| match_id), Some(id));
}

fn ask_for(host: &ServerId, most: u32, wait: Option<Duration>) -> Command {
    Command::RequestMatch {
        server: host.clone(),
        requirements: String::new(),
        hints: Hints::NONE,
        most,
        wait,
    }
}

fn all_offered(reply: Reply) -> Vec<String> {
    let Reply::Requested { offer, more, hints: Hints::NONE } = reply else { panic!("{reply:?}") };
    offer.into_iter().chain(more).map(|offer| offer.match_id.to_string()).collect()
}

#[test]
fn one_call_gets_several_matches_oldest_first_up_to_its_limit() {
    let mut table = Table::new();
    let host = server("host");
    let ids = ["a", "b", "c", "d"].map(|id| table.submit(id, spec(&[])));
    let reply = table.ok(ask_for(&host, 3, None));
    assert_eq!(all_offered(reply), ["a", "b", "c"]);
    assert_eq!(ids.map(|id| table.state(&id)), ["picked_up", "picked_up", "picked_up", "queued"]);
    let reply = table.ok(ask_for(&host, 3, None));
    assert_eq!(all_offered(reply), ["d", "a", "b"], "then those that it may not have heard of");
}

#[test]
fn the_matches_of_a_lost_answer_for_several_are_given_again() {
    let mut table = Table::new();
    let host = server("host");
    for id in ["a", "b"] {
        table.submit(id, spec(&[]));
    }
    let lost = table.ok(ask_for(&host, 3, None));
    assert_eq!(all_offered(lost), ["a", "b"]);
    let again = table.ok(ask_for(&host, 3, None));
    assert_eq!(all_offered(again), ["a", "b"]);
}

#[test]
fn a_call_for_several_matches_waits_for_the_first_until_its_deadline() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(ask_for(&host, 3, Some(secs(5))));
    table.advance(secs(5) - MS);
    assert!(table.answer(call).is_none());
    table.advance(MS);
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::NONE))));
    let call = table.kept(ask_for(&host, 3, Some(secs(200))));
    table.advance(secs(199));
    let id = table.submit("m", spec(&[]));
    assert_eq!(offered(&mut table, call), Some(id));
    let none = table.ok(ask_for(&server("other"), 3, Some(Duration::ZERO)));
    assert_eq!(all_offered(none), [""; 0], "it does not wait at all");
}

#[test]
fn every_match_of_an_answer_that_never_arrived_is_back() {
    let mut table = Table::new();
    let ids = ["a", "b", "c"].map(|id| table.submit(id, spec(&[])));
    let reply = table.ok(ask_for(&server("host"), 2, None));
    table.undelivered(reply);
    assert_eq!(ids.map(|id| table.state(&id)), ["queued"; 3]);
}

#[test]
fn how_many_matches_one_call_gets_and_how_long_it_waits_is_limited() {
    let mut table = Table::new();
    let host = server("host");
    for most in [0, MAX_OFFERS + 1, u32::MAX] {
        table.refused("invalid_field", ask_for(&host, most, None));
    }
    table.refused("invalid_field", ask_for(&host, 1, Some(MAX_REQUEST_WAIT + MS)));
    assert_eq!(table.server_state(&host), "gone", "it has registered nobody");
    for n in 0..40 {
        table.submit(&format!("m{n}"), spec(&[]));
    }
    let reply = table.ok(ask_for(&host, MAX_OFFERS, None));
    assert_eq!(all_offered(reply).len(), 32);
}
