//! Data that players may not state themselves, because a queue's rules judge by it.

use sortie_domain::matchmaking::Rated;
use sortie_domain::matchmaking::model::TicketSpec;
use sortie_domain::matchmaking::settings::{
    About, Hook, HookPoint, Measure, Need, OnFailure, Queue, Rule, RuleKind,
};
use sortie_domain::properties::Properties;

use super::table::{Table, outside, queue_id, settings, spec, with_properties};

fn judging(kind: RuleKind) -> Queue {
    Queue { rules: vec![Rule::new("rule", kind)], ..Queue::default() }
}

fn distance(property: &str, measure: Measure) -> Queue {
    judging(RuleKind::Distance { property: property.into(), measure, most: 1.0, missing: 0.0 })
}

fn expression(text: &str) -> Queue {
    judging(RuleKind::Expression { expression: text.to_owned(), about: About::Pair, need: Need::Required })
}

fn of_ticket(properties: &str) -> TicketSpec {
    with_properties(properties, spec(&["a"]))
}

fn of_player(properties: &str) -> TicketSpec {
    let mut spec = of_ticket("");
    spec.parties[0].players[0].properties = Properties::parse(properties).unwrap();
    spec
}

#[test]
fn a_player_does_not_set_what_rules_compare_as_numbers() {
    let balance = judging(RuleKind::Balance { property: "mmr".into(), most: 1.0, missing: 0.0 });
    for (queue, said) in [
        (distance("mmr", Measure::Average), "mmr"),
        (distance("mmr", Measure::Ticket), "mmr"),
        (balance, "mmr"),
        (expression("ticket.properties.mmr < candidate.properties.mmr"), "mmr"),
        (expression("candidate.properties.mmr >= `1000`"), "mmr"),
        (expression("abs(ticket.properties.mmr) == `3`"), "mmr"),
        (expression("ticket.player_properties.*.mmr | max(@) > `3`"), "mmr"),
        (expression("max_by(values(ticket.player_properties), &mmr) && `true`"), "mmr"),
        (expression("to_number(ticket.properties.mmr) == `3`"), "mmr"),
        (expression("ticket.properties.map == 'x' && !(ticket.properties.mmr > `1`)"), "mmr"),
        (expression("ticket.properties | mmr > `1`"), "mmr"),
        (expression("[ticket, candidate][*].properties.mmr | max(@) > `1`"), "mmr"),
    ] {
        let rated = Rated::of(&queue);
        for mut spec in [of_ticket(r#"{"map": "x", "mmr": 9000}"#), of_player(r#"{"map": "x", "mmr": 9000}"#)]
        {
            assert_eq!(rated.said_in(&spec).as_deref(), Some(&*format!("properties.{said}")), "{queue:?}");
            rated.take_from(&mut spec);
            assert_eq!(rated.said_in(&spec), None);
            let left = [spec.properties.text(), spec.parties[0].players[0].properties.text()];
            assert!(left.contains(&Some(r#"{"map":"x"}"#)), "{left:?}");
        }
    }
}

#[test]
fn nested_numbers_are_found_and_what_stands_beside_them_is_left() {
    let rated = Rated::of(&distance("skill.mmr", Measure::Ticket));
    let mut spec = of_ticket(r#"{"skill": {"mmr": 9, "role": "tank"}}"#);
    assert_eq!(rated.said_in(&spec).as_deref(), Some("properties.skill.mmr"));
    rated.take_from(&mut spec);
    assert_eq!(spec.properties.text(), Some(r#"{"skill":{"role":"tank"}}"#));
    // A match that others may join has the average under the rule's own name.
    assert!(rated.said_in(&of_ticket(r#"{"skill.mmr": 9}"#)).is_some());
}

#[test]
fn where_all_properties_are_judged_none_is_the_player_s_to_say() {
    for judged in ["max(values(ticket.properties)) > `3`", "ticket.properties.*.rating | max(@) > `3`"] {
        let rated = Rated::of(&expression(judged));
        for said in [r#"{"power": 99}"#, r#"{"foo": {"rating": 9}}"#] {
            let mut spec = of_ticket(said);
            assert_eq!(rated.said_in(&spec).as_deref(), Some("properties"), "{judged} {said}");
            rated.take_from(&mut spec);
            assert_eq!(spec.properties.text(), None);
            assert_eq!(rated.said_in(&spec), None);
        }
        assert_eq!(rated.said_in(&of_ticket("{}")), None);
    }
}

#[test]
fn wishes_are_the_player_s_to_say() {
    for queue in [
        Queue::default(),
        judging(RuleKind::Equal { property: "mmr".into() }),
        judging(RuleKind::Latency { most: 50.0 }),
        judging(RuleKind::NotBlocked),
        expression("ticket.properties.mmr == candidate.properties.mmr"),
        expression("ticket.ratings.mmr < candidate.ratings.mmr"),
        expression("ticket.size > `1`"),
        expression("ticket.latencies | max(values(@)) < `50`"),
        distance("other", Measure::Ticket),
    ] {
        let rated = Rated::of(&queue);
        for spec in [of_ticket(r#"{"mmr": 1, "size": 2}"#), of_player(r#"{"mmr": 1}"#)] {
            assert_eq!(rated.said_in(&spec), None, "{queue:?}");
        }
    }
}

#[test]
fn ratings_are_never_the_player_s_to_say() {
    let mut spec = of_ticket("");
    spec.parties[0].players[0].ratings.insert("mmr".into(), 9000.0);
    let rated = Rated::of(&Queue::default());
    assert_eq!(rated.said_in(&spec).as_deref(), Some("ratings"));
    rated.take_from(&mut spec);
    assert!(spec.parties[0].players[0].ratings.is_empty());
}

#[test]
fn a_queue_that_sends_tickets_on_judges_by_the_rules_of_where_they_go() {
    let sorted =
        Queue { hooks: vec![Hook::QueueByPartySize([(1, queue_id("solo"))].into())], ..Queue::default() };
    let asked = Queue {
        hooks: vec![outside("outside", HookPoint::ValidateTicket, OnFailure::Accept)],
        ..Queue::default()
    };
    let queues = [
        ("solo", distance("mmr", Measure::Ticket)),
        ("sorted", sorted),
        ("asked", asked),
        ("plain", Queue::default()),
    ];
    let table = Table::configured(settings(queues));
    let spec = of_ticket(r#"{"mmr": 1}"#);
    let judges =
        |queue: &str| table.maker.rated(&queue_id(queue)).iter().any(|rated| rated.said_in(&spec).is_some());
    assert_eq!(["solo", "sorted", "asked", "plain", "none"].map(judges), [true, true, true, false, false]);
}
