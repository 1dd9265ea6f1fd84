//! Numbers are equal when their values are, whole ones exactly; and they are passed on unchanged.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sortie_domain::ids::MatchId;
use sortie_domain::matchmaking::entity::{Entity, EntityKind, Metadata, ticket};
use sortie_domain::matchmaking::model::{SeatOffer, Status};
use sortie_domain::matchmaking::settings::{About, Backfill, Need, Queue, Rule, RuleKind};
use sortie_domain::matchmaking::{Command, Effect, Rated};
use sortie_domain::properties::Properties;

use super::table::{Table, queue_id, spec, with_properties};

const EQUAL: [(&str, &str); 7] = [
    ("76561197980428154", "76561197980428154"),
    ("0", "-0.0"),
    ("1", "1.0"),
    ("100", "1e2"),
    ("[1, {\"a\": 0}]", "[1.0, {\"a\": -0.0}]"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("-5", "-50e-1"),
];
/// The last ones only differ beyond 64 bits.
const DIFFERENT: [(&str, &str); 5] = [
    ("76561197980428154", "76561197980428155"),
    ("9007199254740992", "9007199254740993"),
    ("[76561197980428154]", "[76561197980428155]"),
    ("1", "\"1\""),
    ("123456789012345678901234567890", "123456789012345678901234567891"),
];

fn equal_rule() -> Rule {
    Rule::new("code", RuleKind::Equal { property: "code".into() })
}

fn required_rule() -> Rule {
    let expression = "ticket.properties.code == candidate.properties.code".into();
    Rule::new("code", RuleKind::Expression { expression, about: About::Pair, need: Need::Required })
}

fn code(value: &str) -> String {
    format!(r#"{{"code":{value}}}"#)
}

/// Whether tickets with these values are matched under a rule.
fn matched(rule: Rule, one: &str, other: &str) -> bool {
    let mut table = Table::with(Queue { rules: vec![rule], ..Queue::default() });
    table.start("ann", with_properties(&code(one), spec(&["ann"])));
    table.start("bob", with_properties(&code(other), spec(&["bob"])));
    table.tick();
    table.formed().len() == 1
}

/// Whether a ticket gets the seats of a match.
fn seated(rule: Rule, one: &str, other: &str) -> bool {
    let queue = Queue { rules: vec![rule], backfill: Backfill::First, ..Queue::default() };
    let mut table = Table::with(queue);
    let offer = SeatOffer {
        match_id: MatchId::new("m").unwrap(),
        queue: queue_id("q"),
        seats: 1,
        region: None,
        properties: Properties::parse(&code(one)).unwrap(),
        ratings: BTreeMap::new(),
        players: Vec::new(),
    };
    table.done(Command::OfferSeats { offer });
    table.start("bob", with_properties(&code(other), spec(&["bob"])));
    table.tick();
    table.status("bob") == Status::FindingServer
}

#[test]
fn numbers_are_equal_when_their_values_are() {
    for (one, other) in EQUAL {
        for (one, other) in [(one, other), (other, one)] {
            assert!(matched(equal_rule(), one, other), "{one} {other}");
            assert!(matched(required_rule(), one, other), "{one} {other}");
            assert!(seated(equal_rule(), one, other), "{one} {other}");
            assert!(seated(required_rule(), one, other), "{one} {other}");
        }
    }
    // Within an expression, a number with a point is the nearest double.
    assert!(matched(equal_rule(), "76561197980428154", "76561197980428154.0"));
    for (at, (one, other)) in DIFFERENT.into_iter().enumerate() {
        for (one, other) in [(one, other), (other, one)] {
            assert!(!matched(equal_rule(), one, other), "{one} {other}");
            assert!(!seated(equal_rule(), one, other), "{one} {other}");
            if at < 4 {
                assert!(!matched(required_rule(), one, other), "{one} {other}");
                assert!(!seated(required_rule(), one, other), "{one} {other}");
            }
        }
    }
}

const LONG: &str = "123456789012345678901234567890";

#[test]
fn long_numbers_go_through_digit_by_digit() {
    let mut table = Table::with(Queue::default());
    for (who, value) in [("ann", LONG), ("bob", LONG)] {
        table.start(who, with_properties(&code(value), spec(&[who])));
    }
    table.tick();
    let Some(Effect::Submit { spec, .. }) = table.effects.last() else { panic!("no match") };
    let expected = format!(r#"{{"code":{LONG},"queue_name":"q"}}"#);
    assert_eq!(spec.properties.text(), Some(&*expected));
}

#[test]
fn entities_and_what_is_taken_from_players_leave_numbers_as_they_came() {
    let entry = |name: &str, value| (name.to_owned(), value);
    let json = |text: String| Metadata::Json(text);
    let metadata = BTreeMap::from([
        entry("queue_name", Metadata::Text("q".into())),
        entry("properties", json(format!(r#"{{"a": {LONG}, "b": [1.0, 1e2]}}"#))),
        entry("c", json(LONG.into())),
        entry("d", Metadata::Integer(76_561_197_980_428_154)),
    ]);
    let account = Entity { id: "ann".into(), kind: EntityKind::Account, entities: Vec::new(), metadata };
    let group = Entity {
        id: "party".into(),
        kind: EntityKind::Group,
        entities: vec![Entity { metadata: BTreeMap::new(), ..account.clone() }],
        metadata: account.metadata,
    };
    let mut spec = ticket(&group).unwrap();
    let all = format!(r#"{{"a":{LONG},"b":[1.0, 1e2],"c":{LONG},"d":76561197980428154}}"#);
    assert_eq!(spec.properties.text(), Some(&*all));
    let kind = RuleKind::Balance { property: "b".into(), most: 1.0, missing: 0.0 };
    let queue = Queue { rules: vec![Rule::new("fair", kind)], ..Queue::default() };
    Rated::of(&queue).take_from(&mut spec);
    let left = format!(r#"{{"a":{LONG},"c":{LONG},"d":76561197980428154}}"#);
    assert_eq!(spec.properties.text(), Some(&*left));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However a whole number is written, it is equal to itself and to no neighbour.
    #[test]
    fn whole_numbers_are_equal_exactly(number in any::<i64>(), zeros in 0_usize..4) {
        let written = format!("{number}{}e-{zeros}", "0".repeat(zeros));
        let next = i128::from(number) + 1;
        prop_assert!(matched(equal_rule(), &number.to_string(), &written));
        prop_assert!(!matched(equal_rule(), &next.to_string(), &written));
        prop_assert!(matched(required_rule(), &number.to_string(), &number.to_string()));
        if let Ok(next) = i64::try_from(next) {
            prop_assert!(!matched(required_rule(), &next.to_string(), &number.to_string()));
        }
    }
}
