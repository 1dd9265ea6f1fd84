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

const EQUAL: [(&str, &str); 12] = [
    ("76561197980428154", "76561197980428154"),
    ("0", "-0.0"),
    ("1", "1.0"),
    ("100", "1e2"),
    ("[1, {\"a\": 0}]", "[1.0, {\"a\": -0.0}]"),
    ("123456789012345678901234567890", "123456789012345678901234567890"),
    ("-5", "-50e-1"),
    ("76561197980428154", "76561197980428154.0"),
    ("9007199254740993", "9007199254740993.0"),
    ("[9007199254740993]", "[90071992547409930e-1]"),
    ("1000", "1e3"),
    ("123456789012345678901234567890", "12345678901234567890123456789.0e1"),
];
const DIFFERENT: [(&str, &str); 8] = [
    ("76561197980428154", "76561197980428155"),
    ("9007199254740992", "9007199254740993"),
    ("[76561197980428154]", "[76561197980428155]"),
    ("1", "\"1\""),
    ("9007199254740992", "9007199254740993.0"),
    ("18446744073709551615", "18446744073709551616"),
    ("[123456789012345678901234567890]", "[123456789012345678901234567891]"),
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
    for (one, other) in DIFFERENT {
        for (one, other) in [(one, other), (other, one)] {
            for rule in [equal_rule(), required_rule()] {
                assert!(!matched(rule.clone(), one, other), "{one} {other}");
                assert!(!seated(rule, one, other), "{one} {other}");
            }
        }
    }
}

/// Whether an expression over two tickets holds; the first has waited longer.
fn holds(expression: &str, one: &str, other: &str) -> bool {
    let kind =
        RuleKind::Expression { expression: expression.into(), about: About::Pair, need: Need::Required };
    matched(Rule::new("rule", kind), one, other)
}

/// Both tickets are the candidate of the other one, so each expression holds in both directions.
#[test]
fn every_operator_and_function_compares_whole_numbers_by_their_digits() {
    const NEXT: &str = "123456789012345678901234567891";
    for (less, more) in
        [("9007199254740992", "9007199254740993"), (LONG, NEXT), ("1", "1e30"), ("-1e30", "0.5")]
    {
        let holds = |expression: &str| {
            let expression =
                expression.replace("LESS", &format!("`{less}`")).replace("MORE", &format!("`{more}`"));
            holds(&expression.replace("MINE", "ticket.properties.code"), less, more)
        };
        for expression in [
            "MINE == LESS || MINE == MORE",
            "MINE != LESS || MINE != MORE",
            "MINE >= LESS && MINE <= MORE",
            "MINE < MORE || MINE > LESS",
            "(MINE == LESS) != (MINE == MORE)",
            "(MINE < MORE) == (MINE == LESS)",
            "contains([LESS, `7.5`], MINE) != contains([MORE], MINE)",
            "sort([MORE, LESS])[0] == LESS && sort([LESS, MORE])[1] == MORE",
            "max([LESS, MORE]) == MORE && min([MORE, LESS]) == LESS",
            "sort_by([{a: MORE}, {a: LESS}], &a)[0].a == LESS",
            "max_by([{a: MORE}, {a: LESS}], &a).a == MORE",
            "type(MINE) == 'number' && MINE.x == `null` && !(keys(MINE))",
            "[MINE, {a: MINE}] == [LESS, {a: LESS}] || [MINE, {a: MINE}] == [MORE, {a: MORE}]",
        ] {
            // `keys` of a number is an error, so the expression does not fit.
            assert_eq!(holds(expression), !expression.contains("keys"), "{expression} for {less} and {more}");
        }
    }
    let sum = "sum([`9007199254740992`, `1`]) == `9007199254740993` && abs(`-9007199254740993`) == `9007199254740993`";
    assert!(holds(sum, "1", "1") && holds("floor(`9007199254740993`) == `9007199254740993.0`", "1", "1"));
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
        prop_assert!(matched(required_rule(), &number.to_string(), &written));
        prop_assert!(!matched(required_rule(), &next.to_string(), &written));
    }
}
