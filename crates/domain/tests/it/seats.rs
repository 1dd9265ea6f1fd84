//! Seats: drop-in play, from a place kept for a player to a place that is free again.

use std::collections::BTreeSet;
use std::time::Duration;

use sortie_domain::broker::model::{Fleet, Match, Seat, SeatEnd, SeatState};
use sortie_domain::broker::{CLOSED_SEATS_KEPT, Command, Event, Hints, Refusal, Reply, SeatsElsewhere};
use sortie_domain::ids::{MatchId, SeatId, ServerId};
use sortie_domain::match_spec::{MAX_CAPACITY, MatchSpec};
use sortie_domain::properties::Properties;
use sortie_domain::refusal::RefusalKind;

use crate::table::{MS, Table, claim, fleet, fleet_id, game, player, players, request, secs, server, spec};

const TTL: Duration = secs(10);

fn join(who: &str, capacity: u32) -> Command {
    Command::Join {
        fleet: fleet_id("eu"),
        player: player(who),
        capacity,
        ttl: TTL,
        properties: Properties::default(),
        beside: [].into(),
        rejoin: true,
    }
}

fn reserve(id: &MatchId, who: &str) -> Command {
    Command::ReserveSeat {
        match_id: id.clone(),
        player: player(who),
        ttl: TTL,
        elsewhere: SeatsElsewhere::Ignored,
    }
}

fn release(seat: &SeatId) -> Command {
    Command::ReleaseSeat { seat: seat.clone() }
}

fn open(capacity: u32, named: &[&str]) -> MatchSpec {
    MatchSpec { capacity: Some(capacity), fleet: Some(fleet_id("eu")), ..spec(named) }
}

impl Table {
    fn seat(&mut self, command: Command) -> (Seat, Match) {
        match self.ok(command) {
            Reply::Seated { seat, game, .. } => (seat, game),
            other => panic!("{other:?}"),
        }
    }

    fn free_places(&self, id: &MatchId) -> u32 {
        self.find(id).free_places()
    }
}

/// A running match with `capacity` places on a server of the fleet.
fn running(capacity: u32, named: &[&str]) -> (Table, ServerId, MatchId) {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.submit("m", open(capacity, named));
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    (table, host, id)
}

#[test]
fn whoever_joins_where_nothing_runs_gets_a_seat_in_a_new_match() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let mark = table.mark();
    let (seat, found) = table.seat(join("ann", 2));
    assert_eq!((seat.player, seat.ttl, &seat.match_id), (player("ann"), TTL, &found.id));
    assert_eq!(seat.state, SeatState::Reserved { expires_at: None });
    assert_eq!((found.spec.capacity, found.spec.fleet.clone()), (Some(2), Some(fleet_id("eu"))));
    assert_eq!(table.kinds_since(mark), ["match.queued", "seat.reserved", "allocation.ordered"]);
    let order = table.allocation_for(&found.id).unwrap();
    let (offer, _) = table.request(&order.server, "", Hints::NONE);
    assert_eq!(offer.unwrap().players, players(&["ann"]), "the server hears who comes");
}

#[test]
fn whoever_joins_comes_into_the_match_that_runs_and_has_room() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let older = table.submit("older", open(2, &[]));
    let running = table.submit("running", open(2, &[]));
    assert_eq!(table.poll(&host).as_ref(), Some(&older));
    assert_eq!(table.poll_new(&host).as_ref(), Some(&running));
    table.ready(&host, &running);
    let ids = ["a", "b", "c", "d"].map(|who| table.seat(join(who, 2)).0.match_id);
    // First the running one, then the one that is about to run; nothing new is queued.
    assert_eq!(ids, [&running, &running, &older, &older].map(Clone::clone));
    let (seat, _) = table.seat(join("e", 2));
    assert!(![&older, &running].contains(&&seat.match_id), "all are full");
}

#[test]
fn among_running_matches_the_oldest_with_room_comes_first() {
    let (mut table, host, first) = running(2, &["ann"]);
    let second = table.submit("second", open(2, &["bob"]));
    table.poll(&host);
    table.ready(&host, &second);
    let ids = ["a", "b"].map(|who| table.seat(join(who, 2)).0.match_id);
    assert_eq!(ids, [first, second]);
}

#[test]
fn a_match_of_another_fleet_or_without_a_capacity_is_not_joined() {
    let mut table = Table::with_fleets(vec![fleet("eu"), fleet("us")]);
    let host = server("host");
    let closed = table.submit("closed", MatchSpec { fleet: Some(fleet_id("eu")), ..spec(&[]) });
    let elsewhere = table.submit("elsewhere", MatchSpec { fleet: Some(fleet_id("us")), ..open(4, &[]) });
    table.poll(&host);
    let (seat, _) = table.seat(join("ann", 2));
    assert!(![&closed, &elsewhere].contains(&&seat.match_id));
    table.refused("no_capacity", reserve(&closed, "ann"));
    let unknown = Command::Join {
        fleet: fleet_id("mars"),
        player: player("ann"),
        capacity: 2,
        ttl: TTL,
        properties: Properties::default(),
        beside: [].into(),
        rejoin: true,
    };
    table.refused("fleet_not_found", unknown);
}

#[test]
fn named_players_take_seats_where_nobody_else_can() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let closed = table.submit("closed", spec(&["ann"]));
    table.refused("no_capacity", reserve(&closed, "bob"));
    let (seat, _) = table.seat(reserve(&closed, "ann"));
    assert_eq!(seat.match_id, closed);
    table.refused("already_seated", reserve(&closed, "ann"));
}

#[test]
fn named_players_hold_their_places_for_the_whole_match() {
    let (mut table, _, id) = running(3, &["ann", "bob"]);
    assert_eq!(table.free_places(&id), 1);
    table.seat(reserve(&id, "cat"));
    table.refused("match_full", reserve(&id, "dan"));
    // Named players take no further place.
    let (seat, found) = table.seat(reserve(&id, "ann"));
    assert_eq!((found.occupied(), found.free_places()), (3, 0));
    table.done(release(&seat.id));
    table.refused("match_full", reserve(&id, "dan"));
}

#[test]
fn a_match_has_no_more_seats_than_places() {
    let (mut table, _, id) = running(2, &[]);
    let (first, _) = table.seat(reserve(&id, "ann"));
    table.seat(reserve(&id, "bob"));
    table.refused("match_full", reserve(&id, "cat"));
    table.done(release(&first.id));
    table.seat(reserve(&id, "cat"));
}

#[test]
fn a_player_has_one_seat_in_a_match() {
    let (mut table, _, id) = running(3, &[]);
    table.seat(reserve(&id, "ann"));
    table.refused("already_seated", reserve(&id, "ann"));
    assert_eq!(table.free_places(&id), 2);
}

#[test]
fn a_seat_is_claimed_once_and_on_its_server_only() {
    let (mut table, host, id) = running(2, &[]);
    let (seat, _) = table.seat(reserve(&id, "ann"));
    table.refused("other_server", claim(&seat.id, &server("other")));
    let (claimed, _) = table.seat(claim(&seat.id, &host));
    assert_eq!(claimed.state, SeatState::Claimed { at: table.now(), again_until: None });
    assert_eq!(claimed.client_id, seat.client_id);
    for again in [claim(&seat.id, &host), Command::ClaimSeat { seat: seat.id.clone(), server: None }] {
        table.refused("already_claimed", again);
    }
    table.refused("seat_not_found", claim(&SeatId::new("unknown").unwrap(), &host));
    table.advance(secs(60));
    assert_eq!(table.free_places(&id), 1, "a claimed seat does not expire");
}

#[test]
fn a_seat_can_be_claimed_without_naming_the_server() {
    let (mut table, _, id) = running(2, &[]);
    let (seat, _) = table.seat(reserve(&id, "ann"));
    table.seat(Command::ClaimSeat { seat: seat.id, server: None });
}

#[test]
fn nobody_can_be_in_a_match_that_is_not_ready() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (seat, found) = table.seat(join("ann", 2));
    let claim_anywhere = || Command::ClaimSeat { seat: seat.id.clone(), server: None };
    table.refused("not_ready", claim_anywhere());
    let host = table.allocation_for(&found.id).unwrap().server;
    table.poll(&host);
    table.refused("not_ready", claim_anywhere());
    table.refused("not_ready", claim(&seat.id, &host));
    table.ready(&host, &found.id);
    table.seat(claim(&seat.id, &host));
}

#[test]
fn a_seat_that_is_not_claimed_in_time_is_free_again() {
    let (mut table, host, id) = running(1, &[]);
    let (seat, _) = table.seat(reserve(&id, "ann"));
    assert_eq!(seat.state, SeatState::Reserved { expires_at: Some(table.now() + TTL) });
    table.advance(TTL - MS);
    table.refused("match_full", reserve(&id, "bob"));
    let mark = table.mark();
    table.advance(MS);
    assert_eq!(table.kinds_since(mark), ["seat.closed"]);
    let refusal = table.refused("seat_over", claim(&seat.id, &host));
    assert_eq!(refusal.kind(), RefusalKind::Gone);
    assert_eq!(refusal.to_string(), format!("seat {} is over: the seat was not claimed in time", seat.id));
    table.seat(reserve(&id, "bob"));
    assert_eq!(table.state(&id), "ready", "a running match continues without its players");
}

#[test]
fn the_time_to_claim_a_seat_begins_when_the_match_is_ready() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (seat, found) = table.seat(join("ann", 2));
    let host = table.allocation_for(&found.id).unwrap().server;
    table.advance(secs(40));
    table.poll(&host);
    table.advance(secs(20));
    table.ready(&host, &found.id);
    let expires_at = Some(table.now() + TTL);
    assert_eq!(table.find(&found.id).seats.get(&seat.id).unwrap().state, SeatState::Reserved { expires_at });
    table.advance(TTL - MS);
    table.seat(claim(&seat.id, &host));
}

#[test]
fn a_released_seat_is_free_at_once_and_releasing_it_again_is_no_fault() {
    let (mut table, host, id) = running(1, &[]);
    let (seat, _) = table.seat(reserve(&id, "ann"));
    table.seat(claim(&seat.id, &host));
    table.done(release(&seat.id));
    let mark = table.mark();
    table.done(release(&seat.id));
    assert_eq!(table.kinds_since(mark), [""; 0]);
    table.refused("seat_over", claim(&seat.id, &host));
    table.refused("seat_not_found", release(&SeatId::new("unknown").unwrap()));
    table.seat(reserve(&id, "bob"));
}

#[test]
fn a_queued_match_that_everyone_left_is_called_off() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let (first, found) = table.seat(join("ann", 2));
    let (second, _) = table.seat(join("bob", 2));
    assert_eq!(second.match_id, found.id);
    table.done(release(&first.id));
    assert_eq!(table.state(&found.id), "queued");
    table.done(release(&second.id));
    assert_eq!(table.state(&found.id), "cancelled: abandoned");
}

#[test]
fn a_queued_match_with_named_players_is_not_called_off() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", open(2, &["ann"]));
    let (seat, _) = table.seat(reserve(&id, "bob"));
    table.done(release(&seat.id));
    assert_eq!(table.state(&id), "queued");
}

#[test]
fn seats_end_with_their_match() {
    let (mut table, host, id) = running(3, &[]);
    let seats = ["ann", "bob"].map(|who| table.seat(reserve(&id, who)).0.id);
    table.seat(claim(&seats[0], &host));
    table.end(&host, &id);
    let Event::MatchEnded { players: told, .. } = table.last_event() else { panic!() };
    assert_eq!(told.len(), 2, "everyone with a seat hears about it");
    for seat in &seats {
        let refusal = table.refused("seat_over", claim(seat, &host));
        assert!(matches!(refusal, Refusal::SeatOver { end, .. } if end.name() == "match_over"), "{refusal}");
        table.done(release(seat));
    }
    table.refused("match_over", reserve(&id, "cat"));
    table.refused("match_not_found", reserve(&game("unknown"), "cat"));
    table.advance(secs(60));
}

#[test]
fn everyone_with_a_seat_hears_that_the_match_is_ready() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let id = table.submit("m", open(3, &["ann"]));
    table.seat(reserve(&id, "bob"));
    table.seat(reserve(&id, "ann"));
    let host = table.allocation_for(&id).unwrap().server;
    table.poll(&host);
    table.ready(&host, &id);
    let Event::MatchReady { players: told, .. } = table.last_event() else { panic!() };
    assert_eq!(told, &players(&["ann", "bob"]), "each once");
}

#[test]
fn a_seat_whose_player_never_heard_of_it_is_given_back() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let reply = table.ok(join("ann", 2));
    let Reply::Seated { game: found, .. } = reply.clone() else { panic!() };
    table.undelivered(reply);
    assert_eq!(table.state(&found.id), "cancelled: abandoned");

    let (mut table, host, id) = running(2, &[]);
    let reply = table.ok(reserve(&id, "ann"));
    let Reply::Seated { seat, .. } = reply.clone() else { panic!() };
    table.seat(claim(&seat.id, &host));
    table.undelivered(reply);
    assert_eq!(table.free_places(&id), 1, "players in the match stay in it");
}

#[test]
fn a_seat_that_the_player_was_told_of_once_more_is_not_given_back() {
    let (mut table, host, id) = running(3, &[]);
    let reply = table.ok(reserve(&id, "ann"));
    let Reply::Seated { seat, .. } = reply.clone() else { panic!() };
    // The player asks again before the first answer is known to be lost, and gets its existing seat.
    table.refused("already_seated", reserve(&id, "ann"));
    // Other players who were told about their seats do not keep this one's.
    let of_bob = table.ok(reserve(&id, "bob"));
    table.undelivered(reply);
    table.undelivered(of_bob);
    assert_eq!(table.free_places(&id), 2);
    table.seat(claim(&seat.id, &host));
}

#[test]
fn only_the_reservation_that_the_answer_told_of_is_given_back() {
    let (mut table, host, id) = running(2, &[]);
    let lost = table.ok(reserve(&id, "ann"));
    let Reply::Seated { seat, game, again } = lost.clone() else { panic!() };
    table.done(release(&seat.id));
    let (second, _) = table.seat(reserve(&id, "ann"));
    // The player has another seat by now.
    table.undelivered(lost);
    table.seat(claim(&second.id, &host));
    // Nor is a seat released by an answer with another client id.
    let (third, _) = table.seat(reserve(&id, "bob"));
    let other = Seat { client_id: !third.client_id, ..third.clone() };
    table.undelivered(Reply::Seated { seat: other, game, again });
    table.seat(claim(&third.id, &host));
}

#[test]
fn a_match_has_so_many_seats_at_most_and_all_of_them_end_with_it() {
    let (mut table, host, id) = running(MAX_CAPACITY, &["ann", "bob"]);
    let most = MAX_CAPACITY as usize - 2;
    let mut seats = Vec::new();
    for n in 0..most {
        seats.push(table.seat(reserve(&id, &format!("p{n}"))).0.id);
    }
    table.refused("match_full", reserve(&id, "late"));
    table.seat(reserve(&id, "ann"));
    let found = table.find(&id);
    assert_eq!((found.seats.len(), found.free_places(), found.occupied()), (most + 1, 0, MAX_CAPACITY));
    for seat in &seats[..most / 2] {
        table.seat(claim(seat, &host));
    }
    let half = u32::try_from(most / 2).unwrap();
    assert_eq!(table.find(&id).seats.claimed(), half);
    assert_eq!(table.find(&id).players().len(), MAX_CAPACITY as usize, "each once");
    // The server says that there is room for more than a match may have.
    table.ok(Command::ReportFreePlaces { match_id: id.clone(), server: None, free: MAX_CAPACITY });
    assert_eq!(table.free_places(&id), 1);
    table.seat(reserve(&id, "late"));
    table.refused("match_full", reserve(&id, "later"));
    table.end(&host, &id);
    for n in [0, most / 2, most - 1] {
        let refusal = table.refused("seat_over", claim(&seats[n], &host));
        assert_eq!(refusal, Refusal::SeatOver { seat: seats[n].clone(), end: SeatEnd::MatchOver });
        table.done(release(&seats[n]));
    }
    table.restart();
    table.refused("seat_over", claim(&seats[0], &host));
    assert!(table.find(&id).seats.is_empty());
}

#[test]
fn seats_of_the_newest_matches_that_are_over_are_remembered() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let mut seats = Vec::new();
    for n in 0..=CLOSED_SEATS_KEPT {
        let id = table.submit(&format!("m{n}"), open(2, &[]));
        seats.push(table.seat(reserve(&id, "ann")).0.id);
        table.ok(Command::CancelMatch { id });
    }
    table.done(release(&seats[1]));
    table.refused("seat_not_found", release(&seats[0]));
}

/// A player with seats in very many matches gets into a new one, without checking all of them.
#[test]
fn a_player_who_sits_everywhere_gets_a_new_match() {
    let mut table = Table::with_fleets(vec![Fleet { max: 1, ..fleet("eu") }]);
    let host = table.idle_server();
    let mut matches = BTreeSet::new();
    for n in 0..1_100 {
        let id = table.submit(&format!("m{n}"), open(2, &[]));
        table.poll(&host);
        table.ready(&host, &id);
        let (seat, _) = table.seat(reserve(&id, "ann"));
        table.seat(claim(&seat.id, &host));
        matches.insert(id);
    }
    let Command::Join { fleet, player, capacity, ttl, properties, beside, .. } = join("ann", 2) else {
        panic!()
    };
    let elsewhere = Command::Join { fleet, player, capacity, ttl, properties, beside, rejoin: false };
    let (_, found) = table.seat(elsewhere);
    assert!(!matches.contains(&found.id), "another one");
    let (_, found) = table.seat(join("bob", 2));
    assert!(matches.contains(&found.id), "others join");
}

#[test]
fn a_player_with_a_seat_in_a_waiting_servers_match_is_told_where_it_is() {
    let mut table = Table::with_fleets(vec![Fleet { warm: 1, ..fleet("eu") }]);
    let host = table.allocations().remove(0).server;
    let call = table.kept(request(&host, "", Hints::WILLING_TO_WAIT));
    let (seat, found) = table.seat(join("ann", 2));
    assert_eq!((found.state.name(), found.server), ("picked_up", Some(host)));
    assert_eq!(table.offered(call).unwrap().players, players(&["ann"]));
    assert_eq!(seat.state, SeatState::Reserved { expires_at: None });
}

#[test]
fn seats_survive_a_restart() {
    let (mut table, host, id) = running(2, &[]);
    let (first, _) = table.seat(reserve(&id, "ann"));
    let (second, _) = table.seat(reserve(&id, "bob"));
    table.seat(claim(&first.id, &host));
    table.restart();
    table.refused("already_claimed", claim(&first.id, &host));
    table.refused("match_full", reserve(&id, "cat"));
    table.advance(TTL);
    table.refused("seat_over", claim(&second.id, &host));
}
