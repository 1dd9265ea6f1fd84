//! Nobody starves: tickets that have waited longest get the first suitable match, however many others arrive.

use sortie_domain::matchmaking::model::{Status, TicketSpec};
use sortie_domain::matchmaking::settings::{About, Need, Queue, Rule, RuleKind};

use super::rules::latency;
use super::table::{Table, far_from, secs, spec, with_properties};

const COMES: usize = 200;

/// Attackers play with defenders only, in a region that is acceptable to both.
fn roles() -> Queue {
    let kind = RuleKind::Expression {
        expression: "ticket.properties.role != candidate.properties.role".into(),
        about: About::Pair,
        need: Need::Required,
    };
    let rules = vec![Rule::new("roles", kind), latency(80.0)];
    Queue { ticket_expiration: secs(3_600), rules, ..Queue::default() }
}

fn attacker(name: &str, region: &str) -> TicketSpec {
    with_properties(r#"{"role":"attack"}"#, far_from(&[(region, 30)], spec(&[name])))
}

/// Accepts both regions, and prefers `eu`.
fn defender(name: &str) -> TicketSpec {
    with_properties(r#"{"role":"defend"}"#, far_from(&[("eu", 20), ("us", 70)], spec(&[name])))
}

#[test]
fn the_oldest_is_served_first_though_others_always_wait_in_a_better_region() {
    let mut table = Table::with(roles());
    table.start("first eu", attacker("first eu", "eu"));
    table.start("lone us", attacker("lone us", "us"));
    for n in 0..COMES {
        // Twice as many attackers as defenders, so that the queue for the better region only grows.
        for of in ["a", "b"] {
            let name = format!("eu {n}{of}");
            table.start(&name, attacker(&name, "eu"));
        }
        let name = format!("defender {n}");
        table.start(&name, defender(&name));
        table.tick();
    }
    let partners: Vec<String> = table
        .formed()
        .into_iter()
        .map(|teams| teams.into_iter().flatten().find(|id| !id.starts_with("defender")).unwrap())
        .collect();
    let mut expected = vec!["first eu".to_owned(), "lone us".to_owned()];
    expected.extend((0..COMES).flat_map(|n| [format!("eu {n}a"), format!("eu {n}b")]));
    assert_eq!(partners, expected[..COMES]);
}

#[test]
fn a_large_party_is_not_passed_by_for_single_players() {
    let mut table = Table::with(Queue {
        teams: 1,
        players_per_team: 4,
        min_players_per_team: 4,
        ticket_expiration: secs(3_600),
        ..Queue::default()
    });
    table.start("three", spec(&["x", "y", "z"]));
    for n in 0..COMES {
        table.solo(&format!("solo {n}"));
        if n % 5 == 0 {
            table.tick();
        }
    }
    table.tick();
    assert_eq!(table.status("three"), Status::FindingServer);
    assert_eq!(table.formed()[0].concat(), ["three", "solo 0"], "the first who came made it whole");
    let order: Vec<String> = table.formed().into_iter().skip(1).flat_map(|teams| teams.concat()).collect();
    let expected: Vec<String> = (1..COMES).map(|n| format!("solo {n}")).collect();
    assert_eq!(order, expected[..order.len()], "by age");
    assert!(order.len() >= COMES - 4);
}
