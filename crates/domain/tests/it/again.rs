//! One player, one place: players who ask again, and servers with unreachable addresses.

use std::collections::BTreeMap;
use std::time::Duration;

use sortie_domain::broker::model::{Fleet, Match, Seat, SeatState};
use sortie_domain::broker::{Command, FIRST_BACKOFF, Hints, Refusal, Reply, SeatsElsewhere};
use sortie_domain::connection::Connection;
use sortie_domain::game::GameVersion;
use sortie_domain::ids::{MatchId, ServerId};
use sortie_domain::match_spec::MatchSpec;
use sortie_domain::properties::Properties;

use crate::table::{MS, Table, at, claim, fleet, fleet_id, game, player, ready, secs, server, spec};

const TTL: Duration = secs(10);

fn join_with(who: &str, fleet: &str, beside: &[&str], rejoin: bool) -> Command {
    Command::Join {
        fleet: fleet_id(fleet),
        player: player(who),
        capacity: 2,
        ttl: TTL,
        properties: Properties::default(),
        beside: beside.iter().map(|id| fleet_id(id)).collect(),
        rejoin,
    }
}

fn join(who: &str) -> Command {
    join_with(who, "eu", &[], true)
}

fn rejoin(id: &MatchId, who: &str) -> Command {
    Command::Rejoin { match_id: id.clone(), player: player(who), ttl: TTL, elsewhere: SeatsElsewhere::All }
}

fn release(seat: &Seat) -> Command {
    Command::ReleaseSeat { seat: seat.id.clone() }
}

fn open(named: &[&str]) -> MatchSpec {
    MatchSpec { capacity: Some(2), fleet: Some(fleet_id("eu")), ..spec(named) }
}

/// A fleet that names the game `name` in a version.
fn fleet_of(id: &str, name: &str, version: &str) -> Fleet {
    Fleet { game: Some(GameVersion { name: name.to_owned(), version: version.to_owned() }), ..fleet(id) }
}

impl Table {
    fn seated(&mut self, command: Command) -> (Seat, Match, bool) {
        match self.ok(command) {
            Reply::Seated { seat, game, again } => (seat, game, again),
            other => panic!("{other:?}"),
        }
    }

    fn new_seat(&mut self, command: Command) -> Seat {
        let (seat, _, again) = self.seated(command);
        assert!(!again, "{seat:?}");
        seat
    }

    fn same_seat(&mut self, command: Command) -> Seat {
        let (seat, _, again) = self.seated(command);
        assert!(again, "{seat:?}");
        seat
    }

    fn ids_of(&self, who: &str, states: &[&str]) -> Vec<MatchId> {
        let page = self.broker.matches_of(&player(who), states, None, 100);
        page.items.into_iter().map(|game| game.id).collect()
    }
}

/// A running match with places on a server of the fleet `eu`.
fn running(named: &[&str]) -> (Table, ServerId, MatchId) {
    let mut table = Table::with_fleets(vec![fleet("eu"), fleet("us")]);
    let host = table.idle_server();
    let id = table.submit("m", open(named));
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    (table, host, id)
}

#[test]
fn a_player_who_asks_again_has_the_same_seat_and_as_long_again_to_claim_it() {
    let (mut table, host, id) = running(&[]);
    let first = table.new_seat(join("ann"));
    assert_eq!(first.match_id, id);
    let mark = table.mark();
    assert_eq!(table.same_seat(join("ann")), first);
    assert_eq!(table.kinds_since(mark), [""; 0], "no time has passed: nothing to record");
    table.advance(TTL - secs(1));
    let again = table.same_seat(join("ann"));
    assert_eq!(
        again,
        Seat { state: SeatState::Reserved { expires_at: Some(table.now() + TTL) }, ..first.clone() }
    );
    assert_eq!(table.kinds_since(mark), ["seat.renewed"]);
    table.restart();
    table.advance(TTL - secs(1));
    table.seated(claim(&first.id, &host));
    assert_eq!(table.find(&id).free_places(), 1);
}

#[test]
fn a_seat_of_a_match_that_waits_is_given_again_without_a_record() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let first = table.new_seat(join("ann"));
    let mark = table.mark();
    table.advance(secs(5));
    assert_eq!(table.same_seat(join("ann")), first);
    assert_eq!(table.kinds_since(mark), [""; 0]);
}

#[test]
fn a_seat_in_another_fleet_of_the_game_counts_and_one_in_another_game_does_not() {
    let (mut table, _, _) = running(&[]);
    let first = table.new_seat(join("ann"));
    assert_eq!(table.same_seat(join_with("ann", "us", &["us", "eu"], true)).id, first.id);
    assert_ne!(table.new_seat(join_with("ann", "us", &["us"], true)).id, first.id);
    // With a seat in each, the later match counts.
    assert_ne!(table.same_seat(join_with("ann", "us", &["eu"], true)).id, first.id);
}

#[test]
fn a_player_who_is_in_the_match_may_come_in_once_more() {
    let (mut table, host, id) = running(&[]);
    let seat = table.new_seat(join("ann"));
    table.seated(claim(&seat.id, &host));
    let since = table.now();
    table.advance(secs(60));
    let again = table.same_seat(join("ann"));
    let until = table.now() + TTL;
    assert_eq!(again.state, SeatState::Claimed { at: since, again_until: Some(until) });
    assert_eq!((again.id.clone(), again.client_id), (seat.id.clone(), seat.client_id));
    table.restart();
    table.advance(TTL - secs(1));
    table.seated(claim(&seat.id, &host));
    table.refused("already_claimed", claim(&seat.id, &host));
    // If the player does not come the seat stays as it is: the player may be in the match all along.
    table.same_seat(join("ann"));
    table.advance(TTL);
    table.refused("already_claimed", claim(&seat.id, &host));
    assert_eq!(table.find(&id).free_places(), 1);
}

#[test]
fn a_server_that_counts_its_places_has_none_taken_twice() {
    let (mut table, host, id) = running(&[]);
    let report = |free| Command::ReportFreePlaces { match_id: id.clone(), server: None, free };
    table.ok(report(2));
    let seat = table.new_seat(join("ann"));
    table.seated(claim(&seat.id, &host));
    assert_eq!(table.find(&id).free_places(), 1);
    table.same_seat(join("ann"));
    table.seated(claim(&seat.id, &host));
    assert_eq!(table.find(&id).free_places(), 1);
}

#[test]
fn without_rejoin_only_a_reserved_seat_is_given_again() {
    let (mut table, host, _) = running(&["bob"]);
    let again = |who| join_with(who, "eu", &[], false);
    let seat = table.new_seat(join("ann"));
    assert_eq!(table.same_seat(again("ann")).id, seat.id);
    table.seated(claim(&seat.id, &host));
    assert_ne!(table.new_seat(again("ann")).match_id, seat.match_id);
    assert_ne!(table.new_seat(again("bob")).match_id, seat.match_id);
}

#[test]
fn a_named_player_comes_to_the_place_that_is_kept() {
    let (mut table, host, id) = running(&["ann"]);
    let seat = table.new_seat(join("ann"));
    assert_eq!(seat.match_id, id);
    table.seated(claim(&seat.id, &host));
    table.ok(Command::ReportFreePlaces { match_id: id.clone(), server: None, free: 0 });
    table.done(release(&seat));
    assert_ne!(table.new_seat(join("ann")).match_id, id, "a player who has left is not led back");
}

#[test]
fn a_released_or_expired_seat_and_a_match_that_is_over_lead_nowhere() {
    let (mut table, host, id) = running(&[]);
    let released = table.new_seat(join("ann"));
    table.done(release(&released));
    let expired = table.new_seat(join("ann"));
    table.advance(TTL);
    table.tick();
    let last = table.new_seat(join("ann"));
    assert!(![&released.id, &expired.id].contains(&&last.id));
    table.end(&host, &id);
    assert_eq!(table.ids_of("ann", &[]).len(), 0);
    assert_ne!(table.new_seat(join("ann")).match_id, id);
    table.refused("match_over", rejoin(&id, "ann"));
}

#[test]
fn a_player_comes_back_to_a_match_that_is_named() {
    let (mut table, _, id) = running(&["bob"]);
    let seat = table.new_seat(rejoin(&id, "bob"));
    assert_eq!(table.same_seat(rejoin(&id, "bob")), seat);
    table.refused("not_of_match", rejoin(&id, "ann"));
    table.refused("match_not_found", rejoin(&game("other"), "ann"));
}

#[test]
fn an_answer_that_is_lost_takes_no_seat_that_the_player_knows_of() {
    let (mut table, host, _) = running(&[]);
    let first = table.ok(join("ann"));
    let second = table.ok(join("ann"));
    let Reply::Seated { seat, .. } = second.clone() else { panic!() };
    table.undelivered(first);
    table.undelivered(second);
    table.seated(claim(&seat.id, &host));
}

#[test]
fn matches_are_found_by_player_also_after_a_restart() {
    let (mut table, _, first) = running(&["ann", "bob"]);
    let second = table.submit("n", spec(&["bob"]));
    let (seat, _, _) = table.seated(join("cat"));
    for restarted in [false, true] {
        if restarted {
            table.restart();
        }
        assert_eq!(table.ids_of("ann", &[]), std::slice::from_ref(&first));
        assert_eq!(table.ids_of("bob", &[]), [first.clone(), second.clone()]);
        assert_eq!(table.ids_of("bob", &["ready"]), std::slice::from_ref(&first));
        assert_eq!(table.ids_of("cat", &[]), std::slice::from_ref(&seat.match_id));
        assert_eq!(table.ids_of("nobody", &[]).len(), 0);
        let page = table.broker.matches_of(&player("bob"), &[], Some(&first), 1);
        assert_eq!((page.items[0].id.clone(), page.more), (second.clone(), false));
    }
    table.done(release(&seat));
    assert_eq!(table.ids_of("cat", &[]).len(), 0);
}

/// Players of `arena 1` on `eu`, of `arena 2` on `us` and of `chess 1` on `asia`.
fn two_versions() -> Table {
    Table::with_fleets(vec![
        fleet_of("eu", "arena", "1"),
        fleet_of("us", "arena", "2"),
        fleet_of("asia", "chess", "1"),
    ])
}

#[test]
fn a_player_in_a_match_gets_no_seat_in_another_version_of_the_game() {
    let mut table = two_versions();
    let seat = table.new_seat(join("ann"));
    let id = seat.match_id.clone();
    let refused = Refusal::AlreadyInMatch { player: player("ann"), match_id: id.clone() };
    let host = table.allocation_for(&id).unwrap().server;
    let other = |rejoin| join_with("ann", "us", &["us"], rejoin);
    assert_eq!(table.refused("already_in_match", other(true)), refused);
    assert_eq!(table.refused("already_in_match", other(false)), refused);
    table.new_seat(join_with("ann", "asia", &["asia"], true));
    table.new_seat(join_with("bob", "us", &["us"], true));

    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    table.seated(claim(&seat.id, &host));
    assert_eq!(table.refused("already_in_match", other(true)), refused);
    let second = table.new_seat(other(false));
    table.done(release(&second));
    table.done(release(&seat));
    table.new_seat(other(true));
}

#[test]
fn a_named_player_of_a_match_gets_no_seat_in_another_version_of_the_game() {
    let mut table = two_versions();
    let id = table.submit("m", open(&["ann"]));
    let refusal = table.refused("already_in_match", join_with("ann", "us", &[], true));
    assert_eq!(refusal, Refusal::AlreadyInMatch { player: player("ann"), match_id: id });
    table.new_seat(join_with("ann", "us", &[], false));
}

#[test]
fn a_seat_in_another_match_of_the_game_stands_in_the_way_of_a_new_one() {
    let mut table = two_versions();
    let id = table.submit("m", open(&["ann"]));
    let other = table.submit("n", open(&["ann"]));
    let reserve = |id: &MatchId, elsewhere| Command::ReserveSeat {
        match_id: id.clone(),
        player: player("ann"),
        ttl: TTL,
        elsewhere,
    };
    let seat = table.new_seat(reserve(&id, SeatsElsewhere::All));
    let refused = Refusal::AlreadyInMatch { player: player("ann"), match_id: id.clone() };
    for elsewhere in [SeatsElsewhere::All, SeatsElsewhere::Reserved] {
        assert_eq!(table.refused("already_in_match", reserve(&other, elsewhere)), refused);
    }
    assert_eq!(table.refused("already_in_match", rejoin(&other, "ann")), refused);
    table.refused("already_seated", reserve(&id, SeatsElsewhere::All));

    let host = table.allocation_for(&id).unwrap().server;
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    table.seated(claim(&seat.id, &host));
    assert_eq!(table.refused("already_in_match", reserve(&other, SeatsElsewhere::All)), refused);
    let second = table.new_seat(reserve(&other, SeatsElsewhere::Reserved));
    table.done(release(&second));
    let second = table.new_seat(reserve(&other, SeatsElsewhere::Ignored));
    table.done(release(&second));
    table.done(release(&seat));
    table.new_seat(rejoin(&other, "ann"));
}

/// Texts that are not the address of one server.
const NO_ADDRESSES: [&str; 16] = [
    "0.0.0.0:7777",
    "10.1.2.3",
    "10.1.2.3:0",
    "127.0.0.1:65536",
    "[::]:1",
    "224.0.0.1:7777",
    "255.255.255.255:7777",
    "169.254.1.2:7777",
    "[ff02::1]:7777",
    "[fe80::1]:7777",
    "localhost",
    "example.com",
    "example.com:0",
    "a b:77",
    "code: 7",
    "",
];

impl Table {
    /// Checks that connection details without an address are refused, for a match on a server.
    fn needs_address(&mut self, host: &ServerId, id: &MatchId) {
        for details in NO_ADDRESSES {
            let refusal = self.refused("invalid_field", ready(host, id, details, Hints::NONE));
            assert!(
                matches!(refusal, Refusal::InvalidField { field: "connection_details", .. }),
                "{details}"
            );
        }
        let per_player = BTreeMap::from([(player("ann"), "0.0.0.0:1".into())]);
        let connection = Connection { per_player, ..at("10.1.2.3:7777") };
        let command = Command::MatchReady {
            server: host.clone(),
            match_id: id.clone(),
            connection,
            hints: Hints::NONE,
        };
        let refusal = self.refused("invalid_field", command);
        assert!(matches!(refusal, Refusal::InvalidField { field: "per_player_connection_details", .. }));
        assert_eq!(self.state(id), "picked_up");
    }
}

#[test]
fn an_address_that_nobody_can_connect_to_is_refused_with_its_field() {
    let named =
        |properties: &str| MatchSpec { properties: Properties::parse(properties).unwrap(), ..spec(&["ann"]) };
    let of_game = r#"{"game": "arena", "version": "1"}"#;
    // For the fleet as the gateway orders it, for the fleet with named players, for any fleet of the game.
    let orders = [open(&[]), MatchSpec { capacity: None, ..open(&["ann"]) }, named(of_game), named("")];
    for order in orders {
        let mut table = Table::with_fleets(vec![fleet_of("eu", "arena", "1")]);
        let id = table.submit("m", order);
        let host = table.allocation_for(&id).unwrap().server;
        assert_eq!(table.poll(&host).as_ref(), Some(&id));
        table.needs_address(&host, &id);
        table.noted(ready(&host, &id, "game.example.com:7777", Hints::NONE));
    }
    // On a server without a fleet, which runs the match's game.
    let mut table = Table::with_fleets(vec![Fleet { max: 0, ..fleet_of("eu", "arena", "1") }]);
    let host = server("bare metal");
    let id = table.submit("m", named(of_game));
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.needs_address(&host, &id);
    table.noted(ready(&host, &id, "127.0.0.1:7777", Hints::NONE));
}

#[test]
fn what_only_the_game_understands_is_taken_where_players_do_not_come_by_the_gateway() {
    let cases = ["room 7", "room:0", "10.1.2.3", "{\"code\": 7}", "https://example.com/7", "localhost"];
    let named =
        |properties: &str| MatchSpec { properties: Properties::parse(properties).unwrap(), ..spec(&["ann"]) };
    let other = named(r#"{"game": "arena", "version": "2"}"#);
    // By a fleet without a game; and by a server without a fleet, if no fleet runs the match's game.
    let no_game = (fleet("eu"), [spec(&["ann"]), MatchSpec { capacity: Some(2), ..spec(&[]) }]);
    let no_fleet = (Fleet { max: 0, ..fleet_of("eu", "arena", "1") }, [other, spec(&["ann"])]);
    for (fleet, orders) in [no_game, no_fleet] {
        let mut table = Table::with_fleets(vec![fleet]);
        for (n, order) in orders.into_iter().enumerate() {
            for details in cases {
                let host = server(&format!("host {n} {details}"));
                let id = table.submit(&format!("m{n} {details}"), order.clone());
                assert_eq!(table.poll(&host).as_ref(), Some(&id));
                table.noted(ready(&host, &id, details, Hints::NONE));
            }
        }
        let (id, host) = (table.submit("last", spec(&["ann"])), server("last"));
        assert_eq!(table.poll(&host).as_ref(), Some(&id));
        for details in [
            "0.0.0.0:7777",
            "0.0.0.0",
            "::",
            "[::]:1",
            "10.1.2.3:0",
            "224.0.0.1:7",
            "[fe80::1]:7",
            "255.255.255.255",
        ] {
            table.refused("invalid_field", ready(&host, &id, details, Hints::NONE));
        }
    }
}

fn unreachable(id: &MatchId) -> Command {
    Command::ReportUnreachable { match_id: id.clone() }
}

#[test]
fn a_match_that_nobody_can_reach_fails_and_its_server_is_replaced() {
    let (mut table, host, id) = running(&[]);
    table.new_seat(join("ann"));
    table.done(unreachable(&id));
    assert_eq!(table.state(&id), "failed: unreachable");
    assert!(table.known_server(&host).is_none());
    assert_eq!(table.stops(&host), 1);
    assert_eq!(table.health("eu").failures, 0, "players wait for another one");
    let other = table.new_seat(join("ann")).match_id;
    assert_ne!(other, id);
    table.done(unreachable(&id));
    let order = table.allocation_for(&other).expect("another server is ordered at once");
    assert_eq!(order.fleet, fleet_id("eu"));

    // A fleet whose servers are all like that backs off.
    table.started(&order);
    assert_eq!(table.poll(&order.server).as_ref(), Some(&other));
    table.ready(&order.server, &other);
    table.done(unreachable(&other));
    let health = table.health("eu");
    assert_eq!((health.failures, health.backoff_until), (1, table.now() + FIRST_BACKOFF));
}

#[test]
fn a_server_of_no_fleet_that_nobody_can_reach_is_kept_away_for_a_while() {
    let mut table = Table::new();
    let host = server("bare metal");
    let id = table.submit("m", spec(&[]));
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    table.done(unreachable(&id));
    assert_eq!(table.state(&id), "failed: unreachable");
    for _ in 0..2 {
        assert_eq!(table.sent_away(&host), Hints::SHUTDOWN);
        table.advance(secs(30) - MS);
    }
    table.advance(MS + MS);
    assert_eq!(table.poll(&host), None);
    assert_eq!(table.server_state(&host), "available");
}

#[test]
fn a_match_with_players_goes_on_where_others_cannot_reach_it() {
    let (mut table, host, id) = running(&[]);
    let seat = table.new_seat(join("ann"));
    table.seated(claim(&seat.id, &host));
    table.done(unreachable(&id));
    assert_eq!((table.state(&id).as_str(), table.server_state(&host)), ("ready", "draining"));
    assert_ne!(table.new_seat(join("bob")).match_id, id, "no player is sent there");
    assert_ne!(table.new_seat(join("ann")).match_id, id);
    table.advance(secs(60));
    assert_eq!(table.new_seat(join("cat")).match_id, id, "after a while it is retried");
}

#[test]
fn a_match_of_named_players_that_the_gateway_cannot_reach_fails_where_they_come_by_it() {
    for claimed in [false, true] {
        let mut table = Table::with_fleets(vec![fleet_of("eu", "arena", "1")]);
        let id = table.submit("m", open(&["ann", "bob"]));
        let host = table.allocation_for(&id).unwrap().server;
        assert_eq!(table.poll(&host).as_ref(), Some(&id));
        table.ready(&host, &id);
        let seat = table.new_seat(rejoin(&id, "ann"));
        if claimed {
            table.seated(claim(&seat.id, &host));
        }
        table.done(unreachable(&id));
        assert_eq!(table.state(&id), if claimed { "ready" } else { "failed: unreachable" });
    }
}

#[test]
fn named_players_may_reach_what_the_gateway_cannot() {
    let (mut table, _, id) = running(&["ann"]);
    table.done(unreachable(&id));
    assert_eq!(table.state(&id), "ready");
    assert_ne!(table.new_seat(join("ann")).match_id, id);
}

#[test]
fn a_call_that_awaits_a_match_is_not_woken_by_other_players() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (ann, found, _) = table.seated(join("ann"));
    let id = found.id;
    let wait = |seat: &Seat| Command::AwaitReady { match_id: seat.match_id.clone(), seat: seat.id.clone() };
    let of_ann = table.kept(wait(&ann));
    let bob = table.new_seat(join("bob"));
    let host = table.allocation_for(&id).unwrap().server;
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    assert!(table.answer(of_ann).is_none());
    // A released seat is news, if only for its player.
    table.done(release(&bob));
    assert!(matches!(table.answer(of_ann), Some(Ok(Reply::Match(_)))));
    let Reply::Match(found) = table.ok(wait(&bob)) else { panic!() };
    assert!(!found.seats.contains_key(&bob.id));
    let (of_ann, gone) = (table.kept(wait(&ann)), table.kept(wait(&ann)));
    table.abandon(gone);
    table.ready(&host, &id);
    let Some(Ok(Reply::Match(found))) = table.answer(of_ann) else { panic!() };
    assert_eq!(found.state.name(), "ready");
    assert!(table.answer(gone).is_none());
    table.ok(wait(&ann));
    table.refused("match_not_found", Command::AwaitReady { match_id: game("other"), seat: ann.id });
}
