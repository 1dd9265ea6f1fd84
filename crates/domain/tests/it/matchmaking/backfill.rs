use std::collections::BTreeMap;

use sortie_domain::ids::MatchId;
use sortie_domain::machine::Machine;
use sortie_domain::matchmaking::model::{SeatOffer, Status, TicketSpec, TicketState};
use sortie_domain::matchmaking::settings::{Backfill, Queue};
use sortie_domain::matchmaking::{Command, Effect};
use sortie_domain::properties::Properties;

use super::rules::{equal, latency, skill};
use super::table::{Table, at, far_from, player_id, queue_id, rated, region, secs, spec, with_properties};

fn drop_in(backfill: Backfill) -> Queue {
    Queue { backfill, teams: 1, players_per_team: 4, min_players_per_team: 4, ..Queue::default() }
}

fn offer(id: &str, seats: u32) -> SeatOffer {
    SeatOffer {
        match_id: MatchId::new(id).unwrap(),
        queue: queue_id("q"),
        seats,
        region: None,
        properties: Properties::default(),
        ratings: BTreeMap::new(),
        players: Vec::new(),
    }
}

fn seated(table: &mut Table, who: &str, id: &str) {
    let (ticket, match_id) = (table.find(who).id.clone(), MatchId::new(id).unwrap());
    table.done(Command::Seated { ticket, match_id, connection: at("203.0.113.7:7777") });
}

#[test]
fn a_waiting_ticket_takes_free_seats_and_no_seat_is_given_twice() {
    let mut table = Table::with(drop_in(Backfill::Last));
    table.start("trio", spec(&["a", "b", "c"]));
    table.start("duo", spec(&["d", "e"]));
    table.solo("f");
    table.tick();
    // A trio and a solo are four: that is a match. The duo is left.
    assert_eq!(table.formed().len(), 1);
    table.solo("g");
    table.done(Command::OfferSeats { offer: offer("m", 2) });
    table.tick();
    assert_eq!((table.status("duo"), table.status("g")), (Status::FindingServer, Status::InProgress));
    assert!(matches!(table.effects.last(), Some(Effect::Seat { .. })));
    // The server repeats its offer: the two seats are already promised.
    table.done(Command::OfferSeats { offer: offer("m", 2) });
    table.tick();
    assert_eq!(table.status("g"), Status::InProgress);
    table.done(Command::OfferSeats { offer: offer("m", 3) });
    table.tick();
    assert_eq!(table.status("g"), Status::FindingServer);
    seated(&mut table, "duo", "m");
    seated(&mut table, "g", "m");
    seated(&mut table, "g", "m");
    assert_eq!(table.heard("duo"), [Status::InProgress, Status::FindingServer, Status::Completed]);
    assert_eq!(table.maker.offers().count(), 0);
}

#[test]
fn a_new_ticket_finds_an_offer_that_is_there_before_or_after_new_matches() {
    for (backfill, formed) in [(Backfill::First, 0), (Backfill::Last, 1), (Backfill::Off, 1)] {
        let mut table = Table::with(drop_in(backfill));
        table.done(Command::OfferSeats { offer: offer("m", 4) });
        for who in ["a", "b", "c", "d", "e"] {
            table.solo(who);
        }
        table.tick();
        assert_eq!(table.formed().len(), formed, "{backfill:?}");
        let seated = ["a", "b", "c", "d", "e"]
            .iter()
            .filter(|who| matches!(table.find(who).state, TicketState::Seating { .. }));
        let expected = match backfill {
            Backfill::First => 4,
            Backfill::Last => 1,
            Backfill::Off => 0,
        };
        assert_eq!(seated.count(), expected, "{backfill:?}");
    }
}

#[test]
fn seats_that_were_not_there_send_the_ticket_back_and_end_the_offer() {
    let mut table = Table::with(drop_in(Backfill::First));
    table.done(Command::OfferSeats { offer: offer("m", 2) });
    table.solo("a");
    table.tick();
    let (ticket, match_id) = (table.find("a").id.clone(), MatchId::new("m").unwrap());
    table.done(Command::NotSeated { ticket, match_id });
    table.tick();
    assert_eq!(table.status("a"), Status::InProgress);
    assert_eq!(table.maker.offers().count(), 0, "no storm: it is not tried again");
    assert_eq!(table.heard("a"), [Status::InProgress, Status::FindingServer, Status::InProgress]);
}

#[test]
fn who_waits_for_a_seat_too_long_goes_back() {
    let mut table = Table::with(Queue { seat_timeout: secs(5), ..drop_in(Backfill::First) });
    table.done(Command::OfferSeats { offer: offer("m", 1) });
    table.solo("a");
    table.tick();
    assert_eq!(table.status("a"), Status::FindingServer);
    table.restart();
    assert_eq!(table.maker.outstanding().len(), 1);
    table.advance(secs(6));
    assert_eq!(table.status("a"), Status::InProgress);
    let (ticket, match_id) = (table.find("a").id.clone(), MatchId::new("m").unwrap());
    table.refused("seats_not_wanted", Command::Seated { ticket, match_id, connection: at("there") });
    assert_eq!(table.status("a"), Status::InProgress, "that came too late");
}

#[test]
fn free_seats_are_for_those_whom_the_rules_let_in() {
    let rules = vec![equal("map"), skill(50.0), latency(80.0)];
    let mut table = Table::with(Queue { rules, ..drop_in(Backfill::First) });
    let ticket = |map: &str, rating, eu, who| {
        let spec = rated(rating, spec(&[who]));
        far_from(&[("eu", eu)], with_properties(&format!(r#"{{"map":"{map}"}}"#), spec))
    };
    let offer = SeatOffer {
        region: Some(region("eu")),
        properties: Properties::parse(r#"{"map":"forest"}"#).unwrap(),
        ratings: BTreeMap::from([("mmr".into(), 1000.0)]),
        players: vec![player_id("old")],
        ..offer("m", 4)
    };
    table.done(Command::OfferSeats { offer });
    table.start("desert", ticket("desert", 1000.0, 10, "a"));
    table.start("strong", ticket("forest", 1080.0, 10, "b"));
    table.start("far", ticket("forest", 1000.0, 81, "c"));
    table.start("right", ticket("forest", 1050.0, 80, "d"));
    table.start("old", ticket("forest", 1000.0, 10, "old"));
    table.tick();
    let statuses = ["desert", "strong", "far", "right", "old"].map(|who| table.status(who));
    let waits = Status::InProgress;
    assert_eq!(statuses, [waits, waits, waits, Status::FindingServer, waits]);
    table.advance(secs(10));
    assert_eq!(table.status("strong"), Status::FindingServer, "its window has widened");
}

#[test]
fn an_offer_ends_when_it_is_withdrawn_or_the_match_is_over() {
    let mut table = Table::with(drop_in(Backfill::First));
    for (end, id) in [
        (Command::WithdrawSeats { match_id: MatchId::new("one").unwrap() }, "one"),
        (Command::MatchEnded { match_id: MatchId::new("two").unwrap(), reason: "over".into() }, "two"),
    ] {
        table.done(Command::OfferSeats { offer: offer(id, 3) });
        table.done(end);
    }
    table.solo("a");
    table.tick();
    assert_eq!(table.status("a"), Status::InProgress);
    assert_eq!(table.maker.offers().count(), 0);
}

#[test]
fn offers_that_make_no_sense_are_refused() {
    let mut table = Table::with(drop_in(Backfill::First));
    table.refused("invalid_field", Command::OfferSeats { offer: offer("m", 0) });
    let twice = SeatOffer { players: vec![player_id("a"), player_id("a")], ..offer("m", 1) };
    table.refused("invalid_field", Command::OfferSeats { offer: twice });
    let unknown = SeatOffer { queue: queue_id("unknown"), ..offer("m", 1) };
    table.refused("queue_not_found", Command::OfferSeats { offer: unknown });
}

#[test]
fn who_cancels_while_waiting_for_a_seat_is_gone() {
    let mut table = Table::with(drop_in(Backfill::First));
    table.done(Command::OfferSeats { offer: offer("m", 1) });
    table.solo("a");
    table.tick();
    table.cancel("a");
    assert_eq!(table.status("a"), Status::Cancelled);
    let (ticket, match_id) = (table.find("a").id.clone(), MatchId::new("m").unwrap());
    table.refused("seats_not_wanted", Command::Seated { ticket, match_id, connection: at("there") });
    assert_eq!(table.status("a"), Status::Cancelled);
    assert_eq!(table.maker.offers().count(), 0);
}

#[test]
fn who_comes_later_is_compared_with_the_average_of_those_who_came_first() {
    let mut table = Table::with(Queue {
        teams: 1,
        players_per_team: 3,
        min_players_per_team: 2,
        rules: vec![skill(50.0)],
        ..drop_in(Backfill::Last)
    });
    table.start("ann", rated(1_400.0, spec(&["ann"])));
    table.start("bob", rated(1_480.0, spec(&["bob"])));
    table.advance(secs(61));
    let game = table.formation();
    assert_eq!(game.spec.properties.text(), Some(r#"{"mmr":1440.0,"queue_name":"q"}"#));
    let id = game.id.clone();
    table.ready(&id);
    let properties = game.spec.properties.clone();
    table.done(Command::OfferSeats { offer: SeatOffer { properties, ..offer(id.as_str(), 1) } });
    table.start("far", rated(1_500.0, spec(&["far"])));
    table.start("near", rated(1_480.0, spec(&["near"])));
    table.tick();
    assert_eq!((table.status("far"), table.status("near")), (Status::InProgress, Status::FindingServer));
}

/// Offers that do not suit, each for one reason; then one that does; then younger suitable ones.
fn behind_many(table: &mut Table, ticket: &TicketSpec, unsuitable: &dyn Fn(usize) -> SeatOffer) -> String {
    for n in 0..300 {
        table.done(Command::OfferSeats { offer: unsuitable(n) });
    }
    for id in ["right", "younger"] {
        let suitable = SeatOffer {
            region: Some(region("eu")),
            properties: Properties::parse(r#"{"map":"forest"}"#).unwrap(),
            ratings: BTreeMap::from([("mmr".into(), 1000.0)]),
            ..offer(id, 4)
        };
        table.done(Command::OfferSeats { offer: suitable });
    }
    table.advance(secs(1));
    table.start("a", ticket.clone());
    table.tick();
    table.find("a").match_id().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_suitable_offer_is_found_behind_any_number_of_others() {
    let of = |n: usize, map: &str, mmr: f64, eu: &str, seats: u32| SeatOffer {
        region: Some(region(eu)),
        properties: Properties::parse(&format!(r#"{{"map":"{map}"}}"#)).unwrap(),
        ratings: BTreeMap::from([("mmr".into(), mmr)]),
        players: vec![player_id(&format!("old{n}"))],
        ..offer(&format!("m{n:03}"), seats)
    };
    let unsuitable: [&dyn Fn(usize) -> SeatOffer; 5] = [
        &|n| of(n, "desert", 1000.0, "eu", 4),
        &|n| of(n, "forest", 2000.0 + n as f64, "eu", 4),
        &|n| of(n, "forest", 1000.0, "us", 4),
        &|n| of(n, "forest", 1000.0, "eu", 1),
        &|n| SeatOffer { players: vec![player_id("foe")], ..of(n, "forest", 1000.0, "eu", 4) },
    ];
    for backfill in [Backfill::First, Backfill::Last] {
        for (at, unsuitable) in unsuitable.iter().enumerate() {
            let blocks = sortie_domain::matchmaking::settings::Rule::new(
                "blocks",
                sortie_domain::matchmaking::settings::RuleKind::NotBlocked,
            );
            let rules = vec![equal("map"), skill(50.0), latency(80.0), blocks];
            let mut table = Table::with(Queue { rules, ..drop_in(backfill) });
            let mut ticket = rated(1020.0, spec(&["a", "b"]));
            ticket.parties[0].players[0].blocked = vec![player_id("foe")];
            let ticket = far_from(&[("eu", 10)], with_properties(r#"{"map":"forest"}"#, ticket));
            assert_eq!(behind_many(&mut table, &ticket, unsuitable), "right", "{at} {backfill:?}");
        }
    }
}

/// The other way round: an offer finds the oldest suitable ticket, and offers that leave everything out suit every
/// ticket.
#[test]
fn an_offer_finds_the_oldest_ticket_that_it_suits_behind_any_number_of_others() {
    for (properties, ratings) in [
        (r#"{"map":"forest"}"#, BTreeMap::from([("mmr".into(), 1000.0)])),
        (r#"{"map":"forest"}"#, BTreeMap::new()),
    ] {
        let rules = vec![equal("map"), skill(50.0)];
        let mut table = Table::with(Queue {
            rules,
            players_per_team: 5,
            min_players_per_team: 5,
            ..drop_in(Backfill::First)
        });
        for n in 0..1_500 {
            let who = format!("p{n:04}");
            table.start(&who, with_properties(r#"{"map":"desert"}"#, rated(1000.0, spec(&[&who]))));
        }
        table.start("right", with_properties(r#"{"map":"forest"}"#, rated(1000.0, spec(&["right"]))));
        table.start("late", with_properties(r#"{"map":"forest"}"#, rated(1000.0, spec(&["late"]))));
        table.advance(secs(1));
        let properties = Properties::parse(properties).unwrap();
        table.done(Command::OfferSeats { offer: SeatOffer { properties, ratings, ..offer("m", 1) } });
        table.tick();
        let statuses = (table.status("right"), table.status("late"));
        assert_eq!(statuses, (Status::FindingServer, Status::InProgress));
    }
    let mut table = Table::with(Queue { rules: vec![equal("map")], ..drop_in(Backfill::First) });
    table.start("any", with_properties(r#"{"map":"desert"}"#, spec(&["any"])));
    table.tick();
    table.done(Command::OfferSeats {
        offer: SeatOffer { properties: Properties::default(), ..offer("m", 1) },
    });
    table.tick();
    assert_eq!(table.status("any"), Status::FindingServer);
}

#[test]
fn a_look_that_is_cut_goes_on_where_it_was() {
    let expression = "length(sort(candidate.players)) < `2` && candidate.properties.open";
    let kind = sortie_domain::matchmaking::settings::RuleKind::Expression {
        expression: expression.into(),
        about: sortie_domain::matchmaking::settings::About::Pair,
        need: sortie_domain::matchmaking::settings::Need::Required,
    };
    let rules = vec![sortie_domain::matchmaking::settings::Rule::new("open", kind)];
    let mut table = Table::with(Queue { rules, ..drop_in(Backfill::First) });
    for n in 0..2_000 {
        let closed = SeatOffer {
            properties: Properties::parse(&format!(r#"{{"blob":"{}"}}"#, "x".repeat(500))).unwrap(),
            ..offer(&format!("m{n:04}"), 1)
        };
        table.done(Command::OfferSeats { offer: closed });
    }
    let properties = Properties::parse(r#"{"open":true}"#).unwrap();
    table.done(Command::OfferSeats { offer: SeatOffer { properties, ..offer("open", 1) } });
    // All offers have looked at the waiting tickets.
    table.advance(secs(60));
    table.solo("a");
    let mut ticks = 0;
    while table.status("a") == Status::InProgress {
        table.now += 100;
        table.advance_once();
        ticks += 1;
        assert!(ticks < 200, "it is never found");
    }
    assert!(ticks > 1, "it was cut");
    assert_eq!(table.match_of("a").as_str(), "open");
}

#[test]
fn offers_of_matches_with_more_than_a_thousand_players_are_taken() {
    let mut table = Table::with(drop_in(Backfill::First));
    let players = |count: usize| (0..count).map(|n| player_id(&format!("old{n}"))).collect::<Vec<_>>();
    table.done(Command::OfferSeats { offer: SeatOffer { players: players(5_000), ..offer("m", 1) } });
    table.start("old", spec(&["old4999"]));
    table.solo("new");
    table.tick();
    assert_eq!((table.status("old"), table.status("new")), (Status::InProgress, Status::FindingServer));
    let text = table.refused(
        "invalid_field",
        Command::OfferSeats { offer: SeatOffer { players: players(11_001), ..offer("n", 1) } },
    );
    assert!(text.contains("11000"), "{text}");
}
