//! Free places reported by the server: its report counts, and players on the way are not forgotten.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::select;
use sortie_domain::broker::model::{Match, Seat, SeatState};
use sortie_domain::broker::{Command, Reply, SeatsElsewhere};
use sortie_domain::ids::{MatchId, PlayerId, ServerId};
use sortie_domain::match_spec::{MAX_CAPACITY, MatchSpec};
use sortie_domain::refusal::RefusalKind;

use crate::table::{Asked, Table, claim, fleet, fleet_id, game, player, players, secs, server, spec};

const TTL: std::time::Duration = secs(10);

fn reserve(id: &MatchId, who: &str) -> Command {
    Command::ReserveSeat {
        match_id: id.clone(),
        player: player(who),
        ttl: TTL,
        elsewhere: SeatsElsewhere::Ignored,
    }
}

fn free(id: &MatchId, host: &ServerId, free: u32) -> Command {
    Command::ReportFreePlaces { match_id: id.clone(), server: Some(host.clone()), free }
}

/// A running match that only takes named players unless its server reports free places.
fn running(named: &[&str]) -> (Table, ServerId, MatchId) {
    running_with(MatchSpec { fleet: Some(fleet_id("eu")), ..spec(named) })
}

fn running_with(spec: MatchSpec) -> (Table, ServerId, MatchId) {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.submit("m", spec);
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.ready(&host, &id);
    (table, host, id)
}

impl Table {
    fn take_seat(&mut self, id: &MatchId, who: &str) -> Seat {
        let Reply::Seated { seat, .. } = self.ok(reserve(id, who)) else { panic!("no seat") };
        seat
    }

    fn say_free(&mut self, id: &MatchId, host: &ServerId, count: u32) -> Match {
        let Reply::Match(found) = self.ok(free(id, host, count)) else { panic!("no match") };
        found
    }

    /// Free places, and all places.
    fn places(&self, id: &MatchId) -> (u32, Option<u32>) {
        (self.find(id).free_places(), self.find(id).capacity())
    }
}

#[test]
fn a_match_without_a_capacity_takes_as_many_as_its_server_says() {
    let (mut table, host, id) = running(&["ann"]);
    assert_eq!(table.places(&id), (0, None));
    let mark = table.mark();
    let found = table.say_free(&id, &host, 2);
    assert_eq!((found.free_places(), found.capacity()), (2, Some(3)));
    assert_eq!(table.kinds_since(mark), ["match.places_reported"]);
    table.take_seat(&id, "bob");
    table.take_seat(&id, "cat");
    table.refused("match_full", reserve(&id, "dan"));
    table.restart();
    assert_eq!(table.places(&id), (0, Some(3)));
}

#[test]
fn whoever_joins_the_fleet_comes_into_the_match_whose_server_has_room() {
    let (mut table, host, id) = running(&["ann"]);
    let join = |who: &str| Command::Join {
        fleet: fleet_id("eu"),
        player: player(who),
        capacity: 2,
        ttl: TTL,
        properties: Default::default(),
        beside: [].into(),
        rejoin: true,
    };
    table.say_free(&id, &host, 1);
    let Reply::Seated { seat, .. } = table.ok(join("bob")) else { panic!() };
    assert_eq!(seat.match_id, id);
    let Reply::Seated { seat, .. } = table.ok(join("cat")) else { panic!() };
    assert_ne!(seat.match_id, id, "it is full again");
}

#[test]
fn to_say_the_same_again_is_no_news() {
    let (mut table, host, id) = running(&[]);
    table.say_free(&id, &host, 2);
    let mark = table.mark();
    table.say_free(&id, &host, 2);
    assert_eq!(table.kinds_since(mark), [""; 0]);
    // A player who came is subtracted from the report; reporting that changes nothing.
    let seat = table.take_seat(&id, "ann");
    table.ok(claim(&seat.id, &host));
    let mark = table.mark();
    table.say_free(&id, &host, 1);
    assert_eq!(table.kinds_since(mark), [""; 0]);
}

#[test]
fn seats_that_are_reserved_are_not_promised_again() {
    let (mut table, host, id) = running_with(MatchSpec { capacity: Some(3), ..spec(&[]) });
    let ann = table.take_seat(&id, "ann");
    table.take_seat(&id, "bob");
    // Nobody has come yet, so all three places are without a player.
    table.say_free(&id, &host, 3);
    assert_eq!(table.places(&id), (1, Some(3)));
    table.ok(claim(&ann.id, &host));
    assert_eq!(table.places(&id), (1, Some(3)));
    table.say_free(&id, &host, 2);
    assert_eq!(table.places(&id), (1, Some(3)));
    table.advance(TTL);
    assert_eq!(table.places(&id), (2, Some(3)), "bob did not come");
}

#[test]
fn a_server_that_has_less_room_than_was_promised_gets_nobody_else() {
    let (mut table, host, id) = running_with(MatchSpec { capacity: Some(3), ..spec(&[]) });
    for who in ["ann", "bob"] {
        table.take_seat(&id, who);
    }
    table.say_free(&id, &host, 1);
    assert_eq!(table.places(&id), (0, Some(2)), "a player on the way may come");
    table.refused("match_full", reserve(&id, "cat"));
    table.say_free(&id, &host, 0);
    table.refused("match_full", reserve(&id, "cat"));
}

#[test]
fn a_player_who_came_without_a_claim_is_counted_twice_until_the_seat_expires() {
    let (mut table, host, id) = running(&[]);
    table.say_free(&id, &host, 2);
    table.take_seat(&id, "ann");
    table.advance(secs(5));
    table.take_seat(&id, "bob");
    table.say_free(&id, &host, 1);
    assert_eq!(table.places(&id).0, 0);
    table.advance(secs(5));
    assert_eq!(table.places(&id).0, 0, "ann is there, bob is on the way");
    table.advance(secs(5));
    assert_eq!(table.places(&id).0, 1, "bob did not come");
}

#[test]
fn the_place_of_who_leaves_is_free_when_the_server_says_so() {
    for says_first in [true, false] {
        let (mut table, host, id) = running(&[]);
        table.say_free(&id, &host, 1);
        let seat = table.take_seat(&id, "ann");
        table.ok(claim(&seat.id, &host));
        let release = Command::ReleaseSeat { seat: seat.id };
        if says_first {
            table.say_free(&id, &host, 1);
            table.done(release);
        } else {
            table.done(release);
            assert_eq!(table.places(&id).0, 0);
            table.say_free(&id, &host, 1);
        }
        assert_eq!(table.places(&id), (1, Some(1)));
    }
}

#[test]
fn a_named_player_who_left_takes_a_free_place_like_anybody_else() {
    let (mut table, host, id) = running(&["ann", "bob"]);
    // Places that are kept for them are not free.
    table.say_free(&id, &host, 0);
    for who in ["ann", "bob"] {
        let seat = table.take_seat(&id, who);
        table.ok(claim(&seat.id, &host));
    }
    let ann = table.find(&id).seats.values().find(|seat| seat.player == player("ann")).unwrap().id.clone();
    table.done(Command::ReleaseSeat { seat: ann });
    table.refused("match_full", reserve(&id, "ann"));
    table.say_free(&id, &host, 1);
    assert_eq!(table.places(&id), (1, Some(2)));
    assert_eq!(table.find(&id).expected_players(), [player("bob")]);
    table.take_seat(&id, "ann");
    assert_eq!(table.find(&id).expected_players(), players(&["bob", "ann"]));
    table.refused("match_full", reserve(&id, "cat"));
}

#[test]
fn a_named_player_who_has_not_come_yet_has_a_place() {
    let (mut table, host, id) = running(&["ann"]);
    table.say_free(&id, &host, 0);
    table.take_seat(&id, "ann");
    table.advance(TTL);
    table.take_seat(&id, "ann");
    assert_eq!(table.places(&id), (0, Some(1)));
}

#[test]
fn what_cannot_be_is_refused() {
    let mut table = Table::with_fleets(vec![fleet("eu")]);
    let host = table.idle_server();
    let id = table.submit("m", spec(&["ann"]));
    let anyone = |free| Command::ReportFreePlaces { match_id: id.clone(), server: None, free };
    table.refused("not_ready", anyone(1));
    assert_eq!(table.poll(&host).as_ref(), Some(&id));
    table.refused("not_ready", anyone(1));
    table.refused("not_ready", free(&id, &host, 1));
    table.ready(&host, &id);
    let refusal = table.refused("invalid_field", anyone(MAX_CAPACITY + 1));
    assert_eq!(refusal.to_string(), "free: must be 0 to 10000");
    table.refused("match_not_held", free(&id, &server("other"), 1));
    table.refused("match_not_found", free(&game("unknown"), &host, 1));
    table.ok(anyone(MAX_CAPACITY));
    table.end(&host, &id);
    let refusal = table.refused("match_over", anyone(1));
    assert_eq!(refusal.kind(), RefusalKind::Gone);
    table.refused("match_not_held", free(&id, &host, 1));
}

/// What happens in and around a match.
#[derive(Clone, Copy, Debug)]
enum Play {
    Reserve(&'static str),
    /// A player with a promised place comes; the server claims the seat or not.
    Come(&'static str, bool),
    /// A seat is claimed after its player was counted.
    ClaimLate(&'static str),
    /// A player leaves; the server reports it before it releases the seat or after.
    Leave(&'static str, bool),
    Say,
    Advance(u64),
    Restart,
}

const NAMED: [&str; 2] = ["ann", "bob"];
const PEOPLE: [&str; 6] = ["ann", "bob", "cat", "dan", "eve", "fay"];

fn play() -> impl Strategy<Value = Play> {
    let who = || select(PEOPLE.as_slice());
    prop_oneof![
        6 => who().prop_map(Play::Reserve),
        6 => (who(), any::<bool>()).prop_map(|(who, claims)| Play::Come(who, claims)),
        1 => who().prop_map(Play::ClaimLate),
        4 => (who(), any::<bool>()).prop_map(|(who, says)| Play::Leave(who, says)),
        2 => Just(Play::Say),
        3 => (0..12_000_u64).prop_map(Play::Advance),
        1 => Just(Play::Restart),
    ]
}

/// A server that counts its players as they come and go, and reports its count.
struct Honest {
    table: Table,
    host: ServerId,
    id: MatchId,
    places: usize,
    there: BTreeSet<&'static str>,
    /// Named players for whom it keeps a place, because they never came.
    kept: BTreeSet<&'static str>,
    /// Named players who left without a seat: only the server knows, so it does not let them in again.
    gone: BTreeSet<&'static str>,
}

impl Honest {
    fn new(places: usize, capacity: bool) -> Self {
        let capacity = capacity.then(|| u32::try_from(places).unwrap());
        let (table, host, id) = running_with(MatchSpec { capacity, ..spec(&NAMED) });
        let kept = NAMED.into_iter().collect();
        let mut honest =
            Self { table, host, id, places, there: BTreeSet::new(), kept, gone: BTreeSet::new() };
        honest.say();
        honest
    }

    fn seats(&self) -> BTreeMap<PlayerId, Seat> {
        let seats = self.table.find(&self.id).seats.values();
        seats.map(|seat| (seat.player.clone(), seat.clone())).collect()
    }

    fn free(&self) -> u32 {
        u32::try_from(self.places - self.there.len() - self.kept.len()).unwrap()
    }

    fn say(&mut self) {
        let free = self.free();
        self.table.say_free(&self.id, &self.host, free);
    }

    fn play(&mut self, play: Play) {
        match play {
            Play::Reserve(who) if !self.there.contains(who) && !self.gone.contains(who) => {
                drop(self.table.ask(reserve(&self.id, who)));
            }
            Play::Come(who, claims) if !self.there.contains(who) => self.come(who, claims),
            Play::ClaimLate(who) if self.there.contains(who) => {
                if let Some(seat) = self.seats().remove(&player(who)) {
                    let Asked::Answered(_) = self.table.ask(claim(&seat.id, &self.host)) else { panic!() };
                }
            }
            Play::Leave(who, says_first) if self.there.remove(who) => {
                let claimed = self.seats().remove(&player(who));
                let claimed = claimed.filter(|seat| matches!(seat.state, SeatState::Claimed { .. }));
                if NAMED.contains(&who) && claimed.is_none() {
                    self.gone.insert(who);
                }
                if says_first {
                    self.say();
                }
                if let Some(seat) = claimed {
                    self.table.done(Command::ReleaseSeat { seat: seat.id });
                }
                if !says_first {
                    self.say();
                }
            }
            Play::Say => self.say(),
            Play::Advance(millis) => self.table.advance(std::time::Duration::from_millis(millis)),
            Play::Restart => self.table.restart(),
            _ => {}
        }
    }

    fn come(&mut self, who: &'static str, claims: bool) {
        let seat = self.seats().remove(&player(who));
        if self.gone.contains(who) || (seat.is_none() && !self.kept.contains(who)) {
            return;
        }
        self.kept.remove(who);
        assert!(self.there.len() + self.kept.len() < self.places, "{who} has a seat and finds no place");
        self.there.insert(who);
        if let Some(seat) = seat.filter(|_| claims) {
            self.table.ok(claim(&seat.id, &self.host));
        }
        self.say();
    }

    /// No player was promised a place that another player has or was promised.
    fn check(&self) {
        let coming = self.seats().into_keys().filter(|coming| {
            let among = |people: &BTreeSet<&str>| people.contains(coming.as_str());
            !among(&self.there) && !among(&self.kept) && !among(&self.gone)
        });
        let promised = self.there.len() + self.kept.len() + coming.count();
        assert!(promised <= self.places, "{promised} of {} places are promised", self.places);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    /// Every promised place exists, and no place is lost forever.
    #[test]
    fn no_place_is_promised_twice(
        places in 2..5_usize,
        capacity: bool,
        plays in proptest::collection::vec(play(), 1..60),
    ) {
        let mut honest = Honest::new(places, capacity);
        for play in plays {
            honest.play(play);
            honest.check();
        }
        honest.table.advance(TTL);
        honest.say();
        prop_assert_eq!(honest.table.places(&honest.id).0, honest.free());
    }
}
