//! Which servers may get a match: a fleet's terms bind its servers, whichever way a match comes to them; and no match
//! is skipped.

use std::time::Duration;

use sortie_domain::broker::model::{FastSchedule, Fleet, Settings};
use sortie_domain::broker::{AGAIN_AFTER, Command, Hints, Reply, Unnamed, words};
use sortie_domain::game::GameVersion;
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;

use crate::table::{
    Asked, MS, Table, fleet, fleet_id, on, player, request, secs, server, spec, submit, with_properties,
};

fn of_game(id: &str, name: &str, version: &str) -> Fleet {
    Fleet { game: Some(GameVersion { name: name.into(), version: version.into() }), ..fleet(id) }
}

fn duel_and_chess() -> Vec<Fleet> {
    vec![of_game("duel", "duel", "1.0"), of_game("chess", "chess", "1.0")]
}

fn idle_of(table: &mut Table, id: &str) -> ServerId {
    let spec = MatchSpec { fleet: Some(fleet_id(id)), ..MatchSpec::default() };
    let first = table.submit(&format!("first of {id}"), spec);
    let server = table.allocation_for(&first).unwrap().server;
    assert_eq!(table.poll(&server), Some(first.clone()));
    table.ready(&server, &first);
    table.end(&server, &first);
    server
}

fn chess() -> MatchSpec {
    with_properties(r#"{"game":"chess","version":"1.0"}"#)
}

#[test]
fn servers_get_no_match_of_another_game_or_version() {
    let mut table = Table::with_fleets(duel_and_chess());
    let (duel, chess_host) = (idle_of(&mut table, "duel"), idle_of(&mut table, "chess"));
    let id = table.submit("m", chess());
    assert_eq!(table.poll(&duel), None);
    assert_eq!(table.request(&duel, "MatchProperties.game == 'chess'", Hints::NONE).0, None);
    assert_eq!(table.poll(&chess_host), Some(id.clone()));
    table.ready(&chess_host, &id);
    table.submit("old", with_properties(r#"{"game":"chess","version":"0.9"}"#));
    table.submit("odd", with_properties(r#"{"game":["chess"]}"#));
    assert_eq!(table.poll(&chess_host), None);
    let any = table.submit("any", with_properties(r#"{"game":"chess"}"#));
    assert_eq!(table.poll(&chess_host), Some(any), "it names no version");
}

#[test]
fn waiting_servers_get_no_match_of_another_game() {
    let mut table = Table::with_fleets(duel_and_chess());
    let (duel, chess_host) = (idle_of(&mut table, "duel"), idle_of(&mut table, "chess"));
    let first = table.kept(request(&duel, "", Hints::WILLING_TO_WAIT));
    let second = table.kept(request(&chess_host, "", Hints::WILLING_TO_WAIT));
    let mark = table.mark();
    let id = table.submit("m", chess());
    assert!(table.answer(first).is_none());
    assert_eq!(table.offered(second).map(|offer| offer.match_id), Some(id));
    // A free server of another game does not save the order.
    let next = table.submit("next", chess());
    assert_eq!(table.orders_since(mark), [("chess".into(), Some(next))]);
}

#[test]
fn the_requirements_of_a_fleet_bind_its_servers() {
    let europe = Fleet { requirements: "MatchProperties.region == 'eu'".into(), ..fleet("eu") };
    let mut table = Table::with_fleets(vec![europe]);
    let host = table.idle_server();
    let asia = table.submit("asia", with_properties(r#"{"region":"ap"}"#));
    assert_eq!(table.poll(&host), None, "it sends no filter");
    let call = table.kept(request(&host, "length(PlayerIds) == `0`", Hints::WILLING_TO_WAIT));
    table.submit("more of asia", with_properties(r#"{"region":"ap"}"#));
    assert!(table.answer(call).is_none());
    let id = table.submit("europe", with_properties(r#"{"region":"eu"}"#));
    assert_eq!(table.offered(call).map(|offer| offer.match_id), Some(id));
    assert_eq!(table.state(&asia), "queued");
    assert_eq!(
        table.poll(&server("stranger")),
        Some(asia),
        "a server without a fleet takes what it asks for"
    );
}

#[test]
fn a_match_bound_to_a_fleet_need_not_name_its_game_and_must_not_name_another() {
    let mut table = Table::with_fleets(duel_and_chess());
    let host = idle_of(&mut table, "duel");
    let wrong = MatchSpec { fleet: Some(fleet_id("duel")), ..chess() };
    let wrong = table.submit("wrong", wrong);
    assert_eq!((table.poll(&host), table.allocation_for(&wrong)), (None, None));
    let right = MatchSpec { fleet: Some(fleet_id("duel")), ..spec(&[]) };
    let right = table.submit("right", right);
    assert_eq!(table.poll(&host), Some(right));
}

#[test]
fn players_get_no_seat_in_a_match_that_the_fleet_does_not_take() {
    let mut table = Table::with_fleets(duel_and_chess());
    let wrong = MatchSpec { fleet: Some(fleet_id("duel")), capacity: Some(4), ..chess() };
    let wrong = table.submit("wrong", wrong);
    let join = Command::Join {
        beside: [].into(),
        rejoin: false,
        fleet: fleet_id("duel"),
        player: player("ann"),
        capacity: 2,
        ttl: secs(30),
        properties: Properties::parse(r#"{"game":"duel","version":"1.0"}"#).unwrap(),
    };
    let Reply::Seated { game, .. } = table.ok(join) else { panic!() };
    assert_ne!(game.id, wrong);
    assert!(table.allocation_for(&game.id).is_some());
}

fn said(table: &Table, id: &MatchId) -> (Option<Unnamed>, String) {
    let explanation = table.broker.explain(id).unwrap();
    let said = words::sentences(&explanation, &|_| String::new()).join(" ");
    (explanation.unnamed, said)
}

#[test]
fn a_match_that_names_no_game_goes_to_fleets_that_name_none() {
    let mut fleets = duel_and_chess();
    fleets[0].is_default = true;
    let mut table =
        Table::with_fleets([fleets.clone(), vec![Fleet { preference: 9, ..fleet("any") }]].concat());
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.allocation_for(&id).unwrap().fleet, fleet_id("any"));
    let (unnamed, said) = said(&table, &id);
    assert_eq!(unnamed, Some(Unnamed::FleetsWithoutGame));
    assert!(said.contains("The match names no game: it goes to fleets that name none."), "{said}");
    assert!(said.contains("MatchProperties.game == 'chess' (the match has no value there)"), "{said}");
    // They take matches of any game, too.
    let any = table.allocation_for(&id).unwrap().server;
    let other = table.submit("other", chess());
    assert_eq!((table.poll(&any), table.poll_new(&any)), (Some(id), Some(other)));
}

#[test]
fn where_every_fleet_names_a_game_the_default_fleet_takes_those_that_name_none() {
    let mut fleets = duel_and_chess();
    fleets[1].is_default = true;
    let mut table = Table::with_fleets(fleets.clone());
    let id = table.submit("m", spec(&[]));
    let order = table.allocation_for(&id).unwrap();
    assert_eq!(order.fleet, fleet_id("chess"));
    assert_eq!(said(&table, &id).0, Some(Unnamed::DefaultFleet(fleet_id("chess"))));
    assert_eq!(table.poll(&order.server), Some(id));
    let old = table.submit("old", with_properties(r#"{"version":"0.9"}"#));
    assert_eq!(table.allocation_for(&old), None, "but no other version");

    fleets[1].is_default = false;
    table.done(Command::Configure { settings: Settings::default(), fleets });
    let id = table.submit("n", spec(&[]));
    let (unnamed, said) = said(&table, &id);
    assert_eq!((unnamed, table.allocation_for(&id)), (Some(Unnamed::NoFleet), None));
    assert!(said.contains("there is no default fleet"), "{said}");
    assert_eq!(table.poll(&server("stranger")), Some(old));
    assert_eq!(table.poll_new(&server("stranger")), Some(id));
}

#[test]
fn the_only_fleet_takes_matches_that_name_no_game() {
    let mut table = Table::with_fleets(duel_and_chess()[..1].to_vec());
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.allocation_for(&id).unwrap().fleet, fleet_id("duel"));
    assert_eq!(said(&table, &id).0, Some(Unnamed::DefaultFleet(fleet_id("duel"))));
}

#[test]
fn explain_says_that_the_game_keeps_a_match_from_a_fleet_and_from_its_servers() {
    let mut table = Table::with_fleets(duel_and_chess()[..1].to_vec());
    let host = idle_of(&mut table, "duel");
    table.poll(&host);
    let id = table.submit("m", chess());
    let (unnamed, said) = said(&table, &id);
    assert_eq!(unnamed, None);
    let text = r#"The fleet duel does not take it: MatchProperties.game == 'duel' (the match has "chess")."#;
    assert!(said.contains(text), "{said}");
    assert!(
        said.contains(
            "it asks for requirements that the match does not meet, MatchProperties.game == 'duel'"
        ),
        "{said}"
    );
}

#[test]
fn what_a_fleet_says_anew_counts_for_servers_that_wait() {
    let mut table = Table::with_fleets(duel_and_chess());
    let (duel, chess_host) = (idle_of(&mut table, "duel"), idle_of(&mut table, "chess"));
    let calls = [&duel, &chess_host].map(|host| table.kept(request(host, "", Hints::WILLING_TO_WAIT)));
    let mut fleets = duel_and_chess();
    fleets[0].game = Some(GameVersion { name: "go".into(), version: "1.0".into() });
    table.done(Command::Configure { settings: Settings::default(), fleets });
    table.advance(Duration::ZERO);
    let asks_again = Reply::Requested { offer: None, more: Vec::new(), hints: Hints::NONE };
    assert_eq!(table.answer(calls[0]), Some(Ok(asks_again)), "its fleet has other terms");
    assert!(table.answer(calls[1]).is_none());
    let id = table.submit("m", with_properties(r#"{"game":"go"}"#));
    assert_eq!(table.poll(&duel), Some(id));
}

#[test]
fn names_of_games_are_taken_as_they_are() {
    let mut table = Table::with_fleets(vec![of_game("odd", r"it's `a` \ 'game'", "1 && `2`")]);
    let properties = r#"{"game":"it's `a` \\ 'game'","version":"1 && `2`"}"#;
    let id = table.submit("m", with_properties(properties));
    assert!(table.allocation_for(&id).is_some());
}

// --- the order of the search ------------------------------------------------------------------------------------

/// Many matches that no fleet takes, or whose fleet has no room, and then one for an empty fleet.
fn behind_many(mode: FastSchedule, many: usize, properties: &str) -> (Table, MatchId) {
    let fleets = vec![Fleet { max: 1, ..of_game("full", "full", "1") }, of_game("empty", "empty", "1")];
    let mut table = Table::with(on(mode), fleets);
    table.order();
    for n in 0..many {
        table.submit(&format!("m{n}"), with_properties(properties));
    }
    let id = table.submit("last", with_properties(r#"{"game":"empty"}"#));
    (table, id)
}

#[test]
fn a_match_behind_many_that_no_fleet_takes_gets_a_server_on_the_schedule() {
    for properties in [r#"{"game":"none"}"#, r#"{"game":"full"}"#] {
        let (mut table, id) = behind_many(FastSchedule::OnSchedule, 2_500, properties);
        assert_eq!(table.allocation_for(&id), None);
        table.advance(secs(30));
        assert!(table.allocation_for(&id).is_some(), "{properties}");
    }
}

#[test]
fn a_match_behind_many_that_no_fleet_takes_gets_another_server_after_one_that_failed() {
    for properties in [r#"{"game":"none"}"#, r#"{"game":"full"}"#] {
        let (mut table, id) = behind_many(FastSchedule::UnlessFree, 2_500, properties);
        let order = table.allocation_for(&id).unwrap();
        table.start_failed(&order);
        assert_eq!(table.allocation_for(&id), None, "its fleet backs off");
        table.advance(secs(1));
        assert!(table.allocation_for(&id).is_some(), "{properties}");
    }
}

#[test]
fn matches_that_no_fleet_took_get_servers_of_a_fleet_that_takes_them_now() {
    let (mut table, _) = behind_many(FastSchedule::UnlessFree, 20, r#"{"game":"none"}"#);
    let mark = table.mark();
    let fleets = vec![of_game("new", "none", "1")];
    table.done(Command::Configure { settings: Settings::default(), fleets });
    table.advance(Duration::ZERO);
    assert_eq!(table.orders_since(mark).len(), 10);
}

#[test]
fn a_free_server_counts_after_a_restart_as_before() {
    let settings = Settings { delay_allocation: secs(60), ..on(FastSchedule::UnlessFree) };
    let mut table = Table::with(settings, vec![fleet("eu")]);
    let host = table.idle_server();
    let mark = table.mark();
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.orders_since(mark), []);
    table.restart();
    table.advance(secs(59));
    assert_eq!(table.orders_since(mark), [], "it is known and free, and the match fits it");
    let second = table.submit("second", spec(&[]));
    assert_eq!(table.orders_since(mark), [("eu".into(), Some(second))], "for one match only");
    assert_eq!(table.poll(&host), Some(id));
}

#[test]
fn a_free_server_of_another_game_does_not_count_after_a_restart() {
    let settings = Settings { delay_allocation: secs(60), ..on(FastSchedule::UnlessFree) };
    let mut table = Table::with(settings, duel_and_chess());
    idle_of(&mut table, "duel");
    let mark = table.mark();
    table.restart();
    let id = table.submit("m", chess());
    assert_eq!(table.orders_since(mark), [("chess".into(), Some(id))]);
}

// --- lost answers -----------------------------------------------------------------------------------------------

#[test]
fn a_server_that_never_heard_of_its_match_gets_it_again() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    // The answer was lost: the server asks as if nothing had happened.
    let (offer, _) = table.request(&host, "", Hints::WILLING_TO_WAIT);
    let offer = offer.unwrap();
    assert_eq!((&offer.match_id, offer.again, offer.pickup), (&id, true, 1));
    // Another server that waits for its answer is not told repeatedly.
    assert!(matches!(table.ask(request(&host, "", Hints::WILLING_TO_WAIT)), Asked::Kept(_)));
    assert_eq!(table.poll(&server("other")), None, "no other server gets it");
    table.ready(&host, &id);
    table.advance(AGAIN_AFTER);
    assert_eq!(table.poll(&host), None, "it is ready");
}

#[test]
fn a_match_is_given_again_once_more_after_a_while() {
    let mut table = Table::new();
    let host = server("host");
    let id = table.picked_up("m", &host);
    assert_eq!(table.poll(&host), Some(id.clone()));
    table.advance(AGAIN_AFTER - MS);
    assert_eq!(table.poll(&host), None);
    table.advance(MS);
    assert_eq!(table.poll(&host), Some(id));
}

#[test]
fn a_server_with_room_for_several_gets_the_next_match_first() {
    let mut table = Table::new();
    let host = server("host");
    let (first, second) = (table.picked_up("first", &host), table.picked_up("second", &host));
    let third = table.submit("third", spec(&[]));
    table.advance(AGAIN_AFTER);
    assert_eq!(table.poll(&host).as_ref(), Some(&third));
    table.ready(&host, &third);
    assert_eq!(table.poll(&host), Some(first));
    assert_eq!(table.poll(&host), Some(second));
    assert_eq!(table.poll(&host), None);
    let elsewhere = "MatchProperties.map == 'desert'";
    table.advance(AGAIN_AFTER);
    assert_eq!(table.request(&host, elsewhere, Hints::NONE).0, None, "it asks for something else");
}

#[test]
fn an_answer_that_is_taken_back_late_does_not_take_a_match_from_a_server_that_has_it() {
    let mut table = Table::new();
    let host = server("host");
    let id = game_of(&mut table, &host);
    let first = table.request(&host, "", Hints::NONE);
    let (again, hints) = table.request(&host, "", Hints::NONE);
    assert!(again.is_some_and(|offer| offer.again));
    table.undelivered(Reply::Requested { offer: first.0, more: Vec::new(), hints });
    assert_eq!(table.state(&id), "picked_up", "the server has heard about it since");
    assert_eq!(table.poll(&server("other")), None);
}

fn game_of(table: &mut Table, _: &ServerId) -> MatchId {
    let id = crate::table::game("m");
    table.ok(submit(&id, spec(&[])));
    id
}

#[test]
fn a_draining_server_hears_again_of_its_match_too() {
    let mut table = Table::new();
    let host = server("host");
    let stuck = table.picked_up("stuck", &host);
    table.advance(secs(20));
    let id = table.picked_up("m", &host);
    table.advance(secs(10));
    assert_eq!(
        (table.state(&stuck), table.server_state(&host)),
        ("failed: ready_timeout".into(), "draining")
    );
    assert_eq!(table.poll(&host), Some(id));
}
