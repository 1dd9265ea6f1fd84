use sortie_domain::matchmaking::Command;
use sortie_domain::matchmaking::model::{MAX_BLOCKED, MAX_RATINGS, MAX_REGIONS, TicketSpec};
use sortie_domain::matchmaking::settings::Queue;

use super::rules::equal;
use super::table::{Table, player_id, queue_id, rated, region, secs, spec, with_properties};

#[test]
fn what_is_too_much_of_a_ticket_is_refused() {
    let mut table = Table::with(Queue::default());
    let mut refuse = |spec: TicketSpec, expected: &str| {
        let text = table.refused("invalid_field", Command::Start { id: None, spec });
        assert!(text.contains(expected), "{text}");
    };
    refuse(spec(&[]), "without players");
    refuse(TicketSpec { parties: Vec::new(), ..spec(&[]) }, "without players");
    refuse(rated(f64::NAN, spec(&["a"])), "ratings");
    refuse(rated(f64::INFINITY, spec(&["a"])), "ratings");
    refuse(rated(1e13, spec(&["a"])), "ratings");
    refuse(TicketSpec { leader: Some(player_id("b")), ..spec(&["a"]) }, "leader");
    let mut many = spec(&["a"]);
    many.parties[0].players[0].ratings = (0..=MAX_RATINGS).map(|n| (format!("r{n}").into(), 1.0)).collect();
    refuse(many, "ratings");
    let mut many = spec(&["a"]);
    many.parties[0].players[0].blocked = (0..=MAX_BLOCKED).map(|n| player_id(&format!("b{n}"))).collect();
    refuse(many, "blocked");
    let regions = || (0..=MAX_REGIONS).map(|n| (region(&format!("r{n}")), 1)).collect();
    refuse(TicketSpec { latencies: regions(), ..spec(&["a"]) }, "latencies");
    let mut many = spec(&["a"]);
    many.parties[0].players[0].latencies = regions();
    refuse(many, "latencies");
    table.refused(
        "queue_not_found",
        Command::Start { id: None, spec: TicketSpec { queue: queue_id("x"), ..spec(&["a"]) } },
    );
}

/// The work of one tick is bounded, and the rest is done in the next, oldest first.
#[test]
fn a_crowd_takes_several_ticks_and_nobody_is_passed_by() {
    let mut table = Table::with(Queue { rules: vec![equal("map")], ..Queue::default() });
    for n in 0..4_000 {
        let who = format!("p{n:04}");
        table.start(&who, with_properties(r#"{"map":"x"}"#, spec(&[&who])));
    }
    table.now += 100;
    let mut ticks = 0;
    while table.maker.backlog() > 0 {
        let before = table.formed().len();
        table.advance(secs(0));
        ticks += 1;
        assert!(table.formed().len() > before || table.maker.backlog() == 0);
        assert!(ticks < 10);
    }
    let together = table.together();
    assert_eq!(together.len(), 2_000);
    for (n, pair) in together.iter().enumerate() {
        assert!(pair.contains(&format!("p{:04}", 2 * n)), "{n}: {pair:?}");
    }
    assert_eq!(table.maker.cut_searches(), 0);
}
