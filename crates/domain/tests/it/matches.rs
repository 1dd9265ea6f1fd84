//! The life of a match: every possible step, and every refused one.

use std::collections::BTreeMap;

use sortie_domain::broker::{Command, Event, Hints, Refusal, Reply};
use sortie_domain::connection::Connection;
use sortie_domain::ids::MatchId;
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::refusal::RefusalKind;

use crate::table::{Table, at, end, game, key, player, players, ready, secs, server, spec, submit};

fn cancel(id: &MatchId) -> Command {
    Command::CancelMatch { id: id.clone() }
}

fn end_active(id: &MatchId) -> Command {
    Command::EndActiveMatch { id: id.clone() }
}

fn watch(id: &MatchId, seen: u64) -> Command {
    Command::WatchMatch { id: id.clone(), seen }
}

/// One match in each of the three ways of being over.
fn over(table: &mut Table) -> [MatchId; 3] {
    let host = server("host");
    let ended = table.running("ended", &host);
    table.end(&host, &ended);
    let failed = table.picked_up("failed", &host);
    table.end(&host, &failed);
    let cancelled = table.submit("cancelled", spec(&[]));
    table.ok(cancel(&cancelled));
    [ended, failed, cancelled]
}

#[test]
fn a_match_is_queued_picked_up_ready_and_ended() {
    let mut table = Table::new();
    let (host, mark) = (server("host"), table.mark());

    let id = table.submit("m", spec(&["ann", "bob"]));
    assert_eq!(table.state(&id), "queued");

    let (offer, hints) = table.request(&host, "", Hints::NONE);
    let offer = offer.unwrap();
    assert_eq!((offer.match_id, offer.players, hints), (id.clone(), players(&["ann", "bob"]), Hints::NONE));
    assert_eq!(table.state(&id), "picked_up");
    assert_eq!(table.find(&id).server.as_ref(), Some(&host));

    assert_eq!(table.ready(&host, &id), Hints::NONE);
    assert_eq!(table.state(&id), "ready");
    assert_eq!(table.broker.connection(&id).as_deref(), Some("203.0.113.7:7777"));

    assert_eq!(table.end(&host, &id), Hints::NONE);
    assert_eq!(table.state(&id), "ended: server");
    assert_eq!(table.broker.connection(&id), None);
    assert_eq!(
        table.kinds_since(mark),
        ["match.queued", "server.registered", "match.picked_up", "match.ready", "match.ended"]
    );
}

#[test]
fn every_player_hears_that_the_match_is_ready_and_that_it_is_over() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.submit("m", spec(&["ann", "bob"]));
    table.poll(&host);
    table.ready(&host, &id);
    let Event::MatchReady { players: told, connection, .. } = table.last_event() else {
        panic!("{:?}", table.last_event())
    };
    assert_eq!((told, &*connection.details), (&players(&["ann", "bob"]), "203.0.113.7:7777"));
    table.end(&host, &id);
    let Event::MatchEnded { players: told, .. } = table.last_event() else {
        panic!("{:?}", table.last_event())
    };
    assert_eq!(told, &players(&["ann", "bob"]));
}

#[test]
fn a_match_without_an_id_gets_one() {
    let mut table = Table::new();
    let Reply::Submitted { match_id } = table.ok(Command::SubmitMatch { id: None, spec: spec(&["ann"]) })
    else {
        panic!()
    };
    assert!(match_id.as_str().starts_with("match-"), "{match_id}");
    assert_eq!(table.state(&match_id), "queued");
}

#[test]
fn a_match_that_its_server_gives_up_before_it_is_ready_has_failed() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    assert_eq!(table.end(&host, &id), Hints::NONE);
    assert_eq!(table.state(&id), "failed: ended_before_ready");
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn the_same_order_under_the_same_id_is_the_same_match_in_every_state() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.submit("m", spec(&["ann"]));
    let again = |table: &mut Table| {
        let mark = table.mark();
        assert_eq!(table.ok(submit(&game("m"), spec(&["ann"]))), Reply::Submitted { match_id: game("m") });
        assert_eq!(table.kinds_since(mark), [""; 0]);
        table.refused("match_exists", submit(&game("m"), spec(&["bob"])));
    };
    again(&mut table);
    table.poll(&host);
    again(&mut table);
    table.ready(&host, &id);
    again(&mut table);
    table.end(&host, &id);
    again(&mut table);
    assert_eq!(table.state(&id), "ended: server");
}

#[test]
fn the_same_order_under_the_same_key_is_the_same_match() {
    let mut table = Table::new();
    let keyed = |ids: &[&str]| MatchSpec { idempotency_key: key("k"), ..spec(ids) };
    let Reply::Submitted { match_id } = table.ok(Command::SubmitMatch { id: None, spec: keyed(&["ann"]) })
    else {
        panic!()
    };
    let mark = table.mark();
    for id in [None, Some(match_id.clone())] {
        let reply = table.ok(Command::SubmitMatch { id, spec: keyed(&["ann"]) });
        assert_eq!(reply, Reply::Submitted { match_id: match_id.clone() });
    }
    assert_eq!(table.kinds_since(mark), [""; 0]);

    table.ok(cancel(&match_id));
    let reply = table.ok(Command::SubmitMatch { id: None, spec: keyed(&["ann"]) });
    assert_eq!(reply, Reply::Submitted { match_id });
}

#[test]
fn a_key_is_refused_for_another_match() {
    let mut table = Table::new();
    let keyed = |ids: &[&str]| MatchSpec { idempotency_key: key("k"), ..spec(ids) };
    table.submit("m", keyed(&["ann"]));
    let other = Command::SubmitMatch { id: None, spec: keyed(&["bob"]) };
    let refusal = table.refused("idempotency_key_reused", other);
    assert_eq!((&refusal, refusal.kind()), (&Refusal::KeyReused(game("m")), RefusalKind::Exists));
    table.refused("idempotency_key_reused", submit(&game("other"), keyed(&["ann"])));
    // Without the key it is a different order than the one with that id.
    table.refused("match_exists", submit(&game("m"), spec(&["ann"])));
}

#[test]
fn a_match_can_be_cancelled_until_it_is_over() {
    let mut table = Table::new();
    let host = server("host");
    let queued = table.submit("queued", spec(&["ann"]));
    assert!(matches!(table.ok(cancel(&queued)), Reply::Match(found) if found.state.name() == "cancelled"));
    let picked_up = table.picked_up("picked up", &host);
    table.ok(cancel(&picked_up));
    let running = table.running("running", &host);
    table.ok(cancel(&running));
    for id in [&queued, &picked_up, &running] {
        assert_eq!(table.state(id), "cancelled: requested");
        let mark = table.mark();
        table.ok(cancel(id));
        assert_eq!(table.kinds_since(mark), [""; 0], "idempotent, without an event");
    }
    assert_eq!(table.poll(&host), None, "a cancelled match is not given to any server");

    // Its server learns about it in its next call.
    let late = ready(&host, &picked_up, "203.0.113.7:7777", Hints::NONE);
    let refusal = table.refused("match_not_held", late);
    assert_eq!(refusal.hints(), Hints::NONE, "the server may continue with other matches");
    assert_eq!(table.end(&host, &running), Hints::NONE);
}

#[test]
fn a_match_that_is_over_cannot_be_cancelled_or_ended_again() {
    let mut table = Table::new();
    let [ended, failed, cancelled] = over(&mut table);
    for id in [&ended, &failed] {
        let refusal = table.refused("match_over", cancel(id));
        assert_eq!(refusal.kind(), RefusalKind::Gone);
    }
    for id in [&ended, &failed, &cancelled] {
        table.refused("match_over", end_active(id));
    }
    for command in [cancel(&game("unknown")), end_active(&game("unknown"))] {
        table.refused("match_not_found", command);
    }
}

#[test]
fn an_administrator_ends_a_match_in_any_state() {
    let mut table = Table::new();
    let host = server("host");
    let queued = table.submit("queued", spec(&["ann"]));
    table.ok(end_active(&queued));
    assert_eq!(table.state(&queued), "cancelled: requested");
    let picked_up = table.picked_up("picked up", &host);
    table.ok(end_active(&picked_up));
    assert_eq!(table.state(&picked_up), "cancelled: requested");
    let running = table.running("running", &host);
    let mark = table.mark();
    assert!(matches!(table.ok(end_active(&running)), Reply::Match(found) if found.id == running));
    assert_eq!(table.state(&running), "ended: admin");
    assert_eq!(table.kinds_since(mark), ["match.ended"]);
    assert!(table.known_server(&host).unwrap().matches.is_empty());
}

#[test]
fn ready_twice_with_the_same_details_is_no_fault_and_with_others_is_refused() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.running("m", &host);
    let mark = table.mark();
    assert_eq!(table.ready(&host, &id), Hints::NONE);
    assert_eq!(table.kinds_since(mark), [""; 0], "players hear it once");
    table.refused("already_ready", ready(&host, &id, "198.51.100.1:1", Hints::NONE));
}

#[test]
fn only_the_server_that_holds_a_match_reports_on_it() {
    let mut table = Table::new();
    let (host, other) = (server("host"), server("other"));
    let id = table.picked_up("m", &host);
    table.poll(&other);
    let queued = table.submit("queued", spec(&[]));
    for (by, of) in [(&other, &id), (&host, &queued), (&server("unknown"), &id)] {
        let refusal = table.refused("match_not_held", ready(by, of, "203.0.113.7:7777", Hints::NONE));
        assert_eq!(refusal.hints(), Hints::NONE);
        // What others do with a match is not revealed to it.
        assert!(matches!(refusal, Refusal::MatchNotHeld { state: None, .. }), "{refusal:?}");
        assert_eq!(refusal.to_string(), format!("this server does not have match {of}; drop it"));
        table.refused("match_not_held", end(by, of, Hints::NONE));
    }
    table.refused("match_not_found", ready(&host, &game("unknown"), "203.0.113.7:7777", Hints::NONE));
    table.refused("match_not_found", end(&host, &game("unknown"), Hints::NONE));
    assert_eq!(table.server_state(&server("unknown")), "gone", "a refused call registers no server");
}

#[test]
fn a_server_may_report_the_end_twice() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.running("m", &host);
    table.end(&host, &id);
    let mark = table.mark();
    assert_eq!(table.end(&host, &id), Hints::NONE);
    assert_eq!(table.kinds_since(mark), [""; 0]);
    table.refused("match_not_held", end(&server("other"), &id, Hints::NONE));
    table.refused("match_not_held", ready(&host, &id, "203.0.113.7:7777", Hints::NONE));
}

#[test]
fn a_ready_match_says_where_its_players_connect() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    let with = |connection| Command::MatchReady {
        server: server("host"),
        match_id: game("m"),
        connection,
        hints: Hints::NONE,
    };
    let refusal = table.refused("invalid_field", with(at("")));
    assert!(matches!(refusal, Refusal::InvalidField { field: "connection_details", .. }), "{refusal}");

    let per_player = BTreeMap::from([(player("ann"), "203.0.113.7:1".into())]);
    table.noted(with(Connection { details: "".into(), per_player: per_player.clone() }));
    assert_eq!(table.state(&id), "ready");
    let connection = Connection { details: "203.0.113.7:2".into(), per_player };
    assert_eq!(&**connection.for_player(&player("ann")), "203.0.113.7:1");
    assert_eq!(&**connection.for_player(&player("bob")), "203.0.113.7:2");
}

#[test]
fn whoever_watches_a_match_hears_of_every_step() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.submit("m", spec(&["ann"]));
    let mut seen = 0;
    let mut news = |table: &mut Table, call, expected: &str| {
        let found = match call {
            None => table.ok(watch(&game("m"), seen)),
            Some(call) => table.answer(call).expect("no news").unwrap(),
        };
        let Reply::Match(found) = found else { panic!("{found:?}") };
        assert_eq!(found.state.name(), expected);
        seen = found.changed_seq;
        seen
    };
    let seen = news(&mut table, None, "queued");

    let call = table.kept(watch(&id, seen));
    assert!(table.answer(call).is_none());
    table.poll(&host);
    let seen = news(&mut table, Some(call), "picked_up");

    let (first, second) = (table.kept(watch(&id, seen)), table.kept(watch(&id, seen)));
    table.ready(&host, &id);
    news(&mut table, Some(first), "ready");
    let seen = news(&mut table, Some(second), "ready");

    let (call, gone) = (table.kept(watch(&id, seen)), table.kept(watch(&id, seen)));
    table.abandon(gone);
    table.end(&host, &id);
    let seen = news(&mut table, Some(call), "ended");
    assert!(table.answer(gone).is_none(), "a caller that hung up gets nothing");

    assert!(matches!(table.ok(watch(&id, seen)), Reply::Match(_)), "no further news will come");
    table.refused("match_not_found", watch(&game("unknown"), 0));
}

#[test]
fn whoever_watches_a_match_hears_that_a_timer_ended_it() {
    let mut table = Table::new();
    let id = table.submit("m", spec(&["ann"]));
    let call = table.kept(watch(&id, table.find(&id).changed_seq));
    table.advance(secs(90));
    let Some(Ok(Reply::Match(found))) = table.answer(call) else { panic!("no news") };
    assert_eq!(found.state.reason(), Some("pickup_timeout"));
}

#[test]
fn matches_are_listed_by_state_and_page() {
    let mut table = Table::new();
    let host = server("host");
    let [ended, failed, cancelled] = over(&mut table);
    let running = table.running("running", &host);
    let (first, second) = (table.submit("z", spec(&[])), table.submit("a", spec(&[])));

    let ids = |found: Vec<&sortie_domain::broker::model::Match>| -> Vec<MatchId> {
        found.into_iter().map(|found| found.id.clone()).collect()
    };
    assert_eq!(ids(table.broker.queued().collect()), [first.clone(), second.clone()], "oldest first");
    assert_eq!(ids(table.broker.active().collect()), std::slice::from_ref(&running));
    assert_eq!(table.broker.place_in_queue(&second), Some(1));
    assert_eq!(table.broker.place_in_queue(&running), None);
    assert_eq!(table.broker.queue_length(), 2);

    let mut listed = Vec::new();
    loop {
        let page = table.broker.matches(&[], listed.last(), 2);
        listed.extend(page.items.into_iter().map(|found| found.id));
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, [second, cancelled, ended, failed, running, first]);
    let over = table.broker.matches(&["ended", "failed", "cancelled"], None, 10);
    assert_eq!((over.items.len(), over.more), (3, false));
}
