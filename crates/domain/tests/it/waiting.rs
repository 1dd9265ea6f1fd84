//! Servers that would rather wait for a match than ask again (`WILLING_TO_WAIT`).

use sortie_domain::broker::model::{Fleet, SettingsChange};
use sortie_domain::broker::{
    AGAIN_AFTER, Command, Hints, MAX_OFFERS, MAX_OFFERS_BYTES, MAX_REQUEST_WAIT, Offer, Reply,
};
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::machine::CallId;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use std::time::Duration;

use crate::table::{MS, Table, bound_to, fleet, game, ready, request, secs, server, spec, with_properties};

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
    assert_eq!(table.poll_new(&server("b")), Some(second));
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
    // The same server has taken it again.
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
    assert_eq!(table.request(&host, "", WAIT), (None, Hints::NONE), "no call is held");
}

#[test]
fn a_match_whose_answer_a_restart_may_have_lost_is_given_to_its_server_again() {
    let mut table = Table::new();
    let host = server("host");
    let (id, other) = (table.picked_up("m", &host), table.picked_up("n", &host));
    let next = table.submit("next", spec(&[]));
    assert_eq!(table.poll(&host), Some(next.clone()), "nothing is given again unless an answer was lost");
    table.noted(ready(&host, &other, "203.0.113.7:7777", Hints::NONE));
    table.restart();
    let last = table.submit("last", spec(&[]));
    let events = table.log.len();
    assert_eq!(
        (table.poll(&host), table.poll(&host)),
        (Some(id), Some(next)),
        "but not those it has reported on"
    );
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
    assert_eq!(table.state(&id), "queued", "nothing is given to a closed connection");
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
    assert_eq!(all_offered(reply), ["a", "b", "c"], "it may not have heard about them");
    let reply = table.ok(ask_for(&host, 3, None));
    assert_eq!(all_offered(reply), ["d"], "a server that still asks has room for more");
}

#[test]
fn a_server_that_takes_several_gets_those_of_a_lost_answer_before_any_other() {
    let mut table = Table::new();
    let host = server("host");
    for id in ["a", "b", "c", "d", "e"] {
        table.submit(id, spec(&[]));
    }
    let lost = table.ok(ask_for(&host, 2, None));
    assert_eq!(all_offered(lost), ["a", "b"]);
    let again = table.ok(ask_for(&host, 2, None));
    assert_eq!(all_offered(again), ["a", "b"]);
    assert_eq!(table.state(&game("c")), "queued");
    // Not those of the answer before, whose place another match may have taken.
    assert_eq!(all_offered(table.ok(ask_for(&host, 2, None))), ["c", "d"]);
    table.advance(AGAIN_AFTER);
    assert_eq!(all_offered(table.ok(ask_for(&host, 4, None))), ["c", "d", "e", "a"]);
}

#[test]
fn what_a_call_had_collected_comes_first_if_its_answer_is_lost() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(ask_for(&host, 2, Some(secs(5))));
    for id in ["a", "b", "c"] {
        table.submit(id, spec(&[]));
    }
    assert_eq!(answered(&mut table, call), ["a", "b"]);
    assert_eq!(all_offered(table.ok(ask_for(&host, 2, Some(secs(5))))), ["a", "b"]);
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
    let none = table.ok(ask_for(&server("other"), 3, Some(Duration::ZERO)));
    assert_eq!(all_offered(none), [""; 0], "it does not wait at all");
}

/// The matches of a call that was kept and is answered by now.
fn answered(table: &mut Table, call: CallId) -> Vec<String> {
    let reply = table.answer(call).expect("it is answered").expect("it is not refused");
    all_offered(reply)
}

#[test]
fn a_call_for_several_matches_collects_them_until_its_deadline() {
    let mut table = Table::new();
    let host = server("host");
    let first = table.submit("a", spec(&[]));
    let call = table.kept(ask_for(&host, 3, Some(secs(5))));
    assert_eq!(table.state(&first), "picked_up", "it is kept for the server");
    assert_eq!(table.poll(&server("other")), None);
    table.advance(secs(3));
    let second = table.submit("b", spec(&[]));
    assert_eq!(table.state(&second), "picked_up");
    table.advance(secs(2) - MS);
    assert!(table.answer(call).is_none());
    table.advance(MS);
    assert_eq!(answered(&mut table, call), ["a", "b"]);
}

#[test]
fn a_call_for_several_matches_is_answered_once_it_has_as_many_as_it_takes() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(ask_for(&host, 2, Some(secs(5))));
    table.submit("a", spec(&[]));
    assert!(table.answer(call).is_none());
    table.submit("b", spec(&[]));
    assert_eq!(answered(&mut table, call), ["a", "b"]);
    let third = table.submit("c", spec(&[]));
    assert_eq!(table.state(&third), "queued");
}

#[test]
fn after_its_time_to_collect_a_call_of_a_server_willing_to_wait_gets_the_first_match_alone() {
    let mut table = Table::new();
    let host = server("host");
    let ask = Command::RequestMatch {
        server: host,
        requirements: String::new(),
        hints: WAIT,
        most: 3,
        wait: Some(secs(5)),
    };
    let call = table.kept(ask);
    table.advance(secs(6));
    assert!(table.answer(call).is_none(), "it is held as without a time to collect");
    table.submit("a", spec(&[]));
    assert_eq!(answered(&mut table, call), ["a"]);
}

#[test]
fn only_matches_that_fit_are_collected() {
    let mut table = Table::new();
    let ask = Command::RequestMatch {
        server: server("host"),
        requirements: "MatchProperties.map == 'forest'".into(),
        hints: Hints::NONE,
        most: 2,
        wait: Some(secs(5)),
    };
    let call = table.kept(ask);
    let on = |map: &str| MatchSpec {
        properties: Properties::parse(&format!(r#"{{"map":"{map}"}}"#)).unwrap(),
        ..MatchSpec::default()
    };
    table.submit("a", on("forest"));
    let desert = table.submit("b", on("desert"));
    table.submit("c", on("forest"));
    assert_eq!(answered(&mut table, call), ["a", "c"]);
    assert_eq!(table.state(&desert), "queued");
}

#[test]
fn what_a_call_has_collected_is_back_when_it_goes_away() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(ask_for(&host, 3, Some(secs(5))));
    let ids = ["a", "b"].map(|id| table.submit(id, spec(&[])));
    assert_eq!(ids.each_ref().map(|id| table.state(id)), ["picked_up"; 2]);
    table.abandon(call);
    table.advance(MS);
    assert_eq!(ids.each_ref().map(|id| table.state(id)), ["queued"; 2]);
    assert_eq!(table.poll(&server("other")).as_ref(), Some(&ids[0]));
}

#[test]
fn what_a_call_has_collected_is_back_when_its_server_withdraws_or_is_full() {
    for hints in [Hints::WITHDRAW, Hints::FULL, Hints::SHUTDOWN] {
        let mut table = Table::new();
        let host = server("host");
        let call = table.kept(ask_for(&host, 3, Some(secs(5))));
        let ids = ["a", "b"].map(|id| table.submit(id, spec(&[])));
        table.ok(request(&host, "", hints));
        let Some(Ok(Reply::Requested { offer: None, .. })) = table.answer(call) else {
            panic!("{hints:?}: it gets none")
        };
        assert_eq!(ids.map(|id| table.state(&id)), ["queued"; 2], "{hints:?}");
    }
}

#[test]
fn what_a_call_has_collected_is_back_when_its_server_is_not_wanted_any_more() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    let call = table.kept(ask_for(&order.server, 3, Some(secs(5))));
    let id = table.submit("a", spec(&[]));
    assert_eq!(table.state(&id), "picked_up");
    table.ok(Command::DeallocateServer { server: order.server.clone() });
    assert_eq!(table.state(&id), "queued");
    let Some(Ok(Reply::Requested { offer: None, hints: Hints::SHUTDOWN, .. })) = table.answer(call) else {
        panic!("it is told to exit");
    };
}

#[test]
fn a_match_that_is_over_before_the_answer_is_not_in_it() {
    let mut table = Table::new();
    let host = server("host");
    let call = table.kept(ask_for(&host, 3, Some(secs(5))));
    let ids = ["a", "b"].map(|id| table.submit(id, spec(&[])));
    table.ok(Command::CancelMatch { id: ids[0].clone() });
    table.advance(secs(5));
    assert_eq!(answered(&mut table, call), ["b"]);
}

#[test]
fn collected_matches_survive_a_restart_and_are_given_to_their_server() {
    let mut table = Table::new();
    let host = server("host");
    table.kept(ask_for(&host, 3, Some(secs(5))));
    for id in ["a", "b"] {
        table.submit(id, spec(&[]));
    }
    table.restart();
    assert_eq!(table.poll(&server("other")), None);
    let again = table.ok(ask_for(&host, 3, Some(secs(5))));
    assert_eq!(all_offered(again), ["a", "b"]);
}

#[test]
fn collecting_leaves_a_server_most_of_its_time_to_get_ready() {
    let mut table = Table::new();
    let ready_time = table.broker.settings().match_ready_time;
    let call = table.kept(ask_for(&server("host"), 3, Some(MAX_REQUEST_WAIT)));
    assert!(ready_time / 4 < MAX_REQUEST_WAIT);
    table.submit("a", spec(&[]));
    table.advance(ready_time / 4);
    assert_eq!(answered(&mut table, call), ["a"]);
}

#[test]
fn one_call_of_a_server_collects_at_a_time() {
    let mut table = Table::new();
    let host = server("host");
    let first = table.kept(ask_for(&host, 3, Some(secs(5))));
    let second = table.kept(ask_for(&host, 3, Some(secs(5))));
    for id in ["a", "b"] {
        table.submit(id, spec(&[]));
    }
    assert_eq!(answered(&mut table, second), ["b"], "it gets the first one alone");
    table.advance(secs(5));
    assert_eq!(answered(&mut table, first), ["a"]);
}

/// A match of more than half of what one answer takes.
fn large() -> MatchSpec {
    let bytes = MAX_OFFERS_BYTES / 20;
    let properties = || Properties::parse(&format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes))).unwrap();
    let player = |n: u8| PlayerId::new(&format!("p{n}")).unwrap();
    MatchSpec {
        players: (0..12).map(player).collect(),
        player_properties: (0..12).map(|n| (player(n), properties())).collect(),
        ..MatchSpec::default()
    }
}

#[test]
fn matches_that_do_not_fit_into_the_answer_stay_queued() {
    let mut table = Table::new();
    let host = server("host");
    let ids = ["a", "b"].map(|id| table.submit(id, large()));
    assert_eq!(all_offered(table.ok(ask_for(&host, 3, Some(secs(5))))), ["a"], "it waits for no more");
    assert_eq!(ids.each_ref().map(|id| table.state(id)), ["picked_up", "queued"]);
    table.noted(ready(&host, &ids[0], "203.0.113.7:7777", Hints::NONE));
    assert_eq!(all_offered(table.ok(ask_for(&host, 3, None))), ["b"]);
}

#[test]
fn a_match_that_does_not_fit_into_what_is_collected_goes_to_the_next_server() {
    let mut table = Table::new();
    let call = table.kept(ask_for(&server("host"), 3, Some(secs(5))));
    let other = waits(&mut table, &server("other"), "");
    table.submit("a", large());
    let small = table.submit("b", spec(&[]));
    assert_eq!(
        offered(&mut table, other),
        Some(small),
        "servers that wait for their first match come before"
    );
    let large = table.submit("c", large());
    assert_eq!(answered(&mut table, call), ["a"]);
    assert_eq!(table.state(&large), "queued");
}

#[test]
fn a_server_that_takes_one_match_gets_the_one_of_a_lost_answer_before_any_other() {
    let mut table = Table::new();
    let host = server("host");
    let lost = table.picked_up("lost", &host);
    let other = table.submit("other", spec(&[]));
    assert_eq!(table.poll(&host), Some(lost));
    assert_eq!(table.state(&other), "queued");
    // A server that still asks has room for another.
    assert_eq!(table.poll(&host), Some(other));
}

#[test]
fn a_call_of_a_server_that_lost_a_match_twice_is_held_until_it_can_have_it_once_more() {
    let mut table = Table::new();
    let host = server("host");
    let lost = table.picked_up("lost", &host);
    assert_eq!(table.poll(&host).as_ref(), Some(&lost));
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    table.advance(AGAIN_AFTER - MS);
    assert_eq!(table.answer(call), None);
    table.advance(MS);
    assert_eq!(table.answer(call), Some(Ok(nothing(Hints::NONE))), "it asks again");
    assert_eq!(table.poll(&host), Some(lost));
}

#[test]
fn a_server_known_to_take_several_gets_the_next_match_before_one_that_it_prepares() {
    let mut table = Table::new();
    let host = server("host");
    let first = table.submit("first", spec(&[]));
    assert_eq!(all_offered(table.ok(ask_for(&host, 2, None))), ["first"]);
    let second = table.submit("second", spec(&[]));
    assert_eq!(table.poll(&host), Some(second));
    assert_eq!(table.poll(&host), Some(first));
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
    assert_eq!(table.server_state(&host), "gone", "it has registered no server");
    for n in 0..40 {
        table.submit(&format!("m{n}"), spec(&[]));
    }
    let reply = table.ok(ask_for(&host, MAX_OFFERS, None));
    assert_eq!(all_offered(reply).len(), 32);
}
