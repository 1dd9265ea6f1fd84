//! Game servers: how they register, what their hints do, and what they are told when they are not wanted.

use sortie_domain::broker::model::{FastSchedule, Fleet};
use sortie_domain::broker::{Command, Hints, Refusal, Reply};
use sortie_domain::ids::ServerId;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;
use sortie_domain::requirements::InvalidRequirements;

use crate::table::{
    Table, at, bound_to, end, fleet, fleet_id, game, on, player, ready, request, secs, server, spec,
    with_properties,
};

fn deallocate(server: &ServerId) -> Command {
    Command::DeallocateServer { server: server.clone() }
}

#[test]
fn the_first_request_of_an_unknown_server_makes_it_known() {
    let mut table = Table::new();
    let (host, mark) = (server("my server #1"), table.mark());
    assert_eq!(table.poll(&host), None);
    let known = table.known_server(&host).unwrap();
    assert_eq!((known.state.name(), known.fleet), ("available", None));
    assert_eq!(table.kinds_since(mark), ["server.registered"]);
    for _ in 0..20 {
        table.advance(secs(5));
        assert_eq!(table.poll(&host), None);
    }
    assert_eq!(table.kinds_since(mark), ["server.registered"], "a polling server writes nothing");
}

#[test]
fn an_ordered_server_is_pending_until_it_asks_for_a_match() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    assert_eq!(table.server_state(&order.server), "pending");
    table.started(&order);
    assert_eq!(
        (table.server_state(&order.server), table.allocation_state(&order.id)),
        ("pending", "started")
    );
    assert_eq!(table.poll(&order.server), None);
    assert_eq!((table.server_state(&order.server), table.allocation_state(&order.id)), ("available", "live"));
    assert_eq!(table.known_server(&order.server).unwrap().fleet, Some(fleet_id("eu")));
}

#[test]
fn a_server_may_call_before_the_platform_says_that_it_started() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let order = table.order();
    assert_eq!(table.poll(&order.server), None);
    table.started(&order);
    assert_eq!(table.allocation_state(&order.id), "live");
}

#[test]
fn a_full_server_gets_no_match() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.request(&host, "", Hints::FULL), (None, Hints::NONE));
    assert_eq!((table.server_state(&host), table.state(&id)), ("full", "queued".into()));
    assert_eq!(table.request(&host, "", Hints::FULL.with(Hints::WILLING_TO_WAIT)), (None, Hints::NONE));
    // Asking without FULL means having room.
    assert_eq!(table.poll(&host), Some(id));
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn every_call_can_say_full_and_not_full_and_only_changes_are_written() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    let ready = |hints| ready(&server("host"), &game("m"), "203.0.113.7:7777", hints);
    table.noted(ready(Hints::FULL));
    assert_eq!(table.server_state(&host), "full");
    let mark = table.mark();
    table.noted(ready(Hints::FULL));
    table.noted(ready(Hints::NONE));
    assert_eq!((table.server_state(&host), table.kinds_since(mark)), ("full", vec![]));
    table.noted(ready(Hints::NOT_FULL));
    table.noted(ready(Hints::NOT_FULL));
    assert_eq!((table.server_state(&host), table.kinds_since(mark)), ("available", vec!["server.not_full"]));

    table.noted(end(&host, &id, Hints::FULL));
    assert_eq!(table.server_state(&host), "full");
    table.noted(end(&host, &id, Hints::NOT_FULL));
    assert_eq!(table.server_state(&host), "available");
    table.request(&host, "", Hints::FULL);
    table.request(&host, "", Hints::NOT_FULL);
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn one_server_runs_several_matches_and_each_ends_by_itself() {
    let mut table = Table::new();
    let host = server("host");
    let (first, second) = (table.running("first", &host), table.running("second", &host));
    let third = table.picked_up("third", &host);
    assert_eq!(table.known_server(&host).unwrap().matches.len(), 3);
    table.end(&host, &first);
    assert_eq!(
        [&first, &second, &third].map(|id| table.state(id)),
        ["ended: server", "ready", "picked_up"].map(String::from)
    );
    table.end(&host, &second);
    table.end(&host, &third);
    assert!(table.known_server(&host).unwrap().matches.is_empty());
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn the_oldest_match_that_fits_comes_first() {
    let mut table = Table::new();
    let host = server("host");
    let ids = ["forest", "desert", "forest again"].map(|id| {
        let map = id.split(' ').next().unwrap();
        table.submit(id, with_properties(&format!(r#"{{"map":"{map}"}}"#)))
    });
    let mut next = |requirements: &str| {
        let (offer, _) = table.request(&host, requirements, Hints::NONE);
        let id = offer.map(|offer| offer.match_id)?;
        table.ready(&host, &id);
        Some(id)
    };
    assert_eq!(next("MatchProperties.map == 'city'"), None);
    assert_eq!(next("MatchProperties.map == 'desert'").as_ref(), Some(&ids[1]));
    assert_eq!(next("").as_ref(), Some(&ids[0]));
    assert_eq!(next("MatchProperties.map == 'desert'"), None);
    assert_eq!(next("MatchProperties.map == 'forest'").as_ref(), Some(&ids[2]));
}

#[test]
fn requirements_see_ids_players_and_both_kinds_of_properties() {
    let mut table = Table::new();
    let mut whole = MatchSpec {
        player_properties: [(player("ann"), Properties::parse(r#"{"elo":1500}"#).unwrap())].into(),
        ..spec(&["ann", "bob"])
    };
    whole.properties = Properties::parse(r#"{"map":"forest"}"#).unwrap();
    table.submit("m", whole);
    let host = server("host");
    for wrong in ["MatchId == 'x'", "length(PlayerIds) > `2`", "PlayerProperties.bob.elo", "nothing"] {
        assert_eq!(table.request(&host, wrong, Hints::NONE).0, None, "{wrong}");
    }
    let right = "MatchId == 'm' && PlayerIds == `[\"ann\",\"bob\"]` && MatchProperties.map == 'forest' \
                 && PlayerProperties.ann.elo >= `1500`";
    assert!(table.request(&host, right, Hints::NONE).0.is_some());
}

#[test]
fn an_invalid_expression_is_refused_with_its_position_and_registers_nobody() {
    let mut table = Table::new();
    let host = server("host");
    let refusal =
        table.refused("invalid_requirements", request(&host, "MatchProperties.map ==", Hints::NONE));
    let Refusal::InvalidRequirements(InvalidRequirements { at, .. }) = refusal else { panic!("{refusal}") };
    assert_eq!(at, 22);
    assert_eq!(table.server_state(&host), "gone");
}

#[test]
fn a_match_of_one_fleet_goes_to_no_other_server() {
    let mut table = Table::with_fleets(vec![fleet("eu"), Fleet { preference: 1, ..fleet("us") }]);
    let european = table.idle_server();
    let stranger = server("stranger");
    let id = table.submit("m", bound_to("eu"));
    let american = table.submit("n", bound_to("us"));
    assert_eq!(table.poll(&stranger), None, "a server without a fleet");
    assert_eq!(table.poll(&european), Some(id.clone()));
    table.ready(&european, &id);
    assert_eq!(table.poll(&european), None, "a server of another fleet");
    let order = table.allocation_for(&american).expect("one is ordered from its own fleet");
    assert_eq!(order.fleet, fleet_id("us"));
    assert_eq!(table.poll(&order.server), Some(american));
    table.refused("fleet_not_found", Command::SubmitMatch { id: None, spec: bound_to("mars") });
}

#[test]
fn a_server_that_ends_a_match_and_shuts_down_is_forgotten_at_once() {
    let mut table = Table::with(on(FastSchedule::UnlessFree), vec![Fleet { max: 2, ..fleet("eu") }]);
    let host = table.idle_server();
    let id = table.running("first", &host);
    table.noted(end(&host, &id, Hints::SHUTDOWN));
    assert_eq!((table.server_state(&host), table.state(&id)), ("gone", "ended: server".into()));
    // So the next match does not wait for a server that will not come.
    let mark = table.mark();
    let next = table.submit("next", spec(&[]));
    assert_eq!(table.orders_since(mark), [("eu".into(), Some(next))]);
}

#[test]
fn a_server_that_does_not_say_shutdown_is_waited_for() {
    let mut table = Table::with(on(FastSchedule::UnlessFree), vec![Fleet { max: 2, ..fleet("eu") }]);
    let host = table.idle_server();
    let id = table.running("first", &host);
    table.end(&host, &id);
    let mark = table.mark();
    let next = table.submit("next", spec(&[]));
    assert_eq!(table.orders_since(mark), []);
    table.advance(secs(30));
    assert_eq!(
        table.orders_since(mark),
        [("eu".into(), Some(next))],
        "it has not asked; a new one is needed"
    );
}

#[test]
fn the_other_matches_of_a_server_that_shuts_down_fail_if_players_know_of_them() {
    let mut table = Table::new();
    let (host, other) = (server("host"), server("other"));
    let (first, second) = (table.running("first", &host), table.running("second", &host));
    let third = table.picked_up("third", &host);
    table.noted(end(&host, &first, Hints::SHUTDOWN));
    assert_eq!(table.state(&first), "ended: server");
    assert_eq!(table.state(&second), "failed: server_shut_down");
    assert_eq!(table.state(&third), "queued");
    assert_eq!(table.poll(&other), Some(third));
}

#[test]
fn a_server_that_takes_its_leave_while_it_waits_gets_no_match() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (ordered, own, other) = (table.idle_server(), server("own"), server("other"));
    for host in [&ordered, &own] {
        let call = table.kept(request(host, "", Hints::WILLING_TO_WAIT));
        let waits = Hints::SHUTDOWN.with(Hints::WILLING_TO_WAIT);
        assert_eq!(table.request(host, "", waits), (None, Hints::SHUTDOWN));
        assert!(matches!(
            table.answer(call),
            Some(Ok(Reply::Requested { offer: None, hints: Hints::SHUTDOWN, .. }))
        ));
        assert_eq!(table.server_state(host), "gone");
    }
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.state(&id), "queued");
    assert_eq!(table.poll(&other), Some(id));
}

#[test]
fn what_a_server_got_and_is_not_ready_for_when_it_takes_its_leave_goes_to_another() {
    let mut table = Table::new();
    let (host, other) = (server("host"), server("other"));
    let (running, unready) = (table.running("running", &host), table.picked_up("unready", &host));
    let waiting = table.kept(request(&other, "", Hints::WILLING_TO_WAIT));
    assert_eq!(table.request(&host, "", Hints::SHUTDOWN), (None, Hints::SHUTDOWN));
    assert_eq!(table.state(&running), "failed: server_shut_down");
    let Some(Ok(Reply::Requested { offer: Some(offer), .. })) = table.answer(waiting) else { panic!() };
    assert_eq!((offer.match_id, table.server_state(&host)), (unready, "gone"));
}

#[test]
fn a_server_that_nobody_knows_takes_its_leave_without_a_trace() {
    let mut table = Table::new();
    let mark = table.mark();
    assert_eq!(table.request(&server("host"), "", Hints::SHUTDOWN), (None, Hints::SHUTDOWN));
    assert_eq!(table.request(&server("host"), "", Hints::WITHDRAW), (None, Hints::NONE));
    assert_eq!(table.kinds_since(mark), [""; 0]);
}

#[test]
fn a_server_that_takes_back_its_request_gets_no_match_and_may_ask_again() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let host = table.idle_server();
    let calls = [(); 2].map(|()| table.kept(request(&host, "", Hints::WILLING_TO_WAIT)));
    let mark = table.mark();
    assert_eq!(table.request(&host, "", Hints::WITHDRAW), (None, Hints::NONE));
    for call in calls {
        assert!(matches!(
            table.answer(call),
            Some(Ok(Reply::Requested { offer: None, hints: Hints::NONE, .. }))
        ));
    }
    table.advance(secs(5));
    assert_eq!(table.kinds_since(mark), [""; 0], "it is a warm server as before");
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.state(&id), "queued");
    assert_eq!(table.poll(&host), Some(id));
}

#[test]
fn a_match_that_a_server_hands_back_goes_to_another_and_not_for_ever() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&[]));
    for hints in [Hints::WITHDRAW, Hints::FULL, Hints::SHUTDOWN] {
        let host = server(&format!("host {}", hints.bits()));
        assert_eq!(table.poll(&host).as_ref(), Some(&id));
        // Its answer may have been lost, so it hears about the match again.
        assert_eq!(table.poll(&host).as_ref(), Some(&id));
        // It does not get back the match that it returns.
        let other = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
        let mark = table.mark();
        table.noted(end(&host, &id, hints));
        assert!(matches!(table.answer(other), Some(Ok(Reply::Requested { offer: None, .. }))));
        if hints == Hints::SHUTDOWN {
            assert_eq!(table.state(&id), "failed: server_shut_down", "the third that had it");
        } else {
            assert_eq!(table.state(&id), "queued");
            assert!(table.kinds_since(mark).contains(&"match.returned"), "{:?}", table.kinds_since(mark));
        }
    }
    let states = [Hints::WITHDRAW, Hints::FULL, Hints::SHUTDOWN]
        .map(|hints| table.server_state(&server(&format!("host {}", hints.bits()))));
    assert_eq!(states, ["available", "full", "gone"]);
}

#[test]
fn a_match_that_runs_is_over_whatever_its_server_says_beside() {
    let mut table = Table::new();
    for hints in [Hints::WITHDRAW, Hints::FULL, Hints::SHUTDOWN] {
        let host = server("host");
        let id = table.running(&format!("m {}", hints.bits()), &host);
        table.noted(end(&host, &id, hints));
        assert_eq!(table.state(&id), "ended: server");
    }
}

#[test]
fn a_server_of_no_fleet_that_shut_down_may_come_back() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.running("m", &host);
    assert_eq!(table.noted(end(&host, &id, Hints::SHUTDOWN)), Hints::NONE);
    assert_eq!(table.poll(&host), None);
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn an_ordered_server_that_shut_down_is_not_taken_back() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.running("m", &host);
    assert_eq!(table.noted(end(&host, &id, Hints::SHUTDOWN)), Hints::SHUTDOWN);
    table.submit("next", spec(&[]));
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
}

#[test]
fn a_server_that_was_given_up_is_told_to_exit_whatever_it_calls() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    table.advance(secs(30));
    assert_eq!(table.state(&id), "failed: ready_timeout");
    let late = ready(&host, &id, "203.0.113.7:7777", Hints::NONE);
    let refusal = table.refused("match_not_held", late);
    assert_eq!(refusal.hints(), Hints::SHUTDOWN);
    let Refusal::MatchNotHeld { state, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(state, Some("failed"));
    assert_eq!(table.end(&host, &id), Hints::SHUTDOWN);
    table.submit("next", spec(&[]));
    assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
}

#[test]
fn a_server_that_is_gone_is_told_to_exit() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (deallocated, exited) = (table.idle_server(), table.order());
    table.ok(deallocate(&deallocated));
    table.exited(&exited);
    table.submit("m", spec(&[]));
    for host in [&deallocated, &exited.server] {
        assert_eq!(table.sent_away(host), Hints::SHUTDOWN);
        assert_eq!(table.server_state(host), "gone", "it is not registered again");
    }
    table.restart();
    assert_eq!(table.sent_away(&deallocated), Hints::SHUTDOWN, "a restart changes nothing");
}

#[test]
fn idle_servers_beyond_the_warm_pool_go_if_they_are_willing() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let warm = table.allocations().remove(0).server;
    table.poll(&warm);
    assert_eq!(
        table.request(&warm, "", Hints::WILLING_TO_SHUTDOWN),
        (None, Hints::NONE),
        "it is the warm one"
    );
    let second = table.idle_server();
    assert_eq!(table.poll(&second), None, "one that is not willing stays");
    let mark = table.mark();
    assert_eq!(table.request(&second, "", Hints::WILLING_TO_SHUTDOWN), (None, Hints::SHUTDOWN));
    assert_eq!(table.kinds_since(mark), ["server.gone"]);
    assert_eq!(table.request(&warm, "", Hints::WILLING_TO_SHUTDOWN), (None, Hints::NONE));
    assert_eq!((table.server_state(&warm), table.server_state(&second)), ("available", "gone"));
}

#[test]
fn a_willing_server_gets_the_match_that_fits_it() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.order().server;
    let id = table.submit("m", spec(&[]));
    let (offer, hints) = table.request(&host, "", Hints::WILLING_TO_SHUTDOWN);
    assert_eq!((offer.map(|offer| offer.match_id), hints), (Some(id), Hints::NONE));
}

#[test]
fn a_willing_server_goes_at_the_end_of_its_match_unless_another_fits_it() {
    let mut table = Table::with(on(FastSchedule::OnSchedule), vec![fleet("eu")]);
    let host = table.idle_server();
    let first = table.running("first", &host);
    let second = table.submit("second", spec(&[]));
    assert_eq!(table.noted(end(&host, &first, Hints::WILLING_TO_SHUTDOWN)), Hints::NONE);
    assert_eq!(table.poll(&host).as_ref(), Some(&second));
    table.ready(&host, &second);
    assert_eq!(table.noted(end(&host, &second, Hints::WILLING_TO_SHUTDOWN)), Hints::SHUTDOWN);
    assert_eq!(table.server_state(&host), "gone");
}

#[test]
fn a_willing_server_with_another_match_on_it_stays() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let (first, second) = (table.running("first", &host), table.running("second", &host));
    assert_eq!(table.noted(end(&host, &first, Hints::WILLING_TO_SHUTDOWN)), Hints::NONE);
    assert_eq!(table.request(&host, "", Hints::WILLING_TO_SHUTDOWN), (None, Hints::NONE));
    assert_eq!(table.state(&second), "ready");
}

#[test]
fn a_server_of_no_fleet_is_never_surplus() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = server("host");
    // No fleet could start another one in its place.
    assert_eq!(table.request(&host, "", Hints::WILLING_TO_SHUTDOWN), (None, Hints::NONE));
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn an_administrator_can_stop_a_server() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let (running, picked_up) = (table.running("a", &host), table.picked_up("b", &host));
    let Reply::Deallocated { state, matches } = table.ok(deallocate(&host)) else { panic!() };
    assert_eq!(state.name(), "available");
    assert_eq!(matches, [(running.clone(), Some(at("203.0.113.7:7777").details)), (picked_up.clone(), None)]);
    for id in [running, picked_up] {
        assert_eq!(table.state(&id), "failed: server_deallocated");
    }
    assert_eq!((table.server_state(&host), table.stops(&host)), ("gone", 1));
    table.refused("server_not_found", deallocate(&host));
    table.refused("server_not_found", deallocate(&server("unknown")));
}

#[test]
fn an_administrator_can_stop_a_server_that_nobody_ordered_and_one_not_heard_of() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let stranger = server("stranger");
    table.poll(&stranger);
    table.ok(deallocate(&stranger));
    assert_eq!((table.sent_away(&stranger), table.stops(&stranger)), (Hints::SHUTDOWN, 0));
    let pending = table.order();
    table.ok(deallocate(&pending.server));
    assert_eq!((table.allocation_state(&pending.id), table.stops(&pending.server)), ("stopping", 1));
}
